//! A producer that does not give up: each batch is sent again, with its sequence, until it is acknowledged.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_record::{BatchBuilder, Codec, Compression};
use ottla_rt::World;
use ottla_types::{ErrorCode, Uuid};

use super::{BROKER_PORT, refused};
use crate::choice::Choice;
use crate::driver::{Progress, SERVER};
use crate::history::{History, Value};
use crate::kafka::{Awaited, Connection, Trouble, anomaly};

/// As many as Kafka's brokers remember per producer.
const WINDOW: usize = 5;

pub struct Producer {
    pub number: u32,
    pub partition: i32,
    pub topic: &'static str,
    pub topic_id: Uuid,
    pub world: World,
    pub choice: Choice,
    pub history: Rc<RefCell<History>>,
    pub progress: Rc<Progress>,
}

/// A batch not yet acknowledged.
struct Batch {
    values: Vec<Value>,
    bytes: Bytes,
}

/// The identity of a producer, once it has one.
struct Identity {
    producer_id: i64,
    producer_epoch: i16,
    next_sequence: i32,
}

impl Producer {
    /// Works until the faults are over and everything sent is acknowledged.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut identity = None;
        let mut waiting = VecDeque::new();
        loop {
            match self.talk(&mut identity, &mut waiting).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Anomaly(what)) => anyhow::bail!("producer {}: {what}", self.number),
                Err(Trouble::Connection(_) | Trouble::Refused(_)) => {
                    tokio::time::sleep(self.choice.duration_ms(5..300)).await;
                }
            }
        }
    }

    /// One connection's life. Batches are in order, so all that wait are sent again first.
    async fn talk(&self, identity: &mut Option<Identity>, waiting: &mut VecDeque<Batch>) -> Result<(), Trouble> {
        let mut connection = Connection::open(&self.world, SERVER, BROKER_PORT).await?;
        let identity = match identity {
            Some(identity) => identity,
            None => identity.insert(self.identify(&mut connection).await?),
        };
        let version = *self.choice.of(&[3, 7, 9, 12, 13]);
        let mut sent: VecDeque<Awaited> = VecDeque::new();
        loop {
            if !self.progress.healing() && waiting.len() < WINDOW && (waiting.is_empty() || self.choice.one_in(2)) {
                waiting.push_back(self.batch(identity)?);
            }
            while let Some(batch) = waiting.get(sent.len()) {
                sent.push_back(connection.send(&self.request(batch, version), version).await?);
            }
            let Some(awaited) = sent.pop_front() else {
                return Ok(());
            };
            let response = connection.receive::<ProduceRequest>(awaited).await?;
            let Some(answer) = response.responses.first().and_then(|topic| topic.partition_responses.first()) else {
                return anomaly("an answer without a partition");
            };
            match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => {
                    self.acknowledged(waiting, answer.base_offset)?;
                }
                // It is there; where is no longer known.
                Some(ErrorCode::DuplicateSequenceNumber) => drop(waiting.pop_front()),
                _ => return refused("produce", answer.error_code),
            }
            if self.choice.one_in(4) {
                tokio::time::sleep(self.choice.duration_ms(1..50)).await;
            }
        }
    }

    fn acknowledged(&self, waiting: &mut VecDeque<Batch>, base_offset: i64) -> Result<(), Trouble> {
        let Some(batch) = waiting.pop_front() else { return anomaly("an answer to nothing") };
        // A duplicate whose place the broker no longer knows.
        if base_offset < 0 {
            return Ok(());
        }
        let mut history = self.history.borrow_mut();
        for (offset, value) in (base_offset..).zip(batch.values) {
            history.acknowledge(self.partition, offset, value).map_err(Trouble::Anomaly)?;
        }
        Ok(())
    }

    async fn identify(&self, connection: &mut Connection) -> Result<Identity, Trouble> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        let response = connection.call(&request, 4).await?;
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => Ok(Identity {
                producer_id: response.producer_id,
                producer_epoch: response.producer_epoch,
                next_sequence: 0,
            }),
            _ => refused("init producer id", response.error_code),
        }
    }

    fn batch(&self, identity: &mut Identity) -> Result<Batch, Trouble> {
        let codec = *self.choice.of(&[Codec::None, Codec::None, Codec::Lz4]);
        let mut builder = BatchBuilder::new(Compression::new(codec));
        builder.set_producer(identity.producer_id, identity.producer_epoch, identity.next_sequence);
        let now_ms = self.world.clock.wall_ms();
        let values: Vec<Value> = {
            let mut history = self.history.borrow_mut();
            (0..self.choice.within(1..20)).map(|_| history.send(self.number, self.partition)).collect()
        };
        let largest = *self.choice.of(&[20, 200, 200, 9000]);
        for value in &values {
            let encoded = value.encode(self.choice.below(largest) as usize);
            if let Err(error) = builder.append(now_ms, None, Some(&encoded), &[]) {
                return anomaly(format!("the simulated client builds nonsense: {error}"));
            }
        }
        identity.next_sequence += values.len() as i32;
        match builder.finish() {
            Ok(bytes) => Ok(Batch { values, bytes }),
            Err(error) => anomaly(format!("the simulated client builds nonsense: {error}")),
        }
    }

    fn request(&self, batch: &Batch, version: i16) -> ProduceRequest {
        let data = PartitionProduceData { index: self.partition, records: Some(batch.bytes.clone()) };
        let (name, topic_id) =
            if version >= 13 { (StrBytes::default(), self.topic_id) } else { (self.topic.into(), Uuid::ZERO) };
        ProduceRequest {
            transactional_id: None,
            acks: if self.choice.one_in(4) { 1 } else { -1 },
            timeout_ms: Duration::from_secs(3).as_millis() as i32,
            topic_data: vec![TopicProduceData { name, topic_id, partition_data: vec![data] }],
        }
    }
}
