//! Keeping the newest document: fetching it, answering who asks for it, and handing in this node's descriptor.
//!
//! Spec: SPEC §6. The rules are in `phantom_core::directory::client`; this asks, persists and serves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use phantom_core::crypto::kdf::Context;
use phantom_core::crypto::keys::{LinkPublic, NodeId};
use phantom_core::directory::client::{Accepted, DirectoryCache, Refused};
use phantom_core::directory::document::{DocumentHash, SharedDocument};
use phantom_core::directory::rpc::{DirectoryRequest, DirectoryResponse, Piece};
use phantom_core::event::{Event, Refusal};
use phantom_core::mailbox::StorageSet;
use phantom_core::runtime::{Runtime, Share};
use phantom_core::units::WallTime;
use tokio::sync::watch;

use crate::config::Directory;

/// The file that holds what [`DirectoryCache::persist`] gives.
pub const FILE: &str = "directory";

/// Distinguishes what this module shares between the peers of a process.
const SHARED: Context = Context::new("phantom-net 2026 shared node view v1");

/// What follows from a document alone, made once per process.
pub struct Tables {
    /// Where boxes belong.
    pub storage: StorageSet,
    /// Where they belonged in the interval before.
    pub previous: StorageSet,
    by_link: BTreeMap<LinkPublic, NodeId>,
}

/// A document in the form in which this node works with it.
#[derive(Clone)]
pub struct View {
    /// The document.
    pub document: SharedDocument,
    /// What follows from it.
    pub tables: Arc<Tables>,
}

impl View {
    fn new<S: Share>(rt: &S, document: SharedDocument) -> Self {
        let key = SHARED.derive_fields(&[&document.hash.0]);
        let tables = rt.shared(key, || {
            let listed = &document.document;
            Tables {
                storage: listed.storage_set(),
                previous: listed.previous_storage_set(),
                by_link: listed.nodes.iter().map(|node| (node.link, node.id)).collect(),
            }
        });
        Self { document, tables }
    }

    /// The listed node that holds this link key.
    pub fn node_of(&self, key: &LinkPublic) -> Option<NodeId> {
        self.tables.by_link.get(key).copied()
    }
}

/// The newest document of this node, shared by its tasks.
pub struct Keeper<R> {
    rt: R,
    cache: Mutex<DirectoryCache>,
    view: watch::Sender<Option<View>>,
}

impl<R: Runtime> Keeper<R> {
    /// Restores what an earlier run persisted, or starts with the pinned keys.
    pub async fn open(rt: R, config: &Directory) -> std::io::Result<Self> {
        let fresh = || DirectoryCache::new(config.pinned.clone(), config.limits);
        let cache = match rt.read(FILE).await? {
            None => fresh(),
            Some(bytes) => match DirectoryCache::restore(&rt, config.pinned.clone(), config.limits, &bytes) {
                Ok(cache) => cache,
                Err(error) => {
                    tracing::warn!(%error, "the directory cache is damaged: starting without it");
                    fresh()
                }
            },
        };
        let keeper = Self {
            rt,
            cache: Mutex::new(cache),
            view: watch::Sender::new(None),
        };
        keeper.refresh_view();
        Ok(keeper)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, DirectoryCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges the time anew, reports a clock that is not believed, and returns the time to judge by.
    pub fn time(&self) -> WallTime {
        let claimed = self.rt.wall();
        let reading = self.cache().observe(self.rt.now(), claimed);
        if reading.news && reading.fault.is_some() {
            self.rt.emit(Event::ClockRefused {
                claimed,
                believed: reading.time,
            });
        }
        reading.time
    }

    fn refresh_view(&self) {
        self.time();
        let usable = self.cache().usable().cloned();
        self.view.send_if_modified(|view| {
            let same = match (&*view, &usable) {
                (Some(view), Some(usable)) => view.document.hash == usable.hash,
                (None, None) => true,
                _ => false,
            };
            if !same {
                *view = usable.map(|document| View::new(&self.rt, document));
            }
            !same
        });
    }

    /// The document to work with, `None` before the first and when it has expired.
    pub fn view(&self) -> Option<View> {
        self.refresh_view();
        self.view.borrow().clone()
    }

    /// Tells of every new document.
    pub fn watch(&self) -> watch::Receiver<Option<View>> {
        self.view.subscribe()
    }

    /// When to ask for a newer one.
    pub fn refresh_at(&self) -> WallTime {
        self.cache().refresh_at()
    }

    /// The hash of the newest, [`DocumentHash::NONE`] if there is none.
    pub fn newest_hash(&self) -> DocumentHash {
        self.cache()
            .newest()
            .map_or(DocumentHash::NONE, |newest| newest.hash)
    }

    /// Takes a signed document or refuses it; what is taken is persisted.
    pub async fn offer(&self, signed: &[u8]) -> Result<Accepted, Refused> {
        let offered = self
            .cache()
            .offer(&self.rt, self.rt.now(), self.rt.wall(), signed);
        match &offered {
            Ok(Accepted::New) => {
                let bytes = self.cache().persist();
                if let Err(error) = self.rt.write(FILE, &bytes).await {
                    tracing::warn!(%error, "the document could not be persisted");
                }
                self.refresh_view();
            }
            Ok(Accepted::Known) => {}
            Err(error) => {
                tracing::debug!(%error, "a document was refused");
                self.rt.emit(Event::Refused {
                    what: "document",
                    why: Refusal::BadAuthentication,
                });
            }
        }
        offered
    }

    /// Answers what any node answers: pieces of the newest document.
    pub fn answer(&self, request: &DirectoryRequest) -> DirectoryResponse {
        let DirectoryRequest::GetDocument { hash, known, offset } = request else {
            return DirectoryResponse::Nothing;
        };
        let cache = self.cache();
        let Some(newest) = cache.newest() else {
            return DirectoryResponse::Nothing;
        };
        let wanted = match hash {
            None => newest.hash != *known,
            Some(hash) => newest.hash == *hash,
        };
        let piece = wanted
            .then(|| Piece::cut(newest.hash.0, &newest.signed, *offset))
            .flatten();
        piece.map_or(DirectoryResponse::Nothing, DirectoryResponse::Piece)
    }
}
