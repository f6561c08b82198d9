//! The ladder told as stories: what is raced, what is retried, what is reported.

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::*;
use crate::units::Instant;
use std::time::Duration;

impl Entry for &'static str {
    /// As the name begins.
    fn transport(&self) -> Kind {
        let mut kinds = Kind::ALL.into_iter().rev();
        kinds
            .find(|kind| self.starts_with(kind.name()))
            .unwrap_or_default()
    }
}

impl Entry for u64 {
    fn transport(&self) -> Kind {
        Kind::Plain
    }
}

type TestLadder = Ladder<&'static str, ChaCha12Rng>;

fn ladder(steps: &[Step]) -> TestLadder {
    Ladder::new(Config::default(), steps, ChaCha12Rng::seed_from_u64(1))
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// Drains all outputs of this instant.
fn drain(ladder: &mut TestLadder, now: Instant) -> Vec<Output<&'static str>> {
    let mut out = Vec::new();
    loop {
        out.push(ladder.poll_output(now));
        if matches!(out.last(), Some(Output::WaitUntil(_) | Output::Done)) {
            return out;
        }
        assert!(out.len() < 100, "the ladder does not come to rest: {out:?}");
    }
}

#[test]
fn steps_start_a_quarter_of_a_second_apart() {
    let mut l = ladder(&ORDER);
    l.start(at(0));
    for (n, step) in ORDER.iter().enumerate() {
        let now = at(250 * n as u64);
        let wait = Output::WaitUntil(now + Duration::from_millis(250));
        assert_eq!(drain(&mut l, now), vec![Output::Ask(*step), wait]);
    }
}

#[test]
fn a_hanging_entry_delays_the_next_by_one_gap_and_not_by_its_time_limit() {
    let mut l = ladder(&[Step::Static]);
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(1), Step::Static, vec!["a", "b"]);
    let dialled = |outs: Vec<Output<&'static str>>| {
        outs.into_iter()
            .filter_map(|o| {
                if let Output::Dial { entry, .. } = o {
                    Some(entry)
                } else {
                    None
                }
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(dialled(drain(&mut l, at(250))), ["a"]);
    assert_eq!(dialled(drain(&mut l, at(500))), ["b"]);
}

#[test]
fn a_list_of_dead_entries_does_not_starve_the_other_steps() {
    let mut l = ladder(&[Step::Static, Step::Dht]);
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(0), Step::Static, vec!["s1", "s2", "s3", "s4", "s5", "s6"]);
    let mut now = at(0);
    for _ in 0..8 {
        now += Duration::from_millis(250);
        drain(&mut l, now);
    }
    l.found(now, Step::Dht, vec!["bridge"]);
    now += Duration::from_millis(250);
    let outs = drain(&mut l, now);
    assert!(
        outs.iter()
            .any(|o| matches!(o, Output::Dial { entry: "bridge", .. })),
        "{outs:?}"
    );
}

#[test]
fn success_cancels_the_rest_and_a_new_start_remembers_the_entries() {
    let mut l = ladder(&[Step::Cached]);
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(0), Step::Cached, vec!["a", "b"]);
    let mut attempts = Vec::new();
    for n in 1..=2 {
        for o in drain(&mut l, at(250 * n)) {
            if let Output::Dial { attempt, .. } = o {
                attempts.push(attempt);
            }
        }
    }
    l.ended(at(600), attempts[1], Outcome::Connected);
    assert_eq!(
        drain(&mut l, at(600)),
        vec![Output::Cancel(attempts[0]), Output::Done]
    );

    l.start(at(1_000));
    assert_eq!(drain(&mut l, at(1_000))[0], Output::Ask(Step::Cached));
    let outs = drain(&mut l, at(1_250));
    assert!(outs.iter().any(|o| matches!(o, Output::Dial { .. })), "{outs:?}");
}

#[test]
fn a_failed_entry_comes_back_later_and_later_but_never_more_than_the_limit() {
    let mut l = ladder(&[Step::Static]);
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(0), Step::Static, vec!["a"]);
    let (mut now, mut dials) = (at(0), Vec::new());
    while now < at(300_000) {
        for o in drain(&mut l, now) {
            match o {
                Output::Dial { attempt, .. } => {
                    dials.push(now);
                    l.ended(now, attempt, Outcome::Refused);
                }
                Output::Ask(step) => l.found(now, step, vec!["a"]),
                _ => {}
            }
        }
        now += Duration::from_millis(50);
    }
    let gaps: Vec<_> = dials.windows(2).map(|w| w[1].saturating_since(w[0])).collect();
    assert!(gaps[0] < Duration::from_secs(3), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= Duration::from_secs(31)), "{gaps:?}");
    assert!(gaps.len() > 10 && gaps.len() < 30, "{gaps:?}");
    assert_eq!(l.report().attempts() as usize, dials.len());
}

/// The censor forges every name, with another address each time, and lets nothing through for a minute.
#[test]
fn an_endless_supply_of_fresh_entries_does_not_starve_one_that_failed() {
    let mut l: Ladder<u64, ChaCha12Rng> =
        Ladder::new(Config::default(), &[Step::Static], ChaCha12Rng::seed_from_u64(1));
    const REAL: u64 = 0;
    l.start(at(0));
    let (mut now, mut forged, mut tried) = (at(0), 0, Vec::new());
    while now < at(300_000) {
        loop {
            match l.poll_output(now) {
                Output::Ask(step) => {
                    l.found(now, step, vec![REAL]);
                    for name in 0..4 {
                        l.resolved(now, step, name, (forged + 1..=forged + 4).collect());
                        forged += 4;
                    }
                }
                Output::Dial { entry: REAL, .. } => tried.push(now),
                Output::Dial { .. } | Output::Cancel(_) => {} // nobody answers
                Output::WaitUntil(_) | Output::Done => break,
            }
        }
        now += Duration::from_millis(50);
    }
    tried.push(now);
    let gaps: Vec<_> = tried.windows(2).map(|w| w[1].saturating_since(w[0])).collect();
    // 17 entries, of which three are dialled at once, for ten seconds each.
    assert!(gaps.iter().all(|gap| *gap < Duration::from_secs(90)), "{gaps:?}");
}

#[test]
fn an_attempt_that_never_ends_is_cancelled_and_counted_as_no_answer() {
    let mut l = ladder(&[Step::Friend]);
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(0), Step::Friend, vec!["x"]);
    drain(&mut l, at(250));
    let outs = drain(&mut l, at(10_250));
    assert!(matches!(outs[0], Output::Cancel(_)), "{outs:?}");
    assert_eq!(l.report().to_string(), "friends: 1 entries, no answer 1");
}

#[test]
fn the_report_says_what_was_not_found() {
    let mut l = ladder(&[Step::Dht, Step::Friend]);
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(100), Step::Dht, vec![]);
    drain(&mut l, at(250));
    assert_eq!(
        l.report().to_string(),
        "DHT: nothing found (1 times); friends: no answer yet"
    );
}

#[test]
fn a_late_answer_about_a_cancelled_attempt_changes_nothing() {
    let mut l = ladder(&[Step::Static]);
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(0), Step::Static, vec!["a"]);
    let Some(Output::Dial { attempt, .. }) = drain(&mut l, at(250)).into_iter().next() else {
        panic!("dials")
    };
    drain(&mut l, at(10_250));
    let before = l.report().clone();
    l.ended(at(10_300), attempt, Outcome::Connected);
    assert_eq!(*l.report(), before);
    assert_ne!(l.poll_output(at(10_300)), Output::Done);
}

#[test]
fn a_full_list_of_dead_entries_makes_room_for_a_new_one() {
    let config = Config {
        candidates_max: 2,
        ..Config::default()
    };
    let mut l: TestLadder = Ladder::new(config, &[Step::Static, Step::Dht], ChaCha12Rng::seed_from_u64(1));
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(0), Step::Static, vec!["a", "b"]);
    l.found(at(0), Step::Dht, vec!["early"]);
    for n in 1..=3 {
        for o in drain(&mut l, at(250 * n)) {
            if let Output::Dial { attempt, entry, .. } = o {
                assert_ne!(entry, "early", "no room while nothing has failed");
                l.ended(at(250 * n), attempt, Outcome::Refused);
            }
        }
    }
    l.found(at(1_000), Step::Dht, vec!["bridge"]);
    let outs = drain(&mut l, at(1_000));
    let dials = |o: &Output<&'static str>| matches!(o, Output::Dial { entry: "bridge", .. });
    assert!(outs.iter().any(dials), "{outs:?}");
}

#[test]
fn a_stopped_ladder_rests_until_it_is_started_again() {
    let mut l = ladder(&[Step::Cached]);
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(0), Step::Cached, vec!["a"]);
    drain(&mut l, at(250));
    l.stop();
    assert_eq!(drain(&mut l, at(60_000)), vec![Output::Done]);
    l.start(at(60_000));
    drain(&mut l, at(60_000));
    let outs = drain(&mut l, at(60_250));
    assert!(
        outs.iter().any(|o| matches!(o, Output::Dial { entry: "a", .. })),
        "{outs:?}"
    );
}

#[test]
fn what_is_passed_over_costs_no_time_and_the_order_of_dials_can_be_given() {
    let mut l = ladder(&[Step::Static]);
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(0), Step::Static, vec!["a", "b", "c"]);
    l.arrange(|entry| u64::from(*entry == "c"));
    let mut dialled = Vec::new();
    loop {
        match l.poll_output(at(250)) {
            Output::Dial { attempt, entry, .. } => {
                dialled.push(entry);
                if entry != "b" {
                    l.passed_over(attempt, Some(at(10_000)));
                }
            }
            Output::WaitUntil(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(dialled, ["c", "a", "b"]);
    assert_eq!(l.poll_output(at(499)), Output::WaitUntil(at(500)));
    assert_eq!(l.candidates().count(), 3);
}

#[test]
fn the_report_says_what_was_seen_over_each_transport() {
    let mut l = ladder(&[Step::Dht]);
    l.start(at(0));
    drain(&mut l, at(0));
    l.found(at(0), Step::Dht, vec!["obfs4 here", "obfs4-tls there", "plain"]);
    let ends = [Outcome::Refused, Outcome::TimedOut, Outcome::Reset];
    for (n, outcome) in ends.into_iter().enumerate() {
        let now = at(250 * (n as u64 + 1));
        for output in drain(&mut l, now) {
            if let Output::Dial { attempt, .. } = output {
                l.ended(now, attempt, outcome);
            }
        }
    }
    let said = l.report().to_string();
    assert_eq!(
        said,
        "DHT: 3 entries, reset 1, refused over obfs4 1, no answer over obfs4-tls 1"
    );
}
