//! The ping workload on swarm alone, for profiling: `ping PEERS [fixed|full|idle|paused] [SECONDS]`; `paused` runs
//! it on paused tokio instead, for comparison.

use std::time::Duration;

use phantom_sim::bench::on_stage::ping_on;
use phantom_sim::bench::ping::on_swarm;
use phantom_sim::swarm::Network;
use phantom_sim::witness::paused::PausedStage;

fn main() {
    let mut args = std::env::args().skip(1);
    let peers = args.next().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let mode = args.next().unwrap_or_else(|| "fixed".into());
    let seconds = args.next().and_then(|text| text.parse().ok()).unwrap_or(60);
    let network = match mode.as_str() {
        "full" => Network::default(),
        _ => Network::Fixed(Duration::from_millis(50)),
    };
    if mode == "paused" {
        let delay = Duration::from_millis(50);
        println!("{:?}", ping_on::<PausedStage>(delay, peers, 1, seconds, false));
        return;
    }
    let outcome = on_swarm(network, peers, 1, seconds, mode == "idle");
    println!("{outcome:?}");
}
