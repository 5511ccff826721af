//! Which partitions of a group's a command is about: `--topic NAME[:PARTITIONS]`, `--all-topics`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use ottla_client::{Client, ClientError, CommittedOffset};
use ottla_types::TopicPartition;

#[derive(Debug, Args)]
#[group(id = "selection", multiple = false)]
pub struct Selection {
    /// A topic, or some of its partitions as in orders:0,2-4; may be repeated.
    #[arg(long = "topic", value_name = "TOPIC[:PARTITIONS]", value_parser = parse_topic)]
    topics: Vec<TopicSelection>,
    /// Every partition the group has committed an offset of.
    #[arg(long)]
    all_topics: bool,
}

/// A topic and some of its partitions; none named are all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSelection {
    topic: String,
    partitions: BTreeSet<i32>,
}

/// Partitions named by one range: more is a slip of the pen.
const LONGEST_RANGE: i32 = 1_000_000;

/// Topic names have no colon.
fn parse_topic(text: &str) -> Result<TopicSelection, String> {
    let (topic, partitions) = text.split_once(':').unwrap_or((text, ""));
    if topic.is_empty() {
        return Err(format!("'{text}' names no topic"));
    }
    let mut selection = TopicSelection { topic: topic.to_owned(), partitions: BTreeSet::new() };
    if text.contains(':') {
        for range in partitions.split(',') {
            let numbers = match range.split_once('-') {
                None => number(range).map(|number| (number, number)),
                Some((first, last)) => number(first).zip(number(last)),
            };
            let proper = numbers.filter(|(first, last)| first <= last && last - first < LONGEST_RANGE);
            let (first, last) =
                proper.ok_or_else(|| format!("'{range}' is neither a partition nor a range as in 0-3"))?;
            selection.partitions.extend(first..=last);
        }
    }
    Ok(selection)
}

fn number(text: &str) -> Option<i32> {
    text.trim().parse().ok().filter(|&number| number >= 0)
}

impl Selection {
    pub async fn partitions(
        &self,
        client: &Client,
        committed: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<BTreeSet<TopicPartition>, ClientError> {
        if self.all_topics {
            return Ok(committed.keys().cloned().collect());
        }
        let mut selected = BTreeSet::new();
        for selection in &self.topics {
            let topic = client.refresh_topic(&selection.topic, false).await?;
            if let Some(&partition) = selection.partitions.iter().find(|wanted| !topic.partitions.contains_key(wanted))
            {
                return Err(ClientError::UnknownPartition { topic: selection.topic.clone(), partition });
            }
            let chosen = topic
                .partitions
                .keys()
                .filter(|partition| selection.partitions.is_empty() || selection.partitions.contains(partition));
            selected.extend(chosen.map(|&partition| TopicPartition::new(selection.topic.as_str(), partition)));
        }
        Ok(selected)
    }

    /// The same for offsets that are to be forgotten: the topic need not exist any more.
    pub fn committed_partitions(
        &self,
        committed: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> BTreeSet<TopicPartition> {
        let chosen = |at: &&TopicPartition| {
            self.all_topics
                || self.topics.iter().any(|selection| {
                    *selection.topic == *at.topic
                        && (selection.partitions.is_empty() || selection.partitions.contains(&at.partition))
                })
        };
        committed.keys().filter(chosen).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_partitions() {
        for (text, expected) in [
            ("t", Some(("t", vec![]))),
            ("t:0", Some(("t", vec![0]))),
            ("t:0,2-4, 9", Some(("t", vec![0, 2, 3, 4, 9]))),
            ("t:3,3", Some(("t", vec![3]))),
            ("", None),
            (":0", None),
            ("t:", None),
            ("t:x", None),
            ("t:-1", None),
            ("t:4-2", None),
            ("t:0-2147483647", None),
            ("t:99999999999", None),
        ] {
            let parsed = parse_topic(text).ok();
            let parsed = parsed.map(|parsed| (parsed.topic, parsed.partitions.into_iter().collect::<Vec<_>>()));
            assert_eq!(parsed, expected.map(|(topic, partitions)| (topic.to_owned(), partitions)), "{text}");
        }
    }
}
