//! The inside of a box: control fields for the stream of boxes, and a piece of a message. Spec: SPEC §5.3.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use super::chain::BoxSecret;
use super::{Ack, Kind, MAX_MESSAGE, MessageId, WINDOW};
use crate::crypto::aead::{NONCE_ZERO, TAG_LEN};
use crate::mailbox::{BODY_LEN, Record, TtlBucket, Unsigned, WriteCap};
use crate::packet::Class;
use crate::rest::Rest as _;
use crate::units::WallTime;
use crate::wire::{DecodeError, Reader, Writer};

/// Bytes of a message in one box.
pub const CHUNK_LEN: usize = BODY_LEN - TAG_LEN - CONTROL_LEN - DATA_LEN;

/// Boxes of the longest message.
pub const MAX_FRAGMENTS: usize = MAX_MESSAGE.div_ceil(CHUNK_LEN);

const PLAIN_LEN: usize = BODY_LEN - TAG_LEN;
const CONTROL_LEN: usize = 1 + 1 + 8 + 8 + 4;
const DATA_LEN: usize = 16 + 8 + 1 + 1 + 2;

// A message fits the part of the window that acknowledgements leave free.
const _: () = assert!(MAX_FRAGMENTS as u64 <= WINDOW - super::ACK_RESERVE);

/// How many boxes a message of `len` bytes takes; an empty one takes one.
pub const fn fragments(len: usize) -> usize {
    if len == 0 { 1 } else { len.div_ceil(CHUNK_LEN) }
}

/// What one box says.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// The writer's lowest outstanding index: boxes below it hold nothing that is still wanted.
    pub low: u64,
    /// What the writer has read in the other direction.
    pub ack: Ack,
    /// Whether the writer wants to be told that this was read.
    pub eliciting: bool,
    /// The piece of a message, if there is one.
    pub piece: Option<Piece>,
}

/// A piece of a message.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// Of what.
    pub kind: Kind,
    /// Which message.
    pub id: MessageId,
    /// It is not delivered from then on.
    pub expires: WallTime,
    /// Which piece, from 0.
    pub number: u8,
    /// Of how many.
    pub count: u8,
    /// Its bytes: [`CHUNK_LEN`] of them, fewer only in the last piece.
    pub chunk: Bytes,
}

impl Content {
    /// Seals and signs the box. Deterministic: the same arguments give the same record.
    pub fn seal(&self, cap: &WriteCap, secret: &BoxSecret, bucket: TtlBucket, not_after: u64) -> Record {
        let mut body = Vec::with_capacity(BODY_LEN);
        body.put_u8(self.piece.as_ref().map_or(0, |piece| piece.kind.code()));
        body.put_u8(u8::from(self.eliciting));
        body.put_u64(self.low);
        self.ack.encode(&mut body);
        if let Some(piece) = &self.piece {
            body.put(piece.id.as_bytes());
            body.put_u64(piece.expires.as_unix_nanos());
            body.put_u8(piece.number);
            body.put_u8(piece.count);
            body.put_bytes(&piece.chunk);
        }
        body.resize(PLAIN_LEN, 0);
        let associated = Record::associated_data(Class::Small, bucket, not_after);
        let tag = secret
            .body_key()
            .seal_in_place(NONCE_ZERO, &associated, &mut body);
        body.put(&tag);
        Record::sign(
            cap,
            &secret.seed(),
            Unsigned {
                bucket,
                not_after,
                body: body.into(),
            },
        )
    }

    /// Opens a box that was found at the address of `secret`; `None` if it was not sealed for it, or says nonsense.
    pub fn open(record: &Record, secret: &BoxSecret) -> Option<Self> {
        let associated = Record::associated_data(Class::Small, record.bucket(), record.not_after());
        let plain = secret
            .body_key()
            .open(NONCE_ZERO, &associated, record.body())
            .ok()?;
        Self::decode(&plain).ok()
    }

    fn decode(plain: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(plain);
        let kind = match r.u8()? {
            0 => None,
            code => Some(Kind::from_code(code)?),
        };
        let eliciting = flag(&mut r)?;
        let (low, ack) = (r.u64()?, Ack::decode(&mut r)?);
        let piece = kind.map(|kind| Piece::decode(kind, &mut r)).transpose()?;
        match r.rest().iter().find(|&&b| b != 0) {
            None => Ok(Self {
                low,
                ack,
                eliciting,
                piece,
            }),
            Some(&got) => Err(DecodeError::BadValue {
                field: "padding",
                got: u64::from(got),
            }),
        }
    }
}

impl Piece {
    fn decode(kind: Kind, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = MessageId::from_bytes(r.array()?);
        let expires = WallTime::from_unix_nanos(r.u64()?);
        let (number, count) = (r.u8()?, r.u8()?);
        let chunk = Bytes::copy_from_slice(r.bytes("chunk", CHUNK_LEN)?);
        let last = number.checked_add(1) == Some(count);
        let full = chunk.len() == CHUNK_LEN;
        let bad = number >= count
            || usize::from(count) > MAX_FRAGMENTS
            || (kind == Kind::File && count != 1)
            || (!last && !full)
            || (chunk.is_empty() && count > 1)
            || usize::from(number) * CHUNK_LEN + chunk.len() > MAX_MESSAGE;
        if bad {
            return Err(DecodeError::BadValue {
                field: "piece",
                got: u64::from(number),
            });
        }
        Ok(Self {
            kind,
            id,
            expires,
            number,
            count,
            chunk,
        })
    }
}

pub(super) fn flag(r: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        got => Err(DecodeError::BadValue {
            field: "flag",
            got: u64::from(got),
        }),
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("low", &self.low)
            .field("ack", &self.ack)
            .finish_non_exhaustive()
    }
}

/// Pieces of messages that are not complete.
///
/// The pieces of a message lie in consecutive boxes, so a message is the range of its indexes. Ranges do not overlap,
/// and one that ends below the reader's window is dropped: at most [`WINDOW`] + [`MAX_FRAGMENTS`] pieces are ever held,
/// whatever a contact writes.
#[derive(Clone, Default)]
pub struct Reassembly {
    partial: BTreeMap<u64, Partial>,
}

#[derive(Clone)]
struct Partial {
    id: MessageId,
    expires: WallTime,
    chunks: Vec<Option<Bytes>>,
}

/// A whole message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub id: MessageId,
    /// It is not to be delivered from then on.
    pub expires: WallTime,
    /// Its bytes.
    pub body: Bytes,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A piece that contradicts others, or could not be where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a piece of a message contradicts its neighbours (the contact's fault)")]
pub struct Contradiction;

impl Reassembly {
    /// Adds the piece that was in box `index`; returns its message if it is complete now.
    ///
    /// # Errors
    /// [`Contradiction`]; the piece is dropped.
    pub fn add(&mut self, index: u64, piece: Piece) -> Result<Option<Message>, Contradiction> {
        // A file's has one piece, so the last one tells.
        let (kind, number, count) = (piece.kind, usize::from(piece.number), usize::from(piece.count));
        let start = index.checked_sub(number as u64).ok_or(Contradiction)?;
        let end = start.checked_add(count as u64).ok_or(Contradiction)?;
        if !self.partial.contains_key(&start) {
            let before = self.partial.range(..start).next_back();
            let overlaps = before.is_some_and(|(&s, p)| s + p.chunks.len() as u64 > start)
                || self.partial.range(start..end).next().is_some();
            if overlaps {
                return Err(Contradiction);
            }
        }
        let partial = self.partial.entry(start).or_insert_with(|| Partial {
            id: piece.id,
            expires: piece.expires,
            chunks: vec![None; count],
        });
        if partial.id != piece.id || partial.expires != piece.expires || partial.chunks.len() != count {
            return Err(Contradiction);
        }
        partial.chunks[number] = Some(piece.chunk);
        if !partial.chunks.iter().all(Option::is_some) {
            return Ok(None);
        }
        let Some(whole) = self.partial.remove(&start) else {
            return Ok(None);
        };
        self.partial.rest();
        let body = whole
            .chunks
            .into_iter()
            .flatten()
            .fold(Vec::new(), |mut body, chunk| {
                body.extend_from_slice(&chunk);
                body
            });
        Ok(Some(Message {
            kind,
            id: whole.id,
            expires: whole.expires,
            body: body.into(),
        }))
    }

    /// Drops what can no longer become complete: ranges that end at or below `next`, and expired messages (returned).
    pub fn prune(&mut self, next: u64, wall: WallTime) -> Vec<MessageId> {
        let mut expired = Vec::new();
        self.partial.retain(|&start, partial| {
            if wall >= partial.expires {
                expired.push(partial.id);
            }
            wall < partial.expires && start + partial.chunks.len() as u64 > next
        });
        expired
    }

    /// When the first of the messages in parts ends.
    pub(super) fn earliest_end(&self) -> Option<WallTime> {
        self.partial.values().map(|partial| partial.expires).min()
    }

    /// Pieces held.
    pub fn held(&self) -> usize {
        self.partial
            .values()
            .map(|p| p.chunks.iter().flatten().count())
            .sum()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.partial.len() as u16);
        for (start, partial) in &self.partial {
            out.put_u64(*start);
            out.put(partial.id.as_bytes());
            out.put_u64(partial.expires.as_unix_nanos());
            out.put_u8(partial.chunks.len() as u8);
            for chunk in &partial.chunks {
                out.put_u8(u8::from(chunk.is_some()));
                if let Some(chunk) = chunk {
                    out.put_bytes(chunk);
                }
            }
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut partial: BTreeMap<u64, Partial> = BTreeMap::new();
        for _ in 0..r.count("partial messages", WINDOW as usize + MAX_FRAGMENTS)? {
            let start = r.u64()?;
            let bad = DecodeError::BadValue {
                field: "partial message",
                got: start,
            };
            if partial
                .last_key_value()
                .is_some_and(|(&s, p)| s + p.chunks.len() as u64 > start)
                || start > u64::MAX - 256
            {
                return Err(bad);
            }
            let (id, expires) = (
                MessageId::from_bytes(r.array()?),
                WallTime::from_unix_nanos(r.u64()?),
            );
            let count = usize::from(r.u8()?);
            if count == 0 || count > MAX_FRAGMENTS {
                return Err(bad);
            }
            let mut chunks = Vec::with_capacity(count);
            for _ in 0..count {
                chunks.push(if flag(r)? {
                    Some(Bytes::copy_from_slice(r.bytes("chunk", CHUNK_LEN)?))
                } else {
                    None
                });
            }
            partial.insert(start, Partial { id, expires, chunks });
        }
        Ok(Self { partial })
    }
}

impl fmt::Debug for Reassembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reassembly")
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn pieces(body: &[u8]) -> Vec<Piece> {
        let count = fragments(body.len()) as u8;
        let chunk =
            |n: u8| &body[usize::from(n) * CHUNK_LEN..body.len().min((usize::from(n) + 1) * CHUNK_LEN)];
        (0..count)
            .map(|number| Piece {
                kind: Kind::Text,
                id: MessageId::from_bytes([4; 16]),
                expires: WallTime::from_unix_secs(50),
                number,
                count,
                chunk: Bytes::copy_from_slice(chunk(number)),
            })
            .collect()
    }

    fn content(piece: Option<Piece>) -> Content {
        Content {
            low: 3,
            ack: Ack { next: 9, bitmap: 5 },
            eliciting: piece.is_some(),
            piece,
        }
    }

    #[test]
    fn a_sealed_box_opens_with_its_own_secret_only() {
        let cap = WriteCap::from_rng(&mut ChaCha12Rng::seed_from_u64(1));
        let (secret, other) = (BoxSecret::from_bytes([1; 32]), BoxSecret::from_bytes([2; 32]));
        for piece in pieces(&[7; CHUNK_LEN + 10]).into_iter().map(Some).chain([None]) {
            let content = content(piece);
            let record = content.seal(&cap, &secret, TtlBucket::ALL[0], 50);
            assert_eq!(
                record,
                content.seal(&cap, &secret, TtlBucket::ALL[0], 50),
                "deterministic"
            );
            assert_eq!(record.verify(), Ok(()));
            assert_eq!(Content::open(&record, &secret), Some(content.clone()));
            assert_eq!(Content::open(&record, &other), None);
            let moved = content.seal(&cap, &secret, TtlBucket::ALL[1], 50);
            let mut bytes = moved.encode();
            bytes[33] = 0;
            let relabelled = Record::decode(&bytes).expect("a record");
            assert_eq!(
                Content::open(&relabelled, &secret),
                None,
                "the lifetime is covered by the seal"
            );
        }
    }

    #[test]
    fn contradicting_pieces_are_dropped() {
        let p = pieces(&[7; 3 * CHUNK_LEN]);
        let mut r = Reassembly::default();
        assert_eq!(
            r.add(0, p[1].clone()),
            Err(Contradiction),
            "it would begin below zero"
        );
        assert_eq!(r.add(10, p[0].clone()), Ok(None));
        assert_eq!(
            r.add(11, p[0].clone()),
            Err(Contradiction),
            "overlaps the message at 10"
        );
        assert_eq!(
            r.add(9, p[0].clone()),
            Err(Contradiction),
            "overlaps the message at 10"
        );
        let other = Piece {
            kind: Kind::Text,
            id: MessageId::from_bytes([5; 16]),
            ..p[1].clone()
        };
        assert_eq!(r.add(11, other), Err(Contradiction));
        assert_eq!((r.add(11, p[1].clone()), r.held()), (Ok(None), 2));
        assert!(r.prune(12, WallTime::from_unix_secs(49)).is_empty());
        assert_eq!(r.held(), 2);
        r.prune(13, WallTime::from_unix_secs(49));
        assert_eq!(r.held(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_message_of_any_length_comes_together_in_any_order(
            len in prop_oneof![0usize..9, Just(CHUNK_LEN), Just(CHUNK_LEN + 1), 0..MAX_MESSAGE, Just(MAX_MESSAGE)],
            start in 0u64..1_000, order: u64
        ) {
            let body: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
            let mut parts: Vec<_> = pieces(&body).into_iter().enumerate().collect();
            parts.sort_by_key(|(i, _)| blake3::hash(&(order + *i as u64).to_be_bytes()).as_bytes()[0]);
            let (mut r, total) = (Reassembly::default(), parts.len());
            for (n, (i, piece)) in parts.into_iter().enumerate() {
                let mut bytes = Vec::new();
                r.encode(&mut bytes);
                r = Reassembly::decode(&mut Reader::new(&bytes)).expect("own encoding");
                let done = r.add(start + i as u64, piece).expect("consistent");
                prop_assert_eq!(done.is_some(), n + 1 == total);
                if let Some(message) = done {
                    prop_assert_eq!(&message.body[..], &body[..]);
                }
            }
            prop_assert_eq!(r.held(), 0);
        }

        #[test]
        fn arbitrary_plaintext_never_panics(mut plain in prop::collection::vec(any::<u8>(), 0..200), fix: bool) {
            plain.resize(PLAIN_LEN, 0);
            if fix {
                (plain[0], plain[1]) = (1, 1);
            }
            if let Ok(content) = Content::decode(&plain)
                && let Some(piece) = content.piece {
                    prop_assert!(piece.number < piece.count);
                }
        }
    }
}
