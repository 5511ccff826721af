//! Room a log directory keeps back for itself: a file of zeros that nobody needs.
//!
//! When the volume is full, what makes room (retention, deletions, the metadata that tells of them) or keeps a start short
//! (checkpoints) must still be possible. So with the first append that finds no space, or the first piece of bookkeeping,
//! the reserve is given up. Until there is room for it again nothing is appended, or clients would take at once what was
//! given up for the bookkeeping.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_rt::{Disk, OpenMode};
use parking_lot::Mutex;

use crate::names;

static BLOCK: [u8; 64 * 1024] = [0; 64 * 1024];

pub(crate) struct Reserve {
    path: PathBuf,
    /// 0: none is kept.
    bytes: u64,
    held: Mutex<bool>,
    spent: AtomicBool,
}

impl Reserve {
    /// As the last process left it.
    pub(crate) fn open(disk: &dyn Disk, directory: &Path, bytes: u64) -> io::Result<Reserve> {
        let path = directory.join(names::RESERVE_FILE);
        let found = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file.len()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Reserve { path, bytes, held: Mutex::new(bytes > 0 && found >= bytes), spent: AtomicBool::new(false) })
    }

    /// For a directory that could not be opened.
    pub(crate) fn none(directory: &Path) -> Reserve {
        let path = directory.join(names::RESERVE_FILE);
        Reserve { path, bytes: 0, held: Mutex::new(false), spent: AtomicBool::new(false) }
    }

    /// Whether it was given up, and there was no room for it since.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Acquire)
    }

    /// Does the work again with the reserve given up when there is no space for it.
    pub(crate) fn lend<T, E>(
        &self,
        disk: &dyn Disk,
        is_no_space: impl Fn(&E) -> bool,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        match work() {
            Err(error) if is_no_space(&error) && self.give_up(disk) => work(),
            result => result,
        }
    }

    /// Whether there was something to give up.
    pub(crate) fn give_up(&self, disk: &dyn Disk) -> bool {
        let mut held = self.held.lock();
        if !*held {
            return false;
        }
        let cut = disk.open(&self.path, OpenMode::ReadWrite).and_then(|file| file.set_len(0));
        if let Err(error) = &cut {
            tracing::warn!(path = %self.path.display(), %error, "the reserve cannot be given up");
            return false;
        }
        tracing::warn!(path = %self.path.display(), "no space left: the reserve is given up for bookkeeping");
        self.spent.store(true, Ordering::Release);
        *held = false;
        true
    }

    /// Keeps the room back, if it is not, and there is twice as much.
    pub(crate) fn keep(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut held = self.held.lock();
        if *held || self.bytes == 0 {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        if disk.space(directory)?.available < self.bytes.saturating_mul(2) {
            return Ok(());
        }
        let file = disk.open(&self.path, OpenMode::CreateOrOpen)?;
        // Zeros that are written take room; a longer length alone would not.
        let mut position = 0;
        while position < self.bytes {
            let count = (self.bytes - position).min(BLOCK.len() as u64) as usize;
            if let Err(error) = file.write_all_at(&[IoSlice::new(&BLOCK[..count])], position) {
                file.set_len(0)?;
                return Err(error);
            }
            position += count as u64;
        }
        *held = true;
        if self.spent.swap(false, Ordering::AcqRel) {
            tracing::info!(path = %self.path.display(), "there is room again: the reserve is kept");
        }
        Ok(())
    }
}
