//! A running directory authority: takes descriptors, agrees with the others on a document, and gives it out.
//! Spec: SPEC §6. The rules are in `phantom_core::directory::authority`; this moves its messages and keeps its document.

mod room;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
use phantom_core::directory::authority::{Admission, Authority, Output};
use phantom_core::directory::document::{DocumentHash, SharedDocument, Timing};
use phantom_core::directory::fetch::fetch;
use phantom_core::directory::proofs::Proofs;
use phantom_core::directory::rpc::{Assembly, DirectoryRequest, DirectoryResponse, Notice, Piece};
use phantom_core::directory::sign::{AuthorityId, KeySet};
use phantom_core::directory::vote::{Statement, VOTE_LEN_MAX};
use phantom_core::event::{Event, Refusal};
use phantom_core::high_water::HighWater;
use phantom_core::link::rpc::{Rpc, RpcConfig};
use phantom_core::link::{self, Accepted, Channel, ClientAuth, Link, PeerKind, ServerAuth};
use phantom_core::runtime::{Listener, Runtime, Stream, timeout};
use phantom_core::service::Service;
use phantom_core::trusted_time::TimeLimits;
use tokio::sync::{Notify, Semaphore};

use self::room::{Guest, Place, Room, Source};
use crate::config::AuthorityContact;
use crate::links::dial;
use crate::service::{Asker, NodeError, host};
use crate::store::NodeTime;

const FILE: &str = "document";
const PROOFS: &str = "proofs";
/// Handshakes at once. Whoever says nothing, or nothing right, stays for seconds: the oldest give way.
const HANDSHAKES: room::Bounds = room::Bounds {
    each: 32,
    strangers: 128,
};
/// Links at once. A node needs one for a second or two; with the handshakes they are below what a process may open by
/// default (1,024 files).
const LINKS: room::Bounds = room::Bounds {
    each: 32,
    strangers: 512,
};
/// A stranger that asks for nothing for so long, or does not take its answer, is not waited for.
const IDLE: Duration = Duration::from_secs(60);
/// Errands to one other authority at once; more are given up. In an interval of 16 authorities the machine has about 50 for
/// each other one: 32 notices, votes of 15 authors, a few documents.
const ERRANDS_MAX: usize = 64;

/// What an authority is told.
#[derive(Clone, Debug)]
pub struct AuthorityConfig {
    /// Signs votes and documents. The root of trust: see docs/THREAT-MODEL.md.
    pub identity: IdentitySecret,
    /// Authenticates links.
    pub link_secret: LinkSecret,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// All authorities' keys and how many must sign.
    pub keys: KeySet,
    /// The other authorities.
    pub others: Vec<AuthorityContact>,
    /// How far its wall clock is believed.
    pub limits: TimeLimits,
    /// Intervals of the document and of hop keys.
    pub timing: Timing,
    /// Which nodes are listed.
    pub admission: Admission,
    /// Its links.
    pub link: link::Config,
}

/// Bounds of what strangers can take from an authority.
#[derive(Clone, Copy)]
struct Bounds {
    handshakes: room::Bounds,
    links: room::Bounds,
    idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            handshakes: HANDSHAKES,
            links: LINKS,
            idle: IDLE,
        }
    }
}

struct Shared<R: Runtime> {
    rt: R,
    idle: Duration,
    handshakes: Arc<Room>,
    links: Arc<Room>,
    config: AuthorityConfig,
    time: NodeTime<R>,
    machine: Mutex<Authority>,
    /// The machine may want something else by now.
    changed: Notify,
    errands_high: HighWater,
    others: BTreeMap<AuthorityId, Other<R>>,
}

/// What there is with one other authority.
struct Other<R: Runtime> {
    /// The link to it.
    asker: tokio::sync::Mutex<Option<Arc<Asker<R>>>>,
    /// Room for errands. One that does not answer cannot take that of the others.
    errands: Arc<Semaphore>,
}

impl<R: Runtime> Default for Other<R> {
    fn default() -> Self {
        Self {
            asker: tokio::sync::Mutex::default(),
            errands: Arc::new(Semaphore::new(ERRANDS_MAX)),
        }
    }
}

impl<R: Runtime> Other<R> {
    fn under_way(&self) -> usize {
        ERRANDS_MAX - self.errands.available_permits()
    }
}

/// Runs an authority until its task tree is ended.
///
/// # Errors
/// [`NodeError`], only while it starts.
pub async fn run<R: Runtime>(rt: R, config: AuthorityConfig) -> Result<(), NodeError> {
    run_within(rt, config, Bounds::default()).await
}

async fn run_within<R: Runtime>(rt: R, config: AuthorityConfig, bounds: Bounds) -> Result<(), NodeError> {
    Shared::open(rt, config, bounds).await?.work().await
}

impl<R: Runtime> Shared<R> {
    /// Reads what it keeps.
    async fn open(rt: R, config: AuthorityConfig, bounds: Bounds) -> Result<Arc<Self>, NodeError> {
        let newest = match rt.read(FILE).await.map_err(host("reading the document"))? {
            Some(bytes) => SharedDocument::new(&rt, &config.keys, &bytes)
                .inspect_err(
                    |error| tracing::warn!(%error, "the stored document is damaged: starting without it"),
                )
                .ok(),
            None => None,
        };
        let time = NodeTime::open(rt.clone(), config.limits)
            .await
            .map_err(host("reading the time"))?;
        let machine = Authority::new(
            config.identity.clone(),
            config.keys.clone(),
            config.timing,
            config.admission.clone(),
            Vec::new(),
            newest,
            time.now(),
        );
        let machine = match rt.read(PROOFS).await.map_err(host("reading the proofs"))? {
            Some(bytes) => machine.knowing(proofs(&config.keys, &bytes)?),
            None => machine,
        };
        let others = config.others.len();
        Ok(Arc::new(Self {
            rt,
            idle: bounds.idle,
            handshakes: Arc::new(Room::new("handshakes of an authority", bounds.handshakes, others)),
            links: Arc::new(Room::new("links of an authority", bounds.links, others)),
            others: config
                .others
                .iter()
                .map(|other| (other.id, Other::default()))
                .collect(),
            config,
            time,
            machine: Mutex::new(machine),
            changed: Notify::new(),
            errands_high: HighWater::new("errands to an authority", ERRANDS_MAX),
        }))
    }

    async fn work(self: Arc<Self>) -> Result<(), NodeError> {
        let (shared, rt) = (self.clone(), self.rt.clone());
        let auth = ServerAuth::listed(shared.config.link_secret.clone());
        for at in shared.config.listen.clone() {
            let listener = rt.listen(at).await.map_err(host(&format!("listening at {at}")))?;
            rt.spawn("listener", accept(shared.clone(), listener, auth.clone()));
        }
        rt.emit(Event::Started);
        loop {
            let next = {
                let now = shared.time.now();
                let mut machine = shared.machine();
                machine.wake(now);
                machine.wake_at()
            };
            shared.drain().await;
            let wait = next
                .saturating_since(shared.time.now())
                .clamp(Duration::from_millis(5), Duration::from_secs(600));
            tokio::select! {
                biased;
                () = shared.changed.notified() => {}
                () = shared.rt.sleep(wait) => {}
            }
        }
    }
}

/// Unlike a document, nobody gives back a proof that is lost: whoever runs the authority decides.
fn proofs(keys: &KeySet, bytes: &[u8]) -> Result<Proofs, NodeError> {
    Proofs::decode(keys, bytes).map_err(|error| host("reading the file `proofs`")(io::Error::other(error)))
}

async fn accept<R: Runtime>(shared: Arc<Shared<R>>, mut listener: R::Listener, auth: ServerAuth) {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting failed; going on");
                shared.rt.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (shared, auth) = (shared.clone(), auth.clone());
        let from = stream.peer_addr().ip();
        let place = shared.handshakes.enter(&shared.rt, shared.looks_like(from));
        shared.rt.clone().spawn("directory link", async move {
            let accepted = tokio::select! {
                biased;
                () = place.shown_out() => return,
                accepted = link::accept(&shared.rt, stream, &auth, &shared.config.link) => accepted,
            };
            drop(place);
            match accepted {
                Ok(Accepted::New(link, kind)) => {
                    let guest = shared.guest(kind, from);
                    let place = shared.links.enter(&shared.rt, guest);
                    shared.serve(link, guest, place).await;
                }
                Ok(Accepted::Resumed) => {}
                Err(error) => tracing::debug!(%error, "a link did not come up"),
            }
        });
    }
}

impl<R: Runtime> Shared<R> {
    fn machine(&self) -> MutexGuard<'_, Authority> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the machine wants done.
    async fn drain(self: &Arc<Self>) {
        loop {
            let Some(output) = self.machine().poll_output() else {
                return;
            };
            match output {
                Output::Notify(to, notice) => {
                    if self.may_leave(&notice).await {
                        self.in_background(to, async move |this| {
                            this.ask(to, &DirectoryRequest::Notify(notice)).await;
                        });
                    }
                }
                Output::FetchVote { from, statement } => {
                    let started = self.in_background(from, async move |this| {
                        let bytes = this.fetch_vote(from, &statement).await;
                        this.machine()
                            .vote_fetched(this.time.now(), from, statement, bytes);
                        this.changed.notify_one();
                    });
                    if !started {
                        self.machine()
                            .vote_fetched(self.time.now(), from, statement, None);
                    }
                }
                Output::FetchDocument { from, hash } => {
                    self.in_background(from, async move |this| {
                        if let Some(bytes) = this.fetch_document(from, hash).await {
                            this.machine().document_fetched(this.time.now(), &bytes);
                            this.changed.notify_one();
                        }
                    });
                }
                Output::Publish(document) => {
                    if let Err(error) = self.rt.write(FILE, &document.signed).await {
                        tracing::warn!(%error, "the document could not be persisted");
                    }
                    self.rt.emit(Event::DocumentAccepted {
                        valid_after: document.document.valid_after,
                        nodes: u32::try_from(document.document.nodes.len()).unwrap_or(u32::MAX),
                    });
                }
                Output::Exposed(id) => {
                    tracing::error!(authority = ?id, "an authority signed two votes for one interval");
                    let proofs = self.machine().proofs().encode();
                    if let Err(error) = self.rt.write(PROOFS, &proofs).await {
                        tracing::warn!(%error, "the proof could not be persisted");
                    }
                }
            }
        }
    }

    /// A statement of ours leaves only when no later start can believe that its vote is still to be cast, whatever the
    /// clock says then: a second vote for one interval would be proof against us.
    async fn may_leave(&self, notice: &Notice) -> bool {
        let me = self.machine().id();
        for own in notice.statements.iter().filter(|stated| stated.authority == me) {
            let cast = own.valid_after - self.config.timing.interval / 2;
            if let Err(error) = self.time.persist(cast).await {
                tracing::error!(%error, "the time could not be persisted: this vote is not sent");
                return false;
            }
        }
        true
    }

    /// Starts an errand to `to`; `false` if too many are under way.
    fn in_background<F, Fut>(self: &Arc<Self>, to: AuthorityId, work: F) -> bool
    where
        F: FnOnce(Arc<Self>) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let room = self.others.get(&to).map(|other| other.errands.clone());
        let Some(permit) = room.and_then(|room| room.try_acquire_owned().ok()) else {
            self.rt.emit(Event::Refused {
                what: "errand to an authority",
                why: Refusal::OverQuota,
            });
            return false;
        };
        let under_way = self.others.get(&to).map_or(0, Other::under_way);
        self.errands_high.note(&self.rt, under_way);
        let errand = work(self.clone());
        self.rt.spawn("directory errand", async move {
            errand.await;
            drop(permit);
        });
        true
    }

    /// Asks another authority, over a link that is kept.
    async fn ask(&self, to: AuthorityId, request: &DirectoryRequest) -> Option<DirectoryResponse> {
        for _ in 0..2 {
            let asker = self.asker(to).await?;
            if let Some(response) = asker.ask(request).await {
                return Some(response);
            }
            // Broken: once more over a new one.
            *self.others.get(&to)?.asker.lock().await = None;
        }
        None
    }

    async fn asker(&self, to: AuthorityId) -> Option<Arc<Asker<R>>> {
        let mut slot = self.others.get(&to)?.asker.lock().await;
        if let Some(asker) = &*slot {
            return Some(asker.clone());
        }
        let contact = self.config.others.iter().find(|other| other.id == to)?;
        let auth = ClientAuth::Node {
            secret: self.config.link_secret.clone(),
            server: contact.link,
        };
        for address in &contact.addresses {
            if let Ok(link) = dial(&self.rt, *address, &auth, &self.config.link).await {
                let asker = Arc::new(Asker::over(&self.rt, link));
                *slot = Some(asker.clone());
                return Some(asker);
            }
        }
        None
    }

    async fn fetch_vote(&self, from: AuthorityId, stated: &Statement) -> Option<Bytes> {
        let mut assembly = Assembly::new(VOTE_LEN_MAX.min(usize::try_from(stated.len).ok()?));
        loop {
            let request = DirectoryRequest::GetVote {
                hash: stated.hash,
                offset: assembly.offset(),
            };
            let DirectoryResponse::Piece(piece) = self.ask(from, &request).await? else {
                return None;
            };
            if let Some(whole) = assembly.add(&piece).ok()? {
                return Some(whole);
            }
        }
    }

    async fn fetch_document(&self, from: AuthorityId, hash: Option<DocumentHash>) -> Option<Bytes> {
        // `fetch` asks for the newest; one that is named is asked for by its name in every piece.
        fetch(DocumentHash::NONE, async |request| match (request, hash) {
            (DirectoryRequest::GetDocument { known, offset, .. }, Some(hash)) => {
                self.ask(
                    from,
                    &DirectoryRequest::GetDocument {
                        hash: Some(hash),
                        known,
                        offset,
                    },
                )
                .await
            }
            (request, _) => self.ask(from, &request).await,
        })
        .await
    }

    /// Whose handshake this is, as far as its address tells.
    fn looks_like(&self, from: IpAddr) -> Guest {
        let source = Source::of(from);
        let mut others = self.config.others.iter();
        let other = others.find(|other| other.addresses.iter().any(|at| Source::of(at.ip()) == source));
        other.map_or(Guest::Stranger(source), |other| Guest::Authority(other.id))
    }

    /// Whose link this is, by the key that was shown.
    fn guest(&self, kind: PeerKind, from: IpAddr) -> Guest {
        let other = match kind {
            PeerKind::Node(key) => self.config.others.iter().find(|other| other.link == key),
            PeerKind::Anonymous => None,
        };
        other.map_or(Guest::Stranger(Source::of(from)), |other| {
            Guest::Authority(other.id)
        })
    }

    /// Answers one link until it ends or its place is needed; a stranger's, also when it has no use.
    async fn serve(self: Arc<Self>, link: Link, guest: Guest, place: Place) {
        let from = match guest {
            Guest::Authority(id) => Some(id),
            Guest::Stranger(_) => None,
        };
        tokio::select! {
            biased;
            () = place.shown_out() => {}
            () = self.answer_all(&link, from) => {}
        }
    }

    async fn answer_all(&self, link: &Link, from: Option<AuthorityId>) {
        let rpc = Rpc::new(self.rt.clone(), link.sender(), RpcConfig::default());
        let mut idle_at = self.rt.now() + self.idle;
        loop {
            tokio::select! {
                biased;
                () = self.rt.sleep_until(idle_at), if from.is_none() => return,
                message = link.recv() => match message {
                    None => return,
                    Some((Channel::RPC, message)) if rpc.deliver(&message).is_ok() => {}
                    Some(_) => {
                        self.rt.emit(Event::Refused { what: "directory link", why: Refusal::Malformed });
                        return;
                    }
                },
                (request, responder) = rpc.next_request() => {
                    if let Some(response) = self.answer(from, &request) {
                        let answering = responder.answer(response.encode().into());
                        if !matches!(timeout(&self.rt, self.idle, answering).await, Ok(Ok(()))) {
                            return;
                        }
                        idle_at = self.rt.now() + self.idle;
                    }
                    self.changed.notify_one();
                }
                // Nobody resumes a link to an authority: whoever lost one dials anew.
                _ = link.down() => return,
            }
        }
    }

    fn answer(&self, from: Option<AuthorityId>, request: &Bytes) -> Option<DirectoryResponse> {
        let decoded = match Service::of_request(request) {
            Ok((Service::Directory, body)) => DirectoryRequest::decode(&body).ok(),
            _ => None,
        };
        let Some(request) = decoded else {
            self.rt.emit(Event::Refused {
                what: "directory request",
                why: Refusal::Malformed,
            });
            return None;
        };
        let now = self.time.now();
        let mut machine = self.machine();
        Some(match request {
            DirectoryRequest::Upload(bytes) => DirectoryResponse::Uploaded(machine.upload(now, &bytes)),
            DirectoryRequest::GetDocument { hash, known, offset } => {
                let newest = machine.newest();
                let wanted = newest.filter(|newest| match hash {
                    None => newest.hash != known,
                    Some(hash) => newest.hash == hash,
                });
                let piece = wanted.and_then(|newest| Piece::cut(newest.hash.0, &newest.signed, offset));
                piece.map_or(DirectoryResponse::Nothing, DirectoryResponse::Piece)
            }
            DirectoryRequest::GetVote { hash, offset } => {
                let piece = machine
                    .vote(hash)
                    .and_then(|vote| Piece::cut(hash, &vote, offset));
                piece.map_or(DirectoryResponse::Nothing, DirectoryResponse::Piece)
            }
            DirectoryRequest::Notify(notice) => {
                if let Some(from) = from {
                    machine.notified(now, from, &notice);
                } else {
                    self.rt.emit(Event::Refused {
                        what: "notice",
                        why: Refusal::Misdirected,
                    });
                }
                DirectoryResponse::Nothing
            }
        })
    }
}

#[cfg(test)]
mod tests;
