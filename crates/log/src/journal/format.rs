//! What a journal file says: a header, twice, then frames ([`super::frame`]) whose payloads are entries.
//!
//! All numbers are big-endian. The header says from which frame on the file was begun, whether it is still needed, and a
//! random number that goes into every checksum: what producers put into their records never passes for a frame, and what
//! an earlier use of the file left behind neither.

use bytes::{Buf, BufMut};
use ottla_types::{TopicId, TopicPartition, Uuid, validate_topic_name};

use super::frame::{BLOCK_BYTES, FrameWriter};

/// The layout; a file of a later one is refused.
const VERSION: u32 = 1;
const FILE_MAGIC: [u8; 8] = *b"ottlajrn";

/// Magic, version, state, first frame's number, salt, CRC: within one sector, so a power loss leaves the old or the new.
const HEADER_BYTES: usize = 8 + 4 + 4 + 8 + 8 + 4;
/// Two blocks, each of which begins with the header.
pub(super) const FRAMES_START: u64 = 2 * BLOCK_BYTES as u64;
/// What an entry takes beside the topic's name and the batches.
const ENTRY_BYTES: usize = 1 + 2 + 4 + 16 + 8 + 8 + 8 + 4;

const IN_USE: u32 = 1;
const SETTLED: u32 = 2;

const APPENDED: u8 = 1;
const LEFT: u8 = 2;

/// What a journal file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What the frames say is in the partitions' own files by now.
    pub(super) settled: bool,
    pub(super) first_frame: u64,
    pub(super) salt: u64,
}

/// Why a file is not read as a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// Torn while it was begun, or damaged.
    Invalid,
    NewerVersion(u32),
}

impl Header {
    /// Both blocks of it.
    pub(super) fn format(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAMES_START as usize);
        for start in [0, BLOCK_BYTES] {
            bytes.put_slice(&FILE_MAGIC);
            bytes.put_u32(VERSION);
            bytes.put_u32(if self.settled { SETTLED } else { IN_USE });
            bytes.put_u64(self.first_frame);
            bytes.put_u64(self.salt);
            let crc = crc32c(0, &[&bytes[start..]]);
            bytes.put_u32(crc);
            bytes.resize(start + BLOCK_BYTES, 0);
        }
        bytes
    }

    /// From the first bytes of a file, as many as there are of [`FRAMES_START`].
    pub(super) fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let copy = |start: usize| bytes.get(start..).and_then(|bytes| bytes.first_chunk()).map(Header::parse_copy);
        let copies = [copy(0), copy(BLOCK_BYTES)];
        if let Some(Err(newer @ HeaderError::NewerVersion(_))) =
            copies.iter().flatten().find(|copy| matches!(copy, Err(HeaderError::NewerVersion(_))))
        {
            return Err(*newer);
        }
        let mut valid = copies.into_iter().flatten().flatten();
        match (valid.next(), valid.next()) {
            // Two when a power loss came between them. A use that began later is the right one; of the same use it is
            // that it is settled.
            (Some(one), Some(other)) => {
                Ok(if (other.first_frame, other.settled) > (one.first_frame, one.settled) { other } else { one })
            }
            (Some(one), None) => Ok(one),
            _ => Err(HeaderError::Invalid),
        }
    }

    fn parse_copy(bytes: &[u8; HEADER_BYTES]) -> Result<Header, HeaderError> {
        let (content, mut crc) = bytes.split_at(HEADER_BYTES - 4);
        let mut rest = content;
        let mut magic = [0; 8];
        rest.copy_to_slice(&mut magic);
        if magic != FILE_MAGIC || crc.get_u32() != crc32c(0, &[content]) {
            return Err(HeaderError::Invalid);
        }
        let version = rest.get_u32();
        if version != VERSION {
            return Err(HeaderError::NewerVersion(version));
        }
        let settled = match rest.get_u32() {
            IN_USE => false,
            SETTLED => true,
            _ => return Err(HeaderError::Invalid),
        };
        Ok(Header { settled, first_frame: rest.get_u64(), salt: rest.get_u64() })
    }
}

/// Batches that were appended to a partition, and where they stand in its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) topic_partition: TopicPartition,
    pub(super) topic_id: TopicId,
    pub(super) segment_base_offset: i64,
    /// Of the first batch in the segment's file.
    pub(super) position: u64,
    /// The log ended here before the batches, which say their own offsets and epochs.
    pub(super) offset: i64,
}

/// Puts the entries of a frame together.
pub(super) struct FrameBuilder {
    frame: FrameWriter,
}

impl FrameBuilder {
    pub(super) fn with_capacity(bytes: usize) -> FrameBuilder {
        FrameBuilder { frame: FrameWriter::with_capacity(bytes) }
    }

    /// How long an entry for these batches is.
    pub(super) fn entry_bytes(topic: &str, batches: usize) -> usize {
        ENTRY_BYTES + topic.len() + batches
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frame.is_empty()
    }

    pub(super) fn push_appended(&mut self, place: &Place, batches: &[bytes::Bytes]) {
        let len: usize = batches.iter().map(bytes::Bytes::len).sum();
        let mut fields = partition_fields(APPENDED, &place.topic_partition, place.topic_id);
        fields.put_i64(place.segment_base_offset);
        fields.put_u64(place.position);
        fields.put_i64(place.offset);
        fields.put_u32(u32::try_from(len).expect("invariant: what is journaled is small"));
        self.frame.put(&fields);
        for part in batches {
            self.frame.put(part);
        }
    }

    /// What frames so far say of this partition is void.
    pub(super) fn push_left(&mut self, topic_partition: &TopicPartition, topic_id: TopicId) {
        self.frame.put(&partition_fields(LEFT, topic_partition, topic_id));
    }

    pub(super) fn finish(self, number: u64, salt: u64) -> Vec<u8> {
        self.frame.finish(number, salt)
    }
}

fn partition_fields(kind: u8, topic_partition: &TopicPartition, topic_id: TopicId) -> Vec<u8> {
    let name = topic_partition.topic.as_bytes();
    let mut fields = Vec::with_capacity(ENTRY_BYTES + name.len());
    fields.put_u8(kind);
    fields.put_u16(u16::try_from(name.len()).expect("invariant: a topic's name is short"));
    fields.put_slice(name);
    fields.put_i32(topic_partition.partition);
    fields.put_slice(&topic_id.0);
    fields
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The batches are these bytes of the frame's payload.
    Appended {
        place: Place,
        batches: std::ops::Range<usize>,
    },
    Left {
        topic_partition: TopicPartition,
        topic_id: TopicId,
    },
}

/// Bytes with the right checksum that are no entries: nobody but another program writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedEntry;

pub(super) fn parse_entries(payload: &[u8]) -> Result<Vec<Entry>, MalformedEntry> {
    let mut entries = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let kind = rest.try_get_u8().map_err(|_| MalformedEntry)?;
        let name_len = usize::from(rest.try_get_u16().map_err(|_| MalformedEntry)?);
        let (name, after) = rest.split_at_checked(name_len).ok_or(MalformedEntry)?;
        rest = after;
        let topic = std::str::from_utf8(name).map_err(|_| MalformedEntry)?;
        validate_topic_name(topic).map_err(|_| MalformedEntry)?;
        let partition = rest.try_get_i32().map_err(|_| MalformedEntry)?;
        let (id, after) = rest.split_first_chunk::<16>().ok_or(MalformedEntry)?;
        rest = after;
        if partition < 0 {
            return Err(MalformedEntry);
        }
        let (topic_partition, topic_id) = (TopicPartition::new(topic, partition), Uuid(*id));
        match kind {
            LEFT => entries.push(Entry::Left { topic_partition, topic_id }),
            APPENDED => {
                let segment_base_offset = rest.try_get_i64().map_err(|_| MalformedEntry)?;
                let position = rest.try_get_u64().map_err(|_| MalformedEntry)?;
                let offset = rest.try_get_i64().map_err(|_| MalformedEntry)?;
                let len = rest.try_get_u32().map_err(|_| MalformedEntry)? as usize;
                if segment_base_offset < 0 || offset < segment_base_offset || position > u64::from(u32::MAX) {
                    return Err(MalformedEntry);
                }
                let start = payload.len() - rest.len();
                let (_, after) = rest.split_at_checked(len).ok_or(MalformedEntry)?;
                rest = after;
                let place = Place { topic_partition, topic_id, segment_base_offset, position, offset };
                entries.push(Entry::Appended { place, batches: start..start + len });
            }
            _ => return Err(MalformedEntry),
        }
    }
    Ok(entries)
}

pub(super) fn crc32c(salt: u64, parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&salt.to_be_bytes());
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::path::Path;

    use bytes::Bytes;
    use ottla_rt::OpenMode;
    use ottla_rt::memory::MemoryWorld;

    use super::*;
    use crate::journal::frame::{FrameReader, frame_bytes};

    const SALT: u64 = 0x0102_0304_0506_0708;

    fn place(partition: i32) -> Place {
        Place {
            topic_partition: TopicPartition::new("orders", partition),
            topic_id: Uuid([7; 16]),
            segment_base_offset: 40,
            position: 1_234,
            offset: 42,
        }
    }

    #[test]
    fn a_frame_says_what_was_put_into_it() {
        let mut builder = FrameBuilder::with_capacity(0);
        assert!(builder.is_empty());
        builder.push_appended(&place(0), &[Bytes::from_static(b"pre"), Bytes::from_static(b"fix")]);
        builder.push_left(&TopicPartition::new("orders", 1), Uuid([8; 16]));
        assert!(!builder.is_empty());
        let payload_len = FrameBuilder::entry_bytes("orders", 6) + 1 + 2 + 6 + 4 + 16;
        let bytes = builder.finish(9, SALT);
        assert_eq!(bytes.len(), frame_bytes(payload_len));

        let disk = MemoryWorld::new(1).disk.mount();
        let file = disk.open(Path::new("/frame"), OpenMode::CreateOrOpen).unwrap();
        file.write_all_at(&[IoSlice::new(&bytes)], 0).unwrap();
        let reader = FrameReader { file: &*file, len: bytes.len() as u64, salt: SALT };
        let payload = reader.read(9, 0).unwrap().unwrap().payload;
        assert_eq!(payload.len(), payload_len);
        let entries = parse_entries(&payload).unwrap();
        let [Entry::Appended { place: found, batches }, Entry::Left { topic_partition, topic_id }] = &entries[..]
        else {
            panic!("{entries:?}");
        };
        assert_eq!((found, &payload[batches.clone()]), (&place(0), &b"prefix"[..]));
        assert_eq!((topic_partition.partition, *topic_id), (1, Uuid([8; 16])));
        for len in 1..payload_len {
            let whole = len == FrameBuilder::entry_bytes("orders", 6);
            assert_eq!(parse_entries(&payload[..len]).is_ok(), whole, "{len} bytes");
        }
    }

    #[test]
    fn one_copy_of_a_header_is_enough() {
        for settled in [false, true] {
            let header = Header { settled, first_frame: 77, salt: SALT };
            let bytes = header.format();
            assert_eq!(bytes.len() as u64, FRAMES_START);
            assert_eq!(Header::parse(&bytes), Ok(header));
            assert_eq!(Header::parse(&bytes[..HEADER_BYTES]), Ok(header), "the second was cut off");
            for bit in (0..HEADER_BYTES * 8).chain(BLOCK_BYTES * 8..(BLOCK_BYTES + HEADER_BYTES) * 8) {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Header::parse(&flipped), Ok(header), "bit {bit}");
                flipped[(bit / 8 + BLOCK_BYTES) % (2 * BLOCK_BYTES)] ^= 1;
                assert_eq!(Header::parse(&flipped), Err(HeaderError::Invalid), "bit {bit}");
            }
        }
        assert_eq!(Header::parse(&[]), Err(HeaderError::Invalid));
        assert_eq!(Header::parse(&[0; 2 * BLOCK_BYTES]), Err(HeaderError::Invalid));
    }

    #[test]
    fn of_two_headers_the_later_use_counts_and_settled_is_settled() {
        let header = |first_frame, settled| Header { settled, first_frame, salt: first_frame };
        let check = |one: Header, other: Header, expected: Header| {
            for (first, second) in [(one, other), (other, one)] {
                let bytes = [&first.format()[..BLOCK_BYTES], &second.format()[BLOCK_BYTES..]].concat();
                assert_eq!(Header::parse(&bytes), Ok(expected), "{first:?} {second:?}");
            }
        };
        check(header(7, false), header(7, true), header(7, true));
        check(header(7, true), header(8, false), header(8, false));
    }

    #[test]
    fn a_newer_version_is_told() {
        for copy in [0, BLOCK_BYTES] {
            let mut newer = Header { settled: false, first_frame: 1, salt: 1 }.format();
            newer[copy + 11] = 2;
            let crc = crc32c(0, &[&newer[copy..copy + HEADER_BYTES - 4]]);
            newer[copy + HEADER_BYTES - 4..copy + HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
            assert_eq!(Header::parse(&newer), Err(HeaderError::NewerVersion(2)));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_entries_or_refused(bytes: Vec<u8>) {
            let _ = parse_entries(&bytes);
        }
    }
}
