//! Classifiers as pure functions on the first bytes of a flow.
//!
//! Each is a file of its own and says where its rule comes from. [`Classifier`] names them; [`Labels`] is what all of them say
//! of one flow.

mod cursor;
pub mod dns;
pub mod dtls;
pub mod entropy;
pub mod fet;
pub mod hello;
pub mod http;
mod labels;
pub mod length;
mod names;
pub mod quic;
pub mod ssh;
pub mod tls;

pub use labels::{FirstBytes, Labels, Protocol, Transport};
pub use names::{Classifier, UnknownClassifier};

/// What a parser made of some bytes that may be only the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// It is one, and whole.
    Found(T),
    /// So far it could be one; more bytes would tell.
    Incomplete,
    /// It is none, whatever follows.
    No,
}

impl<T> Look<T> {
    /// What was found, if it was.
    pub fn found(self) -> Option<T> {
        match self {
            Self::Found(found) => Some(found),
            Self::Incomplete | Self::No => None,
        }
    }

    /// The same with what was found changed.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Look<U> {
        match self {
            Self::Found(found) => Look::Found(change(found)),
            Self::Incomplete => Look::Incomplete,
            Self::No => Look::No,
        }
    }
}

/// Bytes off the wire as text that is safe to print: what is no printable ASCII, and the backslash, becomes `\xNN`.
///
/// Names in a capture are chosen by whoever sent the packets; a terminal must not obey them.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\x5c"),
            0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                text.push_str("\\x");
                push_hex(&mut text, &[byte]);
            }
        }
    }
    text
}

/// Adds two lower-case digits a byte.
fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests;
