//! One measurement: the ping workload on one engine, once, in a process of its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::on_stage::ping_on;
use super::ping::{Outcome, on_swarm};
use crate::cli::meter::{Meter, peak_rss_bytes};
use crate::swarm::Network;
use crate::witness::paused::PausedStage;
use crate::witness::turmoil::TurmoilStage;

/// One way, on every engine's fixed network.
const DELAY: Duration = Duration::from_millis(50);
const SEED: u64 = 1;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Ours, with a fixed delay between hosts: what the others have.
    Swarm,
    /// Ours, with distances, access links and jitter.
    SwarmFull,
    /// tokio with a paused clock.
    Paused,
    /// turmoil 0.7.
    Turmoil,
    /// madsim 0.2, in a build of its own.
    Madsim,
}

impl Engine {
    /// As the command line, the table and the JSON write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::SwarmFull => "swarm-full",
            Self::Paused => "paused",
            Self::Turmoil => "turmoil",
            Self::Madsim => "madsim",
        }
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// On what.
    pub engine: Engine,
    /// Hosts.
    pub peers: u32,
    /// Simulated seconds.
    pub seconds: u64,
    /// Peers listen and sleep: for memory.
    pub idle: bool,
}

/// What it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Messages that arrived.
    pub messages: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// CPU time of the thread, set-up and tear-down included.
    pub cpu_seconds: f64,
    /// The most memory that the process held.
    pub peak_rss_bytes: u64,
    /// Bytes of the workload's own futures.
    pub future_bytes: u64,
}

/// Runs `job`; `None`: this build has no such engine.
pub fn measure(job: Job) -> Option<Sample> {
    let Job {
        engine,
        peers,
        seconds,
        idle,
    } = job;
    let meter = Meter::start();
    let outcome = match engine {
        Engine::Swarm => on_swarm(Network::Fixed(DELAY), peers, SEED, seconds, idle).outcome,
        Engine::SwarmFull => on_swarm(Network::default(), peers, SEED, seconds, idle).outcome,
        Engine::Paused => ping_on::<PausedStage>(DELAY, peers, SEED, seconds, idle),
        Engine::Turmoil => ping_on::<TurmoilStage>(DELAY, peers, SEED, seconds, idle),
        Engine::Madsim => on_madsim(peers, seconds, idle)?,
    };
    Some(Sample {
        messages: outcome.messages,
        errors: outcome.errors,
        cpu_seconds: meter.cpu().as_secs_f64(),
        peak_rss_bytes: peak_rss_bytes(),
        future_bytes: outcome.future_bytes,
    })
}

#[cfg(madsim)]
fn on_madsim(peers: u32, seconds: u64, idle: bool) -> Option<Outcome> {
    use crate::witness::madsim::MadsimStage;
    Some(ping_on::<MadsimStage>(DELAY, peers, SEED, seconds, idle))
}

#[cfg(not(madsim))]
fn on_madsim(_: u32, _: u64, _: bool) -> Option<Outcome> {
    None
}
