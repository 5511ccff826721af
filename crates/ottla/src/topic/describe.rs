//! `ottla topic describe`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use ottla_client::{
    Client, ClientError, ConfigEntry, ConfigResource, ConfigSource, PartitionDescription, StartAt, TopicDescription,
};
use ottla_types::TopicPartition;
use serde_json::{Value, json};

use super::{format_bytes, replication_factor, summary};
use crate::output::Output;
use crate::table::{Align, Table};

#[derive(Debug, Args)]
pub struct DescribeArguments {
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Show every setting, not only those made for the topic.
    #[arg(long)]
    all_configs: bool,
}

/// What is known of a topic beside its metadata, by partition.
struct Facts {
    beginnings: BTreeMap<i32, i64>,
    ends: BTreeMap<i32, i64>,
    /// Bytes on the disk of the leader; none from a broker that does not tell.
    sizes: BTreeMap<i32, i64>,
    configs: Vec<ConfigEntry>,
}

pub async fn describe(
    client: &Client,
    output: &mut Output,
    arguments: &DescribeArguments,
    json: bool,
) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for (position, name) in arguments.topics.iter().enumerate() {
        let topic = client.refresh_topic(name, false).await?;
        let mut facts = facts(client, &topic).await?;
        facts.configs.retain(|config| arguments.all_configs || config.source == ConfigSource::Topic);
        if json {
            documents.push(document(&topic, &facts));
            continue;
        }
        if position > 0 {
            output.line("")?;
        }
        print(output, &topic, &facts)?;
    }
    if json { output.json_document(&Value::Array(documents)) } else { Ok(()) }
}

async fn facts(client: &Client, topic: &TopicDescription) -> Result<Facts, ClientError> {
    // Nobody can be asked for the offsets of a partition without a leader; the rest is told all the same.
    let led: Vec<TopicPartition> = topic
        .partitions
        .values()
        .filter(|partition| partition.leader.is_some())
        .map(|partition| TopicPartition::new(&*topic.name, partition.partition))
        .collect();
    let by_number = |offsets: BTreeMap<TopicPartition, i64>| {
        offsets.into_iter().map(|(partition, offset)| (partition.partition, offset)).collect()
    };
    Ok(Facts {
        beginnings: by_number(client.resolve_offsets(&led, StartAt::Beginning).await?),
        ends: by_number(client.resolve_offsets(&led, StartAt::End).await?),
        sizes: sizes(client, topic).await?,
        configs: client.describe_configs(&ConfigResource::topic(&*topic.name), false).await?,
    })
}

/// The size of each partition at its leader. Not to be allowed to see that is no reason to see nothing.
async fn sizes(client: &Client, topic: &TopicDescription) -> Result<BTreeMap<i32, i64>, ClientError> {
    let leaders: BTreeSet<i32> = topic.partitions.values().filter_map(|partition| partition.leader).collect();
    let mut sizes = BTreeMap::new();
    for node_id in leaders {
        let led = topic.partitions.values().filter(|partition| partition.leader == Some(node_id));
        let led: Vec<i32> = led.map(|partition| partition.partition).collect();
        let wanted = BTreeMap::from([(topic.name.to_string(), led.clone())]);
        let directories = match client.log_directories(node_id, Some(&wanted)).await {
            Err(ClientError::Broker { code, .. }) if !code.is_retriable() => None,
            answered => answered?,
        };
        for (partition, replica) in directories.into_iter().flatten().flat_map(|directory| directory.replicas) {
            if *partition.topic == *topic.name && led.contains(&partition.partition) && !replica.is_future {
                sizes.insert(partition.partition, replica.bytes);
            }
        }
    }
    Ok(sizes)
}

fn print(output: &mut Output, topic: &TopicDescription, facts: &Facts) -> anyhow::Result<()> {
    output.line(format_args!("Topic     {}", topic.name))?;
    output.line(format_args!("Id        {}", topic.topic_id))?;
    output.line(format_args!("Replicas  {}", replication_factor(topic)))?;
    if !facts.sizes.is_empty() {
        let total = facts.sizes.values().fold(0_i64, |total, &bytes| total.saturating_add(bytes));
        output.line(format_args!("Size      {}", format_bytes(total)))?;
    }
    for (position, config) in facts.configs.iter().enumerate() {
        let heading = if position == 0 { "Settings" } else { "        " };
        output.line(format_args!("{heading}  {}={}", config.name, config.value.as_deref().unwrap_or("(none)")))?;
    }
    output.line(format_args!("\n{}", table(topic, facts)))
}

fn table(topic: &TopicDescription, facts: &Facts) -> String {
    let mut columns = vec![
        ("PARTITION", Align::Right),
        ("LEADER", Align::Right),
        ("EPOCH", Align::Right),
        ("REPLICAS", Align::Left),
        ("ISR", Align::Left),
        ("BEGINNING", Align::Right),
        ("END", Align::Right),
    ];
    if !facts.sizes.is_empty() {
        columns.push(("SIZE", Align::Right));
    }
    let mut table = Table::new(&columns);
    let shown = |number: Option<&i64>| number.map_or_else(|| "-".to_owned(), ToString::to_string);
    for partition in topic.partitions.values() {
        let number = partition.partition;
        let mut cells = vec![
            number.to_string(),
            partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
            partition.leader_epoch.to_string(),
            joined(&partition.replicas),
            joined(&partition.isr),
            shown(facts.beginnings.get(&number)),
            shown(facts.ends.get(&number)),
        ];
        if !facts.sizes.is_empty() {
            cells.push(facts.sizes.get(&number).map_or_else(|| "-".to_owned(), |&bytes| format_bytes(bytes)));
        }
        table.cells(cells);
    }
    table.render()
}

fn joined(nodes: &[i32]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn document(topic: &TopicDescription, facts: &Facts) -> Value {
    let mut document = summary(topic);
    let partition = |partition: &PartitionDescription| {
        json!({
            "partition": partition.partition,
            "leader": partition.leader,
            "leader_epoch": partition.leader_epoch,
            "replicas": partition.replicas,
            "isr": partition.isr,
            "log_start_offset": facts.beginnings.get(&partition.partition),
            "end_offset": facts.ends.get(&partition.partition),
            "size_bytes": facts.sizes.get(&partition.partition),
        })
    };
    let config =
        |config: &ConfigEntry| json!({"name": config.name, "value": config.value, "source": config.source.name()});
    document["partitions"] = topic.partitions.values().map(partition).collect();
    document["configs"] = facts.configs.iter().map(config).collect();
    document
}
