//! What a plan needs to be played in real time on one machine: its hosts move to loopback addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use phantom_censor::engine::rule::Action;
use phantom_core::units::WallTime;

use crate::scenario::plan::Plan;

/// Ports below 1024 are for the superuser.
const LINK_PORT: u16 = 20_443;

/// The system's date.
#[expect(
    clippy::disallowed_methods,
    reason = "a world in real time has the system's date"
)]
pub(super) fn date() -> WallTime {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    WallTime::from_unix_secs(0) + since
}

/// What changes for a plan in real time.
pub(super) struct Moved {
    /// The port of links.
    pub(super) link_port: u16,
    /// What the censor answers instead of the addresses of the plan, and these: at a part of them are its own hosts, at the others
    /// nobody, and whoever judges the run knows the plan's.
    pub(super) forged: BTreeMap<IpAddr, IpAddr>,
}

/// Gives every host of `plan` an address of 127.0.0.0/8, forged answers ones at which no host of the plan is, and links another port.
///
/// The process's number is in the addresses, so that several can play at once.
pub(super) fn move_in(plan: &mut Plan) -> Moved {
    let mut forged = BTreeMap::new();
    let block = u8::try_from(64 + std::process::id() % 128).unwrap_or(64);
    let mut moved = BTreeMap::new();
    for (number, host) in (1_u32..).zip(&mut plan.hosts) {
        let [_, b, c, d] = number.to_be_bytes();
        let here = Ipv4Addr::new(127, block.wrapping_add(b % 64), c, d);
        moved.insert(host.address, here);
        host.address = here;
    }
    for rule in &mut plan.rules {
        rule.rule.each_set(&mut |set| {
            set.map(|address| match address {
                IpAddr::V4(ip) => moved.get(&ip).map_or(address, |here| IpAddr::V4(*here)),
                IpAddr::V6(_) => address,
            });
        });
        rule.rule.each_ports(&mut |ports| {
            if *ports == (super::world::LINK_PORT..=super::world::LINK_PORT) {
                *ports = LINK_PORT..=LINK_PORT;
            }
        });
        if let Action::Forge(forgery) = &mut rule.rule.action {
            for answer in &mut forgery.pool {
                // Hosts have the second byte from `block` on, 64 of them; forgeries one that is before those.
                let IpAddr::V4(ip) = *answer else { continue };
                let [_, b, c, d] = ip.octets();
                let nobody = Ipv4Addr::new(127, block.wrapping_sub(1 + b % 2), c, d).into();
                let planned = std::mem::replace(answer, nobody);
                forged.insert(nobody, planned);
            }
        }
    }
    Moved {
        link_port: LINK_PORT,
        forged,
    }
}
