//! Why bytes are not a message, and why a message cannot be written.

/// The message does not exist in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} has no version {version}")]
pub struct UnsupportedVersion {
    pub message: &'static str,
    pub version: i16,
}

/// The bytes are not the message they claim to be: the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    UnsupportedVersion(#[from] UnsupportedVersion),
    #[error("unknown API key {code}")]
    UnknownApiKey { code: i16 },
    #[error("{needed} bytes expected where {remaining} are left")]
    UnexpectedEnd { needed: usize, remaining: usize },
    #[error("a variable-length number does not fit 32 bits")]
    VarintTooLong,
    #[error("null, or a negative length, where the version allows none")]
    UnexpectedNull,
    #[error("a string of {length} bytes; the protocol allows 32767")]
    StringTooLong { length: usize },
    #[error("an array of {length} elements, of which {remaining} bytes can hold none or {max} is the most")]
    ArrayTooLong { length: usize, remaining: usize, max: usize },
    #[error("{count} tagged fields in one struct, {max} is the most")]
    TooManyTaggedFields { count: usize, max: usize },
    #[error("tagged field {tag} declares {declared} bytes and holds {read}")]
    TaggedFieldSize { tag: u32, declared: usize, read: usize },
    #[error("decoding needs {needed} bytes of memory, {left} are left of the budget")]
    BudgetExceeded { needed: usize, left: usize },
}

/// The message cannot be written in this version: our fault, or that of a caller who set a field the version lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error(transparent)]
    UnsupportedVersion(#[from] UnsupportedVersion),
    #[error("{field} of {message} is set, which version {version} cannot express")]
    UnsupportedField { message: &'static str, field: &'static str, version: i16 },
    #[error("{field} of {message} is null, which version {version} cannot express")]
    UnexpectedNull { message: &'static str, field: &'static str, version: i16 },
    #[error("a string of {length} bytes; the protocol allows 32767")]
    StringTooLong { length: usize },
    #[error("{length} bytes or elements; the protocol counts to 2147483646")]
    TooLong { length: usize },
    #[error("a frame of {length} bytes; the protocol allows 2147483647")]
    FrameTooLong { length: usize },
    #[error("{length} bytes of the message are elsewhere, and it was asked for as a whole")]
    Elsewhere { length: usize },
}
