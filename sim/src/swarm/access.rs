//! One direction of a host's access link: its queue, and what goes wrong on it.

use phantom_core::units::BitRate;
use phantom_path::dice::Dice;
use phantom_path::mishap::Mishaps;
use phantom_path::queue::Queue;

use super::topology::Access;

/// One direction of an access link.
#[derive(Clone, Debug)]
pub(crate) struct AccessWay {
    queue: Queue,
    /// Boxed: few links have any.
    trouble: Option<Box<Trouble>>,
}

#[derive(Clone, Debug)]
struct Trouble {
    mishaps: Mishaps,
    dice: Dice,
    /// Within a burst of losses.
    bad: bool,
}

/// A packet that is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// When.
    pub(crate) ns: u64,
    /// What its sender sends behind it may come before it: streams else keep their order.
    pub(crate) overtaken: bool,
    /// It comes again at the same time.
    pub(crate) twice: bool,
}

impl Arrival {
    /// Nothing special.
    pub(crate) const fn at(ns: u64) -> Self {
        Self {
            ns,
            overtaken: false,
            twice: false,
        }
    }
}

/// Why a packet is not through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// By chance.
    Lost,
    /// By the queue.
    QueueFull,
}

impl AccessWay {
    pub(crate) fn new(access: &Access, rate: BitRate, seed: u64) -> Self {
        let trouble = access.mishaps.is_possible().then(|| {
            Box::new(Trouble {
                mishaps: access.mishaps,
                dice: Dice::new(seed),
                bad: false,
            })
        });
        Self {
            queue: Queue::new(rate.bits_per_second(), access.queue_bytes, access.codel),
            trouble,
        }
    }

    /// A packet of `bytes` enters at `now_ns`. In the order of [`phantom_path::link::Link::enter`].
    pub(crate) fn enter(&mut self, now_ns: u64, bytes: u32) -> Result<Arrival, Dropped> {
        if let Some(trouble) = &mut self.trouble
            && trouble.mishaps.loss.takes(&mut trouble.bad, &mut trouble.dice)
        {
            return Err(Dropped::Lost);
        }
        let through = self.queue.enter(now_ns, bytes).ok_or(Dropped::QueueFull)?;
        let mut arrival = Arrival::at(through);
        if let Some(trouble) = &mut self.trouble {
            arrival.overtaken = trouble.dice.chance(trouble.mishaps.reordered);
            if arrival.overtaken {
                arrival.ns += trouble.mishaps.late_ns;
            }
            arrival.twice = trouble.dice.chance(trouble.mishaps.duplicated);
        }
        Ok(arrival)
    }

    /// Bytes that wait at `now_ns`.
    pub(crate) fn depth(&self, now_ns: u64) -> u64 {
        self.queue.waiting_bytes(now_ns)
    }
}
