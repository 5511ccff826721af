//! The table of APIs in `docs/compat.md`, made from what the broker serves.

use std::fmt::Write;
use std::ops::RangeInclusive;

use ottla_protocol::ApiKey;

use crate::dispatch::SERVED;

/// Every API of Kafka 4.4 as a Markdown table: which versions Kafka has, and which this broker serves.
pub fn api_table() -> String {
    let mut table = format!(
        "{} of the {} APIs of Kafka 4.4 are served, each in all its stable versions.\n\n\
         | key | API | Kafka 4.4 | Ottla | belongs to |\n|---|---|---|---|---|\n",
        SERVED.len(),
        ApiKey::ALL.len(),
    );
    for key in ApiKey::ALL {
        let versions = range(&key.valid_versions());
        let served = if SERVED.contains(&key) { versions.as_str() } else { "-" };
        writeln!(table, "| {} | {} | {versions} | {served} | {} |", key.code(), key.name(), subject(key))
            .expect("invariant: writing to a String does not fail");
    }
    table
}

fn range(versions: &RangeInclusive<i16>) -> String {
    if versions.start() == versions.end() {
        versions.start().to_string()
    } else {
        format!("{}-{}", versions.start(), versions.end())
    }
}

/// What an API is for, in the words `docs/compat.md` groups the missing ones by.
#[allow(clippy::enum_glob_use, reason = "a table of every variant")]
fn subject(key: ApiKey) -> &'static str {
    use ApiKey::*;
    match key {
        Produce | InitProducerId | DescribeProducers => "producing",
        Fetch | ListOffsets | OffsetForLeaderEpoch => "consuming",
        ApiVersions | Metadata | DescribeCluster | DescribeTopicPartitions | FindCoordinator => "finding the way",
        JoinGroup | SyncGroup | Heartbeat | LeaveGroup => "classic groups",
        OffsetCommit | OffsetFetch | OffsetDelete | DescribeGroups | ListGroups | DeleteGroups => "groups",
        ConsumerGroupHeartbeat | ConsumerGroupDescribe => "consumer groups (KIP-848)",
        ShareGroupHeartbeat
        | ShareGroupDescribe
        | ShareFetch
        | ShareAcknowledge
        | InitializeShareGroupState
        | ReadShareGroupState
        | WriteShareGroupState
        | DeleteShareGroupState
        | ReadShareGroupStateSummary
        | DescribeShareGroupOffsets
        | AlterShareGroupOffsets
        | DeleteShareGroupOffsets => "share groups",
        StreamsGroupHeartbeat | StreamsGroupDescribe | StreamsGroupTopologyDescriptionUpdate => "streams groups",
        AddPartitionsToTxn | AddOffsetsToTxn | EndTxn | WriteTxnMarkers | TxnOffsetCommit | DescribeTransactions
        | ListTransactions => "transactions",
        CreateTopics | DeleteTopics | CreatePartitions | DeleteRecords => "topics",
        DescribeConfigs | AlterConfigs | IncrementalAlterConfigs | ListConfigResources => "configurations",
        AlterReplicaLogDirs
        | DescribeLogDirs
        | ElectLeaders
        | AlterPartitionReassignments
        | ListPartitionReassignments => "replicas",
        SaslHandshake
        | SaslAuthenticate
        | DescribeAcls
        | CreateAcls
        | DeleteAcls
        | CreateDelegationToken
        | RenewDelegationToken
        | ExpireDelegationToken
        | DescribeDelegationToken
        | DescribeUserScramCredentials
        | AlterUserScramCredentials => "security",
        DescribeClientQuotas | AlterClientQuotas => "quotas",
        GetTelemetrySubscriptions | PushTelemetry => "telemetry",
        DescribeQuorum | AddRaftVoter | RemoveRaftVoter | UpdateRaftVoter | UpdateFeatures | UnregisterBroker
        | UnregisterController => "the cluster",
        Vote
        | BeginQuorumEpoch
        | EndQuorumEpoch
        | FetchSnapshot
        | AlterPartition
        | Envelope
        | BrokerRegistration
        | BrokerHeartbeat
        | ControllerRegistration
        | AllocateProducerIds
        | AssignReplicasToDirs => "between nodes",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BEGIN: &str = "<!-- The table is generated; CONTRIBUTING.md says how. -->\n";
    const END: &str = "<!-- End of the generated table. -->\n";

    /// With `OTTLA_UPDATE_DOCS` in the environment the table is written instead of compared.
    #[test]
    fn the_committed_table_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compat.md");
        let committed = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = committed.split_once(BEGIN).expect("docs/compat.md has no place for the table");
        let (_, after) = rest.split_once(END).expect("the table in docs/compat.md has no end");
        let current = format!("{before}{BEGIN}\n{}\n{END}{after}", api_table());
        if std::env::var_os("OTTLA_UPDATE_DOCS").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        assert!(
            current == std::fs::read_to_string(&path).unwrap(),
            "the table in docs/compat.md is stale: run `OTTLA_UPDATE_DOCS=1 cargo test -p ottla-broker compat_table`"
        );
    }

    #[test]
    fn every_api_has_a_row() {
        let table = api_table();
        for row in ["| 0 | Produce | 3-13 | 3-13 | producing |", "| 58 | Envelope | 0 | - | between nodes |"] {
            assert!(table.lines().any(|line| line == row), "{row}");
        }
        assert_eq!(table.lines().filter(|line| line.starts_with("| ")).count(), ApiKey::ALL.len() + 1);
    }
}
