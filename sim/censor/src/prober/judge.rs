//! What answers tell of a server.
//!
//! Alice et al., IMC 2020, §5, show by which reactions servers differ, and say that what the prober makes of them can only be
//! guessed (§5.2.2, §6). So the judge is a model: each [`Sign`] is one that a paper shows to tell proxies from others, and a
//! censor's file says which of them count.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// What a server did on a probe, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// From the end of the handshake, in nanoseconds.
    pub after_ns: u64,
    /// What.
    pub reaction: Reaction,
}

/// What a server did on a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It sent bytes.
    Data(Speech),
    /// It closed.
    Fin,
    /// It reset the connection.
    Reset,
    /// Nothing until the prober's patience ended.
    Silence,
    /// The connection did not come up.
    Unreachable,
}

/// What the first bytes of an answer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP.
    Http,
    /// TLS: a hello or an alert.
    Tls,
    /// Anything else.
    Other,
}

impl Reaction {
    /// Of bytes that came, one at least.
    pub fn data(first: &[u8]) -> Self {
        Self::Data(match first {
            [0x15 | 0x16, 3, ..] => Speech::Tls,
            _ if first.starts_with(b"HTTP/") => Speech::Http,
            _ => Speech::Other,
        })
    }

    const fn is_data(self) -> bool {
        matches!(self, Self::Data(_))
    }
}

/// By what a server is taken for a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// It answers replays, and random bytes not (IMC 2020, §5.3: servers without a memory for replays).
    ReplayAnswered,
    /// It waits for more after short random probes, and closes at once after long ones (IMC 2020, §5.2, Figure 10).
    CloseThreshold,
    /// It answers nothing at all (NDSS 2020: 94 % of servers answer something).
    Silence,
}

/// What is thought of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is like a proxy.
    Proxy(Sign),
    /// It is like any other server: it answers whoever asks.
    Ordinary,
    /// Neither.
    Unsure,
}

/// A probe that was sent, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its kind.
    pub kind: Kind,
    /// Its length in bytes.
    pub len: usize,
    /// What the server did.
    pub answer: Answer,
}

/// What the judge goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judge {
    /// The signs that count.
    pub signs: BTreeSet<Sign>,
    /// For [`Sign::ReplayAnswered`]: so many replays were answered. Default 1.
    pub answers: u32,
    /// For [`Sign::Silence`]: so many probes were, and no other. Default 10.
    pub silences: u32,
    /// A server that closes within this closes at once, in nanoseconds. Default 1 s, a guess.
    pub at_once_ns: u64,
}

/// Lengths of random probes that [`Sign::CloseThreshold`] needs: two short ones and two long ones may be chance.
const LENGTHS_MIN: usize = 4;

impl Default for Judge {
    fn default() -> Self {
        Self {
            signs: [Sign::ReplayAnswered, Sign::CloseThreshold].into(),
            answers: 1,
            silences: 10,
            at_once_ns: 1_000_000_000,
        }
    }
}

impl Judge {
    /// What all that was seen of a server tells. `contrast`: random probes are among those that it gets.
    pub fn verdict(&self, seen: &[Seen], contrast: bool) -> Verdict {
        let reached = || {
            seen.iter()
                .filter(|seen| seen.answer.reaction != Reaction::Unreachable)
        };
        let asked_anew = || reached().filter(|seen| !seen.kind.is_replay());
        if asked_anew().any(|seen| seen.answer.reaction.is_data()) {
            return Verdict::Ordinary;
        }
        let replays = reached().filter(|seen| seen.kind.is_replay());
        let answered = replays.filter(|seen| seen.answer.reaction.is_data()).count();
        let silent = reached().all(|seen| seen.answer.reaction == Reaction::Silence);
        let shows = |sign: &Sign| match sign {
            Sign::ReplayAnswered => {
                answered >= self.answers as usize && (!contrast || asked_anew().next().is_some())
            }
            Sign::CloseThreshold => self.closes_by_length(asked_anew()),
            Sign::Silence => silent && reached().count() >= self.silences as usize,
        };
        match self.signs.iter().find(|sign| shows(sign)) {
            Some(sign) => Verdict::Proxy(*sign),
            None => Verdict::Unsure,
        }
    }

    /// Whether all shorter random probes are waited on and all longer ones closed at once.
    fn closes_by_length<'s>(&self, seen: impl Iterator<Item = &'s Seen>) -> bool {
        let mut closed: BTreeMap<usize, bool> = BTreeMap::new();
        for seen in seen.filter(|seen| matches!(seen.kind, Kind::Nr1 | Kind::Nr2)) {
            let at_once = matches!(seen.answer.reaction, Reaction::Fin | Reaction::Reset)
                && seen.answer.after_ns <= self.at_once_ns;
            if *closed.entry(seen.len).or_insert(at_once) != at_once {
                return false;
            }
        }
        let mut reactions = closed.values();
        closed.len() >= LENGTHS_MIN
            && closed.values().next() == Some(&false)
            && closed.values().next_back() == Some(&true)
            && reactions
                .try_fold(false, |before, now| (*now >= before).then_some(*now))
                .is_some()
    }
}
