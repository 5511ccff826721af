//! A client for Apache Kafka's protocol, in Rust.
//!
//! * [`Connection`] speaks the protocol to one broker and negotiates versions.
//! * [`Client`] knows a cluster: it asks the right broker, and asks again while that can help. Its admin functions make,
//!   describe, change and delete topics, configurations, groups and their offsets.
//! * [`Producer`] sends records: batched, idempotent, each with a result to wait for.
//! * [`Consumer`] and [`GroupConsumer`] read them.
//!
//! Settings have Kafka's names, in Rust's spelling (`linger.ms` is [`ProducerSettings::linger`]), and Kafka's defaults.
//!
//! ```no_run
//! use ottla_client::{Client, ClientSettings, Producer, ProducerRecord, ProducerSettings};
//! use ottla_rt::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(World::os(), ClientSettings::new("localhost:9092".parse()?));
//! let producer = Producer::new(client, ProducerSettings::default())?;
//! let record = ProducerRecord { topic: "greetings".into(), value: Some("hello".into()), ..Default::default() };
//! let delivery = producer.send(record).await?.await?;
//! println!("partition {}, offset {:?}", delivery.partition, delivery.offset);
//! producer.close(std::time::Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! It is pure protocol: nothing here reaches into a broker of the same process, and everything a broker sends is foreign
//! bytes. Every request has a timeout, every wait an end. Whatever is dropped or aborted, nobody waits for ever for what
//! it would have given. It reaches the network, the time and randomness through `ottla_rt`.
//!
//! Not here yet: transactions, the consumer group protocol of KIP-848. TLS and SASL mechanisms other than PLAIN are the
//! user's: [`Transport`], [`SaslMechanism`].

mod admin;
mod assignor;
mod client;
mod connection;
mod consumer;
mod error;
mod group;
mod leaders;
mod metadata;
mod offsets;
mod partitioner;
mod producer;
mod record_decoder;
mod record_times;
mod retry;
mod security;
mod settings;
mod topics;

pub use admin::{
    BrokerVersions, CommittedOffset, ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ConfigResourceType,
    ConfigSource, ConfigSynonym, ConfigType, CreatedTopic, GroupDescription, GroupFilter, GroupMember, GroupType,
    ListedGroup, LogDirectory, NewTopic, ReplicaSize,
};
pub use assignor::{
    CooperativeStickyAssignor, GroupAssignment, GroupSubscription, PartitionAssignor, RangeAssignor, RebalanceProtocol,
    RoundRobinAssignor, StickyAssignor,
};
pub use client::Client;
pub use connection::{Connection, ConnectionSettings};
pub use consumer::{AutoOffsetReset, Consumer, ConsumerSettings, IsolationLevel};
pub use error::{ClientError, ConnectionError};
pub use group::{GroupConsumer, GroupSettings};
pub use leaders::PartitionResults;
pub use metadata::{BrokerDescription, ClusterDescription, PartitionDescription, TopicDescription};
pub use offsets::{ListedOffset, StartAt};
pub use partitioner::{Partitioner, RoundRobinPartitioner, murmur2, partition_for_key};
pub use producer::{
    Acks, Delivery, PendingDelivery, Producer, ProducerInterceptor, ProducerRecord, ProducerSettings,
    ProducerSettingsError, RecordRef,
};
pub use record_decoder::{ConsumedBatch, ConsumedRecord};
pub use security::{Plaintext, SaslError, SaslExchange, SaslFault, SaslMechanism, SaslPlain, Transport};
pub use settings::{BootstrapServers, ClientSettings, MetadataRecoveryStrategy};
