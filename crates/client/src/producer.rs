//! Records to partitions: batched, acknowledged one by one.
//!
//! Each partition has a task with one batch under way, so order holds and a repeated batch is recognised by its sequence
//! number; while it travels, the next one fills. What is accepted but not acknowledged is bounded in bytes.

mod partition_queue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_record::{BatchBuilder, Compression, Header};
use ottla_types::TopicPartition;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::error::ClientError;
use crate::metadata::TopicDescription;
use crate::partitioner::partition_for_key;
use partition_queue::{Pending, run};

/// Bytes a record is counted with besides its own.
const RECORD_OVERHEAD: usize = 64;

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

#[derive(Clone, Debug)]
pub struct ProducerSettings {
    /// With [`Acks::All`] the producer is idempotent: a batch is written once however often it is sent.
    pub acks: Acks,
    pub compression: Compression,
    /// The most bytes of records in a batch, before compression.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for more records.
    pub linger: Duration,
    /// The most bytes accepted and not yet acknowledged.
    pub buffer_bytes: usize,
    /// How long a record is tried.
    pub delivery_timeout: Duration,
}

impl Default for ProducerSettings {
    fn default() -> Self {
        ProducerSettings {
            acks: Acks::All,
            compression: Compression::NONE,
            batch_bytes: 512 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes: 32 << 20,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    pub topic: String,
    /// `None` lets the key decide, or the producer where there is none.
    pub partition: Option<i32>,
    /// Milliseconds; `None` is now.
    pub timestamp: Option<i64>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub partition: i32,
    /// Unknown without acknowledgement, and for a batch that the broker had from an earlier attempt long ago.
    pub offset: Option<i64>,
    pub timestamp: i64,
}

/// A result to come; see [`Producer::send`].
pub type PendingDelivery = oneshot::Receiver<Result<Delivery, ClientError>>;

/// Sends records. Dropping it gives up what is not acknowledged: [`Producer::flush`] before.
pub struct Producer {
    client: Client,
    settings: Arc<ProducerSettings>,
    memory: Arc<Semaphore>,
    memory_permits: u32,
    queues: HashMap<TopicPartition, (mpsc::UnboundedSender<Pending>, JoinHandle<()>)>,
    topics: HashMap<String, Keyless>,
    identity: Arc<Identities>,
}

/// What all queues share of the producer's identity: the first of them fetches it.
pub(crate) type Identities = tokio::sync::OnceCell<(i64, i16)>;

/// Where records without a key go: to one partition for a batch's worth, then to the next.
struct Keyless {
    described: Arc<TopicDescription>,
    position: usize,
    bytes: usize,
}

impl Producer {
    pub fn new(client: Client, settings: ProducerSettings) -> Producer {
        let memory_permits =
            u32::try_from(settings.buffer_bytes).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        Producer {
            client,
            settings: Arc::new(settings),
            memory: Arc::new(Semaphore::new(memory_permits as usize)),
            memory_permits,
            queues: HashMap::new(),
            topics: HashMap::new(),
            identity: Arc::new(Identities::new()),
        }
    }

    /// Hands a record over, waiting for room; the result comes later. Fails at once if there is nowhere to send it.
    pub async fn send(&mut self, record: ProducerRecord) -> Result<PendingDelivery, ClientError> {
        let partition = self.partition_of(&record).await?;
        let headers: Vec<Header<'_>> =
            record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let size = RECORD_OVERHEAD
            + BatchBuilder::record_size_upper_bound(record.key.as_deref(), record.value.as_deref(), &headers);
        let permits = u32::try_from(size).ok().filter(|&permits| permits <= self.memory_permits);
        let too_large = || ClientError::RecordTooLarge { size, limit: self.memory_permits as usize };
        let permits = permits.ok_or_else(too_large)?;
        let memory = Arc::clone(&self.memory).acquire_many_owned(permits).await;
        let memory = memory.map_err(|_| ClientError::ProducerClosed)?;
        let timestamp = record.timestamp.unwrap_or_else(|| self.client.world().clock.wall_ms());
        let (delivered, result) = oneshot::channel();
        let topic_partition = TopicPartition::new(record.topic.as_str(), partition);
        let pending = Pending {
            timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers,
            size,
            accepted: tokio::time::Instant::now(),
            delivered,
            _memory: memory,
        };
        let (queue, _) = self.queues.entry(topic_partition.clone()).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let task = run(
                self.client.clone(),
                Arc::clone(&self.settings),
                topic_partition,
                Arc::clone(&self.identity),
                receiver,
            );
            (sender, tokio::spawn(task))
        });
        queue.send(pending).map_err(|_| ClientError::ProducerClosed)?;
        Ok(result)
    }

    /// Waits until every record has its result.
    pub async fn flush(&self) {
        // All memory is free when nothing is under way.
        let _ = self.memory.acquire_many(self.memory_permits).await;
    }

    async fn partition_of(&mut self, record: &ProducerRecord) -> Result<i32, ClientError> {
        let topic = record.topic.as_str();
        if !self.topics.contains_key(topic) {
            let described = self.client.topic(topic).await?;
            let position = ottla_rt::random_u64(&*self.client.world().entropy) as usize % described.partitions.len();
            self.topics.insert(topic.to_owned(), Keyless { described, position, bytes: 0 });
        }
        let Some(keyless) = self.topics.get_mut(topic) else {
            return Err(ClientError::UnknownTopic { topic: topic.to_owned() });
        };
        let partitions = &keyless.described.partitions;
        if let Some(partition) = record.partition {
            return match partitions.get(&partition) {
                Some(_) => Ok(partition),
                None => Err(ClientError::UnknownPartition { topic: topic.to_owned(), partition }),
            };
        }
        let position = if let Some(key) = &record.key {
            partition_for_key(key, partitions.len())
        } else {
            keyless.bytes += record.value.as_ref().map_or(0, Bytes::len) + RECORD_OVERHEAD;
            if keyless.bytes > self.settings.batch_bytes {
                (keyless.position, keyless.bytes) = ((keyless.position + 1) % partitions.len(), 0);
            }
            keyless.position
        };
        let partition = partitions.keys().nth(position);
        partition.copied().ok_or_else(|| ClientError::UnknownTopic { topic: topic.to_owned() })
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        for (_, task) in self.queues.values() {
            task.abort();
        }
    }
}
