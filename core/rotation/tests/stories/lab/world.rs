//! The world of the laboratory: links, censors, routes, and what the user does.

use phantom_rotation::*;

use super::{PACKET, STEP_MS, candidate};

/// Bursty loss: a two-state chain in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bursts {
    pub(crate) good_ms: f64,
    pub(crate) bad_ms: f64,
    pub(crate) bad_loss: f64,
}

/// How fast a link is, over time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// kbit/s.
    Steady(f64),
    /// Anywhere between `low` and `high`, drawn anew every `every_ms`.
    Varying { low: f64, high: f64, every_ms: u64 },
    /// One, then another.
    Step { before: f64, at_ms: u64, after: f64 },
}

/// A link that several connections may share.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) pace: Pace,
    pub(crate) bursts: Option<Bursts>,
    pub(crate) queue_ms: f64,
    bad: bool,
    kbit: f64,
    busy_until: f64,
}

impl Link {
    pub(crate) fn new(pace: Pace, bursts: Option<Bursts>) -> Self {
        let kbit = match pace {
            Pace::Steady(kbit) => kbit,
            Pace::Varying { low, high, .. } => (low + high) / 2.0,
            Pace::Step { before, .. } => before,
        };
        Self {
            pace,
            bursts,
            queue_ms: 250.0,
            bad: false,
            kbit,
            busy_until: 0.0,
        }
    }

    pub(super) fn step(&mut self, now: u64, rng: &mut Dice) {
        match self.pace {
            Pace::Steady(kbit) => self.kbit = kbit,
            Pace::Varying { low, high, every_ms } => {
                if now.is_multiple_of(every_ms) {
                    self.kbit = low + (high - low) * rng.unit();
                }
            }
            Pace::Step { before, at_ms, after } => self.kbit = if now < at_ms { before } else { after },
        }
        if let Some(bursts) = self.bursts {
            let mean = if self.bad { bursts.bad_ms } else { bursts.good_ms };
            if rng.unit() < STEP_MS as f64 / mean {
                self.bad = !self.bad;
            }
        }
    }

    /// When a packet leaves at the other end, unless it is lost.
    pub(super) fn pass(&mut self, now: f64, rng: &mut Dice) -> Option<f64> {
        let start = self.busy_until.max(now);
        if start - now > self.queue_ms {
            return None;
        }
        self.busy_until = start + PACKET as f64 * 8.0 / self.kbit;
        let lost = self.bad && self.bursts.is_some_and(|bursts| rng.unit() < bursts.bad_loss);
        (!lost).then_some(self.busy_until)
    }
}

/// What a censor does to a kind.
#[derive(Clone, Debug)]
pub(crate) enum Censor {
    /// From then on each connection of the kind passes a bucket of 140 kbit/s that drops.
    Police {
        from_ms: u64,
        until_ms: u64,
        kbit: f64,
        burst: f64,
    },
    /// The same without drops: excess waits.
    Cap { from_ms: u64, until_ms: u64, kbit: f64 },
    /// So long after the path was taken into use.
    PoliceAfterAdoption { after_ms: u64, kbit: f64, burst: f64 },
    /// After so many bytes of a connection nothing passes; from then on, old connections too.
    FreezeAfter { from_ms: u64, bytes: u64 },
    /// Nothing passes, and dials get no answer.
    Cut { from_ms: u64, until_ms: u64 },
    /// A first packet is flagged with a probability: (client, server, port) is then dropped for so long; `renewed`: from the
    /// last packet seen.
    Flag {
        probability: f64,
        box_ms: u64,
        renewed: bool,
        reset: bool,
    },
}

/// A way to reach the servers of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) candidate: Candidate,
    pub(crate) rtt_ms: f64,
    /// The transport's own ceiling, kbit/s.
    pub(crate) ceiling: f64,
    /// A link of its own behind the access link.
    pub(crate) own: Option<Link>,
    pub(crate) censors: Vec<Censor>,
}

pub(crate) fn route(name: &str, server: u8, rtt_ms: f64, ceiling: f64) -> Route {
    Route {
        candidate: candidate(name, server, 443),
        rtt_ms,
        ceiling,
        own: None,
        censors: Vec::new(),
    }
}

impl Route {
    pub(crate) fn with(mut self, censor: Censor) -> Self {
        self.censors.push(censor);
        self
    }

    pub(crate) fn over(mut self, link: Link) -> Self {
        self.own = Some(link);
        self
    }
}

/// What the user does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Data is always queued.
    Bulk,
    /// Files of up to so many bytes, with pauses of up to so many ms.
    Files { bytes: u64, pause_ms: u64 },
    /// Nothing.
    Idle,
}

/// SplitMix64: fast, and good enough for a world.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x1ab)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}
