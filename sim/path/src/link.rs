//! One direction of a link: a queue before a rate, then a delay, with what goes wrong on the way.
//!
//! A packet's fate is decided when it enters: the queue is first in, first out at a fixed rate, so its departure is known then.
//! One event for each packet follows, however long the queue is.

use crate::dice::Dice;
use crate::mishap::Mishaps;
use crate::queue::Queue;

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
    /// What goes wrong.
    pub mishaps: Mishaps,
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
    queue: Queue,
    bad: bool,
    last_ns: u64,
}

impl Link {
    /// A link on which nothing is under way.
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            config,
            dice: Dice::new(seed),
            queue: Queue::new(config.bits_per_second, config.queue_bytes, config.codel),
            bad: false,
            last_ns: 0,
        }
    }

    /// A packet of this size enters.
    pub fn enter(&mut self, now_ns: u64, bytes: u32) -> Fate {
        let Mishaps {
            loss,
            reordered,
            late_ns,
            duplicated,
        } = self.config.mishaps;
        if loss.takes(&mut self.bad, &mut self.dice) {
            return Fate::Lost;
        }
        let Some(sent_ns) = self.queue.enter(now_ns, bytes) else {
            return Fate::Overflow;
        };
        let mut at = sent_ns + self.config.delay_ns;
        if self.config.jitter_ns > 0 {
            at += self.dice.below(self.config.jitter_ns + 1);
        }
        if self.dice.chance(reordered) {
            at += late_ns;
        } else {
            at = at.max(self.last_ns);
            self.last_ns = at;
        }
        if self.dice.chance(duplicated) {
            return Fate::Twice(at, at);
        }
        Fate::Arrives(at)
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self, now_ns: u64) -> u64 {
        self.queue.waiting_bytes(now_ns)
    }
}
