//! Reading partitions, from where one says or where a policy says, on and on.

mod aborted;
mod fetch_session;
mod fetcher;
mod partitions;
mod settings;
mod tasks;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ottla_types::TopicPartition;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::ClientError;
use crate::leaders::PartitionResults;
use crate::offsets::{EARLIEST, LATEST, ListedOffset};
use crate::record_decoder::{ConsumedBatch, ConsumedRecord, FetchedBatches, OpenRules};
pub(crate) use aborted::AbortedTransactions;
use fetch_session::FetchSession;
pub(crate) use fetcher::{FIRST_VERSION_WITH_TOPIC_IDS, by_partition};
use partitions::{Partitions, Position, Step};
pub use settings::{AutoOffsetReset, ConsumerSettings, IsolationLevel};
use tasks::Event;

/// Reads partitions.
///
/// Everything that takes time is under way in tasks of its own, and goes on between polls; their results are taken over
/// by [`Consumer::poll`]. Dropping a future of the consumer loses nothing; dropping the consumer ends it all.
pub struct Consumer {
    client: Client,
    settings: Arc<ConsumerSettings>,
    rules: OpenRules,
    /// Between two attempts at what failed.
    backoff: Duration,
    partitions: Partitions,
    /// What was fetched and not handed out.
    buffer: VecDeque<FetchedBatches>,
    /// Its bytes.
    buffered: usize,
    buffered_at_look: usize,
    sessions: HashMap<i32, FetchSession>,
    tasks: JoinSet<Event>,
    /// Brokers with a fetch under way.
    asked: HashSet<i32>,
    nodes_not_before: HashMap<i32, Instant>,
    asking_topics: bool,
    topics_not_before: Option<Instant>,
    /// Whether partitions may need something that is not under way.
    stale: bool,
    /// Whether a fetch waits until records are handed out.
    fetch_later: bool,
    /// When to look again.
    wake: Option<Instant>,
    /// Since when nothing works, if so.
    failing: Option<Instant>,
    /// For the next poll to report.
    failed: Option<ClientError>,
}

impl Consumer {
    /// A consumer of nothing yet.
    pub fn new(client: Client, settings: ConsumerSettings) -> Consumer {
        let rules = OpenRules { limits: settings.decompression, check_crcs: settings.check_crcs };
        Consumer {
            backoff: client.settings().retry_backoff,
            client,
            settings: Arc::new(settings),
            rules,
            partitions: Partitions::default(),
            buffer: VecDeque::new(),
            buffered: 0,
            buffered_at_look: 0,
            sessions: HashMap::new(),
            tasks: JoinSet::new(),
            asked: HashSet::new(),
            nodes_not_before: HashMap::new(),
            asking_topics: false,
            topics_not_before: None,
            stale: false,
            fetch_later: false,
            wake: None,
            failing: None,
            failed: None,
        }
    }

    pub fn settings(&self) -> &ConsumerSettings {
        &self.settings
    }

    /// Reads these partitions and no others. Those that were read before go on where they are, the others begin where
    /// `auto.offset.reset` says.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.assign_with(partitions, Step::Reset(self.settings.auto_offset_reset));
    }

    /// Reads these partitions, each from its offset, and no others.
    pub fn assign_at(&mut self, offsets: &BTreeMap<TopicPartition, i64>) {
        self.assign(offsets.keys().cloned());
        for (partition, &offset) in offsets {
            self.seek_to(partition, Position { offset, offset_epoch: None });
        }
    }

    fn assign_with(&mut self, partitions: impl IntoIterator<Item = TopicPartition>, first: Step) {
        self.partitions.assign(partitions, first);
        self.drop_buffers_of_others();
        self.stale = true;
    }

    /// The partitions that are read.
    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.names()
    }

    /// Goes on at this offset of a partition.
    pub fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), ClientError> {
        self.assigned(partition)?;
        self.seek_to(partition, Position { offset, offset_epoch: None });
        Ok(())
    }

    /// Goes on at the beginning of these partitions; where that is, is found by the next poll.
    pub fn seek_to_beginning(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.seek_by(partitions, AutoOffsetReset::Earliest)
    }

    /// Goes on at the end of these partitions; where that is, is found by the next poll.
    pub fn seek_to_end(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.seek_by(partitions, AutoOffsetReset::Latest)
    }

    fn seek_by(&mut self, partitions: &[TopicPartition], rule: AutoOffsetReset) -> Result<(), ClientError> {
        for partition in partitions {
            self.assigned(partition)?;
        }
        for partition in partitions {
            self.reset_to(partition, rule);
        }
        Ok(())
    }

    /// Hands out nothing of these partitions, and fetches nothing, until they are resumed.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.set_paused(partitions, true)
    }

    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.set_paused(partitions, false)
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<(), ClientError> {
        for partition in partitions {
            self.assigned(partition)?;
        }
        for partition in partitions {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.paused = paused;
            }
        }
        self.stale = true;
        Ok(())
    }

    pub fn paused(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.iter().filter(|(_, state)| state.paused).map(|(partition, _)| partition)
    }

    /// Of each partition the offset after what was handed out, where it has one yet.
    pub fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        let consumed = |(partition, state): (&TopicPartition, &partitions::PartitionState)| {
            Some((partition.clone(), state.consumed?.offset))
        };
        self.partitions.iter().filter_map(consumed).collect()
    }

    /// The offset after what was handed out of a partition; it is found if there is none yet.
    pub async fn position(&mut self, partition: &TopicPartition) -> Result<i64, ClientError> {
        let deadline = Instant::now() + self.client.settings().default_api_timeout;
        loop {
            self.assigned(partition)?;
            if let Some(position) = self.partitions.get(partition).and_then(|state| state.consumed) {
                return Ok(position.offset);
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if !self.wait_for_more(deadline).await {
                return Err(no_position(partition));
            }
        }
    }

    /// How many records there are behind what was handed out of a partition, as far as that is known.
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        let read_committed = self.settings.isolation_level == IsolationLevel::ReadCommitted;
        self.partitions.get(partition)?.lag(read_committed)
    }

    /// Of each partition the first offset whose record is not older than its timestamp, in milliseconds; `None` if
    /// there is none.
    pub async fn offsets_for_times(
        &self,
        timestamps: &BTreeMap<TopicPartition, i64>,
    ) -> Result<PartitionResults<Option<ListedOffset>>, ClientError> {
        // Negative timestamps have other meanings.
        let timestamps = timestamps.iter().map(|(partition, &time)| (partition.clone(), time.max(0))).collect();
        self.client.list_offsets_at(&timestamps, self.settings.isolation_level).await
    }

    /// The first offset of each partition.
    pub async fn beginning_offsets(&self, partitions: &[TopicPartition]) -> Result<PartitionResults<i64>, ClientError> {
        self.edges(partitions, EARLIEST).await
    }

    /// The offset after the last record of each partition that this consumer's `isolation.level` lets it read.
    pub async fn end_offsets(&self, partitions: &[TopicPartition]) -> Result<PartitionResults<i64>, ClientError> {
        self.edges(partitions, LATEST).await
    }

    async fn edges(&self, partitions: &[TopicPartition], edge: i64) -> Result<PartitionResults<i64>, ClientError> {
        let asked = partitions.iter().map(|partition| (partition.clone(), edge)).collect();
        let listed = self.client.list_offsets_at(&asked, self.settings.isolation_level).await?;
        let edges = listed.into_iter().map(|(partition, listed)| {
            let edge =
                listed.and_then(|listed| listed.map(|listed| listed.offset).ok_or_else(|| no_position(&partition)));
            (partition, edge)
        });
        Ok(edges.collect())
    }

    /// The next records, at most `max.poll.records`; none if there are none within `wait`.
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        self.poll_at_most(self.settings.max_poll_records, wait).await
    }

    /// The next records, at most so many; none if there are none within `wait`. Nothing is lost if the future is
    /// dropped.
    pub async fn poll_at_most(
        &mut self,
        max_records: usize,
        wait: Duration,
    ) -> Result<Vec<ConsumedRecord>, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            let records = self.take_records(max_records)?;
            if !records.is_empty() {
                self.start_tasks();
                return Ok(records);
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if !self.wait_for_more(deadline).await {
                return Ok(Vec::new());
            }
        }
    }

    /// The next batch as a whole, without copying its records: `None` if there is none within `wait`. Nothing is lost if
    /// the future is dropped.
    pub async fn poll_batch(&mut self, wait: Duration) -> Result<Option<ConsumedBatch>, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(batch) = self.take_batch()? {
                self.start_tasks();
                return Ok(Some(batch));
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if !self.wait_for_more(deadline).await {
                return Ok(None);
            }
        }
    }

    /// Waits until something under way is done; whether that was before the deadline.
    async fn wait_for_more(&mut self, deadline: Instant) -> bool {
        self.start_tasks();
        let until = self.wake.map_or(deadline, |wake| wake.min(deadline));
        tokio::select! {
            biased;
            Some(done) = self.tasks.join_next() => match done {
                Ok(event) => self.accept(event),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => self.stale = true,
            },
            () = tokio::time::sleep_until(until) => {
                self.stale = true;
                return until < deadline;
            }
        }
        true
    }

    fn take_records(&mut self, max_records: usize) -> Result<Vec<ConsumedRecord>, ClientError> {
        let mut records = Vec::new();
        while records.len() < max_records {
            let Some(place) = self.next_in_buffer() else { break };
            let batches = &mut self.buffer[place];
            let before = batches.size();
            let taken = batches.take_records(&self.rules, max_records, &mut records);
            self.handed_out(place, before);
            match taken {
                Ok(false) => break,
                Ok(true) => self.remove_from_buffer(place),
                Err(error) => {
                    // It comes again with the next fetch.
                    let partition = self.buffer[place].partition.clone();
                    self.fetch_again(&partition);
                    if records.is_empty() {
                        return Err(error);
                    }
                    break;
                }
            }
        }
        Ok(records)
    }

    fn take_batch(&mut self) -> Result<Option<ConsumedBatch>, ClientError> {
        while let Some(place) = self.next_in_buffer() {
            let batches = &mut self.buffer[place];
            let before = batches.size();
            let taken = batches.take_batch(&self.rules);
            if taken.is_ok() {
                self.handed_out(place, before);
            } else {
                let partition = self.buffer[place].partition.clone();
                self.fetch_again(&partition);
            }
            if let Some(batch) = taken? {
                return Ok(Some(batch));
            }
            self.remove_from_buffer(place);
        }
        Ok(None)
    }

    /// Removes what is handed out; behind the last whole batch there may be a part of the next.
    fn remove_from_buffer(&mut self, place: usize) {
        let Some(batches) = self.buffer.remove(place) else { return };
        self.buffered -= batches.size();
        if let Some(state) = self.partitions.get_mut(&batches.partition) {
            state.buffered -= batches.size();
        }
    }

    /// What to hand out next.
    fn next_in_buffer(&self) -> Option<usize> {
        let paused = |partition| self.partitions.get(partition).is_some_and(|state| state.paused);
        self.buffer.iter().position(|batches| !paused(&batches.partition))
    }

    /// Moves the position of a partition to behind what was handed out.
    fn handed_out(&mut self, place: usize, size_before: usize) {
        let batches = &self.buffer[place];
        let opened = size_before - batches.size();
        self.buffered -= opened;
        if let Some(state) = self.partitions.get_mut(&batches.partition) {
            let (offset, offset_epoch) = batches.position();
            let offset_epoch = offset_epoch.or(state.consumed.and_then(|consumed| consumed.offset_epoch));
            state.consumed = Some(Position { offset, offset_epoch });
            state.buffered -= opened;
        }
        let enough = usize::try_from(self.settings.max_partition_fetch_bytes / 4).unwrap_or_default();
        if self.fetch_later && (self.buffered == 0 || self.buffered_at_look - self.buffered >= enough) {
            self.stale = true;
        }
    }

    fn assigned(&self, partition: &TopicPartition) -> Result<(), ClientError> {
        if self.partitions.get(partition).is_some() {
            return Ok(());
        }
        let TopicPartition { topic, partition } = partition;
        Err(ClientError::NotAssigned { topic: topic.to_string(), partition: *partition })
    }

    fn seek_to(&mut self, partition: &TopicPartition, position: Position) {
        self.partitions.seek(partition, position);
        self.drop_buffer(partition);
    }

    fn reset_to(&mut self, partition: &TopicPartition, rule: AutoOffsetReset) {
        self.partitions.reset(partition, rule);
        self.drop_buffer(partition);
    }

    fn fetch_again(&mut self, partition: &TopicPartition) {
        self.partitions.fetch_again(partition);
        self.drop_buffer(partition);
    }

    fn drop_buffer(&mut self, partition: &TopicPartition) {
        self.buffer.retain(|batches| batches.partition != *partition);
        self.count_buffer();
    }

    fn drop_buffers_of_others(&mut self) {
        let partitions = &self.partitions;
        self.buffer.retain(|batches| partitions.get(&batches.partition).is_some());
        self.count_buffer();
    }

    fn count_buffer(&mut self) {
        self.buffered = self.buffer.iter().map(FetchedBatches::size).sum();
        self.buffered_at_look = self.buffered_at_look.max(self.buffered);
        self.stale = true;
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.tasks.abort_all();
        // Brokers end the sessions of those that are gone by themselves; outside a runtime that has to do.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.end_sessions();
        }
    }
}

fn sooner(wake: &mut Option<Instant>, other: Instant) {
    *wake = Some(wake.map_or(other, |wake| wake.min(other)));
}

fn no_position(partition: &TopicPartition) -> ClientError {
    let TopicPartition { topic, partition } = partition;
    ClientError::NoPosition { topic: topic.to_string(), partition: *partition }
}
