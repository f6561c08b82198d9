//! `phantom-node init`, `phantom-node directory init`: keys and settings.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use phantom_core::dht::Endpoint;
use phantom_core::runtime::Entropy;
use phantom_node::settings::text::{Contact, ContactKind, OperatorName, Time, hex};
use phantom_node::settings::{AuthoritySettings, KeyFile, NodeSettings, Source};

use super::template::{Template, list, quoted};
use super::{Failure, with_entropy};

/// What nodes and authorities are both asked.
#[derive(Debug, clap::Args)]
struct Common {
    /// Where to write keys and settings; made if it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where it listens; may be given several times
    #[arg(long, required = true, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Under which address others reach it; may be given several times [default: those of --listen]
    #[arg(long, value_name = "IP:PORT")]
    address: Vec<SocketAddr>,
    /// The address that its own connections come from [default: the system's choice]
    #[arg(long, value_name = "IP")]
    outgoing: Option<IpAddr>,
    /// The contact line of a directory authority; once for each
    #[arg(long, value_name = "LINE")]
    authority: Vec<Contact>,
    /// How many authorities must sign [default: the least that is more than half]
    #[arg(long, value_name = "K")]
    threshold: Option<usize>,
    /// From one document to the next, as all authorities have it [default: 1 h]
    #[arg(long, value_name = "TIME")]
    interval: Option<Time>,
    /// How long a hop key is current, as all authorities have it [default: 1 h]
    #[arg(long, value_name = "TIME")]
    hop_period: Option<Time>,
    /// Write the settings anew if there are some; keys are always kept
    #[arg(long)]
    rewrite: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    common: Common,
    /// What it offers: entry, middle, storage; may be given several times [default: all three]
    #[arg(long, value_name = "ROLE", value_parser = ["entry", "middle", "storage"])]
    role: Vec<String>,
    /// Who runs it: the same text for all nodes of one operator
    #[arg(long, value_name = "NAME")]
    operator: Option<OperatorName>,
    /// Make it a bridge
    #[arg(long)]
    bridge: bool,
    /// The bridge's slots, from `phantom-node cohorts mint` [default: bridge.slots in DIR]
    #[arg(long, requires = "bridge", value_name = "FILE")]
    slots: Option<PathBuf>,
    /// A router of the DHT, instead of the published ones; may be given several times
    #[arg(long, requires = "bridge", value_name = "HOST:PORT")]
    router: Vec<Endpoint>,
    /// A node of the DHT known to be alive; may be given several times
    #[arg(long, requires = "bridge", value_name = "IP:PORT")]
    dht_node: Vec<SocketAddr>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AuthorityArgs {
    #[command(flatten)]
    common: Common,
}

impl Common {
    fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let addresses = if self.address.is_empty() {
            &self.listen
        } else {
            &self.address
        };
        if let Some(any) = addresses
            .iter()
            .find(|at| at.ip().is_unspecified() || at.port() == 0)
        {
            return Err(Failure::Usage(format!(
                "nobody can reach {any}: say with --address where others reach this server"
            )));
        }
        Ok(addresses.clone())
    }

    /// The keys, made if there are none.
    fn keys(&self, name: &str, bridge: bool) -> Result<KeyFile, Failure> {
        let path = self.dir.join(name);
        if path.exists() {
            println!("kept   {}", path.display());
            return Ok(KeyFile::read(&path)?);
        }
        fs::create_dir_all(&self.dir).map_err(Failure::doing(self.dir.display()))?;
        let keys = with_entropy(|rt| Ok(KeyFile::from_rng(&mut rt.rng("keys"), bridge)))?;
        keys.create(&path)?;
        println!("wrote  {} (secret, 0600; keep a copy offline)", path.display());
        Ok(keys)
    }

    fn fill(&self, template: &mut Template, authorities: &[Contact]) {
        template.set("listen", &list(&self.listen));
        template.set("authorities", &list(authorities));
        template.set(
            "threshold",
            &self.threshold.unwrap_or(authorities.len() / 2 + 1).to_string(),
        );
        template.set_some("outgoing", self.outgoing.map(quoted));
        template.set_some("interval", self.interval.map(quoted));
        template.set_some("hop_period", self.hop_period.map(quoted));
    }

    /// Writes the settings, unless there are some.
    fn write(&self, name: &str, template: &Template) -> Result<(PathBuf, Source), Failure> {
        let path = self.dir.join(name);
        if path.exists() && !self.rewrite {
            return Err(Failure::Usage(format!(
                "{} exists: --rewrite writes it anew",
                path.display()
            )));
        }
        let text = template.text();
        fs::write(&path, &text).map_err(Failure::doing(path.display()))?;
        println!("wrote  {}", path.display());
        Ok((path.clone(), Source::new(&path, text)))
    }
}

/// Puts text into single quotes if a shell needs that.
fn config_argument(path: &Path) -> String {
    format!("--config '{}'", path.display())
}

pub(crate) fn node(args: &NodeArgs) -> Result<(), Failure> {
    let common = &args.common;
    let addresses = common.addresses()?;
    let (example, stem) = if args.bridge {
        (include_str!("../../../deploy/bridge.toml"), "bridge")
    } else {
        (include_str!("../../../deploy/node.toml"), "node")
    };
    let mut template = Template::new(example);
    common.fill(&mut template, &common.authority);
    template.set("addresses", &list(&addresses));
    if args.bridge {
        template.set_some("slots", args.slots.as_ref().map(|path| quoted(path.display())));
        if !args.router.is_empty() || !args.dht_node.is_empty() {
            template.set("routers", &list(&args.router));
            template.set("nodes", &list(&args.dht_node));
        }
    } else {
        template.set_some("roles", (!args.role.is_empty()).then(|| list(&args.role)));
        template.set_some("operator", args.operator.as_ref().map(|name| quoted(&name.0)));
    }
    let keys = common.keys(&format!("{stem}.keys"), args.bridge)?;
    let (path, source) = common.write(&format!("{stem}.toml"), &template)?;
    println!("name   {}", hex(keys.keys.identity.public().node_id().as_bytes()));
    if common.authority.is_empty() {
        println!(
            "next   put the contact lines of the directory authorities into {}",
            path.display()
        );
        return Ok(());
    }
    let settings = NodeSettings::parse(&source)?;
    if args.bridge {
        println!(
            "next   get {} from whoever keeps the ledger, then",
            settings
                .bridge
                .map_or_else(String::new, |bridge| bridge.slots.display().to_string())
        );
    } else {
        println!("line   {}", settings.contact(&keys));
    }
    println!("next   phantom-node check {}", config_argument(&path));
    Ok(())
}

pub(crate) fn authority(args: &AuthorityArgs) -> Result<(), Failure> {
    let common = &args.common;
    let addresses = common.addresses()?;
    let keys = common.keys("directory.keys", false)?;
    let own = Contact {
        kind: ContactKind::Authority,
        identity: keys.keys.identity.public(),
        link: keys.keys.link.public(),
        endpoints: addresses.into_iter().map(Endpoint::Addr).collect(),
    };
    let mut authorities = common.authority.clone();
    if authorities.iter().all(|other| other.identity != own.identity) {
        authorities.insert(0, own.clone());
    }
    let mut template = Template::new(include_str!("../../../deploy/directory.toml"));
    common.fill(&mut template, &authorities);
    let (path, source) = common.write("directory.toml", &template)?;
    AuthoritySettings::parse(&source)?;
    println!("line   {own}");
    println!(
        "next   give this line to the other authorities; with all lines: the same command with --rewrite --authority LINE …"
    );
    println!("next   phantom-node directory run {}", config_argument(&path));
    Ok(())
}
