//! The names of transports: in settings, scenarios, events and reports they are one word each.

use serde::{Deserialize, Serialize};

/// Which transport a connection has. Without parameters: those are in [`super::Transport`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A link's own bytes and nothing around them.
    #[default]
    Plain,
    /// obfs4 (SPEC §12.1).
    Obfs4,
    /// obfs4 behind the beginning of an HTTP request (SPEC §12.2).
    Obfs4Http,
    /// obfs4 behind the header of a TLS record (SPEC §12.2).
    Obfs4Tls,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Obfs4, Self::Obfs4Http, Self::Obfs4Tls];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Obfs4 => "obfs4",
            Self::Obfs4Http => "obfs4-http",
            Self::Obfs4Tls => "obfs4-tls",
        }
    }

    /// The one of this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is a link's own bytes: events that were written before there were others leave it out.
    pub const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_its_word_in_files_and_in_events() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).expect("a word"), kind.name());
        }
        assert_eq!(Kind::from_name("obfs5"), None);
    }
}
