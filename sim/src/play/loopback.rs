//! What a plan needs to be played in real time on one machine: its hosts move to loopback addresses.

use std::net::{IpAddr, Ipv4Addr};

use phantom_core::units::WallTime;

use crate::scenario::plan::{Plan, Targets};

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

/// Gives every host of `plan` an address of 127.0.0.0/8, and links another port, which is returned.
///
/// The process's number is in the addresses, so that several can play at once.
pub(super) fn move_in(plan: &mut Plan) -> u16 {
    let block = u8::try_from(64 + std::process::id() % 128).unwrap_or(64);
    let moved = |address: Ipv4Addr| {
        let [_, b, c, d] = address.octets();
        Ipv4Addr::new(127, block.wrapping_add(b % 64), c, d)
    };
    for host in &mut plan.hosts {
        host.address = moved(host.address);
    }
    for rule in &mut plan.rules {
        if let Some(Targets::Fixed(addresses)) = &mut rule.to {
            for address in addresses {
                if let IpAddr::V4(address) = address {
                    *address = moved(*address);
                }
            }
        }
        for port in rule
            .ports
            .iter_mut()
            .filter(|port| **port == super::world::LINK_PORT)
        {
            *port = LINK_PORT;
        }
    }
    LINK_PORT
}
