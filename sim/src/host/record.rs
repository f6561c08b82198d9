//! The event record: who is told of facts, and the rolling digest that makes two runs comparable.
//!
//! Every fact goes, with its time and peer, into the digest of its simulated second; at the end of the second that is
//! chained to the digest of all seconds before. With [`Detail::PerPeer`] each checkpoint also keeps what every peer
//! contributed, so that two runs that differ name the first second and peer at which they do.

use phantom_core::event::{Event, Sensitive};
use phantom_core::units::Instant;

use super::PeerId;
use super::canon;

const SECOND_NS: u64 = 1_000_000_000;

/// Who is told what happens in a world. Called in the order in which it happened, never during a task's poll.
pub trait Observer {
    /// `peer` emitted `event`.
    fn on_event(&mut self, at: Instant, peer: PeerId, event: &Event);

    /// A secret was seen in bytes that crossed the border.
    fn on_leak(&mut self, leak: &Leak) {
        let _ = leak;
    }
}

/// Nobody.
impl Observer for () {
    fn on_event(&mut self, _: Instant, _: PeerId, _: &Event) {}
}

/// A list of what happened, for tests.
impl Observer for Vec<(Instant, PeerId, Event)> {
    fn on_event(&mut self, at: Instant, peer: PeerId, event: &Event) {
        self.push((at, peer, event.clone()));
    }
}

/// Bytes that must not be seen were visible at the border.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// When.
    pub at: Instant,
    /// Who sent them.
    pub sender: PeerId,
    /// Who marked them as sensitive (the first who did).
    pub owner: PeerId,
    /// What kind.
    pub kind: Sensitive,
    /// The first bytes of the secret, in hexadecimal: enough to find it, too few to use it.
    pub prefix: String,
}

/// How much a digest keeps per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// One digest per second.
    #[default]
    World,
    /// Also each peer's contribution: 16 bytes per active peer and second.
    PerPeer,
}

/// The state of the digest at the end of one simulated second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The second that ended: 0 is the first.
    pub second: u64,
    /// Digest of everything up to its end.
    pub digest: u64,
    /// What each peer contributed in this second, by peer; empty unless asked for.
    pub peers: Vec<(PeerId, u64)>,
}

/// Where two runs part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The first second that differs.
    pub second: u64,
    /// The first peer that differs in it, if both runs kept that detail.
    pub peer: Option<PeerId>,
}

/// A rolling digest of all facts.
#[derive(Clone, Debug)]
pub struct Digest {
    detail: Detail,
    second: u64,
    chained: [u8; 32],
    /// Canonical encodings of the current second, hashed when it ends: BLAKE3 is fast on long inputs only.
    pending: Vec<u8>,
    hasher: blake3::Hasher,
    peers: Vec<(PeerId, u64)>,
    checkpoints: Vec<Checkpoint>,
    events: u64,
}

/// Longer encodings of one second are hashed early, so that memory stays bounded.
const PENDING_MAX: usize = 1 << 16;

impl Digest {
    /// An empty digest.
    pub fn new(detail: Detail) -> Self {
        Self {
            detail,
            second: 0,
            chained: [0; 32],
            pending: Vec::new(),
            hasher: blake3::Hasher::new(),
            peers: Vec::new(),
            checkpoints: Vec::new(),
            events: 0,
        }
    }

    /// Adds a fact. Times must not step back.
    pub fn event(&mut self, at: Instant, peer: PeerId, event: &Event) {
        let start = self.open(at, peer);
        if let Err(error) = canon::encode(event, &mut self.pending) {
            // Events are ours: one that cannot be digested is a mistake in the program.
            panic!("{event:?} has no canonical encoding: {error}");
        }
        self.close(peer, start);
        self.events += 1;
    }

    /// Adds a fact about `peer` that is no event: counters of the network, a result of the workload.
    pub fn note(&mut self, at: Instant, peer: PeerId, what: &[u64]) {
        let start = self.open(at, peer);
        for word in what {
            self.pending.extend_from_slice(&word.to_le_bytes());
        }
        self.close(peer, start);
    }

    /// Ends all seconds before `at`.
    pub fn advance(&mut self, at: Instant) {
        let now = at.as_nanos() / SECOND_NS;
        while self.second < now {
            self.end_second();
        }
    }

    /// The digest of everything so far, as text.
    pub fn trace(&self) -> String {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.pending);
        let last = hasher.finalize();
        blake3::Hasher::new()
            .update(&self.chained)
            .update(last.as_bytes())
            .finalize()
            .to_hex()[..32]
            .to_owned()
    }

    /// All checkpoints so far, one per simulated second.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }

    /// How many events were added.
    pub const fn events(&self) -> u64 {
        self.events
    }

    fn open(&mut self, at: Instant, peer: PeerId) -> usize {
        self.advance(at);
        if self.pending.len() > PENDING_MAX {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
        let start = self.pending.len();
        self.pending.extend_from_slice(&at.as_nanos().to_le_bytes());
        self.pending.extend_from_slice(&peer.0.to_le_bytes());
        start
    }

    fn close(&mut self, peer: PeerId, start: usize) {
        if self.detail == Detail::PerPeer {
            let hash = self.pending[start..].chunks(8).fold(0, |hash, chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                mix(hash, u64::from_le_bytes(word))
            });
            // Merged when the second ends: the order of one peer's facts counts, that between peers does not.
            self.peers.push((peer, hash));
        }
    }

    fn end_second(&mut self) {
        self.hasher.update(&self.pending);
        self.pending.clear();
        let of_second = self.hasher.finalize();
        self.hasher.reset();
        self.chained = *blake3::Hasher::new()
            .update(&self.chained)
            .update(of_second.as_bytes())
            .finalize()
            .as_bytes();
        let mut head = [0; 8];
        head.copy_from_slice(&self.chained[..8]);
        self.peers.sort_by_key(|(peer, _)| *peer);
        let mut peers: Vec<(PeerId, u64)> = Vec::new();
        for (peer, hash) in self.peers.drain(..) {
            match peers.last_mut() {
                Some((last, sum)) if *last == peer => *sum = mix(*sum, hash),
                // Mixed once before it is joined, or two facts that change places would cancel out.
                _ => peers.push((peer, mix(0, hash))),
            }
        }
        self.checkpoints.push(Checkpoint {
            second: self.second,
            digest: u64::from_le_bytes(head),
            peers,
        });
        self.second += 1;
    }
}

/// The first second, and peer if known, at which two runs differ; `None` if they agree.
pub fn first_difference(one: &[Checkpoint], two: &[Checkpoint]) -> Option<Difference> {
    for pair in one.iter().zip(two) {
        if pair.0.digest != pair.1.digest {
            return Some(Difference {
                second: pair.0.second,
                peer: first_peer(&pair.0.peers, &pair.1.peers),
            });
        }
    }
    (one.len() != two.len()).then(|| Difference {
        second: one.len().min(two.len()) as u64,
        peer: None,
    })
}

fn first_peer(one: &[(PeerId, u64)], two: &[(PeerId, u64)]) -> Option<PeerId> {
    let parted = one
        .iter()
        .zip(two)
        .find(|(a, b)| a != b)
        .map(|(a, b)| a.0.min(b.0));
    parted.or_else(|| {
        one.get(two.len())
            .or_else(|| two.get(one.len()))
            .map(|(peer, _)| *peer)
    })
}

/// A 64-bit mixing function (the finaliser of SplitMix64) of a running hash and one word.
pub fn mix(hash: u64, word: u64) -> u64 {
    let mut z = (hash ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(facts: &[(u64, u32, Event)]) -> Digest {
        let mut digest = Digest::new(Detail::PerPeer);
        for (ms, peer, event) in facts {
            digest.event(Instant::from_nanos(ms * 1_000_000), PeerId(*peer), event);
        }
        digest.advance(Instant::from_nanos(10 * SECOND_NS));
        digest
    }

    #[test]
    fn equal_runs_have_equal_digests_and_others_name_second_and_peer() {
        let facts = [
            (100, 1, Event::Started),
            (2_100, 4, Event::RoundTrip),
            (2_300, 2, Event::RoundTrip),
        ];
        let one = run(&facts);
        assert_eq!(one.trace(), run(&facts).trace());
        let mut moved = facts.clone();
        moved[2].0 = 2_301;
        let two = run(&moved);
        assert_ne!(one.trace(), two.trace());
        let wanted = Difference {
            second: 2,
            peer: Some(PeerId(2)),
        };
        assert_eq!(
            first_difference(one.checkpoints(), two.checkpoints()),
            Some(wanted)
        );
        let missing = run(&facts[..2]);
        let wanted = Difference {
            second: 2,
            peer: Some(PeerId(2)),
        };
        assert_eq!(
            first_difference(missing.checkpoints(), one.checkpoints()),
            Some(wanted)
        );
        assert_eq!(first_difference(one.checkpoints(), one.checkpoints()), None);
    }

    #[test]
    fn the_order_of_facts_at_one_instant_counts() {
        let one = run(&[(1, 1, Event::Started), (1, 2, Event::Stopped)]);
        let two = run(&[(1, 2, Event::Stopped), (1, 1, Event::Started)]);
        assert_ne!(one.trace(), two.trace());
    }

    #[test]
    fn a_long_second_is_hashed_in_pieces_to_the_same_digest() {
        let facts: Vec<_> = (0..20_000)
            .map(|n| (n / 100, (n % 7) as u32, Event::RoundTrip))
            .collect();
        assert_eq!(run(&facts).trace(), run(&facts).trace());
        assert_eq!(run(&facts).events(), 20_000);
    }
}
