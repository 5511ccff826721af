//! Development tasks, run as `cargo run -p xtask -- TASK`.

mod config_keys;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use xtask::protocol;

const USAGE: &str = "\
usage: cargo run -p xtask -- generate-protocol [--jars DIR] [--check]
       cargo run -p xtask -- generate-config-keys --jars DIR
       cargo run -p xtask -- generate-config-docs

  generate-protocol   writes the messages of crates/protocol from crates/protocol/schema
    --jars DIR        first takes the schemas anew from Kafka's jars in DIR
    --check           writes nothing; fails if a file is not what would be written

  generate-config-keys  writes the facts about Kafka's configuration keys from its jars in DIR
  generate-config-docs  writes docs/config.md";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(report) => {
            write(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            write(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String> {
    let Some((task, options)) = arguments.split_first() else { bail!("no task given\n{USAGE}") };
    match task.as_str() {
        "generate-protocol" => generate_protocol(options),
        "generate-config-keys" => match options {
            [option, directory] if option == "--jars" => config_keys::generate_facts(&root(), Path::new(directory)),
            _ => bail!("generate-config-keys needs --jars DIR\n{USAGE}"),
        },
        "generate-config-docs" => config_keys::generate_documentation(&root()),
        "help" | "--help" | "-h" => Ok(USAGE.to_owned()),
        other => bail!("no task is called '{other}'\n{USAGE}"),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn generate_protocol(options: &[String]) -> Result<String> {
    let mut jars = None;
    let mut check = false;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match option.as_str() {
            "--jars" => jars = Some(PathBuf::from(options.next().context("--jars needs a directory")?)),
            "--check" => check = true,
            other => bail!("generate-protocol has no option '{other}'\n{USAGE}"),
        }
    }
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/protocol");
    let schemas = match jars {
        Some(directory) => protocol::jars::read(&directory)?,
        None => protocol::snapshot::read(&crate_dir)?,
    };
    let mut files = protocol::snapshot::files(&schemas);
    files.extend(protocol::generate::files(&schemas)?);
    if check { protocol::files::check(&crate_dir, &files) } else { protocol::files::write(&crate_dir, &files) }
}

#[expect(clippy::print_stdout, reason = "the report of a command-line tool")]
fn write(report: &str) {
    println!("{report}");
}
