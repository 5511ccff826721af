//! Files that a node has left, and what the fuzzer does to them before the next one starts.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use ottla_rt::OpenMode;
use ottla_rt::memory::MemoryWorld;

/// Sorted by directory and name.
pub type Files = Vec<(PathBuf, Vec<u8>)>;

/// So many changes one input makes, at most.
const MOST_CHANGES: usize = 12;

/// The files in these directories, and not below.
pub fn take(memory: &MemoryWorld, directories: &[&str]) -> Files {
    let disk = memory.disk.mount();
    let mut files = Files::new();
    for directory in directories.iter().map(Path::new) {
        for entry in disk.read_dir(directory).expect("it was made") {
            if !entry.is_dir {
                let path = directory.join(&entry.name);
                files.push((path.clone(), disk.read_file(&path, u64::MAX).expect("it is there")));
            }
        }
    }
    files
}

/// A machine on whose disk they are.
pub fn put(files: &Files) -> MemoryWorld {
    let memory = MemoryWorld::new(1);
    let disk = memory.disk.mount();
    for (path, bytes) in files {
        disk.create_dir_all(path.parent().expect("a file is in a directory")).expect("memory is there");
        let file = disk.open(path, OpenMode::CreateOrOpen).expect("memory is there");
        file.write_all_at(&[IoSlice::new(bytes)], 0).expect("memory is there");
    }
    memory
}

/// Each change takes a few bytes of the input: what, which file, where, and with what. Of eight kinds of changes two are
/// the target's own: `particular` gets their number (0 or 1), the bytes of the file, the place, and what to do it with.
pub fn change(files: &mut [&mut Vec<u8>], mut data: &[u8], particular: impl Fn(u8, &mut Vec<u8>, usize, &[u8])) {
    for _ in 0..MOST_CHANGES {
        let [what, file, high, low, count, rest @ ..] = data else { return };
        let index = usize::from(*file) % files.len();
        let bytes = &mut *files[index];
        let place = usize::from(u16::from_be_bytes([*high, *low]));
        let count = usize::from(*count).min(rest.len());
        let (given, rest) = rest.split_at(count);
        data = rest;
        let inside = place % (bytes.len() + 1);
        match what % 8 {
            0 => bytes.iter_mut().skip(inside).zip(given).for_each(|(byte, given)| *byte ^= given),
            1 => bytes.iter_mut().skip(inside).zip(given).for_each(|(byte, given)| *byte = *given),
            2 => bytes.truncate(inside),
            3 => bytes.resize(inside + 4 * count, 0),
            4 => drop(bytes.splice(inside..inside, given.iter().copied())),
            5 => *bytes = given.to_vec(),
            kind => particular(kind - 6, bytes, place, given),
        }
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}

/// The checksum of these bytes, one part after the other.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize() as u32
}
