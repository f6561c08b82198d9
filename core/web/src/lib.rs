//! Transports that look like the web, over any stream of the runtime.
//!
//! - [`webtunnel`]: an HTTP upgrade on a secret path inside TLS, then bytes as they are.
//! - [`meek`]: bytes in the bodies of requests and answers.
//! - [`tls`]: TLS 1.3 whose clock and randomness are the runtime's.
//! - [`site`]: the web site that everybody sees who does not know the secret.
//!
//! What a connection carries proves for itself who is at its ends; these transports only hide that it is there. Spec: SPEC.md §12.3 to §12.5.

pub mod error;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod io;
pub mod meek;
pub mod site;
pub mod tls;
pub mod url;
mod visit;
pub mod webtunnel;
