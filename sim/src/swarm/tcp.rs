//! Streams as TCP: the machines of `phantom_path` between two hosts of a world.
//!
//! A lane is one direction: a sender at one end and a receiver at the other. Both ends live in one process, so the payload is held
//! once for both, and segments carry numbers: whoever needs the bytes (a reader, the border) cuts them out of the lane. The
//! handshake, resets and closing are those of `transport`.

use std::io;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use phantom_path::tcp::{
    Ack, Block, MSS, Receiver, ReceiverConfig, SACKS_MAX, Segment, Sender, SenderConfig, stamp_ms,
};
use tokio::io::ReadBuf;

use super::Happening;
use super::access::Arrival;
use super::border::{Kind, Options, Protocol, Tcp};
use super::leak::Tail;
use super::network::{Fate, Sending};
use super::queue::Queue;
use super::segments::Conn;
use super::slab::Key;
use super::stream::wait;
use super::transport::Step;
use super::watch::Watched;
use super::world::State;

/// Time-outs in a row after which a stream is given up: Linux's `tcp_retries2`.
const RETRIES: u8 = 15;
/// What a socket buffers beyond twice its window, and at most: Linux's `tcp_wmem`.
const SEND_BUFFER_MIN: u64 = 64 << 10;
const SEND_BUFFER_MAX: u64 = 4 << 20;
/// The most that is held as one piece.
const CHUNK_MAX: usize = 16 << 10;

/// One direction of a stream.
pub(crate) struct Lane {
    sender: Sender,
    receiver: Receiver,
    payload: Payload,
    tail: Tail,
    writer: Option<Waker>,
    reader: Option<Waker>,
    /// When events for the timers of the two machines are pending; the largest time: none is.
    sender_due: u64,
    receiver_due: u64,
    /// What the end of the sender sends keeps its order, acknowledgements included.
    pub(super) arrival_last: u64,
}

/// There are ten streams for each client of a world, most of them idle.
const _: () = assert!(size_of::<Lane>() <= 344);

/// Both directions; lane 0 carries what the dialler writes.
pub(crate) type Lanes = Box<[Lane; 2]>;

/// What was written and is not both read and acknowledged, in pieces with the offset of their first byte. How far it was written
/// and read is known to the sender and the receiver.
#[derive(Default)]
struct Payload {
    pieces: Queue<Box<(u64, Bytes)>>,
}

/// A packet of a stream on its way.
#[derive(Debug, Default)]
pub(crate) struct Packet {
    conn: Option<Key>,
    /// Who sent it.
    side: u8,
    load: Load,
    watched: Watched,
}

const _: () = assert!(size_of::<Packet>() <= 56);

impl Packet {
    /// The same packet, come twice; whoever watches has seen the first.
    fn again(&self) -> Self {
        Self {
            conn: self.conn,
            side: self.side,
            load: self.load.clone(),
            watched: None,
        }
    }
}

#[derive(Clone, Debug, Default)]
enum Load {
    #[default]
    None,
    Segment(Segment),
    /// An [`Ack`], whose blocks few have and would be most of it.
    Ack {
        next: u64,
        /// Bytes from `next` on that may be sent.
        room: u32,
        sacks: Option<Box<Sacks>>,
        stamp_ms: u32,
        echo_ms: u32,
    },
}

/// The blocks of an acknowledgement, and how many there are.
type Sacks = ([Block; SACKS_MAX], u8);

impl From<Ack> for Load {
    fn from(ack: Ack) -> Self {
        Self::Ack {
            next: ack.next,
            room: u32::try_from(ack.window_end - ack.next).unwrap_or(u32::MAX),
            sacks: (ack.sack_count > 0).then(|| Box::new((ack.sacks, ack.sack_count))),
            stamp_ms: ack.stamp_ms,
            echo_ms: ack.echo_ms,
        }
    }
}

/// The lanes of a stream whose handshake took this round trip.
pub(crate) fn lanes(now_ns: u64, rtt_ns: u64) -> Lanes {
    let rtt_us = u32::try_from(rtt_ns / 1_000).unwrap_or(u32::MAX);
    let lane = || {
        let receiver = Receiver::new(ReceiverConfig::default(), now_ns, rtt_us);
        Lane {
            sender: Sender::new(SenderConfig::default(), now_ns, rtt_us, receiver.window_end()),
            receiver,
            payload: Payload::default(),
            tail: Tail::default(),
            writer: None,
            reader: None,
            sender_due: u64::MAX,
            receiver_due: u64::MAX,
            arrival_last: 0,
        }
    };
    Box::new([lane(), lane()])
}

/// What the end `side` expects next, and what it has sent, as sequence numbers.
pub(super) fn expected(lanes: &Lanes, side: usize) -> (u32, u32) {
    let number = |place: u64| (place as u32).wrapping_add(1);
    (
        number(lanes[1 - side].receiver.next()),
        number(lanes[side].sender.next()),
    )
}

impl Lane {
    /// Bytes that the writer may hand over now.
    fn room(&self) -> u64 {
        let window = 2 * u64::from(self.sender.window_segments()) * u64::from(MSS);
        let buffer = (SEND_BUFFER_MIN + window).min(SEND_BUFFER_MAX);
        buffer.saturating_sub(self.sender.unacknowledged())
    }

    /// Takes out whoever waits at the sending end, and at the receiving one.
    pub(super) fn take_writer(&mut self) -> Option<Waker> {
        self.writer.take()
    }

    /// See [`Lane::take_writer`].
    pub(super) fn take_reader(&mut self) -> Option<Waker> {
        self.reader.take()
    }
}

impl Payload {
    /// Adds what follows the byte before `offset`.
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut offset = offset;
        for piece in bytes.chunks(CHUNK_MAX) {
            self.pieces
                .push_back(Box::new((offset, Bytes::copy_from_slice(piece))));
            offset += piece.len() as u64;
        }
    }

    /// The piece that holds a byte, and where in it.
    fn find(&self, offset: u64) -> Option<(usize, usize)> {
        let index = self
            .pieces
            .partition_point(|piece| piece.0 <= offset)
            .checked_sub(1)?;
        Some((index, (offset - self.pieces.get(index)?.0) as usize))
    }

    /// These bytes; a copy only where they span pieces.
    fn cut(&self, offset: u64, len: usize) -> Bytes {
        let found = self.find(offset).filter(|_| len > 0);
        let Some((index, at, piece)) =
            found.and_then(|(index, at)| Some((index, at, &self.pieces.get(index)?.1)))
        else {
            return Bytes::new();
        };
        if at + len <= piece.len() {
            return piece.slice(at..at + len);
        }
        let mut bytes = Vec::with_capacity(len);
        let mut at = at;
        for piece in self.pieces.iter().skip(index) {
            let piece = &piece.1;
            let part = piece.len().min(at + len - bytes.len());
            bytes.extend_from_slice(&piece[at.min(part)..part]);
            at = 0;
        }
        bytes.into()
    }

    /// Fills `buf` with what is to be read of the `available` bytes from `offset` on; how many they were.
    fn read(&self, offset: u64, available: u64, buf: &mut ReadBuf<'_>) -> u64 {
        let wanted = available.min(buf.remaining() as u64) as usize;
        let mut left = wanted;
        if let Some((mut index, mut at)) = self.find(offset) {
            while left > 0
                && let Some(piece) = self.pieces.get(index)
            {
                let piece = &piece.1;
                let part = left.min(piece.len() - at);
                buf.put_slice(&piece[at..at + part]);
                left -= part;
                (index, at) = (index + 1, 0);
            }
        }
        (wanted - left) as u64
    }

    /// Forgets what is before `done`: read and acknowledged.
    fn release(&mut self, done: u64) {
        while let Some(piece) = self.pieces.front()
            && piece.0 + piece.1.len() as u64 <= done
        {
            self.pieces.pop_front();
        }
    }
}

impl Conn {
    fn lane(&mut self, side: usize) -> Option<&mut Lane> {
        self.lanes.as_mut().map(|lanes| &mut lanes[side])
    }
}

impl State {
    /// Reads at `side` what the other end wrote.
    pub(super) fn lane_read(
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
        let error = conn.ends[side].error;
        let Some(lane) = conn.lane(1 - side) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let from = lane.receiver.first_unread();
        let read = lane.payload.read(from, lane.receiver.unread(), buf);
        if read > 0 {
            lane.payload.release(lane.sender.una().min(from + read));
            let ack = lane.receiver.read(now, read);
            self.acknowledge(key, side, ack);
            return Poll::Ready(Ok(()));
        }
        if lane.receiver.ended() || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = error {
            return Poll::Ready(Err(error.into()));
        }
        wait(&mut lane.reader, cx);
        Poll::Pending
    }

    /// Writes at `side`, whose end is alive and without an error.
    pub(super) fn lane_write(
        &mut self,
        key: Key,
        side: usize,
        cx: &Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(lane) = self.conns.get_mut(key).and_then(|conn| conn.lane(side)) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if lane.sender.is_ending() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let accepted = lane.room().min(buf.len() as u64);
        if accepted == 0 && !buf.is_empty() {
            wait(&mut lane.writer, cx);
            return Poll::Pending;
        }
        lane.payload
            .write(lane.sender.written(), &buf[..accepted as usize]);
        self.act(key, side, |sender, now, out| {
            sender.write(now, accepted, &mut |segment| out.push(segment));
        });
        Poll::Ready(Ok(accepted as usize))
    }

    /// The writer at `side` has ended.
    pub(super) fn lane_finish(&mut self, key: Key, side: usize) {
        self.act(key, side, |sender, now, out| {
            if !sender.is_ending() {
                sender.finish(now, &mut |segment| out.push(segment));
            }
        });
    }

    /// Lets the sender at `side` act, and sends what it gives.
    fn act(&mut self, key: Key, side: usize, act: impl FnOnce(&mut Sender, u64, &mut Vec<Segment>)) {
        let now = self.now;
        let mut out = std::mem::take(&mut self.segments_out);
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let host = conn.ends[side].host;
        let Some(lane) = conn.lane(side) else { return };
        act(&mut lane.sender, now, &mut out);
        if let Some(at) = lane.sender.timer_ns()
            && at < lane.sender_due
        {
            lane.sender_due = at;
            self.step(host, at, key, side, Step::SenderTimer);
        }
        for segment in out.drain(..) {
            self.net.counters.retransmitted += u64::from(segment.again);
            self.send(key, side, Load::Segment(segment));
        }
        self.segments_out = out;
    }

    /// Sends what the receiver at `side` answers, if anything, and sees to its timer.
    fn acknowledge(&mut self, key: Key, side: usize, ack: Option<Ack>) {
        if let Some(ack) = ack {
            self.send(key, side, ack.into());
        }
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let host = conn.ends[side].host;
        let Some(lane) = conn.lane(1 - side) else { return };
        if let Some(at) = lane.receiver.timer_ns()
            && at < lane.receiver_due
        {
            lane.receiver_due = at;
            self.step(host, at, key, 1 - side, Step::ReceiverTimer);
        }
    }

    /// Puts a packet of the end `side` on its way.
    fn send(&mut self, key: Key, side: usize, mut load: Load) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let (end, other) = (&conn.ends[side], &conn.ends[1 - side]);
        let (from, to) = (end.host, other.host);
        let (src, dst) = (end.address.into(), other.address.into());
        let first_ms = conn.first_stamp_ms(1 - side);
        let Some(lanes) = &mut conn.lanes else { return };
        let incoming = &lanes[1 - side].receiver;
        let (expected, room) = (
            incoming.next(),
            incoming.window_end().saturating_sub(incoming.next()),
        );
        // What the end heard last: data, an acknowledgement (which the segment knows), or the handshake.
        let mut echo_ms = incoming.echo_ms().max(first_ms);
        if let Load::Segment(segment) = &mut load {
            echo_ms = echo_ms.max(segment.echo_ms);
            segment.echo_ms = echo_ms;
        }
        let options = if self.net.tap.is_some() {
            options(self.now, &load, echo_ms)
        } else {
            Options::default()
        };
        let lane = &mut lanes[side];
        let mut tcp = Tcp {
            seq: (lane.sender.next() as u32).wrapping_add(1),
            ack: (expected as u32).wrapping_add(1),
            window: u32::try_from(room).unwrap_or(u32::MAX),
            ..Tcp::default()
        };
        let (payload, kind, again) = match &load {
            Load::Segment(segment) => {
                let payload = lane.payload.cut(segment.seq, segment.len.into());
                tcp.seq = (segment.seq as u32).wrapping_add(1);
                (tcp.fin, tcp.push) = (segment.fin, segment.push);
                (payload, Kind::Data, segment.again)
            }
            _ => (Bytes::new(), Kind::Ack, false),
        };
        let sending = Sending {
            from,
            to,
            src,
            dst,
            protocol: Protocol::Tcp,
            kind,
            payload: &payload,
            name: None,
            flow: conn.flow,
            tcp,
            options,
            // What is sent again does not follow what was sent last.
            tail: (!again).then_some(&mut lane.tail),
        };
        match self.net.transmit(self.now, sending) {
            Fate::Arrives(
                Arrival {
                    ns: mut at,
                    overtaken,
                    twice,
                },
                mut watched,
            ) => {
                if !overtaken {
                    at = at.max(lane.arrival_last);
                    lane.arrival_last = at;
                }
                let landing = self.net.fixed.is_none() && from != to;
                if !landing {
                    self.net.arrives(at, watched.take());
                }
                let packet = Packet {
                    conn: Some(key),
                    side: side as u8,
                    load,
                    watched,
                };
                let again = twice.then(|| packet.again());
                for packet in std::iter::once(packet).chain(again) {
                    let packet = self.packets.insert(packet);
                    self.schedule(from, at, Happening::Packet { packet, landing });
                }
            }
            Fate::Reset(ends) => self.reset_ends(key, ends),
            _ => {}
        }
    }

    /// A packet is at the access link of its receiver, or through it.
    pub(super) fn packet_step(&mut self, packet: Key, landing: bool) {
        let Some(found) = self.packets.get_mut(packet) else {
            return;
        };
        let (side, watched) = (usize::from(found.side), found.watched.take());
        let len = match &found.load {
            Load::Segment(segment) => segment.len,
            _ => 0,
        };
        let conn = found.conn.and_then(|key| Some((key, self.conns.get(key)?)));
        let Some((key, conn)) = conn else {
            self.packets.remove(packet);
            return;
        };
        if landing {
            let (from, to) = (conn.ends[side].host, conn.ends[1 - side].host);
            match self.net.land(self.now, to, len.into()) {
                Some(Arrival { ns: at, twice, .. }) => {
                    self.net.arrives(at, watched);
                    let again = self.packets.get_mut(packet).filter(|_| twice);
                    let again = again.map(|packet| packet.again());
                    let again = again.map(|packet| self.packets.insert(packet));
                    for packet in std::iter::once(packet).chain(again) {
                        let landing = false;
                        self.schedule(from, at, Happening::Packet { packet, landing });
                    }
                }
                None => drop(self.packets.remove(packet)),
            }
            return;
        }
        let Some(Packet { load, .. }) = self.packets.remove(packet) else {
            return;
        };
        let end = &conn.ends[1 - side];
        let (host, incarnation, open, accepted) = (end.host, end.incarnation, end.open, conn.accepted);
        if !self.net.hosts[host as usize].up {
            self.net.counters.unroutable += 1;
            return;
        }
        if self.net.hosts[host as usize].incarnation != incarnation {
            return self.send_reset(key, 1 - side);
        }
        if side == 0 && !accepted {
            self.accept(key);
        }
        match load {
            Load::None => {}
            Load::Segment(segment) if !open && segment.len > 0 => self.send_reset(key, 1 - side),
            Load::Segment(segment) => self.segment_is_there(key, side, &segment),
            Load::Ack {
                next,
                room,
                sacks,
                stamp_ms,
                echo_ms,
            } => {
                let (sacks, sack_count) = sacks.map(|sacks| *sacks).unwrap_or_default();
                let ack = Ack {
                    next,
                    window_end: next + u64::from(room),
                    sacks,
                    sack_count,
                    stamp_ms,
                    echo_ms,
                };
                self.ack_is_there(key, 1 - side, &ack);
            }
        }
    }

    fn segment_is_there(&mut self, key: Key, side: usize, segment: &Segment) {
        let now = self.now;
        let Some(lane) = self.conns.get_mut(key).and_then(|conn| conn.lane(side)) else {
            return;
        };
        let before = (lane.receiver.unread(), lane.receiver.ended());
        let ack = lane.receiver.segment(now, segment);
        if before != (lane.receiver.unread(), lane.receiver.ended())
            && let Some(reader) = lane.reader.take()
        {
            reader.wake();
        }
        self.acknowledge(key, 1 - side, ack);
    }

    /// What the end `side` sent is acknowledged.
    fn ack_is_there(&mut self, key: Key, side: usize, ack: &Ack) {
        self.act(key, side, |sender, now, out| {
            sender.ack(now, ack, &mut |segment| out.push(segment));
        });
        let Some(lane) = self.conns.get_mut(key).and_then(|conn| conn.lane(side)) else {
            return;
        };
        let done = lane.sender.una().min(lane.receiver.first_unread());
        lane.payload.release(done);
        if lane.room() > 0
            && let Some(writer) = lane.writer.take()
        {
            writer.wake();
        }
    }

    /// The timer of the sender at `side`.
    pub(super) fn sender_timer(&mut self, key: Key, side: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let (host, incarnation, error) = (
            conn.ends[side].host,
            conn.ends[side].incarnation,
            conn.ends[side].error,
        );
        let Some(lane) = conn.lane(side) else { return };
        if lane.sender_due != now {
            return;
        }
        lane.sender_due = u64::MAX;
        if lane.sender.retries() >= RETRIES {
            return self.fail(key, side, io::ErrorKind::TimedOut);
        }
        // A crashed host sends nothing, and a stream that failed is over.
        if error.is_none() && self.current(host, incarnation) {
            self.act(key, side, |sender, now, out| {
                sender.timer(now, &mut |segment| out.push(segment))
            });
        }
    }

    /// The timer of the receiver of lane `side`.
    pub(super) fn receiver_timer(&mut self, key: Key, side: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let (host, incarnation) = (conn.ends[1 - side].host, conn.ends[1 - side].incarnation);
        let Some(lane) = conn.lane(side) else { return };
        if lane.receiver_due != now {
            return;
        }
        lane.receiver_due = u64::MAX;
        let ack = lane.receiver.timer(now);
        if self.current(host, incarnation) {
            self.acknowledge(key, 1 - side, ack);
        }
    }
}

/// What is in the options of a segment; its end saw `echo_ms` last.
fn options(now_ns: u64, load: &Load, echo_ms: u32) -> Options {
    let number = |place: u64| (place as u32).wrapping_add(1);
    let mut options = Options {
        stamps_ms: Some((stamp_ms(now_ns), echo_ms)),
        ..Options::default()
    };
    match load {
        Load::None => {}
        Load::Segment(segment) => options.stamps_ms = Some((segment.stamp_ms, echo_ms)),
        Load::Ack { sacks, .. } => {
            let blocks = sacks.iter().flat_map(|sacks| &sacks.0[..usize::from(sacks.1)]);
            for (place, block) in options.sacks.iter_mut().zip(blocks) {
                *place = Some((number(block.start), number(block.end)));
            }
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is cut, read and released, the bytes are those that were written.
        #[test]
        fn payload_is_what_was_written(
            writes in prop::collection::vec(0_usize..40_000, 1..8),
            steps in prop::collection::vec((any::<u16>(), 0_usize..3_000, any::<u16>()), 1..40),
        ) {
            let mut payload = Payload::default();
            let mut all = Vec::new();
            for (n, len) in writes.iter().enumerate() {
                let bytes: Vec<u8> = (0..*len).map(|i| (i * 7 + n) as u8).collect();
                payload.write(all.len() as u64, &bytes);
                all.extend_from_slice(&bytes);
            }
            let (mut acknowledged, mut from) = (0, 0);
            for (at, len, available) in steps {
                let mut space = [0; 5_000];
                let mut buf = ReadBuf::new(&mut space);
                let read = payload.read(from as u64, u64::from(available) % 9_000, &mut buf) as usize;
                prop_assert_eq!(buf.filled(), &all[from..from + read]);
                from += read;
                acknowledged = (acknowledged + u64::from(at) % 3_000).min(all.len() as u64);
                payload.release(acknowledged.min(from as u64));
                let start = (acknowledged as usize + usize::from(at) % 5_000).min(all.len());
                let len = len.min(all.len() - start);
                prop_assert_eq!(&payload.cut(start as u64, len)[..], &all[start..start + len]);
            }
        }
    }
}
