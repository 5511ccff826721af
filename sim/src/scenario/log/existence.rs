//! Partitions that come and go.

use std::io::ErrorKind;
use std::sync::Arc;

use ottla_log::{LogError, NewPartition};
use ottla_types::{TopicPartition, Uuid};

use super::life::{Life, Outcome, sound};
use super::model::Existence;

impl Life {
    /// Those that a start finds are those that were made, and not deleted.
    pub(super) fn check_existence(&self) -> Result<(), String> {
        for (partition, model) in self.shared.partitions.borrow_mut().iter_mut() {
            let found = self.manager.get(partition).map(|log| log.topic_id());
            match (model.existence, found) {
                (Existence::Absent | Existence::PerhapsCreated(_) | Existence::PerhapsDeleted(_), None) => {
                    model.reset(Existence::Absent);
                }
                // It becomes durable with its first records.
                (Existence::Present(_), None)
                    if model.promised_end == 0 && !(self.shared.is_kept() && model.end() > 0) =>
                {
                    model.reset(Existence::Absent);
                }
                (Existence::PerhapsCreated(id), Some(Some(found))) if id == found => {
                    model.reset(Existence::Present(id));
                }
                (Existence::Present(id) | Existence::PerhapsDeleted(id), Some(Some(found))) if id == found => {
                    model.existence = Existence::Present(id);
                }
                (expected, found) => return Err(format!("{partition}: {expected:?}, found {found:?}")),
            }
        }
        Ok(())
    }

    pub(super) async fn create(&self) -> Outcome<()> {
        let choice = &self.shared.choice;
        let absent = self.partitions(|existence| existence == Existence::Absent);
        let mut wanted = Vec::new();
        for topic_partition in absent.into_iter().filter(|_| choice.one_in(2)) {
            let topic_id = self.new_topic_id();
            if let Some(model) = self.shared.partitions.borrow_mut().get_mut(&topic_partition) {
                model.reset(Existence::PerhapsCreated(topic_id));
            }
            wanted.push(NewPartition { topic_partition, topic_id, config: Arc::clone(&self.config) });
        }
        let results = self.manager.create(wanted.clone()).await;
        for (partition, result) in wanted.into_iter().zip(results) {
            let topic_partition = partition.topic_partition;
            if let Err(error) = result {
                let no_space = matches!(&error, LogError::Io { source, .. } if source.kind() == ErrorKind::StorageFull);
                sound!(self.unless_refused(format!("{topic_partition}: create: {error}"), no_space)?);
                if let Some(model) = self.shared.partitions.borrow_mut().get_mut(&topic_partition) {
                    model.reset(Existence::Absent);
                }
                continue;
            }
            if let Some(model) = self.shared.partitions.borrow_mut().get_mut(&topic_partition) {
                model.existence = Existence::Present(partition.topic_id);
            }
        }
        Ok(Ok(()))
    }

    fn new_topic_id(&self) -> Uuid {
        loop {
            let mut bytes = [0; 16];
            self.world.entropy.fill(&mut bytes);
            if let Some(topic_id) = Uuid::from_random_bytes(bytes) {
                return topic_id;
            }
        }
    }

    pub(super) async fn delete(&self, partition: &TopicPartition) -> Outcome<()> {
        if let Some(model) = self.shared.partitions.borrow_mut().get_mut(partition)
            && let Existence::Present(topic_id) = model.existence
        {
            model.existence = Existence::PerhapsDeleted(topic_id);
        }
        if let Err(error) = self.manager.delete(partition).await {
            return self.unless_excused(format!("{partition}: delete: {error}"));
        }
        if let Some(model) = self.shared.partitions.borrow_mut().get_mut(partition) {
            model.reset(Existence::Absent);
        }
        Ok(Ok(()))
    }
}
