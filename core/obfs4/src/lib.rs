//! obfs4, wire-compatible with obfs4proxy 0.0.14: a transport that looks like noise of random length and answers only who
//! knows the bridge's line.
//!
//! Bytes in, bytes out: nothing in here opens a socket, reads a clock or draws ambient randomness. A [`Session`] is one
//! connection, a [`Bridge`] accepts them, a [`BridgeLine`] says where one is. What it is not: it does not hide that the
//! traffic is like nothing known (a censor may block just that), nor how much is sent in all; and the stream that it
//! carries has no end that an attacker could not have made.
//!
//! Source: `doc/obfs4-spec.txt` and the Go code of obfs4proxy 0.0.14, whose every deviation from its specification is kept.

mod bridge;
mod dist;
mod drbg;
mod elligator;
mod field;
mod frame;
#[cfg(fuzzing)]
pub mod fuzz;
mod handshake;
mod hex;
mod identity;
mod ntor;
mod packet;
mod random;
mod replay;
mod session;
mod shape;

pub use bridge::{BridgeArgs, BridgeError, BridgeLine, IatMode};
pub use drbg::{SEED_LEN, Seed};
pub use frame::{FRAME_MAX, FrameError};
pub use handshake::{EpochHour, HANDSHAKE_MAX, HandshakeError};
pub use identity::{Identity, StateError};
pub use ntor::{NodeId, PublicKey, SecretKey};
pub use packet::{PAYLOAD_MAX, PacketError};
pub use replay::{REPLAY_MAX, REPLAY_TTL, ReplayFilter};
pub use session::{BURST_MAX, Bridge, CLIENT_LIMIT, Now, Output, SERVER_LIMIT, Session, SessionError};
