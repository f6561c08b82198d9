//! Why something was not measured.

use std::io;

/// Why something was not measured.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// Another system.
    #[error("this needs Linux: its network namespaces and TUN devices are what transfers run in")]
    NotLinux,
    /// This process may not, or the machine has no such device.
    #[error(
        "this needs Linux, /dev/net/tun, and root or CAP_SYS_ADMIN with CAP_NET_ADMIN, for network namespaces of its own: {what}: {error}"
    )]
    Rights {
        /// What was being done.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// The system refuses something else.
    #[error("{what}: {error}")]
    System {
        /// What was being done.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// A thread of the lane has ended, which only a panic does: its message is on stderr.
    #[error("a thread of the lane has ended before its time")]
    Ended,
}

impl RigError {
    /// The system's refusal of `what`.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::System { what, error }
    }

    /// The same where what is missing is, most of the time, a right.
    pub(crate) fn rights(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Rights { what, error }
    }

    /// Whether no lane can be had here at all, so that trying another transfer is in vain.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::NotLinux | Self::Rights { .. })
    }
}
