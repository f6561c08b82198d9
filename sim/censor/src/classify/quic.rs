//! The Initial packet of a QUIC client: its protection is removed with keys that anyone can derive, its ClientHello read.
//!
//! Sources: RFC 9000 §17.2 (layout) and §19 (frames), RFC 9001 §5 (keys and protection), RFC 9369 §3.3 (version 2). CRYPTO
//! frames are joined over all Initial packets in the bytes that are given. Of one datagram these are what the Great
//! Firewall sees, which joins no datagrams (Zohaib et al., USENIX Security 2025, §4); since packets tell their length, the
//! client's datagrams may also be given one after the other.

use std::collections::BTreeMap;

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::aes::Aes128;
use aes_gcm::aes::cipher::{Block, BlockCipherEncrypt as _};
use aes_gcm::{Aes128Gcm, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;

use super::Look;
use super::cursor::Cursor;
use super::hello::ClientHello;

/// A version whose Initial keys are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 9000.
    V1,
    /// RFC 9369.
    V2,
}

impl Version {
    /// The number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 0x6b33_43cf,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            0x6b33_43cf => Some(Self::V2),
            _ => None,
        }
    }

    /// Bits 4 and 5 of the first byte of an Initial, RFC 9369 §3.2.
    pub(crate) const fn initial_type(self) -> u8 {
        match self {
            Self::V1 => 0b00,
            Self::V2 => 0b01,
        }
    }

    const fn salt(self) -> &'static [u8; 20] {
        match self {
            Self::V1 => &[
                0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c,
                0xad, 0xcc, 0xbb, 0x7f, 0x0a,
            ],
            Self::V2 => &[
                0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d,
                0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
            ],
        }
    }

    const fn labels(self) -> [&'static [u8]; 3] {
        match self {
            Self::V1 => [b"quic key", b"quic iv", b"quic hp"],
            Self::V2 => [b"quicv2 key", b"quicv2 iv", b"quicv2 hp"],
        }
    }
}

/// A datagram whose first packet is laid out as a client's Initial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initial {
    /// Of the packet.
    pub version: Version,
    /// The connection that the client asks for, from which its keys come.
    pub destination_id: Vec<u8>,
    /// What is inside.
    pub inside: Inside,
}

/// What is inside an Initial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// A whole ClientHello.
    Hello(ClientHello),
    /// A part of a hello; the rest is in another datagram.
    Part,
    /// The keys of this connection ID do not fit: a server's packet, or a client's after a Retry, or damage.
    Locked,
    /// It decrypts, but there is no hello in it.
    Other,
}

/// Keys of a client's Initial packets.
pub(crate) struct Keys {
    pub(crate) aead: Aes128Gcm,
    pub(crate) iv: [u8; 12],
    pub(crate) header: Aes128,
}

impl Keys {
    /// RFC 9001 §5.2. `None` never happens: the lengths are fixed and good.
    pub(crate) fn client(version: Version, destination_id: &[u8]) -> Option<Self> {
        let (_, initial) = Hkdf::<Sha256>::extract(Some(version.salt()), destination_id);
        let mut secret = [0; 32];
        expand(&initial, b"client in", &mut secret)?;
        let client = Hkdf::<Sha256>::from_prk(&secret).ok()?;
        let (mut key, mut iv, mut header) = ([0; 16], [0; 12], [0; 16]);
        let [key_label, iv_label, header_label] = version.labels();
        expand(&client, key_label, &mut key)?;
        expand(&client, iv_label, &mut iv)?;
        expand(&client, header_label, &mut header)?;
        Some(Self {
            aead: Aes128Gcm::new(&key.into()),
            iv,
            header: Aes128::new(&header.into()),
        })
    }

    /// The mask of RFC 9001 §5.4.3.
    pub(crate) fn mask(&self, sample: [u8; 16]) -> [u8; 5] {
        let mut block: Block<Aes128> = sample.into();
        self.header.encrypt_block(&mut block);
        [block[0], block[1], block[2], block[3], block[4]]
    }

    /// RFC 9001 §5.3.
    pub(crate) fn nonce(&self, number: u32) -> [u8; 12] {
        let mut nonce = self.iv;
        for (to, from) in nonce[8..].iter_mut().zip(number.to_be_bytes()) {
            *to ^= from;
        }
        nonce
    }

    /// Removes the protection of a packet that begins with its first byte and ends with its tag; `number_at` is where its
    /// number begins. The payload, or `None` if the tag is wrong.
    fn open(&self, packet: &[u8], number_at: usize) -> Option<Vec<u8>> {
        let sample: [u8; 16] = packet.get(number_at + 4..number_at + 20)?.try_into().ok()?;
        let mask = self.mask(sample);
        let first = packet[0] ^ (mask[0] & 0x0f);
        let number_len = usize::from(first & 3) + 1;
        let mut header = packet.get(..number_at + number_len)?.to_vec();
        header[0] = first;
        let mut number = 0;
        for (byte, mask) in header[number_at..].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
            // A client's first packets have small numbers, so what is sent of a number is all of it.
            number = (number << 8) | u32::from(*byte);
        }
        let (sealed, tag) = packet.get(header.len()..)?.split_last_chunk::<16>()?;
        let mut payload = sealed.to_vec();
        self.aead
            .decrypt_inout_detached(
                &Nonce::from(self.nonce(number)),
                &header,
                payload.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .ok()?;
        Some(payload)
    }
}

/// Reads the Initial packets of one connection at the beginning of a client's datagram, or of several in a row.
///
/// `No` if they do not begin with an Initial of a known version, or that is cut short; `Incomplete` never happens.
pub fn initial(datagram: &[u8]) -> Look<Initial> {
    let Some(first) = Long::parse(datagram) else {
        return Look::No;
    };
    if first.kind != first.version.initial_type() || first.destination_id.len() > 20 {
        return Look::No;
    }
    let found = |inside| {
        Look::Found(Initial {
            version: first.version,
            destination_id: first.destination_id.to_vec(),
            inside,
        })
    };
    let Some(keys) = Keys::client(first.version, first.destination_id) else {
        return Look::No;
    };
    let mut crypto = Crypto::default();
    let mut rest = datagram;
    let mut opened = false;
    // More than one Initial may share a datagram, each with its part of the hello.
    while let Some(long) = Long::parse(rest) {
        if long.version != first.version || long.destination_id != first.destination_id {
            break;
        }
        if long.kind == first.kind {
            match keys.open(&rest[..long.end], long.number_at) {
                Some(payload) => {
                    opened = true;
                    crypto.read(&payload);
                }
                None if opened => break,
                None => return found(Inside::Locked),
            }
        }
        rest = &rest[long.end..];
    }
    found(crypto.hello())
}

/// A packet with a long header that has a length: RFC 9000 §17.2.
struct Long<'a> {
    version: Version,
    kind: u8,
    destination_id: &'a [u8],
    number_at: usize,
    end: usize,
}

impl<'a> Long<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = Cursor(bytes);
        let first = rest.u8()?;
        if first & 0xc0 != 0xc0 {
            return None;
        }
        let version = Version::from_number(rest.u32()?)?;
        let kind = first >> 4 & 3;
        let destination_id = rest.vec8()?;
        if rest.vec8()?.len() > 20 {
            return None;
        }
        if kind == version.initial_type() {
            let token = usize::try_from(rest.varint()?).ok()?;
            rest.take(token)?;
        }
        let len = usize::try_from(rest.varint()?).ok()?;
        let number_at = bytes.len() - rest.0.len();
        rest.take(len)?;
        let end = bytes.len() - rest.0.len();
        Some(Self {
            version,
            kind,
            destination_id,
            number_at,
            end,
        })
    }
}

/// Bytes of the handshake by their offset. Frames may come in any order and overlap: browsers shuffle them.
#[derive(Default)]
struct Crypto {
    parts: BTreeMap<u64, Vec<u8>>,
}

impl Crypto {
    /// Takes the CRYPTO frames of a payload, until a frame that a client's Initial may not carry.
    fn read(&mut self, payload: &[u8]) -> Option<()> {
        let mut rest = Cursor(payload);
        while let Some(kind) = rest.u8() {
            match kind {
                // PADDING and PING.
                0x00 | 0x01 => {}
                // ACK, with the counts of RFC 9000 §19.3.
                0x02 | 0x03 => {
                    rest.varint()?;
                    rest.varint()?;
                    let ranges = rest.varint()?;
                    rest.varint()?;
                    for _ in 0..ranges {
                        rest.varint()?;
                        rest.varint()?;
                    }
                    if kind == 0x03 {
                        rest.varint()?;
                        rest.varint()?;
                        rest.varint()?;
                    }
                }
                0x06 => {
                    let offset = rest.varint()?;
                    let len = usize::try_from(rest.varint()?).ok()?;
                    let bytes = rest.take(len)?;
                    let part = self.parts.entry(offset).or_default();
                    if part.len() < bytes.len() {
                        *part = bytes.to_vec();
                    }
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn hello(&self) -> Inside {
        if self.parts.is_empty() {
            return Inside::Other;
        }
        let mut joined: Vec<u8> = Vec::new();
        for (&offset, part) in &self.parts {
            let Some(known) = (joined.len() as u64)
                .checked_sub(offset)
                .and_then(|known| usize::try_from(known).ok())
            else {
                // A gap.
                break;
            };
            if let Some(new) = part.get(known..) {
                joined.extend_from_slice(new);
            }
        }
        let mut message = Cursor(&joined);
        match message.u8() {
            None => return Inside::Part,
            Some(1) => {}
            Some(_) => return Inside::Other,
        }
        let Some(body) = message.u24().and_then(|len| message.take(len as usize)) else {
            return Inside::Part;
        };
        ClientHello::parse(body, false).map_or(Inside::Other, Inside::Hello)
    }
}

/// HKDF-Expand-Label of RFC 8446 §7.1 with an empty context.
fn expand(from: &Hkdf<Sha256>, label: &[u8], out: &mut [u8]) -> Option<()> {
    let len = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_len = [u8::try_from(6 + label.len()).ok()?];
    from.expand_multi_info(&[&len, &label_len, b"tls13 ", label, &[0]], out)
        .ok()
}
