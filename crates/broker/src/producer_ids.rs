//! Producer ids, handed out from blocks that the metadata quorum reserves. An id is never given out twice: a block is
//! used only once its reservation is committed, and what is left of it at a restart is lost.

use ottla_controller::{AllocateProducerIds, AllocateProducerIdsError, allocate_producer_ids};
use ottla_image::MetadataImage;
use ottla_quorum::{MetadataQuorum, QuorumError};
use ottla_types::{BrokerEpoch, NodeId, ProducerId};
use tokio::sync::Mutex;

/// Why no id can be given out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoProducerId {
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    #[error(transparent)]
    Refused(#[from] AllocateProducerIdsError),
}

pub(crate) struct ProducerIds {
    node_id: NodeId,
    broker_epoch: BrokerEpoch,
    /// The unused rest of the block.
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    pub(crate) fn new(node_id: NodeId, broker_epoch: BrokerEpoch) -> ProducerIds {
        ProducerIds { node_id, broker_epoch, block: Mutex::new(0..0) }
    }

    /// The registration of this broker the ids are asked for under.
    pub(crate) fn broker_epoch(&self) -> BrokerEpoch {
        self.broker_epoch
    }

    pub(crate) async fn next(&self, quorum: &dyn MetadataQuorum) -> Result<ProducerId, NoProducerId> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let (node_id, broker_epoch) = (self.node_id, self.broker_epoch);
            let decision = move |image: &MetadataImage| {
                let decided = allocate_producer_ids(image, AllocateProducerIds { node_id, broker_epoch });
                (decided.records, decided.response)
            };
            let (_, reserved) = ottla_quorum::decide(quorum, decision).await?;
            let reserved = reserved?;
            *block = reserved.first..reserved.first + reserved.length;
        }
        let next = block.start;
        block.start += 1;
        Ok(ProducerId(next))
    }
}
