//! Writes pcapng: times in nanoseconds, an interface for each vantage point, comments on packets.
//!
//! The few blocks of draft-ietf-opsawg-pcapng that Wireshark needs: a section, interfaces with their names, enhanced packets.

use std::io::{self, Write};

/// Raw IP, version 4 or 6 by its first byte: `LINKTYPE_RAW`.
const RAW: u16 = 101;
/// Nanoseconds: ten to the minus ninth.
const RESOLUTION: u8 = 9;
const SECTION: u32 = 0x0A0D_0D0A;
const BYTE_ORDER: u32 = 0x1A2B_3C4D;
const INTERFACE: u32 = 1;
const ENHANCED: u32 = 6;
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_NAME: u16 = 2;
/// Of a packet: its lowest bits say whether it came in or went out.
const OPTION_FLAGS: u16 = 2;
const FLAGS_IN: u32 = 1;
const FLAGS_OUT: u32 = 2;
const OPTION_RESOLUTION: u16 = 9;
/// The longest comment that is written: the rest is cut.
const COMMENT_MAX: usize = 1_024;

/// What a capture says of a packet besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes<'a> {
    /// A comment, for people.
    pub comment: Option<&'a str>,
    /// Whether it came in at its interface or went out; `None`: the interface has no such sides.
    pub inbound: Option<bool>,
}

/// A file under way.
#[derive(Debug)]
pub struct PcapNgWriter<W> {
    out: W,
    bytes: u64,
    block: Vec<u8>,
}

impl<W: Write> PcapNgWriter<W> {
    /// Begins a file whose interfaces have these names, numbered from 0.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, interfaces: &[&str]) -> io::Result<Self> {
        let mut writer = Self {
            out,
            bytes: 0,
            block: Vec::new(),
        };
        writer.block.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        // Version 1.0, and a section whose length is not said.
        writer.block.extend_from_slice(&[1, 0, 0, 0]);
        writer.block.extend_from_slice(&[0xFF; 8]);
        writer.end(SECTION)?;
        for name in interfaces {
            writer.block.extend_from_slice(&RAW.to_le_bytes());
            // Reserved, and packets are not cut.
            writer.block.extend_from_slice(&[0; 6]);
            writer.option(OPTION_NAME, name.as_bytes());
            writer.option(OPTION_RESOLUTION, &[RESOLUTION]);
            writer.option(OPTION_END, &[]);
            writer.end(INTERFACE)?;
        }
        Ok(writer)
    }

    /// Adds an IP packet, seen at `at_ns` nanoseconds since 1970.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn packet(&mut self, interface: u32, at_ns: u64, packet: &[u8], notes: Notes<'_>) -> io::Result<()> {
        let len = u32::try_from(packet.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        for field in [interface, (at_ns >> 32) as u32, at_ns as u32, len, len] {
            self.block.extend_from_slice(&field.to_le_bytes());
        }
        self.block.extend_from_slice(packet);
        self.pad();
        if let Some(comment) = notes.comment {
            let comment = &comment.as_bytes()[..comment.floor_char_boundary(COMMENT_MAX)];
            self.option(OPTION_COMMENT, comment);
        }
        if let Some(inbound) = notes.inbound {
            let flags = if inbound { FLAGS_IN } else { FLAGS_OUT };
            self.option(OPTION_FLAGS, &flags.to_le_bytes());
        }
        if notes != Notes::default() {
            self.option(OPTION_END, &[]);
        }
        self.end(ENHANCED)
    }

    /// Bytes of the file so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn option(&mut self, kind: u16, value: &[u8]) {
        self.block.extend_from_slice(&kind.to_le_bytes());
        self.block.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.block.extend_from_slice(value);
        self.pad();
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// Writes the body that was gathered as a block.
    fn end(&mut self, kind: u32) -> io::Result<()> {
        let len = self.block.len() as u32 + 12;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.out.write_all(&len.to_le_bytes())?;
        self.bytes += u64::from(len);
        self.block.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Capture;
    use crate::craft::udp;

    #[test]
    fn what_is_written_is_read_again() {
        let here = "10.0.0.1:40000".parse().expect("an address");
        let there = "192.0.2.1:53".parse().expect("an address");
        let mut writer = PcapNgWriter::new(Vec::new(), &["border", "client-3"]).expect("memory");
        let sent: Vec<(u64, Vec<u8>)> = (0..50_usize)
            .map(|n| {
                (
                    1_793_620_200_000_000_000 + n as u64 * 7,
                    udp(here, there, &vec![n as u8; n]),
                )
            })
            .collect();
        for (n, (at_ns, packet)) in sent.iter().enumerate() {
            let notes = Notes {
                comment: (n % 3 == 0).then_some("censor: dropped"),
                inbound: (n % 5 < 2).then_some(n % 5 == 0),
            };
            writer
                .packet(n as u32 % 2, *at_ns, packet, notes)
                .expect("memory");
        }
        let bytes = writer.bytes();
        let file = writer.finish().expect("memory");
        assert_eq!(bytes, file.len() as u64);
        let mut capture = Capture::new(file.as_slice()).expect("a capture");
        for (at_ns, packet) in &sent {
            let record = capture.read().expect("whole").expect("one more");
            assert_eq!(
                (record.at_ns, record.link, record.data),
                (*at_ns, 101, packet.as_slice())
            );
        }
        assert!(capture.read().expect("whole").is_none());
    }
}
