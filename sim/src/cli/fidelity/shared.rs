//! Several transfers on a link, or some that write in bursts: times and shares, by the rank of flows with the same plan, and times of
//! bursts.

use std::io::Write;

use phantom_rig::pool::Job;
use phantom_rig::sharing::{BAR, SharedCell, SharedCompared, SharedMeasured, What};

use super::measuring::{Measurement, run, seed_of};
use super::{
    FidelityArgs, Results, SIMULATED, Stop, broken, columns, head, number, progress, read, table, verdict,
};

/// Transfers of a cell of several: chance decides who is the fastest even without losses, and in some cells there are two ways to be it.
/// Medians of 20 repeats, measured twice, differed by 24 %.
pub(super) const SHARING_REPEATS: usize = 40;
/// Transfers of a cell of one that writes in bursts.
pub(super) const BURSTS_REPEATS: usize = 20;
const COLUMNS: &str = "rtt_ms link_bits_per_second loss queue_bytes bytes[*burst_bytes*every_ms]@start_ms[~within_ms][/policer_bits_per_second[/policer_bytes]] of each flow : seconds=share[=retransmits=burst_seconds,...] of each flow";

/// Measures or reads, simulates and compares.
pub(super) fn shared(
    args: &FidelityArgs,
    cells: &[SharedCell],
    repeats: usize,
    err: &mut dyn Write,
) -> Result<Results, Stop> {
    let measurement = if let Some(from) = &args.from {
        let all = SharedMeasured::parse_all(&read(from)?).map_err(|error| broken(from, error))?;
        if all.is_empty() {
            return Err(broken(from, "no measurement in it"));
        }
        Measurement::stored(all)
    } else {
        measure_shared(args, cells, repeats, err)?
    };
    let bar = progress("simulated", measurement.all.len() as u64);
    let mut rows = table(&[
        "cell",
        "flows",
        "what",
        "which",
        "measured",
        "95 %",
        "simulated",
        "error %",
        "",
    ]);
    let mut csv = String::from(
        "rtt_ms,bits_per_second,loss,queue_bytes,flows,group,which,measured,interval_low,interval_high,simulated,error_percent,\
         certain_error_percent,late_max_ms\n",
    );
    let mut all: Vec<SharedCompared> = Vec::new();
    for (measured, late_ms) in measurement.all.iter().zip(&measurement.late_ms) {
        let cell = link(&measured.cell);
        for (nth, compared) in measured.compare(SIMULATED).into_iter().enumerate() {
            rows.add_row([
                if nth == 0 {
                    cell.replace(' ', " / ")
                } else {
                    String::new()
                },
                compared.flows.clone(),
                compared.what.to_string(),
                compared.rank.to_string(),
                format!("{:.3}", compared.value.measured),
                format!(
                    "{:.3} to {:.3}",
                    compared.value.interval.0, compared.value.interval.1
                ),
                format!("{:.3}", compared.value.simulated),
                format!("{:+.1}", compared.value.error()),
                verdict(compared.met()).to_owned(),
            ]);
            csv.push_str(&format!(
                "{},{},{},{},{},{}\n",
                cell.replace(' ', ","),
                compared.flows,
                compared.what,
                compared.rank,
                columns(&compared.value),
                number(*late_ms),
            ));
            all.push(compared);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut text = format!("{rows}\n");
    let mut missed = false;
    for what in [What::Seconds, What::Share, What::Burst, What::BurstP90] {
        let of: Vec<&SharedCompared> = all.iter().filter(|compared| compared.what == what).collect();
        if of.is_empty() {
            continue;
        }
        let misses = of.iter().filter(|compared| !compared.met()).count();
        missed |= misses > 0;
        let mut errors: Vec<f64> = of.iter().map(|compared| compared.value.error().abs()).collect();
        errors.sort_by(f64::total_cmp);
        let at = |share: f64| errors[((errors.len() - 1) as f64 * share).round() as usize];
        text.push_str(&format!(
            "{what}: {} medians, error {:.1} / {:.1} / {:.1} % (median / p90 / worst), over {BAR} % beyond the interval: {misses}, {}\n",
            of.len(),
            at(0.5),
            at(0.9),
            at(1.0),
            verdict(misses == 0)
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
            .fold(head(args, COLUMNS), |text, measured| {
                text + measured.written().as_str()
            }),
        csv,
    })
}

/// A cell without its flows.
fn link(cell: &SharedCell) -> String {
    format!(
        "{} {} {} {}",
        cell.rtt_ms, cell.bits_per_second, cell.loss, cell.queue_bytes
    )
}

fn measure_shared(
    args: &FidelityArgs,
    cells: &[SharedCell],
    repeats: usize,
    err: &mut dyn Write,
) -> Result<Measurement<SharedMeasured>, Stop> {
    let repeats = args.repeats.map_or(repeats, |repeats| repeats as usize);
    let mut jobs = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let ends = cell.simulate(1).unwrap_or_default();
        let ends = ends.iter().zip(&cell.flows);
        let seconds = ends
            .map(|(sample, flow)| sample.seconds + (flow.start_ms + flow.within_ms) as f64 / 1e3)
            .fold(1.0, f64::max);
        jobs.extend((0..repeats).map(|repeat| Job {
            what: (number, repeat),
            seconds,
            bits: 8 * cell.bytes(),
        }));
    }
    let mut kept = vec![Vec::new(); cells.len()];
    let (late_ms, quality) = run(
        args,
        cells.len(),
        jobs,
        |lane, &(cell, repeat)| {
            let seed = seed_of(args, cell, repeat);
            let samples = lane.share(&cells[cell].plan(seed), seed)?;
            Ok((samples.flows, samples.late, samples.tries))
        },
        |cell, repeat| kept[cell].push(repeat),
        err,
    )?;
    let all = cells.iter().zip(kept).zip(late_ms);
    let (all, late_ms) = all
        .filter(|((_, repeats), _)| !repeats.is_empty())
        .map(|((cell, repeats), late_ms)| {
            let cell = cell.clone();
            (SharedMeasured { cell, repeats }, late_ms)
        })
        .unzip();
    Ok(Measurement {
        all,
        late_ms,
        quality,
    })
}
