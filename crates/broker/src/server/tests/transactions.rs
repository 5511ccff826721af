//! What clients are told of transactions that the log has. No client can write them yet, so a test does, as a coordinator.

use bytes::Bytes;
use ottla_log::EndTransaction;
use ottla_protocol::messages::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use ottla_protocol::messages::fetch_response::PartitionData;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ottla_record::{ControlMarker, ControlType, Records, ValidatedBatch, ValidationRules, batches, control_marker};
use ottla_types::ErrorCode;

use super::*;

const LATEST: i64 = -1;
const MAX_TIMESTAMP: i64 = -3;

/// A node with a partition that is flushed before its high watermark moves.
struct Node {
    server: Server,
    partition: Arc<Partition>,
    connection: Connection,
}

impl Node {
    async fn start() -> Node {
        let server = start(MemoryWorld::new(1).world(), &[]).await;
        let partition = host(&server, LogConfig::default()).await;
        let connection = connect(&server).await;
        Node { server, partition, connection }
    }

    /// Appends as a coordinator, and waits for the high watermark.
    async fn append(&self, batch: &Bytes) -> i64 {
        let rules = ValidationRules {
            origin: AppendOrigin::Coordinator,
            ..crate::validation::rules(&self.partition.config(), 1)
        };
        let batch: ValidatedBatch = ottla_record::validate(batch, &rules).unwrap();
        let logs = self.server.broker.replicas.logs();
        let appended = self.partition.append(logs, &batch, AppendOrigin::Coordinator, 1).unwrap();
        if let Some(acknowledged) = self.partition.acknowledgement(appended.last_offset + 1) {
            acknowledged.await.unwrap().unwrap();
        }
        appended.base_offset
    }

    async fn write(&self, producer_id: i64, sequence: i32, value: &str) -> i64 {
        let mut batch = BatchBuilder::new(Compression::NONE);
        batch.set_producer(producer_id, 0, sequence);
        batch.set_transactional(true);
        batch.append(1_000 + i64::from(sequence), None, Some(value.as_bytes()), &[]).unwrap();
        self.append(&batch.finish().unwrap()).await
    }

    async fn plain(&self, value: &str) -> i64 {
        let mut batch = BatchBuilder::new(Compression::NONE);
        batch.append(1, None, Some(value.as_bytes()), &[]).unwrap();
        self.append(&batch.finish().unwrap()).await
    }

    async fn end(&self, producer_id: i64, control_type: ControlType) -> i64 {
        let marker = ControlMarker {
            control_type,
            producer_id,
            producer_epoch: 0,
            coordinator_epoch: 3,
            timestamp: 2_000,
            base_offset: 0,
            partition_leader_epoch: 0,
        };
        self.append(&control_marker(&marker).unwrap()).await
    }

    async fn fetch(&self, isolation_level: i8, offset: i64) -> PartitionData {
        fetch(&self.connection, isolation_level, offset, 0).await
    }

    async fn offset_of(&self, isolation_level: i8, timestamp: i64) -> (i16, i64) {
        let wanted = ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() };
        let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![wanted] }];
        let request = ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..Default::default() };
        let found = &self.connection.send(&request).await.unwrap().topics[0].partitions[0];
        (found.error_code, found.offset)
    }
}

async fn fetch(connection: &Connection, isolation_level: i8, offset: i64, max_wait_ms: i32) -> PartitionData {
    let partitions = vec![FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() }];
    let request = FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: "t".into(), partitions, ..Default::default() }],
        ..Default::default()
    };
    let mut answer = connection.send_at_most(&request, 12, Duration::from_secs(20)).await.unwrap();
    answer.responses.remove(0).partitions.remove(0)
}

/// The values of the records that are not control records.
fn values(data: &PartitionData) -> Vec<String> {
    let bytes = data.records.clone().and_then(FetchedRecords::into_bytes).unwrap();
    let mut values = Vec::new();
    for batch in batches(&bytes) {
        let (header, batch) = batch.unwrap();
        if !header.attributes.is_control() {
            let records = Records::new(&header, &batch[ottla_record::BATCH_OVERHEAD..]);
            values.extend(records.map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap()));
        }
    }
    values
}

fn aborted(data: &PartitionData) -> Option<Vec<(i64, i64)>> {
    let list = data.aborted_transactions.as_ref()?;
    Some(list.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect())
}

#[tokio::test]
async fn a_reader_of_committed_records_is_told_what_was_aborted() {
    let node = Node::start().await;
    node.plain("plain").await;
    node.write(5, 0, "aborted").await;
    node.write(6, 0, "committed").await;
    let read = node.fetch(1, 0).await;
    assert_eq!((read.high_watermark, read.last_stable_offset), (3, 1));
    assert_eq!((values(&read), aborted(&read)), (vec!["plain".to_owned()], Some(vec![])));
    let read = node.fetch(1, 1).await;
    assert_eq!((values(&read).len(), aborted(&read), read.error_code), (0, Some(vec![]), 0), "beyond what is stable");
    let read = node.fetch(0, 0).await;
    assert_eq!((read.high_watermark, read.last_stable_offset), (3, 1), "told whatever is read");
    assert_eq!((values(&read), aborted(&read)), (["plain", "aborted", "committed"].map(str::to_owned).to_vec(), None));
    assert_eq!([node.offset_of(0, LATEST).await, node.offset_of(1, LATEST).await], [(0, 3), (0, 1)]);
    assert_eq!(node.offset_of(0, MAX_TIMESTAMP).await, (0, 1));
    assert_eq!(node.offset_of(1, MAX_TIMESTAMP).await, (0, -1), "it is in an open transaction");
    assert_eq!([node.offset_of(0, 500).await, node.offset_of(1, 500).await], [(0, 1), (0, -1)]);

    assert_eq!(node.end(5, ControlType::Abort).await, 3);
    assert_eq!(node.end(6, ControlType::Commit).await, 4);
    let read = node.fetch(1, 0).await;
    assert_eq!((read.high_watermark, read.last_stable_offset), (5, 5));
    assert_eq!(values(&read), ["plain", "aborted", "committed"]);
    assert_eq!(aborted(&read), Some(vec![(5, 1)]));
    assert_eq!(aborted(&node.fetch(1, 4).await), Some(vec![]), "its marker is before");
    assert_eq!(aborted(&node.fetch(0, 0).await), None);
    assert_eq!([node.offset_of(1, LATEST).await, node.offset_of(1, 500).await], [(0, 5), (0, 1)]);
}

#[tokio::test]
async fn a_waiting_reader_of_committed_records_is_woken_by_the_end_of_a_transaction() {
    let node = Node::start().await;
    node.write(5, 0, "first").await;
    let reader = connect(&node.server).await;
    // The wait is far longer than the test may take.
    let waiting = tokio::spawn(async move { fetch(&reader, 1, 0, 600_000).await });
    let is_waiting = async {
        while node.server.metrics().waiting_fetches == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_waiting).await.unwrap();
    // The high watermark moves, and what is stable does not.
    node.write(5, 1, "second").await;
    assert_eq!(node.partition.last_stable_offset(), 0);
    node.end(5, ControlType::Commit).await;
    let read = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("woken").unwrap();
    assert_eq!((values(&read), read.last_stable_offset), (["first", "second"].map(str::to_owned).to_vec(), 3));
}

#[tokio::test]
async fn open_transactions_are_described() {
    let node = Node::start().await;
    node.plain("plain").await;
    node.write(5, 0, "open").await;
    node.write(6, 0, "ended").await;
    node.end(6, ControlType::Abort).await;
    let topic = TopicRequest { name: "t".into(), partition_indexes: vec![0] };
    let answer = node.connection.send(&DescribeProducersRequest { topics: vec![topic] }).await.unwrap();
    let producers: Vec<_> = answer.topics[0].partitions[0]
        .active_producers
        .iter()
        .map(|p| (p.producer_id, p.last_sequence, p.coordinator_epoch, p.current_txn_start_offset))
        .collect();
    assert_eq!(producers, [(5, 0, -1, 1), (6, 0, 3, -1)]);
}

#[tokio::test]
async fn a_coordinator_that_was_replaced_is_fenced() {
    let node = Node::start().await;
    node.write(5, 0, "a").await;
    let end = |coordinator_epoch, producer_epoch| {
        let end = EndTransaction {
            producer_id: 5,
            producer_epoch,
            coordinator_epoch,
            result: ControlType::Commit,
            transaction_version: ottla_log::TransactionVersion::LEGACY,
        };
        let appended = node.partition.log().append_end_transaction_marker(&end, LeaderEpoch(0), 1);
        appended.map_err(|error| crate::replica_manager::append_error_code(&error)).map(|appended| appended.base_offset)
    };
    assert_eq!(end(4, 1), Ok(1));
    assert_eq!(end(3, 1), Err(ErrorCode::TransactionCoordinatorFenced));
    assert_eq!(end(4, 0), Err(ErrorCode::InvalidProducerEpoch));
}
