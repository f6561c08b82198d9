//! Transfers that share a link or write in bursts: how long each takes, what share it gets, how long its bursts take, measured and
//! simulated.
//!
//! Transfers of the same plan are told apart by their rank only: which of them is the fastest is chance. All bursts of theirs are
//! taken together.

mod compare;
mod grids;
mod text;

use std::time::Duration;

use phantom_path::dice::Dice;
use phantom_path::fidelity::{BURST_BYTES, Cell};
use phantom_path::lab::{Flow, Lab, Outcome};
use phantom_path::tcp::{Algorithm, SenderConfig};

use crate::{FlowPlan, FlowSample, Pace, Plan};

pub use compare::{BAR, Rank, SharedCompared, What};
pub use grids::{bursts, grid};
pub use text::SharingError;

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
    /// And up to so many milliseconds after that, drawn anew in each repeat; 0: with all others that are not drawn.
    pub within_ms: u64,
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

impl SharedCell {
    /// For a lane; `seed` draws when flows begin.
    pub fn plan(&self, seed: u64) -> Plan {
        let link = self.as_cell().link();
        let mut dice = Dice::new(seed ^ 0xbe61);
        let mut flow = |flow: &SharedFlow| FlowPlan {
            bytes: flow.bytes,
            start: Duration::from_nanos(flow.start_ns(&mut dice)),
            policed: flow.policed(),
            paced: flow.pace(),
        };
        Plan {
            forth: link,
            back: link,
            flows: self.flows.iter().map(&mut flow).collect(),
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
        let mut dice = Dice::new(seed ^ 0x5ead);
        // Anywhere within a slot of the timers, as in a cell with one transfer.
        let begin_ns = dice.below(256_000_000);
        let flows: Vec<Flow> = self
            .flows
            .iter()
            .map(|shared| Flow {
                start_ns: begin_ns + shared.start_ns(&mut dice) + dice.below(SKEW_NS),
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
        let path = self.as_cell().simulated();
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
}

impl SharedFlow {
    /// All at once, from the first moment on, without a policer.
    pub const fn new(bytes: u64) -> Self {
        Self {
            bytes,
            start_ms: 0,
            within_ms: 0,
            policer_bits_per_second: 0,
            policer_bytes: BURST_BYTES,
            burst: (0, 0),
        }
    }

    fn start_ns(&self, dice: &mut Dice) -> u64 {
        let drawn = match self.within_ms {
            0 => 0,
            within => dice.below(within * 1_000_000),
        };
        self.start_ms * 1_000_000 + drawn
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
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(super) fn sample(seconds: f64, share: f64) -> FlowSample {
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
            .map(|c| (c.what, c.rank, c.value.error().abs() < 0.1))
            .collect();
        assert_eq!(whats[0], (What::Burst, Rank::All, true));
        assert_eq!(whats[1], (What::BurstP90, Rank::All, true));
        assert_eq!(
            (compared[2].what, compared[2].value.simulated),
            (What::Again, 0.0)
        );
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
