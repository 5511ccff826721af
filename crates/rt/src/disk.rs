//! Files with explicit positions and explicit durability.
//!
//! Contract, which the storage engine is written against and a simulated disk exploits to the full:
//! - What is written is visible to readers at once, and lost at a power failure unless a sync that began afterwards
//!   has succeeded. Any subset of unsynced bytes may survive, torn at sector borders.
//! - A new, renamed or removed name is lost at a power failure unless [`Disk::sync_dir`] of its directory succeeded.
//! - A failed sync may have dropped the dirty pages: a later success says nothing about them. Never retry it.
//! - Reads and writes may be short or fail at any call.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::BoxFuture;

/// How to open a file. Nothing truncates: see [`DiskFile::set_len`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist.
    Read,
    /// The file must exist.
    ReadWrite,
    /// The file is made when it is missing.
    CreateOrOpen,
    /// The file must not exist.
    CreateNew,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
    /// The length of a file in bytes; 0 for a directory.
    pub len: u64,
}

/// The size of a volume in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total: u64,
    pub available: u64,
}

/// A file system. Methods block, but for [`Disk::sync_files`].
pub trait Disk: Send + Sync {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// A file that is read once, from start to end, by somebody nobody waits for: what is not in the system's cache stays
    /// out of it, as far as the system can be told.
    fn open_for_scan(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, OpenMode::Read)
    }

    /// The names in a directory, sorted. Names that are not UTF-8 are left out: none of them is ours.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes a directory and its missing parents. Durable once each parent was synced.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Replaces `to` if it exists. Atomic; durable once the directories of both were synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove_file(&self, path: &Path) -> io::Result<()>;

    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Syncs the data of many files at once (`fdatasync`), as parallel as the world allows; one result per file, in
    /// order.
    fn sync_files(&self, files: Vec<Arc<dyn DiskFile>>) -> BoxFuture<'static, Vec<io::Result<()>>>;

    /// Takes the exclusive lock of this file, making it when missing. `WouldBlock` when another process (or another
    /// node in this one) has it. Released when the guard is dropped or its process ends.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;

    fn space(&self, path: &Path) -> io::Result<Space>;

    /// How many files may be open at once, where that is limited.
    fn open_files_limit(&self) -> Option<usize> {
        None
    }

    /// Reads a whole file of at most `limit` bytes; a longer one is `InvalidData`.
    fn read_file(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let len = file.len()?;
        if len > limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is {len} bytes, more than the {limit} allowed", path.display()),
            ));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces a small file as a whole: a reader after a crash sees the old or the new content. `.tmp` is appended to
    /// the name for the time being.
    fn write_file_atomically(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = Path::new(&temporary);
        let file = self.open(temporary, OpenMode::CreateOrOpen)?;
        file.set_len(0)?;
        file.write_all_at(&[IoSlice::new(bytes)], 0)?;
        file.sync_all()?;
        drop(file);
        self.rename(temporary, path)?;
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            _ => self.sync_dir(Path::new(".")),
        }
    }
}

/// An open file. Positions are explicit, so readers share it with the writer.
pub trait DiskFile: Send + Sync {
    /// Reads at most `buffer.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes some of the bytes; the file grows as needed.
    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize>;

    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or grows it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the content durable, and the length as far as reading the content needs it (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;

    /// Makes content and metadata durable (`fsync`).
    fn sync_all(&self) -> io::Result<()>;

    /// Has the system read this range into its cache where it is not there yet, so that sending it does not wait for the
    /// disk. Blocks.
    fn make_resident(&self, _position: u64, _length: usize) -> io::Result<()> {
        Ok(())
    }

    /// Whether the system has this range in its cache, as far as it can tell: sending it does not wait for the disk then.
    /// Does not block.
    fn is_resident(&self, _position: u64, _length: usize) -> bool {
        false
    }

    /// [`DiskFile::read_at`] of what the system has in its cache: an error where it has not, or cannot tell. Does not
    /// block.
    fn read_resident_at(&self, _buffer: &mut [u8], _position: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// The operating system's descriptor, where there is one: the hook for `sendfile`.
    fn raw_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    /// The implementation itself, where its disk needs it back in [`Disk::sync_files`].
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        None
    }

    /// Fills the buffer or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut position: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, position) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes every byte of every buffer, in order, or fails; some bytes may be in the file after a failure.
    fn write_all_at(&self, buffers: &[IoSlice<'_>], mut position: u64) -> io::Result<()> {
        let mut owned: Vec<IoSlice<'_>> = buffers.to_vec();
        let mut remaining: &mut [IoSlice<'_>] = &mut owned;
        IoSlice::advance_slices(&mut remaining, 0);
        while !remaining.is_empty() {
            match self.write_at(remaining, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    position += count as u64;
                    IoSlice::advance_slices(&mut remaining, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Holds a lock taken by [`Disk::lock`].
pub trait DiskLock: Send + Sync {}
