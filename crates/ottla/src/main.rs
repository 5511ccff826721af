//! The `ottla` binary: the server, and the tools that speak to any Kafka-compatible broker.
//!
//! Process-wide matters live here and nowhere below: signals, limits, logging, exit codes.

mod api_versions;
mod completions;
mod config;
mod consume;
mod group;
mod json;
mod log_adopt;
mod log_dump;
mod log_give_back;
mod log_verify;
mod loggers;
mod output;
mod perf;
mod process;
mod produce;
mod server;
mod table;
mod time;
mod tool;
mod topic;

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

const EXAMPLES: &str = "\
Try it:
  ottla server                                start a broker on localhost:9092, with its data in ./ottla-data
  ottla topic create greetings                make a topic
  echo hello | ottla produce greetings        write a record
  ottla consume greetings --from-beginning    read it

The tools work with every Kafka-compatible broker. They exit with 0 when all went well, 1 when something failed,
and 2 when the arguments make no sense.";

/// Everything Apache Kafka is, in one binary.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a broker.
    Server(server::ServerArguments),
    /// Create, list, describe and delete topics.
    Topic(topic::TopicArguments),
    /// Write records to a topic.
    Produce(produce::ProduceArguments),
    /// Read the records of a topic.
    Consume(consume::ConsumeArguments),
    /// Measure how fast a cluster takes and gives records, and how long each takes.
    Perf(perf::PerfArguments),
    /// Show and change the configuration of topics, brokers, groups, client metrics and loggers.
    Config(config::ConfigArguments),
    /// List and describe consumer groups, move their offsets, delete them.
    Group(group::GroupArguments),
    /// Show which requests a broker serves, in which versions.
    ApiVersions(api_versions::ApiVersionsArguments),
    /// Look into the files of a log directory.
    Log(LogArguments),
    /// Print what a shell needs to complete the words of these commands.
    Completions(completions::CompletionsArguments),
}

#[derive(Debug, Args)]
struct LogArguments {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Show what is in a file: segments, indexes, producer snapshots, checkpoints.
    Dump(log_dump::LogDumpArguments),
    /// Take over a data directory of Apache Kafka: its partitions stay in place, its metadata is read.
    Adopt(log_adopt::LogAdoptArguments),
    /// Tell Apache Kafka's metadata the leader epochs of the logs, before Kafka starts on a directory again.
    GiveBack(log_give_back::LogGiveBackArguments),
    /// Check every batch, index, snapshot and checkpoint of a log directory. Nothing is changed.
    Verify(log_verify::LogVerifyArguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Server(arguments) => server::run(&arguments),
        Command::Topic(arguments) => topic::run(&arguments),
        Command::Produce(arguments) => produce::run(&arguments),
        Command::Consume(arguments) => consume::run(&arguments),
        Command::Perf(arguments) => perf::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Group(arguments) => group::run(&arguments),
        Command::ApiVersions(arguments) => api_versions::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments, Arguments::command()),
        Command::Log(LogArguments { command }) => match command {
            LogCommand::Dump(arguments) => log_dump::run(&arguments),
            LogCommand::Adopt(arguments) => log_adopt::run(&arguments),
            LogCommand::GiveBack(arguments) => log_give_back::run(&arguments),
            LogCommand::Verify(arguments) => log_verify::run(&arguments),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for line in [
            "consume t --from-beginning --offset 3",
            "consume t --from-end --from-timestamp 0",
            "consume t --group g --partition 0",
            "consume t --group g --offset 0",
            "consume t --group ",
            "consume t --from-timestamp yesterday",
            "consume t --max-records -1",
            "consume",
            "produce t --compression lzo",
            "produce t --acks 2",
            "produce t --header novalue",
            "produce t --partition -1",
            "topic create",
            "topic create t --partitions 0",
            "topic create t --config novalue",
            "topic list --timeout 0s",
            "topic list --bootstrap-server localhost",
            "log dump",
            "log adopt",
            "log adopt d --dry-run --execute",
            "log adopt d --accept-out-of-sync",
            "log verify",
            "perf produce t --rate 0",
            "perf produce t --record-size 5-1",
            "perf produce t --producers 0",
            "perf produce t --replication-factor 1",
            "perf consume t --records 0",
            "perf e2e t --linger -1",
            "perf",
            "config get",
            "config get --topic t --broker 1",
            "config get --topic t retention.ms --all",
            "config set --topic t",
            "config set --topic t novalue",
            "config unset --topic t",
            "topic alter t",
            "topic alter t --replica-assignment 1",
            "topic create t --replica-assignment 1 --partitions 1",
            "topic delete-records t",
            "topic delete-records t --all --before-offset 1",
            "group list --state asleep",
            "group describe",
            "group describe g --all",
            "group reset-offsets g --to-earliest",
            "group reset-offsets g --topic t",
            "group reset-offsets g --topic t --from-file f",
            "group reset-offsets g --topic t --to-latest --json --csv",
            "group delete-offsets g",
            "completions tcsh",
        ] {
            let parsed = Arguments::try_parse_from(["ottla"].into_iter().chain(line.split(' ')));
            assert_eq!(parsed.map_err(|error| error.exit_code()).err(), Some(2), "{line}");
        }
    }

    #[test]
    fn arguments_that_make_sense() {
        for line in [
            "server --set a=b",
            "consume t",
            "consume t --offset -5 --partition 0 --partition 1",
            "consume t --group g --from-beginning --exit-at-end --max-records 0",
            "consume t --from-timestamp 2026-01-01T00:00:00Z --json --timeout 500ms",
            "produce t",
            "produce t a.txt - --acks 0 --compression zstd --header a=b --header a=c --key-separator :",
            "topic --bootstrap-server a:1,b:2 list",
            "topic list --bootstrap-server [::1]:9092 --json",
            "topic create a b --partitions 3 --config retention.ms=1 --if-not-exists",
            "topic delete a b --if-exists",
            "log dump 00000000000000000000.log --offsets --json",
            "log adopt d e --metadata-log-dir f --as-single-node --accept-out-of-sync --without-security --json",
            "log adopt d --execute",
            "perf produce t --rate max --records 10 --record-size 10-20 --payload json --linger 0 --idempotence false",
            "perf consume t --from-beginning --exit-at-end --group g --json",
            "perf e2e t --rate 1000 --warm-up 2s --html report.html --partitions 3 --config a=b",
            "config get --broker-default",
            "config get --broker-logger 1 --json",
            "config set --topic t a=b c= --append d=e,f --subtract g=h --validate-only",
            "config unset --client-metrics m interval.ms",
            "topic alter t --partitions 3 --replica-assignment 1:2,2:1 --config a=b --unset c",
            "topic delete-records t --before-time 2026-01-01 --partition 0",
            "group list --state stable,Empty --type consumer",
            "group describe --all --no-times",
            "group reset-offsets g --topic t:0-3 --topic u --shift-by -5 --execute",
            "group reset-offsets g --all-topics --by-duration P1DT12H --csv",
            "group reset-offsets g --from-file f",
            "group delete-offsets g --all-topics",
            "completions zsh",
        ] {
            let parsed = Arguments::try_parse_from(["ottla"].into_iter().chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
