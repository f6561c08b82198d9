//! Simulated transfers beside measured ones, cell by cell and in groups: how far the model is to be believed.
//!
//! Floating point is fine here: nothing of it enters a run.

use std::fmt;

use crate::comparison::Comparison;
use crate::lab::{Flow, Lab, Path};
use crate::link::LinkConfig;
use crate::mishap::{Loss, Mishaps};
use crate::tcp::{Algorithm, SenderCounters};

/// The burst of the policer in every measurement, in bytes.
pub const BURST_BYTES: u64 = 16_384;
/// What a real host, its device and the thread between need for a packet at least, and how much more at most: on an empty link of
/// 10.02 ms the answer to a SYN enters 10.08 to 10.11 ms after it. It is a tenth of a millisecond in a round trip, of which a policer
/// of 1 Mbit/s lets 12 bytes more pass, and of a segment that lacks them all.
const HOST_NS: u64 = 20_000;
const HOST_SPREAD_NS: u64 = 50_000;
/// A transfer that takes longer than this in simulated time is given up.
const PATIENCE_NS: u64 = 2_000_000_000_000;

/// One transfer's circumstances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// Bytes transferred.
    pub bytes: u64,
    /// Round trip of the empty path, in milliseconds.
    pub rtt_ms: u64,
    /// Rate of the link, in both directions.
    pub bits_per_second: u64,
    /// Share of packets lost, in both directions.
    pub loss: f64,
    /// Bytes that may wait before the link.
    pub queue_bytes: u64,
    /// Rate of a policer for the data; 0: none.
    pub policer_bits_per_second: u64,
}

/// Cells that are judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Nothing is lost but by the queue.
    NoLoss,
    /// Up to 1 % lost.
    SomeLoss,
    /// More.
    HighLoss,
    /// Behind a policer.
    Policed,
    /// Those of all others whose time does not follow from rate and round trips.
    Hard,
}

/// A grid's line that does not say what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: wanted `bytes rtt_ms bits_per_second loss queue_bytes policer : seconds …`, got {got:?}"
)]
pub struct GridError {
    /// Counted from 1.
    pub line: usize,
    /// The line.
    pub got: String,
}

/// A cell, and the seconds that measured transfers took in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Where.
    pub cell: Cell,
    /// At least one.
    pub seconds: Vec<f64>,
}

/// A cell's measured and simulated medians.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Where.
    pub cell: Cell,
    /// Seconds, in the median.
    pub seconds: Comparison,
}

/// Errors of a group in per cent: of its median cell, of nine in ten cells, of the worst cell. Cells in which the simulated
/// median lies within the interval of the measured one count as they err for the median, and as no error for the others: a few
/// transfers under loss have medians that differ by a fifth among themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Cells.
    pub cells: usize,
    /// Half of the cells err at most by this.
    pub median: f64,
    /// Nine in ten.
    pub p90: f64,
    /// All.
    pub worst: f64,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::NoLoss,
        Self::SomeLoss,
        Self::HighLoss,
        Self::Policed,
        Self::Hard,
    ];

    /// What the errors of the group may be at most, where that is said.
    pub const fn bars(self) -> [Option<f64>; 3] {
        match self {
            Self::NoLoss => [Some(0.5), None, Some(10.0)],
            Self::SomeLoss => [Some(2.0), Some(15.0), Some(25.0)],
            Self::HighLoss => [Some(5.0), Some(20.0), Some(35.0)],
            Self::Policed => [Some(4.0), None, Some(20.0)],
            Self::Hard => [Some(3.0), Some(20.0), None],
        }
    }

    /// Whether a cell belongs here.
    pub fn holds(self, compared: &Compared) -> bool {
        let cell = compared.cell;
        let policed = cell.policer_bits_per_second > 0;
        match self {
            Self::NoLoss => !policed && cell.loss == 0.0,
            Self::SomeLoss => !policed && cell.loss > 0.0 && cell.loss < 0.01,
            Self::HighLoss => !policed && cell.loss >= 0.01,
            Self::Policed => policed,
            Self::Hard => (cell.naive_seconds() / compared.seconds.measured - 1.0).abs() > 0.1,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLoss => "no loss",
            Self::SomeLoss => "under 1 % loss",
            Self::HighLoss => "1 % loss and more",
            Self::Policed => "policed",
            Self::Hard => "hard",
        })
    }
}

impl Cell {
    /// By round trips and rate alone.
    fn naive_seconds(&self) -> f64 {
        const HEADERS: f64 = 1.036;
        0.001_5 * self.rtt_ms as f64 + 8.0 * HEADERS * self.bytes as f64 / self.bits_per_second as f64
    }

    /// The link of both directions.
    pub fn link(&self) -> LinkConfig {
        LinkConfig {
            bits_per_second: self.bits_per_second,
            queue_bytes: self.queue_bytes,
            delay_ns: self.rtt_ms * 500_000,
            mishaps: Mishaps {
                loss: if self.loss > 0.0 {
                    Loss::Independent((self.loss * 4_294_967_296.0) as u64)
                } else {
                    Loss::None
                },
                ..Mishaps::default()
            },
            ..LinkConfig::default()
        }
    }

    /// The path for a laboratory, whose hosts take no time.
    pub fn simulated(&self) -> Path {
        let link = self.link();
        let link = LinkConfig {
            delay_ns: link.delay_ns + HOST_NS,
            jitter_ns: HOST_SPREAD_NS,
            ..link
        };
        Path {
            forth: link,
            back: link,
        }
    }

    /// One simulated transfer: its seconds, endless if it does not end, and what its sender did.
    pub fn simulate(&self, algorithm: Algorithm, seed: u64) -> (f64, SenderCounters) {
        let mut flow = Flow::new(self.bytes);
        flow.policed =
            (self.policer_bits_per_second > 0).then_some((self.policer_bits_per_second, BURST_BYTES));
        flow.sender.algorithm = algorithm;
        // Anywhere within a slot of the timers.
        flow.start_ns = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 256_000_000;
        let (outcomes, _) = Lab::new(self.simulated(), &[flow], seed).run(PATIENCE_NS);
        let outcome = outcomes[0];
        let seconds = outcome.took_ns.map_or(f64::INFINITY, |ns| ns as f64 / 1e9);
        (seconds, outcome.counters)
    }
}

impl Measured {
    /// Reads a grid: one cell in a line, `#` begins a comment.
    ///
    /// # Errors
    /// The first line that says something else.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, GridError> {
        let lines = text.lines().enumerate();
        lines
            .filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty())
            .map(|(number, line)| {
                Self::parse(line).ok_or_else(|| GridError {
                    line: number + 1,
                    got: line.chars().take(80).collect(),
                })
            })
            .collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let (what, seconds) = line.split_once(" : ")?;
        let what: Vec<&str> = what.split_whitespace().collect();
        let [bytes, rtt_ms, rate, loss, queue, policer] = what[..] else {
            return None;
        };
        let cell = Cell {
            bytes: bytes.parse().ok()?,
            rtt_ms: rtt_ms.parse().ok()?,
            bits_per_second: rate.parse().ok().filter(|rate| *rate > 0)?,
            loss: loss.parse().ok().filter(|loss| (0.0..1.0).contains(loss))?,
            queue_bytes: queue.parse().ok()?,
            policer_bits_per_second: policer.parse().ok()?,
        };
        let seconds: Option<Vec<f64>> = seconds.split_whitespace().map(|s| s.parse().ok()).collect();
        seconds
            .filter(|seconds| !seconds.is_empty())
            .map(|seconds| Self { cell, seconds })
    }

    /// Simulates the cell: `repeats` times where packets are lost by chance or by a policer, five times else.
    pub fn compare(&self, algorithm: Algorithm, repeats: u64) -> Compared {
        let repeats = if self.cell.loss > 0.0 || self.cell.policer_bits_per_second > 0 {
            repeats
        } else {
            5
        };
        let simulated: Vec<f64> = (1..=repeats)
            .map(|seed| self.cell.simulate(algorithm, seed).0)
            .collect();
        Compared {
            cell: self.cell,
            seconds: Comparison::of(&self.seconds, &simulated, median),
        }
    }
}

/// The errors of a group; `None`: no cell belongs to it.
pub fn errors(compared: &[Compared], group: Group) -> Option<Errors> {
    let cells: Vec<&Compared> = compared.iter().filter(|compared| group.holds(compared)).collect();
    let at = |error: fn(&Comparison) -> f64, share: f64| {
        let mut errors: Vec<f64> = cells.iter().map(|cell| error(&cell.seconds).abs()).collect();
        errors.sort_by(f64::total_cmp);
        errors[((errors.len() - 1) as f64 * share).round() as usize]
    };
    (!cells.is_empty()).then(|| Errors {
        cells: cells.len(),
        median: at(Comparison::error, 0.5),
        p90: at(Comparison::certain_error, 0.9),
        worst: at(Comparison::certain_error, 1.0),
    })
}

impl Errors {
    /// Whether they stay under the bars of a group. What is no number does not.
    pub fn within(&self, bars: [Option<f64>; 3]) -> bool {
        let seen = [self.median, self.p90, self.worst];
        seen.into_iter()
            .zip(bars)
            .all(|(seen, bar)| bar.is_none_or(|bar| seen <= bar))
    }
}

fn median(of: &[&f64]) -> f64 {
    let mut of: Vec<f64> = of.iter().copied().copied().collect();
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_cell_is_named() {
        let grid = "# comment\n1000 10 1000000 0.5 100 0 : 1.0 2.0\n1000 10 0 0 100 0 : 1.0\n";
        let error = Measured::parse_all(grid).unwrap_err();
        assert_eq!(error.line, 3);
        let grid = Measured::parse_all("1000 10 1000000 0.5 100 0 : 1.0 2.0 9.0").unwrap();
        assert_eq!((grid[0].cell.loss, grid[0].seconds.len()), (0.5, 3));
    }

    #[test]
    fn an_error_is_judged_in_its_group() {
        let cell = Measured::parse_all("1000000 10 10000000 0 100000 0 : 1.0").unwrap()[0].cell;
        let compared = |measured, simulated| Compared {
            cell,
            seconds: Comparison {
                measured,
                interval: (measured, measured),
                simulated,
            },
        };
        let all = [compared(0.84, 0.84), compared(0.84, 0.85), compared(0.84, 1.05)];
        let errors = errors(&all, Group::NoLoss).unwrap();
        assert_eq!(errors.cells, 3);
        assert!((errors.median - 1.19).abs() < 0.01 && (errors.worst - 25.0).abs() < 0.01);
        assert!(!errors.within(Group::NoLoss.bars()) && errors.within([Some(2.0), None, Some(30.0)]));
        assert_eq!(super::errors(&all, Group::Policed), None);
        assert_eq!(super::errors(&all, Group::Hard), None);
        // Not a number stays under no bar.
        let never = super::errors(&[compared(0.84, f64::INFINITY)], Group::NoLoss).unwrap();
        assert!(!never.within(Group::NoLoss.bars()));
    }
}
