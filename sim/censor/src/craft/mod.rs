//! Builds what the other modules read: messages, packets and captures.
//!
//! For tests and benchmarks, which make their captures with this; nothing here is meant for a network. Lengths must fit their
//! fields: what is too long panics.

mod messages;

pub use messages::{Hello, dns_query, http_request, quic_initial, tls_records};
