//! Takes the schemas out of Kafka's jars.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::schema::Family;
use super::snapshot::Schema;

const JARS: [(&str, Family); 7] = [
    ("kafka-clients", Family::Messages),
    ("kafka-group-coordinator", Family::Records),
    ("kafka-metadata", Family::Records),
    ("kafka-raft", Family::Records),
    ("kafka-share-coordinator", Family::Records),
    ("kafka-storage", Family::Records),
    ("kafka-transaction-coordinator", Family::Records),
];

/// Reads every schema of the seven jars that carry some, whichever version of them lies in `directory`.
pub fn read(directory: &Path) -> Result<Vec<Schema>> {
    let mut schemas = Vec::new();
    for (name, family) in JARS {
        let jar = find(directory, name)?;
        read_jar(&jar, family, &mut schemas).with_context(|| format!("in {}", jar.display()))?;
    }
    Ok(schemas)
}

fn read_jar(jar: &Path, family: Family, schemas: &mut Vec<Schema>) -> Result<()> {
    let unpacked = tempfile::tempdir()?;
    // A jar is a zip file. `-j`: all schemas of one jar have different names.
    let status = Command::new("unzip")
        .args(["-q", "-j"])
        .arg(jar)
        .arg("*.json")
        .arg("-d")
        .arg(unpacked.path())
        .status()
        .context("cannot run unzip")?;
    if !status.success() {
        bail!("unzip: {status}");
    }
    let mut paths: Vec<PathBuf> =
        fs::read_dir(unpacked.path())?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        let parse = || Schema::new(family, serde_json::from_str(&without_comments(&fs::read_to_string(&path)?))?);
        schemas.push(parse().with_context(|| format!("in {}", path.display()))?);
    }
    Ok(())
}

/// The jar of this name, followed by a version.
fn find(directory: &Path, name: &str) -> Result<PathBuf> {
    let mut found = None;
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        let is_it = path.extension().is_some_and(|extension| extension == "jar")
            && path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.strip_prefix(name)).is_some_and(
                |rest| rest.strip_prefix('-').is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())),
            );
        if is_it && found.replace(path).is_some() {
            bail!("{} has more than one {name}", directory.display());
        }
    }
    found.with_context(|| format!("{} has no {name}-VERSION.jar", directory.display()))
}

/// JSON without the `//` comments the schemas carry, which JSON does not know.
fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut previous = ' ';
        let end = line.char_indices().find_map(|(index, letter)| {
            match letter {
                '"' if previous != '\\' => in_string = !in_string,
                '/' if !in_string && previous == '/' => return Some(index - 1),
                _ => {}
            }
            previous = letter;
            None
        });
        plain.push_str(&line[..end.unwrap_or(line.len())]);
        plain.push('\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::without_comments;

    #[test]
    fn comments_go_and_strings_stay() {
        for (text, plain) in [
            ("// all\n{}", "\n{}\n"),
            ("{ \"a\": 1 } // rest", "{ \"a\": 1 } \n"),
            ("{ \"a\": \"http://x\" }", "{ \"a\": \"http://x\" }\n"),
            ("{ \"a\\\"//\": 1 }", "{ \"a\\\"//\": 1 }\n"),
        ] {
            assert_eq!(without_comments(text), plain);
        }
    }
}
