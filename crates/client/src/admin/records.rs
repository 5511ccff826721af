//! Deleting the oldest records of partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::StrBytes;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_types::TopicPartition;

use crate::client::Client;
use crate::connection::Connection;
use crate::error::{ClientError, failure};
use crate::leaders::{Answers, LeaderQuestion, PartitionResults};
use crate::topics::Leader;

impl Client {
    /// Deletes the records before these offsets, and says where each partition begins now. An offset of -1 is the high
    /// watermark: everything.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, i64>,
    ) -> Result<PartitionResults<i64>, ClientError> {
        let (timeout, timeout_ms) = (self.operation_timeout(), self.operation_timeout_ms());
        let question = DeleteBefore { before, timeout, timeout_ms };
        self.at_leaders(before.keys().cloned().collect(), &question).await
    }
}

struct DeleteBefore<'a> {
    before: &'a BTreeMap<TopicPartition, i64>,
    timeout: Duration,
    timeout_ms: i32,
}

impl LeaderQuestion for DeleteBefore<'_> {
    type Answer = i64;

    async fn ask(
        &self,
        connection: &Connection,
        partitions: &[(TopicPartition, Leader)],
    ) -> Result<Answers<i64>, ClientError> {
        let mut topics: Vec<DeleteRecordsTopic> = Vec::new();
        for (at, _) in partitions {
            let asked = DeleteRecordsPartition { partition_index: at.partition, offset: self.before[at] };
            if let Some(topic) = topics.last_mut().filter(|topic| *topic.name == *at.topic) {
                topic.partitions.push(asked);
            } else {
                let name = StrBytes::from(&at.topic);
                topics.push(DeleteRecordsTopic { name, partitions: vec![asked] });
            }
        }
        let request = DeleteRecordsRequest { topics, timeout_ms: self.timeout_ms };
        let response = connection.send_at_most(&request, i16::MAX, self.timeout).await?;
        let answers = response.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|found| {
                let at = TopicPartition::new(topic.name.as_str(), found.partition_index);
                (at, failure(found.error_code).map_or(Ok(found.low_watermark), Err))
            })
        });
        Ok(answers.collect())
    }
}
