//! A throttle that begins in the middle of a session is noticed, confirmed and left, whatever was used before.

use crate::lab::*;
use phantom_rotation::*;

use crate::SEEDS;

const BEGINS: u64 = 120_000;

/// How long from the first throttled packet to the verdict, over all seeds, for one way of being used.
fn detection(name: &str, ceiling: f64, access: f64, censor: impl Fn(u64) -> Censor, load: Load) -> Vec<u64> {
    detection_beside(name, ceiling, access, censor, load, &[])
}

/// The same where there are other ways in as well.
fn detection_beside(
    name: &str,
    ceiling: f64,
    access: f64,
    censor: impl Fn(u64) -> Censor,
    load: Load,
    others: &[Route],
) -> Vec<u64> {
    let mut times = Vec::new();
    for seed in 0..SEEDS {
        let begins = BEGINS + seed * 37 % 1_000;
        let rtt = 40.0 + (seed * 7 % 160) as f64;
        let mut routes = vec![
            route("obfs4", 1, rtt, ceiling).with(censor(begins)),
            route("obfs4", 2, rtt + 30.0, ceiling).with(censor(begins)),
            route("meek", 3, rtt + 60.0, 2_500.0),
        ];
        routes.extend_from_slice(others);
        let mut memory = Lab::new(
            seed,
            Link::new(Pace::Steady(access), None),
            vec![routes[0].clone()],
            Load::Bulk,
        );
        memory.run_until(10);
        let memory = memory.machine.memory().clone();
        let mut lab = Lab::remembering(seed, Link::new(Pace::Steady(access), None), routes, load, memory);
        lab.run_to_ms(begins + 60_000);
        lab.check();
        assert_eq!(
            lab.candidate_in_use().map(|c| c.server),
            Some(ServerId([3; 16])),
            "seed {seed}: {:#?}",
            lab.machine.report().lines
        );
        assert_eq!(lab.switches().len(), 1, "seed {seed}: {:?}", lab.switches());
        let found = lab
            .found(begins, Verdict::Throttled)
            .or(lab.found(begins, Verdict::Frozen));
        times.push(found.expect("a verdict") - begins);
    }
    let (p50, p95, p100) = (
        percentile(&mut times, 50),
        percentile(&mut times, 95),
        percentile(&mut times, 100),
    );
    println!("throttle, {name}: verdict p50 {p50} ms, p95 {p95} ms, most {p100} ms over {SEEDS} seeds");
    times
}

fn policer(begins: u64) -> Censor {
    Censor::Police {
        from_ms: begins,
        until_ms: u64::MAX,
        kbit: 140.0,
        burst: 16_000.0,
    }
}

fn cap(begins: u64) -> Censor {
    Censor::Cap {
        from_ms: begins,
        until_ms: u64::MAX,
        kbit: 140.0,
    }
}

#[test]
fn a_policer_is_found_within_15_s() {
    let mut times = detection(
        "obfs4 on 8 Mbit/s, policer that drops",
        1e6,
        8_000.0,
        policer,
        Load::Bulk,
    );
    assert!(percentile(&mut times, 95) <= 15_000);
}

#[test]
fn a_cap_without_drops_is_found_within_15_s() {
    let mut times = detection(
        "obfs4 on 8 Mbit/s, cap that delays",
        1e6,
        8_000.0,
        cap,
        Load::Bulk,
    );
    assert!(percentile(&mut times, 95) <= 15_000);
}

/// Dials of it hang for 10 s; those of another kind are not kept waiting.
#[test]
fn beside_a_kind_that_is_blocked_it_is_found_within_15_s_as_well() {
    let blocked = route("plain", 5, 80.0, 1e6).with(Censor::Cut {
        from_ms: 0,
        until_ms: u64::MAX,
    });
    let mut times = detection_beside(
        "obfs4 on 8 Mbit/s, policer, another kind blocked",
        1e6,
        8_000.0,
        policer,
        Load::Bulk,
        &[blocked],
    );
    assert!(percentile(&mut times, 95) <= 15_000);
}

#[test]
fn under_iat_mode_1_it_is_found_too() {
    let mut times = detection("iat-mode 1, policer", 1_500.0, 8_000.0, policer, Load::Bulk);
    assert!(percentile(&mut times, 95) <= 15_000);
}

#[test]
fn under_iat_mode_2_it_is_found_too() {
    let mut times = detection("iat-mode 2, policer", 700.0, 8_000.0, policer, Load::Bulk);
    assert!(percentile(&mut times, 95) <= 15_000);
}

/// The laboratory itself: a link is filled to half at least, and what passes a policer is what Linux gets there (measured: 1 MB at
/// 128 kbit/s in 64 s, which is 125 kbit/s).
#[test]
fn the_laboratory_moves_what_tcp_moves() {
    for (kbit, rtt) in [(400.0, 80.0), (1_500.0, 80.0), (4_000.0, 80.0), (8_000.0, 200.0)] {
        let routes = vec![route("obfs4", 1, rtt, 1e6)];
        let mut lab = Lab::new(0, Link::new(Pace::Steady(kbit), None), routes, Load::Bulk);
        lab.run_until(100);
        let got = lab.delivered as f64 * 8.0 / 100_000.0;
        println!("laboratory: {got:.0} kbit/s over a link of {kbit} kbit/s, round trip {rtt} ms");
        assert!(got > 0.5 * kbit && got <= 1.05 * kbit);
    }
    let routes = vec![route("obfs4", 1, 80.0, 1e6).with(policer(0))];
    let mut lab = Lab::new(0, Link::new(Pace::Steady(8_000.0), None), routes, Load::Bulk);
    lab.run_until(100);
    let got = lab.delivered as f64 * 8.0 / 100_000.0;
    println!("laboratory: {got:.0} kbit/s through a policer of 140 kbit/s");
    assert!((90.0..=142.0).contains(&got));
}
