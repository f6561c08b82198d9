//! End to end: contacts, messages over one-shot boxes, and the client's state at rest. Pure machines and formats.
//!
//! A relationship has two directions. In each, the writer's [`Sender`] fills boxes 0, 1, 2, … of a one-way chain and the
//! reader's [`Receiver`] looks for them within a window. Nothing here knows of packets, nodes or clocks.
//! Spec: SPEC §5.

use std::fmt;

use rand_core::CryptoRng;

use crate::event::Tag;
use crate::wire::{DecodeError, Reader, Writer};

mod announce;
pub(crate) mod backoff;
pub mod chain;
pub mod contact;
pub mod fragment;
mod outbox;
mod outgoing;
pub mod poll;
pub mod receiver;
pub mod sender;
mod stored;
pub mod text;
pub mod vault;

pub use receiver::Receiver;
pub use sender::Sender;

/// The longest message: 64 KiB.
pub const MAX_MESSAGE: usize = 65_536;

/// How many boxes ahead of the first missing one a reader looks for, and a writer may therefore fill.
pub const WINDOW: u64 = 32;

/// How many boxes of the window are kept for acknowledgements, so that two full directions cannot lock each other.
pub const ACK_RESERVE: u64 = 8;

/// The name of a message: random, so that it says nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// Draws a name.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The name with this wire form.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its wire form.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Its one-way name, for events.
    pub fn tag(&self) -> Tag {
        Tag::of(&self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId(#{:016x})", self.tag().0)
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// For the user, as it is.
    #[default]
    Text,
    /// A [`crate::attachment::Manifest`]; one box.
    File,
}

impl Kind {
    /// Its wire form; 0 is left for no message at all.
    const fn code(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::File => 2,
        }
    }

    fn from_code(got: u8) -> Result<Self, DecodeError> {
        [Self::Text, Self::File]
            .into_iter()
            .find(|kind| kind.code() == got)
            .ok_or(DecodeError::BadValue {
                field: "kind of a message",
                got: u64::from(got),
            })
    }
}

/// What a reader has read of one direction: everything below `next`, and bit i for index `next + 1 + i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The lowest index that was neither read nor skipped.
    pub next: u64,
    /// What was read above it.
    pub bitmap: u32,
}

impl Ack {
    /// Whether box `index` was read (or was given up as expired).
    pub const fn covers(&self, index: u64) -> bool {
        index < self.next
            || (index > self.next
                && index - self.next <= 32
                && self.bitmap >> (index - self.next - 1) & 1 == 1)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.next);
        out.put_u32(self.bitmap);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            next: r.u64()?,
            bitmap: r.u32()?,
        })
    }
}

#[cfg(test)]
mod tests;
