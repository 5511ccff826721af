//! Bytes nobody well-meaning sends: an error or a message, never a panic.

use bytes::Bytes;
use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::join_group_request::JoinGroupRequest;
use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_protocol::messages::sasl_authenticate_request::SaslAuthenticateRequest;
use ottla_protocol::{
    DecodeError, Decoder, MAX_ARRAY_LENGTH, MAX_TAGGED_FIELDS, Message, RequestHeader, UnsupportedVersion,
};
use xtask::protocol::sample::Random;

use crate::support::{decode, for_every_sample, subjects};

#[test]
fn a_message_cut_anywhere_is_an_error() {
    let subjects = subjects();
    let mut cuts = 0;
    for_every_sample(&subjects, 4, 2, |sample| {
        for length in 0..sample.bytes.len() {
            let cut = sample.bytes.slice(..length);
            let decoded = (sample.subject.decode)(&mut Decoder::new(cut), sample.version);
            let (name, version) = (&sample.subject.schema.name, sample.version);
            assert!(decoded.is_err(), "{name} version {version} cut to {length} bytes of {}", sample.bytes.len());
            cuts += 1;
        }
    });
    assert!(cuts > 100_000, "{cuts} cuts");
}

#[test]
fn no_damage_makes_a_decoder_panic() {
    let hostile: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff],
        // 10,000,000 and 1,000,001 as lengths.
        &[0x80, 0xad, 0xe2, 0x04],
        &[0, 0x0f, 0x42, 0x41],
    ];
    let subjects = subjects();
    let mut random = Random::new(5);
    let mut damaged = 0;
    for_every_sample(&subjects, 5, 3, |sample| {
        for _ in 0..60 {
            let mut bytes = sample.bytes.to_vec();
            if bytes.is_empty() {
                continue;
            }
            let place = random.below(bytes.len());
            if random.below(2) == 0 {
                let length = hostile[random.below(hostile.len())];
                bytes.splice(place..(place + length.len()).min(bytes.len()), length.iter().copied());
            } else {
                bytes[place] = random.number().to_le_bytes()[0];
            }
            // Either is fine; a panic, or an allocation beyond all bounds, is not.
            let _ = (sample.subject.decode)(&mut Decoder::new(bytes.into()), sample.version);
            damaged += 1;
        }
    });
    assert!(damaged > 100_000, "{damaged} damaged messages");
}

#[test]
fn lengths_are_checked_against_what_is_left() {
    check::<MetadataRequest>(
        1,
        &[0x7f, 0xff, 0xff, 0xff],
        DecodeError::ArrayTooLong { length: i32::MAX as usize, remaining: 0, max: MAX_ARRAY_LENGTH },
    );
    check::<MetadataRequest>(
        9,
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        DecodeError::ArrayTooLong { length: u32::MAX as usize - 1, remaining: 0, max: MAX_ARRAY_LENGTH },
    );
    // The bytes for 1,000,001 topics are there, but Kafka takes a million.
    let mut many = vec![0, 0x0f, 0x42, 0x41];
    many.resize(many.len() + 1_000_001 * 2, 0);
    check::<MetadataRequest>(
        1,
        &many,
        DecodeError::ArrayTooLong { length: 1_000_001, remaining: 2_000_002, max: MAX_ARRAY_LENGTH },
    );
    // One topic, whose name says 32,767 bytes.
    check::<MetadataRequest>(1, &[0, 0, 0, 1, 0x7f, 0xff], DecodeError::UnexpectedEnd { needed: 32767, remaining: 0 });
    check::<SaslAuthenticateRequest>(
        0,
        &[0x7f, 0xff, 0xff, 0xff],
        DecodeError::UnexpectedEnd { needed: i32::MAX as usize, remaining: 0 },
    );
}

#[test]
fn negative_lengths_are_null_where_null_is_allowed() {
    for length in [-1i32, -2, i32::MIN] {
        let topics = length.to_be_bytes();
        assert_eq!(decode::<MetadataRequest>(Bytes::copy_from_slice(&topics), 1).unwrap().topics, None);
        check::<MetadataRequest>(0, &topics, DecodeError::UnexpectedNull);
        check::<SaslAuthenticateRequest>(0, &topics, DecodeError::UnexpectedNull);
    }
    check::<JoinGroupRequest>(0, &[0xff, 0xff], DecodeError::UnexpectedNull);
    check::<JoinGroupRequest>(0, &[0x80, 0], DecodeError::UnexpectedNull);
}

#[test]
fn strings_of_the_compact_form_are_no_longer_than_those_of_the_old() {
    let mut software = vec![0x81, 0x80, 0x02];
    software.resize(3 + 32768, b'a');
    check::<ApiVersionsRequest>(3, &software, DecodeError::StringTooLong { length: 32768 });
}

#[test]
fn tagged_fields_are_limited() {
    let body = |tagged: &[u8]| [&[2, b'a', 2, b'1'], tagged].concat();
    // 10,000,000 of them.
    check::<ApiVersionsRequest>(
        3,
        &body(&[0x80, 0xad, 0xe2, 0x04]),
        DecodeError::TooManyTaggedFields { count: 10_000_000, max: MAX_TAGGED_FIELDS },
    );
    // As many as there may be, all empty: 10,000 in two bytes, then tag 100 and no bytes each.
    let mut most = vec![0x90, 0x4e];
    most.extend([100, 0].repeat(MAX_TAGGED_FIELDS));
    assert!(decode::<ApiVersionsRequest>(body(&most), 3).is_ok());
    // A field that goes beyond the message.
    check::<ApiVersionsRequest>(3, &body(&[1, 9, 5, 0]), DecodeError::UnexpectedEnd { needed: 5, remaining: 1 });
}

#[test]
fn a_tagged_field_is_as_long_as_it_says() {
    // The cluster id, tag 0, in a request without anything else.
    let body = |length: u8, value: &[u8]| {
        let mut bytes = vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([0; 8]);
        bytes.extend([1, 1, 1, 1, 0, length]);
        bytes.extend(value);
        bytes
    };
    assert_eq!(decode::<FetchRequest>(body(2, &[2, b'c']), 12).unwrap().cluster_id, Some("c".into()));
    check::<FetchRequest>(12, &body(3, &[2, b'c', 0]), DecodeError::TaggedFieldSize { tag: 0, declared: 3, read: 2 });
    check::<FetchRequest>(12, &body(1, &[2, b'c']), DecodeError::UnexpectedEnd { needed: 1, remaining: 0 });
}

#[test]
fn numbers_of_variable_length_have_32_bits() {
    check::<MetadataRequest>(9, &[0xff, 0xff, 0xff, 0xff, 0x1f], DecodeError::VarintTooLong);
    check::<MetadataRequest>(9, &[0xff, 0xff, 0xff, 0xff, 0x8f, 0x00], DecodeError::VarintTooLong);
}

#[test]
fn versions_that_do_not_exist_are_refused() {
    for version in [i16::MIN, -1, 14, i16::MAX] {
        let unsupported = UnsupportedVersion { message: "MetadataRequest", version };
        check::<MetadataRequest>(version, &[0; 64], unsupported.into());
    }
}

#[test]
fn a_header_names_a_known_api() {
    let read = |bytes: &'static [u8]| RequestHeader::decode_any(&mut Decoder::new(Bytes::from_static(bytes)));
    for removed_or_unknown in [4i16, -1, 1000, i16::MIN] {
        let header = [&removed_or_unknown.to_be_bytes()[..], &[0; 20]].concat();
        assert_eq!(
            RequestHeader::decode_any(&mut Decoder::new(header.into())).unwrap_err(),
            DecodeError::UnknownApiKey { code: removed_or_unknown }
        );
    }
    assert_eq!(read(&[0]).unwrap_err(), DecodeError::UnexpectedEnd { needed: 2, remaining: 1 });
    assert_eq!(read(&[0, 3, 0]).unwrap_err(), DecodeError::UnexpectedEnd { needed: 4, remaining: 3 });
}

fn check<M: Message>(version: i16, body: &[u8], expected: DecodeError) {
    assert_eq!(decode::<M>(Bytes::copy_from_slice(body), version).unwrap_err(), expected);
}
