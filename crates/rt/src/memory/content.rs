//! What is in a file: the bytes readers see, the bytes a power loss leaves, and every state a page was in between.
//!
//! Invariant: a page or length that is not dirty and was not part of a failed sync since it was last written is the same in
//! both images.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PowerLoss;
use super::random::Random;

pub(super) const PAGE_SIZE: usize = 4096;
const SECTOR_SIZE: usize = 512;

/// How many unsynced states of one page or length are remembered; the oldest and the newest always are.
const VERSIONS: usize = 6;

type Page = Arc<[u8; PAGE_SIZE]>;

/// A page that is missing reads as zeros.
#[derive(Clone, Default)]
struct Image {
    pages: BTreeMap<u64, Page>,
    len: u64,
}

impl Image {
    fn set(&mut self, number: u64, page: Option<Page>) {
        match page {
            Some(page) => self.pages.insert(number, page),
            None => self.pages.remove(&number),
        };
    }

    /// Drops what lies behind the length, as nobody may ever see it.
    fn trim(&mut self) {
        let page_size = PAGE_SIZE as u64;
        self.pages.split_off(&self.len.div_ceil(page_size));
        let tail = (self.len % page_size) as usize;
        if tail != 0
            && let Some(page) = self.pages.get_mut(&(self.len / page_size))
        {
            Arc::make_mut(page)[tail..].fill(0);
        }
    }
}

/// A state that was visible from one operation on.
struct Version<T> {
    sequence: u64,
    state: T,
}

fn remember<T>(versions: &mut Vec<Version<T>>, sequence: u64, state: T) {
    match versions.last_mut() {
        Some(last) if last.sequence == sequence => last.state = state,
        _ => versions.push(Version { sequence, state }),
    }
    if versions.len() > VERSIONS {
        versions.remove(1);
    }
}

/// The state of a file when a sync began.
pub(super) struct Sync {
    sequence: u64,
    pages: BTreeMap<u64, Option<Page>>,
    len: Option<u64>,
}

#[derive(Default)]
pub(super) struct Content {
    visible: Image,
    durable: Image,
    dirty: BTreeMap<u64, Vec<Version<Option<Page>>>>,
    dirty_lens: Vec<Version<u64>>,
    synced_sequence: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.visible.len
    }

    pub(super) fn allocated_pages(&self) -> u64 {
        self.visible.pages.len() as u64
    }

    /// How many pages a write would allocate.
    pub(super) fn missing_pages(&self, position: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        let range = position / PAGE_SIZE as u64..(position + len).div_ceil(PAGE_SIZE as u64);
        (range.end - range.start) - self.visible.pages.range(range).count() as u64
    }

    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let count = self.visible.len.saturating_sub(position).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let at = position + done as u64;
            let within = (at % PAGE_SIZE as u64) as usize;
            let step = (PAGE_SIZE - within).min(count - done);
            let target = &mut buffer[done..done + step];
            match self.visible.pages.get(&(at / PAGE_SIZE as u64)) {
                Some(page) => target.copy_from_slice(&page[within..within + step]),
                None => target.fill(0),
            }
            done += step;
        }
        count
    }

    pub(super) fn write(&mut self, bytes: &[u8], position: u64, sequence: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let at = position + done as u64;
            let number = at / PAGE_SIZE as u64;
            let within = (at % PAGE_SIZE as u64) as usize;
            let step = (PAGE_SIZE - within).min(bytes.len() - done);
            let page = self.visible.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE_SIZE]));
            Arc::make_mut(page)[within..within + step].copy_from_slice(&bytes[done..done + step]);
            let state = Some(Arc::clone(page));
            remember(self.dirty.entry(number).or_default(), sequence, state);
            done += step;
        }
        let end = position + bytes.len() as u64;
        if bytes.is_empty() {
            return;
        }
        if end > self.visible.len {
            self.visible.len = end;
            remember(&mut self.dirty_lens, sequence, end);
        } else if end > self.durable.len && self.dirty_lens.is_empty() {
            // A failed sync has dropped this growth; a page written back behind the end brings it along again.
            remember(&mut self.dirty_lens, sequence, self.visible.len);
        }
    }

    pub(super) fn set_len(&mut self, len: u64, sequence: u64) {
        if len == self.visible.len {
            return;
        }
        let first_changed = len / PAGE_SIZE as u64;
        let before: Vec<u64> = self.visible.pages.range(first_changed..).map(|(number, _)| *number).collect();
        self.visible.len = len;
        self.visible.trim();
        for number in before {
            remember(self.dirty.entry(number).or_default(), sequence, self.visible.pages.get(&number).cloned());
        }
        remember(&mut self.dirty_lens, sequence, len);
    }

    /// A sync covers what was written before it began, and not a byte more.
    pub(super) fn begin_sync(&self, sequence: u64) -> Sync {
        Sync {
            sequence,
            pages: self.dirty.keys().map(|number| (*number, self.visible.pages.get(number).cloned())).collect(),
            len: self.dirty_lens.last().map(|version| version.state),
        }
    }

    pub(super) fn finish_sync(&mut self, sync: Sync) {
        // A sync that began later has finished first, and covered all of this one.
        if sync.sequence <= self.synced_sequence {
            return;
        }
        self.synced_sequence = sync.sequence;
        for (number, page) in sync.pages {
            self.durable.set(number, page);
        }
        if let Some(len) = sync.len {
            self.durable.len = len;
        }
        self.clean(sync.sequence);
    }

    /// Some pages made it, the others never will: all of them are clean now, and still seen. What was cut away is not data
    /// to be written back but a change of the file system's own, and waits for the next sync.
    pub(super) fn fail_sync(&mut self, sync: Sync, random: &mut Random) {
        if sync.sequence <= self.synced_sequence {
            return;
        }
        self.clean(sync.sequence);
        for (number, page) in sync.pages {
            if page.is_none() {
                let versions = self.dirty.entry(number).or_default();
                versions.insert(0, Version { sequence: sync.sequence, state: None });
            } else if random.coin() {
                self.durable.set(number, page);
            }
        }
        match sync.len {
            Some(len) if len < self.durable.len => {
                self.dirty_lens.insert(0, Version { sequence: sync.sequence, state: len });
            }
            Some(len) if random.coin() => self.durable.len = len,
            _ => {}
        }
    }

    fn clean(&mut self, sequence: u64) {
        self.dirty.retain(|_, versions| {
            versions.retain(|version| version.sequence > sequence);
            !versions.is_empty()
        });
        self.dirty_lens.retain(|version| version.sequence > sequence);
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.dirty_lens.is_empty()
    }

    /// Returns how many pages it left torn.
    pub(super) fn lose_power(&mut self, loss: PowerLoss, random: &mut Random) -> u64 {
        let dirty = std::mem::take(&mut self.dirty);
        let lens = std::mem::take(&mut self.dirty_lens);
        let image = &mut self.durable;
        // Whole files are hit or spared together often enough that both extremes must be common.
        let keep_all = match loss {
            PowerLoss::LoseUnsynced => {
                self.settle();
                return 0;
            }
            PowerLoss::KeepUnsynced => true,
            PowerLoss::Arbitrary { .. } => match random.below(4) {
                0 => {
                    self.settle();
                    return 0;
                }
                1 => true,
                _ => false,
            },
        };
        let mut torn = 0;
        for (number, versions) in dirty {
            let mut states = vec![image.pages.get(&number).cloned()];
            states.extend(versions.into_iter().map(|version| version.state));
            let page = if keep_all {
                states.pop().flatten()
            } else {
                let page = survivor(&states, random);
                torn += u64::from(!states.contains(&page));
                page
            };
            image.set(number, page);
        }
        if let Some(last) = lens.last().map(|version| version.state) {
            let lens: Vec<u64> = std::iter::once(image.len).chain(lens.iter().map(|version| version.state)).collect();
            image.len = if keep_all { last } else { surviving_len(&lens, random) };
        }
        self.settle();
        torn
    }

    fn settle(&mut self) {
        self.durable.trim();
        self.visible = self.durable.clone();
    }
}

/// One of the states a page was in, or one torn into another.
fn survivor(states: &[Option<Page>], random: &mut Random) -> Option<Page> {
    let mut pick = || states[random.below(states.len() as u64) as usize].clone();
    let (one, other) = (pick(), pick());
    if random.coin() {
        return one;
    }
    let zeros: Page = Arc::new([0; PAGE_SIZE]);
    let (mut torn, other) = (one.unwrap_or_else(|| Arc::clone(&zeros)), other.unwrap_or(zeros));
    let page = Arc::make_mut(&mut torn);
    for start in (0..PAGE_SIZE).step_by(SECTOR_SIZE) {
        if random.coin() {
            page[start..start + SECTOR_SIZE].copy_from_slice(&other[start..start + SECTOR_SIZE]);
        }
    }
    Some(torn)
}

/// A length the file had, or a page border between two of them: writing back grows a file page by page.
fn surviving_len(lens: &[u64], random: &mut Random) -> u64 {
    let shortest = lens.iter().copied().min().unwrap_or(0);
    let longest = lens.iter().copied().max().unwrap_or(0);
    if random.coin() {
        return lens[random.below(lens.len() as u64) as usize];
    }
    let pages = (longest - shortest) / PAGE_SIZE as u64;
    let border = (shortest / PAGE_SIZE as u64 + random.below(pages + 2)) * PAGE_SIZE as u64;
    border.clamp(shortest, longest)
}
