//! What a sender holds between inputs: accepted messages, the boxes that carry them, and how far each is written.
//! Spec: SPEC §5.4, §5.8.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::announce::{self, Announcement};
use super::chain::{BoxSecret, Chain};
use super::fragment::{CHUNK_LEN, Content, Piece, fragments};
use super::{Ack, Kind, MessageId};
use crate::mailbox::{Record, TtlBucket, WriteCap};
use crate::units::{Instant, WallTime};

/// What a restart needs.
pub(super) struct State {
    pub(super) cap: WriteCap,
    pub(super) chain: Chain,
    pub(super) announce_key: announce::Key,
    pub(super) messages: Vec<Outgoing>,
    /// Boxed: a map has room for eleven of each kind at once, and most contacts have one or two boxes outstanding.
    pub(super) boxes: BTreeMap<u64, Box<Plan>>,
    pub(super) announcement: Option<Box<(Announcement, Progress)>>,
    /// How far the reader is known to be.
    pub(super) acked: u64,
    pub(super) ack: Ack,
    pub(super) ack_until: WallTime,
    /// Whether the reader still has to be told `ack`.
    pub(super) ack_wanted: bool,
}

/// An accepted message; in submission order, so that indexes rise with it.
pub(super) struct Outgoing {
    pub(super) kind: Kind,
    pub(super) id: MessageId,
    pub(super) expires: WallTime,
    pub(super) bucket: TtlBucket,
    pub(super) body: Bytes,
    /// Index of its first box, once it has boxes.
    pub(super) start: Option<u64>,
    pub(super) stored: bool,
}

/// What one box of the chain says: fixed when it is made.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) secret: BoxSecret,
    pub(super) low: u64,
    pub(super) ack: Ack,
    pub(super) eliciting: bool,
    /// The message and which piece of it, or an acknowledgement alone.
    pub(super) piece: Option<(MessageId, u8)>,
    pub(super) bucket: TtlBucket,
    pub(super) until: WallTime,
    pub(super) progress: Progress,
}

/// How far the writing of a box is. Only `stored` survives a restart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    pub(super) stored: bool,
    /// Not before this generation is durable.
    pub(super) generation: u64,
    pub(super) attempts: u32,
    /// Answers of *conflict* since the last that said it is stored.
    pub(super) conflicts: u32,
    pub(super) phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Due(Instant),
    InFlight(Instant),
    /// Conflicted.
    GivenUp,
}

impl Progress {
    /// A box to be written as soon as `generation` is durable.
    pub(super) const fn new(stored: bool, generation: u64) -> Self {
        Self {
            stored,
            generation,
            attempts: 0,
            conflicts: 0,
            phase: Phase::Due(Instant::ZERO),
        }
    }
}

impl Plan {
    pub(super) fn seal(&self, cap: &WriteCap, messages: &[Outgoing]) -> Record {
        let piece = self.piece.and_then(|(id, number)| {
            let message = messages.iter().find(|m| m.id == id)?;
            let from = usize::from(number) * CHUNK_LEN;
            let to = message.body.len().min(from + CHUNK_LEN);
            Some(Piece {
                kind: message.kind,
                id,
                expires: message.expires,
                number,
                count: fragments(message.body.len()) as u8,
                chunk: message.body.slice(from..to),
            })
        });
        let content = Content {
            low: self.low,
            ack: self.ack,
            eliciting: self.eliciting,
            piece,
        };
        content.seal(cap, &self.secret, self.bucket, self.bucket.bound(self.until))
    }
}
