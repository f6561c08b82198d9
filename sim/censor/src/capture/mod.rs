//! Packets out of a capture file: pcap and pcapng, streamed from anything that can be read.
//!
//! Blocks are read by `pcap-parser` (0.17 of July 2025, MIT or Apache-2.0, of the Suricata authors' Rusticata project; it
//! depends on `nom` and `circular`). It parses slices, so the window over the stream, its bounds and the places in messages
//! are this module's own; it has no `unsafe`, and with its feature `serialize` it writes blocks with comments and nanoseconds
//! too. `pcap-file` was the other choice: its stable 2.0 is of 2023, and its 3.0 is a release candidate that holds 8 MB
//! per reader and transmutes lifetimes. Three mistakes of `pcap-parser` are gone around here: resolutions in powers of two are
//! refused by its `build_ts_resolution`, `if_tsoffset` is read as little endian in big-endian files, and the length behind a
//! Simple Packet Block is not compared with that before it.
//!
//! A file may be hostile or cut short: every length is checked before anything is kept for it, and what is wrong is told with
//! the packet's number and the place in the file.

mod error;
mod pcap;
mod pcapng;
mod window;
mod write;

use std::io::Read;

pub use error::CaptureError;
use error::Place;
use pcap::Pcap;
use pcapng::PcapNg;
use window::Window;
pub use write::{Notes, PcapNgWriter};

/// The longest packet that is read, in bytes; libpcap's own limit.
pub const PACKET_BYTES_MAX: u32 = 256 * 1024;

/// A captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// From 1 in the file, as Wireshark counts.
    pub number: u64,
    /// When, in nanoseconds since 1970; that of the packet before if the file does not say.
    pub at_ns: u64,
    /// The number of the link type, see [`LinkType`](crate::packet::LinkType).
    pub link: u32,
    /// Bytes of the packet on the wire.
    pub wire_len: u32,
    /// What was captured of it.
    pub data: &'a [u8],
}

/// A capture that is being read.
pub struct Capture<R> {
    window: Window<R>,
    format: Format,
    packets: u64,
    over: bool,
}

enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

impl<R: Read> Capture<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// It cannot be read, is empty, or is no capture.
    pub fn new(inner: R) -> Result<Self, CaptureError> {
        let mut window = Window::new(inner);
        let start = window.peek(4, Place::start())?;
        let Some(magic) = start.first_chunk::<4>().copied() else {
            return Err(if start.is_empty() {
                CaptureError::Empty
            } else {
                CaptureError::UnknownFormat {
                    start: start.to_vec(),
                    help: "",
                }
            });
        };
        let format = if magic == pcapng::MAGIC {
            Format::PcapNg(PcapNg::default())
        } else if let Some(flavour) = pcap::Flavour::of(magic) {
            Format::Pcap(Pcap::open(flavour, &mut window)?)
        } else {
            return Err(CaptureError::unknown(magic));
        };
        Ok(Self {
            window,
            format,
            packets: 0,
            over: false,
        })
    }

    /// The next packet; `None` at the end, and after an error.
    ///
    /// # Errors
    /// The file cannot be read on, is broken or cut short.
    pub fn read(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        if self.over {
            return Ok(None);
        }
        let number = self.packets + 1;
        let result = match &mut self.format {
            Format::Pcap(pcap) => pcap.read(&mut self.window, number),
            Format::PcapNg(pcapng) => pcapng.read(&mut self.window, number),
        };
        match &result {
            Ok(Some(_)) => self.packets = number,
            Ok(None) | Err(_) => self.over = true,
        }
        result
    }

    /// Bytes of the file that are behind.
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }

    /// Packets so far.
    pub const fn packets(&self) -> u64 {
        self.packets
    }
}

#[cfg(test)]
mod tests;
