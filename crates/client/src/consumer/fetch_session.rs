//! Fetch sessions (KIP-227): a broker is told once which partitions are wanted, and later only what changed.
//!
//! Pure bookkeeping of one broker's session. At most one request is under way, so a request is always answered, or has
//! failed, before the next one is made.

use std::collections::{BTreeMap, BTreeSet};

use ottla_types::{TopicId, TopicPartition};

/// The epoch of a request that begins a session, and ends the one it names.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that ends a session and begins none.
const FINAL_EPOCH: i32 = -1;
const NO_SESSION: i32 = 0;

/// What is asked of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) topic_id: TopicId,
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
}

/// A request within a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SessionRequest {
    pub(super) session_id: i32,
    pub(super) epoch: i32,
    /// What the broker does not know yet.
    pub(super) send: Vec<(TopicPartition, Wanted)>,
    /// What it is to forget.
    pub(super) forget: Vec<(TopicPartition, TopicId)>,
}

#[derive(Debug)]
pub(super) struct FetchSession {
    id: i32,
    next_epoch: i32,
    /// What the broker has in mind, if there is a session.
    partitions: BTreeMap<TopicPartition, Wanted>,
    /// Whether topics are named by id, which a session does not mix with names.
    with_ids: bool,
}

impl Default for FetchSession {
    fn default() -> FetchSession {
        FetchSession { id: NO_SESSION, next_epoch: INITIAL_EPOCH, partitions: BTreeMap::new(), with_ids: true }
    }
}

impl FetchSession {
    /// The next request, for exactly these partitions.
    pub(super) fn request(&mut self, wanted: BTreeMap<TopicPartition, Wanted>, with_ids: bool) -> SessionRequest {
        if self.with_ids != with_ids {
            self.begin_anew();
            self.with_ids = with_ids;
        }
        let (mut send, mut forget) = (Vec::new(), Vec::new());
        let full = self.next_epoch == INITIAL_EPOCH;
        for (partition, now) in &wanted {
            let before = self.partitions.get(partition).filter(|_| !full);
            if before != Some(now) {
                send.push((partition.clone(), *now));
            }
            // A topic that was made anew is another one to the broker.
            if let Some(before) = before.filter(|before| before.topic_id != now.topic_id) {
                forget.push((partition.clone(), before.topic_id));
            }
        }
        if !full {
            let gone = self.partitions.iter().filter(|(partition, _)| !wanted.contains_key(*partition));
            forget.extend(gone.map(|(partition, before)| (partition.clone(), before.topic_id)));
        }
        self.partitions = wanted;
        SessionRequest { session_id: self.id, epoch: self.next_epoch, send, forget }
    }

    /// Takes note of an answer to the last request: which session the broker says it was, and for which partitions.
    /// Whether they are those of the session; if not, what they say is of no use.
    pub(super) fn answered(&mut self, session_id: i32, partitions: &BTreeSet<&TopicPartition>) -> bool {
        let ours = partitions.iter().all(|partition| self.partitions.contains_key(*partition));
        if self.next_epoch == INITIAL_EPOCH {
            if !ours || partitions.len() != self.partitions.len() {
                // Not all of what was asked for: the broker has something else in mind.
                self.id = session_id;
                self.begin_anew();
                return ours;
            }
            self.id = session_id;
            self.next_epoch = if session_id == NO_SESSION { INITIAL_EPOCH } else { 1 };
            return true;
        }
        if !ours || session_id != self.id {
            // It ended the session, or means another one.
            self.begin_anew();
            return ours;
        }
        self.next_epoch = self.next_epoch.checked_add(1).unwrap_or(1);
        true
    }

    /// The next request begins a session again and ends this one, if the broker still has it.
    pub(super) fn begin_anew(&mut self) {
        self.next_epoch = INITIAL_EPOCH;
        self.partitions.clear();
    }

    /// The broker does not know the session.
    pub(super) fn unknown(&mut self) {
        self.id = NO_SESSION;
        self.begin_anew();
    }

    /// A request that ends the session, if there is one.
    pub(super) fn end(self) -> Option<SessionRequest> {
        (self.id != NO_SESSION).then(|| SessionRequest {
            session_id: self.id,
            epoch: FINAL_EPOCH,
            send: Vec::new(),
            forget: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use ottla_types::Uuid;

    use super::*;

    const ID: Uuid = Uuid([1; 16]);

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("t", number)
    }

    fn wanted(offsets: &[(i32, i64)]) -> BTreeMap<TopicPartition, Wanted> {
        let wanted = |offset| Wanted { topic_id: ID, offset, leader_epoch: 0 };
        offsets.iter().map(|&(number, offset)| (partition(number), wanted(offset))).collect()
    }

    fn answer(session: &mut FetchSession, id: i32, numbers: &[i32]) -> bool {
        let partitions: Vec<TopicPartition> = numbers.iter().map(|&number| partition(number)).collect();
        session.answered(id, &partitions.iter().collect())
    }

    /// The session's id, the epoch, what is sent and what is forgotten.
    fn parts(request: &SessionRequest) -> (i32, i32, Vec<(i32, i64)>, Vec<i32>) {
        (
            request.session_id,
            request.epoch,
            request.send.iter().map(|(partition, wanted)| (partition.partition, wanted.offset)).collect(),
            request.forget.iter().map(|(partition, _)| partition.partition).collect(),
        )
    }

    #[test]
    fn only_what_changed_is_sent() {
        let mut session = FetchSession::default();
        let first = session.request(wanted(&[(0, 5), (1, 6)]), true);
        assert_eq!(parts(&first), (0, 0, vec![(0, 5), (1, 6)], vec![]));
        assert!(answer(&mut session, 77, &[0, 1]));
        let second = session.request(wanted(&[(0, 5), (1, 7), (2, 0)]), true);
        assert_eq!(parts(&second), (77, 1, vec![(1, 7), (2, 0)], vec![]));
        assert!(answer(&mut session, 77, &[2]));
        let third = session.request(wanted(&[(1, 7), (2, 0)]), true);
        assert_eq!(parts(&third), (77, 2, vec![], vec![0]));
        assert!(answer(&mut session, 77, &[]));
        assert_eq!(session.end().as_ref().map(parts), Some((77, -1, vec![], vec![])));
    }

    #[test]
    fn a_topic_made_anew_is_forgotten_and_added() {
        let mut session = FetchSession::default();
        session.request(wanted(&[(0, 5)]), true);
        answer(&mut session, 7, &[0]);
        let mut anew = wanted(&[(0, 0)]);
        anew.get_mut(&partition(0)).unwrap().topic_id = Uuid([2; 16]);
        let request = session.request(anew, true);
        assert_eq!(parts(&request), (7, 1, vec![(0, 0)], vec![0]));
        assert_eq!(request.forget[0].1, ID);
        assert_eq!(request.send[0].1.topic_id, Uuid([2; 16]));
    }

    #[test]
    fn a_session_begins_again() {
        let started = || {
            let mut session = FetchSession::default();
            session.request(wanted(&[(0, 5)]), true);
            answer(&mut session, 7, &[0]);
            session.request(wanted(&[(0, 5)]), true);
            session
        };
        let full = |mut session: FetchSession| parts(&session.request(wanted(&[(0, 6)]), true));
        let mut failed = started();
        failed.begin_anew();
        assert_eq!(full(failed), (7, 0, vec![(0, 6)], vec![]), "a lost answer");
        let mut unknown = started();
        unknown.unknown();
        assert_eq!(full(unknown), (0, 0, vec![(0, 6)], vec![]), "a session that was evicted");
        let mut ended = started();
        assert!(answer(&mut ended, 0, &[0]));
        assert_eq!(full(ended), (7, 0, vec![(0, 6)], vec![]), "a session the broker ended");
        let mut strange = started();
        assert!(!answer(&mut strange, 7, &[9]));
        assert_eq!(full(strange), (7, 0, vec![(0, 6)], vec![]), "an answer for what was not asked");
        let mut names = started();
        answer(&mut names, 7, &[]);
        assert_eq!(parts(&names.request(wanted(&[(0, 5)]), false)), (7, 0, vec![(0, 5)], vec![]), "by name now");
    }

    #[test]
    fn without_sessions_everything_is_asked_for_each_time() {
        let mut session = FetchSession::default();
        for _ in 0..2 {
            assert_eq!(parts(&session.request(wanted(&[(0, 5)]), true)), (0, 0, vec![(0, 5)], vec![]));
            assert!(answer(&mut session, 0, &[0]));
        }
        assert_eq!(session.end(), None);
    }

    #[test]
    fn epochs_wrap_to_one() {
        let mut session = FetchSession::default();
        session.request(wanted(&[(0, 5)]), true);
        answer(&mut session, 7, &[0]);
        session.next_epoch = i32::MAX;
        session.request(wanted(&[(0, 5)]), true);
        answer(&mut session, 7, &[]);
        assert_eq!(session.request(wanted(&[(0, 5)]), true).epoch, 1);
    }
}
