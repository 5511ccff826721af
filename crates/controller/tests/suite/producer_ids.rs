//! AllocateProducerIds.

use ottla_controller::{
    AllocateProducerIds, AllocateProducerIdsError, Outcome, ProducerIdBlock, allocate_producer_ids,
};
use ottla_image::MetadataRecord;
use ottla_types::{BrokerEpoch, ErrorCode, NodeId};

use crate::support::{cluster, commit};

#[test]
fn blocks_follow_each_other() {
    let mut image = cluster(&[1, 2]);
    for (block, node) in [1, 2, 1].into_iter().enumerate() {
        let broker_epoch = image.broker(NodeId(node)).unwrap().broker_epoch;
        let outcome = allocate_producer_ids(&image, AllocateProducerIds { node_id: NodeId(node), broker_epoch });
        let first = block as i64 * 1_000;
        assert_eq!(commit(&mut image, outcome), Ok(ProducerIdBlock { first, length: 1_000 }));
    }
    assert_eq!(image.next_producer_id(), 3_000);
}

#[test]
fn strangers_get_none() {
    let image = cluster(&[1]);
    let refused = |node: i32, epoch: i64| {
        let request = AllocateProducerIds { node_id: NodeId(node), broker_epoch: BrokerEpoch(epoch) };
        let Outcome { response, records } = allocate_producer_ids(&image, request);
        assert_eq!(records, []);
        response.unwrap_err()
    };
    assert_eq!(refused(1, 5).error_code(), ErrorCode::StaleBrokerEpoch);
    assert_eq!(refused(1, 5).to_string(), "Expected broker epoch 0, but got broker epoch 5");
    assert_eq!(refused(2, 0).to_string(), "No broker registration found for broker id 2");
}

#[test]
fn the_last_ids_are_not_given_twice() {
    let mut image = cluster(&[1]);
    let (node_id, broker_epoch) = (NodeId(1), BrokerEpoch(0));
    image.apply(&MetadataRecord::ProducerIds { node_id, broker_epoch, next_producer_id: i64::MAX - 999 }).unwrap();
    let outcome = allocate_producer_ids(&image, AllocateProducerIds { node_id, broker_epoch });
    assert_eq!(outcome.response, Err(AllocateProducerIdsError::Exhausted));
    assert_eq!(outcome.records, []);
}
