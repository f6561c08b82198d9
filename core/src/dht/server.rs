//! A whole DHT node without I/O: it answers queries, joins, keeps its table fresh. SPEC §7.3.
//!
//! [`Server::handle`] takes a datagram, [`Server::poll_output`] is drained for datagrams to send and the time to wait for.
//! Idle, in a network of 300 nodes, it holds 3.5 KiB (a test); a network ten times as large adds about 1.2 KiB.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use rand_core::Rng;
use subtle::ConstantTimeEq;

use super::id::{DhtId, is_local};
use super::item::{ItemError, MutableItem, SALT_BYTES_MAX, VALUE_BYTES_MAX, immutable_target};
use super::krpc::{Body, Message, NodeInfo, PutMutable, Query, Response, Want, code};
use super::lookup::{self, Goal, Lookup};
use super::pending::Pending;
use super::sightings::Sightings;
use super::storage::{Item, RateLimit, Storage, StoreRefusal};
use super::table::{BUCKET, Offer, Table};
use crate::crypto::kdf::Context;
use crate::event::Refusal;
use crate::runtime::Share;
use crate::units::Instant;

/// Tokens are made of the time in units of this; the current and the one before are accepted (BEP 5: 10 minutes).
pub const TOKEN_PERIOD: Duration = Duration::from_secs(300);

const TOKEN: Context = Context::new("phantom-net 2026 dht token v1");
const TOKEN_LEN: usize = 8;
/// Datagrams that wait to be sent; more are dropped, as a network would.
pub const OUTBOX_MAX: usize = 64;
/// How often unverified, failing and long unheard nodes are pinged, and how many at a time.
const PING_PERIOD: Duration = Duration::from_secs(5);
const PINGS_AT_ONCE: usize = 4;
/// How long the answer to a ping is awaited.
const PING_LIMIT: Duration = Duration::from_secs(3);
/// Pauses before the second to fourth round of lookups: others may have started at the same time.
const REJOIN_AFTER: [Duration; 3] = [
    Duration::from_secs(3),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// Between two lookups of a round.
const ROUND_GAP: Duration = Duration::from_millis(500);
/// Buckets searched in a round. A network of 2^20 nodes has no more that matter; whoever makes an id nearer to ours than any
/// honest one would otherwise make us search a hundred empty buckets.
const ROUND_BUCKETS_MAX: usize = 20;

/// What a DHT node does.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address others see; the node's id is made for it (BEP 42), and anew if those it asks say that they see another.
    pub public_ip: IpAddr,
    /// Nodes to join at.
    pub bootstrap: Vec<SocketAddr>,
    /// Most items stored for others. Default 256 (at most about 300 KiB).
    pub items_max: usize,
    /// Queries answered to one address per second. Default 20.
    pub queries_per_second: u32,
    /// Queries answered to one address at once. Default 60: several clients may share an address.
    pub queries_burst: u32,
    /// A node not heard for this long is pinged, and after a pause as long every bucket is searched again. Default 15 min.
    pub refresh: Duration,
    /// How its own lookups behave.
    pub lookup: lookup::Config,
}

impl ServerConfig {
    /// The defaults for a node at `public_ip` that joins at `bootstrap`.
    pub fn new(public_ip: IpAddr, bootstrap: Vec<SocketAddr>) -> Self {
        Self {
            public_ip,
            bootstrap,
            items_max: 256,
            queries_per_second: 20,
            queries_burst: 60,
            refresh: Duration::from_secs(15 * 60),
            lookup: lookup::Config::default(),
        }
    }
}

/// What the node wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        datagram: Vec<u8>,
    },
    /// Nothing to do before this instant, unless something is heard.
    WaitUntil(Instant),
}

/// What a query of ours was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Ping,
    Lookup,
}

/// How a node checks an item: as [`MutableItem::verify`].
type Verify =
    Box<dyn Fn(&[u8; 32], &[u8], i64, &[u8], &[u8; 64]) -> Result<MutableItem, ItemError> + Send + Sync>;

/// A DHT node.
pub struct Server<G> {
    config: ServerConfig,
    verify: Verify,
    me: DhtId,
    sightings: Sightings,
    rng: G,
    table: Table,
    storage: Storage,
    limit: RateLimit,
    token_key: [u8; 32],
    pending: Pending<Asked>,
    lookup: Option<Box<Lookup>>,
    /// Rounds of lookups done since the start.
    rounds: u32,
    /// What the round under way searches next: `None` for the own neighbourhood, then every bucket from the farthest on.
    bucket: Option<usize>,
    next_lookup: Instant,
    next_ping: Instant,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl<G: Rng> Server<G> {
    /// A node that begins to join at once.
    pub fn new(now: Instant, config: ServerConfig, mut rng: G) -> Self {
        let me = DhtId::for_ip(config.public_ip, &mut rng);
        let mut token_key = [0; 32];
        rng.fill_bytes(&mut token_key);
        Self {
            me,
            sightings: Sightings::default(),
            table: Table::new(me, config.lookup.enforce_ids),
            storage: Storage::new(me, config.items_max),
            limit: RateLimit::new(config.queries_per_second, config.queries_burst),
            token_key,
            pending: Pending::default(),
            lookup: None,
            rounds: 0,
            bucket: None,
            next_lookup: now,
            next_ping: now + PING_PERIOD,
            outbox: VecDeque::new(),
            verify: Box::new(MutableItem::verify),
            config,
            rng,
        }
    }

    /// Checks items together with the other nodes of this process: eight of them are given each.
    #[must_use]
    pub fn sharing<R: Share + Send + Sync + 'static>(mut self, rt: R) -> Self {
        self.verify = Box::new(move |key, salt, sequence, value, signature| {
            MutableItem::verify_shared(&rt, key, salt, sequence, value, signature)
        });
        self
    }

    /// Its id.
    pub const fn id(&self) -> DhtId {
        self.me
    }

    /// What it knows of others.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// What it stores for others.
    pub const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Datagrams that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Bytes held by a node that is idle and stores nothing, its own included.
    pub fn idle_bytes(&self) -> usize {
        size_of::<Self>()
            + self.table.heap_bytes()
            + self.outbox.capacity() * size_of::<(SocketAddr, Vec<u8>)>()
            + self.config.bootstrap.capacity() * size_of::<SocketAddr>()
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// Says why it was counted and dropped. A query that is refused with an error message is no error here.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Result<(), Refusal> {
        let message = Message::decode(datagram).map_err(|_| Refusal::Malformed)?;
        match message.body {
            Body::Query { id, ref query } => {
                if !self.limit.allow(now, from.ip()) {
                    return Err(Refusal::OverQuota);
                }
                // A newcomer is named to others once it has answered, so it is asked at once.
                if !message.read_only
                    && self.table.offer(now, NodeInfo { id, addr: from }, false) == Offer::New
                {
                    self.ask(now, from, Asked::Ping, Query::Ping);
                }
                let mut out = Message {
                    transaction: message.transaction,
                    read_only: false,
                    seen_at: Some(from),
                    body: Body::Error { code: 0, text: b"" },
                };
                let token = self.token(now, from.ip(), 0);
                let value;
                out.body = match self.answer(now, from, query) {
                    Ok(mut answer) => {
                        value = answer.item.take();
                        let mut response = Response {
                            id: self.me,
                            nodes: answer.nodes,
                            ..Response::default()
                        };
                        if answer.token {
                            response.token = Some(&token);
                        }
                        match &value {
                            None => {}
                            Some(Shown::Sequence(sequence)) => response.sequence = Some(*sequence),
                            Some(Shown::Item(Item::Immutable(value))) => response.value = Some(value),
                            Some(Shown::Item(Item::Mutable(item))) => {
                                response.value = Some(item.value());
                                response.key = Some(*item.key());
                                response.sequence = Some(item.sequence());
                                response.signature = Some(*item.signature());
                            }
                        }
                        Body::Response(response)
                    }
                    Err((code, text)) => Body::Error {
                        code,
                        text: text.as_bytes(),
                    },
                };
                self.send(from, out.encode());
                Ok(())
            }
            Body::Response(response) => {
                match self
                    .pending
                    .end(message.transaction, from)
                    .ok_or(Refusal::Misdirected)?
                {
                    Asked::Ping => {}
                    Asked::Lookup => {
                        if let Some(lookup) = &mut self.lookup {
                            lookup.answered(now, from, &response);
                        }
                        response
                            .nodes
                            .iter()
                            .for_each(|node| self.table.hear_of(now, *node));
                    }
                }
                self.table.offer(
                    now,
                    NodeInfo {
                        id: response.id,
                        addr: from,
                    },
                    true,
                );
                if let Some(seen) = message.seen_at {
                    self.seen_as(now, from.ip(), seen.ip());
                }
                Ok(())
            }
            Body::Error { .. } => {
                if self
                    .pending
                    .end(message.transaction, from)
                    .ok_or(Refusal::Misdirected)?
                    == Asked::Lookup
                    && let Some(lookup) = &mut self.lookup
                {
                    lookup.failed(from);
                }
                Ok(())
            }
        }
    }

    /// A node that was asked says where the question came from.
    fn seen_as(&mut self, now: Instant, voter: IpAddr, seen: IpAddr) {
        // One id serves one family: who sees the other address of a node with both says nothing about it.
        if seen.is_ipv4() != self.config.public_ip.is_ipv4() {
            return;
        }
        let fits = self.me.fits_ip(seen);
        if is_local(seen) || fits && self.sightings.is_empty() {
            return;
        }
        let Some(most) = self.sightings.note(voter, seen) else {
            return;
        };
        self.sightings = Sightings::default();
        if fits {
            return;
        }
        self.me = DhtId::for_ip(most, &mut self.rng);
        self.table.moved_to(self.me);
        self.storage.moved_to(self.me);
        // It joins again, where it is now.
        (self.lookup, self.bucket, self.rounds, self.next_lookup) = (None, None, 0, now);
    }

    /// What to do now. Drain after every change until it is no [`Output::Send`].
    pub fn poll_output(&mut self, now: Instant) -> Output {
        if let Some((to, datagram)) = self.outbox.pop_front() {
            return Output::Send { to, datagram };
        }
        for (to, _) in self.pending.expire(now, PING_LIMIT) {
            self.table.failed(to);
        }
        if now >= self.next_ping {
            self.next_ping = now + PING_PERIOD;
            self.storage.expire(now);
            self.limit.expire(now);
            // A busy moment should not cost an idle node memory for ever: there are thousands in one simulation.
            self.outbox.shrink_to(4);
            for node in self.table.questionable(now, self.config.refresh, PINGS_AT_ONCE) {
                self.ask(now, node.addr, Asked::Ping, Query::Ping);
            }
        }
        if now >= self.next_lookup && self.lookup.is_none() {
            self.begin_lookup(now);
        }
        let mut wake = self.next_ping;
        if let Some(mut lookup) = self.lookup.take() {
            let ended = loop {
                match lookup.poll_output(now) {
                    lookup::Output::Ask(to) => {
                        let query = Query::FindNode {
                            target: lookup.goal().target(),
                            want: Want::default(),
                        };
                        self.ask(now, to, Asked::Lookup, query);
                    }
                    lookup::Output::WaitUntil(at) => {
                        wake = wake.min(at);
                        break false;
                    }
                    lookup::Output::Done => break true,
                }
            };
            if !ended {
                self.lookup = Some(lookup);
            }
        } else {
            wake = wake.min(self.next_lookup);
        }
        if let Some(oldest) = self.pending.oldest() {
            wake = wake.min(oldest + PING_LIMIT);
        }
        match self.outbox.pop_front() {
            Some((to, datagram)) => Output::Send { to, datagram },
            None => Output::WaitUntil(wake),
        }
    }

    /// A round is a lookup of the node's own neighbourhood and of a random id in each bucket, the farthest first (Kademlia
    /// §2.3): without the latter a node that joins knows its neighbours and hardly anybody else, and answers lookups badly.
    fn begin_lookup(&mut self, now: Instant) {
        let target = match self.bucket {
            None => self.me,
            Some(bucket) => self.me.random_at(bucket, &mut self.rng),
        };
        let mut lookup = Lookup::new(now, self.config.lookup, Goal::Nodes(target), self.me);
        for node in self.table.nearest(&target, BUCKET, true, true) {
            lookup.seed_node(node);
        }
        if self.table.is_empty() || (self.bucket.is_none() && self.rounds as usize <= REJOIN_AFTER.len()) {
            self.config.bootstrap.iter().for_each(|addr| lookup.seed(*addr));
        }
        let next = self.bucket.map_or(0, |bucket| bucket + 1);
        let wait = if !self.table.is_empty() && next <= self.table.depth().min(ROUND_BUCKETS_MAX) {
            self.bucket = Some(next);
            ROUND_GAP
        } else {
            self.bucket = None;
            self.rounds = self.rounds.saturating_add(1);
            match REJOIN_AFTER.get(self.rounds as usize - 1) {
                Some(wait) => *wait,
                // Alone: the nodes to join at may come back.
                None if self.table.is_empty() => REJOIN_AFTER[2],
                None => self.config.refresh,
            }
        };
        // Spread by half, so that nodes which started together do not stay in step.
        let spread = wait.as_millis().try_into().unwrap_or(u32::MAX).max(2) / 2;
        self.next_lookup = now + wait + Duration::from_millis(u64::from(self.rng.next_u32() % spread));
        self.lookup = Some(Box::new(lookup));
    }

    fn ask(&mut self, now: Instant, to: SocketAddr, what: Asked, query: Query<'_>) {
        let transaction = self.pending.begin(now, to, what, &mut self.rng);
        let body = Body::Query { id: self.me, query };
        let message = Message {
            transaction: &transaction,
            read_only: false,
            seen_at: None,
            body,
        };
        self.send(to, message.encode());
    }

    fn send(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        if self.outbox.len() < OUTBOX_MAX {
            self.outbox.push_back((to, datagram));
        }
    }

    fn token(&self, now: Instant, ip: IpAddr, periods_ago: u64) -> [u8; TOKEN_LEN] {
        let period = (now.since_start().as_secs() / TOKEN_PERIOD.as_secs()).wrapping_sub(periods_ago);
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let full = TOKEN.derive_fields(&[&self.token_key, &period.to_be_bytes(), &ip]);
        let mut token = [0; TOKEN_LEN];
        token.copy_from_slice(&full[..TOKEN_LEN]);
        token
    }

    fn answer(
        &mut self,
        now: Instant,
        from: SocketAddr,
        query: &Query<'_>,
    ) -> Result<Answer, (i64, &'static str)> {
        Ok(match query {
            Query::Ping => Answer::default(),
            Query::FindNode { target, want } => Answer {
                nodes: self.near(target, *want, from, BUCKET),
                ..Answer::default()
            },
            Query::GetPeers { info_hash, want } => Answer {
                nodes: self.near(info_hash, *want, from, BUCKET),
                token: true,
                item: None,
            },
            Query::Get {
                target,
                newer_than,
                want,
            } => {
                let item = self
                    .storage
                    .get(now, target)
                    .map(|item| match (item, newer_than) {
                        (Item::Mutable(item), Some(known)) if item.sequence() <= *known => {
                            Shown::Sequence(item.sequence())
                        }
                        _ => Shown::Item(item.clone()),
                    });
                // A value of 1,000 bytes and 8 nodes of either family fit one datagram, not all 16.
                let count = if want.v4 && want.v6 { BUCKET / 2 } else { BUCKET };
                Answer {
                    nodes: self.near(target, *want, from, count),
                    token: true,
                    item,
                }
            }
            Query::Put {
                token,
                value,
                mutable,
            } => {
                let fits = |ago| bool::from(self.token(now, from.ip(), ago).as_slice().ct_eq(token));
                if !fits(0) && !fits(1) {
                    return Err((code::PROTOCOL, "invalid token"));
                }
                self.put(now, value, mutable.as_ref())?;
                Answer::default()
            }
            Query::Unknown => return Err((code::METHOD_UNKNOWN, "method unknown")),
        })
    }

    fn put(
        &mut self,
        now: Instant,
        value: &[u8],
        mutable: Option<&PutMutable<'_>>,
    ) -> Result<(), (i64, &'static str)> {
        if value.len() > VALUE_BYTES_MAX {
            return Err((code::VALUE_TOO_LONG, "message (v field) too big"));
        }
        let stored = match mutable {
            None => self
                .storage
                .put_immutable(now, immutable_target(value), Bytes::copy_from_slice(value)),
            Some(put) => {
                if put.salt.len() > SALT_BYTES_MAX {
                    return Err((code::SALT_TOO_LONG, "salt (salt field) too big"));
                }
                let item = (self.verify)(&put.key, put.salt, put.sequence, value, &put.signature).map_err(
                    |error| match error {
                        ItemError::BadSignature => (code::BAD_SIGNATURE, "invalid signature"),
                        _ => (code::PROTOCOL, "invalid item"),
                    },
                )?;
                self.storage.put_mutable(now, item, put.cas)
            }
        };
        stored.map_err(|refusal| match refusal {
            StoreRefusal::CasMismatch { .. } => (code::CAS_MISMATCH, "CAS mismatch"),
            StoreRefusal::SequenceTooLow { .. } => {
                (code::SEQUENCE_TOO_LOW, "sequence number less than current")
            }
            StoreRefusal::Full => (code::GENERIC, "store full"),
        })
    }

    fn near(&self, target: &DhtId, want: Want, from: SocketAddr, count: usize) -> Vec<NodeInfo> {
        let (v4, v6) = match (want.v4, want.v6) {
            (false, false) => (from.is_ipv4(), from.is_ipv6()),
            both => both,
        };
        let mut nodes = Vec::new();
        if v4 {
            nodes.extend(self.table.nearest(target, count, true, false));
        }
        if v6 {
            nodes.extend(self.table.nearest(target, count, false, true));
        }
        nodes
    }
}

#[derive(Default)]
struct Answer {
    nodes: Vec<NodeInfo>,
    token: bool,
    item: Option<Shown>,
}

enum Shown {
    Item(Item),
    Sequence(i64),
}

#[cfg(test)]
mod tests;
