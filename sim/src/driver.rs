//! One server and one client through faults, then through healing.
//!
//! The client works against the server until it is told that the faults are over; then it must be able to verify
//! everything it was ever promised, within a bounded simulated time.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use clap::ValueEnum;
use ottla_rt::World;
use ottla_rt::memory::{Failure, Fault, Operation};
use turmoil::Sim;

use crate::choice::Choice;
use crate::machine::{Death, Machine};
use crate::report::Counts;
use crate::scenario::Scenario;
use crate::trace::Trace;

pub const SERVER: &str = "server";
const CLIENT: &str = "client";

/// In the names of the files that records are in.
const RECORDS: &str = ".log";

/// How long the healed system has to verify everything.
const HEALING: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
#[error("not healed after {HEALING:?} without faults")]
pub struct NotHealed;

/// A defect switched on at run time, which the simulation has to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// Syncs succeed and do nothing: records are acknowledged before they are durable.
    FlushesDisabled,
    // The others are the log's own: see there.
    RecoveryScanOff,
    FlushedBeforeSync,
    RollNotNamed,
    SyncRetried,
    RecoveryPointKept,
    RecoveryPointAhead,
    UnsyncedCounted,
    DoubtsIgnored,
    TruncationNotSynced,
    CheckpointInPlace,
    FailedDirectoryServed,
    SegmentsRemovedFirst,
    CopyNotSynced,
    MoveNotNamed,
    JournalNotLeft,
}

impl Planted {
    pub fn of_the_log(self) -> Option<ottla_log::Planted> {
        Some(match self {
            Planted::FlushesDisabled => return None,
            Planted::RecoveryScanOff => ottla_log::Planted::RecoveryScanOff,
            Planted::FlushedBeforeSync => ottla_log::Planted::FlushedBeforeSync,
            Planted::RollNotNamed => ottla_log::Planted::RollNotNamed,
            Planted::SyncRetried => ottla_log::Planted::SyncRetried,
            Planted::RecoveryPointKept => ottla_log::Planted::RecoveryPointKept,
            Planted::RecoveryPointAhead => ottla_log::Planted::RecoveryPointAhead,
            Planted::UnsyncedCounted => ottla_log::Planted::UnsyncedCounted,
            Planted::DoubtsIgnored => ottla_log::Planted::DoubtsIgnored,
            Planted::TruncationNotSynced => ottla_log::Planted::TruncationNotSynced,
            Planted::CheckpointInPlace => ottla_log::Planted::CheckpointInPlace,
            Planted::FailedDirectoryServed => ottla_log::Planted::FailedDirectoryServed,
            Planted::SegmentsRemovedFirst => ottla_log::Planted::SegmentsRemovedFirst,
            Planted::CopyNotSynced => ottla_log::Planted::CopyNotSynced,
            Planted::MoveNotNamed => ottla_log::Planted::MoveNotNamed,
            Planted::JournalNotLeft => ottla_log::Planted::JournalNotLeft,
        })
    }

    /// The scenarios that have to notice it.
    pub fn noticed_by(self) -> &'static [Scenario] {
        match self {
            Planted::FlushesDisabled | Planted::RecoveryScanOff => Scenario::value_variants(),
            _ => &[Scenario::Log],
        }
    }
}

/// Everything one seed's run is made of.
pub struct Run {
    pub seed: u64,
    pub planted: Option<Planted>,
    pub trace: Arc<Trace>,
    pub counts: Rc<RefCell<Counts>>,
}

/// Shared by driver and client.
#[derive(Default)]
pub struct Progress {
    healing: Cell<bool>,
}

impl Progress {
    /// The faults are over: verify and finish.
    pub fn healing(&self) -> bool {
        self.healing.get()
    }
}

/// Faults a scenario's server is meant to survive, beyond dying.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub network: bool,
    /// Power that fails between two operations of the disk.
    pub power_during_operations: bool,
    /// Writes and syncs that fail with `EIO`; the server may stop.
    pub disk_errors: bool,
}

/// Runs a seed: `server` again after each death, `client` once.
pub fn drive<S, SF, C, CF>(run: &Run, machine: &Machine, faults: Faults, server: S, client: C) -> anyhow::Result<()>
where
    S: Fn(World) -> SF + 'static,
    SF: Future<Output = anyhow::Result<()>> + 'static,
    C: FnOnce(Rc<Progress>) -> CF,
    CF: Future<Output = anyhow::Result<()>> + 'static,
{
    if run.planted == Some(Planted::FlushesDisabled) {
        machine.disk.ignore_syncs(Some(RECORDS));
    }
    let mut sim = turmoil::Builder::new()
        .rng_seed(run.seed)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(0))
        .max_message_latency(Duration::from_millis(3))
        .simulation_duration(Duration::from_secs(3600))
        .tcp_capacity(1024)
        .build();

    let stopped: Rc<RefCell<Option<String>>> = Rc::default();
    let (exit, starts, host) = (Rc::clone(&stopped), Rc::clone(&run.counts), machine.clone());
    let server = Rc::new(server);
    sim.host(SERVER, move || {
        let (exit, host, server) = (Rc::clone(&exit), host.clone(), Rc::clone(&server));
        starts.borrow_mut().starts += 1;
        async move {
            // A server that fails is looked at by the driver: whether it was allowed to is not known here.
            let result = server(host.world()).await;
            *exit.borrow_mut() = Some(match result {
                Ok(()) => "it stopped by itself".to_owned(),
                Err(error) => format!("{error:#}"),
            });
            Ok(())
        }
    });
    let progress = Rc::new(Progress::default());
    let work = client(Rc::clone(&progress));
    sim.client(CLIENT, async move { work.await.map_err(|error| format!("{error:#}").into()) });

    let choice = Choice::new(run.seed, "driver");
    let mut driver = Driver { run, machine, faults, sim, stopped, choice, failures_before: 0 };
    driver.fault_phase()?;
    driver.heal()?;
    progress.healing.set(true);
    let finished = driver.finish();
    let mut counts = run.counts.borrow_mut();
    counts.disk_faults += machine.disk.faults_struck();
    counts.struck(&machine.disk.struck());
    drop(counts);
    finished
}

struct Driver<'a> {
    run: &'a Run,
    machine: &'a Machine,
    faults: Faults,
    sim: Sim<'static>,
    /// Why the server is no longer running, once it is not.
    stopped: Rc<RefCell<Option<String>>>,
    choice: Choice,
    /// Operations of the disk that had failed when the server's life began.
    failures_before: u64,
}

impl Driver<'_> {
    fn fault_phase(&mut self) -> anyhow::Result<()> {
        let rounds = self.choice.within(2..8);
        for _ in 0..rounds {
            self.prepare_disk_faults();
            let life = *self.choice.of(&[30, 300, 1500, 5000]);
            let life = self.choice.duration_ms(5..life);
            self.live(life)?;
            if self.choice.one_in(3) {
                self.disturb_network()?;
            }
            let death = Death::choose(&self.choice);
            self.die(death);
            self.step_for(self.choice.duration_ms(1..200))?;
            self.sim.bounce(SERVER);
        }
        Ok(())
    }

    fn prepare_disk_faults(&mut self) {
        let disk = &self.machine.disk;
        match self.choice.below(6) {
            0 | 1 if self.faults.power_during_operations => {
                let reach = *self.choice.of(&[20, 200, 2000]);
                disk.power_off_after(self.choice.below(reach));
            }
            2 if self.faults.disk_errors => {
                let operation = *self.choice.of(&[Operation::Write, Operation::Sync]);
                disk.inject(Fault::nth(operation, self.choice.below(200), Failure::Io));
            }
            3 => {
                // Nothing a caller should ever notice.
                for _ in 0..3 {
                    let failure = *self.choice.of(&[Failure::Short, Failure::Interrupted]);
                    let operation = *self.choice.of(&[Operation::Read, Operation::Write]);
                    disk.inject(Fault::nth(operation, self.choice.below(300), failure));
                }
            }
            _ => {}
        }
    }

    /// Steps until the time is over or the server has stopped, as only a fault may make it.
    fn live(&mut self, life: Duration) -> anyhow::Result<()> {
        let end = self.sim.elapsed() + life;
        while self.sim.elapsed() < end && self.stopped.borrow().is_none() && self.machine.disk.is_powered() {
            self.step()?;
        }
        self.check_excused()
    }

    fn check_excused(&self) -> anyhow::Result<()> {
        match &*self.stopped.borrow() {
            Some(reason) if self.disk_has_failed() => {
                self.run.trace.event("stopped", reason);
                Ok(())
            }
            Some(reason) => Err(anyhow!("the server stopped without a fault: {reason}")),
            None => Ok(()),
        }
    }

    /// Whether a fault has struck that allows the server to stop: one that waits for its operation allows nothing.
    fn disk_has_failed(&self) -> bool {
        self.machine.disk.failed_operations() > self.failures_before
    }

    fn disturb_network(&mut self) -> anyhow::Result<()> {
        if !self.faults.network {
            return Ok(());
        }
        self.run.counts.borrow_mut().network_faults += 1;
        let outage = self.choice.duration_ms(1..3000);
        if self.choice.one_in(2) {
            self.sim.hold(SERVER, CLIENT);
            self.live(outage)?;
            self.sim.release(SERVER, CLIENT);
        } else {
            self.sim.partition(SERVER, CLIENT);
            self.live(outage)?;
            self.sim.repair(SERVER, CLIENT);
        }
        let after = self.choice.duration_ms(1..1000);
        self.live(after)
    }

    fn die(&mut self, death: Death) {
        self.sim.crash(SERVER);
        self.stopped.borrow_mut().take();
        self.machine.die(death, &mut self.run.counts.borrow_mut());
        self.machine.disk.clear_faults();
        self.failures_before = self.machine.disk.failed_operations();
    }

    /// The last life has no faults, and does not end.
    fn heal(&mut self) -> anyhow::Result<()> {
        self.run.trace.event("healing", "");
        self.check_excused()
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let deadline = self.sim.elapsed() + HEALING;
        while !self.step()? {
            self.check_excused()?;
            if self.sim.elapsed() > deadline {
                return Err(NotHealed.into());
            }
        }
        self.run.counts.borrow_mut().disk_operations += self.machine.disk.operations();
        self.run.trace.event("end", &format!("{:016x} {:?}", self.machine.disk.trace(), self.sim.elapsed()));
        Ok(())
    }

    fn step_for(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    /// One tick; true once the client is done.
    fn step(&mut self) -> anyhow::Result<bool> {
        self.sim.step().map_err(|error| anyhow!("{error}"))
    }
}
