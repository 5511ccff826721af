//! Features of the cluster (KIP-584) this broker supports, and the level a new cluster is finalized at.
//!
//! A level is supported only if what it stands for is served: clients choose protocols by it.

use std::sync::Arc;

use ottla_image::{MetadataRecord, SupportedFeature};

/// A feature and its supported levels (both inclusive).
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    pub(crate) min_level: i16,
    pub(crate) max_level: i16,
}

pub(crate) const METADATA_VERSION: &str = "metadata.version";

/// `metadata.version` 4.4-IV2, which Kafka 4.4.0 gives a new cluster: the level of the records and of the APIs between
/// brokers.
pub(crate) const METADATA_VERSION_LEVEL: i16 = 33;
/// 4.4-IV0: clusters begun with it go on. What is new in the levels since (matching networks in ACLs, controllers that
/// unregister) is not served yet, so nothing differs.
const MIN_METADATA_VERSION_LEVEL: i16 = 31;

pub(crate) const SUPPORTED: &[Feature] = &[
    Feature { name: "group.version", min_level: 0, max_level: 0 },
    Feature { name: METADATA_VERSION, min_level: MIN_METADATA_VERSION_LEVEL, max_level: METADATA_VERSION_LEVEL },
    Feature { name: "transaction.version", min_level: 0, max_level: 0 },
];

/// The records that finalize the features of a new cluster.
pub(crate) fn bootstrap_records() -> Vec<MetadataRecord> {
    vec![MetadataRecord::FeatureLevel { name: Arc::from(METADATA_VERSION), level: METADATA_VERSION_LEVEL }]
}

/// The features of this broker, as it registers them.
pub fn supported_features() -> Vec<SupportedFeature> {
    let supported = SUPPORTED.iter().map(|feature| SupportedFeature {
        name: Arc::from(feature.name),
        min_level: feature.min_level,
        max_level: feature.max_level,
    });
    supported.collect()
}
