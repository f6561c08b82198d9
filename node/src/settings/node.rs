//! `node.toml` and `bridge.toml`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use phantom_core::dht::{self, Endpoint};
use phantom_core::directory::descriptor::{ADDRESSES_MAX, Roles};
use phantom_core::directory::ways::Ways;
use phantom_core::rendezvous::BridgeSlots;
use phantom_core::rendezvous::bridge::SLOTS_PER_BRIDGE_MAX;
use phantom_core::transport::Kind;
use phantom_core::transport::obfs4::IatMode;
use serde::Deserialize;
use toml::Spanned;

use super::keyfile::{KeyFile, KeyFileError, read_secret};
use super::sections::{
    CheckedDirectory, ClockSection, DirectorySection, LinkSection, SizeText, TimeText, Wrapped,
    some_addresses, time,
};
use super::source::{SettingsError, Source};
use super::text::{Contact, ContactKind, OperatorName, Size, Text};
use crate::config::{Bridge, Directory, Limits, Listening, NodeConfig};
use crate::store::{QuotaConfig, StoreConfig, WRITERS_MAX};

/// Listening addresses of one node.
const LISTEN_MAX: usize = 16;

/// What a node offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// First hop: clients and bridges connect to it.
    Entry,
    /// Second hop.
    Middle,
    /// Third hop: keeps boxes.
    Storage,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The directory of everything it keeps. No default.
    data: PathBuf,
    /// Its key file, 0600. No default.
    keys: PathBuf,
    /// Where it listens. No default. A bridge with transports may leave it out, and `addresses`: it then has no place without.
    listen: Option<Spanned<Vec<SocketAddr>>>,
    /// Under which addresses others reach it, at most 4. No default: behind a NAT they are not those it listens on.
    addresses: Option<Spanned<Vec<SocketAddr>>>,
    /// The address that its own connections come from. Default: the system's choice.
    outgoing: Option<IpAddr>,
    /// What it offers. Default all three; a bridge is an entry whatever stands here.
    #[serde(default = "all_roles")]
    roles: Spanned<Vec<Role>>,
    /// Who runs it; the same text for all nodes of one operator. Default nobody: it then stores nothing.
    #[serde(default)]
    operator: Text<OperatorName>,
    directory: DirectorySection,
    bridge: Option<BridgeSection>,
    #[serde(default)]
    store: StoreSection,
    #[serde(default)]
    limits: LimitsSection,
    #[serde(default)]
    link: LinkSection,
    #[serde(default)]
    clock: ClockSection,
}

fn all_roles() -> Spanned<Vec<Role>> {
    Spanned::new(0..0, vec![Role::Entry, Role::Middle, Role::Storage])
}

/// Makes the node an unlisted entry: `[bridge]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeSection {
    /// The file of slots that `phantom-node cohorts mint` made for this bridge, 0600. No default: without slots nobody
    /// finds the bridge.
    pub slots: PathBuf,
    /// Links to listed nodes over which replies come back. Default 3: a client needs one that works.
    #[serde(default = "three")]
    pub ways_back: usize,
    /// How it reaches the DHT. Left out, it does not publish there.
    pub dht: Option<DhtSection>,
    /// How obfs4 paces what the bridge and its clients write: 0 not at all, 1 whole segments (1.5 Mbit/s), 2 segments of
    /// random lengths (0.7 Mbit/s). Default 0: a pace so slow is for who fears an observer of times and sizes.
    #[serde(default = "unpaced")]
    pub iat_mode: Spanned<u8>,
    /// Where it listens with transports: `[bridge.transports.KIND]`. Default none.
    #[serde(default)]
    pub transports: BTreeMap<Kind, Spanned<TransportSection>>,
}

/// The places of one transport: `[bridge.transports.obfs4]`, `obfs4-http` or `obfs4-tls`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransportSection {
    /// Where it listens, on ports of its own. No default.
    pub listen: Vec<SocketAddr>,
    /// Under which addresses clients reach that. No default, as for the bridge itself.
    pub addresses: Vec<SocketAddr>,
}

impl BridgeSection {
    /// Checks what one field alone cannot show; `plain` are the bridge's places without a transport.
    fn check(&self, source: &Source, plain: &[SocketAddr]) -> Result<(), SettingsError> {
        if IatMode::from_number(*self.iat_mode.as_ref()).is_none() {
            let message = format!("iat_mode is {}, wanted 0, 1 or 2", self.iat_mode.as_ref());
            return Err(source.wrong(self.iat_mode.span(), message));
        }
        let mut places: Vec<_> = plain.iter().map(|at| (Kind::Plain, *at)).collect();
        for (kind, section) in &self.transports {
            let wrong = |message: String| Err(source.wrong(section.span(), message));
            if kind.is_plain() {
                return wrong(
                    "places without a transport are `listen` and `addresses` at the beginning of the file"
                        .into(),
                );
            }
            let section = section.as_ref();
            if section.listen.is_empty() || section.listen.len() > LISTEN_MAX {
                let got = section.listen.len();
                return wrong(format!(
                    "wanted `listen` to name 1 to {LISTEN_MAX} addresses, got {got}"
                ));
            }
            if section.addresses.is_empty() {
                return wrong("wanted at least one of `addresses`, such as \"192.0.2.1:8443\"".into());
            }
            places.extend(section.addresses.iter().map(|at| (*kind, *at)));
            if let Err(error) = Ways::check(places.iter().copied()) {
                return wrong(error.to_string());
            }
        }
        Ok(())
    }

    /// As the program uses it.
    fn transports(&self) -> Vec<Listening> {
        let sections = self.transports.iter();
        sections
            .map(|(kind, section)| Listening {
                kind: *kind,
                listen: section.as_ref().listen.clone(),
                addresses: section.as_ref().addresses.clone(),
            })
            .collect()
    }
}

fn unpaced() -> Spanned<u8> {
    Spanned::new(0..0, 0)
}

const fn three() -> usize {
    3
}

/// Where to enter the DHT: `[bridge.dht]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DhtSection {
    /// Published routers, by name or address. Default none.
    pub routers: Vec<Text<Endpoint>>,
    /// Nodes known to be alive, by address. Default none.
    pub nodes: Vec<SocketAddr>,
}

impl DhtSection {
    /// As the program uses it.
    pub fn config(&self) -> dht::client::ClientConfig {
        let routers: Vec<_> = self.routers.iter().map(|router| router.0.clone()).collect();
        dht::client::ClientConfig::new(self.nodes.clone(), routers)
    }
}

/// What it keeps: `[store]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// Bytes that all boxes together may take. Default "4 GiB": about a million.
    pub capacity: SizeText,
    /// Bytes of one segment file. Default "8 MiB": recovery reads one at a time into memory.
    pub segment: SizeText,
    /// How often the time is persisted when nothing else asks for it. Default "10 s".
    pub persist_every: TimeText,
    /// What one link may write at once, in boxes. Default 4096: a replica that takes over stays below it.
    pub quota_burst: u32,
    /// After that, the time for one more box. Default "20 ms": 50 a second.
    pub quota_per_box: TimeText,
    /// Links whose quota is remembered. Default 4096.
    pub quota_links: usize,
}

impl Default for StoreSection {
    fn default() -> Self {
        let config = StoreConfig::default();
        Self {
            capacity: Wrapped(Size(config.capacity)),
            segment: Wrapped(Size(config.segment_len_max)),
            persist_every: time(config.persist_every),
            quota_burst: config.quota.burst,
            quota_per_box: time(config.quota.per_box),
            quota_links: config.quota.links_max,
        }
    }
}

impl StoreSection {
    /// As the program uses it.
    pub const fn config(&self) -> StoreConfig {
        StoreConfig {
            capacity: self.capacity.0.0,
            segment_len_max: self.segment.0.0,
            persist_every: self.persist_every.0.0,
            quota: QuotaConfig {
                burst: self.quota_burst,
                per_box: self.quota_per_box.0.0,
                links_max: self.quota_links,
            },
            writers_max: WRITERS_MAX,
        }
    }
}

/// What others can make it hold or do: `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// Links of others at once. Default 4096: with full buffers they take 2 GiB.
    pub links: usize,
    /// Packets that wait for one other node while its link comes up or is full. Default 32 of 256 that are in work at once.
    pub outbox: usize,
    /// A link to another node that carried nothing for so long is closed. Default "30 s".
    pub idle_after: TimeText,
    /// How long another node's answer is waited for. Default "10 s".
    pub answer_within: TimeText,
    /// Requests of one link worked on at once. Default 16.
    pub requests_per_link: u16,
    /// Packets a second that the replay filters are made for. Default 200: 11 MiB an hour. Above it packets are refused.
    pub packets_per_second: u32,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            links: limits.links_max,
            outbox: limits.outbox_max,
            idle_after: time(limits.idle_after),
            answer_within: time(limits.answer_within),
            requests_per_link: limits.requests_per_link,
            packets_per_second: limits.packets_per_second,
        }
    }
}

impl LimitsSection {
    /// As the program uses it.
    pub const fn config(&self) -> Limits {
        Limits {
            links_max: self.links,
            outbox_max: self.outbox,
            idle_after: self.idle_after.0.0,
            answer_within: self.answer_within.0.0,
            requests_per_link: self.requests_per_link,
            packets_per_second: self.packets_per_second,
        }
    }
}

/// A node's or bridge's settings, checked. What they refer to is read by [`NodeSettings::config`].
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The directory of everything it keeps.
    pub data: PathBuf,
    /// Its key file.
    pub keys: PathBuf,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Where others reach it.
    pub addresses: Vec<SocketAddr>,
    /// Where its connections come from.
    pub outgoing: Option<IpAddr>,
    /// What it offers.
    pub roles: Roles,
    /// Who runs it.
    pub operator: OperatorName,
    /// Whom it believes.
    pub directory: CheckedDirectory,
    /// Present if it is a bridge; the path of its slots is resolved.
    pub bridge: Option<BridgeSection>,
    /// What it keeps.
    pub store: StoreSection,
    /// Bounds.
    pub limits: LimitsSection,
    /// Its links.
    pub link: LinkSection,
    /// How far its clock is believed.
    pub clock: ClockSection,
}

impl NodeSettings {
    /// Reads them from a file's text.
    ///
    /// # Errors
    /// [`SettingsError::Wrong`].
    pub fn parse(source: &Source) -> Result<Self, SettingsError> {
        let file: File = source.parse()?;
        let roles = file.roles.as_ref();
        let mut offered = roles.iter().map(|role| match role {
            Role::Entry => Roles::ENTRY,
            Role::Middle => Roles::MIDDLE,
            Role::Storage => Roles::STORAGE,
        });
        let Some(first) = offered.next() else {
            let message = "wanted at least one of \"entry\", \"middle\", \"storage\"";
            return Err(source.wrong(file.roles.span(), message));
        };
        let roles = offered.fold(first, Roles::with);
        let bridge = file.bridge.map(|bridge| BridgeSection {
            slots: source.resolve(&bridge.slots),
            ..bridge
        });
        let may_be_none = bridge
            .as_ref()
            .is_some_and(|bridge| !bridge.transports.is_empty());
        let (listen, addresses) = match (file.listen, file.addresses) {
            (None, None) if may_be_none => (Vec::new(), Vec::new()),
            (None, _) => return Err(source.wrong(0..0, "missing field `listen`")),
            (_, None) => return Err(source.wrong(0..0, "missing field `addresses`")),
            (Some(listen), Some(addresses)) => (
                some_addresses(source, listen.as_ref(), listen.span(), LISTEN_MAX)?,
                some_addresses(source, addresses.as_ref(), addresses.span(), ADDRESSES_MAX)?,
            ),
        };
        if let Some(bridge) = &bridge {
            bridge.check(source, &addresses)?;
        }
        Ok(Self {
            data: source.resolve(&file.data),
            keys: source.resolve(&file.keys),
            listen,
            addresses,
            outgoing: file.outgoing,
            roles: if bridge.is_some() { Roles::ENTRY } else { roles },
            operator: file.operator.0,
            directory: file.directory.check(source)?,
            bridge,
            store: file.store,
            limits: file.limits,
            link: file.link,
            clock: file.clock,
        })
    }

    /// Everything that the program is told; reads keys and slots.
    ///
    /// # Errors
    /// [`KeyFileError`], for a file of slots as well.
    pub fn config(&self) -> Result<(NodeConfig, StoreConfig), KeyFileError> {
        let keys = KeyFile::read(&self.keys)?;
        let bridge = match (&self.bridge, keys.bridge) {
            (None, _) => None,
            (Some(_), None) => {
                let wanted = "a bridge's key file has a line `bridge HEX` (see `phantom-node init --bridge`)";
                return Err(KeyFileError::Malformed {
                    path: self.keys.clone(),
                    line: 1,
                    wanted,
                });
            }
            (Some(section), Some(secret)) => {
                let slots = BridgeSlots::decode(&read_secret(&section.slots)?).map_err(|_| {
                    KeyFileError::Malformed {
                        path: section.slots.clone(),
                        line: 1,
                        wanted: "wanted a file of slots as `phantom-node cohorts mint` writes it",
                    }
                })?;
                debug_assert!(slots.0.len() <= SLOTS_PER_BRIDGE_MAX);
                Some(Bridge {
                    secret,
                    ways_back: section.ways_back,
                    slots,
                    dht: section.dht.as_ref().map(DhtSection::config),
                    transports: section.transports(),
                    // Checked when it was read.
                    iat_mode: IatMode::from_number(*section.iat_mode.as_ref()).unwrap_or_default(),
                })
            }
        };
        let config = NodeConfig {
            keys: keys.keys,
            listen: self.listen.clone(),
            addresses: self.addresses.clone(),
            roles: self.roles,
            operator: self.operator.id(),
            directory: Directory {
                pinned: self.directory.pinned.clone(),
                authorities: self.directory.authorities.clone(),
                limits: self.clock.limits(),
                timing: self.directory.timing,
            },
            bridge,
            limits: self.limits.config(),
            link: self.link.config(),
        };
        Ok((config, self.store.config()))
    }

    /// Every address that it listens on, whatever is spoken there.
    pub fn listens(&self) -> Vec<SocketAddr> {
        let transports = self.bridge.iter().flat_map(|bridge| bridge.transports.values());
        let others = transports.flat_map(|section| section.as_ref().listen.iter());
        self.listen.iter().chain(others).copied().collect()
    }

    /// What others know a listed node by.
    pub fn contact(&self, keys: &KeyFile) -> Contact {
        Contact {
            kind: ContactKind::Node,
            identity: keys.keys.identity.public(),
            link: keys.keys.link.public(),
            endpoints: self.addresses.iter().map(|at| Endpoint::Addr(*at)).collect(),
        }
    }
}
