//! Collections that give their memory back when nothing is in them.
//!
//! Those of the standard library keep it for what may come next. A process with thousands of links and contacts, most of which rest
//! for hours, would hold room for the busiest moment of each.

use std::collections::{BTreeMap, VecDeque};

/// A collection that can rest.
pub(crate) trait Rest {
    /// Gives back its memory if it is empty.
    fn rest(&mut self);
}

impl<T> Rest for Vec<T> {
    fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }
}

impl<T> Rest for VecDeque<T> {
    fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }
}

impl<K, V> Rest for BTreeMap<K, V> {
    fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_collection_gives_its_memory_back() {
        let mut list = Vec::with_capacity(8);
        list.push(1);
        list.rest();
        assert_eq!((list.capacity(), list.pop()), (8, Some(1)));
        list.rest();
        assert_eq!(list.capacity(), 0);
        let mut queue = VecDeque::from([1]);
        queue.pop_front();
        queue.rest();
        assert_eq!(queue.capacity(), 0);
        let mut map = BTreeMap::from([(1, 2)]);
        map.rest();
        assert_eq!(map.remove(&1), Some(2));
    }
}
