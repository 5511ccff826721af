//! Reading as a member of a consumer group, by the classic protocol: eager, with the range assignor.
//!
//! Offsets are committed from time to time for what was handed out before the latest poll, and on leaving: each record is
//! read at least once.

mod heartbeat;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition as Assigned};
use ottla_protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use ottla_protocol::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, Message, StrBytes};
use ottla_types::{ErrorCode, TopicPartition};
use tokio::time::Instant;

use crate::assignor::assign_ranges;
use crate::client::{Client, Lane};
use crate::connection::Connection;
use crate::consumer::{Consumer, ConsumerSettings};
use crate::error::{ClientError, check, failure};
use crate::offsets::StartAt;
use crate::record_decoder::{ConsumedBatch, ConsumedRecord};
use heartbeat::Heartbeat;

const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";
/// The version in which subscriptions and assignments are written: what every client reads.
const CONSUMER_PROTOCOL_VERSION: i16 = 1;
/// The last versions that name topics by name.
pub(crate) const OFFSET_COMMIT_BY_NAME: i16 = 9;
pub(crate) const OFFSET_FETCH_BY_NAME: i16 = 9;
/// Over what the coordinator gets: the answer must travel.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct GroupSettings {
    pub group: String,
    pub topics: Vec<String>,
    /// Where to begin in a partition for which the group has no offset.
    pub start: StartAt,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub commit_interval: Duration,
}

impl GroupSettings {
    /// Kafka's defaults.
    pub fn new(group: String, topics: Vec<String>, start: StartAt) -> GroupSettings {
        GroupSettings {
            group,
            topics,
            start,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(300),
            heartbeat_interval: Duration::from_secs(3),
            commit_interval: Duration::from_secs(5),
        }
    }
}

/// A member of a group.
pub struct GroupConsumer {
    client: Client,
    settings: GroupSettings,
    consumer: Consumer,
    member: Member,
    heartbeat: Option<Heartbeat>,
    committed: BTreeMap<TopicPartition, i64>,
    commit_due: Instant,
}

/// Who one is to the coordinator.
#[derive(Clone, Debug, Default)]
struct Member {
    coordinator: i32,
    member_id: StrBytes,
    generation_id: i32,
}

impl GroupConsumer {
    /// Joins the group and waits for its first assignment.
    pub async fn join(
        client: Client,
        settings: GroupSettings,
        consumer_settings: ConsumerSettings,
    ) -> Result<GroupConsumer, ClientError> {
        let consumer = Consumer::new(client.clone(), consumer_settings);
        let commit_due = Instant::now() + settings.commit_interval;
        let mut joined = GroupConsumer {
            client,
            settings,
            consumer,
            member: Member::default(),
            heartbeat: None,
            committed: BTreeMap::new(),
            commit_due,
        };
        joined.rejoin().await?;
        Ok(joined)
    }

    /// The next records, at most so many; none if there are none within `wait`. What was handed out before counts as
    /// done and may be committed. Takes part in rebalances: [`GroupConsumer::positions`] may then name other partitions.
    pub async fn poll(&mut self, max_records: usize, wait: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        self.take_part().await?;
        let Some(heartbeat) = &mut self.heartbeat else { return Ok(Vec::new()) };
        tokio::select! {
            records = self.consumer.poll_at_most(max_records, wait) => records,
            () = heartbeat.rejoin_wanted() => Ok(Vec::new()),
        }
    }

    /// The same for the next batch as a whole.
    pub async fn poll_batch(&mut self, wait: Duration) -> Result<Option<ConsumedBatch>, ClientError> {
        self.take_part().await?;
        let Some(heartbeat) = &mut self.heartbeat else { return Ok(None) };
        tokio::select! {
            batch = self.consumer.poll_batch(wait) => batch,
            () = heartbeat.rejoin_wanted() => Ok(None),
        }
    }

    /// Joins again, or commits, if it is time.
    async fn take_part(&mut self) -> Result<(), ClientError> {
        if self.heartbeat.as_ref().is_none_or(Heartbeat::must_rejoin) {
            if let Err(error) = self.commit().await {
                tracing::warn!(%error, "offsets could not be committed before a rebalance; records may be read twice");
            }
            self.rejoin().await?;
        } else if Instant::now() >= self.commit_due {
            self.commit_due = Instant::now() + self.settings.commit_interval;
            match self.commit().await {
                // The heartbeat learns of a rebalance too.
                Err(error) if is_rebalance(&error) || error.retriable() => tracing::debug!(%error, "commit later"),
                done => done?,
            }
        }
        Ok(())
    }

    /// Of each assigned partition the offset after what was handed out.
    pub fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        self.consumer.positions()
    }

    /// Commits the positions that changed.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let mut changed = self.positions();
        changed.retain(|partition, offset| self.committed.get(partition) != Some(offset));
        if changed.is_empty() {
            return Ok(());
        }
        let topics = by_topic(changed.keys()).into_iter().map(|(topic, partitions)| OffsetCommitRequestTopic {
            name: StrBytes::from(topic),
            partitions: partitions
                .into_iter()
                .map(|partition| OffsetCommitRequestPartition {
                    partition_index: partition.partition,
                    committed_offset: changed[partition],
                    committed_metadata: Some(StrBytes::default()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        let request = OffsetCommitRequest {
            group_id: self.group_id(),
            generation_id_or_member_epoch: self.member.generation_id,
            member_id: self.member.member_id.clone(),
            topics: topics.collect(),
            ..Default::default()
        };
        let timeout = self.client.settings().request_timeout;
        let response = self.coordinator().await?.send_at_most(&request, OFFSET_COMMIT_BY_NAME, timeout).await?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                if let Some(code) = failure(partition.error_code) {
                    return Err(ClientError::Partition {
                        topic: topic.name.to_string(),
                        partition: partition.partition_index,
                        code,
                        message: None,
                    });
                }
            }
        }
        self.committed.extend(changed);
        Ok(())
    }

    /// Commits, and leaves, so that others take over at once.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        let committed = self.commit().await;
        self.heartbeat = None;
        let identity = MemberIdentity { member_id: self.member.member_id.clone(), ..Default::default() };
        let request = LeaveGroupRequest { group_id: self.group_id(), members: vec![identity], ..Default::default() };
        let response = self.coordinator().await?.send(&request).await?;
        committed?;
        check(ApiKey::LeaveGroup, response.error_code, None)
    }

    async fn rejoin(&mut self) -> Result<(), ClientError> {
        self.heartbeat = None;
        let mut retry =
            self.client.retry_within(self.settings.rebalance_timeout + self.client.settings().default_api_timeout);
        loop {
            let error = match self.join_once().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.code() {
                Some(ErrorCode::UnknownMemberId) => self.member = Member::default(),
                Some(ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress) => {}
                _ => {
                    retry.pause(error).await?;
                    continue;
                }
            }
            retry.pause_anyway(error).await?;
        }
    }

    async fn join_once(&mut self) -> Result<(), ClientError> {
        self.member.coordinator = self.client.group_coordinator(&self.settings.group).await?;
        let connection = self.coordinator().await?;
        let mut joined = self.send_join(&connection).await?;
        if failure(joined.error_code) == Some(ErrorCode::MemberIdRequired) {
            self.member.member_id = joined.member_id;
            joined = self.send_join(&connection).await?;
        }
        check(ApiKey::JoinGroup, joined.error_code, None)?;
        self.member.member_id = joined.member_id.clone();
        self.member.generation_id = joined.generation_id;
        let assignments = if joined.leader == joined.member_id { self.assign(&joined).await? } else { Vec::new() };
        let request = SyncGroupRequest {
            group_id: self.group_id(),
            generation_id: self.member.generation_id,
            member_id: self.member.member_id.clone(),
            protocol_type: Some(StrBytes::from(PROTOCOL_TYPE)),
            protocol_name: joined.protocol_name,
            assignments,
            ..Default::default()
        };
        let synced = connection.send_at_most(&request, i16::MAX, self.settings.rebalance_timeout + GRACE).await?;
        check(ApiKey::SyncGroup, synced.error_code, None)?;
        self.heartbeat = Some(Heartbeat::start(&self.client, &self.settings, &self.member));
        let partitions = self.read_assignment(synced.assignment)?;
        let offsets = self.starting_offsets(&connection, &partitions).await?;
        self.committed.clear();
        self.consumer.assign_at(&offsets);
        tracing::debug!(generation = self.member.generation_id, ?partitions, "joined");
        Ok(())
    }

    async fn send_join(&self, connection: &Connection) -> Result<JoinGroupResponse, ClientError> {
        let subscription = ConsumerProtocolSubscription {
            topics: self.settings.topics.iter().cloned().map(StrBytes::from).collect(),
            ..Default::default()
        };
        let metadata = versioned(&subscription).map_err(|source| self.cannot_write(source))?;
        let request = JoinGroupRequest {
            group_id: self.group_id(),
            session_timeout_ms: millis(self.settings.session_timeout),
            rebalance_timeout_ms: millis(self.settings.rebalance_timeout),
            member_id: self.member.member_id.clone(),
            protocol_type: StrBytes::from(PROTOCOL_TYPE),
            protocols: vec![JoinGroupRequestProtocol { name: StrBytes::from(ASSIGNOR), metadata }],
            ..Default::default()
        };
        Ok(connection.send_at_most(&request, i16::MAX, self.settings.rebalance_timeout + GRACE).await?)
    }

    /// Divides the partitions, as the group's leader does.
    async fn assign(&self, joined: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let mut members = BTreeMap::new();
        for member in &joined.members {
            let subscription: ConsumerProtocolSubscription = read_versioned(member.metadata.clone())
                .map_err(|source| ClientError::Subscription { group: self.settings.group.clone(), source })?;
            let wanted: BTreeSet<String> = subscription.topics.iter().map(ToString::to_string).collect();
            members.insert(member.member_id.to_string(), wanted);
        }
        let wanted: BTreeSet<&str> = members.values().flatten().map(String::as_str).collect();
        let wanted: Vec<&str> = wanted.into_iter().collect();
        let cluster = self.client.metadata(Some(&wanted), false).await?;
        let topics = cluster.topics.into_iter().filter_map(|(name, described)| {
            Some((name, described.ok()?.partitions.keys().copied().collect::<Vec<i32>>()))
        });
        let assigned = assign_ranges(&members, &topics.collect());
        let mut assignments = Vec::new();
        for (member_id, topics) in assigned {
            let assigned_partitions = topics
                .into_iter()
                .map(|(topic, partitions)| Assigned { topic: StrBytes::from(topic), partitions })
                .collect();
            let assignment = ConsumerProtocolAssignment { assigned_partitions, ..Default::default() };
            let assignment = versioned(&assignment).map_err(|source| self.cannot_write(source))?;
            assignments.push(SyncGroupRequestAssignment { member_id: StrBytes::from(member_id), assignment });
        }
        Ok(assignments)
    }

    fn read_assignment(&self, assignment: Bytes) -> Result<Vec<TopicPartition>, ClientError> {
        if assignment.is_empty() {
            return Ok(Vec::new());
        }
        let assignment: ConsumerProtocolAssignment = read_versioned(assignment)
            .map_err(|source| ClientError::Assignment { group: self.settings.group.clone(), source })?;
        let partitions = assignment.assigned_partitions.iter().flat_map(|assigned| {
            let topic: Arc<str> = Arc::from(assigned.topic.as_str());
            assigned.partitions.iter().map(move |&partition| TopicPartition::new(Arc::clone(&topic), partition))
        });
        Ok(partitions.collect())
    }

    /// Where the group stands in these partitions, or where it begins.
    async fn starting_offsets(
        &self,
        connection: &Connection,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let topics = by_topic(partitions).into_iter().map(|(topic, partitions)| OffsetFetchRequestTopics {
            name: StrBytes::from(topic),
            partition_indexes: partitions.into_iter().map(|partition| partition.partition).collect(),
            ..Default::default()
        });
        let group =
            OffsetFetchRequestGroup { group_id: self.group_id(), topics: Some(topics.collect()), ..Default::default() };
        let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
        let timeout = self.client.settings().request_timeout;
        let response = connection.send_at_most(&request, OFFSET_FETCH_BY_NAME, timeout).await?;
        let group = response.groups.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::OffsetFetch))?;
        check(ApiKey::OffsetFetch, group.error_code, None)?;
        let mut committed = BTreeMap::new();
        for topic in &group.topics {
            for partition in &topic.partitions {
                check(ApiKey::OffsetFetch, partition.error_code, None)?;
                let at = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                if partition.committed_offset >= 0 && partitions.contains(&at) {
                    committed.insert(at, partition.committed_offset);
                }
            }
        }
        let new: Vec<TopicPartition> =
            partitions.iter().filter(|partition| !committed.contains_key(partition)).cloned().collect();
        committed.extend(self.client.resolve_offsets(&new, self.settings.start).await?);
        Ok(committed)
    }

    async fn coordinator(&self) -> Result<Arc<Connection>, ClientError> {
        self.client.broker(self.member.coordinator, Lane::Group).await
    }

    fn group_id(&self) -> StrBytes {
        StrBytes::from(self.settings.group.clone())
    }

    fn cannot_write(&self, source: EncodeError) -> ClientError {
        ClientError::GroupMessage { group: self.settings.group.clone(), source }
    }
}

fn is_rebalance(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId)
    )
}

pub(crate) fn by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> BTreeMap<&'a Arc<str>, Vec<&'a TopicPartition>> {
    let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition);
    }
    topics
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// A message behind its version, as members exchange them.
fn versioned<M: Message>(message: &M) -> Result<Bytes, EncodeError> {
    let mut output = Encoder::new();
    output.int16(CONSUMER_PROTOCOL_VERSION);
    message.encode(&mut output, CONSUMER_PROTOCOL_VERSION)?;
    output.finish_contiguous()
}

/// Reads it in any version: later ones only append.
pub(crate) fn read_versioned<M: Message>(bytes: Bytes) -> Result<M, DecodeError> {
    let mut input = Decoder::new(bytes);
    let version = input.int16()?;
    M::decode(&mut input, version.clamp(*M::VERSIONS.start(), *M::VERSIONS.end()))
}
