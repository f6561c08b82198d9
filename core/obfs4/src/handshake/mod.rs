//! The handshake: two messages that look like noise of random length.
//!
//! ```text
//! client: X' (32) | padding (77 to 8,128) | mark (16) | MAC (16)
//! server: Y' (32) | AUTH (32) | padding (0 to 8,051) | mark (16) | MAC (16), then the frame with the seed (45)
//! ```
//! X' and Y' are representatives. The mark is an HMAC of the representative and shows where the padding ends; the MAC is one
//! over everything before it and the hour. Their key is the bridge's public key and name, so only who has the bridge line can
//! make or recognise either: to anyone else a server never says a byte.
//!
//! The least padding makes a client's message as long as the server's shortest answer. The specification says 85 and 8,096;
//! obfs4proxy has 77 and 8,051, and so have we. Source: `handshake_ntor.go` of obfs4proxy 0.0.14; obfs4-spec.txt §4.

mod client;
mod server;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

use crate::elligator::REPRESENTATIVE_LEN;
use crate::ntor::{AUTH_LEN, NodeId, PublicKey};
use crate::packet::SEED_FRAME_LEN;

pub(crate) use client::ClientHandshake;
pub(crate) use server::ServerHandshake;

/// Bytes of either message, at most.
pub const HANDSHAKE_MAX: usize = 8192;

const MARK_LEN: usize = 16;
const MAC_LEN: usize = 16;
const CLIENT_MIN: usize = REPRESENTATIVE_LEN + MARK_LEN + MAC_LEN;
const SERVER_MIN: usize = REPRESENTATIVE_LEN + AUTH_LEN + MARK_LEN + MAC_LEN;
const CLIENT_PAD_MIN: usize = SERVER_MIN + SEED_FRAME_LEN - CLIENT_MIN;
const CLIENT_PAD_MAX: usize = HANDSHAKE_MAX - CLIENT_MIN;
const SERVER_PAD_MAX: usize = HANDSHAKE_MAX - (SERVER_MIN + SEED_FRAME_LEN);

/// Hours since the Unix epoch, by the host's wall clock. Client and server may be an hour apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochHour(pub u64);

impl EpochHour {
    /// The hour of a wall time in seconds since the Unix epoch.
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(seconds / 3600)
    }
}

/// Why a handshake failed. A client reports it; a server says nothing to the peer, whatever it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The mark did not come within the longest message.
    #[error(
        "no mark within {HANDSHAKE_MAX} bytes: the other end does not know this bridge's line, or is no obfs4"
    )]
    NoMark,
    /// The mark is there and the MAC after it is wrong.
    #[error(
        "the MAC is wrong: the message was changed on the way, or the clocks are more than an hour apart"
    )]
    BadMac,
    /// The message has been seen before.
    #[error("the message was sent before: someone replays it")]
    Replayed,
    /// The key exchange gives zero.
    #[error("the key exchange gives zero: the other end sent a point of small order")]
    NonContributory,
    /// Who answered does not hold the key of the bridge line.
    #[error("who answered does not hold the key of the bridge line")]
    WrongIdentity,
    /// Nothing complete in time.
    #[error("the handshake was not complete in time")]
    TimedOut,
}

impl EpochHour {
    /// The hours whose MACs a server accepts in this one.
    fn accepted(self) -> [Self; 3] {
        [self.0, self.0.wrapping_sub(1), self.0.wrapping_add(1)].map(Self)
    }
}

/// The HMAC that marks and MACs are made with.
#[derive(Clone)]
struct Authenticator(Hmac<Sha256>);

impl Authenticator {
    fn new(identity: &PublicKey, node: &NodeId) -> Self {
        let mut key = [0; 52];
        key[..32].copy_from_slice(&identity.0);
        key[32..].copy_from_slice(&node.0);
        Self(<Hmac<Sha256> as KeyInit>::new_from_slice(&key).expect("a key of any length"))
    }

    fn mark(&self, representative: &[u8; REPRESENTATIVE_LEN]) -> [u8; MARK_LEN] {
        self.tag([representative.as_slice()])
    }

    /// Over a message up to and with its mark.
    fn mac(&self, message: &[u8], hour: EpochHour) -> [u8; MAC_LEN] {
        self.tag([message, hour.0.to_string().as_bytes()])
    }

    /// HMAC-SHA256-128.
    fn tag<const N: usize>(&self, parts: [&[u8]; N]) -> [u8; 16] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let mut half = [0; 16];
        half.copy_from_slice(&whole[..16]);
        half
    }
}

/// The least that a client's message has.
#[cfg(fuzzing)]
pub const HELLO_MIN: usize = CLIENT_MIN + CLIENT_PAD_MIN;

/// Mark and MAC at the end of `message`, as who knows the line makes them.
#[cfg(fuzzing)]
pub(crate) fn mend(identity: &PublicKey, node: &NodeId, message: &mut [u8], hour: EpochHour) {
    let authenticator = Authenticator::new(identity, node);
    let mark = authenticator.mark(message.first_chunk().expect("a representative"));
    let (rest, mac) = message.split_at_mut(message.len() - MAC_LEN);
    let at = rest.len() - MARK_LEN;
    rest[at..].copy_from_slice(&mark);
    mac.copy_from_slice(&authenticator.mac(rest, hour));
}

#[cfg(test)]
mod tests;
