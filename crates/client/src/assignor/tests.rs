//! Assignments compared with those of Kafka 4.4's assignors, as `kafka.txt` has them: random members, topics, and what
//! members had. A line is: the assignor | topics and their partitions | members, each with the topics it wants, what it
//! had, in which generation, and its name of its own | what each gets.

use super::*;
use sticky::StickyAssignor;

const KAFKA: &str = include_str!("kafka.txt");

fn partitions(text: &str) -> Vec<TopicPartition> {
    let partition = |text: &str| TopicPartition::new(&text[..1], text[1..].parse().unwrap());
    text.split(',').filter(|text| !text.is_empty()).map(partition).collect()
}

fn member(kind: &str, text: &str) -> (String, GroupSubscription) {
    let fields: Vec<&str> = text.split(':').collect();
    let [name, topics, owned, generation_id, instance] = fields[..] else { panic!("{text}") };
    let generation_id = generation_id.parse().unwrap();
    let mut subscription = GroupSubscription {
        generation_id: Some(generation_id),
        topics: topics.chars().map(String::from).collect(),
        group_instance_id: Some(instance.to_owned()).filter(|instance| !instance.is_empty()),
        ..GroupSubscription::default()
    };
    if kind == "sticky" {
        let assignor = StickyAssignor::default();
        assignor.on_assignment(&partitions(owned), generation_id);
        subscription.user_data = assignor.subscription_user_data();
    } else {
        subscription.owned_partitions = partitions(owned);
    }
    (name.to_owned(), subscription)
}

#[test]
fn results_are_those_of_kafka() {
    let mut wrong = Vec::new();
    for line in KAFKA.lines() {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [kind, topics, members, expected] = fields[..] else { panic!("{line}") };
        let topics = topics.split(' ').map(|topic| {
            let (name, count) = topic.split_once('=').unwrap();
            (name.to_owned(), count.parse::<i32>().unwrap())
        });
        let topics = topics.filter(|(_, count)| *count > 0).collect();
        let members = members.split(' ').map(|text| member(kind, text)).collect();
        let assignor: Box<dyn PartitionAssignor> = match kind {
            "range" => Box::new(RangeAssignor),
            "roundrobin" => Box::new(RoundRobinAssignor),
            "sticky" => Box::new(StickyAssignor::default()),
            _ => Box::new(CooperativeStickyAssignor::default()),
        };
        assert_eq!(assignor.name(), kind);
        let mut assigned = assignor.assign(&topics, &members);
        for own in assigned.values_mut() {
            own.sort();
        }
        let expected: GroupAssignment = expected
            .split(' ')
            .map(|text| text.split_once(':').unwrap())
            .map(|(member, own)| (member.to_owned(), partitions(own)))
            .collect();
        if assigned != expected {
            wrong.push(format!("{line}\n  {assigned:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), KAFKA.lines().count(), wrong.join("\n"));
}

#[test]
fn foreign_user_data_is_no_more_than_nothing() {
    let topics = BTreeMap::from([("t".to_owned(), 2)]);
    for data in [&b""[..], b"\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x01\0\x01t\x7f\xff\xff\xff", &[0; 40]] {
        let subscription = GroupSubscription {
            topics: vec!["t".to_owned()],
            user_data: Some(Bytes::from_static(data)),
            ..GroupSubscription::default()
        };
        let members = BTreeMap::from([("a".to_owned(), subscription)]);
        for assignor in [&StickyAssignor::default() as &dyn PartitionAssignor, &CooperativeStickyAssignor::default()] {
            assert_eq!(assignor.assign(&topics, &members)["a"].len(), 2, "{data:?}");
        }
    }
}

#[test]
fn partitions_that_nobody_has_any_more_are_not_given_out() {
    let topics = BTreeMap::from([("t".to_owned(), 1)]);
    let owned_partitions = vec![TopicPartition::new("t", 0), TopicPartition::new("t", 1), TopicPartition::new("t", -1)];
    let member = |topics: &[&str]| GroupSubscription {
        topics: topics.iter().map(ToString::to_string).collect(),
        owned_partitions: owned_partitions.clone(),
        generation_id: Some(3),
        ..GroupSubscription::default()
    };
    for others in [&["t"][..], &["t", "u"]] {
        let members = BTreeMap::from([("a".to_owned(), member(&["t"])), ("b".to_owned(), member(others))]);
        let assigned = CooperativeStickyAssignor::default().assign(&topics, &members);
        assert!(assigned.values().flatten().all(|partition| partition.partition == 0), "{assigned:?}");
    }
}
