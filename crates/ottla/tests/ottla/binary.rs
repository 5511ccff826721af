//! Runs the binary: a server on a port of its own, and tools against it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub fn ottla() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Sends a signal to a child.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// A running server, killed when dropped.
pub struct Server {
    child: Child,
    /// Kept open: a server whose greeting nobody reads is none of these tests' business.
    _stdout: BufReader<ChildStdout>,
    pub address: String,
    directory: TempDir,
}

impl Server {
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn start(settings: &[&str]) -> Server {
        Server::start_in(tempfile::tempdir().unwrap(), settings, Stdio::inherit())
    }

    /// One whose standard error [`Server::stop_at_once`] gives; it has to be short.
    pub fn start_overheard() -> Server {
        Server::start_in(tempfile::tempdir().unwrap(), &[], Stdio::piped())
    }

    fn start_in(directory: TempDir, settings: &[&str], stderr: Stdio) -> Server {
        let mut command = ottla();
        command.args(["server", "--log-level", "warn", "--set", "listeners=PLAINTEXT://127.0.0.1:0"]);
        command.arg("--data-dir").arg(directory.path().join("data"));
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "the server ended before it listened");
            if let Some((_, listeners)) = line.split_once("listening on") {
                break listeners.trim().strip_prefix("PLAINTEXT://").unwrap().to_owned();
            }
        };
        Server { child, _stdout: stdout, address, directory }
    }

    /// A place for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Stops it as an operator would, and gives back its files.
    pub fn stop(mut self) -> StoppedServer {
        signal(&self.child, rustix::process::Signal::TERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let empty = tempfile::tempdir().unwrap();
        StoppedServer(std::mem::replace(&mut self.directory, empty))
    }

    /// Has it find two signals to stop at once, so that the second one comes while it stops. Gives its files, and what it
    /// said on standard error.
    pub fn stop_at_once(mut self) -> (StoppedServer, String) {
        use rustix::process::{Pid, Signal, WaitOptions, waitpid};
        signal(&self.child, Signal::STOP);
        let (_, status) = waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
        for next in [Signal::TERM, Signal::INT, Signal::CONT] {
            signal(&self.child, next);
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(1), "{stderr}");
        let empty = tempfile::tempdir().unwrap();
        (StoppedServer(std::mem::replace(&mut self.directory, empty)), stderr)
    }

    /// A tool on this server; the words are its arguments.
    pub fn tool(&self, words: &str) -> Command {
        let mut command = ottla();
        command.args(words.split_whitespace()).args(["--bootstrap-server", &self.address, "--timeout", "30s"]);
        command
    }

    /// What a tool prints that must succeed.
    pub fn run(&self, words: &str) -> String {
        succeed(&mut self.tool(words))
    }

    /// The same as JSON.
    pub fn json(&self, words: &str) -> Value {
        serde_json::from_str(&succeed(self.tool(words).arg("--json"))).unwrap()
    }

    /// The same as JSON, line by line.
    pub fn json_lines(&self, words: &str) -> Vec<Value> {
        json_lines(&succeed(self.tool(words).arg("--json")))
    }

    /// Produces these lines.
    pub fn produce(&self, words: &str, lines: &str) -> String {
        succeed_with_input(&mut self.tool(&format!("produce {words}")), lines.as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The files of a server that is not running.
pub struct StoppedServer(TempDir);

impl StoppedServer {
    pub fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub fn start(self) -> Server {
        Server::start_in(self.0, &[], Stdio::inherit())
    }
}

pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn succeed(command: &mut Command) -> String {
    succeed_with_input(command, b"")
}

pub fn succeed_with_input(command: &mut Command, input: &[u8]) -> String {
    let output = run(command, input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a tool says on standard error that must fail with this code.
pub fn fail(command: &mut Command, code: i32) -> String {
    let output = run(command, b"");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {stderr}");
    stderr
}

pub fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A tool that fails early reads nothing.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    })
}

/// Longer than anything takes here, so that a tool that hangs fails its test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tool that keeps running, read line by line. Killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        Running { child, lines }
    }

    /// The next line on standard output.
    pub fn line(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// The next line, if it is there already.
    pub fn line_at_hand(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Presses Ctrl-C; gives what else came on standard output, and standard error.
    pub fn interrupt(mut self) -> (Vec<String>, String) {
        signal(&self.child, rustix::process::Signal::INT);
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("Ctrl-C does not end it"),
            }
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{stderr}");
        (rest, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
