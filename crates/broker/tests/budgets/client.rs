//! A client on a plain socket, with its requests made beforehand.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::{Encoder, RequestHeader, RequestMessage, StrBytes};
use ottla_record::{BatchBuilder, Codec, Compression};

pub const TOPIC: &str = "budget";
pub const GROUP: &str = "group";

pub struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_nodelay(true).expect("a socket option");
        Client { stream, answer: Vec::new() }
    }

    pub fn send(&mut self, frames: &[u8]) {
        self.stream.write_all(frames).expect("the broker reads");
    }

    /// The next response, without its length and correlation id.
    pub fn receive(&mut self) -> &[u8] {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("the broker answers");
        self.answer.resize(u32::from_be_bytes(length) as usize, 0);
        self.stream.read_exact(&mut self.answer).expect("the broker answers");
        &self.answer[4..]
    }

    pub fn receive_many(&mut self, count: usize) {
        for _ in 0..count {
            self.receive();
        }
    }

    /// Sends the same request so many times, each after the answer to the one before.
    pub fn repeat(&mut self, frame: &[u8], times: usize) {
        for _ in 0..times {
            self.exchange(frame);
        }
    }

    pub fn exchange(&mut self, frame: &[u8]) -> &[u8] {
        self.send(frame);
        self.receive()
    }
}

fn frame<R: RequestMessage>(request: &R, version: i16) -> Vec<u8> {
    let header = RequestHeader {
        request_api_key: R::API_KEY.code(),
        request_api_version: version,
        correlation_id: 7,
        client_id: Some(StrBytes::from("budgets")),
    };
    let mut output = Encoder::framed();
    header.encode(&mut output, R::API_KEY.request_header_version(version)).expect("a header");
    request.encode(&mut output, version).expect("a request");
    output.finish().expect("a frame").concat()
}

/// A batch of so many records with values of so many bytes.
pub fn batch(records: usize, bytes: usize) -> Bytes {
    let value: Vec<u8> = (0..bytes).map(|index| b'a' + (index % 26) as u8).collect();
    let mut builder = BatchBuilder::new(Compression::new(Codec::None));
    for _ in 0..records {
        builder.append(1_700_000_000_000, None, Some(&value), &[]).expect("a record");
    }
    builder.finish().expect("a batch")
}

pub fn produce(records: Bytes) -> Vec<u8> {
    let data = PartitionProduceData { index: 0, records: Some(records) };
    let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 10_000, topic_data: vec![topic] };
    frame(&request, 12)
}

pub fn fetch(offset: i64, max_bytes: i32, max_wait_ms: i32) -> Vec<u8> {
    let partition = FetchPartition {
        current_leader_epoch: -1,
        fetch_offset: offset,
        log_start_offset: -1,
        partition_max_bytes: max_bytes,
        ..Default::default()
    };
    let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![partition], ..Default::default() };
    let request = FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    frame(&request, 12)
}

/// Asks for the topic, and makes it where it is missing.
pub fn metadata() -> Vec<u8> {
    let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
    frame(&MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: true, ..Default::default() }, 12)
}

pub fn find_coordinator() -> Vec<u8> {
    use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
    frame(&FindCoordinatorRequest { coordinator_keys: vec![GROUP.into()], ..Default::default() }, 4)
}

/// Commits an offset as a client that is no member of its group.
pub fn offset_commit() -> Vec<u8> {
    let partition = OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: TOPIC.into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    frame(&request, 8)
}
