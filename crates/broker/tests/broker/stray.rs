//! Logs that the metadata does not know, and partitions whose log cannot be used.

use std::fs;
use std::path::Path;

use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};

use crate::support::{TestBroker, batch, create_topic, fetch, metadata, produce, start_in, text, values};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

async fn delete_topic(broker: &TestBroker, name: &str) {
    let topic = DeleteTopicState { name: Some(text(name)), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    let response = broker.connect().await.send(&request).await.unwrap();
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
}

/// Leaves `t-0` as a node does that stops between the commit of a topic's deletion and the deletion of its logs.
async fn leave_a_stray(directory: &Path) {
    let broker = start_in(directory, &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    assert_eq!(produce(&connection, "t", 0, -1, batch(&["old"])).await.error_code, 0);
    let aside = directory.join("aside");
    copy(&directory.join("t-0"), &aside);
    delete_topic(&broker, "t").await;
    broker.stop().await;
    fs::rename(aside, directory.join("t-0")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_topic_does_not_begin_with_the_records_of_a_deleted_one() {
    let directory = tempfile::tempdir().unwrap();
    leave_a_stray(directory.path()).await;
    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let new = produce(&connection, "t", 0, -1, batch(&["new"])).await;
    assert_eq!((new.error_code, new.base_offset), (0, 0));
    assert_eq!(values(&fetch(&connection, "t", 0, 0, 1000).await), ["new"]);
    broker.stop().await;
    let names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().any(|name| name.starts_with("t-0.") && name.ends_with("-stray")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_partition_does_not_keep_the_others_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "bad", 1, &[]).await;
    create_topic(&connection, "good", 1, &[]).await;
    for topic in ["bad", "good"] {
        assert_eq!(produce(&connection, topic, 0, -1, batch(&["a"])).await.error_code, 0);
    }
    broker.stop().await;
    fs::write(directory.path().join("bad-0/partition.metadata"), "nonsense").unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    assert_eq!(values(&fetch(&connection, "good", 0, 0, 1000).await), ["a"]);
    let topics = metadata(&connection, &["bad", "good"], false).await.topics;
    let leaders: Vec<_> = topics.iter().map(|topic| topic.partitions[0].leader_id).collect();
    assert_eq!(leaders, [-1, 1], "{topics:?}");
    assert_ne!(produce(&connection, "bad", 0, -1, batch(&["b"])).await.error_code, 0);
    broker.stop().await;
    assert!(directory.path().join("bad-0").exists(), "what is damaged stays for somebody to repair");
}
