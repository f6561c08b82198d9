//! Every observable fact, typed. Logs, metrics, invariants, reports and the trace digest read these and nothing else.
//!
//! An event never carries a secret: what must stay hidden is marked with [`Sensitive`] instead. Identifiers in events
//! ([`Tag`]) are one-way short hashes.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::transport::Kind;
use crate::units::WallTime;

/// A short name for a secret or long identifier: the first 8 bytes of its BLAKE3 hash under a fixed context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(pub u64);

impl Tag {
    /// The tag of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = blake3::derive_key("phantom-net 2026 event tag v1", bytes);
        let mut head = [0; 8];
        head.copy_from_slice(&hash[..8]);
        Self(u64::from_le_bytes(head))
    }
}

/// What kind of bytes must never be visible to an observer of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sensitive {
    /// A user's long-term key, public or private part.
    UserKey,
    /// The identity of a message.
    MessageId,
    /// The address of a one-shot box.
    BoxAddress,
    /// The secret of an invitation or of a rendezvous cohort.
    InvitationSecret,
    /// A bridge's keys, public or private part.
    BridgeKey,
    /// The plaintext of a message.
    Payload,
}

/// A step of the bootstrap ladder: how an entry became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Worked in an earlier run.
    Cached,
    /// Published with the program, by address or name.
    Static,
    /// Listed in the directory document.
    Directory,
    /// Found through the Mainline DHT.
    Dht,
    /// Handed over by a friend.
    Friend,
}

/// How an attempt to reach an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// An authenticated link stands.
    Connected,
    /// Nothing answered in time.
    TimedOut,
    /// A reset answered.
    Refused,
    /// The stream broke off.
    Reset,
    /// Somebody answered who does not hold the entry's key.
    WrongKey,
    /// The name does not exist or was not answered.
    NoSuchName,
    /// The step had nothing to try.
    NothingKnown,
    /// Anything else.
    Failed,
}

impl Outcome {
    /// That of an error of the network's.
    pub const fn of_io(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Self::Reset,
            _ => Self::Failed,
        }
    }
}

/// Why input of a peer was counted and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// It does not decode.
    Malformed,
    /// A tag, signature or MAC is wrong.
    BadAuthentication,
    /// It was seen before.
    Replayed,
    /// Its key, document or lifetime has ended.
    Expired,
    /// It is for somebody else, or for nobody here.
    Misdirected,
    /// A bound is reached.
    OverQuota,
    /// It contradicts what is held already (a second, different write to a box).
    Conflict,
}

/// What is found out about a path: a way in that is in use, or one that it is held against. Spec: SPEC §11.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PathVerdict {
    /// Far slower than before: to be confirmed.
    MaybeThrottled,
    /// Silent with data queued: to be confirmed.
    MaybeFrozen,
    /// Slow, and another path is not: throttled.
    Throttled,
    /// Some bytes passed, then none with data queued.
    Frozen,
    /// No byte ever passed with data queued, or the connection is gone.
    Dead,
    /// Slow, but so is another path: the network is slow.
    NetworkSlow,
    /// It moves again.
    Recovered,
    /// Slow, but nothing to compare with, or too little data: it stays.
    Undecided,
    /// Throttled, and this cause had its switch already: it stays, being no worse than the others.
    BestOfTheBad,
}

impl fmt::Display for PathVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MaybeThrottled => "far slower than before; another path is asked",
            Self::MaybeFrozen => "silent; another path is asked",
            Self::Throttled => "held back: another path is faster at the same time",
            Self::Frozen => "frozen: some bytes passed, then none",
            Self::Dead => "dead",
            Self::NetworkSlow => "slow, and so is another path: the network is slow",
            Self::Recovered => "moves again",
            Self::Undecided => "slow, but there was nothing to compare it with",
            Self::BestOfTheBad => "held back, as others were: it stays",
        })
    }
}

/// Why a path is taken into use. Spec: SPEC §11.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PathReason {
    /// The ladder found it, and nothing was in use.
    First,
    /// The one before was confirmed throttled.
    Throttled,
    /// The one before was frozen.
    Frozen,
    /// The one before was dead.
    Dead,
    /// A kind that was left works again, and better.
    Return,
}

impl fmt::Display for PathReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "it answered first",
            Self::Throttled => "the one before was held back",
            Self::Frozen => "the one before was frozen",
            Self::Dead => "the one before was dead",
            Self::Return => "it works again, and better",
        })
    }
}

/// A name that is written into the program.
type Word = &'static str;

/// Every [`Word`] of an event, so that an event can be read again.
const WORDS: &[&str] = &[
    "a request",
    "an answer",
    "box",
    "boxes to fetch",
    "boxes to write",
    "channel",
    "courier box",
    "dht answer",
    "dht datagram",
    "dht datagrams",
    "directory document",
    "directory link",
    "directory request",
    "document",
    "errand to an authority",
    "errands to an authority",
    "handshakes of an authority",
    "link",
    "link frame",
    "link hello",
    "link message",
    "link send",
    "links of an authority",
    "links of others",
    "notice",
    "obfs4 hello",
    "own box",
    "packet",
    "packets in work",
    "packets waiting for a link",
    "rendezvous record",
    "reply packet",
    "request",
    "rpc",
    "writers of boxes",
];

/// What a word becomes that this version does not know.
const OTHER_WORD: &str = "something else";

fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    let known = WORDS.iter().find(|word| **word == text);
    Ok(known.copied().unwrap_or(OTHER_WORD))
}

/// A fact about one peer. Time and peer are added by whoever records it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// The peer's program started (again).
    Started,
    /// The peer's program ended by itself.
    Stopped,
    /// A client began to look for a way in.
    Arrived,
    /// A client tried an entry.
    Attempt {
        /// How the entry became known.
        step: Step,
        /// Where it is; `None` when the step had nothing to try or ended before an address.
        target: Option<SocketAddr>,
        /// How it ended.
        outcome: Outcome,
        /// How it was spoken to.
        #[serde(default, skip_serializing_if = "Kind::is_plain")]
        transport: Kind,
    },
    /// A client has a link to an entry it trusts.
    Connected {
        /// How the entry became known.
        step: Step,
        /// Where it is.
        entry: SocketAddr,
        /// Whether a ticket resumed an earlier link.
        resumed: bool,
        /// What its link runs over.
        #[serde(default, skip_serializing_if = "Kind::is_plain")]
        transport: Kind,
    },
    /// An authenticated round trip ended on a client's entry link: an answered ping, or acknowledged data, of which one in each
    /// interval of keep-alive is told.
    RoundTrip,
    /// A client's entry link is gone.
    Disconnected,
    /// A client learned of a bridge.
    BridgeLearned {
        /// How.
        step: Step,
        /// The bridge's address.
        bridge: SocketAddr,
    },
    /// A client holds a verified directory document.
    DocumentAccepted {
        /// Valid from.
        valid_after: WallTime,
        /// Service nodes in it.
        nodes: u32,
    },
    /// A user's message was accepted for delivery: from now on it must arrive or expire.
    MessageAccepted {
        /// The message.
        message: Tag,
        /// Not to be delivered after.
        expires: WallTime,
    },
    /// A message was written to enough replicas.
    MessageStored {
        /// The message.
        message: Tag,
    },
    /// A message reached its reader's program.
    MessageDelivered {
        /// The message.
        message: Tag,
        /// Its expiry as the reader decoded it.
        expires: WallTime,
    },
    /// The sender knows of the delivery.
    MessageAcknowledged {
        /// The message.
        message: Tag,
    },
    /// The sender gave up on a message because its time ended.
    MessageExpired {
        /// The message.
        message: Tag,
    },
    /// A replica holds a box durably.
    BoxStored {
        /// The box.
        address: Tag,
        /// Purged after.
        expires: WallTime,
    },
    /// Enough replicas hold a box durably, and the writer was told so by this node.
    BoxAcknowledged {
        /// The box.
        address: Tag,
        /// How many replicas, this node included.
        replicas: u8,
    },
    /// A replica answered a read.
    BoxRead {
        /// The box.
        address: Tag,
        /// Whether it was there, after repair.
        found: bool,
    },
    /// A replica took over a box that it lacked.
    BoxRepaired {
        /// The box.
        address: Tag,
    },
    /// A segment was purged: key destroyed, file gone, index dropped.
    SegmentPurged {
        /// How many boxes were in it.
        boxes: u32,
    },
    /// A wall clock stepped further than is believed.
    ClockRefused {
        /// What the clock says.
        claimed: WallTime,
        /// The highest time persisted.
        believed: WallTime,
    },
    /// A packet went one hop on.
    PacketForwarded,
    /// Input of a peer was counted and dropped.
    Refused {
        /// What was refused.
        #[serde(deserialize_with = "word")]
        what: Word,
        /// Why.
        why: Refusal,
    },
    /// A queue grew to a new high-water mark.
    QueueHigh {
        /// Which queue.
        #[serde(deserialize_with = "word")]
        queue: Word,
        /// Its depth now.
        depth: u32,
        /// Its bound.
        bound: u32,
    },
    /// A DHT lookup ended.
    DhtLookup {
        /// How many nodes answered with a valid value.
        responders: u32,
        /// Whether that was enough.
        found: bool,
    },
    /// A bridge put its sealed records into the DHT.
    BridgePublished {
        /// Items that enough nodes stored.
        stored: u32,
        /// Items that too few stored.
        failed: u32,
    },
    /// A bridge put its sealed records of a day into the mailbox, for couriers.
    CourierDropped {
        /// Slots whose record is stored.
        stored: u32,
        /// Slots whose record is not, yet.
        failed: u32,
    },
    /// A friend's invitation was handed over, out of band.
    InvitationReceived,
    /// A client found something out about a way in: a doubt, a verdict, or that a doubt was none.
    PathJudged {
        /// The entry's address.
        entry: SocketAddr,
        /// What.
        verdict: PathVerdict,
    },
    /// A client's requests go over another way in from now on.
    PathTaken {
        /// The address of the entry that was in use, if one was.
        from: Option<SocketAddr>,
        /// The entry's address.
        to: SocketAddr,
        /// Why.
        why: PathReason,
    },
}
