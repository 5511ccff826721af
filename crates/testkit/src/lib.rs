//! A real broker inside the process of a test.
//!
//! ```
//! use ottla_client::{Client, ClientSettings, Producer, ProducerRecord, ProducerSettings};
//! use ottla_rt::World;
//! use ottla_testkit::Cluster;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::start().await?;
//! let client = Client::new(World::os(), ClientSettings::new(cluster.bootstrap_servers().parse()?));
//! let producer = Producer::new(client, ProducerSettings::default())?;
//! let record = ProducerRecord { topic: "greetings".into(), value: Some("hello".into()), ..Default::default() };
//! assert_eq!(producer.send(record).await?.await?.offset, Some(0));
//! # Ok(())
//! # }
//! ```
//!
//! It is the broker of `ottla server`, with the same code and settings, on a port of the loopback address that was free. So
//! any client can use it: the test's own, one in C, one in another process. It has a thread and a runtime of its own; a test
//! that blocks its thread, or pauses its runtime's time, does not stop it. Any number run side by side.
//!
//! A dropped [`Cluster`] leaves nothing behind: no thread, no port, no file.
//!
//! Only what makes a test wait without need differs from the broker's defaults: a consumer group does not wait for further
//! members before its first generation (`group.initial.rebalance.delay.ms` is 0).

mod cluster;
mod node;

pub use cluster::{Cluster, ClusterBuilder, ClusterError};
