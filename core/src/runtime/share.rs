//! The map behind [`Share`](super::Share): values by content hash, held only as long as somebody uses them.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Values shared between the peers of one process. Clones are handles to the same map.
#[derive(Clone, Default)]
pub struct Shares(Arc<Mutex<Map>>);

type Held = Weak<dyn Any + Send + Sync>;

#[derive(Default)]
struct Map {
    held: BTreeMap<([u8; 32], TypeId), Held>,
    /// Dead entries are swept when the map reaches this size, so that sweeping costs O(1) per insertion.
    sweep_at: usize,
}

impl Shares {
    /// See [`Share::shared`](super::Share::shared). `make` runs without the lock: two threads may both make a value, and
    /// both then hold the first.
    pub fn shared<T, F>(&self, key: [u8; 32], make: F) -> Arc<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> T,
    {
        let key = (key, TypeId::of::<T>());
        if let Some(value) = self.live(key) {
            return value;
        }
        let made = Arc::new(make());
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = map.held.get(&key).and_then(upgrade) {
            return first;
        }
        if map.held.len() >= map.sweep_at {
            map.held.retain(|_, held| held.strong_count() > 0);
            map.sweep_at = 2 * map.held.len() + 16;
        }
        let any: Arc<dyn Any + Send + Sync> = made.clone();
        map.held.insert(key, Arc::downgrade(&any));
        made
    }

    fn live<T: Send + Sync + 'static>(&self, key: ([u8; 32], TypeId)) -> Option<Arc<T>> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.held.get(&key).and_then(upgrade)
    }
}

fn upgrade<T: Send + Sync + 'static>(held: &Held) -> Option<Arc<T>> {
    held.upgrade()?.downcast().ok()
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Shares")
            .field("entries", &map.held.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_while_somebody_holds_it_and_forgotten_after() {
        let shares = Shares::default();
        let first = shares.shared([1; 32], || 7_u32);
        let second = shares
            .clone()
            .shared([1; 32], || -> u32 { panic!("held already") });
        assert!(Arc::ptr_eq(&first, &second));
        drop((first, second));
        assert_eq!(*shares.shared([1; 32], || 8_u32), 8);
    }

    #[test]
    fn one_key_with_two_types_is_two_values() {
        let shares = Shares::default();
        let number = shares.shared([2; 32], || 1_u64);
        let text = shares.shared([2; 32], || "one".to_owned());
        assert_eq!((*number, text.as_str()), (1, "one"));
    }

    #[test]
    fn the_map_does_not_grow_with_values_that_are_gone() {
        let shares = Shares::default();
        for i in 0..10_000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&i.to_le_bytes());
            drop(shares.shared(key, || i));
        }
        let map = shares.0.lock().unwrap();
        assert!(map.held.len() <= 64, "{} dead entries", map.held.len());
    }
}
