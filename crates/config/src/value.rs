//! Reading one value's text by its key's type and rule, as Kafka reads it.

use crate::error::{ConfigError, Problem};
use crate::facts::{Facts, Rule, Type};

/// A value that has the type its key declares and satisfies its rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Boolean(bool),
    Text(String),
    /// INT, SHORT and LONG, within the bounds of that type.
    Integer(i64),
    Double(f64),
    List(Vec<String>),
}

impl Value {
    pub(crate) fn parse(facts: &Facts, text: &str) -> Result<Self, ConfigError> {
        parse(facts, text).map_err(|problem| ConfigError::InvalidValue {
            key: facts.name.to_owned(),
            value: if facts.is_sensitive() { "[hidden]".to_owned() } else { text.trim().to_owned() },
            problem,
        })
    }

    /// The text Kafka would report for it.
    pub(crate) fn canonical(&self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Double(number) => format!("{number:?}"),
            Self::List(elements) => elements.join(","),
        }
    }
}

fn parse(facts: &Facts, text: &str) -> Result<Value, Problem> {
    let text = text.trim();
    let integer = |min: i64, max: i64| {
        // Kafka accepts a leading plus, as Rust does.
        let number = text.parse::<i64>().ok().filter(|number| (min..=max).contains(number));
        number.map(Value::Integer).ok_or(Problem::NotANumber(facts.value_type))
    };
    let value = match facts.value_type {
        Type::Boolean => match text {
            _ if text.eq_ignore_ascii_case("true") => Value::Boolean(true),
            _ if text.eq_ignore_ascii_case("false") => Value::Boolean(false),
            _ => return Err(Problem::NotABoolean),
        },
        Type::String | Type::Class | Type::Password => Value::Text(text.to_owned()),
        Type::Int => integer(i64::from(i32::MIN), i64::from(i32::MAX))?,
        Type::Short => integer(i64::from(i16::MIN), i64::from(i16::MAX))?,
        Type::Long => integer(i64::MIN, i64::MAX)?,
        Type::Double => Value::Double(parse_double(text).ok_or(Problem::NotANumber(Type::Double))?),
        Type::List => Value::List(parse_list(text)?),
    };
    check(facts.rule, &value)?;
    Ok(value)
}

/// Java's spelling of a floating-point number: Rust's, and a suffix `f` or `d`. NaN compares with no bound, so it is
/// refused here although Kafka lets it through.
fn parse_double(text: &str) -> Option<f64> {
    let digits = text.strip_suffix(['f', 'F', 'd', 'D']).filter(|rest| rest.ends_with(|c: char| c.is_ascii_digit()));
    digits.unwrap_or(text).parse::<f64>().ok().filter(|number| !number.is_nan())
}

/// Elements without the blanks around commas, a repeated one only once.
fn parse_list(text: &str) -> Result<Vec<String>, Problem> {
    let mut elements: Vec<String> = Vec::new();
    if text.is_empty() {
        return Ok(elements);
    }
    let mut seen = std::collections::HashSet::new();
    for element in text.split(',').map(str::trim) {
        if element.is_empty() {
            return Err(Problem::EmptyElement);
        }
        if seen.insert(element) {
            elements.push(element.to_owned());
        }
    }
    Ok(elements)
}

fn check(rule: Rule, value: &Value) -> Result<(), Problem> {
    let at_least = |min: f64, number: f64| if number < min { Err(Problem::BelowMinimum(min)) } else { Ok(()) };
    let at_most = |max: f64, number: f64| if number > max { Err(Problem::AboveMaximum(max)) } else { Ok(()) };
    // Bounds are small enough to be exact as floating-point numbers, and rounding a large value keeps its order.
    let number = match value {
        Value::Integer(number) => *number as f64,
        Value::Double(number) => *number,
        _ => 0.0,
    };
    match (rule, value) {
        (Rule::AtLeast(min), _) => at_least(min as f64, number),
        (Rule::Between(min, max), _) => {
            at_least(min as f64, number)?;
            at_most(max as f64, number)
        }
        (Rule::Fraction(min, max), _) => {
            at_least(min, number)?;
            at_most(max, number)
        }
        (Rule::GzipLevel, Value::Integer(-1 | 1..=9)) => Ok(()),
        (Rule::GzipLevel, _) => Err(Problem::GzipLevel),
        (Rule::OneOf(allowed), Value::Text(text)) if !allowed.contains(&text.as_str()) => {
            Err(Problem::NotOneOf(allowed))
        }
        (Rule::OneOfAnyCase(allowed), Value::Text(text))
            if !allowed.iter().any(|name| name.eq_ignore_ascii_case(text)) =>
        {
            Err(Problem::NotOneOfAnyCase(allowed))
        }
        (Rule::NonEmpty, Value::Text(text)) if text.is_empty() => Err(Problem::Empty),
        (Rule::List { allowed, may_be_empty }, Value::List(elements)) => {
            if elements.is_empty() && !may_be_empty {
                return Err(Problem::EmptyList(allowed));
            }
            let known = |element: &String| allowed.is_empty() || allowed.contains(&element.as_str());
            if elements.iter().all(known) { Ok(()) } else { Err(Problem::NotOneOf(allowed)) }
        }
        (Rule::ThrottledReplicas, Value::List(elements)) => {
            let pair = |element: &String| {
                element.split_once(':').is_some_and(|(partition, broker)| {
                    [partition, broker].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
                })
            };
            let all = elements.len() == 1 && elements[0] == "*";
            if all || elements.iter().all(pair) { Ok(()) } else { Err(Problem::ThrottledReplicas) }
        }
        (Rule::ShareOffsetReset, Value::Text(text)) => {
            let duration = || text.strip_prefix("by_duration:").is_some_and(is_iso_duration);
            if text == "latest" || text == "earliest" || duration() { Ok(()) } else { Err(Problem::ShareOffsetReset) }
        }
        _ => Ok(()),
    }
}

/// `PnDTnHnMn.nS` with at least one part and no negative one, as Java reads it.
fn is_iso_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['P', 'p']) else { return false };
    let (days, time) = match rest.split_once(['T', 't']) {
        Some((days, time)) => (days, Some(time)),
        None => (rest, None),
    };
    let number = |text: &str| !text.is_empty() && text.len() < 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_days = days.is_empty() || days.strip_suffix(['D', 'd']).is_some_and(number);
    let Some(mut time) = time else { return is_days && !days.is_empty() };
    if time.is_empty() {
        return false;
    }
    for unit in ['H', 'M'] {
        if let Some((part, rest)) = time.split_once([unit, unit.to_ascii_lowercase()]) {
            if !number(part) {
                return false;
            }
            time = rest;
        }
    }
    let seconds = |text: &str| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        number(whole) && (fraction.is_empty() || (number(fraction) && fraction.len() <= 9))
    };
    is_days && (time.is_empty() || time.strip_suffix(['S', 's']).is_some_and(seconds))
}
