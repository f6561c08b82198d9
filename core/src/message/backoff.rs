//! How long to wait before something is tried again.

use std::time::Duration;

/// `first · 2^attempts`, at most `max`.
pub(crate) fn doubled(first: Duration, max: Duration, attempts: u32) -> Duration {
    first.saturating_mul(1 << attempts.min(20)).min(max)
}

/// Between three and five quarters of `pause`.
pub(crate) fn jittered(pause: Duration, random: u32) -> Duration {
    pause / 4 * 3 + (pause / 2 / 65_536) * (random >> 16)
}
