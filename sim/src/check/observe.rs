//! What a run shows to those who judge it: events of the programs, and facts about the world around them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use phantom_core::event::{Event, Sensitive, Tag};
use phantom_core::transport::Kind;
use phantom_core::units::{Instant, WallTime};
use serde::Serialize;

use crate::scenario::plan::HostId;

/// Something seen, at a time on the world's own clock, which never errs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// When.
    pub at: Instant,
    /// Whom it is about; `None`: the world.
    pub host: Option<HostId>,
    /// What.
    pub seen: Seen,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Seen {
    /// What a host's program reported.
    Event(Event),
    /// A simulated second has passed: invariants over states are looked at now.
    Tick {
        /// Events that the engine has processed so far.
        steps: u64,
    },
    /// A rule of the censor acted.
    Censor {
        /// Its index in [`crate::scenario::plan::Plan::rules`].
        rule: u32,
        /// What it did.
        act: Acted,
        /// How many times since the last such observation.
        count: u64,
    },
    /// Connections to bridges crossed the border, and their first data packets were judged by the rule on fully encrypted traffic.
    Flagged {
        /// What is spoken where they go.
        transport: Kind,
        /// Flagged since the last such observation.
        flagged: u64,
        /// Judged since then.
        judged: u64,
    },
    /// A probe of the censor's ended.
    Probed {
        /// Where it went.
        server: SocketAddr,
        /// Whether it got a byte.
        answered: bool,
        /// The server closed or reset the connection so long after the handshake, without a byte.
        closed_after_ns: Option<u64>,
    },
    /// Bytes that the censor sees were searched for every secret marked so far. Without this, no leak is no proof.
    Searched {
        /// Bytes searched since the last such observation.
        bytes: u64,
        /// Secrets of each kind that are known to the search by now.
        secrets: BTreeMap<Sensitive, u64>,
    },
    /// A secret was found in bytes that the censor sees.
    Leak {
        /// What kind of secret.
        kind: Sensitive,
    },
    /// From now on the oracle judges that this client has, or has not, an open path.
    OpenPath(bool),
    /// The host crashed.
    Crashed,
    /// The host started again.
    Restarted,
    /// The host's disk is empty.
    DiskLost,
    /// The host's wall clock jumped.
    ClockStepped,
    /// The host's disk was searched for what it had purged.
    DiskSearched {
        /// How many purged boxes were looked for.
        boxes: u32,
        /// Of how many payload bytes were found.
        found: u32,
    },
    /// At the end of the run, the world was asked whether a box can be read.
    BoxProbed {
        /// The box.
        address: Tag,
        /// Whether a reader would find it: one of the nodes that it asks is up and holds it.
        readable: bool,
    },
    /// A program showed its user a message.
    Shown {
        /// The message.
        message: Tag,
        /// When it expires, in the reader's words.
        expires: WallTime,
    },
    /// The workload handed a message to `host`'s program, for this reader.
    Addressed {
        /// The message.
        message: Tag,
        /// The reader.
        to: HostId,
    },
}

/// What a rule of the censor did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Acted {
    /// Dropped a packet.
    Dropped,
    /// Reset a connection.
    Reset,
    /// Forged a DNS answer.
    Forged,
    /// Put a bridge on its list.
    Blocked,
    /// Was dialled at an address that it forged.
    Lured,
}

/// Takes observations, in order of time.
pub trait Sink {
    /// Takes one.
    fn observe(&mut self, observation: &Observation);
}
