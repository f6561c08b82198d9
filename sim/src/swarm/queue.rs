//! A queue that mostly holds one thing or nothing, and then takes no memory of its own.
//!
//! Every link of a world is a stream with three queues each way, and most carry one message at a time: kept ready for the
//! next, their buffers were a third of what an idle stream cost.

use std::collections::VecDeque;

/// First in, first out. What is behind the first is kept apart, while there is any.
pub(crate) struct Queue<T> {
    first: Option<T>,
    /// Never empty.
    #[expect(
        clippy::box_collection,
        reason = "a pointer, mostly null, in place of four words in every queue"
    )]
    rest: Option<Box<VecDeque<T>>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let (first, rest) = (None, None);
        Self { first, rest }
    }
}

impl<T> Queue<T> {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    pub(crate) fn push_back(&mut self, item: T) {
        if self.first.is_none() {
            self.first = Some(item);
        } else {
            self.rest.get_or_insert_default().push_back(item);
        }
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        self.first.as_mut()
    }

    /// What is `index` places behind the first.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match index.checked_sub(1) {
            None => self.first.as_mut(),
            Some(behind) => self.rest.as_mut()?.get_mut(behind),
        }
    }

    pub(crate) fn back_mut(&mut self) -> Option<&mut T> {
        match &mut self.rest {
            Some(rest) => rest.back_mut(),
            None => self.first.as_mut(),
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
        self.tidy();
        std::mem::replace(&mut self.first, next)
    }

    /// Takes out what is `index` places behind the first.
    pub(crate) fn remove(&mut self, index: usize) -> Option<T> {
        let Some(behind) = index.checked_sub(1) else {
            return self.pop_front();
        };
        let removed = self.rest.as_mut()?.remove(behind);
        self.tidy();
        removed
    }

    fn tidy(&mut self) {
        self.rest.take_if(|rest| rest.is_empty());
    }

    /// How many at the front are as `pred` says; none behind the first that is not may be.
    pub(crate) fn partition_point(&self, mut pred: impl FnMut(&T) -> bool) -> usize {
        if !self.first.as_ref().is_some_and(&mut pred) {
            return 0;
        }
        1 + self.rest.as_ref().map_or(0, |rest| rest.partition_point(pred))
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        match index.checked_sub(1) {
            Some(behind) => self.rest.as_ref()?.get(behind),
            None => self.first.as_ref(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first
            .iter()
            .chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec((0_u8..4, 0_usize..5), 0..60)) {
            let (mut queue, mut model) = (Queue::default(), VecDeque::new());
            for (step, n) in steps {
                match step {
                    0 => prop_assert_eq!(queue.pop_front(), model.pop_front()),
                    1 => prop_assert_eq!(queue.remove(n), model.remove(n)),
                    _ => {
                        queue.push_back(n);
                        model.push_back(n);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.front(), model.front());
                prop_assert_eq!(queue.front_mut(), model.front_mut());
                prop_assert_eq!(queue.back_mut(), model.back_mut());
                prop_assert!(queue.iter().eq(model.iter()));
                prop_assert_eq!(queue.get(n), model.get(n));
                let before = model.iter().take_while(|item| **item < n).count();
                if model.iter().skip(before).all(|item| *item >= n) {
                    prop_assert_eq!(queue.partition_point(|item| *item < n), before);
                }
                prop_assert_eq!(queue.rest.is_some(), model.len() > 1, "no room without use");
            }
        }
    }
}
