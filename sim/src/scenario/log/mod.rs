//! The storage engine alone, against a model: appends, flushes, rolls, truncations, deletions of records, creations,
//! deletions, moves between log directories, checkpoints, clean stops, and deaths in between. Any step may meet a disk that
//! fails or is full at its nth operation.
//!
//! Promised and checked at every start: whatever was acknowledged is there; what else is there was appended, in order,
//! and ends with a whole batch; nothing truncated or deleted comes back; the producer state knows the last batches. A
//! failed directory answers nothing any more; a full one refuses, and goes on.
//!
//! With page-cache durability what was appended is acknowledged: without a power loss all of it is there, and a power loss
//! takes the end of a partition, from some batch on, and nothing that was flushed. Such a start has not synced what it
//! found, and promises no more of it. In some seeds each life has a durability of its own.

mod existence;
mod life;
mod model;
mod moving;
mod step;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use ottla_config::{Durability, LogConfig};
use ottla_log::JournalSettings;
use ottla_types::TopicPartition;

use self::life::Life;
use self::model::PartitionModel;
use crate::choice::Choice;
use crate::driver::{Faults, Planted, Progress, Run, drive};
use crate::machine::Machine;
use crate::report::Counts;

const PARTITIONS: i32 = 4;

/// What outlives the lives.
struct Shared {
    choice: Choice,
    machine: Machine,
    config: LogConfig,
    planted: Option<ottla_log::Planted>,
    /// Each life has one of these, as if somebody changed the configuration between two starts.
    durabilities: &'static [Durability],
    /// Of the last start that found what it had to.
    durability: Cell<Durability>,
    /// Few flushes are asked for.
    lazy: bool,
    journal: JournalSettings,
    partitions: RefCell<BTreeMap<TopicPartition, PartitionModel>>,
    next_value: RefCell<u64>,
    lives: RefCell<i32>,
    /// Before the last start that found what it had to.
    deaths_recovered: Cell<Deaths>,
    /// What must never happen has.
    anomaly: RefCell<Option<String>>,
    /// Everything was verified after the last fault.
    verified: RefCell<bool>,
    counts: Rc<RefCell<Counts>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Deaths {
    kills: u64,
    power_losses: u64,
}

impl Shared {
    /// As with page-cache durability. Otherwise a flush does it.
    fn is_acknowledged_by_append(&self) -> bool {
        self.durability.get() == Durability::PageCache
    }

    /// Whether everything that was appended has to be there still.
    fn is_kept(&self) -> bool {
        let recovered = self.deaths_recovered.get();
        self.counts.borrow().power_losses == recovered.power_losses
    }

    /// A start has found what it had to. From now on this is the durability.
    fn note_recovery(&self, durability: Durability) {
        let mut counts = self.counts.borrow_mut();
        let now = Deaths { kills: counts.kills, power_losses: counts.power_losses };
        let before = self.deaths_recovered.replace(now);
        if self.is_acknowledged_by_append() {
            counts.page_cache_kills += now.kills - before.kills;
            counts.page_cache_power_losses += now.power_losses - before.power_losses;
        }
        self.durability.set(durability);
    }
}

pub fn run(run: &Run) -> anyhow::Result<()> {
    let machine = Machine::new(run.seed, &run.trace);
    let faults = Faults { network: false, power_during_operations: true, disk_errors: true };
    let choice = Choice::new(run.seed, "log");
    let config = LogConfig {
        segment_bytes: *choice.of(&[4 << 10, 32 << 10, 1 << 20]),
        segment_index_bytes: *choice.of(&[128, 4 << 10, 1 << 20]),
        index_interval_bytes: *choice.of(&[0, 300, 4096]),
        file_delete_delay_ms: *choice.of(&[0, 100, 60_000]),
        preallocate: choice.one_in(4),
        flush_messages: *choice.of(&[10, 300, i64::MAX]),
        ..LogConfig::default()
    };
    let durabilities: &'static [Durability] =
        [&[Durability::Fsync][..], &[Durability::PageCache], &[Durability::Fsync, Durability::PageCache]]
            [choice.below(3) as usize];
    // With page-cache durability the log asks for flushes itself.
    let lazy = durabilities.contains(&Durability::PageCache) || choice.one_in(3);
    let journal = JournalSettings {
        from_partitions: *choice.of(&[1, 2, 3]),
        // Most planted defects are of the files that records are in.
        file_bytes: match (*choice.of(&[0, 16 << 10, 64 << 10, 1 << 20]), run.planted) {
            (_, Some(Planted::JournalNotLeft)) => 1 << 20,
            (_, Some(_)) => 0,
            (file_bytes, None) => file_bytes,
        },
    };
    let partition = |number| (TopicPartition::new(format!("topic-{}", number % 2), number), PartitionModel::new());
    let shared = Rc::new(Shared {
        choice,
        machine: machine.clone(),
        config,
        planted: run.planted.and_then(Planted::of_the_log),
        durabilities,
        durability: Cell::new(Durability::Fsync),
        lazy,
        journal,
        partitions: RefCell::new((0..PARTITIONS).map(partition).collect()),
        next_value: RefCell::default(),
        lives: RefCell::default(),
        deaths_recovered: Cell::default(),
        anomaly: RefCell::default(),
        verified: RefCell::default(),
        counts: Rc::clone(&run.counts),
    });
    let progress_of_server: Rc<RefCell<Option<Rc<Progress>>>> = Rc::default();
    let (server, server_progress) = (Rc::clone(&shared), Rc::clone(&progress_of_server));
    drive(
        run,
        &machine,
        faults,
        move |world| {
            let (shared, progress) = (Rc::clone(&server), Rc::clone(&server_progress));
            async move { Life::run(world, shared, &progress).await }
        },
        move |progress| {
            *progress_of_server.borrow_mut() = Some(progress);
            // The engine has no clients: this one looks on.
            async move {
                while !*shared.verified.borrow() {
                    if let Some(anomaly) = shared.anomaly.borrow().as_ref() {
                        bail!("{anomaly}");
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(())
            }
        },
    )
}
