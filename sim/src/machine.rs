//! A simulated machine: what stays when its processes die.

use std::sync::Arc;
use std::time::Duration;

use ottla_rt::World;
use ottla_rt::memory::{InlineSpawn, MemoryDisk, PowerLoss, SeededEntropy, TimerClock};

use crate::choice::Choice;
use crate::net::SimNet;
use crate::report::Counts;
use crate::trace::Trace;

/// A sync takes about what a good disk takes, long enough for power to be lost in between.
const SYNC_LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(12));

/// 2026-01-01T00:00:00Z.
const START_WALL_MS: i64 = 1_767_225_600_000;

#[derive(Clone)]
pub struct Machine {
    pub disk: MemoryDisk,
    entropy: Arc<SeededEntropy>,
    trace: Arc<Trace>,
}

/// How a machine's processes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// As by SIGKILL: the page cache stays.
    Process,
    Power(PowerLoss),
}

impl Death {
    pub fn choose(choice: &Choice) -> Death {
        match choice.below(8) {
            0..3 => Death::Process,
            3 => Death::Power(PowerLoss::LoseUnsynced),
            _ => Death::Power(PowerLoss::Arbitrary { seed: choice.number() }),
        }
    }
}

impl Machine {
    pub fn new(seed: u64, trace: &Arc<Trace>) -> Machine {
        let disk = MemoryDisk::new(seed);
        disk.set_sync_latency(Some(SYNC_LATENCY));
        Machine { disk, entropy: Arc::new(SeededEntropy::new(!seed)), trace: Arc::clone(trace) }
    }

    /// The world of a process that starts now on this machine. To be called inside its simulated host.
    pub fn world(&self) -> World {
        let passed = turmoil::sim_elapsed().unwrap_or_default();
        World {
            disk: self.disk.mount(),
            net: Arc::new(SimNet { trace: Arc::clone(&self.trace) }),
            clock: Arc::new(TimerClock::at(START_WALL_MS + passed.as_millis() as i64)),
            entropy: Arc::clone(&self.entropy) as _,
            spawn: Arc::new(InlineSpawn),
        }
    }

    /// What a death leaves on the disk. The simulated host is crashed already.
    pub fn die(&self, death: Death, counts: &mut Counts) {
        self.trace.event("death", &format!("{death:?} {:016x}", self.disk.trace()));
        match death {
            // A machine whose power is off does not have processes to kill.
            Death::Process if self.disk.is_powered() => {
                self.disk.kill();
                counts.kills += 1;
            }
            Death::Process => self.lose_power(PowerLoss::LoseUnsynced, counts),
            Death::Power(loss) => self.lose_power(loss, counts),
        }
    }

    fn lose_power(&self, loss: PowerLoss, counts: &mut Counts) {
        let at_risk = self.disk.lose_power(loss);
        counts.power_losses += 1;
        counts.files_at_risk += at_risk.files;
        counts.names_at_risk += at_risk.names;
        counts.torn_pages += at_risk.torn_pages;
    }
}
