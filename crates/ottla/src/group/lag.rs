//! How far a group is behind: in records, and in time.
//!
//! The lag in records of a partition is its end offset less the group's committed offset, as in Kafka's tools. The lag
//! in time is the age of the next record the group will read: now, by this machine's clock, less that record's timestamp.
//! It is zero where there is nothing to read, and where the timestamp lies in the future. If records the group has not
//! read are deleted already, the next record is the oldest there is.

use std::collections::{BTreeMap, BTreeSet};

use ottla_client::{Client, ClientError, CommittedOffset, StartAt};
use ottla_types::TopicPartition;

/// A group in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionLag {
    /// None while the group has committed nothing here.
    pub committed: Option<CommittedOffset>,
    /// Unknown for a partition that is gone, or has no leader.
    pub log_start: Option<i64>,
    pub log_end: Option<i64>,
    /// Timestamp of the next record; unknown where there is none, or times were not asked for.
    pub next_record_ms: Option<i64>,
    pub lag_ms: Option<i64>,
    /// Why something is unknown.
    pub problem: Option<String>,
}

impl PartitionLag {
    pub fn records(&self) -> Option<i64> {
        Some((self.log_end? - self.committed.as_ref()?.offset).max(0))
    }
}

/// The lag in every partition that is committed or assigned.
pub async fn of_group(
    client: &Client,
    committed: BTreeMap<TopicPartition, CommittedOffset>,
    assigned: &BTreeSet<TopicPartition>,
    times: bool,
) -> Result<BTreeMap<TopicPartition, PartitionLag>, ClientError> {
    let partitions: BTreeSet<TopicPartition> = committed.keys().chain(assigned).cloned().collect();
    let all: Vec<TopicPartition> = partitions.iter().cloned().collect();
    let mut starts = client.resolve_each_offset(&all, StartAt::Beginning).await?;
    let mut ends = client.resolve_each_offset(&all, StartAt::End).await?;
    let mut lags: BTreeMap<TopicPartition, PartitionLag> = BTreeMap::new();
    for partition in partitions {
        let mut lag = PartitionLag { committed: committed.get(&partition).cloned(), ..PartitionLag::default() };
        for (found, place) in [(&mut starts, &mut lag.log_start), (&mut ends, &mut lag.log_end)] {
            match found.remove(&partition) {
                Some(Ok(offset)) => *place = Some(offset),
                Some(Err(error)) => lag.problem = Some(error.to_string()),
                None => {}
            }
        }
        lags.insert(partition, lag);
    }
    if times {
        add_times(client, &mut lags).await?;
    }
    Ok(lags)
}

async fn add_times(client: &Client, lags: &mut BTreeMap<TopicPartition, PartitionLag>) -> Result<(), ClientError> {
    let mut next = BTreeMap::new();
    for (partition, lag) in &mut *lags {
        let (Some(committed), Some(start), Some(end)) = (&lag.committed, lag.log_start, lag.log_end) else { continue };
        let offset = committed.offset.max(start);
        if offset >= end {
            lag.lag_ms = Some(0);
        } else {
            next.insert(partition.clone(), offset);
        }
    }
    let times = client.record_times(&next).await?;
    let now_ms = client.world().clock.wall_ms();
    for (partition, time) in times {
        let Some(lag) = lags.get_mut(&partition) else { continue };
        match time {
            Ok(time) => {
                lag.next_record_ms = time;
                lag.lag_ms = Some(time.map_or(0, |time| now_ms.saturating_sub(time).max(0)));
            }
            Err(error) => lag.problem = Some(error.to_string()),
        }
    }
    Ok(())
}
