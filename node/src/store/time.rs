//! The time a node judges lifetimes by: [`TrustedTime`], persisted. Spec: SPEC §4.7, §6.6.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phantom_core::event::Event;
use phantom_core::runtime::{Clock, Events, Store};
use phantom_core::trusted_time::{TimeLimits, TrustedTime};
use phantom_core::units::WallTime;

const FILE: &str = "time";

/// The one judge of time of a node; clones are handles to it. Everything that forgets by date asks it.
#[derive(Clone, Debug)]
pub struct NodeTime<R> {
    rt: R,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    judge: Mutex<TrustedTime>,
    persisted: tokio::sync::Mutex<WallTime>,
}

impl<R: Clock + Store + Events> NodeTime<R> {
    /// Goes on from the highest time ever persisted.
    ///
    /// # Errors
    /// Of the store; also when the file is damaged, since time must not start anew unnoticed.
    pub async fn open(rt: R, limits: TimeLimits) -> io::Result<Self> {
        let persisted = match rt.read(FILE).await? {
            None => None,
            Some(bytes) => {
                let nanos = <[u8; 8]>::try_from(&bytes[..]);
                let nanos = nanos.map_err(|_| io::Error::other("the file `time` is not 8 bytes long"))?;
                Some(WallTime::from_unix_nanos(u64::from_be_bytes(nanos)))
            }
        };
        let inner = Inner {
            judge: Mutex::new(TrustedTime::new(limits, persisted)),
            persisted: tokio::sync::Mutex::new(persisted.unwrap_or_default()),
        };
        Ok(Self {
            rt,
            inner: Arc::new(inner),
        })
    }

    /// The time. Never goes back. A clock that is refused is reported once ([`Event::ClockRefused`]).
    pub fn now(&self) -> WallTime {
        let claimed = self.rt.wall();
        let reading = self.judge().observe(self.rt.now(), claimed);
        if reading.news && reading.fault.is_some() {
            self.rt.emit(Event::ClockRefused {
                claimed,
                believed: reading.time,
            });
        }
        reading.time
    }

    /// It is not earlier than `between` begins, and hardly later than it ends: a document that the directory signed says so.
    pub fn witness(&self, between: Range<WallTime>) {
        let (now, wall) = (self.rt.now(), self.rt.wall());
        self.judge().witness(now, wall, between);
    }

    /// Whether a time has come; if so that is durable when this returns, so that no later start of this node can think
    /// otherwise.
    ///
    /// # Errors
    /// Of the store. The time has come then, but may be forgotten.
    pub async fn has_come(&self, at: WallTime) -> io::Result<bool> {
        if self.now() < at {
            return Ok(false);
        }
        self.persist(at).await?;
        Ok(true)
    }

    /// Makes durable that it is `at` or later.
    ///
    /// # Errors
    /// Of the store.
    pub async fn persist(&self, at: WallTime) -> io::Result<()> {
        let mut persisted = self.inner.persisted.lock().await;
        if *persisted >= at {
            return Ok(());
        }
        let highest = self.judge().highest().max(at);
        self.rt
            .write(FILE, &highest.as_unix_nanos().to_be_bytes())
            .await?;
        *persisted = highest;
        Ok(())
    }

    fn judge(&self) -> MutexGuard<'_, TrustedTime> {
        self.inner.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
