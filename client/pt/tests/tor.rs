//! The child's side with tor itself as the parent, on loopback: a bridge and a client of tor, each of which starts the example
//! `plain`. Not installed, nothing is tested; with `PHANTOM_REQUIRE_INTEROP` set that is a failure.
//!
//! The one directory authority that both know is a port where nothing listens, so that no tor leaves the machine.

#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]
#![expect(clippy::disallowed_types, reason = "tor has to be told a port")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{installed, plain};

const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 800;
/// Semicolon, equals sign, comma and backslash are those that one or another escape is about.
const SECRET: &str = r"a;b=c\d,e:f";

/// A running tor, killed when dropped; what it started ends with its input.
struct Tor {
    child: Child,
    folder: PathBuf,
}

impl Drop for Tor {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

impl Tor {
    fn start(program: &Path, folder: PathBuf, settings: &[(&str, &str)]) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let nobody = "0123456789ABCDEF0123456789ABCDEF01234567";
        let authority = format!("fake orport=1 v3ident={nobody} 127.0.0.1:1 {nobody}");
        let log = folder.join("log");
        let (data, log_to, empty) = (
            folder.join("data"),
            format!("notice file {}", log.display()),
            folder.join("torrc"),
        );
        fs::write(&empty, "").unwrap();
        let mut command = Command::new(program);
        command.arg("-f").arg(&empty).arg("--defaults-torrc").arg(&empty);
        command.args([
            "--TestingTorNetwork",
            "1",
            "--UseDefaultFallbackDirs",
            "0",
            "--DirAuthority",
        ]);
        command
            .arg(authority)
            .arg("--DataDirectory")
            .arg(data)
            .arg("--Log")
            .arg(log_to);
        for (name, value) in settings {
            command.arg(format!("--{name}")).arg(value);
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Waits until its log has all of these.
    fn says(&mut self, wanted: &[&str]) {
        for looks_left in (0..LOOKS).rev() {
            let log = self.log();
            let missing = wanted.iter().find(|text| !log.contains(**text));
            let Some(missing) = missing else { return };
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && looks_left > 0,
                "tor does not say {missing:?} (ended: {ended:?}):\n{log}"
            );
            common::wait(LOOK);
        }
    }

    /// The bridge's name, which its log has as well.
    fn fingerprint(&self) -> String {
        let text = fs::read_to_string(self.folder.join("data/fingerprint")).unwrap();
        text.split_whitespace().last().unwrap().to_owned()
    }
}

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
    let plugin = format!("plain exec {}", plain().display());
    let address = free_address();
    let mut bridge = Tor::start(
        &program,
        folder.path().join("bridge"),
        &[
            ("SocksPort", "0"),
            ("ORPort", "127.0.0.1:auto"),
            ("ExtORPort", "auto"),
            ("Address", "127.0.0.1"),
            ("BridgeRelay", "1"),
            ("PublishServerDescriptor", "0"),
            ("AssumeReachable", "1"),
            ("ServerTransportPlugin", &plugin),
            ("ServerTransportListenAddr", &format!("plain {address}")),
            ("ServerTransportOptions", &format!("plain secret={SECRET}")),
        ],
    );
    bridge.says(&[&format!("Registered server transport 'plain' at '{address}'")]);
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
        Tor::start(
            &self.program,
            self._folder.path().join(name),
            &[
                ("SocksPort", "auto"),
                ("UseBridges", "1"),
                ("ClientTransportPlugin", &self.plugin),
                ("Bridge", &line),
            ],
        )
    }
}

/// A port that was free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
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
