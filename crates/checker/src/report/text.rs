//! The report as people read it.

use std::fmt;

use super::describe::seconds;
use super::{Counts, Outcomes, Report, Tally, Verdict};

/// So many findings of an anomaly are printed with what was around them.
const EXPLAINED: usize = 3;

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict {
            Verdict::Valid => writeln!(formatter, "valid")?,
            Verdict::Unknown => writeln!(formatter, "unknown: nothing was acknowledged, or nothing was read")?,
            Verdict::Invalid => {
                let forbidden = self.anomalies.iter().filter(|tally| tally.forbidden > 0);
                let named = forbidden.map(|tally| format!("{} ({})", tally.anomaly, tally.forbidden));
                writeln!(formatter, "invalid: {}", named.collect::<Vec<_>>().join(", "))?;
            }
        }
        self.counts.fmt(formatter)?;
        self.anomaly_table(formatter)?;
        for tally in &self.anomalies {
            explain(tally, formatter)?;
        }
        self.over_time(formatter)
    }
}

impl Report {
    fn anomaly_table(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.anomalies.is_empty() {
            return writeln!(formatter, "no anomalies");
        }
        writeln!(formatter, "\n{:<36} {:>10} {:>10}", "anomaly", "forbidden", "allowed")?;
        for tally in &self.anomalies {
            writeln!(formatter, "{:<36} {:>10} {:>10}", title(tally), tally.forbidden, tally.allowed)?;
        }
        Ok(())
    }

    fn over_time(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(lag) = self.worst_lag {
            let key = self.keys.get(lag.key.index()).map_or("", String::as_str);
            let (lag_time, time) = (seconds(lag.lag_ns), seconds(lag.time_ns));
            writeln!(formatter, "\nworst realtime lag: {lag_time}, of {} in {key} at {time}", lag.process)?;
        }
        if !self.consume_counts.is_empty() {
            let counts = self.consume_counts.iter().map(|(times, records)| format!("{records} records {times} ×"));
            let counts = counts.collect::<Vec<_>>().join(", ");
            writeln!(formatter, "consumed while subscribed, by process: {counts}")?;
        }
        if self.unseen_over_time.iter().any(|point| point.peak > 0) {
            writeln!(formatter, "\n{:>16} {:>12} {:>12}", "until", "unseen", "peak")?;
            for point in &self.unseen_over_time {
                writeln!(formatter, "{:>16} {:>12} {:>12}", seconds(point.time_ns), point.unseen, point.peak)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { operations, processes, keys, acknowledged, polled, duration_ns, unknown } = self;
        let duration = seconds(*duration_ns);
        writeln!(
            formatter,
            "{processes} processes, {keys} keys, {duration}; {acknowledged} records acknowledged, {polled} polled"
        )?;
        writeln!(formatter, "\n{:<12} {:>10} {:>10} {:>10}", "operations", "ok", "fail", "info")?;
        for (name, Outcomes { ok, fail, info }) in operations {
            writeln!(formatter, "{name:<12} {ok:>10} {fail:>10} {info:>10}")?;
        }
        if !unknown.is_empty() {
            writeln!(formatter, "\n{:<36} {:>10}", "why unknown", "")?;
            for (reason, count) in unknown {
                writeln!(formatter, "{reason:<36} {count:>10}")?;
            }
        }
        Ok(())
    }
}

fn title(tally: &Tally) -> String {
    if tally.orders_writes { format!("{} (by the order of writes)", tally.anomaly) } else { tally.anomaly.to_string() }
}

fn explain(tally: &Tally, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(formatter, "\n{}", title(tally))?;
    // What is always allowed is worth a sentence, not a story.
    let with_story = if tally.forbidden > 0 { EXPLAINED } else { 0 };
    for (at, shown) in tally.shown.iter().enumerate() {
        let allowed = if shown.is_allowed { " (allowed)" } else { "" };
        writeln!(formatter, "- {}{allowed}", shown.explanation)?;
        if at < with_story {
            for line in &shown.around {
                writeln!(formatter, "    {line}")?;
            }
        }
    }
    let left = tally.forbidden + tally.allowed - tally.shown.len() as u64;
    if left > 0 {
        writeln!(formatter, "- and {left} more")?;
    }
    Ok(())
}
