//! What an analysis costs: `cargo run --release -p ottla-checker --example million [OPERATIONS]`.
//!
//! Clients of one correct log (24 partitions, transactions, some of which fail or are never answered) are recorded, and
//! their history is judged: as it is, and after a whole partition was lost, which is as many findings as there can be.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ottla_checker::{Anomaly, Client, History, Key, Record, Recorder, Report, Step, Value, check};

const CLIENTS: usize = 16;
const KEYS: usize = 24;
/// Records a poll returns at most.
const POLL: usize = 8;

fn main() -> io::Result<()> {
    let mut output = io::stdout().lock();
    let operations = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    for lost in [None, Some(0)] {
        let started = Times::now();
        let history = record(operations, lost);
        let recorded = started.elapsed();
        let started = Times::now();
        let report = check(&history).map_err(io::Error::other)?;
        let took = started.elapsed();
        tell(&mut output, &history, &report)?;
        writeln!(output, "recorded in {recorded}, analysed in {took}, {}\n", peak())?;
    }
    Ok(())
}

/// When something began: by the clock, and in what this thread had computed, where the system tells.
struct Times {
    clock: Instant,
    computed: Option<Duration>,
}

impl Times {
    fn now() -> Times {
        Times { clock: now(), computed: Self::computed() }
    }

    fn computed() -> Option<Duration> {
        let status = std::fs::read_to_string("/proc/self/schedstat").ok()?;
        status.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }

    fn elapsed(&self) -> String {
        let clock = self.clock.elapsed();
        match (self.computed, Self::computed()) {
            (Some(began), Some(ended)) => format!("{clock:.1?} ({:.1?} of a core)", ended.saturating_sub(began)),
            _ => format!("{clock:.1?}"),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "an example measures")]
fn now() -> Instant {
    Instant::now()
}

fn tell(output: &mut impl Write, history: &History, report: &Report) -> io::Result<()> {
    let operations = history.operations().len();
    let (acknowledged, polled) = (report.counts.acknowledged, report.counts.polled);
    writeln!(
        output,
        "{operations} operations, {acknowledged} records acknowledged, {polled} polled: {:?}",
        report.verdict
    )?;
    for tally in &report.anomalies {
        let by = if tally.orders_writes { " (by the order of writes)" } else { "" };
        writeln!(output, "  {}{by}: {} forbidden, {} allowed", tally.anomaly, tally.forbidden, tally.allowed)?;
    }
    let lost = report.forbidden(Anomaly::LostWrite);
    let text = report.to_string();
    writeln!(output, "  {lost} lost; the report has {} lines", text.lines().count())
}

/// The most memory this process has had, where the system tells.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map_or("peak memory unknown".to_owned(), |kib| format!("peak memory {} MiB", kib / 1024))
}

/// A small generator of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// One worker: its recorder's client, and where its consumer stands.
struct Worker {
    client: Client,
    assigned: Vec<usize>,
    positions: Vec<usize>,
}

/// Records so many operations; records of the key `lost` are acknowledged, and but for the last never seen again.
fn record(operations: usize, lost: Option<usize>) -> History {
    let time = Arc::new(AtomicU64::new(0));
    let recorder = Recorder::new(move || time.fetch_add(1_000, Ordering::Relaxed));
    let keys: Vec<Key> = (0..KEYS).map(|partition| recorder.key("orders", partition as i32)).collect();
    // A committed value, or a hole.
    let mut logs: Vec<Vec<Option<u64>>> = vec![Vec::new(); KEYS];
    let mut numbers = Numbers(7);
    let mut next_value = 0;
    let mut workers: Vec<Worker> = (0..CLIENTS)
        .map(|_| Worker { client: recorder.client(), assigned: Vec::new(), positions: vec![0; KEYS] })
        .collect();
    for number in 0..operations {
        let worker = &mut workers[numbers.below(CLIENTS)];
        if worker.assigned.is_empty() || number % 1000 == 0 {
            worker.assign(&keys, &mut numbers);
            continue;
        }
        let sends: Vec<usize> = (0..numbers.below(4)).map(|_| numbers.below(KEYS)).collect();
        let mut steps: Vec<Step> = sends.iter().map(|key| Step::send(keys[*key], fresh(&mut next_value))).collect();
        let first_value = next_value - sends.len() as u64;
        steps.push(Step::poll());
        let polled = worker.polled(&keys, &logs, lost);
        let mut pending = worker.client.transact(steps).polled(polled.0);
        let outcome = numbers.below(100);
        for (at, key) in sends.iter().enumerate() {
            pending = pending.sent_nth(at, logs[*key].len() as i64);
            logs[*key].push((outcome != 0).then_some(first_value + at as u64));
        }
        match outcome {
            0 => drop(pending.fail("aborted")),
            1 => {
                drop(pending);
                worker.assigned.clear();
            }
            _ => {
                pending.ok();
                worker.positions = polled.1;
            }
        }
    }
    read_everything(&mut recorder.client(), &keys, &logs, lost);
    recorder.finish()
}

fn fresh(next_value: &mut u64) -> u64 {
    *next_value += 1;
    *next_value - 1
}

impl Worker {
    fn assign(&mut self, keys: &[Key], numbers: &mut Numbers) {
        self.assigned = (0..4).map(|_| numbers.below(keys.len())).collect();
        self.assigned.sort_unstable();
        self.assigned.dedup();
        // From the beginning it would never get anywhere: it goes on where it was, as another process.
        self.client.renew();
        let assigned: Vec<Key> = self.assigned.iter().map(|key| keys[*key]).collect();
        self.client.assign(assigned, false).ok();
    }

    /// What it is given next, and where it stands then.
    fn polled(&self, keys: &[Key], logs: &[Vec<Option<u64>>], lost: Option<usize>) -> (Vec<Record>, Vec<usize>) {
        let mut positions = self.positions.clone();
        let mut polled = Vec::new();
        for key in self.assigned.iter().filter(|key| Some(**key) != lost) {
            while let Some(value) = logs[*key].get(positions[*key]).filter(|_| polled.len() < POLL) {
                let offset = positions[*key] as i64;
                polled.extend(value.map(|value| Record { key: keys[*key], offset, value: Value(value) }));
                positions[*key] += 1;
            }
        }
        (polled, positions)
    }
}

fn read_everything(client: &mut Client, keys: &[Key], logs: &[Vec<Option<u64>>], lost: Option<usize>) {
    client.assign(keys, true).ok();
    for (at, (key, log)) in keys.iter().zip(logs).enumerate() {
        let records = log
            .iter()
            .enumerate()
            .filter_map(|(offset, value)| Some(Record { key: *key, offset: offset as i64, value: Value((*value)?) }));
        let records: Vec<Record> = records.collect();
        let seen = if lost == Some(at) { &records[records.len().saturating_sub(1)..] } else { &records };
        for chunk in seen.chunks(500) {
            client.poll().polled(chunk.iter().copied()).ok();
        }
    }
}
