//! The schemas as this repository keeps them: their facts without their prose, one message a line, so that a build needs
//! no jar and a change of Kafka's shows as a small diff.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::files::GeneratedFile;
use super::schema::{Family, Message};

/// A schema: its facts as JSON, and what they mean. A message with no version left has facts only.
#[derive(Clone, Debug)]
pub struct Schema {
    pub family: Family,
    pub facts: Value,
    pub message: Option<Message>,
}

const FILES: [(Family, &str); 2] =
    [(Family::Messages, "schema/messages.jsonl"), (Family::Records, "schema/records.jsonl")];

impl Schema {
    pub fn new(family: Family, mut json: Value) -> Result<Schema> {
        drop_prose(&mut json);
        Ok(Schema { family, message: Message::parse(family, &json)?, facts: json })
    }

    pub fn name(&self) -> &str {
        self.facts.get("name").and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads the schemas kept under `schema/` of the protocol crate.
pub fn read(crate_dir: &Path) -> Result<Vec<Schema>> {
    let mut schemas = Vec::new();
    for (family, file) in FILES {
        let path = crate_dir.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (index, line) in text.lines().enumerate() {
            let parse = || Schema::new(family, serde_json::from_str(line)?);
            schemas.push(parse().with_context(|| format!("{} line {}", path.display(), index + 1))?);
        }
    }
    Ok(schemas)
}

/// The files [`read`] reads.
pub fn files(schemas: &[Schema]) -> Vec<GeneratedFile> {
    FILES
        .iter()
        .map(|&(family, file)| {
            let mut of_family: Vec<_> = schemas.iter().filter(|schema| schema.family == family).collect();
            of_family.sort_by(|a, b| a.name().cmp(b.name()));
            let mut text = String::new();
            for schema in of_family {
                text.push_str(&schema.facts.to_string());
                text.push('\n');
            }
            GeneratedFile { path: file.into(), text }
        })
        .collect()
}

fn drop_prose(json: &mut Value) {
    match json {
        Value::Object(object) => {
            object.remove("about");
            object.values_mut().for_each(drop_prose);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_prose),
        _ => {}
    }
}
