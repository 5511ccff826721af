//! Encoding: versions that lack a field, frames, and payloads that are not copied.

use bytes::Bytes;
use ottla_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use ottla_protocol::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::list_offsets_request::ListOffsetsRequest;
use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::records::offset_commit_value::OffsetCommitValue;
use ottla_protocol::{
    ApiKey, DecodeError, Decoder, EncodeError, Encoder, FetchedRecords, FramePart, Message, RecordsPart, RequestHeader,
    ResponseHeader, UnsupportedVersion,
};
use ottla_types::Uuid;

use crate::support::{decode, encode};

#[test]
fn a_field_the_version_lacks_is_an_error_unless_ignorable() {
    let ignorable = FetchResponse { error_code: 7, ..Default::default() };
    assert_eq!(decode::<FetchResponse>(encode(&ignorable, 4).unwrap(), 4).unwrap(), FetchResponse::default());

    check(
        &FetchResponse { session_id: 7, ..Default::default() },
        6,
        EncodeError::UnsupportedField { message: "FetchResponse", field: "session_id", version: 6 },
    );
    check(
        &DescribeClusterRequest { endpoint_type: 2, ..Default::default() },
        0,
        EncodeError::UnsupportedField { message: "DescribeClusterRequest", field: "endpoint_type", version: 0 },
    );
    // A tagged field is no different.
    check(
        &ListOffsetsRequest { isolation_level: 1, ..Default::default() },
        1,
        EncodeError::UnsupportedField { message: "ListOffsetsRequest", field: "isolation_level", version: 1 },
    );
}

#[test]
fn null_is_an_error_where_the_version_lacks_it() {
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(encode(&all, 1).unwrap()[..], [0xff, 0xff, 0xff, 0xff]);
    check(&all, 0, EncodeError::UnexpectedNull { message: "MetadataRequest", field: "topics", version: 0 });
}

#[test]
fn what_the_protocol_cannot_express_is_an_error() {
    check(&MetadataRequest::default(), 99, UnsupportedVersion { message: "MetadataRequest", version: 99 }.into());
    let longest = OffsetCommitValue { metadata: "a".repeat(32767).into(), ..Default::default() };
    assert!(encode(&longest, 3).is_ok());
    check(
        &OffsetCommitValue { metadata: "a".repeat(32768).into(), ..Default::default() },
        3,
        EncodeError::StringTooLong { length: 32768 },
    );
}

#[test]
fn large_payloads_are_spliced_and_small_ones_copied() {
    let records = |length: usize| Bytes::from(vec![7u8; length]);
    let partition = |records: &Bytes| PartitionData { records: Some(records.clone().into()), ..Default::default() };
    let (large, small, other) = (records(5000), records(50), records(4096));
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic_id: Uuid::ONE,
            partitions: vec![partition(&large), partition(&small), partition(&other)],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut output = Encoder::framed();
    response.encode(&mut output, 17).unwrap();
    let length = output.len();
    let chunks = output.finish().unwrap();
    let places: Vec<_> = chunks.iter().map(|chunk| chunk.as_ptr()).collect();
    assert_eq!(places.len(), 5, "head, payload, between, payload, end");
    assert_eq!((places[1], places[3]), (large.as_ptr(), other.as_ptr()));

    let frame = Bytes::from(chunks.concat());
    assert_eq!(frame.len(), length);
    assert_eq!(frame[..4], u32::try_from(length - 4).unwrap().to_be_bytes());
    assert_eq!(decode::<FetchResponse>(frame.slice(4..), 17).unwrap(), response);
}

#[test]
fn records_that_are_elsewhere_leave_a_gap_in_the_frame() {
    let large = Bytes::from(vec![7u8; 5000]);
    let partition = |parts: Vec<RecordsPart>| PartitionData {
        records: Some(FetchedRecords::from_parts(parts)),
        ..Default::default()
    };
    let response = |partitions| FetchResponse {
        responses: vec![FetchableTopicResponse { topic_id: Uuid::ONE, partitions, ..Default::default() }],
        ..Default::default()
    };
    let gaps = vec![
        partition(vec![RecordsPart::Bytes(large.clone()), RecordsPart::Elsewhere(70_000)]),
        partition(vec![RecordsPart::Elsewhere(0), RecordsPart::Elsewhere(3)]),
    ];
    let mut output = Encoder::framed();
    response(gaps.clone()).encode(&mut output, 17).unwrap();
    let length = output.len();
    let filled: Vec<Bytes> = output
        .finish_parts()
        .unwrap()
        .into_iter()
        .map(|part| match part {
            FramePart::Bytes(bytes) => bytes,
            FramePart::Elsewhere(length) => Bytes::from(vec![9; length]),
        })
        .collect();
    let frame = Bytes::from(filled.concat());
    assert_eq!(frame.len(), length);
    assert_eq!(frame[..4], u32::try_from(length - 4).unwrap().to_be_bytes());

    let whole = vec![[vec![7; 5000], vec![9; 70_000]].concat(), vec![9; 3]];
    let expected = whole.into_iter().map(|records| partition(vec![RecordsPart::Bytes(records.into())])).collect();
    let decoded: FetchResponse = decode(frame.slice(4..), 17).unwrap();
    let bytes = |response: FetchResponse| -> Vec<_> {
        let partitions = response.responses.into_iter().flat_map(|topic| topic.partitions);
        partitions.map(|partition| partition.records.and_then(FetchedRecords::into_bytes).unwrap()).collect()
    };
    assert_eq!(bytes(decoded), bytes(response(expected)));

    let mut output = Encoder::framed();
    response(gaps.clone()).encode(&mut output, 17).unwrap();
    assert_eq!(output.finish(), Err(EncodeError::Elsewhere { length: 70_000 }));
    assert!(gaps[0].records.clone().unwrap().into_bytes().is_none());
}

#[test]
fn what_is_decoded_lies_in_the_frame() {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "orders".into(),
            partition_data: vec![PartitionProduceData { index: 3, records: Some(Bytes::from_static(b"records")) }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let frame = encode(&request, 9).unwrap();
    let decoded: ProduceRequest = decode(frame.clone(), 9).unwrap();
    let within = |part: &[u8]| frame.as_ptr_range().contains(&part.as_ptr());
    assert!(within(decoded.topic_data[0].name.as_bytes()));
    assert!(within(decoded.topic_data[0].partition_data[0].records.as_ref().unwrap()));
    assert_eq!(decoded, request);
}

#[test]
fn an_empty_frame_has_its_length() {
    assert_eq!(Encoder::framed().finish_contiguous().unwrap()[..], [0; 4]);
    assert!(Encoder::new().finish().unwrap().is_empty());
    let mut only_payload = Encoder::framed();
    only_payload.raw(&Bytes::from(vec![1; 10_000]));
    let chunks = only_payload.finish().unwrap();
    assert_eq!(chunks[0][..], 10_000u32.to_be_bytes());
    assert_eq!(chunks[1].len(), 10_000);
}

#[test]
fn headers_are_kafkas() {
    let header = |api_key: ApiKey, version| RequestHeader {
        request_api_key: api_key.code(),
        request_api_version: version,
        correlation_id: 5,
        client_id: Some("me".into()),
    };
    // The client id keeps the old form of a string in the flexible header, too.
    for (api_key, version, bytes) in [
        (ApiKey::Metadata, 8, &[0, 3, 0, 8, 0, 0, 0, 5, 0, 2, b'm', b'e'][..]),
        (ApiKey::Metadata, 9, &[0, 3, 0, 9, 0, 0, 0, 5, 0, 2, b'm', b'e', 0]),
        (ApiKey::SaslHandshake, 1, &[0, 17, 0, 1, 0, 0, 0, 5, 0, 2, b'm', b'e']),
        // A version from the future is taken to be flexible.
        (ApiKey::ApiVersions, 99, &[0, 18, 0, 99, 0, 0, 0, 5, 0, 2, b'm', b'e', 0]),
    ] {
        let expected = header(api_key, version);
        assert_eq!(encode(&expected, api_key.request_header_version(version)).unwrap()[..], *bytes);
        let mut input = Decoder::new(Bytes::copy_from_slice(bytes));
        assert_eq!(RequestHeader::decode_any(&mut input), Ok((api_key, expected)));
        assert_eq!(input.remaining(), 0);
    }
    for (api_key, version, bytes) in [
        (ApiKey::Metadata, 8, &[0, 0, 0, 5][..]),
        (ApiKey::Metadata, 9, &[0, 0, 0, 5, 0]),
        (ApiKey::ApiVersions, 5, &[0, 0, 0, 5]),
    ] {
        let header = ResponseHeader { correlation_id: 5 };
        assert_eq!(encode(&header, api_key.response_header_version(version)).unwrap()[..], *bytes);
    }
}

#[test]
fn unstable_versions_are_not_advertised() {
    assert_eq!(ApiKey::InitProducerId.valid_versions(), 0..=5);
    assert_eq!(ApiKey::InitProducerId.all_versions(), 0..=6);
    assert_eq!(ApiKey::Produce.valid_versions(), 3..=13);
    for api_key in ApiKey::ALL {
        assert_eq!(ApiKey::from_code(api_key.code()), Some(api_key));
        assert_eq!(api_key.valid_versions().start(), api_key.all_versions().start());
    }
}

#[test]
fn bytes_behind_a_message_are_left() {
    let mut input = Decoder::new(Bytes::from_static(&[0, 0, 0, 0, 9, 9]));
    MetadataRequest::decode(&mut input, 0).unwrap();
    assert_eq!(input.into_remaining()[..], [9, 9]);
}

fn check<M: Message>(message: &M, version: i16, expected: EncodeError) {
    assert_eq!(encode(message, version).unwrap_err(), expected);
}

#[test]
fn errors_name_what_is_wrong() {
    for (error, text) in [
        (DecodeError::UnexpectedEnd { needed: 4, remaining: 1 }.to_string(), "4 bytes expected where 1 are left"),
        (DecodeError::UnknownApiKey { code: 4 }.to_string(), "unknown API key 4"),
        (
            EncodeError::UnsupportedField { message: "FetchResponse", field: "session_id", version: 6 }.to_string(),
            "session_id of FetchResponse is set, which version 6 cannot express",
        ),
    ] {
        assert_eq!(error, text);
    }
}
