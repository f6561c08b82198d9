//! All contacts of a client: drives the sender and the receiver of each, and says what to poll for. Spec: SPEC §5.4 to §5.8.
//!
//! Machines ask for their state to be stored before anything that depends on it comes out; [`Mail::unsaved`] collects these
//! wishes, so that one write of the client's file serves all of them. A message that arrived stays in that file until the
//! user says that it has it, or it expires; each run offers it once. What so waits is bounded: beyond the bounds, boxes are
//! left where they are.

mod attachments;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use phantom_core::event::{Event, Refusal, Sensitive, Tag};
use phantom_core::high_water::HighWater;
use phantom_core::mailbox::{BoxAddress, MAX_READ, ReadAnswer, Record, TtlBucket, WriteOutcome};
use phantom_core::message::contact::Contact as Established;
use phantom_core::message::poll::{self, Schedule};
use phantom_core::message::receiver::{self, Receiver};
use phantom_core::message::sender::{self, Sender, Slot};
use phantom_core::message::{Kind, MAX_MESSAGE, MessageId};
use phantom_core::queue;
use phantom_core::runtime::{Frugal, Runtime};
use phantom_core::units::{Instant, WallTime};
use phantom_core::wire::{DecodeError, Reader, Writer};
use std::time::Duration;
use tokio::sync::oneshot;

use crate::files::{FileId, Files, PieceAsk, Ready};
use crate::state::StateError;
use crate::user::{AddError, ContactId, FileError, Notice, SendError};

/// Contacts at most.
pub(crate) const CONTACTS_MAX: usize = 1_024;
/// Bytes of messages that wait for the user; beyond them nothing more is taken in. The whole state is written whenever it
/// changes.
const WAITING_MAX: usize = 16 << 20;
/// Boxes known to exist and not fetched yet, at most; more are found again by later polls.
const EAGER_MAX: usize = 2 * MAX_READ;
/// Mean pause before a poll that follows a find, if polls are further apart than that.
const FOLLOW_UP: Duration = Duration::from_millis(500);

/// A contact, by its place in the list; contacts are only ever added.
pub(crate) type Index = usize;

type Accepted = oneshot::Sender<Result<Tag, SendError>>;

struct Contact {
    id: ContactId,
    sender: Sender<Frugal>,
    receiver: Receiver,
    sender_wake: Option<Instant>,
    receiver_wake: Option<Instant>,
    /// Who waits to hear that a message is durable.
    waiting: Vec<(MessageId, Accepted)>,
    /// Messages that wait for room in the user's channel; the receiver has them until the user takes them.
    ready: VecDeque<Arrived>,
}

/// A message that is all here.
struct Arrived {
    id: MessageId,
    expires: WallTime,
    body: Bytes,
    /// Of an attachment, what its sender calls it.
    name: Option<String>,
}

impl Arrived {
    fn notice(self, contact: ContactId) -> Notice {
        let Self {
            id,
            expires,
            body,
            name,
        } = self;
        let message = id.tag();
        match name {
            None => Notice::Message {
                contact,
                message,
                text: body,
                expires,
            },
            Some(name) => Notice::File {
                contact,
                message,
                name,
                content: body,
                expires,
            },
        }
    }
}

/// A box to be written; to be answered with [`Mail::written`].
pub(crate) struct Write {
    pub(crate) contact: Index,
    pub(crate) slot: Slot,
    pub(crate) record: Box<Record>,
}

/// A wish of a machine to have its state stored.
enum Unsaved {
    Sender(Index, u64),
    Receiver(Index, u64),
}

/// What becomes true once the state is stored.
#[derive(Default)]
pub(crate) struct Saving {
    unsaved: Vec<Unsaved>,
    /// Taken by the user; each with its end.
    taken: Vec<(Tag, WallTime)>,
    adding: Vec<oneshot::Sender<Result<(), AddError>>>,
    /// Attachments that were accepted; each with its end.
    filed: Vec<(Tag, WallTime, Accepted)>,
    /// What was sent or is over leaves the state.
    files_changed: bool,
}

/// All contacts.
pub(crate) struct Mail<R> {
    rt: R,
    config: Arc<sender::Config>,
    boxes: usize,
    contacts: Vec<Contact>,
    files: Option<Box<Files<R>>>,
    ids: Frugal,
    notices: queue::Sender<Box<Notice>>,
    /// Boxes to be written: as many as each contact's sender may have under way.
    pub(crate) writes: VecDeque<Write>,
    writes_high: HighWater,
    saving: Saving,
    schedule: Schedule<Frugal>,
    follow_ups: Schedule<Frugal>,
    next_poll: Instant,
    follow_up: Option<Instant>,
    /// Boxes that a poll showed to exist and did not bring.
    eager: VecDeque<(Index, BoxAddress)>,
    eager_high: HighWater,
    /// Which contact a poll begins with.
    turn: usize,
}

impl<R: Runtime> Mail<R> {
    pub(crate) fn new(
        rt: &R,
        config: sender::Config,
        poll: poll::Config,
        notices: queue::Sender<Box<Notice>>,
    ) -> Self {
        let mut schedule = Schedule::new(poll.mean_gap, rt.rng("client polls").into());
        let next_poll = rt.now() + schedule.next_gap();
        Self {
            rt: rt.clone(),
            config: config.into(),
            boxes: poll.boxes.clamp(1, MAX_READ),
            contacts: Vec::new(),
            files: None,
            ids: rt.rng("message ids").into(),
            notices,
            writes: VecDeque::new(),
            writes_high: HighWater::new("boxes to write", CONTACTS_MAX * config.in_flight_max),
            saving: Saving::default(),
            schedule,
            follow_ups: Schedule::new(poll.mean_gap.min(FOLLOW_UP), rt.rng("client follow-ups").into()),
            next_poll,
            follow_up: None,
            eager: VecDeque::new(),
            eager_high: HighWater::new("boxes to fetch", EAGER_MAX),
            turn: 0,
        }
    }

    /// Every contact with the messages to it that wait.
    pub(crate) fn contacts(&self) -> Vec<(ContactId, usize)> {
        let contacts = self.contacts.iter();
        contacts
            .map(|contact| {
                let files = self.files.as_ref();
                let files = files.map_or(0, |files| files.waiting(&contact.id));
                (contact.id.clone(), contact.sender.pending() + files)
            })
            .collect()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.contacts.len() as u16);
        for contact in &self.contacts {
            out.put_bytes(contact.id.as_str().as_bytes());
            for state in [contact.sender.encode(), contact.receiver.encode()] {
                out.put_u32(state.len() as u32);
                out.put(&state);
            }
        }
        out.put_u8(u8::from(self.files.is_some()));
        if let Some(files) = &self.files {
            files.encode(out);
        }
    }

    pub(crate) fn decode(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        for _ in 0..r.count("contacts", CONTACTS_MAX)? {
            let id = ContactId::read(r)?;
            let len = r.u32()? as usize;
            let sender = Sender::decode(
                r.take(len)?,
                self.config.clone(),
                self.rt.rng("message sender").into(),
            )?;
            let len = r.u32()? as usize;
            // What the user took is gone from this state; everything else is offered again.
            let receiver = Receiver::decode(r.take(len)?, |_| false)?;
            self.push(id, sender, receiver);
        }
        match r.u8()? {
            0 => Ok(()),
            1 => self.files().decode(r),
            got => Err(DecodeError::BadValue {
                field: "attachments",
                got: u64::from(got),
            }),
        }
    }

    fn push(&mut self, id: ContactId, sender: Sender<Frugal>, receiver: Receiver) {
        // Contacts are large and few, and added one by one over years.
        self.contacts.reserve_exact(1);
        self.contacts.push(Contact {
            id,
            sender,
            receiver,
            // A first tick brings out what a restart left to do.
            sender_wake: Some(Instant::ZERO),
            receiver_wake: Some(Instant::ZERO),
            waiting: Vec::new(),
            ready: VecDeque::new(),
        });
    }

    /// Takes a new contact; `added` is answered when it is durable.
    pub(crate) fn add(
        &mut self,
        id: ContactId,
        contact: &Established,
        added: oneshot::Sender<Result<(), AddError>>,
    ) {
        let refused = if self.contacts.iter().any(|known| known.id == id) {
            Some(AddError::NameTaken)
        } else if self.contacts.len() >= CONTACTS_MAX {
            Some(AddError::TooMany { bound: CONTACTS_MAX })
        } else {
            None
        };
        if let Some(refused) = refused {
            let _ = added.send(Err(refused)); // a user who does not wait for the answer misses nothing
            return;
        }
        for secret in [
            &contact.outgoing.root,
            &contact.incoming.root,
            &contact.outgoing.announce,
            &contact.incoming.announce,
        ] {
            self.rt.sensitive(Sensitive::UserKey, &**secret);
        }
        for cap in [contact.outgoing.cap.read_cap(), &contact.incoming.cap] {
            self.rt.sensitive(Sensitive::UserKey, cap.as_bytes());
        }
        let sender = Sender::new(
            &contact.outgoing,
            self.config.clone(),
            self.rt.rng("message sender").into(),
        );
        self.push(id, sender, Receiver::new(&contact.incoming));
        self.saving.adding.push(added);
    }

    /// Takes a message of the user's; `accepted` is answered when it is durable.
    pub(crate) fn send(
        &mut self,
        at: Time,
        contact: &ContactId,
        text: Bytes,
        ttl: Duration,
        accepted: Accepted,
    ) {
        let found = self.contacts.iter().position(|known| known.id == *contact);
        let Some(index) = found else {
            let _ = accepted.send(Err(SendError::NoSuchContact)); // as in `add`
            return;
        };
        let id = MessageId::from_rng(&mut self.ids);
        self.rt.sensitive(Sensitive::MessageId, id.as_bytes());
        if !text.is_empty() && text.len() <= MAX_MESSAGE {
            self.rt.sensitive(Sensitive::Payload, &text);
        }
        let input = sender::Input::Submit {
            kind: Kind::Text,
            id,
            body: text,
            ttl,
        };
        self.contacts[index].waiting.push((id, accepted));
        if let Err(error) = self.sender(at, index, input) {
            let waiting = &mut self.contacts[index].waiting;
            if let Some((_, accepted)) = waiting.pop() {
                let _ = accepted.send(Err(error.into())); // as in `add`
            }
        }
    }

    /// The answer to a write, `None` if there was none.
    pub(crate) fn written(&mut self, at: Time, contact: Index, slot: Slot, outcome: Option<WriteOutcome>) {
        let input = match outcome {
            Some(outcome) => sender::Input::Written { slot, outcome },
            None => sender::Input::Failed { slot },
        };
        // Only a submission can be refused.
        let _ = self.sender(at, contact, input);
    }

    /// There is a way to the nodes again: what failed for want of one goes out now.
    pub(crate) fn reachable(&mut self, at: Time) {
        for index in 0..self.contacts.len() {
            let _ = self.sender(at, index, sender::Input::Reachable); // as in `written`
        }
        if let Some(files) = &mut self.files {
            files.reachable(at.now);
        }
    }

    /// Lets every machine that waited for this instant go on.
    pub(crate) fn tick(&mut self, at: Time) {
        self.files_ready(at);
        let due = |wake: Option<Instant>| wake.is_some_and(|wake| wake <= at.now);
        for index in 0..self.contacts.len() {
            if due(self.contacts[index].receiver_wake) {
                let _ = self.receiver(at, index, receiver::Input::Tick); // as in `took`
            }
            if due(self.contacts[index].sender_wake) {
                let _ = self.sender(at, index, sender::Input::Tick); // as in `written`
            }
        }
    }

    /// When a machine or a poll is due; polls only if they `can` be sent.
    pub(crate) fn wake(&self, at: Time, can: bool) -> Option<Instant> {
        let machines = self
            .contacts
            .iter()
            .flat_map(|c| [c.sender_wake, c.receiver_wake]);
        let polls = [self.poll_due(), self.follow_up].map(|due| due.filter(|_| can));
        let files = self.files.as_ref().and_then(|files| files.wake(at, can));
        machines.chain(polls).chain([files]).flatten().min()
    }

    fn poll_due(&self) -> Option<Instant> {
        (!self.contacts.is_empty()).then_some(self.next_poll)
    }

    fn sender(&mut self, at: Time, index: Index, input: sender::Input) -> Result<(), sender::Error> {
        let writes_max = self.contacts.len() * self.config.in_flight_max;
        let result = self.contacts[index].sender.handle(at.now, at.time, input);
        loop {
            let contact = &mut self.contacts[index];
            match contact.sender.poll_output() {
                sender::Output::Persist(generation) => {
                    self.saving.unsaved.push(Unsaved::Sender(index, generation));
                }
                sender::Output::Write { slot, record } => {
                    self.rt
                        .sensitive(Sensitive::BoxAddress, record.address().as_bytes());
                    self.writes.push_back(Write {
                        contact: index,
                        slot,
                        record,
                    });
                    self.writes_high
                        .note_within(&self.rt, self.writes.len(), writes_max);
                }
                sender::Output::Accepted { kind: Kind::File, .. } => {} // when the attachment was
                sender::Output::Accepted { id, expires, .. } => {
                    let message = id.tag();
                    self.rt.emit(Event::MessageAccepted { message, expires });
                    for (_, accepted) in contact.waiting.extract_if(.., |(waiting, _)| *waiting == id) {
                        let _ = accepted.send(Ok(message)); // as in `add`
                    }
                }
                sender::Output::Stored(id) => {
                    self.rt.emit(Event::MessageStored { message: id.tag() });
                    let contact = contact.id.clone();
                    let message = id.tag();
                    self.tell(Notice::Stored { contact, message });
                }
                sender::Output::Acknowledged(id) => {
                    self.rt.emit(Event::MessageAcknowledged { message: id.tag() });
                    let contact = contact.id.clone();
                    let message = id.tag();
                    self.tell(Notice::Acknowledged { contact, message });
                }
                sender::Output::Expired(id) => {
                    for (_, accepted) in contact.waiting.extract_if(.., |(waiting, _)| *waiting == id) {
                        let _ = accepted.send(Err(SendError::Expired)); // as in `add`
                    }
                    self.expired(index, id);
                }
                sender::Output::Conflict { .. } => {
                    self.rt.emit(Event::Refused {
                        what: "own box",
                        why: Refusal::Conflict,
                    });
                    let contact = contact.id.clone();
                    self.tell(Notice::Conflict { contact });
                }
                sender::Output::WaitUntil(wake) => {
                    contact.sender_wake = Some(wake);
                    return result;
                }
                sender::Output::Done => {
                    contact.sender_wake = None;
                    return result;
                }
            }
        }
    }

    fn receiver(&mut self, at: Time, index: Index, input: receiver::Input) -> Result<(), receiver::Error> {
        let mut broken: Vec<MessageId> = Vec::new();
        let result = self.contacts[index].receiver.handle(at.now, at.time, input);
        if let Err(error) = result {
            let why = match error {
                receiver::Error::NotWanted => Refusal::Replayed,
                receiver::Error::Full(_) => Refusal::OverQuota,
                receiver::Error::Unreadable => Refusal::BadAuthentication,
            };
            self.rt.emit(Event::Refused { what: "box", why });
        }
        loop {
            let contact = &mut self.contacts[index];
            let input = match contact.receiver.poll_output() {
                receiver::Output::Persist(generation) => {
                    self.saving.unsaved.push(Unsaved::Receiver(index, generation));
                    continue;
                }
                receiver::Output::Deliver(message) if message.kind == Kind::File => {
                    let from = contact.id.clone();
                    if self.files().announced(&from, &message) {
                        continue;
                    }
                    self.rt.emit(Event::Refused {
                        what: "box",
                        why: Refusal::Malformed,
                    });
                    broken.push(message.id);
                    continue;
                }
                receiver::Output::Deliver(message) => {
                    contact.ready.push_back(Arrived {
                        id: message.id,
                        expires: message.expires,
                        body: message.body,
                        name: None,
                    });
                    continue;
                }
                receiver::Output::Expired(id) => {
                    contact.ready.retain(|message| message.id != id);
                    if let Some(files) = &mut self.files {
                        files.forget(id);
                    }
                    tracing::debug!(?id, "a message came after its time, or nobody took it in time");
                    continue;
                }
                receiver::Output::PeerAck(ack) => sender::Input::PeerAck(ack),
                receiver::Output::Acknowledge { ack, until, wanted } => {
                    sender::Input::Acknowledge { ack, until, wanted }
                }
                // A contact that announces nonsense: nobody waits for it.
                receiver::Output::WaitUntil(_) | receiver::Output::Done if let Some(id) = broken.pop() => {
                    let delivered = receiver::Input::Delivered(id);
                    let _ = contact.receiver.handle(at.now, at.time, delivered); // only a box can be refused
                    continue;
                }
                receiver::Output::WaitUntil(wake) => {
                    contact.receiver_wake = Some(wake);
                    return result;
                }
                receiver::Output::Done => {
                    contact.receiver_wake = None;
                    return result;
                }
            };
            let _ = self.sender(at, index, input); // as in `written`
        }
    }

    /// Tells the user if there is room.
    pub(crate) fn tell(&self, notice: Notice) {
        let _ = self.notices.try_send(Box::new(notice)); // a user who went away needs to be told nothing
    }

    /// Whether a message waits for room in the channel of a user who listens.
    pub(crate) fn has_ready(&self) -> bool {
        !self.notices.is_closed() && self.contacts.iter().any(|contact| !contact.ready.is_empty())
    }

    /// Offers messages as far as the user has room for them.
    pub(crate) fn offer(&mut self, at: Time) {
        for contact in &mut self.contacts {
            while self.notices.has_room()
                && let Some(message) = contact.ready.pop_front()
            {
                if at.time < message.expires {
                    let notice = Box::new(message.notice(contact.id.clone()));
                    let _ = self.notices.try_send(notice); // there is room
                }
            }
        }
    }

    /// The user has a message: its receiver need not keep it.
    pub(crate) fn took(&mut self, at: Time, contact: &ContactId, tag: Tag) {
        let Some(index) = self.contacts.iter().position(|known| known.id == *contact) else {
            return;
        };
        let mut waiting = self.contacts[index].receiver.waiting();
        let found = waiting.find(|message| message.id.tag() == tag);
        let Some((id, expires)) = found.map(|message| (message.id, message.expires)) else {
            return; // Taken before, or over.
        };
        drop(waiting);
        self.saving.taken.push((tag, expires));
        let _ = self.receiver(at, index, receiver::Input::Delivered(id)); // only a box can be refused
    }

    /// What is to be stored; store [`Mail::encode`] and then call [`Mail::saved`]. `None` if nothing is.
    pub(crate) fn unsaved(&mut self) -> Option<Saving> {
        let Saving {
            unsaved,
            taken,
            adding,
            filed,
            files_changed,
        } = &self.saving;
        let nothing = unsaved.is_empty() && taken.is_empty() && adding.is_empty() && filed.is_empty();
        (!nothing || *files_changed).then(|| std::mem::take(&mut self.saving))
    }

    /// The state as it was at [`Mail::unsaved`] is durable.
    pub(crate) fn saved(&mut self, at: Time, saving: Saving) {
        for added in saving.adding {
            let _ = added.send(Ok(())); // as in `add`
        }
        for (message, expires, accepted) in saving.filed {
            self.rt.emit(Event::MessageAccepted { message, expires });
            let _ = accepted.send(Ok(message)); // as in `add`
        }
        // Only now: before, a crash would have it offered and taken again.
        for (message, expires) in saving.taken {
            if at.time < expires {
                self.rt.emit(Event::MessageDelivered { message, expires });
            }
        }
        for unsaved in saving.unsaved {
            match unsaved {
                Unsaved::Sender(index, generation) => {
                    let _ = self.sender(at, index, sender::Input::Persisted(generation)); // as in `written`
                }
                Unsaved::Receiver(index, generation) => {
                    let _ = self.receiver(at, index, receiver::Input::Persisted(generation)); // as in `took`
                }
            }
        }
    }

    /// There is a new way to ask: poll at once instead of at the next turn of the schedule.
    pub(crate) fn poll_soon(&mut self, now: Instant) {
        self.next_poll = self.next_poll.min(now);
    }

    /// The boxes to ask for if a poll is due. When polls cannot be sent, one that is due waits until they can.
    pub(crate) fn poll(&mut self, at: Time, can: bool) -> Option<Vec<(Index, BoxAddress)>> {
        let follow_up = self.follow_up.is_some_and(|due| due <= at.now);
        if follow_up {
            self.follow_up = None;
        }
        let regular = self.poll_due().is_some_and(|due| due <= at.now);
        if !can || !(follow_up || regular) {
            return None;
        }
        if regular {
            self.next_poll = at.now + self.schedule.next_gap();
        }
        Some(self.wanted(at.time))
    }

    /// First what is known to exist, then as much of each contact as there is room for, each poll beginning with another.
    fn wanted(&mut self, time: WallTime) -> Vec<(Index, BoxAddress)> {
        let mut asked: Vec<(Index, BoxAddress)> = Vec::with_capacity(self.boxes);
        while asked.len() < self.boxes
            && let Some(known) = self.eager.pop_front()
        {
            asked.push(known);
        }
        let count = self.contacts.len();
        let each = ((self.boxes - asked.len()) / count.max(1)).max(1);
        for step in 0..count {
            let index = (self.turn + step) % count;
            let room = self.boxes - asked.len();
            // The last one gets what the division left over.
            let share = if step + 1 == count { room } else { each.min(room) };
            if share == 0 {
                break;
            }
            for address in self.contacts[index].receiver.wanted(time, share) {
                if asked.iter().all(|(_, known)| *known != address) {
                    self.rt.sensitive(Sensitive::BoxAddress, address.as_bytes());
                    asked.push((index, address));
                }
            }
        }
        let served = if count > self.boxes { self.boxes } else { 1 };
        self.turn = (self.turn + served) % count.max(1);
        asked
    }

    /// The answer to a poll for `asked`.
    pub(crate) fn polled(&mut self, at: Time, asked: &[(Index, BoxAddress)], answer: ReadAnswer) {
        let Some(record) = answer.record else { return };
        let Some((index, brought)) = asked
            .iter()
            .copied()
            .find(|(_, address)| address == record.address())
        else {
            self.rt.emit(Event::Refused {
                what: "box",
                why: Refusal::Misdirected,
            });
            return;
        };
        self.eager.retain(|(_, address)| *address != brought);
        let waiting = self
            .contacts
            .iter()
            .flat_map(|contact| contact.receiver.waiting());
        let files = self.files.as_ref().map_or(0, |files| files.announced_bytes());
        if waiting.map(|message| message.body.len()).sum::<usize>() + files >= WAITING_MAX {
            return self.rt.emit(Event::Refused {
                what: "box",
                why: Refusal::OverQuota,
            });
        }
        let taken = self.receiver(at, index, receiver::Input::Found(record));
        if let Err(receiver::Error::Full(_)) = taken {
            // Polls go on in their rhythm, whether the user takes messages or not, and find the box again.
            return;
        }
        let found = asked
            .iter()
            .take(32)
            .enumerate()
            .filter(|(bit, _)| answer.found >> bit & 1 == 1);
        for (_, known) in found {
            if known.1 != brought && self.eager.len() < EAGER_MAX && !self.eager.contains(known) {
                self.eager.push_back(*known);
                self.eager_high.note(&self.rt, self.eager.len());
            }
        }
        // Where one box is, there often is another: a message of several, or the next message.
        let soon = at.now + self.follow_ups.next_gap();
        self.follow_up = Some(self.follow_up.map_or(soon, |due| due.min(soon)));
    }
}

/// The two clocks as they are now: the monotonic one and the time believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    pub(crate) now: Instant,
    pub(crate) time: WallTime,
}

#[cfg(test)]
pub(crate) mod tests;
