//! The border: the seam at which a censor sees packets and decides about them.
//!
//! Hosts are inside or outside. Every packet between the two sides (stream segments with their handshakes, datagrams,
//! DNS queries and answers) is handed to the world's [`Middlebox`] when it enters the network, with the bytes that a real
//! observer would read.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use phantom_core::units::Instant;

/// What carries a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A segment of a stream.
    Tcp,
    /// A datagram.
    Udp,
    /// A DNS query or answer over UDP.
    Dns,
}

/// Which way a packet crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From inside to outside.
    Outbound,
    /// From outside to inside.
    Inbound,
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Opens a stream.
    Syn,
    /// Answers a [`Kind::Syn`].
    SynAck,
    /// Ends a handshake, or acknowledges data.
    Ack,
    /// Bytes of a stream, possibly its end.
    Data,
    /// Refuses or ends a stream.
    Reset,
    /// A datagram.
    Datagram,
    /// A DNS query.
    Query,
    /// A DNS answer.
    Answer,
}

/// A packet as an observer at the border sees it.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When it was sent.
    pub at: Instant,
    /// Its source, outside of any NAT.
    pub src: SocketAddr,
    /// Its destination, outside of any NAT.
    pub dst: SocketAddr,
    /// What carries it.
    pub protocol: Protocol,
    /// Which way it crosses.
    pub direction: Direction,
    /// What it is for.
    pub kind: Kind,
    /// The bytes above TCP or UDP.
    pub payload: Bytes,
    /// The name in a DNS query or answer.
    pub name: Option<Arc<str>>,
    /// The same number for all packets of a stream, or of a pair of UDP endpoints.
    pub flow: u64,
    /// What a stream's segment has in its header; of no meaning for others.
    pub tcp: Tcp,
}

/// Fields of a TCP header. Sequence numbers of each direction begin with 0, which the SYN takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// The first byte's number.
    pub seq: u32,
    /// The next number that its sender waits for. 0 where streams are [`Plain`](super::StreamModel::Plain).
    pub ack: u32,
    /// Bytes that its sender takes beyond that; the same holds.
    pub window: u32,
    /// It ends the direction.
    pub fin: bool,
    /// Its sender has nothing more at the moment.
    pub push: bool,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is lost without a sign.
    Drop,
    /// It is lost, and these ends of its stream get a reset; a datagram is dropped.
    Reset {
        /// The end that dialled.
        client: bool,
        /// The end that was dialled.
        server: bool,
    },
    /// A DNS query is answered from here; anything else passes.
    ForgeDns {
        /// With these addresses; none: there is no such name.
        addresses: Vec<IpAddr>,
        /// Whether the query goes on as well, and the true answer comes behind the lie. Otherwise it is lost.
        truth_follows: bool,
    },
    /// It goes on later.
    Delay(Duration),
}

/// What stands at the border.
pub trait Middlebox: Send {
    /// Decides about a packet that crosses. It must not use the world or a handle: their state is borrowed meanwhile.
    fn on_packet(&mut self, now: Instant, packet: &Packet) -> Verdict;
}

/// Watches what crosses, and what the middlebox says of it; a cut border drops everything.
pub trait Tap: Send {
    /// A packet came to the border. It must not use the world or a handle: their state is borrowed meanwhile.
    fn on_packet(&mut self, packet: &Packet, verdict: &Verdict);
}

/// A middlebox that others hold too: a scenario reads its counters and changes its lists.
impl<M: Middlebox> Middlebox for Arc<Mutex<M>> {
    fn on_packet(&mut self, now: Instant, packet: &Packet) -> Verdict {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .on_packet(now, packet)
    }
}

/// How much crossed the border.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BorderCounters {
    /// Packets that came to the border.
    pub packets: u64,
    /// Bytes in them, without headers.
    pub bytes: u64,
    /// Dropped by the middlebox or a cut.
    pub dropped: u64,
    /// Streams reset by the middlebox.
    pub reset: u64,
    /// DNS answers forged.
    pub forged: u64,
    /// Packets delayed by the middlebox.
    pub delayed: u64,
}
