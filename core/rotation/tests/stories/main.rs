//! The machine in a laboratory: stories over many seeds, each a claim about what a censor or a network does to a user.
//!
//! Figures: `cargo test -p phantom-rotation --release --test stories -- --nocapture`.

mod calm;
mod freeze;
mod lab;
mod properties;
mod race;
mod throttle;
mod transitions;

/// Seeds per story.
const SEEDS: u64 = 200;
