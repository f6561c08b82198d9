//! One segment: a file of equally long frames under a key of its own. Spec: SPEC §4.7.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use phantom_core::crypto::aead::{AeadKey, TAG_LEN, nonce};
use phantom_core::mailbox::{Record, TtlBucket, record_len};
use phantom_core::packet::Class;
use phantom_core::units::WallTime;

use super::index::SegmentId;
use super::log::Log;

/// The length of a frame: expiry (8 bytes, nanoseconds), record, tag; sealed as one.
pub(super) const fn frame_len(class: Class) -> usize {
    8 + record_len(class) + TAG_LEN
}

/// What all files of the store's boxes begin with.
pub(super) const PREFIX: &str = "box-";

/// What a segment's name says: boxes of this bucket and class that expire until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// Unix seconds; no box in it expires later.
    pub(super) ends: u64,
    pub(super) bucket: TtlBucket,
    pub(super) id: SegmentId,
    pub(super) class: Class,
}

impl Name {
    /// `box-<ends>-<bucket>-<id>`, behind it `-bulk` for bulk boxes; without `.seg` or `.key`.
    fn stem(self) -> String {
        let class = match self.class {
            Class::Small => "",
            Class::Bulk => "-bulk",
        };
        format!(
            "{PREFIX}{:012}-{:02}-{:08x}{class}",
            self.ends,
            self.bucket.code(),
            self.id
        )
    }

    pub(super) fn data_file(self) -> String {
        self.stem() + ".seg"
    }

    pub(super) fn key_file(self) -> String {
        self.stem() + ".key"
    }

    /// The name and whether it is a data file (else a key file), if `file` is of the store.
    pub(super) fn parse(file: &str) -> Option<(Self, bool)> {
        let (stem, kind) = file.strip_prefix(PREFIX)?.split_once('.')?;
        let mut parts = stem.split('-');
        let name = Self {
            ends: parts.next()?.parse().ok()?,
            bucket: TtlBucket::from_code(parts.next()?.parse().ok()?).ok()?,
            id: SegmentId::from_str_radix(parts.next()?, 16).ok()?,
            class: match parts.next() {
                None => Class::Small,
                Some(_) => Class::Bulk,
            },
        };
        let data = match kind {
            "seg" => true,
            "key" => false,
            _ => return None,
        };
        // One name, one form.
        let own = if data { name.data_file() } else { name.key_file() };
        (own == file).then_some((name, data))
    }
}

/// The end of the slot that a box of `bucket` with this expiry goes to, in Unix seconds.
pub(super) fn slot_end(bucket: TtlBucket, expires: WallTime) -> u64 {
    let slot = slot_len(bucket).as_secs();
    let secs = expires.as_unix_nanos().div_ceil(1_000_000_000);
    secs.div_ceil(slot) * slot
}

/// The length of a slot of `bucket`: a 16th of its time, at least a second and at most an hour. So long at most do bytes
/// outlive their box.
pub(super) fn slot_len(bucket: TtlBucket) -> Duration {
    Duration::from_secs((bucket.ttl().as_secs() / 16).clamp(1, 3_600))
}

/// A segment that is not purged.
pub(super) struct Segment {
    pub(super) name: Name,
    pub(super) log: Log,
    key: AeadKey,
    latest: AtomicU64,
}

impl Segment {
    pub(super) fn new(name: Name, key: AeadKey) -> Self {
        Self {
            name,
            log: Log::new(name.data_file()),
            key,
            latest: AtomicU64::new(0),
        }
    }

    /// A segment of an earlier run, of `frames` frames, the last of which to expire does so at `latest`. It takes no
    /// more: its end may be torn, and a frame number must not serve twice under one key.
    pub(super) fn recovered(name: Name, key: AeadKey, frames: u32, latest: WallTime) -> Self {
        let log = Log::of_len(name.data_file(), u64::from(frames) * frame_len(name.class) as u64);
        log.close();
        Self {
            name,
            log,
            key,
            latest: AtomicU64::new(latest.as_unix_nanos()),
        }
    }

    pub(super) const fn id(&self) -> SegmentId {
        self.name.id
    }

    /// The length of each of its frames.
    pub(super) const fn frame_len(&self) -> usize {
        frame_len(self.name.class)
    }

    /// Frames in it.
    pub(super) fn frames(&self) -> u32 {
        u32::try_from(self.log.len() / self.frame_len() as u64).unwrap_or(u32::MAX)
    }

    /// When all its boxes have expired.
    pub(super) fn latest(&self) -> WallTime {
        WallTime::from_unix_nanos(self.latest.load(Ordering::Acquire))
    }

    /// It holds a box that expires then.
    pub(super) fn holds_until(&self, expires: WallTime) {
        self.latest.fetch_max(expires.as_unix_nanos(), Ordering::AcqRel);
    }

    pub(super) const fn key_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The frame of this number.
    pub(super) fn seal(&self, frame: u32, expires: WallTime, record: &Record) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.frame_len());
        plain.extend_from_slice(&expires.as_unix_nanos().to_be_bytes());
        record.write(&mut plain);
        let tag = self.key.seal_in_place(nonce(u64::from(frame)), b"", &mut plain);
        plain.extend_from_slice(&tag);
        plain
    }

    /// Expiry and record of a frame; `None` if it is damaged or torn.
    pub(super) fn open(&self, frame: u32, sealed: &[u8]) -> Option<(WallTime, Record)> {
        open(&self.key, frame, sealed)
    }
}

/// Opens a frame.
pub(super) fn open(key: &AeadKey, frame: u32, sealed: &[u8]) -> Option<(WallTime, Record)> {
    let plain = key.open(nonce(u64::from(frame)), b"", sealed).ok()?;
    let (expires, record) = plain.split_first_chunk::<8>()?;
    Some((
        WallTime::from_unix_nanos(u64::from_be_bytes(*expires)),
        Record::decode(record).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_not_ours() {
        for class in Class::ALL {
            let name = Name {
                ends: 1_800_000_000,
                bucket: TtlBucket::ALL[3],
                id: 0xabc,
                class,
            };
            assert_eq!(Name::parse(&name.data_file()), Some((name, true)));
            assert_eq!(Name::parse(&name.key_file()), Some((name, false)));
        }
        for other in [
            "box-1-2-3.seg",
            "box-001800000000-03-00000abc.tmp",
            "box-",
            "time",
            "box-001800000000-99-00000abc.seg",
            "box-001800000000-03-00000abc-huge.seg",
            "box-001800000000-03-00000abc-bulk-bulk.seg",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn bytes_outlive_their_box_by_a_sixteenth_of_its_time_or_an_hour() {
        for bucket in TtlBucket::ALL {
            for nanos in [1, 999_999_999, 1_000_000_000, 12_345_678_900_000_000_000] {
                let expires = WallTime::from_unix_nanos(nanos);
                let end = WallTime::from_unix_secs(slot_end(bucket, expires));
                assert!(
                    end >= expires
                        && end.saturating_since(expires) < slot_len(bucket) + Duration::from_secs(1)
                );
            }
        }
    }
}
