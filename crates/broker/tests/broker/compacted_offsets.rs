//! `__consumer_offsets` is compacted, and says what it said.

use std::path::Path;

use bytes::Bytes;
use ottla_client::Connection;
use ottla_protocol::FetchedRecords;
use ottla_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup};
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponse;
use ottla_rt::World;

use crate::support::{TIMEOUT, create_topic, fetch, start_in, text};

const TOPIC: &str = "__consumer_offsets";
const GROUPS: [&str; 4] = ["a", "b", "c", "deleted"];
const PARTITIONS: i32 = 5;
/// With what is noted beside each offset, these fill three segments.
const ROUNDS: i64 = 40;
const SETTINGS: [(&str, &str); 3] = [
    ("offsets.topic.num.partitions", "1"),
    ("offsets.topic.segment.bytes", "1048576"),
    ("log.cleaner.backoff.ms", "10"),
];

#[tokio::test(flavor = "multi_thread")]
async fn compacted_offsets_are_loaded_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &SETTINGS).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", PARTITIONS, &[]).await;
    let find = FindCoordinatorRequest { coordinator_keys: vec![text("a")], ..Default::default() };
    assert_eq!(connection.send(&find).await.unwrap().coordinators[0].error_code, 0);
    for round in 0..ROUNDS {
        for group in GROUPS {
            commit(&connection, group, round).await;
        }
        if round == ROUNDS / 2 {
            delete(&connection, "deleted").await;
        }
    }
    delete(&connection, "deleted").await;
    for group in &GROUPS[..3] {
        commit(&connection, group, ROUNDS).await;
    }
    let before = committed(&connection).await;
    let partitions = before.groups.iter().map(|group| group.topics.iter().map(|topic| topic.partitions.len()).sum());
    assert_eq!(partitions.collect::<Vec<usize>>(), [5, 5, 5, 0]);
    wait_compacted(&connection, directory.path()).await;
    assert_eq!(committed(&connection).await, before, "nobody who asks is aware of it");
    drop(connection);
    broker.stop().await;

    let again = start_in(directory.path(), &SETTINGS).await;
    let connection = again.connect().await;
    assert_eq!(committed(&connection).await, before);
    again.stop().await;
}

async fn commit(connection: &Connection, group: &str, round: i64) {
    let partitions = (0..PARTITIONS).map(|partition| OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: round * 10 + i64::from(partition),
        committed_metadata: Some(text(&format!("{round:04000}"))),
        ..Default::default()
    });
    let request = OffsetCommitRequest {
        group_id: text(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: text("t"),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = connection.send_at_most(&request, 9, TIMEOUT).await.unwrap();
    assert!(answer.topics[0].partitions.iter().all(|partition| partition.error_code == 0), "{answer:?}");
}

async fn delete(connection: &Connection, group: &str) {
    let request = DeleteGroupsRequest { groups_names: vec![text(group)] };
    assert_eq!(connection.send(&request).await.unwrap().results[0].error_code, 0);
}

/// What every group has committed; asks again while the coordinator is loading.
async fn committed(connection: &Connection) -> OffsetFetchResponse {
    let groups =
        GROUPS.map(|group| OffsetFetchRequestGroup { group_id: text(group), topics: None, ..Default::default() });
    let request = OffsetFetchRequest { groups: groups.to_vec(), require_stable: true, ..Default::default() };
    let asking = async {
        loop {
            let answer = connection.send_at_most(&request, 8, TIMEOUT).await.unwrap();
            if answer.groups.iter().all(|group| group.error_code == 0) {
                return answer;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, asking).await.expect("the coordinator loads")
}

/// Waits until no key comes twice below the last segment.
async fn wait_compacted(connection: &Connection, directory: &Path) {
    let waiting = async {
        loop {
            let files = World::os().disk.read_dir(&directory.join(format!("{TOPIC}-0"))).unwrap();
            let bases = files.iter().filter_map(|file| file.name.strip_suffix(".log")?.parse::<i64>().ok());
            let last_segment = bases.max().unwrap();
            assert!(last_segment > 0, "there are several segments");
            let below = records(connection).await.into_iter().filter(|offset| *offset < last_segment).count();
            // Each partition of each group, and the tombstone of the group that was deleted.
            if below <= GROUPS.len() * PARTITIONS as usize + 1 {
                return;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, waiting).await.expect("the offsets are compacted");
}

/// The offset of every record in the log.
async fn records(connection: &Connection) -> Vec<i64> {
    let (mut offsets, mut next) = (Vec::new(), 0);
    loop {
        let data = fetch(connection, TOPIC, 0, next, 0).await;
        assert_eq!(data.error_code, 0);
        let records: Bytes = data.records.and_then(FetchedRecords::into_bytes).unwrap_or_default();
        let from = next;
        for batch in ottla_record::batches(&records) {
            // An answer may end within a batch.
            let Ok((header, body)) = batch else { break };
            let body = &body[ottla_record::BATCH_OVERHEAD..];
            let found = ottla_record::Records::new(&header, body).map(|record| record.unwrap().offset);
            offsets.extend(found.filter(|offset| *offset >= from));
            next = header.next_offset();
        }
        if next == from {
            return offsets;
        }
    }
}
