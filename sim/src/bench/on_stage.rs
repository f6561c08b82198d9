//! The ping workload on any stage: the witnesses beside swarm.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use phantom_core::units::Instant;

use super::ping::{Outcome, Tally, address, idle, peer};
use crate::stage::{Act, Delays, HostSpec, Stage, program};

/// Runs the workload with a fixed one-way delay for `seconds`, plus one in which the last round ends. With `idle_only`
/// the peers listen and sleep.
///
/// Of madsim and turmoil only the hosts' first region counts; no rules govern the hosts, so nothing is paid for them.
pub fn ping_on<S: Stage>(one_way: Duration, peers: u32, seed: u64, seconds: u64, idle_only: bool) -> Outcome {
    let mut stage = S::new(seed, Delays::uniform(one_way));
    let tally = Arc::new(Tally::default());
    for me in 0..peers {
        let id = stage.add_host(HostSpec::new("", address(me)));
        let tally = Arc::clone(&tally);
        stage.set_program(
            id,
            program(move |rt: S::Runtime| {
                let own = Arc::clone(&tally);
                // Boxed: whoever is idle should not pay for the other.
                let future: Pin<Box<dyn Future<Output = ()> + Send>> = if idle_only {
                    Box::pin(tally.size(idle(rt, me, seconds, own)))
                } else {
                    Box::pin(tally.size(peer(rt, me, peers, seed, seconds, own)))
                };
                future
            }),
        );
        stage.at(Instant::ZERO, Act::Start(id));
    }
    stage.run_until(Instant::ZERO + Duration::from_secs(seconds + 1));
    tally.outcome()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ping::on_swarm;
    use crate::swarm::Network;
    use crate::witness::paused::PausedStage;
    use crate::witness::turmoil::TurmoilStage;

    const DELAY: Duration = Duration::from_millis(50);

    /// Two executors that share no code agree on the time of every message.
    #[test]
    fn paused_tokio_and_swarm_agree_to_the_nanosecond() {
        for seed in [1, 2] {
            let swarm = on_swarm(Network::Fixed(DELAY), 30, seed, 5, false).outcome;
            let paused = ping_on::<PausedStage>(DELAY, 30, seed, 5, false);
            assert_eq!((paused.messages, paused.errors), (300, 0));
            assert_eq!(
                (swarm.messages, swarm.sum),
                (paused.messages, paused.sum),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn every_ping_is_answered_on_turmoil() {
        let run = || ping_on::<TurmoilStage>(DELAY, 10, 1, 5, false);
        let outcome = run();
        assert_eq!((outcome.messages, outcome.errors), (100, 0));
        assert_eq!(outcome, run());
    }

    #[cfg(madsim)]
    #[test]
    fn every_ping_is_answered_on_madsim() {
        let run = || ping_on::<crate::witness::madsim::MadsimStage>(DELAY, 10, 1, 5, false);
        let outcome = run();
        assert_eq!((outcome.messages, outcome.errors), (100, 0));
        assert_eq!(outcome, run());
    }
}
