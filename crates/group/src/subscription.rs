//! The topics in a member's metadata, when the group speaks the `consumer` protocol.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The protocol type whose member metadata the coordinator can read.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Adds the topics of a `ConsumerProtocolSubscription` to `topics`. Version 0 is a prefix of every version, so it is all
/// that is read. `None` when the bytes are something else.
pub fn collect_subscribed_topics(metadata: &[u8], topics: &mut BTreeSet<Arc<str>>) -> Option<()> {
    let mut rest = metadata;
    let version = i16::from_be_bytes(take(&mut rest)?);
    if version < 0 {
        return None;
    }
    let count = i32::from_be_bytes(take(&mut rest)?);
    for _ in 0..usize::try_from(count).ok()? {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let (topic, tail) = rest.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(topic).ok()?.into());
        rest = tail;
    }
    Some(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_any_version() {
        let two_topics = [0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 9, 9, 9];
        let cases: &[(&[u8], Option<&[&str]>)] = &[
            (&two_topics, Some(&["a", "bc"])),
            (&[0, 0, 0, 0, 0, 0, 255, 255, 255, 255], Some(&[])),
            (&[255, 255, 0, 0, 0, 0], None),
            (&[0, 0, 255, 255, 255, 255], None),
            (&[0, 0, 127, 255, 255, 255], None),
            (&[0, 0, 0, 0, 0, 1, 0, 2, b'a'], None),
            (&[0, 0, 0, 0, 0, 1, 0, 1, 0xff], None),
            (&[0], None),
            (&[], None),
        ];
        for (metadata, expected) in cases {
            let mut topics = BTreeSet::new();
            let found = collect_subscribed_topics(metadata, &mut topics).map(|()| topics);
            let expected =
                expected.map(|names| names.iter().map(|name| Arc::from(*name)).collect::<BTreeSet<Arc<str>>>());
            assert_eq!(found, expected, "{metadata:?}");
        }
    }
}
