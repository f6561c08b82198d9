//! Requests on their way: made into packets, matched with their answers, given up in time. Spec: SPEC §3.5, §4.4.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::{Event, Refusal};
use crate::mailbox::{Answer, BoxAddress, Lengths, Record, Request};
use crate::packet::{self, Class, Packet, ReplyId, Surb, SurbKeys};
use crate::units::{Instant, WallTime};
use bytes::Bytes;
use rand_core::CryptoRng;
use thiserror::Error;

use super::paths::{EntryHop, NoPath, View};
use super::suspects::Suspects;
use crate::crypto::keys::NodeId;

/// Requests on their way at once; further ones are not sent.
pub const PENDING_MAX: usize = 64;

/// A request about a bulk box has so many times the limit of others.
const BULK_LIMITS: u32 = 2;

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unsent {
    /// There is no path.
    #[error(transparent)]
    NoPath(#[from] NoPath),
    /// A hop key of a node is unusable: the node's fault.
    #[error("a packet could not be made: {0}")]
    Build(#[from] packet::BuildError),
    /// Too many are on their way.
    #[error("{PENDING_MAX} requests are on their way")]
    Full,
}

/// What to ask of the nodes of a box.
pub enum Ask {
    /// To take a box.
    Write(Box<Record>),
    /// Which of these boxes of a class exist; at least one.
    Read(Class, Vec<BoxAddress>),
}

/// Requests since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Sent.
    pub sent: u64,
    /// Answered.
    pub answered: u64,
    /// Not answered in time, or lost with their entry.
    pub unanswered: u64,
    /// Not sent: no entry, no document or no path.
    pub unsent: u64,
}

struct Pending<P> {
    keys: SurbKeys,
    purpose: P,
    deadline: Instant,
    nodes: [NodeId; 4],
}

/// All requests on their way, each with what its answer is for.
pub struct Requests<P> {
    /// Boxed: a node of the tree has room for eleven, and a client seldom has more than one on its way.
    pending: BTreeMap<ReplyId, Box<Pending<P>>>,
    limit: Duration,
    counts: RequestCounts,
    suspects: Suspects,
}

impl<P> Requests<P> {
    /// None yet. One without an answer for `limit` has failed.
    pub fn new(limit: Duration) -> Self {
        Self {
            pending: BTreeMap::new(),
            limit,
            counts: RequestCounts {
                sent: 0,
                answered: 0,
                unanswered: 0,
                unsent: 0,
            },
            suspects: Suspects::default(),
        }
    }

    /// What became of them so far.
    pub const fn counts(&self) -> RequestCounts {
        self.counts
    }

    /// Counts a request that could not be sent.
    pub fn unsent(&mut self) {
        self.counts.unsent += 1;
    }

    /// Makes the packet for a request, to be sent to the entry now.
    ///
    /// # Errors
    /// [`Unsent`], and the purpose back.
    pub fn make(
        &mut self,
        rng: &mut impl CryptoRng,
        (now, time): (Instant, WallTime),
        view: &View,
        entry: &EntryHop,
        ask: Ask,
        purpose: P,
    ) -> Result<Bytes, (Unsent, P)> {
        if self.pending.len() >= PENDING_MAX {
            return Err((Unsent::Full, purpose));
        }
        let bulk = match &ask {
            Ask::Write(record) => record.class() == Class::Bulk,
            Ask::Read(class, _) => *class == Class::Bulk,
        };
        self.suspects.document(now, view.document());
        let avoid = self.suspects.avoid(now, rng);
        let (packet, keys, nodes) = match wrap(rng, time, view, entry, ask, &avoid) {
            Ok(wrapped) => wrapped,
            Err(error) => return Err((error, purpose)),
        };
        // A bulk packet waits behind others on a slow link.
        let deadline = now
            + if bulk {
                self.limit * BULK_LIMITS
            } else {
                self.limit
            };
        self.counts.sent += 1;
        self.pending.insert(
            keys.id(),
            Box::new(Pending {
                keys,
                purpose,
                deadline,
                nodes,
            }),
        );
        Ok(packet)
    }

    /// Whether a packet answers one of them by its name; whether it really does, [`Requests::answer`] finds out. For a
    /// node, which also relays what comes down its links.
    pub fn awaits(&self, bytes: &Bytes) -> bool {
        !self.pending.is_empty()
            && Packet::from_bytes(bytes.clone())
                .is_ok_and(|packet| self.pending.contains_key(&ReplyId::of(&packet)))
    }

    /// A packet that came down the link: what it is the answer to, and the answer.
    ///
    /// # Errors
    /// The event to report; nothing has changed then.
    pub fn answer(&mut self, bytes: Bytes) -> Result<(P, Answer), Event> {
        let refused = |why| Event::Refused {
            what: "reply packet",
            why,
        };
        let packet = Packet::from_bytes(bytes).map_err(|_| refused(Refusal::Malformed))?;
        let (id, class) = (ReplyId::of(&packet), packet.class());
        // An answer after its time, or a second one.
        let pending = self.pending.get(&id).ok_or(refused(Refusal::Misdirected))?;
        let content = pending
            .keys
            .open(packet)
            .map_err(|error| refused(error.refusal()))?;
        let answer = Answer::decode(&content, Lengths::of(class)).map_err(|_| refused(Refusal::Malformed))?;
        let pending = self.pending.remove(&id).ok_or(refused(Refusal::Misdirected))?;
        self.counts.answered += 1;
        self.suspects.clear(&pending.nodes);
        Ok((pending.purpose, answer))
    }

    /// Gives up what is over its time.
    pub fn expired(&mut self, now: Instant) -> Vec<P> {
        let ended = self.pending.extract_if(.., |_, pending| pending.deadline <= now);
        let ended: Vec<_> = ended
            .map(|(_, pending)| (pending.nodes, pending.purpose))
            .collect();
        self.counts.unanswered += ended.len() as u64;
        let strike = |(nodes, purpose): ([NodeId; 4], P)| {
            self.suspects.strike(now, &nodes);
            purpose
        };
        ended.into_iter().map(strike).collect()
    }

    /// Gives up everything: the link whose handle the answers name is gone. Nobody is suspected for it; who was suspected
    /// before still is. A client that forgot it would lose its next entry as well for the fault of the same dead relays,
    /// and with many of them it would never learn which they are.
    pub fn abandon(&mut self) -> Vec<P> {
        self.abandon_if(|_| true)
    }

    /// Gives up those whose purpose is `lost`, likewise.
    pub fn abandon_if(&mut self, lost: impl Fn(&P) -> bool) -> Vec<P> {
        let ended = self.pending.extract_if(.., |_, pending| lost(&pending.purpose));
        let ended: Vec<P> = ended.map(|(_, pending)| pending.purpose).collect();
        self.counts.unanswered += ended.len() as u64;
        ended
    }

    /// How many of them are for this.
    pub fn count(&self, is: impl Fn(&P) -> bool) -> usize {
        self.pending
            .values()
            .filter(|pending| is(&pending.purpose))
            .count()
    }

    /// When the next one is over its time.
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.deadline).min()
    }
}

/// A packet for `ask` over a fresh path, and the keys of its answer.
fn wrap(
    rng: &mut impl CryptoRng,
    time: WallTime,
    view: &View,
    entry: &EntryHop,
    ask: Ask,
    avoid: &[NodeId],
) -> Result<(Bytes, SurbKeys, [NodeId; 4]), Unsent> {
    let address = match &ask {
        Ask::Write(record) => record.address(),
        Ask::Read(_, addresses) => addresses.first().ok_or(NoPath::NoStorage)?,
    };
    let path = view.path(rng, time, entry, address, avoid)?;
    let answer_class = match &ask {
        Ask::Write(_) => Class::Small,
        Ask::Read(class, _) => *class,
    };
    let (surb, keys) = Surb::create(rng, answer_class, &path.reply, path.handle)?;
    let surb = surb.encode().to_vec();
    let request = match ask {
        Ask::Write(record) => Request::Write { surb, record },
        Ask::Read(class, addresses) => Request::Read {
            surb,
            class,
            addresses,
        },
    };
    debug_assert_eq!(request.answer_class(), answer_class);
    let class = request.class();
    let payload = request.encode(Lengths::of(class));
    let packet = packet::build(rng, class, &path.forward, &payload)?;
    Ok((packet.into_bytes(), keys, path.nodes))
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::route::paths::tests::{NOW, listed_entry, view_of};

    const LIMIT: Duration = Duration::from_secs(15);

    fn ask(n: u8) -> Ask {
        Ask::Read(Class::Small, vec![BoxAddress::from_bytes([n; 32])])
    }

    fn make(requests: &mut Requests<u8>, now: Instant, n: u8) -> Result<Bytes, Unsent> {
        let view = view_of(8);
        let entry = listed_entry(&view);
        let mut rng = ChaCha12Rng::seed_from_u64(u64::from(n));
        let made = requests.make(&mut rng, (now, NOW), &view, &entry, ask(n), n);
        made.map_err(|(error, purpose)| {
            assert_eq!(purpose, n, "given back");
            error
        })
    }

    #[test]
    fn a_request_about_small_boxes_is_one_packet_of_the_small_class() {
        let mut requests = Requests::new(LIMIT);
        let packet = make(&mut requests, Instant::ZERO, 1).expect("sent");
        assert_eq!(packet.len(), Class::Small.packet_len());
    }

    #[test]
    fn an_unanswered_request_is_given_up_in_time_and_once() {
        let mut requests = Requests::new(LIMIT);
        make(&mut requests, Instant::ZERO, 1).expect("sent");
        make(&mut requests, Instant::ZERO + LIMIT, 2).expect("sent");
        assert_eq!(requests.deadline(), Some(Instant::ZERO + LIMIT));
        assert_eq!(requests.expired(Instant::ZERO + LIMIT), [1]);
        assert_eq!(requests.expired(Instant::ZERO + LIMIT), Vec::<u8>::new());
        assert_eq!(requests.abandon(), [2]);
        assert_eq!(requests.deadline(), None);
        let counts = requests.counts();
        assert_eq!((counts.sent, counts.unanswered, counts.answered), (2, 2, 0));
    }

    #[test]
    fn requests_on_their_way_are_bounded() {
        let mut requests = Requests::new(LIMIT);
        for n in 0..PENDING_MAX {
            make(&mut requests, Instant::ZERO, n as u8).expect("sent");
        }
        assert_eq!(make(&mut requests, Instant::ZERO, 99), Err(Unsent::Full));
    }

    #[test]
    fn a_packet_that_answers_nothing_is_refused_and_the_true_answer_still_counts() {
        let mut requests = Requests::new(LIMIT);
        make(&mut requests, Instant::ZERO, 1).expect("sent");
        for junk in [vec![0; 17], vec![0; 4_096], vec![7; 32_768]] {
            assert!(requests.answer(junk.into()).is_err());
        }
        assert_eq!(requests.pending.len(), 1);
    }
}
