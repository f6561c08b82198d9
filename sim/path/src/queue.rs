//! What waits in front of a rate: first in, first out, with a limit in bytes and, if wanted, CoDel.
//!
//! A packet's fate is decided when it enters: its departure is known then, so no event is needed for the queue itself.

/// A queue at work.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// 0: endless.
    bits_per_second: u64,
    /// 0: any number.
    bytes_max: u64,
    /// When all that waits is sent.
    free_ns: u64,
    /// Boxed: few queues have it, and a world has two for each host.
    codel: Option<Box<Codel>>,
}

/// CoDel (RFC 8289) as far as it can be decided when a packet enters: by how long it will have waited when it leaves.
#[derive(Clone, Copy, Debug, Default)]
struct Codel {
    /// The waiting time has been too long since an interval before this; 0: it is not.
    above_until_ns: u64,
    dropping: bool,
    drop_next_ns: u64,
    count: u32,
}

const CODEL_TARGET_NS: u64 = 5_000_000;
const CODEL_INTERVAL_NS: u64 = 100_000_000;
const NS: u64 = 8_000_000_000;

impl Queue {
    /// An empty queue in front of this rate (0: endless), in which so many bytes may wait (0: any number).
    pub fn new(bits_per_second: u64, bytes_max: u64, codel: bool) -> Self {
        Self {
            bits_per_second,
            bytes_max,
            free_ns: 0,
            codel: codel.then(Box::default),
        }
    }

    /// A packet enters: when it has left, `None` if it is dropped. It is admitted if it fits beside what waits, as Linux's
    /// `bfifo` does it.
    pub fn enter(&mut self, now_ns: u64, bytes: u32) -> Option<u64> {
        if self.bits_per_second == 0 {
            return Some(now_ns);
        }
        let begins_ns = self.free_ns.max(now_ns);
        if self.bytes_max > 0 && self.waiting_bytes(now_ns) + u64::from(bytes) > self.bytes_max {
            return None;
        }
        if let Some(codel) = &mut self.codel
            && codel.drops(begins_ns, begins_ns - now_ns)
        {
            return None;
        }
        // 2^64 nanoseconds times bits allow 2 GB at once: packets are far smaller.
        self.free_ns = begins_ns + u64::from(bytes) * NS / self.bits_per_second;
        Some(self.free_ns)
    }

    /// Bytes that wait.
    pub fn waiting_bytes(&self, now_ns: u64) -> u64 {
        match self.free_ns.saturating_sub(now_ns) {
            0 => 0,
            waits => (u128::from(waits) * u128::from(self.bits_per_second) / u128::from(NS)) as u64,
        }
    }
}

impl Codel {
    fn drops(&mut self, leaves_ns: u64, waited_ns: u64) -> bool {
        if waited_ns < CODEL_TARGET_NS {
            (self.above_until_ns, self.dropping) = (0, false);
            return false;
        }
        if self.above_until_ns == 0 {
            self.above_until_ns = leaves_ns + CODEL_INTERVAL_NS;
            return false;
        }
        if !self.dropping {
            if leaves_ns < self.above_until_ns {
                return false;
            }
            // Soon after the last time it goes on where it was.
            let soon = leaves_ns < self.drop_next_ns + 8 * CODEL_INTERVAL_NS;
            self.count = if soon && self.count > 2 { self.count - 2 } else { 1 };
            self.dropping = true;
            self.drop_next_ns = leaves_ns + self.spacing_ns();
            return true;
        }
        if leaves_ns < self.drop_next_ns {
            return false;
        }
        self.count += 1;
        self.drop_next_ns += self.spacing_ns();
        true
    }

    fn spacing_ns(&self) -> u64 {
        CODEL_INTERVAL_NS * 1_024 / (u64::from(self.count) << 20).isqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_admitted_if_it_fits_beside_what_waits() {
        let mut queue = Queue::new(8_000, 3_000, false);
        for (packet, leaves_s) in [(1_000, Some(1)), (1_000, Some(2)), (1_000, Some(3)), (1, None)] {
            let leaves = queue.enter(0, packet);
            assert_eq!(leaves, leaves_s.map(|secs: u64| secs * 1_000_000_000));
        }
        assert_eq!(queue.waiting_bytes(500_000_000), 2_500);
        assert_eq!(queue.enter(500_000_000, 500), Some(3_500_000_000));
        assert_eq!(queue.waiting_bytes(10_000_000_000), 0);
    }

    #[test]
    fn codel_drops_what_has_waited_too_long_for_too_long_and_nothing_else() {
        let lost = |codel: bool, every_ns: u64| {
            let mut queue = Queue::new(12_000_000, 0, codel);
            (0..2_000_u64)
                .filter(|n| queue.enter(n * every_ns, 1_500).is_none())
                .count()
        };
        assert_eq!(lost(true, 1_000_000), 0, "as fast as it drains");
        assert_eq!(lost(false, 900_000), 0);
        let some = lost(true, 900_000);
        assert!((20..400).contains(&some), "{some} of 2,000 at 11 % too fast");
    }
}
