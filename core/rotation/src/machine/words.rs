//! What a driver and the machine say to each other.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use phantom_core::event::{PathReason as Why, PathVerdict as Verdict};
use phantom_core::units::{Instant, WallTime};

use crate::path::{Candidate, Direction, NetworkId, PathId};

/// What the driver tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A way in is wanted on this network. On another network than before, or from another address, all paths are closed
    /// first; on the same one nothing happens.
    Start {
        /// The network.
        network: NetworkId,
        /// The address that packets leave from, as far as the client knows it.
        client: IpAddr,
        /// The wall clock: what is remembered is dated with it.
        wall: WallTime,
    },
    /// The ladder reached this one: the server is authenticated and user bytes can be sent. [`Output::Adopt`] names the path; where
    /// none was wanted it is closed.
    Entered(Candidate),
    /// A dial of the ladder's failed.
    Missed(Candidate, Failure),
    /// The ways in that could be dialled now; the answer to [`Output::Survey`]. At most [`super::CANDIDATES_MAX`].
    Candidates(Vec<Candidate>),
    /// The dial of a second path succeeded: the server is authenticated and user bytes can be sent.
    Connected(PathId),
    /// The dial of a second path failed.
    Failed(PathId, Failure),
    /// How far user bytes got on a path: at least every [`crate::Config::report_every`] while any are queued, when the queue
    /// fills or empties, and before each [`Input::Tick`].
    Progress {
        /// The path.
        path: PathId,
        /// Which way.
        direction: Direction,
        /// User bytes that wait: see [`Direction`].
        queued: u64,
        /// User bytes that arrived since the path opened.
        delivered: u64,
        /// The smoothed round trip of the path.
        rtt: Duration,
    },
    /// A connected path ended, and not because the machine wanted it.
    Closed(PathId, Failure),
    /// The instant of the last [`Output::WaitUntil`] has come.
    Tick,
    /// No way in is wanted: everything is closed.
    Stop,
}

/// How a dial failed or a path ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The first packet, which says nothing, was not answered: an address that is blocked, a server that is gone, a client that
    /// is offline.
    Unanswered,
    /// Something was answered, and then nothing came back.
    Silence,
    /// Reset by whoever.
    Reset,
    /// Refused at the first packet.
    Refused,
    /// What came was not the protocol's: a block page, a wrong key.
    Garbled,
    /// Ended in order.
    Ended,
    /// It answers for itself and carries nothing.
    Useless,
    /// The host's own fault: no route, no such program. Says nothing about the path.
    Local,
}

impl Failure {
    /// Whether a censor could have done it.
    pub(super) const fn may_be_a_cut(self) -> bool {
        matches!(
            self,
            Self::Unanswered | Self::Silence | Self::Reset | Self::Refused | Self::Garbled
        )
    }
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Let the ladder look for a way in, until [`Input::Entered`] or [`Output::Rest`]: nothing is in use, or what is in use is
    /// silent. It asks [`super::Rotation::free_at`] before each dial.
    Seek,
    /// No need to look any more: the path in use moves again.
    Rest,
    /// Say what could be dialled as a second path: [`Input::Candidates`].
    Survey,
    /// Dial a second path; answer with [`Input::Connected`] or [`Input::Failed`].
    Dial {
        /// Names the connection from now on.
        path: PathId,
        /// What to dial.
        candidate: Candidate,
    },
    /// Move some of the user bytes queued on `from` to `to` as well, and keep both supplied while there are any: about half
    /// each, and what waits unacknowledged on a silent `from` too.
    Share {
        /// The path in use.
        from: PathId,
        /// The second path.
        to: PathId,
    },
    /// All user bytes go over this path from now on, those queued on another too.
    Adopt {
        /// The path: a second one, or a new name for what [`Input::Entered`] told.
        path: PathId,
        /// Why.
        why: Why,
    },
    /// Close the path or give up the dial; no answer is needed. User bytes that wait on it go to the path in use.
    Close {
        /// The path.
        path: PathId,
        /// At once and without another packet as far as the host can (no FIN, no retransmission): a censor may renew its
        /// block with each.
        silently: bool,
    },
    /// For logs and people: nothing to do.
    Found {
        /// The path.
        path: PathId,
        /// What was found.
        verdict: Verdict,
    },
    /// Nothing to do before this instant, unless something is heard.
    WaitUntil(Instant),
    /// Nothing to do unless something is heard.
    Idle,
}

/// A state by its name, for reports and the table of transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// No way in is wanted.
    Stopped,
    /// Nothing is in use; the ladder looks for a way in.
    Seeking,
    /// What is in use is silent, and nothing else is connected; the ladder looks for a way in.
    Limping,
    /// A path is in use and nothing is wrong with it.
    Steady,
    /// A path is in use and doubted; a second one is dialled, or there is none.
    Doubting,
    /// A path is in use and doubted; a second one carries user bytes too.
    Comparing,
    /// A path is in use; a kind that was left is dialled.
    Trying,
    /// A path is in use; a kind that was left carries user bytes too.
    Weighing,
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
