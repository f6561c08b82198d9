//! Address translation: hosts behind a NAT dial out and cannot be dialled.
//!
//! Mappings are independent of the remote end, what comes in is filtered by the remote's address (RFC 4787 §4.1 and §5:
//! endpoint-independent mapping, address-dependent filtering), and a UDP mapping ends after an idle time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::network::EPHEMERAL_FIRST;

/// Remotes that one mapping remembers; the one unused for longest makes way.
const REMOTES_MAX: usize = 64;
/// Mappings of one translator; beyond, new ones are refused.
const MAPPINGS_MAX: usize = 32_000;

struct Mapping {
    host: u32,
    inside: SocketAddr,
    used_ns: u64,
    /// `None` when its time is over: it lets nobody in any more, and only its port is still taken.
    remotes: Option<Box<Remotes>>,
}

/// Addresses that a mapping has sent to: small, because every lookup in the DHT has a mapping of its own.
#[derive(Default)]
struct Remotes {
    v4: Vec<Remote<4>>,
    v6: Vec<Remote<16>>,
}

/// An address and when it was sent to. Bytes, so that nothing is lost to alignment.
struct Remote<const N: usize> {
    address: [u8; N],
    sent_ns: [u8; 8],
}

impl<const N: usize> Remote<N> {
    fn live(&self, now: u64, idle_ns: u64) -> bool {
        now.saturating_sub(u64::from_ne_bytes(self.sent_ns)) <= idle_ns
    }
}

impl Remotes {
    fn note(&mut self, now: u64, idle_ns: u64, remote: IpAddr) {
        match remote {
            IpAddr::V4(remote) => note(&mut self.v4, now, idle_ns, remote.octets()),
            IpAddr::V6(remote) => note(&mut self.v6, now, idle_ns, remote.octets()),
        }
    }

    fn let_in(&self, now: u64, idle_ns: u64, remote: IpAddr) -> bool {
        match remote {
            IpAddr::V4(remote) => let_in(&self.v4, now, idle_ns, remote.octets()),
            IpAddr::V6(remote) => let_in(&self.v6, now, idle_ns, remote.octets()),
        }
    }
}

/// The latest goes last, so those whose own time is over are at the front.
fn note<const N: usize>(remotes: &mut Vec<Remote<N>>, now: u64, idle_ns: u64, address: [u8; N]) {
    remotes.retain(|known| known.address != address && known.live(now, idle_ns));
    if remotes.len() >= REMOTES_MAX {
        remotes.remove(0);
    }
    let sent_ns = now.to_ne_bytes();
    remotes.push(Remote { address, sent_ns });
}

fn let_in<const N: usize>(remotes: &[Remote<N>], now: u64, idle_ns: u64, address: [u8; N]) -> bool {
    let known = remotes.iter().find(|known| known.address == address);
    known.is_some_and(|known| known.live(now, idle_ns))
}

pub(crate) struct Nat {
    pub(crate) outside: Vec<IpAddr>,
    idle_ns: u64,
    by_port: BTreeMap<u16, Mapping>,
    by_inside: BTreeMap<(u32, SocketAddr), u16>,
    next_port: u16,
    next_stream_port: u16,
    /// So many mappings are looked through for dead ones before another is opened.
    crowded: usize,
    /// When dead ones are next looked for to forget their remotes.
    forget_at: u64,
}

/// A translator with fewer mappings never looks for dead ones.
const CROWDED_MIN: usize = 8;

impl Nat {
    pub(crate) fn new(outside: Vec<IpAddr>, idle_ns: u64) -> Self {
        let next_port = EPHEMERAL_FIRST;
        let (by_port, by_inside) = (BTreeMap::new(), BTreeMap::new());
        Self {
            outside,
            idle_ns,
            by_port,
            by_inside,
            next_port,
            next_stream_port: next_port,
            crowded: CROWDED_MIN,
            forget_at: 0,
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

    /// The outside end of a datagram from `inside` to `remote`, which opens or keeps a mapping.
    pub(crate) fn outgoing(
        &mut self,
        now: u64,
        host: u32,
        inside: SocketAddr,
        remote: IpAddr,
    ) -> Option<SocketAddr> {
        let address = self.address(remote)?;
        let port = match self.by_inside.get(&(host, inside)).copied() {
            Some(port) if self.live(now, port) => port,
            _ => self.open(now, host, inside)?,
        };
        let idle_ns = self.idle_ns;
        let mapping = self.by_port.get_mut(&port)?;
        mapping.used_ns = now;
        let remotes = mapping.remotes.get_or_insert_default();
        remotes.note(now, idle_ns, remote);
        if now >= self.forget_at {
            self.forget(now);
        }
        Some(SocketAddr::new(address, port))
    }

    /// The host and its inside end for a datagram from `remote` to `port`; `None` if it is not let in.
    pub(crate) fn incoming(&self, now: u64, port: u16, remote: IpAddr) -> Option<(u32, SocketAddr)> {
        if !self.live(now, port) {
            return None;
        }
        let mapping = self.by_port.get(&port)?;
        let remotes = mapping.remotes.as_ref()?;
        remotes
            .let_in(now, self.idle_ns, remote)
            .then_some((mapping.host, mapping.inside))
    }

    fn live(&self, now: u64, port: u16) -> bool {
        self.by_port
            .get(&port)
            .is_some_and(|m| now.saturating_sub(m.used_ns) <= self.idle_ns)
    }

    /// Dead mappings forget their remotes, a few times in an idle time. They keep their ports: which port the next one
    /// gets depends on [`Nat::open`] alone.
    fn forget(&mut self, now: u64) {
        for mapping in self.by_port.values_mut() {
            if now.saturating_sub(mapping.used_ns) > self.idle_ns {
                mapping.remotes = None;
            }
        }
        self.forget_at = now.saturating_add(self.idle_ns / 4);
    }

    fn open(&mut self, now: u64, host: u32, inside: SocketAddr) -> Option<u16> {
        // Each time they have doubled, so that dead ones are no more than the live and looking costs little.
        if self.by_port.len() >= self.crowded.min(MAPPINGS_MAX) {
            let idle_ns = self.idle_ns;
            let by_inside = &mut self.by_inside;
            self.by_port.retain(|_, mapping| {
                let live = now.saturating_sub(mapping.used_ns) <= idle_ns;
                if !live {
                    by_inside.remove(&(mapping.host, mapping.inside));
                }
                live
            });
            self.crowded = (2 * self.by_port.len()).max(CROWDED_MIN);
        }
        if self.by_port.len() >= MAPPINGS_MAX {
            return None;
        }
        if let Some(old) = self.by_inside.remove(&(host, inside)) {
            self.by_port.remove(&old);
        }
        while self.by_port.contains_key(&self.next_port) {
            self.next_port = self.next_port.checked_add(1).unwrap_or(EPHEMERAL_FIRST);
        }
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(EPHEMERAL_FIRST);
        self.by_port.insert(
            port,
            Mapping {
                host,
                inside,
                used_ns: now,
                remotes: None,
            },
        );
        self.by_inside.insert((host, inside), port);
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn nat() -> Nat {
        Nat::new(vec![[198, 51, 100, 1].into()], 30 * SECOND)
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
        let held = nat.by_port.values().filter(|mapping| mapping.remotes.is_some());
        assert_eq!((held.count(), nat.by_port.len()), (2, 3));
        for n in 0..=255 {
            nat.outgoing(41 * SECOND, 7, inside(3), remote(n)).unwrap();
        }
        let v4 = |nat: &Nat| nat.by_port[&third.port()].remotes.as_ref().map(|r| r.v4.len());
        assert_eq!(v4(&nat), Some(REMOTES_MAX));
        nat.outgoing(71 * SECOND, 7, inside(3), remote(1)).unwrap();
        assert_eq!(v4(&nat), Some(REMOTES_MAX), "just in time");
        nat.outgoing(72 * SECOND, 7, inside(3), remote(2)).unwrap();
        assert_eq!(v4(&nat), Some(2), "each has its own time");
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
}
