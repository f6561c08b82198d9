//! The directory: which service nodes there are, agreed on by n authorities and signed by k of them.
//!
//! Everything in here is free of I/O. Nodes publish a self-signed [`descriptor`]; the authorities exchange votes and
//! compute one [`document`] from them ([`vote`], [`authority`]), which they sign ([`sign`]); clients and nodes keep
//! the newest document and refuse what is older, expired or not signed ([`client`]). [`rpc`] is how all of it travels.
//! Spec: SPEC §6.

pub mod authority;
pub mod client;
pub mod descriptor;
pub mod document;
pub mod fetch;
pub mod proofs;
pub mod rpc;
pub mod sign;
pub mod vote;
pub mod ways;
