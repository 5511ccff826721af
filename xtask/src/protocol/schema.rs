//! The model of a message schema, read from its JSON.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::versions::Versions;

/// Where a message is used, which is also the module it is generated into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// What clients and brokers exchange: Kafka's clients jar.
    Messages,
    /// What is kept in internal topics and files: every other jar.
    Records,
}

impl Family {
    pub fn module(self) -> &'static str {
        match self {
            Family::Messages => "messages",
            Family::Records => "records",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Header,
    /// A record or a blob inside another message: it has no place in the request-response scheme.
    Data,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub family: Family,
    pub kind: Kind,
    pub name: String,
    pub api_key: Option<i16>,
    pub versions: Versions,
    pub flexible: Versions,
    pub latest_version_unstable: bool,
    pub fields: Vec<Field>,
    pub common_structs: Vec<Struct>,
}

/// A struct that several fields of a message share.
#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub versions: Versions,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub field_type: Type,
    pub versions: Versions,
    pub nullable: Versions,
    pub tagged: Versions,
    pub tag: Option<u32>,
    /// As written in the schema; empty if it gives none.
    pub default: String,
    pub ignorable: bool,
    /// Set where a field deviates from its message.
    pub flexible: Option<Versions>,
    /// The fields of the struct declared in place.
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint16,
    Uint32,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    /// Records of a response: the sender need not have them in one piece, or in memory.
    FetchedRecords,
    Struct(String),
    Array(Box<Type>),
}

impl Message {
    /// `None` for a message that has no version left.
    pub fn parse(family: Family, json: &Value) -> Result<Option<Message>> {
        let name = text(json, "name").context("a schema without a name")?;
        Self::parse_named(family, json, name).with_context(|| format!("in {name}"))
    }

    fn parse_named(family: Family, json: &Value, name: &str) -> Result<Option<Message>> {
        let versions = Versions::parse(text(json, "validVersions").context("no validVersions")?)?;
        if versions.is_empty() {
            return Ok(None);
        }
        let kind = match text(json, "type").context("no type")? {
            "request" => Kind::Request,
            "response" => Kind::Response,
            "header" => Kind::Header,
            "data" | "metadata" | "coordinator-key" | "coordinator-value" => Kind::Data,
            other => bail!("unknown type '{other}'"),
        };
        let api_key = match (kind, json.get("apiKey")) {
            (Kind::Request | Kind::Response, Some(key)) => {
                Some(key.as_i64().and_then(|key| i16::try_from(key).ok()).context("apiKey is not a number")?)
            }
            _ => None,
        };
        let common_structs = list(json, "commonStructs")
            .iter()
            .map(|json| {
                Ok(Struct {
                    name: text(json, "name").context("a struct without a name")?.to_owned(),
                    versions: Versions::parse(text(json, "versions").context("a struct without versions")?)?,
                    fields: fields(json)?,
                })
            })
            .collect::<Result<_>>()?;
        let mut message = Message {
            family,
            kind,
            name: name.to_owned(),
            api_key,
            versions,
            flexible: Versions::parse(text(json, "flexibleVersions").context("no flexibleVersions")?)?,
            latest_version_unstable: flag(json, "latestVersionUnstable"),
            fields: fields(json)?,
            common_structs,
        };
        if kind == Kind::Response {
            mark_fetched_records(&mut message.fields);
        }
        Ok(Some(message))
    }

    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible.contains(version)
    }

    /// The fields of a struct, whether declared in place or apart.
    pub fn struct_fields<'a>(&'a self, field: &'a Field, name: &str) -> &'a [Field] {
        if !field.fields.is_empty() {
            return &field.fields;
        }
        self.common_structs.iter().find(|common| common.name == name).map_or(&[], |common| &common.fields)
    }
}

impl Field {
    fn parse(json: &Value) -> Result<Field> {
        let name = text(json, "name").context("a field without a name")?;
        let parse = || {
            let range = |key| text(json, key).map(Versions::parse).transpose();
            let tagged = range("taggedVersions")?.unwrap_or(Versions::NONE);
            let tag = json.get("tag").and_then(Value::as_u64).map(u32::try_from).transpose()?;
            if tag.is_none() != tagged.is_empty() {
                bail!("tag and taggedVersions go together");
            }
            Ok(Field {
                name: name.to_owned(),
                field_type: Type::parse(text(json, "type").context("no type")?)?,
                // A tagged field may leave its versions out: they are those in which it is tagged.
                versions: range("versions")?.unwrap_or(tagged),
                nullable: range("nullableVersions")?.unwrap_or(Versions::NONE),
                tagged,
                tag,
                default: match json.get("default") {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                },
                ignorable: flag(json, "ignorable"),
                flexible: range("flexibleVersions")?,
                fields: fields(json)?,
            })
        };
        parse().with_context(|| format!("in field {name}"))
    }
}

impl Type {
    fn parse(text: &str) -> Result<Type> {
        Ok(match text {
            "bool" => Type::Bool,
            "int8" => Type::Int8,
            "int16" => Type::Int16,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "uint16" => Type::Uint16,
            "uint32" => Type::Uint32,
            "float64" => Type::Float64,
            "uuid" => Type::Uuid,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "records" => Type::Records,
            other => match other.strip_prefix("[]") {
                Some(element) => Type::Array(Box::new(Type::parse(element)?)),
                None if other.starts_with(|letter: char| letter.is_ascii_uppercase()) => Type::Struct(other.to_owned()),
                None => bail!("unknown type '{other}'"),
            },
        })
    }

    /// The struct this is, or is an array of.
    pub fn struct_name(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}

fn mark_fetched_records(fields: &mut [Field]) {
    for field in fields {
        if field.field_type == Type::Records {
            field.field_type = Type::FetchedRecords;
        }
        mark_fetched_records(&mut field.fields);
    }
}

fn fields(json: &Value) -> Result<Vec<Field>> {
    list(json, "fields").iter().map(Field::parse).collect()
}

fn list<'a>(json: &'a Value, key: &str) -> &'a [Value] {
    json.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(json: &'a Value, key: &str) -> Option<&'a str> {
    json.get(key).and_then(Value::as_str)
}

/// Some schemas write their flags as text.
fn flag(json: &Value, key: &str) -> bool {
    json.get(key).is_some_and(|value| value.as_bool() == Some(true) || value.as_str() == Some("true"))
}
