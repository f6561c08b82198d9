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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowSample {
    /// From the call of connect() to the receiver's last byte.
    pub seconds: f64,
    /// Of all bytes that had arrived when the first of the transfers ended, the share of this one.
    pub share: f64,
    /// Data segments that the sender sent again.
    pub retransmits: u64,
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
            }],
        }
    }
}
