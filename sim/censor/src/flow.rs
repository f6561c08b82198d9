//! Packets gathered into flows, within a budget.
//!
//! A flow is a 5-tuple from its first packet until it is idle too long, its ports are used anew, or it is forgotten to make
//! room. Its client is the sender of the SYN; where no SYN is seen, the sender of the first packet, unless that comes from a port
//! for services (below 1024) and goes to another. Of each direction the first bytes are kept as the receiver would get them: in order, each once. A segment that comes too early is
//! not kept and marks the flow as having a gap; what follows the gap is not kept either.
//!
//! Flows are held in ordered maps: nothing depends on a hash, neither the output's order nor, for a hostile capture, the
//! time that it takes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::classify::fet::Measured;
use crate::classify::{FirstBytes, Labels, Transport};
use crate::packet::{Header, Packet, TcpFlags};

/// Ports below this one are for services.
const SYSTEM_PORTS_END: u16 = 1024;

/// Bounds of a table. Where 0 makes no sense it counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowConfig {
    /// Flows at once; default 65,536. One more and the flow that was idle longest is forgotten.
    pub flows_max: usize,
    /// A flow without packets for longer than this is over; default 120 s. Nanoseconds.
    pub idle_ns: u64,
    /// Bytes that are kept from the client; default 4096: hellos with post-quantum keys pass 2 KiB.
    pub client_bytes_max: usize,
    /// Bytes that are kept from the server; default 512.
    pub server_bytes_max: usize,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            flows_max: 65_536,
            idle_ns: 120_000_000_000,
            client_bytes_max: 4096,
            server_bytes_max: 512,
        }
    }
}

/// Why a flow is over. One that both sides closed or one aborted is [`End::Closed`], however it left the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A FIN of each side or a RST was seen.
    Closed,
    /// No packet for the idle time.
    Idle,
    /// Another connection began on the same addresses and ports.
    Reused,
    /// There was no room: what is told of it may be less than all.
    Forgotten,
    /// The capture ended.
    Capture,
}

impl End {
    /// As results write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Reused => "reused",
            Self::Forgotten => "forgotten",
            Self::Capture => "capture",
        }
    }
}

/// One direction of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Packets, acknowledgements and retransmissions too.
    pub packets: u64,
    /// Bytes of payload on the wire, retransmissions too.
    pub bytes: u64,
    /// Boxed: of most flows nothing is kept.
    opening: Option<Box<Opening>>,
    /// A segment was missing, or cut when it was captured, before the first bytes were all there.
    pub gap: bool,
    /// A FIN was seen.
    pub fin: bool,
    /// A RST was seen.
    pub rst: bool,
    next_seq: Option<u32>,
}

/// How one direction began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Opening {
    first: Vec<u8>,
    first_packet_len: u32,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// From 0, in the order of first packets.
    pub number: u64,
    /// What it runs over.
    pub transport: Transport,
    /// Its two ends, as the table knows it by them; `from_low`: the client is the lower one.
    key: Key,
    from_low: bool,
    /// The client's SYN was seen, so that its first bytes are the connection's.
    pub syn: bool,
    /// Time of the first packet in nanoseconds since 1970.
    pub first_ns: u64,
    /// Time of the last packet.
    pub last_ns: u64,
    /// From client to server.
    pub up: Side,
    /// From server to client.
    pub down: Side,
    /// What the rule on fully encrypted traffic needs of the first data packet of the client. Boxed: most flows have none.
    pub fet: Option<Box<Measured>>,
    /// Why it is over.
    pub end: Option<End>,
    isn: Option<u32>,
    /// Its first bytes are kept.
    kept: bool,
}

impl Flow {
    fn new(number: u64, at_ns: u64, packet: &Packet<'_>) -> Self {
        let (source, destination) = (packet.source.port(), packet.destination.port());
        let answers = match packet.header {
            Header::Tcp { flags, .. } if flags.syn => flags.ack,
            // Its beginning was not seen: services are at the ports that the system keeps for them (RFC 6335 §6).
            _ => source < SYSTEM_PORTS_END && destination >= SYSTEM_PORTS_END,
        };
        let client = if answers {
            packet.destination
        } else {
            packet.source
        };
        let key = Key::of(packet);
        Self {
            number,
            transport: transport(packet),
            from_low: key.low() == client,
            key,
            syn: false,
            first_ns: at_ns,
            last_ns: at_ns,
            up: Side::default(),
            down: Side::default(),
            fet: None,
            end: None,
            isn: None,
            kept: true,
        }
    }

    /// Who began.
    pub fn client(&self) -> SocketAddr {
        if self.from_low {
            self.key.low()
        } else {
            self.key.high()
        }
    }

    /// The other.
    pub fn server(&self) -> SocketAddr {
        if self.from_low {
            self.key.high()
        } else {
            self.key.low()
        }
    }

    /// The first bytes of the client.
    pub fn first_bytes(&self) -> FirstBytes<'_> {
        FirstBytes {
            transport: self.transport,
            stream: self.up.first(),
            first_packet_len: self.up.first_packet().len(),
            fet: self.measured(),
        }
    }

    /// The same as `fet`.
    pub fn measured(&self) -> Option<Measured> {
        self.fet.as_deref().copied()
    }

    /// What all classifiers say of it.
    pub fn labels(&self) -> Labels {
        Labels::of(&self.first_bytes())
    }

    /// Whether its ends said that it is over: a FIN from both, or a RST from one. Packets may still come.
    pub const fn is_closed(&self) -> bool {
        self.up.rst || self.down.rst || (self.up.fin && self.down.fin)
    }

    fn add(&mut self, at_ns: u64, packet: &Packet<'_>, config: &FlowConfig) {
        self.last_ns = self.last_ns.max(at_ns);
        let from_client = packet.source == self.client();
        let (side, max) = if from_client {
            (&mut self.up, config.client_bytes_max)
        } else {
            (&mut self.down, config.server_bytes_max)
        };
        side.packets += 1;
        side.bytes += u64::from(packet.payload_len);
        let new = match packet.header {
            Header::Udp => packet.payload,
            Header::Tcp { flags, seq, .. } => {
                side.fin |= flags.fin;
                side.rst |= flags.rst;
                if flags.syn && from_client && !flags.ack {
                    self.syn = true;
                    self.isn = Some(seq);
                }
                side.in_order(flags, seq, packet)
            }
        };
        if new.is_empty() || !self.kept {
            return;
        }
        let opening = side.opening.get_or_insert_default();
        if opening.first.is_empty() {
            // A packet's, at most 64 KiB.
            opening.first_packet_len = new.len().min(max) as u32;
            if from_client && self.transport == Transport::Tcp {
                self.fet = Measured::of(new).map(Box::new);
            }
        }
        let room = max - opening.first.len().min(max);
        opening.first.extend_from_slice(&new[..new.len().min(room)]);
    }

    /// The same, over.
    fn over(mut self, end: End) -> Self {
        self.end = Some(if self.is_closed() { End::Closed } else { end });
        self
    }

    /// Whether a packet begins another connection on the same addresses and ports.
    fn is_reused_by(&self, packet: &Packet<'_>) -> bool {
        let Header::Tcp { flags, seq, .. } = packet.header else {
            return false;
        };
        if !flags.syn || flags.ack {
            return false;
        }
        let begun = self.up.bytes + self.down.bytes > 0;
        if packet.source == self.client() {
            // The same number again is a retransmission.
            self.isn.map_or(begun, |isn| isn != seq)
        } else {
            // From the other side it is a simultaneous open, unless that connection is over or its client was only guessed.
            [&self.up, &self.down].iter().any(|side| side.fin || side.rst) || (self.isn.is_none() && begun)
        }
    }
}

impl Side {
    /// The first bytes, in order; none where they are not kept.
    pub fn first(&self) -> &[u8] {
        self.opening.as_ref().map_or(&[], |opening| &opening.first)
    }

    /// How much of them is the first packet with a payload.
    pub fn first_packet(&self) -> &[u8] {
        let Some(opening) = &self.opening else { return &[] };
        &opening.first[..opening.first.len().min(opening.first_packet_len as usize)]
    }

    /// What of a segment's payload is new and follows what is there.
    fn in_order<'a>(&mut self, flags: TcpFlags, seq: u32, packet: &Packet<'a>) -> &'a [u8] {
        // A SYN takes a number of its own; data may follow it at once (TCP Fast Open).
        let seq = if flags.syn { seq.wrapping_add(1) } else { seq };
        if flags.rst || packet.payload_len == 0 {
            if flags.syn {
                self.next_seq = Some(seq);
            }
            return &[];
        }
        let next = *self.next_seq.get_or_insert(seq);
        // How far the segment begins before what is expected; as a signed number, since sequence numbers wrap.
        let behind = next.wrapping_sub(seq).cast_signed();
        let Ok(known) = usize::try_from(behind) else {
            self.gap = true;
            return &[];
        };
        let new_on_wire = (packet.payload_len as usize).saturating_sub(known);
        if new_on_wire == 0 {
            return &[];
        }
        let new = packet.payload.get(known..).unwrap_or_default();
        if new.len() < new_on_wire {
            // The capture cut it: what follows would not follow. The place stays where the capture's bytes end.
            self.gap = true;
        }
        self.next_seq = Some(next.wrapping_add(new.len() as u32));
        new
    }
}

/// The two ends in an order that does not depend on who sends.
///
/// Bytes rather than numbers: a table of many flows holds many keys, and 16-byte numbers would fill them up with nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    ports: [u8; 4],
    low: [u8; 16],
    high: [u8; 16],
    kind: u8,
}

/// Ports, low and high end and kind of one between IPv4 ends.
type KeyV4 = ([u8; 4], [u8; 4], [u8; 4], u8);

/// In a key's `kind`.
const IPV6: u8 = 2;

impl Key {
    fn of(packet: &Packet<'_>) -> Self {
        Self::new(transport(packet), packet.source, packet.destination)
    }

    fn new(transport: Transport, one: SocketAddr, other: SocketAddr) -> Self {
        let bits = |address: SocketAddr| {
            let ip = match address.ip() {
                IpAddr::V4(ip) => u128::from(ip.to_bits()),
                IpAddr::V6(ip) => ip.to_bits(),
            };
            (ip.to_be_bytes(), address.port().to_be_bytes())
        };
        let (one_bits, other_bits) = (bits(one), bits(other));
        let (low, high) = (one_bits.min(other_bits), one_bits.max(other_bits));
        Self {
            ports: [low.1[0], low.1[1], high.1[0], high.1[1]],
            low: low.0,
            high: high.0,
            kind: if one.is_ipv6() { IPV6 } else { 0 } | u8::from(transport == Transport::Udp),
        }
    }

    /// The same in fewer bytes.
    fn v4(&self) -> Option<KeyV4> {
        let last = |ip: &[u8; 16]| [ip[12], ip[13], ip[14], ip[15]];
        (self.kind & IPV6 == 0).then(|| (self.ports, last(&self.low), last(&self.high), self.kind))
    }

    fn low(&self) -> SocketAddr {
        self.end(self.low, [self.ports[0], self.ports[1]])
    }

    fn high(&self) -> SocketAddr {
        self.end(self.high, [self.ports[2], self.ports[3]])
    }

    fn end(&self, ip: [u8; 16], port: [u8; 2]) -> SocketAddr {
        let bits = u128::from_be_bytes(ip);
        let ip = match self.kind & IPV6 {
            0 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        SocketAddr::new(ip, u16::from_be_bytes(port))
    }
}

/// Where the flow between two ends is. Those of IPv4 stand in a tree of their own: nearly all are, and a third of the bytes tells
/// them apart.
#[derive(Default)]
struct Places {
    v4: BTreeMap<KeyV4, u32>,
    v6: BTreeMap<Key, u32>,
}

impl Places {
    fn get(&self, key: &Key) -> Option<u32> {
        match key.v4() {
            Some(key) => self.v4.get(&key).copied(),
            None => self.v6.get(key).copied(),
        }
    }

    fn insert(&mut self, key: Key, slot: u32) {
        match key.v4() {
            Some(key) => self.v4.insert(key, slot),
            None => self.v6.insert(key, slot),
        };
    }

    fn remove(&mut self, key: &Key) {
        match key.v4() {
            Some(key) => self.v4.remove(&key),
            None => self.v6.remove(key),
        };
    }

    fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    fn slots(&self) -> impl Iterator<Item = u32> {
        self.v4.values().chain(self.v6.values()).copied()
    }
}

/// Flows that are going on.
pub struct FlowTable {
    config: FlowConfig,
    places: Places,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The ends of the list from the flow that was idle longest to the one that was just used.
    oldest: u32,
    newest: u32,
    now_ns: u64,
    flows: u64,
    forgotten: u64,
}

struct Slot {
    /// `None` if the slot is free. Boxed: a flow is large, and slots move when there come to be more.
    flow: Option<Box<Flow>>,
    older: u32,
    newer: u32,
}

const NONE: u32 = u32::MAX;

impl FlowTable {
    /// A table without flows.
    pub fn new(config: FlowConfig) -> Self {
        Self {
            config: FlowConfig {
                flows_max: config.flows_max.clamp(1, NONE as usize),
                client_bytes_max: config.client_bytes_max.max(1),
                server_bytes_max: config.server_bytes_max.max(1),
                ..config
            },
            places: Places::default(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            now_ns: 0,
            flows: 0,
            forgotten: 0,
        }
    }

    /// Adds a packet that was captured at `at_ns` and hands out the flows that are over now, in the order of their last
    /// packets. Times that go back count as the latest so far.
    /// Returns where the packet's flow is kept, for [`FlowTable::flow`].
    pub fn add(&mut self, at_ns: u64, packet: &Packet<'_>, over: impl FnMut(Flow)) -> u32 {
        self.add_keeping(at_ns, packet, |_| true, over)
    }

    /// The same; `keeps` says of a flow that begins whether its first bytes are to be kept.
    pub fn add_keeping(
        &mut self,
        at_ns: u64,
        packet: &Packet<'_>,
        keeps: impl FnOnce(&Flow) -> bool,
        mut over: impl FnMut(Flow),
    ) -> u32 {
        self.now_ns = self.now_ns.max(at_ns);
        while let Some(flow) = self.flow(self.oldest)
            && self.now_ns - flow.last_ns > self.config.idle_ns
        {
            self.remove(self.oldest, End::Idle, &mut over);
        }
        let key = Key::of(packet);
        let mut slot = self.places.get(&key);
        if let Some(known) = slot
            && self.flow(known).is_some_and(|flow| flow.is_reused_by(packet))
        {
            self.remove(known, End::Reused, &mut over);
            slot = None;
        }
        let slot = match slot {
            Some(slot) => {
                self.unlink(slot);
                slot
            }
            None => {
                if self.places.len() >= self.config.flows_max {
                    let closed = self.flow(self.oldest).is_some_and(Flow::is_closed);
                    self.forgotten += u64::from(!closed);
                    self.remove(self.oldest, End::Forgotten, &mut over);
                }
                let slot = self.insert(key, packet);
                if let Some(flow) = self.flow_mut(slot) {
                    flow.kept = keeps(flow);
                }
                slot
            }
        };
        self.link(slot);
        let (now_ns, config) = (self.now_ns, self.config);
        if let Some(flow) = self.flow_mut(slot) {
            flow.add(now_ns, packet, &config);
        }
        slot
    }

    /// Ends the table: hands out all flows that are left, in the order of their first packets.
    pub fn finish(mut self, mut over: impl FnMut(Flow)) {
        // Flows are large, so their places are sorted.
        let slots = self.places.slots();
        let mut left: Vec<(u64, u32)> = slots
            .filter_map(|slot| Some((self.flow(slot)?.number, slot)))
            .collect();
        left.sort_unstable();
        for (_, slot) in left {
            if let Some(flow) = self.slots[slot as usize].flow.take() {
                over(flow.over(End::Capture));
            }
        }
    }

    /// Flows that are going on.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether no flow is going on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows that were ever in the table.
    pub const fn flows(&self) -> u64 {
        self.flows
    }

    /// Flows that were forgotten to make room before they were closed.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The flow that is kept there.
    pub fn flow(&self, slot: u32) -> Option<&Flow> {
        self.slots.get(slot as usize)?.flow.as_deref()
    }

    fn flow_mut(&mut self, slot: u32) -> Option<&mut Flow> {
        self.slots.get_mut(slot as usize)?.flow.as_deref_mut()
    }

    /// The first bytes of the flow that is kept there are not needed any more.
    pub(crate) fn let_go(&mut self, slot: u32) {
        if let Some(flow) = self.flow_mut(slot) {
            flow.kept = false;
            flow.up.opening = None;
            flow.down.opening = None;
        }
    }

    /// Forgets the flow that is kept there, as if it had never begun.
    pub(crate) fn take_out(&mut self, slot: u32) -> Option<Flow> {
        let mut taken = None;
        if self.flow(slot).is_some() {
            self.remove(slot, End::Forgotten, &mut |flow| taken = Some(flow));
        }
        taken
    }

    fn insert(&mut self, key: Key, packet: &Packet<'_>) -> u32 {
        let flow = Flow::new(self.flows, self.now_ns, packet);
        self.flows += 1;
        let new = Slot {
            flow: Some(Box::new(flow)),
            older: NONE,
            newer: NONE,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = new;
                slot
            }
            None => {
                self.slots.push(new);
                // At most as many as flows, and their bound is one of this type.
                (self.slots.len() - 1) as u32
            }
        };
        self.places.insert(key, slot);
        slot
    }

    fn remove(&mut self, slot: u32, end: End, over: &mut impl FnMut(Flow)) {
        self.unlink(slot);
        self.free.push(slot);
        if let Some(flow) = self.slots[slot as usize].flow.take() {
            self.places.remove(&flow.key);
            over(flow.over(end));
        }
    }

    /// Takes a slot out of the list.
    fn unlink(&mut self, slot: u32) {
        let Slot { older, newer, .. } = self.slots[slot as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }

    /// Puts a slot at the list's newer end.
    fn link(&mut self, slot: u32) {
        let older = std::mem::replace(&mut self.newest, slot);
        self.slots[slot as usize].older = older;
        self.slots[slot as usize].newer = NONE;
        match older {
            NONE => self.oldest = slot,
            older => self.slots[older as usize].newer = slot,
        }
    }
}

fn transport(packet: &Packet<'_>) -> Transport {
    match packet.header {
        Header::Tcp { .. } => Transport::Tcp,
        Header::Udp => Transport::Udp,
    }
}

#[cfg(test)]
mod tests;
