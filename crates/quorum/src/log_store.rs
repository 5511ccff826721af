//! The log as openraft uses it.
//!
//! All of the log that no snapshot covers is in memory, so reading never touches a file. Writing is one queue: votes,
//! entries, truncations and purges become frames in the order they were asked for, and a writer task writes whatever
//! has gathered as one batch with one sync. After a failed write or sync nothing is written any more and nothing that
//! waits is told it was.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use ottla_rt::World;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::failure::{FailureSlot, QuorumFailure};
use crate::frame::Frame;
use crate::log_file::LogFiles;
use crate::recovery::LogContent;
use crate::types::{RaftEntry, RaftLogId, RaftVote, TypeConfig};

/// A handle to the log; clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    content: Mutex<LogContent>,
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Default)]
struct Queue {
    requests: Vec<Request>,
    /// Goes into the next batch, and is no reason for one.
    committed: Option<RaftLogId>,
    closed: bool,
}

struct Request {
    frames: Vec<Frame>,
    done: Done,
}

enum Done {
    Flushed(IOFlushed<TypeConfig>),
    Waiter(oneshot::Sender<io::Result<()>>),
}

impl Done {
    fn complete(self, result: io::Result<()>) {
        match self {
            Done::Flushed(callback) => callback.io_completed(result),
            // Whoever waited may be gone.
            Done::Waiter(sender) => drop(sender.send(result)),
        }
    }
}

/// The task that writes; it ends when the log is closed or has failed.
pub(crate) struct LogWriter {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl LogWriter {
    /// Writes what is queued, and stops.
    pub(crate) async fn close(self) {
        self.shared.queue.lock().closed = true;
        self.shared.wake.notify_one();
        // A panic of the task was reported as a failure already.
        let _ = self.task.await;
    }
}

impl LogStore {
    pub(crate) fn start(
        content: LogContent,
        files: LogFiles,
        world: &World,
        failure: &FailureSlot,
    ) -> (LogStore, LogWriter) {
        let shared = Arc::new(Shared { content: Mutex::new(content), queue: Mutex::default(), wake: Notify::new() });
        let task = tokio::spawn(write_queued(Arc::clone(&shared), files, world.clone(), failure.clone()));
        (LogStore { shared: Arc::clone(&shared) }, LogWriter { shared, task })
    }

    /// Bytes of commands that no snapshot covers.
    pub(crate) fn command_bytes(&self) -> u64 {
        self.shared.content.lock().command_bytes
    }

    fn enqueue(&self, frames: Vec<Frame>, done: Done) {
        let refused = {
            let mut queue = self.shared.queue.lock();
            if queue.closed {
                Some(done)
            } else {
                queue.requests.push(Request { frames, done });
                None
            }
        };
        match refused {
            Some(done) => done.complete(Err(closed())),
            None => self.shared.wake.notify_one(),
        }
    }

    /// Waits until the frames are durable.
    async fn write(&self, frames: Vec<Frame>) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(frames, Done::Waiter(sender));
        receiver.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> io::Error {
    io::Error::other("the metadata log is closed")
}

async fn write_queued(shared: Arc<Shared>, files: LogFiles, world: World, failure: FailureSlot) {
    let mut files = Some(files);
    loop {
        let (requests, committed, closing) = {
            let mut queue = shared.queue.lock();
            (std::mem::take(&mut queue.requests), queue.committed.take(), queue.closed)
        };
        if requests.is_empty() {
            if closing {
                return;
            }
            shared.queue.lock().committed = committed;
            shared.wake.notified().await;
            continue;
        }
        // First: the last frame of a batch is one that was asked for.
        let mut frames: Vec<Frame> = committed.map(Frame::Committed).into_iter().collect();
        let mut waiting = Vec::with_capacity(requests.len());
        for request in requests {
            frames.extend(request.frames);
            waiting.push(request.done);
        }
        let mut writing = files.take().expect("invariant: the files come back after each batch");
        let (sender, receiver) = oneshot::channel();
        let work = move || {
            let result = catch_unwind(AssertUnwindSafe(|| writing.write(&frames)));
            // The receiver is in this task, which waits.
            drop(sender.send(result.map(|result| (result, writing))));
        };
        world.spawn.blocking(Box::new(work)).await;
        let error = match receiver.await {
            Ok(Ok((Ok(()), written))) => {
                files = Some(written);
                for done in waiting {
                    done.complete(Ok(()));
                }
                continue;
            }
            Ok(Ok((Err(error), _))) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                failure.set(QuorumFailure::LogWrite(error));
                copy
            }
            Ok(Err(_)) | Err(_) => {
                failure.set(QuorumFailure::WriterPanicked);
                closed()
            }
        };
        let rest = {
            let mut queue = shared.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.requests)
        };
        for done in waiting.into_iter().chain(rest.into_iter().map(|request| request.done)) {
            done.complete(Err(io::Error::new(error.kind(), error.to_string())));
        }
        return;
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let content = self.shared.content.lock();
        Ok(content.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(self.shared.content.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let content = self.shared.content.lock();
        Ok(LogState { last_purged_log_id: content.purged, last_log_id: content.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        self.write(vec![Frame::Vote(*vote)]).await?;
        self.shared.content.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> Result<(), io::Error> {
        self.shared.content.lock().committed = committed;
        self.shared.queue.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, io::Error> {
        Ok(self.shared.content.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let frames: Vec<Frame> = entries.into_iter().map(Frame::Entry).collect();
        {
            let mut content = self.shared.content.lock();
            for frame in &frames {
                content.apply(frame.clone());
            }
        }
        self.enqueue(frames, Done::Flushed(callback));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<RaftLogId>) -> Result<(), io::Error> {
        let frame = Frame::Truncate(last_log_id.map(|log_id| log_id.index));
        self.shared.content.lock().apply(frame.clone());
        self.write(vec![frame]).await
    }

    async fn purge(&mut self, log_id: RaftLogId) -> Result<(), io::Error> {
        let frame = Frame::Purge(log_id);
        self.shared.content.lock().apply(frame.clone());
        self.write(vec![frame]).await
    }
}
