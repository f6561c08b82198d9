//! Which circumstances are measured.

use std::collections::BTreeSet;

use phantom_path::dice::Dice;
use phantom_path::fidelity::{Cell, Measured};

/// Losses of the grids, none left out.
const LOSSES: [f64; 2] = [0.005, 0.02];
/// A drawn cell that takes longer than this is drawn again: a grid is to be measured in minutes.
const SECONDS_MAX: f64 = 40.0;

/// The grid beside which the model was made: sizes, round trips, rates, losses, queues and policers by steps of about ten.
pub fn main() -> Vec<Cell> {
    const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
    const RTTS_MS: [u64; 3] = [10, 50, 150];
    let mut cells = Vec::new();
    for bytes in SIZES {
        for rtt_ms in RTTS_MS {
            for bits_per_second in [1_000_000, 10_000_000, 50_000_000] {
                let cell = Cell {
                    bytes,
                    rtt_ms,
                    bits_per_second,
                    loss: 0.0,
                    queue_bytes: tenth_of_a_second(bits_per_second),
                    policer_bits_per_second: 0,
                };
                cells.push(cell);
                cells.push(Cell {
                    queue_bytes: 65_536,
                    ..cell
                });
                cells.extend(LOSSES.map(|loss| Cell { loss, ..cell }));
            }
            for policer_bits_per_second in [128_000, 500_000] {
                // Eleven minutes for one transfer tell nothing that the smaller ones do not.
                if bytes == 10_000_000 && policer_bits_per_second == 128_000 {
                    continue;
                }
                cells.push(Cell {
                    bytes,
                    rtt_ms,
                    bits_per_second: 10_000_000,
                    loss: 0.0,
                    queue_bytes: tenth_of_a_second(10_000_000),
                    policer_bits_per_second,
                });
            }
        }
    }
    cells
}

/// Cells that are measured in seconds: whether everything works.
pub fn quick() -> Vec<Cell> {
    let cell = Cell {
        bytes: 100_000,
        rtt_ms: 20,
        bits_per_second: 10_000_000,
        loss: 0.0,
        queue_bytes: tenth_of_a_second(10_000_000),
        policer_bits_per_second: 0,
    };
    vec![
        cell,
        Cell {
            bytes: 1_000_000,
            ..cell
        },
        Cell { rtt_ms: 80, ..cell },
        Cell { loss: 0.005, ..cell },
        Cell { loss: 0.02, ..cell },
        Cell {
            policer_bits_per_second: 1_000_000,
            ..cell
        },
    ]
}

/// A grid that nothing can have been made beside: `each` cells without loss, as many with either loss and behind a policer,
/// drawn by `seed`. Sizes from 10 kB to 4 MB, round trips from 5 to 150 ms, rates from 1 to 50 Mbit/s, queues from 30 to
/// 150 ms of the rate, policers from 100 kbit/s to half of the rate; all evenly by their logarithm.
pub fn fresh(seed: u64, each: usize) -> Vec<Cell> {
    let mut dice = Dice::new(seed);
    let mut seen = BTreeSet::new();
    let mut cells = Vec::new();
    for kind in 0..4 {
        let mut left = each;
        while left > 0 {
            let cell = draw(&mut dice, kind);
            // No two cells alike: each repeat of a cell counts once.
            if least_seconds(&cell) <= SECONDS_MAX && seen.insert(line(&cell)) {
                cells.push(cell);
                left -= 1;
            }
        }
    }
    cells
}

/// How often a cell is measured, by how often one with losses is.
pub const fn repeats(cell: &Cell, lossy: usize) -> usize {
    let most = if cell.loss > 0.0 {
        lossy
    } else if cell.policer_bits_per_second > 0 {
        10
    } else {
        5
    };
    if most < lossy { most } else { lossy }
}

/// A line as [`Measured::parse_all`] reads it.
pub fn written(measured: &Measured) -> String {
    let seconds: Vec<String> = measured.seconds.iter().map(|s| format!("{s:.6}")).collect();
    format!("{} : {}", line(&measured.cell), seconds.join(" "))
}

/// A cell without measurements.
pub fn line(cell: &Cell) -> String {
    format!(
        "{} {} {} {} {} {}",
        cell.bytes,
        cell.rtt_ms,
        cell.bits_per_second,
        cell.loss,
        cell.queue_bytes,
        cell.policer_bits_per_second
    )
}

const fn tenth_of_a_second(bits_per_second: u64) -> u64 {
    bits_per_second / 80
}

/// Two significant digits of a number between two others.
fn between(dice: &mut Dice, low: f64, high: f64) -> u64 {
    let share = dice.below(1 << 32) as f64 / 4_294_967_296.0;
    let drawn = low * (high / low).powf(share);
    let unit = 10_f64.powf((drawn.log10().floor() - 1.0).max(0.0));
    ((drawn / unit).round() * unit) as u64
}

fn draw(dice: &mut Dice, kind: usize) -> Cell {
    let bits_per_second = between(dice, 1e6, 50e6);
    // A queue holds some packets at any rate.
    let queue_bytes = (bits_per_second * between(dice, 30.0, 150.0) / 8_000).max(6_000);
    let policer = between(dice, 100e3, bits_per_second as f64 / 2.0);
    Cell {
        bytes: between(dice, 10e3, 4e6),
        rtt_ms: between(dice, 5.0, 150.0),
        bits_per_second,
        loss: match kind {
            1 => LOSSES[0],
            2 => LOSSES[1],
            _ => 0.0,
        },
        queue_bytes,
        policer_bits_per_second: if kind == 3 { policer } else { 0 },
    }
}

/// By the rate alone.
fn least_seconds(cell: &Cell) -> f64 {
    let policer = match cell.policer_bits_per_second {
        0 => u64::MAX,
        rate => rate,
    };
    8.0 * cell.bytes as f64 / cell.bits_per_second.min(policer) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_grid_and_another_one_another() {
        let lines = |seed| fresh(seed, 20).iter().map(line).collect::<BTreeSet<_>>();
        assert_eq!(lines(7), lines(7));
        assert_eq!(lines(7).len(), 80);
        assert_eq!(lines(7).intersection(&lines(8)).count(), 0);
    }

    #[test]
    fn drawn_cells_lie_within_what_is_said() {
        for cell in fresh(3, 200) {
            assert!((10_000..=4_000_000).contains(&cell.bytes), "{cell:?}");
            assert!((5..=150).contains(&cell.rtt_ms), "{cell:?}");
            assert!(
                (1_000_000..=50_000_000).contains(&cell.bits_per_second),
                "{cell:?}"
            );
            assert!(
                cell.policer_bits_per_second <= cell.bits_per_second / 2 + 1_000_000,
                "{cell:?}"
            );
            assert!(least_seconds(&cell) <= SECONDS_MAX);
        }
    }

    #[test]
    fn the_main_grid_is_the_one_that_is_stored() {
        let stored = Measured::parse_all(include_str!("../../path/tests/linux-cubic.txt")).unwrap();
        let stored: BTreeSet<String> = stored.iter().map(|measured| line(&measured.cell)).collect();
        let main: BTreeSet<String> = main().iter().map(line).collect();
        let missing: Vec<_> = stored.difference(&main).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let new: Vec<_> = main.difference(&stored).collect();
        assert!(new.len() <= 3, "{new:?}");
    }

    #[test]
    fn what_is_written_is_read() {
        for cell in quick() {
            let measured = Measured {
                cell,
                seconds: vec![0.25, 1.5],
            };
            assert_eq!(Measured::parse_all(&written(&measured)).unwrap(), [measured]);
        }
    }

    #[test]
    fn only_what_is_drawn_is_repeated_often() {
        let lossless = quick()[0];
        let lossy = Cell {
            loss: 0.02,
            ..lossless
        };
        assert_eq!([repeats(&lossless, 40), repeats(&lossy, 40)], [5, 40]);
        assert_eq!([repeats(&lossless, 2), repeats(&lossy, 2)], [2, 2]);
    }
}
