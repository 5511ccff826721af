//! What is known about a key without interpreting it: its type, default, accepted values, and when it can change.

/// The type of a key's value, as Kafka declares and reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Type {
    /// The number of the type in a DescribeConfigs response.
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    /// Kafka's name of the type, as error texts and the documentation use it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// Which values of a key's type are accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    Any,
    AtLeast(i64),
    /// Both ends included.
    Between(i64, i64),
    Fraction(f64, f64),
    /// 1 to 9, or -1 for the library's default.
    GzipLevel,
    OneOf(&'static [&'static str]),
    OneOfAnyCase(&'static [&'static str]),
    NonEmpty,
    /// Every element is one of `allowed`, where that is not empty.
    List {
        allowed: &'static [&'static str],
        may_be_empty: bool,
    },
    /// `*`, or a list of `partition:broker`.
    ThrottledReplicas,
    /// `latest`, `earliest`, or `by_duration:` and an ISO 8601 duration.
    ShareOffsetReset,
}

/// When, and for whom, a key's value can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Needs a restart.
    ReadOnly,
    PerBroker,
    ClusterWide,
    /// The own setting of a topic, or of another resource.
    Topic,
}

/// One row of a table of keys.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub name: &'static str,
    pub value_type: Type,
    /// Absent: Kafka has none, or its default is null.
    pub default: Option<&'static str>,
    pub rule: Rule,
    pub update: Update,
    /// For a topic's key, the server keys that give its default, strongest first.
    pub synonyms: &'static [&'static str],
    /// Neither documented nor described unless it is set.
    pub internal: bool,
}

pub(crate) const fn key(
    name: &'static str,
    value_type: Type,
    default: Option<&'static str>,
    rule: Rule,
    update: Update,
    synonyms: &'static [&'static str],
) -> Facts {
    Facts { name, value_type, default, rule, update, synonyms, internal: false }
}

impl Facts {
    pub(crate) const fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Whether its value must never be shown.
    pub fn is_sensitive(&self) -> bool {
        self.value_type == Type::Password
    }
}
