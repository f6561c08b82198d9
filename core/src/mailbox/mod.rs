//! One-shot boxes: capabilities, records, requests and placement. Pure rules; the service is in `phantom-node`.
//!
//! A box is a place that is written once and forgotten on time. Its address is an Ed25519 public key made for it alone,
//! so no server holds anything stable about a user: a write needs a signature of the address, a read needs to know it.
//! Spec: SPEC §4; the construction is that of arXiv 2501.02933 §4, with multiplicative blinding.

mod address;
mod caps;
mod placement;
mod record;
mod request;
mod rpc;
mod ttl;

pub use address::BoxAddress;
pub use caps::{BoxSeed, CapError, ReadCap, WriteCap};
pub use placement::{HandOver, Holder, OperatorId, Placement, REPLICAS, StorageSet, WRITE_QUORUM};
pub use record::{
    BODY_LEN, BULK_BODY_LEN, RECORD_LEN, Record, RecordError, Unsigned, WriteOnce, body_len, record_len,
    write_once,
};
pub use request::{Answer, Lengths, MAX_READ, REQUEST_OVERHEAD, ReadAnswer, Request, WriteOutcome};
pub use rpc::{MAX_BATCH, MAX_OFFER, Reply, Rpc, batches};
pub use ttl::{Admission, CLOCK_BOUND, TtlBucket, admit};
