//! The machine of a link end: what it owes, what it waits for, when it gives up. It outlives connections: one that breaks
//! parks it, a resumption carries it on. No I/O, no clock, no randomness in here. Spec: SPEC §2.5 to §2.7.
//!
//! One input ([`Session::handle`]), then frames are drained with [`Session::poll_frame`], then the driver waits until
//! [`Session::deadline`].
//!
//! ```text
//!            attach                     goodbye sent and flushed,
//!   Parked ─────────▶ Up ──close──▶ Closing ──goodbye heard, lost──▶ Closed
//!      ▲  ◀───lost────┘└──────goodbye heard, or a rule broken───────▶  ▲
//!      └────────────────────close, parking time over───────────────────┘
//! ```

use std::time::Duration;

use bytes::Bytes;

use crate::units::Instant;

use super::config::{Config, TICKETS_MAX, Times};
use super::control::{Control, Ticket, TicketId};
use super::frame::{DATA_MAX, Header, Plain};
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::{Channel, LinkError};

/// Which end this is. Only the dialler can dial again, only the acceptor hands out tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It dialled.
    Dialler,
    /// It was dialled.
    Acceptor,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A connection carries it.
    Up,
    /// The program is done with it: what was accepted and a goodbye are on their way, until the instant at the latest.
    Closing(Instant),
    /// No connection; it can be resumed until the instant.
    Parked(Instant),
    /// Over.
    Closed,
}

/// What happens to a session.
pub(crate) enum Input<'a> {
    /// A frame came that was opened.
    Frame(&'a Plain),
    /// The connection is gone.
    Lost(LinkError),
    /// A deadline may have passed.
    Timeout,
}

/// One ping on its way at a time; a ping asked for while one is out is the next one.
#[derive(Debug, Default)]
struct Pings {
    /// Number of the last ping that anyone waits for.
    wanted: u64,
    /// Since when it is wanted, as far as the driver has told the time; the largest time: it has not.
    wanted_at: Instant,
    /// Number of the last ping sent.
    sent: u64,
    sent_at: Instant,
    /// Number of the last ping answered.
    answered: u64,
    round_trip: Duration,
    /// When a round trip was reported last.
    reported_at: Instant,
    /// Ping of the other end that is not answered yet; 0 is none.
    owed: u64,
}

/// How far a link's messages got. Padding of frames, acknowledgements and keep-alive count nowhere; the few bytes of the link's
/// own messages (SPEC §2.6) do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes accepted for sending that the other end's program has not taken.
    pub queued: u64,
    /// Bytes that the other end's program has taken, over all connections of the session.
    pub acknowledged: u64,
    /// Bytes received, likewise.
    pub received: u64,
    /// How long the last ping took; zero before the first.
    pub round_trip: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    role: Role,
    phase: Phase,
    cause: Option<Box<LinkError>>,
    times: Times,
    outgoing: Outgoing,
    incoming: Incoming,
    pings: Pings,
    last_heard: Instant,
    /// The acknowledgement that was sent last.
    acked: u64,
    ack_at: Option<Instant>,
    /// The acknowledgement is overdue: send it as soon as the program takes a message.
    ack_when_taken: bool,
    ack_now: bool,
    /// Of a dialler those to use, of an acceptor those that are out.
    tickets: Vec<Ticket>,
}

/// What a handled input changed, for whoever waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// A message can be taken.
    pub(crate) readable: bool,
    /// There is room to send, a ping ended, or the phase is another.
    pub(crate) other: bool,
    /// A ping of ours was answered, or data of ours was acknowledged and it is time to say that this link works: a busy one
    /// sends no pings.
    pub(crate) round_trip: bool,
}

impl Changes {
    /// News that concern everybody who waits.
    pub(crate) const ALL: Self = Self {
        readable: true,
        other: true,
        round_trip: false,
    };
}

impl Session {
    /// A session that was just agreed on: the other end takes `peer_window` bytes ahead.
    pub(crate) fn new(
        role: Role,
        config: &Config,
        now: Instant,
        peer_window: u32,
    ) -> Result<Self, LinkError> {
        let mut outgoing = Outgoing::new(config.send_buffer());
        outgoing.start(0, peer_window)?;
        let mut session = Self {
            role,
            phase: Phase::Up,
            cause: None,
            times: config.times(),
            outgoing,
            incoming: Incoming::new(config.window()),
            pings: Pings::default(),
            last_heard: now,
            acked: 0,
            ack_at: None,
            ack_when_taken: false,
            ack_now: false,
            tickets: Vec::new(),
        };
        if role == Role::Dialler {
            // The first frame shows the server that the hello was no replay, and its pong ends a round trip.
            session.ping();
        }
        Ok(session)
    }

    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) const fn role(&self) -> Role {
        self.role
    }

    /// Why it is closed or parked, if not by a goodbye.
    pub(crate) fn cause(&self) -> LinkError {
        self.cause.as_deref().cloned().unwrap_or(LinkError::Closed)
    }

    /// How much of the stream towards us is here.
    pub(crate) const fn received(&self) -> u64 {
        self.incoming.received()
    }

    pub(crate) const fn window(&self) -> u32 {
        self.incoming.window()
    }

    /// Bytes accepted from the program and not acknowledged.
    pub(crate) const fn buffered(&self) -> u64 {
        self.outgoing.buffered()
    }

    /// How far the program's bytes got.
    pub(crate) const fn progress(&self) -> Progress {
        Progress {
            queued: self.outgoing.buffered(),
            acknowledged: self.outgoing.acked(),
            received: self.incoming.received(),
            round_trip: self.pings.round_trip,
        }
    }

    /// A new connection carries the session on: the other end has our stream up to `received`.
    ///
    /// # Errors
    /// It is closed, or the other end's claim cannot be true; it is closed then.
    pub(crate) fn attach(&mut self, now: Instant, received: u64, window: u32) -> Result<(), LinkError> {
        if self.phase == Phase::Closed {
            return Err(LinkError::Closed);
        }
        if let Err(error) = self.outgoing.start(received, window) {
            self.finish(Some(error.clone()));
            return Err(error);
        }
        if !matches!(self.phase, Phase::Closing(_)) {
            self.phase = Phase::Up;
        }
        self.cause = None;
        self.last_heard = now;
        self.pings.owed = 0;
        // A ping that was out went down with the connection: ask again.
        self.pings.sent = self.pings.answered;
        self.pings.wanted_at = now;
        self.ack_now = true;
        if self.role == Role::Dialler || self.pings.wanted != self.pings.answered {
            self.ping();
        }
        Ok(())
    }

    /// Takes one input.
    ///
    /// # Errors
    /// The other end broke a rule or the connection is dead: drop the connection. The phase says what is left.
    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>) -> Result<Changes, LinkError> {
        match (self.phase, input) {
            (Phase::Closed, _) => Ok(Changes::default()),
            (Phase::Up | Phase::Closing(_), Input::Frame(plain)) => {
                let handled = self.frame(now, plain);
                if let Err(error) = &handled {
                    self.finish(Some(error.clone()));
                }
                handled
            }
            (Phase::Parked(_), Input::Frame(_)) => Ok(Changes::default()),
            (Phase::Up, Input::Lost(cause)) => {
                self.cause = Some(Box::new(cause));
                self.phase = Phase::Parked(now + self.times.park_for());
                self.ack_at = None;
                if self.role == Role::Acceptor && self.times.park_for() == Duration::ZERO {
                    self.finish(None);
                }
                Ok(Changes::ALL)
            }
            (Phase::Closing(_), Input::Lost(cause)) => Ok(self.finish(Some(cause))),
            (Phase::Parked(_), Input::Lost(_)) => Ok(Changes::default()),
            (_, Input::Timeout) => self.timeout(now),
        }
    }

    /// The program wants no more: what was accepted is still sent, then a goodbye.
    pub(crate) fn close(&mut self) -> Changes {
        match self.phase {
            Phase::Up => {
                // The driver sets the time limit: a handle has no clock.
                self.phase = Phase::Closing(Instant::FAR_FUTURE);
                let goodbye = Bytes::from(Control::Goodbye.encode());
                self.outgoing.push_control(Channel::CONTROL, goodbye);
                Changes::ALL
            }
            Phase::Parked(_) => self.finish(None),
            Phase::Closing(_) | Phase::Closed => Changes::default(),
        }
    }

    fn finish(&mut self, cause: Option<LinkError>) -> Changes {
        self.phase = Phase::Closed;
        self.cause = cause.map(Box::new).or(self.cause.take());
        if self.role == Role::Dialler {
            self.tickets.clear();
        }
        self.ack_at = None;
        Changes::ALL
    }

    /// Everything that was to be sent is written and flushed: ends a session that is closing.
    pub(crate) fn flushed(&mut self) -> bool {
        let done = matches!(self.phase, Phase::Closing(_)) && self.outgoing.is_drained();
        if done {
            self.finish(None);
        }
        done
    }

    fn frame(&mut self, now: Instant, plain: &Plain) -> Result<Changes, LinkError> {
        let (header, data) = plain.decode()?;
        let mut changes = Changes {
            other: self.outgoing.ack(header.consumed)?,
            ..Changes::default()
        };
        self.last_heard = now;
        if header.ping != 0 {
            self.pings.owed = header.ping;
        }
        if header.pong != 0 && header.pong == self.pings.sent && self.pings.sent != self.pings.answered {
            self.pings.answered = header.pong;
            self.pings.round_trip = now.saturating_since(self.pings.sent_at);
            changes.other = true;
            changes.round_trip = true;
        }
        let reported = now.saturating_since(self.pings.reported_at);
        changes.round_trip |= changes.other && self.times.keep_alive().is_some_and(|every| reported >= every);
        if changes.round_trip {
            self.pings.reported_at = now;
        }
        let mut goodbye = false;
        let (role, tickets) = (self.role, &mut self.tickets);
        self.incoming.push(data, |message| {
            match Control::decode(message)? {
                Control::Goodbye => goodbye = true,
                Control::Ticket(ticket) => {
                    let bound = if role == Role::Dialler { TICKETS_MAX } else { 0 };
                    if tickets.len() >= bound {
                        return Err(LinkError::Violation {
                            rule: "tickets handed out",
                            wanted: bound as u64,
                            got: tickets.len() as u64 + 1,
                        });
                    }
                    tickets.push(ticket);
                }
            }
            Ok(())
        })?;
        changes.readable = self.incoming.has_message();
        if !data.is_empty() && self.ack_at.is_none() && !self.ack_when_taken {
            self.ack_at = Some(now + self.times.ack_delay());
        }
        self.note_consumed();
        if goodbye {
            return Ok(Changes {
                round_trip: changes.round_trip,
                ..self.finish(None)
            });
        }
        Ok(changes)
    }

    /// An acknowledgement of an eighth of the window does not wait for a frame to ride on: with the usual one that is a piece of an
    /// attachment, by whose acknowledgements the other end judges this path (SPEC §11.3).
    fn note_consumed(&mut self) -> bool {
        let fresh = self.incoming.consumed() - self.acked;
        if fresh >= u64::from(self.incoming.window() / 8) || (self.ack_when_taken && fresh > 0) {
            self.ack_now = true;
        }
        self.ack_now
    }

    fn timeout(&mut self, now: Instant) -> Result<Changes, LinkError> {
        match self.phase {
            Phase::Closed => return Ok(Changes::default()),
            Phase::Parked(until) if now >= until => return Ok(self.finish(None)),
            Phase::Parked(_) => return Ok(Changes::default()),
            Phase::Closing(by) if now >= by => {
                let late = LinkError::TimedOut {
                    doing: "saying goodbye",
                    limit: self.times.close_within(),
                };
                self.finish(Some(late.clone()));
                return Err(late);
            }
            Phase::Up | Phase::Closing(_) => {}
        }
        if self.dead_at().is_some_and(|at| now >= at) {
            return Err(LinkError::TimedOut {
                doing: "waiting for a pong",
                limit: self.times.dead_after(),
            });
        }
        if self.keep_alive_at().is_some_and(|at| now >= at) {
            self.ping();
        }
        if self.ack_at.is_some_and(|at| now >= at) {
            self.ack_at = None;
            if self.incoming.consumed() > self.acked {
                self.ack_now = true;
            } else {
                self.ack_when_taken = self.incoming.received() > self.acked;
            }
        }
        Ok(Changes::default())
    }

    fn ping_is_out(&self) -> bool {
        self.pings.sent != self.pings.answered
    }

    /// A ping that waits behind what the other end does not take counts like one that is not answered.
    fn dead_at(&self) -> Option<Instant> {
        let since = if self.ping_is_out() {
            self.pings.sent_at
        } else if self.pings.wanted != self.pings.sent {
            self.pings.wanted_at
        } else {
            return None;
        };
        Some(since.max(self.last_heard) + self.times.dead_after())
    }

    /// It is `now` for what a handle began, which has no clock: a goodbye, and a ping. Their limits count from here, whether or not
    /// the connection takes a byte.
    pub(crate) fn count_from(&mut self, now: Instant) {
        if self.phase == Phase::Closing(Instant::FAR_FUTURE) {
            self.phase = Phase::Closing(now + self.times.close_within());
        }
        if self.pings.wanted_at == Instant::FAR_FUTURE {
            self.pings.wanted_at = now;
        }
    }

    fn keep_alive_at(&self) -> Option<Instant> {
        let idle = !self.ping_is_out() && self.pings.wanted == self.pings.sent;
        self.times
            .keep_alive()
            .filter(|_| idle)
            .map(|after| self.last_heard + after)
    }

    /// When to hand in [`Input::Timeout`], if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            Phase::Parked(until) => Some(until),
            Phase::Up => [self.dead_at(), self.keep_alive_at(), self.ack_at]
                .into_iter()
                .flatten()
                .min(),
            Phase::Closing(by) => [self.dead_at(), self.ack_at, Some(by)]
                .into_iter()
                .flatten()
                .min(),
        }
    }

    /// The next frame to send now, if there is any.
    pub(crate) fn poll_frame(&mut self, now: Instant) -> Option<Plain> {
        if !matches!(self.phase, Phase::Up | Phase::Closing(_)) {
            return None;
        }
        let ping = self.pings.wanted != self.pings.sent && !self.ping_is_out();
        if !(ping || self.pings.owed != 0 || self.ack_now || self.outgoing.can_send()) {
            return None;
        }
        let mut plain = Plain::new();
        let len = self.outgoing.fill(&mut plain.data_mut()[..DATA_MAX]);
        if ping {
            self.pings.sent = self.pings.wanted;
            self.pings.sent_at = now;
        }
        self.acked = self.incoming.consumed();
        self.ack_now = false;
        self.ack_when_taken = false;
        if self.acked == self.incoming.received() {
            self.ack_at = None;
        }
        let header = Header {
            consumed: self.acked,
            ping: if ping { self.pings.sent } else { 0 },
            pong: std::mem::take(&mut self.pings.owed),
        };
        plain.set_header(header, len);
        Some(plain)
    }

    /// Accepts a message from the program.
    ///
    /// # Errors
    /// See [`LinkError`]; [`LinkError::Full`] when the buffer has no room for it now.
    pub(crate) fn send(&mut self, channel: Channel, body: Bytes) -> Result<(), LinkError> {
        if channel == Channel::CONTROL {
            return Err(LinkError::ReservedChannel);
        }
        match self.phase {
            Phase::Up | Phase::Parked(_) => self.outgoing.push(channel, body),
            Phase::Closing(_) | Phase::Closed => Err(self.cause()),
        }
    }

    /// The next message for the program, and whether a frame is to be sent because it was taken.
    pub(crate) fn take(&mut self) -> Option<((Channel, Bytes), bool)> {
        let message = self.incoming.pop()?;
        let was = self.ack_now;
        Some((message, self.note_consumed() && !was))
    }

    /// Whether [`Session::take`] can never give another message, unless the session is resumed.
    pub(crate) fn is_exhausted(&self) -> bool {
        match self.phase {
            Phase::Closed => true,
            Phase::Parked(_) => self.role == Role::Dialler,
            Phase::Up | Phase::Closing(_) => false,
        }
    }

    /// Whether a connection carries it.
    pub(crate) const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Closing(_))
    }

    /// Asks for a ping; returns its number.
    pub(crate) fn ping(&mut self) -> u64 {
        if self.pings.wanted == self.pings.sent {
            self.pings.wanted += 1;
            self.pings.wanted_at = Instant::FAR_FUTURE;
        }
        self.pings.wanted
    }

    /// How long ping `number` took, if it has ended.
    pub(crate) fn pinged(&self, number: u64) -> Option<Duration> {
        (self.pings.answered >= number).then_some(self.pings.round_trip)
    }

    /// Takes a ticket out, to resume with.
    pub(crate) fn take_ticket(&mut self) -> Option<Ticket> {
        (self.role == Role::Dialler).then(|| self.tickets.pop()).flatten()
    }

    pub(crate) fn has_ticket(&self) -> bool {
        self.role == Role::Dialler && !self.tickets.is_empty()
    }

    /// Hands a ticket to the dialler.
    pub(crate) fn issue(&mut self, ticket: Ticket) {
        debug_assert_eq!(self.role, Role::Acceptor, "a dialler has none to give");
        self.tickets.push(ticket.clone());
        let message = Bytes::from(Control::Ticket(ticket).encode());
        self.outgoing.push_control(Channel::CONTROL, message);
    }

    /// Gives up the tickets that are out: their secrets end with the session, whoever still holds a handle to it.
    pub(crate) fn take_issued(&mut self) -> Vec<Ticket> {
        match self.role {
            Role::Acceptor => std::mem::take(&mut self.tickets),
            Role::Dialler => Vec::new(),
        }
    }

    /// The ticket of that name, if it is out.
    pub(crate) fn ticket(&self, id: &TicketId) -> Option<Ticket> {
        self.tickets.iter().find(|ticket| ticket.id == *id).cloned()
    }

    /// A ticket was used.
    pub(crate) fn spent(&mut self, id: &TicketId) {
        self.tickets.retain(|ticket| ticket.id != *id);
    }

    /// Ends the session without a word: the connection is not written to again.
    pub(crate) fn break_off(&mut self) -> Changes {
        self.finish(None)
    }

    /// Ends the session and gives back what nobody knows the fate of.
    pub(crate) fn abandon(&mut self) -> Vec<(Channel, Bytes)> {
        self.cause = None;
        self.finish(None);
        self.outgoing.take_unknown()
    }
}
