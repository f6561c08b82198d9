//! The censor's own clients: they have an installation and friends like anybody, and ask for bridges by every step they
//! have, again and again, to tell the censor. Real rendezvous and invitations; what they learn is bounded by the protocol,
//! not by this code.

use std::sync::Arc;

use phantom_core::dht::{ClientConfig, DhtClient};
use phantom_core::event::{Event, Step};
use phantom_core::rendezvous::fetch::fetch;
use phantom_core::rendezvous::{Bundle, SequencePins, Slot};
use phantom_core::runtime::Runtime;
use rand_core::Rng;

use super::user::Society;
use crate::scenario::file::{ClientNode, Deed};
use crate::scenario::plan::{HostId, Plan};

/// Asks until its host ends.
pub(super) async fn run<R: Runtime>(
    rt: R,
    plan: Arc<Plan>,
    host: HostId,
    node: ClientNode,
    bundle: Bundle,
    society: Arc<Society>,
) {
    // The checker allows one such workload to a population, from its arrival to the end.
    let every = plan.workloads.iter().find_map(|workload| match &workload.what {
        Deed::AskForBridges { every } if workload.hosts.contains(&host) => Some(every.value),
        _ => None,
    });
    rt.emit(Event::Arrived);
    let Some(every) = every else { return };
    let mut rng = rt.rng("insider");
    let dht = Arc::new(DhtClient::new(
        rt.clone(),
        ClientConfig::new(bundle.dht_nodes.to_vec(), bundle.routers.clone()),
    ));
    let mut pins = SequencePins::default();
    loop {
        if node.dht.is_on() {
            // Reports what it finds by itself.
            fetch(
                &rt,
                rt.wall(),
                &dht,
                &bundle.cohort,
                &Slot::ALL,
                &mut pins,
                |_| {},
            )
            .await;
        }
        if node.friends.is_on() {
            for (friend, delay) in society.inviters(host) {
                let Some(invitation) = society.ask(&rt, friend, delay, &bundle.cohort.public).await else {
                    continue;
                };
                rt.emit(Event::InvitationReceived);
                let Ok(opened) = invitation.open(&bundle.cohort, None, rt.wall()) else {
                    continue;
                };
                for bridge in opened
                    .bridges
                    .iter()
                    .flat_map(|(_, bridge)| bridge.ways.addresses())
                {
                    rt.emit(Event::BridgeLearned {
                        step: Step::Friend,
                        bridge,
                    });
                }
            }
        }
        rt.sleep(every.draw(rng.next_u64())).await;
    }
}
