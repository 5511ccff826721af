//! Where a consumer stands in each of its partitions. Pure: time is an argument.
//!
//! A partition is found its position first, may have to compare it with a new leader's log (KIP-320), and is fetched
//! then. Whoever moves the position also moves `version`: what was asked for an earlier one is not wanted any more.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_types::TopicPartition;
use tokio::time::Instant;

use super::settings::AutoOffsetReset;

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: i64,
    /// The epoch of the leader that wrote the record before, if that is known.
    pub(super) offset_epoch: Option<i32>,
}

/// What a partition needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The position is to be found by this rule.
    Reset(AutoOffsetReset),
    /// The leader of this epoch is asked whether its log has what was read before.
    Validate(i32),
    Fetch,
}

#[derive(Clone, Debug)]
pub(super) struct PartitionState {
    pub(super) step: Step,
    /// Whether the step is under way.
    pub(super) busy: bool,
    /// Nothing is asked of it before.
    pub(super) not_before: Option<Instant>,
    /// Behind what was handed out; `None` until it is found.
    pub(super) consumed: Option<Position>,
    /// Behind what was fetched.
    pub(super) fetched: Position,
    /// The newest epoch whose leader is known to have what is before `fetched`.
    pub(super) leader_epoch: i32,
    pub(super) version: u64,
    pub(super) paused: bool,
    /// Bytes that wait to be handed out.
    pub(super) buffered: usize,
    pub(super) log_start_offset: Option<i64>,
    pub(super) high_watermark: Option<i64>,
    pub(super) last_stable_offset: Option<i64>,
    /// The replica the leader would have us read from, and until when.
    preferred: Option<(i32, Instant)>,
}

const UNKNOWN: Position = Position { offset: 0, offset_epoch: None };

impl PartitionState {
    fn new(step: Step, version: u64) -> PartitionState {
        PartitionState {
            step,
            busy: false,
            not_before: None,
            consumed: None,
            fetched: UNKNOWN,
            leader_epoch: -1,
            version,
            paused: false,
            buffered: 0,
            log_start_offset: None,
            high_watermark: None,
            last_stable_offset: None,
            preferred: None,
        }
    }

    pub(super) fn wait(&mut self, now: Instant, pause: Duration) {
        self.busy = false;
        self.not_before = Some(now + pause);
    }

    /// Which broker to fetch from.
    pub(super) fn read_from(&mut self, leader: i32, now: Instant) -> i32 {
        match self.preferred {
            Some((node_id, until)) if now < until => node_id,
            _ => {
                self.preferred = None;
                leader
            }
        }
    }

    pub(super) fn prefer(&mut self, node_id: i32, until: Instant) {
        self.preferred = Some((node_id, until));
    }

    /// Reads from the leader again; whether it was not.
    pub(super) fn prefer_leader(&mut self) -> bool {
        self.preferred.take().is_some()
    }

    /// A leader with a newer epoch may have another past than the one that was read from.
    pub(super) fn led_by(&mut self, leader_epoch: i32) {
        if self.step != Step::Fetch || leader_epoch <= self.leader_epoch {
            return;
        }
        if self.fetched.offset_epoch.is_some() {
            self.step = Step::Validate(leader_epoch);
        } else {
            self.leader_epoch = leader_epoch;
        }
    }

    /// How many records there are behind what was handed out.
    pub(super) fn lag(&self, read_committed: bool) -> Option<i64> {
        let end = if read_committed { self.last_stable_offset } else { self.high_watermark }?;
        Some(end.saturating_sub(self.consumed?.offset).max(0))
    }
}

/// What an answer about a new leader's log means for a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It has everything.
    Same,
    /// Its log parts from what was read at this place.
    Diverges(Position),
    /// It cannot say where.
    Unknown,
}

/// Compares a position with where the leader says its epoch ended.
pub(super) fn compare(position: Position, end_epoch: i32, end_offset: i64) -> Comparison {
    if end_epoch < 0 || end_offset < 0 {
        Comparison::Unknown
    } else if end_offset < position.offset {
        Comparison::Diverges(Position { offset: end_offset, offset_epoch: Some(end_epoch) })
    } else {
        Comparison::Same
    }
}

/// All partitions of a consumer.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    states: BTreeMap<TopicPartition, PartitionState>,
    /// Counts everything that moved a position.
    version: u64,
}

impl Partitions {
    /// Keeps these partitions, adds what is missing with this as its first step, and drops the others.
    pub(super) fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>, first: Step) {
        let mut before = std::mem::take(&mut self.states);
        for partition in partitions {
            let state = before.remove(&partition).unwrap_or_else(|| {
                self.version += 1;
                PartitionState::new(first, self.version)
            });
            self.states.insert(partition, state);
        }
    }

    /// Puts a partition at a place; whether it is one of ours.
    pub(super) fn seek(&mut self, partition: &TopicPartition, position: Position) -> bool {
        let Some(state) = self.states.get_mut(partition) else { return false };
        self.version += 1;
        let epoch = if position.offset_epoch.is_some() { -1 } else { state.leader_epoch };
        *state = PartitionState {
            consumed: Some(position),
            fetched: position,
            leader_epoch: epoch,
            paused: state.paused,
            log_start_offset: state.log_start_offset,
            high_watermark: state.high_watermark,
            last_stable_offset: state.last_stable_offset,
            ..PartitionState::new(Step::Fetch, self.version)
        };
        true
    }

    /// Has a partition find its position by this rule; whether it is one of ours.
    pub(super) fn reset(&mut self, partition: &TopicPartition, rule: AutoOffsetReset) -> bool {
        let Some(state) = self.states.get_mut(partition) else { return false };
        self.version += 1;
        *state = PartitionState { paused: state.paused, ..PartitionState::new(Step::Reset(rule), self.version) };
        true
    }

    /// Has a partition fetched again from behind what was handed out.
    pub(super) fn fetch_again(&mut self, partition: &TopicPartition) {
        if let Some(state) = self.states.get_mut(partition)
            && let Some(consumed) = state.consumed
        {
            self.version += 1;
            (state.version, state.fetched, state.buffered) = (self.version, consumed, 0);
        }
    }

    pub(super) fn get(&self, partition: &TopicPartition) -> Option<&PartitionState> {
        self.states.get(partition)
    }

    pub(super) fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut PartitionState> {
        self.states.get_mut(partition)
    }

    /// The state of a partition, if its position was not moved since.
    pub(super) fn unmoved(&mut self, partition: &TopicPartition, version: u64) -> Option<&mut PartitionState> {
        self.states.get_mut(partition).filter(|state| state.version == version)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &PartitionState)> {
        self.states.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&TopicPartition, &mut PartitionState)> {
        self.states.iter_mut()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &TopicPartition> {
        self.states.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> (Partitions, TopicPartition) {
        let partition = TopicPartition::new("t", 0);
        let mut partitions = Partitions::default();
        partitions.assign([partition.clone()], Step::Reset(AutoOffsetReset::Latest));
        (partitions, partition)
    }

    #[test]
    fn a_newer_leader_is_compared_with_once_something_was_read() {
        for (offset_epoch, known, leader_epoch, expected) in [
            (Some(3), 3, 3, Step::Fetch),
            (Some(3), 3, 4, Step::Validate(4)),
            (Some(3), -1, 3, Step::Validate(3)),
            (None, 3, 4, Step::Fetch),
        ] {
            let (mut partitions, partition) = one();
            partitions.seek(&partition, Position { offset: 7, offset_epoch });
            let state = partitions.get_mut(&partition).unwrap();
            state.leader_epoch = known;
            state.led_by(leader_epoch);
            assert_eq!(state.step, expected, "{offset_epoch:?} {known} {leader_epoch}");
        }
    }

    #[test]
    fn positions_compared_with_a_leaders_log() {
        let position = Position { offset: 10, offset_epoch: Some(3) };
        for (end_epoch, end_offset, expected) in [
            (3, 10, Comparison::Same),
            (3, 20, Comparison::Same),
            (2, 9, Comparison::Diverges(Position { offset: 9, offset_epoch: Some(2) })),
            (-1, 9, Comparison::Unknown),
            (3, -1, Comparison::Unknown),
        ] {
            assert_eq!(compare(position, end_epoch, end_offset), expected, "{end_epoch} {end_offset}");
        }
    }

    #[test]
    fn what_was_asked_before_a_seek_is_not_wanted() {
        let (mut partitions, partition) = one();
        let version = partitions.get(&partition).unwrap().version;
        assert!(partitions.unmoved(&partition, version).is_some());
        partitions.seek(&partition, UNKNOWN);
        assert!(partitions.unmoved(&partition, version).is_none());
        let version = partitions.get(&partition).unwrap().version;
        partitions.assign([], Step::Fetch);
        partitions.assign([partition.clone()], Step::Fetch);
        assert!(partitions.unmoved(&partition, version).is_none(), "it was given away in between");
    }

    #[tokio::test(start_paused = true)]
    async fn a_preferred_replica_is_read_from_for_a_time() {
        let (mut partitions, partition) = one();
        let state = partitions.get_mut(&partition).unwrap();
        let now = Instant::now();
        assert_eq!(state.read_from(1, now), 1);
        state.prefer(2, now + Duration::from_secs(10));
        assert_eq!(state.read_from(1, now + Duration::from_secs(9)), 2);
        assert_eq!(state.read_from(1, now + Duration::from_secs(10)), 1);
        state.prefer(2, now + Duration::from_secs(10));
        assert!(state.prefer_leader());
        assert!(!state.prefer_leader());
        assert_eq!(state.read_from(1, now), 1);
    }

    #[test]
    fn lag() {
        let (mut partitions, partition) = one();
        assert_eq!(partitions.get(&partition).unwrap().lag(false), None);
        partitions.seek(&partition, Position { offset: 10, offset_epoch: None });
        let state = partitions.get_mut(&partition).unwrap();
        (state.high_watermark, state.last_stable_offset) = (Some(15), Some(12));
        assert_eq!((state.lag(false), state.lag(true)), (Some(5), Some(2)));
        state.high_watermark = Some(4);
        assert_eq!(state.lag(false), Some(0));
    }
}
