//! What a broker serves.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::client::Client;
use crate::error::ClientError;

/// The answer of one broker to ApiVersions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerVersions {
    /// As this client reached it.
    pub address: String,
    /// By the number of the API; numbers this build has no name for are among them.
    pub served: BTreeMap<i16, RangeInclusive<i16>>,
}

impl Client {
    /// What a broker serves; `None` asks whichever answers.
    pub async fn broker_versions(&self, node_id: Option<i32>) -> Result<BrokerVersions, ClientError> {
        self.at_broker(node_id, async |connection| {
            let (address, served) = (connection.address().to_owned(), connection.all_served().clone());
            Ok(BrokerVersions { address, served })
        })
        .await
    }
}
