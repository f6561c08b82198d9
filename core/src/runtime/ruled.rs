//! A censor in front of one host, on any back end: [`Ruled`] decorates a runtime's network with [`SharedRules`].
//!
//! It stands above TCP, so it differs from a censor on the path in what the *other* end sees: what was written before a
//! drop began still arrives there, and a stream that is closed or reset here ends there at once, although its last packet
//! would have been lost. The governed host sees what it would see of a real one: silence on established streams in both
//! directions until the rule ends, connects that hang, resets, missing datagrams, forged and missing answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::rules::{Answer, Flow, Protocol, SharedRules, Verdict, Waiter};
use super::{Clock, Entropy, Events, Listener, Net, Runtime, Share, Spawn, Store, Stream, Udp, timeout};
use crate::event::{Event, Sensitive};
use crate::units::{Instant, WallTime};

/// How long a system tries to connect: Linux sends the SYN 7 times (tcp_syn_retries = 6), 1 + 2 + … + 64 s.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(127);
/// How long a system's resolver waits: glibc asks twice with 5 s each (resolv.conf(5), `timeout`, `attempts`).
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(10);
/// A forged answer or reset comes from near by, but not in no time: a caller that tries again at once must not spin.
const FORGED_AFTER: Duration = Duration::from_millis(2);
/// Streams held back by a listener at once.
const HELD_MAX: usize = 256;

/// A runtime whose network obeys rules.
#[derive(Clone, Debug)]
pub struct Ruled<R> {
    inner: R,
    /// `None`: nothing governs this host, and nothing is paid for it.
    rules: Option<SharedRules>,
}

impl<R: Runtime> Ruled<R> {
    /// Puts `rules` in front of the host that `inner` is.
    pub fn new(inner: R, rules: SharedRules) -> Self {
        Self {
            inner,
            rules: Some(rules),
        }
    }

    /// A host that no rules will ever govern, where the type must be the same.
    pub fn open(inner: R) -> Self {
        Self { inner, rules: None }
    }

    /// The runtime behind the rules.
    pub fn inner(&self) -> &R {
        &self.inner
    }
}

impl<R: Runtime> Net for Ruled<R> {
    type Stream = RuledStream<R::Stream>;
    type Listener = RuledListener<R::Listener>;
    type Udp = RuledUdp<R::Udp>;

    async fn connect(&self, to: SocketAddr) -> io::Result<Self::Stream> {
        let Some(rules) = &self.rules else {
            return self
                .inner
                .connect(to)
                .await
                .map(|stream| RuledStream::new(stream, None));
        };
        // The own end is not known before there is a connection; port 0 is in no rule.
        let unspecified: IpAddr = if to.is_ipv4() {
            [0; 4].into()
        } else {
            [0_u16; 8].into()
        };
        let flow = Flow {
            protocol: Protocol::Tcp,
            inside: SocketAddr::new(unspecified, 0),
            outside: to,
        };
        if let (Verdict::Drop, by) = rules.decide_by(flow) {
            rules.count(by, |counts| counts.connects_dropped += 1);
            let waiter = rules.waiter();
            let passes = waiter.until(|now| now.decide(flow) != Verdict::Drop);
            timeout(&self.inner, CONNECT_TIME_MAX, passes).await?;
        }
        if let (Verdict::Reset, by) = rules.decide_by(flow) {
            self.inner.sleep(FORGED_AFTER).await;
            rules.count(by, |counts| counts.streams_reset += 1);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(RuledStream::new(self.inner.connect(to).await?, Some(rules)))
    }

    async fn listen(&self, at: SocketAddr) -> io::Result<Self::Listener> {
        let inner = self.inner.listen(at).await?;
        Ok(RuledListener {
            inner,
            rules: self.rules.clone(),
            held: Vec::new(),
        })
    }

    async fn bind_udp(&self, at: SocketAddr) -> io::Result<Self::Udp> {
        Ok(RuledUdp {
            inner: self.inner.bind_udp(at).await?,
            rules: self.rules.clone(),
        })
    }

    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let Some(rules) = &self.rules else {
            return self.inner.resolve(name).await;
        };
        if let (Answer::Silence, by) = rules.decide_name_by(name) {
            rules.count(by, |counts| counts.names_silenced += 1);
            let waiter = rules.waiter();
            let answered = waiter.until(|now| now.decide_name(name, 0) != Answer::Silence);
            timeout(&self.inner, RESOLVE_TIME_MAX, answered).await?;
        }
        // The first answer counts, so whether the true one follows makes no difference here.
        if let (Answer::Forged { addresses, .. }, by) = rules.decide_name_by(name) {
            rules.count(by, |counts| counts.names_forged += 1);
            self.inner.sleep(FORGED_AFTER).await;
            return if addresses.is_empty() {
                Err(io::ErrorKind::NotFound.into())
            } else {
                Ok(addresses)
            };
        }
        self.inner.resolve(name).await
    }
}

/// A stream that obeys rules.
#[derive(Debug)]
pub struct RuledStream<S> {
    /// `None` once it was reset.
    inner: Option<S>,
    flow: Flow,
    gate: Option<Gate>,
}

/// What the rules have to do with one stream.
#[derive(Debug)]
struct Gate {
    rules: SharedRules,
    stalled: bool,
    /// Reading and writing may be two tasks: each waits for itself.
    reader: Waiter,
    writer: Waiter,
}

impl<S: Stream> RuledStream<S> {
    fn new(inner: S, rules: Option<&SharedRules>) -> Self {
        let flow = Flow {
            protocol: Protocol::Tcp,
            inside: inner.local_addr(),
            outside: inner.peer_addr(),
        };
        let gate = rules.map(|rules| Gate {
            rules: rules.clone(),
            stalled: false,
            reader: rules.waiter(),
            writer: rules.waiter(),
        });
        Self {
            inner: Some(inner),
            flow,
            gate,
        }
    }

    /// The stream if its flow passes now.
    fn passing(&mut self, writes: bool, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut S>>> {
        if let Some(gate) = &mut self.gate {
            let waiter = if writes { &gate.writer } else { &gate.reader };
            match waiter.decide_and_watch(self.flow, cx.waker()) {
                (Verdict::Pass, _) => gate.stalled = false,
                (Verdict::Drop, by) => {
                    if !gate.stalled && self.inner.is_some() {
                        gate.stalled = true;
                        gate.rules.count(by, |counts| counts.streams_stalled += 1);
                    }
                    return Poll::Pending;
                }
                (Verdict::Reset, by) => {
                    if self.inner.take().is_some() {
                        gate.rules.count(by, |counts| counts.streams_reset += 1);
                    }
                }
            }
        }
        match &mut self.inner {
            Some(inner) => Poll::Ready(Ok(Pin::new(inner))),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl<S: Stream> AsyncRead for RuledStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.passing(false, cx))?.poll_read(cx, buf)
    }
}

impl<S: Stream> AsyncWrite for RuledStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.passing(true, cx))?.poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.passing(true, cx))?.poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.passing(true, cx))?.poll_shutdown(cx)
    }
}

impl<S: Stream> Stream for RuledStream<S> {
    fn peer_addr(&self) -> SocketAddr {
        self.flow.outside
    }
    fn local_addr(&self) -> SocketAddr {
        self.flow.inside
    }
}

/// A listener that obeys rules.
#[derive(Debug)]
pub struct RuledListener<L: Listener> {
    inner: L,
    rules: Option<SharedRules>,
    /// Whose first packet is being dropped: they are accepted when the rule ends.
    held: Vec<RuledStream<L::Stream>>,
}

impl<L: Listener> Listener for RuledListener<L> {
    type Stream = RuledStream<L::Stream>;

    async fn accept(&mut self) -> io::Result<Self::Stream> {
        let Some(rules) = &self.rules else {
            return self
                .inner
                .accept()
                .await
                .map(|stream| RuledStream::new(stream, None));
        };
        let waiter = rules.waiter();
        loop {
            let held: Vec<Flow> = self.held.iter().map(|stream| stream.flow).collect();
            let free = held.iter().position(|flow| rules.decide(*flow) != Verdict::Drop);
            let stream = if let Some(free) = free {
                self.held.remove(free)
            } else {
                let freed = waiter.until(|now| held.iter().any(|flow| now.decide(*flow) != Verdict::Drop));
                tokio::select! {
                    biased;
                    () = freed => continue,
                    accepted = self.inner.accept() => RuledStream::new(accepted?, Some(rules)),
                }
            };
            match rules.decide_by(stream.flow) {
                (Verdict::Pass, _) => return Ok(stream),
                (Verdict::Reset, by) => rules.count(by, |counts| counts.streams_reset += 1),
                (Verdict::Drop, by) => {
                    rules.count(by, |counts| counts.connects_dropped += 1);
                    if self.held.len() < HELD_MAX {
                        self.held.push(stream);
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }
}

/// A datagram socket that obeys rules.
#[derive(Debug)]
pub struct RuledUdp<U> {
    inner: U,
    rules: Option<SharedRules>,
}

impl<U: Udp> RuledUdp<U> {
    fn passes(&self, outside: SocketAddr) -> bool {
        let Some(rules) = &self.rules else { return true };
        let flow = Flow {
            protocol: Protocol::Udp,
            inside: self.inner.local_addr(),
            outside,
        };
        let (verdict, by) = rules.decide_by(flow);
        if verdict != Verdict::Pass {
            rules.count(by, |counts| counts.datagrams_dropped += 1);
        }
        verdict == Verdict::Pass
    }
}

impl<U: Udp> Udp for RuledUdp<U> {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        if self.passes(to) {
            self.inner.send_to(datagram, to).await
        } else {
            Ok(())
        }
    }

    async fn recv_from(&self) -> io::Result<(Bytes, SocketAddr)> {
        loop {
            let (datagram, from) = self.inner.recv_from().await?;
            if self.passes(from) {
                return Ok((datagram, from));
            }
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }
}

impl<R: Runtime> Clock for Ruled<R> {
    type Sleep = R::Sleep;
    fn now(&self) -> Instant {
        self.inner.now()
    }
    fn wall(&self) -> WallTime {
        self.inner.wall()
    }
    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        self.inner.sleep_until(at)
    }
}

impl<R: Runtime> Spawn for Ruled<R> {
    type Task = R::Task;
    fn spawn<F>(&self, name: &'static str, future: F) -> Self::Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.inner.spawn(name, future)
    }
}

impl<R: Runtime> Store for Ruled<R> {
    async fn append(&self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        self.inner.append(file, bytes).await
    }
    async fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        self.inner.write(file, bytes).await
    }
    async fn read(&self, file: &str) -> io::Result<Option<Bytes>> {
        self.inner.read(file).await
    }
    async fn read_at(&self, file: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        self.inner.read_at(file, offset, len).await
    }
    async fn remove(&self, file: &str) -> io::Result<()> {
        self.inner.remove(file).await
    }
    async fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.inner.list(prefix).await
    }
    async fn sync(&self, file: &str) -> io::Result<()> {
        self.inner.sync(file).await
    }
}

impl<R: Runtime> Entropy for Ruled<R> {
    fn rng(&self, label: &'static str) -> ChaCha12Rng {
        self.inner.rng(label)
    }
}

impl<R: Runtime> Events for Ruled<R> {
    fn emit(&self, event: Event) {
        self.inner.emit(event);
    }
    fn sensitive(&self, kind: Sensitive, bytes: &[u8]) {
        self.inner.sensitive(kind, bytes);
    }
}

impl<R: Runtime> Share for Ruled<R> {
    fn shared<T, F>(&self, key: [u8; 32], make: F) -> Arc<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> T,
    {
        self.inner.shared(key, make)
    }
}
