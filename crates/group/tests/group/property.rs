//! Random requests, deadlines, failures and crashes, against what must always hold.
//!
//! The model is small: for each generation it remembers who was told what (the leader, the members the leader saw, what
//! the leader then assigned), and it counts the parked requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_group::*;
use proptest::prelude::*;

const GROUP: &str = "g";

/// What happens next. Members are picked by index among those known so far.
#[derive(Clone, Copy, Debug)]
enum Event {
    JoinNew {
        known_id: bool,
        instance: Option<u8>,
        protocols: u8,
    },
    Rejoin {
        member: usize,
        protocols: u8,
    },
    Sync {
        member: usize,
        generation_offset: i32,
    },
    Heartbeat {
        member: usize,
    },
    Leave {
        member: usize,
    },
    Commit {
        member: usize,
    },
    Advance {
        ms: i64,
    },
    /// The oldest records waiting to be stored are, or are not.
    Stored {
        ok: bool,
    },
    /// The next records are not appended.
    Full,
    Crash,
    Unload,
}

fn event() -> impl Strategy<Value = Event> {
    let member = 0..12_usize;
    prop_oneof![
        6 => (any::<bool>(), proptest::option::weighted(0.4, 0..3_u8), 1..8_u8)
            .prop_map(|(known_id, instance, protocols)| Event::JoinNew { known_id, instance, protocols }),
        10 => (member.clone(), 1..8_u8).prop_map(|(member, protocols)| Event::Rejoin { member, protocols }),
        14 => (member.clone(), prop_oneof![9 => Just(0), 1 => -1..2]).prop_map(|(member, generation_offset)| Event::Sync { member, generation_offset }),
        6 => member.clone().prop_map(|member| Event::Heartbeat { member }),
        2 => member.clone().prop_map(|member| Event::Leave { member }),
        3 => member.prop_map(|member| Event::Commit { member }),
        8 => prop_oneof![1..200_i64, 1_000..20_000_i64, 100_000..400_000_i64].prop_map(|ms| Event::Advance { ms }),
        8 => prop::bool::weighted(0.8).prop_map(|ok| Event::Stored { ok }),
        1 => Just(Event::Full),
        1 => Just(Event::Crash),
        1 => Just(Event::Unload),
    ]
}

/// What the members of one generation were told.
#[derive(Default)]
struct Generation {
    leader: Option<Arc<str>>,
    /// By member id, what the leader assigned; set when it sent SyncGroup.
    assigned: Option<BTreeMap<Arc<str>, Bytes>>,
}

struct World {
    settings: GroupSettings,
    coordinator: GroupCoordinator,
    now: Now,
    log: Vec<GroupRecord>,
    full: bool,
    lost_records: bool,
    next_token: u64,
    joins: BTreeSet<RequestToken>,
    syncs: BTreeMap<RequestToken, (Arc<str>, i32)>,
    in_flight: Vec<Continuation>,
    /// Member ids seen in answers, with the instance they belong to.
    known: Vec<(Arc<str>, Option<Arc<str>>)>,
    generations: BTreeMap<i32, Generation>,
    highest_generation: i32,
}

impl World {
    fn new() -> Self {
        let settings = GroupSettings { max_size: 5, ..GroupSettings::default() };
        let mut world = Self {
            coordinator: GroupCoordinator::new(settings.clone()),
            settings,
            now: Now { monotonic_ms: 0, wall_ms: 0 },
            log: Vec::new(),
            full: false,
            lost_records: false,
            next_token: 0,
            joins: BTreeSet::new(),
            syncs: BTreeMap::new(),
            in_flight: Vec::new(),
            known: Vec::new(),
            generations: BTreeMap::new(),
            highest_generation: 0,
        };
        world.load();
        world
    }

    fn load(&mut self) {
        self.coordinator = GroupCoordinator::new(self.settings.clone());
        self.joins.clear();
        self.syncs.clear();
        self.in_flight.clear();
        for record in self.log.clone() {
            self.coordinator.replay(self.now, record);
        }
        let outcome = self.coordinator.handle_loaded(self.now);
        // Generations that were never recorded are begun again, perhaps by others.
        let recorded = self.coordinator.group(GROUP).map_or(0, LiveGroup::generation);
        self.generations.retain(|generation, _| *generation <= recorded);
        self.highest_generation = recorded;
        self.absorb(outcome, no_answer);
    }

    fn token(&mut self) -> RequestToken {
        self.next_token += 1;
        RequestToken(self.next_token)
    }

    fn run(&mut self, event: Event) {
        match event {
            Event::JoinNew { known_id, instance, protocols } => {
                self.join(None, instance.map(|one| format!("i{one}").into()), protocols, known_id);
            }
            Event::Rejoin { member, protocols } => {
                if let Some((member_id, instance)) = self.pick(member) {
                    self.join(Some(member_id), instance, protocols, true);
                }
            }
            Event::Sync { member, generation_offset } => self.sync(member, generation_offset),
            Event::Heartbeat { member } => {
                if let Some((member_id, group_instance_id)) = self.pick(member) {
                    let generation = self.highest_generation;
                    let request = Heartbeat { group: GROUP.into(), generation, member_id, group_instance_id };
                    let _either = self.coordinator.handle_heartbeat(self.now, &request);
                }
            }
            Event::Leave { member } => {
                if let Some((member_id, group_instance_id)) = self.pick(member) {
                    let members = vec![LeavingMember { member_id, group_instance_id }];
                    let outcome = self.coordinator.handle_leave(self.now, LeaveGroup { group: GROUP.into(), members });
                    self.absorb(outcome, |_, _| ());
                }
            }
            Event::Commit { member } => self.commit(member),
            Event::Advance { ms } => self.advance(ms),
            Event::Stored { ok } => {
                if !self.in_flight.is_empty() {
                    let continuation = self.in_flight.remove(0);
                    let result = if ok { Ok(()) } else { Err(StoreFailure::Unavailable) };
                    let outcome = self.coordinator.handle_stored(self.now, continuation, result);
                    self.absorb(outcome, no_answer);
                }
            }
            Event::Full => self.full = true,
            Event::Crash => self.load(),
            Event::Unload => {
                for released in self.coordinator.handle_unload() {
                    self.released(released);
                }
                assert!(self.joins.is_empty() && self.syncs.is_empty(), "unloading answers everybody");
                self.load();
            }
        }
        self.check();
    }

    fn pick(&self, index: usize) -> Option<(Arc<str>, Option<Arc<str>>)> {
        // The latest are the most interesting.
        let index = index.min(self.known.len().checked_sub(1)?);
        self.known.iter().rev().nth(index).cloned()
    }

    fn join(
        &mut self,
        member_id: Option<Arc<str>>,
        group_instance_id: Option<Arc<str>>,
        protocols: u8,
        known_id: bool,
    ) {
        let token = self.token();
        let names = ["x", "y", "z"].iter().enumerate().filter(|(bit, _)| protocols & (1 << bit) != 0);
        let instance = group_instance_id.clone();
        let request = JoinGroup {
            token,
            group: GROUP.into(),
            member_id: member_id.unwrap_or_default(),
            group_instance_id,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 30_000,
            protocol_type: "consumer".into(),
            protocols: names.map(|(_, name)| Protocol { name: (*name).into(), metadata: Bytes::new() }).collect(),
            new_member_suffix: token.0.to_string().into(),
            requires_known_member_id: known_id,
            can_skip_assignment: true,
        };
        self.joins.insert(token);
        let outcome = self.coordinator.handle_join(self.now, request);
        let parked = outcome.response == Response::Parked;
        if parked {
            let id: Arc<str> = format!("{}-{}", instance.as_deref().unwrap_or("c"), token.0).into();
            self.known.push((id, instance.clone()));
        }
        self.absorb(outcome, move |world, response| {
            if let Err(JoinRefused { error: GroupError::MemberIdRequired, member_id }) = &response {
                world.known.push((member_id.clone(), instance));
            }
            world.released(Released { token, response: ReleasedResponse::Join(response) });
        });
    }

    fn sync(&mut self, member: usize, generation_offset: i32) {
        let Some((member_id, group_instance_id)) = self.pick(member) else { return };
        let token = self.token();
        let generation = self.highest_generation + generation_offset;
        let live = self.coordinator.group(GROUP);
        let leads = live.is_some_and(|live| live.leader() == Some(&member_id));
        let assignments: Vec<(Arc<str>, Bytes)> = match live {
            Some(live) if leads => live
                .members()
                .map(|one| (one.member_id.clone(), format!("{}@{generation}#{}", one.member_id, token.0).into()))
                .collect(),
            _ => Vec::new(),
        };
        self.syncs.insert(token, (member_id.clone(), generation));
        let request = SyncGroup {
            token,
            group: GROUP.into(),
            generation,
            member_id,
            group_instance_id,
            protocol_type: Some("consumer".into()),
            protocol_name: None,
            assignments: assignments.clone(),
        };
        let outcome = self.coordinator.handle_sync(self.now, request);
        if outcome.stored.is_some() {
            let told = self.generations.entry(generation).or_default();
            // The leader may say it again before the first is stored; members get the first that is.
            told.assigned.get_or_insert_with(BTreeMap::new).extend(assignments);
        }
        self.absorb(outcome, move |world, response| {
            world.released(Released { token, response: ReleasedResponse::Sync(response) });
        });
    }

    fn commit(&mut self, member: usize) {
        let Some((member_id, group_instance_id)) = self.pick(member) else { return };
        let request = CommitOffsets {
            group: GROUP.into(),
            generation: self.highest_generation,
            member_id,
            group_instance_id,
            retention_ms: None,
            knows_group_id_not_found: true,
            topics: vec![CommitTopic {
                topic: "t".into(),
                topic_id: ottla_types::Uuid::ZERO,
                partitions: vec![CommitPartition { partition: 0, offset: 1, leader_epoch: None, metadata: None }],
            }],
        };
        let outcome = self.coordinator.handle_commit(self.now, request);
        self.absorb(outcome, |_, _| ());
    }

    fn advance(&mut self, ms: i64) {
        let end = self.now.monotonic_ms + ms;
        while let Some(deadline) = self.coordinator.next_deadline_ms().filter(|deadline| *deadline <= end) {
            self.now.monotonic_ms = self.now.monotonic_ms.max(deadline);
            self.now.wall_ms = self.now.monotonic_ms;
            while let Some(outcome) = self.coordinator.handle_due_timer(self.now) {
                self.absorb(outcome, no_answer);
            }
        }
        self.now = Now { monotonic_ms: end, wall_ms: end };
    }

    fn absorb<R>(&mut self, outcome: Outcome<R>, answer: impl FnOnce(&mut World, R)) {
        for released in outcome.released {
            self.released(released);
        }
        let failed = self.full && !outcome.records.is_empty();
        if failed {
            self.full = false;
            self.lost_records = true;
        } else {
            for record in outcome.records {
                self.log.push(record.clone());
                self.coordinator.replay(self.now, record);
            }
            self.in_flight.extend(outcome.stored.clone());
        }
        // The shell answers a request whose records were not appended with an error, which the model need not know.
        if let Response::Now(response) = outcome.response {
            answer(self, response);
        }
        if let Some(continuation) = outcome.stored.filter(|_| failed) {
            let outcome = self.coordinator.handle_stored(self.now, continuation, Err(StoreFailure::Unavailable));
            self.absorb(outcome, no_answer);
        }
        self.check();
    }

    fn released(&mut self, released: Released) {
        let token = released.token;
        match released.response {
            ReleasedResponse::Join(response) => {
                assert!(self.joins.remove(&token), "{token:?} was not waiting, or was answered twice");
                let Ok(joined) = response else { return };
                assert!(joined.generation >= self.highest_generation, "generations never go back");
                self.highest_generation = joined.generation;
                let told = self.generations.entry(joined.generation).or_default();
                if let Some(leader) = &told.leader {
                    // Only a static member's restart changes the leader of a generation, and then its id.
                    let renamed =
                        leader.starts_with('i') && leader.split('-').next() == joined.leader.split('-').next();
                    assert!(
                        *leader == joined.leader || renamed,
                        "one leader per generation: {leader} and {}",
                        joined.leader
                    );
                }
                told.leader = Some(joined.leader.clone());
                if joined.leader == joined.member_id {
                    assert!(
                        joined.members.iter().any(|member| member.member_id == joined.member_id),
                        "the leader sees itself"
                    );
                    assert!(joined.members.len() <= 5, "the group has at most as many members as it may");
                } else {
                    assert!(joined.members.is_empty(), "only the leader sees the members");
                }
            }
            ReleasedResponse::Sync(response) => {
                let (member_id, generation) =
                    self.syncs.remove(&token).expect("was not waiting, or was answered twice");
                let Ok(synced) = response else { return };
                let told =
                    self.generations.get(&generation).expect("an assignment is of a generation that was announced");
                let assigned = told.assigned.as_ref().expect("an assignment is what a leader sent");
                if !synced.assignment.is_empty() {
                    let text = std::str::from_utf8(&synced.assignment).unwrap();
                    let (owner, rest) = text.split_once('@').unwrap();
                    // A static member keeps what its former self was assigned.
                    assert!(
                        *owner == *member_id || owner.split('-').next() == member_id.split('-').next(),
                        "{owner} is not {member_id}"
                    );
                    assert!(assigned.keys().any(|one| **one == *owner), "the leader assigned it");
                    assert_eq!(rest.split('#').next().unwrap(), generation.to_string(), "it is of this generation");
                }
            }
        }
    }

    fn check(&mut self) {
        self.coordinator.check_invariants().unwrap();
        if self.coordinator.group(GROUP).is_none() {
            // A group that comes after this one begins anew.
            self.generations.clear();
            self.highest_generation = 0;
        }
    }

    /// With nobody asking for anything any more, everybody gets an answer.
    fn settle(&mut self) {
        for _ in 0..100 {
            while !self.in_flight.is_empty() {
                self.run(Event::Stored { ok: true });
            }
            if self.joins.is_empty() && self.syncs.is_empty() {
                break;
            }
            self.advance(30_000);
        }
        assert!(self.joins.is_empty(), "still waiting: {:?}", self.joins);
        assert!(self.syncs.is_empty(), "still waiting: {:?}", self.syncs);
        // And every member is silent now, so the group empties.
        for _ in 0..10 {
            self.advance(300_000);
            while !self.in_flight.is_empty() {
                self.run(Event::Stored { ok: true });
            }
        }
        if let Some(group) = self.coordinator.group(GROUP) {
            assert_eq!(group.state(), GroupState::Empty);
            assert!(group.pending_members().is_empty());
        }
        if self.lost_records {
            return;
        }
        // What was recorded is what is.
        let described = self.coordinator.handle_describe(&GROUP.into());
        self.load();
        assert_eq!(self.coordinator.handle_describe(&GROUP.into()), described);
    }
}

fn no_answer(_: &mut World, (): ()) {}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for event in events {
            world.run(event);
        }
        world.settle();
    }
}
