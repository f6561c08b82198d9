//! `network.toml`: what clients of a network are installed with. `phantom-node bundle` reads it.

use std::net::SocketAddr;

use phantom_core::dht::Endpoint;
use phantom_core::rendezvous::StaticEntry;
use serde::Deserialize;
use toml::Spanned;

use super::sections::{CheckedDirectory, DirectorySection};
use super::source::{SettingsError, Source};
use super::text::{Contact, ContactKind, Text};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Contact lines of listed nodes that clients try first, by name or address. Default none: clients then begin with
    /// the DHT and friends.
    #[serde(default)]
    entries: Vec<Spanned<Text<Contact>>>,
    directory: DirectorySection,
    #[serde(default)]
    dht: DhtSection,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DhtSection {
    /// Published routers, by name or address, at most 16. Default none.
    routers: Vec<Text<Endpoint>>,
    /// Nodes known to be alive, by address, at most 64. Default none; a censor blocks routers like any published name.
    nodes: Vec<SocketAddr>,
}

/// A network as clients are told of it, checked.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// Published entries.
    pub entries: Vec<StaticEntry>,
    /// Authorities.
    pub directory: CheckedDirectory,
    /// Routers of the DHT.
    pub routers: Vec<Endpoint>,
    /// Nodes of the DHT.
    pub dht_nodes: Vec<SocketAddr>,
}

impl NetworkSettings {
    /// Reads them from a file's text.
    ///
    /// # Errors
    /// [`SettingsError::Wrong`].
    pub fn parse(source: &Source) -> Result<Self, SettingsError> {
        let file: File = source.parse()?;
        let mut entries = Vec::new();
        for line in &file.entries {
            let contact = &line.as_ref().0;
            if contact.kind != ContactKind::Node {
                let message = "wanted the contact line of a node, got that of an authority";
                return Err(source.wrong(line.span(), message));
            }
            entries.extend(contact.endpoints.iter().map(|endpoint| StaticEntry {
                endpoint: endpoint.clone(),
                identity: contact.identity,
                link: contact.link,
            }));
        }
        Ok(Self {
            entries,
            directory: file.directory.check(source)?,
            routers: file.dht.routers.into_iter().map(|router| router.0).collect(),
            dht_nodes: file.dht.nodes,
        })
    }
}
