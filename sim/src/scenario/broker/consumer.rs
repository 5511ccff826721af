//! A consumer that reads along, and goes back now and then: what it has seen must stay.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ottla_protocol::{FetchedRecords, StrBytes};
use ottla_rt::World;
use ottla_types::{ErrorCode, Uuid};

use super::{BROKER_PORT, PARTITIONS, refused};
use crate::choice::Choice;
use crate::driver::SERVER;
use crate::history::{History, Value, values};
use crate::kafka::{Connection, Trouble, anomaly};

/// In a `ListOffsets` request: the end of the log.
const LATEST: i64 = -1;

pub struct Consumer {
    pub topic: &'static str,
    pub topic_id: Uuid,
    pub world: World,
    pub choice: Choice,
    pub history: Rc<RefCell<History>>,
}

impl Consumer {
    /// Reads until nothing more is to come.
    pub async fn run(&self, done: Rc<Cell<bool>>) -> anyhow::Result<()> {
        let mut positions = vec![0; PARTITIONS as usize];
        while !done.get() {
            match self.talk(&mut positions, &done).await {
                Ok(()) => {}
                Err(Trouble::Anomaly(what)) => anyhow::bail!("consumer: {what}"),
                Err(Trouble::Connection(_) | Trouble::Refused(_)) => {
                    tokio::time::sleep(self.choice.duration_ms(5..300)).await;
                }
            }
        }
        Ok(())
    }

    async fn talk(&self, positions: &mut [i64], done: &Cell<bool>) -> Result<(), Trouble> {
        let mut connection = Connection::open(&self.world, SERVER, BROKER_PORT).await?;
        let version = *self.choice.of(&[4, 11, 12, 13, 17]);
        while !done.get() {
            if self.choice.one_in(30) {
                let partition = self.choice.below(PARTITIONS as u64) as usize;
                positions[partition] = self.choice.below(positions[partition] as u64 + 1) as i64;
            }
            for (partition, records) in self.fetch(&mut connection, version, positions).await? {
                let mut history = self.history.borrow_mut();
                for (offset, value) in records {
                    history.observe(partition as i32, offset, value).map_err(Trouble::Anomaly)?;
                    positions[partition] = offset + 1;
                }
            }
        }
        Ok(())
    }

    /// The records at and after these positions, of the partitions that have any now.
    async fn fetch(
        &self,
        connection: &mut Connection,
        version: i16,
        positions: &[i64],
    ) -> Result<Vec<(usize, Vec<(i64, Value)>)>, Trouble> {
        let promised: Vec<i64> =
            (0..PARTITIONS).map(|partition| self.history.borrow().promised_end(partition)).collect();
        let partitions = positions.iter().enumerate().map(|(partition, position)| FetchPartition {
            partition: partition as i32,
            fetch_offset: *position,
            partition_max_bytes: *self.choice.of(&[1, 1000, 1 << 20]),
            ..FetchPartition::default()
        });
        let (topic, topic_id) =
            if version >= 13 { (StrBytes::default(), self.topic_id) } else { (self.topic.into(), Uuid::ZERO) };
        let request = FetchRequest {
            max_wait_ms: self.choice.below(200) as i32,
            min_bytes: 1,
            topics: vec![FetchTopic { topic, topic_id, partitions: partitions.collect() }],
            ..FetchRequest::default()
        };
        let response = connection.call(&request, version).await?;
        if response.error_code != 0 {
            return refused("fetch", response.error_code);
        }
        let mut found = Vec::new();
        for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            let partition = data.partition_index as usize;
            let (Some(position), Some(promised)) = (positions.get(partition), promised.get(partition)) else {
                return anomaly(format!("a fetch returned partition {partition}"));
            };
            match ErrorCode::from_code(data.error_code) {
                Some(ErrorCode::None) => {}
                Some(ErrorCode::OffsetOutOfRange) => {
                    return anomaly(format!(
                        "{position} is out of range, {partition} was read or written up to {promised}"
                    ));
                }
                _ => return refused("fetch", data.error_code),
            }
            if data.high_watermark < *promised {
                let high_watermark = data.high_watermark;
                return anomaly(format!("{partition} ends at {high_watermark}, {promised} records were promised"));
            }
            let mut records = values(&data.records.and_then(FetchedRecords::into_bytes).unwrap_or_default())
                .map_err(Trouble::Anomaly)?;
            // The batch the position is in comes as a whole.
            records.retain(|(offset, _)| offset >= position);
            if records.first().is_some_and(|(offset, _)| offset != position) {
                return anomaly(format!("asked for {partition}@{position}, {} came first", records[0].0));
            }
            found.push((partition, records));
        }
        Ok(found)
    }

    /// Every record of a partition, from its beginning to the end the broker names.
    pub async fn read_all(&self, partition: i32) -> Result<Vec<(i64, Value)>, Trouble> {
        let mut connection = Connection::open(&self.world, SERVER, BROKER_PORT).await?;
        let end = self.end(&mut connection, partition).await?;
        let mut found: Vec<(i64, Value)> = Vec::new();
        while (found.len() as i64) < end {
            // Positions of the other partitions at their ends, so that nothing of them comes.
            let mut positions: Vec<i64> =
                (0..PARTITIONS).map(|partition| self.history.borrow().promised_end(partition)).collect();
            positions[partition as usize] = found.last().map_or(0, |(offset, _)| offset + 1);
            let fetched = self.fetch(&mut connection, 12, &positions).await?;
            let records = fetched.into_iter().filter(|(of, _)| *of == partition as usize).flat_map(|(_, it)| it);
            found.extend(records);
        }
        Ok(found)
    }

    async fn end(&self, connection: &mut Connection, partition: i32) -> Result<i64, Trouble> {
        let wanted =
            ListOffsetsPartition { partition_index: partition, timestamp: LATEST, ..ListOffsetsPartition::default() };
        let topic = ListOffsetsTopic { name: self.topic.into(), partitions: vec![wanted] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
        let response = connection.call(&request, 7).await?;
        match response.topics.first().and_then(|topic| topic.partitions.first()) {
            Some(answer) if answer.error_code == 0 => Ok(answer.offset),
            Some(answer) => refused("list offsets", answer.error_code),
            None => anomaly("an answer without a partition"),
        }
    }
}
