//! A network set up with the commands that docs/OPERATOR.md gives to operators, and contacts who met before.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::processes::Processes;
use crate::{Failure, texts};

/// Where a server is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its process, and its directory.
    pub name: String,
    /// Where it listens, and others reach it.
    pub listen: SocketAddr,
    /// The address that its own connections come from, if it must not be the system's choice.
    pub outgoing: Option<IpAddr>,
}

/// A listed node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where.
    pub place: Place,
    /// Its roles; none: all.
    pub roles: Vec<&'static str>,
    /// Who runs it, if that is said.
    pub operator: Option<String>,
    /// Whether every client is installed with it.
    pub published: bool,
    /// A name for it that every client is installed with as well.
    pub dns_name: Option<String>,
}

/// A network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// From one document to the next, as "5 s".
    pub interval: String,
    /// The directory authorities.
    pub authorities: Vec<Place>,
    /// The listed nodes.
    pub nodes: Vec<Node>,
    /// The bridges; each user's cohort has slots at up to four of them.
    pub bridges: Vec<Place>,
    /// What clients know as routers of the DHT.
    pub routers: Vec<String>,
    /// DHT nodes that bridges begin with: routers, by address, and others.
    pub bridge_routers: Vec<String>,
    /// DHT nodes known to be alive.
    pub dht_nodes: Vec<SocketAddr>,
    /// Users, in the order of their cohorts.
    pub users: Vec<String>,
}

/// The secret file that says which bridge holds which slot, below [`Processes::dir`].
pub const LEDGER: &str = "ledger/ledger";

/// The contact line that `init` prints.
fn line(printed: &str) -> Result<String, Failure> {
    let line = printed.lines().find_map(|line| line.strip_prefix("line   "));
    line.map(str::to_owned)
        .ok_or_else(|| Failure(format!("no contact line in:\n{printed}")))
}

impl Network {
    /// What every `init` is told about where it is.
    fn at(&self, place: &Place) -> Vec<String> {
        let mut args = texts(&[
            "--dir",
            &place.name,
            "--listen",
            &place.listen.to_string(),
            "--interval",
            &self.interval,
        ]);
        if let Some(outgoing) = place.outgoing {
            args.extend(texts(&["--outgoing", &outgoing.to_string()]));
        }
        args
    }

    /// Writes keys and settings of everybody, and the bundles of the users.
    ///
    /// # Errors
    /// A command refused.
    pub async fn set_up(&self, processes: &Processes) -> Result<(), Failure> {
        fs::create_dir_all(processes.dir())?;
        let (authorities, lines) = self.authorities(processes).await?;
        let entries = self.nodes(processes, &lines).await?;
        self.bridges(processes, &lines).await?;
        self.bundles(processes, &authorities, &entries).await
    }

    /// Each makes its keys; once the contact lines are exchanged, each writes its settings.
    async fn authorities(&self, processes: &Processes) -> Result<(Vec<String>, Vec<String>), Failure> {
        let (mut authorities, mut lines) = (Vec::new(), Vec::new());
        for place in &self.authorities {
            let args = [texts(&["directory", "init"]), self.at(place)].concat();
            let authority = line(&processes.run("phantom-node", &args).await?)?;
            lines.extend(texts(&["--authority", &authority]));
            authorities.push(authority);
        }
        for place in &self.authorities {
            let init = texts(&["directory", "init", "--rewrite"]);
            let args = [init, self.at(place), lines.clone()].concat();
            processes.run("phantom-node", &args).await?;
        }
        Ok((authorities, lines))
    }

    /// Returns the contact lines of those that are published.
    async fn nodes(&self, processes: &Processes, lines: &[String]) -> Result<Vec<String>, Failure> {
        let mut entries = Vec::new();
        for node in &self.nodes {
            let mut args = texts(&["init"]);
            for role in &node.roles {
                args.extend(texts(&["--role", role]));
            }
            if let Some(operator) = &node.operator {
                args.extend(texts(&["--operator", operator]));
            }
            let args = [args, self.at(&node.place), lines.to_vec()].concat();
            let mut contact = line(&processes.run("phantom-node", &args).await?)?;
            if let Some(name) = &node.dns_name {
                contact.push_str(&format!(",{name}:{}", node.place.listen.port()));
            }
            if node.published {
                entries.push(contact);
            }
        }
        Ok(entries)
    }

    /// Bridges, and the cohorts whose slots they hold: one cohort per user.
    async fn bridges(&self, processes: &Processes, lines: &[String]) -> Result<(), Failure> {
        // Where nobody runs a bridge, slots are dealt all the same, to a bridge that is not there.
        let (users, bridges) = (
            self.users.len().max(1).to_string(),
            self.bridges.len().max(1).to_string(),
        );
        let mint = [
            "cohorts",
            "mint",
            "--cohorts",
            &users,
            "--bridges",
            &bridges,
            "--out",
            "ledger",
        ];
        processes.run("phantom-node", &texts(&mint)).await?;
        for (n, place) in self.bridges.iter().enumerate() {
            let mut args = texts(&[
                "init",
                "--bridge",
                "--slots",
                &format!("../ledger/bridge-{n}.slots"),
            ]);
            for router in &self.bridge_routers {
                args.extend(texts(&["--router", router]));
            }
            for known in &self.dht_nodes {
                args.extend(texts(&["--dht-node", &known.to_string()]));
            }
            let args = [args, self.at(place), lines.to_vec()].concat();
            processes.run("phantom-node", &args).await?;
        }
        Ok(())
    }

    /// What users are installed with.
    async fn bundles(
        &self,
        processes: &Processes,
        authorities: &[String],
        entries: &[String],
    ) -> Result<(), Failure> {
        let quoted = |items: &[String]| {
            let items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
            format!("[{}]", items.join(", "))
        };
        let known: Vec<String> = self.dht_nodes.iter().map(ToString::to_string).collect();
        let network = format!(
            "entries = {}\n[directory]\nthreshold = {}\nauthorities = {}\ninterval = {:?}\n[dht]\nrouters = {}\nnodes = {}\n",
            quoted(entries),
            authorities.len() / 2 + 1,
            quoted(authorities),
            self.interval,
            quoted(&self.routers),
            quoted(&known),
        );
        fs::write(processes.dir().join("network.toml"), network)?;
        for (cohort, user) in self.users.iter().enumerate() {
            let (cohort, out) = (cohort.to_string(), format!("{user}.bundle"));
            let args = ["bundle", "--ledger", LEDGER, "--cohort", &cohort, "--out", &out];
            processes.run("phantom-node", &texts(&args)).await?;
        }
        Ok(())
    }
}

/// The home of a user's client, below [`Processes::dir`].
pub fn home(user: &str) -> String {
    format!("{user}-home")
}

/// Makes a user's client from its bundle.
///
/// # Errors
/// It refused.
pub async fn install(processes: &Processes, user: &str) -> Result<(), Failure> {
    let args = [
        "--home",
        &home(user),
        "init",
        "--bundle",
        &format!("{user}.bundle"),
    ];
    processes.run("phantom", &texts(&args)).await?;
    Ok(())
}

/// Two users whose clients do not run become contacts, out of band, each under the other's name.
///
/// # Errors
/// A text was refused.
pub async fn meet(processes: &Processes, a: &str, b: &str) -> Result<(), Failure> {
    let offer = processes
        .run("phantom", &texts(&["--home", &home(a), "invite", b]))
        .await?;
    let accept = |user: &str, text: &str, name: &[&str]| {
        let mut args = texts(&["--home", &home(user), "accept", text.trim()]);
        args.extend(texts(name));
        args
    };
    let answer = processes
        .run("phantom", &accept(b, &offer, &["--name", a]))
        .await?;
    processes.run("phantom", &accept(a, &answer, &[])).await?;
    Ok(())
}

/// Waits until the output of a `phantom-node` command contains `wanted`.
///
/// # Errors
/// It does not in time, or a process ended.
pub async fn until_says(
    processes: &mut Processes,
    limit: Duration,
    args: &[String],
    wanted: &str,
) -> Result<(), Failure> {
    processes
        .until(limit, async |processes: &Processes| {
            let (_, out, err) = processes.try_run("phantom-node", args).await?;
            Ok(if out.contains(wanted) {
                Ok(())
            } else {
                Err(format!("{}{}", out.trim(), err.trim()))
            })
        })
        .await
}

/// A text field of an answer.
///
/// # Errors
/// There is none.
pub fn text(value: &Value, field: &str) -> Result<String, Failure> {
    let text = value[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Failure(format!("no {field} in {value}")))
}
