//! What is no throttle is not taken for one: two-hour sessions over everything that is slow or uneven by itself.

use phantom_rotation::*;

use crate::SEEDS;
use crate::lab::*;

const HOURS: u64 = 2;

/// Plays a session per seed; false switches must stay below 1 % of the sessions.
fn calm(name: &str, world: impl Fn(u64) -> (Link, Vec<Route>)) {
    let (mut switched, mut doubts, mut dials) = (0, 0, 0);
    for seed in 0..SEEDS {
        let (access, routes) = world(seed);
        let load = if seed % 2 == 0 {
            Load::Bulk
        } else {
            Load::Files {
                bytes: 2_000_000,
                pause_ms: 60_000,
            }
        };
        let mut lab = Lab::new(seed, access, routes, load);
        lab.run_until(HOURS * 3_600);
        lab.check();
        let switches = lab.switches();
        if !switches.is_empty() {
            println!("{name}, seed {seed}: {switches:?}");
        }
        switched += u64::from(!switches.is_empty());
        for event in &lab.events {
            match event.output {
                Output::Found {
                    verdict: Verdict::MaybeThrottled | Verdict::MaybeFrozen,
                    ..
                } => doubts += 1,
                Output::Dial { .. } => dials += 1,
                _ => {}
            }
        }
    }
    let per_session = |n: u64| n as f64 / SEEDS as f64;
    println!(
        "calm, {name}: {switched} of {SEEDS} sessions of {HOURS} h switched; {:.2} doubts and {:.1} dials a session",
        per_session(doubts),
        per_session(dials)
    );
    assert!(
        switched * 100 < SEEDS,
        "{name}: {switched} of {SEEDS} sessions switched"
    );
}

fn rtt(seed: u64) -> f64 {
    40.0 + (seed * 13 % 200) as f64
}

/// The path in use first: others start later.
fn ways(seed: u64, ceiling: f64) -> Vec<Route> {
    vec![
        route("obfs4", 1, rtt(seed), ceiling),
        route("obfs4", 2, rtt(seed) + 20.0, ceiling),
        route("meek", 3, rtt(seed) + 60.0, 2_500.0),
        route("webtunnel", 4, rtt(seed) + 10.0, 1e6),
    ]
}

/// One kind over a bad route of its own; the others have a good one and are much faster.
fn one_bad(seed: u64, link: Link) -> Vec<Route> {
    let others = ways(seed, 1e6).split_off(2);
    let mut routes = vec![route("obfs4", 1, rtt(seed), 1e6).over(link)];
    // Far behind in the race, so that the bad one is the one in use.
    routes.extend(others.into_iter().map(|mut route| {
        route.rtt_ms += 120.0;
        route
    }));
    routes
}

#[test]
#[ignore = "200 sessions of two hours, minutes of processor time: just rotation"]
fn iat_mode_1_is_no_throttle() {
    calm("iat-mode 1", |seed| {
        (Link::new(Pace::Steady(8_000.0), None), ways(seed, 1_500.0))
    });
}

#[test]
#[ignore = "200 sessions of two hours, minutes of processor time: just rotation"]
fn iat_mode_2_is_no_throttle() {
    calm("iat-mode 2", |seed| {
        (Link::new(Pace::Steady(8_000.0), None), ways(seed, 700.0))
    });
}

#[test]
#[ignore = "200 sessions of two hours, minutes of processor time: just rotation"]
fn a_slow_link_is_no_throttle() {
    calm("slow link, 200 kbit/s to 1 Mbit/s", |seed| {
        let kbit = 200.0 + (seed * 29 % 801) as f64;
        (Link::new(Pace::Steady(kbit), None), ways(seed, 1e6))
    });
}

const BURSTS: Bursts = Bursts {
    good_ms: 8_000.0,
    bad_ms: 400.0,
    bad_loss: 0.5,
};

#[test]
#[ignore = "200 sessions of two hours, minutes of processor time: just rotation"]
fn bursts_of_loss_on_the_access_link_are_no_throttle() {
    calm("bursty loss, shared", |seed| {
        (Link::new(Pace::Steady(2_000.0), Some(BURSTS)), ways(seed, 1e6))
    });
}

#[test]
#[ignore = "200 sessions of two hours, minutes of processor time: just rotation"]
fn bursts_of_loss_on_one_route_are_no_throttle() {
    calm("bursty loss, one route", |seed| {
        let link = Link::new(Pace::Steady(2_000.0), Some(BURSTS));
        (Link::new(Pace::Steady(8_000.0), None), one_bad(seed, link))
    });
}

#[test]
#[ignore = "200 sessions of two hours, minutes of processor time: just rotation"]
fn a_rate_that_varies_by_three_is_no_throttle() {
    calm("rate between 0.7 and 2.1 Mbit/s", |seed| {
        let every_ms = 2_000 + seed % 10 * 3_000;
        (
            Link::new(
                Pace::Varying {
                    low: 700.0,
                    high: 2_100.0,
                    every_ms,
                },
                None,
            ),
            ways(seed, 1e6),
        )
    });
}

#[test]
#[ignore = "200 sessions of two hours, minutes of processor time: just rotation"]
fn a_route_whose_rate_varies_by_three_is_no_throttle() {
    calm("one route between 0.7 and 2.1 Mbit/s", |seed| {
        let every_ms = 2_000 + seed % 10 * 3_000;
        let link = Link::new(
            Pace::Varying {
                low: 700.0,
                high: 2_100.0,
                every_ms,
            },
            None,
        );
        (Link::new(Pace::Steady(8_000.0), None), one_bad(seed, link))
    });
}

#[test]
#[ignore = "200 sessions of two hours, minutes of processor time: just rotation"]
fn a_network_that_becomes_ten_times_slower_is_no_throttle() {
    calm("access falls from 4 Mbit/s to 400 kbit/s", |seed| {
        (
            Link::new(
                Pace::Step {
                    before: 4_000.0,
                    at_ms: 600_000,
                    after: 400.0,
                },
                None,
            ),
            ways(seed, 1e6),
        )
    });
}
