//! `ottla group`: listing and describing consumer groups, moving and deleting their offsets, deleting them.

mod delete;
mod describe;
mod lag;
mod list;
mod plan_file;
mod reset;
mod selection;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::output::Output;
use crate::tool::{self, ClusterArguments};

const EXAMPLES: &str = "\
Examples:
  ottla group list --state stable
  ottla group describe payments                                 members, offsets, and how far behind they are
  ottla group reset-offsets payments --topic orders --to-earliest             shows what would change
  ottla group reset-offsets payments --topic orders --to-earliest --execute   changes it
  ottla group reset-offsets payments --all-topics --by-duration 2h --execute
  ottla group delete payments";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GroupArguments {
    #[command(subcommand)]
    command: GroupCommand,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Print JSON, for machines.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List groups.
    List(list::ListArguments),
    /// Show the members of groups, where they stand, and how far behind they are.
    Describe(describe::DescribeArguments),
    /// Move a group without members to other offsets. Shows what would change; --execute does it.
    ResetOffsets(Box<reset::ResetArguments>),
    /// Forget where a group stands in some topics.
    DeleteOffsets(delete::DeleteOffsetsArguments),
    /// Delete groups without members, and their offsets.
    Delete(delete::DeleteArguments),
}

pub fn run(arguments: &GroupArguments) -> ExitCode {
    tool::run(async {
        let client = arguments.cluster.client();
        let mut output = Output::new();
        let json = arguments.json;
        match &arguments.command {
            GroupCommand::List(arguments) => list::list(&client, &mut output, arguments, json).await?,
            GroupCommand::Describe(arguments) => describe::describe(&client, &mut output, arguments, json).await?,
            GroupCommand::ResetOffsets(arguments) => reset::reset(&client, &mut output, arguments, json).await?,
            GroupCommand::DeleteOffsets(arguments) => {
                delete::delete_offsets(&client, &mut output, arguments, json).await?;
            }
            GroupCommand::Delete(arguments) => delete::delete(&client, &mut output, arguments, json).await?,
        }
        output.flush()
    })
}
