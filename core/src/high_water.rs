//! High-water marks of bounded queues, reported when they rise.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::event::Event;
use crate::runtime::Events;

/// The highest depth that a queue has had.
#[derive(Debug)]
pub struct HighWater {
    queue: &'static str,
    bound: u32,
    highest: AtomicU32,
}

impl HighWater {
    /// Nothing yet, of a queue that holds at most `bound`.
    pub fn new(queue: &'static str, bound: usize) -> Self {
        let bound = u32::try_from(bound).unwrap_or(u32::MAX);
        Self {
            queue,
            bound,
            highest: AtomicU32::new(0),
        }
    }

    /// Takes note of a depth, and reports it if it is the highest so far.
    pub fn note(&self, rt: &impl Events, depth: usize) {
        self.rise(rt, depth, self.bound);
    }

    /// The same for a queue whose bound is another by now.
    pub fn note_within(&self, rt: &impl Events, depth: usize, bound: usize) {
        self.rise(rt, depth, u32::try_from(bound).unwrap_or(u32::MAX));
    }

    fn rise(&self, rt: &impl Events, depth: usize, bound: u32) {
        let (queue, depth) = (self.queue, u32::try_from(depth).unwrap_or(u32::MAX));
        if self.highest.fetch_max(depth, Ordering::Relaxed) < depth {
            rt.emit(Event::QueueHigh { queue, depth, bound });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Heard(Mutex<Vec<Event>>);

    impl Events for Heard {
        fn emit(&self, event: Event) {
            self.0.lock().expect("not poisoned").push(event);
        }
    }

    #[test]
    fn only_a_new_high_is_reported() {
        let (heard, water) = (Heard(Mutex::default()), HighWater::new("test", 8));
        for depth in [1, 3, 2, 3, 4] {
            water.note(&heard, depth);
        }
        let depths: Vec<u32> = heard
            .0
            .lock()
            .expect("not poisoned")
            .iter()
            .map(|event| match event {
                Event::QueueHigh { depth, bound: 8, .. } => *depth,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(depths, [1, 3, 4]);
    }
}
