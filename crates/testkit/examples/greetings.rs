//! A producer and a consumer of `ottla-client` on a broker of this process, and how long the broker took to be there.
//!
//! `cargo run -p ottla-testkit --example greetings`

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use ottla_client::{Client, ClientSettings, Consumer, ConsumerSettings, Producer, ProducerRecord, ProducerSettings};
use ottla_rt::World;
use ottla_testkit::Cluster;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let cluster = Cluster::start().await?;
    println!("a broker on {} after {:?}", cluster.bootstrap_servers(), begun.elapsed());

    let client = Client::new(World::os(), ClientSettings::new(cluster.bootstrap_servers().parse()?));
    let producer = Producer::new(client.clone(), ProducerSettings::default())?;
    for name in ["Valli", "Elli", "Ottla"] {
        let value = format!("hello, {name}").into();
        let record = ProducerRecord { topic: "greetings".into(), value: Some(value), ..Default::default() };
        let delivery = producer.send(record).await?.await?;
        println!("sent to partition {} at offset {:?}", delivery.partition, delivery.offset);
    }

    let mut consumer = Consumer::new(client, ConsumerSettings::default());
    consumer.assign_at(&BTreeMap::from([(ottla_types::TopicPartition::new("greetings", 0), 0)]));
    let mut received = 0;
    while received < 3 {
        for record in consumer.poll(Duration::from_secs(10)).await? {
            println!("received {}", String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()));
            received += 1;
        }
    }

    let begun = Instant::now();
    drop(cluster);
    println!("nothing is left of it after {:?}", begun.elapsed());
    Ok(())
}
