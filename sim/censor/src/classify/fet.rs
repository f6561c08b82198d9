//! The rule of the Great Firewall on fully encrypted traffic, as published.
//!
//! Source: Wu et al., "How the Great Firewall of China Detects and Blocks Fully Encrypted Traffic", USENIX Security 2023,
//! Algorithm 1. The first data packet of a TCP connection from the client is exempt if any of five conditions holds; a
//! connection whose first packet is not exempt was blocked with a probability, if its server was in certain ranges. That
//! probability, those ranges and the time of the block are the censor's affair: this is the rule on bytes alone. The
//! authors saw it from November 2021 to March 2023.
//!
//! Averages are compared as integers: an average of 3.4 bits a byte or less is `10 * ones <= 34 * len`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The text of the rule that is followed where implementations differ: they differ in Ex5 alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// The paper: TLS with a third byte of 00 to 09; `GET `, `PUT `, `POST `, `HEAD ` with the space.
    #[default]
    Paper,
    /// `detect.py` of the paper's artifact: the same with a third byte of 00 to 0f.
    DetectPy,
    /// OpenGFW, `analyzer/tcp/fet.go` of October 2024: TLS as in the paper; the first three letters of nine methods, without
    /// the space.
    #[serde(rename = "opengfw")]
    OpenGfw,
}

impl Variant {
    /// All, in the order of their names in help.
    pub const ALL: [Self; 3] = [Self::Paper, Self::DetectPy, Self::OpenGfw];

    /// As the command line writes it after `fet:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::DetectPy => "detect-py",
            Self::OpenGfw => "opengfw",
        }
    }
}

/// Why a packet is exempt. Where several conditions hold, the first is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exemption {
    /// Ex1: on average at most 3.4 or at least 4.6 bits are set in a byte.
    Popcount,
    /// Ex2: the first six bytes are printable ASCII, 20 to 7e.
    PrintableStart,
    /// Ex3: more than half of the bytes are printable ASCII.
    PrintableShare,
    /// Ex4: more than 20 bytes in a row are printable ASCII.
    PrintableRun,
    /// Ex5: it begins as TLS does.
    Tls,
    /// Ex5: it begins as HTTP does.
    Http,
}

impl Exemption {
    /// As results write it: the paper's number and a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Popcount => "Ex1 popcount",
            Self::PrintableStart => "Ex2 printable start",
            Self::PrintableShare => "Ex3 printable share",
            Self::PrintableRun => "Ex4 printable run",
            Self::Tls => "Ex5 TLS",
            Self::Http => "Ex5 HTTP",
        }
    }
}

/// What the rule says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let pass.
    Exempt(Exemption),
    /// Looks fully encrypted.
    Flagged,
}

impl Verdict {
    /// Whether it looks fully encrypted.
    pub const fn is_flagged(self) -> bool {
        matches!(self, Self::Flagged)
    }

    /// `flagged` or the exemption.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flagged => "flagged",
            Self::Exempt(exemption) => exemption.name(),
        }
    }
}

/// All that the rule needs of a packet, in one pass over it; from this every variant's verdict follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Bytes of the packet, at least 1.
    pub len: u64,
    /// Bits that are set.
    pub ones: u64,
    /// Bytes in 20 to 7e.
    pub printable: u64,
    /// Bytes in 20 to 7e before the first other.
    pub printable_start: u64,
    /// The longest run of bytes in 20 to 7e.
    pub printable_run: u64,
    /// The first five bytes; zeros beyond `len`.
    pub start: [u8; 5],
}

impl Measured {
    /// Measures the payload of the first data packet from the client. `None` if it is empty: then it is no data packet.
    pub fn of(packet: &[u8]) -> Option<Self> {
        if packet.is_empty() {
            return None;
        }
        // Without a branch on a byte: what is measured looks random, and so no branch could be foreseen.
        let (mut ones, mut printable, mut run, mut printable_run) = (0_u64, 0_u64, 0_u64, 0_u64);
        for &byte in packet {
            let is_printable = u64::from(is_printable(byte));
            ones += u64::from(byte.count_ones());
            printable += is_printable;
            run = (run + 1) * is_printable;
            printable_run = printable_run.max(run);
        }
        let printable_start = packet.iter().take_while(|byte| is_printable(**byte)).count() as u64;
        let mut start = [0; 5];
        let kept = packet.len().min(start.len());
        start[..kept].copy_from_slice(&packet[..kept]);
        Some(Self {
            len: packet.len() as u64,
            ones,
            printable,
            printable_start,
            printable_run,
            start,
        })
    }

    /// What the rule says in this text of it.
    pub fn verdict(&self, variant: Variant) -> Verdict {
        let exempt = if 10 * self.ones <= 34 * self.len || 10 * self.ones >= 46 * self.len {
            Exemption::Popcount
        } else if self.printable_start >= 6 {
            Exemption::PrintableStart
        } else if 2 * self.printable > self.len {
            Exemption::PrintableShare
        } else if self.printable_run > 20 {
            Exemption::PrintableRun
        } else if self.is_tls(variant) {
            Exemption::Tls
        } else if self.is_http(variant) {
            Exemption::Http
        } else {
            return Verdict::Flagged;
        };
        Verdict::Exempt(exempt)
    }

    fn is_tls(&self, variant: Variant) -> bool {
        let third_max = match variant {
            Variant::Paper | Variant::OpenGfw => 0x09,
            Variant::DetectPy => 0x0f,
        };
        let [first, second, third, ..] = self.start;
        self.len >= 3 && matches!(first, 0x16 | 0x17) && second == 0x03 && third <= third_max
    }

    fn is_http(&self, variant: Variant) -> bool {
        let starts: &[&[u8]] = match variant {
            Variant::Paper | Variant::DetectPy => &[b"GET ", b"PUT ", b"POST ", b"HEAD "],
            Variant::OpenGfw => &[
                b"GET", b"HEA", b"POS", b"PUT", b"DEL", b"CON", b"OPT", b"TRA", b"PAT",
            ],
        };
        starts.iter().any(|start| self.start.starts_with(start))
    }
}

/// What the rule says of the first data packet from the client; `None` if that is empty.
pub fn verdict(packet: &[u8], variant: Variant) -> Option<Verdict> {
    Measured::of(packet).map(|measured| measured.verdict(variant))
}

const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e)
}
