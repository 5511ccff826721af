//! Random commits, memberships, waits and reloads, against what `offsets.retention.minutes` promises: nothing a live
//! member subscribes to expires, nothing expires early, and what expired is gone for good, groups too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_group::*;
use proptest::prelude::*;

const RETENTION_MS: i64 = 100_000;
const INTERVAL_MS: i64 = 10_000;
const TOPICS: [&str; 3] = ["t", "u", "v"];

#[derive(Clone, Copy, Debug)]
enum Event {
    Commit {
        group: u8,
        topic: u8,
        retention_ms: Option<i64>,
    },
    /// A member that subscribes to the topics of these bits.
    Join {
        group: u8,
        topics: u8,
    },
    Leave {
        group: u8,
    },
    Wait {
        ms: i64,
    },
    Reload,
}

fn event() -> impl Strategy<Value = Event> {
    let group = 0..3_u8;
    prop_oneof![
        8 => (group.clone(), 0..3_u8, proptest::option::weighted(0.2, 1..200_000_i64))
            .prop_map(|(group, topic, retention_ms)| Event::Commit { group, topic, retention_ms }),
        3 => (group.clone(), 0..8_u8).prop_map(|(group, topics)| Event::Join { group, topics }),
        3 => group.prop_map(|group| Event::Leave { group }),
        6 => prop_oneof![1..20_000_i64, 50_000..150_000_i64].prop_map(|ms| Event::Wait { ms }),
        1 => Just(Event::Reload),
    ]
}

/// What the model knows of a group that has had members.
#[derive(Default)]
struct Membership {
    /// The member, and what it subscribes to.
    member: Option<(Arc<str>, BTreeSet<&'static str>)>,
    emptied_ms: i64,
}

struct World {
    coordinator: GroupCoordinator,
    now: Now,
    log: Vec<GroupRecord>,
    groups: BTreeMap<Arc<str>, Membership>,
    token: u64,
}

fn coordinator() -> GroupCoordinator {
    GroupCoordinator::new(GroupSettings {
        offsets_retention_ms: RETENTION_MS,
        offsets_retention_check_interval_ms: INTERVAL_MS,
        initial_rebalance_delay_ms: 0,
        max_session_timeout_ms: i32::MAX,
        ..GroupSettings::default()
    })
}

fn subscription(topics: &BTreeSet<&str>) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

impl World {
    fn new() -> World {
        let mut world = World {
            coordinator: coordinator(),
            now: Now { monotonic_ms: 0, wall_ms: 1_000_000 },
            log: Vec::new(),
            groups: BTreeMap::new(),
            token: 0,
        };
        let outcome = world.coordinator.handle_loaded(world.now);
        world.absorb(outcome);
        world
    }

    fn run(&mut self, event: Event) {
        match event {
            Event::Commit { group, topic, retention_ms } => {
                self.commit(&name(group), TOPICS[topic as usize], retention_ms);
            }
            Event::Join { group, topics } => {
                let topics = TOPICS.into_iter().enumerate().filter(|(bit, _)| topics & (1 << bit) != 0);
                self.join(&name(group), &topics.map(|(_, topic)| topic).collect());
            }
            Event::Leave { group } => self.leave(&name(group)),
            Event::Wait { ms } => self.wait(ms),
            Event::Reload => self.reload(),
        }
        self.coordinator.check_invariants().unwrap();
    }

    fn member(&self, group: &str) -> Option<&(Arc<str>, BTreeSet<&'static str>)> {
        self.groups.get(group)?.member.as_ref()
    }

    fn commit(&mut self, group: &Arc<str>, topic: &str, retention_ms: Option<i64>) {
        let member_id = self.member(group).map(|(member_id, _)| member_id.clone());
        let generation = self.coordinator.group(group).map_or(-1, LiveGroup::generation);
        let request = CommitOffsets {
            group: group.clone(),
            generation: if member_id.is_some() { generation } else { -1 },
            member_id: member_id.unwrap_or_default(),
            group_instance_id: None,
            retention_ms,
            knows_group_id_not_found: true,
            topics: vec![CommitTopic {
                topic: topic.into(),
                topic_id: ottla_types::Uuid::ZERO,
                partitions: vec![CommitPartition { partition: 0, offset: 1, leader_epoch: None, metadata: None }],
            }],
        };
        let outcome = self.coordinator.handle_commit(self.now, request);
        let Response::Now(Ok(answered)) = &outcome.response else { panic!("{outcome:?}") };
        assert_eq!(answered[0].partitions[0].error, None);
        self.absorb(outcome);
    }

    fn join(&mut self, group: &Arc<str>, topics: &BTreeSet<&'static str>) {
        if self.member(group).is_some() {
            return;
        }
        self.token += 1;
        let member_id: Arc<str> = format!("c-{}", self.token).into();
        let request = JoinGroup {
            token: RequestToken(self.token),
            group: group.clone(),
            member_id: "".into(),
            group_instance_id: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: i32::MAX,
            rebalance_timeout_ms: 1_000,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: subscription(topics) }],
            new_member_suffix: self.token.to_string().into(),
            requires_known_member_id: false,
            can_skip_assignment: true,
        };
        let outcome = self.coordinator.handle_join(self.now, request);
        self.groups.entry(group.clone()).or_default().member = Some((member_id.clone(), topics.clone()));
        self.absorb(outcome);
        self.fire();
        let live = self.coordinator.group(group).unwrap();
        let request = SyncGroup {
            token: RequestToken(0),
            group: group.clone(),
            generation: live.generation(),
            member_id,
            group_instance_id: None,
            protocol_type: None,
            protocol_name: None,
            assignments: Vec::new(),
        };
        let outcome = self.coordinator.handle_sync(self.now, request);
        self.absorb(outcome);
        assert_eq!(self.coordinator.group(group).unwrap().state(), GroupState::Stable);
    }

    fn leave(&mut self, group: &Arc<str>) {
        let Some((member_id, _)) = self.groups.get_mut(group).and_then(|known| known.member.take()) else { return };
        let members = vec![LeavingMember { member_id, group_instance_id: None }];
        let outcome = self.coordinator.handle_leave(self.now, LeaveGroup { group: group.clone(), members });
        self.groups.entry(group.clone()).or_default().emptied_ms = self.now.wall_ms;
        self.absorb(outcome);
        self.fire();
        assert_eq!(self.coordinator.group(group).unwrap().state(), GroupState::Empty);
    }

    fn wait(&mut self, ms: i64) {
        let end = self.now.monotonic_ms + ms;
        while let Some(deadline) = self.coordinator.next_deadline_ms().filter(|deadline| *deadline <= end) {
            let passed = (deadline - self.now.monotonic_ms).max(0);
            self.now.monotonic_ms += passed;
            self.now.wall_ms += passed;
            self.fire();
        }
        self.now.wall_ms += end - self.now.monotonic_ms;
        self.now.monotonic_ms = end;
    }

    fn fire(&mut self) {
        while let Some(outcome) = self.coordinator.handle_due_timer(self.now) {
            self.absorb(outcome);
        }
    }

    /// What is loaded is what was there: nothing that expired comes back.
    fn reload(&mut self) {
        let before = self.coordinator.hard_state().clone();
        self.coordinator = coordinator();
        for record in self.log.clone() {
            self.coordinator.replay(self.now, record);
        }
        assert_eq!(*self.coordinator.hard_state(), before);
        let outcome = self.coordinator.handle_loaded(self.now);
        self.absorb(outcome);
    }

    fn absorb<R>(&mut self, outcome: Outcome<R>) {
        for record in outcome.records {
            self.judge(&record);
            self.log.push(record.clone());
            self.coordinator.replay(self.now, record);
        }
        if let Some(continuation) = outcome.stored {
            let outcome = self.coordinator.handle_stored(self.now, continuation, Ok(()));
            self.absorb(outcome);
        }
    }

    /// Only what has had its time, and nobody needs, is deleted.
    fn judge(&self, record: &GroupRecord) {
        match record {
            GroupRecord::OffsetCommit { group, topic, partition, value: None } => {
                let hard = self.coordinator.hard_state();
                let offset = hard.offset(group, topic, *partition).expect("what is deleted was there");
                let known = self.groups.get(group);
                if let Some((_, topics)) = self.member(group) {
                    assert!(!topics.contains(&**topic), "{group} subscribes to {topic}");
                }
                let since_ms = match known {
                    Some(Membership { member: None, emptied_ms }) => *emptied_ms,
                    _ => offset.commit_timestamp_ms,
                };
                let due_ms = offset.expire_timestamp_ms.unwrap_or(since_ms + RETENTION_MS);
                assert!(self.now.wall_ms >= due_ms, "{group} {topic}: {} ms early", due_ms - self.now.wall_ms);
            }
            GroupRecord::GroupMetadata { group, value: None } => {
                assert!(self.member(group).is_none(), "{group} has a member");
                assert!(!self.coordinator.hard_state().offsets.contains_key(group), "{group} has offsets");
            }
            _ => {}
        }
    }

    /// Whether a deleted group is forgotten by the model too: it would begin anew.
    fn forget_deleted(&mut self) {
        let coordinator = &self.coordinator;
        self.groups.retain(|group, known| known.member.is_some() || coordinator.group(group).is_some());
    }

    /// With nobody there any more, everything goes in one retention and a check.
    fn settle(&mut self) {
        for group in 0..3 {
            self.leave(&name(group));
        }
        let last = self.coordinator.hard_state().offsets.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values);
        let last = last.filter_map(|offset| offset.expire_timestamp_ms).max().unwrap_or(0) - self.now.wall_ms;
        self.wait(last.max(RETENTION_MS) + 2 * INTERVAL_MS);
        assert_eq!(*self.coordinator.hard_state(), HardState::default());
        assert!(self.coordinator.handle_list(&[]).is_empty());
        self.reload();
        assert!(self.coordinator.handle_list(&[]).is_empty());
    }
}

fn name(group: u8) -> Arc<str> {
    format!("g{group}").into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_expires_has_had_its_time(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in events {
            world.run(event);
            world.forget_deleted();
        }
        world.settle();
    }
}
