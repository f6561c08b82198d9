//! The censors with scripts that come with this crate: the files of `censors/`, which are part of the program.

use std::io;

use phantom_censor::file::{CensorFile, FileError};

use crate::load::Scripts;

/// A censor and the files beside it.
#[derive(Debug)]
pub struct Shipped {
    /// By which it is known.
    pub name: &'static str,
    /// The names of its files and what is in them; the first is the censor's own.
    pub files: &'static [(&'static str, &'static [u8])],
}

/// All of them, in the order of their names.
pub const SHIPPED: &[Shipped] = &[
    Shipped {
        name: "random-first",
        files: &[
            (
                "random-first.toml",
                include_bytes!("../censors/random-first.toml"),
            ),
            (
                "random-first.rhai",
                include_bytes!("../censors/random-first.rhai"),
            ),
            (
                "random-first.onnx",
                include_bytes!("../censors/random-first.onnx"),
            ),
        ],
    },
    Shipped {
        name: "trojan-lengths",
        files: &[
            (
                "trojan-lengths.toml",
                include_bytes!("../censors/trojan-lengths.toml"),
            ),
            (
                "trojan-lengths.rhai",
                include_bytes!("../censors/trojan-lengths.rhai"),
            ),
        ],
    },
];

impl Shipped {
    /// The one of a name.
    pub fn of(name: &str) -> Option<&'static Self> {
        SHIPPED.iter().find(|shipped| shipped.name == name)
    }

    /// The text of its own file.
    pub fn text(&self) -> &'static str {
        self.files
            .first()
            .and_then(|(_, bytes)| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// The censor.
    ///
    /// # Errors
    /// It asks a model, and this build reads none.
    pub fn censor(&self) -> Result<CensorFile, FileError> {
        let mut scripts = Scripts::new(|name, _| {
            self.files
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, bytes)| bytes.to_vec())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        });
        CensorFile::parse_scripted(&format!("censors/{}.toml", self.name), self.text(), &mut scripts)
    }
}
