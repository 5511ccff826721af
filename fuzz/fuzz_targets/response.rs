//! The body of any response in any version, as a client reads it: the first byte chooses the API, the second the version.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_fuzz::{choose_api, round_trip};
use ottla_protocol::Response;

fuzz_target!(|data: &[u8]| {
    let Some((api_key, version, body)) = choose_api(data) else { return };
    round_trip(
        body,
        |input| Response::decode(api_key, version, input),
        |response, output| response.encode(output, version),
    );
});
