//! The ClientHello of TLS over TCP.
//!
//! Source: RFC 8446 §4 and §5.1. A hello may be spread over several records and several TCP segments. [`client_hello`] takes
//! the bytes of all segments so far and joins records; [`client_hello_in_segment`] takes one segment and joins nothing, as
//! censors do that a split hello passes (the Henan firewall, Wu et al., S&P 2025; Iran's filter, Bock et al., FOCI 2020).

use super::Look;
use super::cursor::Cursor;
use super::hello::ClientHello;

/// The longest hello that is joined, in bytes; none is known to come near.
pub const HELLO_BYTES_MAX: usize = 1 << 16;

/// Reads a ClientHello from the beginning of a stream, over as many records as it takes.
///
/// `Incomplete` until the last byte of the hello is there; `No` if it is another handshake message or longer than
/// [`HELLO_BYTES_MAX`].
pub fn client_hello(stream: &[u8]) -> Look<ClientHello> {
    look(stream, true)
}

/// Reads a ClientHello that must lie whole in one record in one segment.
pub fn client_hello_in_segment(segment: &[u8]) -> Look<ClientHello> {
    look(segment, false)
}

/// Whether a stream begins with the header of a record and of a ClientHello: six bytes.
pub fn starts_hello(stream: &[u8]) -> bool {
    matches!(stream, [HANDSHAKE, 3, 0..=4, _, _, CLIENT_HELLO, ..])
}

fn look(stream: &[u8], join: bool) -> Look<ClientHello> {
    let mut rest = Cursor(stream);
    let mut joined = Vec::new();
    loop {
        match rest.0 {
            [] | [HANDSHAKE] | [HANDSHAKE, 3] => return Look::Incomplete,
            [HANDSHAKE, 3, 0..=4, ..] => {}
            _ => return Look::No,
        }
        let mut header = rest;
        let len = match header.take(3).and_then(|_| header.u16()) {
            Some(len @ 1..=RECORD_BYTES_MAX) => usize::from(len),
            Some(_) => return Look::No,
            None => return Look::Incomplete,
        };
        rest = header;
        let whole = rest.take(len);
        let fragment = whole.unwrap_or(rest.0);
        // The message's own header tells whether more is worth waiting for.
        let message = if joined.is_empty() {
            fragment
        } else {
            joined.extend_from_slice(fragment);
            &joined
        };
        match message_len(message) {
            Look::No => return Look::No,
            Look::Found(len) if len <= message.len() => {
                return ClientHello::parse(&message[4..len], false).map_or(Look::No, Look::Found);
            }
            Look::Found(_) | Look::Incomplete => {}
        }
        if whole.is_none() || !join {
            return Look::Incomplete;
        }
        if joined.is_empty() {
            joined.extend_from_slice(fragment);
        }
    }
}

/// Length of the handshake message with its header.
fn message_len(message: &[u8]) -> Look<usize> {
    let mut header = Cursor(message);
    match header.u8() {
        None => return Look::Incomplete,
        Some(CLIENT_HELLO) => {}
        Some(_) => return Look::No,
    }
    match header.u24() {
        None => Look::Incomplete,
        Some(len) if len as usize <= HELLO_BYTES_MAX => Look::Found(4 + len as usize),
        Some(_) => Look::No,
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// RFC 8446 §5.1, with the expansion that older versions allow.
const RECORD_BYTES_MAX: u16 = (1 << 14) + 2048;
