//! What a segment costs with its acknowledgement, its link and its events; and what an idle connection holds.
//!
//! `cargo run --release -p phantom-path --example segment_cost`

use phantom_path::lab::{Flow, Lab, Path};
use phantom_path::link::LinkConfig;
use phantom_path::mishap::{Loss, Mishaps};
use phantom_path::tcp::{Receiver, Sender};

fn main() {
    for (name, loss, bytes) in [
        ("no loss", Loss::None, 100_000_000),
        ("0.5 % loss", Loss::Independent(21_474_836), 50_000_000),
        ("2 % loss", Loss::Independent(85_899_346), 50_000_000),
    ] {
        let link = LinkConfig {
            bits_per_second: 50_000_000,
            queue_bytes: 625_000,
            delay_ns: 25_000_000,
            mishaps: Mishaps {
                loss,
                ..Mishaps::default()
            },
            ..LinkConfig::default()
        };
        let path = Path {
            forth: link,
            back: link,
        };
        let mut costs: Vec<f64> = (0..5)
            .map(|seed| {
                let begun = cpu_seconds();
                let (outcomes, segments) = Lab::new(path, &[Flow::new(bytes)], seed).run(u64::MAX);
                assert!(outcomes[0].took_ns.is_some(), "the transfer ends");
                (cpu_seconds() - begun) / segments as f64 * 1e6
            })
            .collect();
        costs.sort_by(f64::total_cmp);
        println!(
            "{name}: {:.3} us a segment (median of 5, {:.3} to {:.3}; wanted at most 0.3)",
            costs[2], costs[0], costs[4]
        );
    }
    let (sender, receiver) = (size_of::<Sender>(), size_of::<Receiver>());
    println!(
        "idle: sender {sender} bytes, receiver {receiver} bytes; a connection, which has both at both ends, {} (wanted at most 512)",
        2 * (sender + receiver)
    );
}

/// CPU time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split_whitespace()
        .next()
        .and_then(|ns| ns.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1e9
}
