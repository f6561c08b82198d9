//! Checks of access links.

use super::check::Checker;
use super::file::{Access, Bursts, Scenario};

/// Room for one full packet with its headers, without which nothing passes.
const QUEUE_MIN_BYTES: u64 = 1_600;
/// Beyond that a burst is an outage, for which there are phases of the censor.
const BURST_MAX: u32 = 10_000;

/// Every access link of a scenario.
pub(super) fn access(checker: &mut Checker, scenario: &Scenario) {
    let own = scenario.population.values();
    let own = own.filter_map(|population| population.access.as_ref());
    for access in own.chain([&scenario.topology.access]) {
        link(checker, access);
    }
}

fn link(checker: &mut Checker, access: &Access) {
    if access.queue.value.0.0 < QUEUE_MIN_BYTES {
        checker.wrong(
            access.queue.at,
            format!(
                "a queue of {} has no room for a packet; at least {QUEUE_MIN_BYTES} B",
                access.queue.value
            ),
        );
    }
    if let Some(Bursts { lost, length }) = &access.bursts {
        if lost.value.get() >= 1.0 || lost.value.get() <= 0.0 {
            checker.wrong(
                lost.at,
                format!(
                    "bursts take more than nothing and less than all, not {} %",
                    lost.value.get() * 100.0
                ),
            );
        }
        if !(1..=BURST_MAX).contains(&length.value) {
            checker.wrong(
                length.at,
                format!(
                    "a burst has 1 to {BURST_MAX} packets in the mean, not {}",
                    length.value
                ),
            );
        }
    }
}
