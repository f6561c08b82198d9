//! The file that an installation of a client gets: its cohort, where to begin, and whom to trust. SPEC §7.8.

use std::net::SocketAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::cohort::{Cohort, CohortPublic, CohortSecret};
use super::ledger::version;
use crate::crypto::keys::{IdentityPublic, LinkPublic};
use crate::dht::Endpoint;
use crate::directory::sign::KeySet;
use crate::event::Sensitive;
use crate::runtime::Events;
use crate::wire::{DecodeError, Reader, Writer};

const VERSION: u8 = 1;
const DHT_NODES_MAX: usize = 64;
const ROUTERS_MAX: usize = 16;
const ENTRIES_MAX: usize = 64;

/// A published entry: a listed node, by address or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticEntry {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Who it is.
    pub identity: IdentityPublic,
    /// Its Noise static key.
    pub link: LinkPublic,
}

/// All that a client is installed with. What many installations have in common can be shared by the peers of a process.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Finds and opens the records of its bridges.
    pub cohort: Cohort,
    /// DHT nodes that were alive when the bundle was made; at most 64.
    pub dht_nodes: Arc<[SocketAddr]>,
    /// Published DHT routers; at most 16.
    pub routers: Arc<[Endpoint]>,
    /// Published entries; at most 64.
    pub entries: Arc<[StaticEntry]>,
    /// The directory keys that the client pins.
    pub directory: KeySet,
}

impl Bundle {
    /// Tells the simulator what nobody may see of this bundle.
    pub fn mark_sensitive(&self, rt: &impl Events) {
        rt.sensitive(Sensitive::InvitationSecret, self.cohort.secret.as_bytes());
    }

    /// The file. Lists beyond their bounds are cut.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(8192));
        out.put_u8(VERSION);
        out.put(self.cohort.secret.as_bytes());
        out.put(&self.cohort.public.to_bytes());
        let nodes = &self.dht_nodes[..self.dht_nodes.len().min(DHT_NODES_MAX)];
        out.put_u16(nodes.len() as u16);
        nodes.iter().for_each(|node| out.put_socket_addr(*node));
        let routers = &self.routers[..self.routers.len().min(ROUTERS_MAX)];
        out.put_u16(routers.len() as u16);
        routers.iter().for_each(|router| router.encode(&mut out));
        let entries = &self.entries[..self.entries.len().min(ENTRIES_MAX)];
        out.put_u16(entries.len() as u16);
        for entry in entries {
            entry.endpoint.encode(&mut out);
            out.put(entry.identity.as_bytes());
            out.put(entry.link.as_bytes());
        }
        self.directory.write(&mut *out);
        out
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`DecodeError`], for keys that are none as well.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r, "bundle version", VERSION)?;
        let secret = CohortSecret::from_bytes(r.array()?);
        let public = CohortPublic::from_bytes(&r.array()?).map_err(|_| bad("cohort slot"))?;
        let count = r.count("DHT nodes", DHT_NODES_MAX)?;
        let dht_nodes = (0..count).map(|_| r.socket_addr()).collect::<Result<_, _>>()?;
        let count = r.count("DHT routers", ROUTERS_MAX)?;
        let routers = (0..count)
            .map(|_| Endpoint::decode(&mut r))
            .collect::<Result<_, _>>()?;
        let count = r.count("static entries", ENTRIES_MAX)?;
        let entry = |_| {
            Ok(StaticEntry {
                endpoint: Endpoint::decode(&mut r)?,
                identity: IdentityPublic::from_bytes(r.array()?).map_err(|_| bad("entry identity"))?,
                link: LinkPublic::from_bytes(r.array()?),
            })
        };
        let entries = (0..count).map(entry).collect::<Result<_, DecodeError>>()?;
        let directory = KeySet::read(&mut r).map_err(|_| bad("directory key set"))?;
        r.finish()?;
        Ok(Self {
            cohort: Cohort { secret, public },
            dht_nodes,
            routers,
            entries,
            directory,
        })
    }
}

const fn bad(field: &'static str) -> DecodeError {
    DecodeError::BadValue { field, got: 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::keys::{IdentitySecret, LinkSecret};
    use crate::rendezvous::cohort::tests::{cohort, rng};

    fn bundle() -> Bundle {
        let mut rng = rng(9);
        let mut identity = || IdentitySecret::from_rng(&mut rng).public();
        let keys = [identity(), identity(), identity()];
        let entry = |endpoint: &str, identity| StaticEntry {
            endpoint: endpoint.parse().expect("an endpoint"),
            identity,
            link: LinkSecret::from_bytes([4; 32]).public(),
        };
        Bundle {
            cohort: cohort(1).0,
            dht_nodes: [
                "192.0.2.1:6881".parse().expect("literal"),
                "[2001:db8::1]:1".parse().expect("literal"),
            ]
            .into(),
            routers: ["router.example.org:6881".parse().expect("an endpoint")].into(),
            entries: [
                entry("198.51.100.1:443", identity()),
                entry("entry.example.org:443", identity()),
            ]
            .into(),
            directory: KeySet::new(0, 2, &keys).expect("2 of 3"),
        }
    }

    #[test]
    fn the_file_reads_back_to_the_same_bytes() {
        let file = bundle().encode();
        let again = Bundle::decode(&file).expect("its own file");
        assert_eq!(again.encode(), file);
        assert_eq!(
            (again.entries, again.routers),
            (bundle().entries, bundle().routers)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_and_arbitrary_files_never_panic_and_what_decodes_encodes_back(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), noise in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut file = bundle().encode();
            let at = at.index(file.len());
            prop_assert!(Bundle::decode(&file[..at]).is_err());
            file[at] = byte;
            if let Ok(bundle) = Bundle::decode(&file) {
                prop_assert_eq!(bundle.encode(), file);
            }
            let _ = Bundle::decode(&noise);
        }
    }
}
