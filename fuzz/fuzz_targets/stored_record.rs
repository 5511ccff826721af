//! The messages outside requests and responses: records of internal topics, snapshots, what groups embed in requests.
//! The first byte chooses the message, the second the version.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_fuzz::{choose, round_trip};
use ottla_protocol::Message;

type Target = fn(u8, &[u8]);

fn target<M: Message>() -> (&'static str, Target) {
    (M::NAME, |version, body| {
        let version = *M::VERSIONS.start() + i16::from(version) % (M::VERSIONS.end() - M::VERSIONS.start() + 1);
        round_trip(body, |input| M::decode(input, version), |message, output| message.encode(output, version));
    })
}

macro_rules! targets {
    ($($message:path,)*) => {
        vec![$(target::<$message>()),*]
    };
}

std::thread_local! {
    static TARGETS: Vec<Target> = ottla_protocol::for_every_message!(targets)
        .into_iter()
        .filter(|(name, _)| !name.ends_with("Request") && !name.ends_with("Response"))
        .map(|(_, target)| target)
        .collect();
}

fuzz_target!(|data: &[u8]| {
    let [message, version, body @ ..] = data else { return };
    TARGETS.with(|targets| choose(targets, *message)(*version, body));
});
