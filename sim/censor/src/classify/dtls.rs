//! The ClientHello of DTLS 1.0 to 1.3, by whose fingerprint Snowflake was blocked in Russia in March 2026.
//!
//! Source: RFC 6347 §4.1 and §4.2.2, RFC 9147 §5.3. Fragments of the hello are joined within one datagram, in order.

use super::Look;
use super::cursor::Cursor;
use super::hello::ClientHello;

/// Reads a ClientHello from a datagram. `Incomplete` if fragments of it are in other datagrams, or the datagram is cut short.
pub fn client_hello(datagram: &[u8]) -> Look<ClientHello> {
    let mut rest = Cursor(datagram);
    let mut joined: Vec<u8> = Vec::new();
    loop {
        match rest.0 {
            [] | [HANDSHAKE] | [HANDSHAKE, 0xfe] => return Look::Incomplete,
            [HANDSHAKE, 0xfe, 0xff | 0xfd | 0xfc, ..] => {}
            _ => return Look::No,
        }
        // Type, version, epoch and sequence number; a hello is in the clear, so its epoch is 0.
        let Some(header) = rest.take(11) else {
            return Look::Incomplete;
        };
        if header[3..5] != [0, 0] {
            return Look::No;
        }
        let Some(record) = rest.vec16() else {
            return Look::Incomplete;
        };
        let mut record = Cursor(record);
        while !record.is_empty() {
            let Some(fragment) = Fragment::parse(&mut record) else {
                return Look::No;
            };
            if fragment.offset != joined.len() {
                return Look::Incomplete;
            }
            if joined.is_empty() && fragment.bytes.len() == fragment.message_len {
                return finish(fragment.bytes);
            }
            joined.extend_from_slice(fragment.bytes);
            if joined.len() >= fragment.message_len {
                return finish(&joined[..fragment.message_len]);
            }
        }
    }
}

/// Whether a datagram begins with the header of a record and of a ClientHello.
pub fn starts_hello(datagram: &[u8]) -> bool {
    matches!(datagram, [HANDSHAKE, 0xfe, 0xff | 0xfd | 0xfc, 0, 0, ..])
        && datagram.get(13) == Some(&CLIENT_HELLO)
}

struct Fragment<'a> {
    message_len: usize,
    offset: usize,
    bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn parse(record: &mut Cursor<'a>) -> Option<Self> {
        if record.u8()? != CLIENT_HELLO {
            return None;
        }
        let message_len = record.u24()? as usize;
        record.u16()?;
        let offset = record.u24()? as usize;
        let len = record.u24()? as usize;
        // A fragment of no bytes brings nothing; many of them would be a loop for nothing.
        if offset + len > message_len || (len == 0 && message_len > 0) {
            return None;
        }
        let bytes = record.take(len)?;
        Some(Self {
            message_len,
            offset,
            bytes,
        })
    }
}

fn finish(body: &[u8]) -> Look<ClientHello> {
    ClientHello::parse(body, true).map_or(Look::No, Look::Found)
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
