//! The reader of one direction: a machine without I/O. Spec: SPEC §5.5.
//!
//! It says which boxes to look for, opens what was found, puts messages together and hands each over once, never after
//! its expiry. Drive it as [`super::sender::Sender`].
//!
//! Crash safety: that a box was read, and the message it completed, become durable before the message is handed over and
//! before the writer is told: what the writer hears is that this state holds the message, not that anybody saw it. A
//! message stays in the state until the driver confirms with [`Input::Delivered`] or the message ends; after a restart it
//! is handed over again unless the driver says that it has it. A driver that confirms only what is durable on its side (by
//! its id) loses nothing and delivers nothing twice wherever a crash falls; one whose user answers for that may be handed
//! a message again, and never loses one.

use std::collections::BTreeMap;

use super::announce::{self, period};
use super::chain::{BoxSecret, Window};
use super::fragment::{Content, Message, Reassembly};
use super::outbox::Outbox;
use super::sender::Slot;
use super::stored::INBOX_MAX;
use super::{Ack, MessageId, WINDOW};
use crate::mailbox::{BoxAddress, CLOCK_BOUND, ReadCap, Record, TtlBucket};
use crate::rest::Rest as _;
use crate::units::{Instant, WallTime};

/// What happens to a receiver.
#[derive(Clone, Debug)]
pub enum Input {
    /// A box of [`Receiver::wanted`] was found.
    Found(Box<Record>),
    /// The driver holds this message durably: the state need not.
    Delivered(MessageId),
    /// The state of this generation (or a later one) is durable.
    Persisted(u64),
    /// Time passed.
    Tick,
}

/// What a receiver wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Store [`Receiver::encode`] durably, then answer [`Input::Persisted`] with this generation.
    Persist(u64),
    /// Hand this to the user; answer [`Input::Delivered`] once the user has it.
    Deliver(Message),
    /// A message came too late, or was not confirmed in time, and was dropped.
    Expired(MessageId),
    /// The other side's word on the direction that this side writes: for [`super::sender::Input::PeerAck`].
    PeerAck(Ack),
    /// What the other side should be told: for [`super::sender::Input::Acknowledge`].
    Acknowledge {
        /// What was read, all of it durable.
        ack: Ack,
        /// Nobody needs to know after that.
        until: WallTime,
        /// Whether the other side waits for it.
        wanted: bool,
    },
    /// Nothing to do before this instant.
    WaitUntil(Instant),
    /// Nothing to do before the next input.
    Done,
}

/// Why a found box was dropped. The contact's or the storage hop's fault; the machine is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody asked for it, or it was read already.
    #[error("a box that is not looked for (a repeated answer, or the storage hop's fault)")]
    NotWanted,
    /// The driver has confirmed none of many messages: no more is taken until it does.
    #[error("{0} complete messages wait for the driver (our fault)")]
    Full(usize),
    /// It does not open, or says nonsense.
    #[error("a box that does not open, or says nonsense (the contact's or the storage hop's fault)")]
    Unreadable,
}

/// The reader of one direction.
#[derive(Debug)]
pub struct Receiver {
    pub(super) state: State,
    /// Addresses made lately; naming a box costs two thirds of an X25519, and the same boxes are asked for again and
    /// again. At most [`WINDOW`] and three, mostly few: not in a tree, whose least node has room for eleven.
    names: Vec<(Slot, BoxAddress)>,
    /// Where in the window the next [`Receiver::wanted`] goes on.
    cursor: u64,
    turns: u64,
    outbox: Outbox<Output>,
    /// Messages handed to the driver in this run and not confirmed.
    handed: Vec<MessageId>,
    wake: Option<Instant>,
}

/// What a restart needs.
#[derive(Debug)]
pub(super) struct State {
    pub(super) cap: ReadCap,
    pub(super) window: Window,
    pub(super) announce_key: announce::Key,
    /// Announcements read, by period: the next number. Periods that are over are dropped.
    pub(super) announced: BTreeMap<u64, u16>,
    pub(super) reassembly: Reassembly,
    /// Complete, not confirmed by the driver; each with the generation that has it.
    pub(super) inbox: Vec<(u64, Message)>,
    pub(super) ack_until: WallTime,
}

impl Receiver {
    pub(super) fn with_state(state: State) -> Self {
        let mut receiver = Self {
            state,
            names: Vec::new(),
            cursor: 0,
            turns: 0,
            outbox: Outbox::new(),
            handed: Vec::new(),
            wake: None,
        };
        // Whether the sender had stored what it was told is not known here: tell it again, or the other side may wait
        // for an acknowledgement that a crash took.
        let until = receiver.state.ack_until;
        if until > WallTime::UNIX_EPOCH {
            let ack = receiver.ack();
            let wanted = true;
            receiver
                .outbox
                .gate(0, Output::Acknowledge { ack, until, wanted });
        }
        receiver
    }

    /// Up to `count` boxes to look for, in the order of preference: first the lowest missing ones, then others of the
    /// window in turn (so that a gap hides nothing behind it), and now and then an announcement. Which ones does not
    /// depend on what was found in this poll, and asking changes nothing durable.
    pub fn wanted(&mut self, wall: WallTime, count: usize) -> Vec<BoxAddress> {
        let missing = self.state.window.missing();
        let mut slots: Vec<(Slot, BoxSecret)> = Vec::with_capacity(count);
        let mut add = |slot: Slot, secret: BoxSecret| {
            if slots.len() < count && slots.iter().all(|(s, _)| *s != slot) {
                slots.push((slot, secret));
            }
        };
        // One box per poll is the lowest missing one every other time.
        let only = count == 1;
        let turn_of_front = !only || self.turns.is_multiple_of(2);
        self.turns = self.turns.wrapping_add(1);
        let front = count.div_ceil(2);
        for (index, secret) in missing.iter().take(if turn_of_front { front } else { 0 }) {
            add(Slot::Chain(*index), secret.clone());
        }
        // The rest of the window and the announcements form one ring.
        let ring: Vec<(Slot, BoxSecret)> = missing
            .into_iter()
            .skip(front)
            .map(|(index, secret)| (Slot::Chain(index), secret))
            .chain(self.announcements(wall))
            .collect();
        let rest = if only {
            usize::from(!turn_of_front)
        } else {
            count - front
        };
        for _ in 0..rest.min(ring.len()) {
            let (slot, secret) = &ring[behind_a_gap(self.cursor, ring.len())];
            self.cursor = self.cursor.wrapping_add(1);
            add(*slot, secret.clone());
        }
        slots
            .iter()
            .map(|(slot, secret)| self.name(*slot, secret))
            .collect()
    }

    fn name(&mut self, slot: Slot, secret: &BoxSecret) -> BoxAddress {
        if let Some((_, name)) = self.names.iter().find(|(known, _)| *known == slot) {
            return *name;
        }
        let name = self.state.cap.address(&secret.seed());
        self.names.reserve_exact(1);
        self.names.push((slot, name));
        name
    }

    /// The next announcement of each period in which one may be alive, by clocks that differ by [`CLOCK_BOUND`].
    fn announcements(&self, wall: WallTime) -> Vec<(Slot, BoxSecret)> {
        let last = period(wall + CLOCK_BOUND);
        let first = period(wall).saturating_sub(1);
        (first..=last)
            .filter_map(|period| {
                let number = self.state.announced.get(&period).copied().unwrap_or(0);
                (number < announce::NUMBERS).then(|| {
                    (
                        Slot::Announcement { period, number },
                        self.state.announce_key.secret(period, number),
                    )
                })
            })
            .collect()
    }

    /// Takes one input. Drain [`Receiver::poll_output`] after it.
    ///
    /// # Errors
    /// [`Error`], for a found box that is dropped.
    pub fn handle(&mut self, now: Instant, wall: WallTime, input: Input) -> Result<(), Error> {
        let result = match input {
            Input::Found(record) => self.found(wall, &record),
            Input::Delivered(id) => {
                let before = self.state.inbox.len();
                self.state.inbox.retain(|(_, message)| message.id != id);
                self.handed.retain(|handed| *handed != id);
                if before != self.state.inbox.len() {
                    self.outbox.changed();
                }
                Ok(())
            }
            Input::Persisted(generation) => {
                self.outbox.persisted(generation);
                Ok(())
            }
            Input::Tick => Ok(()),
        };
        self.pump(now, wall);
        result
    }

    /// What to do next; to be called until it says to wait.
    pub fn poll_output(&mut self) -> Output {
        self.outbox.next().unwrap_or_else(|| {
            self.rest();
            self.wake.map_or(Output::Done, Output::WaitUntil)
        })
    }

    /// As [`super::sender::Sender`] does.
    fn rest(&mut self) {
        self.state.inbox.rest();
        self.handed.rest();
    }

    /// What was read so far.
    pub fn ack(&self) -> Ack {
        Ack {
            next: self.state.window.next(),
            bitmap: self.state.window.bitmap(),
        }
    }

    /// Complete messages that the driver has not confirmed.
    pub fn waiting(&self) -> impl Iterator<Item = &Message> {
        self.state.inbox.iter().map(|(_, message)| message)
    }

    fn found(&mut self, wall: WallTime, record: &Record) -> Result<(), Error> {
        if self.state.inbox.len() >= INBOX_MAX {
            return Err(Error::Full(self.state.inbox.len()));
        }
        let slot = self
            .names
            .iter()
            .find(|(_, name)| name == record.address())
            .map(|(slot, _)| *slot);
        let slot = slot.ok_or(Error::NotWanted)?;
        let secret = match slot {
            Slot::Chain(index) => self
                .state
                .window
                .missing()
                .into_iter()
                .find(|(i, _)| *i == index)
                .map(|(_, s)| s),
            Slot::Announcement { period, number } => {
                let next = self.state.announced.get(&period).copied().unwrap_or(0);
                (next == number).then(|| self.state.announce_key.secret(period, number))
            }
        };
        let secret = secret.ok_or(Error::NotWanted)?;
        // A box that its contact filled with nonsense is left to expire: it costs its slot until the window moves on.
        let content = Content::open(record, &secret).ok_or(Error::Unreadable)?;
        if content.piece.is_some() && matches!(slot, Slot::Announcement { .. }) {
            return Err(Error::Unreadable);
        }
        if !self.state.window.skip_to(content.low) {
            return Err(Error::Unreadable);
        }
        // What was told when boxes above it were read said less; with this one unread the writer cannot move its window,
        // and nothing else may come that asks.
        let mut wanted = content.eliciting;
        match slot {
            Slot::Chain(index) => {
                wanted |= self.state.window.is_gap(index);
                self.state.window.take(index);
            }
            Slot::Announcement { period, number } => {
                self.state.announced.insert(period, number + 1);
            }
        }
        self.names.retain(|(known, _)| *known != slot);
        let generation = self.outbox.changed();
        self.outbox.say(Output::PeerAck(content.ack));
        if let Slot::Chain(_) = slot {
            // The writer waits for word of a box for as long as the box lives, and nobody for longer than any can.
            let latest = wall + TtlBucket::LONGEST.ttl();
            let until = match &content.piece {
                Some(piece) => piece.expires,
                None => WallTime::from_unix_secs(record.not_after().min(latest.as_unix_secs())),
            };
            self.state.ack_until = self.state.ack_until.max(until.min(latest));
        }
        if let (Some(piece), Slot::Chain(index)) = (content.piece, slot) {
            let (id, late) = (piece.id, wall >= piece.expires);
            if late {
                self.outbox.say(Output::Expired(id));
            } else if let Ok(Some(message)) = self.state.reassembly.add(index, piece) {
                self.state.inbox.push((generation, message));
            }
        }
        let (ack, until) = (self.ack(), self.state.ack_until);
        self.outbox
            .gate(generation, Output::Acknowledge { ack, until, wanted });
        Ok(())
    }

    fn pump(&mut self, now: Instant, wall: WallTime) {
        let next = self.state.window.next();
        for id in self.state.reassembly.prune(next, wall) {
            self.outbox.say(Output::Expired(id));
        }
        self.names.retain(|(slot, _)| match *slot {
            Slot::Chain(index) => (next..next + WINDOW).contains(&index),
            Slot::Announcement { period, number } => self
                .state
                .announced
                .get(&period)
                .is_none_or(|&next| next == number),
        });
        let oldest = period(wall).saturating_sub(1);
        self.state.announced.retain(|&period, _| period >= oldest);
        self.outbox.release();
        let (outbox, handed) = (&mut self.outbox, &mut self.handed);
        let before = self.state.inbox.len();
        self.state.inbox.retain(|(_, message)| {
            let late = wall >= message.expires;
            if late {
                handed.retain(|handed| *handed != message.id);
                outbox.say(Output::Expired(message.id));
            }
            !late
        });
        if before != self.state.inbox.len() {
            outbox.changed();
        }
        for (generation, message) in &self.state.inbox {
            if outbox.is_durable(*generation) && !handed.contains(&message.id) {
                handed.push(message.id);
                outbox.say(Output::Deliver(message.clone()));
            }
        }
        if let Some(generation) = outbox.next_to_persist() {
            outbox.say(Output::Persist(generation));
        }
        let ends = self.state.inbox.iter().map(|(_, message)| message.expires);
        let ends = ends.chain(self.state.reassembly.earliest_end());
        self.wake = ends.map(|end| now + end.saturating_since(wall)).min();
    }
}

/// Which place of a ring of `len` the `turn`-th look goes to.
///
/// After a short gap (messages that expired unread) what follows is a few places further, so those are looked at often: three
/// of four looks go to the first places with halving frequency (1/2, 1/4, …), the fourth round the ring, so that none is left
/// out.
fn behind_a_gap(turn: u64, len: usize) -> usize {
    let (round, look) = (turn / 4, turn % 4);
    let halving = (3 * round + look + 1).trailing_zeros() as usize;
    match look < 3 && halving < len {
        true => halving,
        false => (round % len as u64) as usize,
    }
}

#[cfg(test)]
mod ring_tests {
    use super::behind_a_gap;

    #[test]
    fn the_nearest_places_behind_a_gap_are_looked_at_most_and_every_place_in_four_rounds() {
        for len in [1, 2, 7, 34] {
            let looks: Vec<usize> = (0..4 * len as u64).map(|turn| behind_a_gap(turn, len)).collect();
            assert!((0..len).all(|place| looks.contains(&place)), "{len}: {looks:?}");
            let first = looks.iter().filter(|place| **place == 0).count();
            assert!(first * 8 >= looks.len() * 3, "{len}: {looks:?}");
        }
    }

    /// Two messages that expired unread must not hide the third for a quarter of an hour of polls once a minute.
    #[test]
    fn the_third_place_is_never_left_for_more_than_a_dozen_looks() {
        let looks: Vec<usize> = (0..1_000).map(|turn| behind_a_gap(turn, 34)).collect();
        for place in 0..2 {
            let longest = looks.split(|look| *look == place).map(<[usize]>::len).max();
            assert!(longest < Some(12), "{place}: {longest:?}");
        }
    }
}
