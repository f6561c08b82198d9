//! Parameters: the only things `key=value` may set, and how what was typed becomes a value of the right type.

use std::fmt;

use indexmap::IndexMap;
use phantom_placed::tree::Value;
use phantom_placed::words::shortened;
use phantom_placed::{At, Problem};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::file::Param;
use super::units::{Rate, Size, Time};

/// A parameter's value: a number, a switch or text (often with a unit).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ParamValue {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
}

impl<'de> Deserialize<'de> for ParamValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Plain;
        impl Visitor<'_> for Plain {
            type Value = ParamValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, true or false, or text")
            }
            fn visit_bool<E>(self, value: bool) -> Result<ParamValue, E> {
                Ok(ParamValue::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<ParamValue, E> {
                Ok(ParamValue::Int(value))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<ParamValue, E> {
                i64::try_from(value).map(ParamValue::Int).map_err(E::custom)
            }
            fn visit_f64<E>(self, value: f64) -> Result<ParamValue, E> {
                Ok(ParamValue::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<ParamValue, E> {
                Ok(ParamValue::Text(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Plain)
    }
}

impl JsonSchema for ParamValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ParamValue".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "number", "string"] })
    }
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

impl From<ParamValue> for Value {
    fn from(value: ParamValue) -> Self {
        match value {
            ParamValue::Bool(value) => Self::Bool(value),
            ParamValue::Int(value) => Self::Int(value),
            ParamValue::Float(value) => Self::Float(value),
            ParamValue::Text(value) => Self::Text(value),
        }
    }
}

impl ParamValue {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(text) => match quantity(text) {
                Some(("time", _)) => "a time such as \"30 s\"",
                Some(("rate", _)) => "a rate such as \"140 kbit/s\"",
                Some(_) => "a size such as \"16 kB\"",
                None => "text",
            },
        }
    }

    /// The value on a scale on which two of the same kind compare.
    pub fn magnitude(&self) -> Option<(&'static str, f64)> {
        match self {
            Self::Int(value) => Some(("number", *value as f64)),
            Self::Float(value) => Some(("number", *value)),
            Self::Text(text) => quantity(text),
            Self::Bool(_) => None,
        }
    }

    /// What was typed, as a value of the same kind as `self`.
    pub(super) fn like(&self, typed: &str) -> Option<Self> {
        match self {
            Self::Bool(_) => typed.parse().ok().map(Self::Bool),
            Self::Int(_) => typed.replace('_', "").parse().ok().map(Self::Int),
            Self::Float(_) => typed
                .parse()
                .ok()
                .filter(|value: &f64| value.is_finite())
                .map(Self::Float),
            Self::Text(text) => {
                let same = quantity(text).map(|(kind, _)| kind) == quantity(typed).map(|(kind, _)| kind);
                same.then(|| Self::Text(typed.to_owned()))
            }
        }
    }
}

fn quantity(text: &str) -> Option<(&'static str, f64)> {
    if let Ok(time) = text.parse::<Time>() {
        return Some(("time", time.0.as_secs_f64()));
    }
    if let Ok(rate) = text.parse::<Rate>() {
        return Some(("rate", rate.0.bits_per_second() as f64));
    }
    text.parse::<Size>().ok().map(|size| ("size", size.0.0 as f64))
}

/// Whether `value` is one that `param` allows; says what is wrong otherwise.
pub fn allowed(name: &str, param: &Param, value: &ParamValue) -> Result<(), String> {
    if !param.choices.is_empty() && !param.choices.contains(value) {
        let choices: Vec<String> = param.choices.iter().map(ToString::to_string).collect();
        return Err(format!(
            "{name} is one of {}, not '{}'",
            choices.join(", "),
            shortened(&value.to_string())
        ));
    }
    if let (Some((kind, got)), Some(min)) = (value.magnitude(), &param.min)
        && min
            .magnitude()
            .is_none_or(|(min_kind, least)| min_kind != kind || got < least)
    {
        return Err(format!("{name} is at least {min}, not {value}"));
    }
    if let (Some((kind, got)), Some(max)) = (value.magnitude(), &param.max)
        && max
            .magnitude()
            .is_none_or(|(max_kind, most)| max_kind != kind || got > most)
    {
        return Err(format!("{name} is at most {max}, not {value}"));
    }
    Ok(())
}

/// The values of all parameters: the defaults, with what was typed laid over them.
///
/// # Errors
/// An unknown name (with the choices), a value of the wrong type or outside its bounds.
pub fn resolve(
    params: &IndexMap<String, Param>,
    typed: &[(String, String)],
) -> Result<IndexMap<String, ParamValue>, Problem> {
    let mut values: IndexMap<String, ParamValue> = params
        .iter()
        .map(|(name, param)| (name.clone(), param.default.clone()))
        .collect();
    for (name, text) in typed {
        let Some(param) = params.get(name) else {
            let known = ["scenario", "seed", "threads"].into_iter();
            let own = params.keys().map(String::as_str);
            return Err(Problem::unknown(
                At::NONE,
                "key",
                name,
                known.chain(own).collect::<Vec<_>>(),
            ));
        };
        let value = param.default.like(text).ok_or_else(|| {
            Problem::new(
                At::NONE,
                format!("{name} wants {}, not '{}'", param.default.kind(), shortened(text)),
            )
        })?;
        allowed(name, param, &value).map_err(|message| Problem::new(At::NONE, message))?;
        values.insert(name.clone(), value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> IndexMap<String, Param> {
        let param = |default, min, max, choices: &[&str]| Param {
            default,
            min,
            max,
            choices: choices
                .iter()
                .map(|choice| ParamValue::Text((*choice).to_owned()))
                .collect(),
            help: String::new(),
        };
        let text = |text: &str| ParamValue::Text(text.to_owned());
        IndexMap::from([
            (
                "peers".to_owned(),
                param(
                    ParamValue::Int(10),
                    Some(ParamValue::Int(2)),
                    Some(ParamValue::Int(99)),
                    &[],
                ),
            ),
            ("dht".to_owned(), param(text("on"), None, None, &["on", "off"])),
            (
                "cut".to_owned(),
                param(text("2 min"), None, Some(text("1 h")), &[]),
            ),
        ])
    }

    #[test]
    fn what_is_typed_takes_the_type_of_the_default() {
        let typed = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
            resolve(&params(), &pairs).map_err(|problem| problem.message)
        };
        let values = typed(&[("peers", "50"), ("dht", "off"), ("cut", "90 s")]).expect("all good");
        assert_eq!(values["peers"], ParamValue::Int(50));
        assert_eq!(values["dht"], ParamValue::Text("off".to_owned()));
        for (key, value, message) in [
            ("peers", "many", "peers wants a whole number, not 'many'"),
            ("peers", "1", "peers is at least 2, not 1"),
            ("peers", "100", "peers is at most 99, not 100"),
            ("dht", "maybe", "dht is one of on, off, not 'maybe'"),
            ("cut", "2", "cut wants a time such as \"30 s\", not '2'"),
            ("cut", "2 h", "cut is at most 1 h, not 2 h"),
            ("dth", "on", "unknown key 'dth'; did you mean 'dht'?"),
        ] {
            assert_eq!(typed(&[(key, value)]), Err(message.to_owned()));
        }
    }
}
