//! What a consumer has under way besides fetches: finding topics, positions and truncations. Each task ends with an
//! event, which the consumer takes over when it is polled; so a poll that is given up loses nothing.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::{ApiKey, StrBytes};
use ottla_types::{ErrorCode, TopicPartition};
use tokio::time::Instant;

use super::fetch_session::Wanted;
use super::fetcher::{Fetched, NodeFetch};
use super::partitions::{Comparison, PartitionState, Position, Step, compare};
use super::settings::{AutoOffsetReset, IsolationLevel};
use super::{Consumer, no_position, sooner};
use crate::client::Client;
use crate::connection::Connection;
use crate::error::{ClientError, failure};
use crate::leaders::{Answers, LeaderQuestion, PartitionResults};
use crate::metadata::{ClusterDescription, TopicDescription};
use crate::offsets::{EARLIEST, LATEST, ListedOffset};
use crate::topics::Leader;

/// Earlier versions of OffsetForLeaderEpoch are not for consumers.
const FIRST_VERSION_FOR_CONSUMERS: i16 = 3;

/// Partitions, each with the version of its state.
pub(super) type Versions = BTreeMap<TopicPartition, u64>;

pub(super) enum Event {
    Fetched(Box<Fetched>),
    TopicsAsked(Result<ClusterDescription, ClientError>),
    Reset { asked: Versions, found: Result<PartitionResults<Option<ListedOffset>>, ClientError> },
    Compared { asked: BTreeMap<TopicPartition, Asked>, found: Result<PartitionResults<Comparison>, ClientError> },
}

/// What a leader is asked to compare its log with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    position: Position,
    leader_epoch: i32,
    version: u64,
}

/// All that the partitions need now.
#[derive(Default)]
struct Needs {
    topics: BTreeSet<String>,
    resets: Vec<(AutoOffsetReset, Versions)>,
    comparisons: BTreeMap<TopicPartition, Asked>,
    fetches: BTreeMap<i32, NodeFetch>,
}

impl Consumer {
    /// Starts whatever the partitions need and is not under way.
    pub(super) fn start_tasks(&mut self) {
        if !self.stale {
            return;
        }
        let now = Instant::now();
        self.stale = false;
        self.wake = None;
        let needs = self.needs(now);
        if !needs.topics.is_empty() && !self.asking_topics {
            match self.topics_not_before.filter(|&not_before| not_before > now) {
                Some(not_before) => sooner(&mut self.wake, not_before),
                None => self.ask_for_topics(needs.topics),
            }
        }
        for (rule, asked) in needs.resets {
            self.start_reset(rule, asked);
        }
        if !needs.comparisons.is_empty() {
            self.start_comparison(needs.comparisons);
        }
        self.fetch_later = self.start_fetches(needs.fetches, now);
        self.buffered_at_look = self.buffered;
    }

    fn needs(&mut self, now: Instant) -> Needs {
        let mut needs = Needs::default();
        let mut wake = None;
        let mut described: Option<(std::sync::Arc<str>, Option<std::sync::Arc<TopicDescription>>)> = None;
        let limit = usize::try_from(self.settings.max_partition_fetch_bytes).unwrap_or_default().max(1);
        for (partition, state) in self.partitions.iter_mut() {
            if state.busy {
                continue;
            }
            if let Some(not_before) = state.not_before.filter(|&not_before| not_before > now) {
                sooner(&mut wake, not_before);
                continue;
            }
            if let Step::Reset(rule) = state.step {
                match needs.resets.iter_mut().find(|(other, _)| *other == rule) {
                    Some((_, asked)) => _ = asked.insert(partition.clone(), state.version),
                    None => needs.resets.push((rule, Versions::from([(partition.clone(), state.version)]))),
                }
                continue;
            }
            if described.as_ref().is_none_or(|(topic, _)| *topic != partition.topic) {
                described = Some((partition.topic.clone(), self.client.known_topic(&partition.topic)));
            }
            let topic = described.as_ref().and_then(|(_, topic)| topic.as_ref());
            let found = topic.and_then(|topic| Some((topic.topic_id, topic.partitions.get(&partition.partition)?)));
            let led = found.and_then(|(topic_id, found)| Some((topic_id, found.leader?, found.leader_epoch)));
            let Some((topic_id, leader, leader_epoch)) = led else {
                needs.topics.insert(partition.topic.to_string());
                continue;
            };
            state.led_by(leader_epoch);
            if let Step::Validate(leader_epoch) = state.step {
                let asked = Asked { position: state.fetched, leader_epoch, version: state.version };
                needs.comparisons.insert(partition.clone(), asked);
                continue;
            }
            if state.paused {
                continue;
            }
            let fetch = needs.fetches.entry(state.read_from(leader, now)).or_default();
            if state.buffered >= limit {
                fetch.fill();
            }
            fetch.add(partition, Wanted { topic_id, offset: state.fetched.offset, leader_epoch }, state.version);
        }
        self.wake = wake;
        needs
    }

    fn ask_for_topics(&mut self, topics: BTreeSet<String>) {
        let client = self.client.clone();
        self.asking_topics = true;
        self.tasks.spawn(async move {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            Event::TopicsAsked(client.metadata(Some(&topics), false).await)
        });
    }

    fn start_reset(&mut self, rule: AutoOffsetReset, asked: Versions) {
        for partition in asked.keys() {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.busy = true;
            }
        }
        let (client, isolation_level) = (self.client.clone(), self.settings.isolation_level);
        self.tasks.spawn(async move {
            let found = find_reset(&client, rule, &asked, isolation_level).await;
            Event::Reset { asked, found }
        });
    }

    fn start_comparison(&mut self, asked: BTreeMap<TopicPartition, Asked>) {
        for partition in asked.keys() {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.busy = true;
            }
        }
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let found = client.at_leaders(asked.keys().cloned().collect(), &EpochEnds(&asked)).await;
            Event::Compared { asked, found }
        });
    }

    /// Takes over what became of something that was under way.
    pub(super) fn accept(&mut self, event: Event) {
        let now = Instant::now();
        self.stale = true;
        match event {
            Event::Fetched(fetched) => self.accept_fetched(*fetched, now),
            Event::TopicsAsked(asked) => self.accept_topics(asked, now),
            Event::Reset { asked, found } => self.accept_reset(&asked, found, now),
            Event::Compared { asked, found } => self.accept_comparison(&asked, found, now),
        }
    }

    fn accept_topics(&mut self, asked: Result<ClusterDescription, ClientError>, now: Instant) {
        self.asking_topics = false;
        self.topics_not_before = Some(now + self.backoff);
        match asked {
            Err(error) => self.note_failure(error, now),
            Ok(cluster) => {
                for (topic, described) in cluster.topics {
                    match described {
                        // A topic that is deleted, or not made yet, may be there later.
                        Err(ErrorCode::UnknownTopicOrPartition) => {
                            self.note_passing(ClientError::UnknownTopic { topic }, now);
                        }
                        Err(code) => self.note_failure(ClientError::Topic { topic, code, message: None }, now),
                        Ok(described) => self.note_missing_partitions(&described, now),
                    }
                }
            }
        }
    }

    fn note_missing_partitions(&mut self, topic: &TopicDescription, now: Instant) {
        let ours = self.partitions.names().filter(|partition| partition.topic == topic.name);
        let missing = ours.filter_map(|partition| {
            let TopicPartition { topic: name, partition } = partition;
            let (name, partition) = (name.to_string(), *partition);
            match topic.partitions.get(&partition) {
                None => Some(ClientError::UnknownPartition { topic: name, partition }),
                Some(found) if found.leader.is_none() => Some(ClientError::NoLeader { topic: name, partition }),
                Some(_) => None,
            }
        });
        let missing: Vec<ClientError> = missing.take(1).collect();
        for error in missing {
            self.note_passing(error, now);
        }
    }

    fn accept_reset(
        &mut self,
        asked: &Versions,
        found: Result<PartitionResults<Option<ListedOffset>>, ClientError>,
        now: Instant,
    ) {
        for (partition, found) in each(asked.keys(), found) {
            let Some(state) = self.partitions.unmoved(&partition, asked[&partition]) else { continue };
            state.busy = false;
            match found {
                Ok(Some(ListedOffset { offset, leader_epoch, .. })) => {
                    self.seek_to(&partition, Position { offset, offset_epoch: leader_epoch });
                }
                Ok(None) => {
                    let error = no_position(&partition);
                    self.partition_failed(&partition, error, now);
                }
                Err(error) => self.partition_failed(&partition, error, now),
            }
        }
    }

    fn accept_comparison(
        &mut self,
        asked: &BTreeMap<TopicPartition, Asked>,
        found: Result<PartitionResults<Comparison>, ClientError>,
        now: Instant,
    ) {
        for (partition, found) in each(asked.keys(), found) {
            let Asked { position, leader_epoch, version } = asked[&partition];
            let Some(state) = self.partitions.unmoved(&partition, version) else { continue };
            state.busy = false;
            let validated = |state: &mut PartitionState| {
                state.step = Step::Fetch;
                state.leader_epoch = state.leader_epoch.max(leader_epoch);
            };
            let consumed = state.consumed.unwrap_or(position);
            match found {
                Ok(Comparison::Same) => validated(state),
                // What was handed out is still there, what was fetched after it is not.
                Ok(Comparison::Diverges(end)) if consumed.offset <= end.offset => {
                    validated(state);
                    self.fetch_again(&partition);
                }
                Ok(Comparison::Diverges(end)) => self.truncated(&partition, consumed, Some(end), now),
                Ok(Comparison::Unknown) => self.truncated(&partition, consumed, None, now),
                Err(error) => self.partition_failed(&partition, error, now),
            }
        }
    }

    /// Records that were handed out are not in the new leader's log.
    fn truncated(&mut self, partition: &TopicPartition, consumed: Position, end: Option<Position>, now: Instant) {
        let diverging_offset = end.map(|end| end.offset);
        let rule = self.settings.auto_offset_reset;
        if rule == AutoOffsetReset::None {
            let (topic, number, offset) = (partition.topic.to_string(), partition.partition, consumed.offset);
            let error = ClientError::LogTruncation { topic, partition: number, offset, diverging_offset };
            return self.partition_failed(partition, error, now);
        }
        tracing::warn!(%partition, offset = consumed.offset, ?diverging_offset, "records that were read were truncated");
        match end {
            Some(end) => self.seek_to(partition, end),
            None => self.reset_to(partition, rule),
        }
    }

    /// Something went wrong with one partition; it is tried again.
    pub(super) fn partition_failed(&mut self, partition: &TopicPartition, error: ClientError, now: Instant) {
        if let Some(state) = self.partitions.get_mut(partition) {
            state.wait(now, self.backoff);
        }
        self.note_failure(error, now);
    }

    /// Has an error reported if it is final, or if nothing works for as long as a request is tried again.
    pub(super) fn note_failure(&mut self, error: ClientError, now: Instant) {
        if error.retriable() {
            self.note_passing(error, now);
        } else {
            self.failed.get_or_insert(error);
        }
    }

    fn note_passing(&mut self, error: ClientError, now: Instant) {
        tracing::debug!(%error, "a consumer tries again");
        let since = *self.failing.get_or_insert(now);
        if now.duration_since(since) >= self.client.settings().default_api_timeout {
            self.failing = None;
            self.failed.get_or_insert(error);
        }
    }
}

/// The result of each partition, whether they have one each or failed together.
fn each<'a, T>(
    asked: impl Iterator<Item = &'a TopicPartition>,
    found: Result<PartitionResults<T>, ClientError>,
) -> Vec<(TopicPartition, Result<T, ClientError>)> {
    let mut found = found.map_err(|error| (error, ()));
    asked
        .map(|partition| {
            let result = match &mut found {
                Ok(results) => results.remove(partition).unwrap_or_else(|| Err(no_position(partition))),
                Err((error, ())) => Err(error.clone()),
            };
            (partition.clone(), result)
        })
        .collect()
}

/// The offset of each partition that a rule stands for now.
async fn find_reset(
    client: &Client,
    rule: AutoOffsetReset,
    partitions: &Versions,
    isolation_level: IsolationLevel,
) -> Result<PartitionResults<Option<ListedOffset>>, ClientError> {
    let timestamp = match rule {
        AutoOffsetReset::Earliest => EARLIEST,
        AutoOffsetReset::Latest => LATEST,
        // Negative timestamps have other meanings.
        AutoOffsetReset::ByTimestamp(timestamp) => timestamp.max(0),
        AutoOffsetReset::ByDuration(age) => {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            client.world().clock.wall_ms().saturating_sub(age).max(0)
        }
        AutoOffsetReset::None => {
            return Ok(partitions.keys().map(|partition| (partition.clone(), Err(no_position(partition)))).collect());
        }
    };
    let asked = partitions.keys().map(|partition| (partition.clone(), timestamp)).collect();
    let mut found = client.list_offsets_at(&asked, isolation_level).await?;
    if timestamp >= 0 {
        let late: BTreeMap<TopicPartition, i64> = found
            .iter()
            .filter(|(_, listed)| matches!(listed, Ok(None)))
            .map(|(partition, _)| (partition.clone(), LATEST))
            .collect();
        if !late.is_empty() {
            found.extend(client.list_offsets_at(&late, isolation_level).await?);
        }
    }
    Ok(found)
}

/// Where the epoch of what was read last ended.
struct EpochEnds<'a>(&'a BTreeMap<TopicPartition, Asked>);

impl LeaderQuestion for EpochEnds<'_> {
    type Answer = Comparison;

    async fn ask(
        &self,
        connection: &Connection,
        partitions: &[(TopicPartition, Leader)],
    ) -> Result<Answers<Comparison>, ClientError> {
        // An older broker cannot say; its word on offsets has to do.
        if connection.version(ApiKey::OffsetForLeaderEpoch).is_none_or(|newest| newest < FIRST_VERSION_FOR_CONSUMERS) {
            return Ok(partitions.iter().map(|(partition, _)| (partition.clone(), Ok(Comparison::Same))).collect());
        }
        let mut topics: Vec<OffsetForLeaderTopic> = Vec::new();
        for (partition, leader) in partitions {
            let wanted = OffsetForLeaderPartition {
                partition: partition.partition,
                current_leader_epoch: leader.leader_epoch,
                leader_epoch: self.0[partition].position.offset_epoch.unwrap_or(-1),
                ..Default::default()
            };
            match topics.last_mut().filter(|topic| *topic.topic == *partition.topic) {
                Some(topic) => topic.partitions.push(wanted),
                None => topics
                    .push(OffsetForLeaderTopic { topic: StrBytes::from(&partition.topic), partitions: vec![wanted] }),
            }
        }
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics, ..Default::default() };
        let response = connection.send(&request).await?;
        let answers = response.topics.iter().flat_map(|topic| {
            topic.partitions.iter().filter_map(|found| {
                let partition = TopicPartition::new(topic.topic.as_str(), found.partition);
                let position = self.0.get(&partition)?.position;
                let compared = compare(position, found.leader_epoch, found.end_offset);
                Some((partition, failure(found.error_code).map_or(Ok(compared), Err)))
            })
        });
        Ok(answers.collect())
    }
}
