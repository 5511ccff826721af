//! What a measurement says: a line a second, a table, JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::recorder::{Latencies, Volume};
use super::run::{Measured, Second};
use crate::table::{Align, Table};
use crate::time::format_timestamp;

const FORMAT_VERSION: u32 = 1;
/// The percentiles of a result: how they are headed, and named in JSON.
pub const PERCENTILES: [(f64, &str, &str); 5] = [
    (50.0, "P50", "p50"),
    (90.0, "P90", "p90"),
    (99.0, "P99", "p99"),
    (99.9, "P99.9", "p99_9"),
    (99.99, "P99.99", "p99_99"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Produce,
    Consume,
    EndToEnd,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Produce => "produce",
            Kind::Consume => "consume",
            Kind::EndToEnd => "e2e",
        }
    }

    pub fn produces(self) -> bool {
        self != Kind::Consume
    }

    pub fn consumes(self) -> bool {
        self != Kind::Produce
    }
}

/// Where a measurement was made.
pub struct Environment(pub Vec<(&'static str, Value)>);

impl Environment {
    pub fn here(bootstrap_server: &str) -> Environment {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Environment(vec![
            ("ottla_version", json!(env!("CARGO_PKG_VERSION"))),
            ("os", json!(std::env::consts::OS)),
            ("arch", json!(std::env::consts::ARCH)),
            ("cpus", json!(std::thread::available_parallelism().map_or(0, std::num::NonZero::get))),
            ("bootstrap_server", json!(bootstrap_server)),
            ("started_at", json!(format_timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)))),
        ])
    }
}

pub struct Report {
    pub kind: Kind,
    pub environment: Environment,
    pub measured: Measured,
}

impl Report {
    pub fn new(kind: Kind, environment: Environment, measured: Measured) -> Report {
        Report { kind, environment, measured }
    }

    /// An error if something went wrong that the numbers alone do not say.
    pub fn verdict(&self) -> anyhow::Result<()> {
        let errors = self.measured.total.error_count();
        if errors > 0 {
            let kinds: Vec<String> =
                self.measured.total.errors.iter().map(|(kind, count)| format!("{} {kind}", grouped(*count))).collect();
            anyhow::bail!("there were errors: {}", kinds.join(", "));
        }
        if let Some(lost) = self.measured.lost.filter(|&lost| lost > 0) {
            anyhow::bail!("{} records were acknowledged but not received", grouped(lost));
        }
        if self.measured.idle {
            anyhow::bail!("there was nothing more to read");
        }
        if self.measured.seconds.iter().all(|second| second.warm_up) {
            anyhow::bail!("it was over before its warm-up was, so nothing was measured: more records, or --warm-up 0s");
        }
        Ok(())
    }

    /// How latencies were taken; `None` where there are none.
    pub fn latency_note(&self) -> Option<&'static str> {
        self.kind.produces().then_some(if self.measured.open_loop {
            "open loop: latencies count from when a record was due (corrected for coordinated omission)"
        } else {
            "closed loop, as fast as possible: latencies count from when a record was handed over, and are mostly the time \
             it spent in --buffer-memory"
        })
    }

    pub fn latencies(&self) -> Vec<(&'static str, &'static str, &Latencies)> {
        let total = &self.measured.total;
        let mut latencies = Vec::new();
        if self.kind.produces() {
            latencies.push(("acknowledged", "acknowledged", &total.acknowledged));
        }
        if self.kind == Kind::EndToEnd {
            latencies.push(("end to end", "end_to_end", &total.end_to_end));
        }
        latencies
    }

    pub fn volumes(&self) -> Vec<(&'static str, Volume)> {
        let total = &self.measured.total;
        let produced = self.kind.produces().then_some(("produced", total.produced));
        let consumed = self.kind.consumes().then_some(("consumed", total.consumed));
        produced.into_iter().chain(consumed).collect()
    }

    /// Processor seconds of this process for a million records, each counted once.
    pub fn cpu_per_million(&self) -> Option<f64> {
        let total = &self.measured.total;
        let records = total.produced.records.max(total.consumed.records);
        (records > 0).then(|| self.measured.cpu.total.as_secs_f64() * 1e6 / records as f64)
    }

    /// For people.
    pub fn text(&self) -> String {
        let measured = &self.measured;
        let mut text = String::new();
        let right = Align::Right;
        let mut rates = Table::new(&[
            ("", Align::Left),
            ("RECORDS", right),
            ("MIB", right),
            ("SECONDS", right),
            ("RECORDS/S", right),
            ("MIB/S", right),
        ]);
        for (name, volume) in self.volumes() {
            rates.row([
                name.to_owned(),
                grouped(volume.records),
                format!("{:.1}", mebibytes(volume.bytes)),
                format!("{:.2}", measured.elapsed.as_secs_f64()),
                grouped(per_second(volume.records, measured.elapsed) as u64),
                format!("{:.2}", per_second(volume.bytes, measured.elapsed) / MEBIBYTE),
            ]);
        }
        text += &rates.render();
        if !self.latencies().is_empty() {
            let headings = PERCENTILES.iter().map(|(_, heading, _)| (*heading, right));
            let columns: Vec<(&'static str, Align)> = [("LATENCY", Align::Left), ("MEAN", right)]
                .into_iter()
                .chain(headings)
                .chain([("MAX", right)])
                .collect();
            let mut table = Table::new(&columns);
            for (name, _, latencies) in self.latencies() {
                let mean = latencies.histogram().map_or(0.0, hdrhistogram::Histogram::mean);
                let percentiles =
                    PERCENTILES.iter().map(|(percentile, ..)| duration(latencies.percentile(*percentile)));
                let cells = [name.to_owned(), duration(mean as u64)].into_iter().chain(percentiles);
                table.cells(cells.chain([duration(latencies.max())]));
            }
            let _ = write!(text, "\n\n{}", table.render());
        }
        text += "\n\n";
        if let Some(note) = self.latency_note() {
            let _ = writeln!(text, "{note}");
        }
        let _ = write!(text, "client CPU: {:.2} s", measured.cpu.total.as_secs_f64());
        if let Some(system) = measured.cpu.system {
            let _ = write!(text, " ({:.2} s of it in the system)", system.as_secs_f64());
        }
        if let Some(per_million) = self.cpu_per_million() {
            let _ = write!(text, ", {per_million:.3} s per million records");
        }
        for (kind, count) in &measured.total.errors {
            let _ = write!(text, "\nerrors: {} {kind}", grouped(*count));
        }
        if let Some(lost) = measured.lost {
            let _ = write!(text, "\nlost: {}", grouped(lost));
        }
        if let Some(duplicates) = measured.duplicates {
            let _ = write!(text, "\nduplicates: {}", grouped(duplicates));
        }
        text
    }

    /// For machines; docs/tools.md explains it.
    pub fn json(&self) -> Value {
        let measured = &self.measured;
        let object = |pairs: &[(&'static str, Value)]| -> Map<String, Value> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
        };
        let mut document = Map::new();
        let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
        put("format_version", json!(FORMAT_VERSION));
        put("kind", json!(self.kind.name()));
        put("settings", object(&measured.settings).into());
        put("environment", object(&self.environment.0).into());
        if self.kind.produces() {
            put("open_loop", json!(measured.open_loop));
        }
        put("elapsed_seconds", json!(measured.elapsed.as_secs_f64()));
        for (name, volume) in self.volumes() {
            let bytes_per_second = per_second(volume.bytes, measured.elapsed);
            let value = json!({
                "records": volume.records,
                "bytes": volume.bytes,
                "records_per_second": per_second(volume.records, measured.elapsed),
                "mib_per_second": bytes_per_second / MEBIBYTE,
                "mb_per_second": bytes_per_second / 1e6,
            });
            put(name, value);
        }
        let latencies = self.latencies().into_iter().map(|(_, name, latencies)| (name.to_owned(), summary(latencies)));
        let latencies: Map<String, Value> = latencies.collect();
        if !latencies.is_empty() {
            put("latency_us", latencies.into());
        }
        put("errors", json!(measured.total.errors));
        if let Some(lost) = measured.lost {
            put("lost", json!(lost));
        }
        if let Some(duplicates) = measured.duplicates {
            put("duplicates", json!(duplicates));
        }
        let user = measured.cpu.system.map(|system| measured.cpu.total.saturating_sub(system).as_secs_f64());
        let cpu = json!({
            "total_seconds": measured.cpu.total.as_secs_f64(),
            "user_seconds": user,
            "system_seconds": measured.cpu.system.map(|system| system.as_secs_f64()),
            "seconds_per_million_records": self.cpu_per_million(),
        });
        put("cpu", cpu);
        put("seconds", measured.seconds.iter().enumerate().map(|(index, second)| second_json(index, second)).collect());
        Value::Object(document)
    }
}

fn summary(latencies: &Latencies) -> Value {
    let mut object = Map::new();
    let histogram = latencies.histogram();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("count", json!(histogram.map_or(0, hdrhistogram::Histogram::len)));
    put("min", json!(histogram.map_or(0, hdrhistogram::Histogram::min)));
    put("mean", json!(histogram.map_or(0.0, hdrhistogram::Histogram::mean)));
    for (percentile, _, name) in PERCENTILES {
        put(name, json!(latencies.percentile(percentile)));
    }
    put("max", json!(latencies.max()));
    Value::Object(object)
}

fn second_json(index: usize, second: &Second) -> Value {
    let sample = &second.sample;
    let latencies = |latencies: &Latencies| json!({"p50": latencies.percentile(50.0), "p99": latencies.percentile(99.0), "max": latencies.max()});
    json!({
        "second": index + 1,
        "seconds": second.length.as_secs_f64(),
        "warm_up": second.warm_up,
        "produced_records": sample.produced.records,
        "produced_bytes": sample.produced.bytes,
        "consumed_records": sample.consumed.records,
        "consumed_bytes": sample.consumed.bytes,
        "in_flight": sample.in_flight,
        "errors": sample.error_count(),
        "acknowledged": latencies(&sample.acknowledged),
        "end_to_end": latencies(&sample.end_to_end),
    })
}

/// A second for who watches.
pub fn progress(kind: Kind, number: usize, second: &Second) -> String {
    let sample = &second.sample;
    let mut text = format!("{number:>4} s");
    let mut volume = |name: &str, volume: Volume| {
        let records = grouped(per_second(volume.records, second.length) as u64);
        let mebibytes = per_second(volume.bytes, second.length) / MEBIBYTE;
        let _ = write!(text, "  {name} {records:>9} rec/s {mebibytes:>8.2} MiB/s");
    };
    if kind.produces() {
        volume("out", sample.produced);
    }
    if kind.consumes() {
        volume("in", sample.consumed);
    }
    let mut latencies = |name: &str, latencies: &Latencies| {
        let (half, most) = (duration(latencies.percentile(50.0)), duration(latencies.percentile(99.0)));
        let _ = write!(text, "  {name} p50 {half:>8} p99 {most:>8}");
    };
    if kind.produces() {
        latencies("ack", &sample.acknowledged);
    }
    if kind == Kind::EndToEnd {
        latencies("e2e", &sample.end_to_end);
    }
    if kind.produces() {
        let _ = write!(text, "  in flight {}", grouped(sample.in_flight));
    }
    let _ = write!(text, "  errors {}", sample.error_count());
    if second.warm_up {
        text += "  (warm-up)";
    }
    text
}

pub const MEBIBYTE: f64 = (1 << 20) as f64;

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MEBIBYTE
}

pub fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// Microseconds as people read them.
pub fn duration(micros: u64) -> String {
    match micros {
        0 => "-".to_owned(),
        1..1000 => format!("{micros} µs"),
        1000..100_000 => format!("{:.2} ms", micros as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::perf::cpu::CpuTime;
    use crate::perf::recorder::Sample;

    /// Ten seconds of an end-to-end measurement, the third of them slow.
    pub fn report() -> Report {
        let mut total = Sample::default();
        let mut seconds = Vec::new();
        for second in 0..10u64 {
            let mut sample = Sample::default();
            sample.produced.add(1000, 100_000);
            sample.consumed.add(1000, 100_000);
            for record in 0..1000u64 {
                let stalled = if second == 3 { 1000 - record } else { 0 };
                sample.acknowledged.record(Duration::from_micros(200 + record % 50 + stalled * 1000));
                sample.end_to_end.record(Duration::from_micros(300 + record % 70 + stalled * 1000));
            }
            if second == 3 {
                sample.errors.insert("NOT_LEADER_OR_FOLLOWER".to_owned(), 2);
            }
            if second > 0 {
                total.add(&sample);
            }
            seconds.push(Second { warm_up: second == 0, length: Duration::from_secs(1), sample });
        }
        let measured = Measured {
            settings: vec![("topic", json!("a<b>&\"c\"")), ("rate", json!(1000.0)), ("records", Value::Null)],
            open_loop: true,
            seconds,
            total,
            elapsed: Duration::from_secs(9),
            cpu: CpuTime { total: Duration::from_millis(1800), system: Some(Duration::from_millis(600)) },
            lost: Some(0),
            duplicates: Some(0),
            idle: false,
        };
        Report::new(Kind::EndToEnd, Environment::here("localhost:9092"), measured)
    }

    #[test]
    fn the_json_is_as_documented() {
        let document = report().json();
        assert_eq!(document["format_version"], 1);
        assert_eq!(document["kind"], "e2e");
        assert_eq!(document["open_loop"], true);
        assert_eq!(document["settings"]["rate"], 1000.0);
        assert_eq!(document["elapsed_seconds"], 9.0);
        assert_eq!(document["produced"]["records"], 9000);
        assert_eq!(document["consumed"]["records_per_second"], 1000.0);
        assert_eq!(document["produced"]["mb_per_second"], 0.1);
        assert_eq!(document["latency_us"]["acknowledged"]["count"], 9000);
        assert_eq!(document["latency_us"]["acknowledged"]["min"], 200);
        assert!(document["latency_us"]["end_to_end"]["p99_9"].as_u64() > Some(900_000));
        assert_eq!(document["errors"]["NOT_LEADER_OR_FOLLOWER"], 2);
        assert_eq!(document["lost"], 0);
        assert_eq!(document["cpu"]["user_seconds"], 1.2);
        assert_eq!(document["cpu"]["seconds_per_million_records"], 200.0);
        assert_eq!(document["seconds"].as_array().map(Vec::len), Some(10));
        assert_eq!(document["seconds"][0]["warm_up"], true);
        assert_eq!(document["seconds"][3]["errors"], 2);
        // Every field is explained.
        let documentation = include_str!("../../../../docs/tools.md");
        for name in document.as_object().unwrap().keys().chain(document["seconds"][0].as_object().unwrap().keys()) {
            assert!(documentation.contains(&format!("`{name}`")), "docs/tools.md does not explain {name}");
        }
    }

    #[test]
    fn the_text_says_it_all() {
        let text = report().text();
        for part in [
            "produced  ",
            "9,000",
            "1,000",
            "acknowledged",
            "end to end",
            "open loop",
            "1.80 s",
            "200.000 s",
            "2 NOT_LEADER",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let error = report().verdict().unwrap_err().to_string();
        assert_eq!(error, "there were errors: 2 NOT_LEADER_OR_FOLLOWER");
    }

    #[test]
    fn progress_of_a_second() {
        let report = report();
        let text = progress(Kind::EndToEnd, 1, &report.measured.seconds[0]);
        for part in
            ["   1 s", "out     1,000 rec/s", "in     1,000 rec/s", "ack p50", "e2e p50", "(warm-up)", "errors 0"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn numbers_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (micros, text) in [(0, "-"), (7, "7 µs"), (1234, "1.23 ms"), (123_456, "123 ms"), (12_345_678, "12.35 s")]
        {
            assert_eq!(duration(micros), text);
        }
    }
}
