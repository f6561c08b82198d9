//! What a client asks of the storage hop and what comes back, inside packets. Spec: SPEC §4.4.
//!
//! All requests about small boxes have one length and all answers another, whatever they ask or say: writes, reads, found and
//! not found look alike. A bulk box takes a bulk packet where it travels: towards its nodes when it is written, back when it is
//! read; whoever watches a link sees the class of a packet. Unused bytes are zero, and a decoder insists on that.

use std::fmt;

use super::address::BoxAddress;
use super::record::{RECORD_LEN, Record, record_len};
use crate::packet::{Class, SURB_LEN};
use crate::wire::{DecodeError, Reader, Writer};

/// How many boxes one read may ask for.
pub const MAX_READ: usize = 32;

/// Bytes of a request besides its reply block and its record or addresses.
pub const REQUEST_OVERHEAD: usize = 2;

/// Bytes of an answer besides its record.
const ANSWER_OVERHEAD: usize = 1 + 1 + 4 + 4 + 1;

const VERSION: u8 = 1;
const WRITE: u8 = 1;
const READ: u8 = 2;
const READ_BULK: u8 = 3;

const _: () = assert!(Lengths::SMALL.fit(Class::Small) && Lengths::BULK.fit(Class::Bulk));
// The smaller case must not decide the size.
const _: () = assert!(MAX_READ * BoxAddress::LEN < RECORD_LEN);

/// The lengths that the packet format gives to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// The payload of a packet towards the storage hop.
    pub request: usize,
    /// The payload of a packet that goes back through a reply block.
    pub answer: usize,
    /// A reply block (SURB), opaque here.
    pub surb: usize,
}

impl Lengths {
    /// Those of the small packet class.
    pub const SMALL: Self = Self::of(Class::Small);

    /// Those of the bulk packet class.
    pub const BULK: Self = Self::of(Class::Bulk);

    /// Those of a packet class.
    pub const fn of(class: Class) -> Self {
        Self {
            request: class.capacity(),
            answer: class.capacity(),
            surb: SURB_LEN,
        }
    }

    /// Whether every request and answer about boxes of this class fits.
    pub const fn fit(self, class: Class) -> bool {
        self.request >= REQUEST_OVERHEAD + self.surb + record_len(class)
            && self.answer >= ANSWER_OVERHEAD + record_len(class)
    }
}

/// What a client asks. Whoever peels it sends the answer through `surb`.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// Write one box.
    Write {
        /// The reply block.
        surb: Vec<u8>,
        /// The box; its signature is not checked yet.
        record: Box<Record>,
    },
    /// Say which of these boxes exist, and return the first that does.
    Read {
        /// The reply block.
        surb: Vec<u8>,
        /// Of which class the boxes are; one of another class is said to exist and not returned.
        class: Class,
        /// One to [`MAX_READ`], in the order of preference.
        addresses: Vec<BoxAddress>,
    },
}

impl Request {
    /// The class of the packet that carries it.
    pub fn class(&self) -> Class {
        match self {
            Self::Write { record, .. } => record.class(),
            Self::Read { .. } => Class::Small,
        }
    }

    /// The class of the packet that carries its answer, which its reply block is made for.
    pub const fn answer_class(&self) -> Class {
        match self {
            Self::Write { .. } => Class::Small,
            Self::Read { class, .. } => *class,
        }
    }

    /// The wire form, `lengths.request` bytes.
    ///
    /// # Panics
    /// When the reply block, the number of addresses or `lengths` break the format: a mistake of the caller.
    pub fn encode(&self, lengths: Lengths) -> Vec<u8> {
        assert!(lengths.fit(self.class()), "requests do not fit {lengths:?}");
        let mut out = Vec::with_capacity(lengths.request);
        out.put_u8(VERSION);
        let (kind, surb) = match self {
            Self::Write { surb, .. } => (WRITE, surb),
            Self::Read {
                surb,
                class: Class::Small,
                ..
            } => (READ, surb),
            Self::Read {
                surb,
                class: Class::Bulk,
                ..
            } => (READ_BULK, surb),
        };
        assert_eq!(surb.len(), lengths.surb, "a reply block has one length");
        out.put_u8(kind);
        out.put(surb);
        match self {
            Self::Write { record, .. } => record.write(&mut out),
            Self::Read { addresses, .. } => {
                assert!(
                    (1..=MAX_READ).contains(&addresses.len()),
                    "a read asks for 1 to {MAX_READ} boxes"
                );
                out.put_u8(addresses.len() as u8);
                addresses.iter().for_each(|address| out.put(address.as_bytes()));
            }
        }
        out.resize(lengths.request, 0);
        out
    }

    /// Decodes what [`Request::encode`] made.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8], lengths: Lengths) -> Result<Self, DecodeError> {
        exactly(bytes, lengths.request)?;
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let kind = r.u8()?;
        let surb = r.take(lengths.surb)?.to_vec();
        let request = match kind {
            WRITE => Self::Write {
                surb,
                record: Box::new(Record::read(&mut r)?),
            },
            READ | READ_BULK => {
                let count = usize::from(r.u8()?);
                if count == 0 || count > MAX_READ {
                    return Err(DecodeError::BadValue {
                        field: "boxes of a read",
                        got: count as u64,
                    });
                }
                let addresses = (0..count)
                    .map(|_| r.array().map(BoxAddress::from_bytes))
                    .collect::<Result<_, DecodeError>>()?;
                let class = if kind == READ { Class::Small } else { Class::Bulk };
                Self::Read {
                    surb,
                    class,
                    addresses,
                }
            }
            got => {
                return Err(DecodeError::BadValue {
                    field: "request kind",
                    got: u64::from(got),
                });
            }
        };
        zeros(r)?;
        Ok(request)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { record, .. } => f.debug_tuple("Write").field(record).finish(),
            Self::Read { addresses, .. } => f.debug_tuple("Read").field(addresses).finish(),
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WriteOutcome {
    /// This many replicas hold it durably; enough of them (SPEC §4.5).
    Stored {
        /// How many, the coordinator included.
        replicas: u8,
    },
    /// Too few replicas hold it; to be tried again.
    TooFew {
        /// How many hold it durably.
        replicas: u8,
    },
    /// The box holds something else.
    Conflict,
    /// Its bound has passed, or lies too far ahead of the node's clock.
    Expired,
    /// Not taken: a quota, or not in a mood to say why.
    Refused,
}

impl WriteOutcome {
    const fn code(self) -> (u8, u8) {
        match self {
            Self::Stored { replicas } => (0, replicas),
            Self::TooFew { replicas } => (1, replicas),
            Self::Conflict => (2, 0),
            Self::Expired => (3, 0),
            Self::Refused => (4, 0),
        }
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        let (code, replicas) = self.code();
        out.put_u8(code);
        out.put_u8(replicas);
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (code, replicas) = (r.u8()?, r.u8()?);
        let outcome = match code {
            0 => Self::Stored { replicas },
            1 => Self::TooFew { replicas },
            2 => Self::Conflict,
            3 => Self::Expired,
            4 => Self::Refused,
            got => {
                return Err(DecodeError::BadValue {
                    field: "write outcome",
                    got: u64::from(got),
                });
            }
        };
        if outcome.code() != (code, replicas) {
            return Err(DecodeError::BadValue {
                field: "replicas of a failed write",
                got: u64::from(replicas),
            });
        }
        Ok(outcome)
    }
}

/// What a read found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadAnswer {
    /// Bit i: box i of the request exists.
    pub found: u32,
    /// Bit i: too few replicas answered to say that box i does not exist.
    pub unknown: u32,
    /// The first box of the request that exists.
    pub record: Option<Box<Record>>,
}

/// What comes back through a reply block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a write.
    Write(WriteOutcome),
    /// To a read.
    Read(ReadAnswer),
}

impl Answer {
    /// The wire form, `lengths.answer` bytes.
    ///
    /// # Panics
    /// When `lengths` break the format: a mistake of the caller.
    pub fn encode(&self, lengths: Lengths) -> Vec<u8> {
        let mut out = Vec::with_capacity(lengths.answer);
        out.put_u8(VERSION);
        match self {
            Self::Write(outcome) => {
                out.put_u8(WRITE);
                outcome.write(&mut out);
            }
            Self::Read(answer) => {
                out.put_u8(READ);
                out.put_u32(answer.found);
                out.put_u32(answer.unknown);
                out.put_u8(u8::from(answer.record.is_some()));
                if let Some(record) = &answer.record {
                    record.write(&mut out);
                }
            }
        }
        assert!(out.len() <= lengths.answer, "an answer does not fit {lengths:?}");
        out.resize(lengths.answer, 0);
        out
    }

    /// Decodes what [`Answer::encode`] made.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8], lengths: Lengths) -> Result<Self, DecodeError> {
        exactly(bytes, lengths.answer)?;
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let answer = match r.u8()? {
            WRITE => Self::Write(WriteOutcome::read(&mut r)?),
            READ => {
                let (found, unknown) = (r.u32()?, r.u32()?);
                let record = match r.u8()? {
                    0 => None,
                    1 => Some(Box::new(Record::read(&mut r)?)),
                    got => {
                        return Err(DecodeError::BadValue {
                            field: "record flag",
                            got: u64::from(got),
                        });
                    }
                };
                Self::Read(ReadAnswer {
                    found,
                    unknown,
                    record,
                })
            }
            got => {
                return Err(DecodeError::BadValue {
                    field: "answer kind",
                    got: u64::from(got),
                });
            }
        };
        zeros(r)?;
        Ok(answer)
    }
}

fn exactly(bytes: &[u8], wanted: usize) -> Result<(), DecodeError> {
    match bytes.len() {
        got if got < wanted => Err(DecodeError::Truncated { wanted, got }),
        got if got > wanted => Err(DecodeError::Trailing { extra: got - wanted }),
        _ => Ok(()),
    }
}

pub(super) fn version(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    match r.u8()? {
        VERSION => Ok(()),
        got => Err(DecodeError::BadValue {
            field: "mailbox version",
            got: u64::from(got),
        }),
    }
}

fn zeros(mut r: Reader<'_>) -> Result<(), DecodeError> {
    match r.rest().iter().find(|&&b| b != 0) {
        None => Ok(()),
        Some(&got) => Err(DecodeError::BadValue {
            field: "padding",
            got: u64::from(got),
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::tests::{bulk_record, record};
    use super::*;

    const LENGTHS: Lengths = Lengths::SMALL;

    fn requests() -> [Request; 4] {
        let addresses = |n| (0..n).map(|i| BoxAddress::from_bytes([i; 32])).collect();
        [
            Request::Write {
                surb: vec![9; LENGTHS.surb],
                record: Box::new(record(1, 2)),
            },
            Request::Read {
                surb: vec![9; LENGTHS.surb],
                class: Class::Small,
                addresses: addresses(1),
            },
            Request::Read {
                surb: vec![9; LENGTHS.surb],
                class: Class::Small,
                addresses: addresses(32),
            },
            Request::Read {
                surb: vec![9; LENGTHS.surb],
                class: Class::Bulk,
                addresses: addresses(32),
            },
        ]
    }

    fn answers() -> Vec<Answer> {
        vec![
            Answer::Write(WriteOutcome::Stored { replicas: 2 }),
            Answer::Write(WriteOutcome::TooFew { replicas: 1 }),
            Answer::Write(WriteOutcome::Conflict),
            Answer::Write(WriteOutcome::Expired),
            Answer::Write(WriteOutcome::Refused),
            Answer::Read(ReadAnswer::default()),
            Answer::Read(ReadAnswer {
                found: 5,
                unknown: 2,
                record: Some(Box::new(record(1, 2))),
            }),
        ]
    }

    #[test]
    fn requests_are_all_of_one_size_and_read_back() {
        for request in requests() {
            let bytes = request.encode(LENGTHS);
            assert_eq!(bytes.len(), LENGTHS.request);
            assert_eq!(Request::decode(&bytes, LENGTHS), Ok(request));
        }
    }

    #[test]
    fn found_not_found_and_acknowledged_are_answers_of_one_size() {
        for answer in answers() {
            let bytes = answer.encode(LENGTHS);
            assert_eq!(bytes.len(), LENGTHS.answer);
            assert_eq!(Answer::decode(&bytes, LENGTHS), Ok(answer));
        }
    }

    #[test]
    fn what_does_not_fit_is_known_before_it_is_sent() {
        let exact = Lengths {
            request: 2 + 400 + RECORD_LEN,
            answer: ANSWER_OVERHEAD + RECORD_LEN,
            surb: 400,
        };
        let fit = |lengths: Lengths| lengths.fit(Class::Small);
        assert!(fit(exact) && !exact.fit(Class::Bulk));
        assert!(!fit(Lengths { surb: 401, ..exact }));
        let answer = exact.answer - 1;
        assert!(!fit(Lengths { answer, ..exact }));
    }

    #[test]
    fn a_bulk_box_travels_in_bulk_packets_where_it_is_carried_and_only_there() {
        let write = Request::Write {
            surb: vec![9; LENGTHS.surb],
            record: Box::new(bulk_record(1, 2)),
        };
        assert_eq!((write.class(), write.answer_class()), (Class::Bulk, Class::Small));
        let bytes = write.encode(Lengths::BULK);
        assert_eq!(bytes.len(), Class::Bulk.capacity());
        assert_eq!(Request::decode(&bytes, Lengths::BULK), Ok(write));
        let [.., read] = requests();
        assert_eq!((read.class(), read.answer_class()), (Class::Small, Class::Bulk));
        let answer = Answer::Read(ReadAnswer {
            found: 1,
            unknown: 0,
            record: Some(Box::new(bulk_record(1, 2))),
        });
        let bytes = answer.encode(Lengths::BULK);
        assert_eq!(Answer::decode(&bytes, Lengths::BULK), Ok(answer));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn mutated_and_arbitrary_input_never_panics_and_stays_canonical(
            pick in 0usize..11, at in 0usize..4_000, value: u8, cut in 0usize..4_000, short: bool
        ) {
            let mut bytes = if pick < 4 { requests()[pick].encode(LENGTHS) } else { answers()[pick - 4].encode(LENGTHS) };
            let at = at % bytes.len();
            bytes[at] = value;
            if short {
                bytes.truncate(cut);
            }
            if let Ok(request) = Request::decode(&bytes, LENGTHS) {
                prop_assert_eq!(request.encode(LENGTHS), bytes.clone());
            }
            if let Ok(answer) = Answer::decode(&bytes, LENGTHS) {
                prop_assert_eq!(answer.encode(LENGTHS), bytes);
            }
        }
    }
}
