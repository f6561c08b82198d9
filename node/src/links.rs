//! The links of a node: those that others made, those that it makes to other nodes, and the handles by which packets
//! find their way down to clients and bridges. Spec: SPEC §2, §3.5.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use phantom_core::crypto::keys::{LinkPublic, NodeId};
use phantom_core::event::{Event, Refusal};
use phantom_core::high_water::HighWater;
use phantom_core::link::rpc::{Rpc, RpcConfig, RpcError};
use phantom_core::link::{self, Channel, ClientAuth, Link, LinkError, Sender};
use phantom_core::packet::LinkHandle;
use phantom_core::runtime::{Runtime, timeout};
use phantom_core::service::{HANDLES_MAX, Service};
use phantom_core::units::Instant;
use tokio::sync::Notify;

use crate::config::NodeConfig;
use crate::directory::{Keeper, View};

/// A node that did not answer is not dialled again for this long.
const DIAL_REST: Duration = Duration::from_secs(10);
/// One whose machine refused at once is being restarted as a rule: it rests this long, and twice as long after each further
/// refusal, up to [`DIAL_REST`].
const REFUSED_REST: Duration = Duration::from_millis(500);

/// Packets that wait for links at once, whomever they are for: half of what a relay has in work, so that nodes which do not
/// answer never stop it.
const WAITING_MAX: usize = crate::relay::IN_WORK_MAX / 2;

/// Names a link within this run.
pub type LinkNumber = u64;

/// A link as the rest of the node uses it; shared, since a node has thousands and several parts of it hold each.
pub struct Peer<R: Runtime> {
    /// Its name.
    pub number: LinkNumber,
    /// The link key of the node at the other end; `None` for clients and bridges.
    pub key: Option<LinkPublic>,
    /// Which node that is by the document at hand when the link was made. See [`Peer::node`].
    listed: Option<NodeId>,
    /// To send with.
    pub sender: Sender,
    /// To ask with.
    pub rpc: Rpc<R>,
    /// Ends the link when notified.
    pub closing: Notify,
    used_nanos: AtomicU64,
}

impl<R: Runtime> Peer<R> {
    /// Notes that the link was of use, so that it is kept.
    pub fn used(&self, now: Instant) {
        self.used_nanos.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Which node is at the other end. One that is listed no more is still known, to hand its boxes over; and `view` may list
    /// one that nobody knew when it dialled.
    pub fn node(&self, view: &View) -> Option<NodeId> {
        self.listed.or_else(|| view.node_of(self.key.as_ref()?))
    }
}

/// What stands between us and another node, and whether it made the link.
struct Standing<R: Runtime> {
    peer: Arc<Peer<R>>,
    accepted: bool,
}

/// A link that was just made or accepted, with what its serving loop needs.
pub struct Fresh<R: Runtime> {
    /// To receive from.
    pub link: Link,
    /// To give to others.
    pub peer: Arc<Peer<R>>,
    /// Whether the other end made it.
    pub accepted: bool,
}

/// Why another node could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// There is no such node in the document, or no document.
    #[error("{0:?} is not listed")]
    NotListed(NodeId),
    /// No address of it answered.
    #[error("dialling {node:?}: {error}")]
    Dial {
        /// Whom.
        node: NodeId,
        /// What the last address gave.
        error: LinkError,
    },
    /// Too much waits for it already.
    #[error("too many messages wait for {0:?}")]
    Full(NodeId),
    /// It did not answer.
    #[error("asking {node:?}: {error}")]
    Rpc {
        /// Whom.
        node: NodeId,
        /// Why not.
        error: RpcError,
    },
}

/// The way to one node: what stands, what waits for it, and how it answered last.
struct Way<R: Runtime> {
    slot: tokio::sync::Mutex<Option<Standing<R>>>,
    waiting: AtomicU32,
    /// Not dialled again before (nanoseconds): it did not answer a moment ago.
    rest_until: AtomicU64,
    /// How often in a row its machine has refused.
    refusals: AtomicU32,
}

impl<R: Runtime> Default for Way<R> {
    fn default() -> Self {
        Self {
            slot: tokio::sync::Mutex::default(),
            waiting: AtomicU32::default(),
            rest_until: AtomicU64::default(),
            refusals: AtomicU32::default(),
        }
    }
}

/// A dial under way. It counts as failed unless it says otherwise, also when its caller gives it up; the node then rests from
/// the end of the dial, or those that waited for it would each begin another one.
struct Dialling<'a, R: Runtime> {
    rt: &'a R,
    rest_until: &'a AtomicU64,
    rest: Duration,
}

impl<R: Runtime> Drop for Dialling<'_, R> {
    fn drop(&mut self) {
        let until = match self.rest {
            Duration::ZERO => 0,
            rest => (self.rt.now() + rest).as_nanos(),
        };
        self.rest_until.store(until, Ordering::Relaxed);
    }
}

struct State<R: Runtime> {
    next: LinkNumber,
    ways: BTreeMap<NodeId, Arc<Way<R>>>,
    handles: BTreeMap<LinkHandle, (LinkNumber, Sender)>,
    of_link: BTreeMap<LinkNumber, VecDeque<LinkHandle>>,
    /// Links that listed nodes made.
    of_nodes: BTreeSet<LinkNumber>,
    /// Links that others made.
    of_others: BTreeMap<LinkNumber, Arc<Peer<R>>>,
}

impl<R: Runtime> State<R> {
    /// Ends the link whose connection has been gone for longest; `false` if all of them are up.
    fn end_longest_parked(&mut self) -> bool {
        let parked = self.of_others.iter().filter_map(|(number, peer)| {
            let until = peer.sender.parked_until()?;
            Some((until, *number))
        });
        let Some((_, number)) = parked.min() else {
            return false;
        };
        if let Some(peer) = self.of_others.remove(&number) {
            peer.closing.notify_one();
        }
        true
    }
}

/// All links of a node. What is made here is handed to `serve`, which reads from it until it ends.
pub struct Links<R: Runtime> {
    rt: R,
    config: NodeConfig,
    directory: Arc<Keeper<R>>,
    serve: Box<dyn Fn(Fresh<R>) + Send + Sync>,
    state: Mutex<State<R>>,
    /// Packets that wait for a link to any node.
    waiting: AtomicU32,
    outbox: HighWater,
    links: HighWater,
}

impl<R: Runtime> Links<R> {
    /// No links yet. `serve` starts a task that reads from a link until it ends, then calls [`Links::ended`].
    pub fn new(
        rt: R,
        config: NodeConfig,
        directory: Arc<Keeper<R>>,
        serve: impl Fn(Fresh<R>) + Send + Sync + 'static,
    ) -> Self {
        let outbox = HighWater::new("packets waiting for a link", config.limits.outbox_max);
        let links = HighWater::new("links of others", config.limits.links_max);
        let state = State {
            next: 0,
            ways: BTreeMap::new(),
            handles: BTreeMap::new(),
            of_link: BTreeMap::new(),
            of_nodes: BTreeSet::new(),
            of_others: BTreeMap::new(),
        };
        Self {
            rt,
            config,
            directory,
            serve: Box::new(serve),
            state: Mutex::new(state),
            waiting: AtomicU32::new(0),
            outbox,
            links,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links that others made.
    pub fn accepted_count(&self) -> usize {
        let state = self.state();
        state.of_nodes.len() + state.of_others.len()
    }

    /// Takes over a link that somebody made to us. `false` when there are too many already. Listed nodes have a bound of
    /// their own: whoever likes can be the others.
    pub fn accepted(&self, link: Link, key: Option<LinkPublic>) -> bool {
        let view = self.directory.view();
        let node = key.and_then(|key| view?.node_of(&key));
        let peer = {
            let mut state = self.state();
            let room = match node {
                Some(_) => state.of_nodes.len() < self.config.limits.links_max,
                None => state.of_others.len() < self.config.limits.links_max || state.end_longest_parked(),
            };
            if !room {
                drop(state);
                self.rt.emit(Event::Refused {
                    what: "link",
                    why: Refusal::OverQuota,
                });
                return false;
            }
            let peer = self.peer(&mut state, &link, key, node);
            match node {
                Some(_) => {
                    state.of_nodes.insert(peer.number);
                }
                None => {
                    state.of_others.insert(peer.number, peer.clone());
                }
            }
            self.links
                .note(&self.rt, state.of_nodes.len().max(state.of_others.len()));
            peer
        };
        (self.serve)(Fresh {
            link,
            peer: peer.clone(),
            accepted: true,
        });
        if let Some(node) = node {
            // A node that dials us is answered over the same link. It dials when it has none: one at hand that it had made is
            // dead at its end, for instance since it restarted, even if nothing has told us yet. One that we made may not be:
            // two nodes that dial each other at once would close both. It ends by itself.
            let way = self.state().ways.entry(node).or_default().clone();
            if let Ok(mut slot) = way.slot.try_lock() {
                let old = slot.replace(Standing { peer, accepted: true });
                if let Some(old) = old.filter(|old| old.accepted) {
                    old.peer.closing.notify_one();
                }
            }
        }
        true
    }

    fn peer(
        &self,
        state: &mut State<R>,
        link: &Link,
        key: Option<LinkPublic>,
        listed: Option<NodeId>,
    ) -> Arc<Peer<R>> {
        state.next += 1;
        let limits = &self.config.limits;
        let rpc_config = RpcConfig {
            time_limit: limits.answer_within,
            requests: limits.requests_per_link,
            ..RpcConfig::default()
        };
        let sender = link.sender();
        Arc::new(Peer {
            number: state.next,
            key,
            listed,
            rpc: Rpc::new(self.rt.clone(), sender.clone(), rpc_config),
            sender,
            closing: Notify::new(),
            used_nanos: AtomicU64::new(self.rt.now().as_nanos()),
        })
    }

    /// A link has ended: its handles are gone.
    pub fn ended(&self, number: LinkNumber) {
        let mut state = self.state();
        state.of_nodes.remove(&number);
        state.of_others.remove(&number);
        for handle in state.of_link.remove(&number).unwrap_or_default() {
            state.handles.remove(&handle);
        }
    }

    /// From now on `handle` names this link. The oldest handle of the link makes room; one that names another link is
    /// left alone, since nobody draws the same twice.
    pub fn register(&self, peer: &Peer<R>, handle: LinkHandle) -> bool {
        let mut state = self.state();
        if let Some((number, _)) = state.handles.get(&handle) {
            return *number == peer.number;
        }
        state.handles.insert(handle, (peer.number, peer.sender.clone()));
        let handles = state.of_link.entry(peer.number).or_default();
        handles.push_back(handle);
        if handles.len() > HANDLES_MAX
            && let Some(oldest) = handles.pop_front()
        {
            state.handles.remove(&oldest);
        }
        true
    }

    /// Sends a packet down the link that `handle` names. Never waits: a client that does not read loses packets.
    pub fn send_down(&self, handle: &LinkHandle, packet: Bytes) -> Result<(), Refusal> {
        let sender = self.state().handles.get(handle).map(|(_, sender)| sender.clone());
        let sender = sender.ok_or(Refusal::Misdirected)?;
        sender
            .try_send(Channel::PACKET, packet)
            .map_err(|_| Refusal::OverQuota)
    }

    /// Sends a packet to a listed node, dialling it if need be. What goes out at once waits for nothing and counts nowhere.
    pub async fn send_packet(&self, node: NodeId, packet: Bytes) -> Result<(), ReachError> {
        let way = self.way(node)?;
        let peer = way.slot.try_lock().ok().and_then(|slot| open(&slot));
        if let Some(peer) = peer
            && peer.sender.try_send(Channel::PACKET, packet.clone()).is_ok()
        {
            peer.used(self.rt.now());
            return Ok(());
        }
        let full = ReachError::Full(node);
        let Some(_waits) = Waits::new(&way.waiting, self.config.limits.outbox_max) else {
            return Err(full);
        };
        let Some(_waits_with_all) = Waits::new(&self.waiting, WAITING_MAX) else {
            return Err(full);
        };
        self.outbox.note(
            &self.rt,
            usize::try_from(way.waiting.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
        );
        let peer = self.reach_by(&way, node).await?;
        peer.used(self.rt.now());
        // Waiting without end, two nodes whose links are full both ways would wait for each other.
        let within = self.config.limits.answer_within;
        match timeout(&self.rt, within, peer.sender.send(Channel::PACKET, packet)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ReachError::Dial { node, error }),
            Err(_) => Err(full),
        }
    }

    /// Asks a service of a listed node, dialling it if need be.
    pub async fn ask(&self, node: NodeId, service: Service, body: &[u8]) -> Result<Bytes, ReachError> {
        let peer = self.reach(node).await?;
        peer.used(self.rt.now());
        peer.rpc
            .call(service.request(body))
            .await
            .map_err(|error| ReachError::Rpc { node, error })
    }

    /// The link to a listed node; made if there is none. Several callers wait for one dial, and fail with it.
    pub async fn reach(&self, node: NodeId) -> Result<Arc<Peer<R>>, ReachError> {
        let way = self.way(node)?;
        self.reach_by(&way, node).await
    }

    /// The way to a node. Only for listed ones is one begun: packets name whomever their makers like.
    fn way(&self, node: NodeId) -> Result<Arc<Way<R>>, ReachError> {
        if let Some(way) = self.state().ways.get(&node) {
            return Ok(way.clone());
        }
        let view = self.directory.view();
        let listed = view.is_some_and(|view| view.document.document.node(node).is_some());
        if !listed {
            return Err(ReachError::NotListed(node));
        }
        Ok(self.state().ways.entry(node).or_default().clone())
    }

    async fn reach_by(&self, way: &Way<R>, node: NodeId) -> Result<Arc<Peer<R>>, ReachError> {
        let mut slot = way.slot.lock().await;
        if let Some(peer) = open(&slot) {
            return Ok(peer);
        }
        if self.rt.now().as_nanos() < way.rest_until.load(Ordering::Relaxed) {
            let error = LinkError::Gone {
                doing: "dialling a moment ago",
            };
            return Err(ReachError::Dial { node, error });
        }
        let view = self.directory.view().ok_or(ReachError::NotListed(node))?;
        let entry = view
            .document
            .document
            .node(node)
            .ok_or(ReachError::NotListed(node))?;
        let mut dialling = Dialling {
            rt: &self.rt,
            rest_until: &way.rest_until,
            rest: DIAL_REST,
        };
        let auth = match self.config.bridge {
            Some(_) => ClientAuth::Listed { server: entry.link },
            None => ClientAuth::Node {
                secret: self.config.keys.link.clone(),
                server: entry.link,
            },
        };
        let mut error = LinkError::Closed;
        for address in &entry.addresses {
            match dial(&self.rt, *address, &auth, &self.config.link).await {
                Ok(link) => {
                    let peer = self.peer(&mut self.state(), &link, Some(entry.link), Some(node));
                    (self.serve)(Fresh {
                        link,
                        peer: peer.clone(),
                        accepted: false,
                    });
                    *slot = Some(Standing {
                        peer: peer.clone(),
                        accepted: false,
                    });
                    dialling.rest = Duration::ZERO;
                    way.refusals.store(0, Ordering::Relaxed);
                    return Ok(peer);
                }
                Err(failed) => error = failed,
            }
        }
        if let LinkError::Stream {
            kind: std::io::ErrorKind::ConnectionRefused,
            ..
        } = error
        {
            let before = way.refusals.fetch_add(1, Ordering::Relaxed);
            dialling.rest = (REFUSED_REST * 2_u32.saturating_pow(before.min(8))).min(DIAL_REST);
        }
        Err(ReachError::Dial { node, error })
    }

    /// The link to this node, if one stands.
    pub async fn standing(&self, node: NodeId) -> Option<Arc<Peer<R>>> {
        let way = self.state().ways.get(&node)?.clone();
        let slot = way.slot.lock().await;
        open(&slot)
    }

    /// Closes links to other nodes that nobody used for a while, and forgets ways to nodes that are gone.
    pub fn sweep(&self) {
        let now = self.rt.now();
        let idle = self.config.limits.idle_after;
        let mut state = self.state();
        state.ways.retain(|_, way| {
            let Ok(mut slot) = way.slot.try_lock() else {
                return true;
            };
            let Some(Standing { peer, .. }) = slot.as_ref() else {
                let rests = now.as_nanos() < way.rest_until.load(Ordering::Relaxed);
                return rests || way.waiting.load(Ordering::Relaxed) > 0;
            };
            let used = Instant::from_nanos(peer.used_nanos.load(Ordering::Relaxed));
            if !peer.sender.is_closed() && now.saturating_since(used) < idle {
                return true;
            }
            peer.closing.notify_one();
            *slot = None;
            false
        });
    }
}

/// The link that stands, unless it is closed.
fn open<R: Runtime>(slot: &Option<Standing<R>>) -> Option<Arc<Peer<R>>> {
    let held = slot.as_ref()?;
    (!held.peer.sender.is_closed()).then(|| held.peer.clone())
}

/// Dials one address and makes a link.
pub async fn dial<R: Runtime>(
    rt: &R,
    address: std::net::SocketAddr,
    auth: &ClientAuth,
    config: &link::Config,
) -> Result<Link, LinkError> {
    let stream = timeout(rt, config.handshake_limit, rt.connect(address))
        .await
        .map_err(std::io::Error::from)
        .and_then(|connected| connected)
        .map_err(|error| LinkError::Stream {
            doing: "dialling",
            kind: error.kind(),
        })?;
    // Boxed: a handshake takes five kilobytes, and whoever may dial is a task that mostly sleeps.
    Box::pin(link::connect(rt, stream, auth, config)).await
}

/// Counts one who waits.
struct Waits<'a>(&'a AtomicU32);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicU32, bound: usize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let counted = Self(count);
        (usize::try_from(before).unwrap_or(usize::MAX) < bound).then_some(counted)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use phantom_core::runtime::tokio::{Config, TokioRuntime};

    use super::*;
    use crate::config::alone;

    /// Whoever makes a packet may name any node in it.
    #[tokio::test]
    async fn names_that_no_document_lists_leave_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        let rt = TokioRuntime::start(Config::new("node", place.path().to_owned())).unwrap();
        let config = alone(&rt);
        let keeper = Keeper::open(rt.clone(), &config.directory).await.unwrap();
        let links = Links::new(rt, config, Arc::new(keeper), |_| {});
        for name in 0..100 {
            let node = NodeId::from_bytes([name; 16]);
            let sent = links.send_packet(node, Bytes::from_static(b"packet")).await;
            assert!(matches!(sent, Err(ReachError::NotListed(_))), "{sent:?}");
            assert!(links.reach(node).await.is_err() && links.standing(node).await.is_none());
        }
        assert!(links.state().ways.is_empty());
    }
}
