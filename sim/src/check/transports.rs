//! Transports and probes: what the rule on fully encrypted traffic makes of the former, and what servers let the latter know.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use phantom_core::transport::Kind;

use super::observe::Seen;

/// What was seen of them.
#[derive(Clone, Debug, Default)]
pub struct Transports {
    /// Connections flagged and judged.
    flagged: BTreeMap<Kind, (u64, u64)>,
    probes: u64,
    answered: u64,
    /// Per server, the soonest and the latest close after the handshake, in nanoseconds.
    closings: BTreeMap<SocketAddr, (u64, u64)>,
}

impl Transports {
    /// Takes note of it.
    pub fn observe(&mut self, seen: &Seen) {
        match *seen {
            Seen::Flagged {
                transport,
                flagged,
                judged,
            } => {
                let (yes, all) = self.flagged.entry(transport).or_default();
                *yes += flagged;
                *all += judged;
            }
            Seen::Probed {
                server,
                answered,
                closed_after_ns,
            } => {
                self.probes += 1;
                self.answered += u64::from(answered);
                if let Some(after) = closed_after_ns {
                    let (soonest, latest) = self.closings.entry(server).or_insert((after, after));
                    *soonest = after.min(*soonest);
                    *latest = after.max(*latest);
                }
            }
            _ => {}
        }
    }

    /// Connections over a transport, or over any, that were flagged, and that were judged.
    pub fn flagged(&self, transport: Option<Kind>) -> (u64, u64) {
        let of = |kind: &Kind| transport.is_none_or(|wanted| wanted == *kind);
        let those = self.flagged.iter().filter(|(kind, _)| of(kind));
        those.fold((0, 0), |(yes, all), (_, (flagged, judged))| {
            (yes + flagged, all + judged)
        })
    }

    /// Probes that ended.
    pub const fn probes(&self) -> u64 {
        self.probes
    }

    /// Probes that got a byte, and all of them.
    pub const fn answered(&self) -> (u64, u64) {
        (self.answered, self.probes)
    }

    /// Per server that closed on probes, seconds between the soonest and the latest.
    pub fn closing_spreads(&self) -> Vec<f64> {
        let spread = |(soonest, latest): &(u64, u64)| (latest - soonest) as f64 / 1e9;
        self.closings.values().map(spread).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_adds_up_by_transport_and_by_server() {
        let mut transports = Transports::default();
        for (transport, flagged, judged) in
            [(Kind::Obfs4, 9, 10), (Kind::Obfs4Tls, 0, 5), (Kind::Obfs4, 1, 1)]
        {
            transports.observe(&Seen::Flagged {
                transport,
                flagged,
                judged,
            });
        }
        assert_eq!(transports.flagged(Some(Kind::Obfs4)), (10, 11));
        assert_eq!(transports.flagged(Some(Kind::Plain)), (0, 0));
        assert_eq!(transports.flagged(None), (10, 16));
        for (server, closed) in [(1, Some(30_000_000_000)), (1, Some(30_004_000_000)), (2, None)] {
            transports.observe(&Seen::Probed {
                server: ([192, 0, 2, server], 443).into(),
                answered: closed.is_none(),
                closed_after_ns: closed,
            });
        }
        assert_eq!(transports.answered(), (1, 3));
        assert_eq!(transports.closing_spreads(), [0.004]);
    }
}
