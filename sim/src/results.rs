//! What was tried, run by run: lines of `results/simulation.jsonl`, or of `results/bounded.jsonl` for the bounded run.
//!
//! `sim/run` says where, when, and of which commit; a simulator started otherwise keeps no results.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::report::Counts;

/// One row of one run.
pub struct Row<'a> {
    pub name: &'a str,
    pub first_seed: u64,
    /// Seeds run, or defects caught.
    pub injected: u64,
    pub counts: &'a Counts,
    pub took: Duration,
    /// Seeds that failed.
    pub failed: u64,
    pub bounded: bool,
}

impl Row<'_> {
    pub fn append(&self) -> anyhow::Result<()> {
        let (Ok(directory), Ok(time), Ok(commit)) =
            (std::env::var("OTTLA_RESULTS"), std::env::var("OTTLA_TIME"), std::env::var("OTTLA_COMMIT"))
        else {
            return Ok(());
        };
        let name = if self.bounded { "bounded.jsonl" } else { "simulation.jsonl" };
        let path = Path::new(&directory).join(name);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).context("opening the results")?;
        writeln!(file, "{}", self.line(&time, &commit)).context("writing the results")
    }

    /// Labels are plain words and the rest are numbers, so nothing has to be escaped.
    fn line(&self, time: &str, commit: &str) -> String {
        let counts: Vec<String> =
            self.counts.labelled().iter().map(|(label, count)| format!("\"{label}\": {count}")).collect();
        format!(
            "{{\"time\": \"{time}\", \"commit\": \"{commit}\", \"row\": \"{}\", \"seed\": {}, \"injected\": {}, \
             \"acknowledged\": {}, \"lost\": {}, \"counts\": {{{}}}, \"seconds\": {}, \"verdict\": \"{}\"}}",
            self.name,
            self.first_seed,
            self.injected,
            self.counts.acknowledged,
            self.failed,
            counts.join(", "),
            self.took.as_secs(),
            if self.failed == 0 { "passed" } else { "failed" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_everything() {
        let counts = Counts { kills: 3, acknowledged: 17, ..Counts::default() };
        let row = Row {
            name: "log",
            first_seed: 1,
            injected: 20,
            counts: &counts,
            took: Duration::from_secs(9),
            failed: 0,
            bounded: false,
        };
        let line = row.line("2026-01-01T00:00:00Z", "0123456789ab");
        assert!(
            line.starts_with("{\"time\": \"2026-01-01T00:00:00Z\", \"commit\": \"0123456789ab\", \"row\": \"log\"")
        );
        assert!(line.contains("\"counts\": {\"kills\": 3, ") && line.ends_with("\"verdict\": \"passed\"}"), "{line}");
        assert!(line.contains("\"injected\": 20, \"acknowledged\": 17, \"lost\": 0"), "{line}");
    }
}
