//! Finding a way in: what the machine lets a ladder dial, and in which order.

use phantom_rotation::*;

use crate::SEEDS;
use crate::lab::*;

fn access() -> Link {
    Link::new(Pace::Steady(4_000.0), None)
}

/// Whoever dialled.
fn dials(lab: &Lab) -> Vec<(u64, Candidate)> {
    let seconds = lab.events.iter().filter_map(|event| match &event.output {
        Output::Dial { candidate, .. } => Some((event.at_ms, candidate.clone())),
        _ => None,
    });
    let mut dials: Vec<_> = lab.dialled.iter().cloned().chain(seconds).collect();
    dials.sort_by_key(|(at, _)| *at);
    dials
}

#[test]
fn who_served_last_is_dialled_first_and_the_others_follow_250_ms_apart() {
    for seed in 0..SEEDS {
        let routes: Vec<Route> = (1..8).map(|n| route("obfs4", n, 600.0, 1e6)).collect();
        let served = routes[seed as usize % 7].candidate.clone();
        let mut before = Lab::new(
            seed,
            access(),
            vec![routes[seed as usize % 7].clone()],
            Load::Bulk,
        );
        before.run_until(30);
        let memory = before.machine.memory().clone();
        let mut lab = Lab::remembering(seed, access(), routes, Load::Idle, memory);
        lab.run_until(10);
        let dials = dials(&lab);
        assert_eq!(dials[0].1, served, "seed {seed}");
        for pair in dials.windows(2) {
            // Steps of 20 ms.
            assert!(
                (250..=270).contains(&(pair[1].0 - pair[0].0)),
                "seed {seed}: {pair:?}"
            );
        }
        assert_eq!(lab.candidate_in_use(), Some(served), "seed {seed}");
    }
}

#[test]
fn never_more_than_six_sockets_to_one_server() {
    for seed in 0..SEEDS {
        let cut = Censor::Cut {
            from_ms: 0,
            until_ms: 100_000,
        };
        let routes = (0..30).map(|n| {
            let mut route = route("obfs4", 1, 100.0, 1e6).with(cut.clone());
            route.candidate = candidate("obfs4", 1, 400 + n);
            route
        });
        let mut lab = Lab::new(seed, access(), routes.collect(), Load::Bulk);
        lab.run_until(1_200);
        lab.check();
        assert!(lab.sockets_most >= 2, "seed {seed}: {}", lab.sockets_most);
        assert!(lab.in_use.is_some(), "seed {seed}: it is found in the end");
    }
}

/// Scenarios 3, 4 and 11: first packets are flagged, connections are killed, and no dial falls into a box.
fn boxes(name: &str, probability: f64, box_ms: u64, renewed: bool, reset: bool) {
    let (mut all, mut connected) = (0, 0);
    for seed in 0..SEEDS {
        let flag = Censor::Flag {
            probability,
            box_ms,
            renewed,
            reset,
        };
        let mut routes: Vec<Route> = (1..4)
            .map(|n| route("obfs4", n, 80.0, 1e6).with(flag.clone()))
            .collect();
        let mut other = route("obfs4", 1, 80.0, 1e6).with(flag.clone());
        other.candidate = candidate("obfs4", 1, 8_443);
        routes.push(other);
        let mut lab = Lab::new(seed, access(), routes, Load::Bulk);
        while lab.now < 3_600_000 {
            lab.run_to_ms(lab.now + 45_000);
            connected += u64::from(lab.in_use.is_some());
            if let Some(path) = lab.in_use {
                lab.kill(
                    path,
                    if seed % 2 == 0 {
                        Failure::Ended
                    } else {
                        Failure::Reset
                    },
                );
            }
        }
        assert_eq!(
            lab.dials_in_box, 0,
            "seed {seed}: a dial inside a residual window"
        );
        assert!(lab.sockets_most <= 6);
        all += dials(&lab).len();
    }
    println!(
        "{name}: {all} dials in {SEEDS} h, none in a box; connected at {connected} of {} looks",
        80 * SEEDS
    );
}

#[test]
fn no_dial_falls_into_a_box_of_180_s() {
    boxes("flagged 26 %, dropped for 180 s", 0.263, 180_000, false, false);
}

#[test]
fn no_dial_falls_into_a_box_of_90_s_after_a_reset() {
    boxes("flagged 75 %, reset, box of 90 s", 0.75, 90_000, false, true);
}

#[test]
fn no_dial_renews_a_box_of_60_s() {
    boxes(
        "flagged always, 60 s renewed by every packet",
        1.0,
        60_000,
        true,
        false,
    );
}

/// What was learned outlives the run, windows too.
#[test]
fn a_restart_forgets_no_window() {
    for seed in 0..SEEDS {
        let flag = Censor::Flag {
            probability: 1.0,
            box_ms: 180_000,
            renewed: false,
            reset: true,
        };
        let routes = vec![route("obfs4", 1, 80.0, 1e6).with(flag)];
        let mut lab = Lab::new(seed, access(), routes.clone(), Load::Bulk);
        lab.run_until(5);
        let text = serde_json::to_string(lab.machine.memory()).expect("it can be written");
        let memory: Memory = serde_json::from_str(&text).expect("it reads back");
        let mut lab = Lab::remembering(seed, access(), routes, Load::Bulk, memory);
        lab.run_until(170);
        assert_eq!(dials(&lab), [], "seed {seed}");
        lab.run_until(300);
        assert_eq!(dials(&lab).len(), 1, "seed {seed}");
    }
}

/// Addresses that were never answered are no windows, for who is offline condemns nobody; what was flagged is.
#[test]
fn a_client_that_was_offline_is_in_soon_after() {
    let mut times = Vec::new();
    for seed in 0..SEEDS {
        let until_ms = 40_000 + seed * 500;
        let cut = Censor::Cut { from_ms: 0, until_ms };
        let routes = vec![
            route("obfs4", 1, 80.0, 1e6).with(cut.clone()),
            route("meek", 2, 80.0, 1e6).with(cut),
        ];
        let mut lab = Lab::new(seed, access(), routes, Load::Bulk);
        while lab.in_use.is_none() {
            lab.step();
            assert!(lab.now < 600_000, "seed {seed}");
        }
        times.push(lab.now - until_ms);
    }
    let (p50, most) = (percentile(&mut times, 50), percentile(&mut times, 100));
    println!("offline for 40 to 140 s: in after p50 {p50} ms, most {most} ms");
    assert!(most <= 35_000, "a ladder waits 30 s");
}

#[test]
fn where_every_first_packet_is_flagged_dials_become_rare_and_the_report_says_so() {
    for seed in 0..SEEDS {
        let flag = Censor::Flag {
            probability: 1.0,
            box_ms: 1,
            renewed: false,
            reset: false,
        };
        let routes = vec![
            route("obfs4", 1, 80.0, 1e6).with(flag.clone()),
            route("meek", 2, 80.0, 1e6).with(flag),
        ];
        let mut lab = Lab::new(seed, access(), routes, Load::Bulk);
        lab.run_until(3 * 3_600);
        let dials = dials(&lab);
        assert!(dials.len() < 60, "seed {seed}: {}", dials.len());
        assert!(
            dials.iter().any(|(at, _)| *at > 2 * 3_600_000),
            "seed {seed}: it does not give up"
        );
        let report = lab.machine.report().to_string();
        assert!(report.contains("not reached"), "{report}");
        assert!(!report.contains("192.0.2"), "no address is shown: {report}");
    }
}

/// A link that broke in silence and is resumed at once was no block, though something connected right after it.
#[test]
fn who_connects_again_at_once_clears_itself() {
    let mut lab = Lab::new(1, access(), vec![route("obfs4", 1, 80.0, 1e6)], Load::Idle);
    lab.run_until(5);
    let path = lab.in_use.expect("in");
    let candidate = lab.paths[&path].clone();
    lab.kill(path, Failure::Silence);
    lab.run_until(10);
    assert_eq!(lab.candidate_in_use(), Some(candidate.clone()));
    assert_eq!(lab.machine.free_at(ms(lab.now), &candidate, 0), Some(ms(lab.now)));
    // Where another one connects, it is left alone.
    let routes = vec![route("obfs4", 1, 80.0, 1e6), route("obfs4", 2, 80.0, 1e6)];
    let mut lab = Lab::new(1, access(), routes, Load::Idle);
    lab.run_until(5);
    let path = lab.in_use.expect("in");
    let candidate = lab.paths[&path].clone();
    lab.routes[0].censors.push(Censor::Cut {
        from_ms: 0,
        until_ms: u64::MAX,
    });
    lab.kill(path, Failure::Silence);
    lab.run_until(10);
    assert_ne!(lab.candidate_in_use(), Some(candidate.clone()));
    assert!(lab.machine.free_at(ms(lab.now), &candidate, 0) > Some(ms(lab.now + 170_000)));
}
