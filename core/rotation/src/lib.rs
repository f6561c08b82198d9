//! Which way into the network to use, and when to change it: a machine without I/O, clock or ambient randomness.
//!
//! It judges the path in use by the user's own bytes against what that path has shown before, asks for a second path when it has
//! a doubt, and changes when the second one shows that the first is being held back. It says whom not to dial, and in which order
//! to dial the others. What it is not: what finds the first way in (the ladder, `phantom_core::ladder`, does, and tells what it
//! found), a prober (a small probe passes a throttle and a freeze), a transport, or a link.
//!
//! [`Rotation::handle`] takes what happened, [`Rotation::poll_output`] is drained until it answers [`Output::WaitUntil`] or
//! [`Output::Idle`]. `transitions.txt` beside the crate lists every state with every event and what follows.
//!
//! Spec: SPEC §11; each constant's reason is in [`Config`] too.

mod config;
mod error;
mod flow;
mod machine;
mod memory;
mod path;
mod report;
mod windows;

pub use config::Config;
pub use error::Error;
pub use machine::{CANDIDATES_MAX, Failure, Input, OUTPUTS_MAX, Output, Rotation, StateName};
pub use memory::{
    ADDRESSES_MAX, FILE_BYTES_MAX, KINDS_MAX, Memory, NETWORKS_MAX, SAVED_WINDOWS_MAX, SERVERS_MAX, Standing,
    WINDOW_SECS_MAX,
};
pub use path::{Candidate, Direction, Kind, NetworkId, PathId, ServerId};
pub use phantom_core::event::{PathReason as Why, PathVerdict as Verdict};
pub use report::{InUse, Line, Report, Tried};
