//! ApiVersions: what this broker serves, and the features of the cluster.

use std::sync::Arc;

use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use ottla_protocol::{ApiKey, StrBytes};
use ottla_types::ErrorCode;

use crate::broker::Broker;
use crate::connection::Reply;
use crate::context::RequestContext;
use crate::dispatch;
use crate::features;

/// From this version on the client says what it is (KIP-511).
const FIRST_SOFTWARE_VERSION: i16 = 3;
/// From this version on a feature may begin at level 0 (KIP-1022); before, such a feature breaks the client.
const FIRST_LEVEL_ZERO_VERSION: i16 = 4;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let named = is_software_name(&request.client_software_name) && is_software_name(&request.client_software_version);
    if context.api_version >= FIRST_SOFTWARE_VERSION && !named {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    // A client that was connected to another cluster or node must start over (KIP-1242).
    let other_cluster = request.cluster_id.as_deref().is_some_and(|id| id != &*broker.cluster_id);
    let other_node = request.node_id >= 0 && request.node_id != broker.node_id.0;
    if other_cluster || other_node {
        return ApiVersionsResponse { error_code: ErrorCode::RebootstrapRequired.code(), ..Default::default() };
    }
    let supported_features = features::SUPPORTED
        .iter()
        .filter(|feature| feature.min_level > 0 || context.api_version >= FIRST_LEVEL_ZERO_VERSION)
        .map(|feature| SupportedFeatureKey {
            name: StrBytes::from(feature.name),
            min_version: feature.min_level,
            max_version: feature.max_level,
            ..Default::default()
        })
        .collect();
    let image = broker.quorum.image();
    let finalized_features = image
        .features()
        .map(|(name, level)| FinalizedFeatureKey {
            name: StrBytes::from(name.to_string()),
            max_version_level: level,
            min_version_level: level,
            ..Default::default()
        })
        .collect();
    ApiVersionsResponse {
        api_keys: api_keys(),
        supported_features,
        finalized_features_epoch: 0,
        finalized_features,
        ..Default::default()
    }
}

/// The answer to a version of ApiVersions this broker does not know: version 0, with the range it does know.
pub(crate) fn unsupported(_broker: &Broker, context: &RequestContext) -> Reply {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![advertised(ApiKey::ApiVersions)],
        ..Default::default()
    };
    dispatch::encode_as(context, &response, 0)
}

fn api_keys() -> Vec<ApiVersion> {
    dispatch::SERVED.iter().map(|&key| advertised(key)).collect()
}

/// Produce is advertised from version 0 although 3 is the first served: librdkafka takes a broker without version 0 for
/// one that cannot compress (KAFKA-18659).
fn advertised(key: ApiKey) -> ApiVersion {
    let versions = key.valid_versions();
    let min_version = if key == ApiKey::Produce { 0 } else { *versions.start() };
    ApiVersion { api_key: key.code(), min_version, max_version: *versions.end(), ..Default::default() }
}

/// Letters, digits, '-' and '.', beginning and ending with a letter or digit.
fn is_software_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names() {
        for good in ["a", "apache-kafka-java", "4.4.0", "librdkafka"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "é"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }

    #[test]
    fn produce_is_advertised_from_zero() {
        let produce = api_keys().into_iter().find(|api| api.api_key == ApiKey::Produce.code()).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }
}
