//! Our half of the codec suite (`compat/codec/run`): compares what this crate reads and writes with what Apache's Java
//! classes do.
//!
//! `recode check CASES` goes through the cases Java wrote. `recode sample OUT SEED COUNT` writes messages for Java to go
//! through: COUNT of every message and version, filled from the schemas, read and written by this crate. `recode apis FILE`
//! compares the versions and headers of each API with Java's list.

#![allow(clippy::print_stdout, reason = "a command-line tool")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_protocol::{ApiKey, Decoder, Encoder, Message, for_every_message};
use xtask::protocol::sample::{self, Filling, Random};
use xtask::protocol::snapshot;

/// Marks, in the place of a length, that Java could not read the bytes, or could not write the message.
const JAVA_CANNOT_READ: i32 = -1;
const JAVA_CANNOT_WRITE: i32 = -2;
/// In the place of a version to read: the message is the one with all defaults.
const DEFAULT_MESSAGE: i16 = -1;
const FAILURES_SHOWN: usize = 20;

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    CannotRead(String),
    CannotWrite(String),
    Written(Bytes),
}

type Recode = fn(&Bytes, i16, i16) -> Outcome;

fn recode<M: Message>(input: &Bytes, read_version: i16, write_version: i16) -> Outcome {
    let message = if read_version == DEFAULT_MESSAGE {
        M::default()
    } else {
        let mut decoder = Decoder::new(input.clone());
        match M::decode(&mut decoder, read_version) {
            Ok(_) if decoder.remaining() > 0 => {
                return Outcome::CannotRead(format!("{} bytes are left", decoder.remaining()));
            }
            Ok(message) => message,
            Err(error) => return Outcome::CannotRead(error.to_string()),
        }
    };
    let mut encoder = Encoder::new();
    match message.encode(&mut encoder, write_version).and_then(|()| encoder.finish_contiguous()) {
        Ok(bytes) => Outcome::Written(bytes),
        Err(error) => Outcome::CannotWrite(error.to_string()),
    }
}

fn recoders() -> BTreeMap<&'static str, Recode> {
    macro_rules! table {
        ($($message:path,)*) => {
            BTreeMap::from([$((<$message as Message>::NAME, recode::<$message> as Recode)),*])
        };
    }
    for_every_message!(table)
}

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["check", cases] => check(Path::new(cases)),
        ["sample", out, seed, count] => sample(Path::new(out), seed.parse()?, count.parse()?),
        ["apis", file] => apis(Path::new(file)),
        _ => bail!("usage: recode check CASES | recode sample OUT SEED COUNT | recode apis FILE"),
    }
}

fn check(cases: &Path) -> Result<ExitCode> {
    let recoders = recoders();
    let mut input = Bytes::from(fs::read(cases).with_context(|| format!("cannot read {}", cases.display()))?);
    let (mut passed, mut failed) = (0, 0);
    let mut seen = BTreeMap::new();
    while input.has_remaining() {
        let name_length = usize::from(input.try_get_u16()?);
        let class = String::from_utf8(input.split_to(name_length).to_vec())?;
        let (read_version, write_version) = (input.try_get_i16()?, input.try_get_i16()?);
        let length = usize::try_from(input.try_get_i32()?)?;
        let bytes = input.split_to(length);
        let expected = match input.try_get_i32()? {
            JAVA_CANNOT_READ => Outcome::CannotRead(String::new()),
            JAVA_CANNOT_WRITE => Outcome::CannotWrite(String::new()),
            length => Outcome::Written(input.split_to(usize::try_from(length)?)),
        };
        // The class of a request, response or header has a suffix its schema has not.
        let name = recoders
            .get_key_value(class.as_str())
            .or_else(|| class.strip_suffix("Data").and_then(|name| recoders.get_key_value(name)));
        let (name, recode) = name.with_context(|| format!("we have no {class}"))?;
        *seen.entry(*name).or_insert(0) += 1;
        let actual = recode(&bytes, read_version, write_version);
        let agree = match (&actual, &expected) {
            (Outcome::Written(actual), Outcome::Written(expected)) => actual == expected,
            (actual, expected) => std::mem::discriminant(actual) == std::mem::discriminant(expected),
        };
        if agree {
            passed += 1;
        } else {
            failed += 1;
            if failed <= FAILURES_SHOWN {
                println!("{name} read as version {read_version}, written as {write_version}:");
                println!("  input {bytes:x}\n  ours  {}\n  Java  {}", show(&actual), show(&expected));
            }
        }
    }
    for name in recoders.keys().filter(|name| !seen.contains_key(**name)) {
        println!("{name}: Java gave no case");
        failed += 1;
    }
    println!("{} messages, {passed} cases passed, {failed} failed", seen.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn apis(file: &Path) -> Result<ExitCode> {
    let mut ours = Vec::new();
    for api in ApiKey::ALL {
        let stable = api.valid_versions();
        ours.push(format!("{} {api} stable {}-{}", api.code(), stable.start(), stable.end()));
        for version in api.all_versions() {
            let (request, response) = (api.request_header_version(version), api.response_header_version(version));
            ours.push(format!("{version} headers {request} {response}"));
        }
    }
    let java = fs::read_to_string(file)?;
    let java: Vec<&str> = java.lines().collect();
    let mut failed = ours.len().abs_diff(java.len());
    for (ours, java) in ours.iter().zip(&java).filter(|(ours, java)| ours != java) {
        println!("ours {ours}, Java {java}");
        failed += 1;
    }
    println!("{} cases passed, {failed} failed", ours.len().saturating_sub(failed));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::CannotRead(error) => format!("cannot read it {error}"),
        Outcome::CannotWrite(error) => format!("cannot write it {error}"),
        Outcome::Written(bytes) => format!("{bytes:x}"),
    }
}

fn sample(out: &Path, seed: u64, count: usize) -> Result<ExitCode> {
    let recoders = recoders();
    let schemas = snapshot::read(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    let mut random = Random::new(seed);
    let mut output = BytesMut::new();
    let (mut written, mut failed) = (0, 0);
    for message in schemas.iter().filter_map(|schema| schema.message.as_ref()) {
        let recode = recoders.get(message.name.as_str()).with_context(|| format!("we have no {}", message.name))?;
        for version in message.versions.iter() {
            for round in 0..count {
                let filling = match round {
                    0 => Filling::Least,
                    1 => Filling::Most,
                    _ => Filling::Mixed,
                };
                let bytes = Bytes::from(sample::message(message, version, filling, &mut random));
                match recode(&bytes, version, version) {
                    Outcome::Written(ours) if ours == bytes => {
                        output.put_u16(u16::try_from(message.name.len())?);
                        output.put_slice(message.name.as_bytes());
                        output.put_i16(version);
                        output.put_i32(i32::try_from(ours.len())?);
                        output.put_slice(&ours);
                        written += 1;
                    }
                    other => {
                        failed += 1;
                        println!("{} version {version}: {bytes:x} became {}", message.name, show(&other));
                    }
                }
            }
        }
    }
    fs::write(out, &output)?;
    println!("{written} cases written, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
