//! `ottla group delete` and `ottla group delete-offsets`.

use clap::Args;
use ottla_client::{Client, ClientError};
use ottla_types::ErrorCode;
use serde_json::{Value, json};

use super::selection::Selection;
use crate::output::Output;
use crate::topic::counted;

#[derive(Debug, Args)]
pub struct DeleteArguments {
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// A group that does not exist is no error.
    #[arg(long)]
    if_exists: bool,
}

#[derive(Debug, Args)]
pub struct DeleteOffsetsArguments {
    #[arg(requires = "selection")]
    group: String,
    #[command(flatten)]
    selection: Selection,
    /// Say which offsets would be forgotten, and forget none.
    #[arg(long)]
    dry_run: bool,
}

pub async fn delete(
    client: &Client,
    output: &mut Output,
    arguments: &DeleteArguments,
    json: bool,
) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for group in &arguments.groups {
        let deleted = match client.delete_group(group).await {
            Err(ClientError::UnknownGroup { .. }) if arguments.if_exists => false,
            done => done.map(|()| true)?,
        };
        documents.push(json!({"group": group, "deleted": deleted}));
        if !json {
            output.line(format_args!("{group} {}", if deleted { "deleted" } else { "does not exist" }))?;
            output.flush()?;
        }
    }
    if json { output.json_document(&Value::Array(documents)) } else { Ok(()) }
}

pub async fn delete_offsets(
    client: &Client,
    output: &mut Output,
    arguments: &DeleteOffsetsArguments,
    json: bool,
) -> anyhow::Result<()> {
    let group = &arguments.group;
    let committed = client.committed_offsets(group).await?;
    let partitions: Vec<_> = arguments.selection.committed_partitions(&committed).into_iter().collect();
    anyhow::ensure!(
        !partitions.is_empty(),
        "group '{group}' has committed no offset there; see `ottla group describe {group}`"
    );
    let results = if arguments.dry_run {
        partitions.iter().map(|partition| (partition.clone(), Ok(()))).collect()
    } else {
        client.delete_group_offsets(group, &partitions).await?
    };
    let failures: Vec<String> = results
        .iter()
        .filter_map(|(at, result)| {
            let code = result.err()?;
            let why = match code {
                ErrorCode::GroupSubscribedToTopic => "members of the group read the topic; stop them first".to_owned(),
                code => code.to_string(),
            };
            Some(format!("{at}: {why}"))
        })
        .collect();
    if json {
        let offsets: Value = results
            .iter()
            .map(|(at, result)| {
                json!({
                    "topic": &*at.topic,
                    "partition": at.partition,
                    "offset": committed.get(at).map(|committed| committed.offset),
                    "deleted": result.is_ok() && !arguments.dry_run,
                    "error": result.err().map(ErrorCode::name),
                })
            })
            .collect();
        output.json_document(&json!({"group": group, "dry_run": arguments.dry_run, "offsets": offsets}))?;
    } else {
        let verb = if arguments.dry_run { "would be forgotten" } else { "forgotten" };
        let done = results.iter().filter(|(_, result)| result.is_ok());
        for (at, _) in done.clone() {
            let offset = committed.get(at).map_or_else(|| "-".to_owned(), |committed| committed.offset.to_string());
            output.line(format_args!("{at} {offset}"))?;
        }
        output.line(format_args!("{} {verb}", counted(done.count() as i64, "offset")))?;
    }
    output.flush()?;
    anyhow::ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}
