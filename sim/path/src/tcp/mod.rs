//! TCP as Linux speaks it, as two machines without input or output: a [`Sender`] and a [`Receiver`] for each direction.
//!
//! They deal in numbers, not in bytes: whoever owns the payload cuts it by the sequence numbers of the segments. What lies
//! between them (delay, loss, queues) is somebody else's, see [`crate::link`].
//!
//! Not modelled: header prediction, urgent data, ECN, pacing, selective-acknowledgement reneging, path MTU discovery,
//! keep-alives, wrap-around of sequence numbers (they have 64 bits here).

mod acked;
mod burst;
mod busy;
mod congestion;
mod cubic;
mod receiver;
mod recovery;
mod rtt;
mod segment;
mod sender;
mod sent;
mod time;
mod timers;
mod window;

pub use congestion::Algorithm;
pub use receiver::{Receiver, ReceiverConfig};
pub use segment::{Ack, Block, HEADER_BYTES, MSS, SACKS_MAX, SYN_BYTES, Segment};
pub use sender::{Sender, SenderConfig, SenderCounters, WINDOW_START, stamp_ms};
pub use time::{HZ, JIFFY_NS};

/// What an idle connection holds, with both directions: worlds have ten for each client.
const _: () = assert!(2 * (size_of::<Sender>() + size_of::<Receiver>()) <= 512);

/// When a kernel's timer that is set now to `us` microseconds fires, in nanoseconds.
pub fn wait_ns(now_ns: u64, us: u64) -> u64 {
    time::fires_at_ns(now_ns, time::jiffies_for_us(us))
}
