//! Relaying: taking this node's layer off a packet, and doing what it says. Spec: SPEC §3.
//!
//! The replay tag is durable before anything else happens to a packet. What cannot be opened or sent on is counted and
//! dropped; nobody is told.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use phantom_core::crypto::keys::NodeId;
use phantom_core::event::{Event, Refusal};
use phantom_core::high_water::HighWater;
use phantom_core::mailbox::{Lengths, Request};
use phantom_core::packet::{self, Action, Class, HopSecrets, NextHop, Packet, Surb};
use phantom_core::runtime::Runtime;
use phantom_core::wire::Reader;
use tokio::sync::{RwLock, Semaphore};

use crate::hopkeys::HopKeyStore;
use crate::links::Links;
use crate::mailbox::Mailbox;
use crate::store::replay::ReplayError;

/// Packets in work at once; further ones are dropped. A link that waited for its turn would hold back the answers behind it.
pub(crate) const IN_WORK_MAX: usize = 256;

/// Relays packets of this node. Clones are handles to the same one.
pub struct Relay<R: Runtime> {
    rt: R,
    me: NodeId,
    secrets: Arc<Mutex<Option<Arc<HopSecrets>>>>,
    keys: Arc<RwLock<HopKeyStore<R>>>,
    links: Arc<Links<R>>,
    mailbox: Option<Mailbox<R>>,
    in_work: Arc<Semaphore>,
    depth: Arc<HighWater>,
}

impl<R: Runtime> Clone for Relay<R> {
    fn clone(&self) -> Self {
        Self {
            rt: self.rt.clone(),
            me: self.me,
            secrets: self.secrets.clone(),
            keys: self.keys.clone(),
            links: self.links.clone(),
            mailbox: self.mailbox.clone(),
            in_work: self.in_work.clone(),
            depth: self.depth.clone(),
        }
    }
}

impl<R: Runtime> Relay<R> {
    /// A relay with the hop keys of `keys`; without a mailbox it delivers nothing.
    pub fn new(
        rt: R,
        me: NodeId,
        keys: Arc<RwLock<HopKeyStore<R>>>,
        links: Arc<Links<R>>,
        mailbox: Option<Mailbox<R>>,
    ) -> Self {
        let in_work = Arc::new(Semaphore::new(IN_WORK_MAX));
        let depth = Arc::new(HighWater::new("packets in work", IN_WORK_MAX));
        Self {
            rt,
            me,
            secrets: Arc::default(),
            keys,
            links,
            mailbox,
            in_work,
            depth,
        }
    }

    /// Uses these hop keys from now on.
    pub fn rekey(&self, secrets: Option<HopSecrets>) {
        *self.secrets.lock().unwrap_or_else(PoisonError::into_inner) = secrets.map(Arc::new);
    }

    /// Takes a packet from a link. Never waits: what comes while too many are in work is dropped.
    pub fn packet(&self, bytes: Bytes) {
        let Ok(permit) = self.in_work.clone().try_acquire_owned() else {
            self.rt.emit(Event::Refused {
                what: "packet",
                why: Refusal::OverQuota,
            });
            return;
        };
        self.depth
            .note(&self.rt, IN_WORK_MAX - self.in_work.available_permits());
        let this = self.clone();
        self.rt.spawn("packet", async move {
            if let Err(why) = this.work(bytes).await {
                this.rt.emit(Event::Refused { what: "packet", why });
            }
            drop(permit);
        });
    }

    async fn work(&self, bytes: Bytes) -> Result<(), Refusal> {
        let mut packet = Packet::from_bytes(bytes).map_err(|_| Refusal::Malformed)?;
        // A reply that this node makes may name this node as its first hop: it then goes round here, not over a link.
        loop {
            let secrets = self
                .secrets
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let secrets = secrets.ok_or(Refusal::Expired)?;
            let peeled = packet::peel(&secrets, packet).map_err(|error| error.refusal())?;
            let admitted = self.keys.read().await.admit(peeled.key, &peeled.tag).await;
            admitted.map_err(|error| {
                tracing::debug!(%error, "a packet was not admitted");
                match error {
                    ReplayError::Replay(replay) => replay.refusal(),
                    _ => Refusal::OverQuota,
                }
            })?;
            let reply = match peeled.action {
                Action::Forward {
                    next: NextHop::Link(handle),
                    packet,
                } => {
                    self.rt.emit(Event::PacketForwarded);
                    return self.links.send_down(&handle, packet.into_bytes());
                }
                Action::Forward {
                    next: NextHop::Node(node),
                    packet,
                } if node != self.me => {
                    self.rt.emit(Event::PacketForwarded);
                    return self.send(node, packet).await;
                }
                Action::Forward { packet, .. } => Some((self.me, packet)),
                Action::Deliver { class, payload } => self.deliver(class, &payload).await?,
            };
            match reply {
                Some((node, reply)) if node == self.me => packet = reply,
                Some((node, reply)) => return self.send(node, reply).await,
                None => return Ok(()),
            }
        }
    }

    async fn send(&self, node: NodeId, packet: Packet) -> Result<(), Refusal> {
        self.links
            .send_packet(node, packet.into_bytes())
            .await
            .map_err(|error| {
                tracing::debug!(%error, "a packet could not be sent on");
                Refusal::Misdirected
            })
    }

    /// Does what a request asks for; the reply and where it goes.
    async fn deliver(&self, class: Class, payload: &[u8]) -> Result<Option<(NodeId, Packet)>, Refusal> {
        let mailbox = self.mailbox.as_ref().ok_or(Refusal::Misdirected)?;
        let request = Request::decode(payload, Lengths::of(class)).map_err(|_| Refusal::Malformed)?;
        let class = request.answer_class();
        let (Request::Write { surb, .. } | Request::Read { surb, .. }) = &request;
        let surb = Surb::decode(&mut Reader::new(surb)).map_err(|_| Refusal::Malformed)?;
        let Some(answer) = mailbox.request(request).await else {
            return Ok(None);
        };
        surb.reply(class, &answer.encode(Lengths::of(class)))
            .map(Some)
            .map_err(|_| Refusal::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use phantom_core::directory::document::Timing;
    use phantom_core::runtime::tokio::{Config, TokioRuntime};
    use phantom_core::trusted_time::TimeLimits;

    use super::*;
    use crate::config::alone;
    use crate::directory::Keeper;
    use crate::store::NodeTime;

    /// The loop that reads a link calls this between two answers that others wait for: it returns whatever is in work.
    #[tokio::test]
    async fn a_packet_too_many_is_dropped_and_holds_nothing_up() {
        let place = tempfile::tempdir().unwrap();
        let (events, mut seen) = tokio::sync::mpsc::channel(8);
        let rt = TokioRuntime::start(Config {
            events: Some(events),
            ..Config::new("node", place.path().to_owned())
        })
        .unwrap();
        let config = alone(&rt);
        let me = config.keys.identity.public().node_id();
        let time = NodeTime::open(rt.clone(), TimeLimits::default()).await.unwrap();
        let keys = HopKeyStore::open(rt.clone(), time, Timing::default().hop_period, 100)
            .await
            .unwrap();
        let keeper = Keeper::open(rt.clone(), &config.directory).await.unwrap();
        let links = Links::new(rt.clone(), config, Arc::new(keeper), |_| {});
        let relay = Relay::new(rt, me, Arc::new(RwLock::new(keys)), Arc::new(links), None);

        let in_work = relay.in_work.clone().try_acquire_many_owned(IN_WORK_MAX as u32);
        let in_work = in_work.unwrap();
        relay.packet(Bytes::from_static(b"one too many"));
        let event = seen.recv().await.unwrap().event;
        let dropped = Event::Refused {
            what: "packet",
            why: Refusal::OverQuota,
        };
        assert_eq!(event, dropped);
        drop(in_work);
        relay.packet(Bytes::from_static(b"no packet"));
        let event = seen.recv().await.unwrap().event;
        assert!(
            matches!(
                event,
                Event::QueueHigh { .. }
                    | Event::Refused {
                        why: Refusal::Malformed,
                        ..
                    }
            ),
            "taken up again: {event:?}"
        );
    }
}
