//! Lines, and the records they stand for.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::mpsc;

/// No line is longer.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// Lines are handed over in groups of so many, or as many as came at once.
const GROUP: usize = 256;
const GROUPS_AHEAD: usize = 8;

pub struct Line {
    pub origin: Origin,
    pub bytes: Bytes,
}

/// Where a line stands.
#[derive(Clone, Debug)]
pub struct Origin {
    source: Arc<str>,
    number: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, line {}", self.source, self.number)
    }
}

pub type Groups = mpsc::Receiver<anyhow::Result<Vec<Line>>>;

/// Reads files, or standard input if there are none, on a thread of its own: reading may block for ever.
pub fn read(files: Vec<PathBuf>) -> Groups {
    let (sender, receiver) = mpsc::channel(GROUPS_AHEAD);
    std::thread::spawn(move || {
        let files = if files.is_empty() { vec![PathBuf::from("-")] } else { files };
        for file in files {
            let read = if file == Path::new("-") {
                read_lines(std::io::stdin().lock(), "standard input", &sender)
            } else {
                let name = file.display().to_string();
                File::open(&file)
                    .with_context(|| format!("{name} cannot be read"))
                    .and_then(|opened| read_lines(opened, &name, &sender))
            };
            match read {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            }
        }
    });
    receiver
}

pub async fn next(groups: &mut Option<Groups>) -> Option<anyhow::Result<Vec<Line>>> {
    match groups {
        Some(groups) => groups.recv().await,
        None => None,
    }
}

/// Whether more is wanted.
fn read_lines(input: impl Read, name: &str, groups: &mpsc::Sender<anyhow::Result<Vec<Line>>>) -> anyhow::Result<bool> {
    let source: Arc<str> = Arc::from(name);
    let mut input = BufReader::with_capacity(256 << 10, input);
    let mut group = Vec::new();
    let mut number = 0;
    loop {
        let mut bytes = Vec::new();
        let read = input.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut bytes);
        let read = read.with_context(|| format!("{name} cannot be read"))?;
        number += 1;
        if read as u64 > MAX_LINE_BYTES {
            anyhow::bail!("{name}, line {number}: longer than {MAX_LINE_BYTES} bytes");
        }
        if read > 0 {
            if bytes.pop_if(|last| *last == b'\n').is_some() {
                bytes.pop_if(|last| *last == b'\r');
            }
            group.push(Line { origin: Origin { source: Arc::clone(&source), number }, bytes: bytes.into() });
        }
        let more_at_hand = read > 0 && group.len() < GROUP && input.buffer().contains(&b'\n');
        if !more_at_hand && !group.is_empty() && groups.blocking_send(Ok(std::mem::take(&mut group))).is_err() {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

/// How a line is read.
#[derive(Debug, Default)]
pub struct LineFormat {
    pub key_separator: Option<Vec<u8>>,
    pub headers: bool,
    pub null_marker: Option<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct ParsedLine {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Why a line is not what was announced.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("there is no tab behind the headers; a record without headers begins with a tab")]
    NoTab,
    #[error("'{0}' is not a header; expected key:value")]
    Header(String),
    #[error("there is no key separator '{0}'")]
    NoKeySeparator(String),
}

impl LineFormat {
    pub fn parse(&self, line: &Bytes) -> Result<ParsedLine, LineError> {
        let mut rest = line.clone();
        let mut headers = Vec::new();
        if self.headers {
            let (before, after) = split_at(&rest, b"\t").ok_or(LineError::NoTab)?;
            for header in before.split(|&byte| byte == b',').filter(|header| !header.is_empty()) {
                let not_a_header = || LineError::Header(String::from_utf8_lossy(header).into_owned());
                let (key, value) = split_at(&before.slice_ref(header), b":").ok_or_else(not_a_header)?;
                headers.push((key, self.nullable(value)));
            }
            rest = after;
        }
        let mut key = None;
        if let Some(separator) = &self.key_separator {
            let no_separator = || LineError::NoKeySeparator(String::from_utf8_lossy(separator).into_owned());
            let (before, after) = split_at(&rest, separator).ok_or_else(no_separator)?;
            key = self.nullable(before);
            rest = after;
        }
        Ok(ParsedLine { key, value: self.nullable(rest), headers })
    }

    fn nullable(&self, field: Bytes) -> Option<Bytes> {
        Some(field).filter(|field| self.null_marker.as_deref() != Some(field))
    }
}

fn split_at(bytes: &Bytes, separator: &[u8]) -> Option<(Bytes, Bytes)> {
    let position = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((bytes.slice(..position), bytes.slice(position + separator.len()..)))
}

/// Reads a separator as it is written in a shell: `\t` and `\n` are what they mean.
pub fn parse_separator(text: &str) -> Result<String, String> {
    let separator = text.replace("\\t", "\t").replace("\\n", "\n");
    if separator.is_empty() { Err("a separator cannot be empty".to_owned()) } else { Ok(separator) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::from(text.to_owned())
    }

    /// Key, value, headers.
    type Expected<'a> = (Option<&'a str>, Option<&'a str>, &'a [(&'a str, Option<&'a str>)]);

    fn check(format: &LineFormat, line: &str, expected: Result<Expected<'_>, LineError>) {
        let expected = expected.map(|(key, value, headers)| ParsedLine {
            key: key.map(bytes),
            value: value.map(bytes),
            headers: headers.iter().map(|(key, value)| (bytes(key), value.map(bytes))).collect(),
        });
        assert_eq!(format.parse(&bytes(line)), expected, "{line}");
    }

    #[test]
    fn plain_lines_are_values() {
        let format = LineFormat::default();
        check(&format, "a:b\tc", Ok((None, Some("a:b\tc"), &[])));
        check(&format, "", Ok((None, Some(""), &[])));
    }

    #[test]
    fn keys() {
        let format = LineFormat {
            key_separator: Some(b"::".to_vec()),
            null_marker: Some(b"NULL".to_vec()),
            ..LineFormat::default()
        };
        check(&format, "k::v::w", Ok((Some("k"), Some("v::w"), &[])));
        check(&format, "::", Ok((Some(""), Some(""), &[])));
        check(&format, "k::NULL", Ok((Some("k"), None, &[])));
        check(&format, "NULL::v", Ok((None, Some("v"), &[])));
        check(&format, "k:v", Err(LineError::NoKeySeparator("::".to_owned())));
    }

    #[test]
    fn headers() {
        let format = LineFormat { key_separator: Some(b":".to_vec()), headers: true, ..LineFormat::default() };
        check(
            &format,
            "a:1,a:2:3,b:\tk:v",
            Ok((Some("k"), Some("v"), &[("a", Some("1")), ("a", Some("2:3")), ("b", Some(""))])),
        );
        check(&format, "\tk:v", Ok((Some("k"), Some("v"), &[])));
        check(&format, "a:1", Err(LineError::NoTab));
        check(&format, "a\tk:v", Err(LineError::Header("a".to_owned())));
    }

    #[test]
    fn separators() {
        assert_eq!(parse_separator("\\t").as_deref(), Ok("\t"));
        assert_eq!(parse_separator(":").as_deref(), Ok(":"));
        assert!(parse_separator("").is_err());
    }

    #[tokio::test]
    async fn files_are_read_line_by_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        std::fs::write(&path, b"one\r\n\ntwo\r\xff\nlast").unwrap();
        let mut groups = Some(read(vec![path.clone(), directory.path().join("missing")]));
        let mut lines = Vec::new();
        let failure = loop {
            match next(&mut groups).await.unwrap() {
                Ok(group) => lines.extend(group),
                Err(error) => break error,
            }
        };
        let read: Vec<&[u8]> = lines.iter().map(|line| &line.bytes[..]).collect();
        assert_eq!(read, [&b"one"[..], b"", b"two\r\xff", b"last"]);
        assert_eq!(lines[3].origin.to_string(), format!("{}, line 4", path.display()));
        assert!(failure.to_string().contains("missing cannot be read"), "{failure}");
        assert!(next(&mut groups).await.is_none());
    }
}
