//! What clients and nodes keep of the directory: the newest document, the pinned keys, and what both say about the
//! time. Spec: SPEC §6.6.
//!
//! | A signed document that … | is |
//! |---|---|
//! | does not decode, or is not signed by k of the pinned keys (or of keys that these lead to) | refused: `Sign` |
//! | is for an earlier interval than the newest held | refused: `Older` |
//! | is the newest held | `Known` |
//! | is for the same interval as the newest held, but another | refused: `Fork`; the first is kept |
//! | has `valid_until` not after the time believed | refused: `Expired` |
//! | is for a later time than believed, or any other | accepted; the time believed is moved to `valid_after` less the lead |
//!
//! The last line is what defeats a stopped clock: k authorities do not sign a document long before its interval.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::directory::document::{DocumentHash, SharedDocument};
use crate::directory::sign::{KeySet, SignError};
use crate::runtime::Share;
use crate::trusted_time::{Reading, TimeLimits, TrustedTime};
use crate::units::{Instant, WallTime};
use crate::wire::{DecodeError, Reader, Writer};

const FORMAT: u8 = 1;

/// Why a document is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// It is not signed as it must be.
    #[error("document: {0}")]
    Sign(#[from] SignError),
    /// A newer one is held.
    #[error("document is for {got:?}, one for {held:?} is held")]
    Older {
        /// Of the document held.
        held: WallTime,
        /// Of the one refused.
        got: WallTime,
    },
    /// Its time is over. Either it is old or the clock is wrong: the user should be told both times.
    #[error("document was valid until {until:?}, the time is {now:?}")]
    Expired {
        /// When it ended.
        until: WallTime,
        /// The time believed.
        now: WallTime,
    },
    /// Two documents for one interval are both signed: at least 2k - n authorities signed twice.
    #[error("two documents are signed for {valid_after:?}: {held:?} and {got:?}")]
    Fork {
        /// The interval.
        valid_after: WallTime,
        /// The one held.
        held: DocumentHash,
        /// The one refused.
        got: DocumentHash,
    },
}

/// How an offered document was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is the newest now: persist [`DirectoryCache::persist`].
    New,
    /// It was held already.
    Known,
}

/// The newest document and the pinned keys.
#[derive(Clone, Debug)]
pub struct DirectoryCache {
    pinned: KeySet,
    newest: Option<SharedDocument>,
    time: TrustedTime,
}

impl DirectoryCache {
    /// Starts with the keys that the program was published with and nothing else.
    pub const fn new(pinned: KeySet, limits: TimeLimits) -> Self {
        Self {
            pinned,
            newest: None,
            time: TrustedTime::new(limits, None),
        }
    }

    /// Restores what [`DirectoryCache::persist`] gave. `published` are the keys of the program. If they differ from the
    /// persisted ones and these are not later, the program was updated with other keys, and they count; a document that
    /// they do not verify is dropped then, since whoever held the old keys may have signed it.
    ///
    /// # Errors
    /// [`SignError`]: the file is damaged; start anew.
    pub fn restore<R: Share>(
        rt: &R,
        published: KeySet,
        limits: TimeLimits,
        bytes: &[u8],
    ) -> Result<Self, SignError> {
        let mut r = Reader::new(bytes);
        let format = r.u8()?;
        if format != FORMAT {
            return Err(DecodeError::BadValue {
                field: "directory cache format",
                got: u64::from(format),
            }
            .into());
        }
        let highest = WallTime::from_unix_nanos(r.u64()?);
        let pinned = KeySet::read(&mut r)?;
        let newest = match r.rest() {
            [] => None,
            signed => Some(SharedDocument::new(rt, &pinned, signed)?),
        };
        let (pinned, newest) = if published != pinned && published.sequence() >= pinned.sequence() {
            let kept = newest.and_then(|newest| SharedDocument::new(rt, &published, &newest.signed).ok());
            (published, kept)
        } else {
            (pinned, newest)
        };
        Ok(Self {
            pinned,
            newest,
            time: TrustedTime::new(limits, Some(highest)),
        })
    }

    /// What to write to a file after each [`Accepted::New`] and now and then (it also holds the highest time believed).
    pub fn persist(&self) -> Vec<u8> {
        let signed = self
            .newest
            .as_ref()
            .map_or(Bytes::new(), |newest| newest.signed.clone());
        let mut out = Vec::with_capacity(signed.len() + 600);
        out.put_u8(FORMAT);
        out.put_u64(self.time.highest().as_unix_nanos());
        self.pinned.write(&mut out);
        out.put(&signed);
        out
    }

    /// The keys pinned now.
    pub const fn pinned(&self) -> &KeySet {
        &self.pinned
    }

    /// The newest document, whether or not it may still be used.
    pub const fn newest(&self) -> Option<&SharedDocument> {
        self.newest.as_ref()
    }

    /// Judges the time. Call it before [`DirectoryCache::usable`] and [`DirectoryCache::offer`] decide by it, and now
    /// and then besides; report [`Reading::fault`] when it is news.
    pub fn observe(&mut self, now: Instant, wall: WallTime) -> Reading {
        self.time.observe(now, wall)
    }

    /// The newest document, if it may be used at the time believed.
    pub fn usable(&self) -> Option<&SharedDocument> {
        let time = self.time.highest();
        self.newest
            .as_ref()
            .filter(|newest| time < newest.document.valid_until())
    }

    /// When to look for a newer document: a third into the interval after the newest one's, or now. Whoever is one of
    /// thousands that hold the same document adds a part of [`DirectoryCache::refresh_spread`] drawn for itself.
    pub fn refresh_at(&self) -> WallTime {
        let Some(newest) = &self.newest else {
            return self.time.highest();
        };
        let interval = newest.document.timing.interval;
        newest.document.valid_after + interval + interval / 3
    }

    /// Over how long clients are to spread: a third of an interval, nothing without a document.
    pub fn refresh_spread(&self) -> Duration {
        let newest = self.newest.as_ref();
        newest.map_or(Duration::ZERO, |newest| newest.document.timing.interval / 3)
    }

    /// Takes a signed document or refuses it; see the table of the module. `now` and `wall` are read anew.
    ///
    /// # Errors
    /// [`Refused`]; nothing is changed then but the time believed.
    pub fn offer<R: Share>(
        &mut self,
        rt: &R,
        now: Instant,
        wall: WallTime,
        bytes: &[u8],
    ) -> Result<Accepted, Refused> {
        let time = self.observe(now, wall).time;
        let offered = SharedDocument::new(rt, &self.pinned, bytes)?;
        let (valid_after, until) = (offered.document.valid_after, offered.document.valid_until());
        if let Some(newest) = &self.newest {
            let held = newest.document.valid_after;
            if valid_after < held {
                return Err(Refused::Older {
                    held,
                    got: valid_after,
                });
            }
            if valid_after == held {
                return match offered.hash == newest.hash {
                    true => Ok(Accepted::Known),
                    false => Err(Refused::Fork {
                        valid_after,
                        held: newest.hash,
                        got: offered.hash,
                    }),
                };
            }
        }
        if until <= time {
            return Err(Refused::Expired { until, now: time });
        }
        self.time.witness(now, wall, offered.document.current());
        self.pinned = offered.keys.clone();
        self.newest = Some(offered);
        Ok(Accepted::New)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::IdentitySecret;
    use crate::directory::document::tests::{document, signed};
    use crate::directory::sign::tests::{publics, secrets};
    use crate::runtime::share::Shares;
    use std::sync::Arc;

    const T: u64 = 1_800_000_000;
    const HOUR: u64 = 3_600;

    struct Rt(Shares);

    impl Share for Rt {
        fn shared<V: Send + Sync + 'static, F: FnOnce() -> V>(&self, key: [u8; 32], make: F) -> Arc<V> {
            self.0.shared(key, make)
        }
    }

    fn rt() -> Rt {
        Rt(Shares::default())
    }

    fn keys() -> (Vec<IdentitySecret>, KeySet) {
        let secrets = secrets(3);
        let set = KeySet::new(0, 2, &publics(&secrets)).expect("2 of 3");
        (secrets, set)
    }

    fn bytes(nodes: u64, valid_after: u64) -> Vec<u8> {
        signed(&document(nodes, valid_after), &keys().0[..2]).encode()
    }

    fn at(secs: u64) -> (Instant, WallTime) {
        (
            Instant::ZERO + Duration::from_secs(secs),
            WallTime::from_unix_secs(T + secs),
        )
    }

    fn offer(cache: &mut DirectoryCache, secs: u64, bytes: &[u8]) -> Result<Accepted, Refused> {
        let (now, wall) = at(secs);
        cache.offer(&rt(), now, wall, bytes)
    }

    fn fresh() -> DirectoryCache {
        DirectoryCache::new(keys().1, TimeLimits::default())
    }

    #[test]
    fn the_newest_document_is_kept_and_older_ones_are_refused() {
        let mut cache = fresh();
        assert_eq!(offer(&mut cache, 0, &bytes(2, T)), Ok(Accepted::New));
        assert_eq!(offer(&mut cache, 1, &bytes(2, T)), Ok(Accepted::Known));
        assert_eq!(offer(&mut cache, HOUR, &bytes(3, T + HOUR)), Ok(Accepted::New));
        assert!(matches!(
            offer(&mut cache, HOUR, &bytes(2, T)),
            Err(Refused::Older { .. })
        ));
    }

    #[test]
    fn a_second_document_for_the_same_interval_is_a_fork_and_refused() {
        let mut cache = fresh();
        assert_eq!(offer(&mut cache, 0, &bytes(2, T)), Ok(Accepted::New));
        assert!(matches!(
            offer(&mut cache, 1, &bytes(3, T)),
            Err(Refused::Fork { .. })
        ));
        assert_eq!(cache.usable().map(|doc| doc.document.nodes.len()), Some(2));
    }

    #[test]
    fn an_unsigned_or_expired_document_is_refused() {
        let mut cache = fresh();
        let one = signed(&document(2, T), &keys().0[..1]).encode();
        assert!(matches!(
            offer(&mut cache, 0, &one),
            Err(Refused::Sign(SignError::TooFew { .. }))
        ));
        assert!(matches!(
            offer(&mut cache, 3 * HOUR, &bytes(2, T)),
            Err(Refused::Expired { .. })
        ));
        assert!(cache.newest().is_none());
    }

    #[test]
    fn a_document_ends_after_three_intervals_even_when_the_wall_clock_stops() {
        let mut cache = fresh();
        assert_eq!(offer(&mut cache, 0, &bytes(2, T)), Ok(Accepted::New));
        let stopped = at(0).1;
        let _ = cache.observe(at(3 * HOUR - 1).0, stopped);
        assert!(cache.usable().is_some());
        assert!(cache.observe(at(3 * HOUR).0, stopped).fault.is_some());
        assert!(cache.usable().is_none());
    }

    #[test]
    fn a_clock_set_back_across_a_restart_makes_no_old_document_usable() {
        let mut cache = fresh();
        assert_eq!(offer(&mut cache, 0, &bytes(2, T)), Ok(Accepted::New));
        let _ = cache.observe(at(4 * HOUR).0, at(4 * HOUR).1);
        let kept = cache.persist();
        let mut again =
            DirectoryCache::restore(&rt(), keys().1, TimeLimits::default(), &kept).expect("own file");
        let _ = again.observe(Instant::ZERO, at(0).1);
        assert!(again.usable().is_none());
        assert!(matches!(
            offer(&mut again, 0, &bytes(2, T - HOUR)),
            Err(Refused::Older { .. })
        ));
    }

    /// The holders of the old keys lost them, and somebody signed a document that ends years from now.
    #[test]
    fn other_keys_that_are_published_take_over_what_an_older_program_kept() {
        let mut cache = fresh();
        assert_eq!(offer(&mut cache, 0, &bytes(2, T + HOUR)), Ok(Accepted::New));
        let kept = cache.persist();
        let others = &secrets(6)[3..];
        let published = KeySet::new(0, 2, &publics(others)).expect("2 of 3");
        let mut again = DirectoryCache::restore(&rt(), published.clone(), TimeLimits::default(), &kept)
            .expect("own file");
        assert_eq!(again.pinned(), &published);
        assert!(
            again.newest().is_none(),
            "who held the old keys may have signed it"
        );
        assert!(matches!(
            offer(&mut again, 1, &bytes(2, T + 2 * HOUR)),
            Err(Refused::Sign(_))
        ));
        let signed = signed(&document(2, T), &others[..2]).encode();
        assert_eq!(offer(&mut again, 2, &signed), Ok(Accepted::New));
        let kept = again.persist();
        let again =
            DirectoryCache::restore(&rt(), published, TimeLimits::default(), &kept).expect("own file");
        assert!(again.newest().is_some(), "the same keys again change nothing");
    }

    #[test]
    fn keys_that_a_change_led_to_stay_pinned_whatever_an_older_program_says() {
        let (_, old) = keys();
        let later = KeySet::new(1, 2, &publics(&secrets(6)[3..])).expect("2 of 3");
        let kept = DirectoryCache::new(later.clone(), TimeLimits::default()).persist();
        let again = DirectoryCache::restore(&rt(), old, TimeLimits::default(), &kept).expect("own file");
        assert_eq!(again.pinned(), &later);
    }

    #[test]
    fn a_document_from_later_corrects_a_clock_that_is_behind() {
        let mut cache = fresh();
        assert_eq!(
            offer(&mut cache, 0, &bytes(2, T + 1_000 * HOUR)),
            Ok(Accepted::New)
        );
        assert!(cache.usable().is_some());
        assert!(cache.observe(at(1).0, at(1).1).time >= at(999 * HOUR).1);
        assert!(matches!(
            offer(&mut cache, 2, &bytes(2, T)),
            Err(Refused::Older { .. })
        ));
    }

    #[test]
    fn equal_documents_are_parsed_once_per_process() {
        let rt = rt();
        let (mut a, mut b) = (fresh(), fresh());
        let bytes = bytes(5, T);
        let (now, wall) = at(0);
        assert_eq!(a.offer(&rt, now, wall, &bytes), Ok(Accepted::New));
        assert_eq!(b.offer(&rt, now, wall, &bytes), Ok(Accepted::New));
        let [a, b] = [&a, &b].map(|cache| std::ptr::from_ref(&cache.newest().expect("held").document));
        assert_eq!(a, b);
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_file_never_panics(at: proptest::sample::Index, to: u8, junk: Vec<u8>) {
            let mut cache = fresh();
            let _ = offer(&mut cache, 0, &bytes(2, T));
            let mut kept = cache.persist();
            let at = at.index(kept.len());
            kept[at] = to;
            let _ = DirectoryCache::restore(&rt(), keys().1, TimeLimits::default(), &kept);
            let _ = DirectoryCache::restore(&rt(), keys().1, TimeLimits::default(), &junk);
        }
    }
}
