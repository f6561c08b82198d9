//! Doors for the fuzz target in `core/fuzz/`: what somebody needs who knows a bridge's line, or has done a handshake, and
//! means harm. Compiled with `--cfg fuzzing` only.

use rand_core::CryptoRng;

use crate::bridge::BridgeArgs;
use crate::frame::{Decoder, DirectionKey, Encoder};
use crate::handshake::{self, ClientHandshake, EpochHour, ServerHandshake};
use crate::identity::Identity;
use crate::ntor::LinkKeys;
use crate::packet::{self, Packet};
use crate::replay::ReplayFilter;
use crate::session::Now;

pub use crate::handshake::HELLO_MIN;

/// Bytes of a frame's contents, at most.
pub const CONTENTS_MAX: usize = crate::frame::CONTENTS_MAX;

/// Writes into the last 32 bytes of `message` the mark and the MAC that who knows the line would give it.
///
/// # Panics
/// Below 64 bytes: ours.
pub fn mend(bridge: &BridgeArgs, message: &mut [u8], hour: EpochHour) {
    handshake::mend(&bridge.identity, &bridge.node, message, hour);
}

/// A client that has said hello.
pub struct Caller(ClientHandshake);

impl Caller {
    /// It, and its hello.
    pub fn new(bridge: &BridgeArgs, hour: EpochHour, rng: &mut impl CryptoRng) -> (Self, Vec<u8>) {
        let (this, hello) = ClientHandshake::new(bridge.identity, bridge.node, hour, rng);
        (Self(this), hello)
    }

    /// Itself in the session that a bridge's good answer begins, and how much of that the hello was.
    ///
    /// # Panics
    /// The answer is not good: the bridge's mistake.
    pub fn finish(mut self, answer: &[u8]) -> (Peer, usize) {
        let greeted = self.0.receive(answer).expect("a good answer").expect("all of it");
        (
            Peer::new(&greeted.keys.to_server, &greeted.keys.to_client),
            greeted.taken,
        )
    }
}

/// One end of a session without any of its rules: seals whatever it is told to.
pub struct Peer {
    encoder: Encoder,
    decoder: Decoder,
}

impl Peer {
    fn new(sends: &DirectionKey, receives: &DirectionKey) -> Self {
        Self {
            encoder: Encoder::new(sends),
            decoder: Decoder::new(receives),
        }
    }

    /// A bridge's end, and its answer to a client's good `hello`, without a seed behind it.
    ///
    /// # Panics
    /// The hello is not good: the client's mistake.
    pub fn answer(identity: &Identity, hello: &[u8], now: Now, rng: &mut impl CryptoRng) -> (Self, Vec<u8>) {
        let mut replays = ReplayFilter::from_rng(rng);
        let mut server = ServerHandshake::new(identity, rng);
        let time = (now.since_start, now.hour);
        let accepted = server.receive(hello, time, identity, &mut replays, rng);
        let accepted = accepted.expect("a good hello").expect("all of it");
        let LinkKeys { to_server, to_client } = &accepted.keys;
        (Self::new(to_client, to_server), accepted.hello)
    }

    /// Appends to `wire` the frame of these contents, at most [`CONTENTS_MAX`] bytes.
    pub fn seal(&mut self, contents: &[u8], wire: &mut Vec<u8>) {
        let sealed = self.encoder.seal(&[contents], 0, wire);
        sealed.expect("a session of a few frames");
    }

    /// Opens what the other end sent and appends to `plain` what it carried; whether all of it was frames and packets.
    pub fn open(&mut self, mut wire: &[u8], plain: &mut Vec<u8>, rng: &mut impl CryptoRng) -> bool {
        loop {
            match self
                .decoder
                .next(&mut wire, rng)
                .map(|next| next.map(packet::decode))
            {
                Ok(Some(Ok(Packet::Payload(payload)))) => plain.extend_from_slice(payload),
                Ok(Some(Ok(Packet::Seed(_) | Packet::Ignored))) => {}
                Ok(None) => return !self.decoder.is_inside_frame(),
                Ok(Some(Err(_))) | Err(_) => return false,
            }
        }
    }
}
