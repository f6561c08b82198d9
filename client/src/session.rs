//! The link to the entry that is in use: what the entry must know and tell, and whether it carries anything. Spec: SPEC §2.9.

use std::time::Duration;

use bytes::Bytes;
use phantom_core::attachment::PIECE_LEN;
use phantom_core::directory::document::DocumentHash;
use phantom_core::event::Step;
use phantom_core::link::rpc::{Rpc, RpcConfig};
use phantom_core::link::{Channel, Link};
use phantom_core::packet::LinkHandle;
use phantom_core::queue;
use phantom_core::route::EntryHop;
use phantom_core::runtime::{Owned, Runtime};
use phantom_core::service::{EntryHops, EntryRequest, Service};
use phantom_core::units::Instant;
use phantom_rotation::PathId;

use crate::candidate::Candidate;
use crate::documents;
use crate::news::News;
use crate::rotor::{Reading, Rotor};

/// Pause before an entry that could not say how to use it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// So many vain questions in a row, and the entry is given up.
const ASKS_MAX: u32 = 5;
/// With so many pieces of an attachment under way, bytes should come: relays lose one now and then, and hardly all of them.
pub(crate) const PIECES_AWAITED: usize = 3;
/// So many requests unanswered in a row, and for so many time limits nothing answered: the entry is given up.
const SILENT_MAX: u32 = 8;
const SILENT_LIMITS: u32 = 3;
/// Documents are long and links may be slow.
const RPC_LIMIT: Duration = Duration::from_secs(30);

/// What a task of a session found out; with the session's number.
pub(crate) enum Told {
    Hops(u64, Option<(LinkHandle, EntryHops)>),
    Document(u64, Option<Bytes>),
}

/// A link and what is known of its other end.
pub(crate) struct Session<R: Runtime> {
    rt: R,
    pub(crate) number: u64,
    /// What rotation calls it, once it has a name there.
    pub(crate) path: Option<PathId>,
    /// What rotation was told of its bytes last.
    reading: Reading,
    /// `None` while it is being resumed.
    pub(crate) link: Option<Link>,
    pub(crate) rpc: Rpc<R>,
    pub(crate) candidate: Candidate,
    pub(crate) step: Step,
    /// How to use it as a hop, once it has said so.
    pub(crate) hop: Option<EntryHop>,
    told: queue::Sender<Box<News>>,
    asking: Option<Owned<R::Task>>,
    fetching: Option<Owned<R::Task>>,
    /// When to ask it (again) how to use it.
    ask_at: Instant,
    vain: u32,
    silent: u32,
    answered: Instant,
}

impl<R: Runtime> Session<R> {
    pub(crate) fn new(
        rt: &R,
        number: u64,
        link: Link,
        candidate: Candidate,
        step: Step,
        told: queue::Sender<Box<News>>,
    ) -> Self {
        let config = RpcConfig {
            calls: 4,
            time_limit: RPC_LIMIT,
            // Nobody asks a client anything.
            requests: 1,
            request_max: 64,
            ..RpcConfig::default()
        };
        Self {
            rt: rt.clone(),
            number,
            path: None,
            reading: Reading::from(&link.progress()),
            rpc: Rpc::new(rt.clone(), link.sender(), config),
            link: Some(link),
            candidate,
            step,
            hop: None,
            told,
            asking: None,
            fetching: None,
            ask_at: rt.now(),
            vain: 0,
            silent: 0,
            answered: rt.now(),
        }
    }

    /// Asks the entry what is due; returns when the next question is.
    pub(crate) fn drive(&mut self) -> Option<Instant> {
        if self.asking.is_some() {
            return None;
        }
        if self.rt.now() < self.ask_at {
            return Some(self.ask_at);
        }
        let handle = LinkHandle::from_rng(&mut self.rt.rng("link handle"));
        let (rpc, told, number) = (self.rpc.clone(), self.told.clone(), self.number);
        self.asking = Some(Owned(self.rt.spawn("client registers", async move {
            let answer = register(&rpc, handle).await;
            // Whoever dropped the other end does not wait for it.
            let _ = told.send(Box::new(News::Told(Told::Hops(number, answer)))).await;
        })));
        None
    }

    /// Takes the entry's answer; `true` when it has become usable by it.
    pub(crate) fn told(&mut self, answer: Option<(LinkHandle, EntryHops)>, life: Duration) -> bool {
        self.asking = None;
        let usable = answer.filter(|(_, hops)| {
            // An unlisted entry without a way back would swallow every answer.
            let reachable = !self.candidate.is_bridge() || !hops.ways_back.is_empty();
            hops.node == self.candidate.node() && reachable
        });
        let Some((handle, hops)) = usable else {
            self.vain += 1;
            self.ask_at = self.rt.now() + ASK_AGAIN;
            return false;
        };
        self.vain = 0;
        self.ask_at = self.rt.now() + life;
        let news = self.hop.is_none();
        self.hop = Some(EntryHop {
            node: hops.node,
            keys: hops.keys,
            ways_back: hops.ways_back,
            handle,
        });
        news
    }

    /// Asks for a document newer than `known`, if no such question is on its way.
    pub(crate) fn fetch_document(&mut self, known: DocumentHash) {
        if self.fetching.is_some() {
            return;
        }
        let (rpc, told, number) = (self.rpc.clone(), self.told.clone(), self.number);
        self.fetching = Some(Owned(self.rt.spawn("client fetches a document", async move {
            let document = documents::ask(&rpc, known).await;
            let news = Box::new(News::Told(Told::Document(number, document)));
            let _ = told.send(news).await; // as in `drive`
        })));
    }

    /// It has this name from now on, and what moved before counts for nothing.
    pub(crate) fn named(&mut self, path: PathId) {
        self.path = Some(path);
        if let Some(link) = &self.link {
            self.reading = Reading::from(&link.progress());
        }
    }

    /// Lets rotation read how far its bytes got. `pieces`: of attachments, so many that were asked for over it have not come.
    pub(crate) fn read(&mut self, now: Instant, pieces: usize, rotor: &mut Rotor) {
        if let (Some(path), Some(link)) = (self.path, &self.link) {
            let own = u64::from(self.asking.is_some() || self.fetching.is_some());
            let pieces = if pieces >= PIECES_AWAITED {
                (pieces * PIECE_LEN) as u64
            } else {
                0
            };
            rotor.read(now, path, &mut self.reading, &link.progress(), own + pieces);
        }
    }

    /// Bytes that wait on its link.
    pub(crate) fn queued(&self) -> u64 {
        self.link.as_ref().map_or(0, Link::buffered)
    }

    pub(crate) const fn is_fetching(&self) -> bool {
        self.fetching.is_some()
    }

    /// The document came, or none.
    pub(crate) fn fetched(&mut self) {
        self.fetching = None;
    }

    /// Sends a packet; `false` if the link has no room or is gone.
    pub(crate) fn send(&self, packet: Bytes) -> bool {
        let sent = self
            .link
            .as_ref()
            .map(|link| link.try_send(Channel::PACKET, packet));
        matches!(sent, Some(Ok(())))
    }

    /// A request through this entry was answered.
    pub(crate) fn heard(&mut self) {
        self.silent = 0;
        self.answered = self.rt.now();
    }

    /// So many requests through this entry were not.
    pub(crate) fn missed(&mut self, requests: usize) {
        self.silent = self
            .silent
            .saturating_add(u32::try_from(requests).unwrap_or(u32::MAX));
    }

    /// Whether the entry answers for itself and carries nothing.
    pub(crate) fn is_useless(&self, request_limit: Duration) -> bool {
        let silent_for = self.rt.now().saturating_since(self.answered);
        self.vain >= ASKS_MAX || (self.silent >= SILENT_MAX && silent_for >= request_limit * SILENT_LIMITS)
    }
}

async fn register<R: Runtime>(rpc: &Rpc<R>, handle: LinkHandle) -> Option<(LinkHandle, EntryHops)> {
    let request = |request: EntryRequest| Service::Entry.request(&request.encode());
    rpc.call(request(EntryRequest::Register(handle))).await.ok()?;
    let hops = rpc.call(request(EntryRequest::Hops)).await.ok()?;
    Some((handle, EntryHops::decode(&hops).ok()?))
}
