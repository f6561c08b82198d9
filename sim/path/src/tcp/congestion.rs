//! Which congestion control a sender follows.

use super::cubic::Cubic;

/// Congestion controls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 9438, Linux's default.
    #[default]
    Cubic,
    /// RFC 5681 with half the window after a loss.
    Reno,
}

/// The state of one.
#[derive(Clone, Debug)]
pub(crate) enum Congestion {
    Cubic(Cubic),
    Reno,
}

impl Congestion {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::default()),
            Algorithm::Reno => Self::Reno,
        }
    }

    pub(crate) fn begin(&mut self, now_us: u64, next: u64) {
        if let Self::Cubic(cubic) = self {
            cubic.begin(now_us, next);
        }
    }

    pub(crate) fn timeout(&mut self, now_us: u64, next: u64) {
        if let Self::Cubic(cubic) = self {
            cubic.timeout(now_us, next);
        }
    }

    /// The threshold after a loss at this window, both in segments.
    pub(crate) fn threshold(&mut self, window: u32) -> u32 {
        match self {
            Self::Cubic(cubic) => cubic.threshold(window),
            Self::Reno => (window / 2).max(2),
        }
    }

    /// A round trip was measured; `true`: slow start is to end.
    pub(crate) fn measured(
        &mut self,
        now_us: u64,
        rtt_us: u32,
        window: u32,
        slow_start: bool,
        una: u64,
        next: u64,
    ) -> bool {
        match self {
            Self::Cubic(cubic) => cubic.measured(now_us, rtt_us, window, slow_start, una, next),
            Self::Reno => false,
        }
    }

    /// After how many acknowledged segments the window is to grow by one.
    pub(crate) fn acked(&mut self, now_ns: u64, window: u32, acked: u32) -> u32 {
        match self {
            Self::Cubic(cubic) => cubic.acked(now_ns, window, acked),
            Self::Reno => window,
        }
    }

    /// Nothing was out, and nothing sent since then.
    pub(crate) fn idle(&mut self, now_ns: u64, since_ns: u64) {
        if let Self::Cubic(cubic) = self {
            cubic.idle(now_ns, since_ns);
        }
    }

    #[cfg(test)]
    pub(crate) fn holds_curve(&self) -> bool {
        matches!(self, Self::Cubic(cubic) if cubic.holds_curve())
    }
}
