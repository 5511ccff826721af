//! Records as bytes.

use ottla_image::{DecodeError, MetadataRecord, decode_records, encode_records};
use ottla_types::Uuid;
use proptest::prelude::*;

use crate::generated::any_record;

fn encoded(records: &[MetadataRecord]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_records(records, &mut bytes);
    bytes
}

proptest! {
    #[test]
    fn records_round_trip(records in proptest::collection::vec(any_record(), 0..6)) {
        prop_assert_eq!(decode_records(&encoded(&records)), Ok(records));
    }

    #[test]
    fn a_part_is_never_taken_for_the_whole(record in any_record()) {
        let bytes = encoded(&[record]);
        for length in 0..bytes.len() {
            prop_assert!(decode_records(&bytes[..length]).is_err());
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(matches!(decode_records(&longer), Err(DecodeError::TrailingBytes { .. })), "{:?}", longer);
    }

    #[test]
    fn hostile_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_records(&bytes);
    }

    #[test]
    fn one_wrong_byte_is_refused_or_read(record in any_record(), place in any::<prop::sample::Index>(), wrong in any::<u8>()) {
        let mut bytes = encoded(&[record]);
        let place = place.index(bytes.len());
        bytes[place] = wrong;
        if let Ok(records) = decode_records(&bytes) {
            // Whatever was read is written as it was.
            prop_assert_eq!(encoded(&records), bytes);
        }
    }
}

#[test]
fn the_bytes_are_these() {
    let record = MetadataRecord::Topic { name: "t".into(), topic_id: Uuid([7; 16]) };
    let mut expected = vec![0, 0, 0, 1, 0, 0, 0, 24, 0, 2, 1, 0, 0, 0, 1, b't'];
    expected.extend([7; 16]);
    assert_eq!(encoded(&[record]), expected);
}

#[test]
fn what_is_wrong_is_said() {
    let one = |body: &[u8]| {
        let mut bytes = vec![0, 0, 0, 1];
        bytes.extend((body.len() as u32).to_be_bytes());
        bytes.extend(body);
        decode_records(&bytes).unwrap_err()
    };
    assert_eq!(one(&[0xff, 0, 1]), DecodeError::UnknownKind { kind: 0xff00 });
    assert_eq!(one(&[0, 2, 9]), DecodeError::UnknownVersion { kind: 2, version: 9 });
    assert_eq!(one(&[0, 1, 1, 0, 0, 0, 1, 0xff]), DecodeError::NotUtf8 { position: 15 });
    assert_eq!(
        one(&[0, 6, 1, 77, 0, 0]),
        DecodeError::UnknownValue { what: "configuration resource type", value: 77, position: 11 }
    );
    // Lengths far beyond what is there: nothing is allocated for them.
    let many = [0xff, 0xff, 0xff, 0xff, 1, 2, 3];
    assert!(matches!(decode_records(&many), Err(DecodeError::Truncated { position: 4, remaining: 3, .. })));
    let mut replicas = vec![0, 4, 1];
    replicas.extend([0; 20]);
    replicas.extend([0xff; 4]);
    assert!(matches!(one(&replicas), DecodeError::Truncated { .. }));
}
