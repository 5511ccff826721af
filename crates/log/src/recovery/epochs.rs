//! The leader epochs of batches that no checkpoint tells of yet.
//!
//! No checksum covers an epoch. In a log it never falls, so one batch that does not fit its neighbours is damaged, and is
//! passed over here: it will not agree with the epochs, and readers are refused it.

/// The epochs of a run of batches, noted in their order.
#[derive(Debug, Default)]
pub(super) struct TailEpochs {
    /// Epoch and first offset, both rising.
    entries: Vec<(i32, i64)>,
    /// Batches of the last entry.
    last_batches: u64,
    /// The batch noted last, if its epoch is lower than those before: one of the two is wrong.
    fallen: Option<(i32, i64)>,
}

impl TailEpochs {
    pub(super) fn note(&mut self, epoch: i32, base_offset: i64) {
        if epoch < 0 {
            return;
        }
        match self.entries.last() {
            Some((last, _)) if epoch < *last => match self.fallen.take() {
                // Two of them: what was before is the exception.
                Some((first_epoch, first_offset)) => {
                    self.drop_above(first_epoch.min(epoch));
                    self.push(first_epoch, first_offset);
                    self.push(epoch, base_offset);
                }
                None => self.fallen = Some((epoch, base_offset)),
            },
            _ => {
                self.fallen = None;
                self.push(epoch, base_offset);
            }
        }
    }

    /// Epochs with the first offset of each, both rising.
    pub(super) fn finish(mut self) -> Vec<(i32, i64)> {
        if let Some((epoch, base_offset)) = self.fallen
            && self.last_batches == 1
        {
            self.drop_above(epoch);
            self.push(epoch, base_offset);
        }
        self.entries
    }

    fn push(&mut self, epoch: i32, base_offset: i64) {
        match self.entries.last() {
            Some((last, _)) if epoch <= *last => self.last_batches += 1,
            _ => {
                self.entries.push((epoch, base_offset));
                self.last_batches = 1;
            }
        }
    }

    fn drop_above(&mut self, epoch: i32) {
        self.entries.retain(|(other, _)| *other <= epoch);
        self.last_batches = u64::MAX / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_batch_that_does_not_fit_is_passed_over() {
        for (epochs, expected) in [
            (&[][..], &[][..]),
            (&[0, 0, 0], &[(0, 0)]),
            (&[0, 0, 1, 3, 3], &[(0, 0), (1, 2), (3, 3)]),
            (&[-1, -1, 0], &[(0, 2)]),
            // Too high, wherever it is but at the end.
            (&[9, 0, 0], &[(0, 1)]),
            (&[0, 9, 0, 0], &[(0, 0)]),
            (&[0, 0, 9, 0], &[(0, 0)]),
            (&[0, 9, 1, 1], &[(0, 0), (1, 2)]),
            (&[0, 0, 9], &[(0, 0), (9, 2)]),
            // Too low.
            (&[3, 1, 3, 3], &[(3, 0)]),
            (&[3, 3, 1, 3], &[(3, 0)]),
            (&[3, 3, 3, 1], &[(3, 0)]),
            (&[3, 3, 1, 4], &[(3, 0), (4, 3)]),
            (&[3, -7, 3], &[(3, 0)]),
        ] {
            let mut tail = TailEpochs::default();
            for (offset, epoch) in epochs.iter().enumerate() {
                tail.note(*epoch, offset as i64);
            }
            assert_eq!(tail.finish(), expected, "{epochs:?}");
        }
    }
}
