//! The older format: a header, then packets.
//!
//! Source: draft-ietf-opsawg-pcap.

use std::io::Read;

use super::error::{CaptureError, Place};
use super::window::Window;
use super::{PACKET_BYTES_MAX, Record};

/// Byte order and unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flavour {
    big_endian: bool,
    ns_per_unit: u64,
}

impl Flavour {
    /// By the file's first four bytes.
    pub(super) const fn of(magic: [u8; 4]) -> Option<Self> {
        let (big_endian, ns_per_unit) = match magic {
            [0xa1, 0xb2, 0xc3, 0xd4] => (true, 1000),
            [0xd4, 0xc3, 0xb2, 0xa1] => (false, 1000),
            [0xa1, 0xb2, 0x3c, 0x4d] => (true, 1),
            [0x4d, 0x3c, 0xb2, 0xa1] => (false, 1),
            _ => return None,
        };
        Some(Self {
            big_endian,
            ns_per_unit,
        })
    }

    const fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }
}

/// The state of a file.
pub(super) struct Pcap {
    flavour: Flavour,
    link: u32,
}

impl Pcap {
    pub(super) fn open<R: Read>(flavour: Flavour, window: &mut Window<R>) -> Result<Self, CaptureError> {
        let header = window.take(HEADER, "its header", Place::start())?;
        let (fields, _) = header.as_chunks::<4>();
        Ok(Self {
            flavour,
            // The upper bits tell of a check sum at the end of frames, which no payload reaches.
            link: flavour.u32(fields[5]) & 0xffff,
        })
    }

    pub(super) fn read<'a, R: Read>(
        &mut self,
        window: &'a mut Window<R>,
        number: u64,
    ) -> Result<Option<Record<'a>>, CaptureError> {
        let place = Place {
            packet: number,
            offset: window.offset(),
        };
        let head = window.peek(RECORD_HEADER, place)?;
        if head.is_empty() {
            return Ok(None);
        }
        if head.len() < RECORD_HEADER {
            return Err(CaptureError::Truncated {
                place,
                what: "a packet's header",
                wanted: RECORD_HEADER as u64,
                got: head.len() as u64,
            });
        }
        let (fields, _) = head.as_chunks::<4>();
        let field = |at: usize| self.flavour.u32(fields[at]);
        let (seconds, fraction, captured, wire_len) = (field(0), field(1), field(2), field(3));
        if captured > PACKET_BYTES_MAX {
            return Err(CaptureError::TooLong {
                place,
                what: "a packet",
                claimed: captured.into(),
                max: PACKET_BYTES_MAX.into(),
            });
        }
        let taken = window.take(RECORD_HEADER + captured as usize, "a packet", place)?;
        Ok(Some(Record {
            number,
            at_ns: u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.flavour.ns_per_unit,
            link: self.link,
            wire_len: wire_len.max(captured),
            data: &taken[RECORD_HEADER..],
        }))
    }
}

const HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
