//! Replay protection: which packets a hop key has opened already. Spec: SPEC §3.6.
//!
//! A Bloom filter per hop key, of a size fixed beforehand: 20 bits for each tag that it is made for, so two hours of
//! filters cost 18 KB per packet a second. It never forgets a tag; a fresh packet is taken for a replay once in 15,000
//! times when the filter is full and less before, and is then sent again like any lost one. When it is full it refuses
//! what is new rather than forget: the hop key's remaining time is lost, its promise is not.
//!
//! Up to a tenth of that number the first halves of the tags themselves are kept, which is as good as exact (two of ten
//! million share one once in 100,000 times) and no larger: a node on which little falls does not pay for what might.
//!
//! Memory does not survive a restart, so the node appends each tag (16 bytes) to a log of that key and syncs it
//! **before** it acts on the packet; [`ReplayFilter::restore`] reads the log. A node that has lost a log must not use
//! that hop key again.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::keys::HopKeyId;
use super::sorted::Sorted;
use crate::event::Refusal;

const BITS_PER_TAG: u64 = 20;
/// The number of bits set per tag at which a filter of that size errs least: 20 ln 2.
const PROBES: u64 = 14;
/// Tags themselves are kept up to this part of the capacity.
const EXACT_PART: u32 = 10;

/// What tells two packets apart for a hop. Derived from the exchange in the header and nothing else, so the same header
/// with another payload is the same packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayTag([u8; Self::LEN]);

impl ReplayTag {
    /// Bytes of a tag, and of its record in the log.
    pub const LEN: usize = 16;

    /// A tag from a log.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its record for the log.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// What the filter knows it by. A tag is the output of a key derivation, so this is a hash; nobody can aim at that of
    /// another's packet, which is secret until the packet is here.
    fn hash(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for ReplayTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplayTag({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// Why a packet is not to be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Replay {
    /// It was seen, or (once in 15,000 times at most) shares its bits with others that were.
    #[error("the packet was seen before")]
    Seen,
    /// More packets came for this hop key than the filter is made for.
    #[error("{capacity} packets were seen under one hop key, the filter holds no more (host's fault)")]
    Full {
        /// What it is made for.
        capacity: u32,
    },
}

impl Replay {
    /// How it is counted.
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::Seen => Refusal::Replayed,
            Self::Full { .. } => Refusal::OverQuota,
        }
    }
}

/// The tags of one hop key.
#[derive(Clone)]
pub struct ReplayFilter {
    key: HopKeyId,
    marks: Marks,
    seen: u32,
    capacity: u32,
}

#[derive(Clone)]
enum Marks {
    /// Few: the hash of each tag.
    Exact(Sorted),
    /// Many: a bit for each probe.
    Bits(Box<[u64]>),
}

impl ReplayFilter {
    /// An empty filter for `key`, for at most `capacity` packets.
    pub fn new(key: HopKeyId, capacity: u32) -> Self {
        Self {
            key,
            marks: Marks::Exact(Sorted::default()),
            seen: 0,
            capacity: capacity.max(1),
        }
    }

    /// The capacity for a node that takes up to `packets_per_second`, averaged over a period of the hop key.
    pub fn capacity_for(packets_per_second: u32, period: Duration) -> u32 {
        u32::try_from(u64::from(packets_per_second).saturating_mul(period.as_secs().max(1)))
            .unwrap_or(u32::MAX)
    }

    /// Reads the log of `key` after a restart: whole records; what is left at the end was never acted on.
    pub fn restore(key: HopKeyId, capacity: u32, log: &[u8]) -> Self {
        let (records, _torn) = log.as_chunks::<{ ReplayTag::LEN }>();
        // The log decides: a smaller capacity in a new configuration must not lose what was seen.
        let logged = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let mut filter = Self::new(key, capacity.max(logged));
        for record in records {
            // Full is out of reach, and a tag that is seen already needs no second mark.
            let _ = filter.insert(&ReplayTag(*record));
        }
        filter
    }

    /// Marks a tag as seen. After `Ok` append its record to the log, sync, then act on the packet.
    ///
    /// # Errors
    /// [`Replay`]: drop the packet.
    pub fn insert(&mut self, tag: &ReplayTag) -> Result<(), Replay> {
        if self.contains(tag) {
            return Err(Replay::Seen);
        }
        if self.seen >= self.capacity {
            return Err(Replay::Full {
                capacity: self.capacity,
            });
        }
        self.seen += 1;
        match &mut self.marks {
            Marks::Exact(tags) if self.seen <= self.capacity / EXACT_PART => {
                tags.insert(tag.hash());
            }
            Marks::Exact(tags) => {
                let words = (u64::from(self.capacity) * BITS_PER_TAG).div_ceil(64);
                let mut bits = vec![0; usize::try_from(words).unwrap_or(usize::MAX)].into_boxed_slice();
                for hash in tags.iter().chain([tag.hash()]) {
                    mark(&mut bits, hash);
                }
                self.marks = Marks::Bits(bits);
            }
            Marks::Bits(bits) => mark(bits, tag.hash()),
        }
        Ok(())
    }

    /// Whether a tag was marked (or is taken for one that was).
    pub fn contains(&self, tag: &ReplayTag) -> bool {
        match &self.marks {
            Marks::Exact(tags) => tags.contains(tag.hash()),
            Marks::Bits(bits) => probes(bits.len(), tag.hash()).all(|(word, bit)| bits[word] & bit != 0),
        }
    }

    /// The hop key it belongs to.
    pub const fn key(&self) -> HopKeyId {
        self.key
    }

    /// Tags marked.
    pub const fn len(&self) -> u32 {
        self.seen
    }

    /// Whether no tag is marked.
    pub const fn is_empty(&self) -> bool {
        self.seen == 0
    }

    /// Bytes of memory it holds.
    pub fn memory(&self) -> usize {
        let marks = match &self.marks {
            Marks::Exact(tags) => tags.memory(),
            Marks::Bits(bits) => bits.len() * 8,
        };
        marks + size_of::<Self>()
    }
}

fn mark(bits: &mut [u64], hash: u64) {
    for (word, bit) in probes(bits.len(), hash) {
        bits[word] |= bit;
    }
}

/// Word and bit of each probe: double hashing (Kirsch and Mitzenmacher, "Less Hashing, Same Performance", ESA 2006), the
/// second hash made of the first by the finaliser of SplitMix64.
fn probes(words: usize, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
    let mut step = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    step = (step ^ (step >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // Never zero, which would probe one bit only.
    step = (step ^ (step >> 31)) | 1;
    let bits = words as u64 * 64;
    (0..PROBES).map(move |n| {
        // The high word of the product spreads evenly over any number of bits.
        let hash = hash.wrapping_add(n.wrapping_mul(step));
        let bit = ((u128::from(hash) * u128::from(bits)) >> 64) as u64;
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

impl fmt::Debug for ReplayFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ReplayFilter({:?}, {} of {})",
            self.key, self.seen, self.capacity
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    fn tags(seed: u8, n: usize) -> Vec<ReplayTag> {
        let mut rng = ChaCha12Rng::from_seed([seed; 32]);
        let tag = || {
            let mut bytes = [0; 16];
            rng.fill_bytes(&mut bytes);
            ReplayTag(bytes)
        };
        std::iter::repeat_with(tag).take(n).collect()
    }

    #[test]
    fn two_hours_at_one_packet_a_second_cost_at_most_20_kb() {
        let capacity = ReplayFilter::capacity_for(1, super::super::HOP_KEY_PERIOD);
        let mut filter = ReplayFilter::new(HopKeyId(0), capacity);
        for tag in tags(4, capacity as usize) {
            assert!(2 * filter.memory() <= 20_000, "{} bytes", filter.memory());
            let _ = filter.insert(&tag);
        }
    }

    #[test]
    fn a_filter_for_many_costs_little_while_they_are_few() {
        let mut filter = ReplayFilter::new(HopKeyId(0), 720_000);
        for tag in tags(5, 1_000) {
            assert_eq!(filter.insert(&tag), Ok(()));
        }
        assert!(filter.memory() < 30_000, "{} bytes", filter.memory());
    }

    #[test]
    fn a_full_filter_takes_one_fresh_packet_in_ten_thousand_for_a_replay() {
        const N: u32 = 20_000;
        let mut filter = ReplayFilter::new(HopKeyId(0), N);
        for tag in tags(1, N as usize) {
            let _ = filter.insert(&tag);
        }
        // Expected: 200,000 * 6.7e-5 = 13.
        let wrong = tags(2, 200_000).iter().filter(|tag| filter.contains(tag)).count();
        assert!(wrong <= 40, "{wrong} of 200,000");
    }

    #[test]
    fn a_full_filter_refuses_what_is_new_and_still_knows_what_is_old() {
        let mut filter = ReplayFilter::new(HopKeyId(0), 100);
        let tags = tags(3, 101);
        for tag in &tags[..100] {
            assert_eq!(filter.insert(tag), Ok(()));
        }
        assert_eq!(filter.insert(&tags[100]), Err(Replay::Full { capacity: 100 }));
        assert_eq!(filter.insert(&tags[0]), Err(Replay::Seen));
        assert_eq!(filter.len(), 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_restart_forgets_nothing_that_was_logged(seed: u8, n in 0_usize..300, torn in 0_usize..16, smaller in 1_u32..400) {
            let tags = tags(seed, n);
            let mut log: Vec<u8> = tags.iter().flat_map(|tag| *tag.as_bytes()).collect();
            log.extend_from_slice(&[7; 16][..torn]);
            let mut filter = ReplayFilter::restore(HopKeyId(4), smaller, &log);
            for tag in &tags {
                prop_assert_eq!(filter.insert(tag), Err(Replay::Seen));
            }
            prop_assert!(filter.len() as usize <= n);
        }
    }
}
