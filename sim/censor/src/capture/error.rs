//! What is wrong with a capture, and where.

use std::fmt;
use std::io;

/// Where in a file something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The packet that is being read or would be next, from 1; 0 before the first.
    pub packet: u64,
    /// Bytes from the start of the file.
    pub offset: u64,
}

impl Place {
    /// The start of the file.
    pub(super) const fn start() -> Self {
        Self { packet: 0, offset: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.packet {
            0 => write!(f, "byte {}", self.offset),
            packet => write!(f, "packet {packet} at byte {}", self.offset),
        }
    }
}

/// Why a capture cannot be read on. The file is at fault except for [`CaptureError::Io`].
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The host cannot read it.
    #[error("{place}: cannot be read: {error}")]
    Io {
        /// Where.
        place: Place,
        /// What the system says.
        error: io::Error,
    },
    /// It has no byte.
    #[error("the file is empty")]
    Empty,
    /// It is no capture.
    #[error("neither pcap nor pcapng: it begins with {}{help}", hex(.start))]
    UnknownFormat {
        /// Its first bytes, at most 4.
        start: Vec<u8>,
        /// What it may be and what to do, after a separator; or nothing.
        help: &'static str,
    },
    /// It ends within something.
    #[error(
        "{place}: the file ends inside of {what}: {wanted} bytes are wanted and {got} are there; it was cut short, so what stands before is all there is"
    )]
    Truncated {
        /// Where that begins.
        place: Place,
        /// What is cut.
        what: &'static str,
        /// Bytes that it has.
        wanted: u64,
        /// Bytes that are there.
        got: u64,
    },
    /// A length is beyond the bounds.
    #[error(
        "{place}: {what} of {claimed} bytes: at most {max} are read; the file is damaged, or no tool wrote it"
    )]
    TooLong {
        /// Where.
        place: Place,
        /// What is too long.
        what: &'static str,
        /// Bytes that it claims.
        claimed: u64,
        /// Bytes that are read.
        max: u64,
    },
    /// It contradicts itself.
    #[error("{place}: {what}; the file is damaged from here on")]
    Malformed {
        /// Where.
        place: Place,
        /// What is wrong.
        what: &'static str,
    },
}

impl CaptureError {
    /// A file that begins with `magic`, which is none of ours.
    pub(super) fn unknown(magic: [u8; 4]) -> Self {
        let help = match magic {
            [0x1f, 0x8b, ..] => " (gzip): decompress it first, as in `zcat FILE | phantom-sim classify -`",
            [0x28, 0xb5, 0x2f, 0xfd] => {
                " (zstd): decompress it first, as in `zstdcat FILE | phantom-sim classify -`"
            }
            [0xfd, b'7', b'z', b'X'] => {
                " (xz): decompress it first, as in `xzcat FILE | phantom-sim classify -`"
            }
            [0x34, 0xcd, 0xb2, 0xa1] | [0xa1, 0xb2, 0xcd, 0x34] => {
                " (pcap as Kuznetzov modified it): convert it with `editcap -F pcapng`"
            }
            [b's', b'n', b'o', b'o'] => " (snoop): convert it with `editcap -F pcapng`",
            _ => ": give a file that tcpdump, dumpcap or Wireshark wrote",
        };
        Self::UnknownFormat {
            start: magic.to_vec(),
            help,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let all: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    all.join(" ")
}
