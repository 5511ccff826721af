//! What was counted up to a moment, as plain data.

use std::collections::BTreeMap;

use ottla_protocol::ApiKey;
use ottla_types::ErrorCode;

use super::histogram::{BUCKETS, Histogram, upper_bound};

/// Everything a node has counted.
#[derive(Clone, Debug, Default)]
pub struct MetricsSnapshot {
    /// Connections being served now.
    pub connections: usize,
    pub handler_panics: u64,
    pub failed_appends: u64,
    /// APIs that were used at least once.
    pub apis: BTreeMap<ApiKey, ApiSnapshot>,
    /// By the listener's name.
    pub listeners: BTreeMap<String, ListenerSnapshot>,
    /// All topics together, those that are gone included.
    pub all_topics: TopicSnapshot,
    /// Topics this node has now.
    pub topics: BTreeMap<String, TopicSnapshot>,
    /// Partitions of produce requests that wait for their records to be committed.
    pub waiting_produces: usize,
    /// Fetch requests that wait for records.
    pub waiting_fetches: usize,
    /// `kafka.log:type=LogFlushStats,name=LogFlushRateAndTimeMs`: rounds of flushes, each for all partitions of a
    /// directory that needed one.
    pub log_flush_micros: HistogramSnapshot,
    /// What the scrubber has verified, and what is due. Kafka has none.
    pub scrub: ottla_log::ScrubStatus,
}

/// One API: `kafka.network:type=RequestMetrics,request=<name>`. Kafka counts every fetch a second time, as
/// `FetchConsumer` or `FetchFollower`. Times are in microseconds here, where Kafka has milliseconds.
#[derive(Clone, Debug, Default)]
pub struct ApiSnapshot {
    /// `RequestsPerSec`, by version.
    pub requests: BTreeMap<i16, u64>,
    /// `ErrorsPerSec`, by the error's number; 0 is `NONE`.
    pub errors: BTreeMap<i16, u64>,
    /// `RequestBytes`
    pub request_bytes: HistogramSnapshot,
    /// What was answered; Kafka does not count it by API.
    pub response_bytes: HistogramSnapshot,
    /// `TotalTimeMs`
    pub total_micros: HistogramSnapshot,
    /// `RequestQueueTimeMs`: the whole request is there, and those before it on its connection hold it up.
    pub queue_micros: HistogramSnapshot,
    /// `LocalTimeMs`: until the handler first waits, or ends.
    pub local_micros: HistogramSnapshot,
    /// `RemoteTimeMs`: the handler waits, for a flush or for records.
    pub remote_micros: HistogramSnapshot,
    /// `ResponseQueueTimeMs`: answers to earlier requests go first.
    pub response_queue_micros: HistogramSnapshot,
    /// `ResponseSendTimeMs`: until the socket has taken all of it.
    pub send_micros: HistogramSnapshot,
}

impl ApiSnapshot {
    /// Requests of all versions.
    pub fn count(&self) -> u64 {
        self.requests.values().sum()
    }

    /// How often responses carried this error.
    pub fn errors(&self, code: ErrorCode) -> u64 {
        self.errors.get(&code.code()).copied().unwrap_or(0)
    }
}

/// One listener: the sensors Kafka tags with `listener` and, there, `networkProcessor`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerSnapshot {
    /// `connection-count`
    pub connections: usize,
    /// `connection-creation-total`, which `connection-accept-rate` is the rate of.
    pub created: u64,
    /// `connection-close-total`
    pub closed: u64,
    /// Of these: idle for too long (`expired-connections-killed-count`).
    pub expired: u64,
    /// Of these: closed for what the client sent.
    pub rejected: u64,
    /// Closed before anything was read: too many connections from one address.
    pub refused: u64,
    /// How long accepting waited for the rate of new connections, in microseconds (`connection-accept-throttle-time`).
    pub throttled_micros: u64,
    /// `incoming-byte-total`
    pub bytes_in: u64,
    /// `outgoing-byte-total`
    pub bytes_out: u64,
}

/// One topic, or all: `kafka.server:type=BrokerTopicMetrics`. Each is the count behind Kafka's rate of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSnapshot {
    /// `MessagesInPerSec`
    pub messages_in: u64,
    /// `BytesInPerSec`
    pub bytes_in: u64,
    /// `BytesOutPerSec`
    pub bytes_out: u64,
    /// `BytesRejectedPerSec`: batches that are too large.
    pub bytes_rejected: u64,
    /// `TotalProduceRequestsPerSec`: each partition of a request counts.
    pub total_produce_requests: u64,
    /// `FailedProduceRequestsPerSec`
    pub failed_produce_requests: u64,
    /// `TotalFetchRequestsPerSec`: each partition of a request counts.
    pub total_fetch_requests: u64,
    /// `FailedFetchRequestsPerSec`
    pub failed_fetch_requests: u64,
    /// `ProduceMessageConversionsPerSec`: records that were compressed anew.
    pub produce_message_conversions: u64,
    /// `NoKeyCompactedTopicRecordsPerSec`
    pub no_key_compacted_topic_records: u64,
    /// `InvalidMagicNumberRecordsPerSec`
    pub invalid_magic_number_records: u64,
    /// `InvalidMessageCrcRecordsPerSec`
    pub invalid_message_crc_records: u64,
    /// `InvalidOffsetOrSequenceRecordsPerSec`
    pub invalid_offset_or_sequence_records: u64,
}

/// A distribution of whole numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    count: u64,
    sum: u64,
    /// The greatest value of each bucket that is not empty, ascending, and how many values it has.
    buckets: Vec<(u64, u64)>,
}

impl HistogramSnapshot {
    pub(super) fn of<'a>(parts: impl IntoIterator<Item = &'a Histogram>) -> HistogramSnapshot {
        let mut counts = [0; BUCKETS];
        let mut sum = 0_u64;
        for part in parts {
            sum = sum.wrapping_add(part.sum());
            for (total, count) in counts.iter_mut().zip(part.counts()) {
                *total += count;
            }
        }
        let filled = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let buckets: Vec<_> = filled.map(|(bucket, count)| (upper_bound(bucket), *count)).collect();
        HistogramSnapshot { count: counts.iter().sum(), sum, buckets }
    }

    /// Adds the zeros that were not recorded one by one, up to this many values.
    pub(super) fn filled_to(mut self, count: u64) -> HistogramSnapshot {
        let zeros = count.saturating_sub(self.count);
        if zeros > 0 {
            match self.buckets.first_mut() {
                Some((0, present)) => *present += zeros,
                _ => self.buckets.insert(0, (0, zeros)),
            }
            self.count += zeros;
        }
        self
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The value that this share of all values does not exceed, to an eighth of it; 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (upper, count) in &self.buckets {
            seen += count;
            if seen >= wanted {
                return *upper;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_an_eighth() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value));
        let snapshot = HistogramSnapshot::of([&histogram]);
        assert_eq!((snapshot.count(), snapshot.sum()), (1000, 500_500));
        for (share, exact) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            let found = snapshot.quantile(share);
            assert!(found >= exact && found - exact <= exact / 8, "{share}: {found}");
        }
        assert_eq!(HistogramSnapshot::default().quantile(0.5), 0);
    }

    #[test]
    fn zeros_need_no_recording() {
        let histogram = Histogram::default();
        histogram.record(7);
        let snapshot = HistogramSnapshot::of([&histogram]).filled_to(4);
        assert_eq!((snapshot.count(), snapshot.quantile(0.5), snapshot.quantile(1.0)), (4, 0, 7));
        assert_eq!(snapshot.clone().filled_to(2), snapshot);
    }
}
