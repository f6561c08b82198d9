//! The examples in `deploy/` are settings that work, and what they call defaults are the defaults.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::path::Path;

use phantom_node::settings::node::{LimitsSection, StoreSection};
use phantom_node::settings::{
    AuthoritySettings, ClockSection, LinkSection, NetworkSettings, NodeSettings, Source,
};

const NODE: &str = include_str!("../../deploy/node.toml");
const BRIDGE: &str = include_str!("../../deploy/bridge.toml");
const DIRECTORY: &str = include_str!("../../deploy/directory.toml");
const NETWORK: &str = include_str!("../../deploy/network.toml");

fn source(text: &str) -> Source {
    Source::new(Path::new("/etc/phantom/x.toml"), text.to_owned())
}

/// The example with every default written out.
fn uncommented(text: &str) -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| uncomment(line) + "\n").collect()
}

fn fails(text: &str) -> String {
    NodeSettings::parse(&source(text)).unwrap_err().to_string()
}

#[test]
fn examples_are_settings_and_show_the_real_defaults() {
    for text in [NODE.to_owned(), uncommented(NODE)] {
        let node = NodeSettings::parse(&source(&text)).unwrap();
        assert!(node.bridge.is_none());
        assert_eq!(node.store, StoreSection::default());
        assert_eq!(node.limits, LimitsSection::default());
        assert_eq!(node.link, LinkSection::default());
        assert_eq!(node.clock, ClockSection::default());
        assert_eq!(node.link.config(), phantom_core::link::Config::default());
        assert_eq!(node.store.config(), phantom_node::store::StoreConfig::default());
        assert_eq!(
            node.directory.timing,
            phantom_core::directory::document::Timing::default()
        );
        assert_eq!(node.roles, phantom_core::directory::descriptor::Roles::ALL);
        assert_eq!(node.data, Path::new("/etc/phantom/data"), "relative to the file");
    }
    for text in [BRIDGE.to_owned(), uncommented(BRIDGE)] {
        let bridge = NodeSettings::parse(&source(&text)).unwrap();
        let section = bridge.bridge.unwrap();
        assert_eq!((section.ways_back, section.dht.unwrap().routers.len()), (3, 2));
        assert_eq!(bridge.roles, phantom_core::directory::descriptor::Roles::ENTRY);
        assert_eq!(
            (bridge.limits, bridge.link),
            (LimitsSection::default(), LinkSection::default())
        );
    }
    for text in [DIRECTORY.to_owned(), uncommented(DIRECTORY)] {
        let authority = AuthoritySettings::parse(&source(&text)).unwrap();
        assert_eq!(
            (authority.directory.pinned.k(), authority.directory.pinned.n()),
            (2, 3)
        );
        assert_eq!(
            (authority.link, authority.clock),
            (LinkSection::default(), ClockSection::default())
        );
    }
    let network = NetworkSettings::parse(&source(NETWORK)).unwrap();
    assert_eq!((network.entries.len(), network.routers.len()), (2, 2));
}

#[test]
fn an_authority_lists_the_nodes_it_is_told() {
    let listed = DIRECTORY
        .replace("admission = \"open\"\n", "")
        .replace("#[admission", "[admission")
        .replace("#\"2e5f", "\"2e5f");
    let authority = AuthoritySettings::parse(&source(&listed)).unwrap();
    let phantom_core::directory::authority::Admission::Listed(nodes) = authority.admission else {
        panic!("a list")
    };
    assert_eq!(nodes.len(), 1);
}

#[test]
fn every_mistake_is_shown_where_it_is() {
    let at = |text: &str, needle: &str| {
        let line = text.lines().position(|line| line.contains(needle)).unwrap() + 1;
        let column = text.lines().nth(line - 1).unwrap().find(needle).unwrap() + 1;
        format!("/etc/phantom/x.toml:{line}:{column}: ")
    };
    for (from, to, needle, says) in [
        (
            "listen = [\"0.0.0.0:443\"]",
            "lisen = []",
            "lisen",
            "expected one of `data`, `keys`, `listen`",
        ),
        (
            "listen = [\"0.0.0.0:443\"]",
            "listen = []",
            "[]",
            "wanted 1 to 16 addresses",
        ),
        (
            "#interval = \"1 h\"",
            "interval = 3600",
            "3600",
            "a text in quotes",
        ),
        (
            "#interval = \"1 h\"",
            "interval = \"1 hour\"",
            "\"1 hour\"",
            "units: ms, s, min, h, d",
        ),
        (
            "#interval = \"1 h\"",
            "interval = \"1500 ms\"",
            "\"1500 ms\"",
            "whole seconds",
        ),
        ("threshold = 2", "threshold = 1", "1", "of 3 authorities"),
        ("#capacity = \"4 GiB\"", "capacity = \"4 GB\"", "\"4 GB\"", "TiB"),
        (
            "\"authority:d75a",
            "\"authority:zz5a",
            "\"authority:zz",
            "64 hexadecimal digits",
        ),
        (
            "\"authority:d75a",
            "\"node:d75a",
            "\"node:d75a",
            "the contact line of an authority",
        ),
        (
            "#roles = [\"entry\"",
            "roles = [\"exit\"",
            "\"exit\"",
            "`entry`, `middle`, `storage`",
        ),
    ] {
        assert!(NODE.contains(from), "{from}");
        let text = NODE.replacen(from, to, 1);
        let error = fails(&text);
        let place = if needle == "1" {
            at(&text, "threshold = 1").replace(":1: ", ":13: ")
        } else {
            at(&text, needle)
        };
        assert!(
            error.starts_with(&place) && error.contains(says),
            "{place} {says}: {error}"
        );
    }
}

/// What the example shows, put in.
fn with_transport(table: &str, keys: &str) -> String {
    let text = BRIDGE
        .replace("# [bridge.transports.obfs4-tls]", table)
        .replace("# listen = [\"0.0.0.0:8443\"]", keys)
        .replace("# addresses = [\"203.0.113.77:8443\"]\n", "");
    assert!(text.contains(table) && text.contains(keys));
    text
}

#[test]
fn a_bridge_may_have_transports_and_then_needs_no_plain_place() {
    const TABLE: &str = "[bridge.transports.obfs4-tls]";
    const KEYS: &str = "listen = [\"0.0.0.0:8443\"]\naddresses = [\"203.0.113.77:8443\"]";
    let text = with_transport(TABLE, KEYS);
    let both = NodeSettings::parse(&source(&text)).unwrap();
    let all: Vec<u16> = both.listens().iter().map(|at| at.port()).collect();
    assert_eq!(all, [443, 8443]);
    let plain = "listen = [\"0.0.0.0:443\"]\n";
    let addresses = "addresses = [\"203.0.113.77:443\"]\n";
    let hidden = text.replacen(plain, "", 1).replacen(addresses, "", 1);
    let hidden = NodeSettings::parse(&source(&hidden)).unwrap();
    assert_eq!(hidden.listens(), ["0.0.0.0:8443".parse().unwrap()]);
    // Half of a place is none, and a bridge without any is none.
    let half = fails(&text.replacen(plain, "", 1));
    assert!(half.contains("missing field `listen`"), "{half}");
    let none = fails(&BRIDGE.replacen(plain, "", 1).replacen(addresses, "", 1));
    assert!(none.contains("missing field `listen`"), "{none}");
}

#[test]
fn mistakes_in_transports_are_shown_with_their_place_and_the_choices() {
    const KEYS: &str = "listen = [\"0.0.0.0:8443\"]\naddresses = [\"203.0.113.77:8443\"]";
    let six = (1..=6)
        .map(|n| format!("\"[2001:db8::1]:{n}\""))
        .collect::<Vec<_>>();
    let six = format!("listen = [\"0.0.0.0:8443\"]\naddresses = [{}]", six.join(", "));
    for (table, keys, says) in [
        (
            "[bridge.transports.obfs5]",
            KEYS,
            "expected one of `plain`, `obfs4`, `obfs4-http`, `obfs4-tls`",
        ),
        ("[bridge.transports.plain]", KEYS, "at the beginning of the file"),
        (
            "[bridge.transports.obfs4]",
            "listen = [\"0.0.0.0:8443\"]",
            "missing field `addresses`",
        ),
        (
            "[bridge.transports.obfs4]",
            "listen = []\naddresses = []",
            "1 to 16 addresses, got 0",
        ),
        (
            "[bridge.transports.obfs4]",
            "listen = [\"0.0.0.0:1\"]\naddresses = []",
            "at least one of `addresses`",
        ),
        (
            "[bridge.transports.obfs4]",
            "listen = [\"0.0.0.0:1\"]\naddresses = [\"0.0.0.0:1\"]",
            "no address that others can dial",
        ),
        ("[bridge.transports.obfs4]", &six, "which has room for 147"),
        (
            "[bridge.transports.obfs4]\nport = 1",
            KEYS,
            "unknown field `port`",
        ),
    ] {
        let text = with_transport(table, keys);
        let error = fails(&text);
        let from = text
            .lines()
            .position(|line| line.contains("[bridge.transports"))
            .unwrap()
            + 1;
        let line = error.strip_prefix("/etc/phantom/x.toml:").unwrap();
        let line: usize = line.split(':').next().unwrap().parse().unwrap();
        assert!((from..from + 4).contains(&line), "{from}: {error}");
        assert!(error.contains(says), "{says}: {error}");
    }
    let error = fails(&BRIDGE.replacen("#iat_mode = 0", "iat_mode = 3", 1));
    assert!(error.contains("iat_mode is 3, wanted 0, 1 or 2"), "{error}");
}
