//! Single-use reply blocks: a header made in advance, with which somebody answers whom they cannot name.
//! Spec: SPEC §3.5.

use std::fmt;

use bytes::{Bytes, BytesMut};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::header::{self, HEADER_LEN};
use super::keys::HopKeyId;
use super::route::{Command, Hop, LinkHandle, NextHop};
use super::wide::{WIDE_KEY_LEN, WideKey};
use super::{BuildError, Class, HOPS, Packet, payload};
use crate::crypto::kdf::Context;
use crate::crypto::keys::NodeId;
use crate::event::Refusal;
use crate::wire::{DecodeError, Reader, Writer};

const REPLY: Context = Context::new("phantom-net 2026 packet reply v1");

const KEY_LEN: usize = 32;

/// Bytes of an encoded SURB.
pub const SURB_LEN: usize = 16 + HEADER_LEN + KEY_LEN;

/// By what a client recognises the reply to one of its SURBs: 16 bytes of the header that the last hop passes on,
/// random to everybody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId([u8; Self::LEN]);

impl ReplyId {
    pub(super) const LEN: usize = 16;
    /// Behind version and check byte.
    const AT: usize = 2;

    pub(super) const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The id of a packet that came down a client's link. Look up the [`SurbKeys`] with that id; if there are none,
    /// the packet is not for this client or was answered already.
    pub fn of(packet: &Packet) -> Self {
        let mut id = [0; Self::LEN];
        id.copy_from_slice(&packet.as_bytes()[Self::AT..Self::AT + Self::LEN]);
        Self(id)
    }
}

impl fmt::Debug for ReplyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplyId({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// A single-use reply block, as the answering node gets it. Whoever holds it can send one reply and learns the first
/// hop of its way, nothing of the others.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Surb {
    #[zeroize(skip)]
    first: NodeId,
    header: [u8; HEADER_LEN],
    key: [u8; KEY_LEN],
}

impl Surb {
    /// Makes a SURB for a reply of `class` that goes over `hops` and then down the last hop's link `handle`.
    ///
    /// It is good for as long as the hop keys are and the handle exists, and once: a second use is a replay at the
    /// first hop.
    ///
    /// # Errors
    /// [`BuildError::BadHopKey`], [`BuildError::UnlistedFirstHop`].
    pub fn create(
        rng: &mut impl CryptoRng,
        class: Class,
        hops: &[Hop; HOPS],
        handle: LinkHandle,
    ) -> Result<(Self, SurbKeys), BuildError> {
        let NextHop::Node(first) = hops[0].reach else {
            return Err(BuildError::UnlistedFirstHop);
        };
        let payload_len =
            u32::try_from(class.packet_len() - HEADER_LEN).expect("a class is shorter than 4 GiB");
        let last = Command::Forward(NextHop::Link(handle));
        let header::Sealed {
            header,
            layers,
            reply,
        } = header::seal(rng, hops, last, payload_len)?;
        let mut key = [0; KEY_LEN];
        rng.fill_bytes(&mut key);
        let keys = SurbKeys {
            id: reply,
            class,
            oldest_key: hops.iter().map(|hop| hop.key_id).min().unwrap_or_default(),
            reply: reply_key(&key),
            layers: layers.map(|layer| layer.wide),
        };
        Ok((Self { first, header, key }, keys))
    }

    /// Makes the reply; send it to the node named. The SURB is spent.
    ///
    /// # Errors
    /// [`BuildError::TooLong`]; the class must be that of the request, or the first hop refuses the reply.
    pub fn reply(self, class: Class, content: &[u8]) -> Result<(NodeId, Packet), BuildError> {
        if content.len() > class.capacity() {
            return Err(BuildError::TooLong {
                got: content.len(),
                capacity: class.capacity(),
            });
        }
        let mut bytes = BytesMut::zeroed(class.packet_len());
        let (head, body) = bytes.split_at_mut(HEADER_LEN);
        head.copy_from_slice(&self.header);
        payload::write(body, content);
        reply_key(&self.key).encrypt(body);
        Ok((self.first, Packet { class, bytes }))
    }

    /// The hop that the reply is to be sent to.
    pub const fn first_hop(&self) -> NodeId {
        self.first
    }

    /// Its wire form: first hop 16, header 199, key 32.
    pub fn encode(&self) -> [u8; SURB_LEN] {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SURB_LEN));
        bytes.put(self.first.as_bytes());
        bytes.put(&self.header);
        bytes.put(&self.key);
        let mut out = [0; SURB_LEN];
        out.copy_from_slice(&bytes);
        out
    }

    /// Takes a SURB off the front of a request. Whether it is good shows only at the hops.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            first: NodeId::from_bytes(from.array()?),
            header: from.array()?,
            key: from.array()?,
        })
    }
}

impl fmt::Debug for Surb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Surb(first {:?}, secret)", self.first)
    }
}

/// What the maker of a SURB keeps to read the reply with.
#[derive(Clone)]
pub struct SurbKeys {
    id: ReplyId,
    class: Class,
    oldest_key: HopKeyId,
    reply: WideKey,
    layers: [WideKey; HOPS],
}

impl SurbKeys {
    /// By what the reply is recognised.
    pub const fn id(&self) -> ReplyId {
        self.id
    }

    /// The first period whose key the way uses: from two periods later on
    /// (`oldest_key().next().next().starts(period)`) no reply can come.
    pub const fn oldest_key(&self) -> HopKeyId {
        self.oldest_key
    }

    /// Removes all layers of the reply, in place.
    ///
    /// # Errors
    /// [`OpenError`]; keep the keys then: a hop may have made up the packet, and the true one may follow.
    pub fn open(&self, packet: Packet) -> Result<Bytes, OpenError> {
        if ReplyId::of(&packet) != self.id {
            return Err(OpenError::OtherReply);
        }
        if packet.class != self.class {
            return Err(OpenError::OtherClass {
                wanted: self.class,
                got: packet.class,
            });
        }
        let mut bytes = packet.bytes;
        let body = &mut bytes[HEADER_LEN..];
        for layer in self.layers.iter().rev() {
            layer.encrypt(body);
        }
        self.reply.decrypt(body);
        let bytes = bytes.freeze();
        let within = payload::find(&bytes[HEADER_LEN..]).ok_or(OpenError::BadPayload)?;
        Ok(bytes.slice(HEADER_LEN + within.start..HEADER_LEN + within.end))
    }
}

impl fmt::Debug for SurbKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SurbKeys({:?}, secret)", self.id)
    }
}

/// Why a packet is not the reply it was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// It answers another SURB.
    #[error("the packet answers another SURB")]
    OtherReply,
    /// It is of another class than the SURB was made for.
    #[error("the SURB was made for {wanted:?}, the packet is {got:?} (a hop's fault)")]
    OtherClass {
        /// The SURB's.
        wanted: Class,
        /// The packet's.
        got: Class,
    },
    /// It was changed on its way, or was not made with the SURB.
    #[error("the reply was changed on its way")]
    BadPayload,
}

impl OpenError {
    /// How it is counted.
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::OtherReply => Refusal::Misdirected,
            Self::OtherClass { .. } => Refusal::Malformed,
            Self::BadPayload => Refusal::BadAuthentication,
        }
    }
}

fn reply_key(seed: &[u8; KEY_LEN]) -> WideKey {
    WideKey::from_bytes(&Zeroizing::new(REPLY.derive_array::<WIDE_KEY_LEN>(seed)))
}
