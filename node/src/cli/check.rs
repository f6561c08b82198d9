//! `phantom-node check`: would a node with these settings work? Everything is tried, and every answer printed.

use std::path::PathBuf;
use std::time::Duration;

use phantom_core::dht::DhtClient;
use phantom_core::directory::document::SharedDocument;
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Net, Store};
use phantom_core::units::WallTime;
use phantom_node::config::NodeConfig;
use phantom_node::fetch_document;
use phantom_node::settings::{NodeSettings, Source};

use super::status::Written;
use super::{Failure, Scratch, on_tokio, peer};

/// The file that is written to see whether that works.
const PROBE: &str = "check-probe";
/// No wall clock of a working machine shows less: 2026-01-01.
const EARLIEST: WallTime = WallTime::from_unix_secs(1_767_225_600);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node's settings
    #[arg(long, default_value = "node.toml", value_name = "FILE")]
    config: PathBuf,
    /// Do not ask the directory or the DHT
    #[arg(long)]
    offline: bool,
}

/// Prints what was found and remembers whether all was well.
struct Findings {
    failed: u32,
}

impl Findings {
    fn note(&mut self, what: &str, found: Result<String, String>) {
        match found {
            Ok(how) => println!("ok    {what:<10} {how}"),
            Err(why) => {
                self.failed += 1;
                println!("FAIL  {what:<10} {why}");
            }
        }
    }
}

pub(crate) fn check(args: &Args) -> Result<(), Failure> {
    let settings = NodeSettings::parse(&Source::read(&args.config)?)?;
    let mut findings = Findings { failed: 0 };
    findings.note("settings", Ok(args.config.display().to_string()));
    // In a directory of its own: the node itself may be running.
    let scratch = Scratch::in_dir(&settings.data)?;
    on_tokio(async {
        let rt = peer(Config {
            address: settings.outgoing,
            ..Config::new("check", &scratch.0)
        })?;
        let config = match settings.config() {
            Ok((config, _)) => {
                let slots = config
                    .bridge
                    .as_ref()
                    .map(|bridge| format!(", {} slots", bridge.slots.0.len()));
                let how = format!(
                    "{}, mode 600{}",
                    settings.keys.display(),
                    slots.unwrap_or_default()
                );
                findings.note("keys", Ok(how));
                Some(config)
            }
            Err(error) => {
                findings.note("keys", Err(error.to_string()));
                None
            }
        };
        addresses(&rt, &settings, &mut findings).await;
        findings.note("clock", clock(&rt, &settings));
        findings.note(
            "disk",
            disk(&rt)
                .await
                .map(|()| format!("{} takes writes", settings.data.display())),
        );
        if !args.offline {
            directory(&rt, &settings, config.as_ref(), &mut findings).await;
            if let Some(config) = &config {
                dht(&rt, config, &mut findings).await;
            }
        }
        rt.shutdown().await;
        Ok(())
    })?;
    if findings.failed == 0 {
        return Ok(());
    }
    println!(
        "{} of these must be put right before the node works",
        findings.failed
    );
    Err(Failure::Silent)
}

async fn addresses(rt: &TokioRuntime, settings: &NodeSettings, findings: &mut Findings) {
    for at in settings.listens() {
        let found = match rt.listen(at).await {
            Ok(_) => Ok(format!("{at} can be listened on")),
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && Written::is_fresh(&settings.data, rt.wall()) =>
            {
                Ok(format!("{at} is in use by the node, which runs"))
            }
            Err(error) => Err(format!("{at}: {error}")),
        };
        findings.note("address", found);
    }
}

fn clock(rt: &TokioRuntime, settings: &NodeSettings) -> Result<String, String> {
    let (now, limits) = (rt.wall(), settings.clock.limits());
    if now < EARLIEST {
        return Err(format!(
            "the wall clock shows {} s after 1970: it is not set",
            now.as_unix_secs()
        ));
    }
    let bytes = match std::fs::read(settings.data.join("time")) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.to_string()),
    };
    let highest = bytes
        .and_then(|bytes| <[u8; 8]>::try_from(&bytes[..]).ok())
        .map(u64::from_be_bytes);
    let Some(highest) = highest.map(WallTime::from_unix_nanos) else {
        return Ok("plausible; the node has not run before".to_owned());
    };
    if now + limits.behind < highest {
        let by = highest.saturating_since(now).as_secs();
        return Err(format!("{by} s behind the time at which the node last ran"));
    }
    if now > highest + limits.downtime {
        let by = now.saturating_since(highest).as_secs() / 86_400;
        return Err(format!(
            "{by} days after the node last ran; if that is so, raise [clock] downtime once"
        ));
    }
    Ok("plausible".to_owned())
}

async fn disk(rt: &TokioRuntime) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    rt.write(PROBE, b"phantom-node check").await.map_err(text)?;
    let read = rt.read(PROBE).await.map_err(text)?;
    rt.remove(PROBE).await.map_err(text)?;
    if read.as_deref() == Some(b"phantom-node check") {
        Ok(())
    } else {
        Err("what was written is not what is read".to_owned())
    }
}

async fn directory(
    rt: &TokioRuntime,
    settings: &NodeSettings,
    config: Option<&NodeConfig>,
    findings: &mut Findings,
) {
    let link = phantom_core::link::Config {
        handshake_limit: Duration::from_secs(5),
        ..settings.link.config()
    };
    let (mut reached, mut why) = (0, Vec::new());
    let mut newest: Option<SharedDocument> = None;
    for authority in &settings.directory.authorities {
        match fetch_document(rt, authority, &link).await {
            Ok(signed) => {
                reached += 1;
                let document =
                    signed.map(|bytes| SharedDocument::new(rt, &settings.directory.pinned, &bytes));
                match document {
                    None => {}
                    Some(Ok(document)) => newest = Some(document),
                    Some(Err(error)) => why.push(format!("{}: {error}", authority.addresses[0])),
                }
            }
            Err(error) => why.push(format!("{}: {error}", authority.addresses[0])),
        }
    }
    let all = settings.directory.authorities.len();
    let found = format!("{reached} of {all} authorities answer");
    findings.note(
        "directory",
        match why.is_empty() {
            true => Ok(found),
            // One that answers is enough to work with.
            false if newest.is_some() => Ok(format!("{found}; {}", why.join("; "))),
            false => Err(format!("{found}; {}", why.join("; "))),
        },
    );
    let Some(document) = newest else {
        findings.note("document", Err("no authority has one yet".to_owned()));
        return;
    };
    let document = &document.document;
    let now = rt.wall();
    let found = if document.valid_until() <= now {
        Err(format!(
            "the newest expired {} s ago",
            now.saturating_since(document.valid_until()).as_secs()
        ))
    } else if document.timing != settings.directory.timing {
        Err(format!(
            "its intervals are {:?}, the settings say {:?}",
            document.timing, settings.directory.timing
        ))
    } else {
        let listed = config
            .filter(|config| config.bridge.is_none())
            .map_or("", |config| {
                let me = config.keys.identity.public().node_id();
                if document.node(me).is_some() {
                    ", this one among them"
                } else {
                    ", this one not (yet) among them"
                }
            });
        Ok(format!("{} nodes{listed}", document.nodes.len()))
    };
    findings.note("document", found);
}

async fn dht(rt: &TokioRuntime, config: &NodeConfig, findings: &mut Findings) {
    let Some(dht) = config.bridge.as_ref().and_then(|bridge| bridge.dht.clone()) else {
        return;
    };
    // Any key will do: what counts is how many nodes answer on the way there.
    let key = *config.keys.identity.public().as_bytes();
    let found = match DhtClient::new(rt.clone(), dht).get_mutable(key, b"", 0).await {
        Ok(report) if report.alive.len() >= 3 => Ok(format!("{} nodes answer", report.alive.len())),
        Ok(report) => Err(format!("{} nodes answer, 3 are needed", report.alive.len())),
        Err(error) => Err(error.to_string()),
    };
    findings.note("dht", found);
}
