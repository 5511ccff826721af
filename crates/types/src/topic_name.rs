//! The rules for topic names (Kafka's `org.apache.kafka.common.internals.Topic`).

/// The longest legal topic name, in bytes (inclusive): directory names carry a suffix and stay under 255.
pub const MAX_TOPIC_NAME_LENGTH: usize = 249;

/// Why a string is not a topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicName {
    #[error("the empty string is not allowed")]
    Empty,
    #[error("'{0}' is not allowed")]
    Dots(String),
    #[error("the length of '{0}' is longer than the max allowed length {MAX_TOPIC_NAME_LENGTH}")]
    TooLong(String),
    #[error("'{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")]
    IllegalCharacter(String),
}

/// Checks a topic name by Kafka's rules.
pub fn validate_topic_name(name: &str) -> Result<(), InvalidTopicName> {
    if name.is_empty() {
        return Err(InvalidTopicName::Empty);
    }
    if name == "." || name == ".." {
        return Err(InvalidTopicName::Dots(name.to_owned()));
    }
    if name.len() > MAX_TOPIC_NAME_LENGTH {
        return Err(InvalidTopicName::TooLong(name.to_owned()));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err(InvalidTopicName::IllegalCharacter(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let longest = "a".repeat(249);
        let too_long = "a".repeat(250);
        for good in ["a", "a.b_c-D9", "...", "__consumer_offsets", longest.as_str()] {
            assert_eq!(validate_topic_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "é", "a\0", too_long.as_str()] {
            assert!(validate_topic_name(bad).is_err(), "{bad}");
        }
    }
}
