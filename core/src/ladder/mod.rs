//! The bootstrap ladder: which entry to try next, and an honest report of what was tried.
//!
//! A machine without I/O. It asks its driver to start a [`Step`] (look something up) or to dial a candidate, hears how
//! that ended, and says when it wants to be woken. Steps and dials are raced: one more every [`Config::gap`] while none
//! has succeeded, so that a hanging entry delays the next by a quarter of a second and not by its time-out.
//!
//! Spec: SPEC §9; the stagger is that of RFC 8305 §5 (Happy Eyeballs, connection attempt delay 250 ms).

mod machine;
mod report;
#[cfg(test)]
mod tests;

pub use machine::{AttemptId, Config, Entry, Ladder, Output};
pub use report::{Report, StepReport, describe, name};

pub use crate::event::{Outcome, Step};
pub use crate::transport::Kind;

/// The steps in the order in which they start.
pub const ORDER: [Step; 5] = [
    Step::Cached,
    Step::Static,
    Step::Directory,
    Step::Dht,
    Step::Friend,
];
