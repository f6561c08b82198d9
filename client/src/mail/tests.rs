//! The mail of contacts without a network.

use phantom_core::message::contact::{Invitation, accept};
use phantom_core::packet::Class;
use phantom_core::route::Ask;
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Store};
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use std::collections::BTreeMap;

use super::*;

fn empty(rt: &TokioRuntime) -> Mail<TokioRuntime> {
    let (notices, _) = queue::queue(1);
    Mail::new(rt, sender::Config::default(), poll::Config::default(), notices)
}

/// Two contacts; messages to one of them wait.
fn full(rt: &TokioRuntime) -> Mail<TokioRuntime> {
    let mut mail = empty(rt);
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let names = ["Alice", "Bob"].map(|name| ContactId::new(name).expect("a name"));
    for name in &names {
        let (contact, _) = accept(&Invitation::new(&mut rng).to_text(), &mut rng).expect("an invitation");
        mail.add(name.clone(), &contact, oneshot::channel().0);
    }
    let at = Time {
        now: rt.now(),
        time: WallTime::from_unix_secs(1_800_000_000),
    };
    for text in ["hello", "and again"] {
        mail.send(
            at,
            &names[0],
            Bytes::from(text),
            Duration::from_secs(3_600),
            oneshot::channel().0,
        );
    }
    let content = Bytes::from(vec![7; 100_000]);
    let hour = Duration::from_secs(3_600);
    mail.send_file(at, &names[0], ("plan.pdf", &content), hour, oneshot::channel().0);
    mail
}

fn encode(mail: &Mail<TokioRuntime>) -> Vec<u8> {
    let mut out = Vec::new();
    mail.encode(&mut out);
    out
}

fn decode(rt: &TokioRuntime, bytes: &[u8]) -> Result<Mail<TokioRuntime>, DecodeError> {
    let mut mail = empty(rt);
    let mut r = Reader::new(bytes);
    mail.decode(&mut r)?;
    r.finish()?;
    Ok(mail)
}

#[tokio::test]
async fn contacts_and_what_waits_for_them_read_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let mail = full(&rt);
    let again = decode(&rt, &encode(&mail)).expect("its own bytes");
    assert_eq!(again.contacts(), mail.contacts());
    assert_eq!(again.contacts()[0].1, 3, "two messages and an attachment wait");
    assert_eq!(encode(&again), encode(&mail));
}

#[tokio::test]
async fn damaged_or_arbitrary_contacts_never_panic_and_no_length_is_believed() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let whole = encode(&full(&rt));
    // As many contacts as the count can say, and a state as long as its length can.
    assert!(decode(&rt, &[0xff, 0xff]).is_err());
    // Whether there are attachments is said, in one way.
    assert!(decode(&rt, &[0, 0, 0]).is_ok());
    assert!(decode(&rt, &[0, 0]).is_err());
    assert!(decode(&rt, &[0, 0, 2]).is_err());
    assert!((0..whole.len()).all(|cut| decode(&rt, &whole[..cut]).is_err()));
    assert!(decode(&rt, &[4, 0, 0, 1, b'a', 0xff, 0xff, 0xff, 0xff]).is_err());
    let damage = (any::<prop::sample::Index>(), any::<u8>());
    proptest!(|(bytes: Vec<u8>, (at, value) in damage)| {
        if let Ok(mail) = decode(&rt, &bytes) {
            prop_assert_eq!(encode(&mail), bytes);
        }
        let mut damaged = whole.clone();
        damaged[at.index(whole.len())] = value;
        if let Ok(mail) = decode(&rt, &damaged) {
            prop_assert!(decode(&rt, &encode(&mail)).is_ok());
        }
    });
}

/// Alice writes to Bob; what lies between them is carried by hand.
pub(crate) struct Pair {
    pub(crate) alice: Mail<TokioRuntime>,
    pub(crate) bob: Mail<TokioRuntime>,
    pub(crate) alice_hears: queue::Receiver<Box<Notice>>,
    pub(crate) bob_hears: queue::Receiver<Box<Notice>>,
    pub(crate) at: Time,
}

/// What Bob calls the first, and Alice the second.
pub(crate) fn name(n: usize) -> ContactId {
    ContactId::new(["alice", "bob"][n]).expect("a name")
}

impl Pair {
    pub(crate) fn new(rt: &TokioRuntime) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let card = Invitation::new(&mut rng);
        let (with_alice, answer) = accept(&card.to_text(), &mut rng).expect("an invitation");
        let (with_bob, _) = card.finish(&answer).expect("an answer");
        let mail = |notices| Mail::new(rt, sender::Config::default(), poll::Config::default(), notices);
        let (to_alice, alice_hears) = queue::queue(256);
        let (to_bob, bob_hears) = queue::queue(256);
        let (mut alice, mut bob) = (mail(to_alice), mail(to_bob));
        alice.add(name(1), &with_bob, oneshot::channel().0);
        bob.add(name(0), &with_alice, oneshot::channel().0);
        let at = Time {
            now: rt.now(),
            time: rt.wall(),
        };
        Self {
            alice,
            bob,
            alice_hears,
            bob_hears,
            at,
        }
    }

    /// Alice writes.
    pub(crate) fn send(
        &mut self,
        text: &'static str,
        ttl: Duration,
    ) -> oneshot::Receiver<Result<Tag, SendError>> {
        let (accepted, answer) = oneshot::channel();
        self.alice.send(self.at, &name(1), text.into(), ttl, accepted);
        answer
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.at.now += time;
        self.at.time = self.at.time + time;
    }

    /// Everything that either has to say reaches the other, and both store what they must.
    pub(crate) fn carry(&mut self) {
        let at = self.at;
        loop {
            let mut busy = false;
            for turn in [0, 1] {
                let (mut from, mut to) = (&mut self.alice, &mut self.bob);
                if turn == 1 {
                    (from, to) = (to, from);
                }
                from.tick(at);
                from.offer(at);
                while let Some(saving) = from.unsaved() {
                    from.saved(at, saving);
                    from.offer(at);
                }
                while let Some(write) = from.writes.pop_front() {
                    let address = *write.record.address();
                    let wanted = to.contacts[0].receiver.wanted(at.time, 40);
                    if wanted.contains(&address) {
                        let answer = ReadAnswer {
                            found: 1,
                            unknown: 0,
                            record: Some(write.record),
                        };
                        to.polled(at, &[(0, address)], answer);
                    }
                    from.written(at, 0, write.slot, Some(WriteOutcome::Stored { replicas: 3 }));
                    busy = true;
                }
            }
            if !busy {
                return;
            }
        }
    }

    /// The messages that Bob was offered since the last call.
    pub(crate) fn offered(&mut self) -> Vec<(Tag, Bytes)> {
        let heard = std::iter::from_fn(|| self.bob_hears.try_recv());
        heard
            .filter_map(|notice| match *notice {
                Notice::Message { message, text, .. } => Some((message, text)),
                _ => None,
            })
            .collect()
    }
}

/// What both sides have to ask about attachments, carried between them by a mailbox that keeps everything.
async fn carry_pieces(pair: &mut Pair, nodes: &mut BTreeMap<BoxAddress, Record>) {
    let at = pair.at;
    loop {
        let mut busy = false;
        for mail in [&mut pair.alice, &mut pair.bob] {
            mail.load_files().await;
            while let Some(PieceAsk { file, piece, ask }) = mail.next_piece(at.now) {
                busy = true;
                match ask {
                    Ask::Write(record) => {
                        nodes.insert(*record.address(), *record);
                        let stored = WriteOutcome::Stored { replicas: 2 };
                        mail.piece_written(at.now, (file, piece), Some(stored));
                    }
                    Ask::Read(class, addresses) => {
                        assert_eq!(class, Class::Bulk);
                        let record = nodes.get(&addresses[0]).cloned().map(Box::new);
                        let answer = ReadAnswer {
                            found: u32::from(record.is_some()),
                            unknown: 0,
                            record,
                        };
                        mail.piece_read(at.now, (file, piece), Some(answer));
                    }
                }
            }
        }
        pair.carry();
        if !busy {
            return;
        }
    }
}

/// The attachments that Bob was offered since the last call.
fn files_offered(pair: &mut Pair) -> Vec<(String, Bytes, Tag)> {
    let heard = std::iter::from_fn(|| pair.bob_hears.try_recv());
    heard
        .filter_map(|notice| match *notice {
            Notice::File {
                name,
                content,
                message,
                ..
            } => Some((name, content, message)),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn an_attachment_waits_on_disk_arrives_whole_and_leaves_no_file_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let mut pair = Pair::new(&rt);
    let content: Bytes = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let (accepted, mut answer) = oneshot::channel();
    let hour = Duration::from_secs(3_600);
    pair.alice
        .send_file(pair.at, &name(1), ("plan.pdf", &content), hour, accepted);
    pair.alice.store_files().await.expect("stored");
    let files = rt.list("attachment-").await.expect("listed");
    assert_eq!(files.len(), 1);
    let sealed = rt.read(&files[0]).await.expect("read").expect("there");
    assert!(
        !sealed.windows(64).any(|bytes| bytes == &content[1_000..1_064]),
        "sealed"
    );
    let saving = pair.alice.unsaved().expect("a new attachment");
    pair.alice.saved(pair.at, saving);
    let tag = answer.try_recv().expect("answered").expect("accepted");

    // Alice's program starts anew before a piece was sent.
    let state = encode(&pair.alice);
    pair.alice.files = None;
    pair.alice.contacts.clear();
    pair.alice
        .decode(&mut Reader::new(&state))
        .expect("its own bytes");

    let mut nodes = BTreeMap::new();
    carry_pieces(&mut pair, &mut nodes).await;
    assert_eq!(nodes.len(), 10, "300,000 bytes in pieces of 32,112");
    let offered = files_offered(&mut pair);
    assert_eq!(offered, [("plan.pdf".to_owned(), content, tag)]);
    pair.alice.tidy_files().await;
    assert_eq!(rt.list("attachment-").await.expect("listed"), [""; 0]);
    pair.bob.took(pair.at, &name(0), tag);
    pair.carry();
    assert_eq!(pair.bob.contacts[0].receiver.waiting().count(), 0);
}

#[tokio::test]
async fn an_attachment_whose_pieces_nobody_holds_is_never_announced_and_ends_in_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let mut pair = Pair::new(&rt);
    let content = Bytes::from(vec![1; 100_000]);
    let hour = Duration::from_secs(3_600);
    pair.alice
        .send_file(pair.at, &name(1), ("a", &content), hour, oneshot::channel().0);
    pair.alice.load_files().await;
    while let Some(PieceAsk { file, piece, .. }) = pair.alice.next_piece(pair.at.now) {
        pair.alice.piece_written(pair.at.now, (file, piece), None);
    }
    pair.wait(Duration::from_secs(3_601));
    pair.carry();
    let heard: Vec<_> = std::iter::from_fn(|| pair.alice_hears.try_recv()).collect();
    let expired = |notice: &Notice| matches!(notice, Notice::Expired { .. });
    assert_eq!(
        heard.iter().filter(|notice| expired(notice.as_ref())).count(),
        1,
        "{heard:?}"
    );
    assert_eq!(pair.alice.contacts()[0].1, 0);
    assert!(files_offered(&mut pair).is_empty());
}

#[tokio::test]
async fn a_contact_who_announces_nonsense_costs_no_place_in_the_inbox() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let mut pair = Pair::new(&rt);
    let input = sender::Input::Submit {
        kind: Kind::File,
        id: MessageId::from_bytes([9; 16]),
        body: Bytes::from_static(b"no manifest"),
        ttl: Duration::from_secs(3_600),
    };
    pair.alice.sender(pair.at, 0, input).expect("short enough");
    pair.carry();
    assert_eq!(pair.bob.contacts[0].receiver.waiting().count(), 0);
    assert!(files_offered(&mut pair).is_empty());
}

#[tokio::test]
async fn a_message_that_nobody_took_in_time_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let mut pair = Pair::new(&rt);
    drop(pair.send("hello", Duration::from_secs(60)));
    pair.carry();
    assert_eq!(pair.offered().len(), 1);
    let state = encode(&pair.bob);
    pair.wait(Duration::from_secs(61));
    pair.carry();
    assert_eq!(pair.bob.contacts[0].receiver.waiting().count(), 0);
    // Nor is it offered by a client that starts from the old state.
    pair.bob.contacts.clear();
    pair.bob.decode(&mut Reader::new(&state)).expect("its own bytes");
    pair.carry();
    assert_eq!(pair.offered(), []);
}

#[tokio::test]
async fn whoever_sends_a_message_that_ends_before_it_is_stored_hears_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let mut pair = Pair::new(&rt);
    let mut answer = pair.send("hello", Duration::from_millis(1));
    let saving = pair.alice.unsaved().expect("a new message");
    pair.wait(Duration::from_millis(2));
    pair.alice.saved(pair.at, saving);
    assert_eq!(answer.try_recv(), Ok(Err(SendError::Expired)));
}

#[tokio::test]
async fn a_user_who_takes_nothing_stops_the_writer_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let mut pair = Pair::new(&rt);
    let texts: Vec<String> = (0..60).map(|n| format!("message {n}")).collect();
    for text in &texts {
        drop(pair.send(String::leak(text.clone()), Duration::from_secs(86_400)));
    }
    for _ in 0..20 {
        pair.carry();
        pair.wait(Duration::from_secs(900));
    }
    let mut got = pair.offered();
    assert_eq!(got.len(), 32, "the bound");
    assert_eq!(pair.bob.contacts[0].receiver.waiting().count(), 32);
    pair.bob.follow_up = None;
    pair.wait(Duration::from_secs(7_200));
    pair.carry();
    assert_eq!(pair.bob.follow_up, None, "polls keep to their rhythm");
    while got.len() < texts.len() {
        for (tag, _) in &got {
            pair.bob.took(pair.at, &name(0), *tag);
        }
        pair.carry();
        pair.wait(Duration::from_secs(900));
        got.extend(pair.offered());
    }
    let mut got: Vec<_> = got.into_iter().map(|(_, text)| text).collect();
    let mut wanted: Vec<_> = texts.into_iter().map(Bytes::from).collect();
    got.sort();
    wanted.sort();
    assert!(got == wanted, "each once");
}

#[tokio::test]
async fn the_writer_hears_that_the_readers_device_has_a_message_that_nobody_took() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let mut pair = Pair::new(&rt);
    drop(pair.send("hello", Duration::from_secs(3_600)));
    for _ in 0..3 {
        pair.carry();
        pair.wait(Duration::from_secs(2));
    }
    let heard: Vec<_> = std::iter::from_fn(|| pair.alice_hears.try_recv()).collect();
    assert!(
        heard
            .iter()
            .any(|notice| matches!(**notice, Notice::Acknowledged { .. })),
        "{heard:?}"
    );
    assert_eq!(pair.bob.contacts[0].receiver.waiting().count(), 1, "it holds it");
}
