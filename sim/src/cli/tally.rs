//! What a scenario's worlds come to: its lines, its part of the JUnit report, and the runs that show what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::Stop;
use super::gate::{End, Entry, Outcome};
use super::store::Draft;
use crate::check::claims::{ClaimResult, Sample};
use crate::scenario::check::{Claim, Claimed};

/// A run that came to its end.
pub(super) enum Run {
    /// In the store.
    Kept(PathBuf),
    /// Gone when dropped.
    Draft(Draft),
}

/// The run that speaks most against each claim of a scenario, held until all have spoken: only a claim that is refuted
/// makes a run that holds worth its place.
#[derive(Default)]
pub(super) struct Witnesses {
    /// By claim: how much it speaks against it, and its seed.
    worst: Vec<Option<(f64, u64)>>,
    runs: BTreeMap<u64, Run>,
}

impl Witnesses {
    /// Takes the run of `seed`, which gave `samples`. The order of runs makes no difference.
    pub(super) fn hear(&mut self, claims: &[Claim], seed: u64, samples: &[Sample], run: Run) {
        self.worst.resize(claims.len(), None);
        for ((worst, claim), sample) in self.worst.iter_mut().zip(claims).zip(samples) {
            if let Some(weight) = against(claim, *sample)
                && worst.is_none_or(|(most, by)| weight > most || (weight == most && seed < by))
            {
                *worst = Some((weight, seed));
            }
        }
        self.runs.insert(seed, run);
        let worst = &self.worst;
        self.runs
            .retain(|seed, _| worst.iter().flatten().any(|(_, by)| by == seed));
    }

    /// Puts the run that speaks most against claim number `claim` into the store: its seed, and where it is.
    fn keep(&mut self, claim: usize) -> Result<Option<(u64, PathBuf)>, Stop> {
        let Some((_, seed)) = self.worst.get(claim).copied().flatten() else {
            return Ok(None);
        };
        let dir = match self.runs.remove(&seed) {
            Some(Run::Draft(draft)) => draft.complete()?,
            Some(Run::Kept(dir)) => dir,
            None => return Ok(None),
        };
        self.runs.insert(seed, Run::Kept(dir.clone()));
        Ok(Some((seed, dir)))
    }
}

/// How much a sample speaks against a claim; `None` if it says nothing about it.
fn against(claim: &Claim, sample: Sample) -> Option<f64> {
    match (&claim.what, sample) {
        (_, Sample::NotObservable) => None,
        (_, Sample::None) => Some(f64::INFINITY),
        (_, Sample::Held(held)) => Some(if held { 0.0 } else { 1.0 }),
        (Claimed::Quantile { at_most: false, .. }, Sample::Value(value)) => Some(-value),
        (_, Sample::Value(value)) => Some(value),
    }
}

/// A seed and the directory of its run.
pub(super) type Shown = (u64, PathBuf);

/// What a scenario's worlds come to.
pub(super) struct Sum {
    /// Its lines.
    pub(super) text: String,
    /// Its part of the JUnit report.
    pub(super) suite: TestSuite,
    /// The first that is violated.
    pub(super) violated: Option<Shown>,
    /// What speaks most against the first claim that is refuted.
    pub(super) refuted: Option<Shown>,
    /// The first that failed.
    pub(super) failed: Option<Shown>,
}

impl Sum {
    /// Of all outcomes of a scenario, by seed from 1 on.
    ///
    /// # Errors
    /// A run could not be kept.
    pub(super) fn of(
        entry: &Entry,
        runtime: &str,
        outcomes: &[&Outcome],
        witnesses: &mut Witnesses,
    ) -> Result<Self, Stop> {
        let mut sum = Self {
            text: String::new(),
            suite: TestSuite::new(entry.name.clone()),
            violated: None,
            refuted: None,
            failed: None,
        };
        sum.runs(entry, runtime, outcomes);
        for (number, claim) in entry.loaded.checked.claims.iter().enumerate() {
            sum.claim(entry, runtime, outcomes, (number, claim), witnesses)?;
        }
        Ok(sum)
    }

    fn runs(&mut self, entry: &Entry, runtime: &str, outcomes: &[&Outcome]) {
        let mut digest = blake3::Hasher::new();
        let mut passed = 0;
        for (seed, outcome) in (1..).zip(outcomes) {
            digest.update(outcome.digest.as_bytes()).update(b"\n");
            let case = format!("seed {seed}");
            let replay = entry.replay(seed, runtime);
            self.suite.add_test_case(match &outcome.end {
                End::Holds => {
                    passed += 1;
                    TestCase::new(case, TestCaseStatus::success())
                }
                End::Violated(what, dir) => {
                    self.violated.get_or_insert_with(|| (seed, dir.clone()));
                    failure(case, NonSuccessKind::Failure, format!("{what}\nreplay: {replay}"))
                }
                End::Failed(why, dir) => {
                    self.failed.get_or_insert_with(|| (seed, dir.clone()));
                    failure(case, NonSuccessKind::Error, format!("{why}\nreplay: {replay}"))
                }
            });
        }
        let sizes = entry.words.params.iter();
        let sizes: String = sizes.map(|(name, value)| format!(" {name}={value}")).collect();
        self.text.push_str(&format!(
            "{}{sizes}: {passed} of {} seeds pass, digest {}\n",
            entry.name,
            outcomes.len(),
            &digest.finalize().to_hex()[..16]
        ));
        let unseen: BTreeSet<&String> = outcomes.iter().flat_map(|outcome| &outcome.unseen).collect();
        for name in unseen {
            self.text
                .push_str(&format!("  N/A       {name}: not observable on {runtime}\n"));
        }
    }

    fn claim(
        &mut self,
        entry: &Entry,
        runtime: &str,
        outcomes: &[&Outcome],
        (number, claim): (usize, &Claim),
        witnesses: &mut Witnesses,
    ) -> Result<(), Stop> {
        let all = outcomes.len();
        let case = format!("claim: {}", claim.name);
        let samples: Vec<Sample> = outcomes
            .iter()
            .filter_map(|outcome| outcome.samples.get(number).copied())
            .collect();
        if samples.is_empty() {
            // That all runs failed says nothing about the claim; "no samples" would refute it.
            self.text
                .push_str(&format!("  UNJUDGED  {}: no run came to its end\n", claim.name));
            self.suite
                .add_test_case(TestCase::new(case, TestCaseStatus::skipped()));
            return Ok(());
        }
        let result = ClaimResult::of(claim, &samples);
        let incomplete = if samples.len() < all {
            format!(
                ": INCOMPLETE, {} of {all} runs failed and are missing here",
                all - samples.len()
            )
        } else {
            String::new()
        };
        self.text.push_str(&format!(
            "  {:<9} {}: {} ({} runs){incomplete}\n",
            result.verdict.to_uppercase(),
            result.name,
            result.observed,
            result.n
        ));
        self.suite.add_test_case(if result.refuted() {
            let mut message = format!(
                "observed {}, wanted {}{incomplete}",
                result.observed, result.wanted
            );
            if let Some((seed, dir)) = witnesses.keep(number)? {
                let replay = entry.replay(seed, runtime);
                message.push_str(&format!("\nworst: seed {seed}\nreplay: {replay}"));
                self.text.push_str(&format!(
                    "    worst:  seed {seed}\n    run:    {}\n    replay: {replay}\n",
                    dir.display()
                ));
                self.refuted.get_or_insert((seed, dir));
            }
            failure(case, NonSuccessKind::Failure, message)
        } else if incomplete.is_empty() {
            TestCase::new(case, TestCaseStatus::success())
        } else {
            let mut status = TestCaseStatus::skipped();
            status.set_message(format!("{}{incomplete}", result.verdict));
            TestCase::new(case, status)
        });
        Ok(())
    }
}

fn failure(name: String, kind: NonSuccessKind, message: String) -> TestCase {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message);
    TestCase::new(name, status)
}
