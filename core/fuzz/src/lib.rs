//! Fuzz targets for everything in `phantom-core` and its transports that reads bytes of strangers, as plain functions.
//!
//! Each takes any bytes and says whether anything in them was accepted; the first byte chooses among a target's formats.
//! What is asserted: nothing panics, what decodes encodes back to the same bytes where the format promises it, and the
//! bounds of a machine hold. Signatures and seals would stop a fuzzer at the door, so where a hostile *author* matters
//! (a node, a contact, a bridge) the bytes are signed or sealed here, as that author would.
//!
//! The crate is built with `--cfg fuzzing`, which opens a few doors (`link::fuzz` and `packet::fuzz` of core, `fuzz` of obfs4 and web).

mod dht;
mod directory;
mod invite;
mod ladder;
mod link;
mod mailbox;
mod message;
mod obfs4;
mod packet;
mod pluggable;
mod rendezvous;
pub mod seeds;
mod world;

pub use dht::{dht, dht_machines};
pub use directory::{authority, directory};
pub use invite::invite;
pub use ladder::ladder;
pub use link::{link, link_machines};
pub use mailbox::mailbox;
pub use message::{message, message_machines};
pub use obfs4::obfs4;
pub use packet::packet;
pub use pluggable::pluggable;
pub use rendezvous::rendezvous;

/// A target: bytes in, whether anything was accepted out.
pub type Target = fn(&[u8]) -> bool;

/// All targets by name.
pub const TARGETS: [(&str, Target); 15] = [
    ("link", link),
    ("link_machines", link_machines),
    ("packet", packet),
    ("mailbox", mailbox),
    ("message", message),
    ("message_machines", message_machines),
    ("directory", directory),
    ("authority", authority),
    ("dht", dht),
    ("dht_machines", dht_machines),
    ("rendezvous", rendezvous),
    ("invite", invite),
    ("ladder", ladder),
    ("obfs4", obfs4),
    ("pluggable", pluggable),
];

/// Whether `bytes` decode; if so, they must encode back to themselves.
fn canonical<T, E>(bytes: &[u8], decoded: Result<T, E>, encode: impl FnOnce(&T) -> Vec<u8>) -> bool {
    let Ok(value) = decoded else { return false };
    assert_eq!(encode(&value), bytes, "what decodes is canonical");
    true
}

/// XORs bytes of `r` (16-bit offset, then all that is left) into `bytes`; whether that changed anything.
fn overlay(bytes: &mut [u8], data: &[u8]) -> bool {
    let [high, low, rest @ ..] = data else {
        return false;
    };
    let at = usize::from(u16::from_be_bytes([*high, *low])) % bytes.len().max(1);
    bytes[at..].iter_mut().zip(rest).for_each(|(to, by)| *to ^= by);
    rest.iter().take(bytes.len() - at).any(|by| *by != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target whose seeds are refused at the door tests the door only.
    #[test]
    fn every_seed_is_accepted_by_its_target() {
        for (name, target) in TARGETS {
            let seeds = seeds::of(name);
            assert!(!seeds.is_empty(), "{name} has no seeds");
            let refused: Vec<usize> = (0..seeds.len()).filter(|n| !target(&seeds[*n])).collect();
            assert!(refused.is_empty(), "{name} refuses its seeds {refused:?}");
        }
    }
}
