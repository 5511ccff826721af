//! The body of any request in any version: the first byte chooses the API, the second the version.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_fuzz::{choose_api, round_trip};
use ottla_protocol::Request;

fuzz_target!(|data: &[u8]| {
    let Some((api_key, version, body)) = choose_api(data) else { return };
    round_trip(
        body,
        |input| Request::decode(api_key, version, input),
        |request, output| request.encode(output, version),
    );
});
