//! Fetching ahead: one request per broker is under way while the records of the ones before are handed out.
//!
//! A broker is asked again when less than `max.partition.fetch.bytes` of each of its partitions waits to be handed out,
//! and less than `fetch.max.bytes` of all: so memory holds about that much, an answer of each broker, and one
//! decompressed batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use ottla_protocol::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use ottla_protocol::{ApiKey, FetchedRecords, StrBytes};
use ottla_types::{ErrorCode, TopicId, TopicPartition};
use tokio::time::Instant;

use super::fetch_session::{SessionRequest, Wanted};
use super::partitions::Step;
use super::settings::{AutoOffsetReset, IsolationLevel};
use super::tasks::Event;
use super::{AbortedTransactions, Consumer, sooner};
use crate::client::Lane;
use crate::error::{ClientError, failure};
use crate::record_decoder::FetchedBatches;

/// From this version on a fetch names topics by id only.
pub(crate) const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

/// What a broker answered, and to what.
pub(super) struct Fetched {
    pub(super) node_id: i32,
    /// With the version of each partition's state.
    asked: BTreeMap<TopicPartition, (Wanted, u64)>,
    answer: Result<FetchResponse, ClientError>,
}

/// What could be fetched from a broker.
#[derive(Debug, Default)]
pub(super) struct NodeFetch {
    wanted: BTreeMap<TopicPartition, (Wanted, u64)>,
    /// Whether enough of one of its partitions waits to be handed out.
    full: bool,
}

impl NodeFetch {
    pub(super) fn add(&mut self, partition: &TopicPartition, wanted: Wanted, version: u64) {
        self.wanted.insert(partition.clone(), (wanted, version));
    }

    pub(super) fn fill(&mut self) {
        self.full = true;
    }
}

impl Consumer {
    /// Asks every broker that has something to fetch and is not being asked. Whether one is left for later because
    /// enough waits to be handed out.
    pub(super) fn start_fetches(&mut self, nodes: BTreeMap<i32, NodeFetch>, now: Instant) -> bool {
        // What is paused holds up nothing.
        let paused: usize =
            self.partitions.iter().filter(|(_, state)| state.paused).map(|(_, state)| state.buffered).sum();
        let full = self.buffered.saturating_sub(paused) >= self.fetch_max_bytes();
        let mut later = false;
        for (node_id, fetch) in nodes {
            if fetch.wanted.is_empty() || self.asked.contains(&node_id) {
                continue;
            }
            if full || fetch.full {
                later = true;
                continue;
            }
            match self.nodes_not_before.get(&node_id) {
                Some(&not_before) if not_before > now => sooner(&mut self.wake, not_before),
                _ => self.start_fetch(node_id, fetch.wanted),
            }
        }
        later
    }

    fn start_fetch(&mut self, node_id: i32, asked: BTreeMap<TopicPartition, (Wanted, u64)>) {
        let with_ids = asked.values().all(|(wanted, _)| !wanted.topic_id.is_zero());
        let highest = if with_ids { i16::MAX } else { FIRST_VERSION_WITH_TOPIC_IDS - 1 };
        let session = self.sessions.entry(node_id).or_default();
        let wanted = asked.iter().map(|(partition, &(wanted, _))| (partition.clone(), wanted)).collect();
        let session = session.request(wanted, with_ids);
        let request = self.fetch_request(session);
        let timeout = self.settings.fetch_max_wait + self.client.settings().request_timeout;
        let client = self.client.clone();
        self.asked.insert(node_id);
        self.tasks.spawn(async move {
            let answer = async {
                let connection = client.broker(node_id, Lane::Fetch).await?;
                Ok(connection.send_at_most(&request, highest, timeout).await?)
            };
            Event::Fetched(Box::new(Fetched { node_id, asked, answer: answer.await }))
        });
    }

    fn fetch_request(&self, session: SessionRequest) -> FetchRequest {
        let settings = &self.settings;
        FetchRequest {
            max_wait_ms: i32::try_from(settings.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: settings.fetch_min_bytes,
            max_bytes: settings.fetch_max_bytes,
            isolation_level: settings.isolation_level.code(),
            rack_id: StrBytes::from(settings.client_rack.clone()),
            ..session_request(session, settings.max_partition_fetch_bytes)
        }
    }

    /// Takes over what a broker answered.
    pub(super) fn accept_fetched(&mut self, fetched: Fetched, now: Instant) {
        let Fetched { node_id, asked, answer } = fetched;
        self.asked.remove(&node_id);
        let Some(session) = self.sessions.get_mut(&node_id) else { return };
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                session.begin_anew();
                self.node_failed(node_id, &asked, error, now);
                return;
            }
        };
        match failure(response.error_code) {
            None => {}
            Some(ErrorCode::FetchSessionIdNotFound) => return session.unknown(),
            Some(ErrorCode::InvalidFetchSessionEpoch | ErrorCode::FetchSessionTopicIdError) => {
                return session.begin_anew();
            }
            Some(code) => {
                session.begin_anew();
                let error = ClientError::Broker { api: ApiKey::Fetch, code, message: None };
                self.node_failed(node_id, &asked, error, now);
                return;
            }
        }
        let mut answers = by_partition(response.responses);
        let mut answered = Vec::new();
        for (partition, (wanted, version)) in &asked {
            let by_id = (wanted.topic_id, partition.partition);
            let answer = answers.ids.remove(&by_id).or_else(|| {
                // The names are there only in older versions.
                if answers.names.is_empty() { None } else { answers.remove_name(partition) }
            });
            answered.extend(answer.map(|answer| (partition, *wanted, *version, answer)));
        }
        let partitions: BTreeSet<&TopicPartition> = answered.iter().map(|(partition, ..)| *partition).collect();
        if !answers.is_empty() || !session.answered(response.session_id, &partitions) {
            session.begin_anew();
            self.node_failed(node_id, &asked, ClientError::Incomplete(ApiKey::Fetch), now);
            return;
        }
        self.nodes_not_before.remove(&node_id);
        for (partition, wanted, version, answer) in answered {
            self.accept_partition(partition, wanted, version, answer, now);
        }
    }

    /// A broker could not be asked. What is known of its partitions may not be true any more.
    fn node_failed(
        &mut self,
        node_id: i32,
        asked: &BTreeMap<TopicPartition, (Wanted, u64)>,
        error: ClientError,
        now: Instant,
    ) {
        let mut topics: BTreeSet<&str> = BTreeSet::new();
        for partition in asked.keys() {
            topics.insert(&partition.topic);
            if let Some(state) = self.partitions.get_mut(partition) {
                state.prefer_leader();
            }
        }
        for topic in topics {
            self.client.forget_topic(topic);
        }
        self.nodes_not_before.insert(node_id, now + self.backoff);
        self.note_failure(error, now);
    }

    fn accept_partition(
        &mut self,
        partition: &TopicPartition,
        wanted: Wanted,
        version: u64,
        answer: PartitionData,
        now: Instant,
    ) {
        let Some(state) = self.partitions.unmoved(partition, version) else { return };
        if state.step != Step::Fetch || state.fetched.offset != wanted.offset {
            return;
        }
        let Some(code) = failure(answer.error_code) else {
            self.failing = None;
            let known = |offset: i64| Some(offset).filter(|&offset| offset >= 0);
            state.log_start_offset = known(answer.log_start_offset).or(state.log_start_offset);
            state.high_watermark = known(answer.high_watermark).or(state.high_watermark);
            state.last_stable_offset = known(answer.last_stable_offset).or(state.last_stable_offset);
            state.not_before = None;
            if answer.preferred_read_replica >= 0 {
                state.prefer(answer.preferred_read_replica, now + self.client.settings().metadata_max_age);
            }
            if let Err(error) = self.take_over(partition, answer) {
                self.partition_failed(partition, error, now);
            }
            return;
        };
        if code == ErrorCode::OffsetOutOfRange {
            return self.out_of_range(partition, now);
        }
        if code.is_retriable() {
            // Maybe somebody else leads it, or it is another topic.
            state.prefer_leader();
            self.client.forget_topic(&partition.topic);
        }
        let TopicPartition { topic, partition: number } = partition;
        let error = ClientError::Partition { topic: topic.to_string(), partition: *number, code, message: None };
        self.partition_failed(partition, error, now);
    }

    /// Keeps records until they are handed out.
    fn take_over(&mut self, partition: &TopicPartition, answer: PartitionData) -> Result<(), ClientError> {
        let Some(state) = self.partitions.get_mut(partition) else { return Ok(()) };
        let bytes = answer.records.and_then(FetchedRecords::into_bytes).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        let aborted = (self.settings.isolation_level == IsolationLevel::ReadCommitted)
            .then(|| AbortedTransactions::new(answer.aborted_transactions.as_deref().unwrap_or_default()));
        let batches = FetchedBatches::new(partition.clone(), bytes, state.fetched.offset, aborted);
        let (end, epoch) = batches.end()?;
        state.fetched.offset = end;
        state.fetched.offset_epoch = epoch.or(state.fetched.offset_epoch);
        state.buffered += batches.size();
        self.buffered += batches.size();
        self.buffer.push_back(batches);
        if self.buffered > self.fetch_max_bytes().saturating_mul(2) {
            // What is paused may wait for ever; it is fetched again.
            let paused = self.partitions.iter().filter(|(_, state)| state.paused && state.buffered > 0);
            let paused: Vec<TopicPartition> = paused.map(|(partition, _)| partition.clone()).collect();
            for partition in paused {
                self.fetch_again(&partition);
            }
        }
        Ok(())
    }

    fn fetch_max_bytes(&self) -> usize {
        usize::try_from(self.settings.fetch_max_bytes).unwrap_or_default().max(1)
    }

    fn out_of_range(&mut self, partition: &TopicPartition, now: Instant) {
        let Some(state) = self.partitions.get_mut(partition) else { return };
        // A replica may be behind its leader; and what was fetched before is handed out first.
        let consumed = state.consumed.map(|position| position.offset);
        if state.prefer_leader() || consumed != Some(state.fetched.offset) {
            state.wait(now, self.backoff);
            return;
        }
        let offset = state.fetched.offset;
        let rule = self.settings.auto_offset_reset;
        if rule == AutoOffsetReset::None {
            let (topic, number) = (partition.topic.to_string(), partition.partition);
            self.partition_failed(partition, ClientError::OffsetOutOfRange { topic, partition: number, offset }, now);
        } else {
            tracing::warn!(%partition, offset, "the position does not exist any more; reading on elsewhere");
            self.partitions.reset(partition, rule);
        }
    }

    /// Tells brokers that their sessions are over, without waiting for it.
    pub(super) fn end_sessions(&mut self) {
        let max_bytes = self.settings.max_partition_fetch_bytes;
        for (node_id, session) in self.sessions.drain() {
            let Some(request) = session.end() else { continue };
            let request = session_request(request, max_bytes);
            let client = self.client.clone();
            tokio::spawn(async move {
                let ended = async {
                    let connection = client.broker(node_id, Lane::Fetch).await?;
                    connection.send(&request).await.map_err(ClientError::from)
                };
                if let Err(error) = ended.await {
                    tracing::debug!(%error, node_id, "a fetch session is left to end by itself");
                }
            });
        }
    }
}

fn session_request(session: SessionRequest, partition_max_bytes: i32) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (partition, wanted) in session.send {
        let asked = FetchPartition {
            partition: partition.partition,
            current_leader_epoch: wanted.leader_epoch,
            fetch_offset: wanted.offset,
            partition_max_bytes,
            ..Default::default()
        };
        match topics.last_mut().filter(|topic| *topic.topic == *partition.topic && topic.topic_id == wanted.topic_id) {
            Some(topic) => topic.partitions.push(asked),
            None => topics.push(FetchTopic {
                topic: StrBytes::from(&partition.topic),
                topic_id: wanted.topic_id,
                partitions: vec![asked],
            }),
        }
    }
    let mut forgotten: Vec<ForgottenTopic> = Vec::new();
    for (partition, topic_id) in session.forget {
        match forgotten.last_mut().filter(|topic| *topic.topic == *partition.topic && topic.topic_id == topic_id) {
            Some(topic) => topic.partitions.push(partition.partition),
            None => forgotten.push(ForgottenTopic {
                topic: StrBytes::from(&partition.topic),
                topic_id,
                partitions: vec![partition.partition],
            }),
        }
    }
    FetchRequest {
        session_id: session.session_id,
        session_epoch: session.epoch,
        topics,
        forgotten_topics_data: forgotten,
        ..Default::default()
    }
}

/// Answers by topic id and by name: which of them counts depends on the version.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) ids: HashMap<(TopicId, i32), PartitionData>,
    pub(crate) names: HashMap<(String, i32), PartitionData>,
}

impl Answers {
    fn remove_name(&mut self, partition: &TopicPartition) -> Option<PartitionData> {
        self.names.remove(&(partition.topic.to_string(), partition.partition))
    }

    fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.names.is_empty()
    }
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
