//! One thing that is wrong, in the words of whoever wrote the file: what stands there, what was wanted, the choices.

use std::fmt;

use serde::de::{Expected, Unexpected};

use super::source::At;
use super::words::{nearest, shortened};

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; [`At::NONE`] for nowhere in a file.
    pub at: At,
    /// What, and what was wanted instead.
    pub message: String,
    /// The choices, or how to put it right.
    pub help: Option<String>,
}

impl Problem {
    /// A problem at a place.
    pub fn new(at: At, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
            help: None,
        }
    }

    /// The same with a line of help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A word that is none of the choices: `unknown <what> 'word'; did you mean 'x'?`.
    pub fn unknown<'a>(
        at: At,
        what: &str,
        word: &str,
        choices: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Self {
        let mut message = format!("unknown {what} '{}'", shortened(word));
        if let Some(near) = nearest(word, choices.clone()) {
            message.push_str(&format!("; did you mean '{near}'?"));
        }
        let all: Vec<&str> = choices.into_iter().collect();
        Self::new(at, message).help(if all.is_empty() {
            "there are none here".to_owned()
        } else {
            format!("choices: {}", all.join(", "))
        })
    }

    /// The same at `at`, if it has no place yet.
    #[must_use]
    pub fn or_at(mut self, at: At) -> Self {
        self.at = self.at.or(at);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// What types say while they are read. They know no places: the deserialiser puts them to it.
impl serde::de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(At::NONE, message.to_string())
    }

    fn invalid_type(got: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(
            At::NONE,
            format!("wanted {}, got {}", plain(&wanted.to_string()), describe(got)),
        )
    }

    fn invalid_value(got: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(got, wanted)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(At::NONE, format!("'{field}' is missing here"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown(At::NONE, "key", field, expected.iter().copied())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown(At::NONE, "choice", variant, expected.iter().copied())
    }
}

/// Rust's type names in the words of the format.
fn plain(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i64" | "i32" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        "a sequence" => "an array",
        other if other.starts_with("struct ") || other == "a map" => "a table",
        other => other,
    }
}

fn describe(got: Unexpected<'_>) -> String {
    match got {
        Unexpected::Str(text) => format!("the text \"{}\"", shortened(text)),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Bool(value) => format!("{value}"),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_told_with_the_nearest_choice_and_all_of_them() {
        let problem = Problem::unknown(At::NONE, "key", "nmae", ["name", "place"]);
        assert_eq!(problem.message, "unknown key 'nmae'; did you mean 'name'?");
        assert_eq!(problem.help.as_deref(), Some("choices: name, place"));
        let none = Problem::unknown(At::NONE, "key", "x", []);
        assert_eq!(none.help.as_deref(), Some("there are none here"));
    }

    #[test]
    fn a_hostile_word_is_told_shortened_and_harmless() {
        let problem = Problem::unknown(At::NONE, "key", &"\u{1b}".repeat(500), ["name"]);
        assert!(problem.message.len() < 500 && !problem.message.contains('\u{1b}'));
    }

    #[test]
    fn the_first_place_that_is_known_stays() {
        let problem = Problem::new(At::NONE, "no")
            .or_at(At::new(0, 5))
            .or_at(At::new(0, 1));
        assert_eq!(problem.at, At::new(0, 5));
    }
}
