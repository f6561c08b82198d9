//! The people at the clients: they write to their contacts, read what comes, and help friends in.
//!
//! A user is a task on the host of its client, so a crash of the host ends both. What passes between people out of band
//! (an invitation on paper, a message over another channel) passes through [`Society`], with the delay of their edge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use phantom_client::user::{Command, Commands, ContactId, Notice, UserSide};
use phantom_core::event::Sensitive;
use phantom_core::invite::Invitation;
use phantom_core::message::MAX_MESSAGE;
use phantom_core::message::contact::Contact;
use phantom_core::rendezvous::CohortPublic;
use phantom_core::runtime::{Frugal, Owned, Runtime};
use phantom_core::units::Instant;
use rand_core::Rng;
use tokio::sync::{Notify, oneshot, watch};

use crate::check::observe::{Observation, Seen};
use crate::scenario::file::{Carries, Deed, Start};
use crate::scenario::plan::{HostId, Plan};

/// So long somebody waits for the client to find a way in by itself before asking people.
const PATIENCE: Duration = Duration::from_secs(10);
/// Friends asked at a time; the next when these have answered and it was of no use.
const ASKED_AT_ONCE: usize = 2;
/// How long a friend who helped is left alone: the records that it can fetch are a day's.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// How long a friend who could not help is left alone.
const ASK_IN_VAIN: Duration = Duration::from_secs(20);
/// From an invitation to asking the next friends: the client dials what it was given.
const TRY_IT: Duration = Duration::from_secs(5);
/// How long a friend tries to fetch an invitation.
const HELP_WITHIN: Duration = Duration::from_secs(45);

/// What people know of each other outside the network, and what they tell the judges.
pub(super) struct Society {
    plan: Arc<Plan>,
    /// The world's time at which the scenario's begins.
    begins: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whose program runs, and how to speak to it.
    clients: BTreeMap<HostId, Commands>,
    /// Whose client has a way in; others cannot help.
    online: BTreeSet<HostId>,
    notes: Vec<Observation>,
}

impl Society {
    pub(super) fn new(plan: Arc<Plan>, begins: Instant) -> Arc<Self> {
        Arc::new(Self {
            plan,
            begins,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the judges.
    fn note(&self, at: Instant, host: HostId, seen: Seen) {
        self.state().notes.push(Observation {
            at,
            host: Some(host),
            seen,
        });
    }

    /// What was told since the last call, on the world's clock.
    pub(super) fn take_notes(&self) -> Vec<Observation> {
        std::mem::take(&mut self.state().notes)
    }

    /// When the scenario begins, on this world's clock.
    pub(super) fn begins(&self) -> Instant {
        self.begins
    }

    /// The scenario's time on this world's clock.
    fn scenario(&self, at: Duration) -> Instant {
        self.begins + at
    }

    /// Who may invite `host`, and how long what passes between them takes.
    pub(super) fn inviters(&self, host: HostId) -> Vec<(HostId, Duration)> {
        let invitations = self
            .plan
            .edges
            .iter()
            .filter(|edge| edge.carries == Carries::Invitations);
        let of = invitations.filter_map(|edge| match (edge.from == host, edge.to == host) {
            (_, true) => Some((edge.from, edge.delay)),
            // Friendship is mutual; only the operators' invitations go one way.
            (true, _) if self.plan.hosts[edge.to as usize].role.is_client() => Some((edge.to, edge.delay)),
            _ => None,
        });
        let mut all: Vec<_> = of.collect();
        all.sort_unstable();
        all.dedup_by_key(|(friend, _)| *friend);
        all
    }

    /// The client of a friend who is in.
    fn helper(&self, friend: HostId) -> Option<Commands> {
        let state = self.state();
        state
            .clients
            .get(&friend)
            .filter(|_| state.online.contains(&friend))
            .cloned()
    }

    /// Asks a friend, who asks its own client. Takes the edge's delay there and back.
    pub(super) async fn ask<R: Runtime>(
        &self,
        rt: &R,
        friend: HostId,
        delay: Duration,
        cohort: &CohortPublic,
    ) -> Option<Invitation> {
        rt.sleep(delay / 2).await;
        let client = self.helper(friend)?;
        let (reply, answer) = oneshot::channel();
        let command = Command::FetchInvitation {
            cohort: Box::new(cohort.clone()),
            reply,
        };
        client.send(command).await.ok()?;
        let invitation = phantom_core::runtime::timeout(rt, HELP_WITHIN, answer)
            .await
            .ok()?
            .ok()??;
        rt.sleep(delay / 2).await;
        Some(invitation)
    }
}

/// A user's part in a scenario.
pub(super) struct User<R: Runtime> {
    pub(super) rt: R,
    pub(super) host: HostId,
    pub(super) society: Arc<Society>,
    /// Whom the user may write to.
    pub(super) contacts: Arc<Vec<(ContactId, HostId)>>,
    /// What was agreed on with them, until the client has it.
    pub(super) agreed: Agreed,
}

/// Contacts that a client is still to be told of. Taken once in a host's life: the client keeps them.
pub(super) type Agreed = Arc<Mutex<Vec<(ContactId, Box<Contact>)>>>;

impl<R: Runtime> User<R> {
    /// Lives until its client ends.
    pub(super) async fn live(self, side: UserSide) {
        let UserSide {
            commands,
            mut notices,
        } = side;
        self.society.state().clients.insert(self.host, commands.clone());
        self.meet(&commands).await;
        let (connected, is_connected) = watch::channel(false);
        for work in self.work() {
            self.rt.spawn(
                "user writes",
                self.write(work, commands.clone(), is_connected.clone()),
            );
        }
        // Wishes for an invitation; of those that come while friends are being asked one is remembered.
        let wish = Arc::new(Wish::default());
        let _asking = Owned(self.rt.spawn(
            "asking friends",
            self.ask_friends(wish.clone(), commands.clone(), is_connected),
        ));
        while let Some(notice) = notices.recv().await {
            match notice {
                Notice::Connected { .. } => {
                    self.society.state().online.insert(self.host);
                    let _ = connected.send(true);
                }
                Notice::Disconnected => {
                    self.society.state().online.remove(&self.host);
                    let _ = connected.send(false);
                }
                Notice::WantInvitation { cohort } => wish.make(cohort),
                Notice::Message {
                    contact,
                    message,
                    expires,
                    ..
                }
                | Notice::File {
                    contact,
                    message,
                    expires,
                    ..
                } => {
                    let seen = Seen::Shown { message, expires };
                    self.society.note(self.rt.now(), self.host, seen);
                    let took = Command::Took { contact, message };
                    let _ = commands.send(took).await; // a client that has ended offers it again
                }
                _ => {}
            }
        }
        let mut state = self.society.state();
        state.clients.remove(&self.host);
        state.online.remove(&self.host);
    }

    /// Tells the client of contacts that it does not know yet.
    async fn meet(&self, commands: &Commands) {
        let agreed = std::mem::take(&mut *self.agreed.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, contact) in agreed {
            let (added, _) = oneshot::channel();
            if commands
                .send(Command::AddContact { id, contact, added })
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// Asks friends, a few at a time, whenever the client wishes for an invitation and finds no way in by itself.
    fn ask_friends(
        &self,
        wish: Arc<Wish>,
        commands: Commands,
        connected: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (rt, society, host) = (self.rt.clone(), self.society.clone(), self.host);
        async move {
            let mut rng = Frugal::from(rt.rng("user's friends"));
            let mut in_by_itself = connected.clone();
            let friends = society.inviters(host);
            // Not to be asked before.
            let mut rested: BTreeMap<HostId, Instant> = BTreeMap::new();
            loop {
                let cohort = wish.made().await;
                // Boxed: what this takes is not held in the long times without a wish.
                let asking = Box::pin(async {
                    rt.sleep(PATIENCE).await;
                    while !*connected.borrow() {
                        let now = rt.now();
                        let mut able: Vec<_> = friends
                            .iter()
                            .copied()
                            .filter(|(friend, _)| rested.get(friend).is_none_or(|until| *until <= now))
                            .collect();
                        if able.is_empty() {
                            break; // The client says so again when it still has no way in.
                        }
                        let mut asking = Vec::new();
                        while asking.len() < ASKED_AT_ONCE && !able.is_empty() {
                            let (friend, delay) =
                                able.swap_remove((rng.next_u64() % able.len() as u64) as usize);
                            let (rt, society, cohort) = (rt.clone(), society.clone(), cohort.clone());
                            let (tell, told) = oneshot::channel();
                            let task = Owned(rt.clone().spawn("asking a friend", async move {
                                // Whoever asked waits for it.
                                let _ = tell.send(society.ask(&rt, friend, delay, &cohort).await);
                            }));
                            asking.push((friend, told, task));
                        }
                        let mut helped = false;
                        for (friend, told, _task) in asking {
                            let told = tokio::select! {
                                biased;
                                // In by itself meanwhile: never mind.
                                _ = in_by_itself.wait_for(|connected| *connected) => break,
                                told = told => told,
                            };
                            let invitation = told.ok().flatten();
                            let rest = if invitation.is_some() {
                                ASK_AGAIN
                            } else {
                                ASK_IN_VAIN
                            };
                            rested.insert(friend, rt.now() + rest);
                            let Some(invitation) = invitation else { continue };
                            helped = true;
                            let (reply, _) = oneshot::channel();
                            let invitation = Bytes::from(invitation.encode());
                            if commands
                                .send(Command::AcceptInvitation { invitation, reply })
                                .await
                                .is_err()
                            {
                                return false; // The client has ended.
                            }
                        }
                        if helped {
                            rt.sleep(TRY_IT).await;
                        }
                    }
                    true
                });
                if !asking.await {
                    return;
                }
            }
        }
    }

    /// The writing workloads that this user has.
    fn work(&self) -> Vec<Work> {
        let plan = &self.society.plan;
        let mine = plan
            .workloads
            .iter()
            .filter(|workload| workload.hosts.contains(&self.host));
        let mut all = Vec::new();
        for (n, workload) in mine.enumerate() {
            let Deed::Write { to, every, size, ttl } = &workload.what else {
                continue;
            };
            let edges = plan.edges.iter().filter(|edge| edge.graph == to.value);
            let others: Vec<HostId> = edges
                .filter_map(|edge| match (edge.from == self.host, edge.to == self.host) {
                    (true, _) => Some(edge.to),
                    (_, true) => Some(edge.from),
                    _ => None,
                })
                .collect();
            let contacts = self
                .contacts
                .iter()
                .filter(|(_, host)| others.contains(host))
                .cloned();
            all.push(Work {
                number: n as u64,
                contacts: contacts.collect(),
                start: workload.start,
                until: workload.until,
                every: every.value,
                size: (size.value.0.0.0, size.value.1.0.0),
                ttl: ttl.value.0,
            });
        }
        all.retain(|work| !work.contacts.is_empty());
        all
    }

    /// Writes to contacts drawn anew each time.
    fn write(
        &self,
        work: Work,
        commands: Commands,
        mut connected: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (rt, society, host) = (self.rt.clone(), self.society.clone(), self.host);
        async move {
            let mut rng = Frugal::from(rt.rng("user"));
            match work.start {
                Start::OnArrival => {}
                Start::Connected => {
                    if connected.wait_for(|connected| *connected).await.is_err() {
                        return;
                    }
                }
                Start::At(time) => rt.sleep_until(society.scenario(time.0)).await,
            }
            let until = society.scenario(work.until);
            tracing::trace!(number = work.number, "a workload begins");
            loop {
                rt.sleep(work.every.draw(rng.next_u64())).await;
                if rt.now() >= until {
                    return;
                }
                let (id, to) = &work.contacts[(rng.next_u64() % work.contacts.len() as u64) as usize];
                let (low, high) = work.size;
                let size = low + rng.next_u64() % (high.saturating_sub(low) + 1);
                let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
                rng.fill_bytes(&mut text);
                // The head of what is long: a leak would show it too.
                rt.sensitive(Sensitive::Payload, &text[..text.len().min(MAX_MESSAGE)]);
                let (accepted, answer) = oneshot::channel();
                let (contact, content, ttl) = (id.clone(), Bytes::from(text), work.ttl);
                let command = if content.len() > MAX_MESSAGE {
                    Command::SendFile {
                        contact,
                        name: "attachment".to_owned(),
                        content,
                        ttl,
                        accepted,
                    }
                } else {
                    Command::Send {
                        contact,
                        text: content,
                        ttl,
                        accepted,
                    }
                };
                if commands.send(command).await.is_err() {
                    return;
                }
                if let Ok(Ok(message)) = answer.await {
                    society.note(rt.now(), host, Seen::Addressed { message, to: *to });
                }
            }
        }
    }
}

/// A wish for an invitation, into a cohort.
#[derive(Default)]
struct Wish {
    cohort: Mutex<Option<Box<CohortPublic>>>,
    made: Notify,
}

impl Wish {
    fn make(&self, cohort: Box<CohortPublic>) {
        *self.cohort.lock().unwrap_or_else(PoisonError::into_inner) = Some(cohort);
        self.made.notify_one();
    }

    async fn made(&self) -> Box<CohortPublic> {
        loop {
            let cohort = self.cohort.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(cohort) = cohort {
                return cohort;
            }
            self.made.notified().await;
        }
    }
}

struct Work {
    number: u64,
    contacts: Vec<(ContactId, HostId)>,
    start: Start,
    until: Duration,
    every: crate::scenario::units::Spread,
    /// Bytes, both ends included.
    size: (u64, u64),
    ttl: Duration,
}
