//! Writes the messages fuzzing starts from: `fuzz_seeds DIR` fills DIR/request, DIR/response, DIR/request_header and
//! DIR/stored_record, in the form the fuzz targets of those names read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ottla_protocol::{ApiKey, Message, for_every_message};
use xtask::protocol::sample::{self, Filling, Random};
use xtask::protocol::schema::Kind;
use xtask::protocol::snapshot;

fn main() -> Result<()> {
    let directory = PathBuf::from(std::env::args().nth(1).context("usage: fuzz_seeds DIR")?);
    macro_rules! names {
        ($($message:path,)*) => {
            vec![$(<$message as Message>::NAME),*]
        };
    }
    let names: Vec<&str> = for_every_message!(names);
    // The target's own list: what is neither a request nor a response.
    let stored: BTreeMap<&str, usize> = names
        .into_iter()
        .filter(|name| !name.ends_with("Request") && !name.ends_with("Response"))
        .enumerate()
        .map(|(index, name)| (name, index))
        .collect();
    let mut random = Random::new(1);
    for message in
        snapshot::read(Path::new(env!("CARGO_MANIFEST_DIR")))?.into_iter().filter_map(|schema| schema.message)
    {
        let (target, index) = match (message.kind, message.api_key.and_then(ApiKey::from_code)) {
            (Kind::Request, Some(key)) => ("request", ApiKey::ALL.binary_search(&key).ok()),
            (Kind::Response, Some(key)) => ("response", ApiKey::ALL.binary_search(&key).ok()),
            _ => ("stored_record", stored.get(message.name.as_str()).copied()),
        };
        let index = u8::try_from(index.with_context(|| format!("{} is in no list", message.name))?)?;
        for version in message.versions.iter() {
            for filling in [Filling::Most, Filling::Mixed] {
                let name = format!("{}-{version}-{filling:?}", message.name);
                let body = sample::message(&message, version, filling, &mut random);
                let choice = [index, u8::try_from(version - message.versions.first)?];
                write(&directory.join(target), &name, &[&choice[..], &body].concat())?;
                if message.name == "RequestHeader" {
                    // A header of a random API is hardly ever one; this is ApiVersions in a flexible version.
                    let named = [&[0, 18, 0, 3], body.get(4..).unwrap_or_default()].concat();
                    write(&directory.join("request_header"), &name, &named)?;
                }
            }
        }
    }
    Ok(())
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join(name), bytes).with_context(|| format!("cannot write {name}"))
}
