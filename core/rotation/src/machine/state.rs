//! What the machine keeps of itself, of paths and of what it found.

use std::time::Duration;

use phantom_core::event::{PathReason as Why, PathVerdict as Verdict};
use phantom_core::units::Instant;

use super::words::{Failure, StateName};
use crate::config::Config;
use crate::flow::{Flow, Slow};
use crate::memory::Weights;
use crate::path::{Candidate, Direction, Kind, PathId, ServerId};

/// Both directions, the one that a censor of downloads holds back first.
pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Down, Direction::Up];

/// The path in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) path: PathId,
    pub(super) since: Instant,
    pub(super) why: Why,
}

/// Why the path in use is doubted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doubted {
    /// Slow in this direction, at this many bytes per second.
    Slow { direction: Direction, rate: u64 },
    /// Silent.
    Silent,
}

/// A second path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Second {
    None,
    /// The driver was asked what there is.
    Asked,
    /// The last that was dialled, and when another one is dialled beside it.
    Dialling(PathId, Option<Instant>),
    Sharing(PathId, Comparison),
}

/// Comparisons so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Comparison {
    pub(super) done: u8,
    pub(super) agreed: u8,
    /// Bytes per second of the path in use in the last two, the last one first.
    pub(super) before: [u64; 2],
    /// Bytes of the second path in the first comparison and in all.
    pub(super) first_bytes: u64,
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    pub(super) began: Instant,
    pub(super) of: Doubted,
    pub(super) second: Second,
    /// Seconds dialled so far.
    pub(super) seconds: u8,
}

impl Doubt {
    /// Whether a dial that connected now is the second path. In a doubt about speed several are raced.
    pub(super) fn awaits(&self, id: PathId) -> bool {
        match self.second {
            Second::Sharing(..) => false,
            Second::Dialling(dialled, _) if dialled == id => true,
            Second::None | Second::Asked | Second::Dialling(..) => matches!(self.of, Doubted::Slow { .. }),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) began: Instant,
    pub(super) kind: Kind,
    pub(super) second: Second,
}

/// A path that was found silent while nothing else was connected: it may move again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limping {
    pub(super) session: Session,
    pub(super) verdict: Verdict,
    /// Why another will be taken into use.
    pub(super) why: Why,
    /// User bytes it had delivered then.
    pub(super) delivered: u64,
    pub(super) since: Instant,
    /// It is given up then.
    pub(super) until: Instant,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    Stopped,
    /// Why what is found will be taken into use.
    Seeking(Why),
    Limping(Limping),
    Steady(Session),
    Doubting(Session, Doubt),
    Trying(Session, Trial),
}

impl State {
    pub(super) const fn name(&self) -> StateName {
        match self {
            Self::Stopped => StateName::Stopped,
            Self::Seeking(_) => StateName::Seeking,
            Self::Limping(_) => StateName::Limping,
            Self::Steady(_) => StateName::Steady,
            Self::Doubting(_, doubt) => match doubt.second {
                Second::Sharing(..) => StateName::Comparing,
                Second::None | Second::Asked | Second::Dialling(..) => StateName::Doubting,
            },
            Self::Trying(_, trial) => match trial.second {
                Second::Sharing(..) => StateName::Weighing,
                Second::None | Second::Asked | Second::Dialling(..) => StateName::Trying,
            },
        }
    }

    /// The path in use.
    pub(super) const fn session(&self) -> Option<Session> {
        match self {
            Self::Stopped | Self::Seeking(_) => None,
            Self::Limping(limping) => Some(limping.session),
            Self::Steady(session) | Self::Doubting(session, _) | Self::Trying(session, _) => Some(*session),
        }
    }

    pub(super) const fn second(&self) -> Second {
        match self {
            Self::Doubting(_, doubt) => doubt.second,
            Self::Trying(_, trial) => trial.second,
            Self::Stopped | Self::Seeking(_) | Self::Limping(_) | Self::Steady(_) => Second::None,
        }
    }

    pub(super) const fn second_mut(&mut self) -> Option<&mut Second> {
        match self {
            Self::Doubting(_, doubt) => Some(&mut doubt.second),
            Self::Trying(_, trial) => Some(&mut trial.second),
            Self::Stopped | Self::Seeking(_) | Self::Limping(_) | Self::Steady(_) => None,
        }
    }
}

/// A candidate for a second path, and what was done with it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) candidate: Candidate,
    /// Not dialled before.
    pub(super) due: Instant,
    /// Random order among equals, so that not every client dials the same one first.
    pub(super) tie: u64,
    /// When it was last dialled as a second path.
    pub(super) compared: Option<Instant>,
    pub(super) last: Option<Failure>,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    Dialling { deadline: Instant },
    Open,
}

#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) id: PathId,
    pub(super) candidate: Candidate,
    pub(super) phase: Phase,
    pub(super) flows: [Flow; 2],
    pub(super) proven: bool,
    /// It was slow and came back by itself.
    pub(super) recovered: bool,
    /// When it was dialled.
    pub(super) since: Instant,
    /// When it showed last that it reaches its server.
    pub(super) alive: Instant,
}

impl Path {
    pub(super) fn flow(&self, direction: Direction) -> &Flow {
        &self.flows[direction as usize]
    }

    pub(super) fn delivered(&self) -> u64 {
        self.flows
            .iter()
            .fold(0, |sum, flow| sum.saturating_add(flow.delivered()))
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.flows.iter().any(Flow::is_busy)
    }

    /// Typical bytes per second of the faster direction.
    pub(super) fn typical(&self) -> u64 {
        self.flows.iter().map(Flow::typical).max().unwrap_or(0)
    }

    /// How long data has waited and no byte moved either way: what is acknowledged in one direction comes by the other.
    pub(super) fn silence(&self, config: &Config, now: Instant) -> Duration {
        if !self.flows.iter().any(|flow| flow.waits(config, now)) {
            return Duration::ZERO;
        }
        let moved = self.flows.iter().map(Flow::moved_at).max();
        now.saturating_since(moved.unwrap_or(now))
    }

    /// Whether it is slow, and which way: of two, the one of which more is known, since it needs fewer comparisons.
    pub(super) fn slow(&self, config: &Config, now: Instant) -> Option<(Direction, Slow)> {
        let slow = |direction: &Direction| Some((*direction, self.flow(*direction).slow_now(config, now)?));
        let both = DIRECTIONS.iter().filter_map(slow);
        both.min_by_key(|(direction, _)| self.flow(*direction).is_uneven(config))
    }
}

/// What made a path be left. Each has one switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Throttled(Kind),
    Frozen(Kind, ServerId),
    Dead(Kind, ServerId),
}

/// A kind that was left, to be tried again.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) kind: Kind,
    /// Its typical bytes per second.
    pub(super) rate: u64,
    pub(super) due: Instant,
    pub(super) wait: Duration,
}

/// A failure that counts once something else has shown that the network works.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) at: Instant,
    pub(super) candidate: Candidate,
    pub(super) weights: Weights,
    /// Whether it then opens a window.
    pub(super) window: bool,
}
