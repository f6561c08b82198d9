//! Time as the kernel of a host counts it: microseconds for round trips, jiffies for timers.
//!
//! Linux's timer wheel never fires early and pays for cheapness with lateness: a timer waits for the tick after its own, and
//! one that is further away for the next multiple of 8, 64 or 512 ticks (LWN 646950, "Reinventing the timer wheel"). A
//! time-out of 350 ms is up to 36 ms late because of it, which is more than some of the effects that are modelled here.

/// A tick of a kernel with `CONFIG_HZ=250`, the default of Debian and Ubuntu until 2024.
pub const JIFFY_NS: u64 = 4_000_000;
/// The same in microseconds.
pub(crate) const JIFFY_US: u64 = JIFFY_NS / 1_000;
/// Jiffies in a second.
pub const HZ: u64 = 250;

/// Ticks since the start.
pub(crate) fn jiffies(now_ns: u64) -> u64 {
    now_ns / JIFFY_NS
}

/// How many jiffies a timer must be set to for it to wait at least `us` microseconds.
pub(crate) fn jiffies_for_us(us: u64) -> u64 {
    us.div_ceil(JIFFY_US)
}

/// When a timer that is set now to `jiffies` fires, in nanoseconds.
pub(crate) fn fires_at_ns(now_ns: u64, wait: u64) -> u64 {
    // Levels of the wheel: 64 slots each, every level eight times coarser than the one below.
    let shift = match wait {
        0..63 => 0,
        63..504 => 3,
        504..4_032 => 6,
        _ => 9,
    };
    let granularity = 1 << shift;
    let expires = jiffies(now_ns) + wait;
    ((expires + granularity) >> shift << shift) * JIFFY_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_late_by_up_to_a_slot_of_its_level_and_never_early() {
        for (wait, slot) in [
            (10, 1),
            (62, 1),
            (63, 8),
            (87, 8),
            (503, 8),
            (504, 64),
            (10_000, 512),
        ] {
            for now in (0..600 * JIFFY_NS).step_by(JIFFY_NS as usize / 3) {
                let waited = fires_at_ns(now, wait) - now;
                assert!(waited > (wait - 1) * JIFFY_NS && waited <= (wait + slot) * JIFFY_NS);
            }
        }
    }
}
