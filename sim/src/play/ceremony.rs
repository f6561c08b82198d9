//! What is arranged before a world begins, as people arrange it outside any network: keys, the ledger of bridges, what
//! each installation ships with, and contacts who met.
//!
//! Every host draws from a stream of its own, keyed by its name, so that one more host changes nobody else.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use phantom_client::user::ContactId;
use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
use phantom_core::dht;
use phantom_core::directory::descriptor::Roles;
use phantom_core::directory::sign::{AuthorityId, KeySet};
use phantom_core::link::BridgeSecret;
use phantom_core::mailbox::OperatorId;
use phantom_core::message::contact::{self, Contact};
use phantom_core::rendezvous::{BridgeSlots, Bundle, Cohort, Ledger, SLOTS, Slot, StaticEntry, mint};
use phantom_core::transport::obfs4::IatMode;
use phantom_core::trusted_time::TimeLimits;
use phantom_node::authority::AuthorityConfig;
use phantom_node::config::{AuthorityContact, Bridge, Directory, Keys, Limits, Listening, NodeConfig};
use rand_core::Rng;

use super::times;
use crate::run::RunError;
use crate::scenario::file::Carries;
use crate::scenario::plan::{HostId, Plan, Role, stream};

/// The port of DHT nodes.
pub(super) const DHT_PORT: u16 = 6881;
/// DHT nodes that an installation knows besides the published routers.
const CACHED_DHT_NODES: usize = 12;
/// By host: the user's contacts and who they are.
pub(super) type Meetings = BTreeMap<HostId, Vec<(ContactId, HostId, Box<Contact>)>>;

/// What a client is installed with: a bundle of which everything that all share is there once.
pub(super) struct Installation {
    cohort: Cohort,
    dht_nodes: Arc<[SocketAddr]>,
    common: Arc<Common>,
}

/// What all installations have in common.
struct Common {
    routers: Arc<[dht::Endpoint]>,
    entries: Arc<[StaticEntry]>,
    directory: KeySet,
}

impl Installation {
    pub(super) fn bundle(&self) -> Bundle {
        let Common {
            routers,
            entries,
            directory,
        } = &*self.common;
        Bundle {
            cohort: self.cohort.clone(),
            dht_nodes: self.dht_nodes.clone(),
            routers: routers.clone(),
            entries: entries.clone(),
            directory: directory.clone(),
        }
    }
}

/// What a host is given.
pub(super) enum Part {
    /// A directory authority.
    Authority(Box<AuthorityConfig>),
    /// A service node; a bridge's operator may have friends, and then runs a client of its own.
    Node(Box<NodeConfig>, Option<Arc<Installation>>),
    /// A client or an insider.
    Client(Arc<Installation>),
    /// A DHT node.
    Dht(Box<dht::NodeConfig>),
}

/// Everything arranged.
pub(super) struct Ceremony {
    /// By host.
    pub(super) parts: Vec<Part>,
    /// By host: the user's contacts and who they are.
    pub(super) contacts: Meetings,
    /// Which bridges (hosts) hold the slots of a client's cohort.
    pub(super) bridges_of: BTreeMap<HostId, Vec<HostId>>,
}

/// The name under which a user knows the person at `host`.
pub(super) fn contact_id(plan: &Plan, host: HostId) -> Result<ContactId, RunError> {
    let name = &plan.hosts[host as usize].name;
    ContactId::new(name).ok_or_else(|| RunError::Failed(format!("'{name}' is no name for a contact")))
}

/// Arranges the world of `plan`, in which links go to `link_port`.
pub(super) fn perform(plan: &Plan, link_port: u16) -> Result<Ceremony, RunError> {
    let timing = times::timing(plan);
    let failed = |what: &str, error: &dyn std::fmt::Display| RunError::Failed(format!("{what}: {error}"));
    let of_role = |wanted: fn(&Role) -> bool| -> Vec<HostId> {
        (0..plan.hosts.len() as u32)
            .filter(|&host| wanted(&plan.hosts[host as usize].role))
            .collect()
    };
    let keys: Vec<Keys> = plan
        .hosts
        .iter()
        .map(|host| keys_of(plan.seed, &host.name))
        .collect();
    let at = |host: HostId, port| SocketAddr::new(IpAddr::V4(plan.hosts[host as usize].address), port);

    // The authorities and what everybody knows of them.
    let authorities = of_role(|role| *role == Role::Authority);
    let publics: Vec<_> = authorities
        .iter()
        .map(|&host| keys[host as usize].identity.public())
        .collect();
    let pinned = KeySet::new(1, authorities.len() / 2 + 1, &publics)
        .map_err(|error| failed("the directory authorities", &error))?;
    let contacts: Vec<AuthorityContact> = authorities
        .iter()
        .map(|&host| AuthorityContact {
            id: AuthorityId::of(&keys[host as usize].identity.public()),
            link: keys[host as usize].link.public(),
            addresses: link_ends(plan, host, link_port),
        })
        .collect();
    let limits = TimeLimits::default();
    let directory = Directory {
        pinned: pinned.clone(),
        authorities: contacts.clone(),
        limits,
        timing,
    };

    // The DHT, and how it is found.
    let dht_nodes = of_role(|role| *role == Role::Dht);
    let routers = of_role(|role| *role == Role::DhtRouter);
    let joins: Vec<dht::Endpoint> = routers
        .iter()
        .map(|&host| dht::Endpoint::Addr(at(host, DHT_PORT)))
        .collect();
    let named = |host: HostId, port| match &plan.hosts[host as usize].dns_name {
        Some(name) => dht::Endpoint::Name {
            name: name.clone(),
            port,
        },
        None => dht::Endpoint::Addr(at(host, port)),
    };

    // The ledger: which bridge serves which cohort.
    let bridges = of_role(|role| *role == Role::Bridge);
    let operators: Vec<HostId> = bridges
        .iter()
        .copied()
        .filter(|bridge| {
            plan.edges
                .iter()
                .any(|e| e.carries == Carries::Invitations && e.from == *bridge)
        })
        .collect();
    // Every installation is a cohort of its own, so nobody loses bridges to an insider who shares them; dealt in no order
    // that knows who is an insider.
    let mut members = of_role(|role| role.is_client());
    members.extend(&operators);
    let mut rng = stream(plan.seed, "ledger");
    members = some(&mut rng, &members, members.len());
    let cohorts = members.len();
    // Where nobody runs a bridge, slots are dealt all the same, to bridges that are not in the world.
    let (ledger, cohorts, mut slots) = if bridges.is_empty() || bridges.len() >= SLOTS {
        let minted = mint(&mut rng, cohorts.max(1), bridges.len().max(SLOTS) as u32)
            .map_err(|error| failed("the ledger of bridges", &error))?;
        (minted.ledger, minted.cohorts, minted.bridges)
    } else {
        return Err(RunError::Failed(format!(
            "{} bridges are too few: a cohort has {SLOTS}",
            bridges.len()
        )));
    };

    // What installations ship with.
    let published: Vec<HostId> = of_role(|role| *role == Role::Service)
        .into_iter()
        .filter(|&host| plan.hosts[host as usize].published)
        .collect();
    let entries: Arc<[StaticEntry]> = published
        .iter()
        .flat_map(|&host| {
            let entry = |endpoint| StaticEntry {
                endpoint,
                identity: keys[host as usize].identity.public(),
                link: keys[host as usize].link.public(),
            };
            let by_name = plan.hosts[host as usize]
                .dns_name
                .is_some()
                .then(|| entry(named(host, link_port)));
            let by_address = link_ends(plan, host, link_port).into_iter();
            by_address
                .map(|end| entry(dht::Endpoint::Addr(end)))
                .chain(by_name)
                .collect::<Vec<_>>()
        })
        .collect();
    let mut bridges_of = BTreeMap::new();
    let common = Arc::new(Common {
        routers: routers.iter().map(|&router| named(router, DHT_PORT)).collect(),
        entries,
        directory: pinned.clone(),
    });
    let mut installations: BTreeMap<HostId, Arc<Installation>> = BTreeMap::new();
    for (cohort, &host) in members.iter().enumerate() {
        let holders = Slot::ALL
            .into_iter()
            .filter_map(|slot| ledger.holder(cohort, slot))
            .filter_map(|n| bridges.get(n as usize).copied());
        bridges_of.insert(host, holders.collect());
        let mut rng = stream(
            plan.seed,
            &format!("{} installation", plan.hosts[host as usize].name),
        );
        let installation = Installation {
            cohort: cohorts[cohort].clone(),
            dht_nodes: some(&mut rng, &dht_nodes, CACHED_DHT_NODES)
                .iter()
                .map(|&node| at(node, DHT_PORT))
                .collect(),
            common: common.clone(),
        };
        installations.insert(host, Arc::new(installation));
    }
    drop::<Ledger>(ledger);

    let mut parts = Vec::with_capacity(plan.hosts.len());
    for (n, host) in plan.hosts.iter().enumerate() {
        let id = n as u32;
        let listen = link_ends(plan, id, link_port);
        let keys = keys[n].clone();
        let node = |roles, bridge: Option<Bridge>| {
            let plain = host.transports.is_empty();
            let links = if plain { listen.clone() } else { Vec::new() };
            Box::new(NodeConfig {
                keys: keys.clone(),
                addresses: links.clone(),
                listen: links,
                roles,
                // Everybody runs one node: distinct operators.
                operator: OperatorId(*keys.identity.public().node_id().as_bytes()),
                directory: directory.clone(),
                bridge,
                limits: Limits::default(),
                link: phantom_core::link::Config::default(),
            })
        };
        parts.push(match host.role {
            Role::Authority => Part::Authority(Box::new(AuthorityConfig {
                identity: keys.identity.clone(),
                link_secret: keys.link.clone(),
                listen: listen.clone(),
                keys: pinned.clone(),
                others: contacts
                    .iter()
                    .filter(|c| c.link != keys.link.public())
                    .cloned()
                    .collect(),
                limits,
                timing,
                admission: phantom_core::directory::authority::Admission::Open,
                link: phantom_core::link::Config::default(),
            })),
            Role::Service => Part::Node(node(Roles::ALL, None), None),
            Role::Bridge => {
                let mut rng = stream(plan.seed, &format!("{} bridge", host.name));
                let number = bridges
                    .iter()
                    .position(|&bridge| bridge == id)
                    .unwrap_or_default();
                let cached = some(&mut rng, &dht_nodes, CACHED_DHT_NODES);
                let bridge = Bridge {
                    secret: BridgeSecret::from_rng(&mut rng),
                    ways_back: 3,
                    slots: BridgeSlots(std::mem::take(&mut slots[number])),
                    dht: Some(dht::ClientConfig::new(
                        cached.iter().map(|&node| at(node, DHT_PORT)).collect(),
                        joins.clone(),
                    )),
                    transports: spoken(plan, id, link_port),
                    iat_mode: IatMode::default(),
                };
                Part::Node(node(Roles::ENTRY, Some(bridge)), installations.remove(&id))
            }
            Role::Client(_) | Role::Insider(_) => {
                let installation = installations.remove(&id);
                let none = || RunError::Failed(format!("{} has no installation", host.name));
                Part::Client(installation.ok_or_else(none)?)
            }
            Role::Dht | Role::DhtRouter => {
                let joins = joins
                    .iter()
                    .filter(|join| **join != dht::Endpoint::Addr(at(id, DHT_PORT)));
                let mut config = dht::NodeConfig::new(at(id, DHT_PORT), joins.cloned().collect());
                config.items_max = 4_096;
                Part::Dht(Box::new(config))
            }
        });
    }
    Ok(Ceremony {
        parts,
        contacts: meetings(plan)?,
        bridges_of,
    })
}

/// Where links to a host go.
fn link_ends(plan: &Plan, host: HostId, port: u16) -> Vec<SocketAddr> {
    let addresses = plan.hosts[host as usize].addresses();
    addresses.map(|ip| SocketAddr::new(ip, port)).collect()
}

/// What a bridge of transports speaks, and where; a plain one among them has no privilege but that it may be the first.
fn spoken(plan: &Plan, host: HostId, port: u16) -> Vec<Listening> {
    let speaks = plan.hosts[host as usize].speaks();
    let one = |(kind, behind)| {
        let places = link_ends(plan, host, port + behind);
        Listening {
            kind,
            listen: places.clone(),
            addresses: places,
        }
    };
    match plan.hosts[host as usize].transports.is_empty() {
        true => Vec::new(),
        false => speaks.map(one).collect(),
    }
}

fn keys_of(seed: u64, name: &str) -> Keys {
    let mut rng = stream(seed, &format!("{name} keys"));
    Keys {
        identity: IdentitySecret::from_rng(&mut rng),
        link: LinkSecret::from_rng(&mut rng),
    }
}

/// `n` of `all`, different ones, or all of them.
fn some(rng: &mut impl Rng, all: &[HostId], n: usize) -> Vec<HostId> {
    let mut left = all.to_vec();
    let mut out = Vec::with_capacity(n.min(left.len()));
    while out.len() < n && !left.is_empty() {
        let pick = (rng.next_u64() % left.len() as u64) as usize;
        out.push(left.swap_remove(pick));
    }
    out
}

/// Everybody who is to write to somebody has met that person and exchanged texts.
fn meetings(plan: &Plan) -> Result<Meetings, RunError> {
    let mut met: Meetings = BTreeMap::new();
    for edge in plan.edges.iter().filter(|edge| edge.carries == Carries::Messages) {
        let pair = (edge.from.min(edge.to), edge.from.max(edge.to));
        if met
            .get(&pair.0)
            .is_some_and(|known| known.iter().any(|(_, other, _)| *other == pair.1))
        {
            continue;
        }
        let name = |host: HostId| &plan.hosts[host as usize].name;
        let mut rng = stream(plan.seed, &format!("{} meets {}", name(pair.0), name(pair.1)));
        let failed = |error: contact::Error| RunError::Failed(format!("a contact exchange: {error}"));
        let invitation = contact::Invitation::new(&mut rng);
        let (theirs, answer) = contact::accept(&invitation.to_text(), &mut rng).map_err(failed)?;
        let (ours, confirmation) = invitation.finish(&answer).map_err(failed)?;
        theirs.check_confirmation(&confirmation).map_err(failed)?;
        met.entry(pair.0)
            .or_default()
            .push((contact_id(plan, pair.1)?, pair.1, Box::new(ours)));
        met.entry(pair.1)
            .or_default()
            .push((contact_id(plan, pair.0)?, pair.0, Box::new(theirs)));
    }
    Ok(met)
}
