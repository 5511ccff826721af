//! The list of APIs, and the enums over all requests and all responses.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::super::files::GeneratedFile;
use super::super::schema::{Kind, Message};
use super::message::range;
use super::{NOTICE, names};

struct Api<'a> {
    code: i16,
    name: &'a str,
    request: &'a Message,
    response: &'a Message,
}

pub fn files(messages: &[&Message]) -> Result<Vec<GeneratedFile>> {
    let apis = apis(messages)?;
    Ok(vec![
        GeneratedFile { path: "src/api_key.rs".into(), text: api_key(&apis) },
        GeneratedFile { path: "src/request.rs".into(), text: any(&apis, "Request") },
        GeneratedFile { path: "src/response.rs".into(), text: any(&apis, "Response") },
    ])
}

fn apis<'a>(messages: &[&'a Message]) -> Result<Vec<Api<'a>>> {
    let mut apis = Vec::new();
    for request in messages.iter().filter(|message| message.kind == Kind::Request) {
        let code = request.api_key.with_context(|| format!("{} has no API key", request.name))?;
        let response = messages
            .iter()
            .find(|message| message.kind == Kind::Response && message.api_key == Some(code))
            .with_context(|| format!("{} has no response", request.name))?;
        apis.push(Api { code, name: request.name.trim_end_matches("Request"), request, response });
    }
    apis.sort_by_key(|api| api.code);
    Ok(apis)
}

fn api_key(apis: &[Api]) -> String {
    let mut text = format!(
        "//! The APIs of the protocol.\n\n{NOTICE}\nuse std::fmt;\nuse std::ops::RangeInclusive;\n\n\
         /// An API, by the number it has in a request header. Those Kafka has removed are not among them.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\n#[repr(i16)]\npub enum ApiKey {{\n"
    );
    for api in apis {
        let _ = writeln!(text, "    {} = {},", api.name, api.code);
    }
    let _ = write!(text, "}}\n\nimpl ApiKey {{\n    pub const ALL: [ApiKey; {}] = [\n", apis.len());
    for api in apis {
        let _ = writeln!(text, "ApiKey::{},", api.name);
    }
    text.push_str(
        "    ];\n\n    pub fn code(self) -> i16 {\n        self as i16\n    }\n\n\
         pub fn from_code(code: i16) -> Option<ApiKey> {\n        Some(match code {\n",
    );
    for api in apis {
        let _ = writeln!(text, "            {} => ApiKey::{},", api.code, api.name);
    }
    text.push_str(
        "            _ => return None,\n        })\n    }\n\n    /// Kafka's name of it, for example \"Produce\".\n    \
         pub fn name(self) -> &'static str {\n        match self {\n",
    );
    for api in apis {
        let _ = writeln!(text, "            ApiKey::{} => \"{}\",", api.name, api.name);
    }
    text.push_str(
        "        }\n    }\n\n    /// The versions that are stable, which are those to advertise and to use.\n    \
         #[expect(clippy::match_same_arms, reason = \"a table reads best one row an API\")]\n    \
         pub fn valid_versions(self) -> RangeInclusive<i16> {\n        match self {\n",
    );
    for api in apis {
        let mut versions = api.request.versions;
        if api.request.latest_version_unstable {
            versions.last -= 1;
        }
        let _ = writeln!(text, "            ApiKey::{} => {},", api.name, range(versions));
    }
    text.push_str(
        "        }\n    }\n\n    /// The versions there are schemas for; the newest of a few APIs is not stable yet.\n    \
         pub fn all_versions(self) -> RangeInclusive<i16> {\n        match self {\n",
    );
    for api in apis.iter().filter(|api| api.request.latest_version_unstable) {
        let _ = writeln!(text, "            ApiKey::{} => {},", api.name, range(api.request.versions));
    }
    text.push_str(
        "            other => other.valid_versions(),\n        }\n    }\n\n    \
         /// Whether lengths are compact and structs end in tagged fields. The answer for a version that does not exist \
         yet\n    /// is that of the newest.\n    \
         pub fn is_flexible(self, version: i16) -> bool {\n        match self {\n",
    );
    let mut by_first: std::collections::BTreeMap<Option<i16>, Vec<&str>> = std::collections::BTreeMap::new();
    for api in apis {
        let first = (!api.request.flexible.is_empty()).then_some(api.request.flexible.first);
        by_first.entry(first).or_default().push(api.name);
    }
    for (first, names) in &by_first {
        let keys: Vec<String> = names.iter().map(|name| format!("ApiKey::{name}")).collect();
        let answer = match first {
            None => "false".to_owned(),
            Some(0) => "version >= 0".to_owned(),
            Some(first) => format!("version >= {first}"),
        };
        let _ = writeln!(text, "            {} => {answer},", keys.join(" | "));
    }
    text.push_str(
        "        }\n    }\n\n    /// The version of the request header that goes before this version of the request.\n    \
         pub fn request_header_version(self, version: i16) -> i16 {\n        \
         if self.is_flexible(version) { 2 } else { 1 }\n    }\n\n    \
         /// The version of the response header that goes before this version of the response.\n    \
         pub fn response_header_version(self, version: i16) -> i16 {\n        \
         // A client asks for ApiVersions before it knows what the broker speaks, so the answer has the oldest form.\n        \
         i16::from(self != ApiKey::ApiVersions && self.is_flexible(version))\n    }\n}\n\n\
         impl fmt::Display for ApiKey {\n    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {\n        \
         formatter.write_str(self.name())\n    }\n}\n",
    );
    text
}

/// The enum over all requests, or over all responses.
fn any(apis: &[Api], kind: &str) -> String {
    let message = |api: &Api| if kind == "Request" { api.request.name.clone() } else { api.response.name.clone() };
    let module = kind.to_ascii_lowercase();
    let mut text = format!(
        "//! Any {module}, for code that treats all APIs alike: tests, fuzzing, tools.\n\n{NOTICE}\n\
         use crate::messages::{{"
    );
    for api in apis {
        let _ = write!(text, "{}::{}, ", names::snake_case(&message(api)), message(api));
    }
    let _ = write!(
        text,
        "}};\nuse crate::{{ApiKey, DecodeError, Decoder, EncodeError, Encoder}};\n\n\
         #[derive(Clone, Debug, PartialEq)]\n\
         pub enum {kind} {{\n"
    );
    for api in apis {
        let _ = writeln!(text, "    {}({}),", api.name, message(api));
    }
    let _ = write!(text, "}}\n\nimpl {kind} {{\n    pub fn api_key(&self) -> ApiKey {{\n        match self {{\n");
    for api in apis {
        let _ = writeln!(text, "            {kind}::{}(_) => ApiKey::{},", api.name, api.name);
    }
    let _ = write!(
        text,
        "        }}\n    }}\n\n    /// Reads the {module} of this API and version; what follows it is left in `input`.\n    \
         pub fn decode(api_key: ApiKey, version: i16, input: &mut Decoder) -> Result<{kind}, DecodeError> {{\n        \
         Ok(match api_key {{\n"
    );
    for api in apis {
        let _ = writeln!(
            text,
            "            ApiKey::{} => {kind}::{}({}::decode(input, version)?),",
            api.name,
            api.name,
            message(api)
        );
    }
    text.push_str(
        "        })\n    }\n\n    pub fn encode(&self, output: &mut Encoder, version: i16) -> Result<(), EncodeError> {\n        \
         match self {\n",
    );
    for api in apis {
        let _ = writeln!(text, "            {kind}::{}(message) => message.encode(output, version),", api.name);
    }
    text.push_str("        }\n    }\n}\n");
    text
}
