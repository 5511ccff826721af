//! What a consumer is told, under Kafka's names and with Kafka's defaults.

use std::time::Duration;

use ottla_record::DecompressionLimits;

use crate::offsets::StartAt;

/// Which records of transactions are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationLevel {
    /// All of them, in the order of their offsets.
    #[default]
    ReadUncommitted,
    /// Only those of transactions that were committed, and none behind the first one that is still open.
    ReadCommitted,
}

impl IsolationLevel {
    pub(crate) fn code(self) -> i8 {
        match self {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        }
    }
}

/// Where to read on when there is no position, or when it does not exist any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoOffsetReset {
    /// At the first record there is.
    Earliest,
    /// Behind the last one.
    #[default]
    Latest,
    /// Nowhere: it is an error.
    None,
    /// At the first record that is no older than this (KIP-1106), or behind the last one.
    ByDuration(Duration),
    /// At the first record that is not older than this point in time, in milliseconds, or behind the last one. Kafka's
    /// clients have no such policy.
    ByTimestamp(i64),
}

impl From<StartAt> for AutoOffsetReset {
    /// The policy that begins there; none for a place that only means something once.
    fn from(start: StartAt) -> AutoOffsetReset {
        match start {
            StartAt::Beginning => AutoOffsetReset::Earliest,
            StartAt::End => AutoOffsetReset::Latest,
            StartAt::Timestamp(timestamp) => AutoOffsetReset::ByTimestamp(timestamp),
            StartAt::Offset(_) | StartAt::BeforeEnd(_) => AutoOffsetReset::None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// `fetch.min.bytes`: how much a broker waits for before it answers.
    pub fetch_min_bytes: i32,
    /// `fetch.max.bytes`: the most bytes of an answer, unless its first batch alone has more. No further answer is asked
    /// for while that much waits to be handed out.
    pub fetch_max_bytes: i32,
    /// `fetch.max.wait.ms`: how long a broker waits for `fetch.min.bytes`.
    pub fetch_max_wait: Duration,
    /// `max.partition.fetch.bytes`: the most bytes of an answer for each partition, unless its first batch has more.
    pub max_partition_fetch_bytes: i32,
    /// `max.poll.records`: the most records handed out at once.
    pub max_poll_records: usize,
    /// `isolation.level`
    pub isolation_level: IsolationLevel,
    /// `auto.offset.reset`
    pub auto_offset_reset: AutoOffsetReset,
    /// `check.crcs`: whether batches are compared with their checksums.
    pub check_crcs: bool,
    /// `client.rack`: where this consumer is, so that it may read from a replica nearby (KIP-392).
    pub client_rack: String,
    /// How far a batch may grow when it is decompressed.
    pub decompression: DecompressionLimits,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        ConsumerSettings {
            fetch_min_bytes: 1,
            fetch_max_bytes: 50 << 20,
            fetch_max_wait: Duration::from_millis(500),
            max_partition_fetch_bytes: 1 << 20,
            max_poll_records: 500,
            isolation_level: IsolationLevel::default(),
            auto_offset_reset: AutoOffsetReset::default(),
            check_crcs: true,
            client_rack: String::new(),
            decompression: DecompressionLimits::default(),
        }
    }
}
