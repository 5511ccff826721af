//! Has producers and consumers work, and looks at them once a second.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval_at};

use super::consuming::{ConsumePlan, ConsumerWorker, Ended};
use super::cpu::CpuTime;
use super::ledger::Ledger;
use super::producing::{ProducePlan, ProducerWorker};
use super::recorder::{Recorder, Sample};
use super::report::{Kind, progress};
use crate::process;
use crate::tool::ClusterArguments;

const SECOND: Duration = Duration::from_secs(1);
/// How often one looks whether the end has come, once it is near.
const LOOK: Duration = Duration::from_millis(20);
/// Over the time workers have to end: then they are left alone.
const GRACE: Duration = Duration::from_secs(5);

/// What is measured.
pub struct Plan {
    pub producers: Vec<ProducePlan>,
    pub consumers: Vec<ConsumePlan>,
    pub warm_up: Duration,
    /// For the report.
    pub settings: Vec<(&'static str, Value)>,
}

/// What was measured.
pub struct Measured {
    pub settings: Vec<(&'static str, Value)>,
    /// Whether records were due at fixed times.
    pub open_loop: bool,
    pub seconds: Vec<Second>,
    /// Without the warm-up, but for errors: they are no matter of speed.
    pub total: Sample,
    pub elapsed: Duration,
    pub cpu: CpuTime,
    /// Of an end-to-end measurement: records acknowledged and not received, and received more than once.
    pub lost: Option<u64>,
    pub duplicates: Option<u64>,
    /// Consumers that found nothing more before they were done.
    pub idle: bool,
}

/// What happened in a second.
pub struct Second {
    pub warm_up: bool,
    /// The last one is shorter.
    pub length: Duration,
    pub sample: Sample,
}

enum Event {
    ProducerEnded(anyhow::Result<()>),
    ConsumerEnded(anyhow::Result<Ended>),
}

pub async fn measure(kind: Kind, plan: Plan, cluster: ClusterArguments) -> anyhow::Result<Measured> {
    let open_loop = plan.producers.iter().any(|producer| producer.schedule.is_some());
    let ledger = (kind == Kind::EndToEnd).then(|| Arc::new(Ledger::new(plan.producers.len())));
    let mut run = Run::new(kind, plan.warm_up, cluster.timeout, ledger.clone());
    let (events, mut ended) = mpsc::unbounded_channel();
    let read = Arc::new(AtomicU64::new(0));
    for plan in plan.consumers {
        let (client, recorder, start) = (cluster.client(), run.recorder(), run.start);
        let stop = run.stop_consumers.subscribe();
        let (ledger, read) = (ledger.clone(), Arc::clone(&read));
        let worker = ConsumerWorker { client, plan, recorder, ledger, read, start, stop };
        run.consuming += 1;
        spawn("consumer", events.clone(), Event::ConsumerEnded, || worker.run())?;
    }
    for (index, plan) in plan.producers.into_iter().enumerate() {
        // No request outlives the records it carries.
        let request_timeout = plan.settings.delivery_timeout.saturating_sub(plan.settings.linger);
        let client = cluster.client_within(request_timeout.max(Duration::from_millis(1)));
        let (recorder, start) = (run.recorder(), run.start);
        let (ledger, stop) = (ledger.clone(), run.stop_producers.subscribe());
        let worker = ProducerWorker { client, plan, recorder, index, ledger, start, stop };
        run.producing += 1;
        spawn("producer", events.clone(), Event::ProducerEnded, || worker.run())?;
    }
    // Should a thread end without a word, nothing more is heard.
    drop(events);

    let mut ticks = interval_at((run.start + SECOND).into(), SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let signal = process::stop_signal();
    tokio::pin!(signal);
    let mut interrupted = false;
    while run.producing + run.consuming > 0 && run.abandon_at.is_none_or(|at| Instant::now() < at) {
        tokio::select! {
            _ = ticks.tick() => run.end_second(true),
            signal = &mut signal, if !interrupted => {
                signal.context("signals cannot be watched")?;
                interrupted = true;
                run.stop();
            }
            () = tokio::time::sleep(LOOK), if run.is_ending() => {}
            event = ended.recv() => match event {
                Some(event) => run.accept(event),
                None => break,
            },
        }
        run.let_consumers_end();
    }
    run.end_second(false);
    run.conclude(plan.settings, open_loop)
}

/// Runs a worker on a thread and a runtime of its own.
fn spawn<T, F>(
    name: &str,
    events: mpsc::UnboundedSender<Event>,
    event: fn(anyhow::Result<T>) -> Event,
    work: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<()>
where
    T: 'static,
    F: Future<Output = anyhow::Result<T>>,
{
    let thread = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime.context("a runtime cannot be started").and_then(|runtime| runtime.block_on(work()));
        let _ = events.send(event(result));
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(thread).context("a thread cannot be started")?;
    Ok(())
}

struct Run {
    kind: Kind,
    warm_up: Duration,
    patience: Duration,
    recorders: Vec<Arc<Recorder>>,
    stop_producers: watch::Sender<bool>,
    stop_consumers: watch::Sender<bool>,
    producing: usize,
    consuming: usize,
    start: Instant,
    /// What happened since `second_start`.
    current: Sample,
    second_start: Instant,
    seconds: Vec<Second>,
    total: Sample,
    measured_from: Instant,
    cpu_start: CpuTime,
    ledger: Option<Arc<Ledger>>,
    /// How long consumers wait for what was produced.
    receive_until: Option<Instant>,
    /// When whoever still works is left behind.
    abandon_at: Option<Instant>,
    idle: bool,
    failure: Option<anyhow::Error>,
}

impl Run {
    fn new(kind: Kind, warm_up: Duration, patience: Duration, ledger: Option<Arc<Ledger>>) -> Run {
        let start = Instant::now();
        Run {
            kind,
            warm_up,
            patience,
            recorders: Vec::new(),
            stop_producers: watch::Sender::new(false),
            stop_consumers: watch::Sender::new(false),
            producing: 0,
            consuming: 0,
            start,
            current: Sample::default(),
            second_start: start,
            seconds: Vec::new(),
            total: Sample::default(),
            measured_from: start,
            cpu_start: CpuTime::now(),
            ledger,
            receive_until: None,
            abandon_at: None,
            idle: false,
            failure: None,
        }
    }

    fn recorder(&mut self) -> Arc<Recorder> {
        let recorder = Arc::new(Recorder::default());
        self.recorders.push(Arc::clone(&recorder));
        recorder
    }

    /// Has everybody end before their time.
    fn stop(&mut self) {
        self.stop_producers.send_replace(true);
        if self.kind == Kind::Consume || self.failure.is_some() {
            self.stop_consumers.send_replace(true);
        }
        self.abandon_at.get_or_insert_with(|| Instant::now() + self.patience * 2 + GRACE);
    }

    fn is_ending(&self) -> bool {
        self.abandon_at.is_some() || self.receive_until.is_some()
    }

    fn accept(&mut self, event: Event) {
        let failed = match event {
            Event::ProducerEnded(result) => {
                self.producing -= 1;
                if self.producing == 0 {
                    self.receive_until = Some(Instant::now() + self.patience);
                }
                result.err()
            }
            Event::ConsumerEnded(result) => {
                self.consuming -= 1;
                self.idle |= matches!(result, Ok(Ended::Idle));
                result.err()
            }
        };
        if let Some(error) = failed {
            self.failure.get_or_insert(error);
            self.stop();
        }
    }

    /// Ends the consumers of an end-to-end measurement, when they have everything or there was time enough.
    fn let_consumers_end(&mut self) {
        let Some(receive_until) = self.receive_until.filter(|_| self.consuming > 0) else { return };
        let has_everything = self.ledger.as_ref().is_none_or(|ledger| ledger.missing() == 0);
        if has_everything || Instant::now() >= receive_until {
            self.stop_consumers.send_replace(true);
            self.receive_until = None;
            self.abandon_at.get_or_insert_with(|| Instant::now() + GRACE);
        }
    }

    fn gather(&mut self) {
        self.current.in_flight = 0;
        for recorder in &self.recorders {
            let sample = recorder.take();
            self.current.add(&sample);
        }
    }

    fn end_second(&mut self, show: bool) {
        self.gather();
        let now = Instant::now();
        let warm_up = self.second_start < self.start + self.warm_up;
        let sample = std::mem::take(&mut self.current);
        let length = now - self.second_start;
        self.second_start = now;
        if warm_up {
            (self.measured_from, self.cpu_start) = (now, CpuTime::now());
            self.total.add_errors(&sample);
        } else {
            self.total.add(&sample);
        }
        let second = Second { warm_up, length, sample };
        if show {
            eprintln!("{}", progress(self.kind, self.seconds.len() + 1, &second));
        }
        self.seconds.push(second);
    }

    fn conclude(self, settings: Vec<(&'static str, Value)>, open_loop: bool) -> anyhow::Result<Measured> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        let end = self.total.latest.unwrap_or(self.second_start);
        Ok(Measured {
            settings,
            open_loop,
            elapsed: end.saturating_duration_since(self.measured_from),
            cpu: CpuTime::now().since(self.cpu_start),
            lost: self.ledger.as_ref().map(|ledger| ledger.missing()),
            duplicates: self.ledger.as_ref().map(|ledger| ledger.duplicates()),
            idle: self.idle,
            seconds: self.seconds,
            total: self.total,
        })
    }
}
