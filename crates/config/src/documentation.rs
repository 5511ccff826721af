//! `docs/config.md`, written from the declared table.

use std::fmt::Write as _;

use crate::dynamic::FIXED_LISTENERS;
use crate::facts::{Facts, Rule, Type, Update};
use crate::honoured::{BROKER, Honoured, TOPIC};
use crate::not_honoured::{Instead, instead, topic_instead};
use crate::server_config::own_defaults;
use crate::table::{broker_key, broker_keys, topic_key, topic_keys};

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from crates/config by `cargo run -p xtask -- generate-config-docs`; not edited by hand. -->

Ottla reads Apache Kafka's `server.properties`: the same file starts Kafka. Every key has a default; no file is needed.
`--set key=value` is stronger than the file, the last value of a key counts. Every other key of Kafka 4.4 is accepted with
a warning that says what happens instead, or refused where ignoring it would leave a node less protected than it looks. An
unknown key is a warning with the nearest known name, and an error under `--strict`.

Without a file the node listens on both loopback addresses only and keeps its data in `./ottla-data`. With a file, `listeners`
and `log.dir` have Kafka's defaults.
";

/// The text of `docs/config.md`.
pub fn documentation() -> String {
    let mut out = INTRODUCTION.to_owned();
    out.push_str("\n## Keys of a node\n\nChange: needs a *restart*, or can be made at run time (IncrementalAlterConfigs): for one *node* only, or for the whole\n*cluster* and, stronger, for one node. A change is kept with the metadata, and stronger than the file.\n\n");
    out.push_str("| Key | Type | Default | Accepted | Change | Since | |\n|---|---|---|---|---|---|---|\n");
    for honoured in BROKER {
        let facts = broker_key(honoured.name).expect("invariant: an honoured key is declared");
        let change = match facts.update {
            _ if FIXED_LISTENERS.contains(&facts.name) => "restart",
            Update::ReadOnly => "restart",
            Update::PerBroker => "node",
            Update::ClusterWide | Update::Topic => "cluster",
        };
        row(&mut out, facts, honoured, change);
    }
    out.push_str(
        "\n## Keys of a topic\n\nA topic's own value is stronger than the node's; the node key behind it is named.\n\n",
    );
    out.push_str("| Key | Type | Default | Accepted | Node key | Since | |\n|---|---|---|---|---|---|---|\n");
    for honoured in TOPIC {
        let facts = topic_key(honoured.name).expect("invariant: an honoured key is declared");
        let behind = facts.synonyms.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        row(&mut out, facts, honoured, &behind);
    }
    out.push_str("\n## Topic keys without effect\n\nThey can be set and are reported back.\n\n| Key | What happens instead |\n|---|---|\n");
    for facts in topic_keys().filter(|facts| !facts.internal) {
        if let Some(text) = topic_instead(facts.name) {
            let _ = writeln!(out, "| `{}` | {text} |", facts.name);
        }
    }
    let (mut warned, mut refused) = (String::new(), String::new());
    for facts in broker_keys().filter(|facts| BROKER.binary_search_by(|key| key.name.cmp(facts.name)).is_err()) {
        match instead(facts.name).expect("invariant: every key is declared") {
            Instead::Warn(text) => writeln!(warned, "| `{}` | {text} |", facts.name),
            Instead::RefuseProtection(text) | Instead::Refuse(text) => {
                writeln!(refused, "| `{}` | {text} |", facts.name)
            }
        }
        .expect("invariant: writing to a string succeeds");
    }
    let _ = write!(
        out,
        "\n## Node keys that are refused\n\nWith another value than Kafka's default the node does not start.\n\n\
         | Key | Why |\n|---|---|\n{refused}\
         \n## Node keys without effect\n\n| Key | What happens instead |\n|---|---|\n{warned}"
    );
    out
}

fn row(out: &mut String, facts: &Facts, honoured: &Honoured, column: &str) {
    let own = own_defaults(true);
    let default = match own.get(facts.name).map(String::as_str).or(facts.default) {
        Some("") | None => String::new(),
        // Kafka spells "no limit" as the largest number of the type.
        Some(text) if text == i64::MAX.to_string() => "no limit".to_owned(),
        Some(text) => format!("`{text}`"),
    };
    let _ = writeln!(
        out,
        "| `{}` | {} | {default} | {} | {column} | {} | {} |",
        facts.name,
        facts.value_type.name().to_lowercase(),
        accepted(facts),
        honoured.since,
        honoured.doc,
    );
}

fn accepted(facts: &Facts) -> String {
    let names = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match facts.rule {
        Rule::Any if facts.value_type == Type::Boolean => "`true`, `false`".to_owned(),
        Rule::Any => String::new(),
        Rule::AtLeast(min) => format!("{min} or more"),
        Rule::Between(min, max) => format!("{min} to {max}"),
        Rule::Fraction(min, max) => format!("{min} to {max}"),
        Rule::GzipLevel => "1 to 9, -1".to_owned(),
        Rule::OneOf(allowed) | Rule::OneOfAnyCase(allowed) => names(allowed),
        Rule::NonEmpty => "not empty".to_owned(),
        Rule::List { allowed, may_be_empty } => {
            let elements = if allowed.is_empty() { String::new() } else { format!("any of {}", names(allowed)) };
            match (elements.is_empty(), may_be_empty) {
                (true, false) => "not empty".to_owned(),
                (false, true) => format!("{elements}, or empty"),
                _ => elements,
            }
        }
        Rule::ThrottledReplicas => "`*` or partition:broker pairs".to_owned(),
        Rule::ShareOffsetReset => "`latest`, `earliest`, `by_duration:` and a duration".to_owned(),
    }
}
