//! What is wrong with a censor's file, with its place and the choices.

use std::fmt;

use super::words::{nearest, shortened};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a byte of the text; `None` until it is known.
    pub(super) at: Option<usize>,
    /// What, and what was wanted instead.
    pub message: String,
    /// The choices, or how to put it right.
    pub help: Option<String>,
}

impl Problem {
    pub(super) fn new(at: Option<usize>, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
            help: None,
        }
    }

    /// Where it is, as whoever read the file counts places; `None`: nowhere in particular.
    pub const fn place(&self) -> Option<usize> {
        self.at
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn or_at(mut self, at: usize) -> Self {
        self.at.get_or_insert(at);
        self
    }

    fn unknown(what: &str, word: &str, choices: &[&str]) -> Self {
        let mut message = format!("unknown {what} '{}'", shortened(word));
        if let Some(near) = nearest(word, choices.iter().copied()) {
            message.push_str(&format!("; did you mean '{near}'?"));
        }
        Self::new(None, message).help(format!("choices: {}", choices.join(", ")))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl serde::de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(None, message.to_string())
    }

    fn invalid_type(got: serde::de::Unexpected<'_>, wanted: &dyn serde::de::Expected) -> Self {
        Self::new(
            None,
            format!("wanted {}, got {}", plain(&wanted.to_string()), describe(got)),
        )
    }

    fn invalid_value(got: serde::de::Unexpected<'_>, wanted: &dyn serde::de::Expected) -> Self {
        Self::invalid_type(got, wanted)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(None, format!("'{field}' is missing here"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown("key", field, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown("word", variant, expected)
    }
}

/// Rust's type names in the words of the format.
fn plain(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        "a sequence" => "an array",
        other if other.starts_with("struct ") || other == "a map" => "a table",
        other => other,
    }
}

fn describe(got: serde::de::Unexpected<'_>) -> String {
    use serde::de::Unexpected;
    match got {
        Unexpected::Str(text) => format!("the text \"{}\"", shortened(text)),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Bool(value) => format!("{value}"),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// A place as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The whole line.
    pub text: String,
}

impl Place {
    pub(super) fn of(text: &str, at: usize) -> Self {
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &text[..at];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
        Self {
            line: before.matches('\n').count() + 1,
            column: text[start..at].chars().count() + 1,
            text: text[start..end].trim_end().to_owned(),
        }
    }
}

/// Everything that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// What messages call the file.
    pub file: String,
    /// The problems with their places, in the order they were found; never empty.
    pub problems: Vec<(Place, Problem)>,
}

impl FileError {
    pub(super) fn new(file: &str, text: &str, problems: Vec<Problem>) -> Self {
        Self {
            file: file.to_owned(),
            problems: problems
                .into_iter()
                .map(|problem| (Place::of(text, problem.at.unwrap_or(0)), problem))
                .collect(),
        }
    }
}

impl FileError {
    /// One thing that is wrong with a file of another kind, such as a script; `help` has the choices.
    pub fn at(file: &str, text: &str, byte: usize, message: String, help: Option<String>) -> Self {
        let problem = Problem {
            help,
            ..Problem::new(Some(byte), message)
        };
        Self::new(file, text, vec![problem])
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (place, problem)) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            let Place { line, column, text } = place;
            writeln!(f, "{}:{line}:{column}: {}", self.file, problem.message)?;
            // A window around the column, so that a very long line does not flood the terminal.
            let from = column.saturating_sub(81);
            let shown: String = text.chars().skip(from).take(160).collect();
            writeln!(f, "{line:>5} | {shown}")?;
            write!(f, "{:>5} | {:>2$}", "", "^", column - from)?;
            if let Some(help) = &problem.help {
                write!(f, "\n        {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for FileError {}
