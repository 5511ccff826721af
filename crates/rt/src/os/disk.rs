//! Files of the operating system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{BoxFuture, DirEntry, Disk, DiskFile, DiskLock, OpenMode, Space};

/// How many `fdatasync` run at once: measured, 16 threads sync 100 files 40 times faster than one.
const PARALLEL_SYNCS: usize = 16;

/// More buffers in one write are an error (`IOV_MAX`).
const MOST_BUFFERS: usize = 1024;

/// The distance at which a range is probed for being in the system's cache.
#[cfg(target_os = "linux")]
const RESIDENT_STEP: usize = 128 << 10;

pub(crate) struct OsDisk;

impl OsDisk {
    pub(crate) fn new() -> OsDisk {
        OsDisk
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateOrOpen => {
                options.write(true).create(true).truncate(false);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(Arc::new(OsFile::new(options.open(path)?)))
    }

    #[cfg(target_os = "linux")]
    fn open_for_scan(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = File::open(path)?;
        // What the system reads ahead would look as if somebody had needed it.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
        Ok(Arc::new(ScannedFile(OsFile::new(file))))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let metadata = match fs::metadata(entry.path()) {
                Ok(metadata) => metadata,
                // Removed since it was listed, or a dangling link.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let is_dir = metadata.is_dir();
            entries.push(DirEntry { name, is_dir, len: if is_dir { 0 } else { metadata.len() } });
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_files(&self, files: Vec<Arc<dyn DiskFile>>) -> BoxFuture<'static, Vec<io::Result<()>>> {
        Box::pin(async move {
            let count = files.len();
            let lanes = count.min(PARALLEL_SYNCS);
            let files = Arc::new(files);
            let handles: Vec<_> = (0..lanes)
                .map(|lane| {
                    let files = Arc::clone(&files);
                    tokio::task::spawn_blocking(move || {
                        files.iter().skip(lane).step_by(lanes).map(|file| file.sync_data()).collect::<Vec<_>>()
                    })
                })
                .collect();
            let mut results: Vec<io::Result<()>> = Vec::new();
            results.resize_with(count, || Err(io::Error::other("the sync did not run")));
            for (lane, handle) in handles.into_iter().enumerate() {
                // A lane that died leaves its errors in place: nothing of it counts as durable.
                if let Ok(lane_results) = handle.await {
                    for (step, result) in lane_results.into_iter().enumerate() {
                        results[lane + step * lanes] = result;
                    }
                }
            }
            results
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The lock above keeps apart nodes of one process too, and Java does not see it. This one is Java's, so that
        // neither a JVM nor this process uses a directory that the other has.
        match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new(OsLock { _file: file })),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let volume = rustix::fs::statvfs(path)?;
        Ok(Space { total: volume.f_blocks * volume.f_frsize, available: volume.f_bavail * volume.f_frsize })
    }

    fn open_files_limit(&self) -> Option<usize> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
        usize::try_from(limit).ok()
    }
}

struct OsLock {
    _file: File,
}

impl DiskLock for OsLock {}

struct OsFile {
    file: File,
    /// Held for every sync. The system tells an error to one of those who sync a file at the same time, and the others
    /// that all is well: whoever comes later is told of it here.
    sync_failed: Mutex<bool>,
}

impl OsFile {
    fn new(file: File) -> OsFile {
        OsFile { file, sync_failed: Mutex::new(false) }
    }

    fn sync(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let mut failed = self.sync_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(io::Error::other("an earlier sync of this file has failed"));
        }
        let result = sync(&self.file);
        *failed = result.is_err();
        result
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.file, &buffers[..buffers.len().min(MOST_BUFFERS)], position)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(File::sync_data)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(File::sync_all)
    }

    #[cfg(target_os = "linux")]
    fn make_resident(&self, position: u64, length: usize) -> io::Result<()> {
        let end = position + length as u64;
        let mut buffer = Vec::new();
        for step in probes(position, length) {
            if !self.is_resident_at(step) {
                // Not there, or the file system cannot tell: one real read, which also starts the system's reading ahead.
                buffer.resize(RESIDENT_STEP, 0);
                let wanted = (end - step).min(RESIDENT_STEP as u64) as usize;
                self.file.read_at(&mut buffer[..wanted], step)?;
            }
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn is_resident(&self, position: u64, length: usize) -> bool {
        probes(position, length).all(|step| self.is_resident_at(step))
    }

    #[cfg(target_os = "linux")]
    fn read_resident_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut buffer = [io::IoSliceMut::new(buffer)];
        Ok(rustix::io::preadv2(&self.file, &mut buffer, position, rustix::io::ReadWriteFlags::NOWAIT)?)
    }

    fn raw_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

#[cfg(target_os = "linux")]
impl OsFile {
    fn is_resident_at(&self, position: u64) -> bool {
        self.read_resident_at(&mut [0], position).is_ok()
    }
}

/// Where one looks whether a range is in the system's cache.
#[cfg(target_os = "linux")]
fn probes(position: u64, length: usize) -> impl Iterator<Item = u64> {
    let end = position + length as u64;
    (position..end).step_by(RESIDENT_STEP).chain((length > 0).then(|| end - 1))
}

/// Reads what is in the system's cache from there, and lets go of the rest once it was read.
#[cfg(target_os = "linux")]
struct ScannedFile(OsFile);

#[cfg(target_os = "linux")]
impl DiskFile for ScannedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let file = &self.0.file;
        let cached =
            rustix::io::preadv2(file, &mut [io::IoSliceMut::new(buffer)], position, rustix::io::ReadWriteFlags::NOWAIT);
        match cached {
            Ok(count) => Ok(count),
            Err(error) => {
                let count = file.read_at(buffer, position)?;
                // A file system that cannot tell what is in the cache keeps it.
                if let (rustix::io::Errno::AGAIN, Some(length)) = (error, std::num::NonZeroU64::new(count as u64)) {
                    rustix::fs::fadvise(file, position, Some(length), rustix::fs::Advice::DontNeed)?;
                }
                Ok(count)
            }
        }
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<usize> {
        Err(rustix::io::Errno::BADF.into())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(rustix::io::Errno::BADF.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}
