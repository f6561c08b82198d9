//! The way of a packet between real processes, as `swarm::network` composes it: the sender's access link, the border, the distance
//! between the two regions with what goes wrong on it, the receiver's access link.
//!
//! Access links are those of the simulator (`swarm::access`), the censor is [`phantom_censor::engine::Engine`], and what the censor sends is real:
//! resets and answers to names have headers and checksums that a kernel accepts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::PacketBuilder;
use phantom_censor::engine::{Direction, Engine, Verdict};
use phantom_censor::packet::{Frame, Header, LinkType, Packet, parse};
use phantom_path::dice::Dice;
use phantom_rig::switch::{Course, Out};

use super::border::ROOT_SERVER;
use super::names::{Names, Question};
use crate::swarm::Access;
use crate::swarm::access::AccessWay;
use crate::swarm::topology::{AsId, Delays};

/// The resolver next door, for every host: 192.0.2.0/24 is for documentation, so nobody of a plan lives there.
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
const DNS_PORT: u16 = 53;
const TTL: u8 = 64;
/// A packet takes a frame of Ethernet too, as in the simulated network.
const ETHERNET_BYTES: u32 = 14;
/// Streams whose order is kept; beyond, all are forgotten, and one packet of each may be overtaken.
const STREAMS_MAX: usize = 65_536;

/// A host as its packets see it.
pub(super) struct End {
    pub(super) address: Ipv4Addr,
    pub(super) system: AsId,
    pub(super) inside: bool,
    pub(super) access: Access,
}

/// One host's links.
struct Home {
    end: End,
    up: AccessWay,
    down: AccessWay,
    dice: Dice,
}

/// What was carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Packets that hosts sent.
    pub(super) sent: u64,
    /// Lost on the way or in a queue.
    pub(super) lost: u64,
    /// To nobody, or of a kind that the simulated network has not: neither TCP nor UDP, or a fragment.
    pub(super) unroutable: u64,
    /// Questions for names.
    pub(super) asked: u64,
}

/// The wire between all hosts.
pub(super) struct Wire {
    homes: Vec<Home>,
    at: BTreeMap<Ipv4Addr, usize>,
    delays: Delays,
    names: Names,
    pub(super) engine: Engine,
    /// The switch's time at which that of the world and of the censor begins.
    zero_ns: u64,
    /// When the last packet of a stream arrives at the receiver's access link: what one sends keeps its order.
    arrival_last: BTreeMap<(SocketAddr, SocketAddr), u64>,
    pub(super) carried: Carried,
}

impl Wire {
    pub(super) fn new(ends: Vec<End>, delays: Delays, names: Names, engine: Engine, seed: u64) -> Self {
        let at = ends.iter().enumerate().map(|(n, end)| (end.address, n)).collect();
        let homes = ends.into_iter().zip(1_u64..).map(|(end, n)| Home {
            up: AccessWay::new(&end.access, end.access.up, seed ^ (n << 8 | 1)),
            down: AccessWay::new(&end.access, end.access.down, seed ^ (n << 8 | 2)),
            dice: Dice::new(seed ^ (n << 8)),
            end,
        });
        Self {
            homes: homes.collect(),
            at,
            delays,
            names,
            engine,
            zero_ns: 0,
            arrival_last: BTreeMap::new(),
            carried: Carried::default(),
        }
    }

    /// The world's time begins at `zero_ns` of the switch.
    pub(super) fn begin(&mut self, zero_ns: u64) {
        self.zero_ns = zero_ns;
    }

    /// What the censor does about a packet.
    fn judge(&mut self, now_ns: u64, outbound: bool, packet: &Packet<'_>) -> Verdict {
        let direction = if outbound {
            Direction::Outbound
        } else {
            Direction::Inbound
        };
        let at_ns = now_ns.saturating_sub(self.zero_ns);
        self.engine.decide(at_ns, direction, packet).verdict
    }

    /// Asks the resolver next door. If the host is inside, the resolver asks servers outside: its question and their answer cross
    /// the border, and what comes of them is what the host gets.
    fn ask(&mut self, now_ns: u64, host: usize, packet: &Packet<'_>, out: &mut Out<'_>) {
        self.carried.asked += 1;
        let (stub, resolver) = (packet.source, packet.destination);
        let Some(question) = Question::read(packet.payload) else {
            return;
        };
        let home = &self.homes[host];
        let next_door = self.delays.between(home.end.system, home.end.system).unwrap_or(0);
        let known = self.names.get(&question.name).cloned();
        let mut answer = question.answer(known.as_deref());
        if home.end.inside {
            let crosses = |source, destination, payload| Packet {
                source,
                destination,
                ttl: TTL,
                header: Header::Udp,
                payload,
                payload_len: u32::try_from(<[u8]>::len(payload)).unwrap_or(u32::MAX),
            };
            match self.judge(now_ns, true, &crosses(stub, ROOT_SERVER, packet.payload)) {
                Verdict::Pass | Verdict::Delay(_) => {
                    let back = self.judge(now_ns, false, &crosses(ROOT_SERVER, stub, &answer));
                    if matches!(back, Verdict::Drop | Verdict::Reset { .. }) {
                        return;
                    }
                }
                Verdict::Drop | Verdict::Reset { .. } => return,
                Verdict::Forge { addresses, .. } => {
                    // A true answer that comes behind the lie would find nobody who still waits.
                    let forged: Vec<Ipv4Addr> = addresses
                        .iter()
                        .filter_map(|address| match address {
                            IpAddr::V4(address) => Some(*address),
                            IpAddr::V6(_) => None,
                        })
                        .collect();
                    answer = question.answer((!addresses.is_empty()).then_some(&forged));
                }
            }
        }
        if let Some(datagram) = datagram(resolver, stub, &answer) {
            out.deliver(now_ns + 2 * next_door, host, datagram);
        }
    }

    /// A segment of the censor's own.
    fn reset(
        &self,
        at_ns: u64,
        source: SocketAddr,
        to: SocketAddr,
        seq: u32,
        ack: Option<u32>,
        out: &mut Out<'_>,
    ) {
        let (SocketAddr::V4(from), SocketAddr::V4(victim)) = (source, to) else {
            return;
        };
        let Some(host) = self.at.get(victim.ip()) else {
            return;
        };
        let segment = PacketBuilder::ipv4(from.ip().octets(), victim.ip().octets(), TTL)
            .tcp(from.port(), victim.port(), seq, 0)
            .rst();
        let segment = match ack {
            Some(ack) => segment.ack(ack),
            None => segment,
        };
        let mut bytes = Vec::with_capacity(40);
        if segment.write(&mut bytes, &[]).is_ok() {
            out.deliver(at_ns, *host, bytes);
        }
    }

    /// Resets of the ends of a stream, in answer to one of its packets, from half way.
    fn reset_ends(
        &self,
        now_ns: u64,
        delay_ns: u64,
        [client, server]: [bool; 2],
        packet: &Packet<'_>,
        out: &mut Out<'_>,
    ) {
        let Header::Tcp { flags, seq, ack, .. } = packet.header else {
            return;
        };
        if flags.rst {
            return;
        }
        let at_ns = now_ns + delay_ns / 2;
        // Servers of plans have ports below those that kernels give to whoever dials.
        let from_client = packet.source.port() > packet.destination.port();
        let (sender, receiver) = if from_client {
            (client, server)
        } else {
            (server, client)
        };
        let consumed = packet.payload_len + u32::from(flags.syn) + u32::from(flags.fin);
        let next = seq.wrapping_add(consumed);
        if sender {
            // What the sender expects next (RFC 5961 §3.2); to a SYN, that it was refused.
            let own = if flags.ack { ack } else { 0 };
            self.reset(at_ns, packet.destination, packet.source, own, Some(next), out);
        }
        if receiver {
            self.reset(
                at_ns,
                packet.source,
                packet.destination,
                seq,
                flags.ack.then_some(ack),
                out,
            );
        }
    }

    fn forward(
        &mut self,
        now_ns: u64,
        from: usize,
        packet: &Packet<'_>,
        bytes: &[u8],
        out: &mut Out<'_>,
    ) -> Option<()> {
        let SocketAddr::V4(destination) = packet.destination else {
            return None;
        };
        let to = *self.at.get(destination.ip())?;
        let way = self
            .delays
            .way(self.homes[from].end.system, self.homes[to].end.system)?;
        let size = bytes.len() as u32 + ETHERNET_BYTES;
        let outbound = self.homes[from].end.inside;
        let crosses = outbound != self.homes[to].end.inside;
        let home = &mut self.homes[from];
        let Ok(leaves) = home.up.enter(now_ns, size) else {
            self.carried.lost += 1;
            return Some(());
        };
        let jitter = self.delays.jitter.draw(|| home.dice.draw());
        if way.loss.get() > 0.0 && way.loss.happens(home.dice.draw()) {
            self.carried.lost += 1;
            return Some(());
        }
        let mut arrives_ns = leaves.ns + way.delay + jitter;
        if crosses {
            match self.judge(now_ns, outbound, packet) {
                // Names are asked next door: a forged answer to anything else has nobody who waits for it.
                Verdict::Pass | Verdict::Forge { .. } => {}
                Verdict::Delay(by_ns) => arrives_ns = arrives_ns.saturating_add(by_ns),
                Verdict::Drop => return Some(()),
                Verdict::Reset { client, server } => {
                    self.reset_ends(now_ns, way.delay, [client, server], packet, out);
                    return Some(());
                }
            }
        }
        if matches!(packet.header, Header::Tcp { .. }) && !leaves.overtaken {
            if self.arrival_last.len() >= STREAMS_MAX {
                self.arrival_last.clear();
            }
            let last = self
                .arrival_last
                .entry((packet.source, packet.destination))
                .or_default();
            arrives_ns = arrives_ns.max(*last);
            *last = arrives_ns;
        }
        for _ in 0..1 + u8::from(leaves.twice) {
            out.later(arrives_ns, to, bytes.to_vec());
        }
        Some(())
    }
}

impl Course for Wire {
    fn sent(&mut self, now_ns: u64, host: usize, bytes: Vec<u8>, out: &mut Out<'_>) {
        self.carried.sent += 1;
        let Ok(Frame::Packet(packet)) = parse(LinkType::RawIp, &bytes) else {
            self.carried.unroutable += 1;
            return;
        };
        let resolver = SocketAddr::new(IpAddr::V4(RESOLVER), DNS_PORT);
        if packet.destination == resolver && packet.header == Header::Udp {
            return self.ask(now_ns, host, &packet, out);
        }
        if self.forward(now_ns, host, &packet, &bytes, out).is_none() {
            self.carried.unroutable += 1;
        }
    }

    /// It is at the access link of the receiver, whose number the stage is.
    fn due(&mut self, due_ns: u64, to: usize, bytes: Vec<u8>, out: &mut Out<'_>) {
        let size = bytes.len() as u32 + ETHERNET_BYTES;
        match self.homes[to].down.enter(due_ns, size) {
            Ok(through) => {
                if through.twice {
                    out.deliver(through.ns, to, bytes.clone());
                }
                out.deliver(through.ns, to, bytes);
            }
            Err(_) => self.carried.lost += 1,
        }
    }
}

/// A datagram with its headers.
fn datagram(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (source, destination) else {
        return None;
    };
    let headers = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), TTL).udp(from.port(), to.port());
    let mut bytes = Vec::with_capacity(headers.size(payload.len()));
    headers.write(&mut bytes, payload).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv4HeaderSlice, TcpHeaderSlice, UdpHeaderSlice};
    use phantom_censor::engine::EngineConfig;
    use phantom_censor::engine::rule::{Action, Condition, Forgery, Rule};
    use phantom_rig::switch::{Decided, decided};

    use super::*;
    use crate::swarm::Topology;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    const FORGED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
    /// Europe to Asia is 237 ms there and back.
    const WAY_NS: u64 = 118_500_000;

    /// A client inside, a server outside, behind the same links of 8 Mbit/s.
    fn wire(rules: Vec<Rule>) -> Wire {
        let delays = Topology::simblock_2019().delays();
        let end = |address, system, inside| End {
            address,
            system: AsId(system),
            inside,
            access: Access::new(8_000_000, 8_000_000),
        };
        let names = Names::from([("entry.example".to_owned(), vec![SERVER])]);
        let ends = vec![end(CLIENT, 3, true), end(SERVER, 1, false)];
        Wire::new(
            ends,
            delays,
            names,
            Engine::new(EngineConfig::default(), rules),
            1,
        )
    }

    fn rule(action: Action, all: Vec<Condition>) -> Rule {
        Rule {
            action,
            all,
            ..Rule::new("rule")
        }
    }

    fn segment(syn: bool, payload: &[u8]) -> Vec<u8> {
        let headers = PacketBuilder::ipv4(CLIENT.octets(), SERVER.octets(), 64).tcp(40_000, 443, 1_000, 500);
        let headers = if syn { headers.syn() } else { headers.ack(77) };
        let mut bytes = Vec::new();
        headers.write(&mut bytes, payload).unwrap();
        bytes
    }

    fn sent(wire: &mut Wire, bytes: &[u8]) -> Vec<Decided> {
        decided(|out| wire.sent(0, 0, bytes.to_vec(), out))
    }

    /// A segment whose checksums are right.
    fn checked(bytes: &[u8]) -> (SocketAddr, u32, Option<u32>) {
        let ip = Ipv4HeaderSlice::from_slice(bytes).unwrap();
        assert_eq!(ip.to_header().calc_header_checksum(), ip.header_checksum());
        let tcp = TcpHeaderSlice::from_slice(&bytes[20..]).unwrap();
        assert_eq!(tcp.calc_checksum_ipv4(&ip, &[]).unwrap(), tcp.checksum());
        assert!(tcp.rst());
        let from = SocketAddr::new(ip.source_addr().into(), tcp.source_port());
        let ack = tcp.ack().then(|| tcp.acknowledgment_number());
        (from, tcp.sequence_number(), ack)
    }

    #[test]
    fn a_packet_takes_its_links_and_the_distance() {
        let mut wire = wire(Vec::new());
        let bytes = segment(false, &[7; 946]);
        // 986 bytes and a frame are 1,000: a millisecond at 8 Mbit/s on either link.
        let [Decided::Later(at, 1, carried)] = &sent(&mut wire, &bytes)[..] else {
            panic!("carried")
        };
        assert_eq!((*at, carried), (1_000_000 + WAY_NS, &bytes));
        let landed = decided(|out| wire.due(*at, 1, carried.clone(), out));
        assert_eq!(landed, [Decided::Delivered(2_000_000 + WAY_NS, 1, bytes)]);
    }

    #[test]
    fn what_a_censor_drops_is_gone_and_what_goes_to_nobody_too() {
        let mut wire = wire(vec![rule(Action::Drop, Vec::new())]);
        assert_eq!(sent(&mut wire, &segment(true, &[])), []);
        assert_eq!(wire.engine.counts()[0].dropped, 1);
        let mut elsewhere = segment(true, &[]);
        elsewhere[19] = 9;
        assert_eq!(sent(&mut wire, &elsewhere), []);
        assert_eq!(sent(&mut wire, &[0x45, 0, 0]), []);
        assert_eq!(wire.carried.unroutable, 2);
    }

    #[test]
    fn resets_have_numbers_and_checksums_that_a_kernel_accepts() {
        let reset = Action::Reset {
            client: true,
            server: true,
        };
        let (client, server) = (
            SocketAddr::new(CLIENT.into(), 40_000),
            SocketAddr::new(SERVER.into(), 443),
        );
        let mut one = wire(vec![rule(reset.clone(), Vec::new())]);
        let mut resets = Vec::new();
        for decided in sent(&mut one, &segment(true, &[])) {
            let Decided::Delivered(at, host, bytes) = decided else {
                panic!("a reset")
            };
            assert_eq!(at, WAY_NS / 2);
            resets.push((host, checked(&bytes)));
        }
        // To a SYN: refused, its number acknowledged.
        assert_eq!(
            resets,
            [(0, (server, 0, Some(1_001))), (1, (client, 1_000, None))]
        );
        let mut two = wire(vec![rule(reset, Vec::new())]);
        let all = sent(&mut two, &segment(false, b"hello"));
        let numbers: Vec<_> = all
            .iter()
            .map(|decided| match decided {
                Decided::Delivered(_, _, bytes) => checked(bytes),
                Decided::Later(..) => panic!("a reset"),
            })
            .collect();
        assert_eq!(numbers, [(server, 77, Some(1_005)), (client, 1_000, Some(77))]);
    }

    #[test]
    fn names_are_answered_next_door_and_a_censor_inside_forges_them() {
        let question = [
            &[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 5][..],
            b"entry\x07example\0",
            &[0, 1, 0, 1],
        ]
        .concat();
        let asks = |address: Ipv4Addr, question: &[u8]| {
            let from = SocketAddr::new(address.into(), 5_353);
            datagram(from, SocketAddr::new(RESOLVER.into(), 53), question).unwrap()
        };
        let forged = Forgery {
            pool: vec![FORGED.into()],
            each: 1,
            holds_back: false,
        };
        let forging = || vec![rule(Action::Forge(forged.clone()), Vec::new())];
        for (rules, host, wanted) in [
            (Vec::new(), 0, Some(SERVER)),
            (forging(), 0, Some(FORGED)),
            (forging(), 1, Some(SERVER)),
            (vec![rule(Action::Drop, Vec::new())], 0, None),
        ] {
            let mut wire = wire(rules);
            let address = wire.homes[host].end.address;
            let bytes = asks(address, &question);
            let answers = decided(|out| wire.sent(0, host, bytes, out));
            let Some(wanted) = wanted else {
                assert_eq!(answers, []);
                continue;
            };
            let [Decided::Delivered(_, to, bytes)] = &answers[..] else {
                panic!("an answer")
            };
            let ip = Ipv4HeaderSlice::from_slice(bytes).unwrap();
            let udp = UdpHeaderSlice::from_slice(&bytes[20..]).unwrap().to_header();
            assert_eq!(
                udp.calc_checksum_ipv4(&ip.to_header(), &bytes[28..]).unwrap(),
                udp.checksum
            );
            assert_eq!(
                (*to, ip.source_addr(), udp.destination_port),
                (host, RESOLVER, 5_353)
            );
            assert!(bytes.ends_with(&wanted.octets()), "{wanted}: {bytes:?}");
        }
    }
}
