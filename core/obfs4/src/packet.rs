//! The packet: what a frame contains.
//!
//! ```text
//! type (1) | length of the payload (2, big-endian) | payload | zeros to any length
//! ```
//! Type 0 is payload of the stream (none at all in a frame that is only padding), type 1 the server's seed for distributions.
//! Others are ignored. Spec: obfs4-spec.txt §5.

use thiserror::Error;

use crate::drbg::{SEED_LEN, Seed};
use crate::frame::{CONTENTS_MAX, FRAME_OVERHEAD};

/// Bytes of the stream that a frame carries at most.
pub const PAYLOAD_MAX: usize = CONTENTS_MAX - HEADER_LEN;
/// Bytes that a frame and its packet header add to a payload.
pub(crate) const PACKET_OVERHEAD: usize = FRAME_OVERHEAD + HEADER_LEN;
/// Bytes of the frame that carries a seed.
pub(crate) const SEED_FRAME_LEN: usize = PACKET_OVERHEAD + SEED_LEN;

const HEADER_LEN: usize = 3;
const TYPE_PAYLOAD: u8 = 0;
const TYPE_SEED: u8 = 1;

/// An authenticated frame whose contents are no packet: a broken peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Shorter than a header.
    #[error("a packet of {got} bytes (the peer's fault), wanted at least 3")]
    TooShort {
        /// Its length.
        got: usize,
    },
    /// The payload's length is beyond the packet's end.
    #[error("a packet says {said} bytes of payload and has room for {room} (the peer's fault)")]
    Overlong {
        /// The length that it gives.
        said: usize,
        /// What follows its header.
        room: usize,
    },
}

/// What a packet is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    Payload(&'a [u8]),
    Seed(Seed),
    /// Of a type, or a seed of a length, that this version does not know.
    Ignored,
}

/// The header of a payload packet.
pub(crate) fn payload_header(len: usize) -> [u8; HEADER_LEN] {
    header(TYPE_PAYLOAD, len)
}

/// The header of a seed packet.
pub(crate) fn seed_header() -> [u8; HEADER_LEN] {
    header(TYPE_SEED, SEED_LEN)
}

fn header(kind: u8, len: usize) -> [u8; HEADER_LEN] {
    let [high, low] = u16::try_from(len).expect("payloads fit a frame").to_be_bytes();
    [kind, high, low]
}

/// Reads the contents of a frame.
///
/// # Errors
/// [`PacketError`] when the lengths do not fit.
pub(crate) fn decode(contents: &[u8]) -> Result<Packet<'_>, PacketError> {
    let (&[kind, high, low], rest) = contents
        .split_first_chunk()
        .ok_or(PacketError::TooShort { got: contents.len() })?;
    let said = usize::from(u16::from_be_bytes([high, low]));
    let payload = rest.get(..said).ok_or(PacketError::Overlong {
        said,
        room: rest.len(),
    })?;
    Ok(match kind {
        TYPE_PAYLOAD => Packet::Payload(payload),
        TYPE_SEED => {
            <[u8; SEED_LEN]>::try_from(payload).map_or(Packet::Ignored, |s| Packet::Seed(Seed::from_bytes(s)))
        }
        _ => Packet::Ignored,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sizes_are_those_of_obfs4proxy() {
        assert_eq!((PAYLOAD_MAX, PACKET_OVERHEAD, SEED_FRAME_LEN), (1427, 21, 45));
    }

    #[test]
    fn unknown_types_and_odd_seeds_are_ignored() {
        assert_eq!(decode(&[2, 0, 1, 9]), Ok(Packet::Ignored));
        assert_eq!(decode(&[1, 0, 1, 9]), Ok(Packet::Ignored));
        assert_eq!(decode(&[0, 0]), Err(PacketError::TooShort { got: 2 }));
        assert_eq!(
            decode(&[0, 0, 2, 9]),
            Err(PacketError::Overlong { said: 2, room: 1 })
        );
    }

    proptest! {
        #[test]
        fn packets_read_back_whatever_the_padding(
            payload in prop::collection::vec(any::<u8>(), 0..=PAYLOAD_MAX), zeros in 0_usize..100, seed: [u8; SEED_LEN],
        ) {
            let padding = vec![0; zeros];
            let contents = [&payload_header(payload.len()), payload.as_slice(), &padding].concat();
            prop_assert_eq!(decode(&contents), Ok(Packet::Payload(&payload)));
            let contents = [seed_header().as_slice(), &seed, &padding].concat();
            prop_assert_eq!(decode(&contents), Ok(Packet::Seed(Seed::from_bytes(seed))));
        }
    }
}
