//! AllocateProducerIds: blocks of ids that a broker gives to its producers.

use ottla_image::{MetadataImage, MetadataRecord};
use ottla_types::{BrokerEpoch, ErrorCode, NodeId};

use crate::Outcome;

/// The ids of a block.
pub const PRODUCER_ID_BLOCK_SIZE: i64 = 1_000;

/// A broker's request for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocateProducerIds {
    pub node_id: NodeId,
    pub broker_epoch: BrokerEpoch,
}

/// Ids that belong to one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    pub first: i64,
    pub length: i64,
}

/// Why a broker gets no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateProducerIdsError {
    #[error("No broker registration found for broker id {node_id}")]
    NotRegistered { node_id: NodeId },
    #[error("Expected broker epoch {expected}, but got broker epoch {found}")]
    StaleBrokerEpoch { expected: BrokerEpoch, found: BrokerEpoch },
    #[error("Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit")]
    Exhausted,
}

impl AllocateProducerIdsError {
    pub fn error_code(self) -> ErrorCode {
        match self {
            AllocateProducerIdsError::NotRegistered { .. } | AllocateProducerIdsError::StaleBrokerEpoch { .. } => {
                ErrorCode::StaleBrokerEpoch
            }
            AllocateProducerIdsError::Exhausted => ErrorCode::UnknownServerError,
        }
    }
}

/// Gives the next block to a broker.
pub fn allocate_producer_ids(
    image: &MetadataImage,
    request: AllocateProducerIds,
) -> Outcome<Result<ProducerIdBlock, AllocateProducerIdsError>> {
    let AllocateProducerIds { node_id, broker_epoch } = request;
    let Some(broker) = image.broker(node_id) else {
        return Outcome::unchanged(Err(AllocateProducerIdsError::NotRegistered { node_id }));
    };
    if broker.broker_epoch != broker_epoch {
        let (expected, found) = (broker.broker_epoch, broker_epoch);
        return Outcome::unchanged(Err(AllocateProducerIdsError::StaleBrokerEpoch { expected, found }));
    }
    let first = image.next_producer_id();
    let Some(next_producer_id) = first.checked_add(PRODUCER_ID_BLOCK_SIZE) else {
        return Outcome::unchanged(Err(AllocateProducerIdsError::Exhausted));
    };
    Outcome {
        response: Ok(ProducerIdBlock { first, length: PRODUCER_ID_BLOCK_SIZE }),
        records: vec![MetadataRecord::ProducerIds { node_id, broker_epoch, next_producer_id }],
    }
}
