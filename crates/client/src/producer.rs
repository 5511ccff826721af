//! Records to partitions: batched, acknowledged one by one.
//!
//! A record is written into its partition's batch when it is handed over. Each partition has a task that sends batches
//! when they are full or have lingered; several may be under way, and order holds. What is accepted but not acknowledged
//! is bounded in bytes, and whoever hands over more waits for room, but not for ever.
//!
//! Every record that was accepted gets exactly one result, however the producer, its tasks or its runtime end.

mod accumulator;
mod batch;
mod delivery;
mod identity;
mod incomplete;
mod interceptor;
mod partition_queue;
mod settings;
mod topic;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_record::{BatchBuilder, Header};
use ottla_types::TopicPartition;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, TryAcquireError};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::ClientError;
use accumulator::{Accumulator, Common, Content};
pub use delivery::{Delivery, PendingDelivery};
use identity::Identities;
use incomplete::Incomplete;
pub use interceptor::ProducerInterceptor;
use interceptor::{Interceptors, on_acknowledgement, on_send};
use partition_queue::PartitionQueue;
pub use settings::{Acks, ProducerSettings, ProducerSettingsError};
use topic::{Queue, Topic};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    pub topic: String,
    /// `None` lets the partitioner decide, or else the key, or the producer where there is none.
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
    /// `None` lets the partitioner decide, or else the key, or the producer where there is none.
    pub partition: Option<i32>,
    /// Milliseconds; `None` is now.
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
}

impl RecordRef<'_> {
    fn to_record(self) -> ProducerRecord {
        let copied = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        let header = |header: &Header<'_>| (Bytes::copy_from_slice(header.key), copied(header.value));
        ProducerRecord {
            topic: self.topic.to_owned(),
            partition: self.partition,
            timestamp: self.timestamp,
            key: copied(self.key),
            value: copied(self.value),
            headers: self.headers.iter().map(header).collect(),
        }
    }
}

/// Sends records. Cheap to clone; clones are one producer. When the last one is dropped, what is not acknowledged is
/// given up: [`Producer::flush`] or [`Producer::close`] before.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    settings: Arc<ProducerSettings>,
    common: Common,
    memory_permits: u32,
    identities: Arc<Identities>,
    topics: Mutex<Topics>,
}

#[derive(Default)]
struct Topics {
    all: Vec<Topic>,
    by_name: HashMap<Arc<str>, usize>,
    /// The topic of the last record, which is likely that of the next one.
    latest: usize,
    closed: bool,
}

/// A record on its way into a batch, and what is known of it.
struct HandingOver<'a> {
    record: &'a RecordRef<'a>,
    timestamp: i64,
    size: usize,
    permits: u32,
}

/// What a record waits for.
enum Missing {
    Topic,
    Partition(i32),
    Memory,
}

impl Producer {
    /// Connects to nothing yet.
    pub fn new(client: Client, settings: ProducerSettings) -> Result<Producer, ProducerSettingsError> {
        settings.check(client.settings())?;
        let memory_permits =
            u32::try_from(settings.buffer_memory).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        let common = Common {
            memory: Arc::new(Semaphore::new(memory_permits as usize)),
            incomplete: Arc::<Incomplete>::default(),
            interceptors: Interceptors::from(settings.interceptors.clone()),
        };
        let shared = Shared {
            client,
            settings: Arc::new(settings),
            common,
            memory_permits,
            identities: Arc::default(),
            topics: Mutex::default(),
        };
        Ok(Producer { shared: Arc::new(shared) })
    }

    pub fn settings(&self) -> &ProducerSettings {
        &self.shared.settings
    }

    /// Hands a record over, waiting for its topic and for room, up to `max.block.ms`; the result comes later.
    /// Nothing is sent if the future is dropped before it ends.
    pub async fn send(&self, record: ProducerRecord) -> Result<PendingDelivery, ClientError> {
        let interceptors = &self.shared.common.interceptors;
        if interceptors.is_empty() {
            return self.shared.hand_over_owned(&record).await;
        }
        let record = on_send(interceptors, record);
        let handed_over = self.shared.hand_over_owned(&record).await;
        if let Err(error) = &handed_over {
            on_acknowledgement(interceptors, &record.topic, record.partition, &Err(error.clone()));
        }
        handed_over
    }

    /// The same for a record whose parts are borrowed; they are copied once, into the batch.
    pub async fn send_ref(&self, record: &RecordRef<'_>) -> Result<PendingDelivery, ClientError> {
        if self.shared.common.interceptors.is_empty() {
            return self.shared.hand_over(record).await;
        }
        self.send(record.to_record()).await
    }

    /// Lets everything leave at once, and waits until every record handed over so far has its result.
    pub async fn flush(&self) {
        self.shared.hurry();
        self.shared.common.incomplete.settled().await;
    }

    /// Takes no more records, lets everything leave, and waits this long for results; what has none then is given up,
    /// which is its result. Afterwards nothing of the producer runs any more.
    pub async fn close(&self, timeout: Duration) -> Result<(), ClientError> {
        let queues: Vec<Queue> = {
            let mut topics = self.shared.topics.lock();
            topics.closed = true;
            // Who waits for room will not get it.
            self.shared.common.memory.close();
            topics.all.iter_mut().flat_map(Topic::take_queues).collect()
        };
        for queue in &queues {
            queue.accumulator.hurry();
        }
        let settled = tokio::time::timeout(timeout, self.shared.common.incomplete.settled()).await;
        for queue in queues {
            queue.end().await;
        }
        settled.map_err(|_| ClientError::CloseTimedOut { timeout })
    }
}

impl Shared {
    async fn hand_over_owned(&self, record: &ProducerRecord) -> Result<PendingDelivery, ClientError> {
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
        self.hand_over(&record).await
    }

    async fn hand_over(&self, record: &RecordRef<'_>) -> Result<PendingDelivery, ClientError> {
        let timestamp = record.timestamp.unwrap_or_else(|| self.client.world().clock.wall_ms());
        let size = BatchBuilder::record_size_upper_bound(record.key, record.value, record.headers);
        let memory = ("buffer.memory", self.memory_permits as usize);
        for (setting, limit) in [("max.request.size", self.settings.max_request_size), memory] {
            if size > limit {
                return Err(ClientError::RecordTooLarge { size, limit, setting });
            }
        }
        // It is no more than all permits.
        let permits = size as u32;
        let handing_over = HandingOver { record, timestamp, size, permits };
        match self.try_hand_over(&handing_over, false)? {
            Ok(pending) => Ok(pending),
            Err(missing) => self.wait_and_hand_over(&handing_over, missing).await,
        }
    }

    /// Gets what is missing, one thing after the other, until the record can be handed over.
    async fn wait_and_hand_over(
        &self,
        handing_over: &HandingOver<'_>,
        mut missing: Missing,
    ) -> Result<PendingDelivery, ClientError> {
        let topic = handing_over.record.topic;
        let deadline = Instant::now() + self.settings.max_block;
        let mut room = None;
        let mut looked_again = false;
        loop {
            match missing {
                Missing::Topic => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let create = self.settings.allow_auto_create_topics;
                    let described = tokio::time::timeout_at(deadline, self.client.topic_within(topic, create, left));
                    let too_late =
                        |_| ClientError::MetadataTimedOut { topic: topic.to_owned(), timeout: self.settings.max_block };
                    let described = described.await.map_err(too_late)??;
                    self.topics.lock().add(topic, |name| Topic::new(name, described));
                }
                Missing::Partition(partition) if looked_again => {
                    return Err(ClientError::UnknownPartition { topic: topic.to_owned(), partition });
                }
                // It may have been added since.
                Missing::Partition(_) => {
                    looked_again = true;
                    let refreshed = tokio::time::timeout_at(deadline, self.client.refresh_topic(topic, false));
                    let too_late =
                        |_| ClientError::MetadataTimedOut { topic: topic.to_owned(), timeout: self.settings.max_block };
                    refreshed.await.map_err(too_late)??;
                }
                Missing::Memory => {
                    // Nothing fills a batch while there is no room: none goes on lingering.
                    self.hurry();
                    let taken =
                        tokio::time::timeout_at(deadline, self.common.memory.acquire_many(handing_over.permits));
                    let exhausted = |_| ClientError::BufferExhausted {
                        size: handing_over.size,
                        limit: self.memory_permits as usize,
                        timeout: self.settings.max_block,
                    };
                    room = Some(taken.await.map_err(exhausted)?.map_err(|_| ClientError::ProducerClosed)?);
                }
            }
            match self.try_hand_over(handing_over, room.is_some())? {
                Ok(pending) => {
                    if let Some(room) = room {
                        // It is the batch's now.
                        room.forget();
                    }
                    return Ok(pending);
                }
                Err(next) => missing = next,
            }
        }
    }

    /// Writes the record into its batch if nothing is missing for that. What fails takes nothing.
    fn try_hand_over(
        &self,
        handing_over: &HandingOver<'_>,
        has_room: bool,
    ) -> Result<Result<PendingDelivery, Missing>, ClientError> {
        let HandingOver { record, timestamp, size, permits } = *handing_over;
        let mut topics = self.topics.lock();
        if topics.closed {
            return Err(ClientError::ProducerClosed);
        }
        let Some(topic) = topics.find(record.topic) else { return Ok(Err(Missing::Topic)) };
        topic.follow(&self.client);
        let random = || ottla_rt::random_u64(&*self.client.world().entropy);
        let position = match topic.place(record, size, &self.settings, random) {
            Ok(position) => position,
            Err(partition) => return Ok(Err(Missing::Partition(partition))),
        };
        if !has_room {
            match self.common.memory.try_acquire_many(permits) {
                Ok(taken) => taken.forget(),
                Err(TryAcquireError::NoPermits) => return Ok(Err(Missing::Memory)),
                Err(TryAcquireError::Closed) => return Err(ClientError::ProducerClosed),
            }
        }
        let content = Content { timestamp, key: record.key, value: record.value, headers: record.headers };
        let (partition, accumulator) = topic.accumulator(position, |partition| self.begin_queue(partition));
        let appended = accumulator.append(content, size);
        if appended.is_ok() {
            topic.took(position, size);
        }
        let (outcome, position) = appended?;
        Ok(Ok(PendingDelivery { outcome, position, partition, timestamp }))
    }

    fn begin_queue(&self, partition: TopicPartition) -> Queue {
        let Shared { client, settings, common, identities, .. } = self;
        let accumulator =
            Accumulator::new(partition.clone(), settings.compression, settings.batch_size, common.clone());
        let accumulator = Arc::new(accumulator);
        let queue = PartitionQueue::new(
            client.clone(),
            Arc::clone(settings),
            partition,
            Arc::clone(&accumulator),
            Arc::clone(identities),
        );
        Queue::new(accumulator, tokio::spawn(queue.run()))
    }

    fn hurry(&self) {
        for topic in &self.topics.lock().all {
            topic.hurry();
        }
    }
}

impl Topics {
    fn find(&mut self, name: &str) -> Option<&mut Topic> {
        if self.all.get(self.latest).is_none_or(|latest| *latest.name() != *name) {
            self.latest = *self.by_name.get(name)?;
        }
        self.all.get_mut(self.latest)
    }

    /// Adds a topic, unless somebody did meanwhile.
    fn add(&mut self, name: &str, make: impl FnOnce(Arc<str>) -> Topic) {
        if !self.by_name.contains_key(name) {
            let name: Arc<str> = Arc::from(name);
            self.by_name.insert(Arc::clone(&name), self.all.len());
            self.all.push(make(name));
        }
    }
}
