//! `directory.toml`: a directory authority.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use phantom_core::directory::authority::Admission;
use phantom_core::directory::sign::AuthorityId;
use serde::Deserialize;
use toml::Spanned;

use super::keyfile::{KeyFile, KeyFileError};
use super::sections::{CheckedDirectory, ClockSection, DirectorySection, LinkSection, some_addresses};
use super::source::{SettingsError, Source};
use super::text::{NodeName, OperatorName, Text};
use crate::authority::AuthorityConfig;

const LISTEN_MAX: usize = 16;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The directory of everything it keeps. No default.
    data: PathBuf,
    /// Its key file, 0600. No default. The root of trust: keep a copy offline.
    keys: PathBuf,
    /// Where it listens. No default.
    listen: Spanned<Vec<SocketAddr>>,
    /// The address that its own connections come from. Default: the system's choice.
    outgoing: Option<IpAddr>,
    /// Which nodes it lists. No default: "open" lists every node and believes the operator it names, so that one person
    /// can pretend to be many; a table of names and operators lists these.
    admission: AdmissionSection,
    directory: DirectorySection,
    #[serde(default)]
    link: LinkSection,
    #[serde(default)]
    clock: ClockSection,
}

/// `admission = "open"` or `[admission.listed]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AdmissionSection {
    Open,
    Listed(BTreeMap<Text<NodeName>, Text<OperatorName>>),
}

/// An authority's settings, checked.
#[derive(Clone, Debug)]
pub struct AuthoritySettings {
    /// The directory of everything it keeps.
    pub data: PathBuf,
    /// Its key file.
    pub keys: PathBuf,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Where its connections come from.
    pub outgoing: Option<IpAddr>,
    /// Which nodes it lists.
    pub admission: Admission,
    /// All authorities, this one among them.
    pub directory: CheckedDirectory,
    /// Its links.
    pub link: LinkSection,
    /// How far its clock is believed.
    pub clock: ClockSection,
}

impl AuthoritySettings {
    /// Reads them from a file's text.
    ///
    /// # Errors
    /// [`SettingsError::Wrong`].
    pub fn parse(source: &Source) -> Result<Self, SettingsError> {
        let file: File = source.parse()?;
        Ok(Self {
            data: source.resolve(&file.data),
            keys: source.resolve(&file.keys),
            listen: some_addresses(source, file.listen.as_ref(), file.listen.span(), LISTEN_MAX)?,
            outgoing: file.outgoing,
            admission: match file.admission {
                AdmissionSection::Open => Admission::Open,
                AdmissionSection::Listed(nodes) => {
                    let listed = nodes
                        .into_iter()
                        .map(|(node, operator)| (node.0.0, operator.0.id()));
                    Admission::Listed(listed.collect())
                }
            },
            directory: file.directory.check(source)?,
            link: file.link,
            clock: file.clock,
        })
    }

    /// Everything that the program is told; reads the keys.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn config(&self) -> Result<AuthorityConfig, KeyFileError> {
        let keys = KeyFile::read(&self.keys)?.keys;
        let me = AuthorityId::of(&keys.identity.public());
        if self.directory.pinned.key(me).is_none() {
            let wanted = "these keys are none of those in [directory] authorities";
            return Err(KeyFileError::Malformed {
                path: self.keys.clone(),
                line: 1,
                wanted,
            });
        }
        let others = self
            .directory
            .authorities
            .iter()
            .filter(|authority| authority.id != me);
        Ok(AuthorityConfig {
            identity: keys.identity,
            link_secret: keys.link,
            listen: self.listen.clone(),
            keys: self.directory.pinned.clone(),
            others: others.cloned().collect(),
            limits: self.clock.limits(),
            timing: self.directory.timing,
            admission: self.admission.clone(),
            link: self.link.config(),
        })
    }
}
