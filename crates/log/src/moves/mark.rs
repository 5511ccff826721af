//! The mark of a partition's directory that was moved: how often, so that of two directories of one partition the one
//! that is it can be told.
//!
//! It is made before the copy takes the partition's name, and that name decides: from then on nothing is appended to the
//! old directory. A crash, or a disk that fails, can leave the old one under its name as well; it has been moved less often.

use std::io;
use std::path::Path;

use ottla_rt::Disk;
use ottla_types::TopicId;

use crate::names;

const MAX_BYTES: u64 = 1024;

/// How often the partition in this directory was moved; a mark that cannot be read counts as none.
pub(super) fn read(disk: &dyn Disk, directory: &Path) -> io::Result<u64> {
    match disk.read_file(&directory.join(names::MOVE_MARK), MAX_BYTES) {
        Ok(bytes) => Ok(parse(&bytes).unwrap_or(0)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Makes the mark, durably.
pub(super) fn write(disk: &dyn Disk, directory: &Path, moves: u64) -> io::Result<()> {
    disk.write_file_atomically(&directory.join(names::MOVE_MARK), format(moves).as_bytes())
}

fn format(moves: u64) -> String {
    format!("version=1\nmoves={moves}\n")
}

fn parse(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let rest = text.strip_prefix("version=1\nmoves=")?;
    rest.strip_suffix('\n')?.parse().ok()
}

/// A directory under a partition's name that is not the only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) topic_id: Option<TopicId>,
    pub(super) moves: u64,
    /// There is, or was, a record in it.
    pub(super) was_written: bool,
}

/// Which of several directories is the partition's; `None` when that cannot be told.
pub(super) fn choose(candidates: &[Candidate]) -> Option<usize> {
    let first = candidates.first()?;
    if candidates.iter().any(|candidate| candidate.topic_id != first.topic_id) {
        return None;
    }
    let moves = candidates.iter().map(|candidate| candidate.moves).max()?;
    let latest = |(index, candidate): (usize, &Candidate)| (candidate.moves == moves).then_some(index);
    let mut latest: Vec<usize> = candidates.iter().enumerate().filter_map(latest).collect();
    if latest.iter().any(|index| candidates[*index].was_written) {
        latest.retain(|index| candidates[*index].was_written);
    } else {
        // Made, and made again elsewhere, before anything was written: they are the same.
        latest.truncate(1);
    }
    match latest[..] {
        [only] => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_types::Uuid;

    #[test]
    fn text() {
        for moves in [0, 1, u64::MAX] {
            assert_eq!(parse(format(moves).as_bytes()), Some(moves));
        }
        for bad in ["", "version=2\nmoves=1\n", "version=1\nmoves=\n", "version=1\nmoves=1", "version=1\nmoves=1\n\n"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn choices() {
        let of = |moves, was_written| Candidate { topic_id: Some(Uuid([1; 16])), moves, was_written };
        let other = |moves| Candidate { topic_id: Some(Uuid([2; 16])), moves, was_written: true };
        for (candidates, expected) in [
            (&[of(0, true), of(1, true)][..], Some(1)),
            (&[of(3, true), of(2, true), of(0, true)], Some(0)),
            // An empty partition can be moved, too.
            (&[of(0, true), of(1, false)], Some(1)),
            (&[of(0, false), of(0, true)], Some(1)),
            (&[of(0, false), of(0, false)], Some(0)),
            (&[of(0, true), of(0, true)], None),
            (&[of(2, true), of(2, true), of(1, true)], None),
            // Of different topics: how often either was moved says nothing.
            (&[of(0, true), other(1)], None),
        ] {
            assert_eq!(choose(candidates), expected, "{candidates:?}");
        }
    }
}
