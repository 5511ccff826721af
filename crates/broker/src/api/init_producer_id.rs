//! InitProducerId: an id for an idempotent producer.
//!
//! Transactions are not served: a transactional id is refused with an error no client retries, since a retriable one
//! would have it wait for ever.

use std::sync::Arc;

use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use ottla_types::{ErrorCode, ProducerEpoch, ProducerId};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    // An id without an epoch, or an epoch without an id, continues nothing.
    let has_id = request.producer_id != ProducerId::NONE.0;
    let has_epoch = request.producer_epoch != ProducerEpoch::NONE.0;
    if has_id != has_epoch {
        return failed(ErrorCode::InvalidRequest);
    }
    if let Some(transactional_id) = request.transactional_id {
        if transactional_id.is_empty() {
            return failed(ErrorCode::InvalidRequest);
        }
        return failed(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let may_write = broker.allows(&context, Operation::IdempotentWrite, Resource::Cluster)
        || broker.allows_any_topic(&context, Operation::Write);
    if !may_write {
        return failed(ErrorCode::ClusterAuthorizationFailed);
    }
    match broker.producer_ids.next(&*broker.quorum).await {
        Ok(ProducerId(producer_id)) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(error) => {
            tracing::error!(%error, "no producer id can be given out");
            failed(ErrorCode::CoordinatorNotAvailable)
        }
    }
}

fn failed(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: error.code(),
        producer_id: ProducerId::NONE.0,
        producer_epoch: ProducerEpoch::NONE.0,
        ..Default::default()
    }
}
