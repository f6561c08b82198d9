//! What storage nodes say to each other over their links: put, get, and hand-over in bounded batches. Spec: SPEC §4.6.

use super::address::BoxAddress;
use super::record::{RECORD_LEN, Record, record_len};
use super::request::{MAX_READ, WriteOutcome, version};
use crate::link::rpc::REQUEST_MAX;
use crate::packet::Class;
use crate::wire::{DecodeError, Reader, Writer};

/// How many addresses one offer may name.
pub const MAX_OFFER: usize = 512;

/// How many small records one batch may carry: as many as fit into a request over a link. Of bulk records, one.
pub const MAX_BATCH: usize = (REQUEST_MAX - BATCH_HEAD) / RECORD_LEN;

/// Service (SPEC §2.9), version, kind and count before the records of a batch.
const BATCH_HEAD: usize = 1 + 1 + 1 + 2;

const VERSION: u8 = 1;

// The numbers of SPEC §4.6: every call fits into a request.
const _: () = assert!(MAX_BATCH == 11 && BATCH_HEAD + 32 * MAX_OFFER <= REQUEST_MAX);
const _: () = assert!(BATCH_HEAD + record_len(Class::Bulk) <= REQUEST_MAX);

/// A call to a co-replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rpc {
    /// Store this box; the answer is [`Reply::Put`], after `sync`.
    Put(Box<Record>),
    /// Return this box if it is held; the answer is [`Reply::Get`]. The callee does not ask others.
    Get(BoxAddress),
    /// These boxes could be handed over; the answer, [`Reply::Offer`], says which are lacking. 1 to [`MAX_OFFER`].
    Offer(Vec<BoxAddress>),
    /// Say which of these are held; the answer is [`Reply::Have`]. 1 to [`MAX_READ`].
    Have(Vec<BoxAddress>),
    /// Store these; the answer, [`Reply::Batch`], says which are held durably now. As [`batches`] cuts them.
    Batch(Vec<Record>),
}

/// The answer to an [`Rpc`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What became of it; `Stored` counts this replica only.
    Put(WriteOutcome),
    /// The box, if it is held.
    Get(Option<Box<Record>>),
    /// One flag per offered address: whether it is wanted.
    Offer(Vec<bool>),
    /// One flag per record: whether it is held durably.
    Batch(Vec<bool>),
    /// One flag per address: whether it is held.
    Have(Vec<bool>),
}

impl Rpc {
    /// The wire form.
    ///
    /// # Panics
    /// When a list breaks its bound: a mistake of the caller.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + RECORD_LEN);
        out.put_u8(VERSION);
        match self {
            Self::Put(record) => {
                out.put_u8(1);
                record.write(&mut out);
            }
            Self::Get(address) => {
                out.put_u8(2);
                out.put(address.as_bytes());
            }
            Self::Offer(addresses) => {
                out.put_u8(3);
                put_count(&mut out, addresses.len(), MAX_OFFER);
                addresses.iter().for_each(|address| out.put(address.as_bytes()));
            }
            Self::Have(addresses) => {
                out.put_u8(5);
                put_count(&mut out, addresses.len(), MAX_READ);
                addresses.iter().for_each(|address| out.put(address.as_bytes()));
            }
            Self::Batch(records) => {
                out.put_u8(4);
                put_count(&mut out, records.len(), MAX_BATCH);
                records.iter().for_each(|record| record.write(&mut out));
            }
        }
        out
    }

    /// Decodes what [`Rpc::encode`] made. Signatures are not checked.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let rpc = match r.u8()? {
            1 => Self::Put(Box::new(Record::read(&mut r)?)),
            2 => Self::Get(BoxAddress::from_bytes(r.array()?)),
            3 => {
                let n = count(&mut r, "offered boxes", MAX_OFFER)?;
                Self::Offer(
                    (0..n)
                        .map(|_| r.array().map(BoxAddress::from_bytes))
                        .collect::<Result<_, _>>()?,
                )
            }
            4 => {
                let n = count(&mut r, "records of a batch", MAX_BATCH)?;
                Self::Batch((0..n).map(|_| Record::read(&mut r)).collect::<Result<_, _>>()?)
            }
            5 => {
                let n = count(&mut r, "boxes asked for", MAX_READ)?;
                Self::Have(
                    (0..n)
                        .map(|_| r.array().map(BoxAddress::from_bytes))
                        .collect::<Result<_, _>>()?,
                )
            }
            got => {
                return Err(DecodeError::BadValue {
                    field: "mailbox call",
                    got: u64::from(got),
                });
            }
        };
        r.finish()?;
        Ok(rpc)
    }
}

impl Reply {
    /// The wire form.
    ///
    /// # Panics
    /// When a list breaks its bound: a mistake of the caller.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 + RECORD_LEN);
        out.put_u8(VERSION);
        match self {
            Self::Put(outcome) => {
                out.put_u8(1);
                outcome.write(&mut out);
            }
            Self::Get(None) => out.put(&[2, 0]),
            Self::Get(Some(record)) => {
                out.put(&[2, 1]);
                record.write(&mut out);
            }
            Self::Offer(wanted) => {
                out.put_u8(3);
                put_flags(&mut out, wanted, MAX_OFFER);
            }
            Self::Batch(held) => {
                out.put_u8(4);
                put_flags(&mut out, held, MAX_BATCH);
            }
            Self::Have(held) => {
                out.put_u8(5);
                put_flags(&mut out, held, MAX_READ);
            }
        }
        out
    }

    /// Decodes what [`Reply::encode`] made. Signatures are not checked.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let reply = match r.u8()? {
            1 => Self::Put(WriteOutcome::read(&mut r)?),
            2 => match r.u8()? {
                0 => Self::Get(None),
                1 => Self::Get(Some(Box::new(Record::read(&mut r)?))),
                got => {
                    return Err(DecodeError::BadValue {
                        field: "record flag",
                        got: u64::from(got),
                    });
                }
            },
            3 => Self::Offer(flags(&mut r, "wanted boxes", MAX_OFFER)?),
            4 => Self::Batch(flags(&mut r, "held boxes", MAX_BATCH)?),
            5 => Self::Have(flags(&mut r, "boxes that are held", MAX_READ)?),
            got => {
                return Err(DecodeError::BadValue {
                    field: "mailbox reply",
                    got: u64::from(got),
                });
            }
        };
        r.finish()?;
        Ok(reply)
    }
}

/// Cuts records into lists that each fit into one [`Rpc::Batch`].
pub fn batches(mut records: &[Record]) -> impl Iterator<Item = &[Record]> {
    std::iter::from_fn(move || {
        let mut room = REQUEST_MAX - BATCH_HEAD;
        let fits = records.iter().take_while(|record| {
            let left = room.checked_sub(record_len(record.class()));
            room = left.unwrap_or(0);
            left.is_some()
        });
        let batch;
        (batch, records) = records.split_at(fits.count());
        (!batch.is_empty()).then_some(batch)
    })
}

fn put_count(out: &mut Vec<u8>, count: usize, bound: usize) {
    assert!(
        (1..=bound).contains(&count),
        "a list of 1 to {bound}, got {count}"
    );
    out.put_u16(count as u16);
}

/// A count, checked against what is left before anything is reserved for it.
fn count(r: &mut Reader<'_>, field: &'static str, bound: usize) -> Result<usize, DecodeError> {
    match r.count(field, bound)? {
        0 => Err(DecodeError::BadValue { field, got: 0 }),
        n => Ok(n),
    }
}

fn put_flags(out: &mut Vec<u8>, flags: &[bool], bound: usize) {
    put_count(out, flags.len(), bound);
    for eight in flags.chunks(8) {
        out.put_u8(
            eight
                .iter()
                .enumerate()
                .fold(0, |byte, (i, &flag)| byte | u8::from(flag) << i),
        );
    }
}

fn flags(r: &mut Reader<'_>, field: &'static str, bound: usize) -> Result<Vec<bool>, DecodeError> {
    let n = count(r, field, bound)?;
    let bytes = r.take(n.div_ceil(8))?;
    if n % 8 != 0 && bytes.last().is_some_and(|&last| last >> (n % 8) != 0) {
        return Err(DecodeError::BadValue {
            field,
            got: u64::from(bytes[bytes.len() - 1]),
        });
    }
    Ok((0..n).map(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::tests::{bulk_record, record};
    use super::*;
    use crate::service::Service;

    fn calls() -> Vec<Rpc> {
        let address = BoxAddress::from_bytes([3; 32]);
        vec![
            Rpc::Put(Box::new(record(1, 2))),
            Rpc::Get(address),
            Rpc::Offer(vec![address; MAX_OFFER]),
            Rpc::Batch((0..MAX_BATCH as u64).map(|n| record(n, 2)).collect()),
            Rpc::Batch(vec![bulk_record(1, 2)]),
            Rpc::Put(Box::new(bulk_record(2, 2))),
        ]
    }

    fn replies() -> Vec<Reply> {
        vec![
            Reply::Put(WriteOutcome::Stored { replicas: 1 }),
            Reply::Get(None),
            Reply::Get(Some(Box::new(record(1, 2)))),
            Reply::Get(Some(Box::new(bulk_record(1, 2)))),
            Reply::Offer((0..13).map(|i| i % 3 == 0).collect()),
            Reply::Batch(vec![true; MAX_BATCH]),
        ]
    }

    #[test]
    fn calls_and_replies_read_back() {
        for call in calls() {
            assert_eq!(Rpc::decode(&call.encode()), Ok(call));
        }
        for reply in replies() {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }

    /// What does not fit ends the link (SPEC §2.8).
    #[test]
    fn the_longest_calls_fit_into_a_request() {
        for call in calls() {
            let request = Service::Mailbox.request(&call.encode());
            assert!(request.len() <= REQUEST_MAX, "{} bytes", request.len());
        }
    }

    #[test]
    fn a_list_above_its_bound_or_empty_is_refused() {
        assert!(Rpc::decode(&[1, 3, 2, 1]).is_err(), "513 offers");
        assert!(Rpc::decode(&[1, 4, 0, 12]).is_err(), "12 records");
        assert!(Rpc::decode(&[1, 3, 0, 0]).is_err(), "an empty offer");
        assert!(
            Reply::decode(&[1, 4, 0, 4, 0x1f]).is_err(),
            "a flag beyond the count"
        );
    }

    #[test]
    fn batches_carry_every_record_once_and_each_fits_into_a_request() {
        let mixed: Vec<_> = (0..40)
            .map(|n| match n % 7 {
                3 => bulk_record(n, 1),
                _ => record(n, 1),
            })
            .collect();
        let small: Vec<_> = (0..25).map(|n| record(n, 1)).collect();
        assert_eq!(batches(&small).map(<[_]>::len).collect::<Vec<_>>(), [11, 11, 3]);
        assert_eq!(batches(&[]).count(), 0);
        for batch in batches(&mixed) {
            let request = Service::Mailbox.request(&Rpc::Batch(batch.to_vec()).encode());
            assert!(request.len() <= REQUEST_MAX, "{} bytes", request.len());
        }
        assert_eq!(batches(&mixed).flatten().cloned().collect::<Vec<_>>(), mixed);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn mutated_and_arbitrary_input_never_panics_and_stays_canonical(
            pick in 0usize..12, at: prop::sample::Index, value: u8,
            noise in prop::collection::vec(any::<u8>(), 0..64)
        ) {
            let mut bytes = if pick < 6 { calls()[pick].encode() } else { replies()[pick - 6].encode() };
            let at = at.index(bytes.len());
            bytes[at] = value;
            for input in [bytes, noise] {
                if let Ok(call) = Rpc::decode(&input) {
                    prop_assert_eq!(call.encode(), input.clone());
                }
                if let Ok(reply) = Reply::decode(&input) {
                    prop_assert_eq!(reply.encode(), input);
                }
            }
        }
    }
}
