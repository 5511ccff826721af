//! `ottla topic list`.

use clap::Args;
use ottla_client::{Client, PartitionDescription, TopicDescription};
use serde_json::Value;

use super::{replication_factor, summary};
use crate::output::Output;
use crate::table::{Align, Table};

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only topics with such a name: * stands for anything, ? for one character. Several are alternatives.
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Leave out topics of the cluster's own, such as __consumer_offsets.
    #[arg(long)]
    exclude_internal: bool,
    /// Only topics with a partition whose replicas are not all in sync.
    #[arg(long)]
    under_replicated: bool,
    /// Only topics with a partition nobody leads.
    #[arg(long)]
    without_leader: bool,
}

impl ListArguments {
    fn selects(&self, topic: &TopicDescription) -> bool {
        let any = |test: fn(&PartitionDescription) -> bool| topic.partitions.values().any(test);
        (self.patterns.is_empty() || self.patterns.iter().any(|pattern| matches(pattern, &topic.name)))
            && !(self.exclude_internal && topic.internal)
            && (!self.under_replicated || any(|partition| partition.isr.len() < partition.replicas.len()))
            && (!self.without_leader || any(|partition| partition.leader.is_none()))
    }

    fn is_filter(&self) -> bool {
        !self.patterns.is_empty() || self.exclude_internal || self.under_replicated || self.without_leader
    }
}

pub async fn list(client: &Client, output: &mut Output, arguments: &ListArguments, json: bool) -> anyhow::Result<()> {
    let cluster = client.metadata(None, false).await?;
    let topics = cluster.topics.into_values().filter_map(Result::ok);
    let topics: Vec<_> = topics.filter(|topic| arguments.selects(topic)).collect();
    if json {
        return output.json_document(&topics.iter().map(|topic| summary(topic)).collect::<Value>());
    }
    if topics.is_empty() {
        return output.line(if arguments.is_filter() {
            "No topic is like that."
        } else {
            "There are no topics yet; create one with `ottla topic create NAME`."
        });
    }
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITIONS", Align::Right),
        ("REPLICAS", Align::Right),
        ("ID", Align::Left),
    ]);
    for topic in topics {
        table.row([
            topic.name.to_string(),
            topic.partitions.len().to_string(),
            replication_factor(&topic).to_string(),
            topic.topic_id.to_string(),
        ]);
    }
    output.line(table.render())
}

/// Names of topics are ASCII, so bytes are characters. Goes back to the last star only, hence no pattern is slow.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while position < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, position));
                at += 1;
            }
            Some(&letter) if letter == b'?' || letter == name[position] => {
                at += 1;
                position += 1;
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                at = after;
                position = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|&letter| letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("order*", "orders", true),
            ("*", "anything", true),
            ("*s", "orders", true),
            ("o*d*s", "orders", true),
            ("o*x*s", "orders", false),
            ("order?", "orders", true),
            ("order?", "order", false),
            ("", "orders", false),
            ("**", "a", true),
            ("a*b", "aXbXb", true),
            ("*a*a*a*a*a*a*a*b", &"a".repeat(200), false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
