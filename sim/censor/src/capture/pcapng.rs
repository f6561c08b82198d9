//! The newer format: sections of blocks, interfaces of their own.
//!
//! Source: draft-ietf-opsawg-pcapng. Enhanced and Simple Packet Blocks are read; the obsolete Packet Block and all other kinds
//! are skipped.

use std::io::Read;

use pcap_parser::pcapng::{
    parse_enhancedpacketblock_be, parse_enhancedpacketblock_le, parse_interfacedescriptionblock_be,
    parse_interfacedescriptionblock_le, parse_sectionheaderblock, parse_simplepacketblock_be,
    parse_simplepacketblock_le,
};
use pcap_parser::{OptionCode, PcapNGOption};

use super::error::{CaptureError, Place};
use super::window::Window;
use super::{PACKET_BYTES_MAX, Record};

/// The type of a Section Header Block, the same in both byte orders.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The state of the section that is being read.
#[derive(Default)]
pub(super) struct PcapNg {
    big_endian: bool,
    interfaces: Vec<Interface>,
    last_ns: u64,
}

#[derive(Clone, Copy)]
struct Interface {
    link: u32,
    snap_len: u32,
    resolution: Resolution,
    offset_seconds: i64,
}

/// `if_tsresol`: units of time per second.
#[derive(Clone, Copy)]
enum Resolution {
    PowerOfTen(u8),
    PowerOfTwo(u8),
}

impl Resolution {
    const fn of(option: u8) -> Self {
        if option & 0x80 == 0 {
            Self::PowerOfTen(option)
        } else {
            Self::PowerOfTwo(option & 0x7f)
        }
    }

    /// Nanoseconds, rounded down.
    const fn nanos(self, units: u64) -> u128 {
        match self {
            Self::PowerOfTen(power @ 0..=9) => units as u128 * 10_u128.pow(9 - power as u32),
            // 64 bits of units that are shorter than 10^-28 s are no nanosecond.
            Self::PowerOfTen(power @ 10..=28) => units as u128 / 10_u128.pow(power as u32 - 9),
            Self::PowerOfTen(_) => 0,
            Self::PowerOfTwo(power) => (units as u128 * 1_000_000_000) >> power,
        }
    }
}

impl Interface {
    fn nanos(&self, high: u32, low: u32) -> u64 {
        let since = self
            .resolution
            .nanos(u64::from(high) << 32 | u64::from(low))
            .min(u64::MAX.into());
        let at = since as i128 + i128::from(self.offset_seconds) * 1_000_000_000;
        at.clamp(0, u64::MAX.into()) as u64
    }
}

/// What is done with a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Section,
    Interface,
    Enhanced,
    Simple,
    Skipped,
}

impl PcapNg {
    fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    pub(super) fn read<'a, R: Read>(
        &mut self,
        window: &'a mut Window<R>,
        number: u64,
    ) -> Result<Option<Record<'a>>, CaptureError> {
        // Blocks without a packet are read until one has one. The packet's block is parsed outside of the loop: its record
        // borrows the window.
        let (kind, len, place) = loop {
            let place = Place {
                packet: number,
                offset: window.offset(),
            };
            let Some((kind, len)) = self.head(window, place)? else {
                return Ok(None);
            };
            match kind {
                Kind::Skipped => window.skip(len, "a block", place)?,
                Kind::Section => self.section(block(window, len, "a section's header", place)?, place)?,
                Kind::Interface => {
                    self.interface(block(window, len, "an interface's block", place)?, place)?
                }
                Kind::Enhanced | Kind::Simple => break (kind, len, place),
            }
        };
        let bytes = block(window, len, "a packet's block", place)?;
        let malformed = |what| CaptureError::Malformed { place, what };
        let (interface, at_ns, wire_len, data) = if kind == Kind::Enhanced {
            let parse = if self.big_endian {
                parse_enhancedpacketblock_be
            } else {
                parse_enhancedpacketblock_le
            };
            let (_, packet) =
                parse(bytes).map_err(|_| malformed("the lengths inside of a packet's block do not fit"))?;
            let interface = self
                .interfaces
                .get(packet.if_id as usize)
                .ok_or(malformed("a packet of an interface that is not described"))?;
            let data = packet.data.get(..packet.caplen as usize).unwrap_or_default();
            (
                interface,
                interface.nanos(packet.ts_high, packet.ts_low),
                packet.origlen,
                data,
            )
        } else {
            let parse = if self.big_endian {
                parse_simplepacketblock_be
            } else {
                parse_simplepacketblock_le
            };
            let (_, packet) =
                parse(bytes).map_err(|_| malformed("the lengths inside of a packet's block do not fit"))?;
            let interface = self
                .interfaces
                .first()
                .ok_or(malformed("a packet of an interface that is not described"))?;
            let captured = match interface.snap_len {
                0 => packet.origlen,
                snap_len => packet.origlen.min(snap_len),
            };
            let data = packet
                .data
                .get(..captured as usize)
                .ok_or(malformed("a packet is longer than its block"))?;
            (interface, self.last_ns, packet.origlen, data)
        };
        if data.len() > PACKET_BYTES_MAX as usize {
            return Err(CaptureError::TooLong {
                place,
                what: "a packet",
                claimed: data.len() as u64,
                max: PACKET_BYTES_MAX.into(),
            });
        }
        self.last_ns = at_ns;
        Ok(Some(Record {
            number,
            at_ns,
            link: interface.link,
            wire_len: wire_len.max(data.len() as u32),
            data,
        }))
    }

    /// Kind and length of the next block; `None` at the end of the file.
    fn head<R: Read>(
        &mut self,
        window: &mut Window<R>,
        place: Place,
    ) -> Result<Option<(Kind, u64)>, CaptureError> {
        let head = window.peek(12, place)?;
        if head.is_empty() {
            return Ok(None);
        }
        let (fields, _) = head.as_chunks::<4>();
        let [kind, len, third] = fields else {
            return Err(CaptureError::Truncated {
                place,
                what: "a block",
                wanted: 12,
                got: head.len() as u64,
            });
        };
        if *kind == MAGIC {
            self.big_endian = match third {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => {
                    return Err(CaptureError::Malformed {
                        place,
                        what: "a section without its byte order",
                    });
                }
            };
        }
        let kind = match self.u32(*kind) {
            0x0a0d_0d0a => Kind::Section,
            1 => Kind::Interface,
            3 => Kind::Simple,
            6 => Kind::Enhanced,
            _ => Kind::Skipped,
        };
        let len = self.u32(*len);
        if len < 12 || !len.is_multiple_of(4) {
            return Err(CaptureError::Malformed {
                place,
                what: "a block whose length cannot be",
            });
        }
        if kind != Kind::Skipped && len > BLOCK_BYTES_MAX {
            return Err(CaptureError::TooLong {
                place,
                what: "a block",
                claimed: len.into(),
                max: BLOCK_BYTES_MAX.into(),
            });
        }
        Ok(Some((kind, len.into())))
    }

    fn section(&mut self, bytes: &[u8], place: Place) -> Result<(), CaptureError> {
        let malformed = |what| CaptureError::Malformed { place, what };
        let (_, header) = parse_sectionheaderblock(bytes)
            .map_err(|_| malformed("a section's header that cannot be read"))?;
        if header.major_version != 1 {
            return Err(malformed("a section of a version of pcapng that is not known"));
        }
        self.interfaces.clear();
        Ok(())
    }

    fn interface(&mut self, bytes: &[u8], place: Place) -> Result<(), CaptureError> {
        let malformed = |what| CaptureError::Malformed { place, what };
        let parse = if self.big_endian {
            parse_interfacedescriptionblock_be
        } else {
            parse_interfacedescriptionblock_le
        };
        let (_, block) = parse(bytes).map_err(|_| malformed("an interface's block that cannot be read"))?;
        if self.interfaces.len() >= INTERFACES_MAX {
            return Err(malformed("more interfaces than any host has"));
        }
        let value = |code| option(&block.options, code);
        let offset_seconds = value(OptionCode::IfTsoffset)
            .and_then(|bytes| bytes.first_chunk::<8>())
            .map_or(0, |bytes| {
                if self.big_endian {
                    i64::from_be_bytes(*bytes)
                } else {
                    i64::from_le_bytes(*bytes)
                }
            });
        let resolution = value(OptionCode::IfTsresol).and_then(<[u8]>::first).copied();
        self.interfaces.push(Interface {
            // The field has 16 bits.
            link: block.linktype.0 as u32,
            snap_len: block.snaplen,
            // Microseconds unless the file says otherwise.
            resolution: Resolution::of(resolution.unwrap_or(6)),
            offset_seconds,
        });
        Ok(())
    }
}

/// Takes a whole block and compares its two lengths.
fn block<'a, R: Read>(
    window: &'a mut Window<R>,
    len: u64,
    what: &'static str,
    place: Place,
) -> Result<&'a [u8], CaptureError> {
    // It was bounded when its head was read.
    let bytes = window.take(len as usize, what, place)?;
    if bytes[4..8] == bytes[bytes.len() - 4..] {
        Ok(bytes)
    } else {
        Err(CaptureError::Malformed {
            place,
            what: "the lengths before and after a block differ",
        })
    }
}

fn option<'a>(options: &'a [PcapNGOption<'_>], code: OptionCode) -> Option<&'a [u8]> {
    options
        .iter()
        .find(|option| option.code == code)
        .map(|option| option.value.as_ref())
}

/// A packet with its options: comments, hashes, flags. Beyond that no tool goes.
const BLOCK_BYTES_MAX: u32 = PACKET_BYTES_MAX + 768 * 1024;
const INTERFACES_MAX: usize = 4096;
