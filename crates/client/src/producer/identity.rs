//! Who an idempotent producer is to the brokers: one identity for all partitions, whose epoch is raised where the
//! numbering of a partition has to begin anew (KIP-360).

use ottla_protocol::ApiKey;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use tokio::sync::Mutex;

use crate::client::Client;
use crate::error::{ClientError, check};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
}

impl Identity {
    /// The identity that fences this one; `None` if its epochs are used up.
    fn raised(self) -> Option<Identity> {
        let producer_epoch = self.producer_epoch.checked_add(1)?;
        Some(Identity { producer_epoch, ..self })
    }
}

/// What all partitions of a producer share of its identity: the first of them fetches it.
#[derive(Debug, Default)]
pub(super) struct Identities {
    current: Mutex<Option<Identity>>,
}

impl Identities {
    /// The identity for a partition that has spent this one.
    pub(super) async fn after(&self, spent: Option<Identity>, client: &Client) -> Result<Identity, ClientError> {
        let mut current = self.current.lock().await;
        let next = match *current {
            // Another partition raised it before.
            Some(known) if Some(known) != spent => Some(known),
            Some(known) => known.raised(),
            None => None,
        };
        let next = match next {
            Some(next) => next,
            None => init_producer_id(client).await?,
        };
        *current = Some(next);
        Ok(next)
    }
}

async fn init_producer_id(client: &Client) -> Result<Identity, ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        producer_id: -1,
        producer_epoch: -1,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let response = client.ask_any(&request, client.settings().request_timeout).await?;
    check(ApiKey::InitProducerId, response.error_code, None)?;
    Ok(Identity { producer_id: response.producer_id, producer_epoch: response.producer_epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_raised_while_there_are_any() {
        let identity = |producer_epoch| Identity { producer_id: 7, producer_epoch };
        assert_eq!(identity(0).raised(), Some(identity(1)));
        assert_eq!(identity(i16::MAX).raised(), None);
    }
}
