//! Why the coordinator refuses.

use ottla_types::ErrorCode;

/// A refusal, as a client may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum GroupError {
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    #[error("this node is not the coordinator of the group")]
    NotCoordinator,
    #[error("the group id is not valid")]
    InvalidGroupId,
    #[error("the session timeout is outside the allowed range")]
    InvalidSessionTimeout,
    #[error("the coordinator does not know the member")]
    UnknownMemberId,
    #[error("the generation is not the group's")]
    IllegalGeneration,
    #[error("the member's protocols and the group's have nothing in common")]
    InconsistentGroupProtocol,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("another member with the same group instance id took this one's place")]
    FencedInstanceId,
    #[error("the member must join again with the member id it was given")]
    MemberIdRequired,
    #[error("the group has as many members as it may have")]
    GroupMaxSizeReached,
    #[error("the group does not exist")]
    GroupIdNotFound,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("members of the group subscribe to the topic")]
    GroupSubscribedToTopic,
    #[error("the metadata of the committed offset is too large")]
    OffsetMetadataTooLarge,
    #[error("an offset was committed in a transaction that has not ended")]
    UnstableOffsetCommit,
    #[error("the group's metadata could not be stored")]
    UnknownServerError,
}

impl GroupError {
    /// The code the protocol knows it by.
    pub fn error_code(self) -> ErrorCode {
        match self {
            GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
            GroupError::NotCoordinator => ErrorCode::NotCoordinator,
            GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
            GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
            GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
            GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
            GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
            GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
            GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
            GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
            GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
            GroupError::UnstableOffsetCommit => ErrorCode::UnstableOffsetCommit,
            GroupError::UnknownServerError => ErrorCode::UnknownServerError,
        }
    }

    /// Whether the same request may succeed later.
    pub fn retriable(self) -> bool {
        self.error_code().is_retriable()
    }
}

/// Why the records of an outcome did not become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    #[error("the partition cannot take or commit records now")]
    Unavailable,
    #[error("the partition is led elsewhere or its disk failed")]
    NotLeader,
    #[error("the records are larger than a batch may be")]
    TooLarge,
}

impl StoreFailure {
    /// What a client whose request needed the records is told.
    pub fn group_error(self) -> GroupError {
        match self {
            StoreFailure::Unavailable => GroupError::CoordinatorNotAvailable,
            StoreFailure::NotLeader => GroupError::NotCoordinator,
            StoreFailure::TooLarge => GroupError::UnknownServerError,
        }
    }
}
