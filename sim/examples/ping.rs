//! The ping workload on swarm alone, for profiling: `ping PEERS [fixed|full|idle] [SECONDS]`.

use std::time::Duration;

use phantom_sim::bench::ping::on_swarm;
use phantom_sim::swarm::Network;

fn main() {
    let mut args = std::env::args().skip(1);
    let peers = args.next().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let mode = args.next().unwrap_or_else(|| "fixed".into());
    let seconds = args.next().and_then(|text| text.parse().ok()).unwrap_or(60);
    let network = match mode.as_str() {
        "full" => Network::default(),
        _ => Network::Fixed(Duration::from_millis(50)),
    };
    let outcome = on_swarm(network, peers, 1, seconds, mode == "idle");
    println!("{outcome:?}");
}
