//! `phantom-node bundle`: what one installation of a client begins with. SPEC §7.8.

use std::path::PathBuf;

use phantom_core::rendezvous::Bundle;
use phantom_node::settings::keyfile::create_secret;
use phantom_node::settings::{NetworkSettings, Source};

use super::Failure;
use super::cohorts::read_ledger;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The network, as in deploy/network.toml
    #[arg(long, default_value = "network.toml", value_name = "FILE")]
    network: PathBuf,
    /// The ledger, from `phantom-node cohorts mint`
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// Which cohort of the ledger the installation belongs to, from 0: one user's, or that of few who trust each other
    #[arg(long, value_name = "N")]
    cohort: usize,
    /// Where to write it; a file that is there is never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn bundle(args: &Args) -> Result<(), Failure> {
    let network = NetworkSettings::parse(&Source::read(&args.network)?)?;
    let cohort = read_ledger(&args.ledger)?
        .cohort(args.cohort)
        .map_err(|error| Failure::Usage(format!("--cohort: {error} in {}", args.ledger.display())))?;
    let (entries, routers, nodes) = (
        network.entries.len(),
        network.routers.len(),
        network.dht_nodes.len(),
    );
    let bundle = Bundle {
        cohort,
        dht_nodes: network.dht_nodes.into(),
        routers: network.routers.into(),
        entries: network.entries.into(),
        directory: network.directory.pinned,
    };
    create_secret(&args.out, &bundle.encode())?;
    println!(
        "wrote  {} (secret, 0600): cohort {}, {entries} entries, {routers} DHT routers, {nodes} DHT nodes",
        args.out.display(),
        args.cohort
    );
    Ok(())
}
