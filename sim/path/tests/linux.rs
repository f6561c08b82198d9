//! Simulated transfers beside those of Linux, cell by cell.

use phantom_path::fidelity::{Compared, Group, Measured, errors};
use phantom_path::tcp::Algorithm;

/// Repeats where there is loss: the median of 41 is off by enough to miss a bar by chance, in a group of twelve cells.
const REPEATS: u64 = 101;

fn compare(grid: &str, algorithm: Algorithm) -> Vec<Compared> {
    let grid = Measured::parse_all(grid).expect("a grid");
    grid.iter()
        .map(|measured| measured.compare(algorithm, REPEATS))
        .collect()
}

fn assert_within_bars(compared: &[Compared]) {
    for group in Group::ALL {
        let errors = errors(compared, group).expect("cells of each group");
        let mut worst: Vec<&Compared> = compared.iter().filter(|compared| group.holds(compared)).collect();
        worst.sort_by(|a, b| b.seconds.error().abs().total_cmp(&a.seconds.error().abs()));
        worst.truncate(4);
        assert!(
            errors.within(group.bars()),
            "{group}: {errors:.1?}, wanted {:?}; {worst:#?}",
            group.bars()
        );
    }
}

#[test]
fn transfers_take_as_long_as_linux_on_the_grid_that_the_model_was_made_beside() {
    assert_within_bars(&compare(include_str!("linux-cubic.txt"), Algorithm::Cubic));
}

/// Sizes, round trips, rates and policers that it was not made beside.
#[test]
fn transfers_take_as_long_as_linux_on_a_grid_that_the_model_had_not_seen() {
    assert_within_bars(&compare(include_str!("linux-cubic-fresh.txt"), Algorithm::Cubic));
}

/// The bars can be missed: with the other congestion control they are.
#[test]
fn the_comparison_tells_cubic_from_reno() {
    let compared = compare(include_str!("linux-cubic.txt"), Algorithm::Reno);
    let errors = errors(&compared, Group::SomeLoss).expect("lossy cells");
    assert!(!errors.within(Group::SomeLoss.bars()), "{errors:?}");
}
