//! What people are told: `phantom doctor` prints it.

use std::collections::VecDeque;
use std::fmt;

use crate::machine::{Failure, StateName, Verdict, Why};
use crate::path::Candidate;
use crate::time::Instant;

/// Lines of the diary.
const LINES_MAX: usize = 64;

/// Everything the machine knows, at one instant. Shown without addresses: it may be pasted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When.
    pub now: Instant,
    /// What the machine is doing.
    pub state: StateName,
    /// The path in use.
    pub in_use: Option<InUse>,
    /// Every candidate.
    pub tried: Vec<Tried>,
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
    /// Dials in this round.
    pub dials: u8,
    /// How the last failed dial failed.
    pub last: Option<Failure>,
    /// How promising it is, in millionths; 125,000 when nothing is known.
    pub score: u64,
    /// The same of its kind alone, in thousandths; 500 when nothing is known.
    pub kind_score: u64,
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

/// The last events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Diary(VecDeque<Line>);

impl Diary {
    pub(crate) fn note(&mut self, at: Instant, text: String) {
        if self.0.len() >= LINES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Line { at, text });
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.0.iter().cloned().collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silence => "nothing came back",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::Garbled => "something else answered",
            Self::Ended => "ended by the other side",
            Self::Local => "this machine could not send",
        })
    }
}

impl fmt::Display for Verdict {
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

impl fmt::Display for Why {
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
        if !self.tried.is_empty() && self.tried.iter().all(|tried| tried.kind_score < 400) {
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
