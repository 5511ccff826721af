//! A connection against a service that is scripted by what it is sent: the third byte of a frame says what to do.

use std::collections::HashMap;
use std::io::IoSlice;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;

use super::limits::WHOLE;
use super::*;

const IDLE: Duration = Duration::from_secs(600);
const MAX_IN_FLIGHT: usize = 16;

const ECHO: u8 = 0;
const WAIT_PIPELINED: u8 = 1;
const WAIT_ALONE: u8 = 2;
const PANIC: u8 = 3;
const SILENT: u8 = 4;
const CLOSE: u8 = 5;
const PANIC_IN_DECODER: u8 = 6;
/// Answers with a range of a file, as long as the answer says.
const FILE: u8 = 7;
/// Answers with a range that goes beyond the end of its file.
const SHORT_FILE: u8 = 8;

/// Waits, and answers with so much that it must not stand still.
const LARGE_LATER: u8 = 9;
const LARGE: usize = 3 << 20;

/// Like [`WAIT_ALONE`], without needing its frame.
const WAIT_WITHOUT_FRAME: u8 = 10;

/// Where the range of the file begins, and how long it is.
const RANGE: (u64, usize) = (1_000, 150_000);

struct Scripted {
    pool: Arc<RequestPool>,
    panics: AtomicUsize,
    finished: AtomicUsize,
    /// How long each request that is over was queued.
    queued: Mutex<Vec<Duration>>,
    received: AtomicUsize,
    sent: AtomicUsize,
    started: Mutex<Vec<u8>>,
    gates: Mutex<HashMap<u8, oneshot::Sender<()>>>,
}

impl Scripted {
    fn new(pool_bytes: u64) -> Arc<Scripted> {
        Arc::new(Scripted {
            pool: Arc::new(RequestPool::new(pool_bytes)),
            panics: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            queued: Mutex::new(Vec::new()),
            received: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            started: Mutex::new(Vec::new()),
            gates: Mutex::new(HashMap::new()),
        })
    }

    fn open_gate(&self, tag: u8) {
        self.gates.lock().remove(&tag).expect("the request has begun").send(()).expect("the connection lives");
    }
}

impl Service for Scripted {
    fn start(&self, frame: Bytes) -> Result<Started, CloseReason> {
        let (kind, tag) = (frame[2], frame[3]);
        self.started.lock().push(tag);
        let answer = Reply::Frame(vec![Bytes::from(vec![0, 0, 0, 1]).into(), Bytes::from(vec![tag]).into()]);
        let reply: Pin<Box<dyn Future<Output = Reply> + Send>> = match kind {
            ECHO => Box::pin(std::future::ready(answer)),
            WAIT_PIPELINED | WAIT_ALONE | LARGE_LATER | WAIT_WITHOUT_FRAME => {
                let answer = match kind {
                    LARGE_LATER => Reply::Frame(vec![Bytes::from(vec![tag; LARGE]).into()]),
                    _ => answer,
                };
                let (sender, receiver) = oneshot::channel();
                self.gates.lock().insert(tag, sender);
                Box::pin(async move {
                    receiver.await.expect("the gate is opened");
                    answer
                })
            }
            PANIC => Box::pin(async { panic!("planted") }),
            SILENT => Box::pin(std::future::ready(Reply::Nothing)),
            FILE => Box::pin(std::future::ready(Reply::Frame(vec![
                Bytes::from(vec![tag]).into(),
                file_range(RANGE.1),
                Bytes::from(vec![tag]).into(),
            ]))),
            SHORT_FILE => Box::pin(std::future::ready(Reply::Frame(vec![file_range(RANGE.1 + 1)]))),
            CLOSE => return Err(CloseReason::UnknownApi(-7)),
            PANIC_IN_DECODER => panic!("planted"),
            other => panic!("unknown script {other}"),
        };
        let pipelined = ![WAIT_ALONE, WAIT_WITHOUT_FRAME].contains(&kind);
        Ok(Started { reply, pipelined, keeps_frame: kind != WAIT_WITHOUT_FRAME })
    }

    fn pool(&self, _api_key: i16) -> &Arc<RequestPool> {
        &self.pool
    }

    fn limits(&self) -> Limits {
        Limits { max_frame: 1 << 20, max_in_flight: MAX_IN_FLIGHT, max_idle: Some(IDLE) }
    }

    fn handler_panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    fn finished(&self, timing: &Timing) {
        self.queued.lock().push(Duration::from_micros(timing.queue_micros().into()));
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    fn received(&self, bytes: usize, _now: Instant) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

fn file_bytes() -> Vec<u8> {
    (0..RANGE.0 as usize + RANGE.1).map(|index| (index % 251) as u8).collect()
}

fn file_range(length: usize) -> Part {
    let disk = ottla_rt::memory::MemoryWorld::new(1).world().disk;
    let file = disk.open(std::path::Path::new("/f"), ottla_rt::OpenMode::CreateNew).unwrap();
    file.write_all_at(&[IoSlice::new(&file_bytes())], 0).unwrap();
    Part::File { file, position: RANGE.0, length }
}

/// Counts what would be system calls.
struct CountedWrites {
    inner: tokio::io::WriteHalf<DuplexStream>,
    writes: Arc<AtomicUsize>,
}

impl AsyncWrite for CountedWrites {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl WriteHalf for CountedWrites {}

struct Client {
    writes: Arc<AtomicUsize>,
    stream: DuplexStream,
    service: Arc<Scripted>,
    ended: tokio::task::JoinHandle<Ended>,
    shutdown: Option<oneshot::Sender<()>>,
}

fn connect(pool_bytes: u64) -> Client {
    connect_to(&Scripted::new(pool_bytes))
}

/// A further connection to the same node.
fn connect_to(service: &Arc<Scripted>) -> Client {
    let service = Arc::clone(service);
    let (near, far) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(far);
    let writes = Arc::new(AtomicUsize::new(0));
    let writer = CountedWrites { inner: writer, writes: Arc::clone(&writes) };
    let connection = Connection::new(Arc::clone(&service), Box::new(reader), Box::new(writer));
    let (shutdown, told) = oneshot::channel::<()>();
    let ended = tokio::spawn(connection.run(async move {
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    }));
    Client { writes, stream: near, service, ended, shutdown: Some(shutdown) }
}

fn frame(kind: u8, tag: u8) -> Vec<u8> {
    vec![0, 0, 0, 4, 0, 1, kind, tag]
}

impl Client {
    async fn send(&mut self, kind: u8, tag: u8) {
        self.stream.write_all(&frame(kind, tag)).await.unwrap();
    }

    async fn answer(&mut self) -> u8 {
        let mut bytes = [0; 5];
        self.stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes[..4], [0, 0, 0, 1]);
        bytes[4]
    }

    /// Waits until the service has begun this many requests.
    async fn begun(&self, count: usize) {
        while self.service.started.lock().len() < count {
            tokio::task::yield_now().await;
        }
    }

    async fn ended(self) -> (Ended, Arc<Scripted>) {
        (self.ended.await.unwrap(), self.service)
    }
}

#[tokio::test(start_paused = true)]
async fn responses_keep_the_order_of_requests() {
    let mut client = connect(1 << 20);
    client.send(WAIT_PIPELINED, 1).await;
    client.send(WAIT_PIPELINED, 2).await;
    client.send(ECHO, 3).await;
    client.begun(3).await;
    client.service.open_gate(2);
    client.service.open_gate(1);
    assert_eq!([client.answer().await, client.answer().await, client.answer().await], [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_pipelined_holds_back_the_next() {
    let mut client = connect(1 << 20);
    client.send(WAIT_ALONE, 1).await;
    client.send(ECHO, 2).await;
    client.begun(1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*client.service.started.lock(), [1]);
    client.service.open_gate(1);
    assert_eq!([client.answer().await, client.answer().await], [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_queued_from_when_it_is_here_whatever_comes_after_it() {
    let mut client = connect(1 << 20);
    client.stream.write_all(&[frame(WAIT_ALONE, 1), frame(ECHO, 2)].concat()).await.unwrap();
    client.begun(1).await;
    for byte in frame(ECHO, 3) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.stream.write_all(&[byte]).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.service.open_gate(1);
    for tag in 1..=3 {
        assert_eq!(client.answer().await, tag);
    }
    while client.service.finished.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await;
    }
    let queued = client.service.queued.lock().clone();
    // The second was there all the time, the third only for the last tenth of a second.
    for (queued, expected) in queued.into_iter().zip([0, 500, 100].map(Duration::from_millis)) {
        assert!(queued.abs_diff(expected) < Duration::from_millis(20), "{queued:?}, not {expected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_may_come_byte_by_byte() {
    let mut client = connect(1 << 20);
    for byte in frame(ECHO, 9) {
        client.stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await, 9);
}

#[tokio::test(start_paused = true)]
async fn bad_lengths_close_the_connection() {
    for length in [-1i32, i32::MIN, (1 << 20) + 1, i32::MAX] {
        let mut client = connect(1 << 20);
        client.stream.write_all(&length.to_be_bytes()).await.unwrap();
        let (ended, _) = client.ended().await;
        assert!(matches!(ended, Ended::Closed(CloseReason::FrameLength { .. })), "{length}: {ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn earlier_requests_are_answered_before_a_close() {
    let mut client = connect(1 << 20);
    client.send(WAIT_PIPELINED, 1).await;
    client.send(CLOSE, 2).await;
    client.begun(2).await;
    client.service.open_gate(1);
    assert_eq!(client.answer().await, 1);
    let (ended, _) = client.ended().await;
    assert!(matches!(ended, Ended::Closed(CloseReason::UnknownApi(-7))), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_closes_this_connection_only() {
    for kind in [PANIC, PANIC_IN_DECODER] {
        let mut client = connect(1 << 20);
        client.send(ECHO, 1).await;
        client.send(kind, 2).await;
        assert_eq!(client.answer().await, 1);
        let (ended, service) = client.ended().await;
        assert!(matches!(ended, Ended::Closed(CloseReason::Panicked)), "{ended}");
        assert_eq!(service.panics.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closed_its_side_is_still_answered() {
    let mut client = connect(1 << 20);
    client.send(SILENT, 1).await;
    client.send(ECHO, 2).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.answer().await, 2);
    let (ended, _) = client.ended().await;
    assert!(matches!(ended, Ended::PeerClosed), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_gone_frees_a_parked_request() {
    let mut client = connect(1 << 20);
    client.send(WAIT_ALONE, 1).await;
    client.begun(1).await;
    client.stream.shutdown().await.unwrap();
    let (ended, service) = client.ended().await;
    assert!(matches!(ended, Ended::PeerClosed), "{ended}");
    assert_eq!(service.finished.load(Ordering::Relaxed), 1, "it is counted all the same");
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_when_their_connection_ends_before_they_are_answered() {
    let mut client = connect(1 << 20);
    // Its answer is on its way.
    client.send(LARGE_LATER, 1).await;
    client.begun(1).await;
    client.service.open_gate(1);
    assert_eq!(client.stream.read_u8().await.unwrap(), 1);
    drop(client.stream);
    client.ended.await.unwrap();
    assert_eq!(client.service.finished.load(Ordering::Relaxed), 1);

    // One has no answer, and the one behind it has.
    let mut client = connect(1 << 20);
    client.send(WAIT_PIPELINED, 1).await;
    client.send(ECHO, 2).await;
    client.begun(2).await;
    drop(client.stream);
    client.ended.await.unwrap();
    assert_eq!(client.service.finished.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_answers_what_has_begun() {
    let mut client = connect(1 << 20);
    client.send(WAIT_PIPELINED, 1).await;
    client.begun(1).await;
    client.shutdown.take().unwrap().send(()).unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    client.service.open_gate(1);
    assert_eq!(client.answer().await, 1);
    let (ended, _) = client.ended().await;
    assert!(matches!(ended, Ended::Shutdown), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_frame_waits_for_its_bytes() {
    let mut client = connect(8 * 1024);
    let held = client.service.pool.take_all_but(0);
    client.send(ECHO, 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(client.service.started.lock().is_empty());
    drop(held);
    assert_eq!(client.answer().await, 1);
}

#[tokio::test(start_paused = true)]
async fn so_many_requests_are_under_way_and_the_next_one_waits() {
    let mut client = connect(1 << 20);
    for tag in 0..MAX_IN_FLIGHT as u8 + 2 {
        client.send(WAIT_PIPELINED, tag).await;
    }
    client.begun(MAX_IN_FLIGHT).await;
    for answered in 0..2 {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.service.started.lock().len(), MAX_IN_FLIGHT + usize::from(answered));
        client.service.open_gate(answered);
        assert_eq!(client.answer().await, answered);
        client.begun(MAX_IN_FLIGHT + usize::from(answered) + 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_requests_in_one_write_are_all_answered() {
    let mut client = connect(1 << 20);
    let sent: Vec<u8> = (0..200).flat_map(|tag| frame(ECHO, tag)).collect();
    client.stream.write_all(&sent).await.unwrap();
    for tag in 0..200 {
        assert_eq!(client.answer().await, tag);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let mut client = connect(1 << 20);
    let begun = Instant::now();
    client.send(ECHO, 1).await;
    assert_eq!(client.answer().await, 1);
    tokio::time::advance(IDLE / 2).await;
    client.send(WAIT_PIPELINED, 2).await;
    client.begun(2).await;
    tokio::time::advance(IDLE * 2).await;
    client.service.open_gate(2);
    assert_eq!(client.answer().await, 2, "a request under way is not idleness");
    let (ended, _) = client.ended().await;
    assert!(matches!(ended, Ended::Idle), "{ended}");
    assert!(begun.elapsed() >= IDLE * 3, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_bytes_move_is_not_idle() {
    let mut client = connect(1 << 20);
    // A frame that comes very slowly,
    for byte in frame(FILE, 9) {
        client.stream.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(IDLE / 2).await;
    }
    // and an answer that is taken very slowly.
    let mut taken = 0;
    while taken < RANGE.1 + 2 {
        let read = client.stream.read(&mut [0; 10_000]).await.unwrap();
        assert!(read > 0, "closed after {taken} bytes");
        taken += read;
        tokio::time::sleep(IDLE / 2).await;
    }
    let (ended, _) = client.ended().await;
    assert!(matches!(ended, Ended::Idle), "{ended}");
}

/// A frame of `length` bytes that asks for an echo.
fn large_frame(length: usize, tag: u8) -> Vec<u8> {
    large_frame_of(ECHO, length, tag)
}

fn large_frame_of(kind: u8, length: usize, tag: u8) -> Vec<u8> {
    let mut bytes = (length as u32).to_be_bytes().to_vec();
    bytes.extend([0, 1, kind, tag]);
    bytes.resize(4 + length, 0);
    bytes
}

#[tokio::test(start_paused = true)]
async fn an_announcement_takes_nothing_from_the_pool() {
    let mut client = connect(256 * 1024);
    client.stream.write_all(&large_frame(1 << 20, 1)[..1000]).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.service.pool.free_bytes(), 256 * 1024);
    drop(client.stream);
}

#[tokio::test(start_paused = true)]
async fn large_frames_take_what_has_come_and_give_it_back() {
    let mut client = connect(512 * 1024);
    for tag in 0..4 {
        let frame = large_frame(500 * 1024, tag);
        let (first, rest) = frame.split_at(300 * 1024);
        client.stream.write_all(first).await.unwrap();
        while client.service.pool.free_bytes() > 312 * 1024 {
            tokio::task::yield_now().await;
        }
        client.stream.write_all(rest).await.unwrap();
        assert_eq!(client.answer().await, tag);
        assert_eq!(client.service.pool.free_bytes(), 512 * 1024);
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_frame_that_stands_still_is_given_up() {
    let mut client = connect(1 << 20);
    client.stream.write_all(&large_frame(1 << 20, 1)[..300 * 1024]).await.unwrap();
    let service = Arc::clone(&client.service);
    let (ended, _) = client.ended().await;
    assert!(matches!(ended, Ended::Closed(CloseReason::Stalled)), "{ended}");
    assert_eq!(service.pool.free_bytes(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_frame_larger_than_its_pool_is_let_in() {
    let mut client = connect(256 * 1024);
    let begun = Instant::now();
    for tag in 0..2 {
        client.stream.write_all(&large_frame(300 * 1024, tag)).await.unwrap();
        assert_eq!(client.answer().await, tag);
        assert_eq!(client.service.pool.free_bytes(), 256 * 1024);
    }
    assert!(begun.elapsed() < STALL, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_half_there_do_not_wait_for_each_other() {
    let service = Scripted::new(512 * 1024);
    let begun = Instant::now();
    let frame = large_frame(400 * 1024, 1);
    let (first, rest) = frame.split_at(200 * 1024);
    let mut clients = [connect_to(&service), connect_to(&service)];
    for client in &mut clients {
        client.stream.write_all(first).await.unwrap();
    }
    let answers = clients.map(|mut client| {
        let rest = rest.to_vec();
        tokio::spawn(async move {
            client.stream.write_all(&rest).await.unwrap();
            client.answer().await
        })
    });
    for answer in answers {
        assert_eq!(answer.await.unwrap(), 1);
    }
    assert!(begun.elapsed() < STALL, "{:?}", begun.elapsed());
    assert_eq!(service.pool.free_bytes(), 512 * 1024);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_gives_back_the_bytes_of_a_frame_it_does_not_need() {
    for (kind, free) in [(WAIT_ALONE, 156 * 1024), (WAIT_WITHOUT_FRAME, 256 * 1024)] {
        let mut client = connect(256 * 1024);
        client.stream.write_all(&large_frame_of(kind, 100 * 1024, 1)).await.unwrap();
        client.begun(1).await;
        tokio::task::yield_now().await;
        assert_eq!(client.service.pool.free_bytes(), free, "while {kind} waits");
        client.service.open_gate(1);
        assert_eq!(client.answer().await, 1);
        assert_eq!(client.service.pool.free_bytes(), 256 * 1024);
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_that_nobody_reads_ends_its_connection() {
    for is_read in [true, false] {
        let mut client = connect(1 << 20);
        client.stream.write_all(&large_frame_of(LARGE_LATER, 100 * 1024, 7)).await.unwrap();
        client.begun(1).await;
        client.service.open_gate(7);
        assert_eq!(client.stream.read_u8().await.unwrap(), 7);
        assert_eq!(client.service.pool.free_bytes(), 924 * 1024, "what it asked with counts until it is answered");
        let begun = Instant::now();
        if is_read {
            let mut rest = vec![0; LARGE - 1];
            client.stream.read_exact(&mut rest).await.unwrap();
            client.send(ECHO, 8).await;
            assert_eq!(client.answer().await, 8);
            assert_eq!(client.service.pool.free_bytes(), 1 << 20);
            continue;
        }
        let (ended, service) = client.ended().await;
        assert!(matches!(ended, Ended::Closed(CloseReason::Stalled)), "{ended}");
        assert!(begun.elapsed() < STALL * 2, "{:?}", begun.elapsed());
        assert_eq!(service.pool.free_bytes(), 1 << 20);
    }
}

#[tokio::test(start_paused = true)]
async fn large_frames_that_stand_still_leave_small_ones_their_bytes() {
    let service = Scripted::new(256 * 1024);
    let begun = Instant::now();
    let mut greedy = connect_to(&service);
    greedy.stream.write_all(&large_frame(1 << 20, 1)[..500 * 1024]).await.unwrap();
    while service.pool.free_bytes() > 64 * 1024 {
        tokio::task::yield_now().await;
    }
    let mut other = connect_to(&service);
    other.stream.write_all(&large_frame(40 * 1024, 2)).await.unwrap();
    assert_eq!(other.answer().await, 2);
    assert!(begun.elapsed() < STALL, "{:?}", begun.elapsed());
    drop(greedy);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_waits_behind_responses_nobody_reads_is_given_up() {
    let mut client = connect(1 << 20);
    // The peer has sent a large frame before: the next one gets its bytes ahead.
    client.stream.write_all(&large_frame(800 * 1024, 1)).await.unwrap();
    assert_eq!(client.answer().await, 1);
    let mut waiting = frame(LARGE_LATER, 2);
    waiting.extend(&large_frame(600 * 1024, 3)[..6]);
    client.stream.write_all(&waiting).await.unwrap();
    while client.service.pool.free_bytes() > 424 * 1024 {
        tokio::task::yield_now().await;
    }
    client.service.open_gate(2);
    let begun = Instant::now();
    let service = Arc::clone(&client.service);
    // Nothing of the answer is read.
    let ended = client.ended.await.unwrap();
    assert!(matches!(ended, Ended::Closed(CloseReason::Stalled)), "{ended}");
    assert!(begun.elapsed() < STALL * 2, "{:?}", begun.elapsed());
    assert_eq!(service.pool.free_bytes(), 1 << 20);
    drop(client.stream);
}

#[tokio::test(start_paused = true)]
async fn a_large_frame_that_only_dribbles_is_given_up_in_the_end() {
    let mut client = connect(1 << 20);
    let begun = Instant::now();
    client.stream.write_all(&large_frame(1 << 20, 1)[..300 * 1024]).await.unwrap();
    // Never still for as long as a stall takes.
    while client.stream.write_all(&[0]).await.is_ok() && begun.elapsed() < WHOLE * 2 {
        tokio::time::sleep(STALL / 2).await;
    }
    let (ended, _) = client.ended().await;
    assert!(matches!(ended, Ended::Closed(CloseReason::Stalled)), "{ended}");
    assert!(begun.elapsed() >= WHOLE && begun.elapsed() < WHOLE + STALL * 2, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn responses_to_requests_that_came_together_share_a_write() {
    let mut client = connect(1 << 20);
    let together: Vec<u8> = (0..10).flat_map(|tag| frame(ECHO, tag)).collect();
    client.stream.write_all(&together).await.unwrap();
    for tag in 0..10 {
        assert_eq!(client.answer().await, tag);
    }
    // A duplex stream takes one buffer of a write at a time, two for each response: alone they would be twenty.
    assert!(client.writes.load(Ordering::Relaxed) <= 2, "{} writes", client.writes.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_response_is_not_held_back_by_a_request_that_waits() {
    for waiting in [frame(WAIT_PIPELINED, 2), frame(WAIT_ALONE, 2)] {
        let mut client = connect(1 << 20);
        client.stream.write_all(&[frame(ECHO, 1), waiting].concat()).await.unwrap();
        assert_eq!(client.answer().await, 1);
        client.begun(2).await;
        client.service.open_gate(2);
        assert_eq!(client.answer().await, 2);
    }
    // The second one is here as a whole, and its pool is empty.
    let mut client = connect(16 << 10);
    let held = client.service.pool.take_all_but(1 << 10);
    let mut large = frame(ECHO, 2);
    large[..4].copy_from_slice(&2_000u32.to_be_bytes());
    large.resize(4 + 2_000, 0);
    client.stream.write_all(&[frame(ECHO, 1), large].concat()).await.unwrap();
    assert_eq!(client.answer().await, 1);
    drop(held);
    assert_eq!(client.answer().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_range_of_a_file_is_sent_in_its_place() {
    let mut client = connect(1 << 20);
    client.stream.write_all(&[frame(ECHO, 1), frame(FILE, 2), frame(ECHO, 3)].concat()).await.unwrap();
    assert_eq!(client.answer().await, 1);
    let mut bytes = vec![0; RANGE.1 + 2];
    client.stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!((bytes[0], bytes[RANGE.1 + 1]), (2, 2));
    assert!(bytes[1..=RANGE.1] == file_bytes()[RANGE.0 as usize..]);
    assert_eq!(client.answer().await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_shorter_than_promised_ends_the_connection() {
    let mut client = connect(1 << 20);
    client.send(SHORT_FILE, 1).await;
    let mut bytes = Vec::new();
    client.stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len(), RANGE.1);
    let (ended, _) = client.ended().await;
    assert!(matches!(ended, Ended::Io(error) if error.kind() == io::ErrorKind::WriteZero));
}
