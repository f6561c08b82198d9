//! Residual blocks: whom not to dial, and until when.
//!
//! After a flagged connection a censor drops or resets every further one between the same client, server and port for a
//! while, and some begin anew with every packet they see (facts: 90 s, 120 s, 180 s; 60 s renewed). A client cannot tell which,
//! so after any cut that a censor could have made the same three are left alone for longer than all of these. After silence
//! the whole address is, for longer than 60 s.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_core::Rng;

use phantom_core::units::Instant;

use crate::config::Config;

/// Windows held. One more is not dialled rather than forgotten.
pub(crate) const WINDOWS_MAX: usize = 128;

/// One window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) client: IpAddr,
    pub(crate) server: SocketAddr,
    pub(crate) until: Instant,
    /// After silence: no port of the address is dialled until then.
    pub(crate) quiet_until: Instant,
    /// Cuts in a row.
    pub(crate) cuts: u8,
}

/// All windows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows(Vec<Window>);

impl Windows {
    pub(crate) fn restore(&mut self, window: Window) {
        if self.0.len() < WINDOWS_MAX && !self.has(window.client, window.server) {
            self.0.push(window);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Window> {
        self.0.iter()
    }

    fn has(&self, client: IpAddr, server: SocketAddr) -> bool {
        self.0
            .iter()
            .any(|known| (known.client, known.server) == (client, server))
    }

    /// A connection was cut in a way a censor could have cut it.
    pub(crate) fn cut(
        &mut self,
        config: &Config,
        rng: &mut impl Rng,
        now: Instant,
        client: IpAddr,
        server: SocketAddr,
        silent: bool,
    ) {
        let Some(known) = self.at(now, client, server) else {
            return;
        };
        let whole = config
            .residual
            .saturating_mul(1 << known.cuts.min(8))
            .min(config.residual_max);
        known.cuts = known.cuts.saturating_add(1);
        known.until = known.until.max(now + whole + random(rng, config.residual_jitter));
        if silent {
            known.quiet_until = now + config.quiet + random(rng, config.quiet_jitter);
        }
    }

    /// A server is left alone for so long, for no censor's reason.
    pub(crate) fn rest(&mut self, now: Instant, time: Duration, client: IpAddr, server: SocketAddr) {
        if let Some(known) = self.at(now, client, server) {
            known.until = known.until.max(now + time);
        }
    }

    /// The same, doubled each time.
    pub(crate) fn put_off(&mut self, now: Instant, base: Duration, client: IpAddr, server: SocketAddr) {
        if let Some(known) = self.at(now, client, server) {
            known.until = known.until.max(now + base.saturating_mul(1 << known.cuts.min(8)));
            known.cuts = known.cuts.saturating_add(1);
        }
    }

    /// The window of `server`, made if there is room.
    fn at(&mut self, now: Instant, client: IpAddr, server: SocketAddr) -> Option<&mut Window> {
        let same = |known: &Window| (known.client, known.server) == (client, server);
        if !self.0.iter().any(same) {
            self.make_room(now);
            if self.0.len() >= WINDOWS_MAX {
                return None;
            }
            self.0.push(Window {
                client,
                server,
                until: now,
                quiet_until: now,
                cuts: 0,
            });
        }
        self.0.iter_mut().find(|known| same(known))
    }

    /// A window that is over is kept for its number of cuts, until its place is needed.
    fn make_room(&mut self, now: Instant) {
        if self.0.len() >= WINDOWS_MAX {
            self.0.retain(|known| now < known.until.max(known.quiet_until));
        }
    }

    /// User bytes moved: what was held against it is forgotten.
    pub(crate) fn clear(&mut self, now: Instant, client: IpAddr, server: SocketAddr) {
        self.0.retain(|known| {
            (known.client, known.server) != (client, server) || now < known.until.max(known.quiet_until)
        });
    }

    /// When `server` may be dialled from `client`: now, or later. `None`: not before a window of others ends, since a cut
    /// could not be remembered.
    pub(crate) fn free_at(
        &self,
        now: Instant,
        client: IpAddr,
        server: SocketAddr,
        under_way: usize,
    ) -> Option<Instant> {
        let full = || {
            let live = self
                .0
                .iter()
                .filter(|known| now < known.until.max(known.quiet_until));
            live.count() + under_way >= WINDOWS_MAX
        };
        if !self.has(client, server) && full() {
            return None;
        }
        let mut free = now;
        for known in self.0.iter().filter(|known| known.client == client) {
            if known.server == server {
                free = free.max(known.until);
            }
            if known.server.ip() == server.ip() {
                free = free.max(known.quiet_until);
            }
        }
        Some(free)
    }
}

/// A random time up to `most`.
pub(crate) fn random(rng: &mut impl Rng, most: Duration) -> Duration {
    let most = u64::try_from(most.as_nanos())
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    Duration::from_nanos(rng.next_u64() % most.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng as _;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn at(secs: u64) -> Instant {
        Instant::from_nanos(secs * 1_000_000_000)
    }

    #[test]
    fn a_reset_closes_one_port_and_silence_the_whole_address_for_more_than_a_minute() {
        let (config, mut rng) = (Config::default(), ChaCha12Rng::seed_from_u64(1));
        let server: SocketAddr = "192.0.2.1:443".parse().expect("an address");
        let other: SocketAddr = "192.0.2.1:80".parse().expect("an address");
        for _ in 0..100 {
            let mut windows = Windows::default();
            windows.cut(&config, &mut rng, at(0), CLIENT, server, false);
            assert!(windows.free_at(at(1), CLIENT, server, 0) >= Some(at(180)));
            assert_eq!(windows.free_at(at(1), CLIENT, other, 0), Some(at(1)));
            windows.cut(&config, &mut rng, at(1), CLIENT, server, true);
            let free = windows.free_at(at(1), CLIENT, other, 0);
            assert!(free > Some(at(61)) && free < Some(at(90)), "{free:?}");
            assert!(
                windows.free_at(at(1), CLIENT, server, 0) >= Some(at(361)),
                "doubled"
            );
        }
    }

    #[test]
    fn where_a_cut_could_not_be_remembered_nothing_is_dialled() {
        let (config, mut rng) = (Config::default(), ChaCha12Rng::seed_from_u64(1));
        let mut windows = Windows::default();
        let server = |n: u16| SocketAddr::new(CLIENT, n);
        for n in 0..WINDOWS_MAX as u16 {
            assert!(windows.free_at(at(0), CLIENT, server(n), 0).is_some());
            windows.cut(&config, &mut rng, at(0), CLIENT, server(n), false);
        }
        assert_eq!(windows.free_at(at(0), CLIENT, server(999), 0), None);
        assert_eq!(windows.free_at(at(300), CLIENT, server(999), 0), Some(at(300)));
        windows.cut(&config, &mut rng, at(300), CLIENT, server(999), false);
        assert_eq!(windows.iter().count(), 1);
    }
}
