//! What is built is what is read, for any records and any codec.

use ottla_record::{
    BatchHeader, Codec, Compression, TargetCompression, ValidationMode, ValidationRules, batches,
    patch_base_offset_and_epoch, validate, verify_crc,
};
use proptest::prelude::*;

use crate::sample::{OwnedRecord, batch, records_of};

fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        1 => Just(None),
        4 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Some),
        2 => (any::<u8>(), 0..5_000_usize).prop_map(|(byte, length)| Some(vec![byte; length])),
        1 => prop::collection::vec(any::<u8>(), 60_000..140_000).prop_map(Some),
    ]
}

fn record() -> impl Strategy<Value = OwnedRecord> {
    let key = prop::collection::vec(any::<u8>(), 0..3);
    let headers = prop::collection::vec((key, prop::option::of(prop::collection::vec(any::<u8>(), 0..200))), 0..5);
    (-1_000..1_000_000_000_000_i64, prop::option::of(prop::collection::vec(any::<u8>(), 0..100)), field(), headers)
        .prop_map(|(timestamp, key, value, headers)| OwnedRecord { timestamp, key, value, headers })
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn built_is_valid_and_reads_the_same(
        records in prop::collection::vec(record(), 1..30), codec in codec(), target in codec(),
    ) {
        let bytes = batch(Compression::new(codec), &records);
        verify_crc(&bytes).unwrap();
        prop_assert_eq!(&records_of(&bytes).unwrap(), &records);

        let max_timestamp = records.iter().map(|record| record.timestamp).max().unwrap().max(-1);
        let rules = ValidationRules {
            now_ms: 1_000_000_000_000, max_message_bytes: usize::MAX, ..ValidationRules::default()
        };
        for mode in [ValidationMode::Strict, ValidationMode::Fast] {
            let validated = validate(&bytes, &ValidationRules { mode, ..rules.clone() }).unwrap();
            prop_assert_eq!(&validated.bytes, &bytes);
            prop_assert_eq!(validated.max_timestamp, max_timestamp);
        }

        let target_compression = TargetCompression::Always(Compression::new(target));
        let rebuilt = validate(&bytes, &ValidationRules { target_compression, ..rules }).unwrap();
        prop_assert_eq!(rebuilt.rebuilt, codec != target);
        prop_assert_eq!(&rebuilt.bytes, &batch(Compression::new(target), &records));
        prop_assert_eq!(rebuilt.header.attributes.codec(), Some(target));
        prop_assert_eq!(BatchHeader::parse(&rebuilt.bytes).unwrap(), rebuilt.header);
        verify_crc(&rebuilt.bytes).unwrap();
        prop_assert_eq!(&records_of(&rebuilt.bytes).unwrap(), &records);
    }

    #[test]
    fn batches_follow_each_other(counts in prop::collection::vec(1..5_usize, 0..6), torn in 0..61_usize) {
        let mut bytes = Vec::new();
        let mut offset = 0;
        for &count in &counts {
            let start = bytes.len();
            bytes.extend_from_slice(&batch(Compression::NONE, &vec![OwnedRecord::new(1, None, Some("v")); count]));
            patch_base_offset_and_epoch(&mut bytes[start..], offset, 7);
            offset += i64::try_from(count).unwrap();
        }
        let whole = bytes.len();
        bytes.extend_from_slice(&batch(Compression::NONE, &[OwnedRecord::new(1, None, None)])[..torn]);

        let mut walk = batches(&bytes);
        let mut expected_offset = 0;
        for &count in &counts {
            let (header, slice) = walk.next().unwrap().unwrap();
            verify_crc(slice).unwrap();
            prop_assert_eq!((header.base_offset, header.partition_leader_epoch), (expected_offset, 7));
            expected_offset += i64::try_from(count).unwrap();
            prop_assert_eq!(header.next_offset(), expected_offset);
        }
        prop_assert_eq!(walk.next().map(|next| next.is_err()), (torn > 0).then_some(true));
        prop_assert!(walk.next().is_none());
        prop_assert_eq!(walk.position(), whole);
    }
}
