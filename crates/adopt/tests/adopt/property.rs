//! Random histories of a cluster, cut into batches, segments and a snapshot: what is adopted is what a simple model says.

use std::collections::BTreeMap;

use ottla_adopt::{AdoptionState, KafkaRecord, execute};
use ottla_protocol::records::abort_transaction_record::AbortTransactionRecord;
use ottla_protocol::records::begin_transaction_record::BeginTransactionRecord;
use ottla_protocol::records::end_transaction_record::EndTransactionRecord;
use ottla_protocol::records::producer_ids_record::ProducerIdsRecord;
use ottla_protocol::records::remove_topic_record::RemoveTopicRecord;
use ottla_types::Uuid;
use proptest::prelude::*;

use crate::generator::*;

#[derive(Clone, Debug)]
enum Step {
    Create {
        name: u8,
        partitions: u8,
    },
    Delete {
        name: u8,
    },
    Grow {
        name: u8,
    },
    Config {
        name: u8,
        key: u8,
        value: Option<u8>,
    },
    ProducerIds {
        blocks: u8,
    },
    Begin,
    End,
    Abort,
    /// The next record begins a batch.
    Batch,
    /// The next batch begins a segment.
    Segment,
    /// A snapshot of what there is.
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..6_u8;
    prop_oneof![
        4 => (name.clone(), 1..4_u8).prop_map(|(name, partitions)| Step::Create { name, partitions }),
        2 => name.clone().prop_map(|name| Step::Delete { name }),
        2 => name.clone().prop_map(|name| Step::Grow { name }),
        4 => (name, 0..3_u8, proptest::option::of(0..9_u8)).prop_map(|(name, key, value)| Step::Config { name, key, value }),
        1 => (1..3_u8).prop_map(|blocks| Step::ProducerIds { blocks }),
        1 => Just(Step::Begin),
        1 => Just(Step::End),
        1 => Just(Step::Abort),
        3 => Just(Step::Batch),
        1 => Just(Step::Segment),
        1 => Just(Step::Snapshot),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct ModelTopic {
    id: Uuid,
    partitions: i32,
    configs: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    topics: BTreeMap<String, ModelTopic>,
    next_producer_id: i64,
}

const KEYS: [&str; 3] = ["retention.ms", "segment.ms", "retention.bytes"];

/// A history under way: the model, and the bytes so far.
struct History {
    model: Model,
    before: Option<Model>,
    ids: u8,
    pending: Vec<KafkaRecord>,
    segments: Vec<(i64, LogBytes)>,
    snapshot: Option<(i64, LogBytes)>,
}

impl History {
    fn new() -> History {
        History {
            model: Model::default(),
            before: None,
            ids: 0,
            pending: Vec::new(),
            segments: vec![(0, beginning())],
            snapshot: None,
        }
    }

    fn log(&mut self) -> &mut LogBytes {
        &mut self.segments.last_mut().unwrap().1
    }

    fn flush(&mut self) -> i64 {
        let records = std::mem::take(&mut self.pending);
        let log = self.log();
        if !records.is_empty() {
            log.batch(&records);
        }
        log.next_offset
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Create { name, partitions } => {
                let name = format!("topic-{name}");
                if self.model.topics.contains_key(&name) || self.ids == u8::MAX {
                    return;
                }
                self.ids += 1;
                let id = topic_id(self.ids);
                self.pending.push(topic(&name, id));
                self.pending.extend((0..i32::from(*partitions)).map(|number| partition(id, number)));
                let partitions = i32::from(*partitions);
                self.model.topics.insert(name, ModelTopic { id, partitions, configs: BTreeMap::new() });
            }
            Step::Delete { name } => {
                if let Some(topic) = self.model.topics.remove(&format!("topic-{name}")) {
                    self.pending.push(RemoveTopicRecord { topic_id: topic.id }.into());
                }
            }
            Step::Grow { name } => {
                if let Some(topic) = self.model.topics.get_mut(&format!("topic-{name}")) {
                    self.pending.push(partition(topic.id, topic.partitions));
                    topic.partitions += 1;
                }
            }
            Step::Config { name, key, value } => {
                let (name, key) = (format!("topic-{name}"), KEYS[usize::from(*key)]);
                let Some(topic) = self.model.topics.get_mut(&name) else { return };
                let value = value.map(|value| (u64::from(value) * 10_000 + 60_000).to_string());
                self.pending.push(config(2, &name, key, value.as_deref()));
                match value {
                    Some(value) => topic.configs.insert(key.to_owned(), value),
                    None => topic.configs.remove(key),
                };
            }
            Step::ProducerIds { blocks } => {
                self.model.next_producer_id += i64::from(*blocks) * 1_000;
                let next_producer_id = self.model.next_producer_id;
                self.pending.push(ProducerIdsRecord { broker_id: NODE, broker_epoch: 4, next_producer_id }.into());
            }
            Step::Begin if self.before.is_none() => {
                self.before = Some(self.model.clone());
                self.pending.push(BeginTransactionRecord::default().into());
            }
            Step::End if self.before.take().is_some() => self.pending.push(EndTransactionRecord::default().into()),
            Step::Abort => {
                if let Some(before) = self.before.take() {
                    self.model = before;
                    self.pending.push(AbortTransactionRecord::default().into());
                }
            }
            Step::Batch => {
                self.flush();
            }
            Step::Segment => {
                let offset = self.flush();
                if self.segments.last().is_some_and(|(base_offset, _)| *base_offset < offset) {
                    self.segments.push((offset, LogBytes::starting_at(offset)));
                }
            }
            // Kafka's snapshots hold no half of a transaction.
            Step::Snapshot if self.before.is_none() => {
                let offset = self.flush();
                self.snapshot = Some((offset, self.snapshot_bytes()));
            }
            Step::Begin | Step::End | Step::Snapshot => {}
        }
    }

    fn snapshot_bytes(&self) -> LogBytes {
        let mut snapshot = LogBytes::default();
        snapshot.snapshot_header().batch(&[feature_level("metadata.version", 30), broker(NODE, vec![directory_id(1)])]);
        for (name, kept) in &self.model.topics {
            snapshot.batch(&[topic(name, kept.id)]);
            snapshot.batch(&(0..kept.partitions).map(|number| partition(kept.id, number)).collect::<Vec<_>>());
            for (key, value) in &kept.configs {
                snapshot.batch(&[config(2, name, key, Some(value))]);
            }
        }
        let next_producer_id = self.model.next_producer_id;
        snapshot.batch(&[ProducerIdsRecord { broker_id: NODE, broker_epoch: 4, next_producer_id }.into()]);
        snapshot.snapshot_footer();
        snapshot
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn what_is_adopted_is_what_was(steps in proptest::collection::vec(step(), 0..60), drop_covered: bool) {
        let mut history = History::new();
        for step in &steps {
            history.take(step);
        }
        history.flush();
        let expected = history.before.clone().unwrap_or_else(|| history.model.clone());
        let kafka = KafkaDirectory::new(80);
        let covered = history.snapshot.as_ref().map_or(0, |(end_offset, _)| *end_offset);
        if let Some((end_offset, snapshot)) = &history.snapshot {
            kafka.snapshot(*end_offset, 1, &snapshot.bytes);
        }
        let last = history.segments.len() - 1;
        for (place, (base_offset, log)) in history.segments.iter().enumerate() {
            // Kafka deletes segments that a snapshot covers.
            if !drop_covered || place == last || log.next_offset > covered {
                kafka.segment(*base_offset, &log.bytes);
            }
        }
        let report = execute(&kafka.world, &settings()).unwrap();
        prop_assert_eq!(report.state, AdoptionState::Adopted);
        prop_assert_eq!(report.source.unfinished_transaction, history.before.is_some());
        let image = adopted_image(&kafka.world, DIRECTORY);
        image.check_invariants();
        let mut found = Model { next_producer_id: image.next_producer_id(), ..Model::default() };
        for topic in image.topics() {
            let configs = image.topic_configs(&topic.name).map(|configs| (**configs).clone()).unwrap_or_default();
            let configs = configs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            let partitions = i32::try_from(topic.partition_count()).unwrap();
            found.topics.insert(topic.name.to_string(), ModelTopic { id: topic.topic_id, partitions, configs });
        }
        let expected = Model {
            next_producer_id: expected.next_producer_id.max(FIRST_PRODUCER_ID),
            ..expected
        };
        prop_assert_eq!(found, expected);
    }
}
