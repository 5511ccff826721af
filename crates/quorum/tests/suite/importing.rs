//! Metadata from elsewhere as the log of a node.

use std::path::Path;
use std::sync::Arc;

use ottla_image::{MetadataImage, MetadataRecord};
use ottla_quorum::{ImportError, MetadataQuorum, QuorumIdentity, import};
use ottla_types::{NodeId, Uuid};

use crate::support::*;

fn identity() -> QuorumIdentity {
    QuorumIdentity { cluster_id: Arc::from("cluster"), node_id: NodeId(1), directory_id: Uuid([5; 16]) }
}

fn image(topics: usize) -> MetadataImage {
    let mut records = vec![MetadataRecord::ClusterId { cluster_id: Arc::from("cluster") }];
    records.extend((0..topics).flat_map(topic));
    MetadataImage::default().apply_all(&records).unwrap()
}

#[test]
fn a_node_goes_on_with_what_was_imported() {
    // The last of them takes several entries.
    for topics in [0, 1, 20_000] {
        let machine = machine(1);
        let world = machine.world();
        let image = image(topics);
        import(&world.disk, Path::new(DIRECTORY), &identity(), &image).unwrap();
        machine.disk.lose_power(ottla_rt::memory::PowerLoss::LoseUnsynced);
        process(async {
            let quorum = open(&machine.world()).await.unwrap();
            assert_eq!(*quorum.identity(), identity());
            assert_eq!(*quorum.image(), image);
            quorum.submit(topic(topics)).await.unwrap();
            assert_eq!(topic_run(&quorum.image()), topics + 1);
            quorum.shutdown().await;
        });
        process(async {
            let quorum = open(&machine.world()).await.unwrap();
            assert_eq!(topic_run(&quorum.image()), topics + 1);
            quorum.shutdown().await;
        });
    }
}

#[test]
fn what_is_there_is_not_written_over() {
    let machine = machine(2);
    let world = machine.world();
    process(async {
        let quorum = open(&world).await.unwrap();
        quorum.shutdown().await;
    });
    let refused = import(&world.disk, Path::new(DIRECTORY), &identity(), &image(1));
    assert!(matches!(refused, Err(ImportError::Exists(_))), "{refused:?}");
}

#[test]
fn metadata_of_another_cluster_is_refused() {
    let machine = machine(3);
    let other = QuorumIdentity { cluster_id: Arc::from("other"), ..identity() };
    let refused = import(&machine.world().disk, Path::new(DIRECTORY), &other, &image(1));
    assert!(matches!(refused, Err(ImportError::OtherCluster(_))), "{refused:?}");
    assert!(!machine.world().disk.exists(Path::new(DIRECTORY)).unwrap());
}
