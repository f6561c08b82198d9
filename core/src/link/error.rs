//! What can go wrong with a link, and whose fault it is.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::wire::DecodeError;

/// Why a link did not come up, broke off, or cannot take a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// The stream failed: the network's fault, or the other end's host.
    #[error("{doing}: the stream failed ({kind})")]
    Stream {
        /// What was being done.
        doing: &'static str,
        /// The stream's error.
        kind: io::ErrorKind,
    },
    /// The other end closed the stream.
    #[error("{doing}: the other end closed the stream")]
    Gone {
        /// What was being done.
        doing: &'static str,
    },
    /// Nothing came in time: the network's fault, or the other end's.
    #[error("{doing}: nothing within {limit:?}")]
    TimedOut {
        /// What was being done.
        doing: &'static str,
        /// The time limit.
        limit: Duration,
    },
    /// Who answered does not hold the key that was dialled, or its answer was changed on the way.
    #[error("the answer is not from the holder of the key that was dialled")]
    WrongKey,
    /// Who dialled showed nothing that this server accepts: a probe, a replay, or a mistake. It was not answered.
    #[error("who dialled knows no key or secret of this server")]
    NotForUs,
    /// That a hello is answered could not be written down, so it was not answered: the host's fault.
    #[error("a bridge could not write down which hello it answers ({kind}), so it stayed silent")]
    NotKept {
        /// The store's error.
        kind: io::ErrorKind,
    },
    /// The two ends have no wire version in common.
    #[error("no wire version in common: we speak {ours:?}, the other end {theirs:?}")]
    Version {
        /// Our lowest and highest.
        ours: (u8, u8),
        /// The other end's.
        theirs: (u8, u8),
    },
    /// A frame's authentication tag is wrong: it was changed, replayed, reordered or cut on the way.
    #[error("a frame does not authenticate: it was changed on the way")]
    BadFrame,
    /// What the other end sent does not decode: its fault.
    #[error("the other end sent what is not in the format: {0}")]
    Malformed(#[from] DecodeError),
    /// What the other end sent breaks a rule: its fault.
    #[error("the other end broke a rule: {rule}, wanted at most {wanted}, got {got}")]
    Violation {
        /// The rule.
        rule: &'static str,
        /// What the rule allows.
        wanted: u64,
        /// What was found.
        got: u64,
    },
    /// The link is closed: by us, or by the other end's goodbye, or after its parking time.
    #[error("the link is closed")]
    Closed,
    /// A message longer than a link carries: the caller's fault.
    #[error("a message of {got} bytes, a link carries at most {bound}")]
    TooLong {
        /// The bound.
        bound: usize,
        /// The message's length.
        got: usize,
    },
    /// The channel belongs to the link itself: the caller's fault.
    #[error("channel 0 is the link's own")]
    ReservedChannel,
    /// No room now; only from `try_send`.
    #[error("the send buffer is full: {buffered} of {bound} bytes are not acknowledged")]
    Full {
        /// Bytes in it.
        buffered: u64,
        /// Its bound.
        bound: u64,
    },
    /// Our own configuration does not fit the handshake: ours.
    #[error("the handshake could not be built: {0}")]
    Build(&'static str),
}
