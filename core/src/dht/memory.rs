//! A network of DHT nodes in memory, with a delay on every datagram: for tests and benchmarks, without runtime or sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::item::ItemSigner;
use super::operation::{Operation, Report};
use super::server::{Output, Server, ServerConfig};
use crate::units::Instant;

/// Changes datagrams on their way; what it returns arrives.
pub type Tamper = Box<dyn FnMut(SocketAddr, SocketAddr, Vec<u8>) -> Option<Vec<u8>> + Send>;

/// A network in memory.
pub struct Network {
    now: Instant,
    rng: ChaCha12Rng,
    servers: BTreeMap<SocketAddr, (Instant, Server<ChaCha12Rng>)>,
    /// Datagrams on their way, by arrival and number.
    flying: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sent: u64,
    tamper: Option<Tamper>,
}

impl Network {
    /// `nodes` DHT nodes at public addresses, each of which joins at three random others by the real protocol; `settle` is
    /// how long they run before the network is handed over.
    pub fn new(seed: u64, nodes: usize, settle: Duration) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut addrs: Vec<SocketAddr> = Vec::with_capacity(nodes);
        while addrs.len() < nodes {
            let [a, b, c, d] = rng.next_u32().to_be_bytes();
            let ip = IpAddr::from([1 + a % 9, b, c, d]);
            if addrs.iter().all(|addr| addr.ip() != ip) {
                addrs.push(SocketAddr::new(ip, 6881));
            }
        }
        let mut network = Self {
            now: Instant::ZERO,
            servers: BTreeMap::new(),
            flying: BTreeMap::new(),
            sent: 0,
            tamper: None,
            rng,
        };
        for addr in &addrs {
            let bootstrap = some_of(&addrs, *addr, 3, &mut network.rng);
            network.add(*addr, ServerConfig::new(addr.ip(), bootstrap));
        }
        network.run_for(settle);
        network
    }

    /// Adds a node.
    pub fn add(&mut self, addr: SocketAddr, config: ServerConfig) {
        let rng = ChaCha12Rng::from_rng(&mut self.rng);
        self.servers
            .insert(addr, (self.now, Server::new(self.now, config, rng)));
    }

    /// Takes a node away.
    pub fn remove(&mut self, addr: SocketAddr) {
        self.servers.remove(&addr);
    }

    /// All nodes.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.servers.keys().copied().collect()
    }

    /// A node.
    pub fn server(&self, addr: SocketAddr) -> Option<&Server<ChaCha12Rng>> {
        self.servers.get(&addr).map(|(_, server)| server)
    }

    /// The time in this network.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Datagrams sent so far.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Lets `tamper` change or drop every datagram from now on.
    pub fn tamper(
        &mut self,
        tamper: impl FnMut(SocketAddr, SocketAddr, Vec<u8>) -> Option<Vec<u8>> + Send + 'static,
    ) {
        self.tamper = Some(Box::new(tamper));
    }

    /// Runs the nodes for a time.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.next().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.step(None::<&mut Client<'_, '_, NoSigner>>);
        }
        self.now = until;
    }

    /// Runs an operation of a client at `addr` that knows `seeds`, until it ends; says how long that took.
    pub fn run<S: ItemSigner>(
        &mut self,
        addr: SocketAddr,
        seeds: &[SocketAddr],
        mut operation: Operation<'_, S, ChaCha12Rng>,
    ) -> (Report, Duration) {
        let began = self.now;
        seeds.iter().for_each(|seed| operation.seed(*seed));
        let mut client = Client {
            addr,
            due: self.now,
            operation: &mut operation,
        };
        loop {
            self.step(Some(&mut client));
            if let Some(report) = client.operation.report() {
                return (report.clone(), self.now.saturating_since(began));
            }
            let next = self.next().map_or(client.due, |at| at.min(client.due));
            self.now = self.now.max(next);
        }
    }

    /// A stream of randomness for an operation.
    pub fn rng(&mut self) -> ChaCha12Rng {
        ChaCha12Rng::from_rng(&mut self.rng)
    }

    fn next(&self) -> Option<Instant> {
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let due = self.servers.values().map(|(due, _)| *due).min();
        [arrival, due].into_iter().flatten().min()
    }

    /// Does everything that is due now.
    fn step<S: ItemSigner>(&mut self, mut client: Option<&mut Client<'_, '_, S>>) {
        while let Some(entry) = self
            .flying
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let (from, to, datagram) = entry.remove();
            if let Some((due, server)) = self.servers.get_mut(&to) {
                // What a node refuses, it has counted; here nobody reads the count.
                let _ = server.handle(self.now, from, &datagram);
                *due = self.now;
            } else if let Some(client) = client.as_deref_mut().filter(|client| client.addr == to) {
                let _ = client.operation.handle(self.now, from, &datagram);
                client.due = self.now;
            }
        }
        let mut out = Vec::new();
        for (addr, (due, server)) in self.servers.iter_mut().filter(|(_, (due, _))| *due <= self.now) {
            loop {
                match server.poll_output(self.now) {
                    Output::Send { to, datagram } => out.push((*addr, to, datagram)),
                    Output::WaitUntil(at) => {
                        *due = at;
                        break;
                    }
                }
            }
        }
        if let Some(client) = client.filter(|client| client.due <= self.now) {
            loop {
                match client.operation.poll_output(self.now) {
                    Some(Output::Send { to, datagram }) => out.push((client.addr, to, datagram)),
                    Some(Output::WaitUntil(at)) => {
                        client.due = at;
                        break;
                    }
                    None => break,
                }
            }
        }
        for (from, to, datagram) in out {
            let datagram = match &mut self.tamper {
                Some(tamper) => tamper(from, to, datagram),
                None => Some(datagram),
            };
            let delay = Duration::from_millis(20 + u64::from(self.rng.next_u32() % 60));
            self.sent += 1;
            if let Some(datagram) = datagram {
                self.flying
                    .insert((self.now + delay, self.sent), (from, to, datagram));
            }
        }
    }
}

/// Up to `count` of `addrs` other than `me`, drawn at random: what a node that joins may plausibly know.
pub fn some_of(addrs: &[SocketAddr], me: SocketAddr, count: usize, rng: &mut impl Rng) -> Vec<SocketAddr> {
    let mut some = Vec::with_capacity(count);
    // Draws with repetition, bounded: a small network may have fewer others than asked for.
    for _ in 0..4 * count {
        let Ok(len) = u32::try_from(addrs.len()) else {
            break;
        };
        if some.len() == count || len == 0 {
            break;
        }
        let other = addrs[(rng.next_u32() % len) as usize];
        if other != me && !some.contains(&other) {
            some.push(other);
        }
    }
    some
}

struct Client<'c, 's, S> {
    addr: SocketAddr,
    due: Instant,
    operation: &'c mut Operation<'s, S, ChaCha12Rng>,
}

/// Names the type of a client that is not there.
struct NoSigner;

impl ItemSigner for NoSigner {
    fn public_key(&self) -> [u8; 32] {
        [0; 32]
    }

    fn sign_item(&self, _message: &[u8]) -> [u8; 64] {
        [0; 64]
    }
}
