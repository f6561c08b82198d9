//! A plan as a network of real programs: what operators and users set up, and the command of each host.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use phantom_core::rendezvous::{Ledger, Slot};
use phantom_drive::network::{LEDGER, Network, Node, Place, home, install, meet};
use phantom_drive::processes::Processes;
use phantom_drive::{Failure, texts};

use super::super::ceremony::DHT_PORT;
use super::super::world::LINK_PORT;
use crate::run::RunError;
use crate::scenario::file::{Carries, ClientNode};
use crate::scenario::plan::{Happening, Host, HostId, Plan, Role};

/// Processes at once: each takes a share of the machine, and one thread carries all their packets.
pub(super) const HOSTS_MAX: usize = 20;

/// What of a plan cannot be emulated, said before anything is done.
pub(super) fn check(plan: &Plan) -> Result<(), RunError> {
    let unable = |why: String| Err(RunError::Unable(format!("emulation: {why}")));
    if plan.hosts.len() > HOSTS_MAX {
        return unable(format!(
            "{} hosts are too many: at most {HOSTS_MAX} real processes run at once; set fewer peers or write a smaller scenario",
            plan.hosts.len()
        ));
    }
    for host in &plan.hosts {
        if matches!(host.role, Role::Insider(_)) {
            return unable(format!(
                "{}: the censor's own clients are no real programs",
                host.name
            ));
        }
        if !host.transports.is_empty() {
            return unable(format!(
                "{}: bridges speak nothing but links there; leave its population's transports out",
                host.name
            ));
        }
        if host.clock_skew_ns != 0 {
            return unable(format!(
                "{}: all processes have the clock of this machine",
                host.name
            ));
        }
    }
    if let Some(fault) = plan
        .faults
        .iter()
        .find(|fault| matches!(fault.what, Happening::StepClock(_)))
    {
        return unable(format!(
            "the fault '{}': the clock of this machine is not set",
            fault.name
        ));
    }
    if let Some(edge) = plan
        .edges
        .iter()
        .find(|edge| edge.carries == Carries::Invitations)
    {
        return unable(format!(
            "the graph '{}': invitations are not handed over between real clients yet",
            edge.graph
        ));
    }
    Ok(())
}

fn at(host: &Host, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(host.address), port)
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis().max(1))
}

/// The plan's network as its operators set it up.
fn network(plan: &Plan) -> Network {
    let hosts = |wanted: fn(&Role) -> bool| plan.hosts.iter().filter(move |host| wanted(&host.role));
    let place = |host: &Host| Place {
        name: host.name.clone(),
        listen: at(host, LINK_PORT),
        outgoing: None,
    };
    let routers = || hosts(|role| *role == Role::DhtRouter);
    Network {
        interval: millis(plan.document_interval),
        authorities: hosts(|role| *role == Role::Authority).map(place).collect(),
        nodes: hosts(|role| *role == Role::Service)
            .map(|host| Node {
                place: place(host),
                roles: Vec::new(),
                // Everybody runs one node.
                operator: Some(host.name.clone()),
                published: host.published,
                dns_name: host.dns_name.clone().filter(|_| host.published),
            })
            .collect(),
        bridges: hosts(|role| *role == Role::Bridge).map(place).collect(),
        routers: routers()
            .map(|host| match &host.dns_name {
                Some(name) => format!("{name}:{DHT_PORT}"),
                None => at(host, DHT_PORT).to_string(),
            })
            .collect(),
        bridge_routers: routers().map(|host| at(host, DHT_PORT).to_string()).collect(),
        dht_nodes: hosts(|role| *role == Role::Dht)
            .map(|host| at(host, DHT_PORT))
            .collect(),
        users: hosts(|role| role.is_client())
            .map(|host| host.name.clone())
            .collect(),
    }
}

/// Sets everything up, contacts included. Returns which bridges hold the slots of a client.
pub(super) async fn set_up(
    plan: &Plan,
    processes: &Processes,
) -> Result<BTreeMap<HostId, Vec<HostId>>, Failure> {
    network(plan).set_up(processes).await?;
    let clients = || (0..).zip(&plan.hosts).filter(|(_, host)| host.role.is_client());
    for (_, host) in clients() {
        install(processes, &host.name).await?;
    }
    let mut met = std::collections::BTreeSet::new();
    for edge in plan.edges.iter().filter(|edge| edge.carries == Carries::Messages) {
        let (a, b) = (edge.from.min(edge.to), edge.from.max(edge.to));
        if a != b && met.insert((a, b)) {
            let name = |host: HostId| plan.hosts[host as usize].name.as_str();
            meet(processes, name(a), name(b)).await?;
        }
    }
    let bytes = std::fs::read(processes.dir().join(LEDGER))?;
    let ledger = Ledger::decode(&bytes).map_err(|error| Failure(format!("{LEDGER}: {error}")))?;
    let bridges: Vec<HostId> = (0..)
        .zip(&plan.hosts)
        .filter(|(_, host)| host.role == Role::Bridge)
        .map(|(id, _)| id)
        .collect();
    let (ledger, bridges) = (&ledger, &bridges);
    let holders = |cohort| {
        let held = Slot::ALL
            .into_iter()
            .filter_map(move |slot| ledger.holder(cohort, slot));
        held.filter_map(|n| bridges.get(n as usize).copied()).collect()
    };
    Ok(clients()
        .enumerate()
        .map(|(cohort, (id, _))| (id, holders(cohort)))
        .collect())
}

/// Where a host's events are written.
pub(super) fn events(dir: &Path, host: &Host) -> std::path::PathBuf {
    dir.join(format!("{}.events", host.name))
}

/// The arguments of `phantom-node` for a host that is no client.
pub(super) fn server(plan: &Plan, host: &Host) -> Vec<String> {
    let events = format!("{}.events", host.name);
    let config = |file: &str| format!("{}/{file}.toml", host.name);
    let mut args = match host.role {
        Role::Authority => texts(&["directory", "run", "--config", &config("directory")]),
        Role::Bridge => texts(&["run", "--config", &config("bridge")]),
        Role::Dht | Role::DhtRouter => {
            let mut args = texts(&[
                "dht",
                "--bind",
                &at(host, DHT_PORT).to_string(),
                "--items",
                "4096",
            ]);
            let others = plan.hosts.iter().filter(|other| other.role == Role::DhtRouter);
            for other in others.filter(|other| other.name != host.name) {
                args.extend(texts(&["--join", &at(other, DHT_PORT).to_string()]));
            }
            args
        }
        _ => texts(&["run", "--config", &config("node")]),
    };
    args.extend(texts(&["--events", &events]));
    args
}

/// The options of `phantom` for a client.
pub(super) fn client(host: &Host, node: ClientNode) -> Vec<String> {
    let mut steps = vec!["cached"];
    if node.published.is_on() {
        steps.extend(["static", "directory"]);
    }
    if node.dht.is_on() {
        steps.push("dht");
    }
    if node.friends.is_on() {
        steps.push("friends");
    }
    texts(&[
        "--home",
        &home(&host.name),
        "--poll",
        &millis(node.poll.0),
        "--steps",
        &steps.join(","),
        "--events",
        &format!("{}.events", host.name),
    ])
}

/// Empties a host's disk.
pub(super) fn lose_disk(dir: &Path, host: &Host) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir.join(&host.name).join("data")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
