//! DeleteTopics.

use ottla_controller::{DeleteTopicsError, TopicToDelete, delete_topics};
use ottla_types::{ErrorCode, TopicId, Uuid};

use crate::support::{cluster, commit, with_topics};

/// Deletes from a cluster with topics `a`, `b` and `c`; says the errors in order, and what is left.
fn check(topics: &[TopicToDelete], expected: &[Option<DeleteTopicsError>], left: &[&str]) {
    let mut image = with_topics(cluster(&[1]), &["a", "b", "c"]);
    let outcome = delete_topics(&image, topics);
    let response = commit(&mut image, outcome);
    let errors: Vec<_> = response.iter().map(|deleted| deleted.error).collect();
    assert_eq!(errors, expected, "{topics:?}");
    assert_eq!(image.topics().map(|topic| &*topic.name).collect::<Vec<_>>(), left, "{topics:?}");
    for deleted in response.iter().filter(|deleted| deleted.error.is_none()) {
        assert!(deleted.name.is_some() && !deleted.topic_id.is_zero(), "what was deleted is fully named");
    }
}

fn id(name: &str) -> TopicId {
    with_topics(cluster(&[1]), &["a", "b", "c"]).topic_id(name).unwrap()
}

fn named(name: &str) -> TopicToDelete {
    TopicToDelete::by_name(name)
}

#[test]
fn by_name_and_by_id() {
    use DeleteTopicsError::{UnknownId, UnknownName};

    check(&[], &[], &["a", "b", "c"]);
    check(&[named("a"), TopicToDelete::by_id(id("c"))], &[None, None], &["b"]);
    check(&[named("x"), named("a")], &[Some(UnknownName), None], &["b", "c"]);
    check(&[TopicToDelete::by_id(Uuid([99; 16]))], &[Some(UnknownId)], &["a", "b", "c"]);
    assert_eq!(UnknownName.error_code(), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(UnknownId.error_code(), ErrorCode::UnknownTopicId);
}

#[test]
fn named_twice() {
    use DeleteTopicsError::{DuplicateId, DuplicateName, NameAndId, NameOfGivenId, NeitherNameNorId};

    check(&[named("a"), named("b"), named("a")], &[Some(DuplicateName), None], &["a", "c"]);
    let by_id = TopicToDelete::by_id(id("a"));
    check(&[by_id.clone(), by_id.clone()], &[Some(DuplicateId)], &["a", "b", "c"]);
    check(&[by_id.clone(), named("a"), named("b")], &[Some(NameOfGivenId), None], &["a", "c"]);
    let both = TopicToDelete { name: Some("a".into()), topic_id: id("a") };
    check(&[both, named("b")], &[Some(NameAndId), None], &["a", "c"]);
    check(&[TopicToDelete::by_id(TopicId::ZERO)], &[Some(NeitherNameNorId)], &["a", "b", "c"]);
}

#[test]
fn any_number_of_unknown_topics_is_answered_in_time() {
    let image = with_topics(cluster(&[1]), &["a"]);
    let topics: Vec<_> = (0..100_000).map(|number| named(&format!("topic-{}", number / 2))).collect();
    let outcome = delete_topics(&image, &topics);
    assert_eq!(outcome.response.len(), 50_000);
    assert!(outcome.records.is_empty());
}
