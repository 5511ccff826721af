//! The values that were set, checked key by key, over the defaults.

use std::collections::BTreeMap;

use crate::error::{ConfigError, ConfigWarning};
use crate::facts::{Facts, Rule, Type, Update, key};
use crate::not_honoured::{Instead, instead};
use crate::properties::{self, Property};
use crate::table::{broker_key, honoured_broker_key, nearest};
use crate::value::Value;

/// A key that was set and that nobody knows is read as text.
static UNKNOWN: Facts = key("", Type::String, None, Rule::Any, Update::ReadOnly, &[]);

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Every key that was set at the start, as it was set, unknown ones included.
    set: BTreeMap<String, String>,
    /// The valid values among them.
    values: BTreeMap<String, Value>,
    /// Set at run time for every node.
    pub(crate) cluster: Layer,
    /// Set at run time for this node; stronger.
    pub(crate) node: Layer,
    /// Where Ottla's default differs from Kafka's or Kafka has none.
    own_defaults: BTreeMap<&'static str, String>,
}

/// The valid ones of some settings made at run time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer(BTreeMap<String, Value>);

impl Layer {
    pub(crate) fn read(settings: &BTreeMap<String, String>, findings: &mut Findings) -> Self {
        let judged =
            settings.iter().filter_map(|(name, text)| Some((name.clone(), judge(name, text, false, findings)?)));
        Self(judged.collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Sets what another layer has for the key.
    pub(crate) fn copy(&mut self, name: &str, from: &Layer) {
        self.0.extend(from.get(name).map(|value| (name.to_owned(), value.clone())));
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) warnings: Vec<ConfigWarning>,
    pub(crate) errors: Vec<ConfigError>,
}

impl Findings {
    pub(crate) fn error(&mut self, error: impl Into<ConfigError>) {
        self.errors.push(error.into());
    }
}

impl Settings {
    /// Reads the file's text and the single settings, which are stronger.
    pub(crate) fn read(
        file_text: Option<&str>,
        sets: &[(String, String)],
        own_defaults: BTreeMap<&'static str, String>,
        strict: bool,
        findings: &mut Findings,
    ) -> Self {
        let mut set = BTreeMap::new();
        match properties::parse(file_text.unwrap_or_default()) {
            Ok(properties) => {
                for Property { key, value, line } in properties {
                    if set.insert(key.clone(), value).is_some() {
                        findings.warnings.push(ConfigWarning::SetTwice { key, line });
                    }
                }
            }
            Err(error) => findings.error(error),
        }
        set.extend(sets.iter().map(|(key, value)| (key.trim().to_owned(), value.clone())));
        // Each of a node's two names gives the other its value, so that both are checked and described alike.
        for (name, other) in [("node.id", "broker.id"), ("broker.id", "node.id")] {
            if let (Some(number), false) = (set.get(name), set.contains_key(other)) {
                let number = number.clone();
                set.insert(other.to_owned(), number);
            }
        }

        let mut settings =
            Self { set, values: BTreeMap::new(), cluster: Layer::default(), node: Layer::default(), own_defaults };
        for (name, text) in &settings.set {
            if let Some(value) = judge(name, text, strict, findings) {
                settings.values.insert(name.clone(), value);
            }
        }
        settings
    }

    /// Every name that is set anywhere.
    pub(crate) fn set_keys(&self) -> impl Iterator<Item = &str> {
        self.set.keys().map(String::as_str).chain(self.cluster.keys()).chain(self.node.keys())
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name) || self.cluster.get(name).is_some() || self.node.get(name).is_some()
    }

    /// The value a key was given, if it was given a valid one; the strongest of them.
    pub(crate) fn set_value(&self, name: &str) -> Option<&Value> {
        self.node.get(name).or_else(|| self.cluster.get(name)).or_else(|| self.values.get(name))
    }

    /// The value a key was given at the start.
    pub(crate) fn value_at_start(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The text of a key's default here.
    pub(crate) fn default_text(&self, facts: &'static Facts) -> Option<&str> {
        self.own_defaults.get(facts.name).map(String::as_str).or(facts.default)
    }

    pub(crate) fn value(&self, name: &str) -> Option<Value> {
        if let Some(value) = self.set_value(name) {
            return Some(value.clone());
        }
        let facts = broker_key(name).expect("invariant: the code asks for declared keys only");
        self.default_text(facts).map(|text| Value::parse(facts, text).expect("invariant: defaults are valid"))
    }

    pub(crate) fn optional_long(&self, name: &str) -> Option<i64> {
        self.value(name).map(|value| match value {
            Value::Integer(number) => number,
            other => unreachable!("invariant: {name} is a number, not {other:?}"),
        })
    }

    pub(crate) fn long(&self, name: &str) -> i64 {
        self.optional_long(name).expect("invariant: a key read as a number has a default")
    }

    /// A value whose type already bounds it, as INT and SHORT do.
    pub(crate) fn number<N: TryFrom<i64>>(&self, name: &str) -> N {
        N::try_from(self.long(name)).ok().expect("invariant: the key's type fits the field")
    }

    /// What a listener was given of its own.
    pub(crate) fn listener_number<N: TryFrom<i64>>(&self, listener: &str, name: &str) -> Option<N> {
        match self.set_value(&format!("listener.name.{}.{name}", listener.to_lowercase()))? {
            Value::Integer(number) => N::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(crate) fn double(&self, name: &str) -> f64 {
        match self.value(name) {
            Some(Value::Double(number)) => number,
            other => unreachable!("invariant: {name} is a fraction with a default, not {other:?}"),
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Boolean(true)))
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| value.canonical())
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(elements)) => elements,
            _ => Vec::new(),
        }
    }
}

/// What one listener may have of its own.
const PER_LISTENER: &[&str] =
    &["connections.max.idle.ms", "max.connection.creation.rate", "max.connections", "socket.request.max.bytes"];

/// The listener and the key of `listener.name.NAME.KEY`.
pub(crate) fn split_listener_key(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("listener.name.")?.split_once('.')
}

/// Checks one key that was set. Its value is returned where it is valid, obeyed or not.
fn judge(name: &str, text: &str, strict: bool, findings: &mut Findings) -> Option<Value> {
    let (listener, base) = match split_listener_key(name) {
        // `listener.name.x.plain.sasl.jaas.config`: a mechanism may stand before the key.
        Some((listener, base)) => (Some(listener), base.find("sasl.").map_or(base, |at| &base[at..])),
        None => (None, name),
    };
    let facts = broker_key(base);
    let value = match Value::parse(facts.unwrap_or(&UNKNOWN), text) {
        Ok(value) => value,
        Err(ConfigError::InvalidValue { value, problem, .. }) => {
            findings.error(ConfigError::InvalidValue { key: name.to_owned(), value, problem });
            return None;
        }
        Err(other) => {
            findings.error(other);
            return None;
        }
    };
    let as_default = facts.and_then(|facts| facts.default).unwrap_or_default() == value.canonical();
    let key = || name.to_owned();
    let secure_protocol = base == "security.inter.broker.protocol" && !as_default && value.canonical() != "PLAINTEXT";
    match (listener, instead(base)) {
        _ if secure_protocol => {
            let reason = "only PLAINTEXT is served so far";
            findings.error(ConfigError::NotProtected { key: key(), reason });
        }
        (_, Some(Instead::RefuseProtection(_) | Instead::Refuse(_))) if as_default => {}
        (_, Some(Instead::RefuseProtection(reason))) => {
            findings.error(ConfigError::NotProtected { key: key(), reason });
        }
        (_, Some(Instead::Refuse(reason))) => findings.error(ConfigError::NotSupported { key: key(), reason }),
        (None, _) if honoured_broker_key(base).is_some() => {}
        (Some(_), _) if PER_LISTENER.contains(&base) => {}
        (Some(_), _) if honoured_broker_key(base).is_some() => {
            findings.warnings.push(ConfigWarning::NotPerListener { key: key(), base: base.to_owned() });
        }
        (_, Some(Instead::Warn(instead))) => findings.warnings.push(ConfigWarning::NotUsed { key: key(), instead }),
        (_, None) => {
            let nearest = if listener.is_none() { nearest(base) } else { None };
            if strict {
                findings.error(ConfigError::UnknownKey { key: key(), nearest });
            } else {
                findings.warnings.push(ConfigWarning::Unknown { key: key(), nearest });
            }
        }
    }
    Some(value)
}
