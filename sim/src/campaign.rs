//! Many seeds, each in a process of its own: nothing of one can leak into the next.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::driver::Planted;
use crate::report::{Counts, Failure, FailureKind, Report};
use crate::scenario::Scenario;

/// The developer's machines have two cores.
const PROCESSES: usize = 2;

#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub scenario: Scenario,
    pub seed: u64,
    pub planted: Option<Planted>,
}

impl Job {
    fn arguments(self) -> Vec<String> {
        let mut arguments = vec![self.scenario.name().to_owned(), "--seed".to_owned(), self.seed.to_string()];
        if let Some(planted) = self.planted {
            arguments.extend(["--planted-bug".to_owned(), planted.name()]);
        }
        arguments
    }

    /// How a person repeats it.
    pub fn replay(self) -> String {
        format!("sim/run {}", self.arguments().join(" "))
    }
}

#[derive(Debug)]
pub struct Failed {
    pub job: Job,
    pub failure: Failure,
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub counts: Counts,
    pub passed: Vec<Job>,
    pub failed: Vec<Failed>,
}

impl Outcome {
    pub fn add(&mut self, other: Outcome) {
        self.counts.add(&other.counts);
        self.passed.extend(other.passed);
        self.failed.extend(other.failed);
    }

    pub fn first(&self, kind: FailureKind) -> Option<&Failed> {
        self.failed.iter().find(|failed| failed.failure.kind == kind)
    }
}

/// Runs the jobs until the first failure of a kind to stop at, or the time is over.
pub fn run(jobs: &[Job], time: Option<Duration>, stop_at: Option<FailureKind>) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let mut outcome = Outcome::default();
    let mut running: Vec<(Job, Child)> = Vec::new();
    let mut waiting = jobs.iter().copied();
    loop {
        let may_start = time.is_none_or(|time| started.elapsed() < time)
            && stop_at.is_none_or(|kind| outcome.first(kind).is_none());
        while may_start && running.len() < PROCESSES {
            let Some(job) = waiting.next() else { break };
            let mut command = Command::new(std::env::current_exe()?);
            command.args(job.arguments()).arg("--child").stdin(Stdio::null());
            running.push((job, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?));
        }
        if running.is_empty() {
            return Ok(outcome);
        }
        let (job, child) = running.remove(0);
        match finish(child)? {
            Report { failure: Some(failure), counts, .. } => {
                outcome.counts.add(&counts);
                outcome.failed.push(Failed { job, failure });
            }
            Report { counts, .. } => {
                outcome.counts.add(&counts);
                outcome.passed.push(job);
            }
        }
    }
}

/// The report of one seed, run in its own process.
pub fn run_one(job: Job) -> anyhow::Result<Report> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(job.arguments()).arg("--child").stdin(Stdio::null());
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

fn finish(mut child: Child) -> anyhow::Result<Report> {
    // Errors first and to the end: a child says little else, and a full pipe would hold it up.
    let mut errors = String::new();
    if let Some(stderr) = child.stderr.take() {
        BufReader::new(stderr).read_to_string(&mut errors)?;
    }
    let mut report = None;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            report = Report::parse(&line?).or(report);
        }
    }
    let status = child.wait()?;
    Ok(report.unwrap_or_else(|| Report {
        counts: Counts::default(),
        trace: 0,
        events: 0,
        failure: Some(Failure {
            kind: FailureKind::Crashed,
            reason: format!("the process ended with {status}: {}", last_lines(&errors)),
        }),
    }))
}

fn last_lines(errors: &str) -> String {
    let lines: Vec<&str> = errors.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join(" | ")
}
