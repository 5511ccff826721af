//! The frames of the log's files: what they say, and their bytes.
//!
//! A file is a header and then frames. A frame is the length of its body, a CRC-32C of everything but itself, its kind,
//! the length up to which the file was durable when the frame was written, and the body. That last number tells damage
//! from a torn write: bytes that a later frame knows to be durable cannot have been torn.

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry as _;

use crate::bytes_io::{Malformed, Reader, crc32c, put_log_id, put_membership, put_voter};
use crate::types::{Command, RaftEntry, RaftLogId, RaftPayload, RaftVote, VoterId};

/// The version of the log's format. A file with a newer one is refused.
pub(crate) const FORMAT_VERSION: u16 = 1;

pub(crate) const HEADER_SIZE: usize = 8 + 2 + 20 + 8 + 4;
const FRAME_HEAD_SIZE: usize = 4 + 4 + 1 + 8;
pub(crate) const MAGIC: &[u8; 8] = b"OttlaMdL";

/// The most bytes of records in one proposal.
pub(crate) const MAX_COMMAND_SIZE: usize = 64 << 20;
/// The longest body: a command and what surrounds it.
const MAX_BODY_SIZE: usize = MAX_COMMAND_SIZE + 1024;

/// The start of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) voter: VoterId,
    /// Counts the files of a log; the name of the file says it too.
    pub(crate) sequence: u64,
}

/// Why the first bytes of a file are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Missing, cut short or damaged.
    Invalid,
    NewerVersion(u16),
}

impl Header {
    pub(crate) fn put(&self, output: &mut Vec<u8>) {
        let start = output.len();
        output.extend(MAGIC);
        output.extend(FORMAT_VERSION.to_be_bytes());
        put_voter(self.voter, output);
        output.extend(self.sequence.to_be_bytes());
        let crc = crc32c(&[&output[start..]]);
        output.extend(crc.to_be_bytes());
    }

    /// The version decides how the rest is read, so it is looked at before the checksum.
    pub(crate) fn read(bytes: &[u8]) -> Result<Header, HeaderError> {
        let read = |bytes| -> Result<(u16, Header, u32), Malformed> {
            let mut reader = Reader::new(bytes);
            reader.slice(MAGIC.len())?;
            let version = reader.u16()?;
            let header = Header { voter: reader.voter()?, sequence: reader.u64()? };
            Ok((version, header, reader.u32()?))
        };
        if !bytes.starts_with(MAGIC) {
            return Err(HeaderError::Invalid);
        }
        let (version, header, crc) = read(bytes).map_err(|_| HeaderError::Invalid)?;
        if version > FORMAT_VERSION {
            return Err(HeaderError::NewerVersion(version));
        }
        if crc != crc32c(&[&bytes[..HEADER_SIZE - 4]]) || version != FORMAT_VERSION {
            return Err(HeaderError::Invalid);
        }
        Ok(header)
    }
}

/// One step of the log's history. Replayed in order they give its state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    Vote(RaftVote),
    Entry(RaftEntry),
    /// Entries after this index are gone; all of them with `None`.
    Truncate(Option<u64>),
    /// Entries up to this one are in a snapshot.
    Purge(RaftLogId),
    /// Entries up to this one are known to be committed. A hint: never waited for.
    Committed(RaftLogId),
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Frame::Vote(_) => 1,
            Frame::Entry(_) => 2,
            Frame::Truncate(_) => 3,
            Frame::Purge(_) => 4,
            Frame::Committed(_) => 5,
        }
    }

    pub(crate) fn put(&self, durable_length: u64, output: &mut Vec<u8>) {
        let start = output.len();
        output.extend([0; 8]);
        output.push(self.kind());
        output.extend(durable_length.to_be_bytes());
        let body_start = output.len();
        match self {
            Frame::Vote(vote) => {
                output.extend(vote.leader_id.term.to_be_bytes());
                put_voter(vote.leader_id.voted_for, output);
                output.push(u8::from(vote.committed));
            }
            Frame::Entry(entry) => put_entry(entry, output),
            Frame::Truncate(last_index) => {
                output.push(u8::from(last_index.is_some()));
                output.extend(last_index.unwrap_or(0).to_be_bytes());
            }
            Frame::Purge(log_id) | Frame::Committed(log_id) => put_log_id(*log_id, output),
        }
        let length = u32::try_from(output.len() - body_start).expect("invariant: a body is within MAX_BODY_SIZE");
        output[start..start + 4].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c(&[&output[start..start + 4], &output[start + 8..]]);
        output[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
    }

    /// Reads the frame at the start of `bytes`.
    pub(crate) fn read(bytes: &Bytes) -> Result<ReadFrame, Malformed> {
        let (raw, body) = RawFrame::read(bytes)?;
        let mut reader = Reader::new(&bytes[body.clone()]);
        let frame = match raw.kind {
            1 => {
                let term = reader.u64()?;
                let voter = reader.voter()?;
                if reader.flag()? {
                    Frame::Vote(RaftVote::new_committed(term, voter))
                } else {
                    Frame::Vote(RaftVote::new(term, voter))
                }
            }
            2 => {
                let (log_id, payload) = read_entry(&mut reader, bytes, body.end)?;
                Frame::Entry(RaftEntry::new(log_id, payload))
            }
            3 => {
                let some = reader.flag()?;
                let index = reader.u64()?;
                Frame::Truncate(some.then_some(index))
            }
            4 => Frame::Purge(reader.log_id()?),
            5 => Frame::Committed(reader.log_id()?),
            _ => return Err(Malformed),
        };
        reader.finish()?;
        Ok(ReadFrame { frame, size: body.end, durable_length: raw.durable_length })
    }

    /// The durable length of the frame at the start of `bytes`, if a whole one is there.
    pub(crate) fn durable_length(bytes: &[u8]) -> Option<u64> {
        RawFrame::read(bytes).ok().map(|(raw, _)| raw.durable_length)
    }
}

/// A frame and how many bytes it took.
#[derive(Debug)]
pub(crate) struct ReadFrame {
    pub(crate) frame: Frame,
    pub(crate) size: usize,
    /// How much of the file was durable when it was written.
    pub(crate) durable_length: u64,
}

/// A frame whose checksum is right.
struct RawFrame {
    kind: u8,
    durable_length: u64,
}

impl RawFrame {
    fn read(bytes: &[u8]) -> Result<(RawFrame, std::ops::Range<usize>), Malformed> {
        let mut reader = Reader::new(bytes);
        let length = reader.u32()? as usize;
        let crc = reader.u32()?;
        let kind = reader.u8()?;
        let durable_length = reader.u64()?;
        if length > MAX_BODY_SIZE || kind == 0 {
            return Err(Malformed);
        }
        let body = FRAME_HEAD_SIZE..FRAME_HEAD_SIZE + length;
        reader.slice(length)?;
        if crc != crc32c(&[&bytes[..4], &bytes[8..body.end]]) {
            return Err(Malformed);
        }
        Ok((RawFrame { kind, durable_length }, body))
    }
}

fn put_entry(entry: &RaftEntry, output: &mut Vec<u8>) {
    put_log_id(entry.log_id(), output);
    match &entry.payload {
        EntryPayload::Blank => output.push(0),
        EntryPayload::Normal(command) => {
            output.push(1);
            output.extend_from_slice(&command.records);
        }
        EntryPayload::Membership(membership) => {
            output.push(2);
            put_membership(membership, output);
        }
    }
}

fn read_entry(reader: &mut Reader<'_>, bytes: &Bytes, end: usize) -> Result<(RaftLogId, RaftPayload), Malformed> {
    let log_id = reader.log_id()?;
    let payload = match reader.u8()? {
        0 => EntryPayload::Blank,
        1 => {
            let length = reader.remaining();
            reader.slice(length)?;
            // Copied: a slice would keep the whole file in memory.
            EntryPayload::Normal(Command { records: Bytes::copy_from_slice(&bytes[end - length..end]) })
        }
        2 => EntryPayload::Membership(reader.membership()?),
        _ => return Err(Malformed),
    };
    Ok((log_id, payload))
}
