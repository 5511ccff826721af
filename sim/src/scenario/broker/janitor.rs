//! Makes a topic, writes to it, deletes its records and then itself, over and over: what was deleted stays deleted.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_record::{BatchBuilder, Compression};
use ottla_rt::World;
use ottla_types::{ErrorCode, Uuid};

use super::{BROKER_PORT, refused, topic_id_now};
use crate::choice::Choice;
use crate::driver::{Progress, SERVER};
use crate::kafka::{Connection, Trouble, anomaly};

const TOPIC: &str = "scratch";
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

pub struct Janitor {
    pub world: World,
    pub choice: Choice,
    pub progress: Rc<Progress>,
    /// Topics whose deletion was acknowledged.
    pub gone: BTreeSet<Uuid>,
    pub done: Done,
}

/// What was acknowledged.
#[derive(Clone, Copy, Default)]
pub struct Done {
    pub topics_deleted: u64,
    pub records_deleted: u64,
}

/// The topic of one round.
struct Topic {
    id: Uuid,
    /// Everything below was acknowledged.
    end: i64,
    /// Everything below was deleted, and that acknowledged.
    start: i64,
    /// Its deletion was asked for: it may be gone.
    deleting: bool,
}

impl Janitor {
    /// Works until the faults are over, and ends with a topic deleted.
    pub async fn run(mut self) -> anyhow::Result<Done> {
        let mut topic = None;
        while topic.is_some() || !self.progress.healing() {
            match self.talk(&mut topic).await {
                Ok(()) => {}
                Err(Trouble::Anomaly(what)) => anyhow::bail!("janitor: {what}"),
                Err(Trouble::Connection(_) | Trouble::Refused(_)) => {
                    tokio::time::sleep(self.choice.duration_ms(5..300)).await;
                }
            }
        }
        Ok(self.done)
    }

    /// Steps of a topic's life over one connection.
    async fn talk(&mut self, topic: &mut Option<Topic>) -> Result<(), Trouble> {
        let mut connection = Connection::open(&self.world, SERVER, BROKER_PORT).await?;
        loop {
            let Some(known) = topic.as_mut() else {
                if self.progress.healing() {
                    return Ok(());
                }
                let id = self.create(&mut connection).await?;
                *topic = Some(Topic { id, end: 0, start: 0, deleting: false });
                continue;
            };
            if known.deleting {
                self.delete(&mut connection, known.id).await?;
                *topic = None;
            } else {
                self.check_start(&mut connection, known).await?;
                match self.choice.below(10) {
                    0..5 => self.produce(&mut connection, known).await?,
                    5..8 => self.delete_records(&mut connection, known).await?,
                    _ => known.deleting = true,
                }
                known.deleting |= self.progress.healing();
            }
            tokio::time::sleep(self.choice.duration_ms(1..60)).await;
        }
    }

    async fn create(&self, connection: &mut Connection) -> Result<Uuid, Trouble> {
        let topic = CreatableTopic {
            name: TOPIC.into(),
            num_partitions: 1,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 3000, validate_only: false };
        let response = connection.call(&request, 7).await?;
        let Some(result) = response.topics.first() else { return anomaly("a creation is answered without its topic") };
        let id = match ErrorCode::from_code(result.error_code) {
            Some(ErrorCode::None) => result.topic_id,
            // An earlier try was answered to nobody.
            Some(ErrorCode::TopicAlreadyExists) => match topic_id_now(connection, TOPIC).await? {
                Some(id) => id,
                None => return anomaly("a topic exists and is not there"),
            },
            _ => return refused("create topics", result.error_code),
        };
        if self.gone.contains(&id) { anomaly(format!("the deleted topic {id} is back")) } else { Ok(id) }
    }

    async fn produce(&self, connection: &mut Connection, topic: &mut Topic) -> Result<(), Trouble> {
        let data = PartitionProduceData { index: 0, records: Some(self.batch()?) };
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 3000,
            topic_data: vec![TopicProduceData { name: TOPIC.into(), topic_id: Uuid::ZERO, partition_data: vec![data] }],
        };
        let response = connection.call(&request, 9).await?;
        let Some(answer) = response.responses.first().and_then(|topic| topic.partition_responses.first()) else {
            return anomaly("a produce is answered without its partition");
        };
        if answer.error_code != 0 {
            return refused("produce", answer.error_code);
        }
        if answer.base_offset < topic.end {
            return anomaly(format!("a record got offset {}, {} were acknowledged", answer.base_offset, topic.end));
        }
        topic.end = answer.base_offset + 1;
        Ok(())
    }

    fn batch(&self) -> Result<Bytes, Trouble> {
        let mut builder = BatchBuilder::new(Compression::NONE);
        let value = vec![7; self.choice.below(3000) as usize];
        let built = builder.append(self.world.clock.wall_ms(), None, Some(&value), &[]);
        match built.and_then(|()| builder.finish()) {
            Ok(bytes) => Ok(bytes),
            Err(error) => anomaly(format!("the simulated client builds nonsense: {error}")),
        }
    }

    async fn delete_records(&mut self, connection: &mut Connection, topic: &mut Topic) -> Result<(), Trouble> {
        let offset = topic.start + self.choice.below((topic.end - topic.start) as u64 + 1) as i64;
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: TOPIC.into(),
                partitions: vec![DeleteRecordsPartition { partition_index: 0, offset }],
            }],
            timeout_ms: 3000,
        };
        let response = connection.call(&request, 2).await?;
        let Some(answer) = response.topics.first().and_then(|topic| topic.partitions.first()) else {
            return anomaly("a deletion of records is answered without its partition");
        };
        if answer.error_code != 0 {
            return refused("delete records", answer.error_code);
        }
        if answer.low_watermark < offset {
            return anomaly(format!("records below {offset} deleted, the log begins at {}", answer.low_watermark));
        }
        self.done.records_deleted += (offset - topic.start) as u64;
        topic.start = offset;
        Ok(())
    }

    /// The topic begins where its records were deleted to, or above by a try that was not answered, and reaches its end.
    async fn check_start(&self, connection: &mut Connection, topic: &Topic) -> Result<(), Trouble> {
        let start = self.offset(connection, EARLIEST).await?;
        let end = self.offset(connection, LATEST).await?;
        if start < topic.start {
            return anomaly(format!("records below {} were deleted, and the log begins at {start}", topic.start));
        }
        if end < topic.end {
            return anomaly(format!("{} records were acknowledged, and the log ends at {end}", topic.end));
        }
        match topic_id_now(connection, TOPIC).await? {
            Some(id) if id == topic.id => Ok(()),
            other => anomaly(format!("the topic was {}, and is {other:?}", topic.id)),
        }
    }

    async fn offset(&self, connection: &mut Connection, timestamp: i64) -> Result<i64, Trouble> {
        let wanted = ListOffsetsPartition { partition_index: 0, timestamp, ..ListOffsetsPartition::default() };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic { name: TOPIC.into(), partitions: vec![wanted] }],
            ..ListOffsetsRequest::default()
        };
        let response = connection.call(&request, 7).await?;
        match response.topics.first().and_then(|topic| topic.partitions.first()) {
            Some(answer) if answer.error_code == 0 => Ok(answer.offset),
            Some(answer) => refused("list offsets", answer.error_code),
            None => anomaly("offsets are answered without their partition"),
        }
    }

    async fn delete(&mut self, connection: &mut Connection, id: Uuid) -> Result<(), Trouble> {
        // By its id: a request of an earlier connection that comes late must not hit the next topic of this name.
        let by_id = DeleteTopicState { name: None, topic_id: id };
        let request = DeleteTopicsRequest { topics: vec![by_id], timeout_ms: 3000, ..DeleteTopicsRequest::default() };
        let response = connection.call(&request, 6).await?;
        let Some(answer) = response.responses.first() else {
            return anomaly("a deletion is answered without its topic");
        };
        match ErrorCode::from_code(answer.error_code) {
            // An earlier try was answered to nobody.
            Some(ErrorCode::None | ErrorCode::UnknownTopicId) => {}
            _ => return refused("delete topics", answer.error_code),
        }
        self.gone.insert(id);
        self.done.topics_deleted += 1;
        match topic_id_now(connection, TOPIC).await? {
            Some(found) if self.gone.contains(&found) => {
                anomaly(format!("the topic {found} was deleted, and is there"))
            }
            // A creation that comes late makes another one.
            Some(_) | None => Ok(()),
        }
    }
}
