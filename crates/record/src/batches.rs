//! Batch after batch in a stretch of bytes, without looking at records.

use crate::header::{BatchError, BatchHeader, whole_batch};

/// Walks the batches in `bytes`: a segment's content, or a partition's data in a fetch response. The first thing that
/// is not a whole batch ends the walk with an error; CRCs are not checked.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes, position: 0, failed: false }
}

/// Iterator over batches; see [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
    position: usize,
    failed: bool,
}

impl Batches<'_> {
    /// Bytes walked so far: where the next batch begins, or after an error where the bad one does.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let found =
            BatchHeader::parse(self.rest).and_then(|header| whole_batch(self.rest, &header).map(|all| (header, all)));
        match found {
            Ok((header, batch)) => {
                self.rest = self.rest.get(batch.len()..).unwrap_or_default();
                self.position += batch.len();
                Some(Ok((header, batch)))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
