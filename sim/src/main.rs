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
mod results;
mod scenario;
mod trace;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::{Parser, ValueEnum};

use campaign::{Job, Outcome};
use driver::{NotHealed, Planted, Run};
use report::{Counts, Failure, FailureKind, Report};
use results::Row;
use scenario::Scenario;
use trace::Trace;

/// Seeds tried until a planted bug must have shown. The rarest shows in one of some hundred.
const PLANTED_SEEDS: u64 = 2000;

/// More failures of one run say little more.
const FAILURES_SHOWN: usize = 10;

/// What `.ci/run` spends on seeds, beside building.
const CI_TIME: Duration = Duration::from_secs(45);

/// A seed takes seconds. One that spins without simulated time would never end.
const SEED_TIME: Duration = Duration::from_secs(300);

/// The first panic of this process, also of a handler whose server caught it and went on.
static PANIC: OnceLock<String> = OnceLock::new();

impl Planted {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
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
    /// Checks that every planted bug is caught by the scenarios that have to.
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

    fn jobs(&self, scenario: Scenario) -> Vec<Job> {
        let seeds = match self.seed {
            Some(seed) => seed..seed + 1,
            None => self.first_seed..self.first_seed + self.seeds,
        };
        seeds.map(|seed| Job { scenario, seed, planted: self.planted_bug }).collect()
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
        good &= check_planted(&arguments.scenarios(), arguments.ci)?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One seed in this process.
fn child(arguments: &Arguments) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    remember_panics();
    if arguments.child {
        end_in_time();
    }
    if arguments.trace {
        let level = tracing::Level::DEBUG;
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).without_time().init();
    }
    for job in arguments.scenarios().into_iter().flat_map(|scenario| arguments.jobs(scenario)) {
        os_entropy::seed(job.seed);
        let run = Run {
            seed: job.seed,
            planted: job.planted,
            trace: Arc::new(Trace::new(arguments.trace)),
            counts: Rc::new(RefCell::default()),
        };
        let failure = failure_of(job.scenario.run(&run));
        if failure.is_some() {
            code = ExitCode::FAILURE;
        }
        let counts = *run.counts.borrow();
        println!("{}", Report { counts, trace: run.trace.digest(), events: run.trace.events(), failure }.encode());
    }
    code
}

fn failure_of(result: anyhow::Result<()>) -> Option<Failure> {
    let failed = |kind, reason| Some(Failure { kind, reason });
    match (result, PANIC.get()) {
        (Err(error), _) if !error.is::<NotHealed>() => failed(FailureKind::Broken, format!("{error:#}")),
        (_, Some(panic)) => failed(FailureKind::Panicked, panic.clone()),
        (Err(error), None) => failed(FailureKind::NotHealed, format!("{error:#}")),
        (Ok(()), None) => None,
    }
}

fn remember_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        PANIC.get_or_init(|| panic.to_string());
    }));
}

/// Ends this process when its seed does not, which the campaign then sees.
fn end_in_time() {
    std::thread::spawn(|| {
        std::thread::sleep(SEED_TIME);
        eprintln!("still running after {SEED_TIME:?}");
        std::process::exit(1);
    });
}

/// Each scenario by itself, so that each has counts of its own.
fn campaign(arguments: &Arguments) -> anyhow::Result<bool> {
    let scenarios = arguments.scenarios();
    let time = arguments.ci.then_some(CI_TIME / scenarios.len() as u32);
    let mut total = Outcome::default();
    for scenario in &scenarios {
        let started = Instant::now();
        let jobs = arguments.jobs(*scenario);
        let outcome = campaign::run(&jobs, time, None)?;
        for failed in outcome.failed.iter().take(FAILURES_SHOWN) {
            println!("FAILED {} seed {}: {}", scenario.name(), failed.job.seed, failed.failure);
            println!("       again: {}", failed.job.replay());
        }
        println!("{}: {} in {:.1} s", scenario.name(), outcome.counts, started.elapsed().as_secs_f64());
        if *scenario == Scenario::Log {
            for fault in outcome.counts.not_run() {
                println!("sim: log: not run, since it never struck: {fault}");
            }
        }
        println!("sim: {}: {} seeds passed, {} failed", scenario.name(), outcome.passed.len(), outcome.failed.len());
        if arguments.planted_bug.is_none() {
            let row = Row {
                name: scenario.name(),
                first_seed: jobs.first().map_or(0, |job| job.seed),
                injected: (outcome.passed.len() + outcome.failed.len()) as u64,
                counts: &outcome.counts,
                took: started.elapsed(),
                failed: outcome.failed.len() as u64,
                bounded: arguments.ci || arguments.seed.is_some(),
            };
            row.append()?;
        }
        total.add(outcome);
    }
    let mut shown = !total.passed.is_empty();
    if arguments.ci {
        for missing in missing_in_ci(&total, &scenarios) {
            println!("sim: too little: {missing}");
            shown = false;
        }
    }
    Ok(total.failed.is_empty() && shown)
}

/// What a bounded run has to have done for its verdict to mean anything.
fn missing_in_ci(outcome: &Outcome, scenarios: &[Scenario]) -> Vec<String> {
    let idle = scenarios.iter().filter(|scenario| !outcome.passed.iter().any(|job| job.scenario == **scenario));
    let mut missing: Vec<String> = idle.map(|scenario| format!("no seed of {}", scenario.name())).collect();
    let Counts { kills, power_losses, disk_faults, acknowledged, verified, .. } = outcome.counts;
    let counts = [
        (kills, "kill"),
        (power_losses, "power loss"),
        (disk_faults, "disk fault"),
        (acknowledged, "record acknowledged"),
        (verified, "record read back"),
    ];
    missing.extend(counts.iter().filter(|(count, _)| *count == 0).map(|(_, what)| format!("no {what}")));
    missing
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
            ensure!(one.events > 0, "{}: nothing happened, twice: {}", job.replay(), one.encode());
            println!("{} seed {seed}: {} events twice, trace {:016x}", scenario.name(), one.events, one.trace);
        }
    }
    Ok(())
}

fn check_planted(scenarios: &[Scenario], bounded: bool) -> anyhow::Result<bool> {
    let started = Instant::now();
    let mut caught = BTreeSet::new();
    let mut missed = 0;
    for scenario in scenarios {
        for planted in Planted::value_variants().iter().filter(|planted| planted.noticed_by().contains(scenario)) {
            let job = |seed| Job { scenario: *scenario, seed, planted: Some(*planted) };
            let jobs: Vec<Job> = (1..=PLANTED_SEEDS).map(job).collect();
            // A crash of the simulator, or a system that does not heal, is not the defect being seen.
            let outcome = campaign::run(&jobs, None, Some(FailureKind::Broken))?;
            if let Some(failed) = outcome.first(FailureKind::Broken) {
                caught.insert(planted.name());
                println!("planted {}: caught by {}: {}", planted.name(), failed.job.replay(), failed.failure);
            } else {
                missed += 1;
                println!("planted {}: NOT caught by {PLANTED_SEEDS} seeds of {}", planted.name(), scenario.name());
                for failed in outcome.failed.iter().take(FAILURES_SHOWN) {
                    println!("       another failure: {}: {}", failed.job.replay(), failed.failure);
                }
            }
        }
    }
    println!("sim: {} planted defects caught, {missed} missed", caught.len());
    let row = Row {
        name: "planted",
        first_seed: 1,
        injected: caught.len() as u64,
        counts: &Counts::default(),
        took: started.elapsed(),
        failed: missed,
        bounded,
    };
    row.append()?;
    Ok(missed == 0)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn job(scenario: Scenario) -> Job {
        Job { scenario, seed: 1, planted: None }
    }

    #[test]
    fn a_bounded_run_that_did_too_little_says_what_is_missing() {
        let all = Scenario::value_variants();
        let counts =
            Counts { kills: 1, power_losses: 1, disk_faults: 1, acknowledged: 1, verified: 1, ..Counts::default() };
        let passed: Vec<Job> = all.iter().map(|scenario| job(*scenario)).collect();
        let outcome = Outcome { counts, passed: passed.clone(), failed: Vec::new() };
        assert_eq!(missing_in_ci(&outcome, all), Vec::<String>::new());

        let no_log: Vec<Job> = passed.iter().copied().filter(|job| job.scenario != Scenario::Log).collect();
        let outcome = Outcome { counts: Counts { disk_faults: 0, ..counts }, passed: no_log, failed: Vec::new() };
        assert_eq!(missing_in_ci(&outcome, all), ["no seed of log", "no disk fault"]);
    }

    #[test]
    fn a_system_that_does_not_heal_is_told_from_a_broken_promise() {
        let kind = |result| failure_of(result).map(|failure| failure.kind);
        assert_eq!(kind(Ok(())), None);
        assert_eq!(kind(Err(NotHealed.into())), Some(FailureKind::NotHealed));
        assert_eq!(kind(Err(anyhow!("3 acknowledged records are lost"))), Some(FailureKind::Broken));
    }
}
