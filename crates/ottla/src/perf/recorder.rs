//! What producers and consumers count while they work, and what becomes of it second by second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ottla_client::{ClientError, ConnectionError};
use parking_lot::Mutex;

/// The longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(3600);
/// Latencies are kept to a thousandth.
const DIGITS: u8 = 3;

/// Records and their bytes: keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    pub records: u64,
    pub bytes: u64,
}

impl Volume {
    pub fn add(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
    }
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Option<Histogram<u64>>);

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        let histogram = self.0.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, DIGITS)
                .expect("invariant: the bounds are in order")
        });
        histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub fn add(&mut self, other: &Latencies) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (Some(ours), Some(theirs)) => ours.add(theirs).expect("invariant: all histograms have the same bounds"),
            (ours @ None, Some(theirs)) => *ours = Some(theirs.clone()),
        }
    }

    /// `None` if there are none.
    pub fn histogram(&self) -> Option<&Histogram<u64>> {
        self.0.as_ref().filter(|histogram| !histogram.is_empty())
    }

    /// In microseconds; 0 if there are none.
    pub fn percentile(&self, percentile: f64) -> u64 {
        self.histogram().map_or(0, |histogram| histogram.value_at_quantile(percentile / 100.0))
    }

    pub fn max(&self) -> u64 {
        self.histogram().map_or(0, Histogram::max)
    }
}

/// What happened in some time.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub produced: Volume,
    pub consumed: Volume,
    pub acknowledged: Latencies,
    pub end_to_end: Latencies,
    /// By kind.
    pub errors: BTreeMap<String, u64>,
    /// Records handed over and not yet settled, at its end.
    pub in_flight: u64,
    /// When the last record was acknowledged or received.
    pub latest: Option<Instant>,
}

impl Sample {
    pub fn add(&mut self, other: &Sample) {
        self.produced.add(other.produced.records, other.produced.bytes);
        self.consumed.add(other.consumed.records, other.consumed.bytes);
        self.acknowledged.add(&other.acknowledged);
        self.end_to_end.add(&other.end_to_end);
        self.in_flight += other.in_flight;
        self.latest = self.latest.max(other.latest);
        self.add_errors(other);
    }

    pub fn add_errors(&mut self, other: &Sample) {
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }

    pub fn fail(&mut self, error: &ClientError, count: u64) {
        *self.errors.entry(kind_of(error)).or_default() += count;
    }

    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Where one worker counts, and others look.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Sample>);

impl Recorder {
    pub fn count<T>(&self, change: impl FnOnce(&mut Sample) -> T) -> T {
        change(&mut self.0.lock())
    }

    /// What was counted since the last time.
    pub fn take(&self) -> Sample {
        let mut sample = self.0.lock();
        let in_flight = sample.in_flight;
        std::mem::replace(&mut sample, Sample { in_flight, ..Sample::default() })
    }
}

/// A short name for what went wrong: Kafka's code where a broker gave one.
fn kind_of(error: &ClientError) -> String {
    if let Some(code) = error.code() {
        return code.name().to_owned();
    }
    let connection = match error {
        ClientError::Connection(connection) => connection,
        ClientError::Unreachable { source, .. } => source,
        ClientError::NoLeader { .. } => return "NO_LEADER".to_owned(),
        ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. } => {
            return "UNKNOWN_TOPIC_OR_PARTITION".to_owned();
        }
        ClientError::OffsetOutOfRange { .. } => return "OFFSET_OUT_OF_RANGE".to_owned(),
        ClientError::Records { .. } => return "CORRUPT_RECORDS".to_owned(),
        ClientError::ProducerClosed | ClientError::DeliveryTimedOut { last: None, .. } => {
            return "NOT_ACKNOWLEDGED".to_owned();
        }
        // What it waited for is why.
        ClientError::DeliveryTimedOut { last: Some(last), .. } => return kind_of(last),
        _ => return "OTHER".to_owned(),
    };
    let kind = match connection {
        ConnectionError::Connect { .. } => "CONNECT_FAILED",
        ConnectionError::TimedOut { .. } => "TIMED_OUT",
        ConnectionError::Lost { .. } => "CONNECTION_LOST",
        ConnectionError::Malformed { .. } => "MALFORMED_ANSWER",
        ConnectionError::NoCommonVersion { .. } => "UNSUPPORTED_VERSION",
        ConnectionError::Encode { .. }
        | ConnectionError::Negotiation { .. }
        | ConnectionError::Authentication { .. } => "OTHER",
    };
    kind.to_owned()
}

#[cfg(test)]
mod tests {
    use ottla_protocol::ApiKey;
    use ottla_types::ErrorCode;

    use super::*;

    #[test]
    fn a_second_is_taken_once_and_adds_up() {
        let recorder = Recorder::default();
        let mut total = Sample::default();
        for second in 1..=2u64 {
            recorder.count(|sample| {
                sample.produced.add(10, 1000);
                sample.in_flight = second;
                sample.acknowledged.record(Duration::from_millis(second));
                let error =
                    ClientError::Broker { api: ApiKey::Produce, code: ErrorCode::NotLeaderOrFollower, message: None };
                sample.fail(&error, 2);
                sample.fail(&ClientError::ProducerClosed, 1);
            });
            total.add(&recorder.take());
        }
        let rest = recorder.take();
        assert_eq!((rest.produced, rest.error_count(), rest.in_flight), (Volume::default(), 0, 2));
        assert_eq!(total.produced, Volume { records: 20, bytes: 2000 });
        assert_eq!(total.errors["NOT_LEADER_OR_FOLLOWER"], 4);
        assert_eq!(total.errors["NOT_ACKNOWLEDGED"], 2);
        assert_eq!(total.acknowledged.histogram().map(Histogram::len), Some(2));
        assert!((1000..=1001).contains(&total.acknowledged.percentile(50.0)));
        assert!((2000..=2001).contains(&total.acknowledged.max()));
        assert_eq!(total.end_to_end.max(), 0);
    }

    #[test]
    fn latencies_beyond_the_bounds_are_kept_as_the_bounds() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(100_000));
        assert_eq!(latencies.histogram().unwrap().min(), 1);
        assert!(latencies.max() >= LONGEST.as_micros() as u64);
    }
}
