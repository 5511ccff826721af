//! What is not adopted, and the words for it.

use std::path::{Path, PathBuf};

use ottla_adopt::{AdoptError, AdoptionState, KafkaRecord, Refusal, execute, inspect};
use ottla_log::LogError;
use ottla_protocol::records::access_control_entry_record::AccessControlEntryRecord;
use ottla_protocol::records::client_quota_record::{ClientQuotaRecord, EntityData};
use ottla_protocol::records::delegation_token_record::DelegationTokenRecord;
use ottla_protocol::records::user_scram_credential_record::UserScramCredentialRecord;
use ottla_protocol::records::zk_migration_state_record::ZkMigrationStateRecord;
use ottla_types::Uuid;

use crate::generator::*;

/// The refusals' kinds and texts; nothing is changed, executed or not.
fn refused(kafka: &KafkaDirectory, settings: &ottla_adopt::AdoptSettings) -> Vec<Refusal> {
    let before = kafka.content();
    let looked = inspect(&kafka.world, settings).unwrap();
    let executed = execute(&kafka.world, settings).unwrap();
    assert_eq!((looked.state, executed.state), (AdoptionState::Refused, AdoptionState::Refused));
    assert_eq!(looked.refusals, executed.refusals);
    assert_eq!(kafka.content(), before);
    executed.refusals
}

fn protected() -> Vec<KafkaRecord> {
    vec![
        AccessControlEntryRecord {
            id: Uuid([3; 16]),
            resource_type: 2,
            resource_name: "orders".into(),
            pattern_type: 4,
            principal: "User:alice".into(),
            host: "*".into(),
            operation: 3,
            permission_type: 3,
        }
        .into(),
        UserScramCredentialRecord {
            name: "bob".into(),
            mechanism: 2,
            salt: bytes::Bytes::from_static(b"the salt"),
            stored_key: bytes::Bytes::from_static(b"the stored key"),
            server_key: bytes::Bytes::from_static(b"the server key"),
            iterations: 4096,
        }
        .into(),
        ClientQuotaRecord {
            entity: vec![EntityData { entity_type: "user".into(), entity_name: None }],
            key: "producer_byte_rate".into(),
            value: 1024.0,
            remove: false,
        }
        .into(),
        DelegationTokenRecord {
            owner: "User:carol".into(),
            token_id: "token-1".into(),
            ..DelegationTokenRecord::default()
        }
        .into(),
    ]
}

#[test]
fn what_protects_is_named_and_not_dropped_silently() {
    let mut log = beginning();
    log.batch(&protected());
    let kafka = KafkaDirectory::with_log(20, &log);
    let refusals = refused(&kafka, &settings());
    let expected = Refusal::Protected { acls: 1, scram_credentials: 1, quotas: 1, delegation_tokens: 1 };
    assert_eq!(refusals, [expected]);
    assert!(
        refusals[0].to_string().contains("1 ACL, 1 SCRAM credential, 1 quota, 1 delegation token"),
        "{}",
        refusals[0]
    );

    let mut settings = settings();
    settings.options.without_security = true;
    let report = execute(&kafka.world, &settings).unwrap();
    assert_eq!(report.state, AdoptionState::Adopted);
    let texts: Vec<String> = report.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "ACL: User:alice may READ from host * on TOPIC 'orders' (prefix)",
            "SCRAM-SHA-512 credential of user 'bob'",
            "quota of user (default): producer_byte_rate=1024",
            "delegation token token-1 of User:carol",
        ]
    );
    assert!(report.left_out.iter().all(ottla_adopt::LeftOut::protects));
    let secrets = ["the salt", "the stored key", "the server key"];
    assert!(!secrets.iter().any(|secret| format!("{report:?}").contains(secret)));
}

#[test]
fn what_was_removed_protects_nothing() {
    use ottla_protocol::records::remove_access_control_entry_record::RemoveAccessControlEntryRecord;
    use ottla_protocol::records::remove_delegation_token_record::RemoveDelegationTokenRecord;
    use ottla_protocol::records::remove_user_scram_credential_record::RemoveUserScramCredentialRecord;
    let mut log = beginning();
    log.batch(&protected()).batch(&[
        RemoveAccessControlEntryRecord { id: Uuid([3; 16]) }.into(),
        RemoveUserScramCredentialRecord { name: "bob".into(), mechanism: 2 }.into(),
        ClientQuotaRecord {
            entity: vec![EntityData { entity_type: "user".into(), entity_name: None }],
            key: "producer_byte_rate".into(),
            value: 0.0,
            remove: true,
        }
        .into(),
        RemoveDelegationTokenRecord { token_id: "token-1".into() }.into(),
    ]);
    let kafka = KafkaDirectory::with_log(21, &log);
    assert_eq!(inspect(&kafka.world, &settings()).unwrap().state, AdoptionState::Adoptable);
}

#[test]
fn a_cluster_of_several() {
    let mut log = LogBytes::default();
    log.leader_change(&[1, 2, 3]).batch(&[
        topic("t", topic_id(1)),
        replicated(topic_id(1), 0, &[1, 2], &[2]),
        replicated(topic_id(1), 1, &[2], &[2]),
    ]);
    let kafka = KafkaDirectory::with_log(22, &log);
    let kinds = |settings: &ottla_adopt::AdoptSettings| -> Vec<_> {
        refused(&kafka, settings).iter().map(Refusal::kind).collect()
    };
    assert_eq!(kinds(&settings()), ["several_voters", "other_replicas", "out_of_sync"]);
    let mut alone = settings();
    alone.options.as_single_node = true;
    assert_eq!(kinds(&alone), ["out_of_sync"]);
    alone.options.accept_out_of_sync = true;
    assert_eq!(execute(&kafka.world, &alone).unwrap().state, AdoptionState::Adopted);
}

#[test]
fn a_node_without_replicas() {
    let mut log = beginning();
    log.batch(&[topic("t", topic_id(1)), replicated(topic_id(1), 0, &[2], &[2])]);
    let kafka = KafkaDirectory::with_log(23, &log);
    let mut alone = settings();
    alone.options.as_single_node = true;
    assert_eq!(refused(&kafka, &alone), [Refusal::NothingHere(NODE)]);
}

#[test]
fn metadata_that_is_not_understood() {
    let zookeeper: KafkaRecord = ZkMigrationStateRecord { zk_migration_state: 2 }.into();
    for (records, kinds) in [
        (vec![feature_level("metadata.version", 34)], vec!["newer_metadata_version"]),
        (vec![zookeeper], vec!["zookeeper_migration"]),
        (vec![config(8, "1", "a", Some("b"))], vec!["unknown_resource_type"]),
        (vec![topic("t", topic_id(1)), config(2, "t", "remote.storage.enable", Some("true"))], vec!["remote_storage"]),
    ] {
        let mut log = beginning();
        log.batch(&records);
        let kafka = KafkaDirectory::with_log(24, &log);
        let found: Vec<_> = refused(&kafka, &settings()).iter().map(Refusal::kind).collect();
        assert_eq!(found, kinds);
    }
}

#[test]
fn directories_that_do_not_fit() {
    let mut log = LogBytes::default();
    log.leader_change(&[NODE])
        .batch(&[broker(NODE, vec![directory_id(1), directory_id(2)])])
        .batch(&[topic("t", topic_id(1)), partition(topic_id(1), 0)]);
    let kafka = KafkaDirectory::with_log(25, &log);
    let missing = Refusal::MissingLogDirectories { node_id: NODE, ids: vec![directory_id(2)] };
    assert_eq!(refused(&kafka, &settings()), [missing]);

    kafka.identity("/kafka/second", CLUSTER_ID, NODE, 2);
    let mut both = settings();
    both.log_dirs.push(PathBuf::from("/kafka/second"));
    assert_eq!(inspect(&kafka.world, &both).unwrap().state, AdoptionState::Adoptable);

    kafka.partition(DIRECTORY, "t-0", topic_id(1), b"");
    kafka.partition("/kafka/second", "t-0", topic_id(1), b"");
    assert_eq!(refused(&kafka, &both)[0].kind(), "partition_twice");

    kafka.remove("/kafka/second/t-0/partition.metadata");
    kafka.file("/kafka/second/t-0/partition.metadata", b"version: 9");
    let kinds: Vec<_> = refused(&kafka, &both).iter().map(Refusal::kind).collect();
    assert_eq!(kinds, ["partition_twice", "partition_metadata"]);
}

#[test]
fn records_of_old_formats() {
    let mut log = beginning();
    log.batch(&[topic("t", topic_id(1)), partition(topic_id(1), 0)]);
    let kafka = KafkaDirectory::with_log(26, &log);
    let mut old = vec![0; 40];
    old[11] = 28;
    old[16] = 1;
    kafka.partition(DIRECTORY, "t-0", topic_id(1), &old);
    let segment = Path::new(DIRECTORY).join(format!("t-0/{:020}.log", 0));
    assert_eq!(refused(&kafka, &settings()), [Refusal::OldFormat { segment, magic: 1 }]);
    // A torn write is none.
    kafka.partition(DIRECTORY, "t-0", topic_id(1), &[0; 40]);
    assert_eq!(inspect(&kafka.world, &settings()).unwrap().state, AdoptionState::Adoptable);
}

#[test]
fn a_node_of_ours_that_was_killed() {
    let kafka = KafkaDirectory::with_log(28, &beginning());
    let path = Path::new(DIRECTORY).join("ottla.journal.1");
    // Just begun: there is nothing in it.
    let mut journal = vec![0; 3 * 4096];
    kafka.file(path.to_str().unwrap(), &journal);
    assert_eq!(inspect(&kafka.world, &settings()).unwrap().state, AdoptionState::Adoptable);
    journal[2 * 4096..][..4].copy_from_slice(&[0xf1, b'j', b'r', b'b']);
    kafka.remove(path.to_str().unwrap());
    kafka.file(path.to_str().unwrap(), &journal);
    let refusals = refused(&kafka, &settings());
    assert_eq!(refusals, [Refusal::Journal(path)]);
    assert!(refusals[0].to_string().contains("start that node once more and stop it"), "{}", refusals[0]);
}

#[test]
fn what_is_no_directory_of_kafkas() {
    let kafka = KafkaDirectory::with_log(27, &beginning());
    let failed = |settings: &ottla_adopt::AdoptSettings| {
        let before = kafka.content();
        let looked = inspect(&kafka.world, settings).unwrap_err().to_string();
        assert_eq!(execute(&kafka.world, settings).unwrap_err().to_string(), looked);
        assert_eq!(kafka.content(), before);
        looked
    };
    let of = |paths: &[&str]| {
        let mut settings = settings();
        settings.log_dirs = paths.iter().map(PathBuf::from).collect();
        settings
    };
    kafka.file("/kafka/empty/notes.txt", b"");
    kafka.identity("/kafka/other-cluster", "another", NODE, 2);
    kafka.identity("/kafka/other-node", CLUSTER_ID, 9, 3);
    kafka.identity("/kafka/copy", CLUSTER_ID, NODE, 1);
    kafka.identity("/kafka/second", CLUSTER_ID, NODE, 4);
    kafka.identity("/kafka/ours", CLUSTER_ID, NODE, 5);
    kafka.file("/kafka/ours/ottla-metadata/00000000000000000001.log", b"");
    kafka.identity("/kafka/twice", CLUSTER_ID, NODE, 6);
    kafka.file(&format!("/kafka/twice/__cluster_metadata-0/{:020}.log", 0), &beginning().bytes);
    kafka.file("/kafka/damaged/meta.properties", b"version=7\n");
    for (paths, said) in [
        (&[][..], "no directory is given"),
        (&["/kafka/none"], "there is no directory /kafka/none"),
        (&[DIRECTORY, DIRECTORY], "is given twice"),
        (&["/kafka/empty"], "no log directory of Apache Kafka: it has no meta.properties"),
        (&[DIRECTORY, "/kafka/other-cluster"], "/kafka/other-cluster belongs to cluster another"),
        (&[DIRECTORY, "/kafka/other-node"], "/kafka/other-node belongs to node 9"),
        (&[DIRECTORY, "/kafka/copy"], "have the same directory id"),
        (&["/kafka/second"], "there is no __cluster_metadata-0 in /kafka/second"),
        (&["/kafka/ours"], "/kafka/ours is Ottla's own"),
        (&[DIRECTORY, "/kafka/twice"], "both /kafka/data and /kafka/twice hold a metadata log"),
        (&["/kafka/damaged"], "its version is '7'"),
    ] {
        let found = failed(&of(paths));
        assert!(found.contains(said), "{paths:?}: {found}");
    }
}

#[test]
fn a_directory_in_use() {
    let kafka = KafkaDirectory::with_log(28, &beginning());
    let lock = kafka.world.disk.lock(&Path::new(DIRECTORY).join(".lock")).unwrap();
    for tried in [inspect(&kafka.world, &settings()), execute(&kafka.world, &settings())] {
        assert!(matches!(tried, Err(AdoptError::Log(LogError::Locked(_)))), "{tried:?}");
    }
    drop(lock);
    assert_eq!(inspect(&kafka.world, &settings()).unwrap().state, AdoptionState::Adoptable);
}
