//! When things happen before a scenario's time begins: the same on every back end.

use std::time::Duration;

use phantom_core::directory::document::Timing;
use phantom_core::units::{Instant, WallTime};

use crate::scenario::plan::{HostId, Plan, Role};

/// The date at which simulated worlds begin, or a little earlier: 2026-11-02 11:50 UTC. Far from midnight, since DHT
/// records are bound to days.
const WORLD_BEGINS: WallTime = WallTime::from_unix_secs(1_793_620_200);
/// Bridges need no longer after the first document to find their ways back and to publish.
const SETTLE_MAX: Duration = Duration::from_secs(90);
/// So many intervals are enough too: everybody retries within fractions of an interval.
const SETTLE_INTERVALS: u32 = 6;
/// From one start to the next, so that not everybody starts in one instant.
const START_GAP: Duration = Duration::from_millis(7);
/// The starts of the infrastructure are spread over this share of the interval: descriptors are handed in before the
/// first vote, which comes half an interval before the first document.
const STARTS_SHARE: u32 = 4;

/// How often documents and hop keys come. Production has an hour for both.
pub(super) const fn timing(plan: &Plan) -> Timing {
    Timing {
        interval: plan.document_interval,
        hop_period: Duration::from_secs(3_600),
    }
}

/// The date at which the simulated world of `plan` begins: intervals of documents begin then.
pub(super) fn world_begins(plan: &Plan) -> WallTime {
    let interval = plan.document_interval.as_secs().max(1);
    WallTime::from_unix_secs(WORLD_BEGINS.as_unix_secs() / interval * interval)
}

/// How long the infrastructure runs before the scenario's time begins, from the beginning of an interval on: until the
/// first document, and until the bridges can be found.
pub(super) fn warm_up(plan: &Plan) -> Duration {
    plan.document_interval + SETTLE_MAX.min(plan.document_interval * SETTLE_INTERVALS)
}

/// When every host starts, on the clock of a world in which the scenario's time begins at `begins`.
pub(super) fn starts(plan: &Plan, begins: Instant) -> Vec<Instant> {
    let spread = (plan.document_interval / STARTS_SHARE).min(Duration::from_secs(45));
    let mut early: Vec<HostId> = (0..plan.hosts.len() as HostId)
        .filter(|&host| !plan.hosts[host as usize].role.is_client())
        .collect();
    // Whoever is looked for first is there first: the DHT before the bridges that publish in it.
    early.sort_by_key(|&host| match plan.hosts[host as usize].role {
        Role::DhtRouter => 0,
        Role::Dht => 1,
        Role::Authority => 2,
        _ => 3,
    });
    let mut starts: Vec<Instant> = plan.hosts.iter().map(|host| begins + host.arrives).collect();
    let gap = START_GAP.min(spread / u32::try_from(early.len()).unwrap_or(u32::MAX).max(1));
    for (n, host) in early.into_iter().enumerate() {
        starts[host as usize] = Instant::ZERO + gap * u32::try_from(n).unwrap_or(u32::MAX);
    }
    starts
}
