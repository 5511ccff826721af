//! The newest batches of a partition, kept in memory under one budget for all partitions.
//!
//! Small batches are copied together into chunks, so that a fetch gets few slices and a chunk pins no request's
//! buffer; a larger one keeps the producer's buffer, with its patched prefix beside it. Of a large one only its place is
//! kept: it is sent from the system's cache, and its buffer is free for the next request while the processor still has it
//! at hand. It counts as much as the others. What was appended first, in whichever partition, leaves first.

use std::collections::VecDeque;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ottla_record::{BATCH_OVERHEAD, BatchHeader, LOG_OVERHEAD};
use parking_lot::Mutex;

use crate::partition::PartitionLog;

/// From this size on a batch is kept by reference.
const BY_REFERENCE_BYTES: usize = 4 * 1024;
/// From this size on a batch is better sent from the system's cache: writing to a socket copies it once more.
pub(crate) const FROM_CACHE_BYTES: usize = 64 << 10;
const MIN_CHUNK_BYTES: usize = 1024;
const MAX_CHUNK_BYTES: usize = 32 * 1024;
/// What a chunk costs beside its bytes.
const CHUNK_OVERHEAD_BYTES: usize = 128;

/// Base offset, length and leader epoch: what the log writes itself in front of a producer's bytes.
pub(crate) const PREFIX_BYTES: usize = 16;

/// The memory all tails of a node share.
pub(crate) struct HotBudget {
    limit: usize,
    used: AtomicUsize,
    /// Every chunk, oldest first, and some that have gone.
    chunks: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<(Weak<PartitionLog>, u64)>,
    /// At this length those that have gone are looked for.
    sweep_at: usize,
}

/// The shortest queue that is swept.
const MIN_SWEEP: usize = 1024;

impl HotBudget {
    pub(crate) fn new(limit: usize) -> HotBudget {
        HotBudget {
            limit,
            used: AtomicUsize::new(0),
            chunks: Mutex::new(Queue { chunks: VecDeque::new(), sweep_at: MIN_SWEEP }),
        }
    }

    /// Counts a new chunk in. The caller holds the partition's lock: once others see the chunk, it may be released.
    pub(crate) fn charge(&self, charge: ChunkCharge) {
        self.used.fetch_add(charge.bytes, Ordering::Relaxed);
    }

    /// Puts a chunk that was charged into the order, then drops the oldest ones of any partition until the budget holds.
    /// The caller holds no partition's lock.
    pub(crate) fn admit(&self, partition: Weak<PartitionLog>, charge: ChunkCharge) {
        {
            let mut queue = self.chunks.lock();
            queue.chunks.push_back((partition, charge.id));
            // What idle and deleted partitions gave up stays here until it is swept: each sweep is paid for by as many
            // chunks as it keeps.
            if queue.chunks.len() >= queue.sweep_at {
                let is_there = |(partition, id): &(Weak<PartitionLog>, u64)| {
                    partition.upgrade().is_some_and(|partition| partition.has_hot_chunk(*id))
                };
                queue.chunks.retain(is_there);
                queue.sweep_at = (queue.chunks.len() * 2).max(MIN_SWEEP);
            }
        }
        while self.used.load(Ordering::Relaxed) > self.limit {
            let Some((partition, id)) = self.chunks.lock().chunks.pop_front() else { break };
            if let Some(partition) = partition.upgrade() {
                partition.evict_hot_chunks_through(id);
            }
        }
    }

    pub(crate) fn release(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "invariant: a hot chunk is released once");
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.chunks.lock().chunks.len()
    }
}

/// A chunk that was begun and is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkCharge {
    pub(crate) id: u64,
    pub(crate) bytes: usize,
}

/// Batches of one partition without a gap, up to its log end offset.
#[derive(Default)]
pub(crate) struct HotTail {
    chunks: VecDeque<Chunk>,
    next_id: u64,
    last_capacity: usize,
}

/// Where in the log's files something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The base offset of the segment.
    pub(crate) segment: i64,
    pub(crate) position: u64,
}

impl Place {
    fn plus(self, bytes: usize) -> Place {
        Place { position: self.position + bytes as u64, ..self }
    }
}

struct Chunk {
    id: u64,
    place: Place,
    /// When its first batch was appended, by the wall clock.
    appended_ms: i64,
    charge: usize,
    first_offset: i64,
    end_offset: i64,
    content: Content,
}

enum Content {
    /// Still growing, within its capacity.
    Open(Vec<u8>),
    Sealed(Bytes),
    /// One batch: its patched prefix, and the producer's bytes behind that.
    Split {
        prefix: Bytes,
        payload: Bytes,
    },
    /// One batch of this size, which is only in its file.
    InFile(usize),
}

impl Chunk {
    fn len(&self) -> usize {
        match &self.content {
            Content::Open(bytes) => bytes.len(),
            Content::Sealed(bytes) => bytes.len(),
            Content::Split { prefix, payload } => prefix.len() + payload.len(),
            Content::InFile(bytes) => *bytes,
        }
    }
}

/// What a read found.
pub(crate) struct HotRead {
    /// `None` when some of it is only in the file.
    pub(crate) chunks: Option<Vec<Bytes>>,
    pub(crate) bytes: usize,
    /// Where the same bytes stand in a file, if that is one range.
    pub(crate) place: Option<Place>,
    /// When the oldest of it was appended.
    pub(crate) appended_ms: i64,
    /// The first offset not read.
    pub(crate) next_offset: i64,
}

impl HotTail {
    /// The first offset in memory.
    pub(crate) fn start_offset(&self) -> Option<i64> {
        self.chunks.front().map(|chunk| chunk.first_offset)
    }

    /// Whether this chunk has not been dropped yet.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.chunks.front().is_some_and(|first| first.id <= id)
    }

    /// Takes in the batch just appended. What was begun for it has to be charged.
    pub(crate) fn push(
        &mut self,
        first_offset: i64,
        end_offset: i64,
        place: Place,
        prefix: [u8; PREFIX_BYTES],
        batch: &Bytes,
        now_ms: i64,
    ) -> Option<ChunkCharge> {
        if let Some(last) = self.chunks.back() {
            assert!(last.end_offset <= first_offset, "invariant: the hot tail rises");
        }
        if batch.len() >= FROM_CACHE_BYTES {
            self.seal();
            let content = Content::InFile(batch.len());
            return Some(self.begin(first_offset, end_offset, place, content, batch.len(), now_ms));
        }
        if batch.len() >= BY_REFERENCE_BYTES {
            self.seal();
            let content =
                Content::Split { prefix: Bytes::copy_from_slice(&prefix), payload: batch.slice(PREFIX_BYTES..) };
            return Some(self.begin(first_offset, end_offset, place, content, batch.len(), now_ms));
        }
        if let Some(Chunk { content: Content::Open(bytes), end_offset: chunk_end, place: start, .. }) =
            self.chunks.back_mut()
            && bytes.capacity() - bytes.len() >= batch.len()
            && start.plus(bytes.len()) == place
        {
            bytes.extend_from_slice(&prefix);
            bytes.extend_from_slice(&batch[PREFIX_BYTES..]);
            *chunk_end = end_offset;
            return None;
        }
        self.seal();
        // A partition that is busy gets larger chunks; an idle one costs little.
        let capacity = (self.last_capacity * 2).clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES).max(batch.len());
        self.last_capacity = capacity;
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(&prefix);
        bytes.extend_from_slice(&batch[PREFIX_BYTES..]);
        Some(self.begin(first_offset, end_offset, place, Content::Open(bytes), capacity, now_ms))
    }

    fn begin(
        &mut self,
        first_offset: i64,
        end_offset: i64,
        place: Place,
        content: Content,
        bytes: usize,
        appended_ms: i64,
    ) -> ChunkCharge {
        let id = self.next_id;
        self.next_id += 1;
        let charge = bytes + CHUNK_OVERHEAD_BYTES;
        self.chunks.push_back(Chunk { id, place, appended_ms, charge, first_offset, end_offset, content });
        ChunkCharge { id, bytes: charge }
    }

    fn seal(&mut self) {
        if let Some(chunk) = self.chunks.back_mut()
            && let Content::Open(bytes) = &mut chunk.content
        {
            chunk.content = Content::Sealed(Bytes::from(std::mem::take(bytes)));
        }
    }

    /// Drops what begins below this offset. Returns the bytes that are free now.
    pub(crate) fn evict_below(&mut self, offset: i64) -> usize {
        let through = self.chunks.iter().take_while(|chunk| chunk.first_offset < offset).last().map(|chunk| chunk.id);
        through.map_or(0, |id| self.evict_through(id))
    }

    /// Drops the chunks up to and with this one; returns the bytes that frees.
    pub(crate) fn evict_through(&mut self, id: u64) -> usize {
        let mut freed = 0;
        while self.chunks.front().is_some_and(|chunk| chunk.id <= id) {
            freed += self.chunks.pop_front().map_or(0, |chunk| chunk.charge);
        }
        freed
    }

    /// Drops everything: the partition is idle or its end moved back. Returns the bytes that frees.
    pub(crate) fn clear(&mut self) -> usize {
        self.last_capacity = 0;
        self.chunks.drain(..).map(|chunk| chunk.charge).sum()
    }

    /// Whole batches from the one with `offset` on, below `end_offset`, at most `max_bytes` of them but for the first
    /// with `min_one_batch`. `None` when `offset` is not in memory.
    pub(crate) fn read(&self, offset: i64, end_offset: i64, max_bytes: usize, min_one_batch: bool) -> Option<HotRead> {
        let first = self.chunks.partition_point(|chunk| chunk.end_offset <= offset);
        let chunk = self.chunks.get(first)?;
        // Offsets before the first chunk are on disk; those between chunks were never given out.
        if first == 0 && chunk.first_offset > offset {
            return None;
        }
        let mut read = HotRead::at(offset);
        for chunk in self.chunks.range(first..) {
            if chunk.first_offset >= end_offset {
                break;
            }
            let room = max_bytes.saturating_sub(read.bytes);
            let must = min_one_batch && read.bytes == 0;
            let complete = chunk.end_offset <= end_offset && chunk.len() <= room && chunk.first_offset >= offset;
            match &chunk.content {
                Content::Split { .. } | Content::InFile(_) => {
                    if chunk.end_offset > end_offset || (chunk.len() > room && !must) {
                        break;
                    }
                    let slices = match &chunk.content {
                        Content::Split { prefix, payload } => Some([prefix.clone(), payload.clone()]),
                        _ => None,
                    };
                    read.add(chunk, 0, chunk.len(), slices, chunk.end_offset);
                    if chunk.len() > room {
                        break;
                    }
                }
                Content::Sealed(bytes) if complete => {
                    read.add(chunk, 0, bytes.len(), Some([bytes.clone()]), chunk.end_offset);
                }
                Content::Open(bytes) if complete => {
                    read.add(chunk, 0, bytes.len(), Some([Bytes::copy_from_slice(bytes)]), chunk.end_offset);
                }
                Content::Sealed(bytes) => {
                    let cut = cut(bytes, offset, end_offset, room, must);
                    if cut.start < cut.end {
                        let slice = bytes.slice(cut.start..cut.end);
                        read.add(chunk, cut.start, slice.len(), Some([slice]), cut.next_offset);
                    }
                    if cut.end < bytes.len() {
                        break;
                    }
                }
                Content::Open(bytes) => {
                    let cut = cut(bytes, offset, end_offset, room, must);
                    if cut.start < cut.end {
                        let slice = Bytes::copy_from_slice(&bytes[cut.start..cut.end]);
                        read.add(chunk, cut.start, slice.len(), Some([slice]), cut.next_offset);
                    }
                    break;
                }
            }
        }
        Some(read)
    }
}

impl HotRead {
    fn at(offset: i64) -> HotRead {
        HotRead { chunks: Some(Vec::new()), bytes: 0, place: None, appended_ms: 0, next_offset: offset }
    }

    /// Takes in so many bytes of a chunk, from `start` on, and they themselves if they are in memory.
    fn add<const N: usize>(
        &mut self,
        chunk: &Chunk,
        start: usize,
        bytes: usize,
        slices: Option<[Bytes; N]>,
        next_offset: i64,
    ) {
        let place = chunk.place.plus(start);
        if self.bytes == 0 {
            self.place = Some(place);
            self.appended_ms = chunk.appended_ms;
        } else if self.place.is_some_and(|first| first.plus(self.bytes) != place) {
            self.place = None;
        }
        match (&mut self.chunks, slices) {
            (Some(chunks), Some(slices)) => chunks.extend(slices),
            _ => self.chunks = None,
        }
        self.bytes += bytes;
        self.next_offset = next_offset;
    }
}

struct Cut {
    start: usize,
    end: usize,
    next_offset: i64,
}

/// The batches of a chunk that a read wants.
fn cut(bytes: &[u8], offset: i64, end_offset: i64, room: usize, min_one_batch: bool) -> Cut {
    let mut cut = Cut { start: 0, end: 0, next_offset: offset };
    while let Some(header) = bytes.get(cut.end..cut.end + BATCH_OVERHEAD) {
        let (next_offset, size) = offsets_of(header);
        if next_offset <= offset {
            cut.start = cut.end + size;
            cut.end = cut.start;
            continue;
        }
        let taken = cut.end - cut.start;
        let fits = taken + size <= room || (min_one_batch && taken == 0);
        if next_offset > end_offset || !fits {
            break;
        }
        cut.end += size;
        cut.next_offset = next_offset;
    }
    cut
}

/// Next offset and size of a batch that was validated when it was appended.
fn offsets_of(header: &[u8]) -> (i64, usize) {
    let header = BatchHeader::parse(header).expect("invariant: the hot tail holds whole batches");
    debug_assert!(header.size_in_bytes() > LOG_OVERHEAD);
    (header.next_offset(), header.size_in_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_idle_partitions_gave_up_is_forgotten() {
        let budget = HotBudget::new(1 << 20);
        for id in 0..10_000 {
            let charge = ChunkCharge { id, bytes: 1024 };
            budget.charge(charge);
            // Given up before it is in the order: another thread may be as fast.
            budget.release(charge.bytes);
            budget.admit(Weak::new(), charge);
        }
        assert_eq!(budget.used(), 0);
        assert!(budget.queued() <= MIN_SWEEP, "{} entries are left", budget.queued());
    }
}
