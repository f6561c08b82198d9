//! Boxes: what clients ask of the storage hop, what nodes say to each other, records and capabilities.

use std::time::Duration;

use phantom_core::mailbox::{
    Admission, Answer, BoxAddress, CLOCK_BOUND, Lengths, ReadCap, Record, Reply, Request, Rpc, TtlBucket,
    WriteCap, WriteOnce, admit, write_once,
};
use phantom_core::units::WallTime;
use phantom_core::wire::Reader;

use crate::canonical;

/// Formats of the mailbox. Requests and answers have zeros appended up to their length.
pub fn mailbox(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    let padded = |len: usize| {
        let mut whole = bytes.to_vec();
        whole.resize(len.max(bytes.len()), 0);
        whole
    };
    match kind % 7 {
        0 => {
            let whole = padded(Lengths::SMALL.request);
            canonical(&whole, Request::decode(&whole, Lengths::SMALL), |request| {
                request.encode(Lengths::SMALL)
            })
        }
        1 => {
            let whole = padded(Lengths::SMALL.answer);
            canonical(&whole, Answer::decode(&whole, Lengths::SMALL), |answer| {
                answer.encode(Lengths::SMALL)
            })
        }
        2 => canonical(bytes, Rpc::decode(bytes), Rpc::encode),
        3 => canonical(bytes, Reply::decode(bytes), Reply::encode),
        4 => {
            if let Ok(record) = Record::decode_verified(bytes) {
                assert_eq!(write_once(&record, &record.clone()), WriteOnce::Same);
            }
            canonical(bytes, Record::decode(bytes), Record::encode)
        }
        5 => admission(bytes),
        _ => capabilities(bytes),
    }
}

fn admission(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes);
    let (Ok(code), Ok(bound), Ok(now)) = (r.u8(), r.u64(), r.u64()) else {
        return false;
    };
    let Ok(bucket) = TtlBucket::from_code(code % 12) else {
        return false;
    };
    let now = WallTime::from_unix_nanos(now);
    let _ = bucket.bound(now);
    let _ = TtlBucket::covering(Duration::from_nanos(bound));
    if let Admission::Until(until) = admit(bucket, bound, now) {
        assert!(until > now && until <= now + bucket.ttl() + CLOCK_BOUND);
        return true;
    }
    false
}

fn capabilities(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes);
    let Ok(key) = r.array() else { return false };
    let message = r.rest();
    if let Some((signature, message)) = message.split_first_chunk::<64>() {
        let _ = BoxAddress::from_bytes(key).verifies(message, signature);
    }
    let read = ReadCap::from_bytes(key);
    if let Ok(cap) = &read {
        assert_eq!(cap.as_bytes(), &key);
    }
    let write = bytes.first_chunk().map(WriteCap::from_bytes);
    if let Some(Ok(cap)) = &write {
        assert_eq!(cap.to_bytes()[..], bytes[..64]);
    }
    read.is_ok() || write.is_some_and(|cap| cap.is_ok())
}
