//! How old the next record of a reader is.

use std::collections::BTreeMap;

use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::{ApiKey, FetchedRecords, StrBytes};
use ottla_types::TopicPartition;

use crate::client::Client;
use crate::connection::Connection;
use crate::consumer::{FIRST_VERSION_WITH_TOPIC_IDS, by_partition};
use crate::error::{ClientError, RecordsFault, check, failure};
use crate::leaders::{Answers, LeaderQuestion, PartitionResults};
use crate::record_decoder::{FetchedBatches, OpenRules};
use crate::topics::Leader;

/// Only the first batch of each partition is wanted, which is mostly smaller than this.
const FIRST_PARTITION_BYTES: i32 = 64 << 10;
const MOST_PARTITION_BYTES: i32 = 4 << 20;
const MOST_BYTES: i32 = 16 << 20;

/// A partition that has no answer yet.
struct Wanted {
    partition: TopicPartition,
    leader: Leader,
    offset: i64,
}

impl Client {
    /// The timestamp of the first record at or after each offset, in milliseconds; `None` if there is no such record
    /// yet. An offset before the first one there is, or after the end, fails with `OFFSET_OUT_OF_RANGE`.
    pub async fn record_times(
        &self,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<PartitionResults<Option<i64>>, ClientError> {
        self.at_leaders(offsets.keys().cloned().collect(), &RecordTimes(offsets)).await
    }
}

struct RecordTimes<'a>(&'a BTreeMap<TopicPartition, i64>);

impl LeaderQuestion for RecordTimes<'_> {
    type Answer = Option<i64>;

    async fn ask(
        &self,
        connection: &Connection,
        partitions: &[(TopicPartition, Leader)],
    ) -> Result<Answers<Option<i64>>, ClientError> {
        let wanted = partitions.iter().map(|(partition, leader)| Wanted {
            partition: partition.clone(),
            leader: *leader,
            offset: self.0[partition],
        });
        read_times(connection, wanted.collect()).await
    }
}

/// A broker gives a whole batch for the first partition of a fetch, and for others what fits: so it is asked again for
/// the rest, each time with one less at least, and with more room.
async fn read_times(connection: &Connection, mut wanted: Vec<Wanted>) -> Result<Answers<Option<i64>>, ClientError> {
    let mut answers = Answers::new();
    let mut partition_bytes = FIRST_PARTITION_BYTES;
    while !wanted.is_empty() {
        let with_ids = wanted.iter().all(|wanted| !wanted.leader.topic_id.is_zero());
        let highest = if with_ids { i16::MAX } else { FIRST_VERSION_WITH_TOPIC_IDS - 1 };
        let request = request(&wanted, partition_bytes);
        let response = connection.send_at_most(&request, highest, connection.timeout()).await?;
        check(ApiKey::Fetch, response.error_code, None)?;
        let mut found = by_partition(response.responses);
        let mut rest = Vec::new();
        let mut progress = false;
        for mut asked in wanted {
            let by_id = (asked.leader.topic_id, asked.partition.partition);
            let by_name = (String::from(&*asked.partition.topic), asked.partition.partition);
            let Some(answer) = found.ids.remove(&by_id).or_else(|| found.names.remove(&by_name)) else {
                return Err(ClientError::Incomplete(ApiKey::Fetch));
            };
            let answered = if let Some(code) = failure(answer.error_code) {
                Some(Err(code))
            } else if asked.offset >= answer.high_watermark {
                Some(Ok(None))
            } else {
                let before = asked.offset;
                let bytes = answer.records.and_then(FetchedRecords::into_bytes).unwrap_or_default();
                let time = first_time(&mut asked, bytes)?;
                progress |= asked.offset > before;
                time.map(|time| Ok(Some(time)))
            };
            match answered {
                Some(answered) => {
                    progress = true;
                    answers.push((asked.partition, answered));
                }
                None => rest.push(asked),
            }
        }
        if let Some(stuck) = rest.first().filter(|_| !progress) {
            return Err(ClientError::Records {
                topic: stuck.partition.topic.to_string(),
                partition: stuck.partition.partition,
                offset: stuck.offset,
                fault: RecordsFault::NoProgress,
            });
        }
        wanted = rest;
        partition_bytes = partition_bytes.saturating_mul(2).min(MOST_PARTITION_BYTES);
    }
    Ok(answers)
}

/// The time of the first record in what was fetched. Batches without one (markers, what compaction left) are passed.
fn first_time(asked: &mut Wanted, bytes: bytes::Bytes) -> Result<Option<i64>, ClientError> {
    let mut batches = FetchedBatches::new(asked.partition.clone(), bytes, asked.offset, None);
    while let Some(batch) = batches.open_next(&OpenRules::default())? {
        if let Some(record) = batch.records().next() {
            return Ok(Some(record?.timestamp));
        }
    }
    (asked.offset, _) = batches.position();
    Ok(None)
}

fn request(wanted: &[Wanted], partition_max_bytes: i32) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for Wanted { partition, leader, offset } in wanted {
        let asked = FetchPartition {
            partition: partition.partition,
            current_leader_epoch: leader.leader_epoch,
            fetch_offset: *offset,
            partition_max_bytes,
            ..Default::default()
        };
        match topics.last_mut().filter(|topic| *topic.topic == *partition.topic) {
            Some(topic) => topic.partitions.push(asked),
            None => topics.push(FetchTopic {
                topic: StrBytes::from(&partition.topic),
                topic_id: leader.topic_id,
                partitions: vec![asked],
            }),
        }
    }
    FetchRequest { max_wait_ms: 0, min_bytes: 0, max_bytes: MOST_BYTES, topics, ..Default::default() }
}
