//! A small honest broker in memory, with a place to lie at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_client::{Client, ClientSettings};
use ottla_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use ottla_protocol::messages::create_topics_response::{CreatableTopicResult, CreateTopicsResponse};
use ottla_protocol::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use ottla_protocol::messages::heartbeat_response::HeartbeatResponse;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use ottla_protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use ottla_protocol::messages::leave_group_response::LeaveGroupResponse;
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use ottla_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use ottla_protocol::messages::sasl_authenticate_response::SaslAuthenticateResponse;
use ottla_protocol::messages::sasl_handshake_response::SaslHandshakeResponse;
use ottla_protocol::messages::sync_group_response::SyncGroupResponse;
use ottla_protocol::{ApiKey, Decoder, Encoder, Request, RequestHeader, Response, ResponseHeader, StrBytes};
use ottla_record::{BatchHeader, DecompressionLimits, patch_base_offset_and_epoch};
use ottla_rt::{BoxFuture, Listener, Net, ReadHalf, Stream, World, WriteHalf};
use ottla_types::{ErrorCode, Uuid};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;

pub const TOPIC: &str = "topic";
pub const PARTITIONS: i32 = 2;
pub const TOPIC_ID: Uuid = Uuid([7; 16]);
pub const NODE: i32 = 1;

/// What the broker does with a request instead of answering it properly.
#[derive(Clone, Debug)]
pub enum Lie {
    /// Answers with this error, having done nothing.
    Error(ErrorCode),
    /// Does what was asked and closes the connection without an answer.
    DoneButLost,
    /// Never answers.
    Silence,
    /// Puts these bytes in place of the response's body.
    Body(Bytes),
    /// Answers properly, but to a request nobody sent.
    WrongCorrelationId,
    /// Sends exactly these bytes.
    Raw(Bytes),
}

/// Answers a request to one of the hosts in the broker's place, or leaves that to it.
pub type Script = Arc<dyn Fn(&str, &Request) -> Option<Response> + Send + Sync>;

#[derive(Default)]
pub struct State {
    pub scripts: BTreeMap<ApiKey, Script>,
    /// The lies to tell, by API, in order.
    pub lies: BTreeMap<ApiKey, VecDeque<Lie>>,
    /// Whether the first lie of each API is told for ever.
    pub lie_for_ever: bool,
    pub logs: BTreeMap<i32, Vec<Bytes>>,
    pub requests: Vec<(ApiKey, i16)>,
    pub committed: BTreeMap<i32, i64>,
    /// The base sequences of all batches that came, per partition, repeated ones included.
    pub sequences: Vec<(i32, i64, i32)>,
    /// The producer epochs of the same.
    pub epochs: Vec<i16>,
    /// Of each partition and producer id: its epoch, and the sequence that comes next.
    next_sequences: BTreeMap<(i32, i64), (i16, i32)>,
    /// Topics that do not exist yet, and after how many more questions they do.
    pub missing: i32,
    pub producers: i64,
    /// Which connections are refused, counted from 0.
    pub refused: BTreeSet<usize>,
    pub connections: usize,
    pub max_batch_records: Option<i32>,
    pub generation: i32,
    pub assignment: Bytes,
    pub members: Vec<JoinGroupResponseMember>,
    pub left: bool,
    /// Over those it begins with.
    pub added_partitions: i32,
    /// Whether it reads nothing for now.
    pub asleep: bool,
    /// Whether it serves exactly what Apache Kafka 2.1 serves, as that does.
    pub kafka_2_1: bool,
    /// Where it says it is, if not at the bootstrap server.
    pub advertised: Option<&'static str>,
    /// Hosts nobody answers at.
    pub unreachable: BTreeSet<&'static str>,
    /// The hosts that were connected to.
    pub connected_to: Vec<String>,
    /// What a client has to say by PLAIN before anything else, and for how long that counts.
    pub password: Option<(&'static [u8], i64)>,
    /// Whether it goes on asking instead.
    pub endless_questions: bool,
}

#[derive(Clone, Default)]
pub struct FakeBroker {
    pub state: Arc<Mutex<State>>,
    woken: Arc<Notify>,
}

impl FakeBroker {
    /// Has it forget what it knows of producers, as after a loss of data.
    pub fn forget_producers(&self) {
        self.state.lock().next_sequences.clear();
    }

    pub fn lie(&self, api: ApiKey, lie: Lie) {
        self.state.lock().lies.entry(api).or_default().push_back(lie);
    }

    pub fn always_lie(&self, api: ApiKey, lie: Lie) {
        self.lie(api, lie);
        self.state.lock().lie_for_ever = true;
    }

    pub fn client(&self) -> Client {
        self.client_with(|_| ())
    }

    pub fn client_with(&self, change: impl FnOnce(&mut ClientSettings)) -> Client {
        let world = World { net: Arc::new(FakeNet(self.clone())), ..World::os() };
        let mut settings = ClientSettings {
            client_id: "test".to_owned(),
            request_timeout: Duration::from_secs(5),
            default_api_timeout: Duration::from_secs(20),
            ..ClientSettings::new("fake:9092".parse().unwrap())
        };
        change(&mut settings);
        Client::new(world, settings)
    }

    /// Has an API answered by a script.
    pub fn script(&self, api: ApiKey, script: impl Fn(&str, &Request) -> Option<Response> + Send + Sync + 'static) {
        self.state.lock().scripts.insert(api, Arc::new(script));
    }

    /// The values in a partition.
    pub fn values(&self, partition: i32) -> Vec<String> {
        let state = self.state.lock();
        let mut values = Vec::new();
        for batch in state.logs.get(&partition).into_iter().flatten() {
            let header = BatchHeader::parse(batch).unwrap();
            let codec = header.attributes.codec().unwrap();
            let body = ottla_record::decompress(codec, &batch.slice(61..), &DecompressionLimits::default()).unwrap();
            for record in ottla_record::Records::new(&header, &body) {
                values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
            }
        }
        values
    }

    /// Has it read again.
    pub fn wake(&self) {
        self.state.lock().asleep = false;
        self.woken.notify_waiters();
    }

    async fn awake(&self) {
        loop {
            let woken = self.woken.notified();
            if !self.state.lock().asleep {
                return;
            }
            woken.await;
        }
    }

    async fn serve(self, host: String, mut stream: DuplexStream) -> io::Result<()> {
        let mut authenticated = self.state.lock().password.is_none();
        loop {
            self.awake().await;
            let length = stream.read_i32().await?;
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut frame).await?;
            let frame = Bytes::from(frame);
            let api = ApiKey::from_code(i16::from_be_bytes([frame[0], frame[1]])).unwrap();
            let version = i16::from_be_bytes([frame[2], frame[3]]);
            let mut input = Decoder::new(frame);
            let header = RequestHeader::decode(&mut input, api.request_header_version(version)).unwrap();
            if self.state.lock().kafka_2_1 && api == ApiKey::ApiVersions && version > 2 {
                // It does not know what follows, and names nothing.
                self.state.lock().requests.push((api, version));
                let mut answer = BytesMut::new();
                answer.put_i32(10);
                answer.put_i32(header.correlation_id);
                answer.put_i16(ErrorCode::UnsupportedVersion.code());
                answer.put_i32(0);
                stream.write_all(&answer).await?;
                continue;
            }
            assert!(self.served().iter().any(|(served, versions)| *served == api && versions.contains(&version)));
            let request = Request::decode(api, version, &mut input).unwrap();
            assert_eq!(input.remaining(), 0, "{api:?} has bytes behind its end");
            let lie = {
                let mut state = self.state.lock();
                state.requests.push((api, version));
                let for_ever = state.lie_for_ever;
                let lies = state.lies.entry(api).or_default();
                if for_ever { lies.front().cloned() } else { lies.pop_front() }
            };
            let unanswered = matches!(&request, Request::Produce(produce) if produce.acks == 0);
            let error = match &lie {
                Some(Lie::Error(error)) => *error,
                _ => ErrorCode::None,
            };
            let before_authentication = [ApiKey::ApiVersions, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate];
            assert!(authenticated || before_authentication.contains(&api), "{api:?} of nobody");
            let script = self.state.lock().scripts.get(&api).cloned();
            let response = match script.and_then(|script| script(&host, &request)) {
                Some(response) => {
                    wait_as_asked(&request, &response).await;
                    response
                }
                None => self.handle(request, version, error).await,
            };
            if let Response::SaslAuthenticate(answer) = &response {
                authenticated |= answer.error_code == 0;
            }
            let mut correlation_id = header.correlation_id;
            match lie {
                None | Some(Lie::Error(_)) if unanswered => continue,
                Some(Lie::DoneButLost) => return Ok(()),
                Some(Lie::Silence) => std::future::pending().await,
                Some(Lie::Raw(bytes)) => {
                    stream.write_all(&bytes).await?;
                    continue;
                }
                Some(Lie::WrongCorrelationId) => correlation_id += 1,
                _ => {}
            }
            let mut output = Encoder::new();
            ResponseHeader { correlation_id }.encode(&mut output, api.response_header_version(version)).unwrap();
            match lie {
                Some(Lie::Body(bytes)) => output.raw(&bytes),
                _ => response.encode(&mut output, version).unwrap(),
            }
            let frame = output.finish_contiguous().unwrap();
            let mut framed = BytesMut::new();
            framed.put_i32(i32::try_from(frame.len()).unwrap());
            framed.put(frame);
            stream.write_all(&framed).await?;
        }
    }

    /// What it serves, and in which versions.
    fn served(&self) -> Vec<(ApiKey, RangeInclusive<i16>)> {
        if self.state.lock().kafka_2_1 {
            return KAFKA_2_1.iter().map(|(api, versions)| (*api, versions.clone())).collect();
        }
        SERVED.iter().map(|api| (*api, api.valid_versions())).collect()
    }

    async fn handle(&self, request: Request, version: i16, error: ErrorCode) -> Response {
        let error_code = error.code();
        let refused = error.is_error();
        match request {
            Request::ApiVersions(_) => Response::ApiVersions(ApiVersionsResponse {
                error_code,
                api_keys: self
                    .served()
                    .iter()
                    .map(|(api, versions)| ApiVersion {
                        api_key: api.code(),
                        min_version: *versions.start(),
                        max_version: *versions.end(),
                    })
                    .collect(),
                ..Default::default()
            }),
            Request::Metadata(metadata) => {
                let missing = {
                    let mut state = self.state.lock();
                    state.missing -= 1;
                    state.missing >= 0
                };
                let (advertised, old) = {
                    let state = self.state.lock();
                    (state.advertised.unwrap_or("fake"), state.kafka_2_1)
                };
                let whole_error = if error == ErrorCode::RebootstrapRequired { error_code } else { 0 };
                let error_code = match error_code {
                    0 if missing => ErrorCode::UnknownTopicOrPartition.code(),
                    code => code,
                };
                assert!(!missing || metadata.allow_auto_topic_creation, "it is to be made");
                Response::Metadata(MetadataResponse {
                    brokers: vec![MetadataResponseBroker {
                        node_id: NODE,
                        host: StrBytes::from(advertised),
                        port: 9092,
                        ..Default::default()
                    }],
                    error_code: whole_error,
                    topics: vec![MetadataResponseTopic {
                        error_code,
                        name: Some(StrBytes::from(TOPIC)),
                        topic_id: if old { Uuid::default() } else { TOPIC_ID },
                        partitions: (0..PARTITIONS + self.state.lock().added_partitions)
                            .map(|partition_index| MetadataResponsePartition {
                                partition_index,
                                leader_id: NODE,
                                replica_nodes: vec![NODE],
                                isr_nodes: vec![NODE],
                                ..Default::default()
                            })
                            .collect(),
                        ..Default::default()
                    }],
                    ..Default::default()
                })
            }
            Request::SaslHandshake(handshake) => {
                let unsupported = handshake.mechanism != "PLAIN";
                let error = if unsupported { ErrorCode::UnsupportedSaslMechanism } else { error };
                Response::SaslHandshake(SaslHandshakeResponse {
                    error_code: error.code(),
                    mechanisms: vec![StrBytes::from("PLAIN")],
                })
            }
            Request::SaslAuthenticate(said) => {
                let state = self.state.lock();
                let (password, session_lifetime_ms) = state.password.unwrap();
                let known = state.endless_questions || *said.auth_bytes == *password;
                let error = if known { error } else { ErrorCode::SaslAuthenticationFailed };
                Response::SaslAuthenticate(SaslAuthenticateResponse {
                    error_code: error.code(),
                    error_message: (!known).then(|| StrBytes::from("who are you?")),
                    session_lifetime_ms,
                    ..Default::default()
                })
            }
            Request::CreateTopics(_) => Response::CreateTopics(CreateTopicsResponse {
                topics: vec![CreatableTopicResult {
                    name: StrBytes::from(TOPIC),
                    error_code,
                    num_partitions: PARTITIONS,
                    ..Default::default()
                }],
                ..Default::default()
            }),
            Request::InitProducerId(_) => {
                let mut state = self.state.lock();
                state.producers += 1;
                Response::InitProducerId(InitProducerIdResponse {
                    error_code,
                    producer_id: 41 + state.producers,
                    producer_epoch: 0,
                    ..Default::default()
                })
            }
            Request::Produce(produce) => {
                let data = &produce.topic_data[0].partition_data[0];
                let (error, base_offset) =
                    if refused { (error, -1) } else { self.append(data.index, data.records.as_ref().unwrap()) };
                let answer = PartitionProduceResponse {
                    index: data.index,
                    error_code: error.code(),
                    base_offset,
                    ..Default::default()
                };
                Response::Produce(ProduceResponse {
                    responses: vec![TopicProduceResponse {
                        name: produce.topic_data[0].name.clone(),
                        topic_id: produce.topic_data[0].topic_id,
                        partition_responses: vec![answer],
                        ..Default::default()
                    }],
                    ..Default::default()
                })
            }
            Request::ListOffsets(list) => {
                let partitions = list.topics[0].partitions.iter().map(|partition| ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    error_code,
                    offset: if partition.timestamp == -1 { self.end(partition.partition_index) } else { 0 },
                    ..Default::default()
                });
                Response::ListOffsets(ListOffsetsResponse {
                    topics: vec![ListOffsetsTopicResponse {
                        name: StrBytes::from(TOPIC),
                        partitions: partitions.collect(),
                    }],
                    ..Default::default()
                })
            }
            Request::Fetch(fetch) => {
                let wait = Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap());
                let wanted = || {
                    fetch.topics.iter().flat_map(|topic| &topic.partitions).map(|wanted| {
                        let records = self.from(wanted.partition, wanted.fetch_offset);
                        (wanted.partition, records)
                    })
                };
                if wanted().all(|(_, records)| records.is_empty()) {
                    tokio::time::sleep(wait).await;
                }
                let partitions = wanted().map(|(partition_index, records)| PartitionData {
                    partition_index,
                    error_code,
                    records: Some(if refused { Bytes::new() } else { records }.into()),
                    ..Default::default()
                });
                let topic = FetchableTopicResponse {
                    topic: StrBytes::from(TOPIC),
                    topic_id: TOPIC_ID,
                    partitions: partitions.collect(),
                    ..Default::default()
                };
                Response::Fetch(FetchResponse { responses: vec![topic], ..Default::default() })
            }
            Request::FindCoordinator(_) if version < 4 => Response::FindCoordinator(FindCoordinatorResponse {
                node_id: NODE,
                host: StrBytes::from("fake"),
                port: 9092,
                error_code,
                ..Default::default()
            }),
            Request::FindCoordinator(find) => Response::FindCoordinator(FindCoordinatorResponse {
                coordinators: vec![Coordinator {
                    key: find.coordinator_keys[0].clone(),
                    node_id: NODE,
                    host: StrBytes::from("fake"),
                    port: 9092,
                    error_code,
                    ..Default::default()
                }],
                ..Default::default()
            }),
            Request::JoinGroup(join) => {
                let mut state = self.state.lock();
                let new = version >= 4 && join.member_id.is_empty();
                let required = if new { ErrorCode::MemberIdRequired } else { ErrorCode::None };
                let error = if refused { error } else { required };
                if error == ErrorCode::None {
                    state.generation += 1;
                    let me = JoinGroupResponseMember {
                        member_id: StrBytes::from("me"),
                        metadata: join.protocols[0].metadata.clone(),
                        ..Default::default()
                    };
                    state.members = vec![me];
                }
                Response::JoinGroup(JoinGroupResponse {
                    error_code: error.code(),
                    generation_id: state.generation,
                    protocol_type: Some(join.protocol_type),
                    protocol_name: Some(join.protocols[0].name.clone()),
                    leader: StrBytes::from("me"),
                    member_id: StrBytes::from("me"),
                    members: state.members.clone(),
                    ..Default::default()
                })
            }
            Request::SyncGroup(sync) => {
                let mut state = self.state.lock();
                if let Some(own) = sync.assignments.iter().find(|assignment| assignment.member_id == "me") {
                    state.assignment = own.assignment.clone();
                }
                Response::SyncGroup(SyncGroupResponse {
                    error_code,
                    protocol_type: sync.protocol_type,
                    protocol_name: sync.protocol_name,
                    assignment: state.assignment.clone(),
                    ..Default::default()
                })
            }
            Request::Heartbeat(_) => Response::Heartbeat(HeartbeatResponse { error_code, ..Default::default() }),
            Request::LeaveGroup(_) => {
                self.state.lock().left = true;
                Response::LeaveGroup(LeaveGroupResponse { error_code, ..Default::default() })
            }
            Request::OffsetFetch(fetch) => {
                let state = self.state.lock();
                let topics = fetch.groups[0].topics.iter().flatten().map(|topic| OffsetFetchResponseTopics {
                    name: topic.name.clone(),
                    partitions: topic
                        .partition_indexes
                        .iter()
                        .map(|&partition_index| OffsetFetchResponsePartitions {
                            partition_index,
                            committed_offset: state.committed.get(&partition_index).copied().unwrap_or(-1),
                            error_code,
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                });
                let group = OffsetFetchResponseGroup {
                    group_id: fetch.groups[0].group_id.clone(),
                    topics: topics.collect(),
                    ..Default::default()
                };
                Response::OffsetFetch(OffsetFetchResponse { groups: vec![group], ..Default::default() })
            }
            Request::OffsetCommit(commit) => {
                let mut state = self.state.lock();
                let partitions = commit.topics[0].partitions.iter().map(|partition| {
                    if !refused {
                        state.committed.insert(partition.partition_index, partition.committed_offset);
                    }
                    OffsetCommitResponsePartition { partition_index: partition.partition_index, error_code }
                });
                let topic = OffsetCommitResponseTopic {
                    name: commit.topics[0].name.clone(),
                    partitions: partitions.collect(),
                    ..Default::default()
                };
                Response::OffsetCommit(OffsetCommitResponse { topics: vec![topic], ..Default::default() })
            }
            other => panic!("nobody should ask for {:?}", other.api_key()),
        }
    }

    fn append(&self, partition: i32, records: &Bytes) -> (ErrorCode, i64) {
        let mut state = self.state.lock();
        let header = BatchHeader::parse(records).unwrap();
        if state.max_batch_records.is_some_and(|max| header.record_count > max) {
            return (ErrorCode::MessageTooLarge, -1);
        }
        state.sequences.push((partition, header.producer_id, header.base_sequence));
        state.epochs.push(header.producer_epoch);
        if header.has_producer_id() {
            let same = |batch: &&Bytes| {
                let batch = BatchHeader::parse(batch).unwrap();
                let numbers = |header: &BatchHeader| (header.producer_id, header.producer_epoch, header.base_sequence);
                numbers(&batch) == numbers(&header)
            };
            let log = state.logs.entry(partition).or_default();
            if let Some(known) = log.iter().find(same) {
                return (ErrorCode::None, BatchHeader::parse(known).unwrap().base_offset);
            }
            let producer = (partition, header.producer_id);
            let (epoch, next) = state.next_sequences.get(&producer).copied().unwrap_or((header.producer_epoch, 0));
            let next = if header.producer_epoch > epoch { 0 } else { next };
            if header.producer_epoch < epoch {
                return (ErrorCode::InvalidProducerEpoch, -1);
            }
            if header.base_sequence != next {
                return (ErrorCode::OutOfOrderSequenceNumber, -1);
            }
            state.next_sequences.insert(producer, (header.producer_epoch, next + header.record_count));
        }
        let log = state.logs.entry(partition).or_default();
        let base_offset = log.last().map_or(0, |last| BatchHeader::parse(last).unwrap().next_offset());
        let mut batch = records.to_vec();
        patch_base_offset_and_epoch(&mut batch, base_offset, 0);
        log.push(batch.into());
        (ErrorCode::None, base_offset)
    }

    fn end(&self, partition: i32) -> i64 {
        let state = self.state.lock();
        let last = state.logs.get(&partition).and_then(|log| log.last());
        last.map_or(0, |batch| BatchHeader::parse(batch).unwrap().next_offset())
    }

    fn from(&self, partition: i32, offset: i64) -> Bytes {
        let state = self.state.lock();
        let batches = state.logs.get(&partition).into_iter().flatten();
        let wanted = batches.filter(|batch| BatchHeader::parse(batch).unwrap().next_offset() > offset);
        wanted.flat_map(|batch| batch.iter().copied()).collect::<Vec<u8>>().into()
    }
}

/// A fetch without records takes as long as was asked for.
async fn wait_as_asked(request: &Request, response: &Response) {
    let (Request::Fetch(request), Response::Fetch(response)) = (request, response) else { return };
    let empty = |data: &PartitionData| {
        data.error_code == 0 && data.records.as_ref().is_none_or(ottla_protocol::FetchedRecords::is_empty)
    };
    if response.error_code == 0 && response.responses.iter().flat_map(|topic| &topic.partitions).all(empty) {
        tokio::time::sleep(Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap())).await;
    }
}

const SERVED: &[ApiKey] = &[
    ApiKey::ApiVersions,
    ApiKey::Metadata,
    ApiKey::CreateTopics,
    ApiKey::InitProducerId,
    ApiKey::Produce,
    ApiKey::ListOffsets,
    ApiKey::Fetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::OffsetFetch,
    ApiKey::OffsetCommit,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::SaslHandshake,
    ApiKey::SaslAuthenticate,
];

/// What Apache Kafka 2.1 serves to clients.
const KAFKA_2_1: &[(ApiKey, RangeInclusive<i16>)] = &[
    (ApiKey::Produce, 0..=7),
    (ApiKey::Fetch, 0..=10),
    (ApiKey::ListOffsets, 0..=4),
    (ApiKey::Metadata, 0..=7),
    (ApiKey::OffsetCommit, 0..=6),
    (ApiKey::OffsetFetch, 0..=5),
    (ApiKey::FindCoordinator, 0..=2),
    (ApiKey::JoinGroup, 0..=3),
    (ApiKey::Heartbeat, 0..=2),
    (ApiKey::LeaveGroup, 0..=2),
    (ApiKey::SyncGroup, 0..=2),
    (ApiKey::DescribeGroups, 0..=2),
    (ApiKey::ListGroups, 0..=2),
    (ApiKey::SaslHandshake, 0..=1),
    (ApiKey::ApiVersions, 0..=2),
    (ApiKey::CreateTopics, 0..=3),
    (ApiKey::DeleteTopics, 0..=3),
    (ApiKey::DeleteRecords, 0..=1),
    (ApiKey::InitProducerId, 0..=1),
    (ApiKey::OffsetForLeaderEpoch, 0..=2),
    (ApiKey::AddPartitionsToTxn, 0..=1),
    (ApiKey::AddOffsetsToTxn, 0..=1),
    (ApiKey::EndTxn, 0..=1),
    (ApiKey::TxnOffsetCommit, 0..=2),
    (ApiKey::DescribeConfigs, 0..=2),
    (ApiKey::AlterConfigs, 0..=1),
    (ApiKey::DescribeLogDirs, 0..=1),
    (ApiKey::SaslAuthenticate, 0..=0),
    (ApiKey::CreatePartitions, 0..=1),
    (ApiKey::DeleteGroups, 0..=1),
];

struct FakeNet(FakeBroker);

impl Net for FakeNet {
    fn bind(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let refused = {
                let mut state = self.0.state.lock();
                state.connections += 1;
                state.connected_to.push(host.to_owned());
                let number = state.connections - 1;
                state.refused.contains(&number) || state.unreachable.contains(host)
            };
            if refused {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            tokio::spawn(self.0.clone().serve(host.to_owned(), theirs));
            Ok(Box::new(FakeStream(ours)) as Box<dyn Stream>)
        })
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

struct FakeStream(DuplexStream);

impl Stream for FakeStream {
    fn split(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>) {
        let (read, write) = tokio::io::split(self.0);
        (Box::new(read), Box::new(write))
    }
}
