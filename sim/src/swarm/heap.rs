//! A monotone radix heap: the pending events of a world.
//!
//! Keys are (time, order); times never step back, which is what makes the heap cheaper than a binary one: an event is
//! moved at most once for each digit of its time, in practice two or three times, and always sequentially in memory. Dead
//! events (cancelled sleeps) are dropped when they are met.

use std::collections::VecDeque;

/// One pending event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<E> {
    pub(crate) at: u64,
    /// Order within one instant: source peer in the high 24 bits, the source's own count below.
    pub(crate) order: u64,
    pub(crate) event: E,
}

/// Bits of a time that a level tells apart. More would move an event less often and look through more buckets for the next.
const DIGIT_BITS: u32 = 4;
const DIGITS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = (u64::BITS / DIGIT_BITS) as usize;
/// A bucket that held more than so many items gives its memory back: those of far times are filled once in a while, each by
/// all peers.
const KEPT_MAX: usize = 1_024;

pub(crate) struct RadixHeap<E> {
    /// The time of the last refill of `ready`; nothing earlier can be pushed.
    last: u64,
    /// For each level a bucket for each value of its digit. An item is at the level of the highest digit in which its time
    /// differs from `last`.
    buckets: Vec<Vec<Item<E>>>,
    /// For each level which buckets may hold something.
    occupied: [u16; LEVELS],
    /// Items at `last`, by order.
    ready: VecDeque<Item<E>>,
    len: usize,
}

impl<E: Copy> RadixHeap<E> {
    pub(crate) fn new() -> Self {
        Self {
            last: 0,
            buckets: (0..LEVELS * DIGITS).map(|_| Vec::new()).collect(),
            occupied: [0; LEVELS],
            ready: VecDeque::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds an event. `at` is not before the last one that was popped, and not before `until` if that pop found nothing.
    pub(crate) fn push(&mut self, item: Item<E>) {
        self.len += 1;
        if item.at <= self.last {
            debug_assert!(item.at == self.last, "time stepped back");
            let after = self
                .ready
                .iter()
                .rev()
                .take_while(|other| other.order > item.order)
                .count();
            self.ready.insert(self.ready.len() - after, item);
        } else {
            self.put(item);
        }
    }

    fn put(&mut self, item: Item<E>) {
        let level = (63 - (item.at ^ self.last).leading_zeros()) / DIGIT_BITS;
        let digit = (item.at >> (level * DIGIT_BITS)) as usize % DIGITS;
        let level = level as usize;
        self.buckets[level * DIGITS + digit].push(item);
        self.occupied[level] |= 1 << digit;
    }

    /// Takes the first event at or before `until`. Those that are not `alive` are dropped unseen.
    pub(crate) fn pop(&mut self, until: u64, mut alive: impl FnMut(&E) -> bool) -> Option<Item<E>> {
        loop {
            if let Some(item) = self.ready.front() {
                if item.at > until {
                    return None;
                }
                self.len -= 1;
                return self.ready.pop_front();
            }
            let level = self.occupied.iter().position(|digits| *digits != 0)?;
            let digit = self.occupied[level].trailing_zeros() as usize;
            let bucket = level * DIGITS + digit;
            let Some(first) = self.buckets[bucket].iter().map(|item| item.at).min() else {
                self.occupied[level] &= !(1 << digit);
                continue;
            };
            if first > until {
                return None;
            }
            self.occupied[level] &= !(1 << digit);
            let mut items = std::mem::take(&mut self.buckets[bucket]);
            // Only lower levels are written to below: all items agree with `first` in this digit and above.
            self.last = first;
            for item in items.drain(..) {
                if !alive(&item.event) {
                    self.len -= 1;
                } else if item.at == first {
                    self.ready.push_back(item);
                } else {
                    self.put(item);
                }
            }
            if items.capacity() <= KEPT_MAX {
                self.buckets[bucket] = items;
            }
            if self.ready.len() > 1 {
                self.ready
                    .make_contiguous()
                    .sort_unstable_by_key(|item| item.order);
            }
        }
    }

    /// Drops all events that are not `alive`.
    pub(crate) fn retain(&mut self, mut alive: impl FnMut(&E) -> bool) {
        self.ready.retain(|item| alive(&item.event));
        let mut len = self.ready.len();
        for bucket in &mut self.buckets {
            bucket.retain(|item| alive(&item.event));
            bucket.shrink_to(2 * bucket.len());
            len += bucket.len();
        }
        self.len = len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::record::mix;

    /// Against a sorted set, with delays of all sizes, looks ahead, and events that die before they are due.
    #[test]
    fn events_come_out_by_time_and_then_by_order() {
        let mut heap = RadixHeap::new();
        let mut wanted = std::collections::BTreeSet::new();
        let mut dead = std::collections::BTreeSet::new();
        let (mut now, mut popped, mut seed) = (0, 0, 1);
        for n in 0..40_000u64 {
            seed = mix(seed, n);
            let delay = match seed % 6 {
                0 => 0,
                1 => seed >> 8 & 0xff,
                2 => seed >> 8 & 0xff_ffff,
                3 => 50_000,
                // Up to a bit less than all of time.
                _ => mix(seed, 5) >> (4 + seed % 59),
            };
            let order = mix(seed, 9) >> 40;
            if let Some(at) = u64::checked_add(now, delay)
                && wanted.insert((at, order, n))
            {
                let event = n;
                heap.push(Item { at, order, event });
            }
            if seed % 7 == 0
                && let Some(victim) = wanted.iter().nth((seed >> 32) as usize % 50).copied()
            {
                wanted.remove(&victim);
                dead.insert(victim.2);
            }
            if n % 5_000 == 4_999 {
                heap.retain(|event| !dead.contains(event));
            }
            if seed % 3 == 0 {
                let until = now.saturating_add(mix(seed, 3) >> (8 + seed % 56));
                let alive = |event: &u64| !dead.contains(event);
                // What died while its instant was under way still comes out.
                let item = std::iter::repeat_with(|| heap.pop(until, alive))
                    .find(|item| item.is_none_or(|item| alive(&item.event)))
                    .flatten();
                let first = wanted.first().copied().filter(|(at, _, _)| *at <= until);
                assert_eq!(item.map(|item| (item.at, item.order, item.event)), first);
                if first.is_some() {
                    wanted.pop_first();
                    popped += 1;
                }
                now = first.map_or(until, |(at, _, _)| at);
            }
        }
        assert!(popped > 5_000);
    }

    #[test]
    fn looking_ahead_does_not_move_time() {
        let mut heap = RadixHeap::new();
        heap.push(Item {
            at: 1_000,
            order: 1,
            event: 'b',
        });
        assert!(heap.pop(999, |_| true).is_none());
        heap.push(Item {
            at: 5,
            order: 2,
            event: 'a',
        });
        assert_eq!(heap.pop(999, |_| true).map(|i| i.event), Some('a'));
        assert_eq!(heap.pop(1_000, |_| true).map(|i| i.event), Some('b'));
    }

    #[test]
    fn dead_events_are_dropped_unseen() {
        let mut heap = RadixHeap::new();
        for n in 0..1_000u64 {
            heap.push(Item {
                at: n + 1,
                order: n,
                event: n,
            });
        }
        heap.retain(|n| n % 10 == 0);
        assert_eq!(heap.len(), 100);
        let alive = |n: &u64| n.is_multiple_of(20) || *n == 10;
        let popped = std::iter::from_fn(|| heap.pop(u64::MAX, alive));
        let wanted = (0..1_000).filter(|n| n % 10 == 0 && alive(n));
        assert!(popped.map(|item| item.event).eq(wanted));
        assert_eq!(heap.len(), 0);
    }
}
