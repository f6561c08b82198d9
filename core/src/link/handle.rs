//! The handles that programs hold: [`Link`] to receive with, [`Sender`] to send with. Neither knows the connection.
//! Spec: SPEC §2.5.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::crypto::keys::LinkPublic;
use crate::units::Instant;

use super::session::{Changes, Phase, Progress, Session};
use super::{Channel, LinkError};

/// A session and everybody who waits for it: handles, and the driver of its present connection.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// A message can be taken, or never again.
    readable: Notify,
    /// Room to send, a pong, another phase.
    changed: Notify,
    /// The server that was dialled; `None` at the accepting end.
    server: Option<LinkPublic>,
}

struct State {
    session: Session,
    /// Counts connections. A driver whose number is not the newest has nothing to say any more.
    connection: u64,
    driver: Option<Waker>,
}

impl Shared {
    pub(crate) fn new(session: Session, server: Option<LinkPublic>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                session,
                connection: 0,
                driver: None,
            }),
            readable: Notify::new(),
            changed: Notify::new(),
            server,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn server(&self) -> Option<&LinkPublic> {
        self.server.as_ref()
    }

    /// Runs `f` on the session. Never call anything that waits in it.
    pub(crate) fn with_session<T>(&self, f: impl FnOnce(&mut Session) -> T) -> T {
        f(&mut self.lock().session)
    }

    /// Runs `f` on the session for the driver of `connection`, and keeps its waker; `None` when another connection has
    /// taken over.
    pub(crate) fn drive<T>(
        &self,
        connection: u64,
        waker: &Waker,
        f: impl FnOnce(&mut Session) -> T,
    ) -> Option<T> {
        let mut state = self.lock();
        if state.connection != connection {
            return None;
        }
        match &mut state.driver {
            Some(held) => held.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        Some(f(&mut state.session))
    }

    /// A new connection takes over: the driver of the old one ends and touches the session no more. Returns its number.
    pub(crate) fn take_over(&self) -> u64 {
        let mut state = self.lock();
        state.connection += 1;
        let (connection, driver) = (state.connection, state.driver.take());
        drop(state);
        wake(driver);
        connection
    }

    /// A new connection, whose number [`Shared::take_over`] gave, carries the session on. See [`Session::attach`].
    pub(crate) fn attach(&self, now: Instant, received: u64, window: u32) -> Result<(), LinkError> {
        let attached = self.with_session(|session| session.attach(now, received, window));
        self.announce(Changes::ALL);
        attached
    }

    /// Wakes the driver: there is something to send, or to stop for.
    pub(crate) fn wake_driver(&self) {
        let driver = self.lock().driver.take();
        wake(driver);
    }

    /// Wakes whoever waits for what changed.
    pub(crate) fn announce(&self, changes: Changes) {
        if changes.readable {
            self.readable.notify_waiters();
        }
        if changes.other {
            self.changed.notify_waiters();
        }
    }

    /// Waits until `f` gives something, asking again whenever `on` is notified.
    async fn wait<T>(&self, on: &Notify, mut f: impl FnMut(&mut Session) -> Option<T>) -> T {
        loop {
            let mut notified = std::pin::pin!(on.notified());
            notified.as_mut().enable();
            if let Some(value) = self.with_session(&mut f) {
                return value;
            }
            notified.await;
        }
    }

    fn close(&self) {
        let changes = self.with_session(Session::close);
        self.announce(changes);
        self.wake_driver();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Closes the session when the last [`Link`] is dropped.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// How long a link is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// While a resumption may bring another message.
    Exhausted,
    /// While the connection stands.
    Down,
}

/// One end of a link: an ordered, reliable, bounded stream of messages, each on a [`Channel`].
///
/// Dropping the last `Link` of a session closes it: what was sent before is delivered first, as far as that works.
/// [`Sender`]s do not keep it open.
pub struct Link {
    guard: Arc<Guard>,
}

/// The sending half of a [`Link`]; cheap to clone. It stays valid when the link is resumed.
#[derive(Clone)]
pub struct Sender(Arc<Shared>);

impl Link {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            guard: Arc::new(Guard(shared)),
        }
    }

    /// Another handle to the same end.
    pub(crate) fn again(&self) -> Self {
        Self {
            guard: self.guard.clone(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.guard.0
    }

    /// The next message. `None` when the link is closed and nothing is left; at the dialling end also as soon as the
    /// connection is gone, since only the dialler can resume it ([`super::resume`]); at the accepting end after the parking time. Cancel safe.
    pub async fn recv(&self) -> Option<(Channel, Bytes)> {
        self.recv_until(Until::Exhausted).await
    }

    /// As [`Link::recv`], or also `None` as soon as the connection is gone.
    pub async fn recv_until(&self, until: Until) -> Option<(Channel, Bytes)> {
        let shared = self.shared();
        let over = |session: &Session| match until {
            Until::Exhausted => session.is_exhausted(),
            Until::Down => !session.is_up(),
        };
        let taken = shared
            .wait(&shared.readable, |session| match session.take() {
                Some(taken) => Some(Some(taken)),
                None => over(session).then_some(None),
            })
            .await;
        let (message, ack) = taken?;
        if ack {
            shared.wake_driver();
        }
        Some(message)
    }

    /// A handle to send with.
    pub fn sender(&self) -> Sender {
        Sender(self.shared().clone())
    }

    /// See [`Sender::send`].
    pub async fn send(&self, channel: Channel, message: Bytes) -> Result<(), LinkError> {
        send(self.shared(), channel, message).await
    }

    /// See [`Sender::try_send`].
    pub fn try_send(&self, channel: Channel, message: Bytes) -> Result<(), LinkError> {
        try_send(self.shared(), channel, message)
    }

    /// Makes an authenticated round trip and says how long it took, from the moment its frame was made. Waits through a
    /// resumption.
    ///
    /// # Errors
    /// The link was closed meanwhile.
    pub async fn ping(&self) -> Result<Duration, LinkError> {
        let shared = self.shared();
        let number = shared.with_session(Session::ping);
        shared.wake_driver();
        shared
            .wait(&shared.changed, |session| match session.pinged(number) {
                Some(took) => Some(Ok(took)),
                None => (session.phase() == Phase::Closed).then(|| Err(session.cause())),
            })
            .await
    }

    /// Whether a ticket is there to resume with, if the connection is lost. Only ever at the dialling end.
    pub fn can_resume(&self) -> bool {
        self.shared().with_session(|session| session.has_ticket())
    }

    /// Whether a connection carries the link now.
    pub fn is_up(&self) -> bool {
        self.shared().with_session(|session| session.is_up())
    }

    /// Bytes accepted for sending that the other end's program has not taken yet.
    pub fn buffered(&self) -> u64 {
        self.shared().with_session(|session| session.buffered())
    }

    /// Waits until fewer than `bound` bytes are [`Link::buffered`], or the link is closed. Cancel safe.
    pub async fn drained(&self, bound: u64) {
        let shared = self.shared();
        shared
            .wait(&shared.changed, |session| {
                (session.buffered() < bound || session.phase() == Phase::Closed).then_some(())
            })
            .await;
    }

    /// How far messages got, now: a lock and a copy.
    pub fn progress(&self) -> Progress {
        self.shared().with_session(|session| session.progress())
    }

    /// Why no connection carries the link; `None` while one does.
    pub fn why_down(&self) -> Option<LinkError> {
        self.shared()
            .with_session(|session| (!session.is_up()).then(|| session.cause()))
    }

    /// Closes the link without a goodbye and drops its connection as it is: what a censor froze hears nothing more from this
    /// program. (The host's TCP still ends the stream in its way.) The other end keeps the session for its parking time.
    pub fn abandon(&self) {
        let shared = self.shared();
        shared.take_over();
        let changes = shared.with_session(Session::break_off);
        shared.announce(changes);
    }

    /// Waits until the connection is lost (even if the link can be resumed) or the link is closed; says why.
    pub async fn down(&self) -> LinkError {
        let shared = self.shared();
        shared
            .wait(&shared.changed, |session| {
                matches!(session.phase(), Phase::Parked(_) | Phase::Closed).then(|| session.cause())
            })
            .await
    }

    /// Waits until the link is closed for good; says why.
    pub async fn closed(&self) -> LinkError {
        closed(self.shared()).await
    }

    /// Closes the link: what was sent before is delivered first, as far as that works.
    pub fn close(&self) {
        self.shared().close();
    }
}

impl Sender {
    /// Accepts a message for delivery; waits while the send buffer is full. Cancel safe: a message is accepted whole or
    /// not at all.
    ///
    /// # Errors
    /// The link is closed, the message longer than [`super::MESSAGE_MAX`], or the channel the link's own.
    pub async fn send(&self, channel: Channel, message: Bytes) -> Result<(), LinkError> {
        send(&self.0, channel, message).await
    }

    /// Accepts a message for delivery if there is room now.
    ///
    /// # Errors
    /// As [`Sender::send`], and [`LinkError::Full`].
    pub fn try_send(&self, channel: Channel, message: Bytes) -> Result<(), LinkError> {
        try_send(&self.0, channel, message)
    }

    /// Waits until the link is closed for good; says why.
    pub async fn closed(&self) -> LinkError {
        closed(&self.0).await
    }

    /// Until when the link is kept although no connection carries it; `None` while one does, and when it is closed.
    pub fn parked_until(&self) -> Option<Instant> {
        match self.0.with_session(|session| session.phase()) {
            Phase::Parked(until) => Some(until),
            Phase::Up | Phase::Closing(_) | Phase::Closed => None,
        }
    }

    /// Whether the link is closed for good.
    pub fn is_closed(&self) -> bool {
        self.0.with_session(|session| session.phase() == Phase::Closed)
    }
}

fn try_send(shared: &Shared, channel: Channel, message: Bytes) -> Result<(), LinkError> {
    shared.with_session(|session| session.send(channel, message))?;
    shared.wake_driver();
    Ok(())
}

async fn send(shared: &Shared, channel: Channel, message: Bytes) -> Result<(), LinkError> {
    shared
        .wait(&shared.changed, |session| {
            match session.send(channel, message.clone()) {
                Err(LinkError::Full { .. }) => None,
                done => Some(done),
            }
        })
        .await?;
    shared.wake_driver();
    Ok(())
}

async fn closed(shared: &Shared) -> LinkError {
    shared
        .wait(&shared.changed, |session| {
            (session.phase() == Phase::Closed).then(|| session.cause())
        })
        .await
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("phase", &self.shared().with_session(|s| s.phase()))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("phase", &self.0.with_session(|s| s.phase()))
            .finish_non_exhaustive()
    }
}

/// For tests of what an idle end costs.
#[cfg(test)]
pub(crate) const SHARED_LEN: usize = std::mem::size_of::<Shared>();
