//! Playing a plan: real node and client programs on a stage, users who write and invite, a censor, an oracle, and the
//! observations that invariants are judged by.

mod access;
mod border;
mod cast;
mod ceremony;
mod disks;
pub mod emulate;
mod insider;
mod loopback;
mod observe;
mod on_stage;
mod on_swarm;
mod oracle;
mod times;
mod trap;
mod user;
mod world;

pub use on_stage::StagePlayer;
pub use on_swarm::SwarmPlayer;
