//! What readers of a segment the cleaner wrote need to know of its headers: a log with holes has no continuity that tells
//! a changed offset. The headers around what is read are compared with the sums the cleaner left, once for each block of an
//! open file. In a block that differs no batch can be told from another: all of them are refused.

use std::io;
use std::sync::Arc;

use ottla_rt::DiskFile;
use parking_lot::Mutex;

use crate::header_sum::{self, BlockSummer, HeaderBlock, HeaderSum, HeaderSummer};
use crate::names;
use crate::scan::{InvalidBatchBytes, Scanned, Scanner, Verify};
use crate::segment::{Segment, SegmentError, remove_if_there};

/// The sums of a segment's headers, as far as they were looked for.
#[derive(Default)]
pub(crate) struct CleanedHeaders {
    state: Mutex<State>,
}

#[derive(Clone, Default)]
enum State {
    /// The cleaner did not write it.
    #[default]
    NotCleaned,
    Unread,
    Known(Arc<HeaderSum>),
    /// The file is damaged, or of another segment.
    Unusable,
}

impl Segment {
    /// The cleaner wrote this segment, and left the sums of its headers.
    pub(crate) fn note_cleaned(&self) {
        *self.cleaned_headers.state.lock() = State::Unread;
    }

    /// The cleaner has written this segment, and these sums of its headers.
    pub(crate) fn set_header_sum(&self, sum: HeaderSum) {
        *self.cleaned_headers.state.lock() = State::Known(Arc::new(sum));
    }

    /// Whether nothing has to be read to tell its sums, or that it has none.
    pub(crate) fn knows_header_sum(&self) -> bool {
        self.cleaned_headers.state.try_lock().is_some_and(|state| !matches!(*state, State::Unread))
    }

    /// The sums of its headers, if the cleaner wrote it and they are of it.
    pub(crate) fn header_sum(&self) -> io::Result<Option<Arc<HeaderSum>>> {
        let mut state = self.cleaned_headers.state.lock();
        match &*state {
            State::NotCleaned | State::Unusable => return Ok(None),
            State::Known(sum) => return Ok(Some(Arc::clone(sum))),
            State::Unread => {}
        }
        let path = self.path(names::HEADER_SUM_SUFFIX);
        let bytes = match self.shared().world.disk.read_file(&path, header_sum::MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Vec::new(),
            Err(error) => return Err(error),
        };
        match HeaderSum::parse(&bytes) {
            Ok(sum) if sum.is_of(self.size()) => {
                let sum = Arc::new(sum);
                *state = State::Known(Arc::clone(&sum));
                Ok(Some(sum))
            }
            Ok(_) => {
                *state = State::Unusable;
                Ok(None)
            }
            Err(reason) => {
                tracing::warn!(path = %path.display(), %reason, "a sum of headers is not used");
                *state = State::Unusable;
                Ok(None)
            }
        }
    }

    /// The segment is about to be cut: the sums are not of what remains.
    pub(crate) fn forget_header_sum(&self) -> io::Result<()> {
        let before = std::mem::take(&mut *self.cleaned_headers.state.lock());
        if matches!(before, State::NotCleaned) {
            return Ok(());
        }
        let path = self.path(names::HEADER_SUM_SUFFIX);
        remove_if_there(self.shared(), &path)?;
        path.parent().map_or(Ok(()), |directory| self.shared().world.disk.sync_dir(directory))
    }

    /// Up to where from `start` on, and no farther than `end`, the headers are those that were written, as far as sums
    /// tell. A batch begins at `start`. `reader` is how the file is read.
    pub(crate) fn written_headers(
        &self,
        file: &Arc<dyn DiskFile>,
        reader: &dyn DiskFile,
        start: u64,
        end: u64,
    ) -> io::Result<u64> {
        let Some(sum) = self.header_sum()? else { return Ok(end) };
        let mut good = start;
        while good < end {
            let Some(block) = sum.block_at(good) else { return Ok(end) };
            let known = self.with_verified(|verified| verified.has_headers(file, block.start, block.end));
            if !known {
                if !has_sum(reader, &block)? {
                    return Ok(good);
                }
                self.with_verified(|verified| verified.insert_headers(file, block.start, block.end));
            }
            good = block.end;
        }
        Ok(end)
    }

    /// An error unless all headers in the blocks of this range are those that were written.
    pub(crate) fn check_written_headers(
        &self,
        file: &Arc<dyn DiskFile>,
        start: u64,
        end: u64,
    ) -> Result<(), SegmentError> {
        match self.written_headers(file, &**file, start, end)? {
            good if good >= end => Ok(()),
            position => Err(SegmentError::Damaged { position, reason: InvalidBatchBytes::OtherHeaders }),
        }
    }
}

/// Whether the batches of this block have the headers they were written with.
fn has_sum(file: &dyn DiskFile, block: &HeaderBlock) -> io::Result<bool> {
    let mut scanner = Scanner::new(file, block.start, block.end);
    let mut summer = BlockSummer::new();
    loop {
        match scanner.next(Verify::Headers)? {
            Scanned::Batch { header, .. } => summer.add(&header),
            Scanned::End => return Ok(summer.finish() == block.sum),
            Scanned::Invalid { .. } => return Ok(false),
        }
    }
}

/// Sums up the headers of a segment as its batches are walked from the first to the last.
pub(crate) struct HeaderComparison {
    written: Arc<HeaderSum>,
    summer: HeaderSummer,
}

impl HeaderComparison {
    pub(crate) fn new(written: Arc<HeaderSum>) -> HeaderComparison {
        HeaderComparison { written, summer: HeaderSummer::new() }
    }

    pub(crate) fn add(&mut self, header: &ottla_record::BatchHeader) {
        self.summer.add(header);
    }

    /// Where the first block begins whose headers are others than were written.
    pub(crate) fn finish(self) -> Option<u64> {
        let found = self.summer.finish();
        self.written.contradicts(&found).then(|| self.written.first_difference(&found))
    }
}
