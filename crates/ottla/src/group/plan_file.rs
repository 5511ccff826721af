//! Plans of offsets in files: CSV as Kafka's tools write and read it, or the JSON of this tool.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use ottla_types::TopicPartition;
use serde_json::Value;

/// A plan with more bytes is none.
const LARGEST_FILE: u64 = 256 << 20;

/// Reads `topic,partition,offset` lines, or `group,topic,partition,offset` lines of which those of `group` count, or a
/// JSON document with "partitions".
pub fn read(path: &Path, group: &str) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let name = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("{name} cannot be read"))?.len();
    anyhow::ensure!(size <= LARGEST_FILE, "{name} has {size} bytes, and no plan is that large");
    let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    let offsets = if text.trim_start().starts_with('{') { from_json(&text) } else { from_csv(&text, group) };
    let offsets = offsets.with_context(|| name.to_string())?;
    anyhow::ensure!(!offsets.is_empty(), "{name} has no offsets for group '{group}'");
    Ok(offsets)
}

fn from_csv(text: &str, group: &str) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let mut offsets = BTreeMap::new();
    for (position, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = position + 1;
        let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
        // The names of groups may have commas: the last three fields are the others.
        let (before, &[topic, partition, offset]) = fields
            .split_last_chunk::<3>()
            .with_context(|| format!("line {number}: '{line}' is not topic,partition,offset"))?;
        if !before.is_empty() && before.join(",") != group {
            continue;
        }
        let proper = partition.parse::<i32>().ok().zip(offset.parse::<i64>().ok());
        let proper = proper.filter(|&(partition, offset)| partition >= 0 && offset >= 0 && !topic.is_empty());
        let Some((partition, offset)) = proper else {
            // The names of the columns.
            anyhow::ensure!(
                offsets.is_empty() && offset.eq_ignore_ascii_case("offset"),
                "line {number}: '{line}' is not topic,partition,offset"
            );
            continue;
        };
        put(&mut offsets, topic, partition, offset).with_context(|| format!("line {number}"))?;
    }
    Ok(offsets)
}

fn from_json(text: &str) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let document: Value = serde_json::from_str(text).context("not JSON")?;
    let partitions = document["partitions"].as_array().context("there is no list \"partitions\"")?;
    let mut offsets = BTreeMap::new();
    for (position, entry) in partitions.iter().enumerate() {
        let topic = entry["topic"].as_str().filter(|topic| !topic.is_empty());
        let partition = entry["partition"].as_i64().and_then(|partition| i32::try_from(partition).ok());
        let offset = entry.get("new_offset").or_else(|| entry.get("offset")).and_then(Value::as_i64);
        let (Some(topic), Some(partition @ 0..), Some(offset @ 0..)) = (topic, partition, offset) else {
            anyhow::bail!("partitions[{position}] has not \"topic\", \"partition\" and \"new_offset\"");
        };
        put(&mut offsets, topic, partition, offset)?;
    }
    Ok(offsets)
}

fn put(offsets: &mut BTreeMap<TopicPartition, i64>, topic: &str, partition: i32, offset: i64) -> anyhow::Result<()> {
    let at = TopicPartition::new(topic, partition);
    let earlier = offsets.insert(at.clone(), offset);
    anyhow::ensure!(earlier.is_none_or(|earlier| earlier == offset), "{at} has two offsets");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(offsets: &BTreeMap<TopicPartition, i64>) -> Vec<String> {
        offsets.iter().map(|(at, offset)| format!("{at}={offset}")).collect()
    }

    #[test]
    fn csv() {
        for (text, expected) in [
            ("t,0,5\nt,1,6\n", &["t-0=5", "t-1=6"][..]),
            ("topic,partition,offset\nt,0,5", &["t-0=5"]),
            ("\"t\",0,5\r\n\n# note\n", &["t-0=5"]),
            ("g,t,0,5\nother,t,1,6", &["t-0=5"]),
            ("t,0,5\nt,0,5", &["t-0=5"]),
            ("", &[]),
        ] {
            assert_eq!(listed(&from_csv(text, "g").unwrap()), expected, "{text}");
        }
        assert_eq!(listed(&from_csv("a,b,t,0,5", "a,b").unwrap()), ["t-0=5"]);
        for text in ["t,0", "t,0,x", "t,-1,5", "t,0,-5", ",0,5", "t,0,5\nt,0,6", "t,0,5\ntopic,partition,offset"] {
            let error = from_csv(text, "g").unwrap_err();
            assert!(error.to_string().starts_with("line "), "{text}: {error}");
        }
    }

    #[test]
    fn json() {
        let text = r#"{"group": "g", "partitions": [{"topic": "t", "partition": 0, "new_offset": 5, "lag": 1}]}"#;
        assert_eq!(listed(&from_json(text).unwrap()), ["t-0=5"]);
        let text = r#"{"partitions": [{"topic": "t", "partition": 1, "offset": 6}]}"#;
        assert_eq!(listed(&from_json(text).unwrap()), ["t-1=6"]);
        for text in [
            "{",
            "{}",
            r#"{"partitions": [{"topic": "t", "partition": 0}]}"#,
            r#"{"partitions": [{"topic": "t", "partition": -1, "offset": 0}]}"#,
            r#"{"partitions": [{"topic": "t", "partition": 4294967296, "offset": 0}]}"#,
            r#"{"partitions": [{"topic": "t", "partition": 0, "offset": 1.5}]}"#,
        ] {
            assert!(from_json(text).is_err(), "{text}");
        }
    }
}
