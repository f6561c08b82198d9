//! What a censor can tell from the bytes of a flow.
//!
//! Everything here is a pure function of its input: no clock, no entropy, no socket, no floating point in a verdict.

pub mod capture;
pub mod classify;
pub mod craft;
pub mod packet;
