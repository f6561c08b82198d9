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
