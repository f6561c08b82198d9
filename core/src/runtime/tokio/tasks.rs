//! The task tree of one peer on tokio: every task is known, so that shutting the peer down ends all of them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::runtime::Task;

/// Why a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It was shut down.
    #[error("the peer was shut down")]
    Shutdown,
    /// A task panicked: an invariant is broken, so nothing of the peer goes on.
    #[error("task {0:?} panicked")]
    Panicked(&'static str),
}

/// The tasks of one peer. The simulated back ends that stand on tokio use it too.
#[derive(Debug)]
pub struct Tasks {
    handle: Handle,
    live: Mutex<Live>,
    /// Becomes true once no task is left after [`Tasks::close`].
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct Live {
    closed: bool,
    next: u64,
    running: BTreeMap<u64, AbortHandle>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    ended: Option<Ended>,
    empty: bool,
}

impl Tasks {
    /// No tasks yet; they will run on `handle`'s runtime.
    pub fn new(handle: Handle) -> Arc<Self> {
        Arc::new(Self {
            handle,
            live: Mutex::default(),
            state: watch::Sender::new(State::default()),
        })
    }

    /// Starts a task, unless the peer is closed.
    pub fn spawn<F>(self: &Arc<Self>, name: &'static str, future: F) -> TokioTask
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // The lock is held over the spawn, so that a task that ends at once is entered before it is taken out.
        let mut live = self.lock();
        if live.closed {
            drop(live);
            return TokioTask(None);
        }
        let id = live.next;
        live.next += 1;
        let entry = Entry {
            tasks: self.clone(),
            id,
            name,
        };
        let task = self.handle.spawn(async move {
            // Dropped after the future, even if that is aborted or panics.
            let _entry = entry;
            future.await;
        });
        let abort = task.abort_handle();
        live.running.insert(id, abort.clone());
        TokioTask(Some(abort))
    }

    /// Aborts every task and starts no more.
    pub fn close(&self, why: Ended) {
        let running = {
            let mut live = self.lock();
            live.closed = true;
            live.running.values().cloned().collect::<Vec<_>>()
        };
        let empty = running.is_empty();
        self.state.send_modify(|state| {
            state.ended.get_or_insert(why);
            state.empty |= empty;
        });
        for task in running {
            task.abort();
        }
    }

    /// Why the peer ended, if it did.
    pub fn ended(&self) -> Option<Ended> {
        self.state.borrow().ended
    }

    /// Waits until the peer is closed, and says why.
    pub async fn closed(&self) -> Ended {
        let mut state = self.state.subscribe();
        let ended = state
            .wait_for(|state| state.ended.is_some())
            .await
            .map(|state| state.ended);
        ended.ok().flatten().unwrap_or(Ended::Shutdown)
    }

    /// Waits until every future of a closed peer is dropped.
    pub async fn gone(&self) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| state.empty).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a task out of the tree when its future is gone.
struct Entry {
    tasks: Arc<Tasks>,
    id: u64,
    name: &'static str,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let last = {
            let mut live = self.tasks.lock();
            live.running.remove(&self.id);
            live.closed && live.running.is_empty()
        };
        if last {
            self.tasks.state.send_modify(|state| state.empty = true);
        }
        if std::thread::panicking() {
            tracing::error!(task = self.name, "a task panicked; the peer ends");
            self.tasks.close(Ended::Panicked(self.name));
        }
    }
}

/// A handle to a task on tokio; `None` if the peer had ended before.
#[derive(Clone, Debug)]
pub struct TokioTask(Option<AbortHandle>);

impl Task for TokioTask {
    fn abort(&self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
