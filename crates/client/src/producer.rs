//! Records to partitions: batched, acknowledged one by one.
//!
//! A record is written into its partition's batch when it is handed over. Each partition has a task that sends batches
//! when they are full or have lingered; several may be under way, and order holds. What is accepted but not acknowledged
//! is bounded in bytes.

mod accumulator;
mod batch;
mod delivery;
mod partition_queue;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_record::{BatchBuilder, Compression, Header};
use ottla_types::TopicPartition;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::error::ClientError;
use crate::metadata::TopicDescription;
use crate::partitioner::partition_for_key;
use accumulator::{Accumulator, Content};
pub use delivery::{Delivery, PendingDelivery};
use partition_queue::PartitionQueue;

/// How old what is known of a topic may become: the default of Kafka's `metadata.max.age.ms`.
const METADATA_MAX_AGE: Duration = Duration::from_secs(300);
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

#[derive(Clone, Debug)]
pub struct ProducerSettings {
    pub acks: Acks,
    /// With [`Acks::All`]: whether a batch is written once however often it is sent.
    pub idempotence: bool,
    pub compression: Compression,
    /// The most bytes of records in a batch, before compression.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for more records.
    pub linger: Duration,
    /// The most bytes accepted and not yet acknowledged.
    pub buffer_bytes: usize,
    /// How many batches of a partition may be under way; no more than 5 of an idempotent producer's. Without idempotence
    /// and with more than one, a batch that is sent again may come behind a later one.
    pub max_in_flight: usize,
    /// How long a record is tried, once it has lingered.
    pub delivery_timeout: Duration,
}

impl Default for ProducerSettings {
    fn default() -> Self {
        ProducerSettings {
            acks: Acks::All,
            idempotence: true,
            compression: Compression::NONE,
            batch_bytes: 512 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes: 32 << 20,
            max_in_flight: 5,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

impl ProducerSettings {
    fn idempotent(&self) -> bool {
        self.idempotence && self.acks == Acks::All
    }

    fn window(&self) -> usize {
        let most = if self.idempotent() { MAX_IN_FLIGHT_IDEMPOTENT } else { usize::MAX };
        self.max_in_flight.clamp(1, most)
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

/// A record whose parts stay the caller's: they are copied into its batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    pub topic: &'a str,
    /// `None` lets the key decide, or the producer where there is none.
    pub partition: Option<i32>,
    /// Milliseconds; `None` is now.
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
}

/// Sends records. Dropping it gives up what is not acknowledged: [`Producer::flush`] before.
pub struct Producer {
    client: Client,
    settings: Arc<ProducerSettings>,
    memory: Arc<Semaphore>,
    memory_permits: u32,
    topics: Vec<Topic>,
    by_name: HashMap<Arc<str>, usize>,
    /// The topic of the last record, which is likely that of the next one.
    latest: usize,
    identities: Arc<Identities>,
}

/// What all queues share of the producer's identity: the first of them fetches it.
pub(crate) type Identities = tokio::sync::OnceCell<(i64, i16)>;

struct Topic {
    name: Arc<str>,
    /// In order.
    partitions: Vec<Partition>,
    /// Those it had once; what was accepted for them still gets its result.
    gone: Vec<Partition>,
    /// The topic as it was last described, by a task that asks from time to time.
    described: watch::Receiver<Arc<TopicDescription>>,
    refresher: JoinHandle<()>,
    /// Records without a key go to one partition for a batch's worth, then to the next.
    keyless: usize,
    keyless_bytes: usize,
}

struct Partition {
    partition: i32,
    /// `None` until the first record.
    queue: Option<(Arc<Accumulator>, JoinHandle<()>)>,
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
            topics: Vec::new(),
            by_name: HashMap::new(),
            latest: 0,
            identities: Arc::new(Identities::new()),
        }
    }

    /// Hands a record over, waiting for room; the result comes later. Fails at once if there is nowhere to send it.
    pub async fn send(&mut self, record: ProducerRecord) -> Result<PendingDelivery, ClientError> {
        let headers: Vec<Header<'_>> =
            record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let record = RecordRef {
            topic: &record.topic,
            partition: record.partition,
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        self.send_ref(&record).await
    }

    /// The same for a record whose parts are borrowed; they are copied once, into the batch.
    pub async fn send_ref(&mut self, record: &RecordRef<'_>) -> Result<PendingDelivery, ClientError> {
        if self.topics.get(self.latest).is_none_or(|latest| *latest.name != *record.topic) {
            self.latest = self.topic_index(record.topic).await?;
        }
        let timestamp = record.timestamp.unwrap_or_else(|| self.client.world().clock.wall_ms());
        let content = Content { timestamp, key: record.key, value: record.value, headers: record.headers };
        let size = BatchBuilder::record_size_upper_bound(content.key, content.value, content.headers);
        let permits = u32::try_from(size).ok().filter(|&permits| permits <= self.memory_permits);
        let too_large = || ClientError::RecordTooLarge { size, limit: self.memory_permits as usize };
        let permits = permits.ok_or_else(too_large)?;
        // Partition and memory first: what fails takes nothing.
        let position = self.position_of(record, size).await?;
        if let Ok(taken) = self.memory.try_acquire_many(permits) {
            taken.forget();
        } else {
            // Nothing fills a batch while there is no room: none goes on lingering.
            self.hurry();
            let taken = self.memory.acquire_many(permits).await;
            taken.map_err(|_| ClientError::ProducerClosed)?.forget();
        }
        let Producer { client, settings, memory, topics, latest, identities, .. } = self;
        let topic = topics.get_mut(*latest).ok_or(ClientError::ProducerClosed)?;
        let Partition { partition, queue } = &mut topic.partitions[position];
        let (accumulator, _) = queue.get_or_insert_with(|| {
            let accumulator =
                Arc::new(Accumulator::new(settings.compression, settings.batch_bytes, Arc::clone(memory)));
            let queue = PartitionQueue::new(
                client.clone(),
                Arc::clone(settings),
                TopicPartition::new(Arc::clone(&topic.name), *partition),
                Arc::clone(&accumulator),
                Arc::clone(identities),
            );
            (accumulator, tokio::spawn(queue.run()))
        });
        let (outcome, position) = accumulator.append(content, size)?;
        Ok(PendingDelivery { outcome, position, partition: *partition, timestamp })
    }

    /// Lets everything leave at once, and waits until every record has its result.
    pub async fn flush(&self) {
        self.hurry();
        // All memory is free when nothing is under way.
        let _ = self.memory.acquire_many(self.memory_permits).await;
    }

    async fn topic_index(&mut self, name: &str) -> Result<usize, ClientError> {
        if let Some(&index) = self.by_name.get(name) {
            return Ok(index);
        }
        let described = self.client.topic(name).await?;
        let keyless = ottla_rt::random_u64(&*self.client.world().entropy) as usize % described.partitions.len().max(1);
        let name: Arc<str> = Arc::from(name);
        self.by_name.insert(Arc::clone(&name), self.topics.len());
        self.topics.push(Topic::new(name, &self.client, &described, keyless));
        Ok(self.topics.len() - 1)
    }

    /// Where a record to the latest topic goes.
    async fn position_of(&mut self, record: &RecordRef<'_>, size: usize) -> Result<usize, ClientError> {
        let topic = self.topics.get_mut(self.latest).ok_or(ClientError::ProducerClosed)?;
        topic.follow();
        match topic.position_of(record, size, self.settings.batch_bytes) {
            // It may have been added since.
            Err(ClientError::UnknownPartition { .. }) => {
                let described = self.client.refresh_topic(record.topic, false).await?;
                topic.take(&described);
                topic.position_of(record, size, self.settings.batch_bytes)
            }
            position => position,
        }
    }

    fn hurry(&self) {
        for (accumulator, _) in self.queues() {
            accumulator.hurry();
        }
    }

    fn queues(&self) -> impl Iterator<Item = &(Arc<Accumulator>, JoinHandle<()>)> {
        self.topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().chain(&topic.gone))
            .filter_map(|partition| partition.queue.as_ref())
    }
}

impl Topic {
    fn new(name: Arc<str>, client: &Client, description: &Arc<TopicDescription>, keyless: usize) -> Topic {
        let (describe, described) = watch::channel(Arc::clone(description));
        let refresher = tokio::spawn(describe_again(client.clone(), Arc::clone(&name), describe));
        let mut topic =
            Topic { name, partitions: Vec::new(), gone: Vec::new(), described, refresher, keyless, keyless_bytes: 0 };
        topic.take(description);
        topic
    }

    /// Takes what the topic has become, if it changed.
    fn follow(&mut self) {
        // A task that ended has nothing to tell.
        if self.described.has_changed().unwrap_or(false) {
            let description = Arc::clone(&self.described.borrow_and_update());
            self.take(&description);
        }
    }

    fn take(&mut self, description: &TopicDescription) {
        if self.partitions.iter().map(|known| known.partition).eq(description.partitions.keys().copied()) {
            return;
        }
        let mut known: BTreeMap<i32, Partition> =
            self.partitions.drain(..).chain(self.gone.drain(..)).map(|known| (known.partition, known)).collect();
        let partition = |&partition| known.remove(&partition).unwrap_or(Partition { partition, queue: None });
        self.partitions = description.partitions.keys().map(partition).collect();
        self.gone = known.into_values().filter(|partition| partition.queue.is_some()).collect();
        self.keyless %= self.partitions.len().max(1);
    }

    /// Which of the partitions a record goes to.
    fn position_of(&mut self, record: &RecordRef<'_>, size: usize, batch_bytes: usize) -> Result<usize, ClientError> {
        let count = self.partitions.len();
        if count == 0 {
            return Err(ClientError::UnknownTopic { topic: self.name.to_string() });
        }
        if let Some(partition) = record.partition {
            return self
                .partitions
                .binary_search_by_key(&partition, |known| known.partition)
                .map_err(|_| ClientError::UnknownPartition { topic: self.name.to_string(), partition });
        }
        if let Some(key) = record.key {
            return Ok(partition_for_key(key, count));
        }
        self.keyless_bytes += size;
        if self.keyless_bytes > batch_bytes {
            (self.keyless, self.keyless_bytes) = ((self.keyless + 1) % count, size);
        }
        Ok(self.keyless)
    }
}

/// Describes a topic again and again, so that partitions that are added get records.
async fn describe_again(client: Client, name: Arc<str>, describe: watch::Sender<Arc<TopicDescription>>) {
    loop {
        tokio::time::sleep(METADATA_MAX_AGE).await;
        match client.refresh_topic(&name, false).await {
            Ok(described) => {
                describe.send_if_modified(|known| {
                    let changed = known.partitions.keys().ne(described.partitions.keys());
                    *known = described;
                    changed
                });
            }
            Err(error) => tracing::debug!(topic = &*name, %error, "the topic cannot be described again"),
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        for (_, task) in self.queues() {
            task.abort();
        }
        for topic in &self.topics {
            topic.refresher.abort();
        }
    }
}
