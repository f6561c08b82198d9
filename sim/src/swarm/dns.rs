//! Names: a query over UDP to the host's resolver, seen by the border if that is on the other side, and its answer.
//!
//! The stub asks twice, 5 s apart, and takes the first answer that comes (resolv.conf(5) defaults); a forged one comes
//! from the border and is first. One query stands for the pair of A and AAAA that real stubs send, and there is no
//! cache.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::Happening;
use super::border::{Kind, Options, Protocol, Tcp};
use super::network::{EPHEMERAL_FIRST, Fate, Owner, Sending, flow_of};
use super::slab::Key;
use super::world::{Shared, State};
use crate::host::names::canonical;

const RETRY_NS: u64 = 5_000_000_000;
const ATTEMPTS: u8 = 2;
const DNS_PORT: u16 = 53;

/// What happens to a query at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is at the resolver.
    Query,
    /// The resolver's answer is at the host.
    Answer,
    /// A forged answer is at the host.
    Forgery,
    /// Nothing came in time.
    Silence,
}

#[derive(Default)]
pub(crate) struct Question {
    peer: u32,
    name: Option<Arc<str>>,
    /// The host's end as others see it.
    shown: Option<SocketAddr>,
    /// The resolver, unless it is the one next door.
    resolver: Option<(u32, SocketAddr)>,
    id: u16,
    attempts: u8,
    forged: Vec<IpAddr>,
    result: Option<io::Result<Vec<IpAddr>>>,
    waker: Option<Waker>,
}

/// Waits for an answer.
pub(crate) struct Resolving {
    shared: Arc<Shared>,
    key: Key,
}

impl Resolving {
    pub(crate) fn start(shared: &Arc<Shared>, peer: u32, incarnation: u32, name: &str) -> io::Result<Self> {
        let key = shared.state().ask(peer, incarnation, name)?;
        Ok(Self {
            shared: Arc::clone(shared),
            key,
        })
    }

    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<io::Result<Vec<IpAddr>>> {
        let mut state = self.shared.state();
        let Some(question) = state.questions.get_mut(self.key) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        match question.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                question.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        self.shared.state().questions.remove(self.key);
    }
}

impl State {
    fn ask(&mut self, peer: u32, incarnation: u32, name: &str) -> io::Result<Key> {
        if !self.current(peer, incarnation) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let name = canonical(name);
        if name.is_empty()
            || name.len() > 253
            || name.split('.').any(|label| label.is_empty() || label.len() > 63)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is no host name"),
            ));
        }
        let random = self.dice();
        let host = &self.net.hosts[peer as usize];
        let mut question = Question {
            peer,
            name: Some(name.into()),
            id: random as u16,
            ..Question::default()
        };
        if let Some(ip) = host.resolver {
            let port = EPHEMERAL_FIRST + (random >> 16) as u16 % (u16::MAX - EPHEMERAL_FIRST);
            let own = SocketAddr::new(host.source(ip).ok_or(io::ErrorKind::NetworkUnreachable)?, port);
            let nat = host.nat;
            question.shown = match nat {
                Some(nat) => self.net.nats[nat as usize].outgoing(self.now, peer, own, ip),
                None => Some(own),
            };
            // Nobody at the resolver's address: the query is lost, and again.
            question.resolver = match self.net.route(peer, ip) {
                Some(Owner::Host(host)) => Some((host, SocketAddr::new(ip, DNS_PORT))),
                _ => None,
            };
            let unroutable = question.resolver.is_none();
            let key = self.questions.insert(question);
            if unroutable {
                self.net.counters.unroutable += 1;
                self.schedule(
                    peer,
                    self.now + RETRY_NS * u64::from(ATTEMPTS),
                    Happening::Dns(key, Asked::Silence),
                );
                if let Some(question) = self.questions.get_mut(key) {
                    question.attempts = ATTEMPTS;
                }
            } else {
                self.send_query(key);
            }
            return Ok(key);
        }
        self.ask_next_door(peer, question)
    }

    /// The resolver of the host's own system. If that is inside the border it asks servers outside, so its answers are
    /// what the censor lets through or makes of them.
    fn ask_next_door(&mut self, peer: u32, mut question: Question) -> io::Result<Key> {
        let host = &self.net.hosts[peer as usize];
        // What the border sees is outside of any NAT.
        let shown = match host.nat {
            Some(nat) => self.net.nats[nat as usize].outside.first(),
            None => host.addresses.first(),
        };
        let shown = shown.copied().unwrap_or(IpAddr::from([0; 4]));
        let there = self
            .net
            .fixed
            .or_else(|| self.net.delays.between(host.system, host.system))
            .unwrap_or(0);
        let mut verdict = None;
        if host.inside
            && let Some(name) = &question.name
        {
            let query = encode(question.id, name, None, Duration::ZERO);
            let record = self.names.lookup(name);
            let (addresses, ttl) = record.map_or((&[][..], Duration::ZERO), |r| (&r.addresses[..], r.ttl));
            let answer = encode(question.id, name, Some(addresses), ttl);
            let src = SocketAddr::new(shown, EPHEMERAL_FIRST);
            verdict = self.net.recursion(self.now, peer, src, name, &query, &answer);
        }
        let (asked, after) = match verdict {
            None => (Asked::Answer, 2 * there),
            Some(Fate::Forged { addresses, .. }) => {
                question.forged = addresses;
                (Asked::Forgery, 2 * there)
            }
            Some(_) => {
                question.attempts = ATTEMPTS;
                (Asked::Silence, RETRY_NS * u64::from(ATTEMPTS))
            }
        };
        let key = self.questions.insert(question);
        self.schedule(peer, self.now + after, Happening::Dns(key, asked));
        Ok(key)
    }

    fn send_query(&mut self, key: Key) {
        let Some(question) = self.questions.get_mut(key) else {
            return;
        };
        question.attempts += 1;
        let (peer, id) = (question.peer, question.id);
        let (Some((resolver, at)), Some(shown), Some(name)) =
            (question.resolver, question.shown, question.name.clone())
        else {
            return;
        };
        let payload = encode(id, &name, None, Duration::ZERO);
        match self.send_dns(peer, resolver, shown, at, Kind::Query, &payload, &name) {
            Fate::Arrives(at, watched) => {
                self.net.arrives(at.ns, watched);
                self.schedule(peer, at.ns, Happening::Dns(key, Asked::Query));
            }
            Fate::Forged {
                truth,
                addresses,
                lie,
            } => {
                let near = self.net.distance(peer, resolver).unwrap_or(0);
                if let Some(question) = self.questions.get_mut(key) {
                    question.forged = addresses;
                }
                self.net.arrives(self.now + near, lie);
                self.schedule(peer, self.now + near, Happening::Dns(key, Asked::Forgery));
                if let Some((at, watched)) = truth {
                    self.net.arrives(at.ns, watched);
                    self.schedule(peer, at.ns, Happening::Dns(key, Asked::Query));
                }
            }
            _ => self.dns_lost(key),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a packet has that many parts")]
    fn send_dns(
        &mut self,
        from: u32,
        to: u32,
        src: SocketAddr,
        dst: SocketAddr,
        kind: Kind,
        payload: &Bytes,
        name: &Arc<str>,
    ) -> Fate {
        let flow = flow_of(src, dst);
        let protocol = Protocol::Dns;
        let sending = Sending {
            from,
            to,
            src,
            dst,
            protocol,
            kind,
            payload,
            name: Some(name),
            flow,
            tcp: Tcp::default(),
            options: Options::default(),
            tail: None,
        };
        self.net.transmit(self.now, sending)
    }

    fn dns_lost(&mut self, key: Key) {
        let Some(question) = self.questions.get(key) else {
            return;
        };
        let peer = question.peer;
        self.schedule(peer, self.now + RETRY_NS, Happening::Dns(key, Asked::Silence));
    }

    /// A query's event is due.
    pub(crate) fn dns_step(&mut self, key: Key, asked: Asked) {
        let Some(question) = self.questions.get(key) else {
            return;
        };
        match asked {
            Asked::Query => self.answer(key),
            Asked::Answer => {
                let found = question.name.as_deref().and_then(|name| self.names.lookup(name));
                let addresses = found.map(|record| record.addresses.clone()).unwrap_or_default();
                self.answered(key, addresses);
            }
            Asked::Forgery => {
                let forged = question.forged.clone();
                self.answered(key, forged);
            }
            Asked::Silence if question.result.is_some() => {}
            Asked::Silence if question.attempts < ATTEMPTS => self.send_query(key),
            Asked::Silence => self.settle(key, Err(io::ErrorKind::TimedOut.into())),
        }
    }

    fn answer(&mut self, key: Key) {
        let Some(question) = self.questions.get(key) else {
            return;
        };
        let (peer, id) = (question.peer, question.id);
        let (Some((resolver, at)), Some(shown), Some(name)) =
            (question.resolver, question.shown, question.name.clone())
        else {
            return;
        };
        if !self.net.hosts[resolver as usize].up {
            return self.dns_lost(key);
        }
        let record = self.names.lookup(&name);
        let (addresses, ttl) = record.map_or((&[][..], Duration::ZERO), |r| (&r.addresses[..], r.ttl));
        let payload = encode(id, &name, Some(addresses), ttl);
        match self.send_dns(resolver, peer, at, shown, Kind::Answer, &payload, &name) {
            Fate::Arrives(at, watched) => {
                self.net.arrives(at.ns, watched);
                self.schedule(resolver, at.ns, Happening::Dns(key, Asked::Answer));
            }
            _ => self.dns_lost(key),
        }
    }

    fn answered(&mut self, key: Key, addresses: Vec<IpAddr>) {
        let result = if addresses.is_empty() {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Ok(addresses)
        };
        self.settle(key, result);
    }

    /// The first answer counts.
    fn settle(&mut self, key: Key, result: io::Result<Vec<IpAddr>>) {
        let Some(question) = self.questions.get_mut(key) else {
            return;
        };
        question.result.get_or_insert(result);
        if let Some(waker) = question.waker.take() {
            waker.wake();
        }
    }
}

/// A DNS message (RFC 1035 §4): a query, or an answer with these addresses.
pub(super) fn encode(id: u16, name: &str, answer: Option<&[IpAddr]>, ttl: Duration) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_u16(id);
    let missing = answer.is_some_and(<[IpAddr]>::is_empty);
    out.put_u16(if answer.is_some() {
        0x8180 | if missing { 3 } else { 0 }
    } else {
        0x0100
    });
    out.put_u16(1);
    out.put_u16(answer.map_or(0, |addresses| addresses.len() as u16));
    out.put_u32(0);
    for label in name.split('.') {
        out.put_u8(label.len() as u8);
        out.put_slice(label.as_bytes());
    }
    out.put_u8(0);
    out.put_u16(1);
    out.put_u16(1);
    for address in answer.unwrap_or_default() {
        out.put_u16(0xC00C);
        out.put_u16(if address.is_ipv4() { 1 } else { 28 });
        out.put_u16(1);
        out.put_u32(u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX));
        match address {
            IpAddr::V4(v4) => {
                out.put_u16(4);
                out.put_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                out.put_u16(16);
                out.put_slice(&v6.octets());
            }
        }
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_what_rfc_1035_says() {
        let wanted = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01";
        assert_eq!(&encode(0x1234, "a.example", None, Duration::ZERO)[..], wanted);
        let answer = encode(
            1,
            "a.example",
            Some(&[[192, 0, 2, 1].into()]),
            Duration::from_secs(60),
        );
        assert_eq!(&answer[2..8], b"\x81\x80\x00\x01\x00\x01");
        assert_eq!(
            &answer[answer.len() - 16..],
            b"\xC0\x0C\x00\x01\x00\x01\x00\x00\x00\x3C\x00\x04\xC0\x00\x02\x01"
        );
    }
}
