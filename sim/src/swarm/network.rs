//! The way of a packet: access link of the sender, border, distance, access link of the receiver.
//!
//! State is per host and per active flow; there is none per pair of hosts.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;
use phantom_core::units::{Instant, Probability};

use super::access::{AccessWay, Arrival, Dropped};
use super::border::{BorderCounters, Kind, Middlebox, Options, Protocol, Tap, Tcp, Verdict};
use super::leak::{Hit, Leaks, Tail};
use super::nat::Nat;
use super::topology::{AsId, Delays, HostSpec, Way};
use super::watch::Watched;
use super::world::State;
use crate::host::record::{Leak, mix};
use crate::host::{Disk, PeerId, Spill, Streams, Wall};

/// Delay of the loopback, so that nothing happens in no time.
pub(crate) const LOOPBACK_NS: u64 = 20_000;
/// Where recursion begins: a.root-servers.net.
const ROOT_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)), 53);
/// Bytes of IP and TCP or UDP headers in front of each MTU-sized packet, Ethernet included.
const HEADERS: u64 = 66;
/// Payload of one packet on the wire.
const SEGMENT: u64 = 1_448;

/// A hasher for tables that are looked up and never iterated: FNV-1a over words of eight bytes, without a random key.
#[derive(Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        // FNV leaves its high bits weak, and the table looks at those.
        mix(0, self.0)
    }
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01B3);
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

pub(crate) type Table<K, V> = IndexMap<K, V, std::hash::BuildHasherDefault<Fnv>>;

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Host(u32),
    Nat(u32),
}

/// In this order: the first line of the cache is what every event at the host reads, the second begins with what a dial
/// reads at either end, and the pipes follow, which are read where links are modelled.
#[repr(C, align(64))]
pub(crate) struct Host {
    /// Events that it has caused: their order within an instant.
    pub(crate) caused: u64,
    /// SplitMix64 state for jitter and loss of its packets.
    pub(crate) dice: u64,
    pub(crate) incarnation: u32,
    pub(crate) tasks: Option<super::slab::Key>,
    pub(crate) nat: Option<u32>,
    pub(crate) system: AsId,
    pub(crate) next_port: u16,
    /// Powered: between a start and a crash.
    pub(crate) up: bool,
    pub(crate) linked: bool,
    pub(crate) inside: bool,

    pub(crate) loss: Probability,
    pub(crate) jitter_ns: u64,

    pub(crate) listeners: Vec<(Option<IpAddr>, u16, super::slab::Key)>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) uplink: AccessWay,
    pub(crate) downlink: AccessWay,
    pub(crate) sockets: Vec<(Option<IpAddr>, u16, super::slab::Key)>,
    pub(crate) name: Box<str>,
    pub(crate) disk: Disk,
    pub(crate) streams: Streams,
    pub(crate) wall: Wall,
    pub(crate) resolver: Option<IpAddr>,
}

const _: () = assert!(offset_of!(Host, jitter_ns) < 64 && offset_of!(Host, listeners) == 64);

impl Host {
    pub(crate) fn new(spec: HostSpec, nat: Option<u32>, seed: u64, id: u32, spill: Arc<Spill>) -> Self {
        Self {
            name: spec.name.into_boxed_str(),
            system: spec.system,
            inside: spec.inside,
            up: false,
            linked: true,
            incarnation: 0,
            caused: 0,
            dice: mix(mix(seed, 0x6E65_7477), u64::from(id)),
            addresses: spec.addresses,
            nat,
            resolver: spec.resolver,
            loss: spec.access.loss,
            jitter_ns: nanos(spec.access.jitter),
            uplink: AccessWay::new(&spec.access, spec.access.up, mix(seed, u64::from(id) << 1)),
            downlink: AccessWay::new(&spec.access, spec.access.down, mix(seed, u64::from(id) << 1 | 1)),
            listeners: Vec::new(),
            sockets: Vec::new(),
            next_port: EPHEMERAL_FIRST,
            tasks: None,
            disk: Disk::on(spill),
            streams: Streams::default(),
            wall: spec.wall,
        }
    }

    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.dice, 0)
    }

    /// The address that it sends from to `to`.
    pub(crate) fn source(&self, to: IpAddr) -> Option<IpAddr> {
        if to.is_loopback() {
            return Some(to);
        }
        self.addresses
            .iter()
            .copied()
            .find(|own| own.is_ipv4() == to.is_ipv4())
    }

    /// Whether `ip` may be bound: `None` for every address.
    pub(crate) fn bindable(&self, ip: IpAddr) -> Option<Option<IpAddr>> {
        if ip.is_unspecified() {
            Some(None)
        } else {
            (ip.is_loopback() || self.addresses.contains(&ip)).then_some(Some(ip))
        }
    }

    /// The next port that is not in `taken`.
    pub(crate) fn free_port(&mut self, taken: impl Fn(&Self, u16) -> bool) -> Option<u16> {
        for _ in EPHEMERAL_FIRST..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(EPHEMERAL_FIRST);
            if !taken(self, port) {
                return Some(port);
            }
        }
        None
    }
}

/// The first port that is picked for a socket without a wish: Linux's `ip_local_port_range`.
pub(crate) const EPHEMERAL_FIRST: u16 = 32_768;

/// Hosts, addresses, and what is between.
pub(crate) struct Net {
    pub(crate) hosts: Vec<Host>,
    pub(crate) nats: Vec<Nat>,
    /// When translators next forget what is dead.
    pub(crate) age_at: u64,
    pub(crate) addresses: Table<IpAddr, Owner>,
    pub(crate) fixed: Option<u64>,
    pub(crate) delays: Delays,
    pub(crate) middlebox: Option<Box<dyn Middlebox>>,
    pub(crate) tap: Option<Box<dyn Tap>>,
    pub(crate) leaks: Leaks,
    pub(crate) hits: Vec<Hit>,
    pub(crate) reports: Vec<Leak>,
    /// Nothing crosses the border while it is cut.
    pub(crate) cut: bool,
    pub(crate) border: BorderCounters,
    pub(crate) counters: NetCounters,
    pub(crate) last_given: u32,
    /// Where the disks of all hosts keep long files.
    pub(crate) spill: Arc<Spill>,
}

/// What the network did, outside of the border.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Packets that entered the network.
    pub packets: u64,
    /// Payload bytes in them.
    pub bytes: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because a queue was full.
    pub queue_full: u64,
    /// Lost because no host, no link or no mapping was there.
    pub unroutable: u64,
    /// Datagrams larger than the MTU.
    pub oversize: u64,
    /// Segments of streams with data, sent again or not.
    pub segments: u64,
    /// Retransmissions of segments.
    pub retransmitted: u64,
}

impl NetCounters {
    fn count(&mut self, dropped: Dropped) {
        match dropped {
            Dropped::Lost => self.lost += 1,
            Dropped::QueueFull => self.queue_full += 1,
        }
    }
}

/// A packet that is about to enter the network.
pub(crate) struct Sending<'a> {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) kind: Kind,
    pub(crate) payload: &'a Bytes,
    pub(crate) name: Option<&'a Arc<str>>,
    pub(crate) flow: u64,
    /// Of a segment.
    pub(crate) tcp: Tcp,
    /// The same, for a tap alone.
    pub(crate) options: Options,
    /// The end of what the stream carried before, for the leak search.
    pub(crate) tail: Option<&'a mut Tail>,
}

/// What became of it.
pub(crate) enum Fate {
    /// It reaches the receiver's access link.
    Arrives(Arrival, Watched),
    Lost,
    /// A middlebox resets the stream at these ends: the one that dialled, the other.
    Reset([bool; 2]),
    /// A forged answer with these addresses sets out from the border now; the question arrives at this time, or never.
    Forged {
        truth: Option<(Arrival, Watched)>,
        addresses: Vec<IpAddr>,
        lie: Watched,
    },
}

/// How often translators forget what is dead, in simulated nanoseconds. All of them: those of clients that came back after a
/// cut would hold what they needed in it for as long as nobody looks anything up.
const AGE_EVERY_NS: u64 = 30_000_000_000;

impl Net {
    /// Forgets what is dead, now and then.
    pub(crate) fn age(&mut self, now: u64) {
        if now >= self.age_at {
            self.age_at = now + AGE_EVERY_NS;
            self.nats.iter_mut().for_each(|nat| nat.forget(now));
        }
    }

    /// One-way delay between two hosts without jitter; `None` if nothing joins them.
    pub(crate) fn distance(&self, from: u32, to: u32) -> Option<u64> {
        self.way(from, to).map(|way| way.delay)
    }

    fn way(&self, from: u32, to: u32) -> Option<Way> {
        let alone = if from == to { Some(LOOPBACK_NS) } else { self.fixed };
        if let Some(delay) = alone {
            let loss = Probability::ZERO;
            return Some(Way { delay, loss });
        }
        self.delays
            .way(self.hosts[from as usize].system, self.hosts[to as usize].system)
    }

    /// Sends a packet at `now`.
    pub(crate) fn transmit(&mut self, now: u64, sending: Sending<'_>) -> Fate {
        let watched = self.leaves(now, &sending);
        let bytes = sending.payload.len() as u64;
        self.counters.packets += 1;
        self.counters.bytes += bytes;
        self.counters.segments += u64::from(sending.protocol == Protocol::Tcp && bytes > 0);
        let Some(way) = self.way(sending.from, sending.to) else {
            self.counters.unroutable += 1;
            return Fate::Lost;
        };
        if sending.from == sending.to {
            return Fate::Arrives(Arrival::at(now + way.delay), None);
        }
        let (from, to) = (sending.from as usize, sending.to as usize);
        if !(self.hosts[from].linked && self.hosts[to].linked) {
            self.counters.unroutable += 1;
            return Fate::Lost;
        }
        let crosses = self.hosts[from].inside != self.hosts[to].inside;
        let mut arrives = Arrival::at(now);
        let mut jitter = 0;
        if self.fixed.is_none() {
            arrives = match self.hosts[from].uplink.enter(now, wire_size(bytes)) {
                Ok(through) => through,
                Err(dropped) => {
                    self.counters.count(dropped);
                    return Fate::Lost;
                }
            };
            let (loss_there, jitter_there) = (self.hosts[to].loss, self.hosts[to].jitter_ns);
            let host = &mut self.hosts[from];
            let spread = host.jitter_ns + jitter_there;
            if spread > 0 {
                jitter = host.roll() % (spread + 1);
            }
            jitter += self.delays.jitter.draw(|| host.roll());
            let loss_here = host.loss;
            let lost = |p: Probability, host: &mut Host| p.get() > 0.0 && p.happens(host.roll());
            if lost(way.loss, host) || lost(loss_here, host) || lost(loss_there, host) {
                self.counters.lost += 1;
                return Fate::Lost;
            }
        }
        arrives.ns += way.delay + jitter;
        if crosses {
            let outbound = self.hosts[from].inside;
            self.cross(now, sending, outbound, arrives, watched)
        } else {
            Fate::Arrives(arrives, watched)
        }
    }

    fn cross(
        &mut self,
        now: u64,
        mut sending: Sending<'_>,
        outbound: bool,
        mut arrives: Arrival,
        watched: Watched,
    ) -> Fate {
        self.border.packets += 1;
        self.border.bytes += sending.payload.len() as u64;
        if !self.cut && !sending.payload.is_empty() {
            match sending.tail.take() {
                Some(tail) => self.leaks.search_stream(tail, sending.payload, &mut self.hits),
                None => self.leaks.search(sending.payload, &mut self.hits),
            }
            for hit in self.hits.drain(..) {
                self.reports.push(Leak {
                    at: Instant::from_nanos(now),
                    sender: PeerId(sending.from),
                    owner: hit.owner,
                    kind: hit.kind,
                    prefix: format!("{:08x}", (hit.head as u32).swap_bytes()),
                });
            }
        }
        if self.tap.is_none() {
            if self.cut {
                self.border.dropped += 1;
                return Fate::Lost;
            }
            if self.middlebox.is_none() {
                return Fate::Arrives(arrives, watched);
            }
        }
        let at = Instant::from_nanos(now);
        let (packet, ends, options) = (
            sending.packet(now, outbound),
            [PeerId(sending.from), PeerId(sending.to)],
            sending.options,
        );
        let verdict = match &mut self.middlebox {
            _ if self.cut => Verdict::Drop,
            Some(middlebox) => middlebox.on_packet(at, &packet),
            None => Verdict::Pass,
        };
        let lie = match self.tap {
            Some(_) => self.crosses(packet, ends, options, &verdict),
            None => None,
        };
        match verdict {
            Verdict::Pass => Fate::Arrives(arrives, watched),
            Verdict::Reset { client, server } if sending.protocol == Protocol::Tcp => {
                self.border.reset += 1;
                Fate::Reset([client, server])
            }
            Verdict::Drop | Verdict::Reset { .. } => {
                self.border.dropped += 1;
                Fate::Lost
            }
            Verdict::ForgeDns {
                addresses,
                truth_follows,
            } if sending.kind == Kind::Query => {
                self.border.forged += 1;
                self.border.dropped += u64::from(!truth_follows);
                Fate::Forged {
                    truth: truth_follows.then_some((arrives, watched)),
                    addresses,
                    lie,
                }
            }
            Verdict::ForgeDns { .. } => Fate::Arrives(arrives, watched),
            Verdict::Delay(by) => {
                self.border.delayed += 1;
                arrives.ns = arrives.ns.saturating_add(nanos(by));
                Fate::Arrives(arrives, watched)
            }
        }
    }

    /// A resolver inside asks a root server outside about a name on behalf of `peer`, and is answered unless the censor
    /// lets nothing through. `None`: nobody minds.
    pub(crate) fn recursion(
        &mut self,
        now: u64,
        peer: u32,
        src: SocketAddr,
        name: &Arc<str>,
        query: &Bytes,
        answer: &Bytes,
    ) -> Option<Fate> {
        let dst = ROOT_SERVER;
        let packet = |outbound: bool| Sending {
            from: peer,
            to: peer,
            src: if outbound { src } else { dst },
            dst: if outbound { dst } else { src },
            protocol: Protocol::Dns,
            kind: if outbound { Kind::Query } else { Kind::Answer },
            payload: if outbound { query } else { answer },
            name: Some(name),
            flow: flow_of(src, dst),
            tcp: Tcp::default(),
            options: Options::default(),
            tail: None,
        };
        let asked = self.cross(now, packet(true), true, Arrival::at(now), None);
        if let Fate::Arrives(..) | Fate::Forged { truth: Some(_), .. } = asked {
            // The resolver has taken the lie by then, but what crosses is seen.
            let answered = self.cross(now, packet(false), false, Arrival::at(now), None);
            if let (Fate::Arrives(..), Fate::Lost | Fate::Reset(_)) = (&asked, &answered) {
                return Some(answered);
            }
        }
        match asked {
            Fate::Arrives(..) => None,
            fate => Some(fate),
        }
    }

    /// A packet of `bytes` reaches the access link of `to` at `now`: when it is through, `None` if it is lost there.
    pub(crate) fn land(&mut self, now: u64, to: u32, bytes: u64) -> Option<Arrival> {
        if self.fixed.is_some() {
            return Some(Arrival::at(now));
        }
        let host = &mut self.hosts[to as usize];
        if !host.linked {
            self.counters.unroutable += 1;
            return None;
        }
        let through = host.downlink.enter(now, wire_size(bytes));
        through.map_err(|dropped| self.counters.count(dropped)).ok()
    }

    /// Which host a packet from `from` to `to` reaches, if it is dialled from outside.
    pub(crate) fn route(&self, from: u32, to: IpAddr) -> Option<Owner> {
        if to.is_loopback() {
            return Some(Owner::Host(from));
        }
        self.addresses.get(&to).copied()
    }

    /// An address for a host that brings none: 100.64.0.0/10 behind a NAT, else 11.0.0.0/8 (assigned to nobody who is
    /// in a simulation).
    pub(crate) fn give_address(&mut self, behind_nat: bool) -> IpAddr {
        loop {
            self.last_given += 1;
            let base: u32 = if behind_nat { 0x6440_0000 } else { 0x0B00_0000 };
            let address = IpAddr::V4(Ipv4Addr::from_bits(base + (self.last_given & 0x003F_FFFF)));
            if !self.addresses.contains_key(&address) {
                return address;
            }
        }
    }
}

/// Bytes on the wire for `payload` bytes: headers per MTU-sized packet included.
fn wire_size(payload: u64) -> u32 {
    let size = payload + HEADERS * payload.div_ceil(SEGMENT).max(1);
    u32::try_from(size).unwrap_or(u32::MAX)
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A number that is the same for both directions of a pair of endpoints.
pub(crate) fn flow_of(one: SocketAddr, two: SocketAddr) -> u64 {
    let hash = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => mix(u64::from(ip.to_bits()), u64::from(end.port())),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            mix(mix((bits >> 64) as u64, bits as u64), u64::from(end.port()))
        }
    };
    mix(0, hash(one).wrapping_add(hash(two)))
}

impl State {
    /// Whether `peer` still runs the start that a handle belongs to.
    pub(crate) fn current(&self, peer: u32, incarnation: u32) -> bool {
        let host = &self.net.hosts[peer as usize];
        host.up && host.incarnation == incarnation
    }
}
