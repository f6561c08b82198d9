//! `phantom pt` with tor itself as the parent, on loopback: a bridge and a client of tor, each of which starts it, in place of obfs4proxy.
//! Not installed, nothing is tested; with `PHANTOM_REQUIRE_INTEROP` set that is a failure.

#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

#[path = "../pt/tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::PathBuf;

use common::installed;
use common::tor::{Tor, free_address};

const OURS: &str = concat!(env!("CARGO_BIN_EXE_phantom"), " pt");

struct Pair {
    folder: tempfile::TempDir,
    tor: PathBuf,
    bridge: Tor,
    address: String,
}

impl Pair {
    /// A bridge of tor's with this transport program, which hands over through the Extended ORPort.
    fn new(tor: PathBuf, plugin: &str) -> Self {
        Self::within(tempfile::tempdir().unwrap(), tor, plugin)
    }

    fn within(folder: tempfile::TempDir, tor: PathBuf, plugin: &str) -> Self {
        let address = free_address();
        let at = folder.path().join("bridge");
        let bridge = common::tor::bridge(&tor, at, ("obfs4", plugin), &address, &[]);
        Self {
            folder,
            tor,
            bridge,
            address,
        }
    }

    /// The arguments of the bridge's line, as its operator finds them.
    fn args(&self) -> String {
        let file = self
            .folder
            .path()
            .join("bridge/data/pt_state/obfs4_bridgeline.txt");
        let text = fs::read_to_string(file).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("Bridge obfs4"))
            .unwrap();
        line[line.find("cert=").unwrap()..].to_owned()
    }

    fn client(&self, name: &str, plugin: &str, args: &str) -> Tor {
        let line = format!("obfs4 {} {} {args}", self.address, self.bridge.fingerprint());
        common::tor::client(&self.tor, self.folder.path().join(name), ("obfs4", plugin), &line)
    }
}

/// From tor through ours to tor, with ours on one side and obfs4proxy on the other, and with ours on both.
#[test]
fn tor_reaches_its_bridge_through_phantom_pt_whoever_is_on_the_other_side() {
    let Some(tor) = installed("tor") else { return };
    let mut pairs = vec![(OURS.to_owned(), OURS.to_owned())];
    if let Some(theirs) = installed("obfs4proxy") {
        let theirs = theirs.display().to_string();
        pairs.extend([(OURS.to_owned(), theirs.clone()), (theirs, OURS.to_owned())]);
    }
    for (server, client) in pairs {
        let pair = Pair::new(tor.clone(), &server);
        let mut client = pair.client("client", &client, &pair.args());
        client.says(&[
            "(conn_done_pt): Connected to pluggable transport",
            "(handshake_done): Handshake with a relay done",
            "new bridge descriptor",
        ]);
        for log in [client.log(), pair.bridge.log()] {
            assert!(!log.contains("malformed"), "{log}");
        }
    }
}

/// A bridge's keys stay when obfs4proxy takes over from ours in the same folder, and back: the line is the same.
#[test]
fn a_bridge_keeps_its_line_when_programs_change() {
    let (Some(tor), Some(theirs)) = (installed("tor"), installed("obfs4proxy")) else {
        return;
    };
    let mut pair = Pair::new(tor, OURS);
    let line = pair.args();
    for plugin in [theirs.display().to_string(), OURS.to_owned()] {
        let Pair {
            folder, tor, bridge, ..
        } = pair;
        drop(bridge);
        pair = Pair::within(folder, tor, &plugin);
        assert_eq!(pair.args(), line, "{plugin}");
    }
}
