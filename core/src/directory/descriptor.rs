//! What a service node says about itself, signed by its identity key; and the short form for bridges.
//! Spec: SPEC §6.1, §6.2.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;

use super::ways::{WAYS_LEN_MAX, Ways, is_dialable};
use crate::crypto::kdf::Context;
use crate::crypto::keys::{IdentityPublic, IdentitySecret, KeyError, LinkPublic, NodeId};
use crate::mailbox::OperatorId;
use crate::packet::{HopKeyId, HopPublic};
use crate::units::WallTime;
use crate::wire::{DecodeError, Reader, Writer};

const SIGNED: Context = Context::new("phantom-net 2026 node descriptor v1");
const FORMAT: u8 = 1;
/// A bridge without transports: addresses only.
const BRIDGE_FORMAT: u8 = 1;
/// A bridge with transports.
const BRIDGE_FORMAT_WAYS: u8 = 2;
/// All of a bridge's descriptor but the places where it listens.
const BRIDGE_HEAD: usize = 107;

/// The longest encoding of a [`NodeDescriptor`].
pub const DESCRIPTOR_LEN_MAX: usize = 328;
/// The longest encoding of a [`BridgeDescriptor`], so that it fits a DHT record once sealed.
pub const BRIDGE_LEN_MAX: usize = BRIDGE_HEAD + WAYS_LEN_MAX;
/// Addresses that a descriptor may name.
pub const ADDRESSES_MAX: usize = 4;
/// How long a descriptor may be valid.
pub const DESCRIPTOR_LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Why a descriptor is refused. Always its author's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DescriptorError {
    /// It does not decode.
    #[error("descriptor: {0}")]
    Decode(#[from] DecodeError),
    /// A key or the signature is wrong.
    #[error("descriptor: {0}")]
    Key(#[from] KeyError),
}

/// What a node does. A set, encoded as bits 0 to 2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Roles(u8);

impl Roles {
    /// Takes links from clients.
    pub const ENTRY: Self = Self(1);
    /// Relays between other nodes.
    pub const MIDDLE: Self = Self(2);
    /// Stores boxes.
    pub const STORAGE: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    /// Whether every role of `other` is in `self`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The roles of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8()? {
            bits @ 1..=7 => Ok(Self(bits)),
            got => Err(DecodeError::BadValue {
                field: "roles",
                got: u64::from(got),
            }),
        }
    }
}

impl std::fmt::Debug for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (Self::ENTRY, "entry"),
            (Self::MIDDLE, "middle"),
            (Self::STORAGE, "storage"),
        ];
        f.debug_set()
            .entries(
                names
                    .iter()
                    .filter(|(role, _)| self.has(*role))
                    .map(|(_, name)| name),
            )
            .finish()
    }
}

/// "Nobody attests who runs the node": such a node stores nothing.
pub const OPERATOR_NONE: OperatorId = OperatorId([0; 16]);

/// Wire versions that a node speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionRange {
    /// The oldest.
    pub min: u8,
    /// The newest.
    pub max: u8,
}

impl VersionRange {
    /// The newest version that both sides speak.
    pub fn common(self, other: Self) -> Option<u8> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (min, max) = (r.u8()?, r.u8()?);
        if min == 0 || max < min {
            return Err(DecodeError::BadValue {
                field: "version range",
                got: u64::from(max),
            });
        }
        Ok(Self { min, max })
    }
}

/// The public hop keys of two epochs, the first and the one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopKeys {
    /// The epoch of `current`.
    pub epoch: HopKeyId,
    /// The key of that epoch.
    pub current: HopPublic,
    /// The key of the next epoch.
    pub next: HopPublic,
}

impl HopKeys {
    /// The key to wrap a packet for at `epoch`, with the epoch it belongs to: the one of that epoch, else the one
    /// before it, which a node still accepts. `None` when neither is known.
    pub fn usable_at(&self, epoch: HopKeyId) -> Option<(HopKeyId, HopPublic)> {
        match epoch.0.checked_sub(self.epoch.0)? {
            0 => Some((self.epoch, self.current)),
            1 | 2 => Some((self.epoch.next(), self.next)),
            _ => None,
        }
    }

    pub(super) fn write(&self, out: &mut impl Writer) {
        out.put_u32(self.epoch.0);
        out.put(self.current.as_bytes());
        out.put(self.next.as_bytes());
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: HopKeyId(r.u32()?),
            current: HopPublic::from_bytes(r.array()?),
            next: HopPublic::from_bytes(r.array()?),
        })
    }
}

/// Writes `addresses` behind a count byte.
pub(super) fn put_addresses(out: &mut impl Writer, addresses: &[SocketAddr]) {
    out.put_u8(u8::try_from(addresses.len()).expect("at most ADDRESSES_MAX"));
    addresses.iter().for_each(|at| out.put_socket_addr(*at));
}

/// Reads 1 to [`ADDRESSES_MAX`] addresses in strictly ascending order, each of which can be dialled.
pub(super) fn read_addresses(r: &mut Reader<'_>) -> Result<Vec<SocketAddr>, DecodeError> {
    let count = usize::from(r.u8()?);
    if count == 0 || count > ADDRESSES_MAX {
        return Err(DecodeError::BadValue {
            field: "number of addresses",
            got: count as u64,
        });
    }
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        let at = read_dialable(r)?;
        if out.last().is_some_and(|last| *last >= at) {
            return Err(DecodeError::BadValue {
                field: "order of addresses",
                got: out.len() as u64,
            });
        }
        out.push(at);
    }
    Ok(out)
}

/// Reads an address that can be dialled.
pub(super) fn read_dialable(r: &mut Reader<'_>) -> Result<SocketAddr, DecodeError> {
    match r.socket_addr()? {
        at if is_dialable(at) => Ok(at),
        at => Err(DecodeError::BadValue {
            field: "address port",
            got: u64::from(at.port()),
        }),
    }
}

/// Brings addresses into the order that the formats ask for, without duplicates, at most [`ADDRESSES_MAX`].
pub(super) fn ordered(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// What a node says about itself. Times are whole seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDescriptor {
    /// Wire versions it speaks.
    pub versions: VersionRange,
    /// Who it is.
    pub identity: IdentityPublic,
    /// Its Noise static key.
    pub link: LinkPublic,
    /// What it does.
    pub roles: Roles,
    /// How much it can take: packets per second, as a power of two. A hint, never trusted for safety.
    pub capacity_log2: u8,
    /// Who it claims runs it.
    pub operator: OperatorId,
    /// When it was made; of two descriptors the later published counts.
    pub published: WallTime,
    /// Not to be used from then on.
    pub expires: WallTime,
    /// Its hop keys, this epoch's and the next one's.
    pub hop: HopKeys,
    /// Where it listens: at least one, ascending.
    pub addresses: Vec<SocketAddr>,
}

impl NodeDescriptor {
    /// Its name.
    pub fn node_id(&self) -> NodeId {
        self.identity.node_id()
    }

    /// Encodes and signs. `secret` must be that of `self.identity`; addresses are put into order and cut at
    /// [`ADDRESSES_MAX`].
    pub fn sign(&self, secret: &IdentitySecret) -> Vec<u8> {
        let mut out = Vec::with_capacity(DESCRIPTOR_LEN_MAX);
        out.put_u8(FORMAT);
        out.put_u8(self.versions.min);
        out.put_u8(self.versions.max);
        out.put(self.identity.as_bytes());
        out.put(self.link.as_bytes());
        out.put_u8(self.roles.bits());
        out.put_u8(self.capacity_log2);
        out.put(&self.operator.0);
        out.put_u64(self.published.as_unix_secs());
        out.put_u64(self.expires.as_unix_secs());
        self.hop.write(&mut out);
        put_addresses(&mut out, &ordered(self.addresses.clone()));
        let signature = secret.sign(&SIGNED.derive(&out));
        out.put(&signature);
        out
    }

    /// Decodes and checks the signature.
    ///
    /// # Errors
    /// [`DescriptorError`]: it does not decode, is longer than [`DESCRIPTOR_LEN_MAX`], lives longer than
    /// [`DESCRIPTOR_LIFE_MAX`], or is not signed by the identity that it names.
    pub fn verify(bytes: &[u8]) -> Result<Self, DescriptorError> {
        let (descriptor, signed, signature) = Self::read(bytes)?;
        descriptor.identity.verify(&SIGNED.derive(signed), &signature)?;
        Ok(descriptor)
    }

    /// Decodes what was verified before (by its hash, in a vote).
    fn read(bytes: &[u8]) -> Result<(Self, &[u8], [u8; 64]), DescriptorError> {
        if bytes.len() > DESCRIPTOR_LEN_MAX {
            let bound = DESCRIPTOR_LEN_MAX;
            return Err(DecodeError::TooLong {
                field: "descriptor",
                bound,
                got: bytes.len(),
            }
            .into());
        }
        let mut r = Reader::new(bytes);
        let format = r.u8()?;
        if format != FORMAT {
            return Err(DecodeError::BadValue {
                field: "descriptor format",
                got: u64::from(format),
            }
            .into());
        }
        let versions = VersionRange::read(&mut r)?;
        let identity = IdentityPublic::from_bytes(r.array()?)?;
        let descriptor = Self {
            versions,
            identity,
            link: LinkPublic::from_bytes(r.array()?),
            roles: Roles::read(&mut r)?,
            capacity_log2: r.u8()?,
            operator: OperatorId(r.array()?),
            published: read_time(&mut r, "published")?,
            expires: read_time(&mut r, "expires")?,
            hop: HopKeys::read(&mut r)?,
            addresses: read_addresses(&mut r)?,
        };
        let signed = &bytes[..bytes.len() - r.remaining()];
        let signature = r.array()?;
        r.finish()?;
        let life = descriptor.expires.saturating_since(descriptor.published);
        if life.is_zero() || life > DESCRIPTOR_LIFE_MAX {
            return Err(DecodeError::BadValue {
                field: "descriptor lifetime",
                got: life.as_secs(),
            }
            .into());
        }
        Ok((descriptor, signed, signature))
    }
}

/// Reads whole seconds since 1970, at most what nanoseconds in 64 bits can hold.
pub(super) fn read_time(r: &mut Reader<'_>, field: &'static str) -> Result<WallTime, DecodeError> {
    match r.u64()? {
        got if got > u64::MAX / 1_000_000_000 => Err(DecodeError::BadValue { field, got }),
        secs => Ok(WallTime::from_unix_secs(secs)),
    }
}

/// What a client needs to reach a bridge. It travels sealed only (SPEC §7, §8), and carries no signature of its own:
/// whoever hands it over is authenticated by the seal.
#[derive(Clone, PartialEq, Eq)]
pub struct BridgeDescriptor {
    /// Wire versions it speaks.
    pub versions: VersionRange,
    /// Who it is.
    pub identity: IdentityPublic,
    /// Its Noise static key.
    pub link: LinkPublic,
    /// Without it, the bridge is silent.
    pub psk: Zeroizing<[u8; 32]>,
    /// Not to be used from then on; whole seconds.
    pub expires: WallTime,
    /// Where it listens, and how to speak there.
    pub ways: Ways,
}

impl std::fmt::Debug for BridgeDescriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BridgeDescriptor")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl BridgeDescriptor {
    /// Encodes: at most [`BRIDGE_LEN_MAX`] bytes.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Capacity for the longest form, so that no copy of the psk is left behind by growth.
        let mut out = Vec::with_capacity(BRIDGE_LEN_MAX);
        out.put_u8(match self.ways.is_plain() {
            true => BRIDGE_FORMAT,
            false => BRIDGE_FORMAT_WAYS,
        });
        out.put_u8(self.versions.min);
        out.put_u8(self.versions.max);
        out.put(self.identity.as_bytes());
        out.put(self.link.as_bytes());
        out.put(&*self.psk);
        out.put_u64(self.expires.as_unix_secs());
        self.ways.write(&mut out);
        Zeroizing::new(out)
    }

    /// Decodes.
    ///
    /// # Errors
    /// [`DescriptorError`]. A kind of transport that this version does not know is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DescriptorError> {
        if bytes.len() > BRIDGE_LEN_MAX {
            return Err(DecodeError::TooLong {
                field: "bridge descriptor",
                bound: BRIDGE_LEN_MAX,
                got: bytes.len(),
            }
            .into());
        }
        let mut r = Reader::new(bytes);
        let read_ways = match r.u8()? {
            BRIDGE_FORMAT => Ways::read_plain,
            BRIDGE_FORMAT_WAYS => Ways::read,
            format => {
                return Err(DecodeError::BadValue {
                    field: "bridge format",
                    got: u64::from(format),
                }
                .into());
            }
        };
        let bridge = Self {
            versions: VersionRange::read(&mut r)?,
            identity: IdentityPublic::from_bytes(r.array()?)?,
            link: LinkPublic::from_bytes(r.array()?),
            psk: Zeroizing::new(r.array()?),
            expires: read_time(&mut r, "expires")?,
            ways: read_ways(&mut r)?,
        };
        r.finish()?;
        Ok(bridge)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::crypto::keys::LinkSecret;
    use crate::directory::ways::tests::every_kind;

    /// A node of the tests, made from `seed`.
    pub(in crate::directory) fn node(seed: u64, published: u64) -> (IdentitySecret, NodeDescriptor) {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let secret = IdentitySecret::from_rng(&mut rng);
        let mut key = || LinkSecret::from_rng(&mut rng).public();
        let published = WallTime::from_unix_secs(published);
        let descriptor = NodeDescriptor {
            versions: VersionRange { min: 1, max: 1 },
            identity: secret.public(),
            link: key(),
            roles: Roles::ALL,
            capacity_log2: 10,
            operator: OperatorId(u128::from(seed.wrapping_add(1)).to_be_bytes()),
            published,
            expires: published + Duration::from_secs(3 * 3_600),
            hop: HopKeys {
                epoch: HopKeyId::at(published, Duration::from_secs(3_600)),
                current: HopPublic::from_bytes(*key().as_bytes()),
                next: HopPublic::from_bytes(*key().as_bytes()),
            },
            addresses: vec![
                SocketAddr::from(([192, 0, 2, u8::try_from(seed % 250).expect("below 250") + 1], 443)),
                "[2001:db8::1]:443".parse().expect("literal"),
            ],
        };
        (secret, descriptor)
    }

    fn bridge(ways: Ways) -> BridgeDescriptor {
        let (_, node) = node(1, 1_800_000_000);
        BridgeDescriptor {
            versions: node.versions,
            identity: node.identity,
            link: node.link,
            psk: Zeroizing::new([9; 32]),
            expires: node.expires,
            ways,
        }
    }

    fn many_addresses() -> Vec<SocketAddr> {
        (1..=4)
            .map(|i| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, i], 443)))
            .collect()
    }

    #[test]
    fn the_longest_descriptors_keep_within_their_bounds() {
        let (secret, mut longest) = node(7, 1_800_000_000);
        longest.addresses = many_addresses();
        let bytes = longest.sign(&secret);
        assert!(bytes.len() <= DESCRIPTOR_LEN_MAX, "{}", bytes.len());
        assert_eq!(NodeDescriptor::verify(&bytes), Ok(longest));
    }

    #[test]
    fn a_bridge_without_transports_is_what_it_was_before_there_were_any() {
        let plain = bridge(Ways::plain(many_addresses()));
        let bytes = plain.encode();
        assert_eq!((bytes.len(), bytes[0]), (BRIDGE_HEAD + 1 + 4 * 19, 1));
        assert_eq!(bytes[BRIDGE_HEAD..][..3], [4, 6, 0x20], "a count, then addresses");
        assert_eq!(BridgeDescriptor::decode(&bytes), Ok(plain));
    }

    #[test]
    fn a_bridge_with_transports_keeps_within_its_bound_and_no_byte_more_decodes() {
        let bridge = bridge(every_kind());
        let mut bytes = bridge.encode().to_vec();
        assert!(bytes.len() <= BRIDGE_LEN_MAX, "{}", bytes.len());
        assert_eq!(BridgeDescriptor::decode(&bytes), Ok(bridge));
        // A kind of later versions that fills what is left, and one that is longer.
        bytes[BRIDGE_HEAD] += 1;
        let room = BRIDGE_LEN_MAX - bytes.len() - 2;
        bytes.extend_from_slice(&[200, room as u8]);
        bytes.resize(BRIDGE_LEN_MAX, 7);
        assert!(BridgeDescriptor::decode(&bytes).is_ok());
        bytes[BRIDGE_LEN_MAX - room - 1] += 1;
        bytes.push(7);
        assert!(BridgeDescriptor::decode(&bytes).is_err());
    }

    #[test]
    fn a_descriptor_signed_by_somebody_else_is_refused() {
        let (_, descriptor) = node(1, 1_800_000_000);
        let (other, _) = node(2, 1_800_000_000);
        let bytes = descriptor.sign(&other);
        assert_eq!(
            NodeDescriptor::verify(&bytes),
            Err(DescriptorError::Key(KeyError::BadSignature))
        );
    }

    #[test]
    fn a_descriptor_that_outlives_its_bound_is_refused() {
        let (secret, mut descriptor) = node(1, 1_800_000_000);
        descriptor.expires = descriptor.published + DESCRIPTOR_LIFE_MAX + Duration::from_secs(1);
        let bytes = descriptor.sign(&secret);
        assert!(matches!(
            NodeDescriptor::verify(&bytes),
            Err(DescriptorError::Decode(_))
        ));
    }

    #[test]
    fn hop_keys_serve_their_epoch_and_the_one_after() {
        let (_, descriptor) = node(1, 1_800_000_000);
        let hop = descriptor.hop;
        let at = |n: u32| hop.usable_at(HopKeyId(hop.epoch.0 + n));
        assert_eq!(at(0), Some((hop.epoch, hop.current)));
        assert_eq!(at(1), Some((hop.epoch.next(), hop.next)));
        assert_eq!(at(2), Some((hop.epoch.next(), hop.next)));
        assert_eq!(at(3), None);
        assert_eq!(hop.usable_at(HopKeyId(hop.epoch.0 - 1)), None);
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        let range = |min, max| VersionRange { min, max };
        assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
        assert_eq!(range(1, 1).common(range(2, 5)), None);
    }

    proptest! {
        #[test]
        fn descriptors_read_back(seed: u64, published in 0u64..4_000_000_000) {
            let (secret, descriptor) = node(seed, published);
            prop_assert_eq!(NodeDescriptor::verify(&descriptor.sign(&secret)), Ok(descriptor));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert!(NodeDescriptor::verify(&bytes).is_err());
            prop_assert!(BridgeDescriptor::decode(&bytes).is_err() || bytes.len() > 100);
        }

        #[test]
        fn no_changed_byte_of_a_descriptor_goes_unnoticed(at: proptest::sample::Index, to: u8, cut: proptest::sample::Index) {
            let (secret, descriptor) = node(3, 1_800_000_000);
            let good = descriptor.sign(&secret);
            let mut bytes = good.clone();
            let at = at.index(bytes.len());
            bytes[at] = to;
            prop_assert!(bytes == good || NodeDescriptor::verify(&bytes).is_err());
            prop_assert!(NodeDescriptor::verify(&good[..cut.index(good.len())]).is_err());
        }

        #[test]
        fn a_bridge_that_decodes_encodes_to_the_same_bytes(at: proptest::sample::Index, to: u8) {
            for ways in [Ways::plain(many_addresses()), every_kind()] {
                let mut bytes = bridge(ways).encode().to_vec();
                let at = at.index(bytes.len());
                bytes[at] = to;
                if let Ok(bridge) = BridgeDescriptor::decode(&bytes) {
                    prop_assert_eq!(bridge.encode().to_vec(), bytes);
                }
            }
        }
    }
}
