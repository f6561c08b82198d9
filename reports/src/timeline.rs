//! One picture of a run: the share of clients connected over time, the censor's phases as labelled bands below it, and
//! violations as numbered marks.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::run::{Moment, Run};

const WIDTH: u32 = 1_100;
const LEFT: u32 = 190;
const RIGHT: u32 = 30;
const TITLE: u32 = 62;
const CHART: u32 = 330;
const BAND: u32 = 24;
const NOTE: u32 = 20;
/// Marks of one invariant are one; more invariants than this are only counted.
const MARKS: usize = 12;
/// Points drawn at most: twice the pixels there are.
const POINTS: usize = 1_760;

const LINE: RGBColor = RGBColor(24, 92, 156);
const OPEN: RGBColor = RGBColor(150, 150, 150);
const PHASE: RGBColor = RGBColor(214, 138, 48);
const TOTAL: RGBColor = RGBColor(250, 232, 206);
const MARK: RGBColor = RGBColor(190, 24, 40);
const INK: RGBColor = RGBColor(40, 40, 40);

/// Why a picture cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the time line cannot be drawn: {0}")]
pub struct DrawError(String);

fn failed<E: std::error::Error>(error: E) -> DrawError {
    DrawError(error.to_string())
}

/// The picture of `run`, as SVG.
///
/// # Errors
/// The run has no time to draw.
pub fn svg(run: &Run) -> Result<String, DrawError> {
    let end = run.result.sim_seconds;
    if !end.is_finite() || end <= 0.0 {
        return Err(DrawError(format!("the run lasted {end} s")));
    }
    let bands = run.phases.len() as u32;
    let notes = run.violations.len().min(MARKS + 1) as u32;
    let height = TITLE + CHART + 34 + bands * BAND + 16 + notes * NOTE + 12;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        title(&root, run)?;
        chart(&root, run, end)?;
        phases(&root, run, end)?;
        notes_below(&root, run, TITLE + CHART + 34 + bands * BAND + 16)?;
        root.present().map_err(failed)?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn font(size: u32, color: &RGBColor) -> TextStyle<'_> {
    ("sans-serif", size).into_font().color(color)
}

fn put(area: &Area<'_>, text: &str, x: i32, y: i32, style: &TextStyle<'_>) -> Result<(), DrawError> {
    area.draw(&Text::new(text.to_owned(), (x, y), style.clone()))
        .map_err(failed)
}

fn title(area: &Area<'_>, run: &Run) -> Result<(), DrawError> {
    let result = &run.result;
    put(area, &result.scenario, 24, 14, &font(22, &INK))?;
    let params: Vec<String> = result
        .params
        .iter()
        .map(|(name, value)| {
            format!(
                "{name}={}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            )
        })
        .collect();
    let line = format!(
        "seed {}, {}, on {}, run {}",
        result.seed,
        params.join(", "),
        result.runtime,
        run.key
    );
    put(area, &line, 24, 40, &font(13, &INK))?;
    let color = if result.verdict == "pass" { &INK } else { &MARK };
    let style = font(18, color).pos(Pos::new(HPos::Right, VPos::Top));
    put(
        area,
        &result.verdict.to_uppercase(),
        (WIDTH - RIGHT) as i32,
        16,
        &style,
    )
}

/// At most [`POINTS`] of the series. Within each part the lowest and the highest are kept, so that no dip is lost.
fn thin(series: &[Moment]) -> Vec<Moment> {
    let size = series.len().div_ceil(POINTS / 2).max(1);
    if size <= 2 {
        return series.to_vec();
    }
    let mut kept = Vec::new();
    for part in series.chunks(size) {
        let low = part.iter().min_by(|a, b| a.share.total_cmp(&b.share));
        let high = part.iter().max_by(|a, b| a.share.total_cmp(&b.share));
        let mut both: Vec<Moment> = low.into_iter().chain(high).copied().collect();
        both.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        kept.extend(both);
    }
    kept
}

/// Minutes on long axes, seconds on short ones.
fn unit(end: f64) -> (f64, &'static str) {
    if end > 7_200.0 {
        (3_600.0, "h")
    } else if end > 120.0 {
        (60.0, "min")
    } else {
        (1.0, "s")
    }
}

fn x_of(seconds: f64, end: f64) -> i32 {
    let width = f64::from(WIDTH - LEFT - RIGHT);
    (f64::from(LEFT) + (seconds / end).clamp(0.0, 1.0) * width).round() as i32
}

fn chart(area: &Area<'_>, run: &Run, end: f64) -> Result<(), DrawError> {
    let (per, name) = unit(end);
    let frame = area.clone().shrink((0, TITLE), (WIDTH, CHART + 34));
    let mut chart = ChartBuilder::on(&frame)
        .x_label_area_size(34)
        .y_label_area_size(LEFT)
        .margin_right(RIGHT)
        .margin_top(18)
        .build_cartesian_2d(0.0..end / per, 0.0..100.0)
        .map_err(failed)?;
    // What does not act all the time is what a reader looks for in the curve.
    for phase in run
        .phases
        .iter()
        .filter(|phase| phase.until_seconds - phase.from_seconds < end * 0.5)
    {
        let corners = [
            (phase.from_seconds / per, 0.0),
            (phase.until_seconds / per, 100.0),
        ];
        chart
            .draw_series(std::iter::once(Rectangle::new(corners, TOTAL.filled())))
            .map_err(failed)?;
    }
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(RGBColor(120, 120, 120))
        .x_desc(format!("simulated time ({name})"))
        .x_label_style(font(13, &INK))
        .y_label_style(font(13, &INK))
        .y_labels(6)
        .y_label_formatter(&|share| format!("{share:.0} %"))
        .x_label_formatter(&|at| {
            if (at - at.round()).abs() < 1e-6 {
                format!("{at:.0}")
            } else {
                format!("{at:.1}")
            }
        })
        .draw()
        .map_err(failed)?;
    let series = thin(&run.series);
    let seen = || series.iter().filter(|moment| moment.clients > 0);
    let open: Vec<(f64, f64)> = seen()
        .filter_map(|moment| {
            Some((
                moment.seconds / per,
                moment.open_paths? as f64 * 100.0 / moment.clients as f64,
            ))
        })
        .collect();
    if !open.is_empty() {
        chart
            .draw_series(DashedLineSeries::new(open, 4, 4, OPEN.stroke_width(1)))
            .map_err(failed)?;
    }
    let share = seen().map(|moment| (moment.seconds / per, moment.share * 100.0));
    chart
        .draw_series(LineSeries::new(share, LINE.stroke_width(2)))
        .map_err(failed)?;
    legend(area)?;
    for (number, violation) in run.violations.iter().take(MARKS).enumerate() {
        let x = x_of(violation.at_seconds, end);
        let (top, bottom) = ((TITLE + 18) as i32, (TITLE + CHART) as i32);
        area.draw(&PathElement::new(
            vec![(x, top), (x, bottom)],
            MARK.mix(0.6).stroke_width(1),
        ))
        .map_err(failed)?;
        // Marks at the same time stand beside each other.
        let same = run.violations[..number]
            .iter()
            .filter(|other| (x_of(other.at_seconds, end) - x).abs() < 18)
            .count();
        let x = x - 19 * same as i32;
        area.draw(&Circle::new((x, top), 9, MARK.filled()))
            .map_err(failed)?;
        let style = font(12, &WHITE).pos(Pos::new(HPos::Center, VPos::Center));
        put(area, &(number + 1).to_string(), x, top, &style)?;
    }
    Ok(())
}

fn legend(area: &Area<'_>) -> Result<(), DrawError> {
    let style = font(13, &INK).pos(Pos::new(HPos::Left, VPos::Center));
    for (row, (text, color)) in [("clients connected", LINE), ("with an open path", OPEN)]
        .into_iter()
        .enumerate()
    {
        let y = (TITLE + 40 + row as u32 * 22) as i32;
        let width = if row == 0 { 2 } else { 1 };
        area.draw(&PathElement::new(
            vec![(12, y), (36, y)],
            color.stroke_width(width),
        ))
        .map_err(failed)?;
        put(area, text, 42, y, &style)?;
    }
    Ok(())
}

fn phases(area: &Area<'_>, run: &Run, end: f64) -> Result<(), DrawError> {
    let style = font(13, &INK).pos(Pos::new(HPos::Right, VPos::Center));
    for (row, phase) in run.phases.iter().enumerate() {
        let top = (TITLE + CHART + 34 + row as u32 * BAND) as i32;
        let middle = top + BAND as i32 / 2;
        put(area, &phase.name, LEFT as i32 - 12, middle, &style)?;
        let rail = vec![(x_of(0.0, end), middle), (x_of(end, end), middle)];
        area.draw(&PathElement::new(rail, RGBColor(225, 225, 225)))
            .map_err(failed)?;
        let (from, until) = (x_of(phase.from_seconds, end), x_of(phase.until_seconds, end));
        let bar = [(from, top + 4), (until.max(from + 2), top + BAND as i32 - 4)];
        area.draw(&Rectangle::new(bar, PHASE.filled())).map_err(failed)?;
    }
    Ok(())
}

fn notes_below(area: &Area<'_>, run: &Run, top: u32) -> Result<(), DrawError> {
    for (number, violation) in run.violations.iter().take(MARKS).enumerate() {
        let line = format!(
            "{}  at {:.1} s: {}",
            number + 1,
            violation.at_seconds,
            violation.invariant
        );
        put(
            area,
            &line,
            LEFT as i32,
            (top + number as u32 * NOTE) as i32,
            &font(13, &MARK),
        )?;
    }
    if run.violations.len() > MARKS {
        let line = format!("and {} more", run.violations.len() - MARKS);
        put(
            area,
            &line,
            LEFT as i32,
            (top + MARKS as u32 * NOTE) as i32,
            &font(13, &MARK),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_dips() {
        let series: Vec<Moment> = (0..100_000)
            .map(|i| Moment {
                seconds: f64::from(i),
                clients: 10,
                connected: 9,
                share: if i == 54_321 { 0.1 } else { 0.9 },
                open_paths: None,
            })
            .collect();
        let thinned = thin(&series);
        assert!(thinned.len() <= POINTS && thinned.iter().any(|moment| moment.share < 0.2));
        assert!(thinned.is_sorted_by(|a, b| a.seconds <= b.seconds));
    }
}
