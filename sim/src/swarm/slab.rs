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

/// Slots in a chunk.
const CHUNK: usize = 256;

/// Freed values stay where they are, to be reused with their allocations.
///
/// In chunks: growing copies nothing, and leaves no half of it empty when there are tens of thousands.
pub(crate) struct Slab<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: Vec<u32>,
    /// Slots that were ever in use.
    made: u32,
}

impl<T: Default> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            made: 0,
        }
    }

    fn slot(&self, slot: u32) -> Option<&Slot<T>> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        self.chunks
            .get_mut(slot as usize / CHUNK)?
            .get_mut(slot as usize % CHUNK)
    }

    /// A slot that was never in use.
    fn make(&mut self) -> u32 {
        if self.made as usize == self.chunks.len() * CHUNK {
            let chunk = std::iter::repeat_with(|| Slot {
                generation: 0,
                used: false,
                value: T::default(),
            });
            self.chunks.push(chunk.take(CHUNK).collect());
        }
        self.made += 1;
        self.made - 1
    }

    /// A key to a slot whose value is whatever the last user left there.
    pub(crate) fn take(&mut self) -> Key {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.make(),
        };
        let mut generation = 0;
        if let Some(entry) = self.slot_mut(slot) {
            entry.used = true;
            generation = entry.generation;
        }
        Key { slot, generation }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let key = self.take();
        if let Some(slot) = self.slot_mut(key.slot) {
            slot.value = value;
        }
        key
    }

    pub(crate) fn alive(&self, key: Key) -> bool {
        self.slot(key.slot)
            .is_some_and(|slot| slot.used && slot.generation == key.generation)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slot(key.slot)?;
        (slot.used && slot.generation == key.generation).then_some(&slot.value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slot_mut(key.slot)?;
        (slot.used && slot.generation == key.generation).then_some(&mut slot.value)
    }

    /// Frees the slot; the value stays, for reuse. Stale keys are ignored.
    pub(crate) fn free(&mut self, key: Key) {
        if let Some(slot) = self.slot_mut(key.slot)
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
        self.made as usize - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_many_chunks_are_told_apart_and_used_again() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..3 * CHUNK + 1).map(|n| slab.insert(n)).collect();
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(slab.get(*key), Some(&n));
        }
        assert_eq!((slab.len(), slab.chunks.len()), (3 * CHUNK + 1, 4));
        for key in &keys {
            slab.free(*key);
        }
        let again: Vec<Key> = (0..3 * CHUNK + 1).map(|n| slab.insert(n)).collect();
        assert_eq!((slab.len(), slab.chunks.len()), (3 * CHUNK + 1, 4));
        assert!(keys.iter().all(|key| !slab.alive(*key)) && again.iter().all(|key| slab.alive(*key)));
    }

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
