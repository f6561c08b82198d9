//! A one-way chain of box secrets, and the reader's bounded window over it. Spec: SPEC §5.2.
//!
//! A step gives one box's secret and the state of the next step; nothing leads back. A secret is dropped as soon as its
//! box was read (by the reader) or is acknowledged or expired (by the writer), so whoever takes the state later can
//! neither name nor open what passed.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::WINDOW;
use crate::crypto::aead::AeadKey;
use crate::crypto::kdf::Context;
use crate::mailbox::BoxSeed;
use crate::rest::Rest as _;
use crate::wire::{DecodeError, Reader, Writer};

const STEP: Context = Context::new("phantom-net 2026 message chain v1");
const BOX: Context = Context::new("phantom-net 2026 message box v1");
const BODY: Context = Context::new("phantom-net 2026 message body v1");

/// The most steps that one authenticated word of the writer may skip: about 0.1 s of work.
pub const MAX_SKIP: u64 = 1 << 20;

/// Indexes that no relationship reaches; a stored state beyond is damaged. It leaves room to count on.
const INDEX_MAX: u64 = u64::MAX / 2;

/// What names and opens one box.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct BoxSecret([u8; 32]);

impl BoxSecret {
    pub(super) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What names the box.
    pub fn seed(&self) -> BoxSeed {
        BoxSeed::from_bytes(BOX.derive(&self.0))
    }

    /// What its body is sealed under, once.
    pub fn body_key(&self) -> AeadKey {
        AeadKey::from_bytes(BODY.derive(&self.0))
    }
}

impl fmt::Debug for BoxSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxSecret(secret)")
    }
}

/// The chain from some index on.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Chain {
    #[zeroize(skip)]
    next: u64,
    state: [u8; 32],
}

impl Chain {
    /// The chain of a relationship's direction, from index 0.
    pub const fn new(root: [u8; 32]) -> Self {
        Self { next: 0, state: root }
    }

    /// The index of the next step.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Takes the next step; the state that led here is gone.
    pub fn step(&mut self) -> (u64, BoxSecret) {
        let mut wide: [u8; 64] = STEP.derive_array(&self.state);
        let mut secret = BoxSecret([0; 32]);
        self.state.copy_from_slice(&wide[..32]);
        secret.0.copy_from_slice(&wide[32..]);
        wide.zeroize();
        self.next += 1;
        (self.next - 1, secret)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.next);
        out.put(&self.state);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let next = r.u64()?;
        if next > INDEX_MAX {
            return Err(DecodeError::BadValue {
                field: "chain index",
                got: next,
            });
        }
        Ok(Self {
            next,
            state: r.array()?,
        })
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// The reader's view: which of the boxes `[next, next + WINDOW)` were not read yet, and their secrets.
#[derive(Clone, Debug)]
pub struct Window {
    /// Secrets of boxes below the chain's index that were not read: the gaps.
    gaps: BTreeMap<u64, BoxSecret>,
    chain: Chain,
}

impl Window {
    /// Nothing read yet.
    pub const fn new(chain: Chain) -> Self {
        Self {
            gaps: BTreeMap::new(),
            chain,
        }
    }

    /// The lowest index that was neither read nor skipped.
    pub fn next(&self) -> u64 {
        self.gaps.keys().next().copied().unwrap_or(self.chain.next())
    }

    /// Which of the boxes above [`Window::next`] were read: bit i for index `next + 1 + i`.
    pub fn bitmap(&self) -> u32 {
        let next = self.next();
        (next + 1..self.chain.next())
            .filter(|index| !self.gaps.contains_key(index))
            .fold(0, |bits, index| {
                bits | 1u32.checked_shl((index - next - 1) as u32).unwrap_or(0)
            })
    }

    /// The boxes to look for: index and secret, lowest first.
    pub fn missing(&self) -> Vec<(u64, BoxSecret)> {
        let end = self.next() + WINDOW;
        let mut missing: Vec<_> = self.gaps.iter().map(|(&i, secret)| (i, secret.clone())).collect();
        let mut chain = self.chain.clone();
        while chain.next() < end {
            missing.push(chain.step());
        }
        missing
    }

    /// Whether box `index` was not read and one above it was.
    pub fn is_gap(&self, index: u64) -> bool {
        self.gaps.contains_key(&index)
    }

    /// Marks box `index` as read and drops its secret. `false`, and nothing changes, outside the window or if it was read.
    pub fn take(&mut self, index: u64) -> bool {
        if index >= self.next() + WINDOW {
            return false;
        }
        if index < self.chain.next() {
            let taken = self.gaps.remove(&index).is_some();
            self.gaps.rest();
            return taken;
        }
        while self.chain.next() < index {
            let (i, secret) = self.chain.step();
            self.gaps.insert(i, secret);
        }
        self.chain.step();
        true
    }

    /// Gives up all boxes below `low`. `false`, and nothing changes, if that skips more than [`MAX_SKIP`] steps.
    pub fn skip_to(&mut self, low: u64) -> bool {
        if low.saturating_sub(self.chain.next()) > MAX_SKIP {
            return false;
        }
        self.gaps = self.gaps.split_off(&low);
        while self.chain.next() < low {
            self.chain.step();
        }
        true
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.chain.encode(out);
        out.put_u16(self.gaps.len() as u16);
        for (index, secret) in &self.gaps {
            out.put_u64(*index);
            out.put(&secret.0);
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let chain = Chain::decode(r)?;
        let mut gaps = BTreeMap::new();
        for _ in 0..r.count("gaps", WINDOW as usize)? {
            let index = r.u64()?;
            let ordered = gaps.keys().next_back().is_none_or(|&last| last < index);
            if !ordered || index >= chain.next() || chain.next() - index > WINDOW {
                return Err(DecodeError::BadValue {
                    field: "gap",
                    got: index,
                });
            }
            gaps.insert(index, BoxSecret(r.array()?));
        }
        Ok(Self { gaps, chain })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ends_get_the_same_secrets_and_no_state_leads_back() {
        let (mut chain, window) = (Chain::new([1; 32]), Window::new(Chain::new([1; 32])));
        let mut seen = BTreeSet::new();
        for (index, secret) in window.missing() {
            let before = chain.clone();
            let (i, same) = chain.step();
            assert_eq!((index, secret.0), (i, same.0));
            assert_ne!(before.state, chain.state);
            assert!(seen.insert(secret.0) && seen.insert(chain.state));
        }
        assert_eq!(seen.len(), 2 * WINDOW as usize);
    }

    #[test]
    fn a_read_box_cannot_be_opened_from_the_state_left() {
        let mut window = Window::new(Chain::new([1; 32]));
        let secret = window.missing()[5].1.clone();
        assert!(window.take(5));
        let mut left = Vec::new();
        window.encode(&mut left);
        assert!(!left.windows(32).any(|w| w == secret.0));
        assert!(window.missing().iter().all(|(i, _)| *i != 5));
    }

    #[test]
    fn a_skip_beyond_the_bound_is_refused() {
        let mut window = Window::new(Chain::new([1; 32]));
        assert!(!window.skip_to(MAX_SKIP + 1));
        assert!(!window.skip_to(u64::MAX));
        assert_eq!(window.next(), 0);
    }

    proptest! {
        /// The window against a plain model: a set of read indexes and a floor.
        #[test]
        fn the_window_is_what_was_not_read(ops in prop::collection::vec((any::<bool>(), 0u64..80), 0..60)) {
            let mut window = Window::new(Chain::new([1; 32]));
            let (mut read, mut floor) = (BTreeSet::new(), 0u64);
            for (skip, value) in ops {
                let next = (floor..).find(|i| !read.contains(i)).expect("endless");
                prop_assert_eq!(window.next(), next);
                if skip {
                    prop_assert!(window.skip_to(value));
                    floor = floor.max(value);
                } else {
                    let fresh = value >= next && value < next + WINDOW && !read.contains(&value);
                    prop_assert_eq!(window.take(value), fresh);
                    if fresh { read.insert(value); }
                }
                let next = (floor..).find(|i| !read.contains(i)).expect("endless");
                let missing: Vec<u64> = window.missing().iter().map(|(i, _)| *i).collect();
                prop_assert_eq!(missing, (next..next + WINDOW).filter(|i| !read.contains(i)).collect::<Vec<_>>());
                for i in 0..WINDOW - 1 {
                    prop_assert_eq!(window.bitmap() >> i & 1 == 1, read.contains(&(next + 1 + i)));
                }
                let mut bytes = Vec::new();
                window.encode(&mut bytes);
                let back = Window::decode(&mut Reader::new(&bytes)).expect("own encoding");
                let mut again = Vec::new();
                back.encode(&mut again);
                prop_assert_eq!(bytes, again);
            }
        }
    }
}
