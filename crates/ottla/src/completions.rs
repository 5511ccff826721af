//! `ottla completions`: what a shell needs to complete the words of a command line.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::output::Output;
use crate::tool;

const INSTALL: &str = "\
Install it for you alone:
  bash        ottla completions bash > ~/.local/share/bash-completion/completions/ottla
  zsh         ottla completions zsh > \"${fpath[1]}/_ottla\"
  fish        ottla completions fish > ~/.config/fish/completions/ottla.fish
  powershell  ottla completions powershell >> $PROFILE
  elvish      ottla completions elvish >> ~/.config/elvish/rc.elv
and start a new shell.";

#[derive(Debug, Args)]
#[command(after_help = INSTALL)]
pub struct CompletionsArguments {
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions of `command`, the whole command line.
pub fn run(arguments: &CompletionsArguments, mut command: Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "ottla", &mut script);
    let mut output = Output::new();
    tool::conclude(output.bytes(&script).and_then(|()| output.flush()))
}
