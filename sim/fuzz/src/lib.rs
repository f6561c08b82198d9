//! Fuzz targets for everything in the testbed that reads what strangers wrote, as plain functions: captures, the bytes of flows, files of
//! censors and their scripts.
//!
//! Each takes any bytes and says whether anything in them was accepted. What is asserted: nothing panics, the same input has the same
//! outcome again, what is refused is refused at a place, and bounds hold.

mod capture;
mod censor_file;
mod classify;
mod packets;
mod script;
pub mod seeds;

pub use capture::capture;
pub use censor_file::censor_file;
pub use classify::classify;
pub use script::script;

/// A target: bytes in, whether anything was accepted out.
pub type Target = fn(&[u8]) -> bool;

/// All targets by name.
pub const TARGETS: [(&str, Target); 4] = [
    ("capture", capture),
    ("classify", classify),
    ("censor_file", censor_file),
    ("script", script),
];

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
