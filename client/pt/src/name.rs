//! Names of transports.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The specification sets no limit; no real name is half as long.
const NAME_MAX: usize = 64;

/// The name of a transport, a C identifier of 1 to 64 characters. Clones are cheap. Spec: pt-spec §3.1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportName(Arc<str>);

/// What was given is no name of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "no name of a transport: wanted a letter or underscore, then letters, digits and underscores, {NAME_MAX} at most"
)]
pub struct NameError;

impl TransportName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TransportName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let goes_on = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if begins && goes_on && text.len() <= NAME_MAX {
            Ok(Self(text.into()))
        } else {
            Err(NameError)
        }
    }
}

impl fmt::Display for TransportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_c_identifiers_are_names() {
        for good in ["obfs4", "_", "a_1", "meek_lite", &"x".repeat(64)] {
            assert_eq!(good.parse::<TransportName>().unwrap().as_str(), good);
        }
        for bad in ["", "4obfs", "a-b", "a b", "é", "*", &"x".repeat(65)] {
            assert_eq!(bad.parse::<TransportName>(), Err(NameError), "{bad}");
        }
    }
}
