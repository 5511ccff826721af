//! A disk in memory that loses power as real ones do.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use super::content::{PAGE_SIZE, Sync};
use super::fault::{Failure, Fault, FaultPlan, Operation};
use super::random::Random;
use super::tree::{AtRisk, InodeId, Tree};
use crate::{BoxFuture, DirEntry, Disk, DiskFile, DiskLock, OpenMode, Space};

/// The size shown when no capacity was set.
const UNLIMITED: u64 = 1 << 40;

/// What a power loss leaves of what was not synced. Whatever was synced always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerLoss {
    LoseUnsynced,
    /// All of it had been written back just in time.
    KeepUnsynced,
    /// Each 4 KiB page in one of the states it was in, perhaps torn at 512-byte sectors; each length and each name
    /// likewise.
    Arbitrary {
        seed: u64,
    },
}

/// The device: it outlives the processes that use it, each through a [`MemoryDisk::mount`]. Cheap to clone.
///
/// Everything it does follows from its seed and the calls made.
#[derive(Clone)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    tree: Tree,
    locks: BTreeSet<InodeId>,
    faults: FaultPlan,
    random: Random,
    capacity: Option<u64>,
    sync_latency: Option<(Duration, Duration)>,
    syncs_ignored: Option<String>,
    cached: bool,
    powered: bool,
    operations_left: Option<u64>,
    /// Mounts and handles of an earlier one are dead.
    generation: u64,
    /// Counts operations since the disk was made; the version number of what they changed.
    sequence: u64,
    failed_operations: u64,
    faults_struck: u64,
    trace: DefaultHasher,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> MemoryDisk {
        let state = State {
            tree: Tree::new(),
            locks: BTreeSet::new(),
            faults: FaultPlan::default(),
            random: Random::new(seed),
            capacity: None,
            sync_latency: None,
            syncs_ignored: None,
            cached: false,
            powered: true,
            operations_left: None,
            generation: 0,
            sequence: 0,
            failed_operations: 0,
            faults_struck: 0,
            trace: DefaultHasher::new(),
        };
        MemoryDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as a process sees it. Dead after the next [`kill`](Self::kill) or [`lose_power`](Self::lose_power):
    /// whatever still holds it gets `EIO`.
    pub fn mount(&self) -> Arc<dyn Disk> {
        Arc::new(self.mounted())
    }

    fn mounted(&self) -> Mount {
        let generation = self.state().generation;
        Mount { state: Arc::clone(&self.state), generation }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The processes die: their handles are dead, their locks free, and what they wrote stays, unsynced as it is.
    pub fn kill(&self) {
        self.state().end_processes();
    }

    /// The machine dies. The disk is afterwards as found when power is back.
    pub fn lose_power(&self, loss: PowerLoss) -> AtRisk {
        let mut state = self.state();
        let mut random = match loss {
            PowerLoss::Arbitrary { seed } => Random::new(seed),
            PowerLoss::LoseUnsynced | PowerLoss::KeepUnsynced => state.random.clone(),
        };
        let at_risk = state.tree.lose_power(loss, &mut random);
        state.end_processes();
        state.powered = true;
        state.operations_left = None;
        at_risk
    }

    /// After so many more operations power is off, and every call fails until [`lose_power`](Self::lose_power) has
    /// settled what is left: how a test stops at each step in turn.
    pub fn power_off_after(&self, operations: u64) {
        self.state().operations_left = Some(operations);
    }

    pub fn is_powered(&self) -> bool {
        self.state().powered
    }

    pub fn inject(&self, fault: Fault) {
        self.state().faults.add(fault);
    }

    /// Nothing fails from here on: faults still to come are off, and so is a power failure that waits for its operation.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.operations_left = None;
    }

    /// How often each failure has struck each operation so far.
    pub fn struck(&self) -> BTreeMap<(Operation, Failure), u64> {
        self.state().faults.struck().clone()
    }

    /// Bytes of file content the disk has room for, in whole pages; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// How long [`Disk::sync_files`] takes, between two bounds; a tokio timer must be running. `None`: no time at all.
    pub fn set_sync_latency(&self, bounds: Option<(Duration, Duration)>) {
        self.state().sync_latency = bounds;
    }

    /// A disk that lies: syncs of files with this in their path succeed and do nothing. What a test of durability must
    /// notice. `None`: it is honest.
    pub fn ignore_syncs(&self, path_contains: Option<&str>) {
        self.state().syncs_ignored = path_contains.map(str::to_owned);
    }

    /// Whether the system has everything in its cache, so that readers need not wait for the disk; at first it has
    /// nothing.
    pub fn set_cached(&self, cached: bool) {
        self.state().cached = cached;
    }

    /// How many operations were asked for so far.
    pub fn operations(&self) -> u64 {
        self.state().sequence
    }

    /// How many of them failed by an injected fault or for want of power, those that a caller just repeats left out.
    pub fn failed_operations(&self) -> u64 {
        self.state().failed_operations
    }

    /// How many operations an injected fault has hit, those that a caller just repeats included.
    pub fn faults_struck(&self) -> u64 {
        self.state().faults_struck
    }

    /// A digest of every operation so far with its arguments and bytes: two runs that agree did the same.
    pub fn trace(&self) -> u64 {
        self.state().trace.finish()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic elsewhere leaves a disk that is still whole: operations change it only once nothing can fail.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is left of an operation that faults allow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Full,
    Short,
}

impl Extent {
    fn limit(self, len: usize) -> usize {
        if self == Extent::Short { len.div_ceil(2) } else { len }
    }
}

impl State {
    fn end_processes(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.tree.close_all();
    }

    fn check_alive(&self, generation: u64) -> io::Result<()> {
        if self.powered && generation == self.generation { Ok(()) } else { Err(Errno::IO.into()) }
    }

    /// Every operation starts here.
    fn begin(&mut self, generation: u64, operation: Operation, path: &Path) -> io::Result<Extent> {
        self.check_alive(generation)?;
        match &mut self.operations_left {
            Some(0) => {
                self.powered = false;
                self.failed_operations += 1;
                return Err(Errno::IO.into());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.sequence += 1;
        (operation, path).hash(&mut self.trace);
        let failure = self.faults.next(operation, path);
        self.faults_struck += u64::from(failure.is_some());
        match failure {
            None => Ok(Extent::Full),
            Some(Failure::Short) => Ok(Extent::Short),
            Some(failure) => {
                self.failed_operations += u64::from(failure != Failure::Interrupted);
                Err(failure.error())
            }
        }
    }

    fn free_pages(&self) -> u64 {
        let total = self.capacity.unwrap_or(UNLIMITED) / PAGE_SIZE as u64;
        total.saturating_sub(self.tree.allocated_pages())
    }

    /// How many of these bytes there is room for.
    fn room(&mut self, inode: InodeId, position: u64, len: u64) -> io::Result<u64> {
        if self.capacity.is_none() {
            return Ok(len);
        }
        let free = self.free_pages();
        let content = self.tree.content(inode)?;
        let mut fits = len;
        while fits > 0 && content.missing_pages(position, fits) > free {
            let last_page = (position + fits - 1) / PAGE_SIZE as u64 * PAGE_SIZE as u64;
            fits = last_page.saturating_sub(position);
        }
        if fits == 0 && len > 0 { Err(Errno::NOSPC.into()) } else { Ok(fits) }
    }

    fn begin_sync(&mut self, file: &MemoryFile) -> io::Result<Sync> {
        self.check_alive(file.generation)?;
        let sequence = self.sequence;
        Ok(self.tree.content(file.inode)?.begin_sync(sequence))
    }

    fn finish_sync(&mut self, file: &MemoryFile, sync: Sync) -> io::Result<()> {
        let result = self.begin(file.generation, Operation::Sync, &file.path);
        // Off or replaced meanwhile: the file as it is now is none of this sync's business.
        self.check_alive(file.generation)?;
        let ignored = self.syncs_ignored.as_ref().is_some_and(|part| file.path.to_string_lossy().contains(part));
        let content = self.tree.content(file.inode)?;
        match result {
            Ok(_) if ignored => Ok(()),
            Ok(_) => {
                content.finish_sync(sync);
                Ok(())
            }
            Err(error) => {
                content.fail_sync(sync, &mut self.random);
                Err(error)
            }
        }
    }
}

struct Mount {
    state: Arc<Mutex<State>>,
    generation: u64,
}

impl Mount {
    fn run<T>(
        &self,
        operation: Operation,
        path: &Path,
        work: impl FnOnce(&mut Tree) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = lock(&self.state);
        state.begin(self.generation, operation, path)?;
        work(&mut state.tree)
    }
}

impl Disk for Mount {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let makes = mode != OpenMode::Read && mode != OpenMode::ReadWrite && !self.exists(path)?;
        let operation = if makes { Operation::Create } else { Operation::Open };
        let inode = self.run(operation, path, |tree| {
            let inode = match (tree.resolve(path), mode) {
                (Ok(_), OpenMode::CreateNew) => return Err(Errno::EXIST.into()),
                (Err(error), OpenMode::CreateNew | OpenMode::CreateOrOpen)
                    if error.kind() == io::ErrorKind::NotFound =>
                {
                    tree.create_file(path)?
                }
                (found, _) => found?,
            };
            tree.content(inode)?;
            tree.opened(inode);
            Ok(inode)
        })?;
        Ok(Arc::new(MemoryFile {
            state: Arc::clone(&self.state),
            generation: self.generation,
            inode,
            writable: mode != OpenMode::Read,
            path: path.to_owned(),
        }))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let entries = self.run(Operation::ReadDir, path, |tree| tree.list(path))?;
        Ok(entries.into_iter().map(|(name, is_dir, len)| DirEntry { name, is_dir, len }).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = lock(&self.state);
        state.check_alive(self.generation)?;
        match state.tree.resolve(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.run(Operation::CreateDir, path, |tree| tree.create_dir_all(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Operation::Rename, from, |tree| tree.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run(Operation::Remove, path, |tree| tree.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.run(Operation::Remove, path, |tree| tree.remove_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Operation::SyncDir, path, |tree| tree.sync_dir(path))
    }

    fn sync_files(&self, files: Vec<Arc<dyn DiskFile>>) -> BoxFuture<'static, Vec<io::Result<()>>> {
        let mut state = lock(&self.state);
        let latency = state.sync_latency.map(|(shortest, longest)| {
            let spread = longest.saturating_sub(shortest).as_micros() as u64;
            shortest + Duration::from_micros(state.random.below(spread + 1))
        });
        let begun: Vec<Option<io::Result<Sync>>> =
            files.iter().map(|file| memory_file(file.as_ref()).map(|file| state.begin_sync(file))).collect();
        drop(state);
        Box::pin(async move {
            if let Some(latency) = latency {
                tokio::time::sleep(latency).await;
            }
            let finish =
                |(file, begun): (&Arc<dyn DiskFile>, Option<io::Result<Sync>>)| match memory_file(file.as_ref())
                    .zip(begun)
                {
                    Some((file, begun)) => lock(&file.state).finish_sync(file, begun?),
                    None => file.sync_data(),
                };
            files.iter().zip(begun).map(finish).collect()
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = lock(&self.state);
        state.begin(self.generation, Operation::Lock, path)?;
        let inode = match state.tree.resolve(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => state.tree.create_file(path)?,
            found => found?,
        };
        if !state.locks.insert(inode) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.tree.opened(inode);
        Ok(Box::new(MemoryLock { state: Arc::clone(&self.state), generation: self.generation, inode }))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let state = lock(&self.state);
        state.check_alive(self.generation)?;
        state.tree.resolve(path)?;
        Ok(Space { total: state.capacity.unwrap_or(UNLIMITED), available: state.free_pages() * PAGE_SIZE as u64 })
    }
}

fn memory_file(file: &dyn DiskFile) -> Option<&MemoryFile> {
    file.as_any()?.downcast_ref()
}

struct MemoryLock {
    state: Arc<Mutex<State>>,
    generation: u64,
    inode: InodeId,
}

impl DiskLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.generation == self.generation {
            state.locks.remove(&self.inode);
            state.tree.closed(self.inode);
        }
    }
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    generation: u64,
    inode: InodeId,
    writable: bool,
    path: PathBuf,
}

impl MemoryFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(Errno::BADF.into()) }
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.generation == self.generation {
            state.tree.closed(self.inode);
        }
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = lock(&self.state);
        let limit = state.begin(self.generation, Operation::Read, &self.path)?.limit(buffer.len());
        (position, buffer.len()).hash(&mut state.trace);
        Ok(state.tree.content(self.inode)?.read(&mut buffer[..limit], position))
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut state = lock(&self.state);
        let extent = state.begin(self.generation, Operation::Write, &self.path)?;
        self.check_writable()?;
        let len = buffers.iter().map(|buffer| buffer.len()).sum();
        if position.checked_add(len as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(Errno::FBIG.into());
        }
        let room = state.room(self.inode, position, extent.limit(len) as u64)? as usize;
        let sequence = state.sequence;
        let mut done = 0;
        for buffer in buffers {
            let part = &buffer[..buffer.len().min(room - done)];
            (position + done as u64, part).hash(&mut state.trace);
            state.tree.content(self.inode)?.write(part, position + done as u64, sequence);
            done += part.len();
        }
        Ok(done)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = lock(&self.state);
        state.check_alive(self.generation)?;
        Ok(state.tree.content(self.inode)?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.begin(self.generation, Operation::SetLen, &self.path)?;
        self.check_writable()?;
        len.hash(&mut state.trace);
        let sequence = state.sequence;
        state.tree.content(self.inode)?.set_len(len, sequence);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        let sync = state.begin_sync(self)?;
        state.finish_sync(self, sync)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn is_resident(&self, _position: u64, _length: usize) -> bool {
        lock(&self.state).cached
    }

    fn read_resident_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if !lock(&self.state).cached {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read_at(buffer, position)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
