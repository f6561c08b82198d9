//! Lanes on the kernel of this machine. Where none can be made, each test says so and passes.

use phantom_path::fidelity::Cell;
use phantom_rig::sharing::{SharedCell, SharedFlow};
use phantom_rig::{Lane, RigError};

const CELL: Cell = Cell {
    bytes: 100_000,
    rtt_ms: 20,
    bits_per_second: 10_000_000,
    loss: 0.0,
    queue_bytes: 125_000,
    policer_bits_per_second: 0,
};

fn lane() -> Option<Lane> {
    match Lane::new() {
        Ok(lane) => Some(lane),
        Err(error @ (RigError::NotLinux | RigError::Rights { .. })) => {
            println!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// 103.6 kB at 10 Mbit/s and one and a half round trips. Wide bounds above: whatever else runs on the machine must not fail this.
#[test]
fn a_transfer_takes_as_long_as_rate_and_round_trips_say() {
    let Some(lane) = lane() else { return };
    for seed in 1..=3 {
        let sample = lane.transfer(&CELL, seed).unwrap();
        println!("{sample:?}");
        assert!((0.11..3.0).contains(&sample.seconds), "{sample:?}");
        assert!(sample.late.packets > 70, "{sample:?}");
    }
}

#[test]
fn losses_are_drawn_by_the_seed_and_sent_again() {
    let Some(lane) = lane() else { return };
    let lossy = Cell {
        loss: 0.05,
        bytes: 300_000,
        ..CELL
    };
    let again: Vec<u64> = (1..=3)
        .map(|seed| lane.transfer(&lossy, seed).unwrap().retransmits)
        .collect();
    // 210 segments: about ten are lost.
    assert!(again.iter().all(|again| (1..60).contains(again)), "{again:?}");
}

#[test]
fn one_flow_of_three_is_behind_a_policer_of_its_own() {
    let Some(lane) = lane() else { return };
    let flow = SharedFlow::new(400_000);
    let cell = SharedCell {
        rtt_ms: 20,
        bits_per_second: 10_000_000,
        loss: 0.0,
        queue_bytes: 125_000,
        flows: vec![
            flow,
            flow,
            SharedFlow {
                bytes: 60_000,
                policer_bits_per_second: 300_000,
                ..flow
            },
        ],
    };
    let samples = lane.share(&cell.plan(1), 1).unwrap();
    println!("{samples:?}");
    let repeat = samples.flows;
    assert!(
        repeat[..2].iter().all(|flow| (0.4..6.0).contains(&flow.seconds)),
        "{repeat:?}"
    );
    // 62 kB less the burst of 16 kB at 300 kbit/s.
    assert!((1.1..12.0).contains(&repeat[2].seconds), "{repeat:?}");
    let shares: f64 = repeat.iter().map(|flow| flow.share).sum();
    assert!(
        (shares - 1.0).abs() < 1e-9 && repeat[2].share < 0.15,
        "{repeat:?}"
    );
}

/// Two kilobytes fit into the policer's burst, and arrive within half a round trip; 24 kB do not.
#[test]
fn bursts_that_a_policer_lets_through_are_fast_and_others_are_not() {
    let Some(lane) = lane() else { return };
    let took = |bytes| {
        let cell = SharedCell {
            rtt_ms: 40,
            bits_per_second: 10_000_000,
            loss: 0.0,
            queue_bytes: 125_000,
            flows: vec![SharedFlow {
                policer_bits_per_second: 500_000,
                policer_bytes: 8_192,
                burst: (bytes, 700),
                ..SharedFlow::new(4 * bytes)
            }],
        };
        let flow = lane.share(&cell.plan(1), 1).unwrap().flows.remove(0);
        println!("{flow:?}");
        assert_eq!(flow.bursts.len(), 4);
        flow
    };
    let (small, large) = (took(2_000), took(24_000));
    assert!(
        small.bursts.iter().all(|seconds| (0.02..0.5).contains(seconds)),
        "{small:?}"
    );
    assert!(large.retransmits > 0, "{large:?}");
    // 24.8 kB less 8 kB at 500 kbit/s.
    assert!(
        large.bursts.iter().all(|seconds| (0.25..5.0).contains(seconds)),
        "{large:?}"
    );
}
