//! A broker on a free port and a temporary directory, and the requests most tests need.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_broker::{Authorizer, MetricsSnapshot, Server};
use ottla_client::Connection;
use ottla_config::ServerConfig;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::{FetchResponse, PartitionData};
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::PartitionProduceResponse;
use ottla_protocol::{FetchedRecords, StrBytes};
use ottla_record::{BATCH_OVERHEAD, BatchBuilder, Codec, Compression, DecompressionLimits, Records};
use ottla_rt::World;
use ottla_types::Uuid;
use tempfile::TempDir;

pub const TIMEOUT: Duration = Duration::from_secs(20);

pub struct TestBroker {
    pub server: Server,
    pub port: u16,
    pub world: World,
}

/// Starts a broker on a directory.
pub async fn start_in(directory: &Path, settings: &[(&str, &str)]) -> TestBroker {
    start_on(World::os(), directory, settings).await
}

/// Starts a broker on a directory of this world.
pub async fn start_on(world: World, directory: &Path, settings: &[(&str, &str)]) -> TestBroker {
    let server = Server::start(world.clone(), config(directory, settings)).await.expect("the broker starts");
    let port = server.listeners()[0].address.port();
    TestBroker { server, port, world }
}

/// Starts a broker that asks this authorizer.
pub async fn start_authorized(directory: &Path, authorizer: Arc<dyn Authorizer>) -> TestBroker {
    let world = World::os();
    let server = Server::start_authorized(world.clone(), config(directory, &[]), authorizer).await;
    let server = server.expect("the broker starts");
    let port = server.listeners()[0].address.port();
    TestBroker { server, port, world }
}

fn config(directory: &Path, settings: &[(&str, &str)]) -> ServerConfig {
    let mut sets = vec![
        ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()),
        ("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned()),
    ];
    sets.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    ServerConfig::load(None, &sets, Some(directory), true).expect("the settings are valid").config
}

pub async fn start() -> (TempDir, TestBroker) {
    start_with(&[]).await
}

pub async fn start_with(settings: &[(&str, &str)]) -> (TempDir, TestBroker) {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), settings).await;
    (directory, broker)
}

impl TestBroker {
    pub async fn connect(&self) -> Connection {
        Connection::connect(&*self.world.net, "127.0.0.1", self.port, "test", TIMEOUT)
            .await
            .expect("the broker answers")
    }

    pub async fn stop(self) {
        self.server.shutdown().await.expect("the broker stops cleanly");
    }
}

/// Waits until the counts are so: a client has its answer a moment before the node has counted it.
pub async fn counted(server: &Server, condition: impl Fn(&MetricsSnapshot) -> bool) -> MetricsSnapshot {
    let waiting = async {
        loop {
            let snapshot = server.metrics();
            if condition(&snapshot) {
                return snapshot;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, waiting).await.expect("the node counts what it did")
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from(text.to_owned())
}

pub async fn create_topic(connection: &Connection, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig { name: text(name), value: Some(text(value)) })
        .collect();
    let topic = CreatableTopic {
        name: text(name),
        num_partitions: partitions,
        replication_factor: 1,
        assignments: Vec::new(),
        configs,
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
    let response = connection.send(&request).await.unwrap();
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0]);
    response.topics[0].topic_id
}

/// A batch of these values without keys.
pub fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::new(Codec::None));
    for value in values {
        builder.append(1_700_000_000_000, None, Some(value.as_bytes()), &[]).expect("a record");
    }
    builder.finish().expect("a batch")
}

pub fn produce_request(topic: &str, partition: i32, acks: i16, records: Option<Bytes>) -> ProduceRequest {
    let data = PartitionProduceData { index: partition, records };
    let topic = TopicProduceData { name: text(topic), partition_data: vec![data], ..Default::default() };
    ProduceRequest { transactional_id: None, acks, timeout_ms: 10_000, topic_data: vec![topic] }
}

/// Produces by topic name: version 12 is the newest that can.
pub async fn produce(
    connection: &Connection,
    topic: &str,
    partition: i32,
    acks: i16,
    records: Bytes,
) -> PartitionProduceResponse {
    let request = produce_request(topic, partition, acks, Some(records));
    let mut response = connection.send_at_most(&request, 12, TIMEOUT).await.unwrap();
    response.responses.remove(0).partition_responses.remove(0)
}

pub fn fetch_request(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let partition =
        FetchPartition { partition, fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: text(topic), partitions: vec![partition], ..Default::default() };
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

/// Fetches by topic name, in version 12.
pub async fn fetch(
    connection: &Connection,
    topic: &str,
    partition: i32,
    offset: i64,
    max_wait_ms: i32,
) -> PartitionData {
    let mut response = fetch_raw(connection, &fetch_request(topic, partition, offset, max_wait_ms)).await;
    assert_eq!(response.error_code, 0);
    response.responses.remove(0).partitions.remove(0)
}

pub async fn fetch_raw(connection: &Connection, request: &FetchRequest) -> FetchResponse {
    connection.send_at_most(request, 12, TIMEOUT).await.unwrap()
}

/// The values in fetched records.
pub fn values(data: &PartitionData) -> Vec<String> {
    let records = data.records.clone().and_then(FetchedRecords::into_bytes).expect("records are never null");
    let mut values = Vec::new();
    for batch in ottla_record::batches(&records) {
        let (header, bytes) = batch.expect("a whole batch");
        let body = Bytes::copy_from_slice(&bytes[BATCH_OVERHEAD..]);
        let limits = DecompressionLimits::default();
        let body = ottla_record::decompress(header.attributes.codec().expect("a codec"), &body, &limits).unwrap();
        for record in Records::new(&header, &body) {
            let value = record.expect("a record").value.expect("a value");
            values.push(String::from_utf8(value.to_vec()).unwrap());
        }
    }
    values
}

/// The id of a topic, by metadata.
pub async fn topic_id(connection: &Connection, name: &str) -> Uuid {
    metadata(connection, &[name], false).await.topics[0].topic_id
}

pub async fn metadata(connection: &Connection, names: &[&str], auto_create: bool) -> MetadataResponse {
    let topics =
        names.iter().map(|name| MetadataRequestTopic { name: Some(text(name)), ..Default::default() }).collect();
    let request =
        MetadataRequest { topics: Some(topics), allow_auto_topic_creation: auto_create, ..Default::default() };
    connection.send(&request).await.unwrap()
}
