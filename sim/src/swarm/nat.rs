//! Address translation: hosts behind a NAT dial out and cannot be dialled.
//!
//! Mappings are independent of the remote end, what comes in is filtered by the remote's address (RFC 4787 §4.1 and §5:
//! endpoint-independent mapping, address-dependent filtering), and a UDP mapping ends after an idle time.

use std::net::{IpAddr, SocketAddr};

use super::network::EPHEMERAL_FIRST;

/// Remotes that one mapping remembers; the one unused for longest makes way.
const REMOTES_MAX: usize = 64;
/// Mappings of one translator; beyond, new ones are refused.
const MAPPINGS_MAX: usize = 32_000;

/// A host has about ten at a time when it looks around in the DHT, and there are as many hosts as clients: so no trees, and
/// nothing lost to alignment.
struct Mapping {
    outside: u16,
    host: u32,
    /// The address and port of [`Mapping::inside`].
    at: (IpAddr, u16),
    used_ns: u64,
    remotes: Remotes,
}

impl Mapping {
    /// What is dead lets nobody in any more, and only its port is still taken.
    fn live(&self, now: u64, idle_ns: u64) -> bool {
        now.saturating_sub(self.used_ns) <= idle_ns
    }

    fn inside(&self) -> SocketAddr {
        SocketAddr::new(self.at.0, self.at.1)
    }

    fn key(&self) -> (u32, (IpAddr, u16)) {
        (self.host, self.at)
    }
}

/// Addresses that a mapping has sent to, all of one family.
enum Remotes {
    V4(Vec<Remote<4>>),
    V6(Vec<Remote<16>>),
}

/// An address and when it was sent to, as bytes: a client that is cut off looks up a lot, each time from a new end.
struct Remote<const N: usize> {
    address: [u8; N],
    /// The lower bytes of the time in nanoseconds: those of 78 hours, far above any idle time.
    sent: [u8; SENT_BYTES],
}

const SENT_BYTES: usize = 6;

impl<const N: usize> Remote<N> {
    fn new(address: [u8; N], now: u64) -> Self {
        let mut sent = [0; SENT_BYTES];
        sent.copy_from_slice(&now.to_le_bytes()[..SENT_BYTES]);
        Self { address, sent }
    }

    fn live(&self, now: u64, idle_ns: u64) -> bool {
        let mut sent = [0; 8];
        sent[..SENT_BYTES].copy_from_slice(&self.sent);
        let since = now.wrapping_sub(u64::from_le_bytes(sent)) % (1 << (8 * SENT_BYTES));
        since <= idle_ns
    }
}

impl Remotes {
    /// Of the family of `remote`.
    fn new(remote: IpAddr) -> Self {
        match remote {
            IpAddr::V4(_) => Self::V4(Vec::new()),
            IpAddr::V6(_) => Self::V6(Vec::new()),
        }
    }

    fn note(&mut self, now: u64, idle_ns: u64, remote: IpAddr) {
        match (self, remote) {
            (Self::V4(known), IpAddr::V4(remote)) => note(known, now, idle_ns, remote.octets()),
            (Self::V6(known), IpAddr::V6(remote)) => note(known, now, idle_ns, remote.octets()),
            // An inside address sends to its own family only.
            (Self::V4(_), IpAddr::V6(_)) | (Self::V6(_), IpAddr::V4(_)) => {}
        }
    }

    fn let_in(&self, now: u64, idle_ns: u64, remote: IpAddr) -> bool {
        match (self, remote) {
            (Self::V4(known), IpAddr::V4(remote)) => let_in(known, now, idle_ns, remote.octets()),
            (Self::V6(known), IpAddr::V6(remote)) => let_in(known, now, idle_ns, remote.octets()),
            (Self::V4(_), IpAddr::V6(_)) | (Self::V6(_), IpAddr::V4(_)) => false,
        }
    }

    fn forget(&mut self) {
        match self {
            Self::V4(known) => *known = Vec::new(),
            Self::V6(known) => *known = Vec::new(),
        }
    }
}

/// Room is made for so many remotes at first, which a stream's mapping never goes beyond, and then at a time.
const REMOTES_FIRST: usize = 2;
const REMOTES_STEP: usize = 8;

/// The latest goes last, so those whose own time is over are at the front.
fn note<const N: usize>(remotes: &mut Vec<Remote<N>>, now: u64, idle_ns: u64, address: [u8; N]) {
    remotes.retain(|known| known.address != address && known.live(now, idle_ns));
    if remotes.len() >= REMOTES_MAX {
        remotes.remove(0);
    }
    if remotes.len() == remotes.capacity() {
        remotes.reserve_exact(if remotes.is_empty() {
            REMOTES_FIRST
        } else {
            REMOTES_STEP
        });
    }
    remotes.push(Remote::new(address, now));
}

fn let_in<const N: usize>(remotes: &[Remote<N>], now: u64, idle_ns: u64, address: [u8; N]) -> bool {
    let known = remotes.iter().find(|known| known.address == address);
    known.is_some_and(|known| known.live(now, idle_ns))
}

pub(crate) struct Nat {
    pub(crate) outside: Vec<IpAddr>,
    idle_ns: u64,
    /// In the order of their outside ports.
    mappings: Vec<Mapping>,
    /// Outside ports in the order of who has them: host and inside end.
    by_inside: Vec<u16>,
    next_port: u16,
    next_stream_port: u16,
    /// So many mappings are looked through for dead ones before another is opened.
    crowded: usize,
}

/// A translator with fewer mappings never looks for dead ones.
const CROWDED_MIN: usize = 8;

impl Nat {
    pub(crate) fn new(outside: Vec<IpAddr>, idle_ns: u64) -> Self {
        let next_port = EPHEMERAL_FIRST;
        Self {
            outside,
            idle_ns,
            mappings: Vec::new(),
            by_inside: Vec::new(),
            next_port,
            next_stream_port: next_port,
            crowded: CROWDED_MIN,
        }
    }

    /// The outside address for traffic to `remote`.
    fn address(&self, remote: IpAddr) -> Option<IpAddr> {
        self.outside
            .iter()
            .copied()
            .find(|own| own.is_ipv4() == remote.is_ipv4())
    }

    /// The outside end of a new stream to `remote`.
    pub(crate) fn stream(&mut self, remote: IpAddr) -> Option<SocketAddr> {
        let address = self.address(remote)?;
        let port = self.next_stream_port;
        self.next_stream_port = port.checked_add(1).unwrap_or(EPHEMERAL_FIRST);
        Some(SocketAddr::new(address, port))
    }

    /// The outside end of a datagram from `inside` to `remote`, of the same family, which opens or keeps a mapping.
    pub(crate) fn outgoing(
        &mut self,
        now: u64,
        host: u32,
        inside: SocketAddr,
        remote: IpAddr,
    ) -> Option<SocketAddr> {
        let address = self.address(remote)?;
        let key = (host, (inside.ip(), inside.port()));
        let idle_ns = self.idle_ns;
        let known = self
            .of(key)
            .ok()
            .map(|turn| self.by_inside[turn])
            .and_then(|port| self.at(port).ok())
            .filter(|&index| self.mappings[index].live(now, idle_ns));
        let index = match known {
            Some(index) => index,
            None => self.open(now, key, remote)?,
        };
        let mapping = &mut self.mappings[index];
        mapping.used_ns = now;
        mapping.remotes.note(now, idle_ns, remote);
        let port = mapping.outside;
        Some(SocketAddr::new(address, port))
    }

    /// The host and its inside end for a datagram from `remote` to `port`; `None` if it is not let in.
    pub(crate) fn incoming(&self, now: u64, port: u16, remote: IpAddr) -> Option<(u32, SocketAddr)> {
        let mapping = &self.mappings[self.at(port).ok()?];
        let open = mapping.live(now, self.idle_ns) && mapping.remotes.let_in(now, self.idle_ns, remote);
        open.then_some((mapping.host, mapping.inside()))
    }

    /// Where the mapping with an outside port is, or would be.
    fn at(&self, port: u16) -> Result<usize, usize> {
        self.mappings
            .binary_search_by_key(&port, |mapping| mapping.outside)
    }

    /// Where in `by_inside` an inside end is, or would be.
    fn of(&self, key: (u32, (IpAddr, u16))) -> Result<usize, usize> {
        self.by_inside.binary_search_by_key(&key, |&port| {
            let index = self.at(port).expect("each of them has a mapping");
            self.mappings[index].key()
        })
    }

    /// Dead mappings forget their remotes. They keep their ports: which port the next one gets depends on [`Nat::open`]
    /// alone.
    pub(crate) fn forget(&mut self, now: u64) {
        for mapping in &mut self.mappings {
            if !mapping.live(now, self.idle_ns) {
                mapping.remotes.forget();
            }
        }
    }

    /// A new mapping; where it is.
    fn open(&mut self, now: u64, key: (u32, (IpAddr, u16)), remote: IpAddr) -> Option<usize> {
        // Each time they have doubled, so that dead ones are no more than the live and looking costs little.
        if self.mappings.len() >= self.crowded.min(MAPPINGS_MAX) {
            let (idle_ns, mappings) = (self.idle_ns, &self.mappings);
            self.by_inside.retain(|port| {
                let at = mappings.binary_search_by_key(port, |mapping| mapping.outside);
                at.is_ok_and(|index| mappings[index].live(now, idle_ns))
            });
            self.mappings.retain(|mapping| mapping.live(now, idle_ns));
            self.crowded = (2 * self.mappings.len()).max(CROWDED_MIN);
        }
        if self.mappings.len() >= MAPPINGS_MAX {
            return None;
        }
        if let Ok(turn) = self.of(key) {
            let old = self.by_inside.remove(turn);
            self.mappings.retain(|mapping| mapping.outside != old);
        }
        let index = loop {
            match self.at(self.next_port) {
                Ok(_) => self.next_port = self.next_port.checked_add(1).unwrap_or(EPHEMERAL_FIRST),
                Err(index) => break index,
            }
        };
        let outside = self.next_port;
        self.next_port = outside.checked_add(1).unwrap_or(EPHEMERAL_FIRST);
        let turn = self.of(key).unwrap_or_else(|turn| turn);
        self.by_inside.insert(turn, outside);
        self.mappings.insert(
            index,
            Mapping {
                outside,
                host: key.0,
                at: key.1,
                used_ns: now,
                remotes: Remotes::new(remote),
            },
        );
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn nat() -> Nat {
        Nat::new(vec![[198, 51, 100, 1].into()], 30 * SECOND)
    }

    fn known(remotes: &Remotes) -> usize {
        match remotes {
            Remotes::V4(known) => known.len(),
            Remotes::V6(known) => known.len(),
        }
    }

    #[test]
    fn only_remotes_that_were_sent_to_are_let_in_and_only_for_a_time() {
        let mut nat = nat();
        let inside: SocketAddr = "10.0.0.2:6881".parse().unwrap();
        let (friend, stranger): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let outside = nat.outgoing(0, 7, inside, friend).unwrap();
        assert_eq!(nat.incoming(SECOND, outside.port(), friend), Some((7, inside)));
        assert_eq!(nat.incoming(SECOND, outside.port(), stranger), None);
        assert_eq!(nat.incoming(31 * SECOND, outside.port(), friend), None);
        assert_eq!(
            nat.outgoing(20 * SECOND, 7, inside, stranger),
            Some(outside),
            "the same for every remote"
        );
        assert_eq!(
            nat.incoming(45 * SECOND, outside.port(), friend),
            None,
            "each remote has its own time"
        );
        assert_eq!(
            nat.incoming(45 * SECOND, outside.port(), stranger),
            Some((7, inside))
        );
    }

    #[test]
    fn only_the_living_remember_whom_they_sent_to() {
        let mut nat = nat();
        let inside = |port| SocketAddr::from(([10, 0, 0, 2], port));
        let remote = |n: u8| IpAddr::from([192, 0, 2, n]);
        let first = nat.outgoing(0, 7, inside(1), remote(1)).unwrap();
        nat.outgoing(20 * SECOND, 7, inside(2), remote(1)).unwrap();
        let third = nat.outgoing(40 * SECOND, 7, inside(3), remote(1)).unwrap();
        assert_eq!(third.port(), first.port() + 2, "a dead mapping keeps its port");
        nat.forget(40 * SECOND);
        let held = nat.mappings.iter().filter(|mapping| known(&mapping.remotes) > 0);
        assert_eq!((held.count(), nat.mappings.len()), (2, 3));
        for n in 0..=255 {
            nat.outgoing(41 * SECOND, 7, inside(3), remote(n)).unwrap();
        }
        let v4 = |nat: &Nat| known(&nat.mappings[nat.at(third.port()).unwrap()].remotes);
        assert_eq!(v4(&nat), REMOTES_MAX);
        nat.outgoing(71 * SECOND, 7, inside(3), remote(1)).unwrap();
        assert_eq!(v4(&nat), REMOTES_MAX, "just in time");
        nat.outgoing(72 * SECOND, 7, inside(3), remote(2)).unwrap();
        assert_eq!(v4(&nat), 2, "each has its own time");
    }

    #[test]
    fn two_hosts_with_the_same_inside_port_do_not_collide() {
        let mut nat = nat();
        let inside: SocketAddr = "10.0.0.2:6881".parse().unwrap();
        let remote: IpAddr = [192, 0, 2, 1].into();
        let one = nat.outgoing(0, 1, inside, remote).unwrap();
        let two = nat.outgoing(0, 2, inside, remote).unwrap();
        assert_ne!(one, two);
        assert_eq!(nat.incoming(0, two.port(), remote), Some((2, inside)));
    }

    #[test]
    fn a_port_leads_to_whoever_has_it_however_many_come_and_go() {
        let mut nat = nat();
        // Soon the ports begin again, in between those that are taken.
        nat.next_port = u16::MAX - 400;
        let remote: IpAddr = [192, 0, 2, 1].into();
        let mut again = 0;
        for round in 0..40_u64 {
            let now = round * 20 * SECOND;
            for host in 0..50_u32 {
                // Every third comes back with the end it had, some when it is dead, the others with new ones.
                let port = match host % 3 {
                    0 if host % 2 == 1 && round % 2 == 1 => continue,
                    0 => 7,
                    _ => round as u16,
                };
                let inside = SocketAddr::from(([10, 0, 0, 2], port));
                let key = (host, (inside.ip(), port));
                let dead = |index: usize| !nat.mappings[index].live(now, nat.idle_ns);
                let known = nat.of(key).ok().and_then(|turn| nat.at(nat.by_inside[turn]).ok());
                again += usize::from(known.is_some_and(dead));
                let outside = nat.outgoing(now, host, inside, remote).unwrap();
                assert_eq!(nat.incoming(now, outside.port(), remote), Some((host, inside)));
                assert_eq!(nat.outgoing(now, host, inside, remote), Some(outside));
            }
            assert!(nat.mappings.is_sorted_by(|a, b| a.outside < b.outside));
            let keys = nat
                .by_inside
                .iter()
                .map(|&port| nat.mappings[nat.at(port).unwrap()].key());
            assert!(keys.is_sorted_by(|a, b| a < b));
            assert_eq!(nat.by_inside.len(), nat.mappings.len());
        }
        assert!(
            nat.mappings.len() < 300,
            "the dead make room: {}",
            nat.mappings.len()
        );
        assert!(nat.mappings[0].outside < u16::MAX - 400, "the ports began again");
        assert!(again > 0, "an end whose mapping was dead came back");
    }

    #[test]
    fn time_does_not_run_out_and_addresses_are_of_both_families() {
        let far: u64 = (1 << 48) - SECOND;
        let inside: SocketAddr = "[2001:db8::2]:6881".parse().unwrap();
        let remote: IpAddr = "2001:db8::9".parse().unwrap();
        let outside = vec![[198, 51, 100, 1].into(), "2001:db8::1".parse().unwrap()];
        let mut nat = Nat::new(outside, 30 * SECOND);
        let outside = nat.outgoing(far, 7, inside, remote).unwrap();
        assert!(outside.is_ipv6());
        let late = far + 30 * SECOND;
        assert_eq!(nat.incoming(late, outside.port(), remote), Some((7, inside)));
        assert_eq!(nat.incoming(late + 1, outside.port(), remote), None);
        assert_eq!(nat.incoming(far, outside.port(), [192, 0, 2, 1].into()), None);
    }
}
