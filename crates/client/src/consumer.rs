//! Reading partitions from where one says, on and on.
//!
//! One fetch per broker is under way while the records of the one before are handed out, so memory holds two answers of
//! a broker and one decompressed batch.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use ottla_protocol::{ApiKey, FetchedRecords, StrBytes};
use ottla_record::DecompressionLimits;
use ottla_types::{ErrorCode, TopicId, TopicPartition};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Client, Lane};
use crate::error::{ClientError, check, failure};
use crate::offsets::StartAt;
use crate::record_decoder::{ConsumedBatch, ConsumedRecord, FetchedBatches};
use crate::retry::Retry;
use crate::topics::Leader;

/// From this version on a fetch names topics by id only.
pub(crate) const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// The most bytes of an answer, unless its first batch alone has more.
    pub fetch_bytes: i32,
    /// The same for each partition.
    pub partition_fetch_bytes: i32,
    /// How long a broker may wait for the first record.
    pub fetch_wait: Duration,
    /// Where to go on when the position does not exist any more; `None` makes that an error.
    pub reset: Option<StartAt>,
    /// How far a batch may grow when it is decompressed.
    pub decompression: DecompressionLimits,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        ConsumerSettings {
            fetch_bytes: 16 << 20,
            partition_fetch_bytes: 4 << 20,
            fetch_wait: Duration::from_millis(500),
            reset: None,
            decompression: DecompressionLimits::default(),
        }
    }
}

/// Reads the partitions it is given.
pub struct Consumer {
    client: Client,
    settings: ConsumerSettings,
    positions: BTreeMap<TopicPartition, Position>,
    /// Counts assignments: what was asked for an earlier one is not wanted any more.
    assignment: u64,
    fetches: JoinSet<Fetched>,
    /// Brokers with a fetch under way.
    asked: HashSet<i32>,
    /// How many brokers led the partitions when that was last looked at.
    leaders: usize,
    fetched: VecDeque<FetchedBatches>,
    /// What is left of the records of `decoded`.
    ready: VecDeque<ConsumedRecord>,
    decoded: Option<ConsumedBatch>,
    /// Set while things go wrong.
    retry: Option<Retry>,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    /// The next offset to ask for.
    fetch: i64,
    /// The offset after the last record handed out.
    consumed: i64,
}

/// What a broker answered, and to what.
struct Fetched {
    node_id: i32,
    assignment: u64,
    asked: Vec<(TopicPartition, TopicId, i64)>,
    answer: Result<FetchResponse, ClientError>,
}

impl Consumer {
    /// A consumer of nothing yet.
    pub fn new(client: Client, settings: ConsumerSettings) -> Consumer {
        Consumer {
            client,
            settings,
            positions: BTreeMap::new(),
            assignment: 0,
            fetches: JoinSet::new(),
            asked: HashSet::new(),
            leaders: 0,
            fetched: VecDeque::new(),
            ready: VecDeque::new(),
            decoded: None,
            retry: None,
        }
    }

    /// Reads these partitions, each from its offset, and no others.
    pub fn assign(&mut self, offsets: &BTreeMap<TopicPartition, i64>) {
        let position = |&offset: &i64| Position { fetch: offset, consumed: offset };
        self.positions = offsets.iter().map(|(partition, offset)| (partition.clone(), position(offset))).collect();
        self.assignment += 1;
        self.fetches.abort_all();
        self.fetches = JoinSet::new();
        self.asked.clear();
        self.fetched.clear();
        self.ready.clear();
        self.decoded = None;
    }

    /// Of each partition the offset after what was handed out.
    pub fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        self.positions.iter().map(|(partition, position)| (partition.clone(), position.consumed)).collect()
    }

    /// The next records, at most so many; none if there are none within `wait`. Nothing is lost if the future is
    /// dropped.
    pub async fn poll(&mut self, max_records: usize, wait: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            let records = self.take_ready(max_records)?;
            if !records.is_empty() {
                self.fetch_ahead().await;
                return Ok(records);
            }
            if !self.wait_for_more(deadline).await? {
                return Ok(Vec::new());
            }
        }
    }

    /// The next batch as a whole, without copying its records: `None` if there is none within `wait`. Nothing is lost if
    /// the future is dropped.
    pub async fn poll_batch(&mut self, wait: Duration) -> Result<Option<ConsumedBatch>, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(batch) = self.take_batch()? {
                self.fetch_ahead().await;
                return Ok(Some(batch));
            }
            if !self.wait_for_more(deadline).await? {
                return Ok(None);
            }
        }
    }

    /// Has the next fetch under way while what is in memory is handed out.
    async fn fetch_ahead(&mut self) {
        if self.fetched.len() <= 1 && self.asked.len() < self.leaders {
            // The next poll meets an error again.
            let _ = self.start_fetches().await;
        }
    }

    /// Waits for an answer of a broker; whether there may be one before the deadline.
    async fn wait_for_more(&mut self, deadline: Instant) -> Result<bool, ClientError> {
        if let Err(error) = self.start_fetches().await {
            self.pause(error).await?;
        }
        if self.fetches.is_empty() {
            if Instant::now() >= deadline || self.positions.is_empty() {
                tokio::time::sleep_until(deadline).await;
                return Ok(false);
            }
            return Ok(true);
        }
        match tokio::time::timeout_at(deadline, self.fetches.join_next()).await {
            Err(_) => return Ok(false),
            Ok(Some(Ok(fetched))) => {
                if let Err(error) = self.accept(fetched).await {
                    self.pause(error).await?;
                }
            }
            Ok(_) => self.asked.clear(),
        }
        Ok(true)
    }

    /// Decodes and hands out what is in memory.
    fn take_ready(&mut self, max_records: usize) -> Result<Vec<ConsumedRecord>, ClientError> {
        let mut records = Vec::new();
        while records.len() < max_records {
            if self.ready.is_empty() {
                match self.decode_next() {
                    Ok(true) => {}
                    Err(error) if records.is_empty() => return Err(error),
                    // An error comes again at the next call.
                    Ok(false) | Err(_) => break,
                }
            }
            let count = self.ready.len().min(max_records - records.len());
            records.extend(self.ready.drain(..count));
            if let Some(batch) = &self.decoded
                && let Some(position) = self.positions.get_mut(batch.partition())
            {
                // Behind the last record of a batch there may be offsets that are gone.
                position.consumed = if self.ready.is_empty() {
                    batch.next_offset()
                } else {
                    records.last().map_or(position.consumed, |record| record.offset + 1)
                };
            }
        }
        Ok(records)
    }

    /// Hands out the next batch in memory, or what is left of the one whose records were being handed out.
    fn take_batch(&mut self) -> Result<Option<ConsumedBatch>, ClientError> {
        let begun = self.ready.front().map(|record| record.offset);
        self.ready.clear();
        let mut next = begun.and_then(|offset| Some(self.decoded.take()?.from(offset)));
        loop {
            let Some(batch) = next.take() else {
                next = self.open_next()?;
                if next.is_none() {
                    return Ok(None);
                }
                continue;
            };
            if let Some(position) = self.positions.get_mut(batch.partition()) {
                position.consumed = batch.next_offset();
            }
            if !batch.is_control() {
                return Ok(Some(batch));
            }
        }
    }

    /// Decodes the next batch; whether there was one.
    fn decode_next(&mut self) -> Result<bool, ClientError> {
        let Some(batch) = self.open_next()? else { return Ok(false) };
        if let Err(error) = batch.copy_records(&mut self.ready) {
            self.ready.clear();
            self.read_again(&batch.partition().clone(), batch.first_offset());
            return Err(error);
        }
        self.decoded = Some(batch);
        Ok(true)
    }

    /// Opens the next batch in memory.
    fn open_next(&mut self) -> Result<Option<ConsumedBatch>, ClientError> {
        while let Some(batches) = self.fetched.front_mut() {
            match batches.open_next(&self.settings.decompression) {
                Ok(Some(batch)) => return Ok(Some(batch)),
                Ok(None) => {
                    self.fetched.pop_front();
                }
                Err(error) => {
                    let (partition, offset) = (batches.partition.clone(), batches.next_offset);
                    self.read_again(&partition, offset);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Forgets what was fetched of a partition first, to fetch it again from this offset.
    fn read_again(&mut self, partition: &TopicPartition, offset: i64) {
        if let Some(position) = self.positions.get_mut(partition) {
            position.fetch = offset;
        }
        self.fetched.retain(|batches| batches.partition != *partition);
    }

    /// Asks every broker that leads some of the partitions and is not being asked.
    async fn start_fetches(&mut self) -> Result<(), ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<(TopicPartition, Leader, i64)>> = BTreeMap::new();
        let mut leaders = HashSet::new();
        for (partition, position) in &self.positions {
            let leader = self.client.leader(&partition.topic, partition.partition).await?;
            leaders.insert(leader.node_id);
            if !self.asked.contains(&leader.node_id) {
                by_leader.entry(leader.node_id).or_default().push((partition.clone(), leader, position.fetch));
            }
        }
        self.leaders = leaders.len();
        for (node_id, partitions) in by_leader {
            let request = self.request(&partitions);
            let with_ids = partitions.iter().all(|(_, leader, _)| !leader.topic_id.is_zero());
            let highest = if with_ids { i16::MAX } else { FIRST_VERSION_WITH_TOPIC_IDS - 1 };
            let timeout = self.settings.fetch_wait + self.client.settings().request_timeout;
            let (client, assignment) = (self.client.clone(), self.assignment);
            let asked = partitions
                .into_iter()
                .map(|(partition, leader, offset)| (partition, leader.topic_id, offset))
                .collect();
            self.asked.insert(node_id);
            self.fetches.spawn(async move {
                let answer = async {
                    let connection = client.broker(node_id, Lane::Fetch).await?;
                    let response = connection.send_at_most(&request, highest, timeout).await?;
                    check(ApiKey::Fetch, response.error_code, None)?;
                    Ok(response)
                };
                Fetched { node_id, assignment, asked, answer: answer.await }
            });
        }
        Ok(())
    }

    fn request(&self, partitions: &[(TopicPartition, Leader, i64)]) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (partition, leader, offset) in partitions {
            let asked = FetchPartition {
                partition: partition.partition,
                current_leader_epoch: leader.leader_epoch,
                fetch_offset: *offset,
                partition_max_bytes: self.settings.partition_fetch_bytes,
                ..Default::default()
            };
            match topics.last_mut().filter(|topic| *topic.topic == *partition.topic) {
                Some(topic) => topic.partitions.push(asked),
                None => topics.push(FetchTopic {
                    topic: StrBytes::from(&partition.topic),
                    topic_id: leader.topic_id,
                    partitions: vec![asked],
                }),
            }
        }
        FetchRequest {
            max_wait_ms: i32::try_from(self.settings.fetch_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: self.settings.fetch_bytes,
            topics,
            ..Default::default()
        }
    }

    /// Takes over what a broker answered.
    async fn accept(&mut self, fetched: Fetched) -> Result<(), ClientError> {
        if fetched.assignment != self.assignment {
            return Ok(());
        }
        self.asked.remove(&fetched.node_id);
        let response = fetched.answer.inspect_err(|_| {
            for (partition, ..) in &fetched.asked {
                self.client.forget_topic(&partition.topic);
            }
        })?;
        let mut answers = by_partition(response.responses);
        let mut failed = None;
        for (partition, topic_id, offset) in fetched.asked {
            let by_name = (String::from(&*partition.topic), partition.partition);
            let answer =
                answers.ids.remove(&(topic_id, partition.partition)).or_else(|| answers.names.remove(&by_name));
            let Some(answer) = answer else { continue };
            let taken = match failure(answer.error_code) {
                None => self.take_batches(
                    partition,
                    offset,
                    answer.records.and_then(FetchedRecords::into_bytes).unwrap_or_default(),
                ),
                Some(ErrorCode::OffsetOutOfRange) => self.reset(partition, offset).await,
                Some(code) => {
                    self.client.forget_topic(&partition.topic);
                    let (topic, partition) = (partition.topic.to_string(), partition.partition);
                    Err(ClientError::Partition { topic, partition, code, message: None })
                }
            };
            if let Err(error) = taken {
                failed.get_or_insert(error);
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.retry = None;
        Ok(())
    }

    fn take_batches(
        &mut self,
        partition: TopicPartition,
        next_offset: i64,
        bytes: bytes::Bytes,
    ) -> Result<(), ClientError> {
        let Some(position) = self.positions.get_mut(&partition) else { return Ok(()) };
        if position.fetch != next_offset || bytes.is_empty() {
            return Ok(());
        }
        let batches = FetchedBatches { partition, bytes, next_offset };
        position.fetch = batches.end_offset()?;
        self.fetched.push_back(batches);
        Ok(())
    }

    async fn reset(&mut self, partition: TopicPartition, offset: i64) -> Result<(), ClientError> {
        let Some(reset) = self.settings.reset else {
            let (topic, partition) = (partition.topic.to_string(), partition.partition);
            return Err(ClientError::OffsetOutOfRange { topic, partition, offset });
        };
        let resolved = self.client.resolve_offsets(std::slice::from_ref(&partition), reset).await?;
        for (partition, offset) in resolved {
            tracing::warn!(%partition, offset, "the position does not exist any more; reading on elsewhere");
            self.positions.insert(partition, Position { fetch: offset, consumed: offset });
        }
        Ok(())
    }

    async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        if let Some(retry) = &mut self.retry {
            return retry.pause(error).await;
        }
        self.retry.insert(self.client.retry()).pause(error).await
    }
}

/// Answers by topic id and by name: which of them counts depends on the version.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) ids: HashMap<(TopicId, i32), PartitionData>,
    pub(crate) names: HashMap<(String, i32), PartitionData>,
}

pub(crate) fn by_partition(topics: Vec<FetchableTopicResponse>) -> Answers {
    let mut answers = Answers::default();
    for topic in topics {
        for partition in topic.partitions {
            if topic.topic_id.is_zero() {
                answers.names.insert((topic.topic.to_string(), partition.partition_index), partition);
            } else {
                answers.ids.insert((topic.topic_id, partition.partition_index), partition);
            }
        }
    }
    answers
}
