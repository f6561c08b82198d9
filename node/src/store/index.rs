//! Where each box is, in memory. Spec: SPEC §4.7.
//!
//! Keyed by 16 bytes of a keyed hash of the address, so that nobody can choose addresses that collide. Boxes of a purged
//! segment are not searched for: their entries are dead because the segment is gone, and are swept when they are a
//! quarter of all.

use std::collections::{BTreeMap, BTreeSet};

use phantom_core::mailbox::BoxAddress;

/// Names a segment; never reused.
pub(super) type SegmentId = u32;

/// A place in a segment: the frame of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: SegmentId,
    pub(super) frame: u32,
}

/// An address as the index knows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexKey([u8; 16]);

/// The index.
pub(super) struct Index {
    key: [u8; 32],
    places: BTreeMap<[u8; 16], Place>,
    dead: usize,
}

impl Index {
    /// An empty index; `key` is drawn anew at each start.
    pub(super) const fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            places: BTreeMap::new(),
            dead: 0,
        }
    }

    pub(super) fn key(&self, address: &BoxAddress) -> IndexKey {
        let hash = blake3::keyed_hash(&self.key, address.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        IndexKey(key)
    }

    pub(super) fn get(&self, key: IndexKey) -> Option<Place> {
        self.places.get(&key.0).copied()
    }

    /// Adds or replaces an entry.
    pub(super) fn insert(&mut self, key: IndexKey, place: Place) {
        self.places.insert(key.0, place);
    }

    /// Removes an entry if it is at `place`.
    pub(super) fn remove(&mut self, key: IndexKey, place: Place) {
        if self.get(key) == Some(place) {
            self.places.remove(&key.0);
        }
    }

    /// A segment of `boxes` boxes is gone, those of `live` are left.
    pub(super) fn segment_gone(&mut self, boxes: usize, live: &BTreeSet<SegmentId>) {
        self.dead += boxes;
        if self.dead * 4 >= self.places.len() {
            self.places.retain(|_, place| live.contains(&place.segment));
            self.dead = 0;
        }
    }

    /// Entries, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}
