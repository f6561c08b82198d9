//! Long-form CSV: one value a row, so that runs concatenate and any tool can pivot.
//!
//! Columns: run_key, scenario, scenario_hash, sim_version, seed, params.*, metric, unit, value, n, verdict. A metric's
//! statistics are rows of their own (`client.time_to_connect.p50`); invariants and claims have a verdict and no value.

use std::io::Write;

use crate::run::Run;

/// Writes `run` as long-form CSV.
///
/// # Errors
/// What `to` says.
pub fn write(run: &Run, to: impl Write) -> csv::Result<()> {
    let mut out = csv::Writer::from_writer(to);
    let result = &run.result;
    let mut header: Vec<String> = ["run_key", "scenario", "scenario_hash", "sim_version", "seed"]
        .map(str::to_owned)
        .to_vec();
    header.extend(result.params.keys().map(|name| format!("params.{name}")));
    header.extend(["metric", "unit", "value", "n", "verdict"].map(str::to_owned));
    out.write_record(&header)?;
    let mut head = vec![
        run.key.clone(),
        result.scenario.clone(),
        result.scenario_hash.clone(),
        result.version.clone(),
        result.seed.to_string(),
    ];
    head.extend(result.params.values().map(|value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }));
    let mut row = |metric: &str, unit: &str, value: &str, n: u64, verdict: &str| {
        let tail = [metric, unit, value, &n.to_string(), verdict].map(str::to_owned);
        out.write_record(head.iter().chain(&tail))
    };
    for (name, unit, value) in [
        ("run.peers", "1", result.peers as f64),
        ("run.sim_seconds", "s", result.sim_seconds),
        ("run.wall_seconds", "s", result.wall_seconds),
        ("run.cpu_seconds", "s", result.cpu_seconds),
        ("run.peak_rss", "B", result.peak_rss_bytes as f64),
        ("run.events", "1", result.events as f64),
    ] {
        row(name, unit, &value.to_string(), 1, "")?;
    }
    for (name, summary) in &result.metrics {
        let unit = run.units.get(name).map_or("", String::as_str);
        for (statistic, value) in [
            ("mean", summary.mean),
            ("p50", summary.p50),
            ("p90", summary.p90),
            ("p99", summary.p99),
            ("min", summary.min),
            ("max", summary.max),
        ] {
            row(
                &format!("{name}.{statistic}"),
                unit,
                &value.to_string(),
                summary.n,
                "",
            )?;
        }
    }
    for invariant in &result.invariants {
        row(
            &format!("invariant: {}", invariant.name),
            "",
            "",
            invariant.samples,
            &invariant.verdict,
        )?;
    }
    for claim in &result.claims {
        row(&format!("claim: {}", claim.name), "", "", claim.n, &claim.verdict)?;
    }
    row("run.verdict", "", "", 1, &result.verdict)?;
    out.flush()?;
    Ok(())
}
