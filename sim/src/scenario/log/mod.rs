//! The storage engine alone, against a model: appends, flushes, rolls, truncations, deletions of records, creations,
//! deletions, checkpoints, clean stops, and deaths in between. Any step may meet a disk that fails or is full at its nth
//! operation.
//!
//! Promised and checked at every start: whatever was acknowledged is there; what else is there was appended, in order,
//! and ends with a whole batch; nothing truncated or deleted comes back; the producer state knows the last batches. A
//! failed directory answers nothing any more; a full one refuses, and goes on.

mod life;
mod model;
mod step;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use ottla_config::LogConfig;
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
    /// Few flushes are asked for.
    lazy: bool,
    partitions: RefCell<BTreeMap<TopicPartition, PartitionModel>>,
    next_value: RefCell<u64>,
    lives: RefCell<i32>,
    /// What must never happen has.
    anomaly: RefCell<Option<String>>,
    /// Everything was verified after the last fault.
    verified: RefCell<bool>,
    counts: Rc<RefCell<Counts>>,
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
        ..LogConfig::default()
    };
    let lazy = choice.one_in(3);
    let partition = |number| (TopicPartition::new(format!("topic-{}", number % 2), number), PartitionModel::new());
    let shared = Rc::new(Shared {
        choice,
        machine: machine.clone(),
        config,
        planted: run.planted.and_then(Planted::of_the_log),
        lazy,
        partitions: RefCell::new((0..PARTITIONS).map(partition).collect()),
        next_value: RefCell::default(),
        lives: RefCell::default(),
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
