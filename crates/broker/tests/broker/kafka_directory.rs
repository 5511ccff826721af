//! Directories of Apache Kafka's: a node leaves them alone until they are adopted, and once Kafka has used them again.

use std::fs;
use std::path::{Path, PathBuf};

use ottla_broker::{Server, StartError};
use ottla_config::ServerConfig;
use ottla_rt::World;

use crate::support::start_in;

const SEGMENT: &str = "__cluster_metadata-0/00000000000000000000.log";

fn config(sets: &[(&str, &str)], directory: &Path) -> ServerConfig {
    let listeners = ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned());
    let sets = sets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).chain([listeners]);
    ServerConfig::load(None, &sets.collect::<Vec<_>>(), Some(directory), true).unwrap().config
}

/// Every file below, with its content.
fn content(directory: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), None));
            found.extend(content(&path));
        } else {
            found.push((path.clone(), Some(fs::read(&path).unwrap())));
        }
    }
    found.sort();
    found
}

fn kafkas(directory: &Path) {
    for name in ["__cluster_metadata-0", "t-0", "t-1.0123456789abcdef0123456789abcdef-delete"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    fs::write(directory.join(SEGMENT), b"records").unwrap();
    fs::write(directory.join("meta.properties"), "cluster.id=c\nnode.id=1\nversion=1\n").unwrap();
    fs::write(directory.join(".kafka_cleanshutdown"), "").unwrap();
    fs::write(directory.join("t-0/00000000000000000000.log"), b"torn").unwrap();
}

#[tokio::test]
async fn a_directory_that_was_not_adopted_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    kafkas(directory.path());
    let before = content(directory.path());
    let refused = Server::start(World::os(), config(&[], directory.path())).await.err().unwrap();
    assert!(matches!(&refused, StartError::NotAdopted(path) if path == directory.path()), "{refused}");
    assert!(refused.to_string().contains("`ottla log adopt"), "{refused}");
    assert_eq!(content(directory.path()), before);
}

#[tokio::test]
async fn nor_is_one_whose_metadata_is_apart() {
    let (data, metadata) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    kafkas(data.path());
    fs::rename(data.path().join("__cluster_metadata-0"), metadata.path().join("__cluster_metadata-0")).unwrap();
    let before = content(data.path());
    let sets = [("metadata.log.dir", metadata.path().to_str().unwrap())];
    let refused = Server::start(World::os(), config(&sets, data.path())).await.err().unwrap();
    assert!(matches!(&refused, StartError::NotAdopted(path) if path == metadata.path()), "{refused}");
    assert_eq!(content(data.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_kafka_used_since_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    start_in(directory.path(), &[]).await.stop().await;
    fs::create_dir(directory.path().join("__cluster_metadata-0")).unwrap();
    fs::write(directory.path().join(SEGMENT), b"records").unwrap();
    let mark = directory.path().join("ottla-metadata/adopted-from");
    fs::write(&mark, "version=1\nsegment=00000000000000000000.log\nlength=7\n").unwrap();
    start_in(directory.path(), &[]).await.stop().await;

    fs::write(directory.path().join(SEGMENT), b"more records").unwrap();
    let before = content(directory.path());
    let refused = Server::start(World::os(), config(&[], directory.path())).await.err().unwrap();
    assert!(matches!(&refused, StartError::KafkaRanSince { .. }), "{refused}");
    assert_eq!(content(directory.path()), before);

    fs::write(&mark, "who knows").unwrap();
    let refused = Server::start(World::os(), config(&[], directory.path())).await.err().unwrap();
    assert!(matches!(&refused, StartError::Log(_)) && refused.to_string().contains("adopted-from"), "{refused}");

    // Nobody wants to go back.
    fs::remove_dir_all(directory.path().join("__cluster_metadata-0")).unwrap();
    fs::write(&mark, "version=1\nsegment=00000000000000000000.log\nlength=7\n").unwrap();
    start_in(directory.path(), &[]).await.stop().await;
}
