//! Which way into the network to use, and when to change it: a machine without I/O, clock or ambient randomness.
//!
//! It races the ways in, judges the one in use by the user's own bytes against what that path has shown before, asks for a
//! second path when it has a doubt, and changes when the second one shows that the first is being held back. What it is not:
//! a prober (a small probe passes a throttle and a freeze), a transport, or a link: bytes under way survive a change because
//! the link above resumes.
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
mod time;
mod windows;

pub use config::Config;
pub use error::Error;
pub use machine::{CANDIDATES_MAX, Failure, Input, OUTPUTS_MAX, Output, Rotation, StateName, Verdict, Why};
pub use memory::{
    ADDRESSES_MAX, FILE_BYTES_MAX, KINDS_MAX, Memory, NETWORKS_MAX, SAVED_WINDOWS_MAX, SERVERS_MAX, Standing,
    WINDOW_SECS_MAX,
};
pub use path::{Candidate, Direction, Kind, NetworkId, PathId, ServerId};
pub use report::{InUse, Line, Report, Tried};
pub use time::{Instant, UnixSecs};
