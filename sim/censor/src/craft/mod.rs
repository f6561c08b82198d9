//! Builds what the other modules read: messages, packets and captures.
//!
//! For tests and benchmarks, which make their captures with this, and for the two plain questions of a
//! [prober](crate::prober). Lengths must fit their fields: what is too long panics.

mod files;
mod frames;
mod messages;

pub use files::{PcapFile, PcapNgFile};
pub use frames::{cooked, cooked_v2, ethernet, loopback, tcp, udp};
pub use messages::{Hello, dns_query, http_request, quic_initial, tls_records};
