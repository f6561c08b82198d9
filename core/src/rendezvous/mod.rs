//! Rendezvous: how the clients of a cohort find their bridges, and nobody else does. SPEC §7.5 to §7.8.
//!
//! A cohort is a few installations, ideally one. It has four *slots* for all time; the capability to write a slot is given
//! to one bridge ever ([`ledger`]), so whoever takes over a user learns of at most four bridges from every source. A bridge
//! seals its descriptor for the slot's readers ([`cohort`]) and stores it in the DHT under a key that is blinded per day
//! and slot ([`publish`]); clients find and open it ([`fetch`]) and can never write it. [`bundle`] and [`bridge`] are the
//! files that an installation and a bridge get.

pub mod bridge;
pub mod bundle;
pub mod cohort;
pub mod fetch;
pub mod ledger;
pub mod publish;

pub use bridge::BridgeSlots;
pub use bundle::{Bundle, StaticEntry};
pub use cohort::{
    Cohort, CohortId, CohortPublic, CohortSecret, Day, OpenError, SLOTS, SealedRecord, Slot, SlotWriter,
};
pub use fetch::{Found, SequencePins};
pub use ledger::{Ledger, LedgerError, Minted, mint};
