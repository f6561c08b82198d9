//! Bytes as text that a person can copy and a QR code carries in its dense alphanumeric mode. Spec: SPEC §5.1.
//!
//! `PHANTOM:` and base32 (RFC 4648, upper case, no padding) of the bytes and a checksum of five. Case, spaces, line breaks
//! and hyphens do not matter when it is read.

use thiserror::Error;

use crate::crypto::kdf::Context;

const PREFIX: &str = "PHANTOM:";
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
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
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let digits = clean.strip_prefix(PREFIX).ok_or(TextError::NoPrefix)?;
    let mut bytes = Vec::with_capacity(digits.len() * 5 / 8);
    let (mut bits, mut held) = (0u32, 0u32);
    for c in digits.bytes() {
        let value = ALPHABET
            .iter()
            .position(|&a| a == c)
            .ok_or(TextError::BadCharacters)?;
        held = held << 5 | value as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    // A whole digit too many, or bits that say nothing and are not zero: not the one form of these bytes.
    if bits >= 5 || held != 0 {
        return Err(TextError::BadCharacters);
    }
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
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut bits, mut held) = (0u32, 0u32);
    for &byte in bytes {
        held = held << 8 | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[(held << (5 - bits) & 31) as usize]));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_those_of_rfc_4648() {
        let cases = [
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(digits(bytes.as_bytes()), text);
        }
    }

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
        fn one_wrong_digit_is_noticed(bytes in prop::collection::vec(any::<u8>(), 0..120), at: prop::sample::Index, with in 0usize..32) {
            let mut text = encode(&bytes).into_bytes();
            let at = PREFIX.len() + at.index(text.len() - PREFIX.len());
            let changed = text[at] != ALPHABET[with];
            text[at] = ALPHABET[with];
            let text = String::from_utf8(text).expect("ASCII");
            prop_assert_eq!(decode(&text).is_err(), changed);
        }
    }
}
