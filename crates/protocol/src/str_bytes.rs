//! Strings that are slices of the frame they came in.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

/// A string that is a slice of shared bytes: cloning copies no text, and a decoded one keeps its whole frame alive, so
/// `to_string()` what is to outlive the request.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StrBytes(ByteString);

impl StrBytes {
    pub const fn from_static(text: &'static str) -> Self {
        Self(ByteString::from_static(text))
    }

    /// The bytes as text; bytes that are not UTF-8 become U+FFFD, as they do in Kafka. Gives the number of bytes it had
    /// to allocate for that, 0 for proper text.
    pub(crate) fn from_bytes_lossy(bytes: &Bytes) -> (Self, usize) {
        if let Ok(text) = ByteString::try_from(bytes.clone()) {
            return (Self(text), 0);
        }
        let repaired = repair(bytes);
        let allocated = repaired.capacity();
        (Self(ByteString::from(repaired)), allocated)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn as_bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }

    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }
}

impl Deref for StrBytes {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for StrBytes {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for StrBytes {
    fn borrow(&self) -> &str {
        self
    }
}

impl From<&'static str> for StrBytes {
    fn from(text: &'static str) -> Self {
        Self::from_static(text)
    }
}

impl From<String> for StrBytes {
    fn from(text: String) -> Self {
        Self(ByteString::from(text))
    }
}

impl From<std::sync::Arc<str>> for StrBytes {
    fn from(text: std::sync::Arc<str>) -> Self {
        Self::from(&text)
    }
}

impl From<&std::sync::Arc<str>> for StrBytes {
    fn from(text: &std::sync::Arc<str>) -> Self {
        Self(ByteString::from(text.to_string()))
    }
}

impl TryFrom<Bytes> for StrBytes {
    type Error = std::str::Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        ByteString::try_from(bytes).map(Self)
    }
}

impl PartialEq<str> for StrBytes {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for StrBytes {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for StrBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), formatter)
    }
}

impl fmt::Debug for StrBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

/// Bytes as Java reads them: one U+FFFD for each part that cannot be text, and one, not three, for a surrogate that was
/// encoded like a character.
fn repair(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut surrogate_bytes = 0;
    for chunk in bytes.utf8_chunks() {
        let continues_surrogate = chunk.valid().is_empty()
            && matches!((surrogate_bytes, chunk.invalid()), (1, [0xa0..=0xbf]) | (2, [0x80..=0xbf]));
        if continues_surrogate {
            surrogate_bytes += 1;
            continue;
        }
        text.push_str(chunk.valid());
        surrogate_bytes = usize::from(chunk.invalid() == [0xed]);
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf8_is_repaired() {
        for (bytes, text) in [
            (&b"topic"[..], "topic"),
            (b"", ""),
            (b"a\xffb", "a\u{fffd}b"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xed\xa0\x8f\x90", "\u{fffd}\u{fffd}"),
            (b"\xed\xa0", "\u{fffd}"),
            (b"\xed\xbfa", "\u{fffd}a"),
        ] {
            let (decoded, cost) = StrBytes::from_bytes_lossy(&Bytes::from_static(bytes));
            assert_eq!(decoded.as_str(), text);
            assert_eq!(cost > 0, std::str::from_utf8(bytes).is_err(), "only a repair costs memory");
        }
    }

    #[test]
    fn text_shares_the_bytes_it_came_from() {
        let frame = Bytes::from_static(b"--topic--");
        let (topic, _) = StrBytes::from_bytes_lossy(&frame.slice(2..7));
        assert_eq!(topic.as_bytes().as_ptr(), frame.slice(2..).as_ptr());
    }
}
