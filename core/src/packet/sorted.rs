//! A set of numbers that takes eight bytes for each, and twice that for a moment now and then.
//!
//! Two sorted lists: a small one that takes what is new, and a large one that it is merged into when it is full, which is
//! when it holds the root of what the large one does: n numbers are moved about n times the root of n in all. A B-tree
//! takes twice the room.

/// What the small list may always hold before it is merged.
const NEW_MIN: usize = 128;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Sorted {
    old: Vec<u64>,
    new: Vec<u64>,
}

impl Sorted {
    pub(super) fn contains(&self, number: u64) -> bool {
        self.old.binary_search(&number).is_ok() || self.new.binary_search(&number).is_ok()
    }

    /// Adds a number, if it is not there.
    pub(super) fn insert(&mut self, number: u64) {
        if self.old.binary_search(&number).is_ok() {
            return;
        }
        if let Err(place) = self.new.binary_search(&number) {
            self.new.insert(place, number);
        }
        if self.new.len() >= NEW_MIN.max(self.old.len().isqrt()) {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let mut merged = Vec::with_capacity(self.old.len() + self.new.len());
        let mut new = std::mem::take(&mut self.new).into_iter().peekable();
        for &number in &self.old {
            while let Some(smaller) = new.next_if(|new| *new < number) {
                merged.push(smaller);
            }
            merged.push(number);
        }
        merged.extend(new);
        self.old = merged;
    }

    /// All numbers, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.old.iter().chain(&self.new).copied()
    }

    /// Bytes of memory it holds, besides itself.
    pub(super) fn memory(&self) -> usize {
        (self.old.capacity() + self.new.capacity()) * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_in(numbers in prop::collection::vec(0_u64..2_000, 0..1_500)) {
            let (mut sorted, mut model) = (Sorted::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(sorted.contains(number), model.contains(&number));
                sorted.insert(number);
                model.insert(number);
            }
            prop_assert!((0..2_000).all(|number| sorted.contains(number) == model.contains(&number)));
            let mut all: Vec<u64> = sorted.iter().collect();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(model.iter().copied()), "each once");
            prop_assert!(sorted.memory() <= (model.len() + 2 * NEW_MIN) * 8);
        }
    }
}
