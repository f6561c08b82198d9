//! What a bridge does besides relaying: it keeps links to listed nodes over which replies come back to it.
//! Spec: SPEC §3.5.
//!
//! Towards those nodes it behaves as a client does: it shows no key, and registers a random handle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phantom_core::crypto::keys::NodeId;
use phantom_core::directory::descriptor::Roles;
use phantom_core::packet::LinkHandle;
use phantom_core::runtime::{Frugal, Runtime};
use phantom_core::service::{EntryRequest, Service, WAYS_BACK_MAX};
use rand_core::Rng;

use crate::links::{LinkNumber, ReachError};
use crate::service::Node;

/// The handles that work now.
#[derive(Clone, Default)]
pub(crate) struct WaysBack(Arc<Mutex<BTreeMap<NodeId, (LinkNumber, LinkHandle)>>>);

impl WaysBack {
    pub(crate) fn list(&self) -> Vec<(NodeId, LinkHandle)> {
        self.held()
            .iter()
            .map(|(node, (_, handle))| (*node, *handle))
            .take(WAYS_BACK_MAX)
            .collect()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, (LinkNumber, LinkHandle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds the wanted number of ways back; replaces those that break. Never returns.
pub(crate) async fn keep_ways_back<R: Runtime>(node: Arc<Node<R>>) {
    let wanted = node.config.bridge.as_ref().map_or(0, |bridge| bridge.ways_back);
    let mut rng = Frugal::from(node.rt.rng("ways back"));
    let Some(ways) = &node.ways_back else { return };
    loop {
        // A block: what it looks at, all listed nodes, is not held through the pause.
        {
            let listed: BTreeSet<NodeId> = node.directory.view().map_or_else(BTreeSet::new, |view| {
                view.document
                    .document
                    .with_roles(Roles::MIDDLE)
                    .map(|entry| entry.id)
                    .collect()
            });
            let held: Vec<(NodeId, LinkNumber)> = ways
                .held()
                .iter()
                .map(|(id, (number, _))| (*id, *number))
                .collect();
            for (id, number) in held {
                match node
                    .links
                    .standing(id)
                    .await
                    .filter(|peer| peer.number == number && listed.contains(&id))
                {
                    // It is of use even while nothing comes back over it.
                    Some(peer) => peer.used(node.rt.now()),
                    None => {
                        ways.held().remove(&id);
                    }
                }
            }
            let mut candidates: Vec<NodeId> = listed
                .iter()
                .copied()
                .filter(|id| !ways.held().contains_key(id))
                .collect();
            while ways.held().len() < wanted && !candidates.is_empty() {
                let pick = usize::try_from(rng.next_u64() % candidates.len() as u64).unwrap_or_default();
                let id = candidates.swap_remove(pick);
                let handle = LinkHandle::from_rng(&mut rng);
                match Box::pin(register(&node, id, handle)).await {
                    Ok(number) => {
                        ways.held().insert(id, (number, handle));
                    }
                    Err(error) => tracing::debug!(%error, "no way back over this node"),
                }
            }
        }
        let wait = if ways.held().len() < wanted {
            Duration::from_secs(1)
        } else {
            Duration::from_secs(10)
        };
        node.rt.sleep(wait).await;
    }
}

/// Makes `handle` name this bridge's link at a listed node; the number of that link.
async fn register<R: Runtime>(
    node: &Node<R>,
    id: NodeId,
    handle: LinkHandle,
) -> Result<LinkNumber, ReachError> {
    let peer = node.links.reach(id).await?;
    let request = Service::Entry.request(&EntryRequest::Register(handle).encode());
    peer.rpc
        .call(request)
        .await
        .map_err(|error| ReachError::Rpc { node: id, error })?;
    Ok(peer.number)
}
