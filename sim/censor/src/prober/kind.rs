//! What a prober says: seven kinds that were seen at Shadowsocks servers, and two questions that any server may be asked.
//!
//! Source: Alice et al., IMC 2020, §3.2. HTTP and TLS were sent to other suspects, by memory of Ensafi et al., IMC 2015, and not
//! checked.

use phantom_path::dice::Dice;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::craft::{Hello, http_request, tls_records};

/// A kind of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first packet again, as it was.
    R1,
    /// With byte 0 changed.
    R2,
    /// With bytes 0 to 7, 62 and 63 changed.
    R3,
    /// With byte 16 changed.
    R4,
    /// With bytes 6 and 16 changed.
    R5,
    /// Random bytes, of a length out of seven trios up to 50.
    Nr1,
    /// 221 random bytes.
    Nr2,
    /// A request for `/`.
    Http,
    /// A ClientHello.
    Tls,
}

/// The middles of the trios that NR1 has its lengths from.
pub const NR1_MIDDLES: [usize; 7] = [8, 12, 16, 22, 33, 41, 49];

/// The length of NR2.
pub const NR2_LEN: usize = 221;

impl Kind {
    /// Those that were seen at Shadowsocks servers.
    pub const PUBLISHED: [Self; 7] = [
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::Nr1,
        Self::Nr2,
    ];

    /// Whether it is made from a suspect's bytes.
    pub const fn is_replay(self) -> bool {
        self.changes().is_some()
    }

    /// Whether it is sent only to servers that answered an earlier replay (§4.2). That R5 belongs to them is the authors'
    /// guess.
    pub const fn waits_for_an_answer(self) -> bool {
        matches!(self, Self::R3 | Self::R4 | Self::R5)
    }

    /// The bytes of the first packet that it changes; `None`: it is no replay.
    pub const fn changes(self) -> Option<&'static [usize]> {
        match self {
            Self::R1 => Some(&[]),
            Self::R2 => Some(&[0]),
            Self::R3 => Some(&[0, 1, 2, 3, 4, 5, 6, 7, 62, 63]),
            Self::R4 => Some(&[16]),
            Self::R5 => Some(&[6, 16]),
            Self::Nr1 | Self::Nr2 | Self::Http | Self::Tls => None,
        }
    }

    /// What is sent. `first` is the suspect's first packet; a replay needs one that has the bytes that it changes, and
    /// at least one byte: else there is nothing to send. `host` is what an HTTP request asks.
    pub fn payload(self, first: &[u8], host: &str, dice: &mut Dice) -> Option<Vec<u8>> {
        if let Some(changes) = self.changes() {
            let mut payload = first.to_vec();
            if payload.is_empty() {
                return None;
            }
            for &at in changes {
                // Never the same: one of the 255 others.
                let by = 1 + dice.below(255) as u8;
                let byte = payload.get_mut(at)?;
                *byte = byte.wrapping_add(by);
            }
            return Some(payload);
        }
        Some(match self {
            Self::Nr2 => random(NR2_LEN, dice),
            Self::Http => http_request("GET", "/", host),
            Self::Tls => {
                // A hello without a name, as whoever has only an address sends it.
                let mut hello = Hello::default();
                hello.random.fill_with(|| dice.draw() as u8);
                tls_records(&hello.message(), 1 << 14)
            }
            _ => {
                let trio = dice.below(NR1_MIDDLES.len() as u64) as usize;
                let len = NR1_MIDDLES[trio] - 1 + dice.below(3) as usize;
                random(len, dice)
            }
        })
    }
}

fn random(len: usize, dice: &mut Dice) -> Vec<u8> {
    (0..len).map(|_| dice.draw() as u8).collect()
}
