//! The document: one view of all service nodes for three intervals. Spec: SPEC §6.3.
//!
//! A parsed document of 2,000 nodes is shared between the peers of a process ([`SharedDocument`]); it is a pure
//! function of its bytes.

use std::net::SocketAddr;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::kdf::Context;
use crate::crypto::keys::{LinkPublic, NodeId};
use crate::directory::descriptor::{
    HopKeys, NodeDescriptor, OPERATOR_NONE, Roles, VersionRange, put_addresses, read_addresses, read_time,
};
use crate::directory::sign::{CHANGES_MAX, KeyChange, KeySet, SignError, Signatures, follow};
use crate::mailbox::{Holder, OperatorId, StorageSet};
use crate::packet::HopKeyId;
use crate::runtime::Share;
use crate::units::WallTime;
use crate::wire::{DecodeError, Reader, Writer};

const HASH: Context = Context::new("phantom-net 2026 directory document v1");
const SIGNED: Context = Context::new("phantom-net 2026 directory signature v1");
const SHARED: Context = Context::new("phantom-net 2026 shared directory document v1");
const FORMAT: u8 = 1;

/// Nodes that a document may list.
pub const NODES_MAX: usize = 4_096;
/// The longest encoding of a document with its signatures and key changes.
pub const DOCUMENT_LEN_MAX: usize = 1 << 20;
/// Intervals for which a document is valid.
pub const INTERVALS_VALID: u32 = 3;

/// The hash of a document's bytes: what is signed, and what names the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DocumentHash(pub [u8; 32]);

impl DocumentHash {
    /// "There was no document before."
    pub const NONE: Self = Self([0; 32]);

    /// The message that authorities sign.
    pub fn message(&self) -> [u8; 32] {
        SIGNED.derive(&self.0)
    }
}

/// How the directory runs. The same for all authorities; carried in the document for everyone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From one document to the next; whole seconds.
    pub interval: Duration,
    /// How long a hop key is current; whole seconds.
    pub hop_period: Duration,
}

impl Default for Timing {
    /// One hour each.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(3_600),
            hop_period: Duration::from_secs(3_600),
        }
    }
}

impl Timing {
    fn write(&self, out: &mut impl Writer) {
        out.put_u32(whole_secs(self.interval));
        out.put_u32(whole_secs(self.hop_period));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut period = |field| match r.u32()? {
            0 => Err(DecodeError::BadValue { field, got: 0 }),
            secs => Ok(Duration::from_secs(u64::from(secs))),
        };
        Ok(Self {
            interval: period("interval")?,
            hop_period: period("hop period")?,
        })
    }
}

/// Whole seconds of a period, at least one.
fn whole_secs(period: Duration) -> u32 {
    u32::try_from(period.as_secs()).unwrap_or(u32::MAX).max(1)
}

/// One node as the document lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its name.
    pub id: NodeId,
    /// Its Noise static key.
    pub link: LinkPublic,
    /// Wire versions it speaks.
    pub versions: VersionRange,
    /// What it does.
    pub roles: Roles,
    /// How much it can take: packets per second, as a power of two.
    pub capacity_log2: u8,
    /// Who runs it, as more than half of the voting authorities attest.
    pub operator: OperatorId,
    /// Its hop keys.
    pub hop: HopKeys,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
}

impl NodeEntry {
    /// The entry for a descriptor, with the operator that the authorities attest.
    pub fn new(descriptor: &NodeDescriptor, operator: OperatorId) -> Self {
        Self {
            id: descriptor.node_id(),
            link: descriptor.link,
            versions: descriptor.versions,
            roles: descriptor.roles,
            capacity_log2: descriptor.capacity_log2,
            operator,
            hop: descriptor.hop,
            addresses: descriptor.addresses.clone(),
        }
    }

    /// Whether it is in the storage set: it offers to store, and its operator is attested.
    pub fn stores(&self) -> bool {
        self.roles.has(Roles::STORAGE) && self.operator != OPERATOR_NONE
    }

    fn write(&self, out: &mut impl Writer) {
        out.put(self.id.as_bytes());
        out.put(self.link.as_bytes());
        out.put_u8(self.versions.min);
        out.put_u8(self.versions.max);
        out.put_u8(self.roles.bits());
        out.put_u8(self.capacity_log2);
        out.put(&self.operator.0);
        self.hop.write(out);
        put_addresses(out, &self.addresses);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: NodeId::from_bytes(r.array()?),
            link: LinkPublic::from_bytes(r.array()?),
            versions: VersionRange::read(r)?,
            roles: Roles::read(r)?,
            capacity_log2: r.u8()?,
            operator: OperatorId(r.array()?),
            hop: HopKeys::read(r)?,
            addresses: read_addresses(r)?,
        })
    }
}

/// The document. Equal bytes, equal documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The start of the interval that it is for; whole seconds.
    pub valid_after: WallTime,
    /// The document before it, [`DocumentHash::NONE`] for the first.
    pub previous: DocumentHash,
    /// How the directory runs.
    pub timing: Timing,
    /// All nodes, in ascending order of their names.
    pub nodes: Vec<NodeEntry>,
    /// The storage set of the document before it, ascending: reads try it too while boxes are handed over.
    pub previous_storage: Vec<Holder>,
}

impl Document {
    /// Not to be used from then on.
    pub fn valid_until(&self) -> WallTime {
        self.valid_after + self.timing.interval * INTERVALS_VALID
    }

    /// When it may be the newest there is: k authorities sign it half an interval before it begins at the earliest, and readers
    /// have the next one an interval after it should be there.
    pub fn current(&self) -> Range<WallTime> {
        let interval = self.timing.interval;
        self.valid_after - interval / 2..self.valid_after + interval * 2
    }

    /// The node of that name.
    pub fn node(&self, id: NodeId) -> Option<&NodeEntry> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        self.nodes.get(at)
    }

    /// The nodes that have all of `roles`.
    pub fn with_roles(&self, roles: Roles) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.iter().filter(move |node| node.roles.has(roles))
    }

    /// The storage set, ascending.
    pub fn storage(&self) -> impl Iterator<Item = Holder> {
        let stores = self.nodes.iter().filter(|node| node.stores());
        stores.map(|node| Holder {
            node: node.id,
            operator: node.operator,
        })
    }

    /// The storage set, to place boxes by.
    pub fn storage_set(&self) -> StorageSet {
        StorageSet::new(self.storage())
    }

    /// The storage set of the document before, to look for boxes that are not handed over yet.
    pub fn previous_storage_set(&self) -> StorageSet {
        StorageSet::new(self.previous_storage.iter().copied())
    }

    /// The period of hop keys at `time`.
    pub fn hop_key_id(&self, time: WallTime) -> HopKeyId {
        HopKeyId::at(time, self.timing.hop_period)
    }

    /// The encoding that is hashed and signed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.nodes.len() * 164 + self.previous_storage.len() * 32);
        out.put_u8(FORMAT);
        out.put_u64(self.valid_after.as_unix_secs());
        out.put(&self.previous.0);
        self.timing.write(&mut out);
        out.put_u16(u16::try_from(self.nodes.len()).expect("at most NODES_MAX"));
        self.nodes.iter().for_each(|node| node.write(&mut out));
        out.put_u16(u16::try_from(self.previous_storage.len()).expect("at most NODES_MAX"));
        for member in &self.previous_storage {
            out.put(member.node.as_bytes());
            out.put(&member.operator.0);
        }
        out
    }

    /// Decodes.
    ///
    /// # Errors
    /// [`DecodeError`]: also when a list is not strictly ascending.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let format = r.u8()?;
        if format != FORMAT {
            return Err(DecodeError::BadValue {
                field: "document format",
                got: u64::from(format),
            });
        }
        let valid_after = read_time(&mut r, "valid after")?;
        let previous = DocumentHash(r.array()?);
        let timing = Timing::read(&mut r)?;
        let count = r.count("nodes", NODES_MAX)?;
        let mut nodes: Vec<NodeEntry> = Vec::new();
        for _ in 0..count {
            let node = NodeEntry::read(&mut r)?;
            if nodes.last().is_some_and(|last| last.id >= node.id) {
                return Err(DecodeError::BadValue {
                    field: "order of nodes",
                    got: nodes.len() as u64,
                });
            }
            nodes.push(node);
        }
        let count = r.count("previous storage set", NODES_MAX)?;
        let mut previous_storage: Vec<Holder> = Vec::new();
        for _ in 0..count {
            let member = Holder {
                node: NodeId::from_bytes(r.array()?),
                operator: OperatorId(r.array()?),
            };
            if previous_storage
                .last()
                .is_some_and(|last| last.node >= member.node)
            {
                let got = previous_storage.len() as u64;
                return Err(DecodeError::BadValue {
                    field: "order of the previous storage set",
                    got,
                });
            }
            previous_storage.push(member);
        }
        r.finish()?;
        Ok(Self {
            valid_after,
            previous,
            timing,
            nodes,
            previous_storage,
        })
    }

    /// The hash of an encoding.
    pub fn hash(bytes: &[u8]) -> DocumentHash {
        DocumentHash(HASH.derive(bytes))
    }
}

/// A document with the signatures that make it count, as it travels and is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDocument {
    /// The encoding of the [`Document`].
    pub document: Vec<u8>,
    /// By authorities, over [`DocumentHash::message`].
    pub signatures: Signatures,
    /// The latest changes of keys, oldest first.
    pub changes: Vec<KeyChange>,
}

impl SignedDocument {
    /// The hash of the document.
    pub fn hash(&self) -> DocumentHash {
        Document::hash(&self.document)
    }

    /// Encodes: signatures and key changes first, then the document up to the end.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.document.len() + 2_048);
        self.signatures.write(&mut out);
        out.put_u8(u8::try_from(self.changes.len()).expect("at most CHANGES_MAX"));
        self.changes.iter().for_each(|change| change.write(&mut out));
        out.put(&self.document);
        out
    }

    /// Decodes; the document inside is not looked at yet.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SignError> {
        if bytes.len() > DOCUMENT_LEN_MAX {
            let bound = DOCUMENT_LEN_MAX;
            return Err(DecodeError::TooLong {
                field: "signed document",
                bound,
                got: bytes.len(),
            }
            .into());
        }
        let mut r = Reader::new(bytes);
        let signatures = Signatures::read(&mut r)?;
        let count = usize::from(r.u8()?);
        if count > CHANGES_MAX {
            return Err(DecodeError::TooLong {
                field: "key changes",
                bound: CHANGES_MAX,
                got: count,
            }
            .into());
        }
        let changes = (0..count)
            .map(|_| KeyChange::read(&mut r))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            document: r.rest().to_vec(),
            signatures,
            changes,
        })
    }

    /// Checks the signatures against the pinned keys, following changes of keys; then parses.
    /// Returns the parsed document and the key set that is to be pinned from now on.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn verify(&self, pinned: &KeySet) -> Result<(Document, KeySet), SignError> {
        let keys = follow(pinned, &self.changes)?;
        keys.verify(&self.hash().message(), &self.signatures)?;
        Ok((Document::decode(&self.document)?, keys))
    }
}

/// A document that was found valid under some pinned keys, and the keys to pin from now on.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Its name.
    pub hash: DocumentHash,
    /// The document.
    pub document: Document,
    /// The keys to pin from now on.
    pub keys: KeySet,
    /// The bytes it came from: what is persisted and handed on.
    pub signed: Bytes,
}

impl Verified {
    /// Decodes, checks the signatures against the pinned keys, and parses.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn new(pinned: &KeySet, bytes: &[u8]) -> Result<Self, SignError> {
        let signed = SignedDocument::decode(bytes)?;
        let (document, keys) = signed.verify(pinned)?;
        Ok(Self {
            hash: signed.hash(),
            document,
            keys,
            signed: Bytes::copy_from_slice(bytes),
        })
    }
}

/// A [`Verified`] document, perhaps shared with other peers of this process.
#[derive(Clone, Debug)]
pub struct SharedDocument(Arc<Result<Verified, SignError>>);

impl SharedDocument {
    /// [`Verified::new`], done once per process: 8,000 clients that get the same bytes and pin the same keys hold one.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn new<R: Share>(rt: &R, pinned: &KeySet, bytes: &[u8]) -> Result<Self, SignError> {
        let key = SHARED.derive_fields(&[&pinned.hash(), bytes]);
        let shared = rt.shared(key, || Verified::new(pinned, bytes));
        match &*shared {
            Ok(_) => Ok(Self(shared)),
            Err(error) => Err(*error),
        }
    }
}

impl From<Verified> for SharedDocument {
    fn from(verified: Verified) -> Self {
        Self(Arc::new(Ok(verified)))
    }
}

impl Deref for SharedDocument {
    type Target = Verified;
    fn deref(&self) -> &Verified {
        match &*self.0 {
            Ok(verified) => verified,
            Err(_) => unreachable!("made from a verified document only"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::keys::IdentitySecret;
    use crate::directory::descriptor::tests::node;
    use crate::directory::sign::AuthorityId;
    use crate::directory::sign::tests::{publics, secrets};

    pub(in crate::directory) fn document(nodes: u64, valid_after: u64) -> Document {
        let mut entries: Vec<_> = (0..nodes)
            .map(|seed| node(seed, valid_after))
            .map(|(_, descriptor)| NodeEntry::new(&descriptor, descriptor.operator))
            .collect();
        entries.sort_by_key(|entry| entry.id);
        let mut document = Document {
            valid_after: WallTime::from_unix_secs(valid_after),
            previous: DocumentHash::NONE,
            timing: Timing::default(),
            nodes: entries,
            previous_storage: Vec::new(),
        };
        document.previous_storage = document.storage().collect();
        document
    }

    pub(in crate::directory) fn signed(document: &Document, by: &[IdentitySecret]) -> SignedDocument {
        let document = document.encode();
        let message = Document::hash(&document).message();
        let mut signatures = Signatures::default();
        for secret in by {
            signatures.insert(AuthorityId::of(&secret.public()), secret.sign(&message));
        }
        SignedDocument {
            document,
            signatures,
            changes: Vec::new(),
        }
    }

    #[test]
    fn two_thousand_nodes_with_both_address_families_take_less_than_400_kb() {
        let document = document(2_000, 1_800_000_000);
        let bytes = document.encode();
        println!("{} bytes for 2,000 nodes", bytes.len());
        assert!(bytes.len() < 400_000, "{}", bytes.len());
        assert_eq!(Document::decode(&bytes), Ok(document));
    }

    #[test]
    fn a_node_without_attested_operator_stores_nothing() {
        let mut document = document(3, 1_800_000_000);
        document.nodes[1].operator = OPERATOR_NONE;
        let stores: Vec<_> = document.storage().map(|member| member.node).collect();
        assert_eq!(stores, [document.nodes[0].id, document.nodes[2].id]);
    }

    #[test]
    fn a_document_counts_only_with_k_signatures_of_the_pinned_keys() {
        let secrets = secrets(3);
        let pinned = KeySet::new(0, 2, &publics(&secrets)).expect("2 of 3");
        let document = document(3, 1_800_000_000);
        let good = signed(&document, &secrets[..2]).encode();
        assert_eq!(
            Verified::new(&pinned, &good).map(|v| v.document),
            Ok(document.clone())
        );
        let bad = signed(&document, &secrets[..1]).encode();
        assert_eq!(
            Verified::new(&pinned, &bad).map(|v| v.hash),
            Err(SignError::TooFew { wanted: 2, got: 1 })
        );
    }

    #[test]
    fn a_document_carries_its_reader_over_to_new_keys() {
        let all = secrets(6);
        let (old, new) = all.split_at(3);
        let pinned = KeySet::new(0, 2, &publics(old)).expect("2 of 3");
        let mut change = KeyChange::new(&pinned, 2, &publics(new)).expect("2 of 3");
        old[..2].iter().for_each(|secret| change.sign(secret));
        let mut with = signed(&document(2, 1_800_000_000), &new[..2]);
        assert!(
            Verified::new(&pinned, &with.encode()).is_err(),
            "nothing leads to the new keys"
        );
        with.changes.push(change);
        let verified = Verified::new(&pinned, &with.encode()).expect("the chain leads to the new keys");
        assert_eq!(verified.keys.sequence(), 1);
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(at: proptest::sample::Index, to: u8, cut: proptest::sample::Index) {
            let good = document(3, 1_800_000_000).encode();
            let mut bytes = good.clone();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(document) = Document::decode(&bytes) {
                prop_assert_eq!(document.encode(), bytes);
            }
            prop_assert!(Document::decode(&good[..cut.index(good.len())]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Document::decode(&bytes);
            if let Ok(signed) = SignedDocument::decode(&bytes) {
                prop_assert_eq!(signed.encode(), bytes);
            }
        }
    }
}
