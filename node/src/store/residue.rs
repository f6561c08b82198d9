//! Whether a purge left anything: boxes are remembered while they are on a disk, and once their time is over every file is
//! searched for their bytes. Spec: SPEC §4.7.
//!
//! Nothing here asks the store's own reader what is left: bytes that it no longer finds, in a file that it does not know
//! or under a key that lies somewhere else, count as well. Only the layout of segments is known, to see boxes come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use phantom_core::crypto::aead::AeadKey;
use phantom_core::mailbox::body_len;
use phantom_core::units::WallTime;

use super::segment::{Name, frame_len, open, slot_len};

/// What is remembered of a body or a key, and looked for.
const PIECE: usize = 32;
/// What two places must have in common to be called the same.
const WINDOW: usize = 16;
/// Wherever a piece lies in a file, a whole window of it begins at a multiple of this.
const STEP: usize = PIECE - WINDOW + 1;
/// Where the body of a record begins in a frame: after expiry, version, address, bucket and bound.
const BODY_AT: usize = 8 + 1 + 32 + 1 + 8;

type Piece = [u8; PIECE];

/// The boxes that were seen on a disk.
#[derive(Debug, Default)]
pub struct Residue {
    segments: BTreeMap<Name, Seen>,
    boxes: Vec<Trace>,
    keys: Vec<(WallTime, Piece)>,
}

/// A segment file as it was last seen.
#[derive(Debug)]
struct Seen {
    key: Piece,
    frames: u32,
    /// When all its boxes must be gone, and with them the key.
    gone_by: WallTime,
}

/// What is remembered of a box.
#[derive(Debug)]
struct Trace {
    gone_by: WallTime,
    /// A piece of its body, sealed as it is in the segment and as its writer sealed it. Which piece changes from box to
    /// box, so that many boxes cover all parts of a body.
    pieces: [Piece; 2],
}

/// Boxes and keys whose time is over.
#[derive(Debug, Default)]
pub struct Due {
    boxes: Vec<[Piece; 2]>,
    keys: Vec<Piece>,
}

/// What a search found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Boxes of which bytes are left.
    pub boxes: u32,
    /// Keys of segments that are left.
    pub keys: u32,
}

impl Residue {
    /// Takes note of the boxes that are new in a store with files of these names; `read` gives bytes of a file, from an offset
    /// on and so many, or nothing if it is shorter. Boxes that come and go between two calls are not seen.
    pub fn note(
        &mut self,
        names: impl IntoIterator<Item = impl AsRef<str>>,
        read: impl Fn(&str, u64, usize) -> Option<Bytes>,
    ) {
        let mut keys = BTreeMap::new();
        let mut data = BTreeSet::new();
        for file in names {
            let file = file.as_ref();
            match Name::parse(file) {
                Some((name, true)) => {
                    data.insert(name);
                }
                Some((name, false)) => {
                    let key = read(file, 0, PIECE).and_then(|bytes| Piece::try_from(&bytes[..]).ok());
                    keys.extend(key.map(|key| (name, key)));
                }
                None => {}
            }
        }
        // A store that lost its disk begins to number segments anew: then the key is another.
        let gone = |name: &Name, seen: &Seen| keys.get(name) != Some(&seen.key);
        let over = self.segments.extract_if(.., |name, seen| gone(name, seen));
        self.keys.extend(over.map(|(_, seen)| (seen.gone_by, seen.key)));
        for (name, key) in keys {
            if data.contains(&name) {
                self.note_segment(name, key, &read);
            }
        }
    }

    /// Takes note of the frames of a segment that are new.
    fn note_segment(&mut self, name: Name, key: Piece, read: impl Fn(&str, u64, usize) -> Option<Bytes>) {
        let file = name.data_file();
        let mut number = self.segments.get(&name).map_or(0, |seen| seen.frames);
        let len = frame_len(name.class);
        while let Some(frame) = read(&file, u64::from(number) * len as u64, len) {
            let opened = open(&AeadKey::from_bytes(key), number, &frame);
            let at = number as usize % (body_len(name.class) / PIECE) * PIECE;
            number += 1;
            let Some((expires, record)) = opened else {
                continue;
            };
            // Its writer's word bounds that of the node.
            let expires = expires.min(WallTime::from_unix_secs(record.not_after()));
            let gone_by = expires + slot_len(record.bucket());
            let seen = self.segments.entry(name).or_insert(Seen {
                key,
                frames: 0,
                gone_by,
            });
            seen.frames = number;
            seen.gone_by = seen.gone_by.max(gone_by);
            let sealed = piece(&frame[BODY_AT..], at);
            if self.boxes.len() == self.boxes.capacity() {
                // Not twice as many: a world has hundreds of stores with thousands of boxes.
                self.boxes.reserve_exact(self.boxes.len() / 8 + 8);
            }
            self.boxes.push(Trace {
                gone_by,
                pieces: [sealed, piece(record.body(), at)],
            });
        }
    }

    /// Gives out, and forgets, what must be gone at `now`. A box may outlive its time by a slot (SPEC §4.7) and then by
    /// `grace`, which is for clocks that differ and for the time that a purge takes.
    pub fn due(&mut self, now: WallTime, grace: Duration) -> Due {
        let over = |gone_by: WallTime| gone_by + grace <= now;
        let boxes = self.boxes.extract_if(.., |trace| over(trace.gone_by));
        let boxes = boxes.map(|trace| trace.pieces).collect();
        let mut keys: Vec<Piece> = self
            .keys
            .extract_if(.., |(gone_by, _)| over(*gone_by))
            .map(|(_, key)| key)
            .collect();
        let segments = self.segments.extract_if(.., |_, seen| over(seen.gone_by));
        keys.extend(segments.map(|(_, seen)| seen.key));
        Due { boxes, keys }
    }
}

impl Due {
    /// How many boxes.
    pub const fn boxes(&self) -> usize {
        self.boxes.len()
    }

    /// Searches every byte of `files`.
    pub fn search(&self, files: impl Iterator<Item = impl AsRef<[u8]>>) -> Left {
        if self.boxes.is_empty() && self.keys.is_empty() {
            return Left::default();
        }
        let mut windows = Windows::default();
        for (n, pieces) in self.boxes.iter().enumerate() {
            pieces.iter().for_each(|piece| windows.add(piece, n));
        }
        for (n, key) in self.keys.iter().enumerate() {
            windows.add(key, self.boxes.len() + n);
        }
        windows.sort();
        let mut found = vec![false; self.boxes.len() + self.keys.len()];
        for file in files {
            windows.find(file.as_ref(), &mut found);
        }
        let (boxes, keys) = found.split_at(self.boxes.len());
        let count = |found: &[bool]| found.iter().filter(|found| **found).count() as u32;
        Left {
            boxes: count(boxes),
            keys: count(keys),
        }
    }
}

/// Every window of the pieces sought, so that a file is looked at every [`STEP`] bytes only.
#[derive(Default)]
struct Windows {
    sorted: Vec<(u128, u32)>,
    /// A bit for the last bits of every window: most places in a file are dismissed by it alone.
    hints: Vec<u64>,
}

impl Windows {
    fn add(&mut self, piece: &Piece, what: usize) {
        let what = u32::try_from(what).unwrap_or(u32::MAX);
        self.sorted
            .extend(piece.windows(WINDOW).map(|window| (number(window), what)));
    }

    fn sort(&mut self) {
        self.sorted.sort_unstable();
        // Eight bits a window: one place in eight is looked up in vain.
        self.hints = vec![0; (self.sorted.len() / 8 + 1).next_power_of_two()];
        for n in 0..self.sorted.len() {
            let (word, bit) = self.hint(self.sorted[n].0);
            self.hints[word] |= bit;
        }
    }

    const fn hint(&self, window: u128) -> (usize, u64) {
        let low = window as usize;
        ((low >> 6) & (self.hints.len() - 1), 1 << (low & 63))
    }

    fn find(&self, bytes: &[u8], found: &mut [bool]) {
        for window in bytes.windows(WINDOW).step_by(STEP).map(number) {
            let (word, bit) = self.hint(window);
            if self.hints[word] & bit == 0 {
                continue;
            }
            let from = self.sorted.partition_point(|(other, _)| *other < window);
            let same = self.sorted[from..]
                .iter()
                .take_while(|(other, _)| *other == window);
            same.for_each(|(_, what)| found[*what as usize] = true);
        }
    }
}

fn number(window: &[u8]) -> u128 {
    let mut bytes = [0; WINDOW];
    bytes.copy_from_slice(window);
    u128::from_le_bytes(bytes)
}

fn piece(bytes: &[u8], at: usize) -> Piece {
    let mut piece = [0; PIECE];
    piece.copy_from_slice(&bytes[at..at + PIECE]);
    piece
}
