//! Transfers that share a link or write in bursts: how long each takes, what share it gets, how long its bursts take, measured and
//! simulated.
//!
//! Transfers of the same plan are told apart by their rank only: which of them is the fastest is chance. All bursts of theirs are
//! taken together.

use std::fmt;
use std::time::Duration;

use phantom_path::dice::Dice;
use phantom_path::fidelity::{BURST_BYTES, Cell};
use phantom_path::lab::{Flow, Lab, Outcome, Path};
use phantom_path::tcp::{Algorithm, SenderConfig};

use crate::{FlowPlan, FlowSample, Pace, Plan};

/// What a simulated time or share may be off by at most, in per cent.
pub const BAR: f64 = 15.0;
/// A simulated transfer that takes longer is given up.
const PATIENCE_NS: u64 = 2_000_000_000_000;
/// Threads that dial at once do so within this.
const SKEW_NS: u64 = 300_000;

/// The least bursts of a transfer in [`bursts`], and how long it goes on if they are more.
const BURSTS_MIN: u64 = 6;
const BURSTS_MS: u64 = 16_000;

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
    /// What that policer lets through at once.
    pub policer_bytes: u64,
    /// Bytes written at a time, and the milliseconds from one time to the next; 0 bytes: all is written at once.
    pub burst: (u64, u64),
}

/// What came of each flow, in the order of the cell; once for each repeat.
pub type Repeat = Vec<FlowSample>;

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
    "line {line}: wanted `rtt_ms bits_per_second loss queue_bytes bytes[*burst_bytes*every_ms]@start_ms[/policer[/policer_bytes]] … : seconds=share[=retransmits=burst_seconds,…] …`, got {got:?}"
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
    /// Half of the bursts took at most so long.
    Burst,
    /// Nine in ten.
    BurstP90,
    /// Segments sent again by a flow, in the mean. There is no bar for it.
    Again,
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
    /// All that they did, taken together.
    All,
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
    /// Measured, in the median of all repeats; what it says if it is no median.
    pub measured: f64,
    /// Bounds of that: 95 % of those of resampled repeats.
    pub interval: (f64, f64),
    /// Simulated, in the median.
    pub simulated: f64,
}

/// Two to ten flows: equal ones over links of several lengths and queues, some with losses, one that comes late, and some with
/// one behind a policer of its own.
pub fn grid() -> Vec<SharedCell> {
    let flow = SharedFlow::new;
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

/// One flow that writes in bursts: on clean paths, with losses, and behind policers. What a burst meets there is a window that the
/// bursts before it have left, or half a bucket.
pub fn bursts() -> Vec<SharedCell> {
    const MBIT: u64 = 20;
    let cell = |kilobytes: u64, every_ms: u64, rtt_ms, loss, policer: (u64, u64)| {
        let number = (BURSTS_MS / every_ms).clamp(BURSTS_MIN, 16);
        SharedCell {
            rtt_ms,
            bits_per_second: MBIT * 1_000_000,
            loss,
            queue_bytes: MBIT * 12_500,
            flows: vec![SharedFlow {
                policer_bits_per_second: policer.0,
                policer_bytes: policer.1,
                burst: (1_000 * kilobytes, every_ms),
                ..SharedFlow::new(1_000 * kilobytes * number)
            }],
        }
    };
    let (open, slow) = ((0, BURST_BYTES), (140_000, 8_192));
    vec![
        cell(2, 500, 20, 0.0, open),
        cell(8, 1_000, 100, 0.0, open),
        cell(30, 500, 100, 0.0, open),
        cell(32, 1_000, 50, 0.0, open),
        cell(32, 2_000, 200, 0.0, open),
        cell(4, 500, 100, 0.02, open),
        cell(24, 1_000, 50, 0.01, open),
        cell(16, 1_000, 100, 0.02, open),
        cell(32, 2_000, 200, 0.02, open),
        cell(2, 500, 100, 0.0, slow),
        cell(4, 500, 200, 0.0, slow),
        cell(8, 1_000, 50, 0.0, slow),
        cell(8, 1_000, 200, 0.0, slow),
        cell(12, 1_000, 150, 0.0, slow),
        cell(16, 2_000, 50, 0.0, slow),
        cell(16, 2_000, 200, 0.0, slow),
        cell(24, 3_000, 20, 0.0, slow),
        cell(32, 5_000, 100, 0.0, slow),
        cell(32, 5_000, 200, 0.0, slow),
        cell(24, 3_000, 100, 0.0, (140_000, BURST_BYTES)),
        cell(16, 500, 50, 0.0, (500_000, 8_192)),
        cell(32, 1_000, 100, 0.0, (500_000, 8_192)),
        cell(32, 2_000, 200, 0.0, (500_000, BURST_BYTES)),
        cell(32, 1_000, 100, 0.0, (1_000_000, 8_192)),
        cell(30, 500, 20, 0.0, (1_000_000, 8_192)),
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
            paced: flow.pace(),
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
        self.simulate_with(seed, Algorithm::default())
    }

    fn simulate_with(&self, seed: u64, algorithm: Algorithm) -> Option<Repeat> {
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
                paced: shared
                    .pace()
                    .map(|pace| (pace.bytes, pace.every.as_nanos() as u64)),
                sender: SenderConfig {
                    algorithm,
                    ..SenderConfig::default()
                },
                ..Flow::new(shared.bytes)
            })
            .collect();
        let path = Path {
            forth: link,
            back: link,
        };
        let lab = || Lab::new(path, &flows, seed);
        let mut first_ns = vec![0; flows.len()];
        let mut bursts_ns = vec![Vec::new(); flows.len()];
        let (all, _) = lab().watch(PATIENCE_NS, |number, standing| {
            let Some(pace) = self.flows[number].pace() else {
                return;
            };
            if standing.written > 0 && first_ns[number] == 0 {
                first_ns[number] = standing.at_ns;
            }
            bursts_ns[number].resize(
                pace.ended(standing.arrived, self.flows[number].bytes),
                standing.at_ns,
            );
        });
        let end = |(flow, outcome): (&Flow, &Outcome)| Some(flow.start_ns + outcome.took_ns?);
        let ends: Vec<u64> = flows.iter().zip(&all).map(end).collect::<Option<_>>()?;
        let (at_first_end, _) = lab().run(ends.iter().copied().min()?);
        let arrived: u64 = at_first_end.iter().map(|outcome| outcome.arrived).sum();
        let flow = |(number, outcome): (usize, &Outcome)| {
            Some(FlowSample {
                seconds: outcome.took_ns? as f64 / 1e9,
                share: at_first_end[number].arrived as f64 / arrived.max(1) as f64,
                retransmits: outcome.counters.again.into(),
                bursts: self.flows[number]
                    .pace()
                    .map(|pace| pace.took(first_ns[number], &bursts_ns[number]))
                    .unwrap_or_default(),
            })
        };
        all.iter().enumerate().map(flow).collect()
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
    /// All at once, from the first moment on, without a policer.
    pub const fn new(bytes: u64) -> Self {
        Self {
            bytes,
            start_ms: 0,
            policer_bits_per_second: 0,
            policer_bytes: BURST_BYTES,
            burst: (0, 0),
        }
    }

    fn policed(&self) -> Option<(u64, u64)> {
        let rate = self.policer_bits_per_second;
        (rate > 0).then_some((rate, self.policer_bytes))
    }

    fn pace(&self) -> Option<Pace> {
        let (bytes, every_ms) = self.burst;
        (bytes > 0).then_some(Pace {
            bytes,
            every: Duration::from_millis(every_ms),
        })
    }

    fn parse(word: &str) -> Option<Self> {
        let (written, rest) = word.split_once('@')?;
        let mut written = written.split('*').map(|number| number.parse().ok());
        let mut rest = rest.split('/').map(|number| number.parse().ok());
        let new = Self::new(written.next()??);
        let flow = Self {
            start_ms: rest.next()??,
            policer_bits_per_second: rest.next().unwrap_or(Some(0))?,
            policer_bytes: rest.next().unwrap_or(Some(new.policer_bytes))?,
            burst: match written.next() {
                Some(bytes) => (bytes.filter(|bytes| *bytes > 0)?, written.next()??),
                None => new.burst,
            },
            ..new
        };
        let all_read = written.next().is_none() && rest.next().is_none();
        (all_read && flow.bytes > 0).then_some(flow)
    }
}

impl fmt::Display for SharedFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes)?;
        if self.burst.0 > 0 {
            write!(f, "*{}*{}", self.burst.0, self.burst.1)?;
        }
        write!(f, "@{}", self.start_ms)?;
        if self.policer_bits_per_second > 0 {
            write!(f, "/{}", self.policer_bits_per_second)?;
            if self.policer_bytes != BURST_BYTES {
                write!(f, "/{}", self.policer_bytes)?;
            }
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
            Self::Burst => "burst",
            Self::BurstP90 => "burst p90",
            Self::Again => "sent again",
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
            Self::All => "all",
        })
    }
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
        let positive = |number: &str| number.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0);
        let flow = |word: &str| {
            let mut parts = word.split('=');
            let sample = FlowSample {
                seconds: positive(parts.next()?)?,
                share: positive(parts.next()?)?,
                retransmits: parts.next().map_or(Some(0), |number| number.parse().ok())?,
                bursts: parts.next().map_or(Some(Vec::new()), |bursts| {
                    bursts.split(',').map(positive).collect()
                })?,
            };
            parts.next().is_none().then_some(sample)
        };
        let repeat: Repeat = repeat.split_whitespace().map(flow).collect::<Option<_>>()?;
        let bursts = |flow: &SharedFlow| flow.pace().map_or(0, |pace| pace.bursts(flow.bytes).count());
        let all_told = repeat.len() == cell.flows.len()
            && repeat
                .iter()
                .zip(&cell.flows)
                .all(|(sample, flow)| sample.bursts.len() == bursts(flow));
        all_told.then_some((cell, repeat))
    }

    /// Lines as [`SharedMeasured::parse_all`] reads them.
    pub fn written(&self) -> String {
        let mut text = String::new();
        for repeat in &self.repeats {
            let flows: Vec<String> = repeat
                .iter()
                .map(|flow| {
                    let bursts: Vec<String> = flow
                        .bursts
                        .iter()
                        .map(|seconds| format!("{seconds:.4}"))
                        .collect();
                    match bursts.len() {
                        0 => format!("{:.6}={:.6}", flow.seconds, flow.share),
                        _ => format!(
                            "{:.6}={:.6}={}={}",
                            flow.seconds,
                            flow.share,
                            flow.retransmits,
                            bursts.join(",")
                        ),
                    }
                })
                .collect();
            text.push_str(&format!("{} : {}\n", self.cell, flows.join(" ")));
        }
        text
    }

    /// Simulates the cell `repeats` times, and compares what flows with the same plan did: their times and shares by rank; where they
    /// write in bursts, the bursts of all. What a simulation does not end is endless.
    pub fn compare(&self, repeats: u64) -> Vec<SharedCompared> {
        self.compare_with(repeats, Algorithm::default())
    }

    /// The same by another congestion control.
    pub fn compare_with(&self, repeats: u64, algorithm: Algorithm) -> Vec<SharedCompared> {
        let endless = |flow: &SharedFlow| FlowSample {
            seconds: f64::INFINITY,
            bursts: vec![f64::INFINITY; flow.pace().map_or(0, |pace| pace.bursts(flow.bytes).count())],
            ..FlowSample::default()
        };
        let simulated: Vec<Repeat> = (1..=repeats)
            .map(|seed| {
                self.cell
                    .simulate_with(seed, algorithm)
                    .unwrap_or_else(|| self.cell.flows.iter().map(endless).collect())
            })
            .collect();
        let simulated: Vec<&Repeat> = simulated.iter().collect();
        let measured: Vec<&Repeat> = self.repeats.iter().collect();
        let mut compared = Vec::new();
        for plan in distinct(&self.cell.flows) {
            let members: Vec<usize> = (0..self.cell.flows.len())
                .filter(|number| self.cell.flows[*number] == plan)
                .collect();
            let (whats, ranks): (&[What], &[Rank]) = match members.len() {
                _ if plan.burst.0 > 0 => (&[What::Burst, What::BurstP90, What::Again], &[Rank::All]),
                1 => (&[What::Seconds, What::Share], &[Rank::Only]),
                2 => (&[What::Seconds, What::Share], &[Rank::Least, Rank::Most]),
                _ => (
                    &[What::Seconds, What::Share],
                    &[Rank::Least, Rank::Middle, Rank::Most],
                ),
            };
            for what in whats {
                for rank in ranks {
                    let of = |repeats: &[&Repeat]| of_all(repeats, &members, *what, *rank);
                    compared.push(SharedCompared {
                        flows: format!("{} x {plan}", members.len()),
                        what: *what,
                        rank: *rank,
                        interval: interval(&measured, of),
                        measured: of(&measured),
                        simulated: of(&simulated),
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
        if self.simulated == self.measured {
            return 0.0;
        }
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

    /// Whether it stays under [`BAR`], if that is for it. What is no number does not.
    pub fn met(&self) -> bool {
        self.what == What::Again || self.certain_error().abs() <= BAR
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

/// One number for all repeats.
fn of_all(repeats: &[&Repeat], members: &[usize], what: What, rank: Rank) -> f64 {
    let flows = || {
        repeats
            .iter()
            .flat_map(|repeat| members.iter().map(|number| &repeat[*number]))
    };
    let bursts = || flows().flat_map(|flow| flow.bursts.iter().copied()).collect();
    match what {
        What::Seconds => quantile(ranked(repeats, members, rank, |flow| flow.seconds), 0.5),
        What::Share => quantile(ranked(repeats, members, rank, |flow| flow.share), 0.5),
        What::Burst => quantile(bursts(), 0.5),
        What::BurstP90 => quantile(bursts(), 0.9),
        What::Again => {
            flows().map(|flow| flow.retransmits as f64).sum::<f64>() / flows().count().max(1) as f64
        }
    }
}

/// The value of this rank in each repeat.
fn ranked(
    repeats: &[&Repeat],
    members: &[usize],
    rank: Rank,
    value: impl Fn(&FlowSample) -> f64,
) -> Vec<f64> {
    let of = |repeat: &&Repeat| {
        let mut values: Vec<f64> = members.iter().map(|number| value(&repeat[*number])).collect();
        values.sort_by(f64::total_cmp);
        match rank {
            Rank::Only | Rank::Least | Rank::All => values[0],
            Rank::Middle => values[values.len() / 2],
            Rank::Most => values[values.len() - 1],
        }
    };
    repeats.iter().map(of).collect()
}

fn quantile(mut of: Vec<f64>, share: f64) -> f64 {
    of.sort_by(f64::total_cmp);
    of[((of.len() as f64 * share) as usize).min(of.len() - 1)]
}

/// The bootstrap interval, as [`phantom_path::fidelity`] takes it.
fn interval(of: &[&Repeat], value: impl Fn(&[&Repeat]) -> f64) -> (f64, f64) {
    const RESAMPLES: usize = 400;
    let mut dice = Dice::new(1);
    let mut resample = || {
        let drawn: Vec<&Repeat> = (0..of.len())
            .map(|_| of[dice.below(of.len() as u64) as usize])
            .collect();
        value(&drawn)
    };
    let mut values: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    values.sort_by(f64::total_cmp);
    (values[RESAMPLES / 40], values[RESAMPLES - 1 - RESAMPLES / 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64, share: f64) -> FlowSample {
        FlowSample {
            seconds,
            share,
            ..FlowSample::default()
        }
    }

    /// Half a kilobyte at a time over a path that nothing is lost on: half a round trip each, and nothing else.
    #[test]
    fn bursts_are_counted_from_when_they_are_due() {
        let cell = SharedCell {
            rtt_ms: 40,
            bits_per_second: 1_000_000_000,
            loss: 0.0,
            queue_bytes: 1_000_000,
            flows: vec![SharedFlow {
                burst: (500, 70),
                ..SharedFlow::new(4_900)
            }],
        };
        let repeat = cell.simulate(1).unwrap();
        let flow = &repeat[0];
        assert_eq!((flow.bursts.len(), flow.retransmits), (10, 0));
        assert!(
            flow.bursts.iter().all(|took| (0.020..0.0202).contains(took)),
            "{flow:?}"
        );
        // A round trip for the handshake, nine pauses, and half a round trip.
        assert!((flow.seconds - 0.69).abs() < 0.001, "{flow:?}");
        let measured = SharedMeasured {
            cell,
            repeats: vec![repeat; 3],
        };
        let compared = measured.compare(3);
        let whats: Vec<_> = compared
            .iter()
            .map(|c| (c.what, c.rank, c.error().abs() < 0.1))
            .collect();
        assert_eq!(whats[0], (What::Burst, Rank::All, true));
        assert_eq!(whats[1], (What::BurstP90, Rank::All, true));
        assert_eq!((compared[2].what, compared[2].simulated), (What::Again, 0.0));
    }

    #[test]
    fn what_is_written_is_read_and_what_is_no_line_is_named() {
        let mut text = String::from("# comment\n");
        let mut all = Vec::new();
        for cell in grid().into_iter().chain(bursts()) {
            let sample = |(n, flow): (usize, &SharedFlow)| {
                let bursts = flow.pace().map(|pace| pace.bursts(flow.bytes).count());
                FlowSample {
                    retransmits: bursts.unwrap_or_default() as u64,
                    bursts: vec![0.25; bursts.unwrap_or_default()],
                    ..sample(n as f64 + 0.5, 0.125)
                }
            };
            let repeat: Repeat = cell.flows.iter().enumerate().map(sample).collect();
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
            "40 10000000 0 1000 5*0*10@0 : 1.0=1.0",
            "40 10000000 0 1000 5*5@0 : 1.0=1.0",
            "40 10000000 0 1000 5*3*10@0 : 1.0=1.0",
            "40 10000000 0 1000 5*3*10@0 : 1.0=1.0=0=0.5",
            "40 10000000 0 1000 5@0/1/2/3 : 1.0=1.0",
        ] {
            let error = SharedMeasured::parse_all(&format!("# comment\n\n{broken}\n")).unwrap_err();
            assert_eq!((error.line, error.got.as_str()), (3, broken));
        }
    }

    #[test]
    fn equal_flows_are_compared_by_rank_and_others_alone() {
        let mut cell = grid()[0].clone();
        cell.flows = [5, 6, 5, 5]
            .map(|bytes| SharedFlow::new(bytes * 100_000))
            .to_vec();
        let repeat = vec![
            sample(3.0, 0.1),
            sample(9.0, 0.4),
            sample(1.0, 0.3),
            sample(2.0, 0.2),
        ];
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
            let shares: f64 = repeat.iter().map(|flow| flow.share).sum();
            assert!((shares - 1.0).abs() < 1e-9, "{cell}: {repeat:?}");
            assert_eq!(cell.simulate(3).unwrap(), repeat);
        }
    }
}
