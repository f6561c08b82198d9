//! How a bridge makes itself found: its sealed descriptor goes into the DHT, in every slot it holds. Spec: SPEC §7.7.

use std::sync::Arc;
use std::time::Duration;

use phantom_core::dht::DhtClient;
use phantom_core::directory::descriptor::{BridgeDescriptor, VersionRange};
use phantom_core::event::{Event, Sensitive};
use phantom_core::link;
use phantom_core::rendezvous::publish::{REPUBLISH, publish};
use phantom_core::runtime::{Frugal, Runtime};
use phantom_core::units::WallTime;
use rand_core::Rng;
use zeroize::Zeroizing;

use crate::config::Bridge;
use crate::service::Node;

/// A descriptor that nobody renewed is not believed for longer.
const DESCRIPTOR_LIFE: Duration = Duration::from_secs(2 * 86_400);
/// How often a bridge that starts looks whether it is ready.
const READY_CHECK: Duration = Duration::from_secs(1);
/// When some items were not stored.
const RETRY: Duration = Duration::from_secs(120);

/// What this bridge tells the cohorts of its slots.
pub(crate) fn descriptor<R: Runtime>(node: &Node<R>, bridge: &Bridge) -> BridgeDescriptor {
    let ways = node.ways.clone().expect("a bridge tells where it is");
    let (min, max) = link::VERSIONS;
    let now = WallTime::from_unix_secs(node.time.now().as_unix_secs());
    BridgeDescriptor {
        versions: VersionRange { min, max },
        identity: node.config.keys.identity.public(),
        link: node.config.keys.link.public(),
        psk: Zeroizing::new(*bridge.secret.as_bytes()),
        expires: now + DESCRIPTOR_LIFE,
        ways,
    }
}

/// Publishes in the DHT for ever.
pub(crate) async fn publish_forever<R: Runtime>(node: Arc<Node<R>>) {
    let Some(bridge) = &node.config.bridge else { return };
    let Some(dht) = bridge.dht.clone().filter(|_| !bridge.slots.0.is_empty()) else {
        return;
    };
    node.rt
        .sensitive(Sensitive::BridgeKey, node.config.keys.link.public().as_bytes());
    node.rt.sensitive(Sensitive::BridgeKey, bridge.secret.as_bytes());
    let client = DhtClient::new(node.rt.clone(), dht);
    let mut rng = Frugal::from(node.rt.rng("publish"));
    // Nobody is to find a bridge that cannot serve yet. It also gives a DHT that starts together with us time to settle.
    while node.ways_back.as_ref().is_none_or(|ways| ways.list().is_empty()) {
        node.rt.sleep(READY_CHECK).await;
    }
    loop {
        let (time, descriptor) = (node.time.now(), descriptor(&node, bridge));
        // Boxed, as it is in every program of a node that mostly sleeps: what is done meanwhile takes room only while it is done.
        let published = Box::pin(publish(&node.rt, time, &client, &bridge.slots, &descriptor)).await;
        node.rt.emit(Event::BridgePublished {
            stored: published.stored,
            failed: published.failed,
        });
        tracing::info!(
            stored = published.stored,
            failed = published.failed,
            "published in the DHT"
        );
        let wait = if published.failed > 0 { RETRY } else { REPUBLISH };
        let jitter = rng.next_u64() % u64::try_from(wait.as_nanos() / 4).unwrap_or(u64::MAX).max(1);
        node.rt
            .sleep(wait - wait / 8 + Duration::from_nanos(jitter))
            .await;
    }
}
