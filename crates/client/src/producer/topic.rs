//! A topic as a producer sees it: its partitions, the queues of those that got records, and where the next record goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_types::TopicPartition;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::RecordRef;
use super::accumulator::{Accumulator, Waiting};
use super::settings::ProducerSettings;
use crate::client::Client;
use crate::metadata::TopicDescription;
use crate::partitioner::{Sticky, choose, partition_for_key};

pub(super) struct Topic {
    name: Arc<str>,
    described: Arc<TopicDescription>,
    /// Of what the client knows, when it was last looked at.
    version: u64,
    /// In order.
    partitions: Vec<Partition>,
    /// Those it had once; what was accepted for them still gets its result.
    gone: Vec<Partition>,
    sticky: Sticky,
}

struct Partition {
    partition: i32,
    led: bool,
    /// `None` until the first record.
    queue: Option<Queue>,
}

/// The records of a partition, and the task that sends them, which ends with this.
pub(super) struct Queue {
    pub(super) accumulator: Arc<Accumulator>,
    task: JoinHandle<()>,
}

impl Queue {
    pub(super) fn new(accumulator: Arc<Accumulator>, task: JoinHandle<()>) -> Queue {
        Queue { accumulator, task }
    }

    /// Ends the task. What it had not sent, or had no answer for, has its result then.
    pub(super) async fn end(mut self) {
        self.task.abort();
        // It ends by being aborted, or it ended before.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Topic {
    pub(super) fn new(name: Arc<str>, described: Arc<TopicDescription>) -> Topic {
        let mut topic = Topic {
            name,
            described: Arc::clone(&described),
            version: 0,
            partitions: Vec::new(),
            gone: Vec::new(),
            sticky: Sticky::default(),
        };
        topic.take(described);
        topic
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Takes what the topic has become, if anything changed.
    pub(super) fn follow(&mut self, client: &Client) {
        let version = client.topics_version();
        if version != self.version {
            self.version = version;
            if let Some(described) = client.known_topic(&self.name) {
                self.take(described);
            }
        }
    }

    fn take(&mut self, described: Arc<TopicDescription>) {
        if !self.partitions.iter().map(|known| known.partition).eq(described.partitions.keys().copied()) {
            let mut known: BTreeMap<i32, Partition> =
                self.partitions.drain(..).chain(self.gone.drain(..)).map(|known| (known.partition, known)).collect();
            let partition =
                |&partition| known.remove(&partition).unwrap_or(Partition { partition, led: false, queue: None });
            self.partitions = described.partitions.keys().map(partition).collect();
            self.gone = known.into_values().filter(|partition| partition.queue.is_some()).collect();
            self.sticky = Sticky::default();
        }
        for (known, found) in self.partitions.iter_mut().zip(described.partitions.values()) {
            known.led = found.leader.is_some();
        }
        self.described = described;
    }

    /// Which of the partitions a record goes to, or the number of the one that is not there.
    pub(super) fn place(
        &mut self,
        record: &RecordRef<'_>,
        size: usize,
        settings: &ProducerSettings,
        random: impl FnOnce() -> u64,
    ) -> Result<usize, i32> {
        let chosen = || settings.partitioner.as_ref()?.partition(record, &self.described);
        if let Some(partition) = record.partition.or_else(chosen) {
            let position = self.partitions.binary_search_by_key(&partition, |known| known.partition);
            return position.map_err(|_| partition);
        }
        if let Some(key) = record.key.filter(|_| !settings.partitioner_ignore_keys) {
            return Ok(partition_for_key(key, self.partitions.len()));
        }
        let joins = |position: usize| {
            let queue = self.partitions.get(position).and_then(|partition| partition.queue.as_ref());
            queue.is_some_and(|queue| queue.accumulator.joins(size))
        };
        if let Some(position) = self.sticky.place(size, settings.batch_size, joins) {
            return Ok(position);
        }
        let position = self.choose(settings, random());
        self.sticky = Sticky::choose(position);
        Ok(position)
    }

    /// Where the next records without a key go.
    fn choose(&self, settings: &ProducerSettings, random: u64) -> usize {
        let patience = Some(settings.partitioner_availability_timeout).filter(|patience| !patience.is_zero());
        let patience = patience.map(|patience| settings.linger + patience);
        let waiting: Vec<Option<usize>> =
            self.partitions.iter().map(|partition| partition.available(patience)).collect();
        choose(&waiting, settings.partitioner_adaptive_partitioning_enable, random)
    }

    /// Counts a record that a partition took.
    pub(super) fn took(&mut self, position: usize, size: usize) {
        self.sticky.took(position, size);
    }

    /// The number and the records of a partition, whose queue begins with the first one.
    pub(super) fn accumulator(
        &mut self,
        position: usize,
        begin: impl FnOnce(TopicPartition) -> Queue,
    ) -> (i32, &Accumulator) {
        let Partition { partition, queue, .. } = &mut self.partitions[position];
        let name = &self.name;
        let queue = queue.get_or_insert_with(|| begin(TopicPartition::new(Arc::clone(name), *partition)));
        (*partition, &queue.accumulator)
    }

    pub(super) fn hurry(&self) {
        for queue in self.partitions.iter().chain(&self.gone).filter_map(|partition| partition.queue.as_ref()) {
            queue.accumulator.hurry();
        }
    }

    pub(super) fn take_queues(&mut self) -> impl Iterator<Item = Queue> {
        self.partitions.iter_mut().chain(&mut self.gone).filter_map(|partition| partition.queue.take())
    }
}

impl Partition {
    /// How many batches wait, or `None` if records should rather go elsewhere: it has no leader, or a batch waits for
    /// longer than `patience`.
    fn available(&self, patience: Option<Duration>) -> Option<usize> {
        let waiting = self.queue.as_ref().map_or(Waiting::default(), |queue| queue.accumulator.waiting());
        let stuck =
            patience.is_some_and(|patience| waiting.since.is_some_and(|since: Instant| since.elapsed() > patience));
        (self.led && !stuck).then_some(waiting.batches)
    }
}
