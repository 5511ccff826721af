//! The 61 bytes before the records of a batch.

use bytes::{Buf, BufMut};
use ottla_types::TimestampType;

/// Bytes before a batch's length counts: the base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// Bytes of the whole header; the records follow.
pub const BATCH_OVERHEAD: usize = 61;
/// The only batch format there is since Kafka 4.0.
pub const CURRENT_MAGIC: i8 = 2;
/// Where the magic byte stands, in every format Kafka ever had.
pub const MAGIC_OFFSET: usize = 16;

const CRC_OFFSET: usize = 17;
/// The CRC covers everything from the attributes on.
const ATTRIBUTES_OFFSET: usize = 21;

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("batch needs {needed} bytes but only {available} are there")]
    Truncated { needed: usize, available: usize },
    #[error("batch length {0} is below the least a batch can have")]
    LengthTooSmall(i32),
    #[error("batch has magic {0}, only magic 2 is supported")]
    UnsupportedMagic(i8),
    #[error("batch is corrupt: its CRC is {stored:#010x}, its bytes give {computed:#010x}")]
    CrcMismatch { stored: u32, computed: u32 },
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec with this id, as the attributes carry it.
    pub fn from_id(id: u8) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| *codec as u8 == id)
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC_MASK: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The codec, or `None` for the ids 5 to 7 that nobody has given a meaning.
    pub fn codec(self) -> Option<Codec> {
        Codec::from_id(self.codec_id())
    }

    pub fn codec_id(self) -> u8 {
        self.0.to_be_bytes()[1] & 0x07
    }

    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp holds the time from which a tombstone may be removed.
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Attributes {
        Attributes((self.0 & !Self::CODEC_MASK) | i16::from(codec as u8))
    }

    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        self.with_bit(Self::LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime)
    }

    #[must_use]
    pub fn with_transactional(self, transactional: bool) -> Attributes {
        self.with_bit(Self::TRANSACTIONAL, transactional)
    }

    #[must_use]
    pub fn with_control(self, control: bool) -> Attributes {
        self.with_bit(Self::CONTROL, control)
    }

    #[must_use]
    pub fn with_delete_horizon(self, delete_horizon: bool) -> Attributes {
        self.with_bit(Self::DELETE_HORIZON, delete_horizon)
    }

    /// Only what has a meaning: Kafka drops the other bits when it rewrites a header.
    pub(crate) fn known_bits(self) -> Attributes {
        Attributes(self.0 & 0x7f)
    }

    fn with_bit(self, bit: i16, set: bool) -> Attributes {
        Attributes(if set { self.0 | bit } else { self.0 & !bit })
    }
}

/// The fixed part of a batch, as its bytes have it: parsing checks magic and length, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes after this field; at least 49.
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header of the batch that begins here; the records need not be there.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        if let Some(&magic) = bytes.get(MAGIC_OFFSET)
            && magic.cast_signed() != CURRENT_MAGIC
        {
            return Err(BatchError::UnsupportedMagic(magic.cast_signed()));
        }
        let Some(mut bytes) = bytes.first_chunk::<BATCH_OVERHEAD>().map(<[u8; BATCH_OVERHEAD]>::as_slice) else {
            return Err(BatchError::Truncated { needed: BATCH_OVERHEAD, available: bytes.len() });
        };
        let header = BatchHeader {
            base_offset: bytes.get_i64(),
            batch_length: bytes.get_i32(),
            partition_leader_epoch: bytes.get_i32(),
            magic: bytes.get_i8(),
            crc: bytes.get_u32(),
            attributes: Attributes(bytes.get_i16()),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            record_count: bytes.get_i32(),
        };
        if usize::try_from(header.batch_length).is_ok_and(|length| length >= BATCH_OVERHEAD - LOG_OVERHEAD) {
            Ok(header)
        } else {
            Err(BatchError::LengthTooSmall(header.batch_length))
        }
    }

    /// The header's bytes, as [`BatchHeader::parse`] reads them.
    pub fn encode(&self) -> [u8; BATCH_OVERHEAD] {
        let mut bytes = [0; BATCH_OVERHEAD];
        let mut output = bytes.as_mut_slice();
        output.put_i64(self.base_offset);
        output.put_i32(self.batch_length);
        output.put_i32(self.partition_leader_epoch);
        output.put_i8(self.magic);
        output.put_u32(self.crc);
        output.put_i16(self.attributes.0);
        output.put_i32(self.last_offset_delta);
        output.put_i64(self.base_timestamp);
        output.put_i64(self.max_timestamp);
        output.put_i64(self.producer_id);
        output.put_i16(self.producer_epoch);
        output.put_i32(self.base_sequence);
        output.put_i32(self.record_count);
        bytes
    }

    /// Bytes of the whole batch, header included.
    pub fn size_in_bytes(&self) -> usize {
        LOG_OVERHEAD + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// The offset of the last record the producer put in; compaction may have removed it, the number stays.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The sequence number of the last record, or -1 without one. After the greatest number comes 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(sum.rem_euclid(1 << 31)).unwrap_or(-1)
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// When the cleaner may drop this batch's tombstones, if it has set that.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }
}

/// Checks the CRC32C of the batch that begins here; it must be there whole.
pub fn verify_crc(bytes: &[u8]) -> Result<(), BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let batch = whole_batch(bytes, &header)?;
    let computed = crc_of(batch);
    if computed == header.crc { Ok(()) } else { Err(BatchError::CrcMismatch { stored: header.crc, computed }) }
}

/// Stamps what the log decides: where the batch stands and which leader wrote it. The CRC does not cover these.
/// Bytes too short for a batch are left as they are.
pub fn patch_base_offset_and_epoch(batch: &mut [u8], base_offset: i64, partition_leader_epoch: i32) {
    if let Some(prefix) = batch.first_chunk_mut::<MAGIC_OFFSET>() {
        prefix[..8].copy_from_slice(&base_offset.to_be_bytes());
        prefix[12..].copy_from_slice(&partition_leader_epoch.to_be_bytes());
    }
}

/// The bytes of the batch whose header was read from the same bytes.
pub(crate) fn whole_batch<'a>(bytes: &'a [u8], header: &BatchHeader) -> Result<&'a [u8], BatchError> {
    let needed = header.size_in_bytes();
    bytes.get(..needed).ok_or(BatchError::Truncated { needed, available: bytes.len() })
}

/// The CRC32C of a whole batch; 0 for bytes that cannot be one.
pub(crate) fn crc_of(batch: &[u8]) -> u32 {
    batch.get(ATTRIBUTES_OFFSET..).map_or(0, crc32c)
}

/// Writes the CRC a finished batch must carry; it must be exactly one batch.
pub fn stamp_crc(batch: &mut [u8]) {
    let crc = crc_of(batch);
    if let Some(field) = batch.get_mut(CRC_OFFSET..ATTRIBUTES_OFFSET) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the checksum has 32 bits")]
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    crc
}
