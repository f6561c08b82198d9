//! Censors as published, by name: the files of `censors/`, which are part of the program.
//!
//! Each rule names its source. Most figures came by way of getlantern/circumvention-corpus, an index of findings with paper and
//! section; the papers themselves were not read again. What is from memory, or a guess, says so in its file.

use phantom_placed::words::nearest;

use crate::file::{CensorFile, FileError};

/// Names and texts, in the order of their names.
const TEXTS: [(&str, &str); 10] = [
    ("conn-count-2025", include_str!("../censors/conn-count-2025.toml")),
    ("gfw-2023", include_str!("../censors/gfw-2023.toml")),
    ("gfw-probe-2020", include_str!("../censors/gfw-probe-2020.toml")),
    ("gfw-quic-2024", include_str!("../censors/gfw-quic-2024.toml")),
    (
        "iran-blackout-2025",
        include_str!("../censors/iran-blackout-2025.toml"),
    ),
    (
        "iran-whitelist-2020",
        include_str!("../censors/iran-whitelist-2020.toml"),
    ),
    ("shutdown", include_str!("../censors/shutdown.toml")),
    (
        "tspu-freeze-2025",
        include_str!("../censors/tspu-freeze-2025.toml"),
    ),
    (
        "tspu-throttle-2021",
        include_str!("../censors/tspu-throttle-2021.toml"),
    ),
    ("turkmenistan", include_str!("../censors/turkmenistan.toml")),
];

/// Why there is no such censor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// No censor has this name.
    #[error("unknown censor '{}'{}; choices: {}", .0.escape_default(), near(.0), names().collect::<Vec<_>>().join(", "))]
    Unknown(String),
    /// Its file is not good: a mistake of this program.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The names of all.
pub fn names() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(name, _)| *name)
}

/// All of them, in the order of their names: each has a name, a summary and its rules with their sources.
///
/// # Errors
/// One is not good: a mistake of this program.
pub fn catalogue() -> Result<Vec<CensorFile>, FileError> {
    TEXTS.iter().map(|(name, text)| read(name, text)).collect()
}

/// The one of a name.
///
/// # Errors
/// There is none, or it is not good.
pub fn censor(name: &str) -> Result<CensorFile, CatalogueError> {
    let text = text(name).ok_or_else(|| CatalogueError::Unknown(name.to_owned()))?;
    Ok(read(name, text)?)
}

/// The file of a name as it was written, with its comments.
pub fn text(name: &str) -> Option<&'static str> {
    let (_, text) = TEXTS.iter().find(|(known, _)| *known == name)?;
    Some(text)
}

fn read(name: &str, text: &str) -> Result<CensorFile, FileError> {
    CensorFile::parse(&format!("censors/{name}.toml"), text)
}

fn near(name: &str) -> String {
    nearest(name, names()).map_or(String::new(), |near| format!("; did you mean '{near}'?"))
}
