//! What a log directory's disk may not have although the system's cache shows it.
//!
//! A sync that fails leaves its pages in the cache, and clean: who reads them sees what was written, and the next sync
//! finds nothing to do. A process that starts on the same machine cannot tell them from durable ones; what it then calls
//! durable a power loss takes. So before a sync of a log begins, it is noted from which offset on it will make the log
//! durable, and the note is taken back once it has succeeded. What is noted at a start, recovery writes anew before it
//! syncs it.
//!
//! The note itself is never synced. It has to last as long as the cache it speaks of: a killed process leaves both, a
//! power loss neither, and then what is read is what the disk has. Whatever is wrong with it means that everything above
//! the recovery points is in doubt.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use ottla_rt::{Disk, DiskFile, OpenMode};
use ottla_types::TopicPartition;
use parking_lot::Mutex;

use crate::checkpoint::{OffsetCheckpoint, format_offsets, parse_offsets};
use crate::names;
use crate::partition::is_no_space;

/// The layout. A later one tells nothing to this program.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"ottladbt";
/// Magic, version, length of the text, CRC of both and the text.
const HEADER_BYTES: usize = 8 + 4 + 4 + 4;
/// The file always has this length, so that a note needs no room on the disk. What does not fit is everything.
const FILE_BYTES: usize = 64 << 10;

/// What is in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InDoubt {
    /// These partitions, each from an offset on.
    From(OffsetCheckpoint),
    /// Every partition from its recovery point on.
    Everything,
}

impl InDoubt {
    pub(crate) fn nothing() -> InDoubt {
        InDoubt::From(OffsetCheckpoint::new())
    }

    /// From where on a log is in doubt that is durable up to its recovery point.
    pub(crate) fn of(&self, topic_partition: &TopicPartition, recovery_point: i64) -> Option<i64> {
        match self {
            InDoubt::From(offsets) => offsets.get(topic_partition).map(|offset| recovery_point.max(*offset)),
            InDoubt::Everything => Some(recovery_point),
        }
    }

    fn format(&self) -> Vec<u8> {
        let text = match self {
            InDoubt::From(offsets) => format_offsets(offsets),
            // No checkpoint says that.
            InDoubt::Everything => String::new(),
        };
        if HEADER_BYTES + text.len() > FILE_BYTES {
            return InDoubt::Everything.format();
        }
        let head = [VERSION.to_be_bytes(), (text.len() as u32).to_be_bytes()].concat();
        [&MAGIC, &head[..], &crc32c(&[&head, text.as_bytes()]).to_be_bytes(), text.as_bytes()].concat()
    }

    /// `None` if it is no note, or a damaged one.
    fn parse(bytes: &[u8]) -> Option<InDoubt> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (head, rest) = rest.split_first_chunk::<8>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let (version, length) = head.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let text = rest.get(..length)?;
        if *magic != MAGIC
            || u32::from_be_bytes(*version) != VERSION
            || u32::from_be_bytes(*crc) != crc32c(&[head, text])
        {
            return None;
        }
        if text.is_empty() { Some(InDoubt::Everything) } else { parse_offsets(text).ok().map(InDoubt::From) }
    }
}

fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

/// Stands for a sync that was noted. Dropped, it stays in doubt until the next start.
#[derive(Debug)]
#[must_use]
pub(crate) struct Doubt(u64);

/// The note of a directory.
pub(crate) struct Doubts {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<Arc<dyn DiskFile>>,
    /// The syncs noted, by the number of their [`Doubt`].
    noted: BTreeMap<u64, OffsetCheckpoint>,
    next: u64,
}

impl Doubts {
    pub(crate) fn new(directory: &std::path::Path) -> Doubts {
        Doubts { path: directory.join(names::DOUBTS), state: Mutex::default() }
    }

    /// What an earlier process has left in doubt.
    pub(crate) fn read(&self, disk: &dyn Disk) -> io::Result<InDoubt> {
        let file = match disk.open(&self.path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(InDoubt::Everything),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; (file.len()? as usize).min(FILE_BYTES)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(InDoubt::parse(&bytes).unwrap_or(InDoubt::Everything))
    }

    /// Sees to it that there is a note: without one everything is in doubt.
    pub(crate) fn prepare(&self, disk: &dyn Disk) -> io::Result<()> {
        if disk.exists(&self.path)? { Ok(()) } else { self.write(disk, &mut self.state.lock()) }
    }

    /// Notes a sync that is about to make these logs durable from these offsets on. What is noted of them already goes
    /// down to these offsets: what was there was cut.
    pub(crate) fn begin(&self, disk: &dyn Disk, logs: OffsetCheckpoint) -> io::Result<Doubt> {
        let mut state = self.state.lock();
        for offsets in state.noted.values_mut() {
            for (topic_partition, offset) in offsets {
                if let Some(from) = logs.get(topic_partition) {
                    *offset = (*offset).min(*from);
                }
            }
        }
        let number = state.next;
        state.next += 1;
        state.noted.insert(number, logs);
        self.write(disk, &mut state)?;
        Ok(Doubt(number))
    }

    /// The sync has succeeded.
    #[expect(clippy::needless_pass_by_value, reason = "a sync succeeds once")]
    pub(crate) fn end(&self, disk: &dyn Disk, doubt: Doubt) -> io::Result<()> {
        let mut state = self.state.lock();
        state.noted.remove(&doubt.0);
        self.write(disk, &mut state)
    }

    fn write(&self, disk: &dyn Disk, state: &mut State) -> io::Result<()> {
        let mut all = OffsetCheckpoint::new();
        for (topic_partition, offset) in state.noted.values().flatten() {
            let from = all.entry(topic_partition.clone()).or_insert(*offset);
            *from = (*from).min(*offset);
        }
        match self.write_note(disk, &mut state.file, &InDoubt::From(all).format()) {
            Err(error) if is_no_space(&error) => {
                // A new file has no room, or one that is never overwritten in place. No note says it all as well.
                state.file = None;
                match disk.remove_file(&self.path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            }
            result => result,
        }
    }

    fn write_note(&self, disk: &dyn Disk, file: &mut Option<Arc<dyn DiskFile>>, note: &[u8]) -> io::Result<()> {
        if let Some(file) = file {
            return file.write_all_at(&[IoSlice::new(note)], 0);
        }
        let opened = disk.open(&self.path, OpenMode::CreateOrOpen)?;
        let zeros = vec![0; FILE_BYTES - note.len()];
        opened.write_all_at(&[IoSlice::new(note), IoSlice::new(&zeros)], 0)?;
        *file = Some(opened);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ottla_rt::memory::{Failure, Fault, MemoryDisk, Operation};

    use super::*;

    fn logs(logs: &[(&str, i64)]) -> OffsetCheckpoint {
        logs.iter().map(|(topic, offset)| (TopicPartition::new(*topic, 0), *offset)).collect()
    }

    fn directory(device: &MemoryDisk) -> Arc<dyn Disk> {
        let disk = device.mount();
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk
    }

    /// What the next process finds.
    fn left(device: &MemoryDisk) -> InDoubt {
        Doubts::new(Path::new("/data")).read(&*device.mount()).unwrap()
    }

    #[test]
    fn what_is_not_taken_back_is_found() {
        let device = MemoryDisk::new(1);
        let disk = directory(&device);
        assert_eq!(left(&device), InDoubt::Everything, "there is no note");
        let doubts = Doubts::new(Path::new("/data"));
        doubts.prepare(&*disk).unwrap();
        assert_eq!(left(&device), InDoubt::nothing());
        let first = doubts.begin(&*disk, logs(&[("a", 10), ("b", 20)])).unwrap();
        let second = doubts.begin(&*disk, logs(&[("b", 25), ("c", 0)])).unwrap();
        assert_eq!(left(&device), InDoubt::From(logs(&[("a", 10), ("b", 20), ("c", 0)])));
        doubts.end(&*disk, first).unwrap();
        assert_eq!(left(&device), InDoubt::From(logs(&[("b", 25), ("c", 0)])));
        let cut = doubts.begin(&*disk, logs(&[("b", 5)])).unwrap();
        doubts.end(&*disk, cut).unwrap();
        assert_eq!(left(&device), InDoubt::From(logs(&[("b", 5), ("c", 0)])), "a cut moves what is noted down");
        drop(second);
        device.kill();
        assert_eq!(left(&device), InDoubt::From(logs(&[("b", 5), ("c", 0)])));
        Doubts::new(Path::new("/data")).prepare(&*device.mount()).unwrap();
        assert_eq!(left(&device), InDoubt::From(logs(&[("b", 5), ("c", 0)])), "a note that is there stays");
    }

    #[test]
    fn from_where_a_log_is_in_doubt() {
        let of = |in_doubt: &InDoubt, topic| in_doubt.of(&TopicPartition::new(topic, 0), 15);
        let some = InDoubt::From(logs(&[("a", 10), ("b", 20)]));
        assert_eq!([of(&some, "a"), of(&some, "b"), of(&some, "c")], [Some(15), Some(20), None]);
        assert_eq!(of(&InDoubt::Everything, "c"), Some(15));
        assert_eq!(of(&InDoubt::nothing(), "a"), None);
    }

    #[test]
    fn what_does_not_fit_is_everything() {
        let name = "t".repeat(200);
        let fits = |count: i32| {
            let offsets = (0..count).map(|partition| (TopicPartition::new(name.as_str(), partition), 0)).collect();
            let note = InDoubt::From(offsets).format();
            assert!(note.len() <= FILE_BYTES);
            InDoubt::parse(&note).unwrap() != InDoubt::Everything
        };
        assert!(fits(300));
        assert!(!fits(400));
    }

    #[test]
    fn a_damaged_note_is_no_note() {
        let note = InDoubt::From(logs(&[("a", 10), ("b", 20)])).format();
        for length in 0..note.len() {
            assert_eq!(InDoubt::parse(&note[..length]), None, "{length} bytes");
        }
        for bit in 0..note.len() * 8 {
            let mut flipped = note.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(InDoubt::parse(&flipped), None, "bit {bit}");
        }
        let zeros = vec![0; FILE_BYTES];
        assert_eq!(InDoubt::parse(&zeros), None);
        let longer = [&note[..], b"what an earlier note was longer by"].concat();
        assert_eq!(InDoubt::parse(&longer), Some(InDoubt::From(logs(&[("a", 10), ("b", 20)]))));
    }

    #[test]
    fn a_full_disk_leaves_no_note() {
        for operation in [Operation::Create, Operation::Write] {
            let device = MemoryDisk::new(1);
            let disk = directory(&device);
            let doubts = Doubts::new(Path::new("/data"));
            device.inject(Fault::nth(operation, 0, Failure::NoSpace));
            let first = doubts.begin(&*disk, logs(&[("a", 1)])).unwrap();
            assert_eq!(left(&device), InDoubt::Everything, "{operation:?}");
            doubts.end(&*disk, first).unwrap();
            assert_eq!(left(&device), InDoubt::nothing(), "{operation:?}: there is room again");
            device.inject(Fault::nth(Operation::Write, 0, Failure::NoSpace));
            let _second = doubts.begin(&*disk, logs(&[("a", 2)])).unwrap();
            assert_eq!(left(&device), InDoubt::Everything, "{operation:?}: not overwritten in place");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_note_or_none(bytes: Vec<u8>) {
            let _ = InDoubt::parse(&bytes);
        }
    }
}
