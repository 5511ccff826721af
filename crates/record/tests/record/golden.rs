//! Batches that Apache Kafka 4.4 built (`compat/record/run golden`), read and where possible written alike.

use bytes::Bytes;
use ottla_record::{
    BatchBuilder, BatchHeader, Codec, Compression, ControlMarker, ControlType, Records, ValidationRules,
    control_marker, validate, verify_crc,
};

use crate::sample::{OwnedRecord, body_of, records_of};

const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

fn golden(wanted: &str) -> Bytes {
    let hex = include_str!("golden.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(name, hex)| (name == wanted).then_some(hex))
        .unwrap_or_else(|| panic!("no golden batch {wanted}"));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// What the generator appends.
fn expected_records() -> Vec<OwnedRecord> {
    let mut records = vec![
        OwnedRecord::new(BASE_TIMESTAMP, Some("k0"), Some("v0")),
        OwnedRecord::new(BASE_TIMESTAMP + 5, None, None),
        OwnedRecord {
            timestamp: BASE_TIMESTAMP - 3,
            key: Some(Vec::new()),
            value: Some((0..300_usize).map(|index| (index * 7).to_le_bytes()[0]).collect()),
            headers: vec![
                (b"h".to_vec(), Some(b"1".to_vec())),
                (b"h".to_vec(), None),
                (Vec::new(), Some(b"x".to_vec())),
                ("h\u{e4}".as_bytes().to_vec(), Some(Vec::new())),
            ],
        },
    ];
    records.extend((3..40).map(|index| {
        let (key, value) = (format!("key-{index}"), format!("the value of record {index}"));
        OwnedRecord::new(BASE_TIMESTAMP + 1_000 * index, Some(&key), Some(&value))
    }));
    records
}

#[test]
fn every_codec_is_read() {
    let rules = ValidationRules { now_ms: BASE_TIMESTAMP, ..ValidationRules::default() };
    for (name, codec) in [
        ("none", Codec::None),
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
        ("gzip-level-9", Codec::Gzip),
        ("lz4-level-17", Codec::Lz4),
        ("zstd-level-22", Codec::Zstd),
        ("idempotent", Codec::None),
        ("transactional", Codec::None),
    ] {
        let batch = golden(name);
        verify_crc(&batch).unwrap();
        assert_eq!(BatchHeader::parse(&batch).unwrap().attributes.codec(), Some(codec), "{name}");
        assert_eq!(records_of(&batch).unwrap(), expected_records(), "{name}");
        let validated = validate(&batch, &rules).unwrap();
        assert_eq!(validated.bytes, batch, "{name}");
        assert_eq!(validated.offset_delta_of_max_timestamp, 39, "{name}");
    }
}

#[test]
fn uncompressed_batches_are_written_alike() {
    let check = |name: &str, prepare: &dyn Fn(&mut BatchBuilder)| {
        let mut builder = BatchBuilder::new(Compression::NONE);
        prepare(&mut builder);
        for record in expected_records() {
            record.append_to(&mut builder);
        }
        assert_eq!(builder.finish().unwrap(), golden(name), "{name}");
    };
    check("none", &|_| {});
    check("log-append-time", &|builder| builder.set_log_append_time(BASE_TIMESTAMP + 1_000));
    check("idempotent", &|builder| builder.set_producer(4711, 3, 2_147_483_640));
    check("transactional", &|builder| {
        builder.set_producer(4711, 3, 7);
        builder.set_transactional(true);
    });
}

#[test]
fn lz4_and_snappy_frames_begin_alike() {
    for (name, codec, same) in [("lz4", Codec::Lz4, 7), ("snappy", Codec::Snappy, 16), ("gzip", Codec::Gzip, 10)] {
        let mut builder = BatchBuilder::new(Compression::new(codec));
        for record in expected_records() {
            record.append_to(&mut builder);
        }
        let (ours, kafkas) = (builder.finish().unwrap(), golden(name));
        assert_eq!(ours[61..61 + same], kafkas[61..61 + same], "{name}");
        assert_eq!(body_of(&ours), body_of(&kafkas), "{name}");
    }
}

#[test]
fn thorough_lz4_is_written_alike() {
    let kafkas = golden("lz4-level-17");
    let ours = ottla_record::compress(Compression::with_level(Codec::Lz4, 17).unwrap(), &body_of(&kafkas)).unwrap();
    assert_eq!(ours, kafkas[61..]);
}

#[test]
fn header_fields() {
    let header = BatchHeader::parse(&golden("idempotent")).unwrap();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (4711, 3, 2_147_483_640));
    // The sequence goes on after its greatest number: 39 records further.
    assert_eq!(header.last_sequence(), 31);
    assert_eq!((header.last_offset(), header.next_offset()), (39, 40));
    assert!(BatchHeader::parse(&golden("transactional")).unwrap().attributes.is_transactional());
    let stamped = golden("log-append-time");
    let body = body_of(&stamped);
    let stamped = BatchHeader::parse(&stamped).unwrap();
    assert!(Records::new(&stamped, &body).all(|record| record.unwrap().timestamp == BASE_TIMESTAMP + 1_000));
}

#[test]
fn markers_are_written_alike() {
    for (name, control_type) in [("marker-commit", ControlType::Commit), ("marker-abort", ControlType::Abort)] {
        let marker = control_marker(&ControlMarker {
            control_type,
            producer_id: 4711,
            producer_epoch: 3,
            coordinator_epoch: 9,
            timestamp: BASE_TIMESTAMP,
            base_offset: 123,
            partition_leader_epoch: 5,
        })
        .unwrap();
        assert_eq!(marker, golden(name));
        let header = BatchHeader::parse(&marker).unwrap();
        assert!(header.attributes.is_control());
        let record = Records::new(&header, &marker[61..]).next().unwrap().unwrap();
        assert_eq!(ControlType::of(&record), Some(control_type));
    }
}
