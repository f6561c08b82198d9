//! One picture of a comparison with the kernel: each cell's simulated median over its measured one, both axes logarithmic,
//! coloured by group, with the line on which both are the same.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Deserialize;

const SIZE: (u32, u32) = (900, 780);
const TOP: i32 = 62;
const INK: RGBColor = RGBColor(40, 40, 40);
const SAME: RGBColor = RGBColor(150, 150, 150);
/// Told apart by those who see few colours too (Okabe and Ito 2008).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

/// A row of `fidelity.csv`, as far as it is drawn.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Row {
    /// What it is judged with.
    pub group: String,
    /// The measured median.
    pub measured: f64,
    /// Its interval's lower bound.
    pub interval_low: f64,
    /// And the upper one.
    pub interval_high: f64,
    /// The simulated median.
    pub simulated: f64,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum ScatterError {
    /// The file cannot be read, or a row is not as it should be: the message names its line.
    #[error("reading fidelity.csv: {0}")]
    Csv(#[from] csv::Error),
    /// Nothing to draw.
    #[error("fidelity.csv has no row whose medians are both above zero")]
    Empty,
    /// The drawing failed.
    #[error("the scatter cannot be drawn: {0}")]
    Draw(String),
}

fn failed<E: std::error::Error>(error: E) -> ScatterError {
    ScatterError::Draw(error.to_string())
}

/// Reads `fidelity.csv`.
///
/// # Errors
/// The first row that is not as it should be.
pub fn read(from: impl std::io::Read) -> Result<Vec<Row>, ScatterError> {
    let rows = csv::Reader::from_reader(from)
        .into_deserialize()
        .collect::<Result<_, csv::Error>>();
    Ok(rows?)
}

/// The picture of these rows, as SVG. A logarithm has no place for what is zero or endless: such rows are only counted.
///
/// # Errors
/// There is no row to draw.
pub fn svg(rows: &[Row], title: &str) -> Result<String, ScatterError> {
    let drawn: Vec<&Row> = rows
        .iter()
        .filter(|row| {
            [row.measured, row.simulated]
                .iter()
                .all(|v| v.is_finite() && *v > 0.0)
        })
        .collect();
    let values = || drawn.iter().flat_map(|row| [row.measured, row.simulated]);
    let low = values().fold(f64::INFINITY, f64::min) / 1.3;
    let high = values().fold(0.0, f64::max) * 1.3;
    if drawn.is_empty() {
        return Err(ScatterError::Empty);
    }
    let mut groups: Vec<&str> = Vec::new();
    for row in &drawn {
        if !groups.contains(&row.group.as_str()) {
            groups.push(&row.group);
        }
    }
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let left_out = rows.len() - drawn.len();
        let line = if left_out == 0 {
            format!("{} medians, bars: 95 % of resampled measurements", drawn.len())
        } else {
            format!("{} medians, {left_out} more that have no logarithm", drawn.len())
        };
        for (line, y, size) in [(title, 14, 20), (line.as_str(), 40, 13)] {
            put(&root, line, (24, y), &font(size, &INK))?;
        }
        let frame = root.clone().shrink((0, TOP), (SIZE.0, SIZE.1 - TOP as u32));
        let mut chart = ChartBuilder::on(&frame)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .margin_left(10)
            .margin_right(24)
            .margin_bottom(8)
            .build_cartesian_2d((low..high).log_scale(), (low..high).log_scale())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(228, 228, 228))
            .axis_style(RGBColor(120, 120, 120))
            .x_desc("measured on Linux (s)")
            .y_desc("simulated (s)")
            .label_style(font(13, &INK))
            .x_label_formatter(&|value| format!("{value}"))
            .y_label_formatter(&|value| format!("{value}"))
            .draw()
            .map_err(failed)?;
        chart
            .draw_series(LineSeries::new([(low, low), (high, high)], SAME.stroke_width(1)))
            .map_err(failed)?;
        for row in &drawn {
            let color = color(&groups, &row.group);
            let within = |value: f64| value.clamp(low, high);
            let bar = vec![
                (within(row.interval_low), row.simulated),
                (within(row.interval_high), row.simulated),
            ];
            chart
                .draw_series([PathElement::new(bar, color.mix(0.5).stroke_width(1))])
                .map_err(failed)?;
            let dot = Circle::new((row.measured, row.simulated), 4, color.mix(0.8).filled());
            chart.draw_series([dot]).map_err(failed)?;
        }
        legend(&root, &groups)?;
        root.present().map_err(failed)?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn font(size: u32, color: &RGBColor) -> TextStyle<'_> {
    ("sans-serif", size).into_font().color(color)
}

fn put(area: &Area<'_>, text: &str, at: (i32, i32), style: &TextStyle<'_>) -> Result<(), ScatterError> {
    area.draw(&Text::new(text.to_owned(), at, style.clone()))
        .map_err(failed)
}

fn color(groups: &[&str], group: &str) -> RGBColor {
    let place = groups.iter().position(|other| *other == group);
    COLORS[place.unwrap_or_default() % COLORS.len()]
}

fn legend(area: &Area<'_>, groups: &[&str]) -> Result<(), ScatterError> {
    let style = font(13, &INK).pos(Pos::new(HPos::Left, VPos::Center));
    for (row, group) in groups.iter().enumerate() {
        let y = TOP + 24 + row as i32 * 20;
        area.draw(&Circle::new((92, y), 5, color(groups, group).filled()))
            .map_err(failed)?;
        put(area, group, (104, y), &style)?;
    }
    let y = TOP + 24 + groups.len() as i32 * 20;
    area.draw(&PathElement::new(vec![(84, y), (98, y)], SAME.stroke_width(1)))
        .map_err(failed)?;
    put(area, "the same", (104, y), &style)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "group,measured,interval_low,interval_high,simulated,late_max_ms\n";

    #[test]
    fn every_cell_is_a_dot_and_every_group_has_its_colour() {
        let text =
            format!("{HEAD}no loss,0.1,0.1,0.1,0.11,\npoliced,60.5,60,61,59.0,2.5\nno loss,1,1,1,1,0.1\n");
        let rows = read(text.as_bytes()).unwrap();
        let svg = svg(&rows, "main, seed 1").unwrap();
        // Two more in the legend.
        assert_eq!(svg.matches("<circle").count(), 5);
        for text in ["no loss", "policed", "main, seed 1", "3 medians"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let error = read(format!("{HEAD}no loss,0.1,0.1,0.1,much,\n").as_bytes()).unwrap_err();
        assert!(error.to_string().contains("line: 2"), "{error}");
        let endless = read(format!("{HEAD}no loss,0.1,0.1,0.1,inf,\n").as_bytes()).unwrap();
        assert!(matches!(svg(&endless, ""), Err(ScatterError::Empty)));
        let both = [
            endless[0].clone(),
            Row {
                simulated: 0.1,
                ..endless[0].clone()
            },
        ];
        assert!(svg(&both, "").unwrap().contains("1 more that have no logarithm"));
    }
}
