//! What all messages have in common, for code that is generic over them.

use std::fmt;
use std::ops::RangeInclusive;

use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, UnsupportedVersion};

/// A message of the protocol, or a record of an internal topic. The methods are the type's own ones of the same name.
pub trait Message: Sized + Default + Clone + PartialEq + fmt::Debug {
    /// Kafka's name of the schema, for example "ProduceRequest".
    const NAME: &'static str;
    /// Every version there is a schema for, an unstable newest one included; what to advertise is
    /// [`ApiKey::valid_versions`].
    const VERSIONS: RangeInclusive<i16>;

    fn decode(input: &mut Decoder, version: i16) -> Result<Self, DecodeError>;
    fn encode(&self, output: &mut Encoder, version: i16) -> Result<(), EncodeError>;
}

/// A request and what answers it.
pub trait RequestMessage: Message {
    const API_KEY: ApiKey;
    type Response: Message + ErrorCodes;
}

/// A response, for those who count what goes wrong.
pub trait ErrorCodes {
    /// Visits every error code of the response, 0 (none) included, in the order of the schema.
    fn error_codes(&self, visit: &mut impl FnMut(i16));
}

/// Checks a version before anything is read or written.
pub(crate) fn supported<M: Message>(version: i16) -> Result<(), UnsupportedVersion> {
    if M::VERSIONS.contains(&version) { Ok(()) } else { Err(UnsupportedVersion { message: M::NAME, version }) }
}

/// The value of a nullable field in a version in which it is not.
pub(crate) fn required<'a, T>(
    value: Option<&'a T>,
    message: &'static str,
    field: &'static str,
    version: i16,
) -> Result<&'a T, EncodeError> {
    value.ok_or(EncodeError::UnexpectedNull { message, field, version })
}

/// Implements [`Message`] by the inherent methods.
macro_rules! message {
    ($name:ident, $versions:expr) => {
        impl $crate::Message for $name {
            const NAME: &'static str = stringify!($name);
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;

            fn decode(input: &mut $crate::Decoder, version: i16) -> Result<Self, $crate::DecodeError> {
                $name::decode(input, version)
            }

            fn encode(&self, output: &mut $crate::Encoder, version: i16) -> Result<(), $crate::EncodeError> {
                $name::encode(self, output, version)
            }
        }
    };
}

pub(crate) use message;
