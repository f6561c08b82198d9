//! Listeners and their backlogs.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::slab::Key;
use super::stream::Stream;
use super::world::{Shared, State};

/// Streams that wait to be accepted; more are dropped, as by Linux with tokio's backlog.
const BACKLOG: usize = 1_024;

#[derive(Default)]
pub(crate) struct Listening {
    queue: VecDeque<Key>,
    waker: Option<Waker>,
}

/// Accepts streams.
pub struct Listener {
    shared: Arc<Shared>,
    key: Key,
    peer: u32,
    incarnation: u32,
    local: SocketAddr,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

impl Listener {
    pub(crate) fn bind(
        shared: &Arc<Shared>,
        peer: u32,
        incarnation: u32,
        at: SocketAddr,
    ) -> io::Result<Self> {
        let mut state = shared.state();
        if !state.current(peer, incarnation) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let host = &mut state.net.hosts[peer as usize];
        let ip = host.bindable(at.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let clash = |host: &super::network::Host, port| {
            host.listeners
                .iter()
                .any(|(other, p, _)| *p == port && (ip.is_none() || other.is_none() || *other == ip))
        };
        let port = match at.port() {
            0 => host.free_port(clash).ok_or(io::ErrorKind::AddrInUse)?,
            port if clash(host, port) => return Err(io::ErrorKind::AddrInUse.into()),
            port => port,
        };
        let key = state.listeners.insert(Listening::default());
        let host = &mut state.net.hosts[peer as usize];
        // Few hosts have a second one.
        host.listeners.reserve_exact(1);
        host.listeners.push((ip, port, key));
        drop(state);
        Ok(Self {
            shared: Arc::clone(shared),
            key,
            peer,
            incarnation,
            local: SocketAddr::new(at.ip(), port),
        })
    }
}

impl phantom_core::runtime::Listener for Listener {
    type Stream = Stream;

    async fn accept(&mut self) -> io::Result<Stream> {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.state();
            loop {
                let Some(listening) = state.listeners.get_mut(self.key) else {
                    return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                };
                let Some(conn) = listening.queue.pop_front() else {
                    if !listening
                        .waker
                        .as_ref()
                        .is_some_and(|waker| waker.will_wake(cx.waker()))
                    {
                        listening.waker = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                };
                if let Some(found) = state.conns.get(conn) {
                    let (local, remote) = (found.ends[1].address, found.ends[0].address);
                    drop(state);
                    return Poll::Ready(Ok(Stream::accepted(&self.shared, conn, local, remote)));
                }
            }
        })
        .await
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let Some(listening) = state.listeners.remove(self.key) else {
            return;
        };
        // A crash has emptied the host's list already.
        if state.current(self.peer, self.incarnation) {
            state.net.hosts[self.peer as usize]
                .listeners
                .retain(|(_, _, key)| *key != self.key);
        }
        for conn in listening.queue {
            state.refuse(conn);
        }
    }
}

impl State {
    pub(crate) fn listener_at(&self, host: u32, at: SocketAddr) -> Option<Key> {
        let listeners = &self.net.hosts[host as usize].listeners;
        let fits = |ip: &Option<std::net::IpAddr>| ip.is_none_or(|ip| ip == at.ip());
        listeners
            .iter()
            .find(|(ip, port, _)| *port == at.port() && fits(ip))
            .map(|(_, _, key)| *key)
    }

    pub(crate) fn listener_full(&self, listener: Key) -> bool {
        self.listeners
            .get(listener)
            .is_none_or(|listening| listening.queue.len() >= BACKLOG)
    }

    /// Queues a stream to be accepted; `false` if the listener is gone.
    pub(crate) fn listener_push(&mut self, listener: Key, conn: Key) -> bool {
        let Some(listening) = self.listeners.get_mut(listener) else {
            return false;
        };
        listening.queue.push_back(conn);
        if let Some(waker) = listening.waker.take() {
            waker.wake();
        }
        true
    }
}
