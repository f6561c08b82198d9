//! Several transfers that share a link: how long each takes and what share it gets, measured and simulated.
//!
//! Transfers of the same plan are told apart by their rank only: which of them is the fastest is chance.

use std::fmt;
use std::time::Duration;

use phantom_path::dice::Dice;
use phantom_path::fidelity::{BURST_BYTES, Cell};
use phantom_path::lab::{Flow, Lab, Outcome, Path};

use crate::{FlowPlan, Plan, Samples};

/// What a simulated time or share may be off by at most, in per cent.
pub const BAR: f64 = 15.0;
/// A simulated transfer that takes longer is given up.
const PATIENCE_NS: u64 = 2_000_000_000_000;
/// Threads that dial at once do so within this.
const SKEW_NS: u64 = 300_000;

/// The link, and who shares it.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedCell {
    /// Round trip of the empty path, in milliseconds.
    pub rtt_ms: u64,
    /// Rate of the link, in both directions.
    pub bits_per_second: u64,
    /// Share of packets lost, in both directions.
    pub loss: f64,
    /// Bytes that may wait before the link.
    pub queue_bytes: u64,
    /// Those who share it.
    pub flows: Vec<SharedFlow>,
}

/// One transfer among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFlow {
    /// Bytes transferred.
    pub bytes: u64,
    /// When it is dialled, in milliseconds after the first.
    pub start_ms: u64,
    /// Rate of a policer for its data alone; 0: none.
    pub policer_bits_per_second: u64,
}

/// Seconds and share of each flow, in the order of the cell; once for each repeat.
pub type Repeat = Vec<(f64, f64)>;

/// A cell, and what was measured in it.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedMeasured {
    /// Where.
    pub cell: SharedCell,
    /// At least one.
    pub repeats: Vec<Repeat>,
}

/// A file's line that does not say what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: wanted `rtt_ms bits_per_second loss queue_bytes bytes@start_ms[/policer] … : seconds=share …`, got {got:?}"
)]
pub struct SharingError {
    /// Counted from 1.
    pub line: usize,
    /// The line.
    pub got: String,
}

/// What is compared of flows with the same plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// From connect() to the last byte.
    Seconds,
    /// Of all that had arrived when the first flow ended.
    Share,
}

/// Which of the flows with the same plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// There is one.
    Only,
    /// The least value.
    Least,
    /// The middle one.
    Middle,
    /// The greatest value.
    Most,
}

/// One median, measured and simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedCompared {
    /// The flows, as a file writes them, with their number.
    pub flows: String,
    /// What of them.
    pub what: What,
    /// Which of them.
    pub rank: Rank,
    /// Measured, in the median of all repeats.
    pub measured: f64,
    /// Bounds of that median: 95 % of those of resampled repeats.
    pub interval: (f64, f64),
    /// Simulated, in the median.
    pub simulated: f64,
}

/// Two to ten flows: equal ones over links of several lengths and queues, some with losses, one that comes late, and some with
/// one behind a policer of its own.
pub fn grid() -> Vec<SharedCell> {
    let flow = |bytes| SharedFlow {
        bytes,
        start_ms: 0,
        policer_bits_per_second: 0,
    };
    let cell = |flows: Vec<SharedFlow>, mbit: u64, rtt_ms, queue_ms: u64, loss| SharedCell {
        rtt_ms,
        bits_per_second: mbit * 1_000_000,
        loss,
        queue_bytes: mbit * 125 * queue_ms,
        flows,
    };
    let equal = |number, bytes| vec![flow(bytes); number];
    let with = |number, bytes, other| {
        let mut flows = equal(number, bytes);
        flows.push(other);
        flows
    };
    let policed = |bytes, policer_bits_per_second| SharedFlow {
        policer_bits_per_second,
        ..flow(bytes)
    };
    vec![
        cell(equal(2, 3_000_000), 10, 20, 100, 0.0),
        cell(equal(2, 3_000_000), 10, 100, 100, 0.0),
        cell(equal(2, 3_000_000), 10, 40, 25, 0.0),
        cell(equal(4, 1_500_000), 10, 40, 100, 0.0),
        cell(equal(4, 1_500_000), 10, 40, 25, 0.0),
        cell(equal(5, 2_000_000), 20, 60, 50, 0.0),
        cell(equal(10, 600_000), 10, 20, 100, 0.0),
        cell(equal(10, 600_000), 10, 80, 50, 0.0),
        cell(equal(2, 2_000_000), 10, 40, 100, 0.005),
        cell(equal(4, 1_000_000), 10, 40, 100, 0.02),
        cell(
            with(
                1,
                4_000_000,
                SharedFlow {
                    start_ms: 1_000,
                    ..flow(2_000_000)
                },
            ),
            10,
            40,
            100,
            0.0,
        ),
        cell(with(1, 3_000_000, policed(500_000, 1_000_000)), 10, 40, 100, 0.0),
        cell(with(2, 2_500_000, policed(300_000, 500_000)), 10, 20, 100, 0.0),
        cell(with(4, 1_500_000, policed(500_000, 1_000_000)), 10, 80, 50, 0.0),
        cell(with(9, 600_000, policed(200_000, 300_000)), 10, 40, 100, 0.0),
    ]
}

impl SharedCell {
    /// For a lane.
    pub fn plan(&self) -> Plan {
        let link = self.as_cell().link();
        let flow = |flow: &SharedFlow| FlowPlan {
            bytes: flow.bytes,
            start: Duration::from_millis(flow.start_ms),
            policed: flow.policed(),
        };
        Plan {
            forth: link,
            back: link,
            flows: self.flows.iter().map(flow).collect(),
        }
    }

    /// All bytes of all flows.
    pub fn bytes(&self) -> u64 {
        self.flows.iter().map(|flow| flow.bytes).sum()
    }

    /// The same in the laboratory; `None`: a transfer does not end.
    pub fn simulate(&self, seed: u64) -> Option<Repeat> {
        let link = self.as_cell().link();
        let mut dice = Dice::new(seed ^ 0x5ead);
        // Anywhere within a slot of the timers, as in a cell with one transfer.
        let begin_ns = dice.below(256_000_000);
        let flows: Vec<Flow> = self
            .flows
            .iter()
            .map(|shared| Flow {
                start_ns: begin_ns + shared.start_ms * 1_000_000 + dice.below(SKEW_NS),
                policed: shared.policed(),
                ..Flow::new(shared.bytes)
            })
            .collect();
        let path = Path {
            forth: link,
            back: link,
        };
        let until = |until_ns| Lab::new(path, &flows, seed).run(until_ns).0;
        let all = until(PATIENCE_NS);
        let end = |(flow, outcome): (&Flow, &Outcome)| Some(flow.start_ns + outcome.took_ns?);
        let ends: Vec<u64> = flows.iter().zip(&all).map(end).collect::<Option<_>>()?;
        let at_first_end = until(ends.iter().copied().min()?);
        let arrived: u64 = at_first_end.iter().map(|outcome| outcome.arrived).sum();
        let flow = |(outcome, then): (&Outcome, &Outcome)| {
            Some((
                outcome.took_ns? as f64 / 1e9,
                then.arrived as f64 / arrived.max(1) as f64,
            ))
        };
        all.iter().zip(&at_first_end).map(flow).collect()
    }

    fn as_cell(&self) -> Cell {
        Cell {
            bytes: self.bytes(),
            rtt_ms: self.rtt_ms,
            bits_per_second: self.bits_per_second,
            loss: self.loss,
            queue_bytes: self.queue_bytes,
            policer_bits_per_second: 0,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let cell = Self {
            rtt_ms: words.next()?.parse().ok()?,
            bits_per_second: words.next()?.parse().ok().filter(|rate| *rate > 0)?,
            loss: words
                .next()?
                .parse()
                .ok()
                .filter(|loss| (0.0..1.0).contains(loss))?,
            queue_bytes: words.next()?.parse().ok()?,
            flows: words.map(SharedFlow::parse).collect::<Option<_>>()?,
        };
        (!cell.flows.is_empty()).then_some(cell)
    }
}

impl SharedFlow {
    fn policed(&self) -> Option<(u64, u64)> {
        let rate = self.policer_bits_per_second;
        (rate > 0).then_some((rate, BURST_BYTES))
    }

    fn parse(word: &str) -> Option<Self> {
        let (bytes, rest) = word.split_once('@')?;
        let (start, policer) = rest.split_once('/').unwrap_or((rest, "0"));
        Some(Self {
            bytes: bytes.parse().ok().filter(|bytes| *bytes > 0)?,
            start_ms: start.parse().ok()?,
            policer_bits_per_second: policer.parse().ok()?,
        })
    }
}

impl fmt::Display for SharedFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.bytes, self.start_ms)?;
        if self.policer_bits_per_second > 0 {
            write!(f, "/{}", self.policer_bits_per_second)?;
        }
        Ok(())
    }
}

impl fmt::Display for SharedCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {}",
            self.rtt_ms, self.bits_per_second, self.loss, self.queue_bytes
        )?;
        self.flows.iter().try_for_each(|flow| write!(f, " {flow}"))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seconds => "seconds",
            Self::Share => "share",
        })
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Only => "only",
            Self::Least => "least",
            Self::Middle => "middle",
            Self::Most => "most",
        })
    }
}

/// What a lane measured, as a repeat.
pub fn repeat(samples: &Samples) -> Repeat {
    samples
        .flows
        .iter()
        .map(|flow| (flow.seconds, flow.share))
        .collect()
}

impl SharedMeasured {
    /// Reads a file: one repeat in a line, those of a cell after one another; `#` begins a comment.
    ///
    /// # Errors
    /// The first line that says something else.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, SharingError> {
        let mut all: Vec<Self> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let (cell, repeat) = Self::parse(line).ok_or_else(|| SharingError {
                line: number + 1,
                got: line.chars().take(80).collect(),
            })?;
            match all.last_mut() {
                Some(last) if last.cell == cell => last.repeats.push(repeat),
                _ => all.push(Self {
                    cell,
                    repeats: vec![repeat],
                }),
            }
        }
        Ok(all)
    }

    fn parse(line: &str) -> Option<(SharedCell, Repeat)> {
        let (cell, repeat) = line.split_once(" : ")?;
        let cell = SharedCell::parse(cell)?;
        let flow = |word: &str| {
            let (seconds, share) = word.split_once('=')?;
            let positive = |number: &str| number.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0);
            Some((positive(seconds)?, positive(share)?))
        };
        let repeat: Repeat = repeat.split_whitespace().map(flow).collect::<Option<_>>()?;
        (repeat.len() == cell.flows.len()).then_some((cell, repeat))
    }

    /// Lines as [`SharedMeasured::parse_all`] reads them.
    pub fn written(&self) -> String {
        let mut text = String::new();
        for repeat in &self.repeats {
            let flows: Vec<String> = repeat
                .iter()
                .map(|(seconds, share)| format!("{seconds:.6}={share:.6}"))
                .collect();
            text.push_str(&format!("{} : {}\n", self.cell, flows.join(" ")));
        }
        text
    }

    /// Simulates the cell `repeats` times, and compares times and shares by the rank of flows with the same plan. What a
    /// simulation does not end is endless.
    pub fn compare(&self, repeats: u64) -> Vec<SharedCompared> {
        let simulated: Vec<Repeat> = (1..=repeats)
            .map(|seed| {
                let endless = || vec![(f64::INFINITY, 0.0); self.cell.flows.len()];
                self.cell.simulate(seed).unwrap_or_else(endless)
            })
            .collect();
        let mut compared = Vec::new();
        for plan in distinct(&self.cell.flows) {
            let members: Vec<usize> = (0..self.cell.flows.len())
                .filter(|number| self.cell.flows[*number] == plan)
                .collect();
            let ranks: &[Rank] = match members.len() {
                1 => &[Rank::Only],
                2 => &[Rank::Least, Rank::Most],
                _ => &[Rank::Least, Rank::Middle, Rank::Most],
            };
            for what in [What::Seconds, What::Share] {
                for rank in ranks {
                    let of = |repeats: &[Repeat]| -> Vec<f64> {
                        repeats
                            .iter()
                            .map(|repeat| value(repeat, &members, what, *rank))
                            .collect()
                    };
                    let measured = of(&self.repeats);
                    compared.push(SharedCompared {
                        flows: format!("{} x {plan}", members.len()),
                        what,
                        rank: *rank,
                        interval: interval(&measured),
                        measured: median(measured),
                        simulated: median(of(&simulated)),
                    });
                }
            }
        }
        compared
    }
}

impl SharedCompared {
    /// Simulated by measured, in per cent more.
    pub fn error(&self) -> f64 {
        100.0 * (self.simulated / self.measured - 1.0)
    }

    /// The same beyond what the measured median is certain of: none within its interval.
    pub fn certain_error(&self) -> f64 {
        let (low, high) = self.interval;
        if self.simulated < low || self.simulated > high || self.simulated.is_nan() {
            self.error()
        } else {
            0.0
        }
    }

    /// Whether it stays under [`BAR`]. What is no number does not.
    pub fn met(&self) -> bool {
        self.certain_error().abs() <= BAR
    }
}

fn distinct(flows: &[SharedFlow]) -> Vec<SharedFlow> {
    let mut seen: Vec<SharedFlow> = Vec::new();
    for flow in flows {
        if !seen.contains(flow) {
            seen.push(*flow);
        }
    }
    seen
}

fn value(repeat: &Repeat, members: &[usize], what: What, rank: Rank) -> f64 {
    let mut values: Vec<f64> = members
        .iter()
        .map(|number| match what {
            What::Seconds => repeat[*number].0,
            What::Share => repeat[*number].1,
        })
        .collect();
    values.sort_by(f64::total_cmp);
    match rank {
        Rank::Only | Rank::Least => values[0],
        Rank::Middle => values[values.len() / 2],
        Rank::Most => values[values.len() - 1],
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// The bootstrap interval of the median, as [`phantom_path::fidelity`] takes it.
fn interval(of: &[f64]) -> (f64, f64) {
    const RESAMPLES: usize = 400;
    let mut dice = Dice::new(1);
    let mut resample = || {
        median(
            (0..of.len())
                .map(|_| of[dice.below(of.len() as u64) as usize])
                .collect(),
        )
    };
    let mut medians: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    medians.sort_by(f64::total_cmp);
    (medians[RESAMPLES / 40], medians[RESAMPLES - 1 - RESAMPLES / 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_no_line_is_named() {
        let mut text = String::from("# comment\n");
        let mut all = Vec::new();
        for cell in grid() {
            let repeat: Repeat = (0..cell.flows.len()).map(|n| (n as f64 + 0.5, 0.125)).collect();
            let measured = SharedMeasured {
                cell,
                repeats: vec![repeat; 2],
            };
            text.push_str(&measured.written());
            all.push(measured);
        }
        assert_eq!(SharedMeasured::parse_all(&text).unwrap(), all);
        for broken in [
            "40 10000000 0 1000 5@0",
            "40 10000000 0 1000 : 1.0=0.5",
            "40 10000000 0 1000 5@0 5@0 : 1.0=0.5",
            "40 10000000 0 1000 5@0 : 1.0",
            "40 10000000 2 1000 5@0 : 1.0=1.0",
            "40 10000000 0 1000 5 : 1.0=1.0",
            "40 10000000 0 1000 5@0 : NaN=1.0",
        ] {
            let error = SharedMeasured::parse_all(&format!("# comment\n\n{broken}\n")).unwrap_err();
            assert_eq!((error.line, error.got.as_str()), (3, broken));
        }
    }

    #[test]
    fn equal_flows_are_compared_by_rank_and_others_alone() {
        let mut cell = grid()[0].clone();
        cell.flows = [5, 6, 5, 5]
            .map(|bytes| SharedFlow {
                bytes: bytes * 100_000,
                start_ms: 0,
                policer_bits_per_second: 0,
            })
            .to_vec();
        let repeat = vec![(3.0, 0.1), (9.0, 0.4), (1.0, 0.3), (2.0, 0.2)];
        let measured = SharedMeasured {
            cell,
            repeats: vec![repeat; 3],
        };
        let compared = measured.compare(1);
        let values: Vec<_> = compared.iter().map(|c| (c.what, c.rank, c.measured)).collect();
        assert_eq!(
            values,
            [
                (What::Seconds, Rank::Least, 1.0),
                (What::Seconds, Rank::Middle, 2.0),
                (What::Seconds, Rank::Most, 3.0),
                (What::Share, Rank::Least, 0.1),
                (What::Share, Rank::Middle, 0.2),
                (What::Share, Rank::Most, 0.3),
                (What::Seconds, Rank::Only, 9.0),
                (What::Share, Rank::Only, 0.4),
            ]
        );
        assert_eq!(compared[0].flows, "3 x 500000@0");
        assert!(!compared[6].met() && compared[6].error() < -50.0);
    }

    #[test]
    fn simulated_shares_are_one_in_all_and_repeat_by_seed() {
        for cell in grid() {
            let repeat = cell.simulate(3).unwrap();
            let shares: f64 = repeat.iter().map(|(_, share)| share).sum();
            assert!((shares - 1.0).abs() < 1e-9, "{cell}: {repeat:?}");
            assert_eq!(cell.simulate(3).unwrap(), repeat);
        }
    }
}
