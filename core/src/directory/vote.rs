//! Votes, and the document that follows from them: a pure function, the same on every authority that holds the same
//! votes. Spec: SPEC §6.5.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::crypto::kdf::Context;
use crate::crypto::keys::{IdentityPublic, IdentitySecret, NodeId};
use crate::directory::descriptor::{
    DESCRIPTOR_LEN_MAX, DescriptorError, NodeDescriptor, OPERATOR_NONE, read_time,
};
use crate::directory::document::{Document, DocumentHash, NODES_MAX, NodeEntry, Timing};
use crate::directory::sign::AuthorityId;
use crate::mailbox::OperatorId;
use crate::units::WallTime;
use crate::wire::{DecodeError, Reader, Writer};

const VOTE: Context = Context::new("phantom-net 2026 directory vote v1");
const STATEMENT: Context = Context::new("phantom-net 2026 directory vote statement v1");
const FORMAT: u8 = 1;

/// The longest encoding of a [`Vote`].
pub const VOTE_LEN_MAX: usize = NODES_MAX * (DESCRIPTOR_LEN_MAX + 10) + 64;

/// Why a document cannot be computed from votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VoteError {
    /// The predecessor that most votes name is not the document given.
    #[error("the votes follow another document than the one held: {0:?}")]
    OtherPredecessor(DocumentHash),
    /// There is no vote.
    #[error("no votes")]
    NoVotes,
}

/// A descriptor as an authority lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The signed bytes.
    pub bytes: Vec<u8>,
    /// What they say.
    pub descriptor: NodeDescriptor,
    /// Who runs the node, as far as the voting authority attests it.
    pub operator: OperatorId,
}

/// What one authority lists for one interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Who votes.
    pub authority: AuthorityId,
    /// The interval voted on: the document's `valid_after`.
    pub valid_after: WallTime,
    /// The newest document that the authority holds.
    pub previous: DocumentHash,
    /// In ascending order of the nodes' names.
    pub listings: Vec<Listing>,
}

impl Vote {
    /// The encoding that a [`Statement`] names by its hash.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(FORMAT);
        out.put(&self.authority.0);
        out.put_u64(self.valid_after.as_unix_secs());
        out.put(&self.previous.0);
        out.put_u16(u16::try_from(self.listings.len()).expect("at most NODES_MAX"));
        for listing in &self.listings {
            out.put_bytes(&listing.bytes);
            out.put(&listing.operator.0);
        }
        out
    }

    /// Decodes and checks the signature of each descriptor, except of those in `known`, by bytes.
    ///
    /// # Errors
    /// [`DescriptorError`].
    pub fn decode(
        bytes: &[u8],
        known: impl Fn(&[u8]) -> Option<NodeDescriptor>,
    ) -> Result<Self, DescriptorError> {
        let mut r = Reader::new(bytes);
        let format = r.u8()?;
        if format != FORMAT {
            return Err(DecodeError::BadValue {
                field: "vote format",
                got: u64::from(format),
            }
            .into());
        }
        let authority = AuthorityId(r.array()?);
        let valid_after = read_time(&mut r, "valid after")?;
        let previous = DocumentHash(r.array()?);
        let count = r.count("listings", NODES_MAX)?;
        let mut listings = Vec::new();
        let mut last: Option<NodeId> = None;
        for _ in 0..count {
            let bytes = r.bytes("descriptor", DESCRIPTOR_LEN_MAX)?;
            let operator = OperatorId(r.array()?);
            let descriptor = known(bytes).map_or_else(|| NodeDescriptor::verify(bytes), Ok)?;
            let id = descriptor.node_id();
            if last.is_some_and(|last| last >= id) {
                let got = listings.len() as u64;
                return Err(DecodeError::BadValue {
                    field: "order of listings",
                    got,
                }
                .into());
            }
            last = Some(id);
            listings.push(Listing {
                bytes: bytes.to_vec(),
                descriptor,
                operator,
            });
        }
        r.finish()?;
        Ok(Self {
            authority,
            valid_after,
            previous,
            listings,
        })
    }

    /// The hash of an encoding.
    pub fn hash(bytes: &[u8]) -> [u8; 32] {
        VOTE.derive(bytes)
    }
}

/// "My vote for this interval has this hash", signed. Two different ones for one interval prove that an authority
/// equivocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Statement {
    /// Who votes.
    pub authority: AuthorityId,
    /// The interval.
    pub valid_after: WallTime,
    /// The hash of the vote.
    pub hash: [u8; 32],
    /// The length of its encoding.
    pub len: u32,
    signature: [u8; 64],
}

impl Statement {
    /// Its encoded length.
    pub const LEN: usize = 8 + 8 + 32 + 4 + 64;

    /// States `vote`, given as its encoding.
    pub fn new(secret: &IdentitySecret, valid_after: WallTime, vote: &[u8]) -> Self {
        let mut out = Self {
            authority: AuthorityId::of(&secret.public()),
            valid_after,
            hash: Vote::hash(vote),
            len: u32::try_from(vote.len()).expect("below VOTE_LEN_MAX"),
            signature: [0; 64],
        };
        out.signature = secret.sign(&out.message());
        out
    }

    /// Whether `key` signed it.
    pub fn is_by(&self, key: &IdentityPublic) -> bool {
        key.verify(&self.message(), &self.signature).is_ok()
    }

    /// Whether both together prove that their author equivocates (their signatures being good). So do two lengths of one
    /// vote: who was told the wrong one could never fetch it.
    pub fn contradicts(&self, other: &Self) -> bool {
        let interval = (self.authority, self.valid_after) == (other.authority, other.valid_after);
        interval && (self.hash, self.len) != (other.hash, other.len)
    }

    fn message(&self) -> [u8; 32] {
        let time = self.valid_after.as_unix_secs().to_be_bytes();
        STATEMENT.derive_fields(&[&self.authority.0, &time, &self.hash, &self.len.to_be_bytes()])
    }

    /// Appends the encoding.
    pub fn write(&self, out: &mut impl Writer) {
        out.put(&self.authority.0);
        out.put_u64(self.valid_after.as_unix_secs());
        out.put(&self.hash);
        out.put_u32(self.len);
        out.put(&self.signature);
    }

    /// Reads an encoding; the signature is checked by [`Statement::is_by`].
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (authority, valid_after) = (AuthorityId(r.array()?), read_time(r, "valid after")?);
        let (hash, len) = (r.array()?, r.u32()?);
        if len as usize > VOTE_LEN_MAX {
            return Err(DecodeError::TooLong {
                field: "vote",
                bound: VOTE_LEN_MAX,
                got: len as usize,
            });
        }
        Ok(Self {
            authority,
            valid_after,
            hash,
            len,
            signature: r.array()?,
        })
    }
}

/// Computes the document for `valid_after` from one vote of each authority that counts.
///
/// A node enters if more than half of the votes list it and its descriptor has not expired at `valid_after`; the latest
/// published descriptor counts, of two published in the same second the one whose bytes are greater. Its operator is
/// what more than half of the votes attest. The predecessor is the hash that most votes name, of equals the smallest.
///
/// # Errors
/// [`VoteError::OtherPredecessor`] when `previous` is not that predecessor: fetch it first.
pub fn compute(
    votes: &[&Vote],
    valid_after: WallTime,
    timing: Timing,
    previous: Option<(DocumentHash, &Document)>,
) -> Result<Document, VoteError> {
    let enough = votes.len() / 2 + 1;
    let named = most(votes.iter().map(|vote| vote.previous))
        .ok_or(VoteError::NoVotes)?
        .0;
    let previous_storage = match previous {
        _ if named == DocumentHash::NONE => Vec::new(),
        Some((hash, document)) if hash == named => document.storage().collect(),
        _ => return Err(VoteError::OtherPredecessor(named)),
    };

    let mut listed: BTreeMap<NodeId, Vec<&Listing>> = BTreeMap::new();
    for listing in votes.iter().flat_map(|vote| &vote.listings) {
        listed
            .entry(listing.descriptor.node_id())
            .or_default()
            .push(listing);
    }
    let nodes = listed
        .values()
        .filter(|listings| listings.len() >= enough)
        .filter_map(|listings| {
            let newest = listings
                .iter()
                .max_by_key(|listing| (listing.descriptor.published, &listing.bytes))?;
            let operator = most(listings.iter().map(|listing| listing.operator))
                .filter(|(_, count)| *count >= enough)
                .map_or(OPERATOR_NONE, |(operator, _)| operator);
            (newest.descriptor.expires > valid_after).then(|| NodeEntry::new(&newest.descriptor, operator))
        });
    Ok(Document {
        valid_after,
        previous: named,
        timing,
        nodes: nodes.take(NODES_MAX).collect(),
        previous_storage,
    })
}

/// The most frequent value and how often it occurs; of equals the smallest value.
fn most<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<(T, usize)> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts
        .into_iter()
        .min_by_key(|(value, count)| (std::cmp::Reverse(*count), *value))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::directory::descriptor::tests::node;
    use crate::directory::sign::tests::secrets;

    const AT: u64 = 1_800_000_000;

    fn listing(seed: u64, published: u64) -> Listing {
        let (secret, descriptor) = node(seed, published);
        Listing {
            bytes: descriptor.sign(&secret),
            operator: descriptor.operator,
            descriptor,
        }
    }

    fn vote(authority: u8, mut listings: Vec<Listing>) -> Vote {
        listings.sort_by_key(|listing| listing.descriptor.node_id());
        Vote {
            authority: AuthorityId([authority; 8]),
            valid_after: WallTime::from_unix_secs(AT),
            previous: DocumentHash::NONE,
            listings,
        }
    }

    fn computed(votes: &[Vote]) -> Document {
        let votes: Vec<_> = votes.iter().collect();
        compute(&votes, WallTime::from_unix_secs(AT), Timing::default(), None).expect("computes")
    }

    fn lists(document: &Document, seed: u64) -> bool {
        document.node(node(seed, AT).1.node_id()).is_some()
    }

    #[test]
    fn a_node_enters_when_more_than_half_list_it() {
        let document = computed(&[
            vote(1, vec![listing(1, AT), listing(2, AT)]),
            vote(2, vec![listing(1, AT), listing(3, AT)]),
            vote(3, vec![listing(4, AT)]),
        ]);
        assert_eq!(
            [1, 2, 3, 4].map(|seed| lists(&document, seed)),
            [true, false, false, false]
        );
        let tie = computed(&[vote(1, vec![listing(1, AT)]), vote(2, vec![])]);
        assert!(!lists(&tie, 1), "half is not enough");
    }

    #[test]
    fn the_newest_descriptor_wins_and_an_expired_one_is_left_out() {
        let (id, newest) = (node(1, AT).1.node_id(), AT - 100);
        let votes = [
            vote(1, vec![listing(1, newest)]),
            vote(2, vec![listing(1, AT - 200)]),
        ];
        let hop = computed(&votes).node(id).expect("listed by both").hop;
        assert_eq!(hop, node(1, newest).1.hop);
        let old = AT - 3 * 3_600;
        assert!(!lists(
            &computed(&[vote(1, vec![listing(1, old)]), vote(2, vec![listing(1, old)])]),
            1
        ));
    }

    #[test]
    fn an_operator_needs_more_than_half_of_the_votes() {
        let mut other = listing(1, AT);
        other.operator = OperatorId([9; 16]);
        let same = || vec![listing(1, AT)];
        let id = node(1, AT).1.node_id();
        let attested = computed(&[vote(1, same()), vote(2, same()), vote(3, vec![other.clone()])]);
        assert_eq!(
            attested.node(id).map(|node| node.operator),
            Some(node(1, AT).1.operator)
        );
        let split = computed(&[vote(1, same()), vote(2, vec![other])]);
        assert_eq!(split.node(id).map(|node| node.operator), Some(OPERATOR_NONE));
    }

    #[test]
    fn the_storage_set_before_is_carried_on_and_must_be_known() {
        let first = computed(&[vote(1, vec![listing(1, AT), listing(2, AT)])]);
        let hash = Document::hash(&first.encode());
        let mut next = vote(1, vec![listing(1, AT)]);
        next.previous = hash;
        let at = WallTime::from_unix_secs(AT) + Duration::from_secs(3_600);
        let timing = Timing::default();
        assert_eq!(
            compute(&[&next], at, timing, None),
            Err(VoteError::OtherPredecessor(hash))
        );
        let second = compute(&[&next], at, timing, Some((hash, &first))).expect("known");
        assert_eq!(second.previous_storage.len(), 2);
        assert_eq!(second.storage().count(), 1);
    }

    #[test]
    fn a_statement_is_its_authors_and_two_different_ones_prove_equivocation() {
        let [a, b] = [0, 1].map(|i| secrets(2)[i].clone());
        let at = WallTime::from_unix_secs(AT);
        let (one, two) = (Statement::new(&a, at, b"one"), Statement::new(&a, at, b"two"));
        assert!(one.is_by(&a.public()) && !one.is_by(&b.public()));
        assert!(one.contradicts(&two) && !one.contradicts(&one));
        assert!(!one.contradicts(&Statement::new(&b, at, b"two")));
        let mut bytes = Vec::new();
        one.write(&mut bytes);
        assert_eq!(
            (bytes.len(), Statement::read(&mut Reader::new(&bytes))),
            (Statement::LEN, Ok(one))
        );
    }

    /// Whoever is told the wrong length can never fetch the vote, while others hold it.
    #[test]
    fn two_lengths_stated_of_one_vote_prove_equivocation() {
        let secret = &secrets(1)[0];
        let one = Statement::new(secret, WallTime::from_unix_secs(AT), b"one");
        let mut other = Statement { len: 2, ..one };
        other.signature = secret.sign(&other.message());
        assert!(other.is_by(&secret.public()) && one.contradicts(&other));
    }

    proptest! {
        #[test]
        fn the_order_of_votes_does_not_matter(order in Just(vec![0usize, 1, 2]).prop_shuffle()) {
            let votes = [
                vote(1, vec![listing(1, AT), listing(2, AT - 5)]),
                vote(2, vec![listing(1, AT - 1), listing(2, AT)]),
                vote(3, vec![listing(2, AT - 9), listing(3, AT)]),
            ];
            let shuffled: Vec<_> = order.iter().map(|i| votes[*i].clone()).collect();
            prop_assert_eq!(computed(&shuffled).encode(), computed(&votes).encode());
        }

        #[test]
        fn votes_read_back_and_mutations_never_panic(at: proptest::sample::Index, to: u8, junk: Vec<u8>) {
            let vote = vote(1, vec![listing(1, AT), listing(2, AT)]);
            let mut bytes = vote.encode();
            prop_assert_eq!(Vote::decode(&bytes, |_| None), Ok(vote));
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(vote) = Vote::decode(&bytes, |_| None) {
                prop_assert_eq!(vote.encode(), bytes);
            }
            prop_assert!(Vote::decode(&junk, |_| None).is_err());
            let _ = Statement::read(&mut Reader::new(&junk));
        }
    }
}
