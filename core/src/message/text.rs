//! Bytes as text that a person can copy and a QR code carries in its dense alphanumeric mode. Spec: SPEC §5.1.
//!
//! `PHANTOM:` and base32 (RFC 4648, upper case, no padding) of the bytes and a checksum of five. Case, spaces, line breaks
//! and hyphens do not matter when it is read.

use thiserror::Error;

use crate::base32;
use crate::crypto::kdf::Context;

const PREFIX: &str = "PHANTOM:";
const CHECKSUM: Context = Context::new("phantom-net 2026 text checksum v1");
const CHECKSUM_LEN: usize = 5;

/// Longest text that is looked at, separators included.
const TEXT_MAX: usize = 1_024;

/// Why a text is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// It does not begin with the prefix.
    #[error("the text does not begin with {PREFIX}")]
    NoPrefix,
    /// Longer than any of ours.
    #[error("a text of {got} bytes, at most {TEXT_MAX} are read")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// A character outside the alphabet, or a length that no bytes have.
    #[error("the text has characters that do not belong, or lacks some")]
    BadCharacters,
    /// Mistyped.
    #[error("the text was mistyped: its checksum is wrong")]
    BadChecksum,
}

/// The text form of `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    let mut all = bytes.to_vec();
    all.extend_from_slice(&CHECKSUM.derive(bytes)[..CHECKSUM_LEN]);
    format!("{PREFIX}{}", digits(&all))
}

/// Reads what [`encode`] made, however it was broken into lines.
///
/// # Errors
/// [`TextError`].
pub fn decode(text: &str) -> Result<Vec<u8>, TextError> {
    if text.len() > TEXT_MAX {
        return Err(TextError::TooLong { got: text.len() });
    }
    let clean: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let prefix = PREFIX.to_ascii_lowercase();
    let digits = clean.strip_prefix(&prefix).ok_or(TextError::NoPrefix)?;
    let mut bytes = base32::decode(digits).map_err(|_| TextError::BadCharacters)?;
    let body = bytes
        .len()
        .checked_sub(CHECKSUM_LEN)
        .ok_or(TextError::BadChecksum)?;
    if CHECKSUM.derive(&bytes[..body])[..CHECKSUM_LEN] != bytes[body..] {
        return Err(TextError::BadChecksum);
    }
    bytes.truncate(body);
    Ok(bytes)
}

/// Base32 without prefix and checksum.
pub(super) fn digits(bytes: &[u8]) -> String {
    base32::encode(bytes).to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_without_prefix_or_too_long_is_refused() {
        assert_eq!(decode("MZXW6"), Err(TextError::NoPrefix));
        assert_eq!(decode(&" ".repeat(2_000)), Err(TextError::TooLong { got: 2_000 }));
        assert_eq!(decode("PHANTOM:"), Err(TextError::BadChecksum));
        assert_eq!(decode("PHANTOM:A1"), Err(TextError::BadCharacters));
    }

    proptest! {
        #[test]
        fn a_text_survives_lower_case_and_line_breaks(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let text = encode(&bytes);
            prop_assert_eq!(decode(&text), Ok(bytes.clone()));
            let broken: String = text.to_lowercase().chars().flat_map(|c| [c, '\n', '-']).collect();
            if broken.len() <= TEXT_MAX {
                prop_assert_eq!(decode(&broken), Ok(bytes));
            }
        }

        #[test]
        fn one_wrong_digit_is_noticed(bytes in prop::collection::vec(any::<u8>(), 0..120), at: prop::sample::Index, with in "[A-Z2-7]") {
            let mut text = encode(&bytes).into_bytes();
            let at = PREFIX.len() + at.index(text.len() - PREFIX.len());
            let with = with.as_bytes()[0];
            let changed = text[at] != with;
            text[at] = with;
            let text = String::from_utf8(text).expect("ASCII");
            prop_assert_eq!(decode(&text).is_err(), changed);
        }
    }
}
