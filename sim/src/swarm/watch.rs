//! Who watches the network: what a [`Tap`](super::border::Tap) is told, and where.
//!
//! A packet is made for a tap only where it looks: at the border, and at the hosts that it watches. What is on its way to such a host
//! travels with the event of its arrival.

use std::net::IpAddr;
use std::time::Duration;

use phantom_core::units::Instant;

use super::border::{Direction, Kind, Options, Packet, Place, Seen, Verdict};
use super::dns;
use super::network::{Net, Sending};
use crate::host::PeerId;

/// The receiver of a packet whose address nobody has.
pub(crate) const NOBODY: u32 = u32::MAX;

/// A packet on its way to a host that a tap watches; mostly nothing.
pub(crate) type Watched = Option<Box<Seen>>;

/// How long a forged answer says that it holds; no program looks at it.
const FORGED_TTL: Duration = Duration::from_secs(300);

impl Net {
    /// Tells a tap of a packet that a host puts on its link, if it watches that host; gives the packet if it watches the other.
    pub(crate) fn leaves(&mut self, now: u64, sending: &Sending<'_>) -> Watched {
        let tap = self.tap.as_mut()?;
        let ends = [PeerId(sending.from), PeerId(sending.to)];
        let [from, to] = ends.map(|end| sending.from != sending.to && tap.watches(end));
        if !(from || to) || !self.hosts[sending.from as usize].linked {
            return None;
        }
        let outbound = self.hosts[sending.from as usize].inside;
        let seen = Box::new(sending.seen(now, outbound));
        if from {
            tap.on_packet(seen.packet.at, &Place::Leaving(ends[0]), &seen);
        }
        to.then_some(seen)
    }

    /// Tells a tap of a packet that is at its receiver at `at`.
    pub(crate) fn arrives(&mut self, at: u64, watched: Watched) {
        if let (Some(tap), Some(seen)) = (&mut self.tap, watched) {
            let place = Place::Arriving(seen.ends[1]);
            tap.on_packet(Instant::from_nanos(at), &place, &seen);
        }
    }

    /// Tells a tap of a packet that the middlebox makes; gives it back if the tap watches the host that it goes to.
    pub(super) fn forges(&mut self, now: Instant, seen: impl FnOnce() -> Seen) -> Watched {
        let tap = self.tap.as_mut()?;
        let seen = Box::new(seen());
        let place = Place::Behind { forged: true };
        tap.on_packet(now, &place, &seen);
        tap.watches(seen.ends[1]).then_some(seen)
    }

    /// Tells a tap of a packet at the border and behind it. The answer that a middlebox forges on the way is given back if the tap
    /// watches the host that it goes to.
    pub(super) fn crosses(
        &mut self,
        packet: Packet,
        ends: [PeerId; 2],
        options: Options,
        verdict: &Verdict,
    ) -> Watched {
        let (at, query) = (packet.at, packet.kind == Kind::Query);
        let seen = Seen {
            packet,
            ends,
            options,
        };
        let tap = self.tap.as_mut()?;
        tap.on_packet(at, &Place::Border(verdict), &seen);
        let goes_on = match verdict {
            Verdict::Pass => Some(at),
            Verdict::Delay(by) => Some(at + *by),
            Verdict::ForgeDns { truth_follows, .. } => (*truth_follows || !query).then_some(at),
            Verdict::Reset { .. } | Verdict::Drop => None,
        };
        if let Some(at) = goes_on {
            tap.on_packet(at, &Place::Behind { forged: false }, &seen);
        }
        match verdict {
            Verdict::ForgeDns { addresses, .. } if query => {
                self.forges(at, || forged_answer(&seen, addresses))
            }
            _ => None,
        }
    }
}

impl Sending<'_> {
    /// As an observer sees it.
    pub(super) fn packet(&self, now: u64, outbound: bool) -> Packet {
        Packet {
            at: Instant::from_nanos(now),
            src: self.src,
            dst: self.dst,
            protocol: self.protocol,
            direction: if outbound {
                Direction::Outbound
            } else {
                Direction::Inbound
            },
            kind: self.kind,
            payload: self.payload.clone(),
            name: self.name.cloned(),
            flow: self.flow,
            tcp: self.tcp,
        }
    }

    fn seen(&self, now: u64, outbound: bool) -> Seen {
        Seen {
            packet: self.packet(now, outbound),
            ends: [PeerId(self.from), PeerId(self.to)],
            options: self.options,
        }
    }
}

/// The answer that a middlebox makes to a query.
fn forged_answer(query: &Seen, addresses: &[IpAddr]) -> Seen {
    let asked = &query.packet;
    let id = asked
        .payload
        .first_chunk()
        .map_or(0, |id| u16::from_be_bytes(*id));
    let name = asked.name.as_deref().unwrap_or_default();
    Seen {
        packet: Packet {
            src: asked.dst,
            dst: asked.src,
            direction: asked.direction.reverse(),
            kind: Kind::Answer,
            payload: dns::encode(id, name, Some(addresses), FORGED_TTL),
            ..asked.clone()
        },
        ends: [query.ends[1], query.ends[0]],
        options: Options::default(),
    }
}
