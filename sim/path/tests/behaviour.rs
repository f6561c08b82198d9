//! What senders, receivers and links do together.

use phantom_path::lab::{Flow, Lab, Outcome, Path};
use phantom_path::link::LinkConfig;
use phantom_path::mishap::{Loss, Mishaps};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn link(mbit: u64, rtt_ms: u64) -> LinkConfig {
    LinkConfig {
        bits_per_second: mbit * 1_000_000,
        queue_bytes: mbit * 12_500,
        delay_ns: rtt_ms * 500_000,
        ..LinkConfig::default()
    }
}

fn both(link: LinkConfig) -> Path {
    Path {
        forth: link,
        back: link,
    }
}

fn one(path: Path, flow: Flow, seed: u64) -> Outcome {
    Lab::new(path, &[flow], seed).run(4_000 * SECOND).0[0]
}

fn seconds(outcome: Outcome) -> f64 {
    outcome.took_ns.map_or(f64::INFINITY, |ns| ns as f64 / 1e9)
}

prop_compose! {
    fn any_link()(
        bits_per_second in prop_oneof![Just(0), 64_000_u64..100_000_000],
        queue_bytes in 4_000_u64..1_000_000,
        codel: bool,
        delay_ns in 0_u64..300_000_000,
        jitter_ns in prop_oneof![Just(0), 0_u64..50_000_000],
        loss in prop_oneof![
            Just(Loss::None),
            (0_u64..400_000_000).prop_map(Loss::Independent),
            (1_u64..40_000_000, 800_000_000_u64..4_000_000_000).prop_map(|(begin, end)| Loss::Bursts { begin, end }),
        ],
        reordered in prop_oneof![Just(0), 0_u64..400_000_000],
        late_ns in 0_u64..100_000_000,
        duplicated in prop_oneof![Just(0), 0_u64..400_000_000],
    ) -> LinkConfig {
        let mishaps = Mishaps { loss, reordered, late_ns, duplicated };
        LinkConfig { bits_per_second, queue_bytes, codel, delay_ns, jitter_ns, mishaps }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a link does, every byte arrives, and a run repeats to the nanosecond.
    #[test]
    fn a_transfer_ends_on_any_link(
        forth in any_link(),
        back in any_link(),
        bytes in 1_u64..300_000,
        seed: u64,
        paced in prop_oneof![Just(None), (100_u64..20_000, 1_000_000_u64..4_000_000_000).prop_map(Some)],
    ) {
        let path = Path { forth, back };
        let flow = Flow { paced, ..Flow::new(bytes) };
        let outcome = Lab::new(path, &[flow], seed).run(40_000 * SECOND).0[0];
        // A dial is given up after 127 seconds, as on Linux.
        if outcome.took_ns.is_none() {
            prop_assert_eq!(outcome.arrived, 0, "it began and did not end: {:?}", outcome);
        } else {
            prop_assert_eq!(outcome.arrived, bytes);
        }
        prop_assert_eq!(outcome, Lab::new(path, &[flow], seed).run(40_000 * SECOND).0[0]);
    }
}

/// Offsets have 64 bits, and what is counted in 32 beside them does not wrap.
#[test]
fn a_stream_may_be_longer_than_4_gib() {
    let bytes = (4 << 30) + 123_456_789;
    let outcome = one(both(link(10_000, 2)), Flow::new(bytes), 1);
    let wire = bytes as f64 * 1_500.0 / 1_448.0 * 8.0 / 10e9;
    let took = seconds(outcome);
    assert_eq!(outcome.arrived, bytes);
    assert!(took > wire && took < 1.3 * wire, "{took} s, {wire} at least");
}

/// RFC 6928: ten segments in the first round trip, twice as many in the next.
#[test]
fn slow_start_doubles_from_ten_segments() {
    let path = both(LinkConfig {
        delay_ns: 50_000_000,
        ..LinkConfig::default()
    });
    let rounds = |segments: u64| seconds(one(path, Flow::new(segments * 1_448), 1)) / 0.1;
    // The handshake is one round trip, the last flight half of one.
    assert!((rounds(10) - 1.5).abs() < 0.01);
    assert!((rounds(11) - 2.5).abs() < 0.01);
    assert!((rounds(30) - 2.5).abs() < 0.01);
    assert!((rounds(31) - 3.5).abs() < 0.01);
}

/// Alike flows share a bottleneck alike, and fill it.
#[test]
fn flows_share_a_link_by_its_queue() {
    for flows in [2, 4, 10] {
        let path = both(link(20, 40));
        let bytes = 40_000_000 / flows;
        let all = vec![Flow::new(bytes); flows as usize];
        let (outcomes, _) = Lab::new(path, &all, 7).run(8 * SECOND);
        let arrived: Vec<u64> = outcomes.iter().map(|outcome| outcome.arrived).collect();
        let (least, most) = (arrived.iter().min().unwrap(), arrived.iter().max().unwrap());
        assert!(most < &(3 * least), "{arrived:?}");
        let goodput = arrived.iter().sum::<u64>() as f64 * 8.0 / 8.0 / 20e6;
        assert!(goodput > 0.85, "{goodput} of the link");
    }
}

/// CoDel keeps the queue short where a tail drop fills it.
#[test]
fn codel_keeps_the_wait_short() {
    let wait = |codel| {
        let forth = LinkConfig {
            codel,
            queue_bytes: 1_000_000,
            ..link(10, 40)
        };
        let path = Path {
            forth,
            back: link(10, 40),
        };
        // A bulk transfer, and a small one that meets its queue.
        let late = Flow {
            start_ns: 8 * SECOND,
            ..Flow::new(10_000)
        };
        let (outcomes, _) = Lab::new(path, &[Flow::new(40_000_000), late], 3).run(60 * SECOND);
        seconds(outcomes[1])
    };
    let (with, without) = (wait(true), wait(false));
    assert!(with < 0.2 && without > 0.4, "with {with} s, without {without} s");
}

/// A reader that takes 100 kB a second holds the sender to that, and the window opens again.
#[test]
fn a_slow_reader_stops_the_sender_and_a_closed_window_opens_again() {
    let slow = Flow {
        read: Some((10_000, 100_000_000)),
        ..Flow::new(1_000_000)
    };
    let took = seconds(one(both(link(50, 20)), slow, 1));
    assert!((8.0..10.5).contains(&took), "{took} s");
    // Nobody reads for 20 seconds: probes keep the stream alive.
    let asleep = Flow {
        read: Some((10_000_000, 20 * SECOND)),
        ..Flow::new(1_000_000)
    };
    let outcome = one(both(link(50, 20)), asleep, 1);
    assert!(outcome.took_ns.is_some(), "{outcome:?}");
}

/// RFC 7661: a program that sends little does not earn a large window.
#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let path = both(LinkConfig {
        delay_ns: 50_000_000,
        ..LinkConfig::default()
    });
    let paced = Flow {
        paced: Some((1_000, 20_000_000)),
        ..Flow::new(500_000)
    };
    let outcome = one(path, paced, 1);
    assert!(outcome.window_segments <= 40, "{outcome:?}");
    assert!((10.0..10.2).contains(&seconds(outcome)), "{outcome:?}");
}

/// A path that changes the order costs retransmissions at first and is learned; nothing times out.
#[test]
fn reordering_is_learned() {
    let forth = LinkConfig {
        mishaps: Mishaps {
            reordered: 42_949_672,
            late_ns: 8_000_000,
            ..Mishaps::default()
        },
        ..link(20, 40)
    };
    let path = Path {
        forth,
        back: link(20, 40),
    };
    let outcome = one(path, Flow::new(20_000_000), 1);
    let counters = outcome.counters;
    assert!(counters.undone > 0 && counters.timeouts == 0, "{counters:?}");
    // 1 % of 13,800 segments came late.
    assert!(counters.again < 70, "{counters:?}");
    assert!(seconds(outcome) < 11.0, "{outcome:?}");
}

/// At the same share of lost segments bursts are cheaper than single losses: a reduction pays for a whole burst.
#[test]
fn a_burst_of_losses_costs_less_than_as_many_single_ones() {
    let took = |loss| {
        let mishaps = Mishaps {
            loss,
            ..Mishaps::default()
        };
        let forth = LinkConfig {
            mishaps,
            ..link(20, 60)
        };
        let path = Path {
            forth,
            back: link(20, 60),
        };
        let mut took: Vec<f64> = (0..15)
            .map(|seed| seconds(one(path, Flow::new(5_000_000), seed)))
            .collect();
        took.sort_by(f64::total_cmp);
        took[7]
    };
    // Two per cent either way: bursts of four segments in the mean.
    let single = took(Loss::Independent(85_899_346));
    let bursts = took(Loss::Bursts {
        begin: 21_913_098,
        end: 1_073_741_824,
    });
    assert!(bursts < 0.8 * single, "bursts {bursts} s, single {single} s");
}

/// The goodput under a policer is the policer's rate, whatever the link's.
#[test]
fn a_policed_flow_gets_the_policers_rate_and_leaves_the_rest_to_others() {
    let path = both(link(10, 50));
    let policed = Flow {
        policed: Some((140_000, 16_384)),
        ..Flow::new(1_000_000)
    };
    let (outcomes, _) = Lab::new(path, &[policed, Flow::new(10_000_000)], 1).run(400 * SECOND);
    let goodput = 8e6 / seconds(outcomes[0]);
    assert!((120_000.0..=142_000.0).contains(&goodput), "{goodput} bit/s");
    let other = 80e6 / seconds(outcomes[1]);
    assert!(other > 9e6, "{other} bit/s");
}
