//! What a sender holds only while something is out: an idle connection does without it.

use std::ops::{Deref, DerefMut};

use super::segment::{Block, SACKS_MAX};
use super::sent::Flight;

/// Made when the first segment is sent, dropped when the last is acknowledged and nothing is wrong or left to be judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Option<Box<Work>>);

/// The flight, and the repair of it.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) flight: Flight,
    pub(crate) rack: Rack,
    pub(crate) undo: Undo,
    /// The present state, if it is not the open one, ends when this is acknowledged.
    pub(crate) high: u64,
    /// F-RTO is at work.
    pub(crate) frto: bool,
    /// Whether the window is what limits, until when that holds, and how many were out at most. With nothing out all of it is
    /// acknowledged, and the next segment that is sent judges anew.
    pub(crate) limited: bool,
    pub(crate) limited_until: u64,
    pub(crate) out_max: u32,
    /// Proportional rate reduction: the window before it, segments delivered and sent since.
    pub(crate) window_before: u32,
    pub(crate) prr_delivered: u32,
    pub(crate) prr_out: u32,
    /// The end of a tail loss probe, and whether it was sent before.
    pub(crate) probe: Option<(u64, bool)>,
    /// The blocks of the last acknowledgement.
    pub(crate) sacks_before: [Block; SACKS_MAX],
}

static NOTHING: Work = Work::new();

impl Work {
    const fn new() -> Self {
        Self {
            flight: Flight::new(),
            rack: Rack {
                at_us: 0,
                end: 0,
                rtt_us: 0,
                advanced: false,
            },
            undo: Undo {
                possible: false,
                window: 0,
                threshold: 0,
                unreported: None,
                first_ms: 0,
            },
            high: 0,
            frto: false,
            limited: false,
            limited_until: 0,
            out_max: 0,
            window_before: 0,
            prr_delivered: 0,
            prr_out: 0,
            probe: None,
            sacks_before: [Block { start: 0, end: 0 }; SACKS_MAX],
        }
    }
}

impl Busy {
    /// Lets go of it if nothing is out. What became of a probe is judged by what is acknowledged after it (`tcp_process_tlp_ack`),
    /// which is the next burst's if the program had no more to send: until then it is kept.
    pub(crate) fn rest(&mut self) {
        self.0
            .take_if(|work| work.flight.is_empty() && work.probe.is_none());
    }

    #[cfg(test)]
    pub(crate) fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

impl Deref for Busy {
    type Target = Work;

    fn deref(&self) -> &Work {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Busy {
    fn deref_mut(&mut self) -> &mut Work {
        self.0.get_or_insert_with(|| Box::new(Work::new()))
    }
}

/// RACK (RFC 8985 §6): the transmission that was delivered and sent last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rack {
    pub(crate) at_us: u64,
    pub(crate) end: u64,
    pub(crate) rtt_us: u32,
    pub(crate) advanced: bool,
}

/// What it takes to take a reduction back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Undo {
    /// A reduction is under way that may prove to be needless.
    pub(crate) possible: bool,
    pub(crate) window: u32,
    pub(crate) threshold: u32,
    /// Retransmissions that no duplicate report has answered; `None`: there was none.
    pub(crate) unreported: Option<u32>,
    /// When the first retransmission of this recovery was sent, in milliseconds; 0: none.
    pub(crate) first_ms: u32,
}
