//! The client's one task: waits for the user, the links, its helpers and time, and lets everything else react.

mod paths;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phantom_core::event::{Event, Refusal, Sensitive, Step};
use phantom_core::invite::{Invitation, InvitationError};
use phantom_core::link::Channel;
use phantom_core::mailbox::{Answer, BoxAddress};
use phantom_core::message::sender::Slot;
use phantom_core::packet::Class;
use phantom_core::queue;
use phantom_core::route::{Ask, Requests};
use phantom_core::runtime::{Frugal, Runtime};
use phantom_core::units::{Instant, WallTime};
use phantom_core::wire::{DecodeError, Reader};
use phantom_rotation::{Failure, Memory};
use thiserror::Error;

use self::paths::{Dial, Load, Second};
use crate::candidate::{Candidate, mark_sensitive};
use crate::config::ClientConfig;
use crate::documents::Documents;
use crate::entry::{Entrance, Sources};
use crate::files::{FileId, PieceAsk};
use crate::invitations::{FetchId, Fetches};
use crate::mail::{Index, Mail, Time};
use crate::news::News;
use crate::rotor::Rotor;
use crate::session::{Session, Told};
use crate::state::{CLIENT_FILE, DOCUMENT_FILE, Kept, Safe, StateError};
use crate::user::{ClientSide, Command, DocumentStatus, EntryStatus, Notice, Status};

/// Reports of helpers that wait; helpers wait for room.
const REPORTS: usize = 64;
/// The highest time believed is stored that often even if nothing else changes: a clock that is set back while the client
/// is off must not win back more.
const KEEP_TIME: Duration = Duration::from_secs(3_600);
/// The longest wait without looking around.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Bytes that wait on the link or are not acknowledged, beyond which no piece of an attachment is put behind them. Four eighths of
/// the link's window, at each of which it acknowledges: less would let it run empty.
const BULK_BUFFERED_MAX: u64 = 128 << 10;

/// Why a client ended.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Its state cannot be opened or stored: going on would break its promises.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A request on its way: over which session, and what for.
struct Sent {
    over: u64,
    purpose: Purpose,
}

/// What a request is for.
enum Purpose {
    Write(Index, Slot),
    Poll(Vec<(Index, BoxAddress)>),
    Courier(FetchId),
    Upload(FileId, u32),
    Download(FileId, u32),
}

/// What the task woke up for.
enum Turn {
    Link(Option<(Channel, Bytes)>),
    Second(Option<(Channel, Bytes)>),
    News(Box<News>),
    Command(Option<Box<Command>>),
    /// Time passed, or the user took a notice.
    Time,
}

struct Client<R: Runtime> {
    rt: R,
    config: Arc<ClientConfig>,
    safe: Safe<R>,
    kept: Kept,
    /// Whether `kept` has changed since it was stored; and the document.
    dirty: bool,
    document_dirty: bool,
    /// The time believed when the state was last stored, or opened.
    time_kept: WallTime,
    documents: Documents,
    entrance: Entrance<R>,
    session: Option<Session<R>>,
    /// The session whose link is being resumed.
    suspended: Option<Box<Session<R>>>,
    /// The session that was left, until rotation has it closed.
    leaving: Option<Box<Session<R>>>,
    /// The session that the ladder found, until rotation takes it.
    arriving: Option<Box<Session<R>>>,
    second: Option<Box<Second<R>>>,
    /// Paths that are dialled to be the second one.
    dials: Vec<Dial<R>>,
    /// Where the path led that was in use last.
    entry_left: Option<SocketAddr>,
    rotor: Rotor,
    sessions: u64,
    requests: Requests<Sent>,
    mail: Mail<R>,
    fetches: Fetches,
    rng: Frugal,
    news: queue::Sender<Box<News>>,
}

/// Runs a client until its user stops it or goes away.
///
/// # Errors
/// [`ClientError`].
pub fn run<R: Runtime>(
    rt: R,
    config: ClientConfig,
    side: ClientSide,
) -> impl Future<Output = Result<(), ClientError>> + Send {
    let ClientSide {
        mut commands,
        notices,
    } = side;
    let (tell, mut news) = queue::queue(REPORTS);
    // On the heap, and not a part of what is left when the client runs: thousands of them wait in one process.
    let open = Box::pin(Client::open(rt.clone(), config, notices.clone(), tell));
    async move {
        rt.emit(Event::Started);
        let mut client = Box::new(open.await?);
        rt.emit(Event::Arrived);
        loop {
            let wake = client.settle().await?;
            let wants_room = client.mail.has_ready();
            let wants_link = client.mail.has_piece(rt.now()) && !client.has_bulk_room();
            let turn = tokio::select! {
                biased;
                news = news.recv() => news.map_or(Turn::Time, Turn::News),
                message = incoming(client.session.as_ref()) => Turn::Link(message),
                message = incoming(client.second_session()) => Turn::Second(message),
                command = commands.recv() => Turn::Command(command),
                () = notices.room(), if wants_room => Turn::Time,
                () = bulk_room(client.session_to_ask(Load::Up)), if wants_link => Turn::Time,
                () = rt.sleep_until(wake) => Turn::Time,
            };
            match turn {
                Turn::Link(Some((channel, bytes))) => client.incoming(false, channel, bytes),
                Turn::Link(None) => client.lost(),
                Turn::Second(Some((channel, bytes))) => client.incoming(true, channel, bytes),
                Turn::Second(None) => client.second_lost(None),
                Turn::News(news) => match *news {
                    News::Found(found) => client.found(found),
                    News::Told(told) => client.told(told),
                },
                Turn::Command(None) => break,
                Turn::Command(Some(command)) => match *command {
                    Command::Stop => break,
                    command => client.command(command),
                },
                Turn::Time => {}
            }
        }
        client.save().await?;
        if let Some(link) = client.session.take().and_then(|session| session.link) {
            link.close();
        }
        rt.emit(Event::Stopped);
        Ok(())
    }
}

/// The next message of the link; never comes back without one in use.
async fn incoming<R: Runtime>(session: Option<&Session<R>>) -> Option<(Channel, Bytes)> {
    match session.and_then(|session| session.link.as_ref()) {
        Some(link) => link.recv().await,
        None => std::future::pending().await,
    }
}

/// Until the link that is asked next takes a piece of an attachment; never comes back without one.
async fn bulk_room<R: Runtime>(session: Option<&Session<R>>) {
    match session.and_then(|session| session.link.as_ref()) {
        Some(link) => link.drained(BULK_BUFFERED_MAX).await,
        None => std::future::pending().await,
    }
}

impl<R: Runtime> Client<R> {
    async fn open(
        rt: R,
        config: ClientConfig,
        notices: queue::Sender<Box<Notice>>,
        news: queue::Sender<Box<News>>,
    ) -> Result<Self, ClientError> {
        let (rt, config) = (&rt, Arc::new(config));
        config.installation.mark_sensitive(rt);
        let mut rng = rt.rng("client");
        let (safe, content) = Safe::open(rt, CLIENT_FILE, &config.secret).await?;
        let mut mail = Mail::new(rt, config.sender, config.poll, notices);
        let (kept, memory) = match &content {
            Some(content) => decode(content, &mut mail).map_err(|error| StateError::Content {
                file: CLIENT_FILE.to_owned(),
                error,
            })?,
            None => (Kept::new(&mut rng), Memory::default()),
        };
        rt.sensitive(Sensitive::UserKey, kept.inviter.to_bytes().as_slice());
        kept.friends.iter().for_each(|bridge| mark_sensitive(rt, bridge));
        // A document that cannot be read is fetched again.
        let signed = rt.read(DOCUMENT_FILE).await.ok().flatten().unwrap_or_default();
        let pins = config.installation.directory.clone();
        let mut documents = Documents::restore(rt, pins, config.time, &kept.directory, &signed);
        let time_kept = documents.time(rt);
        let rotor = Rotor::new(
            config.rotation.clone(),
            memory,
            (config.network, config.address),
            (rt.now(), time_kept),
            rt.rng("rotation").into(),
        );
        Ok(Self {
            rotor,
            entrance: Entrance::new(rt, &config, &kept, news.clone()),
            requests: Requests::new(config.request_limit),
            rt: rt.clone(),
            config,
            safe,
            kept,
            dirty: content.is_none(),
            document_dirty: false,
            time_kept,
            documents,
            session: None,
            suspended: None,
            leaving: None,
            arriving: None,
            second: None,
            dials: Vec::new(),
            entry_left: None,
            sessions: 0,
            mail,
            fetches: Fetches::default(),
            rng: rng.into(),
            news,
        })
    }

    fn time(&mut self) -> Time {
        Time {
            now: self.rt.now(),
            time: self.documents.time(&self.rt),
        }
    }

    /// Lets everything do what is due, and stores what must be, until nothing is; returns when something will be.
    async fn settle(&mut self) -> Result<Instant, ClientError> {
        loop {
            self.mail.load_files().await;
            let wake = self.drive();
            let at = self.time();
            self.mail.offer(at);
            if !self.save().await? && self.mail.writes.is_empty() {
                return Ok(wake.min(at.now + WAIT_MAX));
            }
        }
    }

    /// Stores what changed; `false` if nothing did.
    async fn save(&mut self) -> Result<bool, ClientError> {
        let saving = self.mail.unsaved();
        if saving.is_none() && !self.dirty && !self.document_dirty {
            return Ok(false);
        }
        if self.document_dirty
            && let Some(newest) = self.documents.newest()
        {
            let written = self.rt.write(DOCUMENT_FILE, &newest.signed).await;
            written.map_err(|error| StateError::Io {
                file: DOCUMENT_FILE.to_owned(),
                error,
            })?;
        }
        self.kept.directory = self.documents.header();
        let mut content = zeroize::Zeroizing::new(Vec::with_capacity(4_096));
        self.kept.write(&mut content);
        self.mail.encode(&mut content);
        self.rotor.write(&mut content);
        self.mail.store_files().await?;
        self.safe.save(&content).await?;
        self.mail.tidy_files().await;
        (self.dirty, self.document_dirty) = (false, false);
        let at = self.time();
        self.time_kept = at.time;
        if let Some(saving) = saving {
            self.mail.saved(at, saving);
        }
        Ok(true)
    }

    /// Everything that is due now; returns when something will be.
    fn drive(&mut self) -> Instant {
        let at = self.time();
        let now = at.now;
        let mut wakes: Vec<Option<Instant>> = Vec::with_capacity(8);
        self.dirty |= at.time >= self.time_kept + KEEP_TIME;

        let over = self.requests.expired(now);
        for sent in &over {
            if let Some(session) = self.session_of(sent.over) {
                session.missed(1);
            }
        }
        over.into_iter().for_each(|sent| self.failed(at, sent.purpose));
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.is_useless(self.config.request_limit))
        {
            self.give_up();
        }
        self.obey(at);

        let mut sources = Sources {
            time: at.time,
            kept: &self.kept,
            documents: &mut self.documents,
            rotor: &self.rotor,
            want_invitation: false,
        };
        wakes.push(self.entrance.drive(&mut sources));
        if sources.want_invitation {
            let cohort = Box::new(self.config.installation.cohort.public.clone());
            self.mail.tell(Notice::WantInvitation { cohort });
        }
        self.tell_missed(now);

        if let Some(second) = &mut self.second {
            wakes.push(second.session.drive());
        }
        if let Some(session) = &mut self.session {
            wakes.push(session.drive());
            let due = self.documents.due(at);
            if due <= now {
                session.fetch_document(self.documents.known());
            }
            wakes.push((!session.is_fetching()).then_some(due));
        }

        self.mail.tick(at);
        let can = self.can_send();
        if let Some(asked) = self.mail.poll(at, can)
            && !asked.is_empty()
        {
            let addresses = asked.iter().map(|(_, address)| *address).collect();
            self.request(at, Ask::Read(Class::Small, addresses), Purpose::Poll(asked));
        }
        while let Some((id, addresses)) = self.fetches.ask(now) {
            self.request(at, Ask::Read(Class::Small, addresses), Purpose::Courier(id));
        }
        // What fails at once comes back after a pause, so this ends.
        while let Some(write) = self.mail.writes.pop_front() {
            let purpose = Purpose::Write(write.contact, write.slot);
            self.request(at, Ask::Write(write.record), purpose);
        }
        // Attachments last: they take what is left of the link.
        while can
            && self.has_bulk_room()
            && let Some(PieceAsk { file, piece, ask }) = self.mail.next_piece(now)
        {
            let purpose = match ask {
                Ask::Write(_) => Purpose::Upload(file, piece),
                Ask::Read(..) => Purpose::Download(file, piece),
            };
            self.request(at, ask, purpose);
        }

        if self.read(at) {
            wakes.push(Some(now)); // What follows from it is done in another round.
        }
        self.dirty |= self.rotor.has_news();
        wakes.push(self.rotor.wake());
        wakes.push(self.mail.wake(at, can && self.has_bulk_room()));
        wakes.push(self.fetches.wake());
        wakes.push(self.requests.deadline());
        wakes.into_iter().flatten().min().unwrap_or(Instant::FAR_FUTURE)
    }

    /// Whether the link takes a piece of an attachment, so that what is asked next does not wait behind many of them.
    fn has_bulk_room(&self) -> bool {
        let link = self
            .session_to_ask(Load::Up)
            .and_then(|session| session.link.as_ref());
        link.is_some_and(|link| link.buffered() < BULK_BUFFERED_MAX)
    }

    fn can_send(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.hop.is_some()) && self.documents.is_usable()
    }

    /// Sends a request; if that cannot be, its purpose hears so at once.
    fn request(&mut self, at: Time, ask: Ask, purpose: Purpose) {
        let session = self.session_to_ask(Load::of(&ask));
        let hop = session.and_then(|session| Some((session.number, session.hop.clone()?)));
        let view = self
            .documents
            .view(&self.rt)
            .map(|(view, time)| (view.clone(), time));
        let (Some((over, hop)), Some((view, time))) = (hop, view) else {
            self.requests.unsent();
            return self.failed(at, purpose);
        };
        let sent = Sent { over, purpose };
        match self
            .requests
            .make(&mut self.rng, (at.now, time), &view, &hop, ask, sent)
        {
            Ok(packet) => {
                // A link without room loses it: the time limit notices.
                let taken = self.session_of(over).is_some_and(|session| session.send(packet));
                if !taken {
                    tracing::debug!("the link took no packet");
                }
            }
            Err((error, sent)) => {
                tracing::debug!(%error, "a request was not sent");
                self.requests.unsent();
                self.failed(at, sent.purpose);
            }
        }
    }

    fn failed(&mut self, at: Time, purpose: Purpose) {
        match purpose {
            Purpose::Write(contact, slot) => self.mail.written(at, contact, slot, None),
            Purpose::Poll(_) => {}
            Purpose::Upload(file, piece) => self.mail.piece_written(at.now, (file, piece), None),
            Purpose::Download(file, piece) => self.mail.piece_read(at.now, (file, piece), None),
            Purpose::Courier(id) => self.fetches.failed(id, at.now, &self.kept.inviter),
        }
    }

    /// A message of the link in use, or of the second one.
    fn incoming(&mut self, second: bool, channel: Channel, bytes: Bytes) {
        match channel {
            Channel::PACKET => self.packet(bytes),
            Channel::RPC => {
                let session = if second {
                    self.second_session()
                } else {
                    self.session.as_ref()
                };
                let delivered = session.map(|session| session.rpc.deliver(&bytes));
                if let Some(Err(error)) = delivered {
                    tracing::info!(%error, "the entry broke a rule");
                    if second {
                        self.second_lost(Some(Failure::Garbled));
                    } else {
                        self.give_up();
                    }
                }
            }
            _ => self.rt.emit(Event::Refused {
                what: "link message",
                why: Refusal::Malformed,
            }),
        }
    }

    fn packet(&mut self, bytes: Bytes) {
        let at = self.time();
        let (Sent { over, purpose }, answer) = match self.requests.answer(bytes) {
            Ok(answered) => answered,
            Err(refused) => return self.rt.emit(refused),
        };
        if let Some(session) = self.session_of(over) {
            session.heard();
        }
        match (purpose, answer) {
            (Purpose::Write(contact, slot), Answer::Write(outcome)) => {
                self.mail.written(at, contact, slot, Some(outcome));
            }
            (Purpose::Upload(file, piece), Answer::Write(outcome)) => {
                self.mail.piece_written(at.now, (file, piece), Some(outcome));
            }
            (Purpose::Download(file, piece), Answer::Read(answer)) => {
                self.mail.piece_read(at.now, (file, piece), Some(answer));
            }
            (Purpose::Poll(asked), Answer::Read(answer)) => self.mail.polled(at, &asked, answer),
            (Purpose::Courier(id), Answer::Read(answer)) => {
                self.fetches
                    .answered(id, at.now, &self.rt, answer, &self.kept.inviter);
            }
            (purpose, _) => {
                self.rt.emit(Event::Refused {
                    what: "reply packet",
                    why: Refusal::Malformed,
                });
                self.failed(at, purpose);
            }
        }
    }

    fn told(&mut self, told: Told) {
        let at = self.time();
        match told {
            Told::Hops(number, answer) => {
                let life = self.refresh_after();
                let Some(session) = self.session_of(number) else {
                    return;
                };
                if session.told(answer, life) {
                    let candidate = session.candidate.clone();
                    if !self.second_ready(number) {
                        self.dirty |= self.kept.worked(&candidate);
                        self.ready(at);
                    }
                }
            }
            Told::Document(number, document) => {
                if let Some(session) = self.session_of(number) {
                    session.fetched();
                }
                let could = self.can_send();
                if self.documents.offer(&self.rt, document.as_ref()) {
                    self.document_dirty = true;
                }
                if !could {
                    self.ready(at);
                }
            }
        }
    }

    /// Requests may have become possible.
    fn ready(&mut self, at: Time) {
        if self.can_send() {
            self.mail.reachable(at);
            self.mail.poll_soon(at.now);
        }
    }

    /// How long the entry's handle and hop keys are used before it is asked again.
    fn refresh_after(&self) -> Duration {
        let newest = self.documents.newest();
        let period = newest.map_or(self.config.handle_life, |newest| {
            newest.document.timing.hop_period
        });
        self.config.handle_life.min(period / 2)
    }

    fn command(&mut self, command: Command) {
        let at = self.time();
        match command {
            Command::AddContact { id, contact, added } => self.mail.add(id, &contact, added),
            Command::Send {
                contact,
                text,
                ttl,
                accepted,
            } => self.mail.send(at, &contact, text, ttl, accepted),
            Command::SendFile {
                contact,
                name,
                content,
                ttl,
                accepted,
            } => self
                .mail
                .send_file(at, &contact, (&name, &content), ttl, accepted),
            Command::Took { contact, message } => self.mail.took(at, &contact, message),
            Command::FetchInvitation { cohort, reply } => self.fetches.start(at.now, at.time, cohort, reply),
            Command::AcceptInvitation { invitation, reply } => {
                let bridges = self.accept(at, &invitation);
                let _ = reply.send(bridges); // a user who does not wait for the answer misses nothing
            }
            Command::Report(reply) => {
                let _ = reply.send(Box::new(self.status(at))); // as above
            }
            Command::Stop => {}
        }
    }

    fn accept(&mut self, at: Time, invitation: &[u8]) -> Result<usize, InvitationError> {
        let invitation = Invitation::decode(invitation)?;
        let opened = invitation.open(&self.config.installation.cohort, None, at.time)?;
        self.rt.emit(Event::InvitationReceived);
        for (slot, why) in &opened.refused {
            tracing::info!(slot = slot.number(), %why, "a record of an invitation is of no use");
        }
        let mut candidates = Vec::new();
        for (_, bridge) in &opened.bridges {
            mark_sensitive(&self.rt, bridge);
            for address in bridge.ways.addresses() {
                self.rt.emit(Event::BridgeLearned {
                    step: Step::Friend,
                    bridge: address,
                });
            }
            candidates.extend(Candidate::of_bridge(bridge));
        }
        let bridges = opened.bridges.len();
        self.kept
            .befriend(opened.bridges.into_iter().map(|(_, bridge)| bridge), at.time);
        self.dirty = true;
        self.entrance.friends(candidates, &self.rotor);
        Ok(bridges)
    }

    fn status(&self, at: Time) -> Status {
        let entry = self.session.as_ref().map(|session| EntryStatus {
            step: session.step,
            address: session.candidate.address(),
            bridge: session.candidate.is_bridge(),
            transport: session.candidate.kind(),
            ready: session.hop.is_some(),
        });
        let document = self.documents.newest().map(|newest| DocumentStatus {
            valid_after: newest.document.valid_after,
            valid_until: newest.document.valid_until(),
            nodes: newest.document.nodes.len(),
            usable: at.time < newest.document.valid_until(),
        });
        Status {
            entry,
            ladder: self.entrance.report().clone(),
            rotation: self.rotor.report(),
            document,
            clock_refused: self.documents.clock_refused,
            contacts: self.mail.contacts(),
            requests: self.requests.counts(),
            cohort: self.config.installation.cohort.public.clone(),
        }
    }
}

fn decode<R: Runtime>(content: &[u8], mail: &mut Mail<R>) -> Result<(Kept, Memory), DecodeError> {
    let mut r = Reader::new(content);
    let kept = Kept::read(&mut r)?;
    mail.decode(&mut r)?;
    let memory = Rotor::read_memory(&mut r)?;
    r.finish()?;
    Ok((kept, memory))
}

#[cfg(test)]
pub(crate) mod tests;
