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

use crate::host::PeerId;

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

impl Direction {
    /// The other way.
    pub const fn reverse(self) -> Self {
        match self {
            Self::Outbound => Self::Inbound,
            Self::Inbound => Self::Outbound,
        }
    }
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

/// A packet as a capture has it: with what a middlebox does not look at.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The packet. Its direction is of no meaning where its ends are on the same side.
    pub packet: Packet,
    /// The hosts that it goes from and to; the same twice: a resolver sends it on behalf of a host, or gets it.
    pub ends: [PeerId; 2],
    /// TCP's options.
    pub options: Options,
}

/// TCP options of a segment, but for those that are the same in every handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Time stamps in milliseconds (RFC 7323), the sender's and the one that it echoes; `None` where streams are
    /// [`Plain`](super::StreamModel::Plain), and in a reset.
    pub stamps_ms: Option<(u32, u32)>,
    /// What arrived out of order (RFC 2018), as sequence numbers of the first byte and of the one after the last.
    pub sacks: [Option<(u32, u32)>; 3],
}

/// Where a packet is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// Before the middlebox, which says this of it; a cut border drops everything.
    Border(&'a Verdict),
    /// Behind the middlebox: it goes on. Its own packets begin here.
    Behind {
        /// The middlebox made it.
        forged: bool,
    },
    /// A host puts it on its access link; it is lost later or not.
    Leaving(PeerId),
    /// It is through a host's access link, whether or not the host is powered.
    Arriving(PeerId),
}

/// Watches packets.
pub trait Tap: Send {
    /// Whether it is told what this host sends and what arrives there.
    fn watches(&self, host: PeerId) -> bool;

    /// A packet is at `place` at `at`, which may be later than what is told next: it is told when that time is certain. The tap
    /// must not use the world or a handle: their state is borrowed meanwhile.
    fn on_packet(&mut self, at: Instant, place: &Place<'_>, seen: &Seen);
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
