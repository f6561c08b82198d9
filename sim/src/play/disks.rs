//! Looking at the disks of storage nodes as somebody would who seized them, and whether a reader finds what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use phantom_core::crypto::keys::NodeId;
use phantom_core::directory::client::DirectoryCache;
use phantom_core::directory::document::SharedDocument;
use phantom_core::event::Tag;
use phantom_core::mailbox::BoxAddress;
use phantom_core::runtime::{Share, Store};
use phantom_node::config::Directory;
use phantom_node::store::recoverable;

use super::ceremony::Part;
use crate::host::Disk;
use crate::run::RunError;
use crate::scenario::plan::HostId;

/// A disk that stands still, as a store.
struct Seized<'d>(Mutex<&'d mut Disk>);

impl Seized<'_> {
    fn disk<T>(&self, with: impl FnOnce(&mut Disk) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for Seized<'_> {
    async fn append(&self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        self.disk(|disk| disk.append(file, bytes))
    }
    async fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk(|disk| disk.write(file, bytes))
    }
    async fn read(&self, file: &str) -> io::Result<Option<Bytes>> {
        self.disk(|disk| disk.read(file))
    }
    async fn read_at(&self, file: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        self.disk(|disk| disk.read_at(file, offset, len))
    }
    async fn remove(&self, file: &str) -> io::Result<()> {
        self.disk(|disk| disk.remove(file))
    }
    async fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        Ok(self.disk(|disk| disk.list(prefix)))
    }
    async fn sync(&self, file: &str) -> io::Result<()> {
        self.disk(|disk| disk.sync(file))
    }
}

/// Every box on a disk that opens.
fn boxes(disk: &mut Disk) -> Result<Vec<BoxAddress>, RunError> {
    let store = Seized(Mutex::new(disk));
    let found = pin!(recoverable(&store));
    // The disk answers at once, so one poll is all.
    match found.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok((boxes, _))) => Ok(boxes.iter().map(|found| found.address).collect()),
        Poll::Ready(Err(error)) => Err(RunError::Failed(format!("a disk could not be searched: {error}"))),
        Poll::Pending => Err(RunError::Failed(
            "a disk that stands still did not answer".to_owned(),
        )),
    }
}

/// Nobody to share results with.
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

/// Which node each host is, and whose signatures make a document.
pub(super) struct Cast {
    nodes: BTreeMap<HostId, NodeId>,
    directory: Option<Directory>,
}

impl Cast {
    /// The nodes among what hosts are given.
    pub(super) fn of(parts: &[Part]) -> Self {
        let configs = parts.iter().enumerate().filter_map(|(n, part)| match part {
            Part::Node(config, _) => Some((n as HostId, config)),
            _ => None,
        });
        Self {
            nodes: configs
                .clone()
                .map(|(host, config)| (host, config.keys.identity.public().node_id()))
                .collect(),
            directory: configs.map(|(_, config)| config.directory.clone()).next(),
        }
    }

    /// The document that a node works with.
    fn document(&self, disk: &mut Disk) -> Option<SharedDocument> {
        let directory = self.directory.as_ref()?;
        let bytes = disk.read(phantom_node::directory::FILE).ok()??;
        let cache =
            DirectoryCache::restore(&Alone, directory.pinned.clone(), directory.limits, &bytes).ok()?;
        cache.newest().cloned()
    }
}

/// What readers of boxes come to by the newest document on the disks of the nodes that are up.
///
/// Holds no more than its answer: a run is largest in memory when it ends.
#[derive(Default)]
pub(super) struct Reading {
    document: Option<SharedDocument>,
    readable: BTreeSet<Tag>,
}

impl Reading {
    /// Takes note of a node's document. First of all nodes, then [`Reading::add`] of each.
    pub(super) fn read_document(&mut self, cast: &Cast, disk: &mut Disk) {
        let newest = self.document.iter().map(|held| held.document.valid_after).max();
        let offered = cast.document(disk);
        if offered.as_ref().map(|offered| offered.document.valid_after) > newest {
            self.document = offered;
        }
    }

    /// Takes note of the boxes of a node.
    pub(super) fn add(&mut self, cast: &Cast, host: HostId, disk: &mut Disk) -> Result<(), RunError> {
        let (Some(node), Some(document)) = (cast.nodes.get(&host), &self.document) else {
            return Ok(());
        };
        let (now, before) = (
            document.document.storage_set(),
            document.document.previous_storage_set(),
        );
        let is_asked = |address: &BoxAddress| {
            let previous = (now != before).then(|| before.place(address));
            now.place(address).read_order(previous.as_ref()).contains(node)
        };
        let readable = boxes(disk)?.into_iter().filter(is_asked);
        self.readable
            .extend(readable.map(|address| Tag::of(address.as_bytes())));
        Ok(())
    }

    /// Boxes that a reader finds: one of the nodes that it asks holds them. On any other disk a box is as good as lost.
    pub(super) const fn readable(&self) -> &BTreeSet<Tag> {
        &self.readable
    }
}
