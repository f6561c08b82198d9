//! Which piece is asked for when, up or down: a machine without I/O.
//!
//! As many pieces are under way as the path bears: one more for each window that is answered whole, half as many when one is
//! not answered in time (additive increase, multiplicative decrease: Chiu and Jain 1989), at most once for the pieces of
//! one window.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_core::Rng;

use crate::message::backoff;
use crate::units::Instant;

/// How a transfer paces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Pieces under way at the beginning. Default 4: 128 KiB, what a stream of IW 10 has sent after its fourth round trip.
    pub window_first: u32,
    /// The most of them. Default 8: they fill the window of a link (256 KiB), and a node drops what finds no room in it. Upwards there may
    /// be more: a client gives its link no more than it takes.
    pub window_max: u32,
    /// Pause after a piece failed for the first time, doubled each further time. Default 2 s.
    pub retry_first: Duration,
    /// The longest such pause. Default 60 s.
    pub retry_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window_first: 4,
            window_max: 8,
            retry_first: Duration::from_secs(2),
            retry_max: Duration::from_secs(60),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Due {
        at: Instant,
        failures: u32,
    },
    /// With the number of its start.
    UnderWay {
        start: u64,
        failures: u32,
    },
    Done,
}

/// The pieces of one attachment on their way to nodes, or from them.
#[derive(Debug)]
pub struct Transfer<R> {
    config: Config,
    rng: R,
    pieces: Vec<Piece>,
    /// Not done; the lowest first.
    open: BTreeSet<u32>,
    under_way: u32,
    window: u32,
    /// Answers since the window last grew.
    answered: u32,
    starts: u64,
    /// Failures of pieces that were started before this one were paid for already.
    halved_at: u64,
}

impl<R: Rng> Transfer<R> {
    /// Of so many pieces, none of which is done.
    pub fn new(pieces: u32, config: Config, rng: R) -> Self {
        Self {
            config,
            rng,
            pieces: vec![
                Piece::Due {
                    at: Instant::ZERO,
                    failures: 0
                };
                pieces as usize
            ],
            open: (0..pieces).collect(),
            under_way: 0,
            window: config.window_first.max(1),
            answered: 0,
            starts: 0,
            halved_at: 0,
        }
    }

    /// A piece to be asked for now; call again until there is none. Answer with [`Transfer::succeeded`] or
    /// [`Transfer::failed`].
    pub fn start(&mut self, now: Instant) -> Option<u32> {
        if self.under_way >= self.window {
            return None;
        }
        let due = self
            .open
            .iter()
            .find_map(|&number| match self.pieces[number as usize] {
                Piece::Due { at, failures } if at <= now => Some((number, failures)),
                _ => None,
            });
        let (number, failures) = due?;
        self.starts += 1;
        let start = self.starts;
        self.pieces[number as usize] = Piece::UnderWay { start, failures };
        self.under_way += 1;
        Some(number)
    }

    /// A piece is where it should be.
    pub fn succeeded(&mut self, number: u32) {
        let Some(Piece::UnderWay { .. }) = self.pieces.get(number as usize) else {
            return; // A second answer.
        };
        self.pieces[number as usize] = Piece::Done;
        self.open.remove(&number);
        self.under_way -= 1;
        self.answered += 1;
        if self.answered >= self.window {
            (self.answered, self.window) = (0, (self.window + 1).min(self.config.window_max));
        }
    }

    /// A piece was not answered in time, or refused.
    pub fn failed(&mut self, now: Instant, number: u32) {
        let Some(&Piece::UnderWay { start, failures }) = self.pieces.get(number as usize) else {
            return;
        };
        let pause = backoff::doubled(self.config.retry_first, self.config.retry_max, failures);
        let at = now + backoff::jittered(pause, self.rng.next_u32());
        let failures = failures.saturating_add(1);
        self.pieces[number as usize] = Piece::Due { at, failures };
        self.under_way -= 1;
        if start > self.halved_at {
            (self.window, self.answered, self.halved_at) = ((self.window / 2).max(1), 0, self.starts);
        }
    }

    /// There is a way to the nodes again: what pauses is due now.
    pub fn reachable(&mut self, now: Instant) {
        for &number in &self.open {
            if let Piece::Due { at, failures } = &mut self.pieces[number as usize] {
                (*at, *failures) = ((*at).min(now), 0);
            }
        }
    }

    /// Whether every piece is done.
    pub fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Pieces that are done, of how many.
    pub fn progress(&self) -> (u32, u32) {
        let all = self.pieces.len() as u32;
        (all - self.open.len() as u32, all)
    }

    /// When the next piece is due, if one may start then.
    pub fn wake(&self) -> Option<Instant> {
        if self.under_way >= self.window {
            return None;
        }
        let due = |number: &u32| match self.pieces[*number as usize] {
            Piece::Due { at, .. } => Some(at),
            _ => None,
        };
        self.open.iter().filter_map(due).min()
    }
}
