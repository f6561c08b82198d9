//! The request line of HTTP/1 and its Host header.
//!
//! Source: RFC 9112 §3 and RFC 9110 §7.2.

use super::{Look, printable};

/// A request's head as far as a censor reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// As sent.
    pub method: &'static str,
    /// The request target as sent, safe to print.
    pub target: String,
    /// The value of the first Host header, without blanks around it, safe to print.
    pub host: Option<String>,
}

/// The longest head that is waited for, in bytes; servers allow about as much.
pub const HEAD_BYTES_MAX: usize = 1 << 16;

/// The methods of RFC 9110 §9 and RFC 5789, and that of HTTP/2's preface.
pub const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI",
];

/// Reads a request from the beginning of a stream. `Incomplete` until there is a Host header or the head ends.
pub fn request(stream: &[u8]) -> Look<Request> {
    let Some(method) = method(stream) else {
        let begins = METHODS.iter().any(|method| method.as_bytes().starts_with(stream));
        return if begins { Look::Incomplete } else { Look::No };
    };
    let window = &stream[..stream.len().min(HEAD_BYTES_MAX)];
    let Some((line, mut head)) = split_line(&window[method.len() + 1..]) else {
        return too_long(stream);
    };
    let Some(space) = line.iter().rposition(|byte| *byte == b' ') else {
        return Look::No;
    };
    let (target, version) = line.split_at(space);
    if target.is_empty() || !version.starts_with(b" HTTP/") {
        return Look::No;
    }
    let found = |host: Option<&[u8]>| {
        Look::Found(Request {
            method,
            target: printable(target),
            host: host.map(printable),
        })
    };
    while let Some((line, rest)) = split_line(head) {
        if line.is_empty() {
            return found(None);
        }
        if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            let (name, value) = line.split_at(colon);
            if name.eq_ignore_ascii_case(b"host") {
                return found(Some(value[1..].trim_ascii()));
            }
        }
        head = rest;
    }
    too_long(stream)
}

/// The method that a stream begins with, if a space follows it.
pub fn method(stream: &[u8]) -> Option<&'static str> {
    METHODS.into_iter().find(|method| {
        stream
            .strip_prefix(method.as_bytes())
            .is_some_and(|rest| rest.first() == Some(&b' '))
    })
}

fn too_long(stream: &[u8]) -> Look<Request> {
    if stream.len() >= HEAD_BYTES_MAX {
        Look::No
    } else {
        Look::Incomplete
    }
}

/// A line without its end, which is LF after an optional CR, and what follows.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &bytes[end + 1..]))
}
