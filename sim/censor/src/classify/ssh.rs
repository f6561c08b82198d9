//! The line that both ends of SSH begin with.
//!
//! Source: RFC 4253 §4.2.

use super::{Look, printable};

/// `SSH-protoversion-softwareversion comments`, safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banner {
    /// `2.0`, or `1.99` of a server that speaks 1 too.
    pub protocol: String,
    /// Software and its version, without comments.
    pub software: String,
}

/// The longest line, in bytes, with its end.
pub const LINE_BYTES_MAX: usize = 255;

/// Reads the line from the beginning of a stream.
pub fn banner(stream: &[u8]) -> Look<Banner> {
    let Some(rest) = stream.strip_prefix(START) else {
        return if START.starts_with(stream) {
            Look::Incomplete
        } else {
            Look::No
        };
    };
    let window = &rest[..rest.len().min(LINE_BYTES_MAX - START.len())];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if window.len() < rest.len() {
            Look::No
        } else {
            Look::Incomplete
        };
    };
    let line = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
    let Some(dash) = line.iter().position(|byte| *byte == b'-') else {
        return Look::No;
    };
    let (protocol, software) = (&line[..dash], &line[dash + 1..]);
    let words = software.split(|byte| *byte == b' ').next().unwrap_or_default();
    if protocol.is_empty() || words.is_empty() {
        return Look::No;
    }
    Look::Found(Banner {
        protocol: printable(protocol),
        software: printable(words),
    })
}

/// Whether a stream begins as one of SSH.
pub fn starts(stream: &[u8]) -> bool {
    stream.starts_with(START)
}

const START: &[u8] = b"SSH-";
