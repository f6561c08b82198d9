//! What is told of a program while it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::life::Failure;
use super::startup::Methods;
use crate::args::Args;
use crate::message::Severity;
use crate::name::TransportName;

/// So many events wait for their reader; then they are dropped and counted.
const WAITING_MAX: usize = 64;

/// Something about a program.
#[derive(Clone, Debug)]
pub enum Event {
    /// It runs; its transports are not ready yet.
    Started {
        /// Its number, if it has one still.
        process: Option<u32>,
    },
    /// Its transports are ready.
    Ready(Arc<Methods>),
    /// It said something for people to read. Its own words: they may have line breaks, and what it should not have said.
    Log {
        /// How bad it is.
        severity: Severity,
        /// What it is.
        text: String,
    },
    /// It said something of a transport.
    Status {
        /// Of which.
        transport: Option<TransportName>,
        /// What.
        fields: Args,
    },
    /// It said something that cannot be read, after it was ready.
    Skipped {
        /// The number of the line.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// It is no more.
    Ended {
        /// Why.
        failure: Arc<Failure>,
        /// When it is started again; never, if not said.
        restart_in: Option<Duration>,
    },
    /// So many events were dropped here, because their reader was slow.
    Missed(u64),
}

/// Where events are read.
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next one; `None` when there will be no more. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// Where events are told; a slow reader does not stop the teller.
#[derive(Debug)]
pub(super) struct Outlet {
    events: mpsc::Sender<Event>,
    missed: u64,
}

impl Outlet {
    pub(super) fn new() -> (Self, Events) {
        let (events, receiver) = mpsc::channel(WAITING_MAX);
        (Self { events, missed: 0 }, Events(receiver))
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.missed > 0 && self.events.try_send(Event::Missed(self.missed)).is_ok() {
            self.missed = 0;
        }
        if self.missed > 0 || self.events.try_send(event).is_err() {
            self.missed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_learns_how_much_it_missed() {
        let (mut outlet, mut events) = Outlet::new();
        for _ in 0..WAITING_MAX + 5 {
            outlet.tell(Event::Started { process: None });
        }
        for _ in 0..WAITING_MAX {
            assert!(matches!(events.next().await, Some(Event::Started { .. })));
        }
        outlet.tell(Event::Started { process: None });
        assert!(matches!(events.next().await, Some(Event::Missed(5))));
        assert!(matches!(events.next().await, Some(Event::Started { .. })));
    }
}
