//! Kafka's messages as plain structs, and their encoding in every version Kafka 4.4 speaks.
//!
//! The files under `messages/` (what clients and brokers exchange) and `records/` (what is kept in internal topics and
//! files), and `api_key.rs`, `request.rs`, `response.rs`, `error_codes.rs` and `catalogue.rs`, are generated from the schemas in `schema/`
//! by `cargo run -p xtask -- generate-protocol`; nothing in them is edited by hand. The rest is the small runtime they
//! are written against: [`Decoder`], [`Encoder`], [`StrBytes`] and their errors.
//!
//! What holds for every message:
//! - Decoding untrusted bytes never panics and never allocates more than the decoder's budget, whatever lengths the bytes
//!   declare. Strings, bytes and records are slices of the input and keep all of it alive; copy what outlives a request.
//! - Unknown tagged fields are skipped, not kept.
//! - Encoding a field in a version that does not have it is an error if the field is set and the schema does not call it
//!   ignorable; otherwise the field is left out.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod api_key;
mod catalogue;
mod decoder;
mod encoder;
mod error;
mod error_codes;
mod fetched_records;
mod header;
mod message;
pub mod messages;
pub mod records;
mod request;
mod response;
mod str_bytes;

pub use api_key::ApiKey;
pub use decoder::{DEFAULT_DECODE_BUDGET_BYTES, Decoder, MAX_ARRAY_LENGTH, MAX_TAGGED_FIELDS};
pub use encoder::{Encoder, FramePart, SPLICE_THRESHOLD_BYTES};
pub use error::{DecodeError, EncodeError, UnsupportedVersion};
pub use fetched_records::{FetchedRecords, RecordsPart};
pub use message::{ErrorCodes, Message, RequestMessage};
pub use messages::request_header::RequestHeader;
pub use messages::response_header::ResponseHeader;
pub use request::Request;
pub use response::Response;
pub use str_bytes::StrBytes;
