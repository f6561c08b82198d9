//! The network of the demo, set up with the commands that docs/OPERATOR.md gives to operators.

use std::net::SocketAddr;
use std::time::Duration;

use phantom_drive::network::{Network, Node, Place, until_says};
use phantom_drive::{Failure, texts};

use crate::stage::Stage;

/// Directory authorities.
const AUTHORITIES: u8 = 3;
/// Listed nodes that are entries and nothing else: the ones that are published.
const ENTRIES: u8 = 2;
/// Listed nodes that relay and store.
const STORES: u8 = 4;
/// Unlisted entries.
const BRIDGES: u8 = 2;
/// Nodes of the DHT.
const DHT_NODES: u8 = 12;
/// How many of those a client is installed with.
const DHT_NODES_KNOWN: u8 = 3;

/// An hour in the life of a directory, for an audience that has a minute.
const INTERVAL: &str = "4 s";
const NODE_PORT: u16 = 4430;
const DHT_PORT: u16 = 6881;
/// From starting processes to a document with all nodes: three intervals on a slow machine.
const LISTED_LIMIT: Duration = Duration::from_secs(25);
const DHT_LIMIT: Duration = Duration::from_secs(20);
const BRIDGES_LIMIT: Duration = Duration::from_secs(25);

/// Users, by the names of their bundles.
pub(crate) const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

impl Stage {
    fn dht(&self, number: u8) -> SocketAddr {
        SocketAddr::new(self.address(3, number).into(), DHT_PORT)
    }

    fn place(&self, name: String, group: u8, number: u8) -> Place {
        let ip = self.address(group, number).into();
        Place {
            name,
            listen: SocketAddr::new(ip, NODE_PORT),
            outgoing: Some(ip),
        }
    }
}

/// Writes keys and settings of everybody, and the bundles of the users.
pub(crate) async fn set_up(stage: &Stage) -> Result<(), Failure> {
    let entries = (1..=ENTRIES).map(|n| Node {
        place: stage.place(format!("entry-{n}"), 2, n),
        roles: vec!["entry"],
        operator: None,
        published: true,
        dns_name: None,
    });
    // Each with an operator of its own.
    let stores = (1..=STORES).map(|n| Node {
        place: stage.place(format!("store-{n}"), 4, n),
        roles: vec!["middle", "storage"],
        operator: Some(format!("operator {n}")),
        published: false,
        dns_name: None,
    });
    let network = Network {
        interval: INTERVAL.to_owned(),
        authorities: (1..=AUTHORITIES)
            .map(|n| stage.place(format!("authority-{n}"), 1, n))
            .collect(),
        nodes: entries.chain(stores).collect(),
        bridges: (1..=BRIDGES)
            .map(|n| stage.place(format!("bridge-{n}"), 5, n))
            .collect(),
        routers: vec![stage.dht(1).to_string()],
        bridge_routers: vec![stage.dht(1).to_string()],
        dht_nodes: (2..2 + DHT_NODES_KNOWN).map(|n| stage.dht(n)).collect(),
        users: USERS.map(str::to_owned).to_vec(),
    };
    network.set_up(stage).await
}

/// Starts everything but the bridges, and waits until every node is in the directory document.
pub(crate) async fn start(stage: &mut Stage) -> Result<String, Failure> {
    for n in 1..=DHT_NODES {
        let (own, first) = (stage.dht(n).to_string(), stage.dht(1).to_string());
        let mut args = texts(&["dht", "--bind", &own]);
        if n > 1 {
            args.extend(texts(&["--join", &first]));
        }
        stage.start(&format!("dht-{n}"), "phantom-node", &args)?;
    }
    for n in 1..=AUTHORITIES {
        let config = format!("authority-{n}/directory.toml");
        stage.start(
            &format!("authority-{n}"),
            "phantom-node",
            &texts(&["directory", "run", "--config", &config]),
        )?;
    }
    let listed: Vec<String> = (1..=ENTRIES)
        .map(|n| format!("entry-{n}"))
        .chain((1..=STORES).map(|n| format!("store-{n}")))
        .collect();
    for node in &listed {
        stage.start(
            node,
            "phantom-node",
            &texts(&["run", "--config", &format!("{node}/node.toml")]),
        )?;
    }
    let wanted = format!("{} nodes, this one among them", ENTRIES + STORES);
    for node in &listed {
        let args = texts(&["status", "--config", &format!("{node}/node.toml")]);
        until_says(stage, LISTED_LIMIT, &args, &wanted).await?;
    }
    Ok(format!(
        "{AUTHORITIES} authorities agree on a document of {} nodes; {DHT_NODES} DHT nodes run",
        ENTRIES + STORES
    ))
}

/// Starts the bridges and waits until they can be found.
pub(crate) async fn start_bridges(stage: &mut Stage) -> Result<String, Failure> {
    let check = texts(&["check", "--config", "bridge-1/bridge.toml"]);
    until_says(stage, DHT_LIMIT, &check, "ok    dht").await?;
    for n in 1..=BRIDGES {
        let args = texts(&["run", "--config", &format!("bridge-{n}/bridge.toml")]);
        stage.start(&format!("bridge-{n}"), "phantom-node", &args)?;
    }
    for n in 1..=BRIDGES {
        let args = texts(&["status", "--config", &format!("bridge-{n}/bridge.toml")]);
        until_says(stage, BRIDGES_LIMIT, &args, "items published, 0 not").await?;
    }
    Ok(format!(
        "{BRIDGES} unlisted bridges have put sealed records for {} users into the DHT",
        USERS.len()
    ))
}

/// Kills the entries that every client was installed with.
pub(crate) async fn kill_entries(stage: &mut Stage) -> Result<String, Failure> {
    for n in 1..=ENTRIES {
        stage.kill(&format!("entry-{n}")).await?;
    }
    Ok(format!("the {ENTRIES} published entries are killed"))
}
