//! A member of a group, from joining to leaving.

use std::time::Duration;

use ottla_client::{
    ClientError, ConsumerSettings, GroupConsumer, GroupSettings, Producer, ProducerRecord, ProducerSettings, StartAt,
};
use ottla_protocol::ApiKey;
use ottla_types::ErrorCode;

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

async fn join(broker: &FakeBroker) -> Result<GroupConsumer, ClientError> {
    let settings = GroupSettings::new("group".to_owned(), vec![TOPIC.to_owned()], StartAt::Beginning);
    GroupConsumer::join(broker.client(), settings, ConsumerSettings::default()).await
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
