//! The scrubber: reads closed segments again, slowly, so that bits that changed on the disk are known before somebody
//! needs them.
//!
//! Nothing is mended: a damaged batch is refused to readers anyway, and what to do about it is for people. It is told
//! once, and counted. Reads go around the system's cache where it does not have the range: what is in the cache is
//! verified there, and read from the disk a round after it has left.

mod plan;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_rt::{DiskFile, World, random_u64};
use plan::{Allowance, Candidate, Choice, Due};

use crate::cleaned_headers::HeaderComparison;
use crate::manager::{Inner, LogManager};
use crate::names;
use crate::partition::{PartitionLog, Surroundings};
use crate::scan::{InvalidBatchBytes, Scanned, Scanner, Verify};
use crate::segment::Segment;

/// How fast closed segments are verified, and how often each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// `ottla.log.scrub.bytes.per.second`; 0 turns it off.
    pub bytes_per_second: u64,
    /// `ottla.log.scrub.interval.ms`.
    pub interval_ms: i64,
}

/// What the scrubber has done since the node was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStatus {
    pub segments: u64,
    pub bytes: u64,
    /// Damaged places, each counted every time it is met.
    pub damaged: u64,
    /// Bytes of closed segments that are due to be verified, as of the last choice.
    pub pending_bytes: u64,
    /// Bytes of all closed segments.
    pub total_bytes: u64,
}

/// The longest time until segments are looked at again: some may have been closed, and the interval may have changed.
const LONGEST_WAIT_MS: i64 = 60_000;

pub(crate) struct Scrubber {
    seed: u64,
    allowance: Allowance,
    refilled: Duration,
    current: Option<Pass>,
    wait_until_ms: i64,
    status: ScrubStatus,
    /// Segments and damage since nothing was due the last time.
    round: (u64, u64),
}

/// A segment being verified.
struct Pass {
    log: Arc<PartitionLog>,
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    size: u64,
    end_offset: i64,
    position: u64,
    previous_end: i64,
    /// Of a segment the cleaner wrote.
    headers: Option<HeaderComparison>,
}

/// How far a pass has come.
enum Progress {
    More,
    Done,
    /// The segment is gone, or cannot be read: the directory's own business.
    Given,
}

impl LogManager {
    /// Verifies as much as the time since the last call allows.
    pub async fn scrub(&self, settings: ScrubSettings, now_ms: i64) {
        // Nothing to do is nothing for another thread to do.
        let resting = self.inner.scrubber.try_lock().is_none_or(|scrubber| scrubber.is_resting(now_ms));
        if settings.bytes_per_second > 0 && !resting {
            self.inner.blocking(move |inner| inner.scrubber.lock().run(inner, settings, now_ms)).await;
        }
    }

    pub fn scrub_status(&self) -> ScrubStatus {
        self.inner.scrubber.lock().status
    }
}

impl Scrubber {
    pub(crate) fn new(world: &World) -> Scrubber {
        Scrubber {
            seed: random_u64(&*world.entropy),
            allowance: Allowance::default(),
            refilled: world.clock.monotonic(),
            current: None,
            wait_until_ms: i64::MIN,
            status: ScrubStatus::default(),
            round: (0, 0),
        }
    }

    /// Nothing is being verified, and nothing is due. A clock that was set back does not make that longer.
    fn is_resting(&self, now_ms: i64) -> bool {
        self.current.is_none() && now_ms < self.wait_until_ms && self.wait_until_ms - now_ms <= LONGEST_WAIT_MS
    }

    fn run(&mut self, inner: &Inner, settings: ScrubSettings, now_ms: i64) {
        let world = inner.world();
        let now = world.clock.monotonic();
        self.allowance.refill(settings.bytes_per_second, now.saturating_sub(self.refilled));
        self.refilled = now;
        while self.allowance.is_left() {
            let Some(mut pass) = self.current.take().or_else(|| self.begin(inner, settings, now_ms)) else { return };
            match self.advance(&mut pass) {
                Progress::More => self.current = Some(pass),
                Progress::Done => {
                    pass.segment.note_verified(now_ms);
                    self.status.segments += 1;
                    self.round.0 += 1;
                }
                Progress::Given => pass.segment.note_verified(now_ms),
            }
        }
    }

    /// Begins with the segment that is due.
    fn begin(&mut self, inner: &Inner, settings: ScrubSettings, now_ms: i64) -> Option<Pass> {
        if self.is_resting(now_ms) {
            return None;
        }
        loop {
            let mut segments = Vec::new();
            let mut candidates = Vec::new();
            for log in inner.online_logs() {
                let name = log.topic_partition().to_string();
                for (segment, end_offset) in log.closed_segments() {
                    candidates.push(Candidate {
                        bytes: segment.size(),
                        verified_ms: segment.verified_ms(),
                        order: plan::order(self.seed, &name, segment.base_offset),
                    });
                    segments.push((Arc::clone(&log), segment, end_offset));
                }
            }
            let (choice, due) = plan::choose(&candidates, now_ms, settings.interval_ms);
            let Due { pending_bytes, total_bytes } = due;
            (self.status.pending_bytes, self.status.total_bytes) = (pending_bytes, total_bytes);
            let index = match choice {
                Choice::Verify(index) => index,
                Choice::WaitUntilMs(until_ms) => {
                    self.rest(until_ms.min(now_ms.saturating_add(LONGEST_WAIT_MS)));
                    return None;
                }
                Choice::Nothing => {
                    self.rest(now_ms.saturating_add(LONGEST_WAIT_MS));
                    return None;
                }
            };
            let (log, segment, end_offset) = segments.swap_remove(index);
            let opened = inner.world().disk.open_for_scan(&segment.path(names::LOG_SUFFIX));
            match opened.and_then(|file| Ok((file, segment.header_sum()?))) {
                Ok((file, sum)) => {
                    let (size, previous_end) = (segment.size(), segment.base_offset);
                    let headers = sum.map(HeaderComparison::new);
                    return Some(Pass { log, segment, file, size, end_offset, position: 0, previous_end, headers });
                }
                Err(error) => {
                    // It went, or the next reader will find the disk at fault.
                    tracing::debug!(topic_partition = %log.topic_partition(), base_offset = segment.base_offset, %error, "a segment is not verified");
                    segment.note_verified(now_ms);
                }
            }
        }
    }

    /// Nothing is due.
    fn rest(&mut self, until_ms: i64) {
        self.wait_until_ms = until_ms;
        let (segments, damaged) = std::mem::take(&mut self.round);
        if segments > 0 {
            tracing::info!(segments, damaged, "closed segments were verified, none is due");
        }
    }

    /// Verifies batches as long as bytes may be read.
    fn advance(&mut self, pass: &mut Pass) -> Progress {
        if pass.is_gone() {
            return Progress::Given;
        }
        let (file, size) = (Arc::clone(&pass.file), pass.size);
        let surroundings = Surroundings {
            file: &*file,
            size,
            end_offset: pass.end_offset,
            epochs: &pass.log.epochs_from(pass.previous_end),
            // Read after the epochs: those of what is below may be gone.
            epochs_from: pass.log.log_start_offset(),
        };
        let mut scanner = Scanner::for_scrub(&*file, pass.position, size);
        while self.allowance.is_left() {
            match self.next_batch(pass, &mut scanner, &surroundings) {
                Ok(Some(progress)) => return progress,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(
                        topic_partition = %pass.log.topic_partition(), base_offset = pass.segment.base_offset, %error,
                        "a segment cannot be read to verify it"
                    );
                    return Progress::Given;
                }
            }
        }
        Progress::More
    }

    /// Verifies one batch; how the pass ended, if it did.
    fn next_batch(
        &mut self,
        pass: &mut Pass,
        scanner: &mut Scanner<'_>,
        surroundings: &Surroundings<'_>,
    ) -> io::Result<Option<Progress>> {
        let (header, damage) = match scanner.next(Verify::Checksums)? {
            Scanned::End => {
                let other = pass.headers.take().and_then(HeaderComparison::finish);
                let gone = other.is_some_and(|position| {
                    pass.position = position;
                    !self.found(pass, InvalidBatchBytes::OtherHeaders)
                });
                return Ok(Some(if gone { Progress::Given } else { Progress::Done }));
            }
            Scanned::Batch { header, .. } => {
                let checked = surroundings.check(&header, pass.previous_end, scanner.position())?;
                (header, checked.err())
            }
            Scanned::Invalid { reason, .. } => match scanner.next(Verify::Headers)? {
                Scanned::Batch { header, .. }
                    if reason.is_wrong_checksum() && surroundings.goes_on_at(scanner.position())? =>
                {
                    (header, Some(reason))
                }
                // Where the next batch begins cannot be said.
                _ => {
                    let found = self.found(pass, reason);
                    return Ok(Some(if found { Progress::Done } else { Progress::Given }));
                }
            },
        };
        if let Some(reason) = damage
            && !self.found(pass, reason)
        {
            return Ok(Some(Progress::Given));
        }
        match (&mut pass.headers, damage) {
            (Some(headers), None) => headers.add(&header),
            // That is told already, and the sums of what follows say nothing.
            (_, Some(_)) => pass.headers = None,
            (None, None) => {}
        }
        let read = scanner.position() - pass.position;
        self.allowance.spend(read);
        self.status.bytes += read;
        pass.position = scanner.position();
        // What a damaged header says of offsets is not believed if it cannot be.
        if damage.is_none() || (pass.previous_end..=pass.end_offset).contains(&header.next_offset()) {
            pass.previous_end = header.next_offset();
        }
        Ok(None)
    }

    /// The batch at the current position is damaged; false if that is so because its segment has gone.
    fn found(&mut self, pass: &Pass, reason: InvalidBatchBytes) -> bool {
        if pass.is_gone() {
            return false;
        }
        self.status.damaged += 1;
        self.round.1 += 1;
        pass.log.tell_damage(&pass.segment, pass.position, pass.previous_end, reason);
        true
    }
}

impl Pass {
    fn is_gone(&self) -> bool {
        self.log.is_deleted()
            || self.log.is_offline()
            || !self.log.has_segment(&self.segment)
            || self.segment.size() != self.size
    }
}
