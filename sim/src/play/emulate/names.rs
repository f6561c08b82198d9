//! The resolver next door of every emulated host: it reads real questions and writes real answers (RFC 1035 §4).
//!
//! Only what stub resolvers ask: one question, no compression in it. Of records there are addresses of IPv4.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 255;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
/// A pointer to the name of the question.
const SAME_NAME: [u8; 2] = [0xc0, 0x0c];
/// Seconds that an answer holds.
const TTL: u32 = 60;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question<'a> {
    /// In lower case, without a dot at the end.
    pub(super) name: String,
    /// Whether addresses of IPv4 are asked for.
    ipv4: bool,
    /// The whole question, and what stands before it.
    head: &'a [u8],
}

impl<'a> Question<'a> {
    /// Reads a query; `None` for anything else.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let header = message.get(..HEADER_BYTES)?;
        let answers = header[2] & 0x80 != 0;
        let one_question = header[4..6] == [0, 1];
        if answers || !one_question {
            return None;
        }
        let (mut at, mut name) = (HEADER_BYTES, String::new());
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            if length > 63 || name.len() + length > NAME_BYTES_MAX {
                return None;
            }
            let label = std::str::from_utf8(message.get(at..at + length)?).ok()?;
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&label.to_ascii_lowercase());
            at += length;
        }
        let kind = message.get(at..at + 4)?;
        Some(Self {
            name,
            ipv4: kind == [TYPE_A.to_be_bytes(), CLASS_IN.to_be_bytes()].concat(),
            head: &message[..at + 4],
        })
    }

    /// The answer with these addresses; `None`: there is no such name.
    pub(super) fn answer(&self, addresses: Option<&[Ipv4Addr]>) -> Vec<u8> {
        let given = addresses.filter(|_| self.ipv4).unwrap_or_default();
        let mut out = self.head.to_vec();
        // An answer, recursion as desired and available; 3: no such name.
        out[2] = 0x80 | (out[2] & 0x79);
        out[3] = 0x80 | if addresses.is_none() { 3 } else { 0 };
        out[6..8].copy_from_slice(&(given.len() as u16).to_be_bytes());
        // No authority and nothing additional, whatever the question had.
        out[8..12].fill(0);
        for address in given {
            out.extend(SAME_NAME);
            out.extend(TYPE_A.to_be_bytes());
            out.extend(CLASS_IN.to_be_bytes());
            out.extend(TTL.to_be_bytes());
            out.extend(4_u16.to_be_bytes());
            out.extend(address.octets());
        }
        out
    }
}

/// The names of a world.
pub(super) type Names = BTreeMap<String, Vec<Ipv4Addr>>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As glibc asks: recursion desired, with an OPT record behind the question.
    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0x12, 0x34, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend(label.as_bytes());
        }
        out.extend([0, 0, kind as u8, 0, 1]);
        out.extend([0, 0, 41, 4, 0xb0, 0, 0, 0, 0, 0, 0]);
        out
    }

    #[test]
    fn a_question_of_a_stub_resolver_is_answered_with_what_it_asked() {
        let message = query("Entry.Example", 1);
        let question = Question::read(&message).unwrap();
        assert_eq!(question.name, "entry.example");
        let answer = question.answer(Some(&[Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)]));
        assert_eq!(answer[..12], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
        // The question as it was asked, its case too, and two records of 16 bytes.
        assert_eq!(answer[12..31], message[12..31]);
        assert_eq!(answer.len(), 31 + 2 * 16);
        assert!(answer.ends_with(&[192, 0, 2, 2]));
    }

    #[test]
    fn other_types_have_no_records_and_a_name_that_is_not_there_is_said_not_to_be() {
        let message = query("entry.example", 28);
        let none = Question::read(&message)
            .unwrap()
            .answer(Some(&[Ipv4Addr::LOCALHOST]));
        assert_eq!((none[3] & 15, none[7]), (0, 0));
        let gone = Question::read(&message).unwrap().answer(None);
        assert_eq!((gone[3] & 15, gone[7]), (3, 0));
    }

    #[test]
    fn an_answer_is_no_question() {
        let message = query("entry.example", 1);
        let answer = Question::read(&message).unwrap().answer(Some(&[]));
        assert_eq!(Question::read(&answer), None);
        assert!((0..message.len() - 11).all(|short| Question::read(&message[..short]).is_none()));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(question) = Question::read(&bytes) {
                let _ = question.answer(Some(&[Ipv4Addr::LOCALHOST]));
            }
        }
    }
}
