//! Which program each host runs: the real ones, on whatever back end a stage has.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phantom_client::user::ContactId;
use phantom_client::{ClientConfig, ClientSide, Secret};
use phantom_core::dht;
use phantom_core::ladder::Step;
use phantom_core::runtime::{Entropy, Runtime};
use phantom_node::store::StoreConfig;
use rand_core::Rng;
use zeroize::Zeroizing;

use super::ceremony::{Ceremony, Installation, Part};
use super::insider;
use super::user::{Agreed, Society, User};
use crate::scenario::file::ClientNode;
use crate::scenario::plan::{HostId, Plan, Role};
use crate::stage::{Program, program};

/// Operators start their own clients so long before a scenario begins, within ten seconds: by then the network has a
/// directory, for which a client that starts earlier asks less and less often.
const OPERATORS_BEGIN: Duration = Duration::from_secs(25);

/// Why programs did not start or ended: a failed run, not a broken promise.
pub(super) type Failures = Arc<Mutex<Vec<String>>>;

/// The programs of all hosts, in order.
pub(super) fn programs<R: Runtime>(
    plan: &Arc<Plan>,
    ceremony: Ceremony,
    society: &Arc<Society>,
    failures: &Failures,
) -> Vec<Program<R>> {
    let Ceremony {
        parts, mut contacts, ..
    } = ceremony;
    let mut all = Vec::with_capacity(parts.len());
    for (n, part) in parts.into_iter().enumerate() {
        let host = n as HostId;
        let failures = failures.clone();
        let name = plan.hosts[n].name.clone();
        let fail = move |error: &dyn std::fmt::Display| {
            failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(format!("{name}: {error}"));
        };
        all.push(match part {
            Part::Authority(config) => program(move |rt: R| {
                let (config, fail) = (config.clone(), fail.clone());
                async move {
                    if let Err(error) = phantom_node::authority::run(rt, *config).await {
                        fail(&error);
                    }
                }
            }),
            Part::Node(config, operator) => {
                let society = society.clone();
                program(move |rt: R| {
                    let (config, fail, society) = (config.clone(), fail.clone(), society.clone());
                    if let Some(installation) = operator.clone() {
                        // The operator's own client, at home: nothing stands between it and the published entries.
                        let node = ClientNode::default();
                        let begin = society.begins() - OPERATORS_BEGIN;
                        // Boxed, or the task would have room for it twice: where it comes from and where it is awaited.
                        let household = Household {
                            rt: rt.clone(),
                            host,
                            node,
                            installation,
                            contacts: Arc::default(),
                            agreed: Arc::default(),
                            society,
                        };
                        let own = Box::pin(client(household, fail.clone()));
                        let home = rt.clone();
                        rt.spawn("operator", async move {
                            let spread =
                                Duration::from_millis(Entropy::rng(&home, "operator").next_u64() % 10_000);
                            home.sleep_until(begin + spread).await;
                            own.await;
                        });
                    }
                    async move {
                        if let Err(error) = phantom_node::run(rt, *config, StoreConfig::default()).await {
                            fail(&error);
                        }
                    }
                })
            }
            Part::Client(installation) => {
                let (plan, society) = (plan.clone(), society.clone());
                let met = contacts.remove(&host).unwrap_or_default();
                let contacts = Arc::new(
                    met.iter()
                        .map(|(id, host, _)| (id.clone(), *host))
                        .collect::<Vec<_>>(),
                );
                let agreed: Agreed = Arc::new(Mutex::new(
                    met.into_iter().map(|(id, _, contact)| (id, contact)).collect(),
                ));
                match plan.hosts[n].role {
                    Role::Insider(node) => program(move |rt: R| {
                        let (plan, society, bundle) = (plan.clone(), society.clone(), installation.bundle());
                        async move { insider::run(rt, plan, host, node, bundle, society).await }
                    }),
                    role => {
                        let node = role.client().unwrap_or_default();
                        program(move |rt: R| {
                            let (contacts, agreed) = (contacts.clone(), agreed.clone());
                            let household = Household {
                                rt,
                                host,
                                node,
                                installation: installation.clone(),
                                contacts,
                                agreed,
                                society: society.clone(),
                            };
                            client(household, fail.clone())
                        })
                    }
                }
            }
            Part::Dht(config) => program(move |rt: R| {
                let (config, fail) = (config.clone(), fail.clone());
                async move {
                    if let Err(error) = dht::serve(rt, *config, |_| {}).await {
                        fail(&error);
                    }
                }
            }),
        });
    }
    all
}

/// What a person and a device are made of.
struct Household<R: Runtime> {
    rt: R,
    host: HostId,
    node: ClientNode,
    installation: Arc<Installation>,
    contacts: Arc<Vec<(ContactId, HostId)>>,
    agreed: Agreed,
    society: Arc<Society>,
}

/// A client with its user.
fn client<R: Runtime>(
    household: Household<R>,
    fail: impl Fn(&dyn std::fmt::Display) + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let rt = household.rt.clone();
    // On the heap, and gone once the client runs.
    let installed = Box::pin(install(household));
    async move {
        let ended = match installed.await {
            Ok((config, side)) => phantom_client::run(rt, config, side)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = ended {
            fail(&error);
        }
    }
}

/// Makes ready what a client begins with, and lets its user live.
async fn install<R: Runtime>(household: Household<R>) -> std::io::Result<(ClientConfig, ClientSide)> {
    let Household {
        rt,
        host,
        node,
        installation,
        contacts,
        agreed,
        society,
    } = household;
    // The key of the client's file lives in the host's key store, which survives a restart with the disk.
    let key = match rt.read("key-store").await {
        Ok(Some(bytes)) => <[u8; 32]>::try_from(&bytes[..]).ok(),
        _ => None,
    };
    let key = match key {
        Some(key) => key,
        None => {
            let mut key = [0; 32];
            Entropy::rng(&rt, "key store").fill_bytes(&mut key);
            rt.write("key-store", &key).await?;
            key
        }
    };
    let (user_side, client_side) = phantom_client::channels();
    let user = User {
        rt: rt.clone(),
        host,
        society,
        contacts,
        agreed,
    };
    rt.spawn("user", user.live(user_side));
    Ok((config(&installation, &node, key), client_side))
}

fn config(installation: &Installation, node: &ClientNode, key: [u8; 32]) -> ClientConfig {
    let mut steps = vec![Step::Cached];
    if node.published.is_on() {
        steps.extend([Step::Static, Step::Directory]);
    }
    if node.dht.is_on() {
        steps.push(Step::Dht);
    }
    if node.friends.is_on() {
        steps.push(Step::Friend);
    }
    let mut config = ClientConfig::new(installation.bundle(), Secret::Key(Zeroizing::new(key)));
    config.steps = steps;
    config.poll.mean_gap = node.poll.0;
    config
}
