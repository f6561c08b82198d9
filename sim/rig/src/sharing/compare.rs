//! What was measured beside what is simulated.

use std::fmt;

use phantom_path::comparison::Comparison;
use phantom_path::tcp::Algorithm;

use super::{Repeat, SharedFlow, SharedMeasured};
use crate::FlowSample;

/// What a simulated time or share may be off by at most, in per cent.
pub const BAR: f64 = 15.0;

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
    /// In the median of all repeats; what it says if it is no median.
    pub value: Comparison,
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
                        value: Comparison::of(&self.repeats, &simulated, of),
                    });
                }
            }
        }
        compared
    }
}

impl SharedCompared {
    /// Whether it stays under [`BAR`], if that is for it. What is no number does not.
    pub fn met(&self) -> bool {
        self.what == What::Again || self.value.certain_error().abs() <= BAR
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

#[cfg(test)]
mod tests {
    use super::super::grid;
    use super::super::tests::sample;
    use super::*;

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
        let values: Vec<_> = compared
            .iter()
            .map(|c| (c.what, c.rank, c.value.measured))
            .collect();
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
        assert!(!compared[6].met() && compared[6].value.error() < -50.0);
    }
}
