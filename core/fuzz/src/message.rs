//! End to end: contact texts, stored state and the vault; and both machines with a contact who is hostile.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use phantom_core::attachment::{AttachmentSecret, Manifest};
use phantom_core::crypto::aead::NONCE_ZERO;
use phantom_core::mailbox::{BODY_LEN, Record, TtlBucket, Unsigned, WriteOutcome};
use phantom_core::message::chain::{BoxSecret, Chain};
use phantom_core::message::contact::{self, Contact, Invitation};
use phantom_core::message::fragment::{CHUNK_LEN, Content, Piece};
use phantom_core::message::sender::{self, Slot};
use phantom_core::message::vault::{Cost, Unlock, Vault};
use phantom_core::message::{Ack, Kind, MAX_MESSAGE, MessageId, Receiver, Sender, receiver, text};
use phantom_core::packet::Class;
use phantom_core::units::{Instant, WallTime};
use phantom_core::wire::{Reader, Writer};
use rand_chacha::ChaCha12Rng;

use crate::{canonical, overlay, world};

/// A relationship: what both sides derived, and the secrets of the first boxes towards the reader.
pub(crate) struct Pair {
    pub(crate) invitation: Invitation,
    pub(crate) answer: String,
    pub(crate) confirmation: String,
    /// The side that writes.
    writer: Contact,
    /// The side that reads.
    reader: Contact,
    boxes: Vec<BoxSecret>,
}

pub(crate) static PAIR: LazyLock<Pair> = LazyLock::new(|| {
    let invitation = Invitation::new(&mut world::rng(1));
    let (reader, answer) = contact::accept(&invitation.to_text(), &mut world::rng(2)).expect("our own");
    let (writer, confirmation) = invitation.finish(&answer).expect("our own");
    let mut chain = Chain::new(*writer.outgoing.root);
    let boxes = (0..96).map(|_| chain.step().1).collect();
    Pair {
        invitation,
        answer,
        confirmation,
        writer,
        reader,
        boxes,
    }
});

fn new_sender() -> Sender<ChaCha12Rng> {
    Sender::new(&PAIR.writer.outgoing, sender::Config::default(), world::rng(3))
}

/// A sender's state with a message on its way: for seeds.
pub(crate) fn sender_state() -> Vec<u8> {
    let mut sender = new_sender();
    let (id, body) = (MessageId::from_bytes([1; 16]), Bytes::from_static(b"hello"));
    let submit = sender::Input::Submit {
        kind: Kind::Text,
        id,
        body,
        ttl: Duration::from_secs(600),
    };
    sender.handle(Instant::ZERO, world::wall(), submit).expect("room");
    sender.encode().to_vec()
}

/// A reader's state with a gap and a message in parts: for seeds.
pub(crate) fn receiver_state() -> Vec<u8> {
    let mut receiver = Receiver::new(&PAIR.reader.incoming);
    receiver.wanted(world::wall(), 32);
    let piece = Piece {
        kind: Kind::Text,
        id: MessageId::from_bytes([1; 16]),
        expires: world::wall() + Duration::from_secs(600),
        number: 1,
        count: 2,
        chunk: Bytes::from_static(b"end"),
    };
    let content = Content {
        low: 0,
        ack: Ack::default(),
        eliciting: true,
        piece: Some(piece),
    };
    let record = seal(&content, 3);
    receiver
        .handle(Instant::ZERO, world::wall(), receiver::Input::Found(record))
        .expect("wanted");
    receiver.encode().to_vec()
}

fn seal(content: &Content, index: usize) -> Box<Record> {
    let bucket = TtlBucket::ALL[3];
    Box::new(content.seal(
        &PAIR.writer.outgoing.cap,
        &PAIR.boxes[index],
        bucket,
        bucket.bound(world::wall()),
    ))
}

/// Formats.
pub fn message(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    let pair = &*PAIR;
    let typed = String::from_utf8_lossy(bytes);
    let wrapped = text::encode(bytes);
    match kind % 11 {
        0 => {
            let Ok(plain) = text::decode(&typed) else {
                return false;
            };
            assert_eq!(text::decode(&text::encode(&plain)), Ok(plain));
            let _ = (
                contact::accept(&typed, &mut world::rng(4)),
                pair.invitation.finish(&typed),
            );
            true
        }
        // As above, behind a good checksum.
        1 => contact::accept(&wrapped, &mut world::rng(4)).is_ok(),
        2 => pair.invitation.finish(&wrapped).is_ok(),
        3 => pair.reader.check_confirmation(&wrapped).is_ok(),
        4 => bytes.first_chunk().is_some_and(|bytes: &[u8; 128]| {
            canonical(bytes, Invitation::from_bytes(bytes), |invitation| {
                invitation.to_bytes().to_vec()
            })
        }),
        5 => {
            let config = sender::Config::default();
            let Ok(mut sender) = Sender::decode(bytes, config, world::rng(3)) else {
                return false;
            };
            assert_eq!(sender.encode()[..], *bytes);
            for n in 0..4 {
                let later = Duration::from_secs(n * 400);
                let _ = sender.handle(Instant::ZERO + later, world::wall() + later, sender::Input::Tick);
                drain(|| {
                    matches!(
                        sender.poll_output(),
                        sender::Output::Done | sender::Output::WaitUntil(_)
                    )
                });
            }
            let _ = sender.encode();
            true
        }
        6 => {
            let Ok(mut receiver) = Receiver::decode(bytes, |_| false) else {
                return false;
            };
            assert_eq!(receiver.encode()[..], *bytes);
            let _ = receiver.wanted(world::wall(), 4);
            let _ = receiver.handle(Instant::ZERO, world::wall(), receiver::Input::Tick);
            drain(|| {
                matches!(
                    receiver.poll_output(),
                    receiver::Output::Done | receiver::Output::WaitUntil(_)
                )
            });
            let _ = receiver.encode();
            true
        }
        7 => vault_file(bytes),
        8 => vault_changed(bytes, &Unlock::Key(&[3; 32])),
        9 => vault_changed(bytes, &Unlock::Passphrase(b"correct horse")),
        _ => canonical(bytes, Manifest::decode(bytes), |manifest| {
            let mut out = Vec::new();
            manifest.write(&mut out);
            out
        }),
    }
}

/// A manifest, for seeds.
pub(crate) fn manifest() -> Vec<u8> {
    let secret = AttachmentSecret::from_rng(&mut world::rng(7));
    let mut out = Vec::new();
    let manifest = Manifest::of(secret, "plan.pdf", b"content").expect("short");
    manifest.write(&mut out);
    out
}

/// Calls `rested` until it says so.
fn drain(mut rested: impl FnMut() -> bool) {
    assert!((0..2_000).any(|_| rested()), "the machine does not come to rest");
}

/// Cheap enough to be tried thousands of times a second.
const CHEAP: Cost = Cost {
    memory_kib: 64,
    passes: 1,
    lanes: 2,
};

pub(crate) fn vault() -> Vec<u8> {
    let mut vault =
        Vault::create(&Unlock::Key(&[3; 32]), CHEAP, &mut world::rng(5)).expect("a cost in bounds");
    vault.seal(b"state", &mut world::rng(6)).expect("short")
}

fn vault_file(bytes: &[u8]) -> bool {
    Vault::open(bytes, &Unlock::Key(&[3; 32])).is_ok()
}

/// The bytes are laid over a good file. A file that asks for much work is left alone here: a test in core shows the bound.
fn vault_changed(bytes: &[u8], unlock: &Unlock<'_>) -> bool {
    let mut vault = Vault::create(unlock, CHEAP, &mut world::rng(5)).expect("a cost in bounds");
    let mut file = vault.seal(b"state", &mut world::rng(6)).expect("short");
    let changed = overlay(&mut file, bytes);
    if file[9..13] > [0, 0, 1, 0][..] || file[13..17] > [0, 0, 0, 4][..] {
        return false;
    }
    let opened = Vault::open(&file, unlock);
    assert_eq!(opened.is_ok(), !changed);
    !changed
}

/// A reader whose contact seals what it likes, and a writer whose reader and storage hop say what they like.
pub fn message_machines(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    match kind % 2 {
        0 => reader(bytes),
        _ => writer(bytes),
    }
}

fn reader(bytes: &[u8]) -> bool {
    let mut receiver = Receiver::new(&PAIR.reader.incoming);
    let (mut now, mut wall) = (Instant::ZERO, world::wall());
    let mut stored = receiver.encode();
    let mut delivered = Vec::new();
    let mut taken = false;
    let mut r = Reader::new(bytes);
    for _ in 0..24 {
        let Ok(step) = r.u8() else { break };
        let input = match step % 8 {
            0 => {
                let (Ok(index), Ok(len)) = (r.u8(), r.u16()) else {
                    break;
                };
                let Ok(plain) = r.take(usize::from(len).min(r.remaining())) else {
                    break;
                };
                receiver::Input::Found(sealed_plain(plain, index))
            }
            1 | 2 => {
                let Some((content, index)) = content(&mut r, wall) else {
                    break;
                };
                receiver::Input::Found(seal(&content, index))
            }
            3 => {
                let Ok(secs) = r.u16() else { break };
                let by = Duration::from_secs(u64::from(secs) * u64::from(step));
                (now, wall) = (now + by, wall + by);
                receiver::Input::Tick
            }
            4 => match delivered.pop() {
                Some(id) => receiver::Input::Delivered(id),
                None => receiver::Input::Tick,
            },
            5 => {
                let _ = receiver.wanted(wall, usize::from(step / 8));
                receiver::Input::Tick
            }
            6 => {
                // A crash: back to what was stored last.
                receiver = Receiver::decode(&stored, |_| false).expect("its own state");
                assert_eq!(receiver.encode(), stored);
                receiver::Input::Tick
            }
            _ => {
                // Wall clocks step back, too.
                wall = wall - Duration::from_secs(u64::from(step) * 60);
                receiver::Input::Tick
            }
        };
        let _ = receiver.wanted(wall, 32);
        taken |= receiver.handle(now, wall, input).is_ok();
        for turn in 0.. {
            assert!(turn < 500, "the reader does not come to rest");
            match receiver.poll_output() {
                receiver::Output::Persist(generation) => {
                    stored = receiver.encode();
                    let _ = receiver.handle(now, wall, receiver::Input::Persisted(generation));
                }
                receiver::Output::Deliver(message) => {
                    assert!(wall < message.expires && message.body.len() <= MAX_MESSAGE);
                    delivered.push(message.id);
                }
                receiver::Output::WaitUntil(_) | receiver::Output::Done => break,
                _ => {}
            }
        }
    }
    taken
}

/// A box of the contact whose inside is any bytes, zeros appended. A skip costs time, not safety: it is kept short here.
fn sealed_plain(plain: &[u8], index: u8) -> Box<Record> {
    let (secret, bucket) = (
        &PAIR.boxes[usize::from(index) % PAIR.boxes.len()],
        TtlBucket::ALL[3],
    );
    let not_after = bucket.bound(world::wall());
    let mut body = plain[..plain.len().min(BODY_LEN - 16)].to_vec();
    body.resize(BODY_LEN - 16, 0);
    if body[2..7] == [0; 5] {
        body[7] = 0;
    }
    let tag = secret.body_key().seal_in_place(
        NONCE_ZERO,
        &Record::associated_data(Class::Small, bucket, not_after),
        &mut body,
    );
    body.put(&tag);
    let content = Unsigned {
        bucket,
        not_after,
        body: body.into(),
    };
    Box::new(Record::sign(&PAIR.writer.outgoing.cap, &secret.seed(), content))
}

fn content(r: &mut Reader<'_>, wall: WallTime) -> Option<(Content, usize)> {
    let [index, low, next, flags, id, number, count, len] = r.array().ok()?;
    let piece = (flags & 1 == 1).then(|| Piece {
        kind: Kind::Text,
        id: MessageId::from_bytes([id; 16]),
        expires: wall + Duration::from_secs(u64::from(flags) * 16),
        number: number % 32,
        count: count % 32,
        chunk: Bytes::from(vec![id; if flags & 2 == 0 { CHUNK_LEN } else { len.into() }]),
    });
    let ack = Ack {
        next: next.into(),
        bitmap: u32::from(len) << (flags >> 4),
    };
    let content = Content {
        low: low.into(),
        ack,
        eliciting: flags & 4 != 0,
        piece,
    };
    Some((content, usize::from(index) % PAIR.boxes.len()))
}

fn writer(bytes: &[u8]) -> bool {
    let mut sender = new_sender();
    let (mut now, mut wall) = (Instant::ZERO, world::wall());
    let mut stored = sender.encode();
    let mut written: BTreeMap<Slot, Vec<u8>> = BTreeMap::new();
    let mut accepted = false;
    let mut r = Reader::new(bytes);
    for _ in 0..24 {
        let Ok(step) = r.u8() else { break };
        let Ok(with) = r.u8() else { break };
        let slot = written
            .keys()
            .nth(usize::from(with) % written.len().max(1))
            .copied();
        let input = match (step % 8, slot) {
            (0, _) => {
                let body = Bytes::from(vec![with; usize::from(with) * usize::from(step)]);
                let ttl = Duration::from_secs(u64::from(step) * 300);
                sender::Input::Submit {
                    kind: Kind::Text,
                    id: MessageId::from_bytes([with; 16]),
                    body,
                    ttl,
                }
            }
            (1, _) => {
                let (Ok(next), Ok(bitmap)) = (r.u8(), r.u32()) else {
                    break;
                };
                // Now and then a word on boxes that never were.
                let next = if step > 250 {
                    u64::MAX - u64::from(next)
                } else {
                    next.into()
                };
                sender::Input::PeerAck(Ack { next, bitmap })
            }
            (2, Some(slot)) => sender::Input::Failed { slot },
            (3 | 4, Some(slot)) => {
                let outcome = match step / 8 % 6 {
                    0 => WriteOutcome::TooFew { replicas: 1 },
                    1 => WriteOutcome::Conflict,
                    2 => WriteOutcome::Expired,
                    3 => WriteOutcome::Refused,
                    _ => WriteOutcome::Stored { replicas: with },
                };
                sender::Input::Written { slot, outcome }
            }
            (5, _) => {
                let until = wall + Duration::from_secs(u64::from(with) * 16);
                let ack = Ack {
                    next: with.into(),
                    bitmap: step.into(),
                };
                sender::Input::Acknowledge {
                    ack,
                    until,
                    wanted: with & 1 == 1,
                }
            }
            (6, _) => {
                sender =
                    Sender::decode(&stored, sender::Config::default(), world::rng(3)).expect("its own state");
                assert_eq!(sender.encode(), stored);
                sender::Input::Tick
            }
            _ => {
                let by = Duration::from_secs(u64::from(with) * u64::from(step) * 10);
                (now, wall) = (now + by, wall + by);
                sender::Input::Tick
            }
        };
        accepted |= sender.handle(now, wall, input).is_ok();
        for turn in 0.. {
            assert!(turn < 500, "the writer does not come to rest");
            match sender.poll_output() {
                sender::Output::Persist(generation) => {
                    stored = sender.encode();
                    let _ = sender.handle(now, wall, sender::Input::Persisted(generation));
                }
                sender::Output::Write { slot, record } => {
                    // No box is ever filled with two different bodies, whatever crashes and lies there were.
                    let bytes = record.encode();
                    let before = written.entry(slot).or_insert_with(|| bytes.clone());
                    assert_eq!(*before, bytes);
                }
                sender::Output::WaitUntil(_) | sender::Output::Done => break,
                _ => {}
            }
        }
    }
    accepted
}
