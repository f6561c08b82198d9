//! The mailbox service: coordinating writes and reads over the replicas of a box, answering co-replicas, and handing
//! boxes over when the storage set changes. Spec: SPEC §4.5, §4.6.
//!
//! Whoever is the storage hop of a request coordinates it, replica or not. A write is answered when two replicas have
//! synced; a read asks enough replicas that one of them must hold what was acknowledged, and repairs those that lack it
//! before it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phantom_core::crypto::keys::NodeId;
use phantom_core::event::{Event, Refusal, Tag};
use phantom_core::mailbox::{
    Answer, BoxAddress, MAX_OFFER, ReadAnswer, Record, Reply, Request, Rpc, WRITE_QUORUM, WriteOutcome,
    batches,
};
use phantom_core::packet::Class;
use phantom_core::queue::queue;
use phantom_core::runtime::{Runtime, timeout};
use phantom_core::service::Service;
use rand_core::Rng;

use crate::directory::{Keeper, View};
use crate::links::{Links, Peer};
use crate::store::{BoxStore, Cursor, Source, Stats, StoreError, Stored};

/// How long a co-replica may take to answer: three round trips over a bad path. Longer than that, it counts as silent.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// How long an old holder waits for each one before it in turn to have handed over. Default of
/// [`Mailbox::hand_over_forever`].
pub const TURN: Duration = Duration::from_secs(30);

/// The service. Clones are handles to the same one.
pub struct Mailbox<R: Runtime> {
    rt: R,
    me: NodeId,
    store: BoxStore<R>,
    directory: Arc<Keeper<R>>,
    links: Arc<Links<R>>,
}

impl<R: Runtime> Clone for Mailbox<R> {
    fn clone(&self) -> Self {
        Self {
            rt: self.rt.clone(),
            me: self.me,
            store: self.store.clone(),
            directory: self.directory.clone(),
            links: self.links.clone(),
        }
    }
}

impl<R: Runtime> Mailbox<R> {
    /// The service of node `me` over its store.
    pub fn new(
        rt: R,
        me: NodeId,
        store: BoxStore<R>,
        directory: Arc<Keeper<R>>,
        links: Arc<Links<R>>,
    ) -> Self {
        Self {
            rt,
            me,
            store,
            directory,
            links,
        }
    }

    /// Figures of the box store.
    pub fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// Does what a client asked for. `None` when the directory is not there yet: no answer is better than a wrong one.
    pub async fn request(&self, request: Request) -> Option<Answer> {
        let view = self.directory.view()?;
        Some(match request {
            Request::Write { record, .. } => Answer::Write(self.write(&view, record).await),
            Request::Read { class, addresses, .. } => Answer::Read(self.read(&view, class, &addresses).await),
        })
    }

    /// Puts a box to its replicas; returns when enough have it, and goes on with the others.
    async fn write(&self, view: &View, record: Box<Record>) -> WriteOutcome {
        if record.verify().is_err() {
            self.refuse(Refusal::BadAuthentication);
            return WriteOutcome::Refused;
        }
        let address = *record.address();
        let placement = view.tables.storage.place(&address);
        let (tell, mut told) = queue(placement.nodes().len());
        for &node in placement.nodes() {
            let (this, record, tell) = (self.clone(), record.clone(), tell.clone());
            self.rt.spawn("put to a replica", async move {
                let outcome = this.put_to(node, &record).await;
                // The coordinator may have its quorum already.
                let _ = tell.send(outcome).await;
            });
        }
        drop(tell);
        let (mut replicas, mut worst) = (0, None);
        while let Some(outcome) = told.recv().await {
            match outcome {
                Some(WriteOutcome::Stored { .. }) => replicas += 1,
                Some(other) => worst = worst.max(Some(other)),
                None => {}
            }
            if usize::from(replicas) >= placement.quorum() && replicas > 0 {
                self.rt.emit(Event::BoxAcknowledged {
                    address: Tag::of(address.as_bytes()),
                    replicas,
                });
                return WriteOutcome::Stored { replicas };
            }
        }
        worst.unwrap_or(WriteOutcome::TooFew { replicas })
    }

    /// One replica's answer to a put; `None` if it gave none.
    async fn put_to(&self, node: NodeId, record: &Record) -> Option<WriteOutcome> {
        if node == self.me {
            return Some(self.put(Source::OWN, record, false).await);
        }
        match self.call(node, &Rpc::Put(Box::new(record.clone()))).await? {
            Reply::Put(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Stores a box here. Its signature was checked.
    async fn put(&self, source: Source, record: &Record, repair: bool) -> WriteOutcome {
        match self.store.put(source, record).await {
            Ok(Stored::New { .. }) => {
                if repair {
                    let address = Tag::of(record.address().as_bytes());
                    self.rt.emit(Event::BoxRepaired { address });
                }
                WriteOutcome::Stored { replicas: 1 }
            }
            Ok(Stored::Already) => WriteOutcome::Stored { replicas: 1 },
            Err(StoreError::Conflict) => {
                self.refuse(Refusal::Conflict);
                WriteOutcome::Conflict
            }
            Err(StoreError::Expired | StoreError::TooFar) => {
                self.refuse(Refusal::Expired);
                WriteOutcome::Expired
            }
            Err(StoreError::OverQuota | StoreError::Full { .. }) => {
                self.refuse(Refusal::OverQuota);
                WriteOutcome::Refused
            }
            Err(StoreError::Busy { .. }) => {
                self.refuse(Refusal::OverQuota);
                WriteOutcome::TooFew { replicas: 0 }
            }
            Err(StoreError::Io(error)) => {
                tracing::warn!(%error, "a box could not be stored");
                WriteOutcome::TooFew { replicas: 0 }
            }
        }
    }

    /// Asks, for each address, so many replicas that one of them holds what was acknowledged, and fetches the first box
    /// that exists.
    async fn read(&self, view: &View, class: Class, addresses: &[BoxAddress]) -> ReadAnswer {
        let plans = self.plans(view, addresses);
        let mut census = Census::default();
        // First the fewest that suffice; whoever does not answer is replaced in a second round.
        for round in 0..2 {
            let mut questions: BTreeMap<NodeId, Vec<BoxAddress>> = BTreeMap::new();
            for (address, Plan { order, enough }) in addresses.iter().zip(&plans) {
                let missing = enough.saturating_sub(census.answers(address));
                let fresh = order.iter().filter(|&&node| !census.asked(address, node));
                let found = census.holder(address).is_some();
                for &node in fresh.take(if found { 0 } else { missing }) {
                    questions.entry(node).or_default().push(*address);
                }
            }
            if questions.is_empty() {
                break;
            }
            tracing::trace!(round, nodes = questions.len(), "asking who holds boxes");
            self.census(questions, &mut census).await;
        }
        let mut answer = ReadAnswer::default();
        for (bit, (address, plan)) in addresses.iter().zip(&plans).enumerate() {
            if census.holder(address).is_some() {
                answer.found |= 1 << bit;
                if answer.record.is_none() {
                    let record = self.fetch(view, address, &census).await;
                    // Of another class it does not fit the answer.
                    answer.record = record.filter(|record| record.class() == class).map(Box::new);
                }
            } else if census.answers(address) < plan.enough {
                answer.unknown |= 1 << bit;
            }
            self.rt.emit(Event::BoxRead {
                address: Tag::of(address.as_bytes()),
                found: census.holder(address).is_some(),
            });
        }
        answer
    }

    /// Whom to ask for each box, each planned once: a placement costs a hash per node of the network. Whom a read leaves out
    /// changes from one to the next: what only that node has kept, since the others lost their disks, is found by the next
    /// read or the one after it, and repaired.
    fn plans(&self, view: &View, addresses: &[BoxAddress]) -> Vec<Plan> {
        let mut rng = self.rt.rng("whom to ask for boxes");
        let drawn = |address| {
            let mut plan = Plan::of(view, address);
            let first = rng.next_u32() as usize % plan.order.len().max(1);
            plan.order.rotate_left(first);
            plan
        };
        addresses.iter().map(drawn).collect()
    }

    /// Asks nodes in parallel which of these boxes they hold.
    async fn census(&self, questions: BTreeMap<NodeId, Vec<BoxAddress>>, census: &mut Census) {
        let (tell, mut told) = queue(questions.len());
        for (node, addresses) in questions {
            addresses.iter().for_each(|address| census.ask(address, node));
            let (this, tell) = (self.clone(), tell.clone());
            let ask = async move {
                let held = if node == this.me {
                    Some(
                        addresses
                            .iter()
                            .map(|address| this.store.holds(address))
                            .collect(),
                    )
                } else {
                    match this.call(node, &Rpc::Have(addresses.clone())).await {
                        Some(Reply::Have(held)) if held.len() == addresses.len() => Some(held),
                        _ => None,
                    }
                };
                // The reader waits for all of them.
                let _ = tell.send((node, addresses, held)).await;
            };
            if node == self.me {
                ask.await;
            } else {
                self.rt.spawn("ask a replica", ask);
            }
        }
        drop(tell);
        while let Some((node, addresses, held)) = told.recv().await {
            for (address, held) in addresses.iter().zip(held.unwrap_or_default()) {
                census.tell(address, node, held);
            }
        }
    }

    /// Fetches a box that somebody holds, and gives it to the replicas that said they lack it before returning it.
    async fn fetch(&self, view: &View, address: &BoxAddress, census: &Census) -> Option<Record> {
        let mut record = None;
        for node in census.holders(address) {
            record = if node == self.me {
                self.store.get(address).await.ok().flatten()
            } else {
                match self.call(node, &Rpc::Get(*address)).await {
                    Some(Reply::Get(Some(record)))
                        if record.address() == address && record.verify().is_ok() =>
                    {
                        Some(*record)
                    }
                    _ => None,
                }
            };
            if record.is_some() {
                break;
            }
        }
        let record = record?;
        let placement = view.tables.storage.place(address);
        for node in census.lacking(address).filter(|node| placement.contains(*node)) {
            if node == self.me {
                self.put(Source::OWN, &record, true).await;
            } else {
                self.call(node, &Rpc::Put(Box::new(record.clone()))).await;
            }
        }
        Some(record)
    }

    /// Asks a co-replica, for a limited time: a reader waits for the answer, and the others may know enough.
    async fn call(&self, node: NodeId, rpc: &Rpc) -> Option<Reply> {
        timeout(&self.rt, ASK_WITHIN, self.ask(node, rpc))
            .await
            .ok()
            .flatten()
    }

    async fn ask(&self, node: NodeId, rpc: &Rpc) -> Option<Reply> {
        match self.links.ask(node, Service::Mailbox, &rpc.encode()).await {
            Ok(reply) => Reply::decode(&reply).ok(),
            Err(error) => {
                tracing::debug!(%error, "a replica did not answer");
                None
            }
        }
    }

    /// Answers another storage node. `None` refuses: only nodes of the storage set are answered, and only about boxes
    /// that belong here.
    pub async fn answer(&self, peer: &Peer<R>, body: &Bytes) -> Option<Reply> {
        let view = self.directory.view()?;
        let node = peer.node(&view)?;
        let member =
            |set: &phantom_core::mailbox::StorageSet| set.holders().iter().any(|holder| holder.node == node);
        if !member(&view.tables.storage) && !member(&view.tables.previous) {
            self.refuse(Refusal::Misdirected);
            return None;
        }
        let Ok(rpc) = Rpc::decode(body) else {
            self.refuse(Refusal::Malformed);
            return None;
        };
        let mine = |address: &BoxAddress| view.tables.storage.place(address).contains(self.me);
        let source = Source(peer.number);
        Some(match rpc {
            Rpc::Put(record) if mine(record.address()) => Reply::Put(self.checked_put(source, &record).await),
            Rpc::Put(_) => {
                self.refuse(Refusal::Misdirected);
                Reply::Put(WriteOutcome::Refused)
            }
            Rpc::Get(address) => Reply::Get(self.store.get(&address).await.ok().flatten().map(Box::new)),
            Rpc::Have(addresses) => Reply::Have(addresses.iter().map(|a| self.store.holds(a)).collect()),
            Rpc::Offer(addresses) => Reply::Offer(
                addresses
                    .iter()
                    .map(|a| mine(a) && !self.store.holds(a))
                    .collect(),
            ),
            Rpc::Batch(records) => {
                let mut held = Vec::with_capacity(records.len());
                for record in &records {
                    let stored = mine(record.address())
                        && matches!(
                            self.checked_put(source, record).await,
                            WriteOutcome::Stored { .. }
                        );
                    held.push(stored);
                }
                Reply::Batch(held)
            }
        })
    }

    async fn checked_put(&self, source: Source, record: &Record) -> WriteOutcome {
        if record.verify().is_err() {
            self.refuse(Refusal::BadAuthentication);
            return WriteOutcome::Refused;
        }
        self.put(source, record, false).await
    }

    fn refuse(&self, why: Refusal) {
        self.rt.emit(Event::Refused { what: "box", why });
    }

    /// Hands boxes over whenever the storage set changes, each turn `turn` long. Whoever did not take all that it wants is
    /// offered them again: in the later turns, then after a pause that doubles, until the next document. Never returns.
    pub async fn hand_over_forever(self, turn: Duration) {
        let mut changes = self.directory.watch();
        loop {
            let view = changes.borrow_and_update().clone();
            if let Some(view) = view
                && view.tables.storage != view.tables.previous
            {
                let mut owed = BTreeSet::new();
                for rank in 0..phantom_core::mailbox::REPLICAS {
                    owed = Box::pin(self.hand_over(&view, rank, &owed)).await;
                    self.rt.sleep(turn).await;
                }
                let mut pause = turn;
                while !owed.is_empty() && !changes.has_changed().unwrap_or(true) {
                    owed = Box::pin(self.hand_over(&view, phantom_core::mailbox::REPLICAS, &owed)).await;
                    pause *= 2;
                    tokio::select! {
                        biased;
                        changed = changes.changed() => {
                            if changed.is_err() {
                                return;
                            }
                            changes.mark_changed();
                        }
                        () = self.rt.sleep(pause) => {}
                    }
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Offers every box of which we are the old holder of this rank to those who have become its holders; and to those who
    /// are `owed` from before, those of lower ranks. Returns who is owed something after it.
    async fn hand_over(&self, view: &View, rank: usize, owed: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let mut left = BTreeSet::new();
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            let Ok((records, next)) = self.store.page(at, 64).await else {
                return left.union(owed).copied().collect();
            };
            cursor = next;
            let mut due: BTreeMap<NodeId, Vec<Record>> = BTreeMap::new();
            for record in records {
                let (now, before) = (
                    view.tables.storage.place(record.address()),
                    view.tables.previous.place(record.address()),
                );
                let duties = now.hand_over(&before, self.me).into_iter();
                for duty in
                    duties.filter(|duty| duty.turn == rank || (duty.turn < rank && owed.contains(&duty.to)))
                {
                    due.entry(duty.to).or_default().push(record.clone());
                }
            }
            for (to, records) in due {
                if !self.offer(to, &records).await {
                    left.insert(to);
                }
            }
        }
        left
    }

    /// Whether `to` has taken all of these that it wants.
    async fn offer(&self, to: NodeId, records: &[Record]) -> bool {
        let mut taken = true;
        for records in records.chunks(MAX_OFFER) {
            let addresses = records.iter().map(|record| *record.address()).collect();
            let Some(Reply::Offer(wanted)) = self.call(to, &Rpc::Offer(addresses)).await else {
                return false;
            };
            let wanted: Vec<Record> = records
                .iter()
                .zip(wanted)
                .filter(|(_, wanted)| *wanted)
                .map(|(record, _)| record.clone())
                .collect();
            for batch in batches(&wanted) {
                let Some(Reply::Batch(held)) = self.call(to, &Rpc::Batch(batch.to_vec())).await else {
                    return false;
                };
                taken &= held.len() == batch.len() && held.iter().all(|held| *held);
            }
        }
        taken
    }
}

/// Whom to ask for a box.
struct Plan {
    /// Best first.
    order: Vec<NodeId>,
    /// So many of them that one holds what `WRITE_QUORUM` acknowledged; all old and new ones while the set has just changed.
    enough: usize,
}

impl Plan {
    fn of(view: &View, address: &BoxAddress) -> Self {
        let placement = view.tables.storage.place(address);
        let replicas = placement.nodes().len();
        if view.tables.storage == view.tables.previous {
            return Self {
                order: placement.read_order(None),
                enough: (replicas + 1).saturating_sub(WRITE_QUORUM).max(1).min(replicas),
            };
        }
        let order = placement.read_order(Some(&view.tables.previous.place(address)));
        let enough = order.len();
        Self { order, enough }
    }
}

/// Who said what about which box.
#[derive(Default)]
struct Census {
    asked: BTreeSet<(BoxAddress, NodeId)>,
    said: BTreeMap<(BoxAddress, NodeId), bool>,
}

impl Census {
    fn ask(&mut self, address: &BoxAddress, node: NodeId) {
        self.asked.insert((*address, node));
    }

    fn asked(&self, address: &BoxAddress, node: NodeId) -> bool {
        self.asked.contains(&(*address, node))
    }

    fn tell(&mut self, address: &BoxAddress, node: NodeId, held: bool) {
        self.said.insert((*address, node), held);
    }

    fn of(&self, address: &BoxAddress) -> impl Iterator<Item = (NodeId, bool)> {
        let first = (*address, NodeId::from_bytes([0; 16]));
        let last = (*address, NodeId::from_bytes([0xff; 16]));
        self.said
            .range(first..=last)
            .map(|((_, node), held)| (*node, *held))
    }

    fn answers(&self, address: &BoxAddress) -> usize {
        self.of(address).count()
    }

    fn holder(&self, address: &BoxAddress) -> Option<NodeId> {
        self.holders(address).next()
    }

    fn holders(&self, address: &BoxAddress) -> impl Iterator<Item = NodeId> {
        self.of(address).filter(|(_, held)| *held).map(|(node, _)| node)
    }

    fn lacking(&self, address: &BoxAddress) -> impl Iterator<Item = NodeId> {
        self.of(address).filter(|(_, held)| !*held).map(|(node, _)| node)
    }
}
