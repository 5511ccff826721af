//! The driver with a small machine over a log whose commits the test decides.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::{DecodeError, EncodeError};
use ottla_record::{BatchBuilder, BatchHeader, Codec, Compression, ControlMarker, ControlType, control_marker};
use ottla_rt::memory::{InlineSpawn, TimerClock};
use ottla_types::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::driver::{Answer, AppendLinger, Driver, DriverSettings, Unavailable};
use super::machine::{EncodedRecord, Now, StateMachine, Step, Token};
use super::pending::Shows;
use super::state_log::{CommitFailure, Committed, LoadError, StateLog};
use crate::fatal::Fatal;

/// Adds numbers up. What it was asked to park is released when a number is stored, or at its deadline.
#[derive(Default)]
struct Adder {
    /// Hard: the sum of the records.
    sum: i64,
    /// Hard: the sums of transactions that have not ended, by producer.
    pending: BTreeMap<i64, i64>,
    parked: Vec<Token>,
    deadline_ms: Option<i64>,
}

impl StateMachine for Adder {
    type Record = i64;
    type Continuation = &'static str;
    type Release = String;

    fn scope(record: &i64) -> Arc<str> {
        if *record < 1_000 { "small".into() } else { "large".into() }
    }

    fn encode(record: &i64) -> Result<EncodedRecord, EncodeError> {
        Ok((Bytes::from_static(b"add"), Some(Bytes::copy_from_slice(&record.to_be_bytes()))))
    }

    fn replay(&mut self, _: Now, record: i64) {
        self.sum += record;
    }

    fn replay_encoded(
        &mut self,
        now: Now,
        transaction_of: Option<i64>,
        _: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), DecodeError> {
        let mut input = ottla_protocol::Decoder::new(value.unwrap_or_default());
        let number = input.int64()?;
        match transaction_of {
            Some(producer_id) => *self.pending.entry(producer_id).or_default() += number,
            None => self.replay(now, number),
        }
        Ok(())
    }

    fn replay_transaction_end(&mut self, producer_id: i64, committed: bool) {
        let pending = self.pending.remove(&producer_id).unwrap_or_default();
        self.sum += if committed { pending } else { 0 };
    }

    fn handle_loaded(&mut self, _: Now) -> Step<Self, ()> {
        Step::answer(())
    }

    fn handle_unload(&mut self) -> Vec<(Token, String)> {
        self.parked.drain(..).map(|token| (token, "unloaded".to_owned())).collect()
    }

    fn handle_stored(&mut self, _: Now, what: &'static str, result: Result<(), CommitFailure>) -> Step<Self, ()> {
        self.release(&format!("{what} {result:?}"))
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        self.deadline_ms
    }

    fn handle_due_timer(&mut self, now: Now) -> Option<Step<Self, ()>> {
        self.deadline_ms.filter(|deadline| *deadline <= now.monotonic_ms)?;
        self.deadline_ms = None;
        Some(self.release("deadline"))
    }
}

impl Adder {
    fn release(&mut self, answer: &str) -> Step<Self, ()> {
        let released = self.parked.drain(..).map(|token| (token, answer.to_owned())).collect();
        Step { released, ..Step::answer(()) }
    }
}

/// A log in memory. Appends succeed until it is `full`; commits wait for the test.
#[derive(Default)]
struct TestLog {
    state: Mutex<TestLogState>,
}

#[derive(Default)]
struct TestLogState {
    batches: Vec<(i64, Bytes)>,
    end_offset: i64,
    committed: i64,
    waiting: Vec<(i64, oneshot::Sender<Result<(), ErrorCode>>)>,
    full: bool,
    /// How many bytes of the last batch are missing.
    torn: usize,
    reads: usize,
}

impl TestLog {
    fn commit(&self, offset: i64) {
        let mut state = self.state.lock();
        state.committed = offset;
        let (reached, waiting) = std::mem::take(&mut state.waiting).into_iter().partition(|(end, _)| *end <= offset);
        state.waiting = waiting;
        let reached: Vec<(i64, oneshot::Sender<_>)> = reached;
        for (_, sender) in reached {
            let _ = sender.send(Ok(()));
        }
    }

    /// Adds what no driver writes; committed.
    fn put(&self, batch: Bytes) {
        let mut state = self.state.lock();
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(header.base_offset, state.end_offset);
        state.batches.push((header.base_offset, batch));
        state.end_offset = header.next_offset();
        state.committed = state.end_offset;
    }

    fn put_transactional(&self, producer_id: i64, number: i64) {
        let mut batch = BatchBuilder::new(Compression::new(Codec::Lz4));
        batch.set_position(self.offsets().end, 0);
        batch.set_producer(producer_id, 0, 0);
        batch.set_transactional(true);
        let (key, value) = Adder::encode(&number).unwrap();
        batch.append(0, Some(&key), value.as_deref(), &[]).unwrap();
        self.put(batch.finish().unwrap());
    }

    fn put_end(&self, producer_id: i64, control_type: ControlType) {
        let base_offset = self.offsets().end;
        let marker = ControlMarker {
            control_type,
            producer_id,
            producer_epoch: 0,
            coordinator_epoch: 0,
            timestamp: 0,
            base_offset,
            partition_leader_epoch: 0,
        };
        self.put(control_marker(&marker).unwrap());
    }

    fn lose(&self) {
        for (_, sender) in self.state.lock().waiting.drain(..) {
            let _ = sender.send(Err(ErrorCode::KafkaStorageError));
        }
    }
}

impl StateLog for TestLog {
    fn append(&self, records: &[EncodedRecord], now_ms: i64) -> Result<i64, CommitFailure> {
        let mut state = self.state.lock();
        if state.full {
            return Err(CommitFailure::Unavailable);
        }
        let codec = if state.batches.len().is_multiple_of(2) { Codec::None } else { Codec::Lz4 };
        let mut batch = BatchBuilder::new(Compression::new(codec));
        batch.set_position(state.end_offset, 0);
        for (key, value) in records {
            batch.append(now_ms, Some(key), value.as_deref(), &[]).unwrap();
        }
        let base_offset = state.end_offset;
        state.batches.push((base_offset, batch.finish().unwrap()));
        state.end_offset += records.len() as i64;
        Ok(state.end_offset)
    }

    fn max_batch_bytes(&self) -> usize {
        500
    }

    fn committed(&self, end_offset: i64) -> Option<Committed> {
        let mut state = self.state.lock();
        if state.committed >= end_offset {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.push((end_offset, sender));
        Some(receiver)
    }

    fn offsets(&self) -> Range<i64> {
        0..self.state.lock().end_offset
    }

    fn read(&self, offset: i64, max_bytes: usize) -> Result<Bytes, LoadError> {
        let mut state = self.state.lock();
        state.reads += 1;
        let all: Vec<u8> =
            state.batches.iter().filter(|(base, _)| *base >= offset).flat_map(|(_, batch)| batch.to_vec()).collect();
        let first = state.batches.iter().find(|(base, _)| *base >= offset).map_or(0, |(_, batch)| batch.len());
        let length = (all.len() - state.torn).min(max_bytes.max(first));
        Ok(Bytes::from(all).slice(..length))
    }
}

struct World {
    log: Arc<TestLog>,
    driver: Driver<Adder>,
    fatal: Fatal,
}

fn settings(append_linger: AppendLinger) -> DriverSettings {
    DriverSettings {
        clock: Arc::new(TimerClock::new()),
        spawn: Arc::new(InlineSpawn),
        fatal: Fatal::default(),
        load_buffer_bytes: 100,
        commit_timeout: Duration::from_secs(5),
        append_linger,
    }
}

async fn start(log: Arc<TestLog>) -> World {
    start_with(log, AppendLinger::Adaptive).await
}

async fn start_with(log: Arc<TestLog>, append_linger: AppendLinger) -> World {
    let settings = settings(append_linger);
    let fatal = settings.fatal.clone();
    let driver = Driver::start(Adder::default, Arc::clone(&log) as Arc<dyn StateLog>, settings);
    settle().await;
    World { log, driver, fatal }
}

/// Lets every task run until it waits.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

type Written = Result<Answer<i64, String>, Unavailable>;

impl World {
    fn add(&self, records: &[i64]) -> JoinHandle<Written> {
        let (driver, records) = (self.driver.clone(), records.to_vec());
        let answer = records.iter().sum();
        tokio::spawn(async move {
            let step = |_: &mut Adder, _, _| Step { response: Some(answer), records, ..Step::answer(0) };
            driver.write(step).await
        })
    }

    /// Parks until its records are stored, or, without records, until somebody else's are.
    fn park(&self, records: &[i64], timeout_ms: Option<i64>) -> JoinHandle<Written> {
        let (driver, records) = (self.driver.clone(), records.to_vec());
        tokio::spawn(async move {
            let step = |machine: &mut Adder, now: Now, token| {
                machine.parked.push(token);
                machine.deadline_ms =
                    timeout_ms.map(|timeout_ms| now.monotonic_ms + timeout_ms).or(machine.deadline_ms);
                let continuation = (!records.is_empty()).then_some("stored");
                Step { records, continuation, response: None, ..Step::answer(0) }
            };
            driver.write(step).await
        })
    }

    /// The sum, as far as numbers below a thousand make it.
    fn small(&self) -> JoinHandle<Result<i64, Unavailable>> {
        let driver = self.driver.clone();
        tokio::spawn(async move { driver.read(Shows::Scope("small"), |machine| machine.sum % 1_000).await })
    }

    /// How many records each append had.
    fn appends(&self) -> Vec<i64> {
        let state = self.log.state.lock();
        let begins: Vec<i64> = state.batches.iter().map(|(base_offset, _)| *base_offset).collect();
        let ends = begins.iter().skip(1).copied().chain([state.end_offset]);
        begins.iter().zip(ends).map(|(begin, end)| end - begin).collect()
    }

    fn sum(&self) -> JoinHandle<Result<i64, Unavailable>> {
        let driver = self.driver.clone();
        tokio::spawn(async move { driver.read(Shows::Everything, |machine| machine.sum).await })
    }
}

async fn now_or_not<T>(handle: &mut JoinHandle<T>) -> Option<T> {
    settle().await;
    if handle.is_finished() { Some(handle.await.unwrap()) } else { None }
}

#[tokio::test(start_paused = true)]
async fn answers_wait_for_the_commit_and_reads_for_what_they_show() {
    let world = start(Arc::default()).await;
    assert_eq!(world.sum().await.unwrap(), Ok(0));
    let mut first = world.add(&[1, 2]);
    settle().await;
    let mut second = world.add(&[4]);
    settle().await;
    let mut sum = world.sum();
    assert_eq!(now_or_not(&mut first).await, None);
    assert_eq!(now_or_not(&mut sum).await, None);

    world.log.commit(2);
    assert_eq!(now_or_not(&mut first).await, Some(Ok(Answer::Now(3))));
    assert_eq!(now_or_not(&mut second).await, None);
    assert_eq!(now_or_not(&mut sum).await, None, "it shows what is not committed");

    world.log.commit(3);
    assert_eq!(now_or_not(&mut second).await, Some(Ok(Answer::Now(4))));
    assert_eq!(now_or_not(&mut sum).await, Some(Ok(7)));
    assert_eq!(world.add(&[]).await.unwrap(), Ok(Answer::Now(0)), "nothing to commit");
}

/// What a group commits is shown as soon as it is committed itself, whatever others are about.
#[tokio::test(start_paused = true)]
async fn a_question_waits_for_its_own_scope_only() {
    let world = start(Arc::default()).await;
    let small = world.add(&[1, 2]);
    settle().await;
    let large = world.add(&[1_000]);
    settle().await;
    let (mut shown, mut sum) = (world.small(), world.sum());
    assert_eq!(now_or_not(&mut shown).await, None);
    world.log.commit(2);
    assert_eq!(now_or_not(&mut shown).await, Some(Ok(3)));
    assert_eq!(world.small().await.unwrap(), Ok(3));
    assert_eq!(now_or_not(&mut sum).await, None);
    world.log.commit(3);
    assert_eq!(now_or_not(&mut sum).await, Some(Ok(1_003)));
    small.await.unwrap().unwrap();
    large.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn steps_that_come_together_share_an_append() {
    let world = start(Arc::default()).await;
    let together = [world.add(&[1]), world.add(&[2, 3]), world.add(&[1_000])];
    settle().await;
    let alone = world.add(&[4]);
    settle().await;
    assert_eq!(world.appends(), [4, 1]);
    world.log.commit(5);
    for added in together {
        added.await.unwrap().unwrap();
    }
    assert_eq!(alone.await.unwrap(), Ok(Answer::Now(4)));
    assert_eq!(world.sum().await.unwrap(), Ok(1_010));
}

/// A batch is never larger than it may be.
#[tokio::test(start_paused = true)]
async fn what_does_not_fit_the_batch_begins_the_next() {
    let world = start(Arc::default()).await;
    let together = [world.add(&[1; 6]), world.add(&[1; 6]), world.add(&[1; 3])];
    settle().await;
    assert_eq!(world.appends(), [6, 9]);
    world.log.commit(15);
    for added in together {
        added.await.unwrap().unwrap();
    }
    assert_eq!(world.sum().await.unwrap(), Ok(15));
}

#[tokio::test(start_paused = true)]
async fn records_that_stand_alone_may_take_several_batches() {
    let world = start(Arc::default()).await;
    let driver = world.driver.clone();
    let many = tokio::spawn(async move {
        let step = |_: &mut Adder, _, _| Step { records: vec![1; 25], divisible: true, ..Step::answer(0) };
        driver.write(step).await
    });
    let mut whole = world.add(&[1; 25]);
    settle().await;
    assert_eq!(world.appends(), [9, 9, 7, 25], "what must not be divided is tried as it is");
    world.log.commit(25);
    assert_eq!(many.await.unwrap(), Ok(Answer::Now(0)));
    assert_eq!(now_or_not(&mut whole).await, None);
    world.log.commit(50);
    assert_eq!(world.sum().await.unwrap(), Ok(50));
}

/// The client is gone, what it began is appended all the same.
#[tokio::test(start_paused = true)]
async fn a_batch_is_appended_though_who_began_it_is_gone() {
    let world = start(Arc::default()).await;
    let step = |_: &mut Adder, _, _| Step { records: vec![1], ..Step::answer(0) };
    let submitted = world.driver.submit(step).unwrap();
    assert!(world.appends().is_empty());
    drop(submitted);
    assert_eq!(world.appends(), [1]);
    world.log.commit(1);
    assert_eq!(world.sum().await.unwrap(), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn records_linger_as_long_as_they_are_told() {
    let world = start_with(Arc::default(), AppendLinger::Millis(50)).await;
    let began = tokio::time::Instant::now();
    let first = world.add(&[1]);
    settle().await;
    tokio::time::advance(Duration::from_millis(30)).await;
    let second = world.add(&[2]);
    settle().await;
    assert!(world.appends().is_empty());
    tokio::time::advance(Duration::from_millis(20)).await;
    settle().await;
    assert_eq!((world.appends(), began.elapsed()), (vec![2], Duration::from_millis(50)));
    world.log.commit(2);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(Answer::Now(1)), Ok(Answer::Now(2))));

    let world = start_with(Arc::default(), AppendLinger::Millis(0)).await;
    let together = [world.add(&[1]), world.add(&[2])];
    settle().await;
    assert_eq!(world.appends(), [1, 1]);
    world.log.commit(2);
    for added in together {
        added.await.unwrap().unwrap();
    }
}

/// What was replayed ahead of the append is forgotten by loading again; then, while the log takes nothing, appends come
/// first and nothing is loaded.
#[tokio::test(start_paused = true)]
async fn a_failed_append_leaves_nothing_behind() {
    let world = start(Arc::default()).await;
    let kept = world.add(&[8]);
    settle().await;
    world.log.commit(1);
    kept.await.unwrap().unwrap();
    let waiting = world.park(&[], None);
    settle().await;
    world.log.state.lock().full = true;
    let together = [world.add(&[1]), world.add(&[2])];
    let shown = world.sum();
    let refused = Err(Unavailable::NotStored(CommitFailure::Unavailable));
    for added in together {
        assert_eq!(added.await.unwrap(), refused);
    }
    assert_eq!(shown.await.unwrap(), Err(Unavailable::NotStored(CommitFailure::Unavailable)));
    assert_eq!(waiting.await.unwrap(), Ok(Answer::Released("unloaded".to_owned())));
    settle().await;
    assert_eq!(world.sum().await.unwrap(), Ok(8), "loaded again");

    let waiting = world.park(&[], None);
    settle().await;
    assert_eq!(world.add(&[1]).await.unwrap(), refused);
    let parked = world.park(&[2], None).await.unwrap();
    assert_eq!(parked, Ok(Answer::Released("stored Err(Unavailable)".to_owned())));
    assert_eq!(waiting.await.unwrap(), parked, "who waited was not told to go");
    assert_eq!(world.sum().await.unwrap(), Ok(8));

    world.log.state.lock().full = false;
    let added = world.add(&[4]);
    settle().await;
    let together = [world.add(&[16]), world.add(&[32])];
    settle().await;
    assert_eq!(world.appends(), [1, 1, 2], "records are gathered again");
    world.log.commit(4);
    assert_eq!(added.await.unwrap(), Ok(Answer::Now(4)));
    for added in together {
        added.await.unwrap().unwrap();
    }
    assert_eq!(world.sum().await.unwrap(), Ok(60));
    assert!(!world.fatal.is_reported());
}

/// A commit under way is waited for across a load.
#[tokio::test(start_paused = true)]
async fn what_was_appended_before_a_failure_is_answered_when_it_is_committed() {
    let world = start(Arc::default()).await;
    let mut before = world.add(&[8]);
    settle().await;
    world.log.state.lock().full = true;
    assert!(world.add(&[1]).await.unwrap().is_err());
    settle().await;
    assert_eq!(now_or_not(&mut before).await, None);
    let mut small = world.small();
    assert_eq!(now_or_not(&mut small).await, None, "what was loaded is not all committed");
    world.log.commit(1);
    assert_eq!(now_or_not(&mut before).await, Some(Ok(Answer::Now(8))));
    assert_eq!(now_or_not(&mut small).await, Some(Ok(8)));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_to_do_is_done_after_the_commit() {
    let world = start(Arc::default()).await;
    let mut waiting = world.park(&[], None);
    let mut stored = world.park(&[1], None);
    assert_eq!(now_or_not(&mut waiting).await, None);
    assert_eq!(now_or_not(&mut stored).await, None);
    world.log.commit(1);
    let released = Some(Ok(Answer::Released("stored Ok(())".to_owned())));
    assert_eq!(now_or_not(&mut waiting).await, released);
    assert_eq!(now_or_not(&mut stored).await, released);
}

/// The client is gone, the group goes on.
#[tokio::test(start_paused = true)]
async fn what_is_left_to_do_is_done_for_others_when_the_client_is_gone() {
    let world = start(Arc::default()).await;
    let mut waiting = world.park(&[], None);
    let gone = world.park(&[1], None);
    settle().await;
    gone.abort();
    world.log.commit(1);
    assert_eq!(now_or_not(&mut waiting).await, Some(Ok(Answer::Released("stored Ok(())".to_owned()))));
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_kept_and_moved() {
    let world = start(Arc::default()).await;
    let began = tokio::time::Instant::now();
    let late = world.park(&[], Some(60_000));
    settle().await;
    let early = world.park(&[], Some(1_500));
    let released = Ok(Answer::Released("deadline".to_owned()));
    assert_eq!(early.await.unwrap(), released);
    assert_eq!(late.await.unwrap(), released, "one deadline released both");
    assert_eq!(began.elapsed(), Duration::from_millis(1_500));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_takes_too_long_is_not_waited_for() {
    let world = start(Arc::default()).await;
    let began = tokio::time::Instant::now();
    let timed_out = Err(Unavailable::NotStored(CommitFailure::TimedOut));
    assert_eq!(world.add(&[1]).await.unwrap(), timed_out);
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    world.log.commit(1);
    assert_eq!(world.sum().await.unwrap(), Ok(1), "it was committed after all");
}

#[tokio::test(start_paused = true)]
async fn a_lost_partition_answers_everybody() {
    let world = start(Arc::default()).await;
    let waiting = world.park(&[], None);
    let added = world.add(&[1]);
    settle().await;
    let sum = world.sum();
    settle().await;
    world.log.lose();
    assert_eq!(waiting.await.unwrap(), Ok(Answer::Released("unloaded".to_owned())));
    assert_eq!(added.await.unwrap(), Err(Unavailable::NotCoordinator));
    assert_eq!(sum.await.unwrap(), Err(Unavailable::NotCoordinator));
    assert_eq!(world.add(&[1]).await.unwrap(), Err(Unavailable::NotCoordinator));
    assert!(!world.fatal.is_reported());
}

#[tokio::test(start_paused = true)]
async fn closing_answers_everybody() {
    let world = start(Arc::default()).await;
    let waiting = world.park(&[], Some(1_000));
    settle().await;
    world.driver.close();
    assert_eq!(waiting.await.unwrap(), Ok(Answer::Released("unloaded".to_owned())));
    assert_eq!(world.sum().await.unwrap(), Err(Unavailable::NotCoordinator));
}

#[tokio::test(start_paused = true)]
async fn the_log_is_loaded_and_what_is_not_committed_is_not_shown() {
    let log = Arc::new(TestLog::default());
    let before = start(Arc::clone(&log)).await;
    for number in 1..=50 {
        let added = before.add(&[number, 1_000]);
        settle().await;
        log.commit(number * 2);
        added.await.unwrap().unwrap();
    }
    drop(before.add(&[7]));
    settle().await;
    before.driver.close();

    let after = start(Arc::clone(&log)).await;
    let mut sum = after.sum();
    assert_eq!(log.state.lock().reads, 51, "each read has a hundred bytes, that is one batch");
    assert_eq!(now_or_not(&mut sum).await, None, "the last record is not committed");
    log.commit(101);
    assert_eq!(now_or_not(&mut sum).await, Some(Ok(1_275 + 50_000 + 7)));
}

/// As Apache Kafka leaves them in `__consumer_offsets`.
#[tokio::test(start_paused = true)]
async fn what_a_transaction_wrote_counts_once_it_is_committed() {
    let log = Arc::new(TestLog::default());
    log.put_transactional(7, 1);
    log.put_transactional(8, 10);
    log.put_transactional(9, 100);
    log.put_transactional(7, 2);
    log.put_end(7, ControlType::Commit);
    log.put_end(8, ControlType::Abort);
    // Nobody's: what it ended is compacted away.
    log.put_end(6, ControlType::Commit);
    let world = start(Arc::clone(&log)).await;
    assert_eq!(world.sum().await.unwrap(), Ok(3));
    let pending = world.driver.read(Shows::Everything, |machine| machine.pending.clone()).await;
    assert_eq!(pending, Ok(BTreeMap::from([(9, 100)])));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_not_served() {
    let log = Arc::new(TestLog::default());
    log.append(&[Adder::encode(&1).unwrap()], 0).unwrap();
    log.commit(1);
    log.state.lock().torn = 3;
    let world = start(log).await;
    assert_eq!(world.sum().await.unwrap(), Err(Unavailable::NotCoordinator));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_while_loading() {
    let log = TestLog::default();
    log.append(&[Adder::encode(&5).unwrap()], 0).unwrap();
    log.commit(1);
    let driver = Driver::start(Adder::default, Arc::new(log), settings(AppendLinger::Adaptive));
    // Its task has not run yet.
    assert_eq!(driver.read(Shows::Everything, |machine| machine.sum).await, Err(Unavailable::Loading));
    settle().await;
    assert_eq!(driver.read(Shows::Everything, |machine| machine.sum).await, Ok(5));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_step_is_fatal_for_the_node() {
    let world = start(Arc::default()).await;
    let driver = world.driver.clone();
    let panicking =
        tokio::spawn(async move { driver.write(|_: &mut Adder, _, _| -> Step<Adder, ()> { panic!("broken") }).await });
    assert!(panicking.await.is_err());
    assert!(world.fatal.is_reported());
}
