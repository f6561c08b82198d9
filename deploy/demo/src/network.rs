//! The network of the demo, set up with the commands that docs/OPERATOR.md gives to operators.

use std::fs;
use std::time::Duration;

use crate::Failure;
use crate::processes::Stage;

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

fn texts(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// The contact line that `init` prints.
fn line(printed: &str) -> Result<String, Failure> {
    let line = printed.lines().find_map(|line| line.strip_prefix("line   "));
    line.map(str::to_owned)
        .ok_or_else(|| Failure(format!("no contact line in:\n{printed}")))
}

impl Stage {
    fn dht(&self, number: u8) -> String {
        format!("{}:{DHT_PORT}", self.address(3, number))
    }

    /// What every `init` is told about where it is.
    fn place(&self, dir: &str, group: u8, number: u8) -> Vec<String> {
        let ip = self.address(group, number).to_string();
        let listen = format!("{ip}:{NODE_PORT}");
        texts(&[
            "--dir",
            dir,
            "--listen",
            &listen,
            "--outgoing",
            &ip,
            "--interval",
            INTERVAL,
        ])
    }
}

/// Writes keys and settings of everybody, and the bundles of the users.
pub(crate) async fn set_up(stage: &Stage) -> Result<(), Failure> {
    fs::create_dir_all(&stage.dir)?;
    // Authorities: each makes its keys; once the contact lines are exchanged, each writes its settings.
    let mut authorities = Vec::new();
    let mut lines = Vec::new();
    for n in 1..=AUTHORITIES {
        let args = [
            texts(&["directory", "init"]),
            stage.place(&format!("authority-{n}"), 1, n),
        ]
        .concat();
        let authority = line(&stage.run("phantom-node", &args).await?)?;
        lines.extend(texts(&["--authority", &authority]));
        authorities.push(authority);
    }
    for n in 1..=AUTHORITIES {
        let place = stage.place(&format!("authority-{n}"), 1, n);
        let args = [texts(&["directory", "init", "--rewrite"]), place, lines.clone()].concat();
        stage.run("phantom-node", &args).await?;
    }
    // Listed nodes, each with an operator of its own.
    let mut entries = Vec::new();
    for n in 1..=ENTRIES {
        let place = stage.place(&format!("entry-{n}"), 2, n);
        let args = [texts(&["init", "--role", "entry"]), place, lines.clone()].concat();
        entries.push(line(&stage.run("phantom-node", &args).await?)?);
    }
    for n in 1..=STORES {
        let place = stage.place(&format!("store-{n}"), 4, n);
        let offers = [
            "init",
            "--role",
            "middle",
            "--role",
            "storage",
            "--operator",
            &format!("operator {n}"),
        ];
        stage
            .run("phantom-node", &[texts(&offers), place, lines.clone()].concat())
            .await?;
    }
    // Bridges, and the cohorts whose slots they hold: one cohort per user.
    let (users, bridges) = (USERS.len().to_string(), BRIDGES.to_string());
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
    stage.run("phantom-node", &texts(&mint)).await?;
    for n in 1..=BRIDGES {
        let place = stage.place(&format!("bridge-{n}"), 5, n);
        let slots = format!("../ledger/bridge-{}.slots", n - 1);
        let (router, known) = (stage.dht(1), stage.dht(2));
        let more = [
            "init",
            "--bridge",
            "--slots",
            &slots,
            "--router",
            &router,
            "--dht-node",
            &known,
        ];
        stage
            .run("phantom-node", &[texts(&more), place, lines.clone()].concat())
            .await?;
    }
    // What users are installed with.
    let quoted = |items: &[String]| {
        format!(
            "[{}]",
            items
                .iter()
                .map(|i| format!("{i:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        )
    };
    let known: Vec<String> = (2..2 + DHT_NODES_KNOWN).map(|n| stage.dht(n)).collect();
    let network = format!(
        "entries = {}\n[directory]\nthreshold = {}\nauthorities = {}\ninterval = {INTERVAL:?}\n[dht]\nrouters = {}\nnodes = {}\n",
        quoted(&entries),
        AUTHORITIES / 2 + 1,
        quoted(&authorities),
        quoted(&[stage.dht(1)]),
        quoted(&known),
    );
    fs::write(stage.dir.join("network.toml"), network)?;
    for (cohort, user) in USERS.iter().enumerate() {
        let (cohort, out) = (cohort.to_string(), format!("{user}.bundle"));
        let args = [
            "bundle",
            "--ledger",
            "ledger/ledger",
            "--cohort",
            &cohort,
            "--out",
            &out,
        ];
        stage.run("phantom-node", &texts(&args)).await?;
    }
    Ok(())
}

/// Starts everything but the bridges, and waits until every node is in the directory document.
pub(crate) async fn start(stage: &mut Stage) -> Result<String, Failure> {
    for n in 1..=DHT_NODES {
        let (own, first) = (stage.dht(n), stage.dht(1));
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
        stage
            .until(LISTED_LIMIT, async |stage: &Stage| {
                says(stage, &args, &wanted).await
            })
            .await?;
    }
    Ok(format!(
        "{AUTHORITIES} authorities agree on a document of {} nodes; {DHT_NODES} DHT nodes run",
        ENTRIES + STORES
    ))
}

/// Starts the bridges and waits until they can be found.
pub(crate) async fn start_bridges(stage: &mut Stage) -> Result<String, Failure> {
    let check = texts(&["check", "--config", "bridge-1/bridge.toml"]);
    stage
        .until(DHT_LIMIT, async |stage: &Stage| {
            says(stage, &check, "ok    dht").await
        })
        .await?;
    for n in 1..=BRIDGES {
        let args = texts(&["run", "--config", &format!("bridge-{n}/bridge.toml")]);
        stage.start(&format!("bridge-{n}"), "phantom-node", &args)?;
    }
    for n in 1..=BRIDGES {
        let args = texts(&["status", "--config", &format!("bridge-{n}/bridge.toml")]);
        stage
            .until(BRIDGES_LIMIT, async |stage: &Stage| {
                says(stage, &args, "items published, 0 not").await
            })
            .await?;
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

/// Whether the output of a command contains `wanted`; otherwise the output.
async fn says(stage: &Stage, args: &[String], wanted: &str) -> Result<Result<(), String>, Failure> {
    let (_, out, err) = stage.try_run("phantom-node", args).await?;
    Ok(if out.contains(wanted) {
        Ok(())
    } else {
        Err(format!("{}{}", out.trim(), err.trim()))
    })
}
