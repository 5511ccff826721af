//! Kafka's `sticky`: as balanced as can be, and of all such assignments one that moves few partitions.
//!
//! Where all members want the same topics, everybody gets their even share of what they have, and the rest goes round.
//! Otherwise see `sticky_general`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ottla_protocol::{DecodeError, Decoder, Encoder};
use ottla_types::TopicPartition;
use parking_lot::Mutex;

use super::sticky_general::assign_generally;
use super::{GroupAssignment, GroupSubscription, PartitionAssignor, nothing_for, partitions_of};

/// "No generation", which is older than any.
pub(super) const NO_GENERATION: i32 = -1;

#[derive(Debug, Default)]
pub struct StickyAssignor {
    /// What this member got last, and in which generation.
    own: Mutex<Option<(Vec<TopicPartition>, i32)>>,
}

impl PartitionAssignor for StickyAssignor {
    fn name(&self) -> &'static str {
        "sticky"
    }

    fn subscription_user_data(&self) -> Option<Bytes> {
        let own = self.own.lock();
        let (partitions, generation_id) = own.as_ref()?;
        written(partitions, *generation_id)
    }

    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &BTreeMap<String, GroupSubscription>,
    ) -> GroupAssignment {
        let data = members.iter().map(|(member, subscription)| (member.clone(), read(subscription))).collect();
        assign_sticky(partitions, members, &data).0
    }

    fn on_assignment(&self, partitions: &[TopicPartition], generation_id: i32) {
        *self.own.lock() = Some((partitions.to_vec(), generation_id));
    }
}

/// What a member had, and in which generation.
#[derive(Clone, Debug, Default)]
pub(super) struct MemberData {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) generation_id: Option<i32>,
}

/// A sticky member says what it has in its user data, since it gives all of it up before it joins.
fn written(partitions: &[TopicPartition], generation_id: i32) -> Option<Bytes> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let mut output = Encoder::new();
    output.int32(i32::try_from(topics.len()).ok()?);
    for (topic, partitions) in topics {
        output.string(false, topic).ok()?;
        output.int32(i32::try_from(partitions.len()).ok()?);
        for partition in partitions {
            output.int32(partition);
        }
    }
    output.int32(generation_id);
    output.finish_contiguous().ok()
}

fn read(subscription: &GroupSubscription) -> MemberData {
    let Some(data) = subscription.user_data.clone().filter(|data| !data.is_empty()) else {
        return MemberData::default();
    };
    // What cannot be read is as if there were nothing.
    read_user_data(data).unwrap_or(MemberData { partitions: Vec::new(), generation_id: Some(NO_GENERATION) })
}

fn read_user_data(data: Bytes) -> Result<MemberData, DecodeError> {
    let mut input = Decoder::new(data);
    let topics = input.array(false, |input| {
        let topic: std::sync::Arc<str> = std::sync::Arc::from(input.string(false)?.as_str());
        let partitions = input.array(false, Decoder::int32)?;
        Ok((topic, partitions))
    })?;
    // The first version had no generation.
    let generation_id = if input.remaining() == 0 { None } else { Some(input.int32()?) };
    let partitions = topics.into_iter().flat_map(|(topic, partitions)| {
        partitions.into_iter().map(move |partition| TopicPartition::new(std::sync::Arc::clone(&topic), partition))
    });
    Ok(MemberData { partitions: partitions.collect(), generation_id })
}

/// Partitions that go from one member to another, with who gets them.
pub(super) type Moving = BTreeMap<TopicPartition, String>;

/// The assignment, and what moves with it if that is known.
pub(super) fn assign_sticky(
    partitions: &BTreeMap<String, i32>,
    members: &BTreeMap<String, GroupSubscription>,
    data: &BTreeMap<String, MemberData>,
) -> (GroupAssignment, Option<Moving>) {
    if members.is_empty() {
        return (GroupAssignment::new(), Some(Moving::new()));
    }
    let owned = Owned::of(partitions, data);
    let mut subscriptions = members.values().map(|member| member.topics.iter().collect::<BTreeSet<&String>>());
    let first = subscriptions.next().unwrap_or_default();
    if subscriptions.all(|other| other == first) {
        let wanted = partitions.iter().filter(|(topic, _)| first.contains(topic));
        let wanted = wanted.map(|(topic, &count)| (topic.clone(), count)).collect();
        let (assigned, moving) = Shares::new(&wanted, members, owned.contested).assign(&wanted, owned.by_member);
        (assigned, Some(moving))
    } else {
        (assign_generally(partitions, members, data, owned.by_member), None)
    }
}

/// What members say they have, where that is not contradicted.
struct Owned {
    by_member: GroupAssignment,
    /// What two of the same generation say they have.
    contested: BTreeSet<TopicPartition>,
}

impl Owned {
    fn of(partitions: &BTreeMap<String, i32>, data: &BTreeMap<String, MemberData>) -> Owned {
        let mut owned = Owned {
            by_member: data.keys().map(|member| (member.clone(), Vec::new())).collect(),
            contested: BTreeSet::new(),
        };
        let mut owners: BTreeMap<&TopicPartition, (&String, i32)> = BTreeMap::new();
        for (member, said) in data {
            let generation_id = said.generation_id.unwrap_or(NO_GENERATION);
            for partition in &said.partitions {
                // What does not exist cannot be had.
                if partitions.get(&*partition.topic).is_none_or(|count| !(0..*count).contains(&partition.partition)) {
                    continue;
                }
                match owners.get(partition).copied() {
                    Some((_, others)) if generation_id < others => continue,
                    Some((other, others)) => {
                        owned.by_member.entry(other.clone()).or_default().retain(|own| own != partition);
                        if generation_id == others {
                            owned.contested.insert(partition.clone());
                            owners.insert(partition, (member, generation_id));
                            continue;
                        }
                    }
                    None => {}
                }
                owned.by_member.entry(member.clone()).or_default().push(partition.clone());
                owners.insert(partition, (member, generation_id));
            }
        }
        owned
    }
}

/// Even shares, for members that all want the same.
struct Shares {
    least: usize,
    most: usize,
    /// How many members get one more than the others.
    larger: usize,
    larger_so_far: usize,
    assigned: GroupAssignment,
    /// Members with less than the smaller share.
    wanting: VecDeque<String>,
    /// Members with exactly that, who may get one more.
    content: VecDeque<String>,
    /// What members have to give up.
    given_up: BTreeMap<TopicPartition, String>,
    contested: BTreeSet<TopicPartition>,
    moving: Moving,
}

impl Shares {
    fn new(
        partitions: &BTreeMap<String, i32>,
        members: &BTreeMap<String, GroupSubscription>,
        contested: BTreeSet<TopicPartition>,
    ) -> Shares {
        let total: usize = partitions.values().map(|&count| usize::try_from(count).unwrap_or_default()).sum();
        Shares {
            least: total / members.len(),
            most: total.div_ceil(members.len()),
            larger: total % members.len(),
            larger_so_far: 0,
            assigned: nothing_for(members),
            wanting: VecDeque::new(),
            content: VecDeque::new(),
            given_up: BTreeMap::new(),
            contested,
            moving: Moving::new(),
        }
    }

    fn assign(mut self, partitions: &BTreeMap<String, i32>, owned: GroupAssignment) -> (GroupAssignment, Moving) {
        for (member, partitions) in owned {
            self.keep(member, partitions);
        }
        let taken: BTreeSet<&TopicPartition> = self.assigned.values().flatten().collect();
        let all = partitions.iter().flat_map(|(topic, &count)| partitions_of(topic, count));
        let rest: Vec<TopicPartition> = all.filter(|partition| !taken.contains(partition)).collect();
        self.wanting.make_contiguous().sort();
        self.content.make_contiguous().sort();
        self.go_round(rest);
        (self.assigned, self.moving)
    }

    /// Lets a member keep its share of what it has.
    fn keep(&mut self, member: String, mut partitions: Vec<TopicPartition>) {
        partitions.retain(|partition| !self.contested.contains(partition));
        partitions.sort_by(|one, other| (one.partition, &one.topic).cmp(&(other.partition, &other.topic)));
        if partitions.len() < self.least {
            self.assigned.insert(member.clone(), partitions);
            self.wanting.push_back(member);
            return;
        }
        let larger = partitions.len() >= self.most && self.larger_so_far < self.larger;
        let rest = partitions.split_off(if larger { self.most } else { self.least });
        self.given_up.extend(rest.into_iter().map(|partition| (partition, member.clone())));
        self.assigned.insert(member.clone(), partitions);
        if larger {
            self.larger_so_far += 1;
            if self.larger_so_far == self.larger {
                self.content.clear();
            }
        } else if self.larger_so_far < self.larger {
            self.content.push_back(member);
        }
    }

    /// Gives one partition after the other to the next one who wants, and to those who may have more when nobody does.
    fn go_round(&mut self, rest: Vec<TopicPartition>) {
        let mut turn = 0;
        for partition in rest {
            if turn >= self.wanting.len() {
                turn = 0;
            }
            let (member, wanted) = match self.wanting.get(turn) {
                Some(member) => (member.clone(), true),
                None => match self.content.pop_front() {
                    Some(member) => (member, false),
                    // The shares add up to all partitions.
                    None => return,
                },
            };
            let from = self.given_up.get(&partition);
            if from.is_some_and(|from| *from != member) || self.contested.contains(&partition) {
                self.moving.insert(partition.clone(), member.clone());
            }
            let own = self.assigned.entry(member.clone()).or_default();
            own.push(partition);
            if !wanted {
                continue;
            }
            if own.len() == self.least {
                self.wanting.remove(turn);
                self.content.push_back(member);
            } else {
                turn += 1;
            }
        }
    }
}
