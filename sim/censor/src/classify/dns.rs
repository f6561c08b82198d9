//! The name that a DNS query asks for.
//!
//! Source: RFC 1035 §4.1 and §4.2.2.

use super::cursor::Cursor;
use super::{Look, printable};

/// A query's first question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Labels with dots between, without one at the end, safe to print; `.` for the root. Dots inside of a label are `\x2e`.
    pub name: String,
    /// QTYPE: 1 is A, 28 AAAA.
    pub kind: u16,
}

/// Reads a query from a datagram.
///
/// `No` for answers and for a compressed name: a pointer in the first name of a message could only lead into the header or
/// onwards, so it is refused and never followed. `Incomplete` never happens.
pub fn query(datagram: &[u8]) -> Look<Question> {
    parse(datagram).map_or(Look::No, Look::Found)
}

/// Reads a query from the beginning of a TCP stream, where its length in two bytes precedes it.
pub fn query_over_tcp(stream: &[u8]) -> Look<Question> {
    let mut rest = Cursor(stream);
    let Some(len) = rest.u16() else {
        return Look::Incomplete;
    };
    if usize::from(len) < HEADER + 5 {
        return Look::No;
    }
    match rest.take(usize::from(len)) {
        Some(message) => query(message),
        // What is there of the header can already tell that it is none.
        None if rest.0.len() < HEADER || is_query(rest.0) => Look::Incomplete,
        None => Look::No,
    }
}

/// Whether bytes begin with the header of a query for one name.
pub fn is_query(message: &[u8]) -> bool {
    // QR, opcode, AA, the reserved bit and RCODE are zero; TC, RD, AD, CD and RA may be anything. One question, no answer, no
    // authority.
    matches!(message, [_, _, flags, codes, 0, 1, 0, 0, 0, 0, _, _, ..]
        if flags & 0b1111_1100 == 0 && codes & 0b0100_1111 == 0)
}

fn parse(message: &[u8]) -> Option<Question> {
    if !is_query(message) {
        return None;
    }
    let mut rest = Cursor(message.get(HEADER..)?);
    let mut name = String::new();
    let mut len = 0;
    loop {
        let label_len = rest.u8()?;
        // The two upper bits mark a pointer or a type of label that nobody uses.
        if label_len > 63 {
            return None;
        }
        if label_len == 0 {
            break;
        }
        len += usize::from(label_len) + 1;
        if len > NAME_BYTES_MAX - 1 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&printable(rest.take(usize::from(label_len))?).replace('.', "\\x2e"));
    }
    let kind = rest.u16()?;
    rest.u16()?;
    if name.is_empty() {
        name.push('.');
    }
    Some(Question { name, kind })
}

const HEADER: usize = 12;
/// RFC 1035 §3.1, with the empty label at the end.
const NAME_BYTES_MAX: usize = 255;
