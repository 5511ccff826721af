//! What survives a restart, and what refuses to start.

use ottla_broker::{Server, StartError};
use ottla_config::ServerConfig;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_rt::World;

use crate::support::{batch, create_topic, fetch, produce, start_in, topic_id, values};

#[tokio::test(flavor = "multi_thread")]
async fn topics_ids_records_and_producer_ids_survive() {
    let idempotent = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    let id = create_topic(&connection, "t", 3, &[("retention.ms", "-1")]).await;
    produce(&connection, "t", 2, -1, batch(&["a", "b"])).await;
    let first = connection.send(&idempotent).await.unwrap().producer_id;
    broker.stop().await;
    for round in 1..3 {
        let broker = start_in(directory.path(), &[]).await;
        let connection = broker.connect().await;
        assert_eq!(topic_id(&connection, "t").await, id);
        let expected: Vec<String> =
            ["a", "b"].iter().map(|&value| value.to_owned()).chain((1..round).map(|n| n.to_string())).collect();
        assert_eq!(values(&fetch(&connection, "t", 2, 0, 0).await), expected);
        let appended = produce(&connection, "t", 2, -1, batch(&[&round.to_string()])).await;
        assert_eq!(appended.base_offset, 1 + round);
        let next = connection.send(&idempotent).await.unwrap().producer_id;
        assert!(next > first, "an id is never given out twice");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_node_or_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let config = |node_id: &str| {
        let sets = [
            ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()),
            ("node.id".to_owned(), node_id.to_owned()),
        ];
        ServerConfig::load(None, &sets, Some(directory.path()), true).unwrap().config
    };
    let in_use = Server::start(World::os(), config("1")).await.err().expect("the directory is in use");
    assert!(matches!(in_use, StartError::Log(ottla_log::LogError::Locked(_))), "{in_use}");
    broker.stop().await;
    let other = Server::start(World::os(), config("2")).await.err().expect("the directory is another node's");
    assert!(matches!(other, StartError::Log(ottla_log::LogError::NodeIdMismatch { .. })), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_changes_nothing_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let elsewhere = directory.path().join("never-made");
    let sets = [("listeners".to_owned(), format!("PLAINTEXT://127.0.0.1:{}", broker.port))];
    let config = ServerConfig::load(None, &sets, Some(&elsewhere), true).unwrap().config;
    let taken = Server::start(World::os(), config).await.err().expect("the port is taken");
    assert!(matches!(taken, StartError::Bind { .. }), "{taken}");
    assert!(!elsewhere.exists());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_directory_that_is_not_mounted_refuses_the_start() {
    let root = tempfile::tempdir().unwrap();
    let (first, second, away) = (root.path().join("a"), root.path().join("b"), root.path().join("away"));
    let start = |abandoned: String| {
        let sets = [
            ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()),
            ("log.dirs".to_owned(), format!("{},{}", first.display(), second.display())),
            ("ottla.abandoned.log.directories".to_owned(), abandoned),
        ];
        Server::start(World::os(), ServerConfig::load(None, &sets, None, true).unwrap().config)
    };
    start(String::new()).await.expect("new directories").shutdown().await.unwrap();
    std::fs::rename(&second, &away).unwrap();
    let mut missing = None;
    for _ in 0..2 {
        // An empty directory stands where the disk should be; it is refused again and again.
        match start(String::new()).await.err().expect("the directory is missing") {
            StartError::LogDirectoryMissing { missing: id, .. } => missing = Some(id),
            other => panic!("{other}"),
        }
    }
    let abandoned = missing.expect("an id").to_string();
    std::fs::remove_dir_all(&second).unwrap();
    std::fs::rename(&away, &second).unwrap();
    start(String::new()).await.expect("mounted again").shutdown().await.unwrap();
    std::fs::remove_dir_all(&second).unwrap();
    start(abandoned).await.expect("given up by name").shutdown().await.unwrap();
    start(String::new()).await.expect("and forgotten").shutdown().await.unwrap();
}
