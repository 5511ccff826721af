//! Starts: the first, later ones, and those that are refused.

use std::path::Path;
use std::sync::Arc;

use ottla_image::MetadataRecord;
use ottla_quorum::{MetadataQuorum, OpenError, QuorumSettings, RaftQuorum, RecoveryError};
use ottla_rt::memory::MemoryWorld;
use ottla_types::{NodeId, Uuid};

use crate::support::{files, log_file, machine, machine_with, open, process, settings, topic, topic_run};

fn feature(name: &str, level: i16) -> MetadataRecord {
    MetadataRecord::FeatureLevel { name: name.into(), level }
}

#[test]
fn a_restart_keeps_everything() {
    let machine = machine(1);
    let identity = process(async {
        let mut settings = settings();
        settings.bootstrap.records = vec![feature("metadata.version", 30)];
        let quorum = RaftQuorum::open(&machine.world(), settings, |image| {
            assert_eq!(image.feature_level("metadata.version"), 30, "the first start sees the bootstrap records");
            vec![feature("starts", 1)]
        })
        .await
        .unwrap();
        assert!(quorum.leader().is_leader);
        assert_eq!(quorum.image().feature_level("starts"), 1);
        assert_eq!(quorum.image().cluster_id(), Some(&quorum.identity().cluster_id));
        for number in 0..20 {
            let position = quorum.submit(topic(number)).await.unwrap();
            assert_eq!(position.index, 2 + number as u64);
            assert_eq!(topic_run(&quorum.image()), number + 1, "an answer means the records are in the image");
        }
        quorum.shutdown().await;
        quorum.identity().clone()
    });
    let mut term = 1;
    for start in 2..6 {
        process(async {
            let quorum = RaftQuorum::open(&machine.world(), settings(), move |image| {
                assert_eq!(image.feature_level("starts"), start - 1);
                vec![feature("starts", start)]
            })
            .await
            .unwrap();
            assert_eq!(*quorum.identity(), identity);
            assert_eq!(topic_run(&quorum.image()), 18 + start as usize);
            assert_eq!(quorum.image().feature_level("starts"), start);
            assert_eq!(quorum.image().feature_level("metadata.version"), 30);
            assert!(quorum.leader().term > term, "each start leads a term of its own");
            term = quorum.leader().term;
            quorum.submit(topic(18 + start as usize)).await.unwrap();
            // Not shut down: nothing depends on it.
        });
        machine.disk.kill();
    }
}

#[test]
fn a_start_syncs_once() {
    let machine = machine(1);
    process(async { open(&machine.world()).await.unwrap().shutdown().await });
    let before = machine.disk.operations();
    process(async {
        let quorum = open(&machine.world()).await.unwrap();
        let operations = machine.disk.operations() - before;
        assert!(operations <= 12, "a restart takes {operations} operations on the disk");
        quorum.shutdown().await;
    });
}

fn started(machine: &MemoryWorld) -> ottla_quorum::QuorumIdentity {
    process(async {
        let quorum = open(&machine.world()).await.unwrap();
        quorum.shutdown().await;
        quorum.identity().clone()
    })
}

fn refused(machine: &MemoryWorld, settings: QuorumSettings) -> OpenError {
    process(async { RaftQuorum::open(&machine.world(), settings, |_| Vec::new()).await.err().expect("refused") })
}

#[test]
fn anothers_metadata_is_refused() {
    let machine = machine(1);
    let identity = started(&machine);
    let before = files(&machine.world());

    let error = refused(&machine, QuorumSettings { node_id: NodeId(2), ..settings() });
    assert!(matches!(error, OpenError::Recovery(RecoveryError::WrongNode { expected: 2, found: 1, .. })), "{error}");

    let other = Some(Uuid([3; 16]));
    let error = refused(&machine, QuorumSettings { expected_directory_id: other, ..settings() });
    assert!(matches!(error, OpenError::Recovery(RecoveryError::WrongDirectory { .. })), "{error}");

    let other = Some("another".to_owned());
    let error = refused(&machine, QuorumSettings { expected_cluster_id: other, ..settings() });
    assert!(matches!(error, OpenError::WrongCluster { .. }), "{error}");

    assert!(files(&machine.world()) == before, "a refused start changes nothing");
    process(async {
        let right = QuorumSettings {
            expected_cluster_id: Some(identity.cluster_id.to_string()),
            expected_directory_id: Some(identity.directory_id),
            ..settings()
        };
        RaftQuorum::open(&machine.world(), right, |_| Vec::new()).await.unwrap();
    });
}

#[test]
fn lost_metadata_is_not_begun_anew() {
    let machine = machine(1);
    let settings = QuorumSettings { expected_cluster_id: Some("a cluster".to_owned()), ..settings() };
    let error = refused(&machine, settings);
    assert!(matches!(error, OpenError::Recovery(RecoveryError::MissingMetadata { .. })), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let first = machine(1);
    started(&first);
    let (path, mut bytes) = log_file(&first.world());
    bytes[9] += 1;
    let second = machine_with(&path, &bytes);
    let error = refused(&second, settings());
    assert!(matches!(error, OpenError::Recovery(RecoveryError::NewerFormat { version: 2, .. })), "{error}");
}

#[test]
fn given_ids_are_used() {
    let machine = machine(1);
    let mut settings = settings();
    settings.bootstrap.cluster_id = Some("my-cluster".to_owned());
    settings.bootstrap.directory_id = Some(Uuid([5; 16]));
    process(async {
        let quorum = RaftQuorum::open(&machine.world(), settings, |_| Vec::new()).await.unwrap();
        assert_eq!(quorum.identity().cluster_id, Arc::from("my-cluster"));
        assert_eq!(quorum.identity().directory_id, Uuid([5; 16]));
    });
    assert_eq!(started(&machine).directory_id, Uuid([5; 16]));
    assert!(machine.world().disk.exists(Path::new(crate::support::DIRECTORY)).unwrap());
}

#[test]
fn startup_records_that_do_not_fit_are_refused() {
    let machine = machine(1);
    started(&machine);
    let before = files(&machine.world());
    let error = process(async {
        let unfitting = vec![MetadataRecord::RemoveTopic { topic_id: Uuid([1; 16]) }];
        RaftQuorum::open(&machine.world(), settings(), move |_| unfitting).await.err().expect("refused")
    });
    assert!(matches!(error, OpenError::Startup(_)), "{error}");
    assert!(files(&machine.world()) == before);
}
