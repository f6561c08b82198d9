//! The length of the first data packet.
//!
//! Source: Alice et al., "How China Detects and Blocks Shadowsocks", IMC 2020, §4: of random-looking first packets those of
//! 160 to 700 bytes drew active probes, more often at certain remainders modulo 16. Which those are depends on the
//! length, so the window takes them as a parameter and names none.

/// Lengths that a censor takes an interest in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Bytes, inclusive.
    pub min: u64,
    /// Bytes, inclusive.
    pub max: u64,
    /// The only remainders modulo 16 that count: bit `r` is set for remainder `r`.
    pub remainders_mod_16: u16,
}

impl Window {
    /// First packets that drew active probes of Shadowsocks servers, whatever their remainder.
    pub const PROBED: Self = Self {
        min: 160,
        max: 700,
        remainders_mod_16: u16::MAX,
    };

    /// Whether a first packet of `len` bytes counts.
    pub const fn holds(self, len: u64) -> bool {
        self.min <= len && len <= self.max && self.remainders_mod_16 >> (len % 16) & 1 == 1
    }
}
