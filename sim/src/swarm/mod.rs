//! The engine: a single-threaded discrete-event world with its own network.
//!
//! A [`World`] owns hosts, tasks, pending events and the network between hosts. A program that runs on a host gets a
//! [`Runtime`], which implements [`phantom_core::runtime::Runtime`]. Time is integer nanoseconds and jumps from event to
//! event; the order of events is (time, host that caused it, that host's count), so it depends on nothing but the seed.
//! A world stays on the thread that made it: handles and wakers are `Send + Sync`, and one that is used anywhere else
//! panics. The state is never borrowed while a task is polled or dropped.

pub(crate) mod access;
pub mod border;
mod dns;
mod executor;
mod heap;
pub mod jitter;
mod leak;
mod listener;
mod nat;
mod network;
mod queue;
mod runtime;
mod segments;
mod slab;
mod stage;
mod stream;
mod tcp;
mod timer;
pub mod topology;
mod transport;
mod udp;
mod watch;
mod world;

use dns::Asked;
use slab::Key;
use transport::Step;

pub use listener::Listener;
pub use network::NetCounters;
pub use runtime::{Runtime, Task};
pub use stage::SwarmStage;
pub use stream::Stream;
pub use timer::Sleep;
pub use topology::{Access, AsId, HostSpec, NatSpec, Network, Topology};
pub use udp::Udp;
pub use world::{HostStatus, RunError, StreamModel, World, WorldConfig, WorldCounters};

/// What is due at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening {
    /// A sleep ends.
    Timer(Key),
    /// A stream goes on.
    Stream {
        /// Which.
        conn: Key,
        /// At or from which end.
        side: u8,
        /// How.
        step: Step,
    },
    /// A packet of a TCP stream is at the access link of its receiver, or through it.
    Packet {
        /// Which.
        packet: Key,
        /// At the link.
        landing: bool,
    },
    /// A datagram arrives.
    Datagram(Key),
    /// A question for a name goes on.
    Dns(Key, Asked),
}
