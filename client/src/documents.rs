//! The directory document: restored, looked for in time, checked, kept. Spec: SPEC §6.6, §6.7.

use std::time::Duration;

use bytes::Bytes;
use phantom_core::directory::client::{Accepted, DirectoryCache};
use phantom_core::directory::document::{DocumentHash, SharedDocument};
use phantom_core::directory::fetch::fetch;
use phantom_core::directory::rpc::DirectoryResponse;
use phantom_core::directory::sign::KeySet;
use phantom_core::event::{Event, Refusal};
use phantom_core::link::rpc::Rpc;
use phantom_core::route::View;
use phantom_core::runtime::Runtime;
use phantom_core::service::Service;
use phantom_core::trusted_time::{ClockFault, TimeLimits};
use phantom_core::units::{Instant, WallTime};
use rand_core::Rng;

use crate::mail::Time;

/// Pause after the first vain attempt to get a newer document, doubled after each further one.
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// What the client holds of the directory.
pub(crate) struct Documents {
    cache: DirectoryCache,
    view: Option<View>,
    /// Vain attempts in a row.
    failures: u32,
    /// Not to be asked for before.
    retry: Instant,
    /// Where in the time for a refresh this client asks, drawn for each document: if all did so at once, entries would have to
    /// give thousands of documents in a second.
    place: u16,
    pub(crate) clock_refused: bool,
    /// Because it leapt ahead.
    leapt: bool,
}

impl Documents {
    /// From what [`Documents::header`] and the file of the signed document say; damaged ones are like none.
    pub(crate) fn restore<R: Runtime>(
        rt: &R,
        published: KeySet,
        limits: TimeLimits,
        header: &[u8],
        signed: &[u8],
    ) -> Self {
        let whole = [header, signed].concat();
        // If the document is damaged or lost, what is known of the time and of changed keys is still there.
        let cache = DirectoryCache::restore(rt, published.clone(), limits, &whole)
            .or_else(|_| DirectoryCache::restore(rt, published.clone(), limits, header))
            .unwrap_or_else(|_| DirectoryCache::new(published, limits));
        let mut this = Self {
            cache,
            view: None,
            failures: 0,
            retry: Instant::ZERO,
            clock_refused: false,
            leapt: false,
            place: 0,
        };
        this.look(rt);
        this
    }

    /// What to store besides the document: the highest time and the keys to pin.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut whole = self.cache.persist();
        let signed = self.cache.newest().map_or(0, |newest| newest.signed.len());
        whole.truncate(whole.len() - signed);
        whole.shrink_to_fit();
        whole
    }

    /// The newest document as it was signed.
    pub(crate) fn newest(&self) -> Option<&SharedDocument> {
        self.cache.newest()
    }

    /// The time to judge by.
    pub(crate) fn time<R: Runtime>(&mut self, rt: &R) -> WallTime {
        let wall = rt.wall();
        let reading = self.cache.observe(rt.now(), wall);
        self.clock_refused = reading.fault.is_some();
        self.leapt = reading.fault == Some(ClockFault::Ahead);
        if reading.news && reading.fault.is_some() {
            rt.emit(Event::ClockRefused {
                claimed: wall,
                believed: reading.time,
            });
        }
        reading.time
    }

    /// The document to choose paths from, if one may be used now.
    pub(crate) fn view<R: Runtime>(&mut self, rt: &R) -> Option<(&View, WallTime)> {
        let time = self.time(rt);
        self.cache.usable()?;
        Some((self.view.as_ref()?, time))
    }

    /// Whether one may be used now.
    pub(crate) fn is_usable(&self) -> bool {
        self.cache.usable().is_some()
    }

    /// When to ask for a newer one. Whoever compares it with a moment gives the same moment here: a later reading of the clock would
    /// put off for ever what is due now.
    pub(crate) fn due(&self, at: Time) -> Instant {
        let part = self.cache.refresh_spread() / u32::from(u16::MAX) * u32::from(self.place);
        let wait = (self.cache.refresh_at() + part).saturating_since(at.time);
        // A leap may be the sleep of the machine, and the document at hand an old one: only a new one tells.
        if self.is_usable() && !self.leapt {
            (at.now + wait).max(self.retry)
        } else {
            self.retry
        }
    }

    /// What to tell the other side is known.
    pub(crate) fn known(&self) -> DocumentHash {
        self.cache
            .newest()
            .map_or(DocumentHash::NONE, |newest| newest.hash)
    }

    /// Takes what came; `true` if it is a newer document, to be stored.
    pub(crate) fn offer<R: Runtime>(&mut self, rt: &R, bytes: Option<&Bytes>) -> bool {
        let now = rt.now();
        let result = bytes.map(|bytes| self.cache.offer(rt, now, rt.wall(), bytes));
        if let Some(Ok(Accepted::New)) = result {
            self.failures = 0;
            self.retry = now;
            self.look(rt);
            return true;
        }
        if let Some(Err(error)) = result {
            tracing::info!(%error, "a directory document was refused");
            rt.emit(Event::Refused {
                what: "directory document",
                why: Refusal::BadAuthentication,
            });
        }
        // A short interval, as in demonstrations, leaves no time for long pauses.
        let interval = self
            .cache
            .newest()
            .map(|newest| newest.document.timing.interval / 6);
        let most = interval.map_or(RETRY_MAX, |sixth| sixth.clamp(Duration::from_secs(1), RETRY_MAX));
        self.retry = now + RETRY_FIRST.saturating_mul(1 << self.failures.min(8)).min(most);
        self.failures = self.failures.saturating_add(1);
        false
    }

    /// A new entry may know more: that others did not is no reason to wait.
    pub(crate) fn new_entry(&mut self, now: Instant) {
        self.failures = 0;
        self.retry = now;
    }

    fn look<R: Runtime>(&mut self, rt: &R) {
        self.view = self.cache.newest().map(|newest| View::new(rt, newest));
        self.place = rt.rng("document refresh").next_u32() as u16;
        if let Some(newest) = self.cache.newest() {
            rt.emit(Event::DocumentAccepted {
                valid_after: newest.document.valid_after,
                nodes: u32::try_from(newest.document.nodes.len()).unwrap_or(u32::MAX),
            });
        }
    }
}

/// Asks the entry for a document newer than `known`.
pub(crate) async fn ask<R: Runtime>(rpc: &Rpc<R>, known: DocumentHash) -> Option<Bytes> {
    fetch(known, |request| {
        let request = Service::Directory.request(&request.encode());
        async move {
            let answer = rpc.call(request).await.ok()?;
            DirectoryResponse::decode(&answer).ok()
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use phantom_core::crypto::keys::IdentitySecret;
    use phantom_core::directory::document::{Document, SignedDocument, Timing};
    use phantom_core::directory::sign::{AuthorityId, Signatures};
    use phantom_core::runtime::Clock;
    use phantom_core::runtime::tokio::{Config, TokioRuntime};

    use super::*;

    /// A document without nodes from its only authority.
    fn signed(valid_after: WallTime) -> (KeySet, Bytes) {
        let secret = IdentitySecret::from_bytes(&[1; 32]);
        let document = Document {
            valid_after,
            previous: DocumentHash::NONE,
            timing: Timing::default(),
            nodes: Vec::new(),
            previous_storage: Vec::new(),
        };
        let document = document.encode();
        let mut signatures = Signatures::default();
        let by = AuthorityId::of(&secret.public());
        signatures.insert(by, secret.sign(&Document::hash(&document).message()));
        let whole = SignedDocument {
            document,
            signatures,
            changes: Vec::new(),
        };
        let keys = KeySet::new(0, 1, &[secret.public()]).expect("1 of 1");
        (keys, whole.encode().into())
    }

    /// The clock of the system goes on between two readings: a client that compared the second with the first never asked before its
    /// document had ended, and woke a thousand times a second until then.
    #[tokio::test]
    async fn a_newer_document_is_due_before_the_one_at_hand_ends_though_the_clock_goes_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
        let interval = Timing::default().interval;
        // Looked for from 4/3 of an interval on, by all before 5/3 have passed; it ends after three.
        for (age, wanted) in [
            (interval, false),
            (interval * 5 / 3, true),
            (interval * 29 / 10, true),
        ] {
            let (keys, bytes) = signed(rt.wall() - age);
            let mut documents = Documents::restore(&rt, keys, TimeLimits::default(), &[], &[]);
            assert!(documents.offer(&rt, Some(&bytes)));
            let at = Time {
                now: rt.now(),
                time: documents.time(&rt),
            };
            assert!(documents.is_usable());
            let due = documents.due(at);
            assert_eq!(due <= at.now, wanted, "{age:?} old, due {due:?} at {:?}", at.now);
            // Where the clock leapt ahead, as after a sleep of the machine, nobody knows how old it is.
            documents.leapt = true;
            assert!(documents.due(at) <= at.now);
            let bytes = Bytes::from_static(b"no document");
            assert!(!documents.offer(&rt, Some(&bytes)));
            assert!(documents.due(at) > at.now, "not in a loop");
        }
    }
}
