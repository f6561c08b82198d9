//! Invitations and public cohorts as text, to be pasted, printed or read from a code. SPEC §8.3.
//!
//! A prefix says what it is; then base32 (RFC 4648, lower case, no padding) of the bytes and four bytes of checksum. White
//! space and hyphens are skipped and case is ignored, so that what a person or a messenger broke into lines still reads.
//! A checksum finds typing errors; only the signature inside proves anything.

use thiserror::Error;

use super::envelope::{Invitation, InvitationError};
use crate::base32;
use crate::crypto::kdf::Context;
use crate::rendezvous::CohortPublic;

const INVITATION: &str = "phantominvite1";
const COHORT: &str = "phantomcohort1";
const CHECKSUM: Context = Context::new("phantom-net 2026 text checksum v1");
const CHECKSUM_LEN: usize = 4;
/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 8192;

/// Why text is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// It does not begin as such text does.
    #[error("this is no text of that kind: it must begin with {wanted:?}")]
    WrongKind {
        /// What it must begin with.
        wanted: &'static str,
    },
    /// It is too long.
    #[error("the text is {got} bytes long, at most {TEXT_BYTES_MAX} are read")]
    TooLong {
        /// What was found.
        got: usize,
    },
    /// A character that base32 does not have, or an impossible end.
    #[error("not base32 at character {at}")]
    NotBase32 {
        /// Which, counted from 1, white space and hyphens left out.
        at: usize,
    },
    /// A character is wrong or missing somewhere.
    #[error("the checksum is wrong: a part is missing or mistyped")]
    BadChecksum,
    /// The text is sound, what it holds is not.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// The text is sound, but holds no cohort's keys.
    #[error("the text holds no cohort")]
    NoCohort,
}

/// An invitation as text.
pub fn encode_invitation(invitation: &Invitation) -> String {
    encode(INVITATION, &invitation.encode())
}

/// Reads an invitation from text, and checks the inviter's signature.
///
/// # Errors
/// [`TextError`].
pub fn decode_invitation(text: &str) -> Result<Invitation, TextError> {
    Ok(Invitation::decode(&decode(INVITATION, text)?)?)
}

/// A public cohort as text: what a user gives to friends who are to fetch for it.
pub fn encode_cohort(cohort: &CohortPublic) -> String {
    encode(COHORT, &cohort.to_bytes())
}

/// Reads a public cohort from text.
///
/// # Errors
/// [`TextError`].
pub fn decode_cohort(text: &str) -> Result<CohortPublic, TextError> {
    let bytes = decode(COHORT, text)?;
    let bytes = bytes.as_slice().try_into().map_err(|_| TextError::NoCohort)?;
    CohortPublic::from_bytes(bytes).map_err(|_| TextError::NoCohort)
}

fn checksum(prefix: &str, bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let full = CHECKSUM.derive_fields(&[prefix.as_bytes(), bytes]);
    let mut out = [0; CHECKSUM_LEN];
    out.copy_from_slice(&full[..CHECKSUM_LEN]);
    out
}

fn encode(prefix: &str, bytes: &[u8]) -> String {
    let all = [bytes, &checksum(prefix, bytes)].concat();
    format!("{prefix}{}", base32::encode(&all))
}

fn decode(prefix: &'static str, text: &str) -> Result<Vec<u8>, TextError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(TextError::TooLong { got: text.len() });
    }
    let packed: String = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace() && *c != '-')
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let digits = packed
        .strip_prefix(prefix)
        .ok_or(TextError::WrongKind { wanted: prefix })?;
    let mut out = base32::decode(digits).map_err(|at| TextError::NotBase32 {
        at: prefix.len() + at + 1,
    })?;
    let at = out
        .len()
        .checked_sub(CHECKSUM_LEN)
        .ok_or(TextError::BadChecksum)?;
    let sum = out.split_off(at);
    if sum != checksum(prefix, &out) {
        return Err(TextError::BadChecksum);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::invite::envelope::tests::invitation;

    #[test]
    fn an_invitation_survives_being_broken_into_lines_and_shouted() {
        let (cohort, invitation) = invitation();
        let text = encode_invitation(&invitation);
        assert!(text.len() < 3000, "{}", text.len());
        let lines: Vec<String> = text
            .to_uppercase()
            .as_bytes()
            .chunks(40)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        assert_eq!(decode_invitation(&lines.join("-\r\n ")), Ok(invitation));
        assert_eq!(decode_cohort(&encode_cohort(&cohort.public)), Ok(cohort.public));
    }

    #[test]
    fn text_of_another_kind_or_mistyped_is_refused_with_the_reason() {
        let (cohort, invitation) = invitation();
        let text = encode_cohort(&cohort.public);
        assert_eq!(
            decode_invitation(&text),
            Err(TextError::WrongKind { wanted: INVITATION })
        );
        assert_eq!(decode_cohort("phantomcohort1"), Err(TextError::BadChecksum));
        assert_eq!(
            decode_cohort(&text.replace("1", "0")),
            Err(TextError::WrongKind { wanted: COHORT })
        );
        let mut typo = encode_invitation(&invitation).into_bytes();
        typo[100] = if typo[100] == b'a' { b'b' } else { b'a' };
        assert_eq!(
            decode_invitation(&String::from_utf8_lossy(&typo)),
            Err(TextError::BadChecksum)
        );
        assert_eq!(
            decode_invitation("phantominvite1abc!"),
            Err(TextError::NotBase32 { at: 18 })
        );
        assert_eq!(
            decode_invitation(&"a".repeat(9000)),
            Err(TextError::TooLong { got: 9000 })
        );
    }

    proptest! {
        #[test]
        fn bytes_round_trip_and_every_other_text_is_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), noise in "\\PC{0,60}",
        ) {
            let text = encode(COHORT, &bytes);
            prop_assert_eq!(decode(COHORT, &text), Ok(bytes));
            let at = COHORT.len() + at.index(text.len() - COHORT.len());
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'q' { b'r' } else { b'q' };
            prop_assert!(decode(COHORT, &String::from_utf8_lossy(&other)).is_err());
            let _ = decode(COHORT, &noise);
            let prefixed = [COHORT, &noise].concat();
            let _ = decode_cohort(&prefixed);
        }
    }
}
