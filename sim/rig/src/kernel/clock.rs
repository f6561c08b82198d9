//! Real time.

use std::time::Instant;

/// Nanoseconds since the lane was made, by CLOCK_MONOTONIC. Cheap to copy; all threads of a lane have the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    /// Starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "a measuring rig is real time by purpose: it sets kernels beside simulations"
    )]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// Now. 64 bits last for 584 years.
    pub(super) fn now_ns(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}
