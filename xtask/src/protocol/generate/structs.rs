//! One struct: its declaration, defaults, decoding and encoding.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::super::schema::{Field, Kind, Message, Type};
use super::super::versions::Versions;
use super::names;

pub struct StructShape<'a> {
    pub message: &'a Message,
    pub name: String,
    /// The versions in which the struct occurs.
    pub versions: Versions,
    pub fields: &'a [Field],
    pub top_level: bool,
}

/// A field in the versions of its struct.
struct Member<'a> {
    field: &'a Field,
    name: String,
    /// Where it stands among the other fields.
    positional: Versions,
    /// Where it is a tagged field.
    tagged: Versions,
    nullable: Versions,
    flexible: &'static str,
}

/// How a field stands in its struct.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Positional,
    Tagged,
}

impl Place {
    /// The runtime's function for a struct that may be null; the marker of null differs.
    fn nullable_struct(self) -> &'static str {
        match self {
            Place::Positional => "nullable_struct",
            Place::Tagged => "nullable_tagged_struct",
        }
    }
}

pub fn declare(shape: &StructShape) -> Result<String> {
    let members = members(shape);
    let natural = members.iter().map(Member::has_natural_default).collect::<Result<Vec<_>>>()?;
    let derived = if natural.iter().all(|&natural| natural) { ", Default" } else { "" };
    let mut text = format!("#[derive(Clone, Debug, PartialEq{derived})]\npub struct {} {{\n", shape.name);
    for member in &members {
        if let Some(note) = member.note(shape.versions) {
            let _ = writeln!(text, "    /// {note}");
        }
        let _ = writeln!(text, "    pub {}: {},", member.name, member.rust_type());
    }
    text.push_str("}\n\n");
    if derived.is_empty() {
        let _ = write!(text, "impl Default for {} {{\n    fn default() -> Self {{\n        Self {{\n", shape.name);
        for member in &members {
            let _ = writeln!(text, "            {}: {},", member.name, member.default()?);
        }
        text.push_str("        }\n    }\n}\n\n");
    }
    Ok(text)
}

pub fn implement(shape: &StructShape) -> Result<String> {
    let members = members(shape);
    let mut text = format!("impl {} {{\n", shape.name);
    if shape.top_level && matches!(shape.message.kind, Kind::Request | Kind::Response) {
        let api = shape.message.name.trim_end_matches("Request").trim_end_matches("Response");
        let _ = write!(text, "    pub const API_KEY: ApiKey = ApiKey::{api};\n\n");
    }
    decode(shape, &members, &mut text)?;
    encode(shape, &members, &mut text)?;
    text.push_str("}\n\n");
    Ok(text)
}

fn members<'a>(shape: &StructShape<'a>) -> Vec<Member<'a>> {
    shape
        .fields
        .iter()
        .filter_map(|field| {
            let versions = field.versions.intersect(shape.versions);
            let tagged = field.tagged.intersect(versions);
            let positional = match (tagged.is_empty(), tagged.first > versions.first) {
                (true, _) => versions,
                // A field may become tagged in a later version, and stays so.
                (false, true) => Versions { first: versions.first, last: tagged.first - 1 },
                (false, false) => Versions::NONE,
            };
            let flexible = if field.flexible == Some(Versions::NONE) { "false" } else { "flexible" };
            let nullable = field.nullable.intersect(versions);
            let name = names::field(&field.name);
            // A field whose versions are all gone is not part of the struct any more.
            (!versions.is_empty()).then_some(Member { field, name, positional, tagged, nullable, flexible })
        })
        .collect()
}

/// The condition under which a version that lies in `within` lies in `versions` too; `None` if it always does.
fn condition(versions: Versions, within: Versions) -> Option<String> {
    let versions = versions.intersect(within);
    if versions.is_empty() {
        return Some("false".to_owned());
    }
    match (versions.first > within.first, versions.last < within.last) {
        (false, false) => None,
        (_, true) if versions.first == versions.last => Some(format!("version == {}", versions.first)),
        (true, true) => Some(format!("({}..={}).contains(&version)", versions.first, versions.last)),
        (true, false) => Some(format!("version >= {}", versions.first)),
        (false, true) => Some(format!("version <= {}", versions.last)),
    }
}

/// The condition under which a version that lies in `within` does not lie in `versions`; `None` if it always does.
fn complement(versions: Versions, within: Versions) -> Option<String> {
    let condition = condition(versions, within)?;
    let negated = [("version >= ", "version < "), ("version <= ", "version > "), ("version == ", "version != ")]
        .into_iter()
        .find_map(|(is, is_not)| condition.strip_prefix(is).map(|number| format!("{is_not}{number}")));
    Some(negated.unwrap_or_else(|| format!("!{condition}")))
}

/// The statement that says whether this version is flexible.
fn flexible(shape: &StructShape, used: bool) -> String {
    if !used {
        return String::new();
    }
    match condition(shape.message.flexible, shape.versions) {
        None => "let flexible = true;\n".to_owned(),
        Some(condition) => format!("let flexible = {condition};\n"),
    }
}

fn decode(shape: &StructShape, members: &[Member], text: &mut String) -> Result<()> {
    let mut body = String::new();
    for member in members {
        let read = member.decode_value(shape.versions, Place::Positional);
        let mutable = if member.tagged.is_empty() { "" } else { "mut " };
        let value = match condition(member.positional, shape.versions) {
            None => read,
            Some(_) if member.positional.is_empty() => member.default()?,
            Some(condition) => format!("if {condition} {{ {read} }} else {{ {} }}", member.default()?),
        };
        let _ = writeln!(body, "let {mutable}{} = {value};", member.local());
    }
    let flexible_versions = shape.message.flexible.intersect(shape.versions);
    if !flexible_versions.is_empty() {
        let known: Vec<&Member> = members.iter().filter(|member| !member.tagged.is_empty()).collect();
        let mut block = String::new();
        if known.is_empty() {
            block.push_str("input.skip_tagged_fields()?;\n");
        } else {
            block.push_str("input.tagged_fields(|input, tag| {\nmatch tag {\n");
            for member in known {
                let guard = condition(member.tagged, flexible_versions).map_or(String::new(), |c| format!("if {c} "));
                let read = member.decode_value(member.tagged, Place::Tagged);
                let _ = writeln!(block, "{} {guard}=> {} = {read},", member.tag()?, member.local());
            }
            block.push_str("_ => return Ok(false),\n}\nOk(true)\n})?;\n");
        }
        match condition(flexible_versions, shape.versions) {
            None => body.push_str(&block),
            Some(_) => {
                let _ = writeln!(body, "if flexible {{\n{block}}}");
            }
        }
    }
    let places: Vec<String> = members
        .iter()
        .map(|member| match member.local() {
            local if local == member.name => local,
            local => format!("{}: {local}", member.name),
        })
        .collect();
    let _ = writeln!(body, "Ok(Self {{ {} }})", places.join(", "));
    body.insert_str(0, &flexible(shape, mentions(&body, "flexible")));
    if shape.top_level {
        text.push_str("    pub fn decode(input: &mut Decoder, version: i16) -> Result<Self, DecodeError> {\n");
        text.push_str("supported::<Self>(version)?;\n");
    } else {
        text.push_str(&signature("decode(input: &mut Decoder, VERSION: i16) -> Result<Self, DecodeError>", &body));
    }
    text.push_str(&body);
    text.push_str("    }\n\n");
    Ok(())
}

fn encode(shape: &StructShape, members: &[Member], text: &mut String) -> Result<()> {
    let mut body = String::new();
    for member in members {
        let unsupported = if member.field.ignorable {
            None
        } else {
            Some(format!(
                "if {} {{ return Err(EncodeError::UnsupportedField {{ message: \"{}\", field: \"{}\", version }}); }}",
                member.is_set()?,
                shape.name,
                member.name.trim_start_matches("r#")
            ))
        };
        let write = member.encode_value(&shape.name, shape.versions, Place::Positional);
        let everywhere = member.positional.iter().chain(member.tagged.iter()).count() == shape.versions.iter().count();
        match (condition(member.positional, shape.versions), unsupported) {
            (None, _) => body.push_str(&write),
            (Some(_), unsupported) if member.positional.is_empty() => {
                if let (Some(condition), Some(check)) = (complement(member.tagged, shape.versions), unsupported) {
                    let _ = writeln!(body, "{}", check.replacen("if ", &format!("if {condition} && "), 1));
                }
            }
            (Some(condition), Some(check)) if !everywhere => {
                let _ = writeln!(body, "if {condition} {{ {write} }} else {check}");
            }
            (Some(condition), _) => {
                let _ = writeln!(body, "if {condition} {{ {write} }}");
            }
        }
    }
    let flexible_versions = shape.message.flexible.intersect(shape.versions);
    if !flexible_versions.is_empty() {
        let mut block = String::new();
        let mut known: Vec<&Member> = members.iter().filter(|member| !member.tagged.is_empty()).collect();
        known.sort_by_key(|member| member.field.tag);
        if known.is_empty() {
            block.push_str("output.no_tagged_fields();\n");
        } else {
            block.push_str("let mut tagged = TaggedFields::new();\n");
            for member in known {
                let guard = condition(member.tagged, flexible_versions).map_or(String::new(), |c| format!("{c} && "));
                let write = member.encode_value(&shape.name, member.tagged, Place::Tagged);
                let write = match write.strip_suffix("?;\n") {
                    Some(result) => result.to_owned(),
                    None => format!("{{ {write} Ok(()) }}"),
                };
                let _ = writeln!(
                    block,
                    "if {guard}{} {{\ntagged.field({}, |output| {write})?; }}",
                    member.is_set()?,
                    member.tag()?
                );
            }
            block.push_str("output.tagged_fields(tagged);\n");
        }
        match condition(flexible_versions, shape.versions) {
            None => body.push_str(&block),
            Some(_) => {
                let _ = writeln!(body, "if flexible {{\n{block}}}");
            }
        }
    }
    body.push_str("Ok(())\n");
    body.insert_str(0, &flexible(shape, mentions(&body, "flexible")));
    if shape.top_level {
        text.push_str("    pub fn encode(&self, output: &mut Encoder, version: i16) -> Result<(), EncodeError> {\n");
        text.push_str("supported::<Self>(version)?;\n");
    } else {
        text.push_str(&signature(
            "encode(&self, output: &mut Encoder, VERSION: i16) -> Result<(), EncodeError>",
            &body,
        ));
    }
    text.push_str(&body);
    text.push_str("    }\n");
    Ok(())
}

/// A nested struct's function; all of them take the version, whether they look at it or not.
fn signature(form: &str, body: &str) -> String {
    let version = if mentions(body, "version") { "version" } else { "_version" };
    format!("    fn {} {{\n", form.replace("VERSION", version))
}

fn mentions(body: &str, word: &str) -> bool {
    body.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|found| found == word)
}

impl Member<'_> {
    fn is_nullable(&self) -> bool {
        !self.nullable.is_empty()
    }

    fn tag(&self) -> Result<u32> {
        match self.field.tag {
            Some(tag) => Ok(tag),
            None => bail!("{} is tagged and has no tag", self.name),
        }
    }

    fn rust_type(&self) -> String {
        let plain = rust_type(&self.field.field_type);
        if self.is_nullable() { format!("Option<{plain}>") } else { plain }
    }

    /// The variable the field is read into; it must not hide what the function itself needs.
    fn local(&self) -> String {
        match self.name.as_str() {
            "version" | "flexible" | "input" | "tag" => format!("{}_field", self.name),
            _ => self.name.clone(),
        }
    }

    /// What the type alone does not say.
    fn note(&self, within: Versions) -> Option<String> {
        let mut notes = Vec::new();
        let versions = if self.tagged.is_empty() {
            self.positional
        } else if self.positional.is_empty() {
            self.tagged
        } else {
            Versions { first: self.positional.first, last: self.tagged.last }
        };
        let shown = |versions: Versions| {
            // "3+" reads better than "3-13" and stays true when a version is added.
            if versions.last == within.last && versions.first < versions.last {
                format!("{}+", versions.first)
            } else {
                versions.to_string()
            }
        };
        if versions != within {
            notes.push(format!("Versions {}", shown(versions)));
        }
        if let Some(tag) = self.field.tag {
            let from = if self.positional.is_empty() { String::new() } else { format!(" in {}", shown(self.tagged)) };
            notes.push(format!("tag {tag}{from}"));
        }
        if self.is_nullable() && self.nullable != versions {
            notes.push(format!("nullable in {}", shown(self.nullable)));
        }
        if self.field.ignorable && versions != within {
            notes.push("ignorable".to_owned());
        }
        let note = notes.join(", ");
        let mut letters = note.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str() + ".")
    }

    fn has_natural_default(&self) -> Result<bool> {
        let default = self.default()?;
        Ok(match &self.field.field_type {
            _ if self.is_nullable() => default == "None",
            Type::Struct(_)
            | Type::Array(_)
            | Type::String
            | Type::Bytes
            | Type::Records
            | Type::FetchedRecords
            | Type::Uuid => true,
            Type::Bool => default == "false",
            Type::Float64 => default == "0.0",
            _ => default == "0",
        })
    }

    fn default(&self) -> Result<String> {
        let given = self.field.default.as_str();
        if given == "null" {
            if !self.is_nullable() {
                bail!("{} defaults to null and is not nullable", self.name);
            }
            return Ok("None".to_owned());
        }
        let plain = match &self.field.field_type {
            Type::Bool if given == "true" => "true".to_owned(),
            Type::Bool => "false".to_owned(),
            Type::Float64 => format!("{:?}", if given.is_empty() { 0.0 } else { given.parse::<f64>()? }),
            Type::Int8 | Type::Int16 | Type::Int32 | Type::Int64 | Type::Uint16 | Type::Uint32 => number(given)?,
            Type::Uuid if given.is_empty() => "Uuid::ZERO".to_owned(),
            Type::String if given.is_empty() => "StrBytes::default()".to_owned(),
            Type::Bytes | Type::Records if given.is_empty() => "Bytes::new()".to_owned(),
            Type::FetchedRecords if given.is_empty() => "FetchedRecords::default()".to_owned(),
            Type::Array(_) if given.is_empty() => "Vec::new()".to_owned(),
            Type::Struct(name) if given.is_empty() => format!("{}::default()", names::type_name(name)),
            _ => bail!("{} has a default of '{given}'", self.name),
        };
        // Records have no empty form of their own: without a default they are absent.
        if matches!(self.field.field_type, Type::Records | Type::FetchedRecords) && self.is_nullable() {
            return Ok("None".to_owned());
        }
        Ok(if self.is_nullable() { format!("Some({plain})") } else { plain })
    }

    /// Whether the field has another value than its default.
    fn is_set(&self) -> Result<String> {
        let place = format!("self.{}", self.name);
        let default = self.default()?;
        Ok(match (&self.field.field_type, default.as_str()) {
            (_, "None") => format!("{place}.is_some()"),
            (Type::Bool, "false") => place,
            (Type::Bool, _) => format!("!{place}"),
            (Type::Uuid, _) => format!("!{place}.is_zero()"),
            (Type::String | Type::Bytes | Type::Records | Type::FetchedRecords | Type::Array(_), _)
                if !self.is_nullable() =>
            {
                format!("!{place}.is_empty()")
            }
            _ => format!("{place} != {default}"),
        })
    }

    /// The expression that reads the field in versions `within`.
    fn decode_value(&self, within: Versions, place: Place) -> String {
        let plain = read(&self.field.field_type, false, self.flexible, place);
        if !self.is_nullable() {
            return plain;
        }
        let nullable = read(&self.field.field_type, true, self.flexible, place);
        match condition(self.nullable, within.intersect(self.present())) {
            None => nullable,
            Some(condition) => format!("if {condition} {{ {nullable} }} else {{ Some({plain}) }}"),
        }
    }

    /// The statement that writes the field in versions `within`.
    fn encode_value(&self, message: &str, within: Versions, place: Place) -> String {
        let value = format!("self.{}", self.name);
        let kind = &self.field.field_type;
        if !self.is_nullable() {
            return write(kind, false, self.flexible, &reference(kind, &value), place);
        }
        let nullable = write(kind, true, self.flexible, &option(kind, &value), place);
        let name = self.name.trim_start_matches("r#");
        let required = format!("required({value}.as_ref(), \"{message}\", \"{name}\", version)?");
        match condition(self.nullable, within.intersect(self.present())) {
            None => nullable,
            Some(condition) => {
                let plain = write(kind, false, self.flexible, &required, place);
                format!("if {condition} {{ {nullable} }} else {{ {plain} }}")
            }
        }
    }

    fn present(&self) -> Versions {
        match (self.positional.is_empty(), self.tagged.is_empty()) {
            (false, false) => Versions { first: self.positional.first, last: self.tagged.last },
            (true, _) => self.tagged,
            (false, true) => self.positional,
        }
    }
}

/// A whole number, decimal or hexadecimal, in Rust's notation.
fn number(text: &str) -> Result<String> {
    let value: i64 = match text.strip_prefix("0x") {
        _ if text.is_empty() => 0,
        Some(digits) => i64::from_str_radix(digits, 16)?,
        None => text.parse()?,
    };
    Ok(match value {
        i64::MAX => "i64::MAX".to_owned(),
        _ if value == i64::from(i32::MAX) => "i32::MAX".to_owned(),
        _ if value == i64::from(i32::MIN) => "i32::MIN".to_owned(),
        _ => group_digits(&value.to_string()),
    })
}

fn group_digits(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    if digits.len() < 5 {
        return number.to_owned();
    }
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    grouped
}

fn rust_type(kind: &Type) -> String {
    match kind {
        Type::Bool => "bool".to_owned(),
        Type::Int8 => "i8".to_owned(),
        Type::Int16 => "i16".to_owned(),
        Type::Int32 => "i32".to_owned(),
        Type::Int64 => "i64".to_owned(),
        Type::Uint16 => "u16".to_owned(),
        Type::Uint32 => "u32".to_owned(),
        Type::Float64 => "f64".to_owned(),
        Type::Uuid => "Uuid".to_owned(),
        Type::String => "StrBytes".to_owned(),
        Type::Bytes | Type::Records => "Bytes".to_owned(),
        Type::FetchedRecords => "FetchedRecords".to_owned(),
        Type::Struct(name) => names::type_name(name),
        Type::Array(element) => format!("Vec<{}>", rust_type(element)),
    }
}

/// The name of the runtime's function for a type of fixed size.
fn primitive(kind: &Type) -> Option<&'static str> {
    Some(match kind {
        Type::Bool => "boolean",
        Type::Int8 => "int8",
        Type::Int16 => "int16",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Uint16 => "uint16",
        Type::Uint32 => "uint32",
        Type::Float64 => "float64",
        Type::Uuid => "uuid",
        Type::String | Type::Bytes | Type::Records | Type::FetchedRecords | Type::Struct(_) | Type::Array(_) => {
            return None;
        }
    })
}

fn read(kind: &Type, nullable: bool, flexible: &str, place: Place) -> String {
    let prefix = if nullable { "nullable_" } else { "" };
    match kind {
        Type::String => format!("input.{prefix}string({flexible})?"),
        Type::Bytes | Type::Records => format!("input.{prefix}bytes({flexible})?"),
        Type::FetchedRecords => format!("input.{prefix}fetched_records({flexible})?"),
        Type::Struct(name) => {
            let name = names::type_name(name);
            if nullable {
                format!("input.{}(|input| {name}::decode(input, version))?", place.nullable_struct())
            } else {
                format!("{name}::decode(input, version)?")
            }
        }
        Type::Array(element) => {
            let each = match (&**element, primitive(element)) {
                (_, Some(function)) => format!("Decoder::{function}"),
                (Type::Struct(name), _) => format!("|input| {}::decode(input, version)", names::type_name(name)),
                (other, None) => format!("|input| {}", read(other, false, flexible, place).trim_end_matches('?')),
            };
            format!("input.{prefix}array({flexible}, {each})?")
        }
        fixed => format!("input.{}()?", primitive(fixed).unwrap_or_default()),
    }
}

/// How `place` is handed to the function that writes it.
fn reference(kind: &Type, place: &str) -> String {
    match kind {
        Type::String | Type::Bytes | Type::Records | Type::FetchedRecords | Type::Array(_) => format!("&{place}"),
        _ => place.to_owned(),
    }
}

fn option(kind: &Type, place: &str) -> String {
    match kind {
        Type::String | Type::Array(_) => format!("{place}.as_deref()"),
        _ => format!("{place}.as_ref()"),
    }
}

fn write(kind: &Type, nullable: bool, flexible: &str, value: &str, place: Place) -> String {
    let prefix = if nullable { "nullable_" } else { "" };
    match kind {
        Type::String => format!("output.{prefix}string({flexible}, {value})?;\n"),
        Type::Bytes | Type::Records => format!("output.{prefix}bytes({flexible}, {value})?;\n"),
        Type::FetchedRecords => format!("output.{prefix}fetched_records({flexible}, {value})?;\n"),
        Type::Struct(_) if nullable => {
            let function = place.nullable_struct();
            format!("output.{function}({value}, |output, value| value.encode(output, version))?;\n")
        }
        Type::Struct(_) => format!("{value}.encode(output, version)?;\n"),
        Type::Array(element) => {
            let (form, each) = match (&**element, primitive(element)) {
                (_, Some(function)) => ("plain_array", format!("Encoder::{function}")),
                (Type::Struct(_), _) => ("array", "|output, element| element.encode(output, version)".to_owned()),
                (Type::String, _) => ("array", format!("|output, element| output.string({flexible}, element)")),
                _ => ("array", format!("|output, element| output.bytes({flexible}, element)")),
            };
            format!("output.{prefix}{form}({flexible}, {value}, {each})?;\n")
        }
        fixed => format!("output.{}({value});\n", primitive(fixed).unwrap_or_default()),
    }
}
