//! What an error of a broker says about whether a write took effect.
//!
//! Everything depends on this mapping: a write taken for failed that takes effect is an aborted read that never was, and
//! one taken for unknown hides a loss. So an error is definite only where the broker decided before it wrote anything.

use ottla_types::ErrorCode;

use crate::history::Outcome;

impl Outcome {
    /// The outcome of one Produce request for one partition that was answered with this code.
    ///
    /// It holds for that attempt only. A client that had sent the batch before, and was not told how that ended, does not
    /// know more for a definite error now: then the outcome is [`Outcome::Info`] whatever the last answer was. So it is
    /// without an answer.
    pub fn of_produce(code: ErrorCode) -> Outcome {
        match code {
            ErrorCode::None => Outcome::Ok,
            // The batch, the producer or the topic was refused before anything was appended.
            ErrorCode::CorruptMessage
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidTimestamp
            | ErrorCode::InvalidTopicException
            | ErrorCode::InvalidRequiredAcks
            | ErrorCode::InvalidRequest
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::ProducerFenced
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidTxnState
            | ErrorCode::InvalidProducerIdMapping
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::UnsupportedVersion
            | ErrorCode::UnsupportedForMessageFormat
            | ErrorCode::UnsupportedCompressionType => Outcome::Fail,
            // Among them NOT_LEADER_OR_FOLLOWER and UNKNOWN_TOPIC_OR_PARTITION, which also end the wait of a batch that
            // was appended and may have been replicated; and DUPLICATE_SEQUENCE_NUMBER, which says that it is there, but
            // not where.
            _ => Outcome::Info,
        }
    }
}
