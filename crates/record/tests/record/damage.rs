//! Damage is found, wherever it is, and never worse than an error.

use bytes::Bytes;
use ottla_record::{
    BatchError, BatchHeader, Compression, DecompressionLimits, InvalidBatch, Records, ValidationMode, ValidationRules,
    batches, decompress, stamp_crc, validate, verify_crc,
};
use ottla_types::ErrorCode;

use crate::sample::{batch, codecs, records_of, varied};

fn rules() -> ValidationRules {
    ValidationRules { now_ms: 1_700_000_000_000, ..ValidationRules::default() }
}

#[test]
fn every_flipped_bit_under_the_crc_is_detected() {
    for codec in codecs() {
        let good = batch(Compression::new(codec), &varied());
        verify_crc(&good).unwrap();
        for position in 17..good.len() {
            for bit in 0..8 {
                let mut bad = good.to_vec();
                bad[position] ^= 1 << bit;
                assert!(matches!(verify_crc(&bad), Err(BatchError::CrcMismatch { .. })), "{codec:?} {position} {bit}");
            }
            let mut bad = good.to_vec();
            bad[position] ^= 0xff;
            let bad = Bytes::from(bad);
            for mode in [ValidationMode::Strict, ValidationMode::Fast] {
                let refused = validate(&bad, &ValidationRules { mode, ..rules() }).unwrap_err();
                assert_eq!(refused.error_code(), ErrorCode::CorruptMessage, "{codec:?} {position}");
            }
        }
    }
}

#[test]
fn a_batch_cut_anywhere_is_no_batch() {
    for codec in codecs() {
        let good = batch(Compression::new(codec), &varied());
        for length in 0..good.len() {
            let cut = good.slice(..length);
            assert_eq!(validate(&cut, &rules()), Err(InvalidBatch::NoBatch), "{codec:?} {length}");
            assert!(verify_crc(&cut).is_err());
            assert_eq!(batches(&cut).flatten().count(), 0);
        }
    }
}

/// A batch that ends early but says so itself, with a CRC over what is there.
fn shortened(good: &Bytes, length: usize) -> Bytes {
    let mut bad = good[..length].to_vec();
    let batch_length = i32::try_from(length - 12).unwrap();
    bad[8..12].copy_from_slice(&batch_length.to_be_bytes());
    stamp_crc(&mut bad);
    bad.into()
}

#[test]
fn records_cut_anywhere_are_refused() {
    for codec in codecs() {
        let good = batch(Compression::new(codec), &varied());
        for length in 61..good.len() {
            let bad = shortened(&good, length);
            verify_crc(&bad).unwrap();
            let refused = validate(&bad, &rules()).unwrap_err();
            assert_eq!(refused.error_code(), ErrorCode::InvalidRecord, "{codec:?} {length}");
            let header = BatchHeader::parse(&bad).unwrap();
            if let Ok(body) = decompress(codec, &bad.slice(61..), &DecompressionLimits::default()) {
                assert!(Records::new(&header, &body).any(|record| record.is_err()), "{codec:?} {length}");
            }
        }
    }
}

#[test]
fn bytes_after_the_records_are_refused() {
    let records = varied();
    for codec in codecs() {
        let good = batch(Compression::new(codec), &records);
        let mut bad = good.to_vec();
        // One record fewer than there are.
        bad[23..27].copy_from_slice(&28_i32.to_be_bytes());
        bad[57..61].copy_from_slice(&29_i32.to_be_bytes());
        stamp_crc(&mut bad);
        let bad = Bytes::from(bad);
        let refused = validate(&bad, &rules()).unwrap_err();
        assert!(matches!(refused, InvalidBatch::Malformed(_)), "{codec:?} {refused:?}");
        assert!(records_of(&bad).is_err());
    }
}

/// Flips each byte of the records and makes the CRC right again: whatever comes out is an error or a readable batch.
#[test]
fn a_right_crc_over_wrong_bytes_is_harmless() {
    for codec in codecs() {
        let good = batch(Compression::new(codec), &varied());
        for position in 21..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = good.to_vec();
                bad[position] ^= flip;
                stamp_crc(&mut bad);
                let bad = Bytes::from(bad);
                let fast = validate(&bad, &ValidationRules { mode: ValidationMode::Fast, ..rules() });
                match validate(&bad, &rules()) {
                    Ok(validated) => {
                        verify_crc(&validated.bytes).unwrap();
                        assert_eq!(records_of(&validated.bytes).unwrap().len(), 30, "{codec:?} {position} {flip:x}");
                        assert!(fast.is_ok(), "{codec:?} {position} {flip:x}");
                    }
                    Err(refused) => assert!(refused.error_code().is_error()),
                }
            }
        }
    }
}
