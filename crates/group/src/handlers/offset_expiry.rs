//! Offsets nobody needs any more (`offsets.retention.minutes`, KIP-211), and groups that have none left.

use std::sync::Arc;

use ottla_types::TopicId;

use crate::coordinator::GroupCoordinator;
use crate::group::{GroupState, LiveGroup};
use crate::hard::OffsetAndMetadata;
use crate::outcome::{Effects, Now, Outcome, Response};
use crate::record::GroupRecord;
use crate::timers::TimerKey;

/// The most tombstones one pass writes, so that other requests get their turn.
const TOMBSTONES_PER_PASS: usize = 1_000;

/// How soon the next pass follows one that was full. Not at once: a partition that takes no records would be asked in a
/// tight loop.
const NEXT_PASS_MS: i64 = 50;

impl GroupCoordinator {
    /// Tombstones for what was committed for a topic that is gone, a bounded number at a time: to be
    /// called until there are none, which it answers. An offset known to be for another topic of that name stays.
    pub fn handle_topic_deleted(&self, topic: &Arc<str>, topic_id: TopicId) -> Outcome<bool> {
        let mut effects = Effects::divisible();
        let is_gone = |value: &OffsetAndMetadata| value.topic_id.is_zero() || value.topic_id == topic_id;
        for (group, topics) in &self.hard.offsets {
            let left = TOMBSTONES_PER_PASS - effects.records.len();
            let offsets = topics.get(topic).into_iter().flatten();
            let gone = offsets.filter(|(_, value)| is_gone(value));
            effects.records.extend(gone.take(left).map(|(&partition, _)| tombstone(group, topic, partition)));
            if effects.records.len() == TOMBSTONES_PER_PASS {
                break;
            }
        }
        let left = TOMBSTONES_PER_PASS - effects.records.len();
        let pending = self.hard.transactional.of_topic(topic, is_gone);
        let pending = pending
            .filter(|(group, partition)| !self.hard.offset(group, topic, *partition).is_some_and(is_gone))
            .map(|(group, partition)| tombstone(group, topic, partition));
        effects.records.extend(pending.take(left));
        let nothing_left = effects.records.is_empty();
        effects.with(Response::Now(nothing_left))
    }

    pub(super) fn expire_offsets(&mut self, now: Now, effects: &mut Effects) {
        let start = self.expiry_cursor.take().unwrap_or_default();
        let mut resume_at = None;
        for (group, live) in self.groups.range::<Arc<str>, _>(start..) {
            if effects.records.len() >= TOMBSTONES_PER_PASS {
                resume_at = Some(group.clone());
                break;
            }
            let Some(all_expired) = self.expire_group(now, live, effects) else {
                resume_at = Some(group.clone());
                break;
            };
            if all_expired && live.state == GroupState::Empty && live.pending_members.is_empty() {
                effects.records.push(GroupRecord::GroupMetadata { group: group.clone(), value: None });
            }
        }
        if resume_at.is_some() {
            self.timers.schedule(TimerKey::OffsetExpiry, now.monotonic_ms + NEXT_PASS_MS);
        } else {
            self.schedule_offset_expiry(now);
        }
        self.expiry_cursor = resume_at;
    }

    /// Adds tombstones for the group's expired offsets. Whether nothing else is left; `None` when the pass is full.
    fn expire_group(&self, now: Now, live: &LiveGroup, effects: &mut Effects) -> Option<bool> {
        let Some(topics) = self.hard.offsets.get(&live.group) else {
            return Some(!self.hard.transactional.contains_group(&live.group));
        };
        let Some(retention) = retention_starts(live) else { return Some(false) };
        let mut all_expired = true;
        for (topic, partitions) in topics {
            if live.is_subscribed_to(topic) {
                all_expired = false;
                continue;
            }
            for (&partition, value) in partitions {
                let pending = self.hard.transactional.is_unstable(&live.group, topic, partition);
                if pending || !is_expired(value, retention, now.wall_ms, self.settings.offsets_retention_ms) {
                    all_expired = false;
                } else if effects.records.len() < TOMBSTONES_PER_PASS {
                    effects.records.push(tombstone(&live.group, topic, partition));
                } else {
                    return None;
                }
            }
        }
        Some(all_expired && !self.hard.transactional.contains_group(&live.group))
    }
}

/// From when on an offset's retention counts.
#[derive(Clone, Copy)]
enum RetentionStart {
    Commit,
    /// When the group became empty.
    At(i64),
}

/// `None` while nothing of the group may expire: it has members, and what they subscribe to is not known.
fn retention_starts(live: &LiveGroup) -> Option<RetentionStart> {
    if live.protocol_type.is_none() {
        return Some(RetentionStart::Commit);
    }
    match live.state {
        GroupState::Empty => Some(live.state_timestamp_ms.map_or(RetentionStart::Commit, RetentionStart::At)),
        GroupState::Stable if live.uses_consumer_protocol() && live.subscribed_topics.is_some() => {
            Some(RetentionStart::Commit)
        }
        _ => None,
    }
}

fn is_expired(value: &OffsetAndMetadata, retention: RetentionStart, wall_ms: i64, retention_ms: i64) -> bool {
    if let Some(expire_timestamp_ms) = value.expire_timestamp_ms {
        return wall_ms >= expire_timestamp_ms;
    }
    let start_ms = match retention {
        RetentionStart::Commit => value.commit_timestamp_ms,
        RetentionStart::At(ms) => ms,
    };
    wall_ms.saturating_sub(start_ms) >= retention_ms
}

fn tombstone(group: &Arc<str>, topic: &Arc<str>, partition: i32) -> GroupRecord {
    GroupRecord::OffsetCommit { group: group.clone(), topic: topic.clone(), partition, value: None }
}
