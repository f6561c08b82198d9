//! obfs4's deterministic generator: SipHash-2-4 in output feedback, which masks lengths and makes distributions.
//!
//! Each block is the hash, under one key, of *all* blocks before it: obfs4proxy never resets its hash, so "OFB" of the
//! specification is not the whole story. Source: `hash_drbg.go` of obfs4proxy 0.0.14; the numbers drawn from it are those of
//! Go's `math/rand`, which Go 1 has promised not to change.

use std::hash::Hasher;

use rand_core::CryptoRng;
use siphasher::sip::SipHasher24;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a seed: a SipHash key and the first block.
pub const SEED_LEN: usize = 24;

/// What obfs4's generator starts from. A bridge's seed is what its distribution of lengths comes from, known to its clients only.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; SEED_LEN]);

impl Seed {
    /// Draws a seed.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; SEED_LEN];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// A seed that was stored or sent.
    pub const fn from_bytes(bytes: [u8; SEED_LEN]) -> Self {
        Self(bytes)
    }

    /// The seed, for storage or sending.
    pub const fn as_bytes(&self) -> &[u8; SEED_LEN] {
        &self.0
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(secret)")
    }
}

/// A stream of 8-byte blocks.
pub(crate) struct HashDrbg {
    hash: SipHasher24,
    block: [u8; 8],
    /// The hash counts its bytes in a `usize`: on a 32-bit machine it can take 2^29 blocks.
    left: usize,
}

impl HashDrbg {
    pub(crate) fn new(seed: &Seed) -> Self {
        let [k0, k1, block] = [0, 8, 16].map(|at| {
            let mut word = [0; 8];
            word.copy_from_slice(&seed.0[at..at + 8]);
            word
        });
        Self {
            hash: SipHasher24::new_with_keys(u64::from_le_bytes(k0), u64::from_le_bytes(k1)),
            block,
            left: usize::MAX / 8,
        }
    }

    /// The next block; `None` when there are no more.
    pub(crate) fn next_block(&mut self) -> Option<[u8; 8]> {
        self.left = self.left.checked_sub(1)?;
        self.hash.write(&self.block);
        self.block = self.hash.finish().to_le_bytes();
        Some(self.block)
    }
}

impl Drop for HashDrbg {
    fn drop(&mut self) {
        // SipHash's crate does not wipe itself; this overwrites its key and state.
        self.hash = SipHasher24::new_with_keys(0, 0);
        self.block.zeroize();
        std::hint::black_box(&self.hash);
    }
}

/// Numbers as Go's `math/rand` draws them from a source that has only `Int63`.
pub(crate) struct GoRand(HashDrbg);

impl GoRand {
    pub(crate) fn new(seed: &Seed) -> Self {
        Self(HashDrbg::new(seed))
    }

    /// `Int63`.
    fn int63(&mut self) -> u64 {
        let block = self
            .0
            .next_block()
            .expect("a distribution takes a few thousand blocks");
        u64::from_be_bytes(block) & (u64::MAX >> 1)
    }

    /// `Intn`, for bounds of 31 bits: uniform below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        assert!(0 < bound && bound < 1 << 31, "a bound of math/rand");
        let mut int31 = || (self.int63() >> 32) as u32;
        if bound.is_power_of_two() {
            return int31() & (bound - 1);
        }
        let max = (1 << 31) - 1 - (1_u32 << 31) % bound;
        loop {
            let drawn = int31();
            if drawn <= max {
                return drawn % bound;
            }
        }
    }

    /// `Float64`: uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        loop {
            // 63 bits round to 53, and may round up to 1.
            let drawn = self.int63() as f64 / (1_u64 << 63) as f64;
            if drawn < 1.0 {
                return drawn;
            }
        }
    }

    /// `Perm`: the numbers below `len` in random order.
    pub(crate) fn permutation(&mut self, len: u16) -> Vec<u16> {
        let mut out = vec![0; usize::from(len)];
        for i in 0..len {
            let j = self.below(u32::from(i) + 1) as usize;
            out[usize::from(i)] = out[j];
            out[j] = i;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> Seed {
        Seed::from_bytes(std::array::from_fn(|i| i as u8))
    }

    /// SipHash's own vectors: with the key 00..0f the hash of 00 01 .. 07 is 93f5f5799a932462.
    #[test]
    fn the_first_block_is_siphash_of_the_iv() {
        let mut iv_from_zero = *seed().as_bytes();
        iv_from_zero[16..].copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7]);
        let mut drbg = HashDrbg::new(&Seed::from_bytes(iv_from_zero));
        assert_eq!(drbg.next_block(), Some(0x93f5_f579_9a93_2462_u64.to_le_bytes()));
    }

    #[test]
    fn the_second_block_hashes_both_before_it() {
        let mut drbg = HashDrbg::new(&seed());
        let first = drbg.next_block().expect("far from the end");
        let mut whole = seed().as_bytes()[16..].to_vec();
        whole.extend(first);
        let key = std::array::from_fn(|i| i as u8);
        assert_eq!(
            drbg.next_block(),
            Some(SipHasher24::new_with_key(&key).hash(&whole).to_le_bytes())
        );
    }

    #[test]
    fn a_permutation_has_every_number_once() {
        let mut permutation = GoRand::new(&seed()).permutation(1449);
        permutation.sort_unstable();
        assert!(permutation.into_iter().eq(0..1449));
    }

    #[test]
    fn the_stream_ends_before_the_hash_overflows() {
        let mut drbg = HashDrbg::new(&seed());
        drbg.left = 1;
        assert!(drbg.next_block().is_some());
        assert_eq!(drbg.next_block(), None);
    }

    #[test]
    fn seeds_are_not_printed() {
        assert_eq!(format!("{:?}", seed()), "Seed(secret)");
    }
}
