//! What is measured, and what comes of it.

use std::time::Duration;

use phantom_path::fidelity::{BURST_BYTES, Cell};
use phantom_path::link::LinkConfig;

/// Packets later than this spoil a transfer: it is measured again, and flagged if that does not help.
pub const LATE: Duration = Duration::from_millis(5);

/// Transfers that share a lane.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From the senders to the receivers.
    pub forth: LinkConfig,
    /// Back.
    pub back: LinkConfig,
    /// At least one.
    pub flows: Vec<FlowPlan>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowPlan {
    /// Bytes transferred.
    pub bytes: u64,
    /// When it is dialled, counted from the first.
    pub start: Duration,
    /// A policer of its own for its data: bits per second and bytes of burst.
    pub policed: Option<(u64, u64)>,
    /// Written in bursts, with TCP_NODELAY as our programs do; `None`: at once.
    pub paced: Option<Pace>,
}

/// How a program writes in bursts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// At a time; the last may be smaller.
    pub bytes: u64,
    /// From the beginning of one to that of the next, however long it takes: they are due at fixed times.
    pub every: Duration,
}

impl Pace {
    /// The bytes of each burst of so many bytes in all.
    pub fn bursts(self, bytes: u64) -> impl Iterator<Item = u64> {
        let size = self.bytes.max(1);
        (0..bytes.div_ceil(size)).map(move |number| size.min(bytes - number * size))
    }

    /// How many of them have ended when so many of all bytes have arrived.
    pub fn ended(self, arrived: u64, bytes: u64) -> usize {
        let size = self.bytes.max(1);
        (if arrived < bytes {
            arrived / size
        } else {
            bytes.div_ceil(size)
        }) as usize
    }

    /// When a burst is due, with the first of them.
    pub fn due_ns(self, first_ns: u64, number: usize) -> u64 {
        first_ns + self.every.as_nanos() as u64 * number as u64
    }

    /// Seconds of each burst, from when it was due to its end.
    pub fn took(self, first_ns: u64, ended_ns: &[u64]) -> Vec<f64> {
        let took_ns = |(number, end_ns): (usize, &u64)| end_ns.saturating_sub(self.due_ns(first_ns, number));
        ended_ns
            .iter()
            .enumerate()
            .map(took_ns)
            .map(|ns| ns as f64 / 1e9)
            .collect()
    }
}

/// How late the forwarding thread was, in one transfer or several at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// The worst: of a packet that was delivered after its time, or of the thread that was woken after its time (when a packet
    /// that enters then is taken for a later one).
    pub max: Duration,
    /// Packets delivered more than 1 ms after their time.
    pub over_1ms: u64,
    /// Packets delivered.
    pub packets: u64,
}

impl Lateness {
    /// Whether the sample is spoilt.
    pub fn spoils(&self) -> bool {
        self.max > LATE
    }
}

/// One transfer alone on its lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// From the call of connect() to the receiver's last byte.
    pub seconds: f64,
    /// Data segments that the sender sent again.
    pub retransmits: u64,
    /// Of the try that this is.
    pub late: Lateness,
    /// 1, or more if earlier ones came late.
    pub tries: u32,
}

/// One transfer among several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowSample {
    /// From the call of connect() to the receiver's last byte.
    pub seconds: f64,
    /// Of all bytes that had arrived when the first of the transfers ended, the share of this one.
    pub share: f64,
    /// Data segments that the sender sent again.
    pub retransmits: u64,
    /// Seconds from when each burst was due to the arrival of its last byte; none if all was written at once.
    pub bursts: Vec<f64>,
}

/// All transfers of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// In the order of the plan.
    pub flows: Vec<FlowSample>,
    /// Of all together.
    pub late: Lateness,
    /// 1, or more if earlier ones came late.
    pub tries: u32,
}

impl Plan {
    /// One transfer in a cell.
    pub fn cell(cell: &Cell) -> Self {
        let policer = cell.policer_bits_per_second;
        Self {
            forth: cell.link(),
            back: cell.link(),
            flows: vec![FlowPlan {
                bytes: cell.bytes,
                start: Duration::ZERO,
                policed: (policer > 0).then_some((policer, BURST_BYTES)),
                paced: None,
            }],
        }
    }

    /// Whether a transfer that packets made late is worth another try. Bursts take as long as they are planned to: beside other
    /// programs none would be without a late packet, and a few milliseconds are little beside what is measured there.
    pub(crate) fn tried_again(&self) -> bool {
        self.flows.iter().all(|flow| flow.paced.is_none())
    }
}
