//! A bridge's records for couriers: once a day it writes its sealed descriptor into the mailbox, one box per slot, where
//! friends of its cohorts' users find it. Spec: SPEC §8.1.
//!
//! Towards listed nodes a bridge is a client: one of its ways back serves as the entry of such a request, and what comes
//! down that link may be the answer to one. One write at a time, each repeated over another path until it is stored.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use phantom_core::event::{Event, Sensitive};
use phantom_core::invite::{CourierRecord, drop_box};
use phantom_core::link::Channel;
use phantom_core::mailbox::{Answer, Record, WriteOutcome};
use phantom_core::rendezvous::cohort::OVERLAP;
use phantom_core::rendezvous::{Day, SlotWriter};
use phantom_core::route::paths::pick;
use phantom_core::route::{Ask, EntryHop, Requests, View};
use phantom_core::runtime::{Entropy, Runtime, timeout};
use phantom_core::units::WallTime;
use rand_core::{CryptoRng, Rng};
use tokio::sync::oneshot;

use crate::publish::descriptor;
use crate::service::Node;

/// Between two writes: a bridge is in no hurry and should not be loud.
const PACE: Duration = Duration::from_millis(200);
/// An unanswered write is repeated after this: three hops, the replicas and three hops back, twice.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Bridges that start together begin over this time.
const SPREAD: Duration = Duration::from_secs(10);
/// Before what failed in a round is tried again: doubled with each round, up to the longest, half of it jittered.
const RETRY: Duration = Duration::from_secs(4);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Without a document or a way back nothing can be written; looked at again after this.
const NO_WAY: Duration = Duration::from_secs(1);
/// The next day's records are written so long before friends begin to look for them, over half of that time.
const AHEAD: Duration = Duration::from_secs(2 * 3_600);

/// Writes on their way.
pub(crate) struct Drops(Mutex<Requests<oneshot::Sender<Answer>>>);

impl Default for Drops {
    fn default() -> Self {
        Self(Mutex::new(Requests::new(ANSWER_LIMIT)))
    }
}

impl Drops {
    fn requests(&self) -> MutexGuard<'_, Requests<oneshot::Sender<Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a packet that came down one of the bridge's own links, if it is an answer; `false`: it is one to relay.
    pub(crate) fn take(&self, rt: &impl phantom_core::runtime::Events, packet: &Bytes) -> bool {
        let mut requests = self.requests();
        if !requests.awaits(packet) {
            return false;
        }
        match requests.answer(packet.clone()) {
            // Whoever gave up waiting repeats the write anyway.
            Ok((waiting, answer)) => drop(waiting.send(answer)),
            Err(refused) => rt.emit(refused),
        }
        true
    }
}

/// What a day's records came to.
struct Rounds {
    day: Day,
    /// Indexes of slots without a durable record, with the box that is written for them: the same at each attempt, since
    /// a second, different one would be refused.
    left: BTreeMap<usize, Option<Box<Record>>>,
    stored: u32,
}

/// Writes the records of each day for ever.
pub(crate) async fn drop_forever<R: Runtime>(node: Arc<Node<R>>) {
    let Some(bridge) = node
        .config
        .bridge
        .as_ref()
        .filter(|bridge| !bridge.slots.0.is_empty())
    else {
        return;
    };
    let mut rng = Entropy::rng(&node.rt, "courier");
    let slots = &bridge.slots.0;
    node.rt.sleep(up_to(&mut rng, SPREAD)).await;
    let mut day = Day::of(now(&node));
    loop {
        let mut rounds = Rounds {
            day,
            left: (0..slots.len()).map(|slot| (slot, None)).collect(),
            stored: 0,
        };
        let mut wait = RETRY;
        // Once the day is over nobody looks for its records.
        while !rounds.left.is_empty() && now(&node) < day.end() {
            round(&node, slots, &mut rounds, &mut rng).await;
            let failed = u32::try_from(rounds.left.len()).unwrap_or(u32::MAX);
            node.rt.emit(Event::CourierDropped {
                stored: rounds.stored,
                failed,
            });
            tracing::info!(stored = rounds.stored, failed, "dropped records for couriers");
            if failed > 0 {
                node.rt.sleep(wait / 2 + up_to(&mut rng, wait / 2)).await;
                wait = (2 * wait).min(RETRY_MAX);
            }
        }
        let begin = day.end() - OVERLAP - AHEAD + up_to(&mut rng, AHEAD / 2);
        // In steps, since a wall clock may be set.
        while now(&node) < begin {
            let left = begin.saturating_since(now(&node));
            node.rt.sleep(left.min(Duration::from_secs(600))).await;
        }
        day = Day(day.0 + 1).max(Day::of(now(&node)));
    }
}

/// Tries every slot that is left once.
async fn round<R: Runtime>(
    node: &Node<R>,
    slots: &[SlotWriter],
    rounds: &mut Rounds,
    rng: &mut (impl CryptoRng + Send),
) {
    let all: Vec<usize> = rounds.left.keys().copied().collect();
    for slot in all {
        // Without a way there is nothing to repeat: wait for one.
        let entry = loop {
            match entry(node, rng) {
                Some(entry) => break entry,
                None if now(node) >= rounds.day.end() => return,
                None => node.rt.sleep(NO_WAY).await,
            }
        };
        let record = match rounds.left.get(&slot).cloned().flatten() {
            Some(record) => record,
            None => {
                let Some(record) = make(node, &slots[slot], rounds.day, rng) else {
                    return;
                };
                rounds.left.insert(slot, Some(record.clone()));
                record
            }
        };
        // A conflict: this bridge wrote it before it restarted, since nobody else can.
        let outcome = write(node, &entry, record, rng).await;
        if matches!(
            outcome,
            Some(WriteOutcome::Stored { .. } | WriteOutcome::Conflict)
        ) {
            rounds.left.remove(&slot);
            rounds.stored += 1;
        }
        node.rt.sleep(PACE / 2 + up_to(rng, PACE)).await;
    }
}

/// The box of a slot for a day.
fn make<R: Runtime>(
    node: &Node<R>,
    writer: &SlotWriter,
    day: Day,
    rng: &mut impl CryptoRng,
) -> Option<Box<Record>> {
    let sealed = writer.seal(rng, day, &descriptor(node, node.config.bridge.as_ref()?));
    let record = drop_box(writer, rng, &CourierRecord::sign(writer, day, sealed));
    node.rt
        .sensitive(Sensitive::BoxAddress, record.address().as_bytes());
    Some(Box::new(record))
}

/// One of the ways back, as the entry of a request.
fn entry<R: Runtime>(node: &Node<R>, rng: &mut impl Rng) -> Option<EntryHop> {
    node.directory.view()?;
    let ways = node.ways_back.as_ref()?.list();
    let (way, handle) = *pick(rng, &ways)?;
    Some(EntryHop {
        node: way,
        keys: Vec::new(),
        ways_back: Vec::new(),
        handle,
    })
}

/// Writes a box once; `None` if there is no answer.
async fn write<R: Runtime>(
    node: &Node<R>,
    entry: &EntryHop,
    record: Box<Record>,
    rng: &mut impl CryptoRng,
) -> Option<WriteOutcome> {
    let peer = node.links.standing(entry.node).await?;
    let view = View::new(&node.rt, &node.directory.view()?.document);
    let (tell, told) = oneshot::channel();
    let at = (node.rt.now(), now(node));
    let made = node
        .drops
        .requests()
        .make(rng, at, &view, entry, Ask::Write(record), tell);
    let packet = match made {
        Ok(packet) => packet,
        Err((error, _)) => {
            tracing::debug!(%error, "a record was not sent");
            return None;
        }
    };
    peer.used(node.rt.now());
    let answer = async {
        peer.sender.send(Channel::PACKET, packet).await.ok()?;
        told.await.ok()
    };
    let answer = timeout(&node.rt, ANSWER_LIMIT, answer).await.ok().flatten();
    drop(node.drops.requests().expired(node.rt.now()));
    match answer? {
        Answer::Write(outcome) => Some(outcome),
        Answer::Read(_) => None,
    }
}

fn now<R: Runtime>(node: &Node<R>) -> WallTime {
    node.time.now()
}

/// A random part of `most`.
fn up_to(rng: &mut impl Rng, most: Duration) -> Duration {
    Duration::from_nanos(rng.next_u64() % u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).max(1))
}
