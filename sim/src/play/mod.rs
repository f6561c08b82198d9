//! Playing a plan: real node and client programs on a stage, users who write and invite, a censor, an oracle, and the
//! observations that invariants are judged by.

mod border;
mod cast;
mod ceremony;
mod disks;
mod insider;
mod observe;
mod on_swarm;
mod oracle;
mod user;

pub use on_swarm::SwarmPlayer;
