//! The read-only client over a runtime's UDP: begins at cached nodes and published routers, gets and puts mutable items.
//! BEP 43, BEP 44; SPEC §7.4.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;

use super::endpoint::Endpoint;
use super::item::{ItemError, ItemSigner};
use super::lookup;
use super::operation::{GetReport, Operation, PutReport, Report};
use super::server::Output;
use crate::event::Event;
use crate::runtime::{Frugal, Runtime, Udp};

/// Nodes remembered from one operation to the next.
pub const CACHED_MAX: usize = 64;
/// Pause after an error of the socket, so that a broken one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// Addresses and ports of nodes: pairs, because a `SocketAddr` takes half as much again, and shared with whoever stores
/// them, because every client remembers [`CACHED_MAX`].
pub type KnownNodes = Arc<[(IpAddr, u16)]>;

/// How a client uses the DHT.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Nodes that answered in an earlier run, or came with the installation. At most [`CACHED_MAX`] are used.
    pub cached: Vec<SocketAddr>,
    /// Published routers. A censor blocks and forges them like any published name, so they are asked besides the cached.
    pub routers: Arc<[Endpoint]>,
    /// How lookups behave.
    pub lookup: lookup::Config,
}

impl ClientConfig {
    /// A client that begins at these, with default lookups.
    pub fn new(cached: Vec<SocketAddr>, routers: impl Into<Arc<[Endpoint]>>) -> Self {
        Self {
            cached,
            routers: routers.into(),
            lookup: lookup::Config::default(),
        }
    }
}

/// Why an operation could not be tried.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The host gives no socket.
    #[error("no datagram socket (this host's fault)")]
    Socket(#[from] io::Error),
    /// The item is one that no node may store.
    #[error("the item to store (ours): {0}")]
    Item(#[from] ItemError),
}

/// A read-only DHT client. Every operation has a socket and an id of its own; they may run at the same time.
#[derive(Debug)]
pub struct DhtClient<R> {
    rt: R,
    config: ClientConfig,
    /// The newest last.
    cached: Mutex<KnownNodes>,
}

/// Signs nothing: the type of a get.
struct ReadOnly;

impl ItemSigner for ReadOnly {
    fn public_key(&self) -> [u8; 32] {
        [0; 32]
    }

    fn sign_item(&self, _message: &[u8]) -> [u8; 64] {
        [0; 64]
    }
}

impl<R: Runtime> DhtClient<R> {
    /// A client.
    pub fn new(rt: R, mut config: ClientConfig) -> Self {
        let cached = std::mem::take(&mut config.cached);
        let cached = Mutex::new(cached.iter().take(CACHED_MAX).map(pair).collect());
        Self { rt, config, cached }
    }

    /// Nodes that answered, to be cached for the next run.
    pub fn known_nodes(&self) -> KnownNodes {
        self.cached().clone()
    }

    fn cached(&self) -> MutexGuard<'_, KnownNodes> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for the newest item of `key` and `salt`. Items with a sequence number below `pinned` (the highest seen
    /// before) do not count. Emits [`Event::DhtLookup`].
    ///
    /// # Errors
    /// [`ClientError::Socket`] only: finding nothing is a report.
    pub async fn get_mutable(
        &self,
        key: [u8; 32],
        salt: &[u8],
        pinned: i64,
    ) -> Result<GetReport, ClientError> {
        let rng = Frugal::from(self.rt.rng("dht get"));
        let operation =
            Operation::<ReadOnly, _>::get(self.rt.now(), self.config.lookup, key, salt, pinned, rng);
        let Report::Get(report) = self.run(operation).await? else {
            unreachable!("a get reports a get");
        };
        self.remember(&report.alive);
        self.rt.emit(Event::DhtLookup {
            responders: report.tally.responders,
            found: report.quorum,
        });
        Ok(report)
    }

    /// Stores `value` (bencoded) under the signer's key and `salt` on the 8 nearest nodes, with `sequence` or, if the
    /// network shows a higher one, the number after that.
    ///
    /// # Errors
    /// [`ClientError::Item`] when no node may store it, [`ClientError::Socket`]; that nobody stored it is a report.
    pub async fn put_mutable<S: ItemSigner + Sync>(
        &self,
        signer: &S,
        salt: &[u8],
        sequence: i64,
        value: &[u8],
    ) -> Result<PutReport, ClientError> {
        let rng = Frugal::from(self.rt.rng("dht put"));
        let operation = Operation::put(
            self.rt.now(),
            self.config.lookup,
            signer,
            salt,
            sequence,
            value,
            rng,
        )?;
        let Report::Put(report) = self.run(operation).await? else {
            unreachable!("a put reports a put");
        };
        self.remember(&report.alive);
        Ok(report)
    }

    async fn run<S: ItemSigner + Sync>(
        &self,
        mut operation: Operation<'_, S, impl rand_core::Rng + Send>,
    ) -> Result<Report, ClientError> {
        let mut v6 = false;
        let seeds = self.known_nodes();
        let mut names = Vec::new();
        for seed in seeds.iter().rev().copied().map(SocketAddr::from) {
            operation.seed(seed);
            v6 |= seed.is_ipv6();
        }
        for router in self.config.routers.iter() {
            match router {
                Endpoint::Addr(addr) => {
                    operation.seed(*addr);
                    v6 |= addr.is_ipv6();
                }
                Endpoint::Name { .. } => names.push(router.clone()),
            }
        }
        // One socket: IPv6 only for clients who know nobody else.
        let v4 = seeds.iter().any(|(ip, _)| ip.is_ipv4()) || !v6;
        drop(seeds); // not to be kept through the lookup
        let any: IpAddr = if v4 {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let udp = self.rt.bind_udp(SocketAddr::new(any, 0)).await?;
        operation.expect_seeds(!names.is_empty());
        let mut resolving = Box::pin(resolve(&self.rt, names));
        let mut resolved = false;
        loop {
            let until = loop {
                match operation.poll_output(self.rt.now()) {
                    // A datagram that cannot be sent is a datagram lost.
                    Some(Output::Send { to, datagram }) => drop(udp.send_to(&datagram, to).await),
                    Some(Output::WaitUntil(at)) => break at,
                    None => {
                        return Ok(operation
                            .report()
                            .expect("an operation that wants nothing has ended")
                            .clone());
                    }
                }
            };
            tokio::select! {
                biased;
                received = udp.recv_from() => match received {
                    Ok((datagram, from)) => {
                        if let Err(why) = operation.handle(self.rt.now(), from, &datagram) {
                            self.rt.emit(Event::Refused { what: "dht answer", why });
                        }
                    }
                    Err(_) => self.rt.sleep(ERROR_PAUSE).await,
                },
                addrs = &mut resolving, if !resolved => {
                    resolved = true;
                    addrs.into_iter().for_each(|addr| operation.seed(addr));
                    operation.expect_seeds(false);
                }
                () = self.rt.sleep_until(until) => {}
            }
        }
    }

    fn remember(&self, alive: &[SocketAddr]) {
        let fresh: BTreeSet<_> = alive.iter().map(pair).collect();
        let mut held = self.cached();
        let mut cached: Vec<_> = held
            .iter()
            .copied()
            .filter(|addr| !fresh.contains(addr))
            .collect();
        // Half the room is for what an operation saw, so that one captured neighbourhood cannot displace all the others.
        cached.extend(alive.iter().take(CACHED_MAX / 2).map(pair));
        let surplus = cached.len().saturating_sub(CACHED_MAX);
        *held = cached[surplus..].into();
    }
}

fn pair(addr: &SocketAddr) -> (IpAddr, u16) {
    (addr.ip(), addr.port())
}

async fn resolve<R: Runtime>(rt: &R, names: Vec<Endpoint>) -> Vec<SocketAddr> {
    let mut addrs = Vec::new();
    for name in names {
        addrs.extend(name.resolve(rt).await);
    }
    addrs
}
