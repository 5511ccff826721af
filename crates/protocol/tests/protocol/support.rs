//! Every message, by its schema and by its type.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use ottla_protocol::{DecodeError, Decoder, EncodeError, Encoder, Message, for_every_message};
use xtask::protocol::sample::{self, Filling, Random};
use xtask::protocol::{schema, snapshot};

/// Reads bytes as a message and drops it.
pub type Decode = fn(&mut Decoder, i16) -> Result<(), DecodeError>;

/// Reads bytes, writes the message, reads that and fails unless both are equal; gives what was written.
pub type RoundTrip = fn(&Bytes, i16) -> Result<Bytes, DecodeError>;

pub struct Subject {
    pub schema: schema::Message,
    pub decode: Decode,
    pub round_trip: RoundTrip,
}

/// A message in one version, encoded.
pub struct Sample<'a> {
    pub subject: &'a Subject,
    pub version: i16,
    pub bytes: Bytes,
}

pub fn subjects() -> Vec<Subject> {
    macro_rules! table {
        ($($message:path,)*) => {
            BTreeMap::from([$((<$message as Message>::NAME, functions::<$message>())),*])
        };
    }
    let mut functions: BTreeMap<&str, (Decode, RoundTrip)> = for_every_message!(table);
    let subjects: Vec<Subject> = snapshot::read(Path::new(env!("CARGO_MANIFEST_DIR")))
        .unwrap()
        .into_iter()
        .filter_map(|schema| schema.message)
        .map(|schema| {
            let (decode, round_trip) = functions.remove(schema.name.as_str()).expect("every schema has a type");
            Subject { schema, decode, round_trip }
        })
        .collect();
    assert!(functions.is_empty(), "types without a schema: {:?}", functions.keys());
    subjects
}

/// Goes through `rounds` samples of every message in every version, the first of them as empty, the second as full as can
/// be.
pub fn for_every_sample(subjects: &[Subject], seed: u64, rounds: usize, mut check: impl FnMut(Sample)) {
    let mut random = Random::new(seed);
    for subject in subjects {
        for version in subject.schema.versions.iter() {
            for round in 0..rounds {
                let filling = match round {
                    0 => Filling::Least,
                    1 => Filling::Most,
                    _ => Filling::Mixed,
                };
                let bytes = Bytes::from(sample::message(&subject.schema, version, filling, &mut random));
                check(Sample { subject, version, bytes });
            }
        }
    }
}

pub fn encode<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut output = Encoder::new();
    message.encode(&mut output, version)?;
    let length = output.len();
    let bytes = output.finish_contiguous()?;
    assert_eq!(bytes.len(), length);
    Ok(bytes)
}

pub fn decode<M: Message>(bytes: impl Into<Bytes>, version: i16) -> Result<M, DecodeError> {
    M::decode(&mut Decoder::new(bytes.into()), version)
}

fn functions<M: Message>() -> (Decode, RoundTrip) {
    (
        |input, version| M::decode(input, version).map(drop),
        |bytes, version| {
            let mut input = Decoder::new(bytes.clone());
            let message = M::decode(&mut input, version)?;
            assert_eq!(input.remaining(), 0, "{} version {version} is read to its end", M::NAME);
            let written = encode(&message, version).expect("what was read can be written");
            assert_eq!(decode::<M>(written.clone(), version).as_ref(), Ok(&message));
            Ok(written)
        },
    )
}
