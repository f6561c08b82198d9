//! Transports: what the bytes of a connection look like to whoever stands on the way.
//!
//! A transport takes a byte stream of the runtime and gives a byte stream, over which a link runs as it does over the plain one
//! ([`crate::link::Carrier`]). It keeps no user's secret: who reads a transport's bytes finds a link's.

pub mod obfs4;
