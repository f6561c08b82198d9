//! The frame: what travels after the handshake, each with its own nonce and a masked length.
//!
//! ```text
//! length (2, XOR the first two bytes of the next SipHash block) | tag (16) | ciphertext
//! ```
//! The length counts tag and ciphertext. Tag and ciphertext are NaCl's secretbox (XSalsa20-Poly1305) under the direction's
//! key; the nonce is its prefix and a big-endian counter from 1. A frame is at most 1,448 bytes: one TCP segment.
//!
//! The length is not authenticated before the frame is: who changes it learns from when the connection ends how much we
//! waited for. A length out of range is therefore taken for a random one, as SSH does (Albrecht, Paterson, Watson), and the
//! connection ends when so many bytes have come. A length changed within the range is found by the tag.
//!
//! Spec: obfs4-spec.txt §5, where the prefix is misprinted as 24 bytes: it is 16; `framing.go` of obfs4proxy 0.0.14.

use poly1305::Poly1305;
use rand_core::CryptoRng;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit, StreamCipher};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::drbg::{HashDrbg, SEED_LEN, Seed};
use crate::random;

/// Bytes of a frame on the wire, at most.
pub const FRAME_MAX: usize = 1448;
/// Bytes that a frame adds to its contents.
pub(crate) const FRAME_OVERHEAD: usize = LENGTH_LEN + TAG_LEN;
/// Bytes of a frame's contents, at most.
pub(crate) const CONTENTS_MAX: usize = FRAME_MAX - FRAME_OVERHEAD;
/// Bytes of key material of one direction.
pub(crate) const DIRECTION_KEY_LEN: usize = KEY_LEN + PREFIX_LEN + SEED_LEN;

const LENGTH_LEN: usize = 2;
const TAG_LEN: usize = 16;
const KEY_LEN: usize = 32;
const PREFIX_LEN: usize = 16;
const BOX_MIN: usize = TAG_LEN;
const BOX_MAX: usize = FRAME_MAX - LENGTH_LEN;

/// Why there are no more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The bytes were changed, cut, repeated or reordered on the way, or the peer is broken.
    #[error(
        "a frame does not authenticate (the peer's fault, or someone on the way): frame {number} of this connection"
    )]
    BadTag {
        /// Its number, from 1.
        number: u64,
    },
    /// Its key material has served as often as is safe: 2^64 - 1 frames, 2^29 - 1 on a 32-bit machine. Dial again.
    #[error("the connection has carried as many frames as its keys allow (nobody's fault): dial again")]
    Exhausted,
}

/// The keys of one direction.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct DirectionKey {
    key: [u8; KEY_LEN],
    prefix: [u8; PREFIX_LEN],
    seed: Seed,
}

impl DirectionKey {
    /// Cuts the key derivation's output.
    ///
    /// # Panics
    /// When it is not [`DIRECTION_KEY_LEN`] bytes long: ours.
    pub(crate) fn from_slice(material: &[u8]) -> Self {
        assert_eq!(material.len(), DIRECTION_KEY_LEN, "key material of one direction");
        let (mut key, mut prefix, mut seed) = ([0; KEY_LEN], [0; PREFIX_LEN], [0; SEED_LEN]);
        key.copy_from_slice(&material[..KEY_LEN]);
        prefix.copy_from_slice(&material[KEY_LEN..KEY_LEN + PREFIX_LEN]);
        seed.copy_from_slice(&material[KEY_LEN + PREFIX_LEN..]);
        Self {
            key,
            prefix,
            seed: Seed::from_bytes(seed),
        }
    }

    #[cfg(test)]
    pub(crate) fn expose(&self) -> ([u8; KEY_LEN], [u8; PREFIX_LEN], [u8; SEED_LEN]) {
        (self.key, self.prefix, *self.seed.as_bytes())
    }
}

/// What sealing and opening have in common: the counter, the masks and the box.
struct Boxes {
    key: [u8; KEY_LEN],
    prefix: [u8; PREFIX_LEN],
    masks: HashDrbg,
    /// The number of the frame that is next; 0 when they are used up.
    number: u64,
}

impl Boxes {
    fn new(keys: &DirectionKey) -> Self {
        Self {
            key: keys.key,
            prefix: keys.prefix,
            masks: HashDrbg::new(&keys.seed),
            number: 1,
        }
    }

    /// The mask of the next frame's length.
    fn mask(&mut self) -> Result<u16, FrameError> {
        if self.number == 0 {
            return Err(FrameError::Exhausted);
        }
        let [high, low, ..] = self.masks.next_block().ok_or(FrameError::Exhausted)?;
        Ok(u16::from_be_bytes([high, low]))
    }

    /// The cipher of the current frame, past the 32 bytes that are its one-time authenticator's key.
    fn cipher(&self) -> (XSalsa20, Poly1305) {
        let mut nonce = [0; PREFIX_LEN + 8];
        nonce[..PREFIX_LEN].copy_from_slice(&self.prefix);
        nonce[PREFIX_LEN..].copy_from_slice(&self.number.to_be_bytes());
        let mut cipher = XSalsa20::new(&self.key.into(), &nonce.into());
        let mut one_time = Zeroizing::new([0; 32]);
        cipher.apply_keystream(&mut *one_time);
        (
            cipher,
            <Poly1305 as poly1305::universal_hash::KeyInit>::new(&(*one_time).into()),
        )
    }

    fn seal(&mut self, contents: &mut [u8]) -> [u8; TAG_LEN] {
        let (mut cipher, mac) = self.cipher();
        cipher.apply_keystream(contents);
        self.number = self.number.wrapping_add(1);
        mac.compute_unpadded(contents).into()
    }

    fn open(&mut self, tag: &[u8], contents: &mut [u8]) -> Result<(), FrameError> {
        let (mut cipher, mac) = self.cipher();
        let wanted: [u8; TAG_LEN] = mac.compute_unpadded(contents).into();
        if !bool::from(wanted.as_slice().ct_eq(tag)) {
            return Err(FrameError::BadTag { number: self.number });
        }
        cipher.apply_keystream(contents);
        self.number = self.number.wrapping_add(1);
        Ok(())
    }
}

impl Drop for Boxes {
    fn drop(&mut self) {
        self.key.zeroize();
        self.prefix.zeroize();
    }
}

/// Seals frames.
pub(crate) struct Encoder(Boxes);

impl Encoder {
    pub(crate) fn new(keys: &DirectionKey) -> Self {
        Self(Boxes::new(keys))
    }

    /// Appends to `wire` the frame of `parts` one after another and `zeros` zero bytes.
    ///
    /// # Errors
    /// [`FrameError::Exhausted`]; nothing is appended then.
    ///
    /// # Panics
    /// Above [`CONTENTS_MAX`] bytes of contents: ours.
    pub(crate) fn seal(
        &mut self,
        parts: &[&[u8]],
        zeros: usize,
        wire: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let contents = parts.iter().map(|part| part.len()).sum::<usize>() + zeros;
        assert!(
            contents <= CONTENTS_MAX,
            "the contents of a frame: {contents} bytes"
        );
        let length = u16::try_from(contents + TAG_LEN).expect("at most 1,446") ^ self.0.mask()?;
        wire.extend_from_slice(&length.to_be_bytes());
        let tag_at = wire.len();
        wire.extend_from_slice(&[0; TAG_LEN]);
        parts.iter().for_each(|part| wire.extend_from_slice(part));
        wire.resize(tag_at + TAG_LEN + contents, 0);
        let tag = self.0.seal(&mut wire[tag_at + TAG_LEN..]);
        wire[tag_at..tag_at + TAG_LEN].copy_from_slice(&tag);
        Ok(())
    }
}

/// Opens frames from a stream that arrives in any pieces. Holds one frame at most, and asks for more bytes only when it does
/// not have a whole one.
pub(crate) struct Decoder {
    boxes: Boxes,
    /// Of the current frame: its length field, or what has come of its box.
    partial: Vec<u8>,
    expects: Expects,
    /// `partial` is an opened frame, which the caller has seen by the next call.
    opened: bool,
}

#[derive(Clone, Copy)]
enum Expects {
    Length,
    Box {
        len: usize,
        /// The length on the wire was out of range and `len` is random.
        invented: bool,
    },
    /// A frame did not open: nothing after it can.
    Nothing(FrameError),
}

impl Decoder {
    pub(crate) fn new(keys: &DirectionKey) -> Self {
        Self {
            boxes: Boxes::new(keys),
            partial: Vec::with_capacity(BOX_MAX),
            expects: Expects::Length,
            opened: false,
        }
    }

    /// Whether a frame has begun and not ended.
    pub(crate) fn is_inside_frame(&self) -> bool {
        !self.opened && (!self.partial.is_empty() || matches!(self.expects, Expects::Box { .. }))
    }

    /// Bytes of the current frame that are kept.
    #[cfg(fuzzing)]
    pub(crate) fn held(&self) -> usize {
        self.partial.len()
    }

    /// Takes bytes off the front of `wire` up to the end of a frame and returns its contents; `None` when `wire` is used up
    /// first.
    ///
    /// # Errors
    /// Any error is the last word: every later call repeats it.
    pub(crate) fn next<'a>(
        &'a mut self,
        wire: &mut &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Option<&'a [u8]>, FrameError> {
        if std::mem::take(&mut self.opened) {
            self.partial.clear();
        }
        loop {
            match self.expects {
                Expects::Nothing(error) => return Err(error),
                Expects::Length => {
                    if !self.fill(LENGTH_LEN, wire) {
                        return Ok(None);
                    }
                    let masked = u16::from_be_bytes([self.partial[0], self.partial[1]]);
                    self.partial.clear();
                    let mask = self
                        .boxes
                        .mask()
                        .inspect_err(|e| self.expects = Expects::Nothing(*e))?;
                    let len = usize::from(masked ^ mask);
                    let invented = !(BOX_MIN..=BOX_MAX).contains(&len);
                    let len = if invented {
                        random::between(BOX_MIN, BOX_MAX, rng)
                    } else {
                        len
                    };
                    self.expects = Expects::Box { len, invented };
                }
                Expects::Box { len, invented } => {
                    if !self.fill(len, wire) {
                        return Ok(None);
                    }
                    let (tag, contents) = self.partial.split_at_mut(TAG_LEN);
                    let mut opened = self.boxes.open(tag, contents);
                    if invented {
                        opened = opened.and(Err(FrameError::BadTag {
                            number: self.boxes.number,
                        }));
                    }
                    if let Err(error) = opened {
                        self.expects = Expects::Nothing(error);
                        return Err(error);
                    }
                    self.expects = Expects::Length;
                    self.opened = true;
                    return Ok(Some(&self.partial[TAG_LEN..]));
                }
            }
        }
    }

    /// Moves bytes from `wire` to `partial` until it has `len`; whether it does.
    fn fill(&mut self, len: usize, wire: &mut &[u8]) -> bool {
        let missing = len.saturating_sub(self.partial.len()).min(wire.len());
        let (now, later) = wire.split_at(missing);
        self.partial.extend_from_slice(now);
        *wire = later;
        self.partial.len() == len
    }
}

#[cfg(test)]
mod tests;
