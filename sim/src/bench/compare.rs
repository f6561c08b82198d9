//! All engines in turns, and what follows: medians, and ratios turn by turn, which a machine whose speed drifts spares.

use serde::Serialize;

use super::engine::{Engine, Job, Sample};

/// Peers of the two sizes between which the memory of an idle peer is a slope.
const IDLE_PEERS: (u32, u32) = (2_000, 20_000);
const IDLE_SECONDS: u64 = 10;

/// A size, and who is measured at it. The first is what the others are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Hosts.
    pub peers: u32,
    /// Simulated seconds.
    pub seconds: u64,
    /// Who.
    pub engines: &'static [Engine],
}

/// What is measured. Turmoil's cost grows with the square of the hosts: 100 are what can be waited for.
pub const SIZES: [Size; 3] = [
    Size {
        peers: 1_000,
        seconds: 60,
        engines: &[Engine::Swarm, Engine::SwarmFull, Engine::Paused, Engine::Madsim],
    },
    Size {
        peers: 10_000,
        seconds: 20,
        engines: &[Engine::Swarm, Engine::SwarmFull, Engine::Paused, Engine::Madsim],
    },
    Size {
        peers: 100,
        seconds: 20,
        engines: &[Engine::Swarm, Engine::Turmoil],
    },
];
const IDLE: [Engine; 3] = [Engine::Swarm, Engine::Paused, Engine::Madsim];

/// CPU time at least so many times swarm's, or memory at most so much.
pub const fn wanted_ratio(engine: Engine, peers: u32) -> Option<f64> {
    match (engine, peers) {
        (Engine::Madsim, 1_000) => Some(5.0),
        (Engine::Madsim, 10_000) => Some(8.0),
        (Engine::Paused, 1_000 | 10_000) => Some(2.0),
        _ => None,
    }
}

/// See [`wanted_ratio`]: bytes of swarm for an idle peer, without the peer's own futures.
pub const IDLE_BYTES_MAX: f64 = 1_024.0;

/// CPU time of one engine at one size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub engine: Engine,
    /// Hosts.
    pub peers: u32,
    /// Simulated seconds.
    pub sim_seconds: u64,
    /// `None`: not built.
    pub cost: Option<Cost>,
    /// What the ratio should be at least.
    pub wanted_ratio: Option<f64>,
}

/// See [`Row`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// CPU seconds of each turn.
    pub cpu_seconds: Vec<f64>,
    /// Their median.
    pub cpu_seconds_median: f64,
    /// Median over the turns of this engine's CPU time by swarm's in the same turn.
    pub ratio_to_swarm: f64,
    /// Simulated seconds times peers by CPU seconds.
    pub peer_seconds_per_cpu_second: f64,
    /// Messages that arrived in one turn.
    pub messages: u64,
    /// Attempts that failed in one turn.
    pub errors: u64,
    /// The most memory that a turn held.
    pub peak_rss_bytes: u64,
}

/// Memory of an idle peer: a listener with its accepting task, and a task that sleeps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Idle {
    /// Which.
    pub engine: Engine,
    /// Resident bytes a peer, the slope between two sizes; `None`: not built.
    pub bytes: Option<f64>,
    /// Of these, the programs' own futures.
    pub future_bytes: Option<f64>,
}

/// Everything measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Turns of each row.
    pub turns: u32,
    /// CPU time.
    pub rows: Vec<Row>,
    /// Memory.
    pub idle: Vec<Idle>,
}

impl Comparison {
    /// The wishes that were not met, each in a line. Empty: all that was measured is as it should be.
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for row in &self.rows {
            if let (Some(cost), Some(wanted)) = (&row.cost, row.wanted_ratio)
                // A ratio that is no number is not met either.
                && (cost.ratio_to_swarm.is_nan() || cost.ratio_to_swarm < wanted)
            {
                missed.push(format!(
                    "{} at {} peers: {:.2} times swarm's CPU time, wanted at least {wanted}",
                    row.engine.name(),
                    row.peers,
                    cost.ratio_to_swarm
                ));
            }
        }
        for idle in self.idle.iter().filter(|idle| idle.engine == Engine::Swarm) {
            if let Some(runtime) = idle.runtime_bytes()
                && (runtime.is_nan() || runtime >= IDLE_BYTES_MAX)
            {
                missed.push(format!(
                    "swarm: {runtime:.0} bytes of runtime for an idle peer, wanted under {IDLE_BYTES_MAX}"
                ));
            }
        }
        missed
    }

    /// The wishes that nothing was measured for: whoever sees none missed must know that these are open.
    pub fn unmeasured(&self) -> Vec<String> {
        let rows = self.rows.iter().filter(|row| row.cost.is_none());
        let rows = rows.filter_map(|row| {
            let wanted = row.wanted_ratio?;
            Some(format!(
                "{} at {} peers, wanted at least {wanted} times swarm's CPU time",
                row.engine.name(),
                row.peers
            ))
        });
        let idle = self
            .idle
            .iter()
            .filter(|idle| idle.engine == Engine::Swarm && idle.runtime_bytes().is_none());
        rows.chain(idle.map(|_| format!("swarm's idle peer, wanted under {IDLE_BYTES_MAX} bytes")))
            .collect()
    }
}

impl Idle {
    /// What the engine needs for an idle peer beside the peer's own futures.
    pub fn runtime_bytes(&self) -> Option<f64> {
        self.bytes
            .zip(self.future_bytes)
            .map(|(bytes, futures)| bytes - futures)
    }
}

/// How many jobs [`compare`] runs.
pub fn jobs(turns: u32) -> u64 {
    let rows: usize = SIZES.iter().map(|size| size.engines.len()).sum();
    rows as u64 * u64::from(turns) + 2 * IDLE.len() as u64
}

/// Measures everything in `turns` turns by `run`, which answers `None` where an engine is not built.
///
/// # Errors
/// The first of `run`.
pub fn compare<E>(
    turns: u32,
    mut run: impl FnMut(Job) -> Result<Option<Sample>, E>,
) -> Result<Comparison, E> {
    let mut rows = Vec::new();
    for size in SIZES {
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); size.engines.len()];
        for _ in 0..turns {
            for (engine, samples) in size.engines.iter().zip(&mut samples) {
                let job = Job {
                    engine: *engine,
                    peers: size.peers,
                    seconds: size.seconds,
                    idle: false,
                };
                samples.extend(run(job)?);
            }
        }
        for (engine, own) in size.engines.iter().zip(&samples) {
            rows.push(Row {
                engine: *engine,
                peers: size.peers,
                sim_seconds: size.seconds,
                cost: cost(own, &samples[0], f64::from(size.peers) * size.seconds as f64),
                wanted_ratio: wanted_ratio(*engine, size.peers),
            });
        }
    }
    let mut idle = Vec::new();
    for engine in IDLE {
        let mut at = |peers| {
            run(Job {
                engine,
                peers,
                seconds: IDLE_SECONDS,
                idle: true,
            })
        };
        let both = at(IDLE_PEERS.0)?.zip(at(IDLE_PEERS.1)?);
        let slope = |of: fn(&Sample) -> u64| {
            both.map(|(few, many)| {
                (of(&many) as f64 - of(&few) as f64) / f64::from(IDLE_PEERS.1 - IDLE_PEERS.0)
            })
        };
        idle.push(Idle {
            engine,
            bytes: slope(|s| s.peak_rss_bytes),
            future_bytes: slope(|s| s.future_bytes),
        });
    }
    Ok(Comparison { turns, rows, idle })
}

fn cost(own: &[Sample], swarm: &[Sample], peer_seconds: f64) -> Option<Cost> {
    let last = own.last()?;
    let cpu_seconds: Vec<f64> = own.iter().map(|sample| sample.cpu_seconds).collect();
    let cpu_seconds_median = median(cpu_seconds.clone());
    Some(Cost {
        cpu_seconds_median,
        ratio_to_swarm: median(
            own.iter()
                .zip(swarm)
                .map(|(a, b)| a.cpu_seconds / b.cpu_seconds)
                .collect(),
        ),
        peer_seconds_per_cpu_second: peer_seconds / cpu_seconds_median,
        cpu_seconds,
        messages: last.messages,
        errors: last.errors,
        peak_rss_bytes: own
            .iter()
            .map(|sample| sample.peak_rss_bytes)
            .max()
            .unwrap_or_default(),
    })
}

/// The middle; of an even number the mean of the middle two. Zero of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that becomes slower and slower.
    fn drifting(without_madsim: bool) -> Comparison {
        let mut slowness: f64 = 1.0;
        let run = |job: Job| {
            if without_madsim && job.engine == Engine::Madsim {
                return Ok::<_, ()>(None);
            }
            slowness += 0.1;
            let per_peer = if job.engine == Engine::Swarm { 1.0 } else { 3.0 };
            Ok(Some(Sample {
                messages: 1,
                errors: 0,
                cpu_seconds: per_peer * f64::from(job.peers) * slowness.floor(),
                peak_rss_bytes: 5_000_000 + u64::from(job.peers) * 1_200,
                future_bytes: u64::from(job.peers) * 200,
            }))
        };
        compare(3, run).unwrap()
    }

    #[test]
    fn what_is_not_built_is_left_out_and_the_rest_stands() {
        let comparison = drifting(true);
        for row in &comparison.rows {
            assert_eq!(row.cost.is_none(), row.engine == Engine::Madsim);
        }
        assert_eq!(
            comparison.idle.iter().filter(|idle| idle.bytes.is_none()).count(),
            1
        );
    }

    #[test]
    fn ratios_survive_a_drift_and_memory_is_a_slope() {
        let comparison = drifting(false);
        let rows: usize = SIZES.iter().map(|size| size.engines.len()).sum();
        assert_eq!(comparison.rows.len(), rows);
        for row in &comparison.rows {
            let cost = row.cost.as_ref().unwrap();
            assert_eq!(cost.cpu_seconds.len(), 3);
            let wanted = if row.engine == Engine::Swarm { 1.0 } else { 3.0 };
            assert!((cost.ratio_to_swarm / wanted - 1.0).abs() < 0.35, "{row:?}");
        }
        for idle in &comparison.idle {
            assert_eq!((idle.bytes, idle.future_bytes), (Some(1_200.0), Some(200.0)));
        }
    }

    #[test]
    fn a_wish_that_is_not_met_is_named_and_one_not_measured_is_open() {
        // Three times swarm is enough for paused, not for madsim; 1,000 bytes of runtime are under 1 KiB.
        let comparison = drifting(false);
        let missed = comparison.missed();
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert!(missed[0].starts_with("madsim at 1000 peers: "), "{missed:?}");
        assert!(missed[1].starts_with("madsim at 10000 peers: "), "{missed:?}");
        assert!(comparison.unmeasured().is_empty());
        let without = drifting(true);
        assert_eq!(without.missed(), [""; 0]);
        assert_eq!(
            without.unmeasured(),
            [
                "madsim at 1000 peers, wanted at least 5 times swarm's CPU time",
                "madsim at 10000 peers, wanted at least 8 times swarm's CPU time"
            ]
        );
        let mut heavy = without;
        heavy.idle[0].bytes = Some(1_300.0);
        assert_eq!(
            heavy.missed(),
            ["swarm: 1100 bytes of runtime for an idle peer, wanted under 1024"]
        );
    }

    #[test]
    fn the_number_of_jobs_is_known_beforehand() {
        let mut run = 0;
        let none = compare(4, |_| {
            run += 1;
            Ok::<_, ()>(None)
        });
        assert!(none.unwrap().rows.iter().all(|row| row.cost.is_none()));
        assert_eq!(run, jobs(4));
    }
}
