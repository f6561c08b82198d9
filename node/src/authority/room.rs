//! Who is in at an authority, so that nobody who comes keeps others out. Spec: SPEC §6.7.
//!
//! Nobody waits for a place and nobody is turned away: whoever comes in beyond a bound shows out the one that has been
//! in longest, of the same guest or of all strangers. Other authorities have places of their own. A place is left by
//! dropping it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phantom_core::directory::sign::AuthorityId;
use phantom_core::event::{Event, Refusal};
use phantom_core::high_water::HighWater;
use phantom_core::runtime::Events;
use tokio::sync::Notify;

/// Who comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// Another authority.
    Authority(AuthorityId),
    /// Anybody else, by address.
    Stranger(Source),
}

/// An IPv4 address, or an IPv6 network of 64 bits: what one machine has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// How many may be in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of each guest.
    pub(super) each: usize,
    /// Of all strangers.
    pub(super) strangers: usize,
}

/// The places.
pub(super) struct Room {
    what: &'static str,
    bounds: Bounds,
    high: HighWater,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// In the order of their coming.
    places: BTreeMap<u64, (Guest, Arc<Notify>)>,
}

/// One that is taken.
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
    leave: Arc<Notify>,
}

impl Room {
    /// An empty one; `what` names its places in events, `authorities` may come in besides strangers.
    pub(super) fn new(what: &'static str, bounds: Bounds, authorities: usize) -> Self {
        Self {
            what,
            bounds,
            high: HighWater::new(what, bounds.strangers + bounds.each * authorities),
            state: Mutex::default(),
        }
    }

    /// Takes a place for `guest`.
    pub(super) fn enter(self: &Arc<Self>, rt: &impl Events, guest: Guest) -> Place {
        let leave = Arc::new(Notify::new());
        let (number, shown_out, depth) = {
            let mut state = self.state();
            let shown_out = state.full(guest, self.bounds);
            if let Some((_, leave)) = shown_out.and_then(|number| state.places.remove(&number)) {
                leave.notify_one();
            }
            let number = state.next;
            state.next += 1;
            state.places.insert(number, (guest, leave.clone()));
            (number, shown_out, state.places.len())
        };
        if shown_out.is_some() {
            rt.emit(Event::Refused {
                what: self.what,
                why: Refusal::OverQuota,
            });
        }
        self.high.note(rt, depth);
        Place {
            room: self.clone(),
            number,
            leave,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Who is to make room for `guest`, if there is none.
    fn full(&self, guest: Guest, bounds: Bounds) -> Option<u64> {
        let oldest = |bound: usize, of: &dyn Fn(Guest) -> bool| {
            let mut numbers = self.places.iter().filter(|(_, (guest, _))| of(*guest));
            let first = numbers.next().map(|(number, _)| *number);
            first.filter(|_| 1 + numbers.count() >= bound)
        };
        let stranger = |guest| matches!(guest, Guest::Stranger(_));
        oldest(bounds.each, &|other| other == guest).or_else(|| {
            stranger(guest)
                .then(|| oldest(bounds.strangers, &stranger))
                .flatten()
        })
    }
}

impl Place {
    /// Waits until somebody else needs the place.
    pub(super) async fn shown_out(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.state().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    struct Deaf;

    impl Events for Deaf {
        fn emit(&self, _: Event) {}
    }

    fn room() -> Arc<Room> {
        Arc::new(Room::new(
            "test",
            Bounds {
                each: 2,
                strangers: 3,
            },
            1,
        ))
    }

    fn stranger(host: u8) -> Guest {
        Guest::Stranger(Source::of([10, 0, 0, host].into()))
    }

    fn is_shown_out(place: &Place) -> bool {
        let waiting = pin!(place.shown_out());
        waiting.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn whoever_comes_in_too_often_shows_out_its_own_oldest() {
        let room = room();
        let [a, b, c, other] = [1, 1, 1, 2].map(|host| room.enter(&Deaf, stranger(host)));
        assert_eq!(
            [&a, &b, &c, &other].map(is_shown_out),
            [true, false, false, false]
        );
    }

    #[test]
    fn many_strangers_show_out_the_oldest_of_them_and_never_an_authority() {
        let room = room();
        let authority = Guest::Authority(AuthorityId([1; 8]));
        let kept = room.enter(&Deaf, authority);
        let strangers: Vec<Place> = (0..20).map(|host| room.enter(&Deaf, stranger(host))).collect();
        let out = strangers.iter().filter(|place| is_shown_out(place)).count();
        assert_eq!(out, 17);
        assert!(!is_shown_out(&strangers[19]));
        let again = room.enter(&Deaf, authority);
        assert!(!is_shown_out(&kept) && !is_shown_out(&again));
    }

    #[test]
    fn a_place_that_is_left_is_free() {
        let room = room();
        let first = room.enter(&Deaf, stranger(1));
        for _ in 0..5 {
            drop(room.enter(&Deaf, stranger(1)));
        }
        assert!(!is_shown_out(&first));
    }

    #[test]
    fn neighbours_in_one_ipv6_network_are_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
