//! Attachments: what is too long for a message, in bulk boxes of its own. Spec: SPEC §5.10.
//!
//! The writer puts the pieces into boxes whose names and keys follow from one secret, and only when nodes hold them all
//! sends a message of a few bytes, the [`Manifest`], which says that secret. So a reader who has the manifest finds every
//! piece at the first try, in any order, as many at a time as the path bears ([`Transfer`]), and nothing has to be
//! acknowledged but the message. Nothing here knows of packets, nodes or clocks.

mod keys;
mod manifest;
mod transfer;

pub use keys::{AttachmentKeys, AttachmentSecret, ReadError};
pub use manifest::{Manifest, NAME_LEN_MAX};
pub use transfer::{Config, Transfer};

use crate::crypto::aead::TAG_LEN;
use crate::mailbox::BULK_BODY_LEN;

/// The longest attachment, in bytes: 8 MiB.
pub const ATTACHMENT_MAX: usize = 8 << 20;

/// Bytes of an attachment in one box.
pub const PIECE_LEN: usize = BULK_BODY_LEN - TAG_LEN;

/// How many boxes an attachment of `len` bytes takes; an empty one takes one.
pub const fn pieces(len: usize) -> u32 {
    if len == 0 {
        1
    } else {
        len.div_ceil(PIECE_LEN) as u32
    }
}

/// Which bytes of an attachment of `len` bytes are piece `number`.
pub fn range(len: usize, number: u32) -> std::ops::Range<usize> {
    let from = len.min((number as usize).saturating_mul(PIECE_LEN));
    from..len.min(from + PIECE_LEN)
}

#[cfg(test)]
mod tests;
