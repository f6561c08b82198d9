//! A slab with generations: indices are small and reused, and a stale key is recognised.

/// A key into a [`Slab`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

struct Slot<T> {
    generation: u32,
    used: bool,
    value: T,
}

/// Freed values stay where they are, to be reused with their allocations. One piece of memory: what was never used of it is not
/// resident, and the system moves a large one by mapping it elsewhere: unless its slots ask for an alignment of more than 16 bytes,
/// which would have them copied, with both copies resident.
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T: Default> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// A key to a slot whose value is whatever the last user left there.
    pub(crate) fn take(&mut self) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                used: false,
                value: T::default(),
            });
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.used = true;
        Key {
            slot,
            generation: entry.generation,
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let key = self.take();
        self.slots[key.slot as usize].value = value;
        key
    }

    pub(crate) fn alive(&self, key: Key) -> bool {
        self.slots
            .get(key.slot as usize)
            .is_some_and(|slot| slot.used && slot.generation == key.generation)
    }

    /// The key to what is in a slot, if it is in use.
    pub(crate) fn in_use(&self, slot: u32) -> Option<Key> {
        let entry = self.slots.get(slot as usize).filter(|entry| entry.used)?;
        let generation = entry.generation;
        Some(Key { slot, generation })
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.slot as usize)?;
        (slot.used && slot.generation == key.generation).then_some(&slot.value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        (slot.used && slot.generation == key.generation).then_some(&mut slot.value)
    }

    /// Frees the slot; the value stays, for reuse. Stale keys are ignored.
    pub(crate) fn free(&mut self, key: Key) {
        if let Some(slot) = self.slots.get_mut(key.slot as usize)
            && slot.used
            && slot.generation == key.generation
        {
            slot.used = false;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(key.slot);
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let value = std::mem::take(self.get_mut(key)?);
        self.free(key);
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::new();
        let one = slab.insert(1);
        assert_eq!(slab.remove(one), Some(1));
        let two = slab.insert(2);
        assert_eq!(one.slot, two.slot);
        assert_eq!((slab.get(one), slab.get(two), slab.len()), (None, Some(&2), 1));
        slab.free(one);
        assert!(slab.alive(two));
    }
}
