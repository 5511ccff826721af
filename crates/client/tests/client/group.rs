//! A member of a group, from joining to leaving.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_client::{
    ClientError, ConsumerSettings, CooperativeStickyAssignor, GroupConsumer, GroupSettings, Producer, ProducerRecord,
    ProducerSettings, StartAt,
};
use ottla_protocol::messages::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition as AssignedPartitions,
};
use ottla_protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::sync_group_response::SyncGroupResponse;
use ottla_protocol::{ApiKey, Decoder, Encoder, Request, Response, StrBytes};
use ottla_types::ErrorCode;
use parking_lot::Mutex;

use crate::fake::{FakeBroker, Lie, TOPIC};

async fn filled() -> FakeBroker {
    let broker = FakeBroker::default();
    let producer = Producer::new(broker.client(), ProducerSettings::default()).unwrap();
    for number in 0..10 {
        let value = Some(number.to_string().into());
        let record =
            ProducerRecord { topic: TOPIC.to_owned(), partition: Some(number % 2), value, ..Default::default() };
        producer.send(record).await.unwrap();
    }
    producer.flush().await;
    broker
}

fn settings() -> GroupSettings {
    GroupSettings::new("group".to_owned(), vec![TOPIC.to_owned()], StartAt::Beginning)
}

async fn join(broker: &FakeBroker) -> Result<GroupConsumer, ClientError> {
    GroupConsumer::join(broker.client(), settings(), ConsumerSettings::default()).await
}

async fn read(member: &mut GroupConsumer, count: usize) {
    let mut read = 0;
    while read < count {
        read += member.poll(count - read, Duration::from_secs(1)).await.unwrap().len();
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_where_it_left_off() {
    let broker = filled().await;
    let mut member = join(&broker).await.unwrap();
    assert_eq!(member.positions().len(), 2, "the only member has both partitions");
    read(&mut member, 7).await;
    member.leave().await.unwrap();
    assert!(broker.state.lock().left);
    let committed: i64 = broker.state.lock().committed.values().sum();
    assert_eq!(committed, 7);
    let mut member = join(&broker).await.unwrap();
    read(&mut member, 3).await;
    assert_eq!(member.poll(10, Duration::from_secs(1)).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_is_joined_and_nothing_is_read_twice() {
    let broker = filled().await;
    let mut member = join(&broker).await.unwrap();
    read(&mut member, 7).await;
    broker.lie(ApiKey::Heartbeat, Lie::Error(ErrorCode::RebalanceInProgress));
    tokio::time::sleep(Duration::from_secs(4)).await;
    read(&mut member, 3).await;
    assert_eq!(broker.state.lock().generation, 2);
    assert_eq!(member.poll(10, Duration::from_secs(1)).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn joining_survives_errors_that_pass() {
    for (api, error) in [
        (ApiKey::FindCoordinator, ErrorCode::CoordinatorNotAvailable),
        (ApiKey::JoinGroup, ErrorCode::CoordinatorLoadInProgress),
        (ApiKey::JoinGroup, ErrorCode::UnknownMemberId),
        (ApiKey::SyncGroup, ErrorCode::RebalanceInProgress),
        (ApiKey::SyncGroup, ErrorCode::NotCoordinator),
        (ApiKey::OffsetFetch, ErrorCode::UnstableOffsetCommit),
    ] {
        let broker = filled().await;
        broker.lie(api, Lie::Error(error));
        let mut member = join(&broker).await.unwrap_or_else(|error| panic!("{api:?}: {error}"));
        read(&mut member, 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be_joined_is_an_error() {
    for error in [ErrorCode::InconsistentGroupProtocol, ErrorCode::GroupAuthorizationFailed] {
        let broker = filled().await;
        broker.lie(ApiKey::JoinGroup, Lie::Error(error));
        assert_eq!(join(&broker).await.err().and_then(|error| error.code()), Some(error));
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_from_time_to_time() {
    let broker = filled().await;
    let mut member = join(&broker).await.unwrap();
    read(&mut member, 10).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    member.poll(10, Duration::from_secs(1)).await.unwrap();
    assert_eq!(broker.state.lock().committed.values().sum::<i64>(), 10);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_poll_leaves_and_joins_again() {
    let broker = filled().await;
    let mut member = join(&broker).await.unwrap();
    read(&mut member, 7).await;
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert!(!broker.state.lock().left);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(broker.state.lock().left, "it has not polled for max.poll.interval.ms");
    // What it committed at leaving would be another member's.
    broker.state.lock().committed = BTreeMap::from([(0, 5), (1, 4)]);
    read(&mut member, 1).await;
    assert_eq!(broker.state.lock().generation, 2);
    assert_eq!(member.poll(10, Duration::from_secs(1)).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_member_with_a_name_of_its_own_is_waited_for() {
    let broker = filled().await;
    let names = Arc::new(Mutex::new(Vec::<(ApiKey, Option<String>)>::new()));
    for api in [ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::Heartbeat, ApiKey::OffsetCommit] {
        let seen = Arc::clone(&names);
        broker.script(api, move |_, request| {
            let name = match request {
                Request::JoinGroup(request) => &request.group_instance_id,
                Request::SyncGroup(request) => &request.group_instance_id,
                Request::Heartbeat(request) => &request.group_instance_id,
                Request::OffsetCommit(request) => &request.group_instance_id,
                other => panic!("{:?}", other.api_key()),
            };
            seen.lock().push((api, name.as_ref().map(ToString::to_string)));
            None
        });
    }
    let settings = GroupSettings { group_instance_id: Some("me-1".to_owned()), ..settings() };
    let mut member = GroupConsumer::join(broker.client(), settings, ConsumerSettings::default()).await.unwrap();
    read(&mut member, 7).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    member.leave().await.unwrap();
    assert!(!broker.state.lock().left);
    let names = names.lock();
    assert!(names.iter().all(|(_, name)| name.as_deref() == Some("me-1")), "{names:?}");
    for api in [ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::Heartbeat, ApiKey::OffsetCommit] {
        assert!(names.iter().any(|(seen, _)| *seen == api), "{api:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_somebody_else_has_taken_is_final() {
    let broker = filled().await;
    let settings = GroupSettings { group_instance_id: Some("me-1".to_owned()), ..settings() };
    let mut member = GroupConsumer::join(broker.client(), settings, ConsumerSettings::default()).await.unwrap();
    broker.lie(ApiKey::Heartbeat, Lie::Error(ErrorCode::FencedInstanceId));
    tokio::time::sleep(Duration::from_secs(4)).await;
    for _ in 0..2 {
        let error = member.poll(10, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::FencedInstanceId));
    }
    assert_eq!(broker.state.lock().generation, 1);
}

/// The assignment of these partitions, as the group's leader writes it.
fn assignment(partitions: &[i32]) -> Bytes {
    let assigned = AssignedPartitions { topic: StrBytes::from(TOPIC), partitions: partitions.to_vec() };
    let assignment = ConsumerProtocolAssignment { assigned_partitions: vec![assigned], ..Default::default() };
    let mut output = Encoder::new();
    output.int16(1);
    assignment.encode(&mut output, 1).unwrap();
    output.finish_contiguous().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_cooperative_member_keeps_what_it_has() {
    let broker = filled().await;
    let shares = Arc::new(Mutex::new(VecDeque::from([vec![0, 1], vec![0], vec![0]])));
    let owned: Arc<Mutex<Vec<Vec<i32>>>> = Arc::default();
    let said = Arc::clone(&owned);
    broker.script(ApiKey::JoinGroup, move |_, request| {
        let Request::JoinGroup(join) = request else { panic!("{:?}", request.api_key()) };
        assert_eq!(join.protocols.len(), 1);
        assert_eq!(join.protocols[0].name, "cooperative-sticky");
        let mut input = Decoder::new(join.protocols[0].metadata.clone());
        let version = input.int16().unwrap();
        let subscription = ConsumerProtocolSubscription::decode(&mut input, version).unwrap();
        let owned = subscription.owned_partitions.iter().flat_map(|owned| owned.partitions.iter().copied());
        said.lock().push(owned.collect());
        None
    });
    broker.script(ApiKey::SyncGroup, move |_, _| {
        let share = shares.lock().pop_front().expect("more rebalances than shares");
        Some(Response::SyncGroup(SyncGroupResponse { assignment: assignment(&share), ..Default::default() }))
    });
    let asked: Arc<Mutex<Vec<i32>>> = Arc::default();
    let seen = Arc::clone(&asked);
    broker.script(ApiKey::OffsetFetch, move |_, request| {
        let Request::OffsetFetch(fetch) = request else { panic!("{:?}", request.api_key()) };
        let topics = fetch.groups[0].topics.iter().flatten();
        seen.lock().extend(topics.flat_map(|topic| &topic.partition_indexes));
        None
    });
    let settings = GroupSettings {
        partition_assignment_strategy: vec![Arc::new(CooperativeStickyAssignor::default())],
        ..settings()
    };
    let mut member = GroupConsumer::join(broker.client(), settings, ConsumerSettings::default()).await.unwrap();
    read(&mut member, 10).await;
    broker.lie(ApiKey::Heartbeat, Lie::Error(ErrorCode::RebalanceInProgress));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(member.poll(10, Duration::from_secs(1)).await.unwrap(), []);
    assert_eq!(member.poll(10, Duration::from_secs(1)).await.unwrap(), []);
    assert_eq!(member.positions().into_values().collect::<Vec<_>>(), [5]);
    assert_eq!(*owned.lock(), [vec![], vec![], vec![0, 1], vec![0]], "it joins again when it has given something up");
    assert_eq!(*asked.lock(), [0, 1], "what it keeps needs no offset of the group");
}

#[tokio::test(start_paused = true)]
async fn an_assignor_that_nobody_has_is_an_error() {
    let broker = filled().await;
    broker.script(ApiKey::JoinGroup, |_, request| {
        let Request::JoinGroup(join) = request else { panic!("{:?}", request.api_key()) };
        Some(Response::JoinGroup(JoinGroupResponse {
            generation_id: 1,
            protocol_type: Some(join.protocol_type.clone()),
            protocol_name: Some(StrBytes::from("strange")),
            leader: StrBytes::from("me"),
            member_id: StrBytes::from("me"),
            ..Default::default()
        }))
    });
    let error = join(&broker).await.err().unwrap();
    assert!(matches!(&error, ClientError::UnknownAssignor { name, .. } if name == "strange"), "{error}");
}
