//! The sticky assignment where members want different topics: everybody keeps what they have, the rest goes to those
//! with least, and then partitions move from those with more to those with less until that makes nothing better.

use std::collections::{BTreeMap, BTreeSet};

use ottla_types::TopicPartition;

use super::sticky::{MemberData, NO_GENERATION};
use super::{GroupAssignment, GroupSubscription, partitions_of};

pub(super) fn assign_generally(
    partitions: &BTreeMap<String, i32>,
    members: &BTreeMap<String, GroupSubscription>,
    data: &BTreeMap<String, MemberData>,
    owned: GroupAssignment,
) -> GroupAssignment {
    Balance::new(partitions, members, owned).assign(&previous_owners(data))
}

/// Who had a partition before the one who has it now: the latest of those who are not of the newest generation.
fn previous_owners(data: &BTreeMap<String, MemberData>) -> BTreeMap<TopicPartition, String> {
    let newest = data.values().filter_map(|data| data.generation_id).max().unwrap_or(NO_GENERATION);
    let mut previous: BTreeMap<TopicPartition, (String, i32)> = BTreeMap::new();
    for (member, data) in data {
        let generation_id = match data.generation_id {
            Some(generation_id) if generation_id < newest => generation_id,
            None if newest > NO_GENERATION => NO_GENERATION,
            _ => continue,
        };
        for partition in &data.partitions {
            let known = previous.get(partition);
            if known.is_none_or(|(_, known)| generation_id > *known) {
                previous.insert(partition.clone(), (member.clone(), generation_id));
            }
        }
    }
    previous.into_iter().map(|(partition, (member, _))| (partition, member)).collect()
}

/// An assignment while it is being balanced.
struct Balance<'a> {
    partitions: &'a BTreeMap<String, i32>,
    /// Of each topic who wants it, and of each member what it wants.
    wanted_by: BTreeMap<&'a str, Vec<&'a String>>,
    wants: BTreeMap<&'a String, BTreeSet<&'a str>>,
    assigned: BTreeMap<&'a String, Vec<TopicPartition>>,
    /// Who has each partition.
    owner: BTreeMap<TopicPartition, &'a String>,
    /// Those who may get or give, by how many they have.
    by_load: BTreeSet<(usize, &'a String)>,
    /// All partitions, those that fewest members want first.
    all: Vec<TopicPartition>,
    movements: Movements<'a>,
    /// Whether a member has something it does not want any more.
    unwanted: bool,
}

impl<'a> Balance<'a> {
    fn new(
        partitions: &'a BTreeMap<String, i32>,
        members: &'a BTreeMap<String, GroupSubscription>,
        owned: GroupAssignment,
    ) -> Balance<'a> {
        let mut wanted_by: BTreeMap<&str, Vec<&String>> =
            partitions.keys().map(|topic| (topic.as_str(), Vec::new())).collect();
        let mut wants: BTreeMap<&String, BTreeSet<&str>> = BTreeMap::new();
        for (member, subscription) in members {
            let topics: BTreeSet<&str> = subscription
                .topics
                .iter()
                .map(String::as_str)
                .filter(|topic| partitions.contains_key(*topic))
                .collect();
            for topic in &topics {
                wanted_by.entry(topic).or_default().push(member);
            }
            wants.insert(member, topics);
        }
        let mut topics: Vec<&str> = wanted_by.keys().copied().collect();
        topics.sort_by_key(|topic| (wanted_by[topic].len(), *topic));
        let all = topics.iter().flat_map(|topic| partitions_of(topic, partitions[*topic])).collect();
        let mut balance = Balance {
            partitions,
            wanted_by,
            wants,
            assigned: members.keys().map(|member| (member, Vec::new())).collect(),
            owner: BTreeMap::new(),
            by_load: BTreeSet::new(),
            all,
            movements: Movements::default(),
            unwanted: false,
        };
        for (member, own) in owned {
            let Some((member, _)) = members.get_key_value(&member) else { continue };
            for partition in own {
                if balance.wants[member].contains(&*partition.topic) {
                    balance.owner.insert(partition.clone(), member);
                    balance.assigned.entry(member).or_default().push(partition);
                } else {
                    balance.unwanted = true;
                }
            }
        }
        balance
    }

    fn assign(mut self, previous: &BTreeMap<TopicPartition, String>) -> GroupAssignment {
        self.by_load = self.assigned.iter().map(|(member, own)| (own.len(), *member)).collect();
        let begins = self.by_load.last().is_some_and(|(most, _)| *most == 0);
        let unassigned: Vec<TopicPartition> =
            self.all.iter().filter(|partition| !self.owner.contains_key(*partition)).cloned().collect();
        for partition in &unassigned {
            self.give_to_least(partition);
        }
        // What only one member wants, and who can get nothing else, is not moved.
        let movable = |partition: &&TopicPartition| self.wanted_by[&*partition.topic].len() >= 2;
        let unassigned: Vec<TopicPartition> = unassigned.iter().filter(movable).cloned().collect();
        let all: Vec<TopicPartition> = self.all.iter().filter(movable).cloned().collect();
        let fixed: Vec<&String> = self.assigned.keys().copied().filter(|member| !self.takes_part(member)).collect();
        for member in fixed {
            self.by_load.remove(&(self.assigned[member].len(), member));
        }
        let before = (self.assigned.clone(), self.score());
        if !self.unwanted {
            self.move_around(&unassigned, previous);
        }
        let moved = self.move_around(&all, previous);
        if !begins && moved && self.score() >= before.1 {
            self.assigned = before.0;
        }
        self.assigned.into_iter().map(|(member, own)| (member.clone(), own)).collect()
    }

    fn give_to_least(&mut self, partition: &TopicPartition) {
        let least = self.by_load.iter().find(|(_, member)| self.wants[member].contains(&*partition.topic)).copied();
        if let Some((load, member)) = least {
            self.by_load.remove(&(load, member));
            self.assigned.entry(member).or_default().push(partition.clone());
            self.owner.insert(partition.clone(), member);
            self.by_load.insert((load + 1, member));
        }
    }

    /// Whether a member can get something, or give something up.
    fn takes_part(&self, member: &String) -> bool {
        let own = &self.assigned[member];
        own.len() < self.most_of(member) || own.iter().any(|partition| self.wanted_by[&*partition.topic].len() >= 2)
    }

    /// How many partitions a member could have.
    fn most_of(&self, member: &String) -> usize {
        let counts = self.wants[member].iter().map(|topic| self.partitions[*topic]);
        counts.map(|count| usize::try_from(count).unwrap_or_default()).sum()
    }

    /// How uneven it is, among those who take part: the differences of all pairs.
    fn score(&self) -> usize {
        let loads: Vec<usize> = self.by_load.iter().map(|(load, _)| *load).collect();
        // They are sorted: each differs from all before it.
        let mut sum = 0;
        let mut score = 0;
        for (count, load) in loads.iter().enumerate() {
            score += load * count - sum;
            sum += load;
        }
        score
    }

    /// Whether nobody can get a partition from somebody who would still have at least as many.
    fn is_balanced(&self) -> bool {
        let (Some((least, _)), Some((most, _))) = (self.by_load.first(), self.by_load.last()) else { return true };
        if least + 1 >= *most {
            return true;
        }
        self.by_load.iter().all(|&(load, member)| {
            load == self.most_of(member)
                || self.wants[member].iter().all(|topic| {
                    partitions_of(topic, self.partitions[*topic]).all(|partition| match self.owner.get(&partition) {
                        Some(owner) if *owner != member => load + 1 >= self.assigned[*owner].len(),
                        _ => true,
                    })
                })
        })
    }

    /// Moves partitions to whoever has fewer, until it is balanced or nothing moves; whether something did.
    fn move_around(&mut self, partitions: &[TopicPartition], previous: &BTreeMap<TopicPartition, String>) -> bool {
        let mut moved_any = false;
        loop {
            let mut moved = false;
            for partition in partitions {
                if self.is_balanced() {
                    break;
                }
                let Some(&owner) = self.owner.get(partition) else { continue };
                let load = self.assigned[owner].len();
                let has_less = |member: &String| self.assigned.get(member).is_some_and(|own| load > own.len() + 1);
                // Back to who had it, if possible.
                let back = previous.get(partition).and_then(|member| self.assigned.get_key_value(member));
                let to = match back {
                    Some((member, _)) if has_less(member) => Some(*member),
                    _ if self.wanted_by[&*partition.topic].iter().any(|member| has_less(member)) => {
                        let wants = |(_, member): &&(usize, &String)| self.wants[member].contains(&*partition.topic);
                        self.by_load.iter().find(wants).map(|(_, member)| *member)
                    }
                    _ => None,
                };
                if let Some(to) = to {
                    self.reassign(partition, owner, to);
                    moved = true;
                    moved_any = true;
                }
            }
            if !moved {
                return moved_any;
            }
        }
    }

    /// Moves this partition, or one of the same topic whose way it would go back.
    fn reassign(&mut self, partition: &TopicPartition, from: &'a String, to: &'a String) {
        let partition = self.movements.instead_of(partition, from, to);
        let Some(from) = self.owner.insert(partition.clone(), to) else { return };
        for member in [from, to] {
            self.by_load.remove(&(self.assigned[member].len(), member));
        }
        self.movements.moved(&partition, from, to);
        self.assigned.entry(from).or_default().retain(|own| *own != partition);
        self.assigned.entry(to).or_default().push(partition);
        for member in [from, to] {
            self.by_load.insert((self.assigned[member].len(), member));
        }
    }
}

/// What moved from whom to whom: two partitions of a topic need not change places.
#[derive(Default)]
struct Movements<'a> {
    by_partition: BTreeMap<TopicPartition, (&'a String, &'a String)>,
}

impl<'a> Movements<'a> {
    fn moved(&mut self, partition: &TopicPartition, from: &'a String, to: &'a String) {
        match self.by_partition.remove(partition) {
            // It came back to where it began.
            Some((begin, _)) if begin == to => {}
            Some((begin, _)) => _ = self.by_partition.insert(partition.clone(), (begin, to)),
            None => _ = self.by_partition.insert(partition.clone(), (from, to)),
        }
    }

    fn instead_of(&self, partition: &TopicPartition, from: &'a String, to: &'a String) -> TopicPartition {
        let from = self.by_partition.get(partition).map_or(from, |(begin, _)| *begin);
        let reverse = self
            .by_partition
            .iter()
            .find(|(other, way)| other.topic == partition.topic && **way == (to, from))
            .map(|(other, _)| other.clone());
        reverse.unwrap_or_else(|| partition.clone())
    }
}
