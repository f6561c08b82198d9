//! The directory: what nodes, authorities and mirrors send, and the machines that take it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phantom_core::crypto::kdf::Context;
use phantom_core::crypto::keys::NodeId;
use phantom_core::directory::authority::{Admission, Authority, Output};
use phantom_core::directory::client::DirectoryCache;
use phantom_core::directory::descriptor::{BridgeDescriptor, NodeDescriptor, Roles};
use phantom_core::directory::document::{
    Document, DocumentHash, NodeEntry, SignedDocument, Timing, Verified,
};
use phantom_core::directory::rpc::{
    Assembly, DirectoryRequest, DirectoryResponse, DocumentSignature, Notice, Piece,
};
use phantom_core::directory::sign::{AuthorityId, KeyChange, KeySet, Signatures};
use phantom_core::directory::vote::{Listing, Statement, Vote};
use phantom_core::runtime::Share;
use phantom_core::trusted_time::TimeLimits;
use phantom_core::units::{Instant, WallTime};
use phantom_core::wire::Reader;

use crate::{canonical, overlay, world};

/// Shares nothing.
struct Alone;

impl Share for Alone {
    fn shared<T, F>(&self, _: [u8; 32], make: F) -> Arc<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> T,
    {
        Arc::new(make())
    }
}

/// A descriptor with `bytes` laid over it, signed again by its node.
pub(crate) fn descriptor(seed: u8, bytes: &[u8]) -> Vec<u8> {
    const SIGNED: Context = Context::new("phantom-net 2026 node descriptor v1");
    let (secret, descriptor) = world::node(seed);
    let mut out = descriptor.sign(&secret);
    out.truncate(out.len() - 64);
    overlay(&mut out, bytes);
    let signature = secret.sign(&SIGNED.derive(&out));
    out.extend_from_slice(&signature);
    out
}

pub(crate) fn document(valid_after: u64) -> Document {
    let entry = |seed| NodeEntry::new(&world::node(seed).1, world::node(seed).1.operator);
    let mut nodes: Vec<NodeEntry> = (1..4).map(entry).collect();
    nodes.sort_by_key(|node| node.id);
    let mut document = Document {
        valid_after: WallTime::from_unix_secs(valid_after),
        previous: DocumentHash::NONE,
        timing: Timing::default(),
        nodes,
        previous_storage: Vec::new(),
    };
    document.previous_storage = document.storage().collect();
    document
}

/// `document` signed by two of the three authorities.
pub(crate) fn signed(document: Vec<u8>, changes: Vec<KeyChange>) -> SignedDocument {
    let message = Document::hash(&document).message();
    let mut signatures = Signatures::default();
    for secret in &world::authorities().0[..2] {
        signatures.insert(AuthorityId::of(&secret.public()), secret.sign(&message));
    }
    SignedDocument {
        document,
        signatures,
        changes,
    }
}

pub(crate) fn vote(seeds: std::ops::Range<u8>, valid_after: WallTime, bytes: &[u8]) -> Vec<u8> {
    let listing = |seed| {
        let (secret, descriptor) = world::node(seed);
        Listing {
            bytes: descriptor.sign(&secret),
            operator: descriptor.operator,
            descriptor,
        }
    };
    let mut listings: Vec<Listing> = seeds.map(listing).collect();
    listings.sort_by_key(|listing| listing.descriptor.node_id());
    let authority = AuthorityId::of(&world::authorities().0[1].public());
    let mut out = Vote {
        authority,
        valid_after,
        previous: DocumentHash::NONE,
        listings,
    }
    .encode();
    overlay(&mut out, bytes);
    out
}

/// Formats, and the client's cache.
pub fn directory(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    match kind % 13 {
        0 => {
            let signed = descriptor(1, bytes);
            let verified = NodeDescriptor::verify(&signed);
            canonical(&signed, verified, |descriptor| {
                descriptor.sign(&world::identity(1))
            })
        }
        1 => {
            let _ = NodeDescriptor::verify(bytes);
            canonical(bytes, BridgeDescriptor::decode(bytes), |bridge| {
                bridge.encode().to_vec()
            })
        }
        2 => canonical(bytes, Vote::decode(bytes, |_| None), Vote::encode),
        3 => {
            let vote = vote(1..3, world::wall(), bytes);
            canonical(&vote, Vote::decode(&vote, |_| None), Vote::encode)
        }
        4 => {
            let Ok(document) = Document::decode(bytes) else {
                return false;
            };
            assert_eq!(document.encode(), bytes);
            use_document(&document);
            true
        }
        5 => canonical(bytes, SignedDocument::decode(bytes), SignedDocument::encode),
        6 => {
            let mut bytes_of = document(world::T).encode();
            overlay(&mut bytes_of, bytes);
            cached(&signed(bytes_of, Vec::new()).encode())
        }
        7 => canonical(bytes, DirectoryRequest::decode(bytes), DirectoryRequest::encode),
        8 => canonical(bytes, DirectoryResponse::decode(bytes), DirectoryResponse::encode),
        9 => assembly(bytes),
        10 => {
            let mut r = Reader::new(bytes);
            let set = KeySet::read(&mut r);
            let read = &bytes[..bytes.len() - r.remaining()];
            let change = canonical(read, set, |set| {
                let mut out = Vec::new();
                set.write(&mut out);
                out
            });
            let mut r = Reader::new(bytes);
            let changed = KeyChange::read(&mut r);
            if let Ok(changed) = &changed {
                let _ = changed.apply(&world::authorities().1);
            }
            let read = &bytes[..bytes.len() - r.remaining()];
            change
                | canonical(read, changed, |changed| {
                    let mut out = Vec::new();
                    changed.write(&mut out);
                    out
                })
        }
        11 => cached(bytes),
        _ => {
            let (_, keys) = world::authorities();
            let restored = DirectoryCache::restore(&Alone, keys, TimeLimits::default(), bytes);
            let Ok(mut cache) = restored else { return false };
            let _ = (cache.usable(), cache.refresh_at(), cache.persist());
            let _ = cache.observe(Instant::ZERO, world::wall());
            true
        }
    }
}

fn use_document(document: &Document) {
    let _ = (document.valid_until(), document.hop_key_id(world::wall()));
    let _ = document.with_roles(Roles::ENTRY).count();
    let (now, before) = (document.storage_set(), document.previous_storage_set());
    for set in [now, before] {
        let _ = set.place(&phantom_core::mailbox::BoxAddress::from_bytes([7; 32]));
    }
    for node in &document.nodes {
        assert!(document.node(node.id).is_some());
        let _ = node.hop.usable_at(document.hop_key_id(world::wall()));
    }
    let _ = document.node(NodeId::from_bytes([1; 16]));
}

/// Offered to a client that holds a document of the hour before.
fn cached(bytes: &[u8]) -> bool {
    let (_, keys) = world::authorities();
    let _ = Verified::new(&keys, bytes);
    let mut cache = DirectoryCache::new(keys, TimeLimits::default());
    let earlier = signed(document(world::T - 3_600).encode(), Vec::new()).encode();
    assert!(
        cache
            .offer(&Alone, Instant::ZERO, world::wall(), &earlier)
            .is_ok()
    );
    let accepted = cache.offer(&Alone, Instant::ZERO, world::wall(), bytes).is_ok();
    if let Some(usable) = cache.usable() {
        use_document(&usable.document);
    }
    assert!(cache.refresh_at() >= WallTime::UNIX_EPOCH);
    let again = DirectoryCache::restore(
        &Alone,
        world::authorities().1,
        TimeLimits::default(),
        &cache.persist(),
    );
    assert_eq!(again.expect("its own file").persist(), cache.persist());
    accepted
}

/// Pieces: total, offset and length of two bytes each; a whole is never longer than its bound.
fn assembly(bytes: &[u8]) -> bool {
    const BOUND: usize = 1_000;
    let (mut assembly, mut r, mut taken) = (Assembly::new(BOUND), Reader::new(bytes), false);
    while let (Ok(hash), Ok(total), Ok(offset), Ok(len)) = (r.u8(), r.u16(), r.u16(), r.u8()) {
        let offset = if offset & 1 == 0 {
            assembly.offset()
        } else {
            offset.into()
        };
        let piece = Piece {
            hash: [hash & 1; 32],
            total: total.into(),
            offset,
            bytes: vec![1; len.into()].into(),
        };
        if let Ok(done) = assembly.add(&piece) {
            taken = true;
            if let Some(whole) = done {
                assert!(whole.len() <= BOUND && whole.len() == usize::from(total));
                break;
            }
        }
        assert!(assembly.offset() as usize <= BOUND);
    }
    taken
}

/// One authority among two others, one of whom is hostile, with nodes that are.
pub fn authority(data: &[u8]) -> bool {
    let (secrets, keys) = world::authorities();
    let other = AuthorityId::of(&secrets[1].public());
    let mut now = world::wall();
    let [me, hostile, _] = secrets;
    let mut authority = Authority::new(
        me,
        keys,
        Timing::default(),
        Admission::Open,
        Vec::new(),
        None,
        now,
    );
    let mut votes: Vec<Vec<u8>> = Vec::new();
    let mut computed: Vec<(WallTime, DocumentHash)> = Vec::new();
    let mut did = false;
    let mut r = Reader::new(data);
    for _ in 0..16 {
        let (Ok(step), Ok(with), Ok(len)) = (r.u8(), r.u8(), r.u8()) else {
            break;
        };
        let Ok(bytes) = r.take(usize::from(len).min(r.remaining())) else {
            break;
        };
        let interval = (now.as_unix_secs() / 3_600 + 1) * 3_600;
        let valid_after = WallTime::from_unix_secs(interval + u64::from(with % 3) * 3_600);
        match step % 8 {
            0 | 1 => now = now + Duration::from_secs(u64::from(with) * 20),
            2 => did |= authority.upload(now, &descriptor(with % 4, bytes)) as u8 == 0,
            3 => {
                if let Ok(DirectoryRequest::Notify(notice)) = DirectoryRequest::decode(bytes) {
                    authority.notified(now, other, &notice);
                }
            }
            4 | 5 => {
                let vote = vote(0..with % 4, valid_after, bytes);
                let statement = Statement::new(&hostile, valid_after, &vote);
                votes.push(vote);
                let notice = Notice {
                    statements: vec![statement],
                    signature: None,
                };
                authority.notified(now, other, &notice);
                did = true;
            }
            6 => {
                let mut document = document(valid_after.as_unix_secs()).encode();
                overlay(&mut document, bytes);
                authority.document_fetched(now, &signed(document, Vec::new()).encode());
            }
            _ => {
                let known = computed.last().copied();
                let (at, hash) = known.unwrap_or((valid_after, DocumentHash([with; 32])));
                let signature = hostile.sign(&hash.message());
                let signature = DocumentSignature {
                    valid_after: at,
                    hash,
                    authority: other,
                    signature,
                };
                let notice = Notice {
                    statements: Vec::new(),
                    signature: Some(signature),
                };
                authority.notified(now, other, &notice);
            }
        }
        for turn in 0.. {
            assert!(turn < 8, "the authority wants to be woken in the past");
            if authority.wake_at() > now {
                break;
            }
            authority.wake(now);
        }
        for turn in 0.. {
            assert!(turn < 4_096, "the authority does not come to rest");
            match authority.poll_output() {
                None => break,
                Some(Output::FetchVote { from, statement }) => {
                    let vote = votes.iter().find(|vote| Vote::hash(vote) == statement.hash);
                    assert!(vote.is_none_or(|vote| vote.len() == statement.len as usize));
                    let vote = vote.map(|vote| Bytes::from(vote.clone()));
                    authority.vote_fetched(now, from, statement, vote);
                }
                Some(Output::Notify(
                    _,
                    Notice {
                        signature: Some(signature),
                        ..
                    },
                )) => {
                    computed.push((signature.valid_after, signature.hash));
                }
                Some(Output::Publish(document)) => {
                    use_document(&document.document);
                    did = true;
                }
                Some(_) => {}
            }
        }
    }
    did
}
