//! Java's properties format, which `server.properties` is written in.
//!
//! Lines end with LF, CR or CRLF; blanks before a key, comments (`#`, `!`) and a backslash at the end of a line, which
//! joins it with the next, are as in Java; so are the escapes. One difference: the text is UTF-8, not Latin-1 (see
//! [`decode`]).

use std::borrow::Cow;

use crate::error::ConfigError;

/// One `key=value`, with the number of the line it starts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub key: String,
    pub value: String,
    pub line: usize,
}

/// The text of a properties file: UTF-8 where it is, else Latin-1, which Java reads.
pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

/// All properties in the order of the text, repeated keys included.
pub fn parse(text: &str) -> Result<Vec<Property>, ConfigError> {
    let mut properties = Vec::new();
    let mut lines = Lines { rest: text, number: 0 };
    while let Some((line, number)) = lines.next_logical() {
        let (key, value) = split(&line);
        properties.push(Property { key: unescape(key, number)?, value: unescape(value, number)?, line: number });
    }
    Ok(properties)
}

struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    /// The next physical line without its end and the blanks before it.
    fn next_natural(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let end = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix("\r\n").or_else(|| rest.get(1..)).unwrap_or_default();
        Some(line.trim_start_matches(is_blank))
    }

    /// The next line that is not blank or a comment, joined with its continuations, and the number of its first line.
    fn next_logical(&mut self) -> Option<(Cow<'a, str>, usize)> {
        loop {
            let mut line = self.next_natural()?;
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let number = self.number;
            if !continues(line) {
                return Some((Cow::Borrowed(line), number));
            }
            let mut joined = String::new();
            while continues(line) {
                joined.push_str(&line[..line.len() - 1]);
                let Some(mut next) = self.next_natural() else { return Some((Cow::Owned(joined), number)) };
                // As long as nothing is joined, Java still takes comments and blank lines for what they are.
                while joined.is_empty() && (next.is_empty() || next.starts_with(['#', '!'])) {
                    next = self.next_natural()?;
                }
                line = next;
            }
            joined.push_str(line);
            return Some((Cow::Owned(joined), number));
        }
    }
}

/// Whether the line ends with an odd number of backslashes: an even number is escaped backslashes.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{c}')
}

/// Cuts a logical line at the first unescaped `=`, `:` or blank. Blanks around one `=` or `:` belong to neither side.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|&(_, character)| {
        let ends = !escaped && (matches!(character, '=' | ':') || is_blank(character));
        escaped = character == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.map_or(line.len(), |(index, _)| index));
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(is_blank))
}

fn unescape(text: &str, line: usize) -> Result<String, ConfigError> {
    // Collected as UTF-16, because an escape names one unit of it and a pair of them one character.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    let mut buffer = [0; 2];
    while let Some(character) = characters.next() {
        let plain = if character == '\\' {
            match characters.next() {
                None => break,
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let mut unit = 0;
                    for _ in 0..4 {
                        let digit = characters.next().and_then(|digit| digit.to_digit(16));
                        unit = unit * 16 + digit.ok_or(ConfigError::BadEscape { line })? as u16;
                    }
                    units.push(unit);
                    continue;
                }
                Some(other) => other,
            }
        } else {
            character
        };
        units.extend_from_slice(plain.encode_utf16(&mut buffer));
    }
    Ok(String::from_utf16_lossy(&units))
}
