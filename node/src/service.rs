//! A running node: listens, serves its links, keeps its keys and its document fresh.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use phantom_core::crypto::keys::NodeId;
use phantom_core::directory::descriptor::{NodeDescriptor, VersionRange};
use phantom_core::directory::document::DocumentHash;
use phantom_core::directory::fetch::fetch;
use phantom_core::directory::rpc::{DirectoryRequest, DirectoryResponse, Uploaded};
use phantom_core::directory::ways::{Ways, WaysError};
use phantom_core::event::{Event, Refusal};
use phantom_core::link::{self, Accepted, Channel, ClientAuth, LinkError, PeerKind, ServerAuth, Until};
use phantom_core::packet::ReplayFilter;
use phantom_core::runtime::{Frugal, Listener, Runtime, Stream};
use phantom_core::service::{EntryHops, EntryRequest, Service};
use phantom_core::transport::Server;
use phantom_core::units::WallTime;
use rand_core::Rng;
use thiserror::Error;
use tokio::sync::RwLock;

use crate::bridge::WaysBack;
use crate::config::{AuthorityContact, NodeConfig};
use crate::courier::Drops;
use crate::directory::Keeper;
use crate::door::Door;
use crate::entrances::{Entrances, answer};
use crate::hopkeys::HopKeyStore;
use crate::links::{Fresh, Links, Peer, dial};
use crate::mailbox::Mailbox;
use crate::relay::Relay;
use crate::store::{BoxStore, NodeTime, Stats, StoreConfig, StoreError};

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The host's storage or network failed.
    #[error("{doing}: {error}")]
    Host {
        /// What was being done.
        doing: String,
        /// What the host said.
        error: io::Error,
    },
    /// The box store did not open.
    #[error("opening the box store: {0}")]
    Store(#[from] StoreError),
    /// Where a bridge is to be found does not fit its descriptor.
    #[error("the addresses of a bridge: {0}")]
    Ways(#[from] WaysError),
}

pub(crate) fn host(doing: &str) -> impl Fn(io::Error) -> NodeError {
    let doing = doing.to_owned();
    move |error| NodeError::Host {
        doing: doing.clone(),
        error,
    }
}

/// Everything that a node's tasks share.
pub(crate) struct Node<R: Runtime> {
    pub(crate) rt: R,
    pub(crate) me: NodeId,
    pub(crate) config: NodeConfig,
    pub(crate) time: NodeTime<R>,
    pub(crate) keys: Arc<RwLock<HopKeyStore<R>>>,
    pub(crate) directory: Arc<Keeper<R>>,
    pub(crate) links: Arc<Links<R>>,
    pub(crate) relay: Relay<R>,
    pub(crate) mailbox: Option<Mailbox<R>>,
    pub(crate) ways_back: Option<WaysBack>,
    /// Requests of a bridge's own.
    pub(crate) drops: Drops,
    /// Where a bridge is found.
    pub(crate) ways: Option<Ways>,
    /// Where it listens.
    listen: Vec<(SocketAddr, Server)>,
}

/// Runs a node until its task tree is ended.
///
/// # Errors
/// [`NodeError`], only while it starts.
pub fn run<R: Runtime>(
    rt: R,
    config: NodeConfig,
    store: StoreConfig,
) -> impl Future<Output = Result<(), NodeError>> + Send {
    // Boxed, and not a part of what is left then: starting takes three kilobytes that a running node has no use for.
    let prepared = Box::pin(Prepared::new(rt, config, store));
    async move { prepared.await?.run().await }
}

/// A node that has read what it keeps and serves nobody yet.
pub struct Prepared<R: Runtime>(Arc<Node<R>>);

impl<R: Runtime> Prepared<R> {
    /// Reads what the node keeps.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn new(rt: R, config: NodeConfig, store: StoreConfig) -> Result<Self, NodeError> {
        start(rt, config, store).await.map(Self)
    }

    /// Where to read its figures while it runs.
    pub fn gauges(&self) -> Gauges<R> {
        Gauges(self.0.clone())
    }

    /// Runs until its task tree is ended.
    ///
    /// # Errors
    /// [`NodeError`], only while it starts.
    pub async fn run(self) -> Result<(), NodeError> {
        work(self.0).await
    }
}

/// What a running node says about itself. Nothing in it is about any one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Links that others made.
    pub links: usize,
    /// A bridge's ways back that work; `None` for a listed node.
    pub ways_back: Option<usize>,
    /// What its box store holds; `None` for a node that stores nothing.
    pub store: Option<Stats>,
    /// The document in use.
    pub document: Option<DocumentFigures>,
}

/// The document in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentFigures {
    /// Valid from.
    pub valid_after: WallTime,
    /// Valid until.
    pub valid_until: WallTime,
    /// Nodes in it.
    pub nodes: usize,
    /// Whether this node is among them.
    pub listed: bool,
}

/// A handle to the figures of a node.
pub struct Gauges<R: Runtime>(Arc<Node<R>>);

impl<R: Runtime> Gauges<R> {
    /// The figures now.
    pub fn read(&self) -> Figures {
        let node = &self.0;
        Figures {
            links: node.links.accepted_count(),
            ways_back: node.ways_back.as_ref().map(|ways| ways.list().len()),
            store: node.mailbox.as_ref().map(Mailbox::stats),
            document: node.directory.view().map(|view| {
                let document = &view.document.document;
                DocumentFigures {
                    valid_after: document.valid_after,
                    valid_until: document.valid_until(),
                    nodes: document.nodes.len(),
                    listed: document.node(node.me).is_some(),
                }
            }),
        }
    }
}

async fn work<R: Runtime>(node: Arc<Node<R>>) -> Result<(), NodeError> {
    let rt = node.rt.clone();
    let auth = match &node.config.bridge {
        None => ServerAuth::listed(node.config.keys.link.clone()),
        Some(bridge) => ServerAuth::bridge(node.config.keys.link.clone(), bridge.secret.clone()),
    };
    let restored = auth.restore(&rt).await;
    restored.map_err(host("reading which hellos were answered"))?;
    let door = Door::default();
    for (at, server) in &node.listen {
        let listener = rt
            .listen(*at)
            .await
            .map_err(host(&format!("listening at {at}")))?;
        let serves = (server.clone(), auth.clone());
        rt.spawn("listener", accept(node.clone(), listener, serves, door.clone()));
    }
    if let Some(mailbox) = &node.mailbox {
        rt.spawn(
            "hand-over",
            mailbox.clone().hand_over_forever(crate::mailbox::TURN),
        );
    }
    rt.spawn("document", keep_document(node.clone()));
    if node.config.bridge.is_some() {
        rt.spawn("ways back", crate::bridge::keep_ways_back(node.clone()));
        rt.spawn("publish", crate::publish::publish_forever(node.clone()));
        rt.spawn("courier drops", crate::courier::drop_forever(node.clone()));
    } else {
        rt.spawn("descriptor", publish(node.clone()));
    }
    rt.emit(Event::Started);
    keep_keys(&node).await
}

async fn start<R: Runtime>(rt: R, config: NodeConfig, store: StoreConfig) -> Result<Arc<Node<R>>, NodeError> {
    let me = config.keys.identity.public().node_id();
    let time = NodeTime::open(rt.clone(), config.directory.limits)
        .await
        .map_err(host("reading the time"))?;
    let period = config.directory.timing.hop_period;
    let capacity = ReplayFilter::capacity_for(config.limits.packets_per_second, period);
    let keys = HopKeyStore::open(rt.clone(), time.clone(), period, capacity)
        .await
        .map_err(host("reading hop keys"))?;
    let keys = Arc::new(RwLock::new(keys));
    let directory = Keeper::open(rt.clone(), &config.directory)
        .await
        .map_err(host("reading the document"))?;
    let directory = Arc::new(directory);

    // Links hand fresh ones to a loop that needs the node, which needs the links.
    let late: Arc<OnceLock<std::sync::Weak<Node<R>>>> = Arc::default();
    let (serve_rt, serve_late) = (rt.clone(), late.clone());
    let links = Arc::new(Links::new(
        rt.clone(),
        config.clone(),
        directory.clone(),
        move |fresh| {
            if let Some(node) = serve_late.get().and_then(std::sync::Weak::upgrade) {
                serve_rt.spawn("link", serve(node, fresh));
            }
        },
    ));
    let mailbox = if config.bridge.is_none()
        && config
            .roles
            .has(phantom_core::directory::descriptor::Roles::STORAGE)
    {
        let boxes = BoxStore::open(rt.clone(), time.clone(), store).await?;
        rt.spawn("box store", boxes.clone().run());
        Some(Mailbox::new(
            rt.clone(),
            me,
            boxes,
            directory.clone(),
            links.clone(),
        ))
    } else {
        None
    };
    let relay = Relay::new(rt.clone(), me, keys.clone(), links.clone(), mailbox.clone());
    relay.rekey(keys.read().await.secrets());
    let Entrances { listen, ways } = Entrances::open(&rt, &config).await?;
    let ways_back = config.bridge.as_ref().map(|_| WaysBack::default());
    let node = Arc::new(Node {
        rt,
        me,
        config,
        time,
        keys,
        directory,
        links,
        relay,
        mailbox,
        ways_back,
        drops: Drops::default(),
        ways,
        listen,
    });
    // Set once, here, before anything can dial or accept.
    let _ = late.set(Arc::downgrade(&node));
    Ok(node)
}

/// Accepts links at one address.
async fn accept<R: Runtime>(
    node: Arc<Node<R>>,
    mut listener: R::Listener,
    serves: (Server, ServerAuth),
    door: Door,
) {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting failed; going on");
                node.rt.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (node, (server, auth)) = (node.clone(), serves.clone());
        let guest = door.enter(stream.peer_addr().ip());
        node.rt.clone().spawn("handshake", async move {
            let serves = (&server, &auth);
            let accepted = answer(&node.rt, stream, serves, &node.config.link, &guest).await;
            drop(guest);
            match accepted {
                Ok(Accepted::New(link, kind)) => {
                    let key = match kind {
                        PeerKind::Node(key) => Some(key),
                        PeerKind::Anonymous => None,
                    };
                    node.links.accepted(link, key);
                }
                Ok(Accepted::Resumed) => {}
                Err(error @ LinkError::NotKept { .. }) => tracing::warn!(%error, "a link did not come up"),
                Err(error) => tracing::debug!(%error, "a link did not come up"),
            }
        });
    }
}

/// Reads from one link until it ends.
async fn serve<R: Runtime>(node: Arc<Node<R>>, fresh: Fresh<R>) {
    let Fresh { link, peer, accepted } = fresh;
    // Clients resume what they have lost. Nodes dial anew: kept for a resumption, the link would swallow what is sent to a
    // node that has long come back.
    let until = match peer.key {
        Some(_) => Until::Down,
        None => Until::Exhausted,
    };
    loop {
        tokio::select! {
            biased;
            () = peer.closing.notified() => break,
            message = link.recv_until(until) => match message {
                None => break,
                Some((Channel::PACKET, packet)) => {
                    peer.used(node.rt.now());
                    // Down the links that a bridge made come answers to itself, too.
                    if accepted || !node.drops.take(&node.rt, &packet) {
                        node.relay.packet(packet);
                    }
                }
                Some((Channel::RPC, message)) => {
                    if let Err(violation) = peer.rpc.deliver(&message) {
                        tracing::debug!(%violation, "closing a link");
                        node.rt.emit(Event::Refused { what: "rpc", why: Refusal::Malformed });
                        break;
                    }
                }
                Some(_) => node.rt.emit(Event::Refused { what: "channel", why: Refusal::Malformed }),
            },
            (request, responder) = peer.rpc.next_request() => {
                let (node, peer) = (node.clone(), peer.clone());
                node.rt.clone().spawn("request", async move {
                    // Dropping the responder refuses.
                    if let Some(answer) = node.request(&peer, &request).await {
                        // The link may be gone by now: nobody to tell.
                        let _ = responder.answer(answer).await;
                    }
                });
            }
        }
    }
    node.links.ended(peer.number);
}

impl<R: Runtime> Node<R> {
    /// Answers a request over a link; `None` refuses.
    async fn request(&self, peer: &Peer<R>, request: &Bytes) -> Option<Bytes> {
        let malformed = || {
            self.rt.emit(Event::Refused {
                what: "request",
                why: Refusal::Malformed,
            })
        };
        let Ok((service, body)) = Service::of_request(request) else {
            malformed();
            return None;
        };
        match service {
            Service::Entry => match EntryRequest::decode(&body) {
                Ok(EntryRequest::Register(handle)) => self.links.register(peer, handle).then(Bytes::new),
                Ok(EntryRequest::Hops) => Some(self.hops().await?.encode().into()),
                Err(_) => {
                    malformed();
                    None
                }
            },
            Service::Directory => match DirectoryRequest::decode(&body) {
                Ok(request) => Some(self.directory.answer(&request).encode().into()),
                Err(_) => {
                    malformed();
                    None
                }
            },
            Service::Mailbox => Some(self.mailbox.as_ref()?.answer(peer, &body).await?.encode().into()),
        }
    }

    async fn hops(&self) -> Option<EntryHops> {
        let hop = self.keys.read().await.public()?;
        let ways_back = self.ways_back.as_ref().map(WaysBack::list).unwrap_or_default();
        Some(EntryHops {
            node: self.me,
            keys: vec![(hop.epoch, hop.current), (hop.epoch.next(), hop.next)],
            ways_back,
        })
    }
}

/// Makes and destroys hop keys on time. Never returns.
async fn keep_keys<R: Runtime>(node: &Node<R>) -> Result<(), NodeError> {
    loop {
        let next = {
            let mut keys = node.keys.write().await;
            let next = keys.tick().await;
            node.relay.rekey(keys.secrets());
            next
        };
        node.links.sweep();
        let now = node.time.now();
        let wait = match next {
            Ok(next) => next.saturating_since(now),
            Err(error) => {
                tracing::warn!(%error, "hop keys or their replay logs could not be renewed; trying again");
                Duration::from_secs(1)
            }
        };
        let longest = Duration::from_secs(60).min(node.config.limits.idle_after);
        node.rt
            .sleep(wait.clamp(Duration::from_millis(10), longest))
            .await;
    }
}

/// Hands the descriptor to the authorities whenever a hop key period begins, and until it is listed. Never returns.
async fn publish<R: Runtime>(node: Arc<Node<R>>) {
    let timing = node.config.directory.timing;
    let mut rng = Frugal::from(node.rt.rng("publish"));
    let mut last: Option<(phantom_core::packet::HopKeyId, Bytes)> = None;
    loop {
        let hop = node.keys.read().await.public();
        if let Some(hop) = hop {
            let bytes = match &last {
                Some((epoch, bytes)) if *epoch == hop.epoch => bytes.clone(),
                _ => {
                    let bytes = Bytes::from(descriptor(&node, hop).sign(&node.config.keys.identity));
                    last = Some((hop.epoch, bytes.clone()));
                    bytes
                }
            };
            for authority in &node.config.directory.authorities {
                let request = DirectoryRequest::Upload(bytes.clone());
                let answer = Box::pin(ask_authority(&node, authority, &request)).await;
                if !matches!(
                    answer,
                    Some(DirectoryResponse::Uploaded(Uploaded::Accepted | Uploaded::Known))
                ) {
                    tracing::debug!(authority = ?authority.id, ?answer, "a directory authority did not take the descriptor");
                }
                // It has one that is hardly older, of this node's life before a restart, perhaps with keys that were lost
                // since: the same one again would be refused until the hop keys change, so the next is made anew.
                if let Some(DirectoryResponse::Uploaded(Uploaded::TooOften | Uploaded::Stale)) = answer {
                    last = None;
                }
            }
        }
        // Often enough that a restarted authority has it before its next vote; and sooner after a refusal, since a node
        // whose listed keys are lost is of no use to anybody.
        let wait = timing.interval / if last.is_some() { 4 } else { 8 };
        let jitter = rng.next_u64() % u64::try_from(wait.as_nanos() / 4).unwrap_or(u64::MAX).max(1);
        node.rt.sleep(wait + Duration::from_nanos(jitter)).await;
    }
}

fn descriptor<R: Runtime>(
    node: &Node<R>,
    hop: phantom_core::directory::descriptor::HopKeys,
) -> NodeDescriptor {
    let now = WallTime::from_unix_secs(node.time.now().as_unix_secs());
    let (min, max) = link::VERSIONS;
    NodeDescriptor {
        versions: VersionRange { min, max },
        identity: node.config.keys.identity.public(),
        link: node.config.keys.link.public(),
        roles: node.config.roles,
        capacity_log2: 0,
        operator: node.config.operator,
        published: now,
        expires: now
            + phantom_core::directory::descriptor::DESCRIPTOR_LIFE_MAX.min(
                3 * node
                    .config
                    .directory
                    .timing
                    .hop_period
                    .max(node.config.directory.timing.interval),
            ),
        hop,
        addresses: node.config.addresses.clone(),
    }
}

/// Asks one authority for its newest document, as a node does.
///
/// # Errors
/// Why the last of its addresses gave no link. `None`: it has no document yet.
pub async fn fetch_document<R: Runtime>(
    rt: &R,
    authority: &AuthorityContact,
    config: &link::Config,
) -> Result<Option<Bytes>, LinkError> {
    let auth = ClientAuth::Listed {
        server: authority.link,
    };
    let mut last = LinkError::Gone {
        doing: "dialling nowhere",
    };
    for address in &authority.addresses {
        match dial(rt, *address, &auth, config).await {
            Ok(link) => {
                let asker = Asker::over(rt, link);
                return Ok(fetch(DocumentHash::NONE, async |request| asker.ask(&request).await).await);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One request to an authority over a link of its own; `None` if no address of it answers.
async fn ask_authority<R: Runtime>(
    node: &Node<R>,
    authority: &AuthorityContact,
    request: &DirectoryRequest,
) -> Option<DirectoryResponse> {
    let asker = Asker::dial(node, authority).await?;
    asker.ask(request).await
}

/// A link to an authority for a few requests.
pub(crate) struct Asker<R: Runtime> {
    rpc: link::rpc::Rpc<R>,
    _reader: phantom_core::runtime::Owned<R::Task>,
}

impl<R: Runtime> Asker<R> {
    async fn dial(node: &Node<R>, authority: &AuthorityContact) -> Option<Self> {
        let auth = ClientAuth::Listed {
            server: authority.link,
        };
        for address in &authority.addresses {
            if let Ok(link) = dial(&node.rt, *address, &auth, &node.config.link).await {
                return Some(Self::over(&node.rt, link));
            }
        }
        None
    }

    /// Asks over a link that nobody else reads from.
    pub(crate) fn over(rt: &R, link: link::Link) -> Self {
        let rpc = link::rpc::Rpc::new(rt.clone(), link.sender(), link::rpc::RpcConfig::default());
        let reader = rpc.clone();
        let task = rt.spawn("authority link", async move {
            while let Some((channel, message)) = link.recv().await {
                if channel == Channel::RPC && reader.deliver(&message).is_err() {
                    break;
                }
            }
        });
        Self {
            rpc,
            _reader: phantom_core::runtime::Owned(task),
        }
    }

    pub(crate) async fn ask(&self, request: &DirectoryRequest) -> Option<DirectoryResponse> {
        let answer = self
            .rpc
            .call(Service::Directory.request(&request.encode()))
            .await
            .ok()?;
        DirectoryResponse::decode(&answer).ok()
    }
}

/// Fetches documents from the authorities, each time from another one first. Never returns.
async fn keep_document<R: Runtime>(node: Arc<Node<R>>) {
    let mut rng = Frugal::from(node.rt.rng("document"));
    let authorities = &node.config.directory.authorities;
    let interval = node.config.directory.timing.interval;
    loop {
        let refresh_at = node.directory.refresh_at();
        let now = node.directory.time();
        if now >= refresh_at && !authorities.is_empty() {
            let first = usize::try_from(rng.next_u64() % authorities.len() as u64).unwrap_or_default();
            for turn in 0..authorities.len() {
                let authority = &authorities[(first + turn) % authorities.len()];
                let Some(asker) = Box::pin(Asker::dial(&node, authority)).await else {
                    continue;
                };
                let known = node.directory.newest_hash();
                let whole = Box::pin(fetch(known, async |request| asker.ask(&request).await)).await;
                if let Some(whole) = whole
                    && let Ok(phantom_core::directory::client::Accepted::New) =
                        node.directory.offer(&whole).await
                {
                    if let Some(view) = node.directory.view() {
                        node.time.witness(view.document.document.current());
                        node.rt.emit(Event::DocumentAccepted {
                            valid_after: view.document.document.valid_after,
                            nodes: u32::try_from(view.document.document.nodes.len()).unwrap_or(u32::MAX),
                        });
                    }
                    break;
                }
            }
        }
        // A document that is late is asked for again soon, with jitter, so that nodes do not come in step.
        let soon = (interval / 40).clamp(Duration::from_millis(200), Duration::from_secs(20));
        let wait = node
            .directory
            .refresh_at()
            .saturating_since(node.directory.time())
            .max(soon);
        let jitter = rng.next_u64() % u64::try_from(soon.as_nanos()).unwrap_or(u64::MAX).max(1);
        node.rt
            .sleep(wait.min(interval) + Duration::from_nanos(jitter))
            .await;
    }
}
