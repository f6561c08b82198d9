//! The child's side with tor itself as the parent, on loopback: a bridge and a client of tor, each of which starts the example
//! `plain`. Not installed, nothing is tested; with `PHANTOM_REQUIRE_INTEROP` set that is a failure.
//!
//! The one directory authority that both know is a port where nothing listens, so that no tor leaves the machine.

#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

mod common;

use std::path::PathBuf;

use common::tor::{Tor, free_address};
use common::{installed, plain};

/// Semicolon, equals sign, comma and backslash are those that one or another escape is about.
const SECRET: &str = r"a;b=c\d,e:f";

struct Pair {
    _folder: tempfile::TempDir,
    program: PathBuf,
    plugin: String,
    bridge: Tor,
    address: String,
}

/// A bridge that hands over through its Extended ORPort, and what a client needs.
fn bridge() -> Option<Pair> {
    let program = installed("tor")?;
    let folder = tempfile::tempdir().unwrap();
    let plugin = plain().display().to_string();
    let address = free_address();
    let bridge = common::tor::bridge(
        &program,
        folder.path().join("bridge"),
        ("plain", &plugin),
        &address,
        &[("ServerTransportOptions", &format!("plain secret={SECRET}"))],
    );
    Some(Pair {
        _folder: folder,
        program,
        plugin,
        bridge,
        address,
    })
}

impl Pair {
    fn client(&self, name: &str, secret: &str) -> Tor {
        let line = format!(
            "plain {} {} secret={secret}",
            self.address,
            self.bridge.fingerprint()
        );
        common::tor::client(
            &self.program,
            self._folder.path().join(name),
            ("plain", &self.plugin),
            &line,
        )
    }
}

/// The whole way: tor, our SOCKS server with the arguments of the bridge line, our server with its options, our Extended
/// ORPort client, and tor again, which gives the client its descriptor.
#[test]
fn tor_reaches_its_bridge_through_both_sides_of_our_program() {
    let Some(pair) = bridge() else { return };
    let mut client = pair.client("client", SECRET);
    client.says(&[
        "(conn_done_pt): Connected to pluggable transport",
        "(handshake_done): Handshake with a relay done",
        "new bridge descriptor",
    ]);
    let (client, bridge) = (client.log(), pair.bridge.log());
    for log in [&client, &bridge] {
        assert!(
            !log.contains("Managed proxy") && !log.contains("malformed"),
            "{log}"
        );
    }
}

/// That the arguments of a bridge line matter shows that they arrive.
#[test]
fn tor_with_another_secret_in_its_bridge_line_gets_no_further_than_the_transport() {
    let Some(pair) = bridge() else { return };
    let mut client = pair.client("stranger", "other");
    client.says(&[
        "(conn_done): Connected to a relay",
        "connections died in state handshaking (TLS)",
    ]);
    let log = client.log();
    assert!(!log.contains("(handshake_done)"), "{log}");
}

/// What tor makes of a program that cannot use the proxy, and of one that can.
#[test]
fn tor_is_told_whether_its_upstream_proxy_is_used() {
    let Some(program) = installed("tor") else { return };
    let folder = tempfile::tempdir().unwrap();
    let plugin = format!("plain exec {}", plain().display());
    let start = |name: &str, proxy: &str| {
        let settings = [
            ("SocksPort", "auto"),
            ("UseBridges", "1"),
            ("ClientTransportPlugin", &*plugin),
            ("Bridge", "plain 127.0.0.1:1 secret=a"),
            (proxy, "127.0.0.1:1"),
        ];
        Tor::start(&program, folder.path().join(name), &settings)
    };
    start("socks5", "Socks5Proxy").says(&["(conn_pt): Connecting to pluggable transport"]);
    start("https", "HTTPSProxy").says(&["http upstream proxies are not supported here: wanted socks5"]);
}
