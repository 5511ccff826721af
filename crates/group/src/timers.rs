//! Deadlines of the soft state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is to happen at a deadline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// The member, or the pending member id, is given up.
    Session { group: Arc<str>, member_id: Arc<str> },
    /// The join phase of a rebalance ends.
    Join { group: Arc<str> },
    /// Members that have not sent SyncGroup are given up.
    Sync { group: Arc<str> },
    /// Expired offsets are looked for.
    OffsetExpiry,
}

/// At most one deadline per key, in the order they fall due; ties by key, so that replays of a run agree.
#[derive(Debug, Default)]
pub struct Timers {
    by_key: BTreeMap<TimerKey, i64>,
    by_deadline: BTreeSet<(i64, TimerKey)>,
}

impl Timers {
    /// Sets or moves the deadline of `key`.
    pub fn schedule(&mut self, key: TimerKey, deadline_ms: i64) {
        if let Some(previous) = self.by_key.insert(key.clone(), deadline_ms) {
            self.by_deadline.remove(&(previous, key.clone()));
        }
        self.by_deadline.insert((deadline_ms, key));
    }

    pub fn cancel(&mut self, key: &TimerKey) {
        if let Some((key, deadline_ms)) = self.by_key.remove_entry(key) {
            self.by_deadline.remove(&(deadline_ms, key));
        }
    }

    pub fn contains(&self, key: &TimerKey) -> bool {
        self.by_key.contains_key(key)
    }

    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.by_deadline.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Takes the first timer whose deadline has come.
    pub fn pop_due(&mut self, now_ms: i64) -> Option<TimerKey> {
        if self.next_deadline_ms()? > now_ms {
            return None;
        }
        let (_, key) = self.by_deadline.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    pub fn clear(&mut self) {
        self.by_key.clear();
        self.by_deadline.clear();
    }

    /// Whether both views agree.
    pub fn consistent(&self) -> bool {
        self.by_key.len() == self.by_deadline.len()
            && self.by_key.iter().all(|(key, deadline_ms)| self.by_deadline.contains(&(*deadline_ms, key.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(group: &str) -> TimerKey {
        TimerKey::Join { group: group.into() }
    }

    #[test]
    fn one_deadline_per_key_in_order() {
        let mut timers = Timers::default();
        timers.schedule(join("b"), 20);
        timers.schedule(join("a"), 20);
        timers.schedule(TimerKey::OffsetExpiry, 5);
        timers.schedule(join("c"), 1);
        timers.schedule(join("c"), 30);
        assert!(timers.consistent());
        assert_eq!(timers.next_deadline_ms(), Some(5));
        timers.cancel(&TimerKey::OffsetExpiry);
        timers.cancel(&TimerKey::OffsetExpiry);
        assert_eq!(timers.pop_due(19), None);
        assert_eq!(timers.pop_due(20), Some(join("a")));
        assert_eq!(timers.pop_due(29), Some(join("b")));
        assert_eq!(timers.pop_due(29), None);
        assert_eq!(timers.pop_due(30), Some(join("c")));
        assert_eq!(timers.pop_due(i64::MAX), None);
        assert!(timers.consistent());
    }
}
