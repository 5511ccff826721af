//! Partitions on their way from one log directory to another, while everything else happens to them.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use ottla_log::{MoveReplicaError, MoveSettings};
use ottla_types::TopicPartition;

use super::life::{Life, Outcome};

pub const DIRECTORIES: [&str; 2] = ["/data/a", "/data/b"];

impl Life {
    /// Moves that death or a stop interrupted go on, at some rate.
    pub(super) fn go_on_moving(&self) {
        let choice = &self.shared.choice;
        let mut moving = self.moving.borrow_mut();
        for future in self.manager.futures() {
            self.shared.counts.borrow_mut().moves_interrupted += 1;
            let targets =
                self.manager.directories().into_iter().filter(|directory| directory.id == Some(future.directory_id));
            moving.extend(targets.map(|directory| (future.topic_partition.clone(), directory.path)));
        }
        self.manager.start_moves(MoveSettings {
            threads: choice.within(1..3) as usize,
            bytes_per_second: *choice.of(&[f64::MAX, f64::MAX, 300_000.0, 20_000.0]),
        });
    }

    /// Has a partition moved, or a move of it given up. Now and then nothing else happens until that has ended.
    pub(super) async fn move_replica(&self, partition: &TopicPartition) -> Outcome<()> {
        let choice = &self.shared.choice;
        let target = Path::new(*choice.of(&DIRECTORIES));
        match self.manager.move_replica(partition, target).await {
            Ok(()) => {}
            // Without room for another name, what a move has left goes under its own, and later.
            Err(MoveReplicaError::Occupied(_)) if self.was_full.get() => return Ok(Ok(())),
            Err(error) => {
                let no_space =
                    matches!(&error, MoveReplicaError::Io { source, .. } if source.kind() == ErrorKind::StorageFull);
                return self.unless_refused(format!("{partition}: move to {}: {error}", target.display()), no_space);
            }
        }
        self.moving.borrow_mut().insert(partition.clone(), target.to_path_buf());
        let mut patience = if choice.one_in(2) { choice.below(300) } else { 0 };
        while patience > 0 && self.manager.futures().iter().any(|future| future.topic_partition == *partition) {
            patience -= 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Ok(()))
    }

    /// Counts the partitions that have come where they were to go.
    pub(super) fn count_moves(&self) {
        let futures = self.manager.futures();
        self.moving.borrow_mut().retain(|partition, target| {
            if futures.iter().any(|future| future.topic_partition == *partition) {
                return true;
            }
            let log = self.manager.get(partition);
            let arrived = log.is_some_and(|log| log.path().parent() == Some(target.as_path()));
            self.shared.counts.borrow_mut().partitions_moved += u64::from(arrived);
            false
        });
    }
}
