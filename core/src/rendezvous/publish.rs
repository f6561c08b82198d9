//! How a bridge makes itself found: its descriptor, sealed per slot, into the DHT for the days around now. SPEC §7.7.

use std::time::Duration;

use super::bridge::BridgeSlots;
use super::cohort::Day;
use crate::dht::DhtClient;
use crate::dht::item::string_value;
use crate::directory::descriptor::BridgeDescriptor;
use crate::runtime::Runtime;
use crate::units::WallTime;

/// DHT nodes drop an item after about two hours; a bridge publishes twice as often.
pub const REPUBLISH: Duration = Duration::from_secs(3600);

/// What a round of publishing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Items that at least three nodes stored, enough for a reader's quorum.
    pub stored: u32,
    /// Items that fewer stored, or none.
    pub failed: u32,
}

/// Publishes `descriptor` once in every slot, for the days around `time`, one after the other: a bridge is in no hurry and should not be loud.
/// To be repeated every [`REPUBLISH`], and when the descriptor changes.
///
/// The sequence number is that time in seconds, or one more than the network shows, so that a bridge whose clock
/// stepped back is still the newest.
pub async fn publish<R: Runtime>(
    rt: &R,
    time: WallTime,
    client: &DhtClient<R>,
    slots: &BridgeSlots,
    descriptor: &BridgeDescriptor,
) -> Published {
    let mut rng = rt.rng("rendezvous seal");
    let mut published = Published::default();
    for writer in &slots.0 {
        for day in Day::around(time) {
            let sealed = writer.seal(&mut rng, day, descriptor);
            let sequence = i64::try_from(time.as_unix_secs()).unwrap_or(i64::MAX);
            let value = string_value(sealed.as_bytes());
            match client
                .put_mutable(&writer.signer(day), &day.salt(), sequence, &value)
                .await
            {
                Ok(report) if report.stored >= 3 => published.stored += 1,
                Ok(_) | Err(_) => published.failed += 1,
            }
        }
    }
    published
}
