//! The journal of a log directory: what makes a round over many partitions one write and one sync.
//!
//! A round that has got small appends of many partitions writes them once more, one behind the other, into a journal file
//! and syncs that; the partitions' own files, written at the append, are synced later, in the background. There are two
//! journal files. When one is full (or when it is time) the other is begun, and everything the full one speaks of is
//! *settled*: the partitions' files are synced, and then the file is emptied. While that lasts and the second file is full
//! too, rounds sync files as if there were no journal.
//!
//! Invariants, checked by [`replay`] at every start:
//! - An appended entry tells the bytes of an active segment whose name is durable. Below it the segment is durable, in its
//!   file or by an entry before it. So replaying the entries in order never leaves a hole.
//! - While a partition's files change in any way but by appends (a cut, a swap of segments, its deletion) the journal has
//!   nothing of it: it has *left* the journal, durably, before. Retention is the exception: what is below the log's
//!   first segment is passed over.
//! - At most the last frame is not durable. So one that is not whole with anything behind it is damage, and no torn end.
//!   Of a frame that is not the last, and of the last one too, one damaged block is made good by its parity.
//!
//! It is empty after a clean stop: Kafka's tools see every record.

mod format;
mod frame;
mod replay;
mod settle;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use ottla_rt::{Disk, DiskFile, OpenMode, World, random_u64};
use ottla_types::{TopicId, TopicPartition};
use parking_lot::Mutex;

pub(crate) use replay::{replay, throw_away, unsettled_file};
pub(crate) use settle::{settle, settle_all};

use self::format::{FRAMES_START, FrameBuilder, Header, Place};
use self::frame::{MOST_PAYLOAD_BYTES, frame_bytes};
use crate::names;
use crate::partition::{FlushJob, PartitionLog, is_no_space};

/// What a partition may have got since the last round to go through the journal: it is written twice.
pub(crate) const MOST_BYTES_OF_A_PARTITION: u64 = 64 * 1024;

/// How many partitions leave with one frame.
const PARTITIONS_OF_A_FRAME: usize = 4096;

/// When rounds use a journal, and how large it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// A round with at least so many small appends goes through the journal; one with fewer syncs their files.
    pub from_partitions: usize,
    /// Of each of the two files; 0: there is no journal.
    pub file_bytes: u64,
}

impl Default for JournalSettings {
    fn default() -> JournalSettings {
        JournalSettings { from_partitions: 4, file_bytes: 64 * 1024 * 1024 }
    }
}

/// A partition is still in the journal.
#[derive(Debug)]
pub(crate) enum LeaveError {
    /// Nothing has changed.
    NoSpace,
    Failed(io::Error),
}

pub(crate) struct Journal {
    /// So many partitions may have appends in one file: each has its own file open until it is settled.
    most_members: usize,
    world: World,
    directory: PathBuf,
    settings: JournalSettings,
    state: Mutex<State>,
}

struct State {
    files: [File; 2],
    active: usize,
    next_frame: u64,
    next_use: u64,
    /// The last frame was written, and its sync has not ended.
    in_flight: bool,
    /// The other file is being settled.
    settling: bool,
    /// It is, but for being emptied: there was no space to say so.
    put_off: bool,
    /// Deleted partitions that have still to leave: there was no space to say so.
    owed: Vec<(TopicPartition, TopicId)>,
}

#[derive(Default)]
struct File {
    file: Option<Arc<dyn DiskFile>>,
    /// Names this use of the file; 0 while it is empty.
    in_use: u64,
    first_frame: u64,
    salt: u64,
    end: u64,
    /// Whose appends are in it, at least once.
    members: Vec<Weak<PartitionLog>>,
    /// There were more than may be.
    refused_members: bool,
}

/// The files a partition has entries in, as numbers of their uses.
pub(crate) type Membership = [u64; 2];

/// What became of a round's small appends.
#[derive(Default)]
pub(crate) struct Journaled {
    /// They are durable once `file` is synced.
    pub(crate) jobs: Vec<FlushJob>,
    /// Their own files have to be synced.
    pub(crate) rest: Vec<FlushJob>,
    pub(crate) file: Option<Arc<dyn DiskFile>>,
    /// What is in the file is not known: the directory is lost, and these with it.
    pub(crate) failed: Option<(Vec<FlushJob>, io::Error)>,
    /// The journal went over to its other file: these have to be settled.
    pub(crate) to_settle: Option<ToSettle>,
}

/// A journal file that is full, and whose appends are in it.
pub(crate) struct ToSettle {
    index: usize,
    members: Vec<Weak<PartitionLog>>,
}

impl Journal {
    pub(crate) fn new(world: &World, directory: &Path, settings: JournalSettings, next_frame: u64) -> Journal {
        Journal {
            most_members: world.disk.open_files_limit().map_or(usize::MAX, |limit| limit / 4),
            world: world.clone(),
            directory: directory.to_path_buf(),
            settings,
            state: Mutex::new(State {
                files: [File::default(), File::default()],
                active: 0,
                next_frame,
                next_use: 1,
                in_flight: false,
                settling: false,
                put_off: false,
                owed: Vec::new(),
            }),
        }
    }

    /// Whether a round with so many small appends is worth a journal.
    pub(crate) fn is_for(&self, small_appends: usize) -> bool {
        self.settings.file_bytes > 0 && small_appends >= self.settings.from_partitions
    }

    /// Writes the appends of these jobs, as many as there is room for. Blocks. One round at a time.
    pub(crate) fn write_round(&self, candidates: Vec<FlushJob>) -> Journaled {
        let mut written = Journaled::default();
        let mut appends: Vec<(FlushJob, Vec<Bytes>)> = Vec::with_capacity(candidates.len());
        let mut wanted = 0;
        for job in candidates {
            let Some(bytes) = job.appended_bytes() else {
                written.rest.push(job);
                continue;
            };
            let len = bytes.iter().map(Bytes::len).sum();
            let len = FrameBuilder::entry_bytes(&job.log.topic_partition().topic, len);
            if wanted + len > MOST_PAYLOAD_BYTES {
                written.rest.push(job);
                continue;
            }
            wanted += len;
            appends.push((job, bytes));
        }

        let mut state = self.state.lock();
        assert!(!state.in_flight, "invariant: one round at a time");
        let full_bytes = frame_bytes(wanted) as u64;
        let has_room = |state: &State| {
            let active = state.active();
            active.end.max(FRAMES_START) + full_bytes <= self.settings.file_bytes && !active.refused_members
        };
        if !has_room(&state) {
            written.to_settle = state.switch();
        }
        let opened = if has_room(&state) {
            self.begin_use(&mut state)
        } else {
            // The other file is not empty yet, or the round is larger than a file may be.
            Err(io::ErrorKind::StorageFull.into())
        };
        let outcome = opened.and_then(|file| {
            let frame = state.enter(&mut written, &mut appends, wanted, self.most_members);
            if frame.is_empty() {
                return Ok(());
            }
            state.write_frame(&*file, frame)?;
            state.in_flight = true;
            written.file = Some(file);
            Ok(())
        });
        // Those that are not in the frame.
        written.rest.extend(appends.into_iter().map(|(job, _)| job));
        match outcome {
            Ok(()) => {}
            Err(error) if is_no_space(&error) => written.rest.append(&mut written.jobs),
            Err(error) => written.failed = Some((std::mem::take(&mut written.jobs), error)),
        }
        written
    }

    /// The frame of the round under way is durable.
    pub(crate) fn round_is_durable(&self) {
        self.state.lock().in_flight = false;
    }

    /// Whether something of a partition is in the journal.
    pub(crate) fn has(&self, membership: Membership) -> bool {
        let state = self.state.lock();
        state.files.iter().zip(membership).any(|(file, of_partition)| of_partition != 0 && of_partition == file.in_use)
    }

    /// Makes everything void, durably, that the journal says of these partitions. Blocks.
    pub(crate) fn leave(&self, logs: &[&PartitionLog]) -> Result<(), LeaveError> {
        self.leave_locked(&mut self.state.lock(), names_of(logs))
    }

    /// The same for partitions that were deleted, which nothing can be said against: what finds no space is said before a
    /// partition is made ([`Journal::pay_owed`]).
    pub(crate) fn leave_deleted(&self, logs: &[&PartitionLog]) -> Result<(), LeaveError> {
        let mut state = self.state.lock();
        let left = self.leave_locked(&mut state, names_of(logs));
        if matches!(left, Err(LeaveError::NoSpace)) {
            state.owed.extend(names_of(logs));
        }
        left
    }

    /// Before a partition is made: it may have the name and the id of a deleted one.
    pub(crate) fn pay_owed(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.owed.is_empty() {
            return Ok(());
        }
        let owed = state.owed.clone();
        self.leave_locked(&mut state, owed.into_iter()).map_err(|error| match error {
            LeaveError::NoSpace => io::ErrorKind::StorageFull.into(),
            LeaveError::Failed(error) => error,
        })?;
        state.owed.clear();
        Ok(())
    }

    fn leave_locked(
        &self,
        state: &mut State,
        mut partitions: impl Iterator<Item = (TopicPartition, TopicId)>,
    ) -> Result<(), LeaveError> {
        if state.files.iter().all(|file| file.in_use == 0) {
            return Ok(());
        }
        let unless_full = |error| if is_no_space(&error) { LeaveError::NoSpace } else { LeaveError::Failed(error) };
        loop {
            let mut frame = FrameBuilder::with_capacity(0);
            for (topic_partition, topic_id) in partitions.by_ref().take(PARTITIONS_OF_A_FRAME) {
                frame.push_left(&topic_partition, topic_id);
            }
            if frame.is_empty() {
                return Ok(());
            }
            if state.in_flight {
                // Then the frame below is the only one that may be torn.
                if let Some(file) = &state.active().file {
                    file.sync_data().map_err(LeaveError::Failed)?;
                }
                state.in_flight = false;
            }
            let file = self.begin_use(state).map_err(unless_full)?;
            state.write_frame(&*file, frame).map_err(unless_full)?;
            file.sync_data().map_err(LeaveError::Failed)?;
        }
    }

    /// Goes over to the other file, if this one has anything and the other one is empty: for when the journal has not been
    /// settled for long.
    pub(crate) fn switch(&self) -> Option<ToSettle> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.put_off) {
            return Some(ToSettle { index: 1 - state.active, members: Vec::new() });
        }
        if state.active().in_use == 0 { None } else { state.switch() }
    }

    /// Everybody whose appends are in one of the files: at the end, when there are no more rounds.
    fn all_members(&self) -> Vec<Weak<PartitionLog>> {
        let mut state = self.state.lock();
        state.files.iter_mut().flat_map(|file| std::mem::take(&mut file.members)).collect()
    }

    /// The file that is being settled could not be emptied for want of space. It is asked for again with the next switch.
    fn put_off(&self) {
        self.state.lock().put_off = true;
    }

    /// Empties a file: what it says is in the partitions' own files by now.
    fn reset(&self, index: usize) -> io::Result<()> {
        // Not under the lock: a file that is being settled is nobody else's.
        let (file, header) = {
            let state = self.state.lock();
            let settled = &state.files[index];
            let header = Header { settled: true, first_frame: settled.first_frame, salt: settled.salt };
            (settled.file.clone(), header)
        };
        if let Some(file) = file {
            empty(&*file, header)?;
        }
        let mut state = self.state.lock();
        let handle = state.files[index].file.take();
        state.files[index] = File { file: handle, ..File::default() };
        state.settling = false;
        Ok(())
    }

    /// Empties both files and takes them away: everything is settled.
    fn remove(&self) -> io::Result<()> {
        // The older one first: the other may say that something in it is void.
        let older = {
            let state = self.state.lock();
            usize::from(state.files[1].first_frame < state.files[0].first_frame)
        };
        for index in [older, 1 - older] {
            self.reset(index)?;
            self.state.lock().files[index].file = None;
        }
        replay::remove_files(&*self.world.disk, &self.directory)
    }

    /// The active file, opened, its name durable and its header written.
    fn begin_use(&self, state: &mut State) -> io::Result<Arc<dyn DiskFile>> {
        let index = state.active;
        let file = if let Some(file) = &state.files[index].file {
            Arc::clone(file)
        } else {
            let disk: &dyn Disk = &*self.world.disk;
            let file = disk.open(&self.directory.join(names::JOURNAL_FILES[index]), OpenMode::CreateOrOpen)?;
            disk.sync_dir(&self.directory)?;
            state.files[index].file = Some(Arc::clone(&file));
            file
        };
        if state.files[index].in_use == 0 {
            let header =
                Header { settled: false, first_frame: state.next_frame, salt: random_u64(&*self.world.entropy) };
            write_or_cut(&*file, &header.format(), 0)?;
            let active = &mut state.files[index];
            active.in_use = state.next_use;
            active.first_frame = header.first_frame;
            active.salt = header.salt;
            active.end = FRAMES_START;
            state.next_use += 1;
        }
        Ok(file)
    }
}

fn names_of(logs: &[&PartitionLog]) -> impl Iterator<Item = (TopicPartition, TopicId)> {
    logs.iter().filter_map(|log| Some((log.topic_partition().clone(), log.topic_id()?)))
}

impl State {
    /// Puts these appends into the frame that is next, but for those that may not go into a journal now: these go to the
    /// rest.
    fn enter(
        &mut self,
        written: &mut Journaled,
        appends: &mut Vec<(FlushJob, Vec<Bytes>)>,
        bytes: usize,
        most_members: usize,
    ) -> FrameBuilder {
        let index = self.active;
        let active = &mut self.files[index];
        let mut frame = FrameBuilder::with_capacity(bytes);
        for (job, batches) in appends.drain(..) {
            let may_join = active.members.len() < most_members;
            let Some((topic_id, extent, is_new)) = job.enter_journal(index, active.in_use, may_join) else {
                active.refused_members |= !may_join;
                written.rest.push(job);
                continue;
            };
            let place = Place {
                topic_partition: job.log.topic_partition().clone(),
                topic_id,
                segment_base_offset: extent.segment_base_offset,
                position: extent.start,
                offset: extent.from_offset,
            };
            frame.push_appended(&place, &batches);
            if is_new {
                active.members.push(Arc::downgrade(&job.log));
            }
            written.jobs.push(job);
        }
        frame
    }

    fn active(&self) -> &File {
        &self.files[self.active]
    }

    fn switch(&mut self) -> Option<ToSettle> {
        let other = 1 - self.active;
        if self.settling || self.in_flight || self.files[other].in_use != 0 {
            return None;
        }
        let index = std::mem::replace(&mut self.active, other);
        self.settling = true;
        Some(ToSettle { index, members: std::mem::take(&mut self.files[index].members) })
    }

    /// Writes a frame at the end of the active file, which ends where it did when there was no space.
    fn write_frame(&mut self, file: &dyn DiskFile, frame: FrameBuilder) -> io::Result<()> {
        let bytes = frame.finish(self.next_frame, self.active().salt);
        let end = self.active().end;
        write_or_cut(file, &bytes, end)?;
        self.files[self.active].end = end + bytes.len() as u64;
        self.next_frame += 1;
        Ok(())
    }
}

fn write_or_cut(file: &dyn DiskFile, bytes: &[u8], position: u64) -> io::Result<()> {
    match file.write_all_at(&[IoSlice::new(bytes)], position) {
        Err(error) if is_no_space(&error) => {
            file.set_len(position)?;
            Err(error)
        }
        result => result,
    }
}

/// Empties a file whose content is not needed any more. A crash in between leaves it marked so, or empty.
fn empty(file: &dyn DiskFile, header: Header) -> io::Result<()> {
    if !file.is_empty()? {
        file.write_all_at(&[IoSlice::new(&header.format())], 0)?;
        file.sync_data()?;
        file.set_len(0)?;
        file.sync_data()?;
    }
    Ok(())
}
