//! A world of two contacts and one store, which loses, delays, repeats and reorders, with crashes at any point.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::super::contact::{Contact, Invitation, accept};
use super::super::receiver::{self, Receiver};
use super::super::sender::{self, Config, Sender, Slot};
use super::super::{Kind, MessageId};
use crate::mailbox::{Admission, BoxAddress, Record, WriteOnce, WriteOutcome, admit, write_once};
use crate::units::{Instant, WallTime};

pub(super) const T0: u64 = 1_800_000_000;

/// What goes wrong, in percent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) loss: u32,
    pub(super) repeat: u32,
    /// Chance per poll that the polling side crashes.
    pub(super) crash: u32,
    pub(super) delay_ms_max: u64,
}

pub(super) const CALM: Faults = Faults {
    loss: 0,
    repeat: 0,
    crash: 0,
    delay_ms_max: 300,
};

enum Happens {
    Write {
        by: usize,
        life: u32,
        slot: Slot,
        record: Box<Record>,
    },
    Answer {
        to: usize,
        life: u32,
        slot: Slot,
        outcome: WriteOutcome,
    },
    Found {
        to: usize,
        life: u32,
        record: Box<Record>,
    },
    Durable {
        at: usize,
        life: u32,
        sender: bool,
        generation: u64,
        state: Vec<u8>,
    },
    Confirm {
        at: usize,
        life: u32,
        id: MessageId,
    },
    Poll {
        at: usize,
    },
    Wake {
        at: usize,
        life: u32,
    },
}

pub(super) struct Side {
    pub(super) sender: Sender<ChaCha12Rng>,
    pub(super) receiver: Receiver,
    /// What a crash leaves.
    pub(super) disk: (Vec<u8>, Vec<u8>),
    /// What the user holds durably; survives crashes.
    pub(super) ledger: BTreeSet<MessageId>,
    pub(super) life: u32,
    pub(super) online: bool,
    pub(super) wake: Option<Instant>,
    /// A disk takes one state after the other.
    pub(super) disk_busy: Instant,
}

pub(super) struct World {
    pub(super) now: Instant,
    queue: BTreeMap<(Instant, u64), Happens>,
    pub(super) seq: u64,
    pub(super) rng: ChaCha12Rng,
    pub(super) faults: Faults,
    /// Writes of these boxes, by these sides, get lost.
    pub(super) held: BTreeSet<(usize, Slot)>,
    pub(super) store: BTreeMap<BoxAddress, (Record, WallTime)>,
    /// Everything ever written: no address may see two contents, stored or not.
    pub(super) ever: BTreeMap<BoxAddress, Record>,
    pub(super) sides: [Side; 2],
    pub(super) submitted: BTreeMap<MessageId, Bytes>,
    pub(super) accepted: BTreeMap<MessageId, WallTime>,
    pub(super) acknowledged: BTreeSet<MessageId>,
    pub(super) expired: BTreeSet<MessageId>,
    pub(super) delivered: u32,
    pub(super) crashes: u32,
    pub(super) polls: u32,
    pub(super) poll_boxes: usize,
}

pub(super) fn config() -> Config {
    Config {
        answer_timeout: Duration::from_secs(8),
        refresh_first: Duration::from_secs(20),
        refresh_max: Duration::from_secs(120),
        ..Config::default()
    }
}

pub(super) fn wall(now: Instant) -> WallTime {
    WallTime::from_unix_secs(T0) + now.since_start()
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let invitation = Invitation::new(&mut rng);
        let (b, answer) = accept(&invitation.to_text(), &mut rng).expect("accepted");
        let (a, _) = invitation.finish(&answer).expect("finished");
        let mut side = |contact: &Contact| {
            let sender = Sender::new(
                &contact.outgoing,
                config(),
                ChaCha12Rng::seed_from_u64(rng.next_u64()),
            );
            let receiver = Receiver::new(&contact.incoming);
            let disk = (sender.encode().to_vec(), receiver.encode().to_vec());
            Side {
                sender,
                receiver,
                disk,
                ledger: BTreeSet::new(),
                life: 0,
                online: true,
                wake: None,
                disk_busy: Instant::ZERO,
            }
        };
        let sides = [side(&a), side(&b)];
        let mut world = Self {
            now: Instant::ZERO,
            queue: BTreeMap::new(),
            seq: 0,
            rng,
            faults,
            held: BTreeSet::new(),
            store: BTreeMap::new(),
            ever: BTreeMap::new(),
            sides,
            submitted: BTreeMap::new(),
            accepted: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            expired: BTreeSet::new(),
            delivered: 0,
            crashes: 0,
            polls: 0,
            poll_boxes: 8,
        };
        world.at(Duration::from_millis(100), Happens::Poll { at: 0 });
        world.at(Duration::from_millis(700), Happens::Poll { at: 1 });
        world
    }

    fn at(&mut self, after: Duration, what: Happens) {
        self.seq += 1;
        self.queue.insert((self.now + after, self.seq), what);
    }

    pub(super) fn percent(&mut self, chance: u32) -> bool {
        self.rng.next_u32() % 100 < chance
    }

    fn delay(&mut self) -> Duration {
        Duration::from_millis(10 + self.rng.next_u64() % self.faults.delay_ms_max)
    }

    fn disk_delay(&mut self, at: usize) -> Duration {
        let delay = Duration::from_millis(5 + self.rng.next_u64() % 200);
        let done = self.sides[at].disk_busy.max(self.now) + delay;
        self.sides[at].disk_busy = done;
        done.saturating_since(self.now)
    }

    /// Through the network: lost, late, and perhaps twice.
    fn network(&mut self, what: impl Fn() -> Happens) {
        if self.percent(self.faults.loss) {
            return;
        }
        let delay = self.delay();
        self.at(delay, what());
        if self.percent(self.faults.repeat) {
            let delay = self.delay();
            self.at(delay, what());
        }
    }

    pub(super) fn submit(&mut self, by: usize, len: usize, ttl: Duration) -> MessageId {
        let id = MessageId::from_rng(&mut self.rng);
        let mut body = vec![0; len];
        self.rng.fill_bytes(&mut body);
        let body = Bytes::from(body);
        let input = sender::Input::Submit {
            kind: Kind::Text,
            id,
            body: body.clone(),
            ttl,
        };
        if self.sides[by]
            .sender
            .handle(self.now, wall(self.now), input)
            .is_ok()
        {
            self.submitted.insert(id, body);
        }
        self.drain(by);
        id
    }

    fn sender_gets(&mut self, at: usize, input: sender::Input) {
        let (now, side) = (self.now, &mut self.sides[at]);
        side.sender
            .handle(now, wall(now), input)
            .expect("only a submission fails");
        self.drain(at);
    }

    fn receiver_gets(&mut self, at: usize, input: receiver::Input) {
        let (now, side) = (self.now, &mut self.sides[at]);
        // Repeated answers are refused, and that is all.
        let _ = side.receiver.handle(now, wall(now), input);
        self.drain(at);
    }

    fn drain(&mut self, at: usize) {
        let life = self.sides[at].life;
        let mut wake: Option<Instant> = None;
        loop {
            match self.sides[at].sender.poll_output() {
                sender::Output::Persist(generation) => {
                    let state = self.sides[at].sender.encode().to_vec();
                    let delay = self.disk_delay(at);
                    self.at(
                        delay,
                        Happens::Durable {
                            at,
                            life,
                            sender: true,
                            generation,
                            state,
                        },
                    );
                }
                sender::Output::Write { slot, .. } if self.held.contains(&(at, slot)) => {}
                sender::Output::Write { slot, record } => {
                    self.network(|| Happens::Write {
                        by: at,
                        life,
                        slot,
                        record: record.clone(),
                    });
                }
                sender::Output::Accepted { id, expires, .. } => {
                    self.accepted.insert(id, expires);
                }
                sender::Output::Stored(_) => {}
                sender::Output::Acknowledged(id) => {
                    assert!(
                        self.sides[1 - at].ledger.contains(&id) || self.inbox(1 - at, id),
                        "not delivered"
                    );
                    self.acknowledged.insert(id);
                }
                sender::Output::Expired(id) => {
                    self.expired.insert(id);
                }
                sender::Output::Conflict { slot, .. } => panic!("{slot:?} was used for two bodies"),
                sender::Output::WaitUntil(t) => {
                    wake = Some(t);
                    break;
                }
                sender::Output::Done => break,
            }
        }
        loop {
            match self.sides[at].receiver.poll_output() {
                receiver::Output::Persist(generation) => {
                    let state = self.sides[at].receiver.encode().to_vec();
                    let delay = self.disk_delay(at);
                    self.at(
                        delay,
                        Happens::Durable {
                            at,
                            life,
                            sender: false,
                            generation,
                            state,
                        },
                    );
                }
                receiver::Output::Deliver(message) => {
                    assert!(wall(self.now) < message.expires, "delivered after its expiry");
                    assert_eq!(
                        self.submitted.get(&message.id),
                        Some(&message.body),
                        "another body"
                    );
                    assert!(self.sides[at].ledger.insert(message.id), "delivered twice");
                    self.delivered += 1;
                    let delay = self.delay();
                    self.at(
                        delay,
                        Happens::Confirm {
                            at,
                            life,
                            id: message.id,
                        },
                    );
                }
                receiver::Output::Expired(_) => {}
                receiver::Output::PeerAck(ack) => self.sender_gets(at, sender::Input::PeerAck(ack)),
                receiver::Output::Acknowledge { ack, until, wanted } => {
                    self.sender_gets(at, sender::Input::Acknowledge { ack, until, wanted });
                }
                receiver::Output::WaitUntil(t) => {
                    wake = Some(wake.map_or(t, |w| w.min(t)));
                    break;
                }
                receiver::Output::Done => break,
            }
        }
        if let Some(t) = wake
            && self.sides[at].wake.is_none_or(|w| t < w || w <= self.now)
        {
            let after = t.saturating_since(self.now).max(Duration::from_millis(1));
            self.sides[at].wake = Some(self.now + after);
            self.at(after, Happens::Wake { at, life });
        }
    }

    fn inbox(&self, at: usize, id: MessageId) -> bool {
        self.sides[at]
            .receiver
            .state
            .inbox
            .iter()
            .any(|(_, m)| m.id == id)
    }

    fn crash(&mut self, at: usize) {
        self.crashes += 1;
        let rng = ChaCha12Rng::seed_from_u64(self.rng.next_u64());
        let side = &mut self.sides[at];
        side.life += 1;
        side.sender = Sender::decode(&side.disk.0, config(), rng).expect("what was stored");
        let ledger = &side.ledger;
        side.receiver = Receiver::decode(&side.disk.1, |id| ledger.contains(id)).expect("what was stored");
        assert_eq!(&*side.sender.encode(), &side.disk.0, "canonical");
        side.wake = None;
        self.sender_gets(at, sender::Input::Tick);
        self.receiver_gets(at, receiver::Input::Tick);
    }

    fn serve_write(&mut self, record: &Record) -> WriteOutcome {
        let record = Record::decode_verified(&record.encode()).expect("what senders write verifies");
        let first = self
            .ever
            .entry(*record.address())
            .or_insert_with(|| record.clone());
        assert_eq!(
            write_once(first, &record),
            WriteOnce::Same,
            "an index was used for two bodies"
        );
        let now = wall(self.now);
        self.store.retain(|_, (_, until)| now < *until);
        match admit(record.bucket(), record.not_after(), now) {
            Admission::Until(until) => {
                self.store.entry(*record.address()).or_insert((record, until));
                WriteOutcome::Stored { replicas: 2 }
            }
            Admission::Expired | Admission::TooFar => WriteOutcome::Expired,
        }
    }

    fn step(&mut self, what: Happens) {
        match what {
            Happens::Write {
                by,
                life,
                slot,
                record,
            } => {
                let outcome = self.serve_write(&record);
                self.network(|| Happens::Answer {
                    to: by,
                    life,
                    slot,
                    outcome,
                });
            }
            Happens::Answer {
                to,
                life,
                slot,
                outcome,
            } if life == self.sides[to].life => {
                self.sender_gets(to, sender::Input::Written { slot, outcome });
            }
            Happens::Found { to, life, record } if life == self.sides[to].life => {
                self.receiver_gets(to, receiver::Input::Found(record));
            }
            Happens::Durable {
                at,
                life,
                sender,
                generation,
                state,
            } if life == self.sides[at].life => {
                if sender {
                    self.sides[at].disk.0 = state;
                    self.sender_gets(at, sender::Input::Persisted(generation));
                } else {
                    self.sides[at].disk.1 = state;
                    self.receiver_gets(at, receiver::Input::Persisted(generation));
                }
            }
            Happens::Confirm { at, life, id } if life == self.sides[at].life => {
                self.receiver_gets(at, receiver::Input::Delivered(id));
            }
            // One that an earlier wake replaced is stale: were it served, each would leave another behind, for ever.
            Happens::Wake { at, life }
                if life == self.sides[at].life && self.sides[at].wake == Some(self.now) =>
            {
                self.sides[at].wake = None;
                self.sender_gets(at, sender::Input::Tick);
                self.receiver_gets(at, receiver::Input::Tick);
            }
            Happens::Poll { at } => {
                if self.sides[at].online {
                    self.polls += 1;
                    if self.percent(self.faults.crash) {
                        self.crash(at);
                    }
                    let now = wall(self.now);
                    self.store.retain(|_, (_, until)| now < *until);
                    let wanted = self.sides[at].receiver.wanted(now, self.poll_boxes);
                    assert!(wanted.len() <= self.poll_boxes);
                    let found = wanted
                        .iter()
                        .find_map(|a| self.store.get(a))
                        .map(|(r, _)| Box::new(r.clone()));
                    if let Some(record) = found {
                        let life = self.sides[at].life;
                        self.network(|| Happens::Found {
                            to: at,
                            life,
                            record: record.clone(),
                        });
                    }
                }
                let gap = Duration::from_millis(self.rng.next_u64() % 2_000);
                self.at(gap, Happens::Poll { at });
            }
            // For a life that is over.
            _ => {}
        }
    }

    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut steps = 0;
        while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= end) {
            let ((at, _), what) = entry.remove_entry();
            self.now = at;
            self.step(what);
            steps += 1;
            assert!(steps < 200 * (duration.as_secs() + 10), "a machine spins");
        }
        self.now = end;
    }

    /// What was accepted and did not end before now has arrived; what ended was told.
    pub(super) fn check(&self) {
        let now = wall(self.now);
        for (id, expires) in &self.accepted {
            let arrived = self.sides.iter().any(|side| side.ledger.contains(id));
            assert!(arrived || *expires <= now, "accepted and lost: {id:?}");
            assert!(
                self.acknowledged.contains(id) || self.expired.contains(id) || *expires > now,
                "{id:?} is neither acknowledged nor told to be over"
            );
        }
    }
}
