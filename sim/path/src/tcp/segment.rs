//! What travels, as far as the machines need it.

/// Payload of a segment with time stamps on an MTU of 1,500 bytes.
pub const MSS: u16 = 1_448;
/// IPv4 and TCP headers with time stamps.
pub const HEADER_BYTES: u32 = 52;
/// The headers of a SYN or SYN-ACK with Linux's options.
pub const SYN_BYTES: u32 = 60;
/// At most so many blocks fit beside time stamps (RFC 2018 §3).
pub const SACKS_MAX: usize = 3;

/// Bytes `start..end` of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The first.
    pub start: u64,
    /// The one after the last.
    pub end: u64,
}

/// A segment with data, or the end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first byte.
    pub seq: u64,
    /// Bytes.
    pub len: u16,
    /// No more follow. Takes a place in the sequence, after the bytes.
    pub fin: bool,
    /// The last that there was to send: PSH.
    pub push: bool,
    /// It was sent before.
    pub again: bool,
    /// When, in milliseconds of the sender's clock (RFC 7323).
    pub stamp_ms: u32,
    /// The time stamp of what its sender heard last; 0: of nothing.
    pub echo_ms: u32,
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The first byte that has not arrived.
    pub next: u64,
    /// Bytes up to here may be sent.
    pub window_end: u64,
    /// What arrived out of order, the latest first; a first block below `next` reports a duplicate (RFC 2883).
    pub sacks: [Block; SACKS_MAX],
    /// How many of them.
    pub sack_count: u8,
    /// When, in milliseconds of the receiver's clock.
    pub stamp_ms: u32,
    /// The time stamp of the oldest segment that this acknowledges (RFC 7323 §4.3).
    pub echo_ms: u32,
}

impl Ack {
    /// The blocks.
    pub fn sacks(&self) -> &[Block] {
        &self.sacks[..usize::from(self.sack_count)]
    }

    /// Bytes of its headers.
    pub fn wire_bytes(&self) -> u32 {
        match u32::from(self.sack_count) {
            0 => HEADER_BYTES,
            blocks => HEADER_BYTES + 4 + 8 * blocks,
        }
    }
}

impl Segment {
    /// The byte after its last, with the place of its end.
    pub fn end(&self) -> u64 {
        self.seq + u64::from(self.len) + u64::from(self.fin)
    }

    /// Bytes with headers.
    pub fn wire_bytes(&self) -> u32 {
        HEADER_BYTES + u32::from(self.len)
    }
}
