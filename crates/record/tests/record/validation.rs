//! The rules of a topic, and the codes clients get. `compat/record/run` holds thousands of random cases against Kafka;
//! here each rule has its name.

use bytes::Bytes;
use ottla_record::{
    AppendOrigin, BatchBuilder, Codec, Compression, ControlMarker, ControlType, DecompressionLimits, InvalidBatch,
    RejectReason, TargetCompression, ValidationMode, ValidationRules, control_marker, stamp_crc, validate, verify_crc,
};
use ottla_types::{ErrorCode, TimestampType};

use crate::sample::{OwnedRecord, batch, codecs, records_of, varied};

const NOW: i64 = 1_700_000_000_000;

fn rules() -> ValidationRules {
    ValidationRules { now_ms: NOW, ..ValidationRules::default() }
}

fn at(timestamp: i64) -> OwnedRecord {
    OwnedRecord::new(timestamp, Some("key"), Some("value"))
}

/// A good batch with bytes of its header replaced, and its CRC right.
fn with(position: usize, bytes: &[u8]) -> Bytes {
    let mut batch = batch(Compression::NONE, &varied()).to_vec();
    batch[position..position + bytes.len()].copy_from_slice(bytes);
    stamp_crc(&mut batch);
    batch.into()
}

#[test]
fn headers_and_their_codes() {
    let check = |records: Bytes, code: ErrorCode| {
        for mode in [ValidationMode::Strict, ValidationMode::Fast] {
            let refused = validate(&records, &ValidationRules { mode, ..rules() }).unwrap_err();
            assert_eq!(refused.error_code(), code, "{refused}");
        }
    };
    let good = batch(Compression::NONE, &varied());
    check(Bytes::new(), ErrorCode::InvalidRecord);
    check([&good[..], &good[..]].concat().into(), ErrorCode::InvalidRecord);
    check(with(16, &[0]), ErrorCode::InvalidRecord);
    check(with(16, &[1]), ErrorCode::InvalidRecord);
    check(with(16, &[3]), ErrorCode::CorruptMessage);
    check(with(16, &[0xff]), ErrorCode::CorruptMessage);
    check(with(8, &13_i32.to_be_bytes()), ErrorCode::CorruptMessage);
    check(with(8, &14_i32.to_be_bytes()), ErrorCode::CorruptMessage);
    check(with(8, &14_i32.to_be_bytes()).slice(..26), ErrorCode::CorruptMessage);
    check(with(8, &48_i32.to_be_bytes()).slice(..60), ErrorCode::CorruptMessage);
    check(with(8, &(-1_i32).to_be_bytes()), ErrorCode::CorruptMessage);
    check(with(0, &5_i64.to_be_bytes()), ErrorCode::InvalidRecord);
    check(with(22, &[5]), ErrorCode::UnsupportedCompressionType);
    check(with(22, &[0x20]), ErrorCode::InvalidRecord);
    check(with(23, &28_i32.to_be_bytes()), ErrorCode::InvalidRecord);
    check(with(23, &(-1_i32).to_be_bytes()), ErrorCode::InvalidRecord);
    check(with(57, &31_i32.to_be_bytes()), ErrorCode::InvalidRecord);
    check(with(57, &0_i32.to_be_bytes()), ErrorCode::InvalidRecord);
    check(with(57, &i32::MIN.to_be_bytes()), ErrorCode::InvalidRecord);
    // A producer id without a sequence.
    check(with(43, &7_i64.to_be_bytes()), ErrorCode::InvalidRecord);
}

#[test]
fn what_follows_the_batch_and_is_none_is_cut_off() {
    let good = batch(Compression::NONE, &varied());
    let torn = [&good[..], &good[..good.len() - 1]].concat();
    assert_eq!(validate(&torn.into(), &rules()).unwrap().bytes, good);
    assert_eq!(validate(&[&good[..], &[0; 11]].concat().into(), &rules()).unwrap().bytes, good);
    let refused = validate(&[&good[..], &[0; 12]].concat().into(), &rules()).unwrap_err();
    assert_eq!(refused.error_code(), ErrorCode::CorruptMessage);
}

#[test]
fn sizes() {
    let good = batch(Compression::NONE, &varied());
    let check = |limit, good_enough| {
        let validated = validate(&good, &ValidationRules { max_message_bytes: limit, ..rules() });
        assert_eq!(validated.map_err(|refused| refused.error_code()).err(), good_enough);
    };
    check(good.len(), None);
    check(good.len() - 1, Some(ErrorCode::MessageTooLarge));
    // Compressed it fits, but not as the topic wants it.
    let small = batch(Compression::new(Codec::Zstd), &varied());
    assert!(small.len() < good.len());
    let uncompressed = ValidationRules {
        max_message_bytes: good.len() - 1,
        target_compression: TargetCompression::Always(Compression::NONE),
        ..rules()
    };
    assert_eq!(validate(&small, &uncompressed).unwrap_err().error_code(), ErrorCode::MessageTooLarge);
    let limited = ValidationRules { max_decompressed_message_bytes: 50, ..rules() };
    let refused = validate(&small, &limited).unwrap_err();
    assert!(matches!(refused, InvalidBatch::RecordTooLarge { index: 1, limit: 50, .. }), "{refused:?}");
    assert_eq!(refused.error_code(), ErrorCode::InvalidRecord);
    // The limit is about decompression: it does not apply to what was never compressed.
    assert!(validate(&good, &limited).is_ok());
}

#[test]
fn zstd_needs_a_new_enough_request() {
    let old = ValidationRules { zstd_allowed: false, ..rules() };
    for codec in codecs() {
        let code = validate(&batch(Compression::new(codec), &varied()), &old).err().map(|refused| refused.error_code());
        assert_eq!(code, (codec == Codec::Zstd).then_some(ErrorCode::UnsupportedCompressionType));
    }
}

#[test]
fn control_batches_are_for_coordinators() {
    let marker = control_marker(&ControlMarker {
        control_type: ControlType::Commit,
        producer_id: 1,
        producer_epoch: 0,
        coordinator_epoch: 0,
        timestamp: NOW,
        base_offset: 0,
        partition_leader_epoch: -1,
    })
    .unwrap();
    assert_eq!(validate(&marker, &rules()), Err(InvalidBatch::ControlBatch));
    let coordinator = ValidationRules {
        origin: AppendOrigin::Coordinator,
        target_compression: TargetCompression::Always(Compression::new(Codec::Gzip)),
        ..rules()
    };
    assert_eq!(validate(&marker, &coordinator).unwrap().bytes, marker);
}

#[test]
fn timestamps_out_of_range_are_named() {
    let records = [at(NOW), at(NOW - 1_001), at(-1), at(NOW + 501), at(NOW + 500), at(NOW - 1_000)];
    let limits = ValidationRules { timestamp_before_max_ms: 1_000, timestamp_after_max_ms: 500, ..rules() };
    for codec in codecs() {
        let bytes = batch(Compression::new(codec), &records);
        for mode in [ValidationMode::Strict, ValidationMode::Fast] {
            let refused = validate(&bytes, &ValidationRules { mode, ..limits.clone() }).unwrap_err();
            assert_eq!(refused.error_code(), ErrorCode::InvalidTimestamp);
            let named: Vec<i32> = refused.rejected_records().iter().map(|record| record.batch_index).collect();
            assert_eq!(named, [1, 3]);
            let range =
                RejectReason::TimestampOutOfRange { timestamp: NOW + 501, earliest: NOW - 1_000, latest: NOW + 500 };
            assert_eq!(refused.rejected_records()[1].reason, range);
        }
        let stamped = ValidationRules { timestamp_type: TimestampType::LogAppendTime, ..limits.clone() };
        assert!(validate(&bytes, &stamped).is_ok());
    }
}

#[test]
fn compacted_topics_need_keys() {
    let mut records = vec![at(NOW); 3_000];
    let compacted = ValidationRules { compacted: true, ..rules() };
    for codec in codecs() {
        assert!(validate(&batch(Compression::new(codec), &records), &compacted).is_ok());
    }
    records[7].key = None;
    records[2_999].key = None;
    for codec in codecs() {
        let bytes = batch(Compression::new(codec), &records);
        assert!(validate(&bytes, &rules()).is_ok());
        for mode in [ValidationMode::Strict, ValidationMode::Fast] {
            let refused = validate(&bytes, &ValidationRules { mode, ..compacted.clone() }).unwrap_err();
            assert_eq!(refused.error_code(), ErrorCode::InvalidRecord);
            let named: Vec<_> =
                refused.rejected_records().iter().map(|record| (record.batch_index, record.reason)).collect();
            assert_eq!(named, [(7, RejectReason::NoKey), (2_999, RejectReason::NoKey)]);
        }
    }
    // Every record is counted, not every one named.
    let keyless = batch(Compression::NONE, &vec![OwnedRecord::new(NOW, None, None); 1_000]);
    let refused = validate(&keyless, &compacted).unwrap_err();
    assert!(matches!(&refused, InvalidBatch::Rejected { total: 1_000, records } if records.len() == 256));
}

#[test]
fn log_append_time_rewrites_the_header_only() {
    let rules = ValidationRules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
    for codec in codecs() {
        let bytes = batch(Compression::new(codec), &varied());
        for mode in [ValidationMode::Strict, ValidationMode::Fast] {
            let validated = validate(&bytes, &ValidationRules { mode, ..rules.clone() }).unwrap();
            assert_eq!(validated.bytes[61..], bytes[61..]);
            assert_eq!((validated.log_append_time_ms, validated.max_timestamp), (NOW, NOW));
            assert_eq!(validated.offset_delta_of_max_timestamp, 29);
            verify_crc(&validated.bytes).unwrap();
            assert!(records_of(&validated.bytes).unwrap().iter().all(|record| record.timestamp == NOW));
        }
    }
}

#[test]
fn a_wrong_max_timestamp_is_corrected() {
    let bytes = with(35, &(NOW + 3).to_be_bytes());
    let validated = validate(&bytes, &rules()).unwrap();
    assert_eq!(validated.max_timestamp, NOW + 7 * 29);
    assert_eq!(validated.header.max_timestamp, NOW + 7 * 29);
    verify_crc(&validated.bytes).unwrap();
    assert_eq!(validated.bytes, batch(Compression::NONE, &varied()));
    // Fast does not look: the header is believed.
    let trusted = validate(&bytes, &ValidationRules { mode: ValidationMode::Fast, ..rules() }).unwrap();
    assert_eq!((trusted.max_timestamp, trusted.bytes), (NOW + 3, bytes));
}

#[test]
fn producers_must_not_claim_the_logs_time() {
    let mut builder = BatchBuilder::new(Compression::NONE);
    builder.set_log_append_time(NOW);
    for record in varied() {
        record.append_to(&mut builder);
    }
    let bytes = builder.finish().unwrap();
    let stamped = ValidationRules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
    let refused = validate(&bytes, &stamped).unwrap_err();
    assert_eq!(refused.error_code(), ErrorCode::InvalidTimestamp);
    assert_eq!(refused.rejected_records().len(), 30);
}

#[test]
fn the_topics_codec_wins() {
    for (source, target) in codecs().flat_map(|source| codecs().map(move |target| (source, target))) {
        let mut builder = BatchBuilder::new(Compression::new(source));
        builder.set_producer(9, 2, 5);
        builder.set_transactional(true);
        for record in varied() {
            record.append_to(&mut builder);
        }
        let bytes = builder.finish().unwrap();
        let target_compression = TargetCompression::Always(Compression::new(target));
        for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
            let rules = ValidationRules { target_compression, timestamp_type, ..rules() };
            let validated = validate(&bytes, &rules).unwrap();
            let header = validated.header;
            assert_eq!(validated.rebuilt, source != target);
            assert_eq!(header.attributes.codec(), Some(target));
            assert_eq!(header.attributes.timestamp_type(), timestamp_type);
            assert!(header.attributes.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 2, 5));
            let records = records_of(&validated.bytes).unwrap();
            if timestamp_type == TimestampType::CreateTime {
                assert_eq!(records, varied());
            }
        }
    }
}

#[test]
fn levels_are_obeyed() {
    let value = |index: usize| format!("{} and {} of {index}", index * 7919 % 1000, index * 104_729 % 777);
    let records: Vec<_> = (0..2_000).map(|index| OwnedRecord::new(NOW, None, Some(&value(index)))).collect();
    let plain = batch(Compression::NONE, &records);
    let stored = |codec, level| {
        let target_compression = TargetCompression::Always(Compression::with_level(codec, level).unwrap());
        let validated = validate(&plain, &ValidationRules { target_compression, ..rules() }).unwrap();
        assert_eq!(records_of(&validated.bytes).unwrap(), records, "{codec:?} {level}");
        validated.bytes.len()
    };
    for (codec, quick, thorough) in [(Codec::Gzip, 1, 9), (Codec::Lz4, 9, 12), (Codec::Zstd, 1, 19)] {
        let (quick_size, thorough_size) = (stored(codec, quick), stored(codec, thorough));
        assert!(thorough_size < quick_size, "{codec:?}: {quick_size} {thorough_size}");
    }
    for (codec, level) in
        [(Codec::Gzip, -1), (Codec::Lz4, 1), (Codec::Lz4, 17), (Codec::Zstd, -131_072), (Codec::Zstd, 22)]
    {
        assert!(stored(codec, level) <= plain.len() + plain.len() / 100, "{codec:?} {level}");
    }
}

#[test]
fn the_size_counts_as_it_is_stored() {
    let records = vec![OwnedRecord { value: Some(vec![7; 1000]), ..at(NOW) }; 20];
    let (plain, packed) = (batch(Compression::NONE, &records), batch(Compression::new(Codec::Zstd), &records));
    let check = |bytes: &Bytes, target: Codec, limit: usize, expected: Option<ErrorCode>| {
        let target_compression = TargetCompression::Always(Compression::new(target));
        let rules = ValidationRules { target_compression, max_message_bytes: limit, ..rules() };
        assert_eq!(validate(bytes, &rules).err().map(|refused| refused.error_code()), expected, "{target:?} {limit}");
    };
    check(&packed, Codec::None, plain.len(), None);
    check(&packed, Codec::None, plain.len() - 1, Some(ErrorCode::MessageTooLarge));
    // As it comes it must fit as well, however small it would become.
    check(&plain, Codec::Zstd, plain.len(), None);
    check(&plain, Codec::Zstd, plain.len() - 1, Some(ErrorCode::MessageTooLarge));
}

#[test]
fn a_base_timestamp_that_is_no_records_is_replaced() {
    let plain = batch(Compression::NONE, &[at(NOW), at(NOW + 5)]);
    let mut shifted = plain.to_vec();
    // A base a millisecond earlier: the records are 1 and 6 ms after it.
    shifted[27..35].copy_from_slice(&(NOW - 1).to_be_bytes());
    // Length, attributes, then the delta: one byte each here.
    shifted[63] = 2;
    let second = 61 + 1 + usize::from(plain[61] / 2);
    shifted[second + 2] = 12;
    stamp_crc(&mut shifted);
    let target_compression = TargetCompression::Always(Compression::new(Codec::Lz4));
    let validated = validate(&shifted.into(), &ValidationRules { target_compression, ..rules() }).unwrap();
    assert_eq!(validated.header.base_timestamp, NOW);
    assert_eq!(records_of(&validated.bytes).unwrap(), [at(NOW), at(NOW + 5)]);
}

#[test]
fn wrong_offset_deltas_are_repaired() {
    // A batch of single-byte deltas: length, attributes, timestamp delta, offset delta.
    for codec in codecs() {
        let good = batch(Compression::NONE, &vec![OwnedRecord::new(NOW, None, None); 5]);
        let mut body = good[61..].to_vec();
        body[3] = 8;
        let compressed = ottla_record::compress(Compression::new(codec), &body).unwrap();
        let mut bad = [&good[..61], &compressed].concat();
        let length = i32::try_from(bad.len() - 12).unwrap();
        bad[8..12].copy_from_slice(&length.to_be_bytes());
        bad[22] = codec as u8;
        stamp_crc(&mut bad);
        let validated = validate(&bad.into(), &rules()).unwrap();
        assert!(validated.rebuilt);
        assert_eq!(validated.header.attributes.codec(), Some(codec));
        assert_eq!(records_of(&validated.bytes).unwrap(), vec![OwnedRecord::new(NOW, None, None); 5]);
    }
}

#[test]
fn decompression_is_limited() {
    let records = [OwnedRecord { value: Some(vec![0; 1 << 20]), ..at(NOW) }];
    for codec in codecs().filter(|&codec| codec != Codec::None) {
        let bytes = batch(Compression::new(codec), &records);
        let check = |limits: DecompressionLimits, allowed: bool| {
            for target in [TargetCompression::Producer, TargetCompression::Always(Compression::NONE)] {
                let rules =
                    ValidationRules { limits, target_compression: target, max_message_bytes: usize::MAX, ..rules() };
                match validate(&bytes, &rules) {
                    Ok(_) => assert!(allowed, "{codec:?} {limits:?}"),
                    Err(refused) => {
                        assert!(!allowed, "{codec:?} {limits:?} {refused}");
                        assert!(matches!(refused, InvalidBatch::Decompress(_)), "{refused:?}");
                        assert_eq!(refused.error_code(), ErrorCode::InvalidRecord);
                    }
                }
            }
        };
        let compressed = bytes.len() - 61;
        let exact = 1 + (1 << 20) + 20;
        check(DecompressionLimits::default(), true);
        check(DecompressionLimits { max_output_bytes: exact, ..DecompressionLimits::default() }, true);
        check(DecompressionLimits { max_output_bytes: 1 << 20, ..DecompressionLimits::default() }, false);
        let ratio =
            |max_ratio| DecompressionLimits { max_ratio, ratio_free_bytes: 0, ..DecompressionLimits::default() };
        check(ratio((1 << 20) / compressed + 10), true);
        check(ratio((1 << 20) / compressed / 2), false);
    }
}
