//! What a read-only node does, as a machine without I/O: get a mutable item, or put one on the nearest nodes. BEP 43, BEP 44;
//! SPEC §7.4.
//!
//! An operation has a socket, an id and transactions of its own, so that two operations of one client look unrelated to the
//! nodes they ask.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand_core::Rng;

use super::id::DhtId;
use super::item::{ItemError, ItemSigner, MutableItem, check_value};
use super::krpc::{Body, Message, PutMutable, Query, Want};
use super::lookup::{self, Goal, Holder, Lookup, Tally};
use super::pending::Pending;
use super::server::Output;
use crate::event::Refusal;
use crate::units::Instant;

/// How long the answer to a `put` is awaited before it is sent again, and how often it is sent.
const PUT_RETRY: Duration = Duration::from_millis(1500);
const PUT_ATTEMPTS: u8 = 3;

/// What a get ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetReport {
    /// The newest valid item, not older than the pin. Authentic whatever the quorum says.
    pub best: Option<MutableItem>,
    /// Whether enough addresses showed a valid value to believe that it is the newest.
    pub quorum: bool,
    /// What was seen, in numbers.
    pub tally: Tally,
    /// Nodes that answered, nearest first: worth caching.
    pub alive: Vec<SocketAddr>,
}

impl GetReport {
    /// The newest item, if a quorum showed a valid one.
    pub fn accepted(&self) -> Option<&MutableItem> {
        self.best.as_ref().filter(|_| self.quorum)
    }
}

/// What a put ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutReport {
    /// The sequence number written; `None` when no node could be asked to store.
    pub sequence: Option<i64>,
    /// Nodes that stored it.
    pub stored: u32,
    /// Nodes that refused.
    pub refused: u32,
    /// Nodes that did not answer.
    pub silent: u32,
    /// What the lookup before it saw.
    pub tally: Tally,
    /// Nodes that answered, nearest first: worth caching.
    pub alive: Vec<SocketAddr>,
}

/// What an operation ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Of a get.
    Get(GetReport),
    /// Of a put.
    Put(PutReport),
}

/// What to store once the nodes to store on are known.
struct Writing<'s, S> {
    signer: &'s S,
    salt: Vec<u8>,
    sequence: i64,
    value: Vec<u8>,
}

enum Stage {
    Looking(Box<Lookup>),
    Storing {
        item: MutableItem,
        left: Vec<Storing>,
        report: PutReport,
    },
    Ended(Report),
}

struct Storing {
    holder: Holder,
    attempts: u8,
    due: Instant,
}

/// One get or put.
pub struct Operation<'s, S, G> {
    me: DhtId,
    rng: G,
    pending: Pending<()>,
    writing: Option<Writing<'s, S>>,
    stage: Stage,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl<'s, S: ItemSigner, G: Rng> Operation<'s, S, G> {
    /// Looks for the newest item of `key` and `salt`; items with a sequence number below `pinned` do not count.
    pub fn get(
        now: Instant,
        config: lookup::Config,
        key: [u8; 32],
        salt: &[u8],
        pinned: i64,
        rng: G,
    ) -> Self {
        Self::new(
            now,
            config,
            Goal::Item {
                key,
                salt: salt.to_vec(),
                pinned,
            },
            None,
            rng,
        )
    }

    /// Stores `value` (bencoded) on the nearest nodes, with `sequence` or, if the network shows a higher one, the number
    /// after that.
    ///
    /// # Errors
    /// When no node would store it.
    pub fn put(
        now: Instant,
        config: lookup::Config,
        signer: &'s S,
        salt: &[u8],
        sequence: i64,
        value: &[u8],
        rng: G,
    ) -> Result<Self, ItemError> {
        check_value(value)?;
        if salt.len() > super::item::SALT_BYTES_MAX {
            return Err(ItemError::SaltTooLong { got: salt.len() });
        }
        if sequence < 0 {
            return Err(ItemError::NegativeSequence { got: sequence });
        }
        let goal = Goal::Item {
            key: signer.public_key(),
            salt: salt.to_vec(),
            pinned: 0,
        };
        let writing = Writing {
            signer,
            salt: salt.to_vec(),
            sequence,
            value: value.to_vec(),
        };
        // Nodes to store on are wanted, not values: the lookup must not end early because it saw enough of those.
        let config = lookup::Config {
            quorum: usize::MAX,
            ..config
        };
        Ok(Self::new(now, config, goal, Some(writing), rng))
    }

    fn new(
        now: Instant,
        config: lookup::Config,
        goal: Goal,
        writing: Option<Writing<'s, S>>,
        mut rng: G,
    ) -> Self {
        let me = DhtId::random(&mut rng);
        Self {
            me,
            stage: Stage::Looking(Box::new(Lookup::new(now, config, goal, me))),
            pending: Pending::default(),
            writing,
            outbox: VecDeque::new(),
            rng,
        }
    }

    /// Adds an address to begin at.
    pub fn seed(&mut self, addr: SocketAddr) {
        if let Stage::Looking(lookup) = &mut self.stage {
            lookup.seed(addr);
        }
    }

    /// Says whether seeds may still come.
    pub fn expect_seeds(&mut self, more: bool) {
        if let Stage::Looking(lookup) = &mut self.stage {
            lookup.expect_seeds(more);
        }
    }

    /// The outcome, once the operation has ended.
    pub fn report(&self) -> Option<&Report> {
        match &self.stage {
            Stage::Ended(report) => Some(report),
            _ => None,
        }
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// Says why it was counted and dropped.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Result<(), Refusal> {
        let message = Message::decode(datagram).map_err(|_| Refusal::Malformed)?;
        if let Body::Query { .. } = message.body {
            // BEP 43: a read-only node answers nothing.
            return Err(Refusal::Misdirected);
        }
        self.pending
            .end(message.transaction, from)
            .ok_or(Refusal::Misdirected)?;
        match (&mut self.stage, message.body) {
            (Stage::Looking(lookup), Body::Response(response)) => lookup.answered(now, from, &response),
            (Stage::Looking(lookup), _) => lookup.failed(from),
            (Stage::Storing { left, report, .. }, body) => {
                let before = left.len();
                left.retain(|storing| storing.holder.node.addr != from);
                if left.len() < before {
                    match body {
                        Body::Response(_) => report.stored += 1,
                        _ => report.refused += 1,
                    }
                }
            }
            (Stage::Ended(_), _) => {}
        }
        Ok(())
    }

    /// What to do now; `None` once it has ended. Drain after every change until it is no [`Output::Send`].
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        loop {
            if let Some((to, datagram)) = self.outbox.pop_front() {
                return Some(Output::Send { to, datagram });
            }
            match &mut self.stage {
                Stage::Ended(_) => return None,
                Stage::Looking(lookup) => match lookup.poll_output(now) {
                    lookup::Output::Ask(to) => {
                        let query = Query::Get {
                            target: lookup.goal().target(),
                            newer_than: None,
                            want: Want::default(),
                        };
                        self.ask(now, to, query);
                    }
                    lookup::Output::WaitUntil(at) => return Some(Output::WaitUntil(at)),
                    lookup::Output::Done => self.looked(now),
                },
                Stage::Storing { item, left, report } => {
                    let exhausted = |s: &Storing| s.due <= now && s.attempts >= PUT_ATTEMPTS;
                    report.silent += u32::try_from(left.iter().filter(|s| exhausted(s)).count()).unwrap_or(0);
                    left.retain(|s| !exhausted(s));
                    if left.is_empty() {
                        self.stage = Stage::Ended(Report::Put(report.clone()));
                        continue;
                    }
                    let Some(storing) = left.iter_mut().find(|storing| storing.due <= now) else {
                        return left
                            .iter()
                            .map(|storing| storing.due)
                            .min()
                            .map(Output::WaitUntil);
                    };
                    storing.attempts += 1;
                    storing.due = now + PUT_RETRY;
                    let (item, holder) = (item.clone(), storing.holder.clone());
                    let mutable = PutMutable {
                        key: *item.key(),
                        salt: item.salt(),
                        sequence: item.sequence(),
                        signature: *item.signature(),
                        cas: None,
                    };
                    let query = Query::Put {
                        token: &holder.token,
                        value: item.value(),
                        mutable: Some(mutable),
                    };
                    self.ask(now, holder.node.addr, query);
                }
            }
        }
    }

    /// The lookup has ended: report it, or store.
    fn looked(&mut self, now: Instant) {
        let Stage::Looking(lookup) = &self.stage else {
            return;
        };
        let (tally, alive) = (lookup.tally(), lookup.alive());
        let Some(writing) = self.writing.take() else {
            let report = GetReport {
                best: lookup.best().cloned(),
                quorum: lookup.has_quorum(),
                tally,
                alive,
            };
            self.stage = Stage::Ended(Report::Get(report));
            return;
        };
        let sequence = lookup
            .best()
            .filter(|held| held.sequence() >= writing.sequence && held.value() != &writing.value[..])
            .map_or(writing.sequence, |held| held.sequence().saturating_add(1))
            .max(lookup.best().map_or(0, MutableItem::sequence));
        let mut report = PutReport {
            sequence: None,
            stored: 0,
            refused: 0,
            silent: 0,
            tally,
            alive,
        };
        let left: Vec<_> = lookup
            .holders()
            .into_iter()
            .map(|holder| Storing {
                holder,
                attempts: 0,
                due: now,
            })
            .collect();
        // Bounds were checked when the operation was made; without nodes there is nobody to sign for.
        self.stage = match MutableItem::sign(writing.signer, &writing.salt, sequence, &writing.value) {
            Ok(item) if !left.is_empty() => {
                report.sequence = Some(sequence);
                Stage::Storing { item, left, report }
            }
            _ => Stage::Ended(Report::Put(report)),
        };
    }

    fn ask(&mut self, now: Instant, to: SocketAddr, query: Query<'_>) {
        let transaction = self.pending.begin(now, to, (), &mut self.rng);
        let body = Body::Query { id: self.me, query };
        let message = Message {
            transaction: &transaction,
            read_only: true,
            seen_at: None,
            body,
        };
        self.outbox.push_back((to, message.encode()));
    }
}
