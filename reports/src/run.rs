//! Reading the directory of a run, as `phantom-sim` leaves it under `store/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The version of `result.json` that is read.
pub const FORMAT: u32 = 1;

/// Why a directory cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It holds no result.
    #[error(
        "{dir} is not the directory of a run: it has no {file}; a run is store/<scenario>/<key>, the last one store/latest"
    )]
    NotARun {
        /// The directory.
        dir: String,
        /// What is missing.
        file: &'static str,
    },
    /// The system refuses.
    #[error("cannot read {path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is damaged or of another version: {why}")]
    Damaged {
        /// The file.
        path: String,
        /// How.
        why: String,
    },
}

/// `result.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct RunResult {
    /// Its version.
    pub format: u32,
    /// The scenario.
    pub scenario: String,
    /// The resolved scenario's hash.
    pub scenario_hash: String,
    /// The simulator's version.
    pub version: String,
    /// The commit it was built from.
    pub commit: String,
    /// The back end.
    pub runtime: String,
    /// The seed.
    pub seed: u64,
    /// The parameters.
    pub params: BTreeMap<String, serde_json::Value>,
    /// Peers.
    pub peers: u64,
    /// Simulated time.
    pub sim_seconds: f64,
    /// Real time.
    pub wall_seconds: f64,
    /// CPU time.
    pub cpu_seconds: f64,
    /// The most memory held.
    pub peak_rss_bytes: u64,
    /// Events processed.
    pub events: u64,
    /// `pass` or `fail`.
    pub verdict: String,
    /// Per invariant.
    pub invariants: Vec<Invariant>,
    /// Per claim.
    pub claims: Vec<Claim>,
    /// Metrics by name.
    pub metrics: BTreeMap<String, Summary>,
}

/// An invariant's result.
#[derive(Clone, Debug, Deserialize)]
pub struct Invariant {
    /// Its name.
    pub name: String,
    /// `pass`, `fail` or `na`.
    pub verdict: String,
    /// The value that decided.
    pub observed: String,
    /// How many samples.
    pub samples: u64,
}

/// A claim's result.
#[derive(Clone, Debug, Deserialize)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// `proven`, `refuted`, `undecided` or `na`.
    pub verdict: String,
    /// What was observed.
    pub observed: String,
    /// How many runs.
    pub n: u64,
}

/// A metric over a run.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Summary {
    /// How many samples.
    pub n: u64,
    /// Their mean.
    pub mean: f64,
    /// Their median.
    pub p50: f64,
    /// 90 % are at most this.
    pub p90: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// A row of `series.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Moment {
    /// Simulated time.
    pub seconds: f64,
    /// Clients that have arrived and run.
    pub clients: u64,
    /// Those connected.
    pub connected: u64,
    /// The share of them.
    pub share: f64,
    /// Those with an open path, if an oracle judged.
    pub open_paths: Option<u64>,
}

/// A rule of the censor and its time.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Phase {
    /// The rule.
    pub name: String,
    /// From.
    pub from_seconds: f64,
    /// Until.
    pub until_seconds: f64,
}

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Violation {
    /// The invariant.
    pub invariant: String,
    /// When.
    pub at_seconds: f64,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its key: the name of its directory.
    pub key: String,
    /// Its result.
    pub result: RunResult,
    /// Units of its metrics.
    pub units: BTreeMap<String, String>,
    /// The series over time.
    pub series: Vec<Moment>,
    /// The censor's rules.
    pub phases: Vec<Phase>,
    /// What was violated.
    pub violations: Vec<Violation>,
}

impl Run {
    /// Reads the run in `dir`.
    ///
    /// # Errors
    /// It is no run, or a damaged one, or of another version.
    pub fn read(dir: &Path) -> Result<Self, ReadError> {
        let text = text(dir, "result.json")?;
        let path = dir.join("result.json");
        // The version first: a result of another version is better named than half understood.
        let value: serde_json::Value = parse(&path, &text)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            other => {
                let got = other.map_or("none".to_owned(), |format| format.to_string());
                return Err(damaged(&path, &format!("format {FORMAT} wanted, {got} found")));
            }
        }
        let result: RunResult = parse(&path, &text)?;
        let units = value["metrics"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, metric)| {
                (
                    name.clone(),
                    metric["unit"].as_str().unwrap_or_default().to_owned(),
                )
            })
            .collect();
        let series_path = dir.join("series.csv");
        let series_text = self::text(dir, "series.csv")?;
        let series = csv::Reader::from_reader(series_text.as_bytes())
            .deserialize()
            .collect::<Result<Vec<Moment>, _>>()
            .map_err(|error| damaged(&series_path, &error))?;
        let read = |name| self::text(dir, name);
        // `latest` is a link: the key is the name of what it leads to.
        let real = dir.canonicalize().unwrap_or_else(|_| PathBuf::from(dir));
        Ok(Self {
            key: real
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            result,
            units,
            series,
            phases: parse(&dir.join("phases.json"), &read("phases.json")?)?,
            violations: parse(&dir.join("violations.json"), &read("violations.json")?)?,
        })
    }
}

fn text(dir: &Path, file: &'static str) -> Result<String, ReadError> {
    let path = dir.join(file);
    std::fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => ReadError::NotARun {
            dir: dir.display().to_string(),
            file,
        },
        _ => ReadError::Io {
            path: path.display().to_string(),
            error,
        },
    })
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ReadError> {
    serde_json::from_str(text).map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> ReadError {
    ReadError::Damaged {
        path: path.display().to_string(),
        why: why.to_string(),
    }
}
