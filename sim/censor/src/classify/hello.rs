//! The body of a ClientHello, which TLS, QUIC and DTLS share, and fingerprints of it.
//!
//! Sources: RFC 8446 §4.1.2 and RFC 6347 §4.2.1 for the layout, RFC 6066 §3 for the name, RFC 7301 for ALPN, RFC 8701 for
//! GREASE; "JA4: TLS Client Fingerprinting" (FoxIO, technical_details/JA4.md) and "JA3" (Salesforce) for fingerprints.

use sha2::{Digest as _, Sha256};

use super::cursor::{Cursor, u16s};
use super::{printable, push_hex};

/// What carries a ClientHello; JA4 begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TLS over TCP.
    Tcp,
    /// QUIC.
    Quic,
    /// DTLS.
    Dtls,
}

/// What a ClientHello says. Lists are in the order of the wire, with GREASE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The field `legacy_version`.
    pub legacy_version: u16,
    /// Cipher suites.
    pub ciphers: Vec<u16>,
    /// Types of extensions.
    pub extensions: Vec<u16>,
    /// Versions of the extension `supported_versions`.
    pub versions: Vec<u16>,
    /// Named groups.
    pub groups: Vec<u16>,
    /// Formats of points.
    pub point_formats: Vec<u8>,
    /// Signature algorithms.
    pub signature_algorithms: Vec<u16>,
    /// The server's name as sent, if there is one, safe to print.
    pub server_name: Option<String>,
    /// Protocols of ALPN as sent: any bytes.
    pub alpn: Vec<Vec<u8>>,
}

impl ClientHello {
    /// Reads the body of the handshake message, without its header. `with_cookie` for DTLS.
    ///
    /// `None` if a length does not fit, in an extension that is read here too. Bytes after the extensions make it none as well.
    pub fn parse(body: &[u8], with_cookie: bool) -> Option<Self> {
        let mut rest = Cursor(body);
        let mut hello = Self {
            legacy_version: rest.u16()?,
            ..Self::default()
        };
        rest.take(32)?;
        if rest.vec8()?.len() > 32 {
            return None;
        }
        if with_cookie {
            rest.vec8()?;
        }
        hello.ciphers = u16s(rest.vec16()?)?;
        rest.vec8()?;
        // Before TLS 1.3 the extensions may be missing altogether.
        if rest.is_empty() {
            return Some(hello);
        }
        let mut extensions = Cursor(rest.vec16()?);
        if !rest.is_empty() {
            return None;
        }
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            hello.extension(kind, extensions.vec16()?)?;
        }
        Some(hello)
    }

    fn extension(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        let mut value = Cursor(value);
        match kind {
            SERVER_NAME => {
                let mut names = Cursor(value.vec16()?);
                while !names.is_empty() {
                    let host_name = names.u8()? == 0;
                    let name = names.vec16()?;
                    if host_name && self.server_name.is_none() {
                        self.server_name = Some(printable(name));
                    }
                }
            }
            ALPN => {
                let mut names = Cursor(value.vec16()?);
                while !names.is_empty() {
                    self.alpn.push(names.vec8()?.to_vec());
                }
            }
            GROUPS => self.groups = u16s(value.vec16()?)?,
            POINT_FORMATS => self.point_formats = value.vec8()?.to_vec(),
            SIGNATURE_ALGORITHMS => self.signature_algorithms = u16s(value.vec16()?)?,
            SUPPORTED_VERSIONS => self.versions = u16s(value.vec8()?)?,
            _ => {}
        }
        self.extensions.push(kind);
        Some(())
    }

    /// The newest version that is offered, without GREASE.
    pub fn version(&self, carrier: Carrier) -> u16 {
        let offered = self
            .versions
            .iter()
            .copied()
            .filter(|version| !is_grease(*version));
        // Versions of DTLS count downwards.
        let newest = match carrier {
            Carrier::Tcp | Carrier::Quic => offered.max(),
            Carrier::Dtls => offered.min(),
        };
        newest.unwrap_or(self.legacy_version)
    }

    /// JA4, as `t13d1516h2_8daaf6152771_e5627efa2ab1`.
    pub fn ja4(&self, carrier: Carrier) -> String {
        let real =
            |list: &[u16]| -> Vec<u16> { list.iter().copied().filter(|value| !is_grease(*value)).collect() };
        let mut ciphers = real(&self.ciphers);
        let extensions = real(&self.extensions);
        let first = match carrier {
            Carrier::Tcp => 't',
            Carrier::Quic => 'q',
            Carrier::Dtls => 'd',
        };
        let version = match self.version(carrier) {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            0xfeff => "d1",
            0xfefd => "d2",
            0xfefc => "d3",
            _ => "00",
        };
        let named = if extensions.contains(&SERVER_NAME) {
            'd'
        } else {
            'i'
        };
        let counts = (ciphers.len().min(99), extensions.len().min(99));
        ciphers.sort_unstable();
        let mut sorted: Vec<u16> = extensions
            .into_iter()
            .filter(|kind| !matches!(*kind, SERVER_NAME | ALPN))
            .collect();
        sorted.sort_unstable();
        let mut third = hex_list(&sorted);
        let algorithms = real(&self.signature_algorithms);
        if !third.is_empty() && !algorithms.is_empty() {
            third.push('_');
            third.push_str(&hex_list(&algorithms));
        }
        format!(
            "{first}{version}{named}{:02}{:02}{}_{}_{}",
            counts.0,
            counts.1,
            self.ja4_alpn(),
            short_hash(&hex_list(&ciphers)),
            short_hash(&third)
        )
    }

    /// The first and the last character of the first ALPN; where they are not letters or digits, of its hexadecimal form.
    fn ja4_alpn(&self) -> String {
        let Some([first, last]) = self
            .alpn
            .first()
            .and_then(|name| Some([*name.first()?, *name.last()?]))
        else {
            return "00".to_owned();
        };
        if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
            [char::from(first), char::from(last)].iter().collect()
        } else {
            format!("{:x}{:x}", first >> 4, last & 15)
        }
    }

    /// JA3 before it is hashed: version, ciphers, extensions, groups and point formats in decimal, without GREASE.
    pub fn ja3_string(&self) -> String {
        let list = |values: &[u16]| {
            let real: Vec<String> = values
                .iter()
                .filter(|value| !is_grease(**value))
                .map(u16::to_string)
                .collect();
            real.join("-")
        };
        let formats: Vec<u16> = self.point_formats.iter().copied().map(u16::from).collect();
        format!(
            "{},{},{},{},{}",
            self.legacy_version,
            list(&self.ciphers),
            list(&self.extensions),
            list(&self.groups),
            list(&formats)
        )
    }
}

/// Whether a value is one of those that RFC 8701 reserves to keep servers tolerant.
pub const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

const SERVER_NAME: u16 = 0;
const GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

fn hex_list(values: &[u16]) -> String {
    let mut text = String::with_capacity(values.len() * 5);
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        push_hex(&mut text, &value.to_be_bytes());
    }
    text
}

/// The first 12 hexadecimal digits of SHA-256; zeros for an empty list.
fn short_hash(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    let mut hex = String::with_capacity(12);
    push_hex(&mut hex, &Sha256::digest(text)[..6]);
    hex
}
