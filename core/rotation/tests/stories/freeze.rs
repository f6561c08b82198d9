//! Connections that fall silent, and what must not be held against anybody.

use phantom_rotation::*;

use crate::SEEDS;
use crate::lab::*;

fn access() -> Link {
    Link::new(Pace::Steady(4_000.0), None)
}

fn rtt(seed: u64) -> f64 {
    40.0 + (seed * 13 % 200) as f64
}

/// Time from the first lost byte to the verdict, where obfs4 is frozen and meek is not; the client has one switch.
fn freeze(name: &str, begins: u64, bytes: u64, load: Load) {
    let mut times = Vec::new();
    for seed in 0..SEEDS {
        let begins = if begins == 0 {
            0
        } else {
            begins + seed * 37 % 1_000
        };
        let censor = Censor::FreezeAfter {
            from_ms: begins,
            bytes,
        };
        let routes = vec![
            route("obfs4", 1, rtt(seed), 1e6).with(censor.clone()),
            route("obfs4", 2, rtt(seed) + 10.0, 1e6).with(censor),
            route("meek", 3, rtt(seed) + 150.0, 2_500.0),
        ];
        // A run without the censor, so that obfs4 is who served last.
        let mut before = Lab::new(seed, access(), vec![routes[0].clone()], Load::Bulk);
        before.routes[0].censors.clear();
        before.run_until(10);
        let memory = before.machine.memory().clone();
        let mut lab = Lab::remembering(seed, access(), routes, load, memory);
        lab.run_to_ms(begins + 40_000);
        lab.check();
        let first_silent = lab.stalled_at.unwrap_or(begins);
        let found = lab.found(0, Verdict::Frozen).or(lab.found(0, Verdict::Dead));
        let Some(found) = found else {
            panic!("seed {seed}: {:#?}", lab.machine.report().lines);
        };
        times.push(found - first_silent);
        assert_eq!(
            lab.kind_in_use(),
            Some(kind("meek")),
            "seed {seed}: {:#?}",
            lab.machine.report().lines
        );
        assert_eq!(lab.switches().len(), 1, "seed {seed}: {:?}", lab.switches());
    }
    let (p50, p95, p100) = (
        percentile(&mut times, 50),
        percentile(&mut times, 95),
        percentile(&mut times, 100),
    );
    println!("freeze, {name}: verdict p50 {p50} ms, p95 {p95} ms, most {p100} ms over {SEEDS} seeds");
    assert!(p100 <= 10_000);
}

#[test]
fn a_freeze_after_16_kib_is_found_within_10_s() {
    freeze("16 KiB from the first byte", 0, 16_384, Load::Bulk);
}

#[test]
fn a_freeze_in_mid_session_is_found_within_10_s() {
    freeze("all at once in mid-session", 120_000, 0, Load::Bulk);
}

#[test]
fn a_path_whose_probes_pass_and_whose_data_dies_is_found_within_10_s() {
    freeze("small probes pass, data dies", 60_000, 1_400, Load::Bulk);
}

/// Nobody is blamed when the whole network was silent, and what was in use comes back.
#[test]
fn an_outage_condemns_nobody() {
    let mut back = Vec::new();
    for seed in 0..SEEDS {
        let censor = Censor::Cut {
            from_ms: 60_000,
            until_ms: 72_000 + seed * 100,
        };
        let routes = vec![
            route("obfs4", 1, rtt(seed), 1e6).with(censor.clone()),
            route("meek", 3, rtt(seed) + 150.0, 2_500.0).with(censor),
        ];
        let mut lab = Lab::new(seed, access(), routes, Load::Bulk);
        let until = 72_000 + seed * 100;
        lab.run_to_ms(until);
        let before = lab.delivered;
        while lab.delivered == before && lab.now < until + 600_000 {
            lab.step();
        }
        back.push(lab.now - until);
        lab.run_to_ms(lab.now + 5_000);
        for (_, score) in &lab.machine.report().kinds {
            assert!(*score >= 500, "seed {seed}: {:?}", lab.machine.report());
        }
    }
    let (p50, p95, most) = (
        percentile(&mut back, 50),
        percentile(&mut back, 95),
        percentile(&mut back, 100),
    );
    println!("outage of 12 to 32 s: bytes move again after p50 {p50} ms, p95 {p95} ms, most {most} ms");
}

/// A censor that follows every switch cannot make the client run in circles.
#[test]
fn a_throttle_that_follows_each_switch_gets_one_switch_per_kind() {
    let mut counts = Vec::new();
    for seed in 0..SEEDS {
        let follow = || Censor::PoliceAfterAdoption {
            after_ms: 30_000,
            kbit: 140.0,
            burst: 16_000.0,
        };
        let first = Censor::PoliceAfterAdoption {
            after_ms: 120_000,
            kbit: 140.0,
            burst: 16_000.0,
        };
        let routes = vec![
            route("obfs4", 1, rtt(seed), 1e6).with(first),
            route("meek", 3, rtt(seed) + 100.0, 2_500.0).with(follow()),
            route("webtunnel", 4, rtt(seed) + 150.0, 1e6).with(follow()),
        ];
        let mut lab = Lab::new(seed, access(), routes, Load::Bulk);
        lab.run_until(2 * 3_600);
        lab.check();
        counts.push(lab.switches().len() as u64);
    }
    let (p50, most) = (percentile(&mut counts, 50), percentile(&mut counts, 100));
    println!("a throttle 30 s after each switch: p50 {p50}, most {most} switches in 2 h over {SEEDS} seeds");
    assert!(
        most <= 8,
        "one for each kind, and back and away after 10 min, 50 min, …"
    );
}

/// When the throttle is lifted the client goes back, once, and stays.
#[test]
fn a_kind_that_was_left_is_returned_to_when_it_is_better_again() {
    let mut times = Vec::new();
    for seed in 0..SEEDS {
        let censor = Censor::Police {
            from_ms: 120_000,
            until_ms: 400_000,
            kbit: 140.0,
            burst: 16_000.0,
        };
        let routes = vec![
            route("obfs4", 1, rtt(seed), 1e6).with(censor),
            route("meek", 3, rtt(seed) + 150.0, 1_000.0),
        ];
        let mut lab = Lab::new(seed, access(), routes, Load::Bulk);
        lab.run_until(3_600);
        lab.check();
        let switches = lab.switches();
        assert_eq!(switches.len(), 2, "seed {seed}: {switches:?}");
        assert_eq!(
            (switches[1].1, switches[1].2.kind.as_str()),
            (Why::Return, "obfs4"),
            "seed {seed}"
        );
        times.push(switches[1].0);
    }
    println!(
        "throttle from 120 s to 400 s: back at p50 {} s",
        percentile(&mut times, 50) / 1_000
    );
}
