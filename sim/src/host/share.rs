//! Results of pure functions of bytes, shared by content hash between the peers of one process.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

type Held = Weak<dyn Any + Send + Sync>;

/// The table behind [`phantom_core::runtime::Share`]: weak, so that values nobody holds are forgotten.
#[derive(Default)]
pub struct Shared {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    held: BTreeMap<[u8; 32], Held>,
    /// Dead entries are swept when the table has grown to this size.
    sweep_at: usize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// The value for `key`, made by `make` (outside the lock) if nobody holds it.
    pub fn get<T, F>(&self, key: [u8; 32], make: F) -> Arc<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> T,
    {
        let found = self.lock().held.get(&key).and_then(Weak::upgrade);
        if let Some(value) = found.and_then(|value| value.downcast::<T>().ok()) {
            return value;
        }
        let value = Arc::new(make());
        let mut table = self.lock();
        let held: Arc<dyn Any + Send + Sync> = value.clone();
        table.held.insert(key, Arc::downgrade(&held));
        if table.held.len() > table.sweep_at {
            table.held.retain(|_, held| held.strong_count() > 0);
            table.sweep_at = 64 + 2 * table.held.len();
        }
        value
    }

    /// How many entries the table has, dead ones included.
    pub fn len(&self) -> usize {
        self.lock().held.len()
    }

    /// Whether the table has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_while_somebody_holds_it() {
        let shared = Shared::default();
        let one = shared.get([1; 32], || String::from("made"));
        let two = shared.get([1; 32], || unreachable!("it is held"));
        assert!(Arc::ptr_eq(&one, &two));
        drop((one, two));
        assert_eq!(*shared.get([1; 32], || String::from("again")), "again");
    }

    #[test]
    fn values_nobody_holds_do_not_pile_up() {
        let shared = Shared::default();
        for n in 0..10_000u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            shared.get(key, || n);
        }
        assert!(shared.len() <= 129, "{} dead entries", shared.len());
    }
}
