//! What the engine at the emulated border did, by rule; and where resolvers turn to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use phantom_censor::engine::Engine;

/// How often the rule of this name dropped, reset and forged so far.
pub(super) fn acted(engine: &Engine, rule: &str) -> [u64; 3] {
    let counts = engine.rules().iter().zip(engine.counts());
    let counts = counts.filter(|(known, _)| known.name == rule);
    counts.fold([0; 3], |sum, (_, counts)| {
        [
            sum[0] + counts.dropped,
            sum[1] + counts.reset,
            sum[2] + counts.forged,
        ]
    })
}

/// A server outside to which resolvers inside turn; see `swarm::dns`.
pub(super) const ROOT_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)), 53);
