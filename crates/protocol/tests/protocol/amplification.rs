//! How much memory hostile bytes can cost.

use bytes::Bytes;
use ottla_protocol::{DEFAULT_DECODE_BUDGET_BYTES, DecodeError, Decoder};

use crate::support::{for_every_sample, subjects};

/// What decoding may allocate beside what is charged to the budget: the bookkeeping of shared bytes.
const UNCHARGED_BYTES: usize = 4096;

#[test]
fn the_budget_bounds_what_decoding_allocates() {
    const BUDGET: usize = 2 << 20;
    const ELEMENTS: usize = 1 << 16;
    // In the one form every fourth byte, in the other every byte is an array's length or an empty thing in it, as the
    // message has it: much memory for few bytes.
    let mut old_form = [0, 1, 0, 0].repeat(ELEMENTS);
    old_form.extend(vec![0; ELEMENTS * 4]);
    let mut compact = vec![0x81, 0x80, 0x04];
    compact.extend(vec![1; ELEMENTS * 2]);
    let floods = [Bytes::from(old_form), Bytes::from(compact), Bytes::from(vec![1; ELEMENTS])];
    let (mut refused, mut largest) = (0, 0);
    for subject in subjects() {
        for version in [subject.schema.versions.first, subject.schema.versions.last] {
            for flood in &floods {
                let (decoded, allocated) =
                    measure(|| (subject.decode)(&mut Decoder::with_budget(flood.clone(), BUDGET), version));
                let name = &subject.schema.name;
                assert!(allocated <= BUDGET + UNCHARGED_BYTES, "{name} version {version} allocated {allocated} bytes");
                refused += usize::from(matches!(decoded, Err(DecodeError::BudgetExceeded { .. })));
                largest = largest.max(allocated);
            }
        }
    }
    // The floods are what they are meant to be: some hit the bound, some come near it.
    assert!(refused > 10 && largest > BUDGET / 2, "{refused} refused, at most {largest} bytes");
}

#[test]
fn a_million_elements_stay_within_the_default_budget() {
    // A million topics with empty names and no partitions: four bytes each here, more than 64 in memory.
    let mut body = vec![0, 0x0f, 0x42, 0x40];
    body.extend(vec![0; 4_000_000]);
    let body = Bytes::from(body);
    let subjects = subjects();
    let decode = |name: &str, version| {
        let subject = subjects.iter().find(|subject| subject.schema.name == name).unwrap();
        measure(|| (subject.decode)(&mut Decoder::new(body.clone()), version))
    };
    let (decoded, allocated) = decode("MetadataRequest", 1);
    assert!(decoded.is_ok() && allocated <= DEFAULT_DECODE_BUDGET_BYTES, "{decoded:?}, {allocated} bytes");
    let (decoded, allocated) = decode("CreateAclsRequest", 1);
    assert!(matches!(decoded, Err(DecodeError::BudgetExceeded { .. })), "{decoded:?}");
    assert!(allocated <= UNCHARGED_BYTES, "{allocated} bytes before it is refused");
}

#[test]
fn a_smaller_budget_is_kept_too() {
    const BUDGET: usize = 2000;
    let subjects = subjects();
    let mut refused = 0;
    for_every_sample(&subjects, 6, 4, |sample| {
        let decode = sample.subject.decode;
        let (decoded, allocated) =
            measure(|| decode(&mut Decoder::with_budget(sample.bytes.clone(), BUDGET), sample.version));
        let name = &sample.subject.schema.name;
        assert!(allocated <= BUDGET + UNCHARGED_BYTES, "{name} allocated {allocated} bytes");
        refused += usize::from(matches!(decoded, Err(DecodeError::BudgetExceeded { .. })));
    });
    assert!(refused > 10, "{refused} refused");
}

#[test]
fn text_that_has_to_be_repaired_is_charged() {
    // 1,000 topics whose names are 1,000 bytes that are no text each: repaired, they are three times as long.
    let mut body = 1000i32.to_be_bytes().to_vec();
    for _ in 0..1000 {
        body.extend(1000i16.to_be_bytes());
        body.extend([0xff; 1000]);
    }
    let body = Bytes::from(body);
    let metadata = subjects().into_iter().find(|subject| subject.schema.name == "MetadataRequest").unwrap();
    assert_eq!((metadata.decode)(&mut Decoder::with_budget(body.clone(), 4 << 20), 1), Ok(()));
    let refused = (metadata.decode)(&mut Decoder::with_budget(body, 1 << 20), 1);
    assert!(matches!(refused, Err(DecodeError::BudgetExceeded { .. })), "{refused:?}");
}

/// What decoding gives, and the most it had allocated at a time.
fn measure(decode: impl FnOnce() -> Result<(), DecodeError>) -> (Result<(), DecodeError>, usize) {
    let mut decoded = Ok(());
    let allocated = allocation_counter::measure(|| decoded = decode());
    (decoded, usize::try_from(allocated.bytes_max).unwrap())
}
