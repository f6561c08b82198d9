//! What a client keeps between runs, sealed; and the file it is sealed in. Spec: SPEC §5.9.
//!
//! One file holds everything, so that what belongs together is stored together, atomically: keys, entries that worked,
//! bridges from friends, and the state of all contacts. Only the directory document, which is public, has its own.

use std::io;

use phantom_core::crypto::keys::IdentitySecret;
use phantom_core::dht::KnownNodes;
use phantom_core::directory::descriptor::BridgeDescriptor;
use phantom_core::message::vault::{self, Cost, Unlock, Vault};
use phantom_core::rendezvous::SequencePins;
use phantom_core::runtime::{Frugal, Runtime};
use phantom_core::units::WallTime;
use phantom_core::wire::{DecodeError, Reader, Writer};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::candidate::Candidate;
use crate::config::Secret;

/// The client's own state.
pub(crate) const CLIENT_FILE: &str = "client.vault";
/// The newest directory document, as it was signed.
pub(crate) const DOCUMENT_FILE: &str = "document";

/// Entries that worked, kept for the next start.
pub(crate) const ENTRIES_MAX: usize = 8;
/// Bridges of friends: a cohort has four slots.
const FRIENDS_MAX: usize = 4;
const DHT_NODES_MAX: usize = 64;
const DIRECTORY_MAX: usize = 8_192;
const VERSION: u8 = 1;

/// Why the state cannot be opened or stored.
#[derive(Debug, Error)]
pub enum StateError {
    /// The host's files fail.
    #[error("the file {file}: {error}")]
    Io {
        /// Which file.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// It does not open.
    #[error("the file {file}: {error}")]
    Vault {
        /// Which file.
        file: String,
        /// Why.
        error: vault::Error,
    },
    /// It opens, but what is in it is not understood: written by another version, or damaged before it was sealed.
    #[error("the file {file} holds what this version does not understand: {error}")]
    Content {
        /// Which file.
        file: String,
        /// Why.
        error: DecodeError,
    },
}

/// A sealed file of the user's.
pub struct Safe<R> {
    rt: R,
    file: &'static str,
    vault: Vault,
    rng: Frugal,
}

impl<R: Runtime> Safe<R> {
    /// Opens `file`, or makes ready to seal it if there is none; then the content is `None`.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn open(
        rt: &R,
        file: &'static str,
        secret: &Secret,
    ) -> Result<(Self, Option<Zeroizing<Vec<u8>>>), StateError> {
        let mut rng = Frugal::from(rt.rng("client vault"));
        let unlock = match secret {
            Secret::Key(key) => Unlock::Key(key),
            Secret::Passphrase(text) => Unlock::Passphrase(text),
        };
        let sealed = rt.read(file).await.map_err(|error| StateError::Io {
            file: file.to_owned(),
            error,
        })?;
        let failed = |error| StateError::Vault {
            file: file.to_owned(),
            error,
        };
        let (vault, content) = match sealed {
            Some(sealed) => {
                let (vault, content) = Vault::open(&sealed, &unlock).map_err(failed)?;
                (vault, Some(content))
            }
            None => (
                Vault::create(&unlock, Cost::default(), &mut rng).map_err(failed)?,
                None,
            ),
        };
        let safe = Self {
            rt: rt.clone(),
            file,
            vault,
            rng,
        };
        Ok((safe, content))
    }

    /// Stores `content` in the place of what was there, atomically and durably.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn save(&mut self, content: &[u8]) -> Result<(), StateError> {
        let file = || self.file.to_owned();
        let sealed = self.vault.seal(content, &mut self.rng);
        let sealed = sealed.map_err(|error| StateError::Vault { file: file(), error })?;
        let written = self.rt.write(self.file, &sealed).await;
        written.map_err(|error| StateError::Io { file: file(), error })
    }
}

/// What a client keeps besides its contacts.
#[derive(Clone)]
pub(crate) struct Kept {
    /// Signs invitations.
    pub(crate) inviter: IdentitySecret,
    /// Entries that worked, the latest first.
    pub(crate) entries: Vec<Candidate>,
    /// Bridges that friends handed over.
    pub(crate) friends: Vec<BridgeDescriptor>,
    /// DHT nodes that answered.
    pub(crate) dht_nodes: KnownNodes,
    /// Highest sequence numbers seen in the DHT.
    pub(crate) pins: SequencePins,
    /// Pinned keys and the highest time.
    pub(crate) directory: Vec<u8>,
}

impl Kept {
    /// Of a new client.
    pub(crate) fn new(rng: &mut impl CryptoRng) -> Self {
        Self {
            inviter: IdentitySecret::from_rng(rng),
            entries: Vec::new(),
            friends: Vec::new(),
            dht_nodes: [].into(),
            pins: SequencePins::default(),
            directory: Vec::new(),
        }
    }

    /// Takes note that an entry worked; `true` if that is news, or its descriptor is.
    pub(crate) fn worked(&mut self, entry: &Candidate) -> bool {
        let same = |first: &Candidate| first == entry && first.expires() == entry.expires();
        if self.entries.first().is_some_and(same) {
            return false;
        }
        self.entries.retain(|known| known != entry);
        self.entries.insert(0, entry.clone());
        self.entries.truncate(ENTRIES_MAX);
        true
    }

    /// Forgets an entry that turned out to be of no use.
    pub(crate) fn useless(&mut self, entry: &Candidate) {
        self.entries.retain(|known| known != entry);
    }

    /// Takes a friend's bridges, newer descriptors in the place of older ones; forgets those that are over.
    pub(crate) fn befriend(&mut self, bridges: impl IntoIterator<Item = BridgeDescriptor>, time: WallTime) {
        for bridge in bridges {
            self.friends.retain(|known| known.identity != bridge.identity);
            self.friends.insert(0, bridge);
        }
        self.friends.retain(|bridge| time < bridge.expires);
        self.friends.truncate(FRIENDS_MAX);
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put(&*self.inviter.to_bytes());
        out.put_u16(self.entries.len().min(ENTRIES_MAX) as u16);
        self.entries
            .iter()
            .take(ENTRIES_MAX)
            .for_each(|entry| entry.write(out));
        out.put_u16(self.friends.len().min(FRIENDS_MAX) as u16);
        for bridge in self.friends.iter().take(FRIENDS_MAX) {
            out.put_bytes(&bridge.encode());
        }
        out.put_u16(self.dht_nodes.len().min(DHT_NODES_MAX) as u16);
        let nodes = self.dht_nodes.iter().take(DHT_NODES_MAX);
        nodes.for_each(|node| out.put_socket_addr((*node).into()));
        out.put_bytes(&self.pins.encode());
        out.put_bytes(&self.directory);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bad = |field, got| DecodeError::BadValue { field, got };
        match r.u8()? {
            VERSION => {}
            got => return Err(bad("state version", u64::from(got))),
        }
        let inviter = IdentitySecret::from_bytes(&r.array()?);
        let count = r.count("entries", ENTRIES_MAX)?;
        let entries = (0..count).map(|_| Candidate::read(r)).collect::<Result<_, _>>()?;
        let count = r.count("bridges of friends", FRIENDS_MAX)?;
        let bridge = |_| {
            let bytes = r.bytes("bridge", 1_024)?;
            BridgeDescriptor::decode(bytes).map_err(|_| bad("bridge", 0))
        };
        let friends = (0..count).map(bridge).collect::<Result<_, _>>()?;
        let count = r.count("DHT nodes", DHT_NODES_MAX)?;
        let node = |_| r.socket_addr().map(|node| (node.ip(), node.port()));
        let dht_nodes = (0..count).map(node).collect::<Result<_, _>>()?;
        Ok(Self {
            inviter,
            entries,
            friends,
            dht_nodes,
            pins: SequencePins::decode(r.bytes("pins", 4_096)?)?,
            directory: r.bytes("directory", DIRECTORY_MAX)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use phantom_core::crypto::keys::{LinkSecret, NodeId};
    use phantom_core::directory::descriptor::VersionRange;
    use phantom_core::directory::ways::Ways;
    use phantom_core::runtime::tokio::{Config, TokioRuntime};
    use proptest::prelude::*;
    use rand_core::SeedableRng;

    use rand_chacha::ChaCha12Rng;

    use super::*;

    const NOW: WallTime = WallTime::from_unix_secs(1_800_000_000);

    fn entry(n: u8) -> Candidate {
        let server = LinkSecret::from_bytes([n; 32]).public();
        let address = ([192, 0, 2, n], 443).into();
        Candidate::listed(address, NodeId::from_bytes([n; 16]), server)
    }

    fn bridge(n: u8, life: Duration) -> BridgeDescriptor {
        BridgeDescriptor {
            versions: VersionRange { min: 1, max: 1 },
            identity: IdentitySecret::from_bytes(&[n; 32]).public(),
            link: LinkSecret::from_bytes([n; 32]).public(),
            psk: Zeroizing::new([n; 32]),
            expires: NOW + life,
            ways: Ways::plain(vec![([198, 51, 100, n], 443).into()]),
        }
    }

    fn kept() -> Kept {
        let mut kept = Kept::new(&mut ChaCha12Rng::seed_from_u64(1));
        kept.worked(&entry(1));
        kept.worked(&entry(2));
        kept.befriend([bridge(3, Duration::from_secs(60))], NOW);
        kept.dht_nodes = [([203, 0, 113, 1].into(), 6_881)].into();
        kept.directory = vec![1, 2, 3];
        kept
    }

    fn encode(kept: &Kept) -> Vec<u8> {
        let mut out = Vec::new();
        kept.write(&mut out);
        out
    }

    #[test]
    fn what_is_kept_reads_back() {
        let bytes = encode(&kept());
        let mut r = Reader::new(&bytes);
        let again = Kept::read(&mut r).expect("its own bytes");
        r.finish().expect("nothing left");
        assert_eq!(encode(&again), bytes);
        assert_eq!(again.entries, [entry(2), entry(1)]);
    }

    #[test]
    fn the_latest_entry_comes_first_and_the_list_is_bounded() {
        let mut kept = kept();
        assert!(!kept.worked(&entry(2)), "no news");
        assert!(kept.worked(&entry(1)));
        for n in 0..20 {
            kept.worked(&entry(n));
        }
        assert_eq!(kept.entries.len(), ENTRIES_MAX);
        assert_eq!(kept.entries[0], entry(19));
        kept.useless(&entry(19));
        assert_eq!(kept.entries[0], entry(18));
    }

    #[test]
    fn an_entry_is_kept_as_its_newest_descriptor_says() {
        let until = |days: u32| entry(7).until(NOW + Duration::from_secs(86_400) * days);
        let mut kept = kept();
        assert!(kept.worked(&until(1)));
        assert!(!kept.worked(&until(1)), "no news");
        assert!(kept.worked(&until(2)), "it may be dialled for longer");
        assert_eq!(kept.entries[0].expires(), until(2).expires());
        assert_eq!(kept.entries.len(), 3);
    }

    #[test]
    fn bridges_of_friends_are_renewed_and_forgotten_in_time() {
        let mut kept = kept();
        kept.befriend(
            [
                bridge(3, Duration::from_secs(600)),
                bridge(4, Duration::from_secs(30)),
            ],
            NOW,
        );
        assert_eq!(kept.friends.len(), 2, "the same bridge once");
        kept.befriend([], NOW + Duration::from_secs(100));
        assert_eq!(kept.friends, [bridge(3, Duration::from_secs(600))]);
    }

    #[tokio::test]
    async fn a_safe_opens_with_its_secret_only_and_holds_what_was_saved_last() {
        let dir = tempfile::tempdir().expect("a directory");
        let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
        let key = |n| Secret::Key(Zeroizing::new([n; 32]));
        let (mut safe, nothing) = Safe::open(&rt, CLIENT_FILE, &key(1)).await.expect("new");
        assert!(nothing.is_none());
        safe.save(b"old").await.expect("saved");
        safe.save(b"new").await.expect("saved");
        let (_, content) = Safe::open(&rt, CLIENT_FILE, &key(1)).await.expect("opened");
        assert_eq!(content.as_deref().map(Vec::as_slice), Some(&b"new"[..]));
        let wrong = Safe::open(&rt, CLIENT_FILE, &key(2)).await.err();
        assert!(
            matches!(
                wrong,
                Some(StateError::Vault {
                    error: vault::Error::Wrong,
                    ..
                })
            ),
            "{wrong:?}"
        );
    }

    proptest! {
        #[test]
        fn damaged_state_never_panics(at: prop::sample::Index, value: u8, cut: prop::sample::Index) {
            let mut bytes = encode(&kept());
            prop_assert!(Kept::read(&mut Reader::new(&bytes[..cut.index(bytes.len())])).is_err());
            let at = at.index(bytes.len());
            bytes[at] = value;
            let mut r = Reader::new(&bytes);
            // With a shorter length at its end it reads, and leaves something: whoever loads it looks at that.
            if let Ok(kept) = Kept::read(&mut r)
                && r.finish().is_ok()
            {
                prop_assert_eq!(encode(&kept), bytes);
            }
        }
    }
}
