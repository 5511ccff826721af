//! What a test gets, and what is left when it is over.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ottla_client::{Client, ClientSettings, Consumer, ConsumerSettings, Producer, ProducerRecord, ProducerSettings};
use ottla_rt::World;
use ottla_testkit::{Cluster, ClusterError};
use ottla_types::TopicPartition;

const TIMEOUT: Duration = Duration::from_secs(20);

fn client(cluster: &Cluster) -> Client {
    let bootstrap = cluster.bootstrap_servers().parse().expect("an address");
    Client::new(World::os(), ClientSettings::new(bootstrap))
}

async fn produce(client: &Client, value: &str) -> i64 {
    let producer = Producer::new(client.clone(), ProducerSettings::default()).unwrap();
    let record = ProducerRecord {
        topic: "t".into(),
        partition: Some(0),
        value: Some(value.to_owned().into()),
        ..Default::default()
    };
    producer.send(record).await.unwrap().await.unwrap().offset.expect("an offset")
}

/// The values from the beginning on, so many.
async fn consume(client: &Client, count: usize) -> Vec<String> {
    let mut consumer = Consumer::new(client.clone(), ConsumerSettings::default());
    consumer.assign_at(&BTreeMap::from([(TopicPartition::new("t", 0), 0)]));
    let mut values = Vec::new();
    while values.len() < count {
        let records = consumer.poll(TIMEOUT).await.unwrap();
        values
            .extend(records.iter().map(|record| String::from_utf8_lossy(record.value.as_ref().unwrap()).into_owned()));
    }
    values
}

#[tokio::test]
async fn records_outlive_a_restart_in_memory_and_in_files() {
    for builder in [Cluster::builder(), Cluster::builder().in_temporary_folder()] {
        let cluster = builder.start().await.unwrap();
        let (address, client) = (cluster.bootstrap_servers().to_owned(), client(&cluster));
        assert_eq!(produce(&client, "a").await, 0);
        cluster.restart().await.unwrap();
        assert_eq!(cluster.bootstrap_servers(), address);
        assert_eq!(produce(&client, "b").await, 1);
        assert_eq!(consume(&client, 2).await, ["a", "b"]);
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn many_clusters_know_nothing_of_each_other() {
    let starting: Vec<_> = (0..20).map(|_| tokio::spawn(Cluster::start())).collect();
    let mut clusters = Vec::new();
    for cluster in starting {
        clusters.push(cluster.await.unwrap().unwrap());
    }
    for (number, cluster) in clusters.iter().enumerate() {
        let (client, value) = (client(cluster), number.to_string());
        assert_eq!(produce(&client, &value).await, 0);
        assert_eq!(consume(&client, 1).await, [value]);
    }
}

#[tokio::test]
async fn a_temporary_folder_goes_and_a_given_one_stays() {
    let cluster = Cluster::builder().in_temporary_folder().start().await.unwrap();
    produce(&client(&cluster), "a").await;
    let folder = cluster.folder().unwrap().to_path_buf();
    assert!(folder.join("t-0").is_dir());
    drop(cluster);
    assert!(!folder.exists());

    let given = tempfile::tempdir().unwrap();
    for value in ["a", "b"] {
        // What was acknowledged is there, although the first one was only dropped.
        let cluster = Cluster::builder().in_folder(given.path()).start().await.unwrap();
        let client = client(&cluster);
        let offset = produce(&client, value).await;
        assert_eq!(consume(&client, offset as usize + 1).await.last().unwrap(), value);
        assert_eq!(offset, i64::from(value == "b"));
    }
}

#[tokio::test]
async fn settings_are_those_of_the_server() {
    let started = Cluster::builder().set("num.partitions", 7).set("num.partitions", 3).start().await;
    let cluster = started.unwrap();
    produce(&client(&cluster), "a").await;
    assert_eq!(client(&cluster).topic("t").await.unwrap().partitions.len(), 3);

    let wrong = Cluster::builder().set("num.partitions", "many").set("num.partition", 1).start().await;
    let Err(ClusterError::Settings(lines)) = wrong else { panic!("{wrong:?}") };
    assert!(lines.iter().any(|line| line.contains("num.partitions")), "{lines:?}");
}

#[test]
fn a_test_without_a_runtime_may_block_and_leaves_the_port() {
    let cluster = Cluster::builder().start_blocking().unwrap();
    let address: SocketAddr = cluster.bootstrap_servers().parse().unwrap();
    let connection = TcpStream::connect(address).unwrap();
    drop(connection);
    drop(cluster);
    TcpListener::bind(address).expect("nobody has the port");
}
