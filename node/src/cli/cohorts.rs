//! `phantom-node cohorts mint`: a ledger of cohorts, and for each bridge the file of the slots it holds. SPEC §7.5, §7.8.

use std::fs;
use std::path::{Path, PathBuf};

use clap::value_parser;
use phantom_core::rendezvous::{BridgeSlots, Ledger, LedgerError, SLOTS, Slot, SlotWriter, mint};
use phantom_core::runtime::Entropy;
use phantom_core::runtime::tokio::TokioRuntime;
use phantom_node::settings::keyfile::create_secret;

use super::{Failure, with_entropy};

/// The ledger's file.
const LEDGER: &str = "ledger";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write a new ledger and the slots of its bridges.
    ///
    /// Each cohort has four slots for all time, given to four different bridges, so that whoever takes over one user
    /// learns of four bridges at most. With fewer than four bridges the other slots stay free. A cohort is for one user,
    /// or few who trust each other. Keep the ledger offline: it knows who holds what.
    Mint(MintArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct MintArgs {
    /// How many cohorts
    #[arg(long, value_parser = value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    cohorts: u32,
    /// How many bridges
    #[arg(long, value_parser = value_parser!(u32).range(1..=100_000), value_name = "N")]
    bridges: u32,
    /// Where to write `ledger` and `bridge-0.slots`, `bridge-1.slots`, …; must not have a ledger yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    let Command::Mint(args) = command;
    let path = args.out.join(LEDGER);
    if path.exists() {
        return Err(Failure::Usage(format!(
            "{} exists: a ledger is never replaced",
            path.display()
        )));
    }
    fs::create_dir_all(&args.out).map_err(Failure::doing(args.out.display()))?;
    let (ledger, bridges) =
        with_entropy(|rt| deal(rt, args).map_err(Failure::doing("giving slots to bridges")))?;
    create_secret(&path, &ledger.encode())?;
    println!("wrote  {} (secret, 0600; keep it offline)", path.display());
    for (number, slots) in bridges.into_iter().enumerate() {
        let path = args.out.join(format!("bridge-{number}.slots"));
        let count = slots.len();
        create_secret(&path, &BridgeSlots(slots).encode())?;
        println!("wrote  {} (secret, 0600; {count} slots)", path.display());
    }
    println!(
        "next   give each bridge its file; phantom-node bundle --ledger '{}' --cohort 0 …",
        path.display()
    );
    Ok(())
}

fn deal(rt: &TokioRuntime, args: &MintArgs) -> Result<(Ledger, Vec<Vec<SlotWriter>>), LedgerError> {
    let mut rng = rt.rng("cohorts");
    let cohorts = usize::try_from(args.cohorts).unwrap_or(usize::MAX);
    if args.bridges as usize >= SLOTS {
        let minted = mint(&mut rng, cohorts, args.bridges)?;
        return Ok((minted.ledger, minted.bridges));
    }
    let mut ledger = Ledger::default();
    let mut bridges: Vec<Vec<SlotWriter>> = (0..args.bridges).map(|_| Vec::new()).collect();
    for _ in 0..cohorts {
        let cohort = ledger.open(&mut rng);
        for ((bridge, slots), slot) in (0..).zip(&mut bridges).zip(Slot::ALL) {
            slots.push(ledger.give(cohort, slot, bridge)?);
        }
    }
    Ok((ledger, bridges))
}

/// Reads a ledger.
pub(crate) fn read_ledger(path: &Path) -> Result<Ledger, Failure> {
    let bytes = phantom_node::settings::keyfile::read_secret(path)?;
    Ledger::decode(&bytes).map_err(Failure::doing(path.display()))
}
