//! What a DHT node stores for others, and how much it does for each of them. BEP 44; SPEC §7.3.
//!
//! Items live two hours after their last `put`. A full store gives up the item farthest from the node's own id for a
//! nearer one, so that a flood of far items displaces nothing the node is responsible for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::id::DhtId;
use super::item::MutableItem;
use crate::units::Instant;

/// How long an item is kept after its last `put`.
pub const ITEM_LIFETIME: Duration = Duration::from_secs(2 * 3600);

/// A stored item, checked before it came here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Named by its hash. Boxed: hardly any of the items that nodes hold for us are of this kind.
    Immutable(Box<Bytes>),
    /// Named by key and salt.
    Mutable(MutableItem),
}

/// Why an item was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreRefusal {
    /// The sequence number held is not the expected one.
    #[error("the sequence number held is {held}, not the expected one")]
    CasMismatch {
        /// What is held.
        held: i64,
    },
    /// A newer item, or a different one with the same number, is held.
    #[error("an item with sequence number {held} is held")]
    SequenceTooLow {
        /// What is held.
        held: i64,
    },
    /// The store is full of items that are nearer to this node.
    #[error("the store is full of nearer items")]
    Full,
}

/// A bounded store of items.
#[derive(Clone, Debug)]
pub struct Storage {
    me: DhtId,
    bound: usize,
    items: BTreeMap<DhtId, (Instant, Item)>,
}

impl Storage {
    /// An empty store of the node `me` for at most `bound` items.
    pub const fn new(me: DhtId, bound: usize) -> Self {
        Self {
            me,
            bound,
            items: BTreeMap::new(),
        }
    }

    /// The node's id is another from now on.
    pub(crate) const fn moved_to(&mut self, me: DhtId) {
        self.me = me;
    }

    /// Items held, expired ones included until [`Storage::expire`].
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item under `target`, if it has not expired.
    pub fn get(&self, now: Instant, target: &DhtId) -> Option<&Item> {
        self.items
            .get(target)
            .filter(|(until, _)| *until > now)
            .map(|(_, item)| item)
    }

    /// Stores an immutable item.
    pub fn put_immutable(&mut self, now: Instant, target: DhtId, value: Bytes) -> Result<(), StoreRefusal> {
        self.make_room(now, &target)?;
        self.items
            .insert(target, (now + ITEM_LIFETIME, Item::Immutable(Box::new(value))));
        Ok(())
    }

    /// Stores a mutable item unless that would step back. The same item again renews its lifetime.
    pub fn put_mutable(
        &mut self,
        now: Instant,
        item: MutableItem,
        cas: Option<i64>,
    ) -> Result<(), StoreRefusal> {
        let target = item.target();
        if let Some(Item::Mutable(held)) = self.get(now, &target) {
            let (held_sequence, same) = (held.sequence(), held.value() == item.value());
            if cas.is_some_and(|cas| cas != held_sequence) {
                return Err(StoreRefusal::CasMismatch { held: held_sequence });
            }
            if item.sequence() < held_sequence || (item.sequence() == held_sequence && !same) {
                return Err(StoreRefusal::SequenceTooLow { held: held_sequence });
            }
        }
        self.make_room(now, &target)?;
        self.items
            .insert(target, (now + ITEM_LIFETIME, Item::Mutable(item)));
        Ok(())
    }

    /// Drops what has expired.
    pub fn expire(&mut self, now: Instant) {
        self.items.retain(|_, (until, _)| *until > now);
    }

    fn make_room(&mut self, now: Instant, target: &DhtId) -> Result<(), StoreRefusal> {
        if self.items.contains_key(target) || self.items.len() < self.bound {
            return Ok(());
        }
        self.expire(now);
        if self.items.len() < self.bound {
            return Ok(());
        }
        let farthest = self
            .items
            .keys()
            .copied()
            .max_by_key(|held| self.me.distance(held));
        match farthest {
            Some(held) if self.me.distance(&held) > self.me.distance(target) => {
                self.items.remove(&held);
                Ok(())
            }
            _ => Err(StoreRefusal::Full),
        }
    }
}

/// Counts what each source asks, in a bounded table: a bucket of tokens per address.
#[derive(Clone, Debug)]
pub struct RateLimit {
    burst: u32,
    per_second: u32,
    sources: BTreeMap<IpAddr, (u32, Instant)>,
}

/// Sources counted at once; when there are more, the one unheard the longest is forgotten.
const SOURCES_MAX: usize = 128;

impl RateLimit {
    /// Allows each source `per_second` queries a second, and `burst` at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self {
            burst,
            per_second,
            sources: BTreeMap::new(),
        }
    }

    /// Whether a query from `source` is to be answered now.
    pub fn allow(&mut self, now: Instant, source: IpAddr) -> bool {
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES_MAX {
            let oldest = self
                .sources
                .iter()
                .min_by_key(|(_, (_, at))| *at)
                .map(|(source, _)| *source);
            if let Some(oldest) = oldest {
                self.sources.remove(&oldest);
            }
        }
        let (tokens, filled) = self.sources.entry(source).or_insert((self.burst, now));
        let millis = u64::try_from(now.saturating_since(*filled).as_millis()).unwrap_or(u64::MAX);
        let earned = millis.saturating_mul(u64::from(self.per_second)) / 1000;
        if earned > 0 {
            *tokens = u32::try_from(u64::from(*tokens).saturating_add(earned))
                .unwrap_or(u32::MAX)
                .min(self.burst);
            *filled = now;
        }
        match tokens.checked_sub(1) {
            Some(left) => {
                *tokens = left;
                true
            }
            None => false,
        }
    }

    /// Forgets sources that have been quiet for as long as it takes to fill their bucket.
    pub fn expire(&mut self, now: Instant) {
        let full = Duration::from_secs(u64::from(self.burst / self.per_second.max(1)) + 1);
        self.sources.retain(|_, (_, at)| now.saturating_since(*at) < full);
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::dht::item::{immutable_target, string_value};

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    fn item(seed: u8, sequence: i64, value: &[u8]) -> MutableItem {
        MutableItem::sign(
            &SigningKey::from_bytes(&[seed; 32]),
            b"s",
            sequence,
            &string_value(value),
        )
        .expect("in bounds")
    }

    #[test]
    fn a_sequence_never_steps_back_and_cas_guards_it() {
        let mut store = Storage::new(DhtId([0; 20]), 8);
        assert_eq!(store.put_mutable(at(0), item(1, 5, b"five"), None), Ok(()));
        assert_eq!(
            store.put_mutable(at(1), item(1, 4, b"four"), None),
            Err(StoreRefusal::SequenceTooLow { held: 5 })
        );
        assert_eq!(
            store.put_mutable(at(1), item(1, 5, b"else"), None),
            Err(StoreRefusal::SequenceTooLow { held: 5 })
        );
        assert_eq!(
            store.put_mutable(at(1), item(1, 6, b"six"), Some(4)),
            Err(StoreRefusal::CasMismatch { held: 5 })
        );
        assert_eq!(store.put_mutable(at(1), item(1, 6, b"six"), Some(5)), Ok(()));
        assert_eq!(
            store.get(at(2), &item(1, 6, b"six").target()),
            Some(&Item::Mutable(item(1, 6, b"six")))
        );
    }

    #[test]
    fn items_live_two_hours_from_their_last_put() {
        let mut store = Storage::new(DhtId([0; 20]), 8);
        let five = item(1, 5, b"five");
        store.put_mutable(at(0), five.clone(), None).expect("room");
        store
            .put_mutable(at(3600), five.clone(), None)
            .expect("the same again");
        assert!(store.get(at(7200 + 3599), &five.target()).is_some());
        assert!(store.get(at(7200 + 3600), &five.target()).is_none());
        store.expire(at(7200 + 3600));
        assert!(store.is_empty());
    }

    #[test]
    fn a_full_store_keeps_what_is_nearest_to_its_node() {
        let mut values: Vec<_> = (0..20_u8).map(|i| Bytes::from(string_value(&[i]))).collect();
        let me = DhtId([0x55; 20]);
        let mut store = Storage::new(me, 4);
        for value in &values {
            let _ = store.put_immutable(at(0), immutable_target(value), value.clone());
            assert!(store.len() <= 4);
        }
        values.sort_by_key(|value| me.distance(&immutable_target(value)));
        for value in &values[..4] {
            assert!(store.get(at(1), &immutable_target(value)).is_some());
        }
        let far = immutable_target(&values[19]);
        assert_eq!(
            store.put_immutable(at(1), far, values[19].clone()),
            Err(StoreRefusal::Full)
        );
    }

    #[test]
    fn a_flooding_source_is_held_to_its_rate_and_others_are_not_touched() {
        let mut limit = RateLimit::new(10, 20);
        let (loud, quiet): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let allowed = (0..1000_u64)
            .filter(|ms| limit.allow(Instant::from_nanos(ms * 1_000_000), loud))
            .count();
        assert!((20..=30).contains(&allowed), "{allowed}");
        assert!(limit.allow(at(1), quiet));
        for i in 0..10_000_u32 {
            limit.allow(at(2), IpAddr::from(i.to_be_bytes()));
            assert!(limit.sources.len() <= SOURCES_MAX);
        }
        limit.expire(at(60));
        assert!(limit.sources.is_empty());
    }
}
