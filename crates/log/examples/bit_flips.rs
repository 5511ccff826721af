//! Flips bits in the files of a log and cuts its end at every byte, many times more than the tests do.
//!
//! `cargo run --release -p ottla-log --example bit_flips -- [FLIPS] [SEED] [FILE]`: 12,000 flips of seed 1 by default.
//! Prints a line of JSON for each row; with FILE they are appended there too. It fails, with the seed and the flip, when
//! anything is served that was not written.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a command for people")]

#[path = "../tests/all/flip_images.rs"]
mod flip_images;
#[path = "../tests/all/flips.rs"]
mod flips;
#[path = "../tests/all/support.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use ottla_rt::World;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let flips: u64 = arguments.next().map_or(12_000, |text| text.parse().expect("a number of flips"));
    let seed: u64 = arguments.next().map_or(1, |text| text.parse().expect("a seed"));
    let file = arguments.next();

    let clock = World::os().clock;
    let begun = clock.monotonic();
    let counts = support::block_on(flips::run(seed, flips));
    let mut details = String::new();
    for (kind, number) in &counts.files {
        let _ = write!(details, "\"in {kind}\": {number}, ");
    }
    for (kind, number) in &counts.nodes {
        let _ = write!(details, "\"{kind:?}\": {number}, ");
    }
    let _ = write!(
        details,
        "\"partition offline\": {}, \"reads refused\": {}, \"end cut\": {}, \"served unchanged\": {}, \
         \"found by log verify\": {}",
        counts.offline, counts.refused, counts.cut, counts.unchanged, counts.found_by_check
    );
    report("bit-flips", seed, counts.flips, &details, clock.monotonic().saturating_sub(begun), file.as_deref());

    let begun = clock.monotonic();
    let cuts = support::block_on(flips::cut_at_every_byte());
    report("cut-ends", seed, cuts, "", clock.monotonic().saturating_sub(begun), file.as_deref());
}

fn report(row: &str, seed: u64, injected: u64, counts: &str, took: Duration, file: Option<&str>) {
    let line = format!(
        "{{\"time\": \"{}\", \"commit\": \"{}\", \"row\": \"{row}\", \"seed\": {seed}, \"injected\": {injected}, \
         \"acknowledged\": 0, \"lost\": 0, \"counts\": {{{counts}}}, \"seconds\": {}, \"verdict\": \"passed\"}}",
        now(),
        commit(),
        took.as_secs()
    );
    println!("{line}");
    if let Some(file) = file {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).expect("FILE can be written");
        writeln!(file, "{line}").expect("FILE can be written");
    }
}

/// The time as `2026-11-21T20:15:00Z`.
fn now() -> String {
    let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output();
    date.map_or_else(|_| "unknown".to_owned(), |date| String::from_utf8_lossy(&date.stdout).trim().to_owned())
}

/// The commit, with a plus when the sources have changed since.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changes = git(&["status", "--porcelain", "--untracked-files=no", "--", ":!results", ":!docs"]);
    if changes.is_none_or(|changes| changes.is_empty()) { head } else { format!("{head}+") }
}
