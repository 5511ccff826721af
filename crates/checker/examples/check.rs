//! Judges a recorded history: `cargo run --release -p ottla-checker --example check -- [--json] FILE` (`-`: standard
//! input). Exits with 0 if it is valid, with 1 if it is not, with 2 if that is not known or the file cannot be read.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::process::ExitCode;

use ottla_checker::{History, Report, Verdict, check};

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().position(|argument| argument == "--json").map(|at| arguments.remove(at)).is_some();
    let mut errors = io::stderr();
    let [path] = arguments.as_slice() else {
        let _ = writeln!(errors, "usage: check [--json] FILE");
        return ExitCode::from(2);
    };
    match run(path, json) {
        Ok(Verdict::Valid) => ExitCode::SUCCESS,
        Ok(Verdict::Invalid) => ExitCode::from(1),
        Ok(Verdict::Unknown) => ExitCode::from(2),
        Err(error) => {
            let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
            let _ = writeln!(errors, "{error}{cause}");
            ExitCode::from(2)
        }
    }
}

fn run(path: &str, json: bool) -> Result<Verdict, Box<dyn Error>> {
    let report = judge(path)?;
    let mut output = io::stdout().lock();
    if json {
        report.write_json(&mut output)?;
    } else {
        write!(output, "{report}")?;
    }
    Ok(report.verdict)
}

#[allow(clippy::disallowed_methods, reason = "the crate touches no files; who uses it does")]
fn judge(path: &str) -> Result<Report, Box<dyn Error>> {
    let history = match path {
        "-" => History::read_jsonl(io::stdin().lock())?,
        path => History::read_jsonl(BufReader::new(File::open(path)?))?,
    };
    Ok(check(&history)?)
}
