//! A little network of authorities: messages take a fixed time; some are silent, cut off, or lie.

use super::*;
use crate::directory::descriptor::tests::node;
use crate::directory::rpc::Notice;
use crate::directory::sign::tests::{publics, secrets};

const INTERVAL: u64 = 3_600;
const START: u64 = 1_800_000_000 - 1_800_000_000 % INTERVAL;

enum Mail {
    Notice(usize, usize, Notice),
    Vote {
        to: usize,
        from: usize,
        statement: Statement,
    },
    Document {
        to: usize,
        from: usize,
        hash: Option<DocumentHash>,
    },
}

struct Net {
    authorities: Vec<Authority>,
    secrets: Vec<IdentitySecret>,
    keys: KeySet,
    /// Authorities that neither send nor answer.
    silent: Vec<usize>,
    /// Pairs that cannot talk to each other.
    cut: Vec<(usize, usize)>,
    mail: Vec<(WallTime, Mail)>,
    published: Vec<Vec<SharedDocument>>,
    exposed: Vec<Vec<AuthorityId>>,
    delay: Duration,
    now: WallTime,
}

impl Net {
    fn new(n: u64, k: usize) -> Self {
        let secrets = secrets(n);
        let keys = KeySet::new(0, k, &publics(&secrets)).expect("valid");
        let now = WallTime::from_unix_secs(START);
        let authorities: Vec<_> = secrets
            .iter()
            .map(|secret| {
                Authority::new(
                    secret.clone(),
                    keys.clone(),
                    Timing::default(),
                    Admission::Open,
                    Vec::new(),
                    None,
                    now,
                )
            })
            .collect();
        let count = authorities.len();
        Self {
            authorities,
            secrets,
            keys,
            silent: Vec::new(),
            cut: Vec::new(),
            mail: Vec::new(),
            published: vec![Vec::new(); count],
            exposed: vec![Vec::new(); count],
            delay: Duration::from_secs(30),
            now,
        }
    }

    fn upload(&mut self, to: &[usize], seed: u64) {
        let (secret, mut descriptor) = node(seed, self.now.as_unix_secs());
        descriptor.expires = self.now + Duration::from_secs(20 * 3_600);
        let bytes = descriptor.sign(&secret);
        for to in to {
            assert_eq!(self.authorities[*to].upload(self.now, &bytes), Uploaded::Accepted);
        }
    }

    fn index(&self, id: AuthorityId) -> usize {
        self.authorities
            .iter()
            .position(|authority| authority.id() == id)
            .expect("one of them")
    }

    fn talks(&self, a: usize, b: usize) -> bool {
        let cut = self.cut.contains(&(a, b)) || self.cut.contains(&(b, a));
        !cut && !self.silent.contains(&a) && !self.silent.contains(&b)
    }

    fn post(&mut self, mail: Mail) {
        self.mail.push((self.now + self.delay, mail));
    }

    fn drain(&mut self, me: usize) {
        while let Some(output) = self.authorities[me].poll_output() {
            match output {
                Output::Notify(to, notice) => {
                    let to = self.index(to);
                    self.post(Mail::Notice(me, to, notice));
                }
                Output::FetchVote { from, statement } => {
                    let from = self.index(from);
                    self.post(Mail::Vote {
                        to: me,
                        from,
                        statement,
                    });
                }
                Output::FetchDocument { from, hash } => {
                    let from = self.index(from);
                    self.post(Mail::Document { to: me, from, hash });
                }
                Output::Publish(document) => self.published[me].push(document),
                Output::Exposed(id) => self.exposed[me].push(id),
            }
        }
    }

    fn deliver(&mut self, mail: Mail) {
        let now = self.now;
        let me = match mail {
            Mail::Notice(from, to, notice) if self.talks(from, to) => {
                let id = self.authorities[from].id();
                self.authorities[to].notified(now, id, &notice);
                to
            }
            Mail::Vote { to, from, statement } => {
                let bytes = if self.talks(from, to) {
                    self.authorities[from].vote(statement.hash)
                } else {
                    None
                };
                let id = self.authorities[from].id();
                self.authorities[to].vote_fetched(now, id, statement, bytes);
                to
            }
            Mail::Document { to, from, hash } if self.talks(from, to) => {
                let newest = self.authorities[from]
                    .newest()
                    .filter(|doc| hash.is_none_or(|hash| doc.hash == hash));
                let Some(bytes) = newest.map(|doc| doc.signed.clone()) else {
                    return;
                };
                self.authorities[to].document_fetched(now, &bytes);
                to
            }
            _ => return,
        };
        self.drain(me);
    }

    fn run_to(&mut self, secs: u64) {
        let end = WallTime::from_unix_secs(START + secs);
        while self.now < end {
            for me in 0..self.authorities.len() {
                if self.authorities[me].wake_at() <= self.now && !self.silent.contains(&me) {
                    self.authorities[me].wake(self.now);
                    assert!(self.authorities[me].wake_at() > self.now, "a driver would spin");
                    self.drain(me);
                }
            }
            let now = self.now;
            let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.mail)
                .into_iter()
                .partition(|(at, _)| *at <= now);
            self.mail = later;
            due.into_iter().for_each(|(_, mail)| self.deliver(mail));
            self.now = self.now + Duration::from_secs(5);
        }
    }

    /// The documents of each authority, by interval and hash.
    fn history(&self, me: usize) -> Vec<(u64, DocumentHash)> {
        let from_start = |doc: &SharedDocument| (doc.document.valid_after.as_unix_secs() - START) / INTERVAL;
        self.published[me]
            .iter()
            .map(|doc| (from_start(doc), doc.hash))
            .collect()
    }

    /// An authority's lie: another vote for the coming interval, told to some.
    fn lie(&mut self, liar: usize, to: &[usize]) -> Statement {
        let valid_after = WallTime::from_unix_secs(START + INTERVAL);
        let vote = Vote {
            authority: self.authorities[liar].id(),
            valid_after,
            previous: DocumentHash([9; 32]),
            listings: Vec::new(),
        };
        let bytes = Bytes::from(vote.encode());
        let statement = Statement::new(&self.secrets[liar], valid_after, &bytes);
        // The liar serves the false vote too: it is put into the hands of those who are told.
        for to in to {
            let id = self.authorities[liar].id();
            let notice = Notice {
                statements: vec![statement],
                signature: None,
            };
            self.authorities[*to].notified(self.now, id, &notice);
            self.authorities[*to].vote_fetched(self.now, id, statement, Some(bytes.clone()));
            self.drain(*to);
        }
        statement
    }
}

#[test]
fn all_authorities_publish_the_same_chain_of_documents() {
    let mut net = Net::new(5, 3);
    (0..4).for_each(|seed| net.upload(&[0, 1, 2, 3, 4], seed));
    net.upload(&[0, 1], 7);
    net.run_to(3 * INTERVAL + 300);
    let first = net.history(0);
    assert_eq!(first.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 3]);
    (1..5).for_each(|me| assert_eq!(net.history(me), first));
    let documents = &net.published[0];
    assert_eq!(
        documents[0].document.nodes.len(),
        4,
        "two of five do not list a node"
    );
    assert_eq!(documents[1].document.previous, documents[0].hash);
    assert_eq!(documents[1].document.previous_storage.len(), 4);
}

#[test]
fn n_minus_k_silent_authorities_stop_nothing_and_one_more_stops_it() {
    let mut net = Net::new(5, 3);
    net.upload(&[0, 1, 2, 3, 4], 1);
    net.silent = vec![1, 3];
    net.run_to(2 * INTERVAL + 300);
    assert_eq!(net.history(0).len(), 2);
    net.silent.push(4);
    net.run_to(5 * INTERVAL);
    assert_eq!(net.history(0).len(), 2, "two of five sign nothing that counts");
    net.silent.clear();
    net.run_to(8 * INTERVAL + 300);
    let end = net.history(0).last().copied().expect("published");
    assert_eq!(end.0, 8);
    (1..5).for_each(|me| assert_eq!(net.history(me).last().copied(), Some(end)));
}

#[test]
fn an_equivocating_authority_is_left_out_and_exposed_to_all() {
    for told in [vec![0], vec![0, 1], vec![2]] {
        let mut net = Net::new(4, 3);
        net.upload(&[0, 1, 2, 3], 1);
        net.run_to(INTERVAL / 2 + 60);
        net.lie(3, &told);
        net.run_to(3 * INTERVAL + 300);
        let first = net.history(0);
        assert_eq!(
            first.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            [1, 2, 3],
            "told {told:?}"
        );
        let liar = net.authorities[3].id();
        for me in 0..3 {
            assert_eq!(net.history(me), first, "told {told:?}");
            assert_eq!(net.exposed[me], [liar], "told {told:?}");
        }
    }
}

/// Two learn of a lie and are restarted; only those who keep what they know can tell the others.
#[test]
fn an_authority_that_restarts_still_leaves_out_whoever_was_exposed() {
    let mut net = Net::new(4, 3);
    net.run_to(INTERVAL / 2 + 60);
    net.lie(3, &[0, 1]);
    let liar = net.authorities[3].id();
    let fresh = Net::new(4, 3);
    let kept = net.authorities[0].proofs().encode();
    net.authorities = fresh.authorities;
    net.mail.clear();
    let proofs = Proofs::decode(&net.keys, &kept).expect("own file");
    assert!(proofs.against(liar));
    let first = net.authorities.remove(0).knowing(proofs);
    net.authorities.insert(0, first);
    net.run_to(2 * INTERVAL + 300);
    (0..3).for_each(|me| assert!(net.authorities[me].proofs().against(liar)));
    assert_eq!(net.exposed[2], [liar]);
    assert_eq!(net.history(0), net.history(2));
    assert!(!net.history(0).is_empty());
}

#[test]
fn a_lie_told_too_late_to_be_passed_on_is_not_listened_to() {
    let mut net = Net::new(4, 3);
    net.upload(&[0, 1, 2, 3], 1);
    net.run_to(INTERVAL * 5 / 8 + 10);
    net.lie(3, &[0]);
    net.run_to(INTERVAL + 300);
    assert_eq!(net.exposed[0], []);
    assert_eq!(net.history(0).len(), 1);
    (1..4).for_each(|me| assert_eq!(net.history(me), net.history(0)));
}

#[test]
fn a_partition_leaves_at_most_one_side_publishing_and_heals() {
    let mut net = Net::new(5, 3);
    net.upload(&[0, 1, 2, 3, 4], 1);
    net.cut = [0, 1]
        .into_iter()
        .flat_map(|a| [2, 3, 4].map(|b| (a, b)))
        .collect();
    net.run_to(2 * INTERVAL + 300);
    assert_eq!(net.history(0), []);
    assert_eq!(net.history(2).len(), 2);
    net.cut.clear();
    net.run_to(4 * INTERVAL + 300);
    (0..5).for_each(|me| assert_eq!(net.history(me).last(), net.history(2).last()));
    assert_eq!(net.history(2).len(), 4);
    assert_eq!(net.exposed.concat(), []);
}

#[test]
fn no_two_documents_for_one_interval_are_signed_by_k_whatever_is_cut() {
    for cut in [
        vec![(0, 1)],
        vec![(0, 1), (2, 3)],
        vec![(0, 1), (0, 2)],
        vec![(0, 2), (1, 2), (3, 4)],
    ] {
        let mut net = Net::new(5, 3);
        (0..5).for_each(|seed| {
            net.upload(
                &[seed as usize, (seed as usize + 1) % 5, (seed as usize + 2) % 5],
                seed,
            )
        });
        net.cut = cut.clone();
        net.run_to(3 * INTERVAL);
        let mut all: BTreeMap<u64, DocumentHash> = BTreeMap::new();
        for (at, hash) in (0..5).flat_map(|me| net.history(me)) {
            assert_eq!(*all.entry(at).or_insert(hash), hash, "cut {cut:?}");
        }
    }
}

#[test]
fn uploads_are_bounded_in_rate_and_kept_only_if_newer() {
    let mut net = Net::new(1, 1);
    let (secret, first) = node(1, START);
    let at = |secs| WallTime::from_unix_secs(START + secs);
    let mut upload = |now: u64, published: u64| {
        let mut descriptor = first.clone();
        descriptor.published = at(published);
        net.authorities[0].upload(at(now), &descriptor.sign(&secret))
    };
    assert_eq!(upload(0, 0), Uploaded::Accepted);
    assert_eq!(upload(1, 0), Uploaded::Known);
    assert_eq!(upload(2, 2), Uploaded::TooOften);
    assert_eq!(upload(900, 900), Uploaded::Accepted);
    assert_eq!(upload(901, 5), Uploaded::Stale);
    assert_eq!(upload(902, 5_000), Uploaded::Stale, "from the future");
    assert_eq!(net.authorities[0].upload(at(0), b"junk"), Uploaded::Bad);
    net.authorities[0].admission = Admission::Listed(BTreeMap::new());
    assert_eq!(
        net.authorities[0].upload(at(2_000), &node(2, START).1.sign(&node(2, START).0)),
        Uploaded::NotAdmitted
    );
}

#[test]
fn a_published_document_satisfies_those_who_pin_the_keys() {
    let mut net = Net::new(3, 2);
    net.upload(&[0, 1, 2], 1);
    net.run_to(INTERVAL + 300);
    let signed = net.published[1][0].signed.clone();
    assert!(Verified::new(&net.keys, &signed).is_ok());
    let strangers = KeySet::new(0, 2, &publics(&secrets(6)[3..])).expect("2 of 3");
    assert!(Verified::new(&strangers, &signed).is_err());
}

/// The first of four authorities, soon after it cast its vote, as the others tell it of theirs.
struct Told {
    net: Net,
    /// The vote of the last authority, and what it states.
    vote: Bytes,
    statement: Statement,
}

impl Told {
    fn new() -> Self {
        let mut net = Net::new(4, 3);
        net.silent = vec![1, 2, 3];
        net.run_to(INTERVAL / 2 + 60);
        let valid_after = WallTime::from_unix_secs(START + INTERVAL);
        let vote = Vote {
            authority: AuthorityId::of(&net.secrets[3].public()),
            valid_after,
            previous: DocumentHash([9; 32]),
            listings: Vec::new(),
        };
        let vote = Bytes::from(vote.encode());
        let statement = Statement::new(&net.secrets[3], valid_after, &vote);
        Self { net, vote, statement }
    }

    fn id(&self, of: usize) -> AuthorityId {
        self.net.authorities[of].id()
    }

    /// `from` tells the first one; whom it asks for votes then, and whether it asks for documents.
    fn tell(&mut self, from: usize, notice: &Notice) -> (Vec<AuthorityId>, usize) {
        let id = self.id(from);
        let first = &mut self.net.authorities[0];
        first.notified(self.net.now, id, notice);
        let outputs: Vec<_> = std::iter::from_fn(|| first.poll_output()).collect();
        let votes = outputs.iter().filter_map(|output| match output {
            Output::FetchVote { from, .. } => Some(*from),
            _ => None,
        });
        let documents = |output: &&Output| matches!(output, Output::FetchDocument { .. });
        (votes.collect(), outputs.iter().filter(documents).count())
    }

    fn state(&mut self, from: usize, statement: Statement) -> Vec<AuthorityId> {
        let notice = Notice {
            statements: vec![statement],
            signature: None,
        };
        self.tell(from, &notice).0
    }

    fn fetched(&mut self, from: usize, statement: Statement, vote: Option<Bytes>) {
        let (id, now) = (self.id(from), self.net.now);
        self.net.authorities[0].vote_fetched(now, id, statement, vote);
    }

    fn holds_the_vote(&self) -> bool {
        self.net.authorities[0].vote(self.statement.hash).is_some()
    }
}

/// The author is slow to say that it has nothing; meanwhile two others pass the statement on.
#[test]
fn a_vote_that_one_authority_fails_to_give_is_still_taken_from_another() {
    for failed in [None, Some(Bytes::from_static(b"other bytes"))] {
        let mut told = Told::new();
        let (statement, vote) = (told.statement, told.vote.clone());
        assert_eq!(told.state(3, statement), [told.id(3)]);
        assert_eq!(told.state(1, statement), [told.id(1)]);
        told.fetched(3, statement, failed);
        assert!(!told.holds_the_vote());
        told.fetched(1, statement, Some(vote));
        assert!(told.holds_the_vote());
    }
}

/// Its author serves the vote to nobody, and tells of it without end.
#[test]
fn a_statement_that_is_repeated_is_one_errand_at_a_time() {
    let mut told = Told::new();
    let statement = told.statement;
    for _ in 0..3 {
        assert_eq!(told.state(3, statement), [told.id(3)]);
        for _ in 0..1_000 {
            assert_eq!(told.state(3, statement), []);
        }
        told.fetched(3, statement, None);
    }
}

#[test]
fn a_signature_that_is_repeated_asks_for_its_document_once() {
    let mut told = Told::new();
    let hash = DocumentHash([7; 32]);
    let signed = |told: &Told, by: usize| Notice {
        statements: Vec::new(),
        signature: Some(DocumentSignature {
            valid_after: WallTime::from_unix_secs(START + INTERVAL),
            hash,
            authority: told.id(by),
            signature: told.net.secrets[by].sign(&hash.message()),
        }),
    };
    let documents: Vec<usize> = [1, 2, 3, 3, 3]
        .map(|by| {
            let notice = signed(&told, by);
            told.tell(by, &notice).1
        })
        .to_vec();
    assert_eq!(documents, [0, 0, 1, 0, 0], "three signatures are enough");
}

/// A second authority signs a statement of its own about the vote of the last one.
#[test]
fn nobody_keeps_a_vote_out_by_stating_it_as_its_own() {
    for thief in [1, 2] {
        let mut told = Told::new();
        let (statement, vote) = (told.statement, told.vote.clone());
        let stolen = Statement::new(&told.net.secrets[thief], statement.valid_after, &vote);
        assert_eq!(told.state(thief, stolen), [told.id(thief)]);
        assert_eq!(told.state(3, statement), [told.id(3)]);
        told.fetched(thief, stolen, Some(vote.clone()));
        told.fetched(3, statement, Some(vote));
        assert!(told.holds_the_vote(), "stolen by {thief}");
        assert_eq!(told.net.authorities[0].round.votes.len(), 2);
    }
}
