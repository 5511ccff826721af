//! The error codes in a response, wherever its schema puts them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::files::GeneratedFile;
use super::super::schema::{Family, Field, Kind, Message, Type};
use super::{NOTICE, names};

pub fn file(messages: &[&Message]) -> GeneratedFile {
    let responses =
        messages.iter().filter(|message| message.family == Family::Messages && message.kind == Kind::Response);
    let bodies: BTreeMap<&str, String> =
        responses.map(|message| (message.name.as_str(), visits(message, &message.fields, "self", 0))).collect();
    let mut text = format!("//! Which error codes a response carries, for those who count them.\n\n{NOTICE}\n");
    text.push_str("use crate::ErrorCodes;\n");
    for name in bodies.keys() {
        let _ = writeln!(text, "use crate::messages::{}::{};", names::snake_case(name), names::type_name(name));
    }
    for (name, body) in bodies {
        let visit = if body.is_empty() { "_visit" } else { "visit" };
        let _ = write!(
            text,
            "\nimpl ErrorCodes for {} {{\n    fn error_codes(&self, {visit}: &mut impl FnMut(i16)) {{\n{body}    }}\n}}\n",
            names::type_name(name)
        );
    }
    GeneratedFile { path: "src/error_codes.rs".into(), text }
}

/// The statements that visit every error code below `owner`.
fn visits(message: &Message, fields: &[Field], owner: &str, depth: usize) -> String {
    let mut text = String::new();
    for field in fields.iter().filter(|field| !field.versions.intersect(message.versions).is_empty()) {
        let path = format!("{owner}.{}", names::field(&field.name));
        if field.field_type == Type::Int16 && names::snake_case(&field.name).ends_with("error_code") {
            let _ = writeln!(text, "visit({path});");
            continue;
        }
        let Some(name) = field.field_type.struct_name() else { continue };
        let element = format!("part{depth}");
        let inner = visits(message, message.struct_fields(field, name), &element, depth + 1);
        if inner.is_empty() {
            continue;
        }
        let several = matches!(field.field_type, Type::Array(_));
        let nullable = !field.nullable.intersect(message.versions).is_empty();
        let head = match (several, nullable) {
            (true, true) => format!("for {element} in {path}.iter().flatten()"),
            (true, false) => format!("for {element} in &{path}"),
            (false, true) => format!("if let Some({element}) = &{path}"),
            (false, false) => format!("let {element} = &{path};"),
        };
        let _ = if head.ends_with(';') {
            write!(text, "{{ {head} {inner} }}")
        } else {
            write!(text, "{head} {{\n{inner}}}\n")
        };
    }
    text
}
