//! `ottla config get`.

use std::collections::BTreeSet;

use ottla_client::{Client, ConfigEntry, ConfigResource, ConfigResourceType, ConfigSource, ConfigType};
use serde_json::{Value, json};

use super::changes::unknown_key;
use super::entries;
use crate::output::Output;
use crate::table::{Align, Table};

/// Longer values are cut in the table, never in JSON.
const WIDEST_VALUE: usize = 60;

/// Which keys are shown.
pub enum Choice {
    All,
    /// Those that somebody set.
    Set,
    Keys(BTreeSet<String>),
}

impl Choice {
    pub fn of_keys(keys: &[String]) -> Choice {
        if keys.is_empty() { Choice::Set } else { Choice::Keys(keys.iter().cloned().collect()) }
    }
}

pub async fn show(
    client: &Client,
    output: &mut Output,
    resource: &ConfigResource,
    choice: &Choice,
    docs: bool,
    json: bool,
) -> anyhow::Result<()> {
    let mut entries = entries::of(client, resource, docs).await?;
    if let Choice::Keys(keys) = choice {
        let known = |key: &String| entries.iter().any(|entry| entry.name == *key);
        if let Some(key) = keys.iter().find(|key| !known(key)) {
            anyhow::bail!(unknown_key(resource, key, &entries));
        }
    }
    let total = entries.len();
    entries.retain(|entry| match choice {
        Choice::All => true,
        Choice::Set => is_set(resource, entry),
        Choice::Keys(keys) => keys.contains(&entry.name),
    });
    if json {
        return output.json_document(&entries.iter().map(document).collect::<Value>());
    }
    if entries.is_empty() {
        let rest = if total > 0 { format!("; --all shows the {total} keys there are") } else { String::new() };
        return output.line(format_args!("Nothing is set for {resource}{rest}."));
    }
    if docs {
        return with_docs(output, &entries);
    }
    let mut table =
        Table::new(&[("KEY", Align::Left), ("VALUE", Align::Left), ("SOURCE", Align::Left), ("DYNAMIC", Align::Left)]);
    for entry in &entries {
        table.row([entry.name.clone(), cut(&shown_value(entry)), entry.source.name().to_owned(), dynamic(entry)]);
    }
    output.line(table.render())
}

fn with_docs(output: &mut Output, entries: &[ConfigEntry]) -> anyhow::Result<()> {
    for (position, entry) in entries.iter().enumerate() {
        if position > 0 {
            output.line("")?;
        }
        output.line(format_args!("{} = {}", entry.name, shown_value(entry)))?;
        let value_type = entry.value_type.map_or("of an unknown type", |value_type| value_type.name());
        output.line(format_args!("    {value_type}, from {}, dynamic: {}", entry.source.name(), dynamic(entry)))?;
        for synonym in entry.synonyms.iter().skip(1) {
            let value = synonym.value.as_deref().unwrap_or("(none)");
            output.line(format_args!("    overrides {} = {value} ({})", synonym.name, synonym.source.name()))?;
        }
        if let Some(documentation) = &entry.documentation {
            output.line(format_args!("    {}", plain(documentation)))?;
        }
    }
    Ok(())
}

/// A topic inherits what its brokers are set to; that is not its own.
fn is_set(resource: &ConfigResource, entry: &ConfigEntry) -> bool {
    match resource.resource_type {
        ConfigResourceType::Broker if resource.name.is_empty() => entry.source == ConfigSource::DynamicDefaultBroker,
        ConfigResourceType::Broker => entry.source != ConfigSource::Default,
        ConfigResourceType::BrokerLogger => true,
        ConfigResourceType::Topic => entry.source == ConfigSource::Topic,
        ConfigResourceType::ClientMetrics => entry.source == ConfigSource::ClientMetrics,
        ConfigResourceType::Group => entry.source == ConfigSource::Group,
    }
}

pub fn shown_value(entry: &ConfigEntry) -> String {
    match &entry.value {
        Some(value) => value.clone(),
        None if entry.sensitive => "(hidden)".to_owned(),
        None => "(none)".to_owned(),
    }
}

fn dynamic(entry: &ConfigEntry) -> String {
    if entry.read_only { "no" } else { "yes" }.to_owned()
}

fn cut(value: &str) -> String {
    if value.chars().count() <= WIDEST_VALUE {
        return value.to_owned();
    }
    let mut cut: String = value.chars().take(WIDEST_VALUE - 1).collect();
    cut.push('…');
    cut
}

/// Kafka documents its keys in HTML.
fn plain(documentation: &str) -> String {
    let mut text = String::with_capacity(documentation.len());
    let mut rest = documentation;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        let tag = |letter: char| letter.is_ascii_alphanumeric() || "/ =\"'.#:_-".contains(letter);
        rest = match after.split_once('>') {
            Some((inside, after))
                if inside.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
                    && inside.chars().all(tag) =>
            {
                after
            }
            _ => {
                text.push('<');
                after
            }
        };
    }
    text.push_str(rest);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn document(entry: &ConfigEntry) -> Value {
    let synonyms: Value = entry
        .synonyms
        .iter()
        .map(|synonym| json!({"name": synonym.name, "value": synonym.value, "source": synonym.source.name()}))
        .collect();
    let mut document = json!({
        "name": entry.name,
        "value": entry.value,
        "source": entry.source.name(),
        "dynamic": !entry.read_only,
        "sensitive": entry.sensitive,
        "type": entry.value_type.map(ConfigType::name),
        "synonyms": synonyms,
    });
    if let Some(documentation) = &entry.documentation {
        document["documentation"] = json!(documentation);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_without_its_tags() {
        for (html, expected) in [
            ("a <code>b</code> c", "a b c"),
            ("<p>a</p>\n<ul><li>b</li></ul>", "a b"),
            ("see <a href=\"#x\">this</a>", "see this"),
            ("a < b and c > d", "a < b and c > d"),
            ("a <", "a <"),
            ("", ""),
        ] {
            assert_eq!(plain(html), expected, "{html}");
        }
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(cut("short"), "short");
        let long = "é".repeat(WIDEST_VALUE + 1);
        assert_eq!(cut(&long).chars().count(), WIDEST_VALUE);
        assert_eq!(cut(&"é".repeat(WIDEST_VALUE)).chars().last(), Some('é'));
    }
}
