//! The frame: the one size in which everything after the handshake travels. Spec: SPEC §2.4.
//!
//! 1,072 bytes on the wire, because four of them carry a small packet (SPEC §3.1) and 32 a bulk one with less than 5 %
//! lost to headers and padding, a ping or an acknowledgement costs no more than one, and one fits a TCP segment on any
//! path. Handshake messages have the same length, so an observer sees only how many such units pass, and when.

use crate::crypto::aead::TAG_LEN;
use crate::wire::{DecodeError, Reader};

use super::LinkError;

/// Bytes of a frame, and of each handshake message, on the wire.
pub const FRAME_LEN: usize = 1072;
/// Bytes of a frame before encryption.
pub(crate) const PLAIN_LEN: usize = FRAME_LEN - TAG_LEN;
const HEADER_LEN: usize = 8 + 8 + 8 + 2;
/// Bytes of the message stream that a frame carries at most.
pub(crate) const DATA_MAX: usize = PLAIN_LEN - HEADER_LEN;
/// Frames under one key; then that direction's key moves on (Noise §4.2, REKEY).
pub(crate) const REKEY_EVERY: u64 = 1024;

/// What a frame says besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Header {
    /// How much of the stream towards us the program has taken: an acknowledgement, and permission to send on.
    pub(crate) consumed: u64,
    /// Asks for a frame with this number as `pong`; 0 asks nothing.
    pub(crate) ping: u64,
    /// The newest ping that was received since the last frame; 0 answers nothing.
    pub(crate) pong: u64,
}

/// A frame before encryption: header, data, zeros.
pub(crate) struct Plain(pub(crate) [u8; PLAIN_LEN]);

impl Plain {
    /// An empty frame.
    pub(crate) const fn new() -> Self {
        Self([0; PLAIN_LEN])
    }

    /// Where the data goes.
    pub(crate) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.0[HEADER_LEN..]
    }

    /// Writes the header of a frame with `len` bytes of data.
    pub(crate) fn set_header(&mut self, header: Header, len: usize) {
        debug_assert!(len <= DATA_MAX);
        let len = u16::try_from(len).expect("data of a frame is shorter than 64 KiB");
        self.0[..8].copy_from_slice(&header.consumed.to_be_bytes());
        self.0[8..16].copy_from_slice(&header.ping.to_be_bytes());
        self.0[16..24].copy_from_slice(&header.pong.to_be_bytes());
        self.0[24..26].copy_from_slice(&len.to_be_bytes());
    }

    /// Reads a frame: its header and data.
    ///
    /// # Errors
    /// A length that does not fit, or padding that is not zero.
    pub(crate) fn decode(&self) -> Result<(Header, &[u8]), DecodeError> {
        let mut r = Reader::new(&self.0);
        let header = Header {
            consumed: r.u64()?,
            ping: r.u64()?,
            pong: r.u64()?,
        };
        let data = r.bytes("frame data", DATA_MAX)?;
        zeros(r.rest())?;
        Ok((header, data))
    }
}

/// Refuses padding that is not zero, which would be a second form of the same frame and a place to hide bytes in.
pub(crate) fn zeros(padding: &[u8]) -> Result<(), DecodeError> {
    match padding.iter().find(|byte| **byte != 0) {
        None => Ok(()),
        Some(byte) => Err(DecodeError::BadValue {
            field: "padding",
            got: u64::from(*byte),
        }),
    }
}

/// Seals and opens frames under the keys of one handshake. Its counters are the frames' sequence numbers: a frame that
/// is lost, repeated or reordered does not open.
pub(crate) struct Codec(snow::TransportState);

impl Codec {
    pub(crate) const fn new(transport: snow::TransportState) -> Self {
        Self(transport)
    }

    /// Appends the wire form of `plain` to `out`.
    pub(crate) fn seal(&mut self, plain: &Plain, out: &mut Vec<u8>) {
        let at = out.len();
        out.resize(at + FRAME_LEN, 0);
        let written = self.0.write_message(&plain.0, &mut out[at..]);
        debug_assert_eq!(written, Ok(FRAME_LEN));
        if self.0.sending_nonce().is_multiple_of(REKEY_EVERY) {
            self.0.rekey_outgoing();
        }
    }

    /// Opens one frame.
    ///
    /// # Errors
    /// [`LinkError::BadFrame`].
    pub(crate) fn open(&mut self, frame: &[u8; FRAME_LEN]) -> Result<Plain, LinkError> {
        let mut plain = Plain::new();
        self.0
            .read_message(frame, &mut plain.0)
            .map_err(|_| LinkError::BadFrame)?;
        if self.0.receiving_nonce().is_multiple_of(REKEY_EVERY) {
            self.0.rekey_incoming();
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(header: Header, data: &[u8]) -> Plain {
        let mut plain = Plain::new();
        plain.data_mut()[..data.len()].copy_from_slice(data);
        plain.set_header(header, data.len());
        plain
    }

    #[test]
    fn four_frames_carry_a_small_packet_and_32_a_bulk_one() {
        use super::super::outgoing::record_len;
        assert_eq!(record_len(4096).div_ceil(DATA_MAX), 4);
        assert_eq!(record_len(32_768).div_ceil(DATA_MAX), 32);
    }

    proptest! {
        #[test]
        fn frames_read_back(
            consumed: u64, ping: u64, pong: u64, data in prop::collection::vec(any::<u8>(), 0..=DATA_MAX),
        ) {
            let header = Header { consumed, ping, pong };
            let plain = plain(header, &data);
            prop_assert_eq!(plain.decode(), Ok((header, &data[..])));
        }

        #[test]
        fn arbitrary_bytes_decode_canonically_or_not_at_all(seed: u64, len in 0..=2_000u16, dirty: bool) {
            let mut bytes = [0; PLAIN_LEN];
            bytes[..8].copy_from_slice(&seed.to_be_bytes());
            bytes[24..26].copy_from_slice(&len.to_be_bytes());
            bytes[PLAIN_LEN - 1] = u8::from(dirty);
            let frame = Plain(bytes);
            if let Ok((header, data)) = frame.decode() {
                prop_assert!(data.len() <= DATA_MAX);
                prop_assert_eq!(plain(header, data).0, bytes);
            } else {
                prop_assert!(dirty || usize::from(len) > DATA_MAX);
            }
        }
    }
}
