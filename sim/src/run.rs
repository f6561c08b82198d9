//! From a plan to a result: the one trait by which a plan is played, and what is kept of a run.

use phantom_core::units::{Instant, WallTime};
use std::sync::Arc;
use thiserror::Error;

use crate::capture::SharedCapture;
use crate::check::observe::Sink;
use crate::host::record::{Checkpoint, Detail};
use crate::loopback::LoopbackStage;
use crate::play::{StagePlayer, SwarmPlayer};
use crate::scenario::metric::Sense;
use crate::scenario::plan::Plan;
use crate::witness::paused::PausedStage;
use crate::witness::turmoil::TurmoilStage;

/// Raised by every commit that changes any digest: runs of different numbers are not the same run.
pub const BEHAVIOUR_VERSION: u32 = 17;

/// Plays plans on one back end.
pub trait Player: Sync {
    /// What this back end can show; checks that need more are N/A.
    fn senses(&self) -> &[Sense];

    /// Whether the same plan gives the same run.
    fn repeats(&self) -> bool;

    /// The true date at which the scenario's time begins in the world of `plan`. In real time this is in the near
    /// future, and the next world that is played begins then.
    fn epoch(&self, plan: &Plan) -> WallTime;

    /// Plays `plan` (its seed is in it) from start to end.
    ///
    /// Everything observed goes to `sink` in order of time, with a [`crate::check::observe::Seen::Tick`] each simulated
    /// second: invariants, series, events on disk and the progress line all feed on it.
    ///
    /// # Errors
    /// The run did not come to its end; never that a promise was broken.
    fn play(&self, plan: &Arc<Plan>, sink: &mut dyn Sink) -> Result<RunOutput, RunError>;
}

/// What a run leaves besides its observations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOutput {
    /// When it ended.
    pub end: Instant,
    /// Events that the engine processed.
    pub events: u64,
    /// Segments of streams with data that were sent; 0 on a back end that has no segments.
    pub segments: u64,
    /// The digest of the whole trace, in hex.
    pub trace_digest: String,
    /// The rolling digest after each simulated second: two runs that differ name the first second at which they do, and
    /// with [`Detail::PerPeer`] the first peer.
    pub checkpoints: Vec<Checkpoint>,
}

/// How a plan is played, apart from what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Draws the order of wakes of one instant from this; `None`: the order in which they were caused.
    pub shuffle: Option<u64>,
    /// How much the checkpoints keep.
    pub detail: Detail,
    /// Where to write what crosses the border.
    pub capture: Option<SharedCapture>,
}

/// Why a run has no result. Exit code 3, but for [`RunError::OtherBuild`] and [`RunError::Unable`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunError {
    /// This program holds no code for it.
    #[error(
        "the runtime '{runtime}' is not built in: this program can check scenarios, but not play them on it"
    )]
    NotBuiltIn {
        /// The runtime.
        runtime: String,
    },
    /// It needs a program built another way. Exit code 2.
    #[error("the runtime '{runtime}' needs a build of its own: {how}")]
    OtherBuild {
        /// The runtime.
        runtime: String,
        /// How to build it.
        how: String,
    },
    /// The runtime cannot do what is asked for; said before anything is played. Exit code 2.
    #[error("{0}")]
    Unable(String),
    /// The scenario's step limit.
    #[error("the step limit of {limit} events was reached at {at}")]
    StepLimit {
        /// The limit.
        limit: u64,
        /// Simulated time by then.
        at: Instant,
    },
    /// Anything else: out of disk, a panic of a program.
    #[error("{0}")]
    Failed(String),
}

/// Madsim takes the place of tokio by a cfg, for the whole build.
#[cfg(not(madsim))]
const MADSIM_BUILD: &str =
    "RUSTFLAGS=\"--cfg madsim\" cargo build --release -p phantom-sim --target-dir target/madsim";

/// The player for `runtime`, which plays in this manner.
///
/// # Errors
/// This build has none, or none that plays so.
pub fn player(runtime: &str, manner: Manner) -> Result<Box<dyn Player>, RunError> {
    let Manner {
        shuffle,
        detail,
        capture,
    } = manner;
    if shuffle.is_some() && runtime != "swarm" {
        return Err(RunError::Unable(format!(
            "the runtime '{runtime}' has a scheduler of its own: only swarm shuffles the wakes of one instant"
        )));
    }
    if capture.is_some() && runtime != "swarm" {
        return Err(RunError::Unable(format!(
            "the runtime '{runtime}' has no packets of its own to capture: wanted swarm"
        )));
    }
    match runtime {
        "swarm" => Ok(Box::new(SwarmPlayer {
            shuffle,
            detail,
            capture,
        })),
        "paused" => Ok(Box::new(StagePlayer::<PausedStage>::new(detail))),
        "turmoil" => Ok(Box::new(StagePlayer::<TurmoilStage>::new(detail))),
        "tokio" => Ok(Box::new(StagePlayer::<LoopbackStage>::new(detail))),
        #[cfg(madsim)]
        "madsim" => Ok(Box::new(StagePlayer::<crate::witness::madsim::MadsimStage>::new(
            detail,
        ))),
        #[cfg(not(madsim))]
        "madsim" => Err(RunError::OtherBuild {
            runtime: runtime.to_owned(),
            how: MADSIM_BUILD.to_owned(),
        }),
        other => Err(RunError::NotBuiltIn {
            runtime: other.to_owned(),
        }),
    }
}
