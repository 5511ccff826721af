//! What is next for a copy of a log that changes meanwhile. Pure: segments come in, a step comes out.
//!
//! A segment is known by an identity of its own, not by its base offset: the cleaner puts another one in its place. What is
//! cut off the log's end does not show here; whoever calls begins anew after a cut.

/// A segment of the log; the last one is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source<I> {
    pub(super) id: I,
    pub(super) bytes: u64,
}

/// A segment of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copied<I> {
    pub(super) id: I,
    pub(super) bytes: u64,
    /// What an earlier copy left is still compared.
    pub(super) comparing: bool,
    /// It is complete, with what belongs to it, and synced.
    pub(super) finished: bool,
}

/// By their places in what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The log has this segment of the copy no more.
    Remove {
        copied: usize,
    },
    /// The copy has nothing of this segment yet.
    Begin {
        source: usize,
    },
    Compare {
        copied: usize,
    },
    Copy {
        source: usize,
        copied: usize,
    },
    /// All of a closed segment is copied.
    Finish {
        copied: usize,
    },
    /// What is missing is little, and at the log's end.
    CaughtUp,
}

/// The next step; at most `tolerated` bytes may be missing of a copy that has caught up.
pub(super) fn next_step<I: PartialEq>(source: &[Source<I>], copies: &[Copied<I>], tolerated: u64) -> Step {
    let in_log = |copy: &Copied<I>| source.iter().any(|segment| segment.id == copy.id && copy.bytes <= segment.bytes);
    if let Some(copied) = copies.iter().position(|copy| !in_log(copy)) {
        return Step::Remove { copied };
    }
    for (index, segment) in source.iter().enumerate() {
        let is_active = index + 1 == source.len();
        let Some(copied) = copies.iter().position(|copy| copy.id == segment.id) else {
            return Step::Begin { source: index };
        };
        let copy = &copies[copied];
        let missing = segment.bytes - copy.bytes;
        if copy.comparing {
            return Step::Compare { copied };
        }
        if missing > if is_active { tolerated } else { 0 } {
            return Step::Copy { source: index, copied };
        }
        if !is_active && !copy.finished {
            return Step::Finish { copied };
        }
    }
    Step::CaughtUp
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(segments: &[(u32, u64)]) -> Vec<Source<u32>> {
        segments.iter().map(|&(id, bytes)| Source { id, bytes }).collect()
    }

    fn copy(id: u32, bytes: u64) -> Copied<u32> {
        Copied { id, bytes, comparing: false, finished: false }
    }

    fn finished(id: u32, bytes: u64) -> Copied<u32> {
        Copied { finished: true, ..copy(id, bytes) }
    }

    #[test]
    fn steps() {
        let comparing = Copied { comparing: true, ..copy(1, 0) };
        for (segments, copies, expected) in [
            (&[(1, 0)][..], &[][..], Step::Begin { source: 0 }),
            (&[(1, 10)], &[copy(1, 0)], Step::CaughtUp),
            (&[(1, 11)], &[copy(1, 0)], Step::Copy { source: 0, copied: 0 }),
            (&[(1, 100)], &[comparing], Step::Compare { copied: 0 }),
            // A closed segment is copied to its end, and finished.
            (&[(1, 10), (2, 0)], &[copy(1, 9), copy(2, 0)], Step::Copy { source: 0, copied: 0 }),
            (&[(1, 10), (2, 0)], &[copy(1, 10)], Step::Finish { copied: 0 }),
            (&[(1, 10), (2, 0)], &[finished(1, 10)], Step::Begin { source: 1 }),
            (&[(1, 10), (2, 5)], &[finished(1, 10), copy(2, 0)], Step::CaughtUp),
            // Retention took it away.
            (&[(2, 5)], &[finished(1, 10), copy(2, 5)], Step::Remove { copied: 0 }),
            // The cleaner made one of two.
            (&[(3, 12), (2, 5)], &[finished(1, 10), copy(2, 5)], Step::Remove { copied: 0 }),
            // It has become shorter: it is not what was copied.
            (&[(1, 5)], &[copy(1, 10)], Step::Remove { copied: 0 }),
        ] {
            assert_eq!(next_step(&source(segments), copies, 10), expected, "{segments:?} {copies:?}");
        }
    }

    #[test]
    fn every_log_is_caught_up_with() {
        let segments = source(&[(7, 30), (8, 0), (9, 25)]);
        let mut copies = vec![copy(1, 5), finished(8, 0)];
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 100, "{copies:?}");
            match next_step(&segments, &copies, 0) {
                Step::Remove { copied } => drop(copies.remove(copied)),
                Step::Begin { source } => copies.push(Copied { comparing: true, ..copy(segments[source].id, 0) }),
                Step::Compare { copied } => copies[copied].comparing = false,
                Step::Copy { source, copied } => {
                    copies[copied].bytes = (copies[copied].bytes + 10).min(segments[source].bytes);
                }
                Step::Finish { copied } => copies[copied].finished = true,
                Step::CaughtUp => break,
            }
        }
        copies.sort_by_key(|copy| copy.id);
        assert_eq!(copies, [finished(7, 30), finished(8, 0), copy(9, 25)]);
    }
}
