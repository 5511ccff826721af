//! Reading as a member of a consumer group, by the classic protocol: eager, or cooperative (KIP-429) if all assignors
//! are.
//!
//! Offsets are committed from time to time for what was handed out before the latest poll, and on leaving: each record is
//! read at least once.

mod heartbeat;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition as Assigned};
use ottla_protocol::messages::consumer_protocol_subscription::{ConsumerProtocolSubscription, TopicPartition as Owned};
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use ottla_protocol::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, Message, StrBytes};
use ottla_types::{ErrorCode, TopicPartition};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::assignor::{
    CooperativeStickyAssignor, GroupSubscription, PartitionAssignor, RangeAssignor, RebalanceProtocol,
};
use crate::client::{Client, Lane};
use crate::connection::Connection;
use crate::consumer::{Consumer, ConsumerSettings};
use crate::error::{ClientError, check, failure};
use crate::offsets::StartAt;
use crate::record_decoder::{ConsumedBatch, ConsumedRecord};
use heartbeat::Heartbeat;

const PROTOCOL_TYPE: &str = "consumer";
/// The versions in which they are written. Readers of older ones ignore what they do not know.
const SUBSCRIPTION_VERSION: i16 = 3;
const ASSIGNMENT_VERSION: i16 = 1;
/// The last versions that name topics by name.
pub(crate) const OFFSET_COMMIT_BY_NAME: i16 = 9;
pub(crate) const OFFSET_FETCH_BY_NAME: i16 = 9;
/// Over what the coordinator gets: the answer must travel.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct GroupSettings {
    pub group: String,
    /// `group.instance.id`: a name of this member's own. Who comes again under it is the same member (KIP-345).
    pub group_instance_id: Option<String>,
    pub topics: Vec<String>,
    /// Where to begin in a partition for which the group has no offset.
    pub start: StartAt,
    /// `session.timeout.ms`: how long the group waits for a heartbeat.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: how long may pass between polls, and a rebalance may take. Who does not poll for longer
    /// leaves the group and joins again with the next poll; a member with a name of its own is waited for.
    pub max_poll_interval: Duration,
    /// `enable.auto.commit`: whether positions are committed by polling, leaving and rebalancing.
    pub enable_auto_commit: bool,
    /// `auto.commit.interval.ms`
    pub auto_commit_interval: Duration,
    /// `partition.assignment.strategy`: the assignors this member has, the ones it likes best first.
    pub partition_assignment_strategy: Vec<Arc<dyn PartitionAssignor>>,
}

impl GroupSettings {
    /// Kafka's defaults.
    pub fn new(group: String, topics: Vec<String>, start: StartAt) -> GroupSettings {
        GroupSettings {
            group,
            group_instance_id: None,
            topics,
            start,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            enable_auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            partition_assignment_strategy: vec![
                Arc::new(RangeAssignor),
                Arc::new(CooperativeStickyAssignor::default()),
            ],
        }
    }

    /// What all assignors can.
    fn protocol(&self) -> RebalanceProtocol {
        let cooperative =
            |assignor: &Arc<dyn PartitionAssignor>| assignor.protocols().contains(&RebalanceProtocol::Cooperative);
        if self.partition_assignment_strategy.iter().all(cooperative) {
            RebalanceProtocol::Cooperative
        } else {
            RebalanceProtocol::Eager
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
    /// When the user last asked for records.
    polled: watch::Sender<Instant>,
}

/// Who one is to the coordinator.
#[derive(Clone, Debug)]
struct Member {
    coordinator: i32,
    member_id: StrBytes,
    generation_id: i32,
}

impl Default for Member {
    fn default() -> Member {
        Member { coordinator: -1, member_id: StrBytes::default(), generation_id: -1 }
    }
}

impl GroupConsumer {
    /// Joins the group and waits for its first assignment.
    pub async fn join(
        client: Client,
        settings: GroupSettings,
        consumer_settings: ConsumerSettings,
    ) -> Result<GroupConsumer, ClientError> {
        let consumer = Consumer::new(client.clone(), consumer_settings);
        let commit_due = Instant::now() + settings.auto_commit_interval;
        let mut joined = GroupConsumer {
            client,
            settings,
            consumer,
            member: Member::default(),
            heartbeat: None,
            committed: BTreeMap::new(),
            commit_due,
            polled: watch::Sender::new(Instant::now()),
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
        self.polled.send_replace(Instant::now());
        if self.heartbeat.as_ref().is_none_or(Heartbeat::must_rejoin) {
            // Who is no member any more has nothing to say.
            let member = self.heartbeat.as_ref().is_some_and(|heartbeat| !heartbeat.membership_ended());
            if self.settings.enable_auto_commit
                && member
                && let Err(error) = self.commit().await
            {
                tracing::warn!(%error, "offsets could not be committed before a rebalance; records may be read twice");
            }
            self.rejoin().await?;
        } else if self.settings.enable_auto_commit && Instant::now() >= self.commit_due {
            self.commit_due = Instant::now() + self.settings.auto_commit_interval;
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
            group_instance_id: self.instance_id(),
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

    /// Commits, and leaves, so that others take over at once. A member with a name of its own does not: it is waited for.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        let committed = if self.settings.enable_auto_commit { self.commit().await } else { Ok(()) };
        self.heartbeat = None;
        if self.settings.group_instance_id.is_some() {
            return committed;
        }
        let connection = self.coordinator().await?;
        let left = heartbeat::leave(&connection, self.group_id(), self.member.member_id.clone()).await;
        committed.and(left)
    }

    async fn rejoin(&mut self) -> Result<(), ClientError> {
        if self.heartbeat.as_ref().is_some_and(Heartbeat::fenced) {
            let (group, code) = (self.settings.group.clone(), ErrorCode::FencedInstanceId);
            return Err(ClientError::Group { group, code, message: None });
        }
        if self.heartbeat.take().is_some_and(|heartbeat| heartbeat.membership_ended()) {
            self.member = Member::default();
            self.consumer.assign([]);
        }
        let mut retry =
            self.client.retry_within(self.settings.max_poll_interval + self.client.settings().default_api_timeout);
        loop {
            let error = match self.join_once().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.code() {
                Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                    // Others may have its partitions by now.
                    self.member = Member::default();
                    self.consumer.assign([]);
                }
                Some(ErrorCode::RebalanceInProgress) => {}
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
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let assignments = if leads { self.assign(&joined).await? } else { Vec::new() };
        let request = SyncGroupRequest {
            group_id: self.group_id(),
            generation_id: self.member.generation_id,
            member_id: self.member.member_id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: Some(StrBytes::from(PROTOCOL_TYPE)),
            protocol_name: joined.protocol_name.clone(),
            assignments,
            ..Default::default()
        };
        let synced = connection.send_at_most(&request, i16::MAX, self.settings.max_poll_interval + GRACE).await?;
        check(ApiKey::SyncGroup, synced.error_code, None)?;
        let partitions = self.read_assignment(synced.assignment)?;
        self.heartbeat = Some(Heartbeat::start(&self.client, &self.settings, &self.member, self.polled.subscribe()));
        self.take_over(&connection, &partitions).await?;
        self.assignor(&joined)?.on_assignment(&partitions, self.member.generation_id);
        tracing::debug!(generation = self.member.generation_id, ?partitions, "joined");
        Ok(())
    }

    /// Reads these partitions from now on. Those kept go on where they are.
    async fn take_over(&mut self, connection: &Connection, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        let keeps = self.settings.protocol() == RebalanceProtocol::Cooperative;
        let mut offsets = if keeps { self.positions() } else { BTreeMap::new() };
        let owned = offsets.len();
        offsets.retain(|partition, _| partitions.contains(partition));
        let gave_up = offsets.len() < owned;
        let new: Vec<TopicPartition> =
            partitions.iter().filter(|partition| !offsets.contains_key(partition)).cloned().collect();
        let starts = self.starting_offsets(connection, &new).await?;
        self.committed.retain(|partition, _| offsets.contains_key(partition));
        self.consumer.assign(partitions.iter().cloned());
        for (partition, offset) in starts {
            self.consumer.seek(&partition, offset)?;
        }
        if gave_up && let Some(heartbeat) = &mut self.heartbeat {
            // What was given up can be given to others in the next rebalance.
            heartbeat.rejoin();
        }
        Ok(())
    }

    fn assignor(&self, joined: &JoinGroupResponse) -> Result<&Arc<dyn PartitionAssignor>, ClientError> {
        let name = joined.protocol_name.as_deref().unwrap_or_default();
        let ours = self.settings.partition_assignment_strategy.iter().find(|assignor| assignor.name() == name);
        ours.ok_or_else(|| ClientError::UnknownAssignor { group: self.settings.group.clone(), name: name.to_owned() })
    }

    async fn send_join(&self, connection: &Connection) -> Result<JoinGroupResponse, ClientError> {
        let owned = match self.settings.protocol() {
            RebalanceProtocol::Cooperative => self.consumer.assignment().cloned().collect(),
            RebalanceProtocol::Eager => Vec::new(),
        };
        let owned_partitions = by_topic(&owned).into_iter().map(|(topic, partitions)| Owned {
            topic: StrBytes::from(topic),
            partitions: partitions.into_iter().map(|partition| partition.partition).collect(),
        });
        let mut subscription = ConsumerProtocolSubscription {
            topics: self.settings.topics.iter().cloned().map(StrBytes::from).collect(),
            owned_partitions: owned_partitions.collect(),
            generation_id: self.member.generation_id,
            rack_id: Some(self.consumer.settings().client_rack.clone())
                .filter(|rack| !rack.is_empty())
                .map(StrBytes::from),
            ..Default::default()
        };
        let mut protocols = Vec::new();
        for assignor in &self.settings.partition_assignment_strategy {
            subscription.user_data = assignor.subscription_user_data();
            let metadata =
                versioned(&subscription, SUBSCRIPTION_VERSION).map_err(|source| self.cannot_write(source))?;
            protocols.push(JoinGroupRequestProtocol { name: StrBytes::from(assignor.name().to_owned()), metadata });
        }
        let request = JoinGroupRequest {
            group_id: self.group_id(),
            session_timeout_ms: millis(self.settings.session_timeout),
            rebalance_timeout_ms: millis(self.settings.max_poll_interval),
            member_id: self.member.member_id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: StrBytes::from(PROTOCOL_TYPE),
            protocols,
            ..Default::default()
        };
        Ok(connection.send_at_most(&request, i16::MAX, self.settings.max_poll_interval + GRACE).await?)
    }

    /// Divides the partitions, as the group's leader does.
    async fn assign(&self, joined: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let mut members = BTreeMap::new();
        for member in &joined.members {
            let subscription: ConsumerProtocolSubscription = read_versioned(member.metadata.clone())
                .map_err(|source| ClientError::Subscription { group: self.settings.group.clone(), source })?;
            let instance = member.group_instance_id.as_ref().map(ToString::to_string);
            members.insert(member.member_id.to_string(), group_subscription(&subscription, instance));
        }
        let wanted: BTreeSet<&str> = members.values().flat_map(|member| &member.topics).map(String::as_str).collect();
        let wanted: Vec<&str> = wanted.into_iter().collect();
        let cluster = self.client.metadata(Some(&wanted), false).await?;
        let topics = cluster
            .topics
            .into_iter()
            .filter_map(|(name, described)| Some((name, i32::try_from(described.ok()?.partitions.len()).ok()?)));
        let assigned = self.assignor(joined)?.assign(&topics.collect(), &members);
        let mut assignments = Vec::new();
        for (member_id, partitions) in assigned {
            let assigned_partitions = by_topic(&partitions).into_iter().map(|(topic, partitions)| Assigned {
                topic: StrBytes::from(topic),
                partitions: partitions.into_iter().map(|partition| partition.partition).collect(),
            });
            let assignment =
                ConsumerProtocolAssignment { assigned_partitions: assigned_partitions.collect(), ..Default::default() };
            let assignment = versioned(&assignment, ASSIGNMENT_VERSION).map_err(|source| self.cannot_write(source))?;
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

    fn instance_id(&self) -> Option<StrBytes> {
        self.settings.group_instance_id.clone().map(StrBytes::from)
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

fn group_subscription(subscription: &ConsumerProtocolSubscription, instance: Option<String>) -> GroupSubscription {
    let owned = subscription.owned_partitions.iter().flat_map(|owned| {
        let topic: Arc<str> = Arc::from(owned.topic.as_str());
        owned.partitions.iter().map(move |&partition| TopicPartition::new(Arc::clone(&topic), partition))
    });
    GroupSubscription {
        topics: subscription.topics.iter().map(ToString::to_string).collect(),
        user_data: subscription.user_data.clone(),
        owned_partitions: owned.collect(),
        generation_id: Some(subscription.generation_id).filter(|&generation_id| generation_id >= 0),
        rack_id: subscription.rack_id.as_ref().map(ToString::to_string),
        group_instance_id: instance,
    }
}

/// A message behind its version, as members exchange them.
fn versioned<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut output = Encoder::new();
    output.int16(version);
    message.encode(&mut output, version)?;
    output.finish_contiguous()
}

/// Reads it in any version: later ones only append.
pub(crate) fn read_versioned<M: Message>(bytes: Bytes) -> Result<M, DecodeError> {
    let mut input = Decoder::new(bytes);
    let version = input.int16()?;
    M::decode(&mut input, version.clamp(*M::VERSIONS.start(), *M::VERSIONS.end()))
}
