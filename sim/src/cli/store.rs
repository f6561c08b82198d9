//! Results on disk: `store/<scenario>/<run key>/`, and `store/latest`. A run that failed leaves its events and the reason
//! in `<run key>.failed/`.
//!
//! | file | what |
//! |---|---|
//! | `result.json` | the object that `--json` prints |
//! | `scenario.toml` | the resolved scenario: loads and plays again by itself |
//! | `series.csv` | per simulated second: clients, connected, share, open paths |
//! | `phases.json` | the censor's rules and their times |
//! | `violations.json` | what was violated, when, whom it befell |
//! | `events.jsonl` | every observation but the most frequent kinds |

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use indexmap::IndexMap;
use phantom_core::event::Event;
use serde::{Deserialize, Serialize};

use super::Stop;
use crate::check::claims::ClaimResult;
use crate::check::judge::{InvariantResult, Judgement, Summary, Violation};
use crate::check::observe::{Observation, Seen};
use crate::run::BEHAVIOUR_VERSION;
use crate::scenario::load::Loaded;
use crate::scenario::params::ParamValue;
use crate::scenario::plan::Plan;
use crate::scratch::Scratch;

/// The version of `result.json`.
pub const RESULT_FORMAT: u32 = 1;

/// One run's result: what `--json` prints and `result.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResult {
    /// The version of this object.
    pub format: u32,
    /// The scenario's name.
    pub scenario: String,
    /// BLAKE3 of the resolved scenario.
    pub scenario_hash: String,
    /// The program's version.
    pub version: String,
    /// The commit that the program was built from.
    pub commit: String,
    /// The back end.
    pub runtime: String,
    /// The seed.
    pub seed: u64,
    /// What the order of wakes of one instant was drawn from, if it was drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shuffle: Option<u64>,
    /// The parameters' values.
    pub params: IndexMap<String, ParamValue>,
    /// Peers, the extra populations left out.
    pub peers: u64,
    /// Simulated time.
    pub sim_seconds: f64,
    /// Real time.
    pub wall_seconds: f64,
    /// CPU time.
    pub cpu_seconds: f64,
    /// What one X25519 costs in this run, in microseconds of CPU time: divide by it to compare CPU times of machines.
    /// Measured for `--json` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x25519_us: Option<f64>,
    /// The most memory the process held.
    pub peak_rss_bytes: u64,
    /// Events that the engine processed.
    pub events: u64,
    /// Segments of TCP streams with data that were sent, those sent again as well; 0 on back ends that have none.
    #[serde(default)]
    pub segments: u64,
    /// The digest of the trace.
    pub trace_digest: String,
    /// A script of the censor asks a model: on another machine the digest may be another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_model: bool,
    /// `pass` or `fail`.
    pub verdict: String,
    /// Per invariant.
    pub invariants: Vec<InvariantResult>,
    /// Per claim, over this run alone.
    pub claims: Vec<ClaimResult>,
    /// What was violated, when, and whom it befell: at most ten clients each, with what they tried and saw.
    pub violations: Vec<Violation>,
    /// Metrics by name.
    pub metrics: IndexMap<String, Summary>,
}

/// A rule's time, for pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The rule.
    pub name: String,
    /// From, in simulated seconds.
    pub from_seconds: f64,
    /// Until.
    pub until_seconds: f64,
}

/// The key of a run: whoever has the same key has the same trace.
pub fn run_key(scenario_hash: &str, runtime: &str, seed: u64, shuffle: Option<u64>) -> String {
    let mut text = format!("{scenario_hash}\n{runtime}\n{BEHAVIOUR_VERSION}\n{seed}\n");
    if let Some(shuffle) = shuffle {
        text.push_str(&format!("shuffle {shuffle}\n"));
    }
    let key = blake3::derive_key("phantom-net 2026 run key v1", text.as_bytes());
    key[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the run of `key` is kept.
pub fn run_dir(out: &Path, scenario: &str, key: &str) -> PathBuf {
    out.join(scenario).join(key)
}

/// A run's directory while it is written: a hidden sibling that takes its place when it is complete, so that what is found
/// there is of one run. Dropped, or when the program is interrupted, nothing of it is left.
pub struct Draft {
    scratch: Scratch,
    dir: PathBuf,
}

impl Draft {
    /// What will be `dir`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn begin(dir: PathBuf) -> Result<Self, Stop> {
        static DRAFTS: AtomicU64 = AtomicU64::new(0);
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let hidden = dir.with_file_name(format!(".{name}.{}-{number}", std::process::id()));
        let scratch =
            Scratch::make(hidden.clone()).map_err(Stop::disk(format!("making {}", hidden.display())))?;
        Ok(Self { scratch, dir })
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// All is written: puts it in its place, which is returned.
    ///
    /// # Errors
    /// What the file system says.
    pub fn complete(self) -> Result<PathBuf, Stop> {
        self.scratch
            .keep(&self.dir)
            .map_err(Stop::disk(format!("writing {}", self.dir.display())))?;
        Ok(self.dir)
    }

    /// The run failed for this reason: keeps what there is of it beside its place, under the name that is returned.
    ///
    /// # Errors
    /// What the file system says.
    pub fn fail(self, why: &str) -> Result<PathBuf, Stop> {
        let file = self.path().join("failure.txt");
        std::fs::write(&file, format!("{why}\n"))
            .map_err(Stop::disk(format!("writing {}", file.display())))?;
        let mut failed = self.dir.into_os_string();
        failed.push(".failed");
        let failed = PathBuf::from(failed);
        self.scratch
            .keep(&failed)
            .map_err(Stop::disk(format!("writing {}", failed.display())))?;
        Ok(failed)
    }
}

/// Writes observations as lines of JSON. The first error is kept and told at the end: a run is not torn apart by it.
pub struct EventLog {
    path: PathBuf,
    file: BufWriter<File>,
    error: Option<std::io::Error>,
}

impl EventLog {
    /// A log in `dir`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(dir: &Path) -> Result<Self, Stop> {
        let path = dir.join("events.jsonl");
        let file = File::create(&path).map_err(Stop::disk(format!("writing {}", path.display())))?;
        Ok(Self {
            path,
            file: BufWriter::new(file),
            error: None,
        })
    }

    /// Writes one, unless it is of a kind that comes with every packet.
    pub fn observe(&mut self, observation: &Observation) {
        let frequent = matches!(
            observation.seen,
            Seen::Tick { .. }
                | Seen::Searched { .. }
                | Seen::Event(Event::RoundTrip | Event::PacketForwarded)
        );
        if frequent || self.error.is_some() {
            return;
        }
        let written = serde_json::to_writer(&mut self.file, observation).map_err(std::io::Error::from);
        self.error = written.and_then(|()| self.file.write_all(b"\n")).err();
    }

    /// Ends the log.
    ///
    /// # Errors
    /// The first thing that went wrong with it.
    pub fn finish(mut self) -> Result<(), Stop> {
        let flushed = self.file.flush();
        self.error
            .map_or(flushed, Err)
            .map_err(Stop::disk(format!("writing {}", self.path.display())))
    }
}

/// Writes everything but the events of a run into `dir`.
///
/// # Errors
/// What the file system says.
pub fn write(
    dir: &Path,
    loaded: &Loaded,
    plan: &Plan,
    result: &RunResult,
    judgement: &Judgement,
) -> Result<(), Stop> {
    let put = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(Stop::disk(format!("writing {}", path.display())))
    };
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Stop::Run(crate::run::RunError::Failed(format!(
            "{what} does not serialise: {error}"
        )))
    };
    let json = |value: serde_json::Result<String>| value.map_err(|error| failed("the result", &error));
    let mut scenario = loaded.scenario.clone();
    scenario.run.seed = plan.seed;
    put(
        "scenario.toml",
        toml::to_string(&scenario).map_err(|error| failed("the scenario", &error))?,
    )?;
    put("result.json", json(serde_json::to_string_pretty(result))?)?;
    put(
        "violations.json",
        json(serde_json::to_string_pretty(&judgement.violations))?,
    )?;
    let phases: Vec<Phase> = plan
        .rules
        .iter()
        .flat_map(|rule| {
            rule.phases.iter().map(|(from, until)| Phase {
                name: rule.name.clone(),
                from_seconds: from.as_secs_f64(),
                until_seconds: until.as_secs_f64(),
            })
        })
        .collect();
    put("phases.json", json(serde_json::to_string_pretty(&phases))?)?;
    let mut series = String::from("seconds,clients,connected,share,open_paths\n");
    for moment in &judgement.series {
        let open = moment.open.map_or(String::new(), |open| open.to_string());
        series.push_str(&format!(
            "{},{},{},{:.6},{open}\n",
            moment.at.as_secs_f64(),
            moment.clients,
            moment.connected,
            moment.share()
        ));
    }
    put("series.csv", series)
}

/// Points `latest` at `dir`.
///
/// # Errors
/// What the file system says.
pub fn link_latest(out: &Path, dir: &Path) -> Result<(), Stop> {
    let latest = out.join("latest");
    let target = dir.strip_prefix(out).unwrap_or(dir);
    let next = out.join(format!(".latest.{}", std::process::id()));
    let _ = std::fs::remove_file(&next);
    std::os::unix::fs::symlink(target, &next)
        .and_then(|()| std::fs::rename(&next, &latest))
        .map_err(Stop::disk(format!("writing {}", latest.display())))
}
