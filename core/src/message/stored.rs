//! What is stored of a sender and a receiver, and how they come back from it. Spec: SPEC §5.8.
//!
//! Versioned and canonical; it holds keys and plaintext, so it is stored inside [`super::vault`] only.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rand_core::Rng;
use zeroize::Zeroizing;

use super::announce::{Announcement, Key, NUMBERS};
use super::chain::{BoxSecret, Chain, Window};
use super::contact::{Incoming, Outgoing as Direction};
use super::fragment::{Message, Reassembly, flag, fragments};
use super::outgoing::{self, Outgoing, Plan, Progress};
use super::receiver::{self, Receiver};
use super::sender::{Config, Sender};
use super::{Ack, Kind, MAX_MESSAGE, MessageId, WINDOW};
use crate::mailbox::{ReadCap, TtlBucket, WriteCap};
use crate::units::WallTime;
use crate::wire::{DecodeError, Reader, Writer};

/// 2: messages have a kind.
const VERSION: u8 = 2;
/// Far above any configuration: only bounds what a broken file can claim.
const MESSAGES_BOUND: usize = 4_096;

impl<R: Rng> Sender<R> {
    /// The writer of a new relationship. Store its state before its first use.
    pub fn new(direction: &Direction, config: impl Into<Arc<Config>>, rng: R) -> Self {
        let state = outgoing::State {
            cap: direction.cap.clone(),
            chain: Chain::new(*direction.root),
            announce_key: Key::new(*direction.announce),
            messages: Vec::new(),
            boxes: BTreeMap::new(),
            announcement: None,
            acked: 0,
            ack: Ack::default(),
            ack_until: WallTime::UNIX_EPOCH,
            ack_wanted: false,
        };
        Self::with_state(state, config.into(), rng)
    }

    /// The state to store.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let state = &self.state;
        let mut out = Zeroizing::new(Vec::new());
        out.put_u8(VERSION);
        out.put(&*state.cap.to_bytes());
        state.chain.encode(&mut out);
        out.put(state.announce_key.as_bytes());
        out.put_u64(state.acked);
        state.ack.encode(&mut out);
        out.put_u64(state.ack_until.as_unix_nanos());
        out.put_u8(u8::from(state.ack_wanted));
        out.put_u8(u8::from(state.announcement.is_some()));
        if let Some((announcement, progress)) = state.announcement.as_deref() {
            announcement.encode(&mut out);
            out.put_u8(u8::from(progress.stored));
        }
        out.put_u16(state.messages.len() as u16);
        for message in &state.messages {
            out.put_u8(message.kind.code());
            out.put(message.id.as_bytes());
            out.put_u64(message.expires.as_unix_nanos());
            out.put_u8(message.bucket.code());
            out.put_u8(u8::from(message.stored));
            out.put_u8(u8::from(message.start.is_some()));
            if let Some(start) = message.start {
                out.put_u64(start);
            }
            put_long(&mut out, &message.body);
        }
        out.put_u16(state.boxes.len() as u16);
        for (index, plan) in &state.boxes {
            out.put_u64(*index);
            out.put(plan.secret.as_bytes());
            out.put_u64(plan.low);
            plan.ack.encode(&mut out);
            out.put_u8(u8::from(plan.eliciting));
            out.put_u8(plan.bucket.code());
            out.put_u64(plan.until.as_unix_nanos());
            out.put_u8(u8::from(plan.progress.stored));
            out.put_u8(u8::from(plan.piece.is_some()));
            if let Some((id, number)) = &plan.piece {
                out.put(id.as_bytes());
                out.put_u8(*number);
            }
        }
        out
    }

    /// The writer as it was stored.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8], config: impl Into<Arc<Config>>, rng: R) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let cap = WriteCap::from_bytes(&r.array()?).map_err(|_| DecodeError::BadValue {
            field: "write capability",
            got: 0,
        })?;
        let chain = Chain::decode(&mut r)?;
        let announce_key = Key::new(r.array()?);
        let (acked, ack) = (r.u64()?, Ack::decode(&mut r)?);
        // Nothing is acknowledged or announced of boxes that were never made.
        let made = |field, index| match index <= chain.next() {
            true => Ok(index),
            false => Err(DecodeError::BadValue { field, got: index }),
        };
        made("acknowledged index", acked)?;
        let (ack_until, ack_wanted) = (time(&mut r)?, flag(&mut r)?);
        let announcement = if flag(&mut r)? {
            let announcement = Announcement::decode(&mut r)?;
            made("announced index", announcement.low)?;
            Some(Box::new((announcement, Progress::new(flag(&mut r)?, 0))))
        } else {
            None
        };
        let mut messages: Vec<Outgoing> = Vec::new();
        for _ in 0..r.count("messages", MESSAGES_BOUND)? {
            let kind = Kind::from_code(r.u8()?)?;
            let id = MessageId::from_bytes(r.array()?);
            let (expires, bucket) = (time(&mut r)?, TtlBucket::from_code(r.u8()?)?);
            let stored = flag(&mut r)?;
            let start = if flag(&mut r)? { Some(r.u64()?) } else { None };
            let body = long(&mut r)?;
            let fits = start.is_none_or(|start| {
                start
                    .checked_add(fragments(body.len()) as u64)
                    .is_some_and(|end| end <= chain.next())
            });
            if !fits {
                return Err(DecodeError::BadValue {
                    field: "first box of a message",
                    got: start.unwrap_or(0),
                });
            }
            messages.push(Outgoing {
                kind,
                id,
                expires,
                bucket,
                body,
                start,
                stored,
            });
        }
        let mut boxes: BTreeMap<u64, Box<Plan>> = BTreeMap::new();
        for _ in 0..r.count("boxes", MESSAGES_BOUND)? {
            let index = r.u64()?;
            if index >= chain.next() || boxes.last_key_value().is_some_and(|(&last, _)| last >= index) {
                return Err(DecodeError::BadValue {
                    field: "box index",
                    got: index,
                });
            }
            let secret = BoxSecret::from_bytes(r.array()?);
            let (low, ack) = (r.u64()?, Ack::decode(&mut r)?);
            let (eliciting, bucket) = (flag(&mut r)?, TtlBucket::from_code(r.u8()?)?);
            let (until, stored) = (time(&mut r)?, flag(&mut r)?);
            let piece = if flag(&mut r)? {
                Some((MessageId::from_bytes(r.array()?), r.u8()?))
            } else {
                None
            };
            if let Some((id, number)) = piece {
                let fits = messages.iter().find(|m| m.id == id).is_some_and(|message| {
                    usize::from(number) < fragments(message.body.len())
                        && message.start.is_some()
                        && message.start == index.checked_sub(u64::from(number))
                });
                if !fits {
                    return Err(DecodeError::BadValue {
                        field: "piece",
                        got: u64::from(number),
                    });
                }
            }
            let progress = Progress::new(stored, 0);
            boxes.insert(
                index,
                Box::new(Plan {
                    secret,
                    low,
                    ack,
                    eliciting,
                    piece,
                    bucket,
                    until,
                    progress,
                }),
            );
        }
        r.finish()?;
        let state = outgoing::State {
            cap,
            chain,
            announce_key,
            messages,
            boxes,
            announcement,
            acked,
            ack,
            ack_until,
            ack_wanted,
        };
        Ok(Self::with_state(state, config.into(), rng))
    }
}

impl Receiver {
    /// The reader of a new relationship. Store its state before its first use.
    pub fn new(direction: &Incoming) -> Self {
        Self::with_state(receiver::State {
            cap: direction.cap.clone(),
            window: Window::new(Chain::new(*direction.root)),
            announce_key: Key::new(*direction.announce),
            announced: BTreeMap::new(),
            reassembly: Reassembly::default(),
            inbox: Vec::new(),
            ack_until: WallTime::UNIX_EPOCH,
        })
    }

    /// The state to store.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let state = &self.state;
        let mut out = Zeroizing::new(Vec::new());
        out.put_u8(VERSION);
        out.put(state.cap.as_bytes());
        state.window.encode(&mut out);
        out.put(state.announce_key.as_bytes());
        out.put_u64(state.ack_until.as_unix_nanos());
        out.put_u16(state.announced.len() as u16);
        for (period, number) in &state.announced {
            out.put_u64(*period);
            out.put_u16(*number);
        }
        state.reassembly.encode(&mut out);
        out.put_u16(state.inbox.len() as u16);
        for (_, message) in &state.inbox {
            out.put_u8(message.kind.code());
            out.put(message.id.as_bytes());
            out.put_u64(message.expires.as_unix_nanos());
            put_long(&mut out, &message.body);
        }
        out
    }

    /// The reader as it was stored. `has` says which messages the driver holds durably already: those were handed over,
    /// and the crash came before it was noted here. Give it
    /// [`receiver::Input::Tick`] at once: messages not handed over, and the acknowledgement, come out again.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8], has: impl Fn(&MessageId) -> bool) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let cap = ReadCap::from_bytes(r.array()?).map_err(|_| DecodeError::BadValue {
            field: "read capability",
            got: 0,
        })?;
        let window = Window::decode(&mut r)?;
        let (announce_key, ack_until) = (Key::new(r.array()?), time(&mut r)?);
        let mut announced = BTreeMap::new();
        for _ in 0..r.count("periods", 8)? {
            let (period, number) = (r.u64()?, r.u16()?);
            let ordered = announced.last_key_value().is_none_or(|(&last, _)| last < period);
            if !ordered || number > NUMBERS {
                return Err(DecodeError::BadValue {
                    field: "period",
                    got: period,
                });
            }
            announced.insert(period, number);
        }
        let reassembly = Reassembly::decode(&mut r)?;
        let mut inbox = Vec::new();
        for _ in 0..r.count("inbox", MESSAGES_BOUND)? {
            let kind = Kind::from_code(r.u8()?)?;
            let (id, expires) = (MessageId::from_bytes(r.array()?), time(&mut r)?);
            let body = long(&mut r)?;
            if !has(&id) {
                let message = Message {
                    kind,
                    id,
                    expires,
                    body,
                };
                inbox.push((0, message));
            }
        }
        r.finish()?;
        Ok(Self::with_state(receiver::State {
            cap,
            window,
            announce_key,
            announced,
            reassembly,
            inbox,
            ack_until,
        }))
    }
}

/// A receiver hands over at most this many messages before it waits for confirmations.
pub(super) const INBOX_MAX: usize = WINDOW as usize;

const _: () = assert!(INBOX_MAX <= MESSAGES_BOUND);

fn version(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    match r.u8()? {
        VERSION => Ok(()),
        got => Err(DecodeError::BadValue {
            field: "state version",
            got: u64::from(got),
        }),
    }
}

fn time(r: &mut Reader<'_>) -> Result<WallTime, DecodeError> {
    r.u64().map(WallTime::from_unix_nanos)
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put(bytes);
}

fn long(r: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
    let got = r.u32()? as usize;
    if got > MAX_MESSAGE {
        return Err(DecodeError::TooLong {
            field: "message",
            bound: MAX_MESSAGE,
            got,
        });
    }
    r.take(got).map(Bytes::copy_from_slice)
}
