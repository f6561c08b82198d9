//! One directory authority, without I/O: takes uploads, votes, signs, and gives out the document. Spec: SPEC §6.5.
//!
//! Times are fractions of the interval before T, the interval's beginning:
//!
//! | At | What |
//! |---|---|
//! | T - 4/8 | vote: the vote is fixed, its [`Statement`] goes to all, the others fetch it |
//! | until T - 3/8 | a statement from its own author is taken; whoever holds the vote in full passes the statement on |
//! | until T - 2/8 | a statement passed on by another authority is taken |
//! | T - 2/8 | the document is computed from the votes of all that did not equivocate, signed, the signature sent |
//! | from T | a document with k signatures is published |
//!
//! A statement that one honest authority takes directly therefore reaches all others in time, while messages take less
//! than an eighth of the interval: all honest ones compute from the same votes. An authority of which two statements
//! for one interval are known is left out, for good: the pair is proof and is passed on with every vote.
//! With k votes or more there is a document; n - k may be silent. A fork needs 2k - n authorities that sign twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::kdf::Context;
use crate::crypto::keys::{IdentitySecret, NodeId};
use crate::directory::descriptor::{NodeDescriptor, OPERATOR_NONE};
use crate::directory::document::{
    Document, DocumentHash, NODES_MAX, SharedDocument, SignedDocument, Timing, Verified,
};
use crate::directory::proofs::Proofs;
use crate::directory::rpc::{DocumentSignature, Notice, Uploaded};
use crate::directory::sign::{AuthorityId, KeyChange, KeySet, Signatures};
use crate::directory::vote::{Listing, Statement, VOTE_LEN_MAX, Vote, VoteError, compute};
use crate::mailbox::OperatorId;
use crate::units::WallTime;

const KNOWN: Context = Context::new("phantom-net 2026 known descriptor v1");

/// Outputs that may wait to be drained; more are dropped, since every one of them is sent again in the next interval.
const OUTPUTS_MAX: usize = 1_024;
/// How far ahead of this authority's clock a descriptor may be published.
const AHEAD_MAX: Duration = Duration::from_secs(600);

/// Which nodes are listed, and who is attested to run them.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Every node; the operator it claims is attested. For demonstrations and simulations: one person can then pretend
    /// to be many operators.
    Open,
    /// These nodes, with these operators.
    Listed(BTreeMap<NodeId, OperatorId>),
}

impl Admission {
    fn operator(&self, descriptor: &NodeDescriptor) -> Option<OperatorId> {
        match self {
            Self::Open => Some(descriptor.operator),
            Self::Listed(nodes) => nodes.get(&descriptor.node_id()).copied(),
        }
    }
}

/// What the driver is to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a notice to another authority.
    Notify(AuthorityId, Notice),
    /// Fetch the vote that is stated from an authority that may hold it; hand what comes of it, also nothing, to
    /// [`Authority::vote_fetched`]. Until then no other errand asks the same authority for it.
    FetchVote {
        /// Who may hold it.
        from: AuthorityId,
        /// Its author, hash and length.
        statement: Statement,
    },
    /// Fetch this document, or the newest, from an authority; hand it to [`Authority::document_fetched`].
    FetchDocument {
        /// Who may hold it.
        from: AuthorityId,
        /// Which; `None` for the newest.
        hash: Option<DocumentHash>,
    },
    /// Persist and give out this document.
    Publish(SharedDocument),
    /// This authority was proven to equivocate: persist [`Authority::proofs`], and tell the operator.
    Exposed(AuthorityId),
}

/// A vote that is held in full.
#[derive(Debug)]
struct Held {
    statement: Statement,
    bytes: Bytes,
    vote: Vote,
}

/// A vote that is not held yet.
#[derive(Debug)]
struct Wanted {
    statement: Statement,
    /// Who is being asked for it. Empty when all have failed: the statement is kept, since a second one would be proof.
    asked: BTreeSet<AuthorityId>,
}

/// One interval's work.
#[derive(Debug)]
struct Round {
    valid_after: WallTime,
    /// Votes that are being fetched, by author.
    wanted: BTreeMap<AuthorityId, Wanted>,
    votes: BTreeMap<AuthorityId, Held>,
    /// The document this authority computed.
    own: Option<(DocumentHash, Vec<u8>)>,
    /// At most two hashes per authority.
    signatures: BTreeMap<DocumentHash, Signatures>,
    /// The time to compute has come, whether or not there were votes enough.
    tried: bool,
    published: bool,
    asked: bool,
}

impl Round {
    fn new(valid_after: WallTime) -> Self {
        Self {
            valid_after,
            wanted: BTreeMap::new(),
            votes: BTreeMap::new(),
            own: None,
            signatures: BTreeMap::new(),
            tried: false,
            published: false,
            asked: false,
        }
    }
}

/// One authority. Call a method with what happened, then drain [`Authority::poll_output`], then sleep until
/// [`Authority::wake_at`] and call [`Authority::wake`].
#[derive(Debug)]
pub struct Authority {
    secret: IdentitySecret,
    me: AuthorityId,
    keys: KeySet,
    timing: Timing,
    admission: Admission,
    changes: Vec<KeyChange>,
    descriptors: BTreeMap<NodeId, (Bytes, NodeDescriptor)>,
    known: BTreeMap<[u8; 32], NodeDescriptor>,
    newest: Option<SharedDocument>,
    round: Round,
    proofs: Proofs,
    outputs: VecDeque<Output>,
}

impl Authority {
    /// An authority that holds `secret`, one of `keys`. `newest` is the document it published last, if any; `changes`
    /// are the latest changes of keys, to be given out with each document.
    pub fn new(
        secret: IdentitySecret,
        keys: KeySet,
        timing: Timing,
        admission: Admission,
        changes: Vec<KeyChange>,
        newest: Option<SharedDocument>,
        now: WallTime,
    ) -> Self {
        let me = AuthorityId::of(&secret.public());
        Self {
            secret,
            me,
            keys,
            timing,
            admission,
            changes,
            descriptors: BTreeMap::new(),
            known: BTreeMap::new(),
            newest,
            round: Round::new(next_interval(now, timing.interval)),
            proofs: Proofs::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The same, with what is proven already.
    pub fn knowing(mut self, proofs: Proofs) -> Self {
        self.proofs = proofs;
        self
    }

    /// Who is proven to equivocate: to be persisted, and handed to [`Authority::knowing`] at the next start.
    pub const fn proofs(&self) -> &Proofs {
        &self.proofs
    }

    /// Its name.
    pub const fn id(&self) -> AuthorityId {
        self.me
    }

    /// The newest document.
    pub const fn newest(&self) -> Option<&SharedDocument> {
        self.newest.as_ref()
    }

    /// A vote of this round, for those who fetch it by hash.
    pub fn vote(&self, hash: [u8; 32]) -> Option<Bytes> {
        let held = self
            .round
            .votes
            .values()
            .find(|held| held.statement.hash == hash)?;
        Some(held.bytes.clone())
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Authority::wake`] is to be called next.
    pub fn wake_at(&self) -> WallTime {
        let round = &self.round;
        if !round.votes.contains_key(&self.me) {
            self.before(4)
        } else if !round.tried {
            self.before(2)
        } else if !round.published && !round.asked {
            round.valid_after
        } else {
            // Long enough for a fetched document to arrive before the next vote.
            round.valid_after + self.timing.interval / 8
        }
    }

    /// Does what the time asks for.
    pub fn wake(&mut self, now: WallTime) {
        if now >= self.round.valid_after + self.timing.interval / 8 {
            self.round = Round::new(next_interval(now, self.timing.interval));
            self.known.clear();
        }
        if now >= self.before(4) && !self.round.votes.contains_key(&self.me) {
            self.cast();
        }
        if now >= self.before(2) && !self.round.tried {
            self.round.tried = true;
            self.compute_and_sign();
        }
        if now >= self.round.valid_after {
            self.publish();
            if !self.round.published && !self.round.asked {
                self.round.asked = true;
                self.others()
                    .into_iter()
                    .for_each(|from| self.put(Output::FetchDocument { from, hash: None }));
            }
        }
    }

    /// Takes a node's descriptor.
    pub fn upload(&mut self, now: WallTime, bytes: &[u8]) -> Uploaded {
        let Ok(descriptor) = NodeDescriptor::verify(bytes) else {
            return Uploaded::Bad;
        };
        let id = descriptor.node_id();
        if descriptor.expires <= now || descriptor.published > now + AHEAD_MAX {
            return Uploaded::Stale;
        }
        if let Some((held, before)) = self.descriptors.get(&id) {
            if held == bytes {
                return Uploaded::Known;
            }
            if descriptor.published <= before.published {
                return Uploaded::Stale;
            }
            // A node has a reason to publish when its hop key changes: about once an interval.
            if descriptor.published < before.published + self.timing.interval / 8 {
                return Uploaded::TooOften;
            }
        } else {
            self.descriptors.retain(|_, (_, held)| held.expires > now);
            if self.descriptors.len() >= NODES_MAX {
                return Uploaded::NotAdmitted;
            }
        }
        if self.admission.operator(&descriptor).is_none() {
            return Uploaded::NotAdmitted;
        }
        self.descriptors
            .insert(id, (Bytes::copy_from_slice(bytes), descriptor));
        Uploaded::Accepted
    }

    /// Takes a notice that came from the authority `from` (as the link shows it).
    pub fn notified(&mut self, now: WallTime, from: AuthorityId, notice: &Notice) {
        for statement in &notice.statements {
            let by = self.keys.key(statement.authority);
            if statement.authority != self.me && by.is_some_and(|key| statement.is_by(key)) {
                self.stated(now, from, *statement);
            }
        }
        // A pair for another interval is a proof from earlier; within this one, `stated` has found it already.
        for (i, one) in notice.statements.iter().enumerate() {
            if let Some(two) = notice.statements[i + 1..].iter().find(|two| one.contradicts(two)) {
                self.expose([*one, *two]);
            }
        }
        if let Some(signature) = &notice.signature {
            self.signed(now, signature);
        }
    }

    /// Takes the vote that [`Output::FetchVote`] asked `from` for; `None` if it could not be fetched. What one authority
    /// fails to give is still awaited from the others that were asked.
    pub fn vote_fetched(
        &mut self,
        now: WallTime,
        from: AuthorityId,
        statement: Statement,
        bytes: Option<Bytes>,
    ) {
        let wanted = self.round.wanted.get_mut(&statement.authority);
        let Some(wanted) = wanted.filter(|wanted| wanted.statement == statement) else {
            return;
        };
        wanted.asked.remove(&from);
        let Some(bytes) = bytes.filter(|bytes| Vote::hash(bytes) == statement.hash) else {
            return;
        };
        if now >= self.before(2) || self.proofs.against(statement.authority) {
            return;
        }
        let held: BTreeMap<&[u8], &NodeDescriptor> = self
            .descriptors
            .values()
            .map(|(bytes, descriptor)| (&bytes[..], descriptor))
            .collect();
        let known = |bytes: &[u8]| {
            held.get(bytes)
                .copied()
                .or_else(|| self.known.get(&KNOWN.derive(bytes)))
                .cloned()
        };
        let Ok(vote) = Vote::decode(&bytes, known) else {
            return;
        };
        if (vote.authority, vote.valid_after) != (statement.authority, statement.valid_after) {
            return;
        }
        for listing in &vote.listings {
            if self.known.len() < 4 * NODES_MAX {
                self.known
                    .insert(KNOWN.derive(&listing.bytes), listing.descriptor.clone());
            }
        }
        self.round.wanted.remove(&statement.authority);
        self.round.votes.insert(
            statement.authority,
            Held {
                statement,
                bytes,
                vote,
            },
        );
        self.tell_all(&Notice {
            statements: vec![statement],
            signature: None,
        });
    }

    /// Takes the signed document that [`Output::FetchDocument`] asked for.
    pub fn document_fetched(&mut self, now: WallTime, bytes: &[u8]) {
        if let Ok(verified) = Verified::new(&self.keys, bytes) {
            self.adopt(now, verified);
        }
    }

    /// `eighths` of the interval before its beginning.
    fn before(&self, eighths: u32) -> WallTime {
        self.round.valid_after - self.timing.interval * eighths / 8
    }

    fn put(&mut self, output: Output) {
        if self.outputs.len() < OUTPUTS_MAX {
            self.outputs.push_back(output);
        }
    }

    fn others(&self) -> Vec<AuthorityId> {
        self.keys
            .authorities()
            .map(|(id, _)| id)
            .filter(|id| *id != self.me)
            .collect()
    }

    fn tell_all(&mut self, notice: &Notice) {
        self.others()
            .into_iter()
            .for_each(|to| self.put(Output::Notify(to, notice.clone())));
    }

    fn cast(&mut self) {
        let valid_after = self.round.valid_after;
        self.descriptors
            .retain(|_, (_, descriptor)| descriptor.expires > valid_after);
        let listings = self.descriptors.values().map(|(bytes, descriptor)| Listing {
            bytes: bytes.to_vec(),
            operator: self.admission.operator(descriptor).unwrap_or(OPERATOR_NONE),
            descriptor: descriptor.clone(),
        });
        let previous = self
            .newest
            .as_ref()
            .map_or(DocumentHash::NONE, |newest| newest.hash);
        let vote = Vote {
            authority: self.me,
            valid_after,
            previous,
            listings: listings.collect(),
        };
        let bytes = Bytes::from(vote.encode());
        let statement = Statement::new(&self.secret, valid_after, &bytes);
        self.round.votes.insert(
            self.me,
            Held {
                statement,
                bytes,
                vote,
            },
        );
        let mut statements: Vec<_> = self.proofs.statements().collect();
        statements.truncate(crate::directory::rpc::STATEMENTS_MAX - 1);
        statements.push(statement);
        self.tell_all(&Notice {
            statements,
            signature: None,
        });
    }

    /// A good statement of another authority arrived from `from`.
    fn stated(&mut self, now: WallTime, from: AuthorityId, statement: Statement) {
        let author = statement.authority;
        if statement.valid_after != self.round.valid_after || self.proofs.against(author) {
            return;
        }
        let until = if from == author {
            self.before(3)
        } else {
            self.before(2)
        };
        if now >= until {
            return;
        }
        let held = self.round.votes.get(&author).map(|held| held.statement);
        let wanted = self.round.wanted.get(&author).map(|wanted| wanted.statement);
        if let Some(other) = held.or(wanted).filter(|other| other.contradicts(&statement)) {
            self.expose([other, statement]);
            return;
        }
        if held.is_some() || statement.len as usize > VOTE_LEN_MAX {
            return;
        }
        let wanted = self.round.wanted.entry(author).or_insert_with(|| Wanted {
            statement,
            asked: BTreeSet::new(),
        });
        // Others may be asked already, but this sender may have it where they have not.
        if wanted.asked.insert(from) {
            let statement = wanted.statement;
            self.put(Output::FetchVote { from, statement });
        }
    }

    /// Two statements are known that contradict each other, if they are good.
    fn expose(&mut self, pair: [Statement; 2]) {
        let author = pair[0].authority;
        if author == self.me || !self.proofs.add(&self.keys, pair) {
            return;
        }
        self.round.votes.remove(&author);
        self.round.wanted.remove(&author);
        self.put(Output::Exposed(author));
        self.tell_all(&Notice {
            statements: pair.to_vec(),
            signature: None,
        });
    }

    fn compute_and_sign(&mut self) {
        let votes: Vec<&Vote> = self.round.votes.values().map(|held| &held.vote).collect();
        if votes.len() < self.keys.k() {
            return;
        }
        let previous = self.newest.as_ref().map(|newest| (newest.hash, &newest.document));
        let document = match compute(&votes, self.round.valid_after, self.timing, previous) {
            Ok(document) => document.encode(),
            Err(VoteError::OtherPredecessor(hash)) => {
                self.others().into_iter().for_each(|from| {
                    self.put(Output::FetchDocument {
                        from,
                        hash: Some(hash),
                    })
                });
                return;
            }
            Err(VoteError::NoVotes) => return,
        };
        let hash = Document::hash(&document);
        self.round.own = Some((hash, document));
        let signature = DocumentSignature {
            valid_after: self.round.valid_after,
            hash,
            authority: self.me,
            signature: self.secret.sign(&hash.message()),
        };
        self.round
            .signatures
            .entry(hash)
            .or_default()
            .insert(self.me, signature.signature);
        self.tell_all(&Notice {
            statements: Vec::new(),
            signature: Some(signature),
        });
    }

    /// A signature of a document arrived.
    fn signed(&mut self, now: WallTime, signature: &DocumentSignature) {
        let good = self.keys.key(signature.authority).is_some_and(|key| {
            key.verify(&signature.hash.message(), &signature.signature)
                .is_ok()
        });
        let by = |signatures: &Signatures| signatures.iter().any(|(id, _)| id == signature.authority);
        // What is known already asks for nothing anew, however often it is told.
        let known = self.round.signatures.get(&signature.hash).is_some_and(by);
        let signed = self
            .round
            .signatures
            .values()
            .filter(|signatures| by(signatures))
            .count();
        if !good || signature.valid_after != self.round.valid_after || known || signed >= 2 {
            return;
        }
        let signatures = self.round.signatures.entry(signature.hash).or_default();
        signatures.insert(signature.authority, signature.signature);
        let enough = signatures.len() >= self.keys.k();
        let own = self
            .round
            .own
            .as_ref()
            .is_some_and(|(hash, _)| *hash == signature.hash);
        if enough && !own && !self.round.published {
            self.put(Output::FetchDocument {
                from: signature.authority,
                hash: Some(signature.hash),
            });
        }
        if now >= self.round.valid_after {
            self.publish();
        }
    }

    /// Publishes this authority's own document if it has k signatures.
    fn publish(&mut self) {
        let Some((hash, document)) = &self.round.own else {
            return;
        };
        let signatures = self.round.signatures.get(hash).cloned().unwrap_or_default();
        if self.round.published || signatures.len() < self.keys.k() {
            return;
        }
        let signed = SignedDocument {
            document: document.clone(),
            signatures,
            changes: self.changes.clone(),
        };
        if let Ok(verified) = Verified::new(&self.keys, &signed.encode()) {
            self.adopt(self.round.valid_after, verified);
        }
    }

    /// Takes a document that k authorities signed, whoever computed it, once its interval has begun.
    fn adopt(&mut self, now: WallTime, verified: Verified) {
        let at = verified.document.valid_after;
        let newer = self
            .newest
            .as_ref()
            .is_none_or(|newest| newest.document.valid_after < at);
        if !newer || at > now {
            return;
        }
        self.round.published |= at == self.round.valid_after;
        let shared = SharedDocument::from(verified);
        self.newest = Some(shared.clone());
        self.put(Output::Publish(shared));
    }
}

/// The first beginning of an interval whose vote has not begun at `now`.
fn next_interval(now: WallTime, interval: Duration) -> WallTime {
    let secs = interval.as_secs().max(1);
    let earliest = now + interval / 2;
    WallTime::from_unix_secs((earliest.as_unix_secs() / secs + 1).saturating_mul(secs))
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
