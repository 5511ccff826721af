//! The header of a request, read from the start of a frame.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_protocol::{DecodeError, Decoder, EncodeError, Encoder, RequestHeader};

fuzz_target!(|data: &[u8]| {
    let mut input = Decoder::new(Bytes::copy_from_slice(data));
    let (api_key, header) = match RequestHeader::decode_any(&mut input) {
        Ok(read) => read,
        Err(DecodeError::UnsupportedVersion(unsupported)) => unreachable!("{unsupported}"),
        Err(_) => return,
    };
    assert_eq!(api_key.code(), header.request_api_key);
    let mut output = Encoder::new();
    match header.encode(&mut output, api_key.request_header_version(header.request_api_version)) {
        // Text that is not UTF-8 grows as it is repaired.
        Err(EncodeError::StringTooLong { .. }) => return,
        encoded => encoded.expect("a header that was read can be written"),
    }
    let written = output.finish_contiguous().expect("the header is short");
    let (_, again) = RequestHeader::decode_any(&mut Decoder::new(written)).expect("what was written can be read");
    assert_eq!(again, header);
});
