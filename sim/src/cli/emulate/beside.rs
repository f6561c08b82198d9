//! Many seeds in emulation, and in the simulator beside it: verdicts, medians, and how sure they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use phantom_path::comparison::interval;

use super::super::one::{self, On, Played};
use super::super::words::Words;
use super::super::{FAILED, HOLDS, Players, Stop, VIOLATED, library};
use super::EmulateArgs;
use crate::check::judge::Verdict;
use crate::play::emulate::EmulatePlayer;
use crate::run::{Manner, Player};
use crate::scenario::load::Loaded;
use crate::scenario::plan::Plan;

/// What is compared: a metric, and what it is called for people.
const TIMES: [(&str, &str); 2] = [
    ("client.time_to_connect", "time to connect"),
    ("message.delivery_time", "message, sent to delivered"),
];
/// Medians that differ by less are the same whatever their intervals say.
const SAME: f64 = 0.15;

/// What is kept of one run.
struct Kept {
    verdicts: BTreeMap<String, Verdict>,
    medians: [f64; TIMES.len()],
}

/// A median over runs with its interval (95 %).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Median {
    value: f64,
    low: f64,
    high: f64,
    n: usize,
}

impl Median {
    /// The interval of the median of the runs' medians; runs are what is drawn, since what happens in one depends on it.
    fn of(runs: &[f64]) -> Self {
        let mut finite: Vec<f64> = runs.iter().copied().filter(|value| value.is_finite()).collect();
        let value = middle(&mut finite);
        let (low, high) = interval(&finite, |drawn| {
            middle(&mut drawn.iter().copied().copied().collect::<Vec<_>>())
        });
        Self {
            value,
            low,
            high,
            n: finite.len(),
        }
    }

    fn agrees(&self, other: &Self) -> bool {
        let overlap = self.low <= other.high && other.low <= self.high;
        overlap || (self.value - other.value).abs() < SAME * other.value
    }

    fn shown(&self) -> String {
        format!(
            "{:.3} s [{:.3}, {:.3}] of {}",
            self.value, self.low, self.high, self.n
        )
    }
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (n, half) if n % 2 == 1 => values[half],
        (_, half) => f64::midpoint(values[half - 1], values[half]),
    }
}

fn keep(played: &Played) -> Kept {
    let result = &played.result;
    Kept {
        verdicts: result
            .invariants
            .iter()
            .map(|one| (one.name.clone(), one.verdict))
            .collect(),
        medians: TIMES.map(|(metric, _)| result.metrics.get(metric).map_or(f64::NAN, |found| found.p50)),
    }
}

/// Plays seeds one after the other in so many threads, and tells each as it comes.
fn play_all(
    loaded: &Loaded,
    seeds: &[u64],
    on: On<'_>,
    threads: usize,
    mut told: impl FnMut(u64, &Result<Kept, Stop>),
) -> Vec<Kept> {
    let next = AtomicUsize::new(0);
    let mut kept = BTreeMap::new();
    let (tell, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (next, tell) = (&next, tell.clone());
            scope.spawn(move || {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let plan = Arc::new(Plan::draw(loaded, *seed));
                    let played = one::play(loaded, &plan, on, None, None).map(|played| keep(&played));
                    // Whoever listens does so to the end.
                    let _ = tell.send((*seed, played));
                }
            });
        }
        drop(tell);
        for (seed, played) in results {
            told(seed, &played);
            if let Ok(played) = played {
                kept.insert(seed, played);
            }
        }
    });
    kept.into_values().collect()
}

/// `phantom-sim emulate --repeats`.
pub(super) fn beside(
    args: &EmulateArgs,
    repeats: u32,
    player: &EmulatePlayer,
    simulated: Option<Players<'_>>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Stop> {
    let library = library();
    let words = Words::read(&args.words)?;
    let loaded = words.load(&library, words.one(&library)?)?;
    let first = args.seed.or(words.seed).unwrap_or(loaded.scenario.run.seed);
    let seeds: Vec<u64> = (0..u64::from(repeats)).map(|n| first.saturating_add(n)).collect();
    let mut say = |what: &str, seed: u64, kept: &Result<Kept, Stop>| {
        let line = match kept {
            Ok(kept) => {
                let times: Vec<String> = kept
                    .medians
                    .iter()
                    .map(|median| format!("{median:.3} s"))
                    .collect();
                let broken: Vec<&str> = kept
                    .verdicts
                    .iter()
                    .filter(|(_, verdict)| **verdict == Verdict::Fail)
                    .map(|(name, _)| name.as_str())
                    .collect();
                let holds = if broken.is_empty() {
                    "all hold"
                } else {
                    "violated: "
                };
                format!(
                    "{what} seed {seed}: {}; {holds}{}",
                    times.join(", "),
                    broken.join("; ")
                )
            }
            Err(stop) => format!("{what} seed {seed} failed: {stop}"),
        };
        // A terminal that is gone hears nothing: the results are what counts.
        let _ = writeln!(err, "{line}");
    };
    let mut first_failure = None;
    let emulated = {
        let on = On {
            runtime: "emulation",
            shuffle: None,
            player,
        };
        play_all(&loaded, &seeds, on, usize::from(args.at_once), |seed, kept| {
            say("emulated", seed, kept);
            if let Err(stop) = kept {
                first_failure.get_or_insert_with(|| (stop.code(), stop.to_string()));
            }
        })
    };
    // Where nothing could be emulated at all there is nothing to tell.
    if emulated.is_empty() {
        let (code, why) = first_failure.unwrap_or((FAILED, "nothing was played".to_owned()));
        return Err(if code == FAILED {
            Stop::Run(crate::run::RunError::Failed(why))
        } else {
            Stop::Usage(why)
        });
    }
    let other = match simulated {
        None => None,
        Some(players) => {
            let player: Box<dyn Player> = players("swarm", Manner::default())?;
            let on = On {
                runtime: "swarm",
                shuffle: None,
                player: &*player,
            };
            Some(play_all(&loaded, &seeds, on, 1, |seed, kept| {
                say("simulated", seed, kept)
            }))
        }
    };
    let (text, same) = table(&emulated, other.as_deref());
    write!(out, "{text}").map_err(Stop::disk("writing the comparison"))?;
    let holds = emulated
        .iter()
        .all(|kept| !kept.verdicts.values().any(|verdict| *verdict == Verdict::Fail));
    Ok(match (first_failure, same && holds) {
        (Some(_), _) => FAILED,
        (None, true) => HOLDS,
        (None, false) => VIOLATED,
    })
}

/// The comparison, and whether all agrees.
fn table(emulated: &[Kept], simulated: Option<&[Kept]>) -> (String, bool) {
    let mut same = true;
    let mut text = String::new();
    let median =
        |kept: &[Kept], n: usize| Median::of(&kept.iter().map(|kept| kept.medians[n]).collect::<Vec<_>>());
    for (n, (_, name)) in TIMES.into_iter().enumerate() {
        let real = median(emulated, n);
        text.push_str(&format!("{name}: median {} runs emulated", real.shown()));
        if let Some(simulated) = simulated {
            let other = median(simulated, n);
            let agrees = real.agrees(&other);
            same &= agrees;
            text.push_str(&format!(
                ", {} simulated: {:+.1} %, {}",
                other.shown(),
                (other.value / real.value - 1.0) * 100.0,
                if agrees { "agrees" } else { "DIFFERS" }
            ));
        }
        text.push('\n');
    }
    let names: BTreeSet<&String> = emulated.iter().flat_map(|kept| kept.verdicts.keys()).collect();
    for name in names {
        let count = |kept: &[Kept], wanted: Verdict| {
            kept.iter()
                .filter(|kept| kept.verdicts.get(name) == Some(&wanted))
                .count()
        };
        let all =
            |kept: &[Kept]| [Verdict::Pass, Verdict::Fail, Verdict::Na].map(|wanted| count(kept, wanted));
        let shown = |[pass, fail, not]: [usize; 3]| format!("{pass} hold, {fail} violated, {not} N/A");
        let real = all(emulated);
        text.push_str(&format!("{name}: {} emulated", shown(real)));
        if let Some(simulated) = simulated {
            let other = all(simulated);
            // What a back end cannot see it cannot differ in.
            let agrees = real[2] > 0 || alike(real, other);
            same &= agrees;
            text.push_str(&format!(
                "; {} simulated: {}",
                shown(other),
                if agrees { "agrees" } else { "DIFFERS" }
            ));
        }
        text.push('\n');
    }
    (text, same)
}

/// Whether a promise that holds, is violated or not judged so often in one is as true as in the other: kept by all or not, and violated
/// as often as chance explains (two proportions, 95 %).
fn alike([pass, fail, _]: [usize; 3], [other_pass, other_fail, _]: [usize; 3]) -> bool {
    let (all, other_all) = ((pass + fail) as f64, (other_pass + other_fail) as f64);
    if (fail == 0) != (other_fail == 0) || all == 0.0 || other_all == 0.0 {
        return fail == 0 && other_fail == 0;
    }
    let pooled = (fail + other_fail) as f64 / (all + other_all);
    let spread = (pooled * (1.0 - pooled) * (1.0 / all + 1.0 / other_all)).sqrt();
    (fail as f64 / all - other_fail as f64 / other_all).abs() <= 1.96 * spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_agree_if_promises_are_broken_as_often() {
        assert!(alike([20, 0, 0], [20, 0, 0]));
        assert!(alike([0, 20, 0], [0, 20, 0]));
        assert!(alike([12, 8, 0], [10, 10, 0]));
        assert!(!alike([20, 0, 0], [19, 1, 0]), "kept by all, and not");
        assert!(!alike([19, 1, 0], [0, 20, 0]), "once is not always");
        assert!(alike([20, 0, 0], [0, 0, 20]), "nobody saw it broken");
    }

    fn kept(verdict: Verdict, time: f64) -> Kept {
        Kept {
            verdicts: BTreeMap::from([("it holds".to_owned(), verdict)]),
            medians: [time; TIMES.len()],
        }
    }

    #[test]
    fn the_interval_of_a_median_holds_it_and_narrows_with_agreement() {
        let wide = Median::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((wide.value, wide.n), (3.0, 5));
        assert!(wide.low < 3.0 && wide.high > 3.0, "{wide:?}");
        let narrow = Median::of(&[3.0; 5]);
        assert_eq!((narrow.low, narrow.high), (3.0, 3.0));
        assert!(Median::of(&[f64::NAN]).value.is_nan());
    }

    #[test]
    fn runs_agree_by_their_intervals_or_within_fifteen_per_cent_and_by_every_verdict() {
        let side = |verdict, time| (0..20).map(|_| kept(verdict, time)).collect::<Vec<_>>();
        let real = side(Verdict::Pass, 1.0);
        for (other, wanted) in [
            (side(Verdict::Pass, 1.1), true),
            (side(Verdict::Pass, 1.3), false),
            (side(Verdict::Fail, 1.0), false),
        ] {
            let (text, same) = table(&real, Some(&other));
            assert_eq!(same, wanted, "{text}");
            assert_eq!(text.contains("DIFFERS"), !wanted, "{text}");
        }
        // What never happened is no agreement.
        assert!(!table(&real, Some(&side(Verdict::Pass, f64::NAN))).1);
    }
}
