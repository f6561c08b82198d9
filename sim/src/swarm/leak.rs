//! The leak search: every byte that crosses the border is searched for secrets.
//!
//! A secret is looked for by its first 16 bytes, or all of it if it is shorter; below 8 bytes chance hits would outnumber
//! leaks, and it is ignored. A bitmap over the hash of 8-byte windows, looked at in two places, rejects almost every
//! position at the price of one multiplication and one load.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use phantom_core::event::Sensitive;

use crate::host::PeerId;

/// Bytes of a secret that are searched for.
const SEARCHED_MAX: usize = 16;
/// Shorter secrets are ignored.
const SEARCHED_MIN: usize = 8;

/// Where in the list of secrets, counted from 1.
type Number = NonZeroU32;

/// There are a hundred for each client of a world, so no byte is lost to alignment.
struct Secret {
    /// The first 8 bytes.
    head: [u8; SEARCHED_MIN],
    /// What follows them.
    rest: [u8; SEARCHED_MAX - SEARCHED_MIN],
    owner: PeerId,
    kind: Sensitive,
    rest_len: u8,
    reported: bool,
}

const _: () = assert!(size_of::<Secret>() == 24);

impl Secret {
    fn head(&self) -> u64 {
        u64::from_le_bytes(self.head)
    }
}

/// A secret was found: what, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Who marked it.
    pub(crate) owner: PeerId,
    /// What it is.
    pub(crate) kind: Sensitive,
    /// Its first 8 bytes.
    pub(crate) head: u64,
}

/// The end of what a stream carried so far, to find secrets that span two segments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tail {
    bytes: [u8; SEARCHED_MAX - 1],
    len: u8,
}

/// All secrets of a world.
#[derive(Default)]
pub(crate) struct Leaks {
    secrets: Vec<Secret>,
    /// How many of each kind.
    marked: BTreeMap<Sensitive, u64>,
    /// For each head the last of [`Leaks::secrets`] that has it. A table of numbers: it is only ever looked into, and the
    /// heads themselves stand in the list.
    by_head: HashTable<Number>,
    /// For one of them, the one before it that has the same head: of random secrets hardly any has one.
    before: BTreeMap<Number, Number>,
    bitmap: Vec<u64>,
    /// `64 - log2(bits)`.
    shift: u32,
    searched: u64,
}

impl Leaks {
    /// Marks `secret`. Marking the same bytes again is free.
    pub(crate) fn mark(&mut self, owner: PeerId, kind: Sensitive, secret: &[u8]) {
        let Some((head, rest)) = secret[..secret.len().min(SEARCHED_MAX)].split_first_chunk::<SEARCHED_MIN>()
        else {
            return;
        };
        let head = u64::from_le_bytes(*head);
        let mut wanted = [0; SEARCHED_MAX - SEARCHED_MIN];
        wanted[..rest.len()].copy_from_slice(rest);
        let rest_len = rest.len() as u8;
        let mut same = self.last(head);
        while let Some(number) = same {
            let known = &self.secrets[index(number)];
            if known.rest == wanted && known.rest_len == rest_len {
                return;
            }
            same = self.before.get(&number).copied();
        }
        *self.marked.entry(kind).or_default() += 1;
        let number = Number::MIN.saturating_add(self.secrets.len() as u32);
        let secrets = &self.secrets;
        let head_of = |number: &Number| secrets[index(*number)].head();
        let entry = self.by_head.entry(
            hash(head),
            |known| head_of(known) == head,
            |known| hash(head_of(known)),
        );
        match entry {
            Entry::Occupied(mut last) => {
                let before = std::mem::replace(last.get_mut(), number);
                self.before.insert(number, before);
            }
            Entry::Vacant(place) => {
                place.insert(number);
            }
        }
        self.secrets.push(Secret {
            head: head.to_le_bytes(),
            rest: wanted,
            owner,
            kind,
            rest_len,
            reported: false,
        });
        // Two bits a secret, one in sixteen at most: a second look is due at every sixteenth position, and the table at
        // every 256th. With one look what came behind cost an eighth of a whole run.
        if self.secrets.len() * 32 > self.bitmap.len() * 64 {
            let words = (self.bitmap.len() * 2).max(1 << 10);
            self.bitmap = vec![0; words];
            self.shift = 64 - (words * 64).trailing_zeros();
            for secret in &self.secrets {
                set(&mut self.bitmap, self.shift, secret.head());
            }
        } else {
            set(&mut self.bitmap, self.shift, head);
        }
    }

    /// The last secret with this head.
    fn last(&self, head: u64) -> Option<Number> {
        let same = |number: &Number| self.secrets[index(*number)].head() == head;
        self.by_head.find(hash(head), same).copied()
    }

    /// How many secrets of each kind are marked, and how many bytes were searched.
    pub(crate) fn volume(&self) -> (BTreeMap<Sensitive, u64>, u64) {
        (self.marked.clone(), self.searched)
    }

    /// Searches one datagram. Each secret is found once.
    pub(crate) fn search(&mut self, bytes: &[u8], found: &mut Vec<Hit>) {
        self.searched += bytes.len() as u64;
        if self.secrets.is_empty() {
            return;
        }
        for (at, window) in bytes.windows(SEARCHED_MIN).enumerate() {
            let mut head = [0; SEARCHED_MIN];
            head.copy_from_slice(window);
            let head = u64::from_le_bytes(head);
            let hash = hash(head);
            if is_set(&self.bitmap, hash >> self.shift) && is_set(&self.bitmap, second(hash) >> self.shift) {
                self.compare(head, &bytes[at + SEARCHED_MIN..], found);
            }
        }
    }

    /// Searches the next bytes of a stream, also across their border with the bytes before.
    pub(crate) fn search_stream(&mut self, tail: &mut Tail, bytes: &[u8], found: &mut Vec<Hit>) {
        let kept = usize::from(tail.len);
        if kept > 0 && !self.secrets.is_empty() {
            let mut seam = [0; 2 * (SEARCHED_MAX - 1)];
            let fresh = bytes.len().min(SEARCHED_MAX - 1);
            seam[..kept].copy_from_slice(&tail.bytes[..kept]);
            seam[kept..kept + fresh].copy_from_slice(&bytes[..fresh]);
            self.search(&seam[..kept + fresh], found);
        }
        self.search(bytes, found);
        if bytes.len() >= tail.bytes.len() {
            tail.bytes
                .copy_from_slice(&bytes[bytes.len() - (SEARCHED_MAX - 1)..]);
            tail.len = (SEARCHED_MAX - 1) as u8;
        } else {
            let keep = kept.min(SEARCHED_MAX - 1 - bytes.len());
            tail.bytes.copy_within(kept - keep..kept, 0);
            tail.bytes[keep..keep + bytes.len()].copy_from_slice(bytes);
            tail.len = (keep + bytes.len()) as u8;
        }
    }

    #[cold]
    fn compare(&mut self, head: u64, after: &[u8], found: &mut Vec<Hit>) {
        let mut same = self.last(head);
        while let Some(number) = same {
            let secret = &mut self.secrets[index(number)];
            same = self.before.get(&number).copied();
            let rest = &secret.rest[..usize::from(secret.rest_len)];
            if !secret.reported && after.starts_with(rest) {
                secret.reported = true;
                found.push(Hit {
                    owner: secret.owner,
                    kind: secret.kind,
                    head,
                });
            }
        }
    }
}

fn index(number: Number) -> usize {
    number.get() as usize - 1
}

fn hash(head: u64) -> u64 {
    (head ^ (head >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The place of the second look.
fn second(hash: u64) -> u64 {
    hash.wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

fn is_set(bitmap: &[u64], bit: u64) -> bool {
    bitmap[(bit >> 6) as usize] >> (bit & 63) & 1 == 1
}

fn set(bitmap: &mut [u64], shift: u32, head: u64) {
    let hash = hash(head);
    for bit in [hash >> shift, second(hash) >> shift] {
        bitmap[(bit >> 6) as usize] |= 1 << (bit & 63);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marked(secrets: &[&[u8]]) -> Leaks {
        let mut leaks = Leaks::default();
        for secret in secrets {
            leaks.mark(PeerId(3), Sensitive::UserKey, secret);
        }
        leaks
    }

    proptest! {
        #[test]
        fn a_secret_is_found_wherever_a_stream_is_cut(
            secret in proptest::collection::vec(any::<u8>(), 8..40),
            before in proptest::collection::vec(any::<u8>(), 0..50),
            after in proptest::collection::vec(any::<u8>(), 0..50),
            cuts in proptest::collection::vec(1usize..20, 1..8),
        ) {
            let text = [&before[..], &secret, &after].concat();
            let mut leaks = marked(&[&secret]);
            let (mut tail, mut found, mut rest) = (Tail::default(), Vec::new(), &text[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (segment, left) = rest.split_at((*cut).min(rest.len()));
                leaks.search_stream(&mut tail, segment, &mut found);
                rest = left;
            }
            prop_assert_eq!(found.len(), 1);
        }

        #[test]
        fn other_bytes_are_not_found(text in proptest::collection::vec(0u8..128, 0..400)) {
            let mut leaks = marked(&[&[200; 32], &[201; 8]]);
            let mut found = Vec::new();
            leaks.search(&text, &mut found);
            prop_assert!(found.is_empty());
        }
    }

    #[test]
    fn short_secrets_are_ignored_and_sixteen_bytes_decide() {
        let mut leaks = marked(&[b"1234567", b"0123456789abcdefXX"]);
        let mut found = Vec::new();
        leaks.search(b"1234567 0123456789abcdeF", &mut found);
        assert!(found.is_empty());
        leaks.search(b"... 0123456789abcdef", &mut found);
        assert_eq!((found.len(), leaks.volume().0.values().sum()), (1, 1));
    }

    #[test]
    fn many_secrets_are_all_found_after_the_table_grew() {
        let secrets: Vec<[u8; 16]> = (0..50_000u64)
            .map(|n| crate::host::record::mix(n, 1).to_le_bytes())
            .map(|b| [b, b].concat().try_into().unwrap())
            .collect();
        let mut leaks = Leaks::default();
        let mut found = Vec::new();
        for secret in &secrets {
            leaks.mark(PeerId(0), Sensitive::BoxAddress, secret);
        }
        for secret in &secrets {
            leaks.search(secret, &mut found);
        }
        assert_eq!(found.len(), secrets.len());
    }
}
