//! Connections that are no links yet: those that wait for a hello, and those that are read on in silence since what they said
//! was for somebody else. Spec: SPEC §2.2.
//!
//! Anybody can open one and say nothing, so their number is bounded, in all and for each source. At a bound the oldest is
//! closed, a silent one first: whoever has something to say has said it a round trip after it came.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Connections at once: each takes one of the files that the host lets a process open, often 1,024.
const GUESTS_MAX: usize = 512;
/// Connections of one source at once. Many users may share an address, and each is a guest for a round trip or two.
const GUESTS_OF_SOURCE_MAX: usize = GUESTS_MAX / 4;

/// Who makes connections: an IPv4 address, or the IPv6 network of 64 bits that a host gets as a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Origin([u8; 8]);

impl Origin {
    fn of(address: IpAddr) -> Self {
        let mut origin = [0; 8];
        match address.to_canonical() {
            // No IPv6 network begins like this, but the one of addresses that are IPv4 in disguise.
            IpAddr::V4(v4) => origin[4..].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => origin.copy_from_slice(&v6.octets()[..8]),
        }
        Self(origin)
    }
}

#[derive(Default)]
struct State {
    next: u64,
    /// Oldest first.
    guests: BTreeMap<u64, (Origin, Arc<Notify>)>,
    of_origin: BTreeMap<Origin, BTreeSet<u64>>,
    silent: BTreeSet<u64>,
}

impl State {
    /// The guest who makes room for one more of `origin`, if one has to.
    fn in_the_way(&self, origin: Origin) -> Option<u64> {
        let first_of = |own: &BTreeSet<u64>| {
            let silent = own.iter().find(|guest| self.silent.contains(guest));
            silent.or(own.first()).copied()
        };
        match self.of_origin.get(&origin) {
            Some(own) if own.len() >= GUESTS_OF_SOURCE_MAX => first_of(own),
            _ if self.guests.len() < GUESTS_MAX => None,
            _ => (self.silent.first()).or(self.guests.keys().next()).copied(),
        }
    }

    fn remove(&mut self, guest: u64) {
        let Some((origin, leave)) = self.guests.remove(&guest) else {
            return;
        };
        self.silent.remove(&guest);
        if let Some(own) = self.of_origin.get_mut(&origin) {
            own.remove(&guest);
            if own.is_empty() {
                self.of_origin.remove(&origin);
            }
        }
        leave.notify_one();
    }
}

/// The books of them. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Door(Arc<Mutex<State>>);

/// A connection on the books, until it is dropped.
pub(crate) struct Guest {
    door: Door,
    number: u64,
    leave: Arc<Notify>,
}

impl Door {
    /// Takes a connection down; another one may have to leave for it.
    pub(crate) fn enter(&self, from: IpAddr) -> Guest {
        let (origin, leave) = (Origin::of(from), Arc::new(Notify::new()));
        let mut state = self.state();
        if let Some(other) = state.in_the_way(origin) {
            state.remove(other);
        }
        let number = state.next;
        state.next += 1;
        state.guests.insert(number, (origin, leave.clone()));
        state.of_origin.entry(origin).or_default().insert(number);
        Guest {
            door: self.clone(),
            number,
            leave,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// Nothing more can come of it: it leaves before others do.
    pub(crate) fn is_silent(&self) {
        let mut state = self.door.state();
        if state.guests.contains_key(&self.number) {
            state.silent.insert(self.number);
        }
    }

    /// Returns when it has to leave.
    pub(crate) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.door.state().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn host(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn has_to_leave(guest: &Guest) -> bool {
        pin!(guest.told_to_leave())
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    /// One host that opens connections without end only ever closes its own.
    #[test]
    fn a_source_makes_room_for_itself_and_others_stay() {
        let door = Door::default();
        let other = door.enter(host(1));
        let crowd: Vec<Guest> = (0..2 * GUESTS_OF_SOURCE_MAX)
            .map(|_| door.enter(host(2)))
            .collect();
        let leave: Vec<usize> = (0..crowd.len()).filter(|&n| has_to_leave(&crowd[n])).collect();
        assert_eq!(leave, (0..GUESTS_OF_SOURCE_MAX).collect::<Vec<_>>(), "the oldest");
        assert!(!has_to_leave(&other));
    }

    /// A host with an IPv6 network of its own has 2^64 addresses.
    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_source() {
        let door = Door::default();
        let at = |host: u128| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | host));
        let crowd: Vec<Guest> = (0..=GUESTS_OF_SOURCE_MAX as u128)
            .map(|host| door.enter(at(host)))
            .collect();
        let neighbour = door.enter(at(1 << 64));
        assert!(has_to_leave(&crowd[0]) && !has_to_leave(&crowd[1]));
        assert!(!has_to_leave(&neighbour));
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
        assert_eq!(Origin::of(mapped), Origin::of(Ipv4Addr::LOCALHOST.into()));
    }

    /// Many hosts together fill the books; those who have shown that they are of no use leave first, then the oldest.
    #[test]
    fn at_the_bound_the_silent_leave_before_those_who_may_still_speak() {
        let door = Door::default();
        let mut crowd: Vec<Guest> = (0..GUESTS_MAX as u32).map(|n| door.enter(host(n))).collect();
        crowd[7].is_silent();
        crowd.push(door.enter(host(u32::MAX)));
        assert!(has_to_leave(&crowd[7]) && !has_to_leave(&crowd[0]));
        crowd.push(door.enter(host(u32::MAX)));
        assert!(has_to_leave(&crowd[0]) && !has_to_leave(&crowd[1]));
        drop(crowd);
        let state = door.state();
        assert!(state.guests.is_empty() && state.of_origin.is_empty() && state.silent.is_empty());
    }
}
