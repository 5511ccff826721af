//! The file of one message.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use super::super::schema::{Field, Kind, Message, Type};
use super::super::versions::Versions;
use super::structs::{self, StructShape};
use super::{NOTICE, names};

pub fn file(message: &Message) -> Result<String> {
    let name = names::type_name(&message.name);
    let mut shapes = vec![StructShape {
        message,
        name: name.clone(),
        versions: message.versions,
        fields: &message.fields,
        top_level: true,
    }];
    collect(message, &message.fields, message.versions, &mut shapes)?;
    for common in &message.common_structs {
        let versions = common.versions.intersect(message.versions);
        if versions.is_empty() {
            continue;
        }
        shapes.push(StructShape {
            message,
            name: names::type_name(&common.name),
            versions,
            fields: &common.fields,
            top_level: false,
        });
        collect(message, &common.fields, versions, &mut shapes)?;
    }
    let mut body = String::new();
    for shape in &shapes {
        body.push_str(&structs::declare(shape)?);
    }
    for shape in &shapes {
        body.push_str(&structs::implement(shape)?);
    }
    let response = match message.kind {
        Kind::Request => Some(message.name.strip_suffix("Request").context("a request's name ends so")?),
        _ => None,
    };
    let mut text = format!("//! {name}: {}.\n\n{NOTICE}\n", describe(message));
    text.push_str(&imports(&body, response));
    text.push_str(&body);
    let _ = write!(text, "\nmessage!({name}, {});\n", range(message.versions));
    if let Some(api) = response {
        let _ = write!(
            text,
            "\nimpl RequestMessage for {name} {{\n    const API_KEY: ApiKey = ApiKey::{api};\n    \
             type Response = super::{}_response::{api}Response;\n}}\n",
            names::snake_case(api)
        );
    }
    Ok(text)
}

pub fn range(versions: Versions) -> String {
    format!("{}..={}", versions.first, versions.last)
}

fn describe(message: &Message) -> String {
    let mut text = if message.versions.first == message.versions.last {
        format!("version {}", message.versions)
    } else {
        format!("versions {}", message.versions)
    };
    let flexible = message.flexible.intersect(message.versions);
    if flexible.is_empty() {
        text.push_str(", none of them flexible");
    } else if flexible == message.versions {
        text.push_str(", flexible");
    } else {
        let _ = write!(text, ", flexible from {}", flexible.first);
    }
    if message.latest_version_unstable {
        text.push_str(", the newest unstable");
    }
    text
}

/// The structs declared inside fields, each with the versions its field has.
fn collect<'a>(
    message: &'a Message,
    fields: &'a [Field],
    parent: Versions,
    shapes: &mut Vec<StructShape<'a>>,
) -> Result<()> {
    for field in fields {
        let versions = field.versions.intersect(parent);
        let Some(name) = field.field_type.struct_name() else { continue };
        if matches!(&field.field_type, Type::Array(element) if matches!(**element, Type::Array(_))) {
            bail!("{}: arrays of arrays are not in the protocol so far", field.name);
        }
        if versions.is_empty() || field.fields.is_empty() {
            continue;
        }
        let name = names::type_name(name);
        if shapes.iter().any(|shape| shape.name == name) {
            bail!("two structs are called {name}");
        }
        shapes.push(StructShape { message, name, versions, fields: &field.fields, top_level: false });
        collect(message, &field.fields, versions, shapes)?;
    }
    Ok(())
}

fn imports(body: &str, response: Option<&str>) -> String {
    let uses = |word: &str| {
        body.match_indices(word).any(|(start, _)| {
            let before = body[..start].chars().next_back();
            let after = body[start + word.len()..].chars().next();
            let inside = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
            !inside(before) && !inside(after)
        })
    };
    let mut text = String::new();
    if uses("Bytes") {
        text.push_str("use bytes::Bytes;\n");
    }
    if uses("Uuid") {
        text.push_str("use ottla_types::Uuid;\n");
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let mut own = vec!["DecodeError", "Decoder", "EncodeError", "Encoder"];
    if uses("ApiKey") {
        own.push("ApiKey");
    }
    if uses("FetchedRecords") {
        own.push("FetchedRecords");
    }
    if uses("StrBytes") {
        own.push("StrBytes");
    }
    if response.is_some() {
        own.push("RequestMessage");
    }
    own.sort_unstable();
    if uses("TaggedFields") {
        text.push_str("use crate::encoder::TaggedFields;\n");
    }
    let mut of_message = vec!["message", "supported"];
    if uses("required") {
        of_message.push("required");
    }
    of_message.sort_unstable();
    let _ = write!(text, "use crate::message::{{{}}};\nuse crate::{{{}}};\n\n", of_message.join(", "), own.join(", "));
    text
}
