//! Datagrams: unordered, lost, sometimes duplicated, bounded by an MTU.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::Happening;
use super::access::Arrival;
use super::border::{Kind, Options, Protocol, Tcp};
use super::network::{Fate, Owner, Sending, flow_of};
use super::slab::Key;
use super::watch::{NOBODY, Watched};
use super::world::{Shared, State};

/// What fits into a packet of 1500 bytes after the headers of IP and UDP.
const PAYLOAD_MAX_V4: usize = 1_472;
const PAYLOAD_MAX_V6: usize = 1_452;
/// Datagrams that wait in a socket; more are lost.
const QUEUE: usize = 512;

#[derive(Default)]
pub(crate) struct Socket {
    queue: VecDeque<(Bytes, SocketAddr)>,
    wakers: Vec<Waker>,
}

/// A datagram on its way.
#[derive(Default)]
pub(crate) struct Datagram {
    to: u32,
    /// The receiver's own view of where it goes.
    dst: Option<SocketAddr>,
    src: Option<SocketAddr>,
    payload: Bytes,
    landed: bool,
    watched: Watched,
}

impl Datagram {
    /// The same datagram, come twice; whoever watches has seen the first.
    fn again(&self) -> Self {
        Self {
            to: self.to,
            dst: self.dst,
            src: self.src,
            payload: self.payload.clone(),
            landed: self.landed,
            watched: None,
        }
    }
}

/// A datagram socket.
pub struct Udp {
    shared: Arc<Shared>,
    key: Key,
    peer: u32,
    incarnation: u32,
    local: SocketAddr,
}

impl std::fmt::Debug for Udp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Udp")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

impl Udp {
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
            host.sockets
                .iter()
                .any(|(other, p, _)| *p == port && (ip.is_none() || other.is_none() || *other == ip))
        };
        let port = match at.port() {
            0 => host.free_port(clash).ok_or(io::ErrorKind::AddrInUse)?,
            port if clash(host, port) => return Err(io::ErrorKind::AddrInUse.into()),
            port => port,
        };
        let key = state.sockets.insert(Socket::default());
        let host = &mut state.net.hosts[peer as usize];
        // Few hosts have a second one.
        host.sockets.reserve_exact(1);
        host.sockets.push((ip, port, key));
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

impl phantom_core::runtime::Udp for Udp {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.shared
            .state()
            .send_datagram(self.peer, self.incarnation, self.local, datagram, to)
    }

    async fn recv_from(&self) -> io::Result<(Bytes, SocketAddr)> {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.state();
            let Some(socket) = state.sockets.get_mut(self.key) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            match socket.queue.pop_front() {
                Some(datagram) => Poll::Ready(Ok(datagram)),
                None => {
                    if !socket.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                        socket.wakers.push(cx.waker().clone());
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.sockets.remove(self.key);
        if state.current(self.peer, self.incarnation) {
            state.net.hosts[self.peer as usize]
                .sockets
                .retain(|(_, _, key)| *key != self.key);
        }
    }
}

impl State {
    fn send_datagram(
        &mut self,
        peer: u32,
        incarnation: u32,
        local: SocketAddr,
        datagram: &[u8],
        to: SocketAddr,
    ) -> io::Result<()> {
        if !self.current(peer, incarnation) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let now = self.now;
        let source = self.net.hosts[peer as usize]
            .source(to.ip())
            .ok_or(io::ErrorKind::NetworkUnreachable)?;
        let specific = local.ip().is_ipv4() == to.ip().is_ipv4() && !local.ip().is_unspecified();
        let own = SocketAddr::new(if specific { local.ip() } else { source }, local.port());
        let limit = if to.is_ipv4() {
            PAYLOAD_MAX_V4
        } else {
            PAYLOAD_MAX_V6
        };
        if datagram.len() > limit {
            self.net.counters.oversize += 1;
            return Ok(());
        }
        let loopback = to.ip().is_loopback();
        let src = match self.net.hosts[peer as usize].nat {
            Some(nat) if !loopback => self.net.nats[nat as usize].outgoing(now, peer, own, to.ip()),
            _ => Some(own),
        };
        let Some(src) = src else {
            self.net.counters.unroutable += 1;
            return Ok(());
        };
        // A translator is asked when the datagram sets out: what its table says may age by one way's delay.
        let receiver = match self.net.route(peer, to.ip()) {
            Some(Owner::Host(host)) if host == peer || self.net.hosts[host as usize].nat.is_none() => {
                Some((host, to))
            }
            Some(Owner::Nat(nat)) => self.net.nats[nat as usize].incoming(now, to.port(), src.ip()),
            _ => None,
        };
        let payload = Bytes::copy_from_slice(datagram);
        let sending = |to_host| Sending {
            from: peer,
            to: to_host,
            src,
            dst: to,
            protocol: Protocol::Udp,
            kind: Kind::Datagram,
            payload: &payload,
            name: None,
            flow: flow_of(src, to),
            tcp: Tcp::default(),
            options: Options::default(),
            tail: None,
        };
        let Some((host, dst)) = receiver else {
            self.net.counters.unroutable += 1;
            self.net.leaves(now, &sending(NOBODY));
            return Ok(());
        };
        let copies = 1 + u32::from(self.duplicate.get() > 0.0 && self.duplicate.happens(self.dice()));
        for _ in 0..copies {
            if let Fate::Arrives(Arrival { ns: at, twice, .. }, mut watched) =
                self.net.transmit(now, sending(host))
            {
                let landed = self.net.fixed.is_some() || host == peer;
                if landed {
                    self.net.arrives(at, watched.take());
                }
                let datagram = Datagram {
                    to: host,
                    dst: Some(dst),
                    src: Some(src),
                    payload: payload.clone(),
                    landed,
                    watched,
                };
                let again = twice.then(|| datagram.again());
                for datagram in std::iter::once(datagram).chain(again) {
                    let key = self.datagrams.insert(datagram);
                    self.schedule(peer, at, Happening::Datagram(key));
                }
            }
        }
        Ok(())
    }

    /// A datagram is at the receiver's access link, or through it.
    pub(crate) fn datagram_arrives(&mut self, key: Key) {
        let Some(datagram) = self.datagrams.get_mut(key) else {
            return;
        };
        if !datagram.landed {
            datagram.landed = true;
            let (to, size, watched) = (
                datagram.to,
                datagram.payload.len() as u64,
                datagram.watched.take(),
            );
            match self.net.land(self.now, to, size) {
                Some(Arrival { ns: at, twice, .. }) => {
                    self.net.arrives(at, watched);
                    let again = self.datagrams.get_mut(key).filter(|_| twice);
                    let again = again.map(|datagram| datagram.again());
                    self.schedule(to, at, Happening::Datagram(key));
                    if let Some(again) = again {
                        let key = self.datagrams.insert(again);
                        self.schedule(to, at, Happening::Datagram(key));
                    }
                }
                None => {
                    self.datagrams.remove(key);
                }
            }
            return;
        }
        let Some(datagram) = self.datagrams.remove(key) else {
            return;
        };
        let (Some(src), Some(dst)) = (datagram.src, datagram.dst) else {
            return;
        };
        let host = &self.net.hosts[datagram.to as usize];
        let fits = |ip: &Option<IpAddr>| ip.is_none_or(|ip| ip == dst.ip());
        let socket = host
            .sockets
            .iter()
            .find(|(ip, port, _)| *port == dst.port() && fits(ip));
        let found = socket
            .filter(|_| host.up)
            .and_then(|(_, _, key)| self.sockets.get_mut(*key));
        let Some(socket) = found else {
            self.net.counters.unroutable += 1;
            return;
        };
        if socket.queue.len() >= QUEUE {
            self.net.counters.queue_full += 1;
            return;
        }
        socket.queue.push_back((datagram.payload, src));
        for waker in socket.wakers.drain(..) {
            waker.wake();
        }
    }
}
