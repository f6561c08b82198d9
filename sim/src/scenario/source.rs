//! Where things stand in scenario files, and what is wrong with them there.

use std::fmt;

use phantom_censor::file::words::{nearest, shortened};

/// A place in one of the files of a [`Sources`]; four bytes of file, four of offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    file: u32,
    offset: u32,
}

impl At {
    /// Nowhere in a file: built in Rust, or given on the command line.
    pub const NONE: Self = Self {
        file: u32::MAX,
        offset: 0,
    };

    /// Byte `offset` of file number `file`.
    pub fn new(file: u32, offset: usize) -> Self {
        Self {
            file,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
        }
    }

    /// `self`, or `other` if `self` is nowhere.
    pub fn or(self, other: Self) -> Self {
        if self == Self::NONE { other } else { self }
    }

    /// The place `bytes` further on in the same file.
    pub fn plus(self, bytes: usize) -> Self {
        if self == Self::NONE {
            self
        } else {
            Self::new(self.file, self.offset as usize + bytes)
        }
    }

    pub(crate) const fn pack(self) -> u64 {
        ((self.file as u64) << 32) | self.offset as u64
    }

    pub(crate) const fn unpack(packed: u64) -> Self {
        Self {
            file: (packed >> 32) as u32,
            offset: packed as u32,
        }
    }
}

/// The texts that a scenario was read from: the file itself and what it extends.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(String, String)>,
}

impl Sources {
    /// Adds a file and returns its number. `path` is what messages call it.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> u32 {
        self.files.push((path.into(), text.into()));
        self.files.len() as u32 - 1
    }

    /// The text of file number `file`.
    pub fn text(&self, file: u32) -> &str {
        self.files.get(file as usize).map_or("", |(_, text)| text)
    }

    /// Path, line and column (both from 1, the column in characters) and the line's text.
    pub fn place(&self, at: At) -> Option<Place> {
        let (path, text) = self.files.get(at.file as usize)?;
        let mut offset = (at.offset as usize).min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[offset..]
            .find('\n')
            .map_or(text.len(), |newline| offset + newline);
        Some(Place {
            path: path.clone(),
            line: before.matches('\n').count() + 1,
            column: text[start..offset].chars().count() + 1,
            text: text[start..end].trim_end().to_owned(),
        })
    }
}

/// A place as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The whole line.
    pub text: String,
}

/// One thing that is wrong with a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
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

    pub(crate) fn or_at(mut self, at: At) -> Self {
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

impl serde::de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(At::NONE, message.to_string())
    }

    fn invalid_type(got: serde::de::Unexpected<'_>, wanted: &dyn serde::de::Expected) -> Self {
        Self::new(
            At::NONE,
            format!("wanted {}, got {}", plain(&wanted.to_string()), describe(got)),
        )
    }

    fn invalid_value(got: serde::de::Unexpected<'_>, wanted: &dyn serde::de::Expected) -> Self {
        Self::invalid_type(got, wanted)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(At::NONE, format!("'{field}' is missing here"))
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

fn describe(got: serde::de::Unexpected<'_>) -> String {
    use serde::de::Unexpected;
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

/// Everything that is wrong with a scenario, placed. Exit code 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The problems, in the order they were found; never empty.
    pub problems: Vec<(Option<Place>, Problem)>,
}

impl ScenarioError {
    /// Places `problems` in `sources`.
    pub fn new(sources: &Sources, problems: impl IntoIterator<Item = Problem>) -> Self {
        Self {
            problems: problems
                .into_iter()
                .map(|problem| (sources.place(problem.at), problem))
                .collect(),
        }
    }

    /// One problem that has no place in a file.
    pub fn bare(problem: Problem) -> Self {
        Self {
            problems: vec![(None, problem)],
        }
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (place, problem)) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            if let Some(Place {
                path,
                line,
                column,
                text,
            }) = place
            {
                writeln!(f, "{path}:{line}:{column}: {}", problem.message)?;
                // A window around the column, so that a very long line does not flood the terminal.
                let from = column.saturating_sub(81);
                let shown: String = text.chars().skip(from).take(160).collect();
                let gutter = format!("{line:>5}");
                writeln!(f, "{gutter} | {shown}")?;
                write!(f, "{:>5} | {:>2$}", "", "^", column - from)?;
            } else {
                write!(f, "{}", problem.message)?;
            }
            if let Some(help) = &problem.help {
                write!(f, "\n        {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ScenarioError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_not_bytes() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml", "x = 1\nü = 2\n");
        let place = sources
            .place(At::new(file, "x = 1\nü = ".len()))
            .expect("a place");
        assert_eq!((place.line, place.column, place.text.as_str()), (2, 5, "ü = 2"));
    }
}
