//! What a producer is told, under Kafka's names and with Kafka's defaults.

use std::sync::Arc;
use std::time::Duration;

use ottla_record::Compression;

use super::interceptor::ProducerInterceptor;
use crate::partitioner::Partitioner;
use crate::settings::ClientSettings;

/// The most batches of a partition under way that brokers keep in order for an idempotent producer.
const MAX_IN_FLIGHT_IDEMPOTENT: usize = 5;

/// Whose word a record is acknowledged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    None,
    Leader,
    All,
}

impl Acks {
    pub(crate) fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Settings that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerSettingsError {
    #[error(
        "delivery.timeout.ms ({delivery:?}) must be at least linger.ms ({linger:?}) and request.timeout.ms \
         ({request:?}) together"
    )]
    DeliveryTimeout { delivery: Duration, linger: Duration, request: Duration },
    #[error("max.in.flight.requests.per.connection must be at least 1")]
    NoneInFlight,
    #[error("buffer.memory must be at least 1")]
    NoMemory,
}

#[derive(Clone, Debug)]
pub struct ProducerSettings {
    /// `acks`
    pub acks: Acks,
    /// `enable.idempotence`: whether a batch is written once however often it is sent. Only with [`Acks::All`].
    pub enable_idempotence: bool,
    /// `compression.type` and its level
    pub compression: Compression,
    /// `batch.size`: the most bytes of records in a batch, before compression. A larger record is a batch of its own.
    pub batch_size: usize,
    /// `linger.ms`: how long a batch that is not full waits for more records.
    pub linger: Duration,
    /// `buffer.memory`: the most bytes accepted and not yet acknowledged.
    pub buffer_memory: usize,
    /// `max.block.ms`: how long a record waits for its topic to be found, and for room in the memory.
    pub max_block: Duration,
    /// `max.request.size`: the largest record, before compression.
    pub max_request_size: usize,
    /// `max.in.flight.requests.per.connection`: how many batches of a partition may be under way; no more than 5 of an
    /// idempotent producer's. Without idempotence and with more than one, a batch that is sent again may come behind a
    /// later one.
    pub max_in_flight_requests_per_connection: usize,
    /// `delivery.timeout.ms`: how long a record has from being handed over to its result, lingering included.
    pub delivery_timeout: Duration,
    /// Whether brokers may make topics that do not exist, which a record then waits for.
    pub allow_auto_create_topics: bool,
    /// `partitioner.class`: who chooses the partition of records that name none.
    pub partitioner: Option<Arc<dyn Partitioner>>,
    /// `partitioner.ignore.keys`: whether records with a key are spread like those without.
    pub partitioner_ignore_keys: bool,
    /// `partitioner.adaptive.partitioning.enable`: whether partitions that keep up get more of the records without key.
    pub partitioner_adaptive_partitioning_enable: bool,
    /// `partitioner.availability.timeout.ms`: how long a batch may wait to leave before its partition gets no more
    /// records without a key; 0 is for ever.
    pub partitioner_availability_timeout: Duration,
    /// `interceptor.classes`, called in this order.
    pub interceptors: Vec<Arc<dyn ProducerInterceptor>>,
}

impl Default for ProducerSettings {
    fn default() -> Self {
        ProducerSettings {
            acks: Acks::All,
            enable_idempotence: true,
            compression: Compression::NONE,
            batch_size: 16 << 10,
            linger: Duration::from_millis(5),
            buffer_memory: 32 << 20,
            max_block: Duration::from_secs(60),
            max_request_size: 1 << 20,
            max_in_flight_requests_per_connection: 5,
            delivery_timeout: Duration::from_secs(120),
            allow_auto_create_topics: true,
            partitioner: None,
            partitioner_ignore_keys: false,
            partitioner_adaptive_partitioning_enable: true,
            partitioner_availability_timeout: Duration::ZERO,
            interceptors: Vec::new(),
        }
    }
}

impl ProducerSettings {
    pub(super) fn check(&self, client: &ClientSettings) -> Result<(), ProducerSettingsError> {
        let (delivery, linger, request) = (self.delivery_timeout, self.linger, client.request_timeout);
        if delivery < linger.saturating_add(request) {
            return Err(ProducerSettingsError::DeliveryTimeout { delivery, linger, request });
        }
        if self.max_in_flight_requests_per_connection == 0 {
            return Err(ProducerSettingsError::NoneInFlight);
        }
        if self.buffer_memory == 0 {
            return Err(ProducerSettingsError::NoMemory);
        }
        Ok(())
    }

    pub(super) fn idempotent(&self) -> bool {
        self.enable_idempotence && self.acks == Acks::All
    }

    pub(super) fn window(&self) -> usize {
        let most = if self.idempotent() { MAX_IN_FLIGHT_IDEMPOTENT } else { usize::MAX };
        self.max_in_flight_requests_per_connection.clamp(1, most)
    }
}
