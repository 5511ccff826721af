//! What a flush, a deletion and a change of configuration may not do to another partition.

use ottla_config::Durability;
use ottla_log::{AppendOrigin, BatchToAppend, LogSettings};
use ottla_record::{BatchBuilder, Codec, Compression, ValidatedBatch};
use ottla_rt::memory::{Failure, Fault, MemoryWorld, Operation};
use ottla_types::Uuid;

use super::*;

async fn replicas() -> ReplicaManager {
    replicas_on(&MemoryWorld::new(1)).await
}

async fn replicas_on(machine: &MemoryWorld) -> ReplicaManager {
    let world = machine.world();
    let settings = LogSettings::new(vec!["/data".into()], 1);
    let logs = LogManager::open(world, settings, |_| LogConfig::default()).await.unwrap();
    ReplicaManager::new(logs, Fatal::default())
}

fn config(durability: Durability) -> Arc<LogConfig> {
    Arc::new(LogConfig { durability, ..LogConfig::default() })
}

async fn host(replicas: &ReplicaManager, id: TopicId, durability: Durability) -> Arc<Partition> {
    let hosted = Hosted { partition: 0, leader_epoch: LeaderEpoch(0) };
    replicas.host(vec![(Arc::from("t"), id, config(durability), vec![hosted])]).await;
    replicas.partition("t", 0).unwrap()
}

fn batch(values: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Compression::new(Codec::None));
    for _ in 0..values {
        builder.append(1, None, Some(b"value"), &[]).unwrap();
    }
    let rules = crate::validation::rules(&LogConfig::default(), 1);
    ottla_record::validate(&builder.finish().unwrap(), &rules).unwrap()
}

#[tokio::test]
async fn a_flush_of_a_deleted_topic_acknowledges_nothing_of_a_new_one() {
    let replicas = replicas().await;
    host(&replicas, Uuid([1; 16]), Durability::Fsync).await;
    replicas.remove([Uuid([1; 16])]).await;
    let partition = host(&replicas, Uuid([2; 16]), Durability::Fsync).await;
    // A round that began before the deletion ends now.
    replicas.flushed(&TopicPartition::new("t", 0), 100);
    assert_eq!(partition.high_watermark(), 0);
    let appended = partition.append(replicas.logs(), &batch(3), AppendOrigin::Client, 1).unwrap();
    assert!(partition.acknowledgement(appended.last_offset + 1).is_some(), "it waits for its own flush");
}

#[tokio::test]
async fn a_durable_topic_on_a_page_cache_node_is_led_with_all_it_had() {
    let machine = MemoryWorld::new(1);
    let page_cache = LogConfig { durability: Durability::PageCache, ..LogConfig::default() };
    let start = async || {
        let settings = LogSettings::new(vec!["/data".into()], 1);
        let logs = LogManager::open(machine.world(), settings, |_| page_cache.clone()).await.unwrap();
        ReplicaManager::new(logs, Fatal::default())
    };
    let replicas = start().await;
    let partition = host(&replicas, Uuid([1; 16]), Durability::Fsync).await;
    partition.append(replicas.logs(), &batch(3), AppendOrigin::Client, 1).unwrap();
    drop((replicas, partition));
    for (durability, flushed_offset) in [(Durability::PageCache, 0), (Durability::Fsync, 3)] {
        machine.disk.kill();
        let replicas = start().await;
        let partition = host(&replicas, Uuid([1; 16]), durability).await;
        assert_eq!((partition.log().flushed_offset(), partition.high_watermark()), (flushed_offset, 3));
    }
}

#[tokio::test]
async fn what_is_asked_for_while_the_mode_changes_is_flushed_all_the_same() {
    let replicas = Arc::new(replicas().await);
    replicas.logs().set_flush_listener(&(Arc::clone(&replicas) as Arc<dyn FlushListener>));
    let partition = host(&replicas, Uuid([1; 16]), Durability::Fsync).await;
    // The leader waits for flushes already, the log does not know yet.
    partition.log().set_config(config(Durability::PageCache));
    let appended = partition.append(replicas.logs(), &batch(3), AppendOrigin::Client, 1).unwrap();
    assert_eq!(appended.acknowledge_when_flushed, None);
    let acknowledged = partition.acknowledgement(appended.last_offset + 1).expect("it waits");
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(20), acknowledged).await;
    assert_eq!(in_time.expect("a flush comes"), Ok(Ok(())));
}

#[tokio::test]
async fn a_log_knows_its_high_watermark_from_the_start() {
    let replicas = replicas().await;
    let partition = host(&replicas, Uuid([1; 16]), Durability::PageCache).await;
    let log = partition.log();
    let batch = batch(3);
    let batch = BatchToAppend { bytes: &batch.bytes, header: &batch.header, origin: AppendOrigin::Client };
    log.append(batch, LeaderEpoch(0), 1).unwrap();
    assert_eq!(log.high_watermark(), 0);
    let again = Partition::new(
        partition.topic_partition().clone(),
        LeaderEpoch(1),
        Arc::clone(log),
        &config(Durability::PageCache),
        Arc::default(),
    );
    assert_eq!((again.high_watermark(), log.high_watermark()), (3, 3), "retention is bounded by it");
}

#[tokio::test]
async fn offline_is_what_could_not_be_hosted_and_not_what_is_still_to_be() {
    let machine = MemoryWorld::new(1);
    let replicas = replicas_on(&machine).await;
    let (id, config) = (Uuid([1; 16]), config(Durability::PageCache));
    let host = async |count| {
        let hosted = (0..count).map(|partition| Hosted { partition, leader_epoch: LeaderEpoch(0) }).collect();
        replicas.host(vec![(Arc::from("t"), id, Arc::clone(&config), hosted)]).await
    };
    let offline = || [0, 1].map(|partition| replicas.topic("t").unwrap().is_offline(partition));
    assert!(host(1).await);
    assert_eq!(offline(), [false, false], "the metadata may have the second one already");
    machine.disk.inject(Fault::nth(Operation::CreateDir, 0, Failure::NoSpace).on("t-1"));
    assert!(!host(2).await);
    assert_eq!(offline(), [false, true]);
    assert!(host(2).await);
    assert_eq!(offline(), [false, false]);
}
