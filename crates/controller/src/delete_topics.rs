//! DeleteTopics.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_image::{MetadataImage, MetadataRecord};
use ottla_types::{ErrorCode, TopicId};

use crate::Outcome;

/// A topic to delete, as the request names it: by one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicToDelete {
    pub name: Option<Arc<str>>,
    /// All zero for none.
    pub topic_id: TopicId,
}

impl TopicToDelete {
    pub fn by_name(name: impl Into<Arc<str>>) -> Self {
        Self { name: Some(name.into()), topic_id: TopicId::ZERO }
    }

    pub fn by_id(topic_id: TopicId) -> Self {
        Self { name: None, topic_id }
    }
}

/// What became of one topic of the request. Name and id are those known: the request's, and when it was found, both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    pub name: Option<Arc<str>>,
    pub topic_id: TopicId,
    pub error: Option<DeleteTopicsError>,
}

/// Why a topic is not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteTopicsError {
    #[error("Neither topic name nor id were specified.")]
    NeitherNameNorId,
    #[error("You may not specify both topic name and topic id.")]
    NameAndId,
    #[error("Duplicate topic name.")]
    DuplicateName,
    #[error("Duplicate topic id.")]
    DuplicateId,
    #[error("The provided topic name maps to an ID that was already supplied.")]
    NameOfGivenId,
    #[error("This server does not host this topic-partition.")]
    UnknownName,
    #[error("This server does not host this topic ID.")]
    UnknownId,
}

impl DeleteTopicsError {
    pub fn error_code(self) -> ErrorCode {
        match self {
            DeleteTopicsError::NeitherNameNorId
            | DeleteTopicsError::NameAndId
            | DeleteTopicsError::DuplicateName
            | DeleteTopicsError::DuplicateId
            | DeleteTopicsError::NameOfGivenId => ErrorCode::InvalidRequest,
            DeleteTopicsError::UnknownName => ErrorCode::UnknownTopicOrPartition,
            DeleteTopicsError::UnknownId => ErrorCode::UnknownTopicId,
        }
    }
}

/// Deletes topics. A topic named twice is not deleted, and has one result for each way it was named.
pub fn delete_topics(image: &MetadataImage, topics: &[TopicToDelete]) -> Outcome<Vec<DeletedTopic>> {
    let mut seen_names = BTreeSet::new();
    let mut seen_ids = BTreeSet::new();
    let mut duplicate_names = BTreeSet::new();
    let mut duplicate_ids = BTreeSet::new();
    for topic in topics {
        match &topic.name {
            Some(name) if topic.topic_id.is_zero() && !seen_names.insert(Arc::clone(name)) => {
                duplicate_names.insert(Arc::clone(name));
            }
            None if !topic.topic_id.is_zero() && !seen_ids.insert(topic.topic_id) => {
                duplicate_ids.insert(topic.topic_id);
            }
            _ => {}
        }
    }
    // An id and the name of the same topic exclude each other.
    let named_twice: BTreeSet<TopicId> =
        seen_names.iter().filter_map(|name| image.topic_id(name)).filter(|id| seen_ids.contains(id)).collect();

    let mut response: Vec<DeletedTopic> = Vec::new();
    let mut refused = BTreeSet::new();
    let mut records = Vec::new();
    for topic in topics {
        let is_id = topic.name.is_none();
        let found = match &topic.name {
            Some(name) => image.topic_by_name(name),
            None => image.topic(topic.topic_id),
        };
        let error = match (&topic.name, topic.topic_id.is_zero()) {
            (None, true) => Some(DeleteTopicsError::NeitherNameNorId),
            (Some(_), false) => Some(DeleteTopicsError::NameAndId),
            (Some(name), true) if duplicate_names.contains(name) => Some(DeleteTopicsError::DuplicateName),
            (None, false) if duplicate_ids.contains(&topic.topic_id) => Some(DeleteTopicsError::DuplicateId),
            (Some(_), true) if found.is_none() => Some(DeleteTopicsError::UnknownName),
            (None, false) if found.is_none() => Some(DeleteTopicsError::UnknownId),
            (_, _) if found.is_some_and(|found| named_twice.contains(&found.topic_id)) => {
                Some(DeleteTopicsError::NameOfGivenId)
            }
            _ => None,
        };
        let result = match (error, found) {
            (None, Some(found)) => {
                records.push(MetadataRecord::RemoveTopic { topic_id: found.topic_id });
                DeletedTopic { name: Some(Arc::clone(&found.name)), topic_id: found.topic_id, error: None }
            }
            // The name that belongs to an id is told along; one result for the pair.
            (Some(DeleteTopicsError::NameOfGivenId), Some(_)) if is_id => continue,
            (Some(error @ DeleteTopicsError::NameOfGivenId), Some(found)) => {
                DeletedTopic { name: Some(Arc::clone(&found.name)), topic_id: found.topic_id, error: Some(error) }
            }
            (error, _) => DeletedTopic { name: topic.name.clone(), topic_id: topic.topic_id, error },
        };
        // The same name or id is refused for the same reason.
        if result.error.is_none() || refused.insert((result.name.clone(), result.topic_id)) {
            response.push(result);
        }
    }
    Outcome { response, records }
}
