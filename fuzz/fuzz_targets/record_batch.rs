//! A partition's records as a producer sends them: any bytes, and any bytes as the records of a batch whose header and
//! CRC are right. Validation in both modes, decompression and iteration must agree on what is good, and never panic.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_record::{
    Attributes, BatchHeader, Codec, Compression, DecompressionLimits, Records, TargetCompression, ValidationMode,
    ValidationRules, batches, compress, decompress, stamp_crc, validate, verify_crc,
};
use ottla_types::TimestampType;

/// Low enough that a bomb would trip over the fuzzer's own limit on a single allocation if this one failed.
const LIMITS: DecompressionLimits =
    DecompressionLimits { max_output_bytes: 8 << 20, max_ratio: 1_000, ratio_free_bytes: 1 << 20 };

fuzz_target!(|data: &[u8]| {
    let [choice, data @ ..] = data else { return };
    let codec = Codec::ALL[usize::from(choice & 7) % Codec::ALL.len()];
    let input = match choice >> 3 & 3 {
        0 => Bytes::copy_from_slice(data),
        // A header of the fuzzer's making, made to fit.
        1 => with_length_and_crc(data.to_vec()),
        // Compressed bytes of its making.
        2 => match data {
            [count, body @ ..] => around(codec, *count, body),
            [] => return,
        },
        // Records of its making, compressed.
        _ => match data {
            [count, body @ ..] => {
                around(codec, *count, &compress(Compression::new(codec), body).expect("there is memory"))
            }
            [] => return,
        },
    };
    for (header, batch) in batches(&input).flatten() {
        assert_eq!(header.size_in_bytes(), batch.len());
        let _ = (header.next_offset(), header.last_sequence(), verify_crc(batch));
    }
    let rules = ValidationRules {
        compacted: choice & 0x20 != 0,
        limits: LIMITS,
        max_decompressed_message_bytes: 1 << 20,
        target_compression: match choice >> 6 {
            0 | 1 => TargetCompression::Producer,
            2 => TargetCompression::Always(Compression::NONE),
            _ => TargetCompression::Always(Compression::new(Codec::Zstd)),
        },
        ..ValidationRules::default()
    };
    let strict = validate(&input, &rules);
    let fast = validate(&input, &ValidationRules { mode: ValidationMode::Fast, ..rules.clone() });
    if let Ok(valid) = strict {
        assert!(fast.is_ok(), "{fast:?}");
        assert_readable(&valid.bytes, &valid.header);
        // A producer that claims the log's timestamps has its own ones looked at only the second time, as in Kafka.
        if BatchHeader::parse(&input).is_ok_and(|sent| sent.attributes.timestamp_type() == TimestampType::CreateTime) {
            let again = validate(&valid.bytes, &rules).expect("what was validated is valid");
            assert_eq!((again.bytes, again.rebuilt), (valid.bytes, false));
        }
    } else if let Ok(header) = BatchHeader::parse(&input)
        && let (Some(codec), Some(body)) = (header.attributes.codec(), input.get(61..))
        && let Ok(body) = decompress(codec, &Bytes::copy_from_slice(body), &LIMITS)
    {
        // Whatever is wrong with it, a consumer that gets it comes to an end.
        let _ = Records::new(&header, &body).map(|record| record.map(|record| record.headers.iter().count())).count();
    }
});

fn assert_readable(batch: &Bytes, header: &BatchHeader) {
    verify_crc(batch).expect("the CRC is right");
    let codec = header.attributes.codec().expect("the codec is known");
    let body = decompress(codec, &batch.slice(61..), &LIMITS).expect("validation decompressed it");
    let mut next_offset = header.base_offset;
    for record in Records::new(header, &body) {
        let record = record.expect("validation read it");
        assert_eq!(record.offset, next_offset);
        assert_eq!(record.headers.iter().count(), record.headers.len());
        next_offset += 1;
    }
    assert_eq!(next_offset, header.next_offset());
}

/// A batch of up to 15 records, with these bytes for them.
fn around(codec: Codec, count: u8, body: &[u8]) -> Bytes {
    let count = i32::from(count & 15);
    let header = BatchHeader {
        base_offset: 0,
        batch_length: 0,
        partition_leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: Attributes::default().with_codec(codec),
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: count,
    };
    with_length_and_crc([&header.encode(), body].concat())
}

fn with_length_and_crc(mut batch: Vec<u8>) -> Bytes {
    if batch.len() >= 61 {
        let length = i32::try_from(batch.len() - 12).unwrap_or(i32::MAX);
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        stamp_crc(&mut batch);
    }
    batch.into()
}
