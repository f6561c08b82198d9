//! Streams at work: handshake, in-order delivery, back-pressure, retransmission, reset and close.
//!
//! Where streams are [`StreamModel::Tcp`], data is `tcp`'s affair, and the handshake, resets and the end are this file's. Where they
//! are [`StreamModel::Plain`], all of it is here.
//!
//! What is like TCP in plain streams: connecting takes a round trip; SYNs are sent again after 1, 2, 4 … s and given up after 127 s (Linux,
//! `tcp_syn_retries` 6); data in flight and unread is bounded by a window; a lost segment holds up all behind it until it
//! is sent again after the retransmission time-out, which doubles up to 120 s and is given up after 15 tries
//! (`tcp_retries2`). What is not: segments are up to 16 KiB, there is no congestion window and no fast retransmit, and
//! acknowledgements are neither lost nor seen by a censor.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use phantom_core::units::Instant;
use phantom_path::tcp::stamp_ms;
use tokio::io::ReadBuf;

use super::Happening;
use super::access::Arrival;
use super::border::{Direction, Kind, Options, Packet, Protocol, Seen, Tcp};
use super::network::{Fate, Owner, Sending, flow_of};
use super::segments::{Conn, End, Segment, endpoint};
use super::slab::Key;
use super::stream::wait;
use super::tcp;
use super::watch::NOBODY;
use super::world::{State, StreamModel};
use crate::host::PeerId;

/// The most that travels as one segment.
const SEGMENT_MAX: usize = 16 << 10;
/// SYNs after the first.
const SYN_RETRIES: u8 = 6;
const SYN_TIMEOUT_NS: u64 = 1_000_000_000;
const RETRIES: u8 = 15;
/// The window in a handshake: what Linux offers first.
const SYN_WINDOW: u32 = 64_240;
/// Added to the round trip: Linux's `TCP_RTO_MIN`.
const RTO_MIN_NS: u64 = 200_000_000;
/// Linux's `TCP_RTO_MAX`.
const RTO_MAX_NS: u64 = 120_000_000_000;

/// What happens to a stream at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The SYN is at the dialled host.
    Syn,
    /// Its answer is at the dialler.
    SynAck,
    /// The handshake is complete at the dialled host.
    Ack,
    /// The dialler sends its SYN again.
    SynAgain,
    /// The dialler ends the handshake again.
    AckAgain,
    /// A segment of this size is at the receiver's access link.
    Land(u16),
    /// The first segment in flight is at the receiver.
    Arrive,
    /// The retransmission time-out.
    Timeout,
    /// The first lost segment was acknowledged: the others follow.
    Recover,
    /// The writer learns of room.
    Credit,
    /// A reset is at this end.
    Reset,
    /// The timer of the TCP sender at this end.
    SenderTimer,
    /// The timer of the TCP receiver of what this end sends.
    ReceiverTimer,
}

impl State {
    pub(crate) fn dial(
        &mut self,
        peer: u32,
        incarnation: u32,
        to: SocketAddr,
    ) -> io::Result<(Key, SocketAddr)> {
        if !self.current(peer, incarnation) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if to.ip().is_unspecified() || to.port() == 0 {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let host = &mut self.net.hosts[peer as usize];
        let source = host.source(to.ip()).ok_or(io::ErrorKind::NetworkUnreachable)?;
        // Streams are told apart by their number, so an ephemeral port may serve several remotes, as on Linux.
        let port = host
            .free_port(|_, _| false)
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let own = SocketAddr::new(source, port);
        let shown = match host.nat {
            Some(nat) if !to.ip().is_loopback() => self.net.nats[nat as usize]
                .stream(to.ip())
                .ok_or(io::ErrorKind::NetworkUnreachable)?,
            _ => own,
        };
        let key = self.conns.take();
        let conn = self.conns.get_mut(key).ok_or(io::ErrorKind::Other)?;
        conn.flow = flow_of(shown, to);
        conn.ends[0] = End {
            host: peer,
            incarnation,
            open: true,
            error: None,
            address: endpoint(shown),
        };
        conn.ends[1].address = endpoint(to);
        self.send_syn(key);
        Ok((key, own))
    }

    fn send_syn(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let (from, to) = (conn.ends[0].host, conn.ends[1].address.0);
        let dialled = match self.net.route(from, to) {
            // What is behind a NAT or a firewall cannot be dialled, except by itself.
            Some(Owner::Host(host)) if host == from || self.net.hosts[host as usize].nat.is_none() => host,
            _ => {
                self.net.counters.unroutable += 1;
                if let Some(conn) = self.conns.get(key) {
                    let sending = Sending {
                        to: NOBODY,
                        ..control(conn, 0, Kind::Syn, self.options(conn, 0, Kind::Syn))
                    };
                    self.net.leaves(self.now, &sending);
                }
                return self.syn_lost(key);
            }
        };
        let delay = self.net.distance(from, dialled);
        if let (Some(conn), Some(delay)) = (self.conns.get_mut(key), delay) {
            conn.ends[1].host = dialled;
            conn.delay = delay;
            conn.dialled_at = self.now;
        }
        match self.control(key, 0, Kind::Syn) {
            Fate::Arrives(Arrival { ns: at, .. }, watched) => {
                self.net.arrives(at, watched);
                self.step(from, at, key, 0, Step::Syn);
            }
            Fate::Reset([true, _]) => {
                let at = self.now + delay.unwrap_or(0);
                self.forge_reset(key, 0, at);
                self.step(from, at, key, 0, Step::Reset);
            }
            _ => self.syn_lost(key),
        }
    }

    /// The handshake did not get through this time.
    fn syn_lost(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let (from, wait) = (conn.ends[0].host, SYN_TIMEOUT_NS << conn.tries);
        self.step(from, self.now + wait, key, 0, Step::SynAgain);
    }

    /// Sends a packet without payload from `side`.
    fn control(&mut self, key: Key, side: usize, kind: Kind) -> Fate {
        let Some(conn) = self.conns.get(key) else {
            return Fate::Lost;
        };
        let options = self.options(conn, side, kind);
        let sending = control(conn, side, kind, options);
        self.net.transmit(self.now, sending)
    }

    /// The options of such a packet, for a tap.
    fn options(&self, conn: &Conn, side: usize, kind: Kind) -> Options {
        let stamped = self.net.tap.is_some() && self.stream_model == StreamModel::Tcp && kind != Kind::Reset;
        Options {
            stamps_ms: stamped.then(|| (stamp_ms(self.now), conn.first_stamp_ms(1 - side))),
            ..Options::default()
        }
    }

    /// Tells a tap of the reset that a censor sends to `side`, where it is at `at`.
    fn forge_reset(&mut self, key: Key, side: usize, at: u64) {
        let Some(conn) = self.conns.get(key) else { return };
        let seen = || forged_reset(conn, side, self.now);
        let watched = self.net.forges(Instant::from_nanos(self.now), seen);
        self.net.arrives(at, watched);
    }

    pub(super) fn step(&mut self, source: u32, at: u64, conn: Key, side: usize, step: Step) {
        self.schedule(
            source,
            at,
            Happening::Stream {
                conn,
                side: side as u8,
                step,
            },
        );
    }

    /// A stream's event is due.
    pub(crate) fn stream_step(&mut self, key: Key, side: usize, step: Step) {
        if !self.conns.alive(key) {
            return;
        }
        match step {
            Step::Syn => self.syn_arrives(key),
            Step::SynAck => self.syn_ack_arrives(key),
            Step::Ack => self.accept(key),
            Step::SynAgain => self.syn_again(key),
            Step::AckAgain => self.send_ack(key),
            Step::Land(size) => self.segment_lands(key, side, size),
            Step::Arrive => self.segment_arrives(key, side),
            Step::Timeout => self.retransmit(key, side),
            Step::Recover => self.recover(key, side),
            Step::Credit => {
                if let Some(conn) = self.conns.get_mut(key) {
                    conn.halves.at(side).credit_due = false;
                    if let Some(waker) = conn.halves.at(side).writer.take() {
                        waker.wake();
                    }
                }
            }
            Step::Reset => self.fail(key, side, io::ErrorKind::ConnectionReset),
            Step::SenderTimer => self.sender_timer(key, side),
            Step::ReceiverTimer => self.receiver_timer(key, side),
        }
    }

    fn syn_again(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        if conn.established || conn.ends[0].error.is_some() {
            return;
        }
        if !conn.ends[0].open {
            // The dialler gave up; what the dialled host knows of it times out there.
            conn.ends[1].open = false;
            return self.free_if_unused(key);
        }
        if conn.tries == SYN_RETRIES {
            return self.fail(key, 0, io::ErrorKind::TimedOut);
        }
        conn.tries += 1;
        self.send_syn(key);
    }

    fn syn_arrives(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let (host, to, answered) = (conn.ends[1].host, conn.ends[1].address.into(), conn.answered);
        if !self.net.hosts[host as usize].up {
            self.net.counters.unroutable += 1;
            return self.syn_lost(key);
        }
        if !answered {
            let Some(listener) = self.listener_at(host, to) else {
                return self.send_reset(key, 1);
            };
            if self.listener_full(listener) {
                return self.syn_lost(key);
            }
            let incarnation = self.net.hosts[host as usize].incarnation;
            if let Some(conn) = self.conns.get_mut(key) {
                conn.answered = true;
                conn.listener = Some(listener);
                conn.ends[1].incarnation = incarnation;
                conn.ends[1].open = true;
            }
        }
        if let Some(conn) = self.conns.get_mut(key) {
            conn.answered_ms = stamp_ms(self.now);
        }
        match self.control(key, 1, Kind::SynAck) {
            Fate::Arrives(Arrival { ns: at, .. }, watched) => {
                self.net.arrives(at, watched);
                self.step(host, at, key, 0, Step::SynAck);
            }
            Fate::Reset(ends) => self.reset_ends(key, ends),
            _ => self.syn_lost(key),
        }
    }

    fn syn_ack_arrives(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let (host, incarnation) = (conn.ends[0].host, conn.ends[0].incarnation);
        if conn.established || conn.ends[0].error.is_some() {
            return;
        }
        if !conn.ends[0].open {
            // A crashed host says nothing; one that gave up refuses.
            if self.current(host, incarnation) {
                self.send_reset(key, 0);
            }
            return;
        }
        conn.established = true;
        match self.stream_model {
            StreamModel::Plain => conn.halves = self.spare.take(),
            StreamModel::Tcp => conn.lanes = Some(tcp::lanes(self.now, self.now - conn.dialled_at)),
        }
        conn.wake(0);
        self.send_ack(key);
    }

    fn send_ack(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let from = conn.ends[0].host;
        if conn.accepted {
            return;
        }
        match self.control(key, 0, Kind::Ack) {
            Fate::Arrives(Arrival { ns: at, .. }, watched) => {
                self.net.arrives(at, watched);
                if let Some(conn) = self.conns.get_mut(key) {
                    match &mut conn.lanes {
                        Some(lanes) => lanes[0].arrival_last = at,
                        None => conn.halves.at(0).arrival_last = at,
                    }
                }
                self.step(from, at, key, 0, Step::Ack);
            }
            Fate::Reset(ends) => self.reset_ends(key, ends),
            _ => self.step(from, self.now + SYN_TIMEOUT_NS, key, 0, Step::AckAgain),
        }
    }

    /// Gives the stream to its listener.
    pub(super) fn accept(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        if conn.accepted || !conn.ends[1].open {
            return;
        }
        conn.accepted = true;
        let queued = conn
            .listener
            .is_some_and(|listener| self.listener_push(listener, key));
        if !queued {
            self.refuse(key);
        }
    }

    /// The listener of a stream that nobody has accepted is gone.
    pub(crate) fn refuse(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let (host, incarnation) = (conn.ends[1].host, conn.ends[1].incarnation);
        conn.ends[1].open = false;
        if self.current(host, incarnation) {
            self.send_reset(key, 1);
        }
        self.free_if_unused(key);
    }

    pub(super) fn send_reset(&mut self, key: Key, from: usize) {
        let Some(conn) = self.conns.get(key) else { return };
        let host = conn.ends[from].host;
        match self.control(key, from, Kind::Reset) {
            Fate::Arrives(Arrival { ns: at, .. }, watched) => {
                self.net.arrives(at, watched);
                self.step(host, at, key, 1 - from, Step::Reset);
            }
            Fate::Reset(ends) => self.reset_ends(key, ends),
            // A refusal that is lost leaves the dialler to its retries.
            _ if from == 1 && !conn_established(self.conns.get(key)) => self.syn_lost(key),
            _ => {}
        }
    }

    /// A censor sends these ends a reset; it stands half way.
    pub(super) fn reset_ends(&mut self, key: Key, [client, server]: [bool; 2]) {
        let Some(conn) = self.conns.get(key) else { return };
        let (hosts, at) = ([conn.ends[0].host, conn.ends[1].host], self.now + conn.delay / 2);
        let answered = conn.answered;
        if client {
            self.forge_reset(key, 0, at);
            self.step(hosts[1], at, key, 0, Step::Reset);
        }
        if server && answered {
            self.forge_reset(key, 1, at);
            self.step(hosts[0], at, key, 1, Step::Reset);
        }
    }

    /// The end at `side` is told that the stream is dead.
    pub(super) fn fail(&mut self, key: Key, side: usize, error: io::ErrorKind) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let refused = side == 0 && !conn.established && error == io::ErrorKind::ConnectionReset;
        let error = if refused {
            io::ErrorKind::ConnectionRefused
        } else {
            error
        };
        conn.ends[side].error.get_or_insert(error);
        conn.give_up(side);
        conn.wake(side);
        if side == 1 && !conn.accepted {
            conn.ends[1].open = false;
            self.free_if_unused(key);
        }
    }

    pub(crate) fn read(
        &mut self,
        key: Key,
        side: usize,
        cx: &Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if conn.lanes.is_some() {
            return self.lane_read(key, side, cx, buf);
        }
        let half = conn.halves.at(1 - side);
        let before = half.read;
        while buf.remaining() > 0
            && let Some(chunk) = half.unread.front_mut()
        {
            let taken = chunk.len().min(buf.remaining());
            buf.put_slice(&chunk[..taken]);
            half.read += taken as u64;
            if taken == chunk.len() {
                half.unread.pop_front();
            } else {
                chunk.advance(taken);
            }
        }
        if half.read > before {
            let at = now + conn.delay;
            half.credit(at);
            if half.writer.is_some() && !half.credit_due {
                half.credit_due = true;
                let source = conn.ends[side].host;
                self.step(source, at, key, 1 - side, Step::Credit);
            }
            return Poll::Ready(Ok(()));
        }
        if half.ended || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = conn.ends[side].error {
            return Poll::Ready(Err(error.into()));
        }
        wait(&mut half.reader, cx);
        Poll::Pending
    }

    pub(crate) fn write(
        &mut self,
        key: Key,
        side: usize,
        cx: &Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (now, window) = (self.now, self.window);
        let Some(conn) = self.conns.get_mut(key) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let host = (conn.ends[side].host, conn.ends[side].incarnation);
        if let Some(error) = conn.ends[side].error {
            // The first write after a reset says why, as on Linux later ones say that the pipe is broken.
            conn.ends[side].error = Some(io::ErrorKind::BrokenPipe);
            return Poll::Ready(Err(error.into()));
        }
        if conn.lanes.is_some() {
            if !self.current(host.0, host.1) {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            return self.lane_write(key, side, cx, buf);
        }
        let half = conn.halves.at(side);
        if half.fin {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = window.saturating_sub(half.outstanding(now)) as usize;
        if room == 0 {
            wait(&mut half.writer, cx);
            if let Some((at, _)) = half.credits.front().copied()
                && !half.credit_due
            {
                half.credit_due = true;
                self.step(host.0, at, key, side, Step::Credit);
            }
            return Poll::Pending;
        }
        if !self.current(host.0, host.1) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let accepted = room.min(buf.len());
        for chunk in buf[..accepted].chunks(SEGMENT_MAX) {
            let Some(half) = self.conns.get_mut(key).map(|conn| conn.halves.at(side)) else {
                break;
            };
            let segment = Segment {
                offset: half.sent,
                payload: Bytes::copy_from_slice(chunk),
                fin: false,
                watched: None,
            };
            half.sent += chunk.len() as u64;
            self.send_segment(key, side, segment);
        }
        Poll::Ready(Ok(accepted))
    }

    /// The writer at `side` has ended.
    pub(crate) fn finish(&mut self, key: Key, side: usize) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        if conn.ends[side].error.is_some() || !conn.established {
            return;
        }
        if conn.lanes.is_some() {
            return self.lane_finish(key, side);
        }
        let half = conn.halves.at(side);
        if half.fin {
            return;
        }
        half.fin = true;
        let segment = Segment {
            offset: half.sent,
            payload: Bytes::new(),
            fin: true,
            watched: None,
        };
        self.send_segment(key, side, segment);
    }

    pub(crate) fn close(&mut self, key: Key, side: usize) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let (host, incarnation) = (conn.ends[side].host, conn.ends[side].incarnation);
        conn.ends[side].open = false;
        conn.leave(side);
        // A crashed host sends nothing any more.
        if conn.ends[1 - side].open && self.current(host, incarnation) {
            self.finish(key, side);
        }
        self.free_if_unused(key);
    }

    fn free_if_unused(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key)
            && !conn.ends[0].open
            && !conn.ends[1].open
        {
            conn.wake_all();
            conn.reset(&mut self.spare);
            self.conns.free(key);
        }
    }

    /// Sends a segment, or queues it behind what was lost.
    fn send_segment(&mut self, key: Key, side: usize, segment: Segment) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        if !conn.halves.at(side).has_lost() {
            self.transmit_segment(key, side, segment);
        } else {
            conn.halves.at(side).lose(segment);
        }
    }

    /// Puts a segment on the way; `false` if it was lost at once (and is among the lost again).
    fn transmit_segment(&mut self, key: Key, side: usize, segment: Segment) -> bool {
        let Some(conn) = self.conns.get_mut(key) else {
            return false;
        };
        let (end, other) = (&conn.ends[side], &conn.ends[1 - side]);
        let (from, to) = (end.host, other.host);
        let fate = self.net.transmit(
            self.now,
            Sending {
                from,
                to,
                src: end.address.into(),
                dst: other.address.into(),
                protocol: Protocol::Tcp,
                kind: Kind::Data,
                payload: &segment.payload,
                name: None,
                flow: conn.flow,
                tcp: Tcp {
                    seq: (segment.offset as u32).wrapping_add(1),
                    fin: segment.fin,
                    ..Tcp::default()
                },
                options: Options::default(),
                tail: Some(&mut conn.halves.at(side).tail),
            },
        );
        match fate {
            Fate::Arrives(Arrival { ns: at, .. }, watched) => {
                let half = conn.halves.at(side);
                let at = at.max(half.arrival_last);
                half.arrival_last = at;
                let direct = self.net.fixed.is_some() || from == to;
                let step = if direct {
                    Step::Arrive
                } else {
                    Step::Land(segment.payload.len() as u16)
                };
                let mut segment = segment;
                if direct {
                    self.net.arrives(at, watched);
                } else {
                    segment.watched = watched;
                }
                half.flight.push_back(segment);
                self.step(from, at, key, side, step);
                true
            }
            Fate::Reset(ends) => {
                self.reset_ends(key, ends);
                true
            }
            _ => {
                self.lose(key, side, segment);
                false
            }
        }
    }

    fn lose(&mut self, key: Key, side: usize, segment: Segment) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let (source, half) = (conn.ends[side].host, conn.halves.at(side));
        half.lose(segment);
        if !half.armed {
            half.armed = true;
            let first = 2 * conn.delay + RTO_MIN_NS;
            let wait = first
                .checked_shl(half.tries.into())
                .map_or(RTO_MAX_NS, |wait| wait.min(RTO_MAX_NS));
            self.step(source, self.now + wait, key, side, Step::Timeout);
        }
    }

    fn segment_lands(&mut self, key: Key, side: usize, size: u16) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let (from, to) = (conn.ends[side].host, conn.ends[1 - side].host);
        let landing = usize::from(conn.halves.at(side).landing);
        match self.net.land(self.now, to, size.into()) {
            Some(Arrival { ns: at, .. }) => {
                let half = conn.halves.at(side);
                half.landing += 1;
                let watched = half
                    .flight
                    .get_mut(landing)
                    .and_then(|segment| segment.watched.take());
                self.net.arrives(at, watched);
                self.step(from, at, key, side, Step::Arrive);
            }
            None => {
                if let Some(segment) = conn.halves.at(side).flight.remove(landing) {
                    self.lose(key, side, segment);
                }
            }
        }
    }

    fn segment_arrives(&mut self, key: Key, side: usize) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let half = conn.halves.at(side);
        half.landing = half.landing.saturating_sub(1);
        let Some(segment) = half.flight.pop_front() else {
            return;
        };
        let end = &conn.ends[1 - side];
        let (host, incarnation, open) = (end.host, end.incarnation, end.open);
        if !self.net.hosts[host as usize].up {
            self.net.counters.unroutable += 1;
            return self.lose(key, side, segment);
        }
        if self.net.hosts[host as usize].incarnation != incarnation {
            return self.send_reset(key, 1 - side);
        }
        if side == 0 && !conn.accepted {
            self.accept(key);
        }
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let half = conn.halves.at(side);
        half.tries = 0;
        if !open {
            if !segment.payload.is_empty() {
                self.send_reset(key, 1 - side);
            }
            return;
        }
        if half.receive(segment)
            && let Some(reader) = half.reader.take()
        {
            reader.wake();
        }
    }

    /// Whether the writer at `side` still keeps its stream up; if not, nothing is sent again.
    fn still_sending(&mut self, key: Key, side: usize) -> bool {
        let Some(conn) = self.conns.get_mut(key) else {
            return false;
        };
        conn.halves.at(side).armed = false;
        let (host, incarnation) = (conn.ends[side].host, conn.ends[side].incarnation);
        if !self.current(host, incarnation)
            && let Some(conn) = self.conns.get_mut(key)
        {
            conn.give_up(side);
        }
        self.conns
            .get_mut(key)
            .is_some_and(|conn| conn.halves.at(side).has_lost())
    }

    fn retransmit(&mut self, key: Key, side: usize) {
        if !self.still_sending(key, side) {
            return;
        }
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let (source, round_trip) = (conn.ends[side].host, 2 * conn.delay);
        let half = conn.halves.at(side);
        if half.tries == RETRIES {
            return self.fail(key, side, io::ErrorKind::TimedOut);
        }
        half.tries += 1;
        let Some(segment) = half.pop_lost() else {
            return;
        };
        self.net.counters.retransmitted += 1;
        if self.transmit_segment(key, side, segment)
            && let Some(conn) = self.conns.get_mut(key)
            && conn.halves.at(side).has_lost()
        {
            conn.halves.at(side).armed = true;
            let at = conn.halves.at(side).arrival_last.max(self.now) + round_trip / 2;
            self.step(source, at, key, side, Step::Recover);
        }
    }

    fn recover(&mut self, key: Key, side: usize) {
        if !self.still_sending(key, side) {
            return;
        }
        while let Some(conn) = self.conns.get_mut(key)
            && let Some(segment) = conn.halves.at(side).pop_lost()
        {
            self.net.counters.retransmitted += 1;
            if !self.transmit_segment(key, side, segment) {
                break;
            }
        }
    }
}

/// A packet without payload from `side`.
fn control(conn: &Conn, side: usize, kind: Kind, options: Options) -> Sending<'static> {
    static NOTHING: Bytes = Bytes::new();
    let (end, other) = (&conn.ends[side], &conn.ends[1 - side]);
    Sending {
        from: end.host,
        to: other.host,
        src: end.address.into(),
        dst: other.address.into(),
        protocol: Protocol::Tcp,
        kind,
        payload: &NOTHING,
        name: None,
        flow: conn.flow,
        tcp: Tcp {
            seq: u32::from(matches!(kind, Kind::Ack | Kind::Reset)),
            ack: u32::from(kind != Kind::Syn),
            window: SYN_WINDOW,
            ..Tcp::default()
        },
        options,
        tail: None,
    }
}

/// The reset that a censor sends to `side` in the name of the other end, with the number that is expected there.
fn forged_reset(conn: &Conn, side: usize, now: u64) -> Seen {
    let (end, other) = (&conn.ends[side], &conn.ends[1 - side]);
    let numbers = conn.lanes.as_ref().map(|lanes| tcp::expected(lanes, side));
    let (seq, ack) = numbers.unwrap_or((u32::from(conn.answered), 1));
    Seen {
        packet: Packet {
            at: Instant::from_nanos(now),
            src: other.address.into(),
            dst: end.address.into(),
            protocol: Protocol::Tcp,
            direction: Direction::Inbound,
            kind: Kind::Reset,
            payload: Bytes::new(),
            name: None,
            flow: conn.flow,
            tcp: Tcp {
                seq,
                ack,
                ..Tcp::default()
            },
        },
        ends: [PeerId(other.host), PeerId(end.host)],
        options: Options::default(),
    }
}

fn conn_established(conn: Option<&Conn>) -> bool {
    conn.is_some_and(|conn| conn.established)
}
