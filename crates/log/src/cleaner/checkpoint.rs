//! `cleaner-offset-checkpoint`: up to where each log of a directory was cleaned, in Kafka's format.
//!
//! What lies below is clean: no two records there have the same key, but for those the cleaner may not remove yet. A cut
//! lowers it, since what is written above the cut has not been cleaned.

use std::io;
use std::path::{Path, PathBuf};

use ottla_types::TopicPartition;
use parking_lot::Mutex;

use crate::checkpoint::{self, OffsetCheckpoint};
use crate::directory::Shared;
use crate::names;

/// The checkpoint of one directory.
pub(crate) struct CleanedOffsets {
    path: PathBuf,
    /// As last written.
    written: Mutex<OffsetCheckpoint>,
}

impl CleanedOffsets {
    pub(crate) fn new(directory: &Path, written: OffsetCheckpoint) -> CleanedOffsets {
        CleanedOffsets { path: directory.join(names::CLEANER_CHECKPOINT), written: Mutex::new(written) }
    }

    pub(crate) fn get(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.written.lock().get(topic_partition).copied()
    }

    /// The log was cleaned up to here.
    pub(super) fn set(&self, shared: &Shared, topic_partition: &TopicPartition, offset: i64) -> io::Result<()> {
        self.change(shared, |offsets| {
            offsets.insert(topic_partition.clone(), offset);
        })
    }

    /// A log is about to be cut to `offset`.
    pub(crate) fn lower(&self, shared: &Shared, topic_partition: &TopicPartition, offset: i64) -> io::Result<()> {
        self.change(shared, |offsets| {
            if let Some(cleaned_to) = offsets.get_mut(topic_partition) {
                *cleaned_to = offset.min(*cleaned_to);
            }
        })
    }

    /// A partition is about to be made: what the file says of this name was of another.
    pub(crate) fn forget(&self, shared: &Shared, topic_partition: &TopicPartition) -> io::Result<()> {
        self.change(shared, |offsets| {
            offsets.remove(topic_partition);
        })
    }

    /// A partition is moved here, cleaned up to this offset if it ever was.
    pub(crate) fn take_in(
        &self,
        shared: &Shared,
        topic_partition: &TopicPartition,
        cleaned_to: Option<i64>,
    ) -> io::Result<()> {
        self.change(shared, |offsets| {
            match cleaned_to {
                Some(offset) => offsets.insert(topic_partition.clone(), offset),
                None => offsets.remove(topic_partition),
            };
        })
    }

    fn change(&self, shared: &Shared, change: impl FnOnce(&mut OffsetCheckpoint)) -> io::Result<()> {
        let mut written = self.written.lock();
        let mut offsets = written.clone();
        change(&mut offsets);
        if *written != offsets {
            checkpoint::write_offsets(&*shared.world.disk, &self.path, &offsets)?;
            *written = offsets;
        }
        Ok(())
    }
}
