//! The four codecs, in the framings Kafka uses, with limits on what a compressed batch may grow to.
//!
//! Decompression is by pieces: a [`Decoder`] appends the next piece to a buffer, so that validation walks records of a
//! batch without ever holding it decompressed, and a lie about sizes costs at most one piece. Contexts and buffers
//! are kept per thread and reused.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::cell::RefCell;
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::header::Codec;

/// Buffers and contexts larger than this are given back instead of kept for the thread's next batch.
const KEPT_BYTES: usize = 1 << 20;
/// How much decoders that can stop anywhere produce at a time.
const PIECE_BYTES: usize = 64 << 10;

/// A codec and how hard it should try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Compression {
    codec: Codec,
    level: Option<i32>,
}

/// A compression level its codec does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} has no compression level {level}", codec.name())]
pub struct InvalidLevel {
    pub codec: Codec,
    pub level: i32,
}

impl Compression {
    pub const NONE: Compression = Compression { codec: Codec::None, level: None };

    /// The codec at its default level.
    pub fn new(codec: Codec) -> Compression {
        Compression { codec, level: None }
    }

    /// The codec at a level of KIP-390: gzip 1 to 9 (or -1, its default), lz4 1 to 17, zstd -131072 to 22. lz4 at 9, its
    /// default, is the fast encoder, and at any other level the slow, thorough one, whose greatest is 12: as in Kafka.
    pub fn with_level(codec: Codec, level: i32) -> Result<Compression, InvalidLevel> {
        let known = Compression::levels(codec).is_some_and(|levels| levels.contains(&level))
            || Compression::default_level(codec) == Some(level);
        if known { Ok(Compression { codec, level: Some(level) }) } else { Err(InvalidLevel { codec, level }) }
    }

    /// The levels of a codec, if it has any.
    pub fn levels(codec: Codec) -> Option<RangeInclusive<i32>> {
        match codec {
            Codec::None | Codec::Snappy => None,
            Codec::Gzip => Some(1..=9),
            Codec::Lz4 => Some(1..=17),
            Codec::Zstd => Some(-131_072..=22),
        }
    }

    /// The level Kafka uses when none is configured.
    pub fn default_level(codec: Codec) -> Option<i32> {
        match codec {
            Codec::None | Codec::Snappy => None,
            Codec::Gzip => Some(-1),
            Codec::Lz4 => Some(lz4::FAST_LEVEL),
            Codec::Zstd => Some(3),
        }
    }

    pub fn codec(self) -> Codec {
        self.codec
    }

    /// The level asked for, or the codec's default.
    pub fn level(self) -> Option<i32> {
        self.level.or_else(|| Compression::default_level(self.codec))
    }
}

/// How far a compressed batch may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecompressionLimits {
    /// No batch decompresses to more than this.
    pub max_output_bytes: usize,
    /// Nor to more than this many times its compressed size ...
    pub max_ratio: usize,
    /// ... unless it stays below this: zeros compress a thousandfold, and small batches of them are harmless.
    pub ratio_free_bytes: usize,
}

impl Default for DecompressionLimits {
    fn default() -> Self {
        DecompressionLimits { max_output_bytes: 256 << 20, max_ratio: 1_000, ratio_free_bytes: 16 << 20 }
    }
}

impl DecompressionLimits {
    /// The most bytes that this many compressed ones may become.
    pub fn allowed(&self, compressed_bytes: usize) -> usize {
        compressed_bytes.saturating_mul(self.max_ratio).max(self.ratio_free_bytes).min(self.max_output_bytes)
    }
}

/// Why compressed bytes could not be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    #[error("there is no codec with id {0}")]
    UnknownCodec(u8),
    #[error("{} data ends too early", .0.name())]
    Truncated(Codec),
    #[error("{} data is malformed", .0.name())]
    Malformed(Codec),
    #[error("{} data uses a feature that Kafka does not support", .0.name())]
    Unsupported(Codec),
    #[error("{} data does not match its checksum", .0.name())]
    ChecksumMismatch(Codec),
    #[error("{} data decompresses to more than the {limit} bytes allowed", codec.name())]
    TooLarge { codec: Codec, limit: usize },
}

/// Decompresses the records of a batch. What is uncompressed already is not copied.
pub fn decompress(codec: Codec, body: &Bytes, limits: &DecompressionLimits) -> Result<Bytes, DecompressError> {
    if codec == Codec::None {
        return Ok(body.clone());
    }
    with_decoder(codec, body, limits, |decoder, output| {
        while decoder.append_next(output)? {}
        // Small results are copied out of the reused buffer into exactly what they need, large ones take it along.
        Ok(if output.capacity() <= KEPT_BYTES { Bytes::copy_from_slice(output) } else { std::mem::take(output).into() })
    })
}

/// Compresses the records of a batch.
pub fn compress(compression: Compression, body: &[u8]) -> Result<Vec<u8>, CompressError> {
    let mut output = Vec::new();
    compress_into(compression, body, &mut output)?;
    Ok(output)
}

/// Appends `body`, compressed, to `output`.
pub(crate) fn compress_into(compression: Compression, body: &[u8], output: &mut Vec<u8>) -> Result<(), CompressError> {
    let failed = CompressError(compression.codec);
    CONTEXTS.with_borrow_mut(|contexts| match compression.codec {
        Codec::None => {
            output.extend_from_slice(body);
            Ok(())
        }
        Codec::Gzip => contexts.gzip_encoder.compress(compression.level, body, output).ok_or(failed),
        Codec::Snappy => contexts.snappy_encoder.compress(body, output).ok_or(failed),
        Codec::Lz4 => contexts.lz4_encoder.compress(compression.level(), body, output).ok_or(failed),
        Codec::Zstd => contexts.zstd_encoder.compress(compression.level, body, output).ok_or(failed),
    })
}

/// A codec's library refused to compress; for input in memory this means it found no memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} could not compress a batch", .0.name())]
pub struct CompressError(pub Codec);

/// Runs `work` with a decoder over `body` and an empty scratch buffer, both on this thread's reused memory. `work` must
/// not come back here.
pub(crate) fn with_decoder<T>(
    codec: Codec,
    body: &[u8],
    limits: &DecompressionLimits,
    work: impl FnOnce(&mut Decoder<'_>, &mut Vec<u8>) -> T,
) -> T {
    CONTEXTS.with_borrow_mut(|contexts| {
        let Contexts { scratch, gzip, snappy, zstd, .. } = contexts;
        scratch.clear();
        let kind = match codec {
            Codec::None => Kind::None(body),
            Codec::Gzip => Kind::Gzip(gzip::Decoder::new(body, gzip)),
            Codec::Snappy => Kind::Snappy(snappy::Decoder::new(body, snappy)),
            Codec::Lz4 => Kind::Lz4(lz4::Decoder::new(body)),
            Codec::Zstd => Kind::Zstd(zstd::Decoder::new(body, zstd, limits.max_output_bytes)),
        };
        let limit = limits.allowed(body.len());
        let result = work(&mut Decoder { codec, kind, limit, left: limit }, scratch);
        if scratch.capacity() > KEPT_BYTES {
            *scratch = Vec::new();
        }
        zstd.shrink();
        result
    })
}

/// Decompresses one batch, piece by piece.
pub(crate) struct Decoder<'a> {
    codec: Codec,
    kind: Kind<'a>,
    limit: usize,
    left: usize,
}

enum Kind<'a> {
    None(&'a [u8]),
    Gzip(gzip::Decoder<'a>),
    Snappy(snappy::Decoder<'a>),
    Lz4(lz4::Decoder<'a>),
    Zstd(zstd::Decoder<'a>),
}

/// What went wrong inside a codec.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Truncated,
    Malformed,
    Unsupported,
    ChecksumMismatch,
    TooLarge,
}

impl Decoder<'_> {
    /// Appends the next piece; false when there is none left. A piece may be empty.
    pub(crate) fn append_next(&mut self, output: &mut Vec<u8>) -> Result<bool, DecompressError> {
        let before = output.len();
        if output.capacity() - before < PIECE_BYTES {
            // Doubling, but not beyond what may still come.
            output.reserve_exact(output.capacity().max(PIECE_BYTES).min(self.left.saturating_add(1)));
        }
        let more = match &mut self.kind {
            Kind::None(body) => {
                output.extend_from_slice(body);
                Ok(!std::mem::take(body).is_empty())
            }
            Kind::Gzip(decoder) => decoder.append_next(output, self.left),
            Kind::Snappy(decoder) => decoder.append_next(output, self.left),
            Kind::Lz4(decoder) => decoder.append_next(output, self.left),
            Kind::Zstd(decoder) => decoder.append_next(output, self.left),
        };
        let more = more.and_then(|more| {
            self.left = self.left.checked_sub(output.len() - before).ok_or(Failure::TooLarge)?;
            Ok(more)
        });
        more.map_err(|failure| match failure {
            Failure::Truncated => DecompressError::Truncated(self.codec),
            Failure::Malformed => DecompressError::Malformed(self.codec),
            Failure::Unsupported => DecompressError::Unsupported(self.codec),
            Failure::ChecksumMismatch => DecompressError::ChecksumMismatch(self.codec),
            Failure::TooLarge => DecompressError::TooLarge { codec: self.codec, limit: self.limit },
        })
    }
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

/// What a thread keeps between batches.
#[derive(Default)]
struct Contexts {
    scratch: Vec<u8>,
    gzip: gzip::DecoderState,
    snappy: snap::raw::Decoder,
    zstd: zstd::DecoderState,
    gzip_encoder: gzip::Encoder,
    snappy_encoder: snappy::Encoder,
    lz4_encoder: lz4::Encoder,
    zstd_encoder: zstd::Encoder,
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}
