//! One transfer at a time on a link: cell by cell, judged in groups.

use std::io::Write;

use comfy_table::Table;
use phantom_path::fidelity::{Cell, Compared, Group, Measured, errors};
use phantom_path::tcp::Algorithm;
use phantom_rig::grid;
use phantom_rig::pool::Job;

use super::measuring::{Measurement, run, seed_of};
use super::{
    FidelityArgs, Grid, Results, SIMULATED, Stop, broken, columns, head, number, progress, read, table,
    verdict,
};

/// Transfers of a cell with losses.
const REPEATS: usize = 40;
/// Cells that are named as the worst.
const WORST: usize = 5;
const COLUMNS: &str =
    "bytes rtt_ms link_bits_per_second loss queue_bytes policer_bits_per_second : seconds of each repeat";

/// Measures or reads, simulates and compares.
pub(super) fn alone(args: &FidelityArgs, err: &mut dyn Write) -> Result<Results, Stop> {
    let measurement = if let Some(from) = &args.from {
        let all = Measured::parse_all(&read(from)?).map_err(|error| broken(from, error))?;
        if all.is_empty() {
            return Err(broken(from, "no measurement in it"));
        }
        Measurement::stored(all)
    } else {
        let cells = match args.grid {
            Grid::Main => grid::main(),
            Grid::Fresh => grid::fresh(args.seed, args.cells as usize),
            Grid::Quick | Grid::Sharing | Grid::Bursts => grid::quick(),
        };
        measure_alone(args, &cells, err)?
    };
    let bar = progress("simulated", measurement.all.len() as u64);
    let compared: Vec<Compared> = measurement
        .all
        .iter()
        .map(|measured| {
            bar.inc(1);
            measured.compare(Algorithm::Cubic, SIMULATED)
        })
        .collect();
    bar.finish_and_clear();
    let (groups, missed) = groups(&compared);
    let mut text = format!("{groups}\n");
    let mut worst: Vec<&Compared> = compared.iter().collect();
    worst.sort_by(|a, b| b.seconds.error().abs().total_cmp(&a.seconds.error().abs()));
    text.push_str("the worst cells (bytes rtt_ms bits_per_second loss queue_bytes policer):\n");
    for compared in worst.iter().take(WORST) {
        text.push_str(&format!(
            "  {}: {:+.1} %, {:.3} s measured ({:.3} to {:.3}), {:.3} s simulated\n",
            grid::line(&compared.cell),
            compared.seconds.error(),
            compared.seconds.measured,
            compared.seconds.interval.0,
            compared.seconds.interval.1,
            compared.seconds.simulated
        ));
    }
    text.push_str(&measurement.quality.told());
    Ok(Results {
        text,
        missed,
        failed: measurement.quality.failed > 0,
        measured: measurement
            .all
            .iter()
            .fold(head(args, COLUMNS), |mut text, measured| {
                text.push_str(&grid::written(measured));
                text.push('\n');
                text
            }),
        csv: csv(&compared, &measurement.late_ms),
    })
}

fn groups(compared: &[Compared]) -> (Table, bool) {
    let mut table = table(&["group", "cells", "error %: median / p90 / worst", "the bar", ""]);
    let mut missed = false;
    let bar = |bar: Option<f64>| bar.map_or_else(|| "-".to_owned(), |bar| bar.to_string());
    for group in Group::ALL {
        let [median, p90, worst] = group.bars().map(bar);
        let bars = format!("{median} / {p90} / {worst}");
        let Some(errors) = errors(compared, group) else {
            table.add_row([&group.to_string(), "0", "", &bars, "not measured"]);
            continue;
        };
        let met = errors.within(group.bars());
        missed |= !met;
        table.add_row([
            group.to_string(),
            errors.cells.to_string(),
            format!("{:.2} / {:.1} / {:.1}", errors.median, errors.p90, errors.worst),
            bars,
            verdict(met).to_owned(),
        ]);
    }
    (table, missed)
}

fn csv(compared: &[Compared], late_ms: &[f64]) -> String {
    let mut text = String::from(
        "group,bytes,rtt_ms,bits_per_second,loss,queue_bytes,policer_bits_per_second,hard,measured,interval_low,interval_high,\
         simulated,error_percent,certain_error_percent,late_max_ms\n",
    );
    for (compared, late_ms) in compared.iter().zip(late_ms) {
        let group = Group::ALL.into_iter().find(|group| group.holds(compared));
        let cell = grid::line(&compared.cell).replace(' ', ",");
        text.push_str(&format!(
            "{},{cell},{},{},{}\n",
            group.map_or_else(String::new, |group| group.to_string()),
            Group::Hard.holds(compared),
            columns(&compared.seconds),
            number(*late_ms),
        ));
    }
    text
}

/// How long the model says that a transfer takes: only the order and the load depend on it.
fn about(cell: &Cell) -> f64 {
    let (seconds, _) = cell.simulate(Algorithm::Cubic, 1);
    if seconds.is_finite() { seconds } else { 60.0 }
}

fn measure_alone(
    args: &FidelityArgs,
    cells: &[Cell],
    err: &mut dyn Write,
) -> Result<Measurement<Measured>, Stop> {
    let mut jobs = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let repeats = args.repeats.map_or_else(
            || grid::repeats(cell, REPEATS),
            |repeats| grid::repeats(cell, repeats as usize),
        );
        let seconds = about(cell);
        jobs.extend((0..repeats).map(|repeat| Job {
            what: (number, repeat),
            seconds,
            bits: 8 * cell.bytes,
        }));
    }
    let mut seconds = vec![Vec::new(); cells.len()];
    let (late_ms, quality) = run(
        args,
        cells.len(),
        jobs,
        |lane, &(cell, repeat)| {
            let sample = lane.transfer(&cells[cell], seed_of(args, cell, repeat))?;
            Ok((sample.seconds, sample.late, sample.tries))
        },
        |cell, took| seconds[cell].push(took),
        err,
    )?;
    let all = cells.iter().zip(seconds).zip(late_ms);
    let (all, late_ms) = all
        .filter(|((_, seconds), _)| !seconds.is_empty())
        .map(|((cell, mut seconds), late_ms)| {
            seconds.sort_by(f64::total_cmp);
            (Measured { cell: *cell, seconds }, late_ms)
        })
        .unzip();
    Ok(Measurement {
        all,
        late_ms,
        quality,
    })
}
