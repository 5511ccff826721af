//! Record batches in Kafka's format (magic 2), on the wire and on disk the same bytes.
//!
//! Plain functions over bytes: no files, no sockets, no clock. Every byte that comes in is foreign: nothing here
//! panics on it, and nothing is allocated by a length it declares before the bytes behind that length are seen.
//!
//! * [`BatchHeader`], [`batches`], [`verify_crc`]: what the log needs, without looking at a record.
//! * [`OpenBatch`]: the records of a batch, decompressed within [`DecompressionLimits`], walked in place.
//! * [`validate`]: what a broker checks before it appends what a producer sent.
//! * [`BatchRewriter`], [`empty_batch`]: what the log cleaner leaves of a batch.
//! * [`EndTransactionMarker`]: the control record that commits or aborts a transaction.
//! * [`BatchBuilder`]: what clients, tools and a recompressing broker write.

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap
    )
)]

mod batches;
mod builder;
mod compression;
mod control;
mod header;
mod open;
mod records;
mod rewrite;
mod validate;
mod varint;
mod walk;

pub use batches::{Batches, batches};
pub use builder::{BatchBuilder, BuildError};
pub use compression::{
    CompressError, Compression, DecompressError, DecompressionLimits, InvalidLevel, compress, decompress,
};
pub use control::{ControlMarker, ControlType, EndTransactionMarker, MarkerError, control_marker};
pub use header::{
    Attributes, BATCH_OVERHEAD, BatchError, BatchHeader, CURRENT_MAGIC, Codec, LOG_OVERHEAD, MAGIC_OFFSET,
    patch_base_offset_and_epoch, stamp_crc, verify_crc,
};
pub use open::{OpenBatch, OpenError, RecordCursor};
pub use records::{Header, HeaderIter, Headers, Record, RecordError, Records};
pub use rewrite::{BatchRewriter, empty_batch};
pub use validate::{
    AppendOrigin, InvalidBatch, RejectReason, RejectedRecord, TargetCompression, ValidatedBatch, ValidationMode,
    ValidationRules, validate,
};
