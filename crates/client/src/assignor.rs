//! The range assignor: of each topic, every member gets a run of partitions (Kafka's `range`).

use std::collections::{BTreeMap, BTreeSet};

/// Divides `topics` (with their partitions, ascending) among `members` (with the topics each wants).
pub(crate) fn assign_ranges(
    members: &BTreeMap<String, BTreeSet<String>>,
    topics: &BTreeMap<String, Vec<i32>>,
) -> BTreeMap<String, BTreeMap<String, Vec<i32>>> {
    let mut assigned: BTreeMap<String, BTreeMap<String, Vec<i32>>> =
        members.keys().map(|member| (member.clone(), BTreeMap::new())).collect();
    for (topic, partitions) in topics {
        let interested: Vec<&String> =
            members.iter().filter(|(_, wanted)| wanted.contains(topic)).map(|(member, _)| member).collect();
        if interested.is_empty() {
            continue;
        }
        let (each, more) = (partitions.len() / interested.len(), partitions.len() % interested.len());
        let mut rest = partitions.as_slice();
        for (position, member) in interested.into_iter().enumerate() {
            let (own, others) = rest.split_at(each + usize::from(position < more));
            rest = others;
            if let Some(topics) = assigned.get_mut(member).filter(|_| !own.is_empty()) {
                topics.insert(topic.clone(), own.to_vec());
            }
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (members, partitions, expected) in [
            (vec!["a"], 3, vec![("a", vec![0, 1, 2])]),
            (vec!["a", "b"], 3, vec![("a", vec![0, 1]), ("b", vec![2])]),
            (vec!["a", "b", "c"], 2, vec![("a", vec![0]), ("b", vec![1]), ("c", vec![])]),
            (vec!["a", "b", "c"], 8, vec![("a", vec![0, 1, 2]), ("b", vec![3, 4, 5]), ("c", vec![6, 7])]),
        ] {
            let members = members.into_iter().map(|member| (member.to_owned(), BTreeSet::from(["t".to_owned()])));
            let topics = BTreeMap::from([("t".to_owned(), (0..partitions).collect())]);
            let assigned = assign_ranges(&members.collect(), &topics);
            for (member, own) in expected {
                assert_eq!(assigned[member].get("t").cloned().unwrap_or_default(), own, "{member} of {partitions}");
            }
        }
    }

    #[test]
    fn a_topic_goes_to_those_who_want_it() {
        let members = BTreeMap::from([
            ("a".to_owned(), BTreeSet::from(["t".to_owned()])),
            ("b".to_owned(), BTreeSet::from(["t".to_owned(), "u".to_owned()])),
        ]);
        let topics =
            BTreeMap::from([("t".to_owned(), vec![0, 1]), ("u".to_owned(), vec![0]), ("v".to_owned(), vec![0])]);
        let assigned = assign_ranges(&members, &topics);
        assert_eq!(assigned["a"], BTreeMap::from([("t".to_owned(), vec![0])]));
        assert_eq!(assigned["b"], BTreeMap::from([("t".to_owned(), vec![1]), ("u".to_owned(), vec![0])]));
    }
}
