//! What a driver can do wrong. A refused input changes nothing.

use phantom_core::units::Instant;

use crate::path::PathId;

/// Why an input was refused: each is the driver's fault, never a peer's or a censor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The clock is monotonic.
    #[error("time went back from {known:?} to {given:?}")]
    TimeWentBack {
        /// The latest instant seen.
        known: Instant,
        /// The one given.
        given: Instant,
    },
    /// The path was closed, or never opened.
    #[error("path {0:?} is not known")]
    UnknownPath(PathId),
    /// Only a path that is being dialled can connect or fail to.
    #[error("path {0:?} is connected already")]
    NotDialling(PathId),
    /// Only a connected path makes progress or is closed.
    #[error("path {0:?} is not connected yet")]
    NotConnected(PathId),
    /// `delivered` counts all bytes since the path opened.
    #[error("path {path:?} had delivered {known} bytes, now {given}")]
    DeliveredWentBack {
        /// The path.
        path: PathId,
        /// The highest count so far.
        known: u64,
        /// The one given.
        given: u64,
    },
    /// Outputs wait to be drained.
    #[error("{0} outputs wait: drain them first")]
    NotDrained(usize),
    /// More candidates than are held.
    #[error("{given} candidates, at most {wanted} are held")]
    TooManyCandidates {
        /// How many were given.
        given: usize,
        /// How many are held.
        wanted: usize,
    },
}
