//! What people are told: `phantom status` prints it.

use std::collections::VecDeque;
use std::fmt;

use phantom_core::units::Instant;

use phantom_core::event::{PathReason as Why, PathVerdict as Verdict};

use crate::machine::{Failure, StateName};
use crate::path::{Candidate, Kind, ServerId};

/// Lines of the diary: thousands of clients have one.
const LINES_MAX: usize = 16;
/// Room is made for so many at a time.
const LINES_STEP: usize = 4;

/// Everything the machine knows, at one instant. Shown without addresses: it may be pasted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When.
    pub now: Instant,
    /// What the machine is doing.
    pub state: StateName,
    /// The path in use.
    pub in_use: Option<InUse>,
    /// Every candidate that is known now: those of a doubt.
    pub tried: Vec<Tried>,
    /// Every kind that something is known of on this network, with the share of good events in thousandths.
    pub kinds: Vec<(Kind, u64)>,
    /// The last events, oldest first.
    pub lines: Vec<Line>,
}

/// The path in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Which.
    pub candidate: Candidate,
    /// Since when.
    pub since: Instant,
    /// Why.
    pub why: Why,
    /// Typical bytes per second from the client, once known.
    pub typical_up: Option<u64>,
    /// Typical bytes per second to the client, once known.
    pub typical_down: Option<u64>,
}

/// A candidate and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub candidate: Candidate,
    /// How the last failed dial failed.
    pub last: Option<Failure>,
    /// How promising it is, in millionths; 125,000 when nothing is known.
    pub score: u64,
    /// It is left alone until then: a censor may be blocking it for a while.
    pub not_before: Option<Instant>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Instant,
    /// What.
    pub text: String,
}

/// An event, not yet in words.
#[derive(Clone, Debug)]
pub(crate) enum Happened {
    Started,
    Taken(Kind, ServerId, Why),
    Judged(Kind, ServerId, Verdict),
    NotReached(Kind, ServerId, Failure),
    TriedAgain { kind: Kind, failed: bool },
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started on a network"),
            Self::Taken(kind, server, why) => write!(f, "{kind} over {server:?} is in use: {why}"),
            Self::Judged(kind, server, verdict) => write!(f, "{kind} over {server:?}: {verdict}"),
            Self::NotReached(kind, server, how) => write!(f, "{kind} over {server:?}: not reached, {how}"),
            Self::TriedAgain { kind, failed: true } => {
                write!(f, "{kind} was tried again: it is not better yet")
            }
            Self::TriedAgain { kind, failed: false } => {
                write!(f, "{kind} was tried again: it could not be judged")
            }
        }
    }
}

/// The last events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Diary(VecDeque<(Instant, Happened)>);

impl Diary {
    pub(crate) fn note(&mut self, at: Instant, what: Happened) {
        if self.0.len() >= LINES_MAX {
            self.0.pop_front();
        }
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(LINES_STEP);
        }
        self.0.push_back((at, what));
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        let line = |(at, what): &(Instant, Happened)| Line {
            at: *at,
            text: what.to_string(),
        };
        self.0.iter().map(line).collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unanswered => "no answer at all",
            Self::Silence => "nothing came back",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::Garbled => "something else answered",
            Self::Ended => "ended by the other side",
            Self::Useless => "it answers and carries nothing",
            Self::Local => "this machine could not send",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.in_use {
            Some(used) => {
                let candidate = &used.candidate;
                let secs = self.now.saturating_since(used.since).as_secs();
                write!(
                    f,
                    "in use: {} over {:?} for {secs} s, because {}",
                    candidate.kind, candidate.server, used.why
                )?;
                for (way, rate) in [("up", used.typical_up), ("down", used.typical_down)] {
                    if let Some(rate) = rate {
                        write!(f, "; {way} {} kbit/s", rate.saturating_mul(8) / 1_000)?;
                    }
                }
                writeln!(f)?;
            }
            None => writeln!(f, "in use: nothing ({})", self.state)?,
        }
        if !self.kinds.is_empty() && self.kinds.iter().all(|(_, score)| *score < 400) {
            writeln!(
                f,
                "every kind of transport has done badly on this network: the least bad is used"
            )?;
        }
        for tried in &self.tried {
            let candidate = &tried.candidate;
            write!(
                f,
                "{} over {:?}: score {}",
                candidate.kind,
                candidate.server,
                tried.score / 1_000
            )?;
            if let Some(last) = tried.last {
                write!(f, ", last dial: {last}")?;
            }
            if let Some(until) = tried.not_before {
                write!(
                    f,
                    ", left alone for {} s",
                    until.saturating_since(self.now).as_secs()
                )?;
            }
            writeln!(f)?;
        }
        for line in &self.lines {
            let ago = self.now.saturating_since(line.at).as_secs();
            writeln!(f, "{ago} s ago: {}", line.text)?;
        }
        Ok(())
    }
}
