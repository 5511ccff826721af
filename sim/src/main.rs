//! Runs Ottla in a simulated world, where time, network and disks follow from a seed: the same entry point as the
//! binary's, killed and cut off from power at any moment, must keep every promise it made.

mod campaign;
mod choice;
mod driver;
mod history;
mod kafka;
mod machine;
mod net;
mod os_entropy;
mod report;
mod scenario;
mod trace;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::{Parser, ValueEnum};

use campaign::Job;
use driver::{Planted, Run};
use report::Report;
use scenario::Scenario;
use trace::Trace;

/// Seeds tried until a planted bug must have shown.
const PLANTED_SEEDS: u64 = 60;

/// More failures of one run say little more.
const FAILURES_SHOWN: usize = 10;

/// What `.ci/run` spends on seeds, beside building.
const CI_TIME: Duration = Duration::from_secs(45);

impl Planted {
    pub fn name(self) -> &'static str {
        match self {
            Planted::FlushesDisabled => "flushes-disabled",
            Planted::RecoveryScanOff => "recovery-scan-off",
        }
    }
}

/// Simulates Ottla.
#[derive(Parser)]
#[command(name = "sim/run")]
struct Arguments {
    /// Only this scenario.
    scenario: Option<Scenario>,
    /// How many seeds of each scenario.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed of many.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints each event of the one seed, and what the server logs.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Switches a defect on, to see it caught.
    #[arg(long)]
    planted_bug: Option<Planted>,
    /// Checks that every planted bug is caught by every scenario.
    #[arg(long)]
    planted: bool,
    /// Runs one seed of each scenario twice and compares what happened.
    #[arg(long)]
    determinism: bool,
    /// What the continuous integration runs: all of it, in bounded time.
    #[arg(long)]
    ci: bool,
    #[arg(long, hide = true)]
    child: bool,
}

impl Arguments {
    fn scenarios(&self) -> Vec<Scenario> {
        self.scenario.map_or_else(|| Scenario::value_variants().to_vec(), |scenario| vec![scenario])
    }

    fn jobs(&self) -> Vec<Job> {
        let seeds = match self.seed {
            Some(seed) => seed..seed + 1,
            None => self.first_seed..self.first_seed + self.seeds,
        };
        let scenarios = self.scenarios();
        let job = |seed, scenario| Job { scenario, seed, planted: self.planted_bug };
        seeds.flat_map(|seed| scenarios.iter().map(move |scenario| job(seed, *scenario))).collect()
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.child || arguments.trace {
        return Ok(child(&arguments));
    }
    let mut good = true;
    if arguments.determinism || arguments.ci {
        check_determinism(&arguments.scenarios())?;
    }
    if !(arguments.determinism || arguments.planted) || arguments.ci {
        good &= campaign(&arguments)?;
    }
    if arguments.planted || arguments.ci {
        good &= check_planted(&arguments.scenarios())?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One seed in this process.
fn child(arguments: &Arguments) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    if arguments.trace {
        let level = tracing::Level::DEBUG;
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).without_time().init();
    }
    for job in arguments.jobs() {
        os_entropy::seed(job.seed);
        let run = Run {
            seed: job.seed,
            planted: job.planted,
            trace: Arc::new(Trace::new(arguments.trace)),
            counts: Rc::new(RefCell::default()),
        };
        let failure = job.scenario.run(&run).err().map(|error| format!("{error:#}"));
        if failure.is_some() {
            code = ExitCode::FAILURE;
        }
        let counts = *run.counts.borrow();
        println!("{}", Report { counts, trace: run.trace.digest(), events: run.trace.events(), failure }.encode());
    }
    code
}

fn campaign(arguments: &Arguments) -> anyhow::Result<bool> {
    let started = Instant::now();
    let outcome = campaign::run(&arguments.jobs(), arguments.ci.then_some(CI_TIME), false)?;
    for failed in outcome.failed.iter().take(FAILURES_SHOWN) {
        println!("FAILED {} seed {}: {}", failed.job.scenario.name(), failed.job.seed, failed.reason);
        println!("       again: {}", failed.job.replay());
    }
    println!("{} in {:.1} s", outcome.counts, started.elapsed().as_secs_f64());
    println!("sim: {} seeds passed, {} failed", outcome.passed, outcome.failed.len());
    Ok(outcome.failed.is_empty() && outcome.passed > 0)
}

fn check_determinism(scenarios: &[Scenario]) -> anyhow::Result<()> {
    for scenario in scenarios {
        for seed in 1..=2 {
            let job = Job { scenario: *scenario, seed, planted: None };
            let (one, other) = (campaign::run_one(job)?, campaign::run_one(job)?);
            ensure!(
                one.trace == other.trace && one.counts == other.counts,
                "{}: two runs differ: {} against {}",
                job.replay(),
                one.encode(),
                other.encode()
            );
            println!("{} seed {seed}: {} events twice, trace {:016x}", scenario.name(), one.events, one.trace);
        }
    }
    Ok(())
}

fn check_planted(scenarios: &[Scenario]) -> anyhow::Result<bool> {
    let mut all = true;
    for scenario in scenarios {
        for planted in Planted::value_variants() {
            let job = |seed| Job { scenario: *scenario, seed, planted: Some(*planted) };
            let jobs: Vec<Job> = (1..=PLANTED_SEEDS).map(job).collect();
            let outcome = campaign::run(&jobs, None, true)?;
            if let Some(failed) = outcome.failed.first() {
                println!("planted {}: caught by {}: {}", planted.name(), failed.job.replay(), failed.reason);
            } else {
                all = false;
                println!("planted {}: NOT caught by {PLANTED_SEEDS} seeds of {}", planted.name(), scenario.name());
            }
        }
    }
    Ok(all)
}
