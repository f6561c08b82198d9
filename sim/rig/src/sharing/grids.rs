//! The cells that are measured.

use phantom_path::fidelity::BURST_BYTES;

use super::{SharedCell, SharedFlow};

/// The least bursts of a transfer in [`bursts`], and how long it goes on if they are more.
const BURSTS_MIN: u64 = 6;
const BURSTS_MS: u64 = 16_000;

/// Flows that share a link begin within this. Which of them finds the last place in a queue is decided by microseconds where they begin
/// at once, and those are the host's: on one with two cores first windows are mixed, and timers come late.
const WITHIN_MS: u64 = 100;

/// Two to ten flows: equal ones over links of several lengths and queues, some with losses, one that comes late, and some with
/// one behind a policer of its own.
pub fn grid() -> Vec<SharedCell> {
    let flow = |bytes| SharedFlow {
        within_ms: WITHIN_MS,
        ..SharedFlow::new(bytes)
    };
    let cell = |flows: Vec<SharedFlow>, mbit: u64, rtt_ms, queue_ms: u64, loss| SharedCell {
        rtt_ms,
        bits_per_second: mbit * 1_000_000,
        loss,
        queue_bytes: mbit * 125 * queue_ms,
        flows,
    };
    let equal = |number, bytes| vec![flow(bytes); number];
    let with = |number, bytes, other| {
        let mut flows = equal(number, bytes);
        flows.push(other);
        flows
    };
    let policed = |bytes, policer_bits_per_second| SharedFlow {
        policer_bits_per_second,
        ..flow(bytes)
    };
    vec![
        cell(equal(2, 3_000_000), 10, 20, 100, 0.0),
        cell(equal(2, 3_000_000), 10, 100, 100, 0.0),
        cell(equal(2, 3_000_000), 10, 40, 25, 0.0),
        cell(equal(4, 1_500_000), 10, 40, 100, 0.0),
        cell(equal(4, 1_500_000), 10, 40, 25, 0.0),
        cell(equal(5, 2_000_000), 20, 60, 50, 0.0),
        cell(equal(10, 600_000), 10, 20, 100, 0.0),
        cell(equal(10, 600_000), 10, 80, 50, 0.0),
        cell(equal(2, 2_000_000), 10, 40, 100, 0.005),
        cell(equal(4, 1_000_000), 10, 40, 100, 0.02),
        cell(
            with(
                1,
                4_000_000,
                SharedFlow {
                    start_ms: 1_000,
                    ..flow(2_000_000)
                },
            ),
            10,
            40,
            100,
            0.0,
        ),
        cell(with(1, 3_000_000, policed(500_000, 1_000_000)), 10, 40, 100, 0.0),
        cell(with(2, 2_500_000, policed(300_000, 500_000)), 10, 20, 100, 0.0),
        cell(with(4, 1_500_000, policed(500_000, 1_000_000)), 10, 80, 50, 0.0),
        cell(with(9, 600_000, policed(200_000, 300_000)), 10, 40, 100, 0.0),
    ]
}

/// One flow that writes in bursts: on clean paths, with losses, and behind policers. What a burst meets there is a window that the
/// bursts before it have left, or half a bucket.
pub fn bursts() -> Vec<SharedCell> {
    const MBIT: u64 = 20;
    let cell = |kilobytes: u64, every_ms: u64, rtt_ms, loss, policer: (u64, u64)| {
        let number = (BURSTS_MS / every_ms).clamp(BURSTS_MIN, 16);
        SharedCell {
            rtt_ms,
            bits_per_second: MBIT * 1_000_000,
            loss,
            queue_bytes: MBIT * 12_500,
            flows: vec![SharedFlow {
                policer_bits_per_second: policer.0,
                policer_bytes: policer.1,
                burst: (1_000 * kilobytes, every_ms),
                ..SharedFlow::new(1_000 * kilobytes * number)
            }],
        }
    };
    let (open, slow) = ((0, BURST_BYTES), (140_000, 8_192));
    vec![
        cell(2, 500, 20, 0.0, open),
        cell(8, 1_000, 100, 0.0, open),
        cell(30, 500, 100, 0.0, open),
        cell(32, 1_000, 50, 0.0, open),
        cell(32, 2_000, 200, 0.0, open),
        cell(4, 500, 100, 0.02, open),
        cell(24, 1_000, 50, 0.01, open),
        cell(16, 1_000, 100, 0.02, open),
        cell(32, 2_000, 200, 0.02, open),
        cell(2, 500, 100, 0.0, slow),
        cell(4, 500, 200, 0.0, slow),
        cell(8, 1_000, 50, 0.0, slow),
        cell(8, 1_000, 200, 0.0, slow),
        cell(12, 1_000, 150, 0.0, slow),
        cell(16, 2_000, 50, 0.0, slow),
        cell(16, 2_000, 200, 0.0, slow),
        cell(24, 3_000, 20, 0.0, slow),
        cell(32, 5_000, 100, 0.0, slow),
        cell(32, 5_000, 200, 0.0, slow),
        cell(24, 3_000, 100, 0.0, (140_000, BURST_BYTES)),
        cell(16, 500, 50, 0.0, (500_000, 8_192)),
        cell(32, 1_000, 100, 0.0, (500_000, 8_192)),
        cell(32, 2_000, 200, 0.0, (500_000, BURST_BYTES)),
        cell(32, 1_000, 100, 0.0, (1_000_000, 8_192)),
        cell(30, 500, 20, 0.0, (1_000_000, 8_192)),
    ]
}
