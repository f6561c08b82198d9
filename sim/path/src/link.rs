//! One direction of a link: a queue before a rate, then a delay, with what goes wrong on the way.
//!
//! A packet's fate is decided when it enters: the queue is first in, first out at a fixed rate, so its departure is known then.
//! One event for each packet follows, however long the queue is.

use crate::dice::Dice;

/// What a link is like. Default: endless rate, no delay, nothing lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkConfig {
    /// 0: endless.
    pub bits_per_second: u64,
    /// Bytes that may wait; 0: any number.
    pub queue_bytes: u64,
    /// Drops by waiting time beside the limit in bytes.
    pub codel: bool,
    /// One way.
    pub delay_ns: u64,
    /// Added, uniformly drawn; packets keep their order.
    pub jitter_ns: u64,
    /// What is lost.
    pub loss: Loss,
    /// Chance, in parts of 2^32, that a packet is overtaken by those of the next [`LinkConfig::late_ns`].
    pub reordered: u64,
    /// How much later a reordered packet comes.
    pub late_ns: u64,
    /// Chance, in parts of 2^32, that a packet comes twice.
    pub duplicated: u64,
}

/// Losses, by chances in parts of 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each packet with the same chance.
    Independent(u64),
    /// In bursts (Gilbert 1960): all are lost while it is bad, none while it is good.
    Bursts {
        /// The chance that it becomes bad, at each packet.
        begin: u64,
        /// The chance that it becomes good again, at each packet.
        end: u64,
    },
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives then.
    Arrives(u64),
    /// It arrives twice.
    Twice(u64, u64),
    /// It is lost on the way.
    Lost,
    /// There was no room in the queue.
    Overflow,
}

/// A link at work.
#[derive(Clone, Debug)]
pub struct Link {
    config: LinkConfig,
    dice: Dice,
    /// When all that waits is sent.
    free_ns: u64,
    bad: bool,
    last_ns: u64,
    codel: Codel,
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

impl Link {
    /// A link on which nothing is under way.
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            config,
            dice: Dice::new(seed),
            free_ns: 0,
            bad: false,
            last_ns: 0,
            codel: Codel::default(),
        }
    }

    /// A packet of this size enters.
    pub fn enter(&mut self, now_ns: u64, bytes: u32) -> Fate {
        if self.loses() {
            return Fate::Lost;
        }
        let Some(sent_ns) = self.queue(now_ns, bytes) else {
            return Fate::Overflow;
        };
        let mut at = sent_ns + self.config.delay_ns;
        if self.config.jitter_ns > 0 {
            at += self.dice.below(self.config.jitter_ns + 1);
        }
        if self.dice.chance(self.config.reordered) {
            at += self.config.late_ns;
        } else {
            at = at.max(self.last_ns);
            self.last_ns = at;
        }
        if self.dice.chance(self.config.duplicated) {
            return Fate::Twice(at, at);
        }
        Fate::Arrives(at)
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self, now_ns: u64) -> u64 {
        let waits = u128::from(self.free_ns.saturating_sub(now_ns));
        (waits * u128::from(self.config.bits_per_second) / u128::from(NS)) as u64
    }

    fn loses(&mut self) -> bool {
        match self.config.loss {
            Loss::None => false,
            Loss::Independent(chance) => self.dice.chance(chance),
            Loss::Bursts { begin, end } => {
                let turns = self.dice.chance(if self.bad { end } else { begin });
                self.bad ^= turns;
                self.bad
            }
        }
    }

    /// When the packet has left the queue.
    fn queue(&mut self, now_ns: u64, bytes: u32) -> Option<u64> {
        let rate = self.config.bits_per_second;
        if rate == 0 {
            return Some(now_ns);
        }
        let begins = self.free_ns.max(now_ns);
        let full = self.config.queue_bytes;
        if full > 0 && self.queued_bytes(now_ns) + u64::from(bytes) > full {
            return None;
        }
        if self.config.codel && self.codel.drops(begins, begins - now_ns) {
            return None;
        }
        self.free_ns = begins + (u128::from(bytes) * u128::from(NS) / u128::from(rate)) as u64;
        Some(self.free_ns)
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
