//! OffsetCommit.

use crate::coordinator::GroupCoordinator;
use crate::error::GroupError;
use crate::group::{GroupState, LiveGroup};
use crate::hard::OffsetAndMetadata;
use crate::outcome::{Effects, Now, Outcome, Response};
use crate::record::GroupRecord;
use crate::request::{CommitOffsets, CommitPartition, CommitTopic, CommittedPartition, CommittedTopic};

impl GroupCoordinator {
    /// Records offsets for a member of the present generation, or for a group without members.
    pub fn handle_commit(
        &mut self,
        now: Now,
        request: CommitOffsets,
    ) -> Outcome<Result<Vec<CommittedTopic>, GroupError>> {
        let mut effects = Effects::default();
        match self.groups.get(&request.group) {
            Some(group) => {
                if let Err(error) = validate(group, &request) {
                    return Outcome::now(Err(error));
                }
                if matches!(group.state, GroupState::Stable | GroupState::PreparingRebalance)
                    && let Some(mut step) = self.step(&request.group, now, &mut effects)
                {
                    step.keep_session(&request.member_id);
                }
            }
            // A commit from outside group membership founds a group that only keeps offsets: replaying it does.
            None if request.generation < 0 => {}
            None if request.knows_group_id_not_found => return Outcome::now(Err(GroupError::GroupIdNotFound)),
            None => return Outcome::now(Err(GroupError::IllegalGeneration)),
        }

        let expire_timestamp_ms = request.retention_ms.map(|retention_ms| now.wall_ms.saturating_add(retention_ms));
        let max_metadata = self.settings.offset_metadata_max_bytes;
        let mut topics = Vec::with_capacity(request.topics.len());
        for CommitTopic { topic, topic_id, partitions } in request.topics {
            let mut committed = Vec::with_capacity(partitions.len());
            for CommitPartition { partition, offset, leader_epoch, metadata } in partitions {
                let metadata = metadata.unwrap_or_default();
                let error =
                    (metadata.encode_utf16().count() > max_metadata).then_some(GroupError::OffsetMetadataTooLarge);
                if error.is_none() {
                    effects.records.push(GroupRecord::OffsetCommit {
                        group: request.group.clone(),
                        topic: topic.clone(),
                        partition,
                        value: Some(OffsetAndMetadata {
                            offset,
                            leader_epoch,
                            metadata,
                            commit_timestamp_ms: now.wall_ms,
                            expire_timestamp_ms,
                            topic_id,
                        }),
                    });
                }
                committed.push(CommittedPartition { partition, error });
            }
            topics.push(CommittedTopic { topic, topic_id, partitions: committed });
        }
        effects.with(Response::Now(Ok(topics)))
    }
}

fn validate(group: &LiveGroup, request: &CommitOffsets) -> Result<(), GroupError> {
    if request.generation < 0 && group.state == GroupState::Empty {
        return Ok(());
    }
    if request.generation < 0 && request.member_id.is_empty() && request.group_instance_id.is_none() {
        // Nobody's commit is only taken while the group has no members.
        return Err(GroupError::UnknownMemberId);
    }
    group.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation != group.generation {
        return Err(GroupError::IllegalGeneration);
    }
    if group.state == GroupState::CompletingRebalance {
        // The member knows the new generation but has no assignment in it, so what it commits is from before.
        return Err(GroupError::RebalanceInProgress);
    }
    Ok(())
}
