//! Tasks: a slab of futures, integer wakers, a ready queue, one list of tasks per peer.
//!
//! A future is taken out of its slot to be polled and dropped, always while the world's state is free, so that what it
//! does in there (and in its destructors) may borrow it again.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use fragile::Fragile;

use super::slab::{Key, Slab};

/// Keys of tasks that were woken, in the order of their wakes.
pub(crate) struct Ready(Fragile<RefCell<Vec<Key>>>);

impl Default for Ready {
    fn default() -> Self {
        Self(Fragile::new(RefCell::default()))
    }
}

impl Ready {
    fn push(&self, key: Key) {
        self.0.get().borrow_mut().push(key);
    }

    /// Exchanges the queue for `batch`, which is empty.
    pub(crate) fn swap(&self, batch: &mut Vec<Key>) {
        std::mem::swap(&mut *self.0.get().borrow_mut(), batch);
    }
}

/// What a waker points to: which task, and whether it is queued already.
pub(crate) struct Flag {
    ready: Arc<Ready>,
    key: Key,
    queued: AtomicBool,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // One thread runs a world: the flag is atomic because wakers are `Sync`, not because anybody races for it.
        if !self.queued.load(Ordering::Relaxed) {
            self.queued.store(true, Ordering::Relaxed);
            self.ready.push(self.key);
        }
    }
}

/// A task while nobody polls it.
pub(crate) struct Body {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    flag: Arc<Flag>,
}

impl Body {
    /// Wakes from now on queue the task again.
    pub(crate) fn begin_poll(&self) {
        self.flag.queued.store(false, Ordering::Relaxed);
    }

    /// Polls the task; `true` if it is done. The waker is made on the spot: a slot then fills one line of a cache.
    pub(crate) fn poll(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.flag));
        self.future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
    }
}

const NONE: u32 = u32::MAX;

struct Slot {
    body: Option<Body>,
    peer: u32,
    /// Neighbours in the peer's list, by their slots: whoever is in a list is alive. [`NONE`] is nobody.
    next: u32,
    previous: u32,
    /// Aborted while it was being polled: dropped when it comes back.
    aborted: bool,
    name: &'static str,
}

// With its generation 64 bytes: there are twenty tasks for each peer, and a poll begins with reading one.
const _: () = assert!(size_of::<Slot>() <= 56);

impl Default for Slot {
    fn default() -> Self {
        Self {
            body: None,
            peer: NONE,
            next: NONE,
            previous: NONE,
            aborted: false,
            name: "",
        }
    }
}

/// All tasks of a world.
pub(crate) struct Tasks {
    slots: Slab<Slot>,
    ready: Arc<Ready>,
}

impl Tasks {
    pub(crate) fn new(ready: Arc<Ready>) -> Self {
        Self {
            slots: Slab::new(),
            ready,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds a task at the head of the list `first` of `peer`, and wakes it.
    pub(crate) fn spawn(
        &mut self,
        peer: u32,
        first: &mut Option<Key>,
        name: &'static str,
        future: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Key {
        let key = self.slots.take();
        let flag = Arc::new(Flag {
            ready: Arc::clone(&self.ready),
            key,
            queued: AtomicBool::new(true),
        });
        if let Some(next) = *first
            && let Some(neighbour) = self.slots.get_mut(next)
        {
            neighbour.previous = key.slot;
        }
        if let Some(slot) = self.slots.get_mut(key) {
            let body = Some(Body { future, flag });
            *slot = Slot {
                body,
                peer,
                next: first.map_or(NONE, |first| first.slot),
                previous: NONE,
                aborted: false,
                name,
            };
        }
        *first = Some(key);
        self.ready.push(key);
        key
    }

    /// Takes a task out to poll it, with its peer and what it is called; `None` if it is gone.
    pub(crate) fn begin(&mut self, key: Key) -> Option<(Body, u32, &'static str)> {
        let slot = self.slots.get_mut(key)?;
        Some((slot.body.take()?, slot.peer, slot.name))
    }

    /// Puts a task back that was polled, unless it is `done` or was aborted meanwhile: gives its body and its peer then, for
    /// [`Tasks::remove`], and the body to be dropped when the state is free again.
    pub(crate) fn end(&mut self, key: Key, body: Body, done: bool) -> Option<(Body, Option<u32>)> {
        match self.slots.get_mut(key) {
            Some(slot) if !done && !slot.aborted => {
                slot.body = Some(body);
                None
            }
            Some(slot) => Some((body, Some(slot.peer))),
            None => Some((body, None)),
        }
    }

    /// The peer of a task and what it is called.
    pub(crate) fn whose(&self, key: Key) -> Option<(u32, &'static str)> {
        self.slots.get(key).map(|slot| (slot.peer, slot.name))
    }

    /// Whether a task is being polled.
    pub(crate) fn polled(&self, key: Key) -> bool {
        self.slots.get(key).is_some_and(|slot| slot.body.is_none())
    }

    /// Marks a task that is being polled.
    pub(crate) fn mark_aborted(&mut self, key: Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.aborted = true;
        }
    }

    /// Removes a task, wherever it is in the list `first` of its peer; its body is to be dropped when the state is free again.
    pub(crate) fn remove(&mut self, key: Key, first: &mut Option<Key>) -> Option<Body> {
        let slot = self.slots.remove(key)?;
        let (previous, next) = (self.slots.in_use(slot.previous), self.slots.in_use(slot.next));
        match previous.and_then(|previous| self.slots.get_mut(previous)) {
            Some(previous) => previous.next = slot.next,
            None => *first = next,
        }
        if let Some(next) = next.and_then(|next| self.slots.get_mut(next)) {
            next.previous = slot.previous;
        }
        slot.body
    }

    /// Removes all tasks of a list, the latest first; the bodies are to be dropped when the state is free again.
    pub(crate) fn remove_all(&mut self, first: &mut Option<Key>) -> Vec<Body> {
        let mut bodies = Vec::new();
        while let Some(key) = *first {
            bodies.extend(self.remove(key, first));
        }
        bodies
    }
}
