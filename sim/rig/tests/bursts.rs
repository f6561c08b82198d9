//! Simulated bursts beside those of Linux, which are stored: it works everywhere.

use phantom_path::tcp::Algorithm;
use phantom_rig::sharing::{self, SharedCompared, SharedMeasured, What};

const REPEATS: u64 = 41;
/// Of fifty medians those that err by more than the bar: what is known of it is said in docs/FIDELITY.md.
const MISSED_MAX: usize = 1;

fn compare(algorithm: Algorithm) -> Vec<SharedCompared> {
    let all = SharedMeasured::parse_all(include_str!("linux-bursts.txt")).expect("a grid");
    let cells: Vec<_> = all.iter().map(|measured| measured.cell.clone()).collect();
    assert_eq!(cells, sharing::bursts());
    all.iter()
        .flat_map(|measured| measured.compare_with(REPEATS, algorithm))
        .filter(|compared| compared.what != What::Again)
        .collect()
}

fn missed(compared: &[SharedCompared]) -> Vec<&SharedCompared> {
    compared.iter().filter(|compared| !compared.met()).collect()
}

#[test]
fn bursts_take_as_long_as_on_linux() {
    let compared = compare(Algorithm::Cubic);
    let missed = missed(&compared);
    assert!(missed.len() <= MISSED_MAX, "{missed:#?}");
    let mut errors: Vec<f64> = compared
        .iter()
        .map(|compared| compared.value.error().abs())
        .collect();
    errors.sort_by(f64::total_cmp);
    let median = errors[errors.len() / 2];
    assert!(median < 1.0, "median {median} %");
}

/// The bars can be missed: beside a kernel whose bursts took half as long again they are, in most cells.
#[test]
fn bursts_tell_a_slower_kernel_from_this_one() {
    let mut compared = compare(Algorithm::Cubic);
    for one in &mut compared {
        one.value.measured *= 1.5;
        one.value.interval = (one.value.interval.0 * 1.5, one.value.interval.1 * 1.5);
    }
    let missed = missed(&compared);
    assert!(
        missed.len() > compared.len() / 2,
        "{} of {}",
        missed.len(),
        compared.len()
    );
}
