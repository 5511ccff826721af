//! What the targets share: here those of the protocol.

pub mod files;
pub mod partition;

use bytes::Bytes;
use ottla_protocol::{ApiKey, DecodeError, Decoder, EncodeError, Encoder};

/// Half of what the runner lets one allocation take, so that a budget that is not kept is noticed.
const BUDGET_BYTES: usize = 32 * 1024 * 1024;

pub fn choose<T: Copy>(among: &[T], byte: u8) -> T {
    among[usize::from(byte) % among.len()]
}

/// The API and version two bytes choose, and what follows them.
pub fn choose_api(data: &[u8]) -> Option<(ApiKey, i16, &[u8])> {
    let [api, version, body @ ..] = data else { return None };
    let api_key = choose(&ApiKey::ALL, *api);
    let versions: Vec<i16> = api_key.all_versions().collect();
    Some((api_key, choose(&versions, *version), body))
}

/// Reads a message from any bytes; what could be read must be written and read again as the same message.
pub fn round_trip<M>(
    body: &[u8],
    decode: impl Fn(&mut Decoder) -> Result<M, DecodeError>,
    encode: impl Fn(&M, &mut Encoder) -> Result<(), EncodeError>,
) {
    let Ok(message) = decode(&mut Decoder::with_budget(Bytes::copy_from_slice(body), BUDGET_BYTES)) else { return };
    let Some(written) = write(&message, &encode) else { return };
    let mut input = Decoder::new(written.clone());
    let again = decode(&mut input).expect("what was written can be read");
    assert_eq!(input.remaining(), 0, "and read to its end");
    // Compared as bytes: a float that is not a number is not even equal to itself.
    assert_eq!(write(&again, &encode), Some(written));
}

fn write<M>(message: &M, encode: impl Fn(&M, &mut Encoder) -> Result<(), EncodeError>) -> Option<Bytes> {
    let mut output = Encoder::new();
    match encode(message, &mut output) {
        // Text that is not UTF-8 grows as it is repaired.
        Err(EncodeError::StringTooLong { .. }) => None,
        encoded => {
            encoded.expect("a message that was read can be written");
            Some(output.finish_contiguous().expect("it is short"))
        }
    }
}
