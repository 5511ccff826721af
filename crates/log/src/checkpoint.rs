//! Kafka's checkpoint files: a version, a count, one entry a line.
//!
//! The parser takes any bytes: a count is believed only once that many lines were seen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_rt::Disk;
use ottla_types::TopicPartition;

use crate::epochs::EpochEntry;

/// The only version there is.
const VERSION: &str = "0";

/// The largest file that is read: a million partitions with the longest names stay below it.
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// Why a file is not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedCheckpoint {
    #[error("it is not UTF-8")]
    NotText,
    #[error("it has version '{0}', only version 0 is known")]
    UnknownVersion(String),
    #[error("line {0} is not what a checkpoint has there")]
    Line(usize),
    #[error("it announces {announced} entries and has {found}")]
    Count { announced: usize, found: usize },
}

/// A checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] MalformedCheckpoint),
}

/// Offsets by partition, as four of Kafka's files hold them.
pub type OffsetCheckpoint = BTreeMap<TopicPartition, i64>;

/// Parses an offset checkpoint; an empty file is an empty checkpoint.
pub fn parse_offsets(bytes: &[u8]) -> Result<OffsetCheckpoint, MalformedCheckpoint> {
    let mut offsets = OffsetCheckpoint::new();
    let mut last: Option<Arc<str>> = None;
    for (line, text) in entries(bytes)? {
        let mut fields = text.split_whitespace();
        let (Some(topic), Some(partition), Some(offset), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(MalformedCheckpoint::Line(line));
        };
        let partition: i32 = parse_number(partition, line)?;
        let offset: i64 = parse_number(offset, line)?;
        if partition < 0 || offset < 0 {
            return Err(MalformedCheckpoint::Line(line));
        }
        // The partitions of a topic follow each other, and share its name.
        let topic = last.filter(|last| **last == *topic).unwrap_or_else(|| Arc::from(topic));
        last = Some(Arc::clone(&topic));
        offsets.insert(TopicPartition::new(topic, partition), offset);
    }
    Ok(offsets)
}

pub fn format_offsets(offsets: &OffsetCheckpoint) -> String {
    let mut text = format!("{VERSION}\n{}\n", offsets.len());
    for (topic_partition, offset) in offsets {
        let _ = writeln!(text, "{} {} {offset}", topic_partition.topic, topic_partition.partition);
    }
    text
}

/// Parses a `leader-epoch-checkpoint`; epochs and offsets must both rise.
pub fn parse_epochs(bytes: &[u8]) -> Result<Vec<EpochEntry>, MalformedCheckpoint> {
    let mut epochs: Vec<EpochEntry> = Vec::new();
    for (line, text) in entries(bytes)? {
        let mut fields = text.split_whitespace();
        let (Some(epoch), Some(offset), None) = (fields.next(), fields.next(), fields.next()) else {
            return Err(MalformedCheckpoint::Line(line));
        };
        let entry = EpochEntry { epoch: parse_number(epoch, line)?, start_offset: parse_number(offset, line)? };
        let rises = epochs.last().is_none_or(|last| last.epoch < entry.epoch && last.start_offset < entry.start_offset);
        if entry.epoch < 0 || entry.start_offset < 0 || !rises {
            return Err(MalformedCheckpoint::Line(line));
        }
        epochs.push(entry);
    }
    Ok(epochs)
}

pub fn format_epochs(epochs: &[EpochEntry]) -> String {
    let mut text = format!("{VERSION}\n{}\n", epochs.len());
    for entry in epochs {
        let _ = writeln!(text, "{} {}", entry.epoch, entry.start_offset);
    }
    text
}

/// Reads an offset checkpoint; a missing file is an empty one.
pub(crate) fn read_offsets(disk: &dyn Disk, path: &Path) -> Result<OffsetCheckpoint, CheckpointError> {
    match disk.read_file(path, MAX_FILE_BYTES) {
        Ok(bytes) => Ok(parse_offsets(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(OffsetCheckpoint::new()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn write_offsets(disk: &dyn Disk, path: &Path, offsets: &OffsetCheckpoint) -> io::Result<()> {
    disk.write_file_atomically(path, format_offsets(offsets).as_bytes())
}

/// Reads the epochs of a partition; `None` when there is no file.
pub(crate) fn read_epochs(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<EpochEntry>>, CheckpointError> {
    match disk.read_file(path, MAX_FILE_BYTES) {
        Ok(bytes) => Ok(Some(parse_epochs(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The entry lines with their numbers, once version and count are right.
fn entries(bytes: &[u8]) -> Result<Vec<(usize, &str)>, MalformedCheckpoint> {
    let text = std::str::from_utf8(bytes).map_err(|_| MalformedCheckpoint::NotText)?;
    let mut lines = text.lines();
    let Some(version) = lines.next() else { return Ok(Vec::new()) };
    if version != VERSION {
        return Err(MalformedCheckpoint::UnknownVersion(version.chars().take(32).collect()));
    }
    let Some(count) = lines.next() else { return Ok(Vec::new()) };
    let announced: usize = parse_number(count, 2)?;
    let entries: Vec<(usize, &str)> = lines.enumerate().map(|(index, line)| (index + 3, line)).collect();
    if entries.len() != announced {
        return Err(MalformedCheckpoint::Count { announced, found: entries.len() });
    }
    Ok(entries)
}

fn parse_number<N: std::str::FromStr>(text: &str, line: usize) -> Result<N, MalformedCheckpoint> {
    text.parse().map_err(|_| MalformedCheckpoint::Line(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_kafkas_text() {
        let offsets: OffsetCheckpoint =
            [(TopicPartition::new("b", 0), 7), (TopicPartition::new("a", 12), i64::MAX)].into();
        let text = format_offsets(&offsets);
        assert_eq!(text, "0\n2\na 12 9223372036854775807\nb 0 7\n");
        assert_eq!(parse_offsets(text.as_bytes()), Ok(offsets));
    }

    #[test]
    fn epochs_are_kafkas_text() {
        let epochs = vec![EpochEntry { epoch: 0, start_offset: 0 }, EpochEntry { epoch: 5, start_offset: 100 }];
        let text = format_epochs(&epochs);
        assert_eq!(text, "0\n2\n0 0\n5 100\n");
        assert_eq!(parse_epochs(text.as_bytes()), Ok(epochs));
    }

    #[test]
    fn hostile_offsets() {
        use MalformedCheckpoint::{Count, Line, NotText, UnknownVersion};
        for (bytes, expected) in [
            (&b""[..], Ok(0)),
            (b"0", Ok(0)),
            (b"0\n0\n", Ok(0)),
            (b"0\n1\nt 0 5", Ok(1)),
            (b"0\n1\nt 0 5\n", Ok(1)),
            (b"0\r\n1\r\nt\t0  5\r\n", Ok(1)),
            (b"\xff", Err(NotText)),
            (b"1\n0\n", Err(UnknownVersion("1".to_owned()))),
            (b"0\nx\n", Err(Line(2))),
            (b"0\n18446744073709551615\nt 0 5\n", Err(Count { announced: usize::MAX, found: 1 })),
            (b"0\n2\nt 0 5\n", Err(Count { announced: 2, found: 1 })),
            (b"0\n0\nt 0 5\n", Err(Count { announced: 0, found: 1 })),
            (b"0\n1\nt 0\n", Err(Line(3))),
            (b"0\n1\nt 0 5 6\n", Err(Line(3))),
            (b"0\n1\nt -1 5\n", Err(Line(3))),
            (b"0\n1\nt 0 -5\n", Err(Line(3))),
            (b"0\n1\nt 0 9223372036854775808\n", Err(Line(3))),
            (b"0\n2\nt 0 5\n\n", Err(Line(4))),
        ] {
            assert_eq!(parse_offsets(bytes).map(|offsets| offsets.len()), expected, "{:?}", bytes.escape_ascii());
        }
    }

    #[test]
    fn hostile_epochs() {
        for bytes in [&b"0\n2\n1 5\n1 6\n"[..], b"0\n2\n1 5\n2 5\n", b"0\n1\n-1 0\n", b"0\n1\n1\n", b"0\n1\n1 2 3\n"] {
            assert!(parse_epochs(bytes).is_err(), "{:?}", bytes.escape_ascii());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            let _ = parse_offsets(&bytes);
            let _ = parse_epochs(&bytes);
        }
    }
}
