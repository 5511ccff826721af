//! `ottla api-versions`: what a broker serves, beside what this binary knows.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::process::ExitCode;

use clap::Args;
use ottla_protocol::ApiKey;
use serde_json::{Value, json};

use crate::output::Output;
use crate::table::{Align, Table};
use crate::tool::{self, ClusterArguments};

#[derive(Debug, Args)]
pub struct ApiVersionsArguments {
    /// Ask the broker with this id, instead of whichever answers first.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    broker: Option<i32>,
    /// Leave out what the broker serves exactly as this binary knows it.
    #[arg(long)]
    differences: bool,
    /// Print JSON, for machines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// One API: what the broker serves of it, and what this binary knows.
struct Row {
    code: i16,
    broker: Option<RangeInclusive<i16>>,
    known: Option<RangeInclusive<i16>>,
}

impl Row {
    fn name(&self) -> &'static str {
        ApiKey::from_code(self.code).map_or("(unknown)", ApiKey::name)
    }

    /// The version a request would have.
    fn used(&self) -> Option<i16> {
        let (broker, known) = (self.broker.as_ref()?, self.known.as_ref()?);
        let used = *broker.end().min(known.end());
        (used >= *broker.start().max(known.start())).then_some(used)
    }

    fn verdict(&self) -> &'static str {
        match (&self.broker, &self.known) {
            (None, _) => "not served",
            (Some(_), None) => "unknown here",
            (Some(broker), Some(known)) if broker == known => "same",
            (Some(_), Some(_)) if self.used().is_none() => "no common version",
            (Some(broker), Some(known)) if broker.end() > known.end() => "broker has newer",
            (Some(broker), Some(known)) if broker.end() < known.end() => "broker has older",
            (Some(_), Some(_)) => "oldest differs",
        }
    }
}

pub fn run(arguments: &ApiVersionsArguments) -> ExitCode {
    tool::run(async {
        let versions = arguments.cluster.client().broker_versions(arguments.broker).await?;
        let known = ApiKey::ALL.iter().map(|key| key.code());
        let codes: BTreeSet<i16> = known.chain(versions.served.keys().copied()).collect();
        let rows = codes.into_iter().map(|code| Row {
            code,
            broker: versions.served.get(&code).cloned(),
            known: ApiKey::from_code(code).map(ApiKey::valid_versions),
        });
        let rows: Vec<Row> = rows.filter(|row| !(arguments.differences && row.verdict() == "same")).collect();
        let mut output = Output::new();
        if arguments.json {
            let apis: Value = rows.iter().map(document).collect();
            output.json_document(&json!({"broker": versions.address, "apis": apis}))?;
        } else {
            output.line(table(&versions.address, &rows))?;
        }
        output.flush()
    })
}

fn document(row: &Row) -> Value {
    let range = |range: &Option<RangeInclusive<i16>>| {
        range.as_ref().map(|range| json!({"min": range.start(), "max": range.end()}))
    };
    json!({
        "key": row.code,
        "name": ApiKey::from_code(row.code).map(ApiKey::name),
        "broker": range(&row.broker),
        "ottla": range(&row.known),
        "used": row.used(),
    })
}

fn table(address: &str, rows: &[Row]) -> String {
    if rows.is_empty() {
        return format!("{address} serves what this binary knows, version by version.");
    }
    let mut table = Table::new(&[
        ("KEY", Align::Right),
        ("API", Align::Left),
        ("BROKER", Align::Right),
        ("OTTLA", Align::Right),
        ("USED", Align::Right),
        ("", Align::Left),
    ]);
    let range = |range: &Option<RangeInclusive<i16>>| {
        range.as_ref().map_or_else(|| "-".to_owned(), |range| format!("{}..{}", range.start(), range.end()))
    };
    for row in rows {
        table.row([
            row.code.to_string(),
            row.name().to_owned(),
            range(&row.broker),
            range(&row.known),
            row.used().map_or_else(|| "-".to_owned(), |used| used.to_string()),
            row.verdict().to_owned(),
        ]);
    }
    format!("Broker  {address}\n\n{}", table.render())
}
