//! Fetch sessions (KIP-227): a consumer names its partitions once, then only what changes.
//!
//! The cache is bounded by `max.incremental.fetch.session.cache.slots`, and by [`MAX_PARTITIONS`] of all sessions
//! together. When it is full, the session unused the longest gives way once it has been idle for [`EVICTION_MS`];
//! otherwise the new client is served without a session. A session remembers what was last answered, so an incremental
//! response carries only partitions with something new.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ottla_protocol::StrBytes;
use ottla_types::{ErrorCode, TopicId};
use parking_lot::Mutex;

/// `min.incremental.fetch.session.eviction.ms`, which Kafka keeps as a constant of 120 s.
const EVICTION_MS: u64 = 120_000;

/// Partitions in all sessions: about 50 MiB.
const MAX_PARTITIONS: usize = 200_000;

/// The request asks for no session, and ends the one it names.
const FINAL_EPOCH: i32 = -1;
/// The request asks for a new session, and ends the one it names.
const INITIAL_EPOCH: i32 = 0;

/// A topic as the request's version names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    Name(StrBytes),
    Id(TopicId),
}

/// What a client wants of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FetchPartition {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

/// What a client has last been told of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start_offset: i64,
}

/// One partition's answer, as far as the session cares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) told: Told,
    pub(crate) has_records: bool,
    pub(crate) has_error: bool,
}

/// The session fields of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionRequest {
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    pub(crate) uses_topic_ids: bool,
}

/// A fetch that has begun: what to read, and how to answer.
pub(crate) struct FetchContext {
    pub(crate) partitions: Vec<FetchPartition>,
    session: Option<(Arc<Mutex<Session>>, Kind)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Full,
    Incremental,
}

struct Session {
    id: i32,
    next_epoch: i32,
    uses_topic_ids: bool,
    /// In the order they are served; whoever got records goes to the end.
    partitions: BTreeMap<u64, Cached>,
    order: HashMap<(TopicKey, i32), u64>,
    next_order: u64,
}

struct Cached {
    wanted: FetchPartition,
    told: Option<Told>,
}

pub(crate) struct FetchSessionCache {
    slots: usize,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    by_id: HashMap<i32, Slot>,
    /// Session ids by when they were last used: `(milliseconds, id)`.
    by_last_use: BTreeSet<(u64, i32)>,
    /// In all sessions.
    partitions: usize,
}

struct Slot {
    session: Arc<Mutex<Session>>,
    last_used_ms: u64,
    partitions: usize,
}

impl FetchSessionCache {
    pub(crate) fn new(slots: usize) -> FetchSessionCache {
        FetchSessionCache { slots, sessions: Mutex::new(Sessions::default()) }
    }

    /// Begins a fetch. `new_id` gives a random number > 0; it is asked if a session is made.
    pub(crate) fn begin(
        &self,
        now_ms: u64,
        new_id: impl FnOnce() -> i32,
        request: SessionRequest,
        wanted: Vec<FetchPartition>,
        forgotten: &[(TopicKey, i32)],
    ) -> Result<FetchContext, ErrorCode> {
        match request.session_epoch {
            FINAL_EPOCH => {
                self.remove(request.session_id);
                Ok(FetchContext { partitions: wanted, session: None })
            }
            INITIAL_EPOCH => {
                self.remove(request.session_id);
                let session = self.create(now_ms, new_id(), request.uses_topic_ids, &wanted);
                Ok(FetchContext { partitions: wanted, session: session.map(|session| (session, Kind::Full)) })
            }
            epoch => {
                let session = self.touch(now_ms, request.session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
                let mut locked = session.lock();
                if locked.next_epoch != epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                if locked.uses_topic_ids != request.uses_topic_ids {
                    return Err(ErrorCode::FetchSessionTopicIdError);
                }
                for partition in wanted {
                    locked.want(partition);
                }
                for (topic, partition) in forgotten {
                    locked.forget(topic, *partition);
                }
                locked.next_epoch = next_epoch(epoch);
                let partitions: Vec<_> = locked.partitions.values().map(|cached| cached.wanted.clone()).collect();
                drop(locked);
                if !self.sessions.lock().resize(request.session_id, partitions.len()) {
                    // The client begins anew, without a session.
                    return Err(ErrorCode::FetchSessionIdNotFound);
                }
                Ok(FetchContext { partitions, session: Some((session, Kind::Incremental)) })
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sessions.lock().by_id.len()
    }

    fn create(
        &self,
        now_ms: u64,
        new_id: i32,
        uses_topic_ids: bool,
        wanted: &[FetchPartition],
    ) -> Option<Arc<Mutex<Session>>> {
        assert!(new_id > 0, "a session id is a positive number, not {new_id}");
        let mut sessions = self.sessions.lock();
        if sessions.by_id.contains_key(&new_id) {
            return None;
        }
        if wanted.len() > MAX_PARTITIONS {
            return None;
        }
        while sessions.by_id.len() >= self.slots || sessions.partitions + wanted.len() > MAX_PARTITIONS {
            let &(last_used_ms, oldest) = sessions.by_last_use.first()?;
            if now_ms.saturating_sub(last_used_ms) < EVICTION_MS {
                return None;
            }
            sessions.remove(oldest);
        }
        let mut session = Session {
            id: new_id,
            next_epoch: next_epoch(INITIAL_EPOCH),
            uses_topic_ids,
            partitions: BTreeMap::new(),
            order: HashMap::new(),
            next_order: 0,
        };
        for partition in wanted {
            session.want(partition.clone());
        }
        let partitions = session.partitions.len();
        sessions.partitions += partitions;
        let session = Arc::new(Mutex::new(session));
        sessions.by_id.insert(new_id, Slot { session: Arc::clone(&session), last_used_ms: now_ms, partitions });
        sessions.by_last_use.insert((now_ms, new_id));
        Some(session)
    }

    fn touch(&self, now_ms: u64, id: i32) -> Option<Arc<Mutex<Session>>> {
        let mut sessions = self.sessions.lock();
        let slot = sessions.by_id.get_mut(&id)?;
        let before = std::mem::replace(&mut slot.last_used_ms, now_ms);
        let session = Arc::clone(&slot.session);
        sessions.by_last_use.remove(&(before, id));
        sessions.by_last_use.insert((now_ms, id));
        Some(session)
    }

    fn remove(&self, id: i32) {
        if id != 0 {
            self.sessions.lock().remove(id);
        }
    }
}

impl Sessions {
    fn remove(&mut self, id: i32) {
        if let Some(slot) = self.by_id.remove(&id) {
            self.by_last_use.remove(&(slot.last_used_ms, id));
            self.partitions -= slot.partitions;
        }
    }

    /// A session has this many partitions now. One that makes them too many together ends: then this is false.
    fn resize(&mut self, id: i32, partitions: usize) -> bool {
        // It may have ended meanwhile; whoever holds it still serves this request.
        let Some(slot) = self.by_id.get_mut(&id) else { return true };
        let before = std::mem::replace(&mut slot.partitions, partitions);
        self.partitions = self.partitions - before + partitions;
        let fits = self.partitions <= MAX_PARTITIONS || partitions <= before;
        if !fits {
            self.remove(id);
        }
        fits
    }
}

impl Session {
    fn want(&mut self, wanted: FetchPartition) {
        let key = (wanted.topic.clone(), wanted.partition);
        if let Some(cached) = self.order.get(&key).and_then(|order| self.partitions.get_mut(order)) {
            cached.wanted = wanted;
            return;
        }
        self.order.insert(key, self.next_order);
        self.partitions.insert(self.next_order, Cached { wanted, told: None });
        self.next_order += 1;
    }

    fn forget(&mut self, topic: &TopicKey, partition: i32) {
        if let Some(order) = self.order.remove(&(topic.clone(), partition)) {
            self.partitions.remove(&order);
        }
    }

    /// Remembers an answer; says whether it is news.
    fn answer(&mut self, topic: &TopicKey, partition: i32, answered: Answered) -> bool {
        let key = (topic.clone(), partition);
        let Some(&order) = self.order.get(&key) else { return true };
        let Some(cached) = self.partitions.get_mut(&order) else { return true };
        let news = answered.has_records || answered.has_error || cached.told != Some(answered.told);
        // An error is told again and again until it is gone, and what follows it is news.
        cached.told = (!answered.has_error).then_some(answered.told);
        if answered.has_records
            && let Some(cached) = self.partitions.remove(&order)
        {
            self.order.insert(key, self.next_order);
            self.partitions.insert(self.next_order, cached);
            self.next_order += 1;
        }
        news
    }
}

impl FetchContext {
    /// The session id of the response: 0 without a session.
    pub(crate) fn session_id(&self) -> i32 {
        self.session.as_ref().map_or(0, |(session, _)| session.lock().id)
    }

    /// Remembers the answers, and says for each whether the response must carry it.
    pub(crate) fn finish(&self, answers: &[(TopicKey, i32, Answered)]) -> Vec<bool> {
        let Some((session, kind)) = &self.session else { return vec![true; answers.len()] };
        let mut session = session.lock();
        answers
            .iter()
            .map(|(topic, partition, answered)| session.answer(topic, *partition, *answered) || *kind == Kind::Full)
            .collect()
    }
}

/// Epochs count 1, 2, … and start over at 1; 0 and -1 have a meaning of their own.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(name: &'static str, partition: i32, fetch_offset: i64) -> FetchPartition {
        FetchPartition {
            topic: TopicKey::Name(StrBytes::from(name)),
            partition,
            fetch_offset,
            max_bytes: 1000,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        }
    }

    fn request(session_id: i32, session_epoch: i32) -> SessionRequest {
        SessionRequest { session_id, session_epoch, uses_topic_ids: false }
    }

    fn answered(high_watermark: i64, has_records: bool) -> Answered {
        Answered { told: Told { high_watermark, log_start_offset: 0 }, has_records, has_error: false }
    }

    #[test]
    fn an_incremental_fetch_answers_only_news() {
        let cache = FetchSessionCache::new(10);
        let wanted = vec![partition("a", 0, 0), partition("a", 1, 0)];
        let full = cache.begin(0, || 7, request(0, 0), wanted.clone(), &[]).unwrap();
        assert_eq!(full.session_id(), 7);
        assert_eq!(full.partitions, wanted);
        let answers: Vec<_> =
            wanted.iter().map(|wanted| (wanted.topic.clone(), wanted.partition, answered(5, false))).collect();
        assert_eq!(full.finish(&answers), [true, true]);

        let next = cache.begin(1, || 8, request(7, 1), vec![partition("a", 0, 3)], &[]).unwrap();
        assert_eq!(next.partitions, [partition("a", 0, 3), partition("a", 1, 0)]);
        assert_eq!(next.finish(&answers), [false, false]);
        let records =
            vec![(wanted[0].topic.clone(), 0, answered(5, true)), (wanted[1].topic.clone(), 1, answered(6, false))];
        assert_eq!(next.finish(&records), [true, true]);

        let rotated = cache.begin(2, || 8, request(7, 2), vec![], &[]).unwrap();
        assert_eq!(rotated.partitions, [partition("a", 1, 0), partition("a", 0, 3)], "who got records goes last");
        let forgotten = [(wanted[1].topic.clone(), 1)];
        let fewer = cache.begin(3, || 8, request(7, 3), vec![], &forgotten).unwrap();
        assert_eq!(fewer.partitions, [partition("a", 0, 3)]);
    }

    #[test]
    fn wrong_ids_and_epochs_are_refused() {
        let cache = FetchSessionCache::new(10);
        let error = |request| cache.begin(0, || 9, request, vec![], &[]).map(|_| ()).unwrap_err();
        assert_eq!(error(request(5, 1)), ErrorCode::FetchSessionIdNotFound);
        cache.begin(0, || 5, request(0, 0), vec![partition("a", 0, 0)], &[]).unwrap();
        assert_eq!(error(request(5, 2)), ErrorCode::InvalidFetchSessionEpoch);
        assert_eq!(
            error(SessionRequest { session_id: 5, session_epoch: 1, uses_topic_ids: true }),
            ErrorCode::FetchSessionTopicIdError
        );
        cache.begin(0, || 9, request(5, -1), vec![], &[]).unwrap();
        assert_eq!(error(request(5, 1)), ErrorCode::FetchSessionIdNotFound, "the final epoch ends the session");
    }

    #[test]
    fn a_full_cache_serves_without_a_session_until_one_is_idle() {
        let cache = FetchSessionCache::new(1);
        cache.begin(0, || 1, request(0, 0), vec![], &[]).unwrap();
        assert_eq!(cache.begin(EVICTION_MS - 1, || 2, request(0, 0), vec![], &[]).unwrap().session_id(), 0);
        assert_eq!(cache.begin(EVICTION_MS, || 2, request(0, 0), vec![], &[]).unwrap().session_id(), 2);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn sessions_have_so_many_partitions_together() {
        let cache = FetchSessionCache::new(10);
        let many = |from: i32, count: usize| -> Vec<_> {
            (from..).take(count).map(|number| partition("a", number, 0)).collect()
        };
        let half = MAX_PARTITIONS / 2;
        assert_eq!(cache.begin(0, || 1, request(0, 0), many(0, half), &[]).unwrap().session_id(), 1);
        assert_eq!(cache.begin(0, || 2, request(0, 0), many(0, half), &[]).unwrap().session_id(), 2);
        assert_eq!(cache.begin(0, || 3, request(0, 0), many(0, 1), &[]).unwrap().session_id(), 0, "there is no room");
        let error = cache.begin(0, || 3, request(2, 1), many(half as i32, 1), &[]).map(|_| ()).unwrap_err();
        assert_eq!(error, ErrorCode::FetchSessionIdNotFound, "the one that grew has ended");
        let forgotten = [(partition("a", 0, 0).topic, 0)];
        assert_eq!(cache.begin(0, || 3, request(1, 1), vec![], &forgotten).unwrap().partitions.len(), half - 1);
        assert_eq!(cache.begin(0, || 3, request(0, 0), many(0, half + 1), &[]).unwrap().session_id(), 3);
        assert_eq!(cache.sessions.lock().partitions, MAX_PARTITIONS);
    }

    #[test]
    fn epochs_wrap_to_one() {
        assert_eq!(next_epoch(0), 1);
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
