//! Standard output of the tools.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// Whoever read standard output has gone; there is nothing left to say, and nothing went wrong.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub struct StdoutClosed;

/// Whether a person looks at standard output: pictures are for people.
pub fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Buffered standard output. Flush it whenever somebody may be waiting.
pub struct Output(BufWriter<Stdout>);

impl Output {
    pub fn new() -> Output {
        Output(BufWriter::with_capacity(64 << 10, io::stdout()))
    }

    pub fn line(&mut self, text: impl Display) -> anyhow::Result<()> {
        checked(writeln!(self.0, "{text}"))
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        checked(self.0.write_all(bytes))
    }

    /// One JSON document on one line.
    pub fn json_line(&mut self, value: &serde_json::Value) -> anyhow::Result<()> {
        self.line(value)
    }

    /// One JSON document for people to look at as well.
    pub fn json_document(&mut self, value: &serde_json::Value) -> anyhow::Result<()> {
        self.line(format_args!("{value:#}"))
    }

    pub fn flush(&mut self) -> anyhow::Result<()> {
        checked(self.0.flush())
    }
}

fn checked(written: io::Result<()>) -> anyhow::Result<()> {
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => StdoutClosed.into(),
        _ => anyhow::Error::new(error).context("standard output cannot be written"),
    })
}
