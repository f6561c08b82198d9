//! The conformance suite's harness on any stage.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use phantom_core::runtime::conformance::Harness;
use phantom_core::units::Instant;
use phantom_sim::host::PeerId;
use phantom_sim::stage::{Act, Delays, HostSpec, Stage, program};

/// A world on stage `S`, whose sleeps end at most `GRAIN_MS` too late, with a delay of `ONE_WAY_MS` between hosts.
pub(crate) struct OnStage<S, const GRAIN_MS: u64, const ONE_WAY_MS: u64> {
    stage: S,
    addresses: Vec<IpAddr>,
    now: Instant,
}

impl<S: Stage, const GRAIN_MS: u64, const ONE_WAY_MS: u64> Harness for OnStage<S, GRAIN_MS, ONE_WAY_MS> {
    type Runtime = S::Runtime;
    const GRAIN: Duration = Duration::from_millis(GRAIN_MS);
    const ONE_WAY: Duration = Duration::from_millis(ONE_WAY_MS);

    fn new(hosts: usize) -> Self {
        // Tests run side by side; in real time they must not meet, neither in this process nor in another.
        static WORLDS: AtomicU8 = AtomicU8::new(0);
        let (world, process) = (
            WORLDS.fetch_add(1, Ordering::Relaxed),
            std::process::id() % 199 + 1,
        );
        let mut stage = S::new(7, Delays::uniform(Self::ONE_WAY));
        let simulated = stage.abilities().simulated_time;
        let mut addresses = Vec::new();
        for host in 0..hosts as u8 {
            // Turmoil takes 127.0.0.0/8 for the host itself.
            let address = if simulated {
                [10, 0, 0, host + 1]
            } else {
                [127, process as u8, world, host + 1]
            };
            addresses.push(address.into());
            stage.add_host(HostSpec::new(format!("host-{host}"), address.into()));
        }
        Self {
            stage,
            addresses,
            now: Instant::ZERO,
        }
    }

    fn address(&self, host: usize) -> IpAddr {
        self.addresses[host]
    }

    fn name(&mut self, name: &str, addresses: Vec<IpAddr>) {
        self.stage
            .at(Instant::ZERO, Act::SetName(name.to_owned(), addresses));
    }

    fn program<F, Fut>(&mut self, host: usize, function: F)
    where
        F: Fn(S::Runtime) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.stage.set_program(PeerId(host as u32), program(function));
    }

    fn start(&mut self, at: Duration, host: usize) {
        self.stage.at(Instant::ZERO + at, Act::Start(PeerId(host as u32)));
    }

    fn crash(&mut self, at: Duration, host: usize) {
        self.stage.at(Instant::ZERO + at, Act::Crash(PeerId(host as u32)));
    }

    fn run(&mut self, time: Duration) {
        self.now += time;
        self.stage.run_until(self.now);
    }
}
