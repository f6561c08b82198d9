//! Messages of protocols.

use aes_gcm::Nonce;
use aes_gcm::aead::AeadInOut as _;

use crate::classify::quic::{Keys, Version};

/// What a ClientHello is made of.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The field `random`.
    pub random: [u8; 32],
    /// Cipher suites.
    pub ciphers: Vec<u16>,
    /// The server's name; none, no extension.
    pub server_name: Option<String>,
    /// ALPN; none, no extension.
    pub alpn: Vec<String>,
    /// Further extensions before the padding: type and value.
    pub extensions: Vec<(u16, Vec<u8>)>,
    /// Bytes of the padding extension of RFC 7685; 0, no extension.
    pub padding: u16,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            random: [0x5a; 32],
            ciphers: vec![0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f],
            server_name: None,
            alpn: Vec::new(),
            extensions: vec![
                (10, vec![0, 4, 0, 29, 0, 23]),
                (11, vec![1, 0]),
                (13, vec![0, 4, 4, 3, 8, 4]),
                (43, vec![4, 3, 4, 3, 3]),
            ],
            padding: 0,
        }
    }
}

impl Hello {
    /// A hello that asks for a name.
    pub fn to(name: &str) -> Self {
        Self {
            server_name: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// The handshake message of TLS and QUIC, with its header.
    pub fn message(&self) -> Vec<u8> {
        let body = self.body(0x0303, false);
        let mut message = vec![1];
        message.extend_from_slice(&u24(body.len()));
        message.extend_from_slice(&body);
        message
    }

    /// A DTLS 1.2 datagram with the whole hello in one fragment.
    pub fn dtls(&self) -> Vec<u8> {
        let body = self.body(0xfefd, true);
        let mut record = vec![1];
        record.extend_from_slice(&u24(body.len()));
        record.extend_from_slice(&[0, 0, 0, 0, 0]);
        record.extend_from_slice(&u24(body.len()));
        record.extend_from_slice(&body);
        let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
        vec16(&mut datagram, &record);
        datagram
    }

    fn body(&self, version: u16, with_cookie: bool) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        body.extend_from_slice(&self.random);
        body.push(0);
        if with_cookie {
            body.push(0);
        }
        let ciphers: Vec<u8> = self
            .ciphers
            .iter()
            .flat_map(|cipher| cipher.to_be_bytes())
            .collect();
        vec16(&mut body, &ciphers);
        body.extend_from_slice(&[1, 0]);
        let mut extensions = Vec::new();
        if let Some(name) = &self.server_name {
            let mut entry = vec![0];
            vec16(&mut entry, name.as_bytes());
            let mut list = Vec::new();
            vec16(&mut list, &entry);
            extension(&mut extensions, 0, &list);
        }
        if !self.alpn.is_empty() {
            let names: Vec<u8> = self
                .alpn
                .iter()
                .flat_map(|name| std::iter::once(name.len() as u8).chain(name.bytes()))
                .collect();
            let mut list = Vec::new();
            vec16(&mut list, &names);
            extension(&mut extensions, 16, &list);
        }
        for (kind, value) in &self.extensions {
            extension(&mut extensions, *kind, value);
        }
        if self.padding > 0 {
            extension(&mut extensions, 21, &vec![0; usize::from(self.padding)]);
        }
        vec16(&mut body, &extensions);
        body
    }
}

/// A handshake message in TLS records of at most `fragment_max` bytes each.
pub fn tls_records(message: &[u8], fragment_max: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for fragment in message.chunks(fragment_max) {
        stream.extend_from_slice(&[22, 3, 1]);
        vec16(&mut stream, fragment);
    }
    stream
}

/// A client's Initial with CRYPTO frames (offset, bytes) in the order given, padded to 1200 bytes if it is shorter.
///
/// # Panics
/// Where lengths do not fit.
pub fn quic_initial(version: Version, destination_id: &[u8], crypto: &[(u64, &[u8])]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (offset, bytes) in crypto {
        payload.push(6);
        payload.extend_from_slice(&varint(*offset));
        payload.extend_from_slice(&varint(bytes.len() as u64));
        payload.extend_from_slice(bytes);
    }
    // First byte with a number of four bytes, version, both IDs, an empty token; then length, number, payload and tag.
    let mut packet = vec![0xc3 | version.initial_type() << 4];
    packet.extend_from_slice(&version.number().to_be_bytes());
    packet.push(destination_id.len() as u8);
    packet.extend_from_slice(destination_id);
    packet.extend_from_slice(&[0, 0]);
    payload.resize(payload.len().max(1200 - packet.len() - 2 - 4 - 16), 0);
    let len = u16::try_from(4 + payload.len() + 16).expect("a datagram is shorter than 16 KiB");
    packet.extend_from_slice(&(0x4000 | len).to_be_bytes());
    let number_at = packet.len();
    packet.extend_from_slice(&[0, 0, 0, 1]);
    let keys = Keys::client(version, destination_id).expect("the lengths are fixed and good");
    let tag = keys
        .aead
        .encrypt_inout_detached(
            &Nonce::from(keys.nonce(1)),
            &packet,
            payload.as_mut_slice().into(),
        )
        .expect("a datagram is no 64 GiB");
    packet.extend_from_slice(&payload);
    packet.extend_from_slice(&tag);
    let sample = packet[number_at + 4..number_at + 20]
        .try_into()
        .expect("sixteen bytes");
    let mask = keys.mask(sample);
    packet[0] ^= mask[0] & 0x0f;
    for (byte, mask) in packet[number_at..number_at + 4].iter_mut().zip(&mask[1..]) {
        *byte ^= mask;
    }
    packet
}

/// An HTTP/1.1 request.
pub fn http_request(method: &str, target: &str, host: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nUser-Agent: test\r\nHost: {host}\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

/// A recursive query for one name.
pub fn dns_query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

fn extension(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend_from_slice(&kind.to_be_bytes());
    vec16(to, value);
}

fn vec16(to: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("it fits in 16 bits");
    to.extend_from_slice(&len.to_be_bytes());
    to.extend_from_slice(bytes);
}

fn u24(len: usize) -> [u8; 3] {
    let [_, bytes @ ..] = u32::try_from(len).expect("it fits in 24 bits").to_be_bytes();
    bytes
}

fn varint(value: u64) -> Vec<u8> {
    match value {
        0..0x40 => vec![value as u8],
        0x40..0x4000 => (0x4000 | value as u16).to_be_bytes().to_vec(),
        _ => (0x8000_0000 | value as u32).to_be_bytes().to_vec(),
    }
}
