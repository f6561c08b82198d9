//! The writer of one direction: a machine without I/O. Spec: SPEC §5.4.
//!
//! It accepts messages, cuts them into boxes of consecutive indexes, and writes each box again and again, the same bytes,
//! until the reader acknowledges it or its message expires. Drive it as every machine here: one [`Sender::handle`], then
//! [`Sender::poll_output`] until [`Output::WaitUntil`] or [`Output::Done`].
//!
//! Crash safety: what a box will say is fixed, and part of the state, before its first write. On [`Output::Persist`] the
//! driver stores [`Sender::encode`] durably and answers [`Input::Persisted`]; until then nothing that depends on it comes
//! out. So after a restart from the last stored state no index is used for two different bodies, and every message whose
//! acceptance was told is still there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand_core::Rng;
use thiserror::Error;

use super::announce::Announcement;
use super::backoff::{doubled, jittered};
use super::fragment::{CHUNK_LEN, fragments};
use super::outbox::Outbox;
use super::outgoing::{Outgoing, Phase, Plan, Progress, State};
use super::{ACK_RESERVE, Ack, Kind, MAX_MESSAGE, MessageId, WINDOW};
use crate::mailbox::{Record, TtlBucket, WriteOutcome};
use crate::rest::Rest as _;
use crate::units::{Instant, WallTime};

/// So many requests must say *conflict* of a box before it is believed. Each is answered by a storage hop drawn anew, and
/// one alone may lie.
const CONFLICTS: u32 = 3;

/// How a sender paces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Writes under way at once. Default 4: a packet each.
    pub in_flight_max: usize,
    /// A write without an answer after this long counts as failed. Default 15 s, above three hops and back.
    pub answer_timeout: Duration,
    /// Pause after the first failed write of a box, doubled after each further one. Default 2 s.
    pub retry_first: Duration,
    /// The longest such pause. Default 60 s.
    pub retry_max: Duration,
    /// Pause before a stored, unacknowledged box is written again, doubled each time. Default 10 min: replicas repair each
    /// other, so this is for the loss of all of them, and a reader and its acknowledgement take a few polls.
    pub refresh_first: Duration,
    /// The longest such pause. Default 1 h.
    pub refresh_max: Duration,
    /// How long an acknowledgement waits for a message to travel with. Default 1 s.
    pub ack_delay: Duration,
    /// Messages held, accepted and not ended. Default 256.
    pub messages_max: usize,
    /// Their bytes. Default 1 MiB.
    pub bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_flight_max: 4,
            answer_timeout: Duration::from_secs(15),
            retry_first: Duration::from_secs(2),
            retry_max: Duration::from_secs(60),
            refresh_first: Duration::from_secs(600),
            refresh_max: Duration::from_secs(3_600),
            ack_delay: Duration::from_secs(1),
            messages_max: 256,
            bytes_max: 1 << 20,
        }
    }
}

/// Names one box of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Of the chain.
    Chain(u64),
    /// An announcement (SPEC §5.6): period and number in it.
    Announcement {
        /// Which 14 days.
        period: u64,
        /// Which of them.
        number: u16,
    },
}

/// What happens to a sender.
#[derive(Clone)]
pub enum Input {
    /// The user wants this delivered within `ttl`.
    Submit {
        /// What it is; a file's manifest fits into one box.
        kind: Kind,
        /// Fresh from [`MessageId::from_rng`].
        id: MessageId,
        /// Up to [`MAX_MESSAGE`] bytes.
        body: Bytes,
        /// At most 14 days.
        ttl: Duration,
    },
    /// The answer to a write.
    Written {
        /// Of [`Output::Write`].
        slot: Slot,
        /// What became of it.
        outcome: WriteOutcome,
    },
    /// A write could not be sent.
    Failed {
        /// Of [`Output::Write`].
        slot: Slot,
    },
    /// The reader's word on this direction, found by the receiver of the other one.
    PeerAck(Ack),
    /// What this side has read of the other direction and holds durably, to be told.
    Acknowledge {
        /// The newest.
        ack: Ack,
        /// Nobody needs to know after that.
        until: WallTime,
        /// Whether the other side waits for it.
        wanted: bool,
    },
    /// The state of this generation (or a later one) is durable.
    Persisted(u64),
    /// There is a way to the nodes again: what pauses after a failure for want of one is due now.
    Reachable,
    /// Time passed.
    Tick,
}

/// What a sender wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Store [`Sender::encode`] durably, then answer [`Input::Persisted`] with this generation.
    Persist(u64),
    /// Write this box; answer [`Input::Written`] or [`Input::Failed`].
    Write {
        /// Which box.
        slot: Slot,
        /// The box; the same bytes every time.
        record: Box<Record>,
    },
    /// The message is durable: from now on it arrives or expires.
    Accepted {
        /// What it is.
        kind: Kind,
        /// Which.
        id: MessageId,
        /// When it ends.
        expires: WallTime,
    },
    /// All boxes of the message are held by enough replicas.
    Stored(MessageId),
    /// The reader has the message.
    Acknowledged(MessageId),
    /// Its time ended first.
    Expired(MessageId),
    /// Several answers say that this box holds another body: this state is older than one that was used (a restored copy).
    /// The box is given up; the relationship should be renewed.
    Conflict {
        /// Which box.
        slot: Slot,
        /// The message in it, which will expire.
        id: Option<MessageId>,
    },
    /// Nothing to do before this instant.
    WaitUntil(Instant),
    /// Nothing to do before the next input.
    Done,
}

/// Why a message is not accepted. The user's fault, or a bound of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Above [`MAX_MESSAGE`].
    #[error("a message of {got} bytes, at most {MAX_MESSAGE} are carried")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// No such lifetime.
    #[error("a lifetime of {got:?}, between 1 ns and 14 days are possible")]
    BadTtl {
        /// What was asked for.
        got: Duration,
    },
    /// Too many messages wait.
    #[error("{messages} messages of {bytes} bytes wait already")]
    Full {
        /// How many wait.
        messages: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The name was used already.
    #[error("a message of this name waits already")]
    Duplicate,
}

/// The writer of one direction.
pub struct Sender<R> {
    pub(super) state: State,
    config: Arc<Config>,
    rng: R,
    outbox: Outbox<Output>,
    ack_due: Option<Instant>,
    wake: Option<Instant>,
}

impl<R: Rng> Sender<R> {
    pub(super) fn with_state(state: State, config: Arc<Config>, rng: R) -> Self {
        // After a restart an acknowledgement that is still wanted is made at the first tick.
        let ack_due = state.ack_wanted.then_some(Instant::ZERO);
        Self {
            state,
            config,
            rng,
            outbox: Outbox::new(),
            ack_due,
            wake: None,
        }
    }

    /// Takes one input. Drain [`Sender::poll_output`] after it.
    ///
    /// # Errors
    /// [`enum@Error`], for a message that is not accepted only; nothing has changed then.
    pub fn handle(&mut self, now: Instant, wall: WallTime, input: Input) -> Result<(), Error> {
        let result = match input {
            Input::Submit { kind, id, body, ttl } => self.submit(wall, kind, id, body, ttl),
            Input::Written { slot, outcome } => {
                self.written(now, slot, outcome);
                Ok(())
            }
            Input::Failed { slot } => {
                self.written(now, slot, WriteOutcome::TooFew { replicas: 0 });
                Ok(())
            }
            Input::PeerAck(ack) => {
                self.peer_ack(ack);
                Ok(())
            }
            Input::Acknowledge { ack, until, wanted } => {
                self.state.ack = ack;
                self.state.ack_until = self.state.ack_until.max(until);
                if wanted {
                    self.state.ack_wanted = true;
                    self.ack_due.get_or_insert(now + self.config.ack_delay);
                }
                Ok(())
            }
            Input::Persisted(generation) => {
                self.outbox.persisted(generation);
                Ok(())
            }
            Input::Reachable => {
                self.reachable(now);
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

    /// Nothing is left to say: the room for it is given back, for a client holds many senders that rest for hours.
    fn rest(&mut self) {
        self.state.boxes.rest();
        self.state.messages.rest();
    }

    /// Messages accepted and not ended.
    pub fn pending(&self) -> usize {
        self.state.messages.len()
    }

    fn submit(
        &mut self,
        wall: WallTime,
        kind: Kind,
        id: MessageId,
        body: Bytes,
        ttl: Duration,
    ) -> Result<(), Error> {
        let max = match kind {
            Kind::Text => MAX_MESSAGE,
            Kind::File => CHUNK_LEN,
        };
        if body.len() > max {
            return Err(Error::TooLong { got: body.len() });
        }
        let bucket = TtlBucket::covering(ttl)
            .filter(|_| !ttl.is_zero())
            .ok_or(Error::BadTtl { got: ttl })?;
        let messages = self.state.messages.len();
        let bytes = self.state.messages.iter().map(|m| m.body.len()).sum::<usize>();
        if messages >= self.config.messages_max || bytes + body.len() > self.config.bytes_max {
            return Err(Error::Full { messages, bytes });
        }
        if self.state.messages.iter().any(|m| m.id == id) {
            return Err(Error::Duplicate);
        }
        let expires = wall + ttl;
        self.state.messages.push(Outgoing {
            kind,
            id,
            expires,
            bucket,
            body,
            start: None,
            stored: false,
        });
        let generation = self.outbox.changed();
        self.outbox
            .gate(generation, Output::Accepted { kind, id, expires });
        Ok(())
    }

    fn written(&mut self, now: Instant, slot: Slot, outcome: WriteOutcome) {
        let jitter = self.rng.next_u32();
        let progress = match slot {
            Slot::Chain(index) => self.state.boxes.get_mut(&index).map(|plan| &mut plan.progress),
            Slot::Announcement { period, number } => self
                .state
                .announcement
                .as_deref_mut()
                .filter(|(a, _)| (a.period, a.number) == (period, number))
                .map(|(_, progress)| progress),
        };
        // An answer may come after its box has ended, or twice.
        let Some(progress) = progress else { return };
        if !matches!(progress.phase, Phase::InFlight(_)) {
            return;
        }
        match outcome {
            WriteOutcome::Stored { .. } => {
                progress.conflicts = 0;
                if !progress.stored {
                    (progress.stored, progress.attempts) = (true, 0);
                }
                let pause = doubled(
                    self.config.refresh_first,
                    self.config.refresh_max,
                    progress.attempts,
                );
                progress.phase = Phase::Due(now + jittered(pause, jitter));
                progress.attempts += 1;
                self.tell_stored(slot);
            }
            WriteOutcome::Conflict if progress.conflicts + 1 >= CONFLICTS => {
                progress.phase = Phase::GivenUp;
                let id = match slot {
                    Slot::Chain(index) => self
                        .state
                        .boxes
                        .get(&index)
                        .and_then(|plan| plan.piece)
                        .map(|(id, _)| id),
                    Slot::Announcement { .. } => {
                        if let Some((a, _)) = self.state.announcement.as_deref_mut() {
                            a.spent = true; // The next one has another number.
                        }
                        None
                    }
                };
                self.outbox.say(Output::Conflict { slot, id });
            }
            WriteOutcome::TooFew { .. }
            | WriteOutcome::Refused
            | WriteOutcome::Expired
            | WriteOutcome::Conflict => {
                progress.conflicts += u32::from(outcome == WriteOutcome::Conflict);
                let pause = doubled(self.config.retry_first, self.config.retry_max, progress.attempts);
                progress.phase = Phase::Due(now + jittered(pause, jitter));
                progress.attempts += 1;
            }
        }
    }

    /// Tells once that all boxes of a message are stored.
    fn tell_stored(&mut self, slot: Slot) {
        let Slot::Chain(index) = slot else { return };
        let Some((id, _)) = self.state.boxes.get(&index).and_then(|plan| plan.piece) else {
            return;
        };
        let all = self
            .state
            .boxes
            .values()
            .all(|p| p.piece.is_none_or(|(i, _)| i != id) || p.progress.stored);
        if let Some(message) = self
            .state
            .messages
            .iter_mut()
            .find(|m| m.id == id && all && !m.stored)
        {
            message.stored = true;
            self.outbox.say(Output::Stored(id));
        }
    }

    fn reachable(&mut self, now: Instant) {
        let announcement = self
            .state
            .announcement
            .as_deref_mut()
            .map(|(_, progress)| progress);
        let boxes = self.state.boxes.values_mut().map(|plan| &mut plan.progress);
        for progress in boxes.chain(announcement).filter(|progress| !progress.stored) {
            if let Phase::Due(at) = progress.phase {
                (progress.phase, progress.attempts) = (Phase::Due(at.min(now)), 0);
            }
        }
    }

    fn peer_ack(&mut self, ack: Ack) {
        // A word on boxes that were never made is a contact's mistake: believing it could only harm this direction.
        if ack.next > self.state.chain.next() {
            return;
        }
        let before = (self.state.boxes.len(), self.state.acked);
        self.state.acked = self.state.acked.max(ack.next);
        self.state.boxes.retain(|&index, _| !ack.covers(index));
        if before == (self.state.boxes.len(), self.state.acked) {
            return;
        }
        self.outbox.changed();
        let (boxes, outbox) = (&self.state.boxes, &mut self.outbox);
        self.state.messages.retain(|message| {
            let open = message.start.is_none_or(|start| {
                boxes
                    .range(start..start + fragments(message.body.len()) as u64)
                    .next()
                    .is_some()
            });
            if !open {
                outbox.say(Output::Acknowledged(message.id));
            }
            open
        });
    }

    fn low(&self) -> u64 {
        self.state
            .boxes
            .keys()
            .next()
            .copied()
            .unwrap_or(self.state.chain.next())
    }

    /// The index from which the reader is sure to look: acknowledged, or announced where the reader finds it.
    fn base(&self, wall: WallTime) -> u64 {
        match self.state.announcement.as_deref() {
            Some((a, progress)) if progress.stored && a.is_fresh(wall) => self.state.acked.max(a.low),
            _ => self.state.acked,
        }
    }

    fn pump(&mut self, now: Instant, wall: WallTime) {
        self.expire(wall);
        let (waits, mute) = (self.fill(wall), self.acknowledge(now, wall));
        if waits || mute {
            self.announce(wall, mute);
        }
        self.outbox.release();
        self.write(now);
        if let Some(generation) = self.outbox.next_to_persist() {
            self.outbox.say(Output::Persist(generation));
        }
        self.wake = self.next_wake(now, wall);
    }

    /// Drops what is over.
    fn expire(&mut self, wall: WallTime) {
        let (boxes, before) = (&mut self.state.boxes, self.state.messages.len());
        let outbox = &mut self.outbox;
        self.state.messages.retain(|message| {
            let over = wall >= message.expires;
            if over {
                outbox.retract(|o| matches!(o, Output::Accepted { id, .. } if *id == message.id));
                outbox.say(Output::Expired(message.id));
            }
            !over
        });
        let boxes_before = boxes.len();
        // The newest word on the other direction travelled with a message that ends before what it acknowledges, and
        // nobody has told that it was read: say it again.
        let last = boxes
            .last_entry()
            .filter(|last| *last.key() + 1 == self.state.chain.next());
        let unsaid = last.is_some_and(|last| last.get().piece.is_some() && wall >= last.get().until);
        if unsaid && wall < self.state.ack_until {
            self.state.ack_wanted = true;
            self.ack_due.get_or_insert(Instant::ZERO);
        }
        boxes.retain(|_, plan| wall < plan.until);
        let mut ended = (before, boxes_before) != (self.state.messages.len(), boxes.len());
        let (acked, full) = (
            self.state.acked,
            self.state.chain.next() >= self.base(wall) + WINDOW,
        );
        if let Some((a, progress)) = self.state.announcement.as_deref_mut() {
            // The reader is past it, or nobody can find it any more: not written again, but its number stays used. Not
            // before it is stored: the reader looks for the numbers one after the other.
            if !a.spent && (progress.stored && a.low <= acked && !full || wall >= a.until()) {
                a.spent = true;
                ended = true;
            }
        }
        if wall >= self.state.ack_until && self.state.ack_wanted {
            self.state.ack_wanted = false;
            self.ack_due = None;
        }
        if ended {
            self.outbox.changed();
        }
    }

    /// Makes boxes for waiting messages; whether one waits for room in the window.
    fn fill(&mut self, wall: WallTime) -> bool {
        let limit = self.base(wall) + WINDOW - ACK_RESERVE;
        for at in 0..self.state.messages.len() {
            let message = &self.state.messages[at];
            if message.start.is_some() {
                continue;
            }
            let (id, bucket, until) = (message.id, message.bucket, message.expires);
            let count = fragments(message.body.len());
            let start = self.state.chain.next();
            if start + count as u64 > limit {
                return true;
            }
            self.state.messages[at].start = Some(start);
            for number in 0..count {
                self.plan(Some((id, number as u8)), true, bucket, until);
            }
        }
        false
    }

    /// Makes a box for an acknowledgement that found nothing to travel with; whether it waits for room in the window.
    fn acknowledge(&mut self, now: Instant, wall: WallTime) -> bool {
        if !self.state.ack_wanted || self.ack_due.is_some_and(|due| now < due) {
            return false;
        }
        let (base, next) = (self.base(wall), self.state.chain.next());
        if next >= base + WINDOW {
            return true;
        }
        // Acknowledgements of acknowledgements would never end; but when half the reserve is in use, ask for one.
        let eliciting = next - base >= ACK_RESERVE / 2;
        let until = self.state.ack_until;
        let bucket = TtlBucket::covering(until.saturating_since(wall)).unwrap_or(TtlBucket::LONGEST);
        self.plan(None, eliciting, bucket, until);
        false
    }

    fn plan(&mut self, piece: Option<(MessageId, u8)>, eliciting: bool, bucket: TtlBucket, until: WallTime) {
        let low = self.low();
        let generation = self.outbox.changed();
        let (index, secret) = self.state.chain.step();
        (self.state.ack_wanted, self.ack_due) = (false, None);
        let progress = Progress::new(false, generation);
        let ack = self.state.ack;
        self.state.boxes.insert(
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

    /// Tells the reader where to look, when all boxes it looks for are over; or what was read of the other direction, when
    /// the window has no room to tell it. Without the latter, two sides with full windows would wait for each other.
    fn announce(&mut self, wall: WallTime, mute: bool) {
        let low = self.low();
        let last = self.state.announcement.as_deref();
        if low <= self.base(wall) {
            if !mute {
                return; // The window is full of boxes that are wanted: wait for acknowledgements.
            }
            // A restart wants all told again: no new number for the same word.
            if last.is_some_and(|(a, _)| !a.spent && wall < a.until() && a.ack == self.state.ack) {
                (self.state.ack_wanted, self.ack_due) = (false, None);
                return;
            }
        }
        let under_way = last.is_some_and(|(a, p)| !a.spent && !p.stored && wall < a.until());
        if under_way {
            return;
        }
        let Some(next) = Announcement::after(last.map(|(a, _)| a), low, self.state.ack, wall) else {
            return;
        };
        let generation = self.outbox.changed();
        (self.state.ack_wanted, self.ack_due) = (false, None); // It is in the announcement.
        self.state.announcement = Some(Box::new((next, Progress::new(false, generation))));
    }

    /// Writes what is due, as far as writes may be under way.
    fn write(&mut self, now: Instant) {
        let timeout = self.config.answer_timeout;
        let (jitter, retry_first, retry_max) = (
            self.rng.next_u32(),
            self.config.retry_first,
            self.config.retry_max,
        );
        let mut in_flight = 0;
        let announcement = self
            .state
            .announcement
            .as_deref_mut()
            .filter(|(a, _)| !a.spent)
            .map(|(_, p)| p);
        for progress in self
            .state
            .boxes
            .values_mut()
            .map(|p| &mut p.progress)
            .chain(announcement)
        {
            if let Phase::InFlight(deadline) = progress.phase {
                if deadline > now {
                    in_flight += 1;
                } else {
                    let pause = doubled(retry_first, retry_max, progress.attempts);
                    progress.phase = Phase::Due(now + jittered(pause, jitter));
                    progress.attempts += 1;
                }
            }
        }
        let due = |p: &Progress, outbox: &Outbox<Output>| {
            outbox.is_durable(p.generation) && matches!(p.phase, Phase::Due(at) if at <= now)
        };
        let State {
            cap,
            boxes,
            messages,
            announcement,
            announce_key,
            ..
        } = &mut self.state;
        if let Some((a, progress)) = announcement
            .as_deref_mut()
            .filter(|(a, p)| !a.spent && due(p, &self.outbox))
            && in_flight < self.config.in_flight_max
        {
            in_flight += 1;
            progress.phase = Phase::InFlight(now + timeout);
            let record = Box::new(a.seal(cap, announce_key));
            let slot = Slot::Announcement {
                period: a.period,
                number: a.number,
            };
            self.outbox.say(Output::Write { slot, record });
        }
        for (&index, plan) in boxes.iter_mut() {
            if in_flight >= self.config.in_flight_max {
                break;
            }
            if !due(&plan.progress, &self.outbox) {
                continue;
            }
            in_flight += 1;
            plan.progress.phase = Phase::InFlight(now + timeout);
            let record = Box::new(plan.seal(cap, messages));
            self.outbox.say(Output::Write {
                slot: Slot::Chain(index),
                record,
            });
        }
    }

    fn next_wake(&self, now: Instant, wall: WallTime) -> Option<Instant> {
        let announcement = self
            .state
            .announcement
            .as_deref()
            .filter(|(a, _)| !a.spent)
            .map(|(_, p)| p);
        let progress = || {
            self.state
                .boxes
                .values()
                .map(|plan| &plan.progress)
                .chain(announcement)
        };
        let in_flight = progress()
            .filter(|p| matches!(p.phase, Phase::InFlight(_)))
            .count();
        let phases = progress()
            .filter(|p| self.outbox.is_durable(p.generation))
            .filter_map(|p| match p.phase {
                // With all writes under way, an answer or a timeout makes room first.
                Phase::Due(_) if in_flight >= self.config.in_flight_max => None,
                Phase::Due(at) | Phase::InFlight(at) => Some(at),
                Phase::GivenUp => None,
            });
        let ends = self.state.messages.iter().map(|m| m.expires);
        let ends = ends.chain(self.state.boxes.values().map(|plan| plan.until));
        let ends = ends.map(|end| now + end.saturating_since(wall));
        let ack_due = self.ack_due.filter(|&due| due > now); // Past: it waits for room in the window.
        phases.chain(ends).chain(ack_due).min().map(|at| at.max(now))
    }
}

impl<R> fmt::Debug for Sender<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("chain", &self.state.chain)
            .field("acked", &self.state.acked)
            .field("messages", &self.state.messages.len())
            .field("boxes", &self.state.boxes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A message's bytes are the user's.
            Self::Submit { kind, id, body, ttl } => {
                write!(f, "Submit({kind:?}, {id:?}, {} bytes, {ttl:?})", body.len())
            }
            Self::Written { slot, outcome } => write!(f, "Written({slot:?}, {outcome:?})"),
            Self::Failed { slot } => write!(f, "Failed({slot:?})"),
            Self::PeerAck(ack) => write!(f, "PeerAck({ack:?})"),
            Self::Acknowledge { ack, until, wanted } => {
                write!(f, "Acknowledge({ack:?}, until {until:?}, wanted {wanted})")
            }
            Self::Persisted(generation) => write!(f, "Persisted({generation})"),
            Self::Reachable => f.write_str("Reachable"),
            Self::Tick => f.write_str("Tick"),
        }
    }
}
