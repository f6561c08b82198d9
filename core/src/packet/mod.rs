//! Onion packets: three hops, constant length, each layer for its hop's eyes only. Spec: SPEC §3.
//!
//! The construction is that of Outfox (arXiv 2412.19937): a key encapsulation and an authenticated header per hop, a
//! wide-block cipher over the payload; but with a header of constant length, so that a layer does not show its place,
//! and with replies. No entropy but that of the generator passed in.
//!
//! A request is made by [`build`], taken apart by three [`peel`]s and delivered at the third. It carries a [`Surb`],
//! with which the last hop answers; the answer passes three [`peel`]s as well and is read by [`SurbKeys::open`].

use bytes::{Bytes, BytesMut};
use rand_core::CryptoRng;
use thiserror::Error;

#[cfg(fuzzing)]
pub mod fuzz;
mod header;
mod keys;
mod payload;
mod replay;
mod route;
mod sorted;
mod surb;
#[cfg(test)]
mod tests;
mod wide;

pub use header::HEADER_LEN;
pub use keys::{HOP_KEY_PERIOD, HOP_KEYS_MAX, HopKeyId, HopPublic, HopSecret, HopSecrets};
pub use payload::PAYLOAD_OVERHEAD;
pub use replay::{Replay, ReplayFilter, ReplayTag};
pub use route::{Hop, LinkHandle, NextHop};
pub use surb::{OpenError, ReplyId, SURB_LEN, Surb, SurbKeys};

use crate::event::Refusal;
use route::Command;

/// Hops of every path.
pub const HOPS: usize = 3;

/// The first byte of every packet: the suite, X25519 with ChaCha20-Poly1305. A hybrid exchange gets another number.
pub const VERSION: u8 = 1;

/// The size classes. Every further class would split the set of packets that look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 4 KiB.
    Small,
    /// 32 KiB.
    Bulk,
}

impl Class {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Small, Self::Bulk];

    /// Bytes of a packet on the link, at every hop.
    pub const fn packet_len(self) -> usize {
        match self {
            Self::Small => 4_096,
            Self::Bulk => 32_768,
        }
    }

    /// Bytes that a request or reply can carry: 3,879 and 32,551. A request's SURB counts as part of them.
    pub const fn capacity(self) -> usize {
        self.packet_len() - HEADER_LEN - PAYLOAD_OVERHEAD
    }

    /// Bytes that a request can carry beside one SURB: 3,632 and 32,304.
    pub const fn capacity_beside_surb(self) -> usize {
        self.capacity() - SURB_LEN
    }

    /// The class whose packets are that long.
    pub const fn of_packet_len(len: usize) -> Option<Self> {
        match len {
            4_096 => Some(Self::Small),
            32_768 => Some(Self::Bulk),
            _ => None,
        }
    }
}

/// A packet: header and payload, as long as its class says.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    class: Class,
    bytes: BytesMut,
}

impl Packet {
    /// A packet from a link. Copies only if `bytes` has another owner.
    ///
    /// # Errors
    /// [`BadLength`] when no class has packets of that length.
    pub fn from_bytes(bytes: impl Into<BytesMut>) -> Result<Self, BadLength> {
        let bytes = bytes.into();
        let class = Class::of_packet_len(bytes.len()).ok_or(BadLength { got: bytes.len() })?;
        Ok(Self { class, bytes })
    }

    /// Its class.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes, for the link.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packet({:?})", self.class)
    }
}

/// What was received is as long as no class's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a packet is 4096 or 32768 bytes long, not {got} (sender's fault)")]
pub struct BadLength {
    /// Bytes received.
    pub got: usize,
}

/// Why a packet or SURB could not be made. Always this side's fault, or that of a descriptor it believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// There is more to carry than fits.
    #[error("{got} bytes do not fit, {capacity} do")]
    TooLong {
        /// Bytes to carry.
        got: usize,
        /// Bytes that fit.
        capacity: usize,
    },
    /// The hop key is a point of small order: whoever published it wants to be readable by all.
    #[error("the key of hop {number} is a point of small order")]
    BadHopKey {
        /// Which hop, from 0.
        number: usize,
    },
    /// The way of a reply begins at a hop that is reached over a link handle, which the answering node does not have.
    #[error("the first hop of a reply must be a listed node")]
    UnlistedFirstHop,
}

/// Why a hop drops a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeelError {
    /// Another version of the format.
    #[error("packet version {got}, this node knows {VERSION} (sender's fault)")]
    UnknownVersion {
        /// Its first byte.
        got: u8,
    },
    /// It was made for a hop key that is not held: too old, or never ours. (Once in 256 times that shows as
    /// [`PeelError::BadHeader`].)
    #[error("no hop key that is held opens the header (expired, or not for this node)")]
    UnknownKey,
    /// A bit of the header or the length is not as its maker wrote it, or it is for another node.
    #[error("the header does not authenticate (damaged, forged or for another node)")]
    BadHeader,
    /// The maker wrote a command that does not exist.
    #[error("unknown routing command {kind} (maker's fault)")]
    BadCommand {
        /// Its kind byte.
        kind: u8,
    },
    /// The payload was changed on its way.
    #[error("the payload was changed on its way")]
    BadPayload,
}

impl PeelError {
    /// How it is counted.
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::UnknownVersion { .. } | Self::BadCommand { .. } => Refusal::Malformed,
            Self::UnknownKey => Refusal::Expired,
            Self::BadHeader | Self::BadPayload => Refusal::BadAuthentication,
        }
    }
}

/// A packet of which a hop took its layer off.
#[derive(Debug)]
pub struct Peeled {
    /// Which of the hop's keys it was made for: each has a [`ReplayFilter`] of its own.
    pub key: HopKeyId,
    /// Must be unseen, and kept where a crash does not lose it, **before** `action` is taken.
    pub tag: ReplayTag,
    /// What the layer says.
    pub action: Action,
}

/// What the layer of a hop tells it to do.
#[derive(Debug)]
pub enum Action {
    /// Send `packet` on.
    Forward {
        /// Where to.
        next: NextHop,
        /// The packet for the next hop, of the same class.
        packet: Packet,
    },
    /// The request is for this node.
    Deliver {
        /// Its class, which is that of the reply.
        class: Class,
        /// The request.
        payload: Bytes,
    },
}

/// Makes a request of `payload` that the last of `hops` is to get. Send it to the first over the link.
///
/// # Errors
/// [`BuildError`].
pub fn build(
    rng: &mut impl CryptoRng,
    class: Class,
    hops: &[Hop; HOPS],
    payload: &[u8],
) -> Result<Packet, BuildError> {
    let bytes = build_sized(rng, class.packet_len(), hops, payload)?;
    Ok(Packet { class, bytes })
}

/// Takes this node's layer off a packet, in place.
///
/// Costs one exchange and four passes over the payload; a forged one costs the exchange.
///
/// # Errors
/// [`PeelError`]; the packet is gone then, nothing is to be told to its sender.
pub fn peel(secrets: &HopSecrets, packet: Packet) -> Result<Peeled, PeelError> {
    let Packet { class, mut bytes } = packet;
    let (key, tag, command) = peel_sized(secrets, &mut bytes)?;
    let action = match command {
        Some(next) => Action::Forward {
            next,
            packet: Packet { class, bytes },
        },
        None => Action::Deliver {
            class,
            payload: deliver(bytes)?,
        },
    };
    Ok(Peeled { key, tag, action })
}

/// [`build`] for packets of any length: for benchmarks at sizes of other formats, never for a link.
///
/// # Errors
/// [`BuildError`].
pub fn build_sized(
    rng: &mut impl CryptoRng,
    packet_len: usize,
    hops: &[Hop; HOPS],
    payload: &[u8],
) -> Result<BytesMut, BuildError> {
    let capacity = packet_len
        .saturating_sub(HEADER_LEN + PAYLOAD_OVERHEAD)
        .min(payload::CAPACITY_MAX);
    if payload.len() > capacity || packet_len < PACKET_LEN_MIN {
        return Err(BuildError::TooLong {
            got: payload.len(),
            capacity,
        });
    }
    let mut bytes = BytesMut::zeroed(packet_len);
    let (head, body) = bytes.split_at_mut(HEADER_LEN);
    let sealed = header::seal(rng, hops, Command::Deliver, length_of(body))?;
    head.copy_from_slice(&sealed.header);
    payload::write(body, payload);
    for keys in sealed.layers.iter().rev() {
        keys.wide.encrypt(body);
    }
    Ok(bytes)
}

/// [`peel`] for packets of any length, without reading what is delivered: where to send it on, `None` if it is for
/// this node. For benchmarks.
///
/// # Errors
/// [`PeelError`].
pub fn peel_sized(
    secrets: &HopSecrets,
    packet: &mut [u8],
) -> Result<(HopKeyId, ReplayTag, Option<NextHop>), PeelError> {
    if packet.len() < PACKET_LEN_MIN {
        return Err(PeelError::BadHeader);
    }
    let (head, body) = packet.split_first_chunk_mut().ok_or(PeelError::BadHeader)?;
    let opened = header::open(secrets, head, length_of(body))?;
    opened.keys.wide.decrypt(body);
    let next = match opened.command {
        Command::Forward(next) => Some(next),
        Command::Deliver => None,
    };
    Ok((opened.secret.id(), opened.keys.tag, next))
}

const PACKET_LEN_MIN: usize = HEADER_LEN + 2 * wide::LEFT_LEN;

fn deliver(bytes: BytesMut) -> Result<Bytes, PeelError> {
    let bytes = bytes.freeze();
    let within = payload::find(&bytes[HEADER_LEN..]).ok_or(PeelError::BadPayload)?;
    Ok(bytes.slice(HEADER_LEN + within.start..HEADER_LEN + within.end))
}

/// The length that a header is bound to.
fn length_of(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).expect("a payload is shorter than 4 GiB")
}
