//! What is written can be read again, and is what the schema says.

use ottla_protocol::{ApiKey, Decoder, Encoder, Request, Response};
use xtask::protocol::schema::Kind;

use crate::support::{for_every_sample, subjects};

#[test]
fn every_message_is_read_and_written_as_its_schema_says() {
    let subjects = subjects();
    let mut samples = 0;
    for_every_sample(&subjects, 1, 12, |sample| {
        let (name, version) = (&sample.subject.schema.name, sample.version);
        let written = (sample.subject.round_trip)(&sample.bytes, version);
        assert_eq!(written.as_ref(), Ok(&sample.bytes), "{name} version {version}");
        samples += 1;
    });
    assert!(samples > 8000, "{samples} samples");
}

#[test]
fn the_enums_over_all_apis_read_and_write_the_same() {
    let subjects = subjects();
    let mut seen = 0;
    for_every_sample(&subjects, 2, 3, |sample| {
        let (kind, version) = (sample.subject.schema.kind, sample.version);
        let Some(api_key) = sample.subject.schema.api_key.and_then(ApiKey::from_code) else { return };
        let mut input = Decoder::new(sample.bytes.clone());
        let mut output = Encoder::new();
        if kind == Kind::Request {
            let request = Request::decode(api_key, version, &mut input).unwrap();
            assert_eq!(request.api_key(), api_key);
            request.encode(&mut output, version).unwrap();
        } else {
            let response = Response::decode(api_key, version, &mut input).unwrap();
            assert_eq!(response.api_key(), api_key);
            response.encode(&mut output, version).unwrap();
        }
        assert_eq!(output.finish_contiguous().unwrap(), sample.bytes, "{api_key} version {version}");
        seen += 1;
    });
    assert!(seen > 1500, "{seen} samples");
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    // Two tagged fields, 70 and 1,000,000, at the end of the outermost struct, in the place of none.
    let unknown = [2, 70, 3, 1, 2, 3, 0xc0, 0x84, 0x3d, 1, 9];
    let subjects = subjects();
    let mut seen = 0;
    for_every_sample(&subjects, 3, 1, |sample| {
        let schema = &sample.subject.schema;
        if !schema.is_flexible(sample.version) {
            return;
        }
        let (last, rest) = sample.bytes.split_last().expect("a flexible message ends in its tagged fields");
        assert_eq!(*last, 0, "{}: the emptiest message has none", schema.name);
        let with_unknown = [rest, &unknown].concat();
        let written = (sample.subject.round_trip)(&with_unknown.into(), sample.version);
        assert_eq!(written.as_ref(), Ok(&sample.bytes), "{} version {}", schema.name, sample.version);
        seen += 1;
    });
    assert!(seen > 400, "{seen} samples");
}
