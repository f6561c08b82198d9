//! Capture files in memory.

/// A pcap file.
#[derive(Clone, Debug)]
pub struct PcapFile {
    bytes: Vec<u8>,
    big_endian: bool,
    ns_per_unit: u64,
}

impl PcapFile {
    /// A file without packets, of a link type.
    pub fn new(link: u32, big_endian: bool, nanoseconds: bool) -> Self {
        let mut file = Self {
            bytes: Vec::new(),
            big_endian,
            ns_per_unit: if nanoseconds { 1 } else { 1000 },
        };
        file.u32(if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 });
        // Version 2.4 in two numbers of 16 bits.
        file.bytes
            .extend_from_slice(if big_endian { &[0, 2, 0, 4] } else { &[2, 0, 4, 0] });
        for field in [0, 0, 262_144, link] {
            file.u32(field);
        }
        file
    }

    /// Adds a packet of which the first `snap_len` bytes were captured.
    pub fn add_cut(&mut self, at_ns: u64, frame: &[u8], snap_len: usize) -> &mut Self {
        let captured = &frame[..frame.len().min(snap_len)];
        self.u32((at_ns / 1_000_000_000) as u32);
        self.u32((at_ns % 1_000_000_000 / self.ns_per_unit) as u32);
        self.u32(captured.len() as u32);
        self.u32(frame.len() as u32);
        self.bytes.extend_from_slice(captured);
        self
    }

    /// Adds a packet.
    pub fn add(&mut self, at_ns: u64, frame: &[u8]) -> &mut Self {
        self.add_cut(at_ns, frame, usize::MAX)
    }

    /// The file so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn u32(&mut self, value: u32) {
        let bytes = if self.big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend_from_slice(&bytes);
    }
}

/// A pcapng file.
#[derive(Clone, Debug)]
pub struct PcapNgFile {
    bytes: Vec<u8>,
    big_endian: bool,
}

impl PcapNgFile {
    /// A file of one section.
    pub fn new(big_endian: bool) -> Self {
        let mut file = Self {
            bytes: Vec::new(),
            big_endian,
        };
        file.section();
        file
    }

    /// Begins another section; interfaces begin anew.
    pub fn section(&mut self) -> &mut Self {
        let mut body = self.u32(0x1a2b_3c4d).to_vec();
        body.extend_from_slice(if self.big_endian {
            &[0, 1, 0, 0]
        } else {
            &[1, 0, 0, 0]
        });
        body.extend_from_slice(&[0xff; 8]);
        self.block(0x0a0d_0d0a, &body)
    }

    /// Describes the next interface; `resolution` is the option `if_tsresol`.
    pub fn interface(&mut self, link: u16, resolution: Option<u8>) -> &mut Self {
        let mut body = self.u16(link).to_vec();
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&self.u32(262_144));
        if let Some(resolution) = resolution {
            body.extend_from_slice(&self.u16(9));
            body.extend_from_slice(&self.u16(1));
            body.extend_from_slice(&[resolution, 0, 0, 0, 0, 0, 0, 0]);
        }
        self.block(1, &body)
    }

    /// Adds a packet at a time in units of its interface, with a comment.
    pub fn add(&mut self, interface: u32, units: u64, frame: &[u8], comment: Option<&str>) -> &mut Self {
        let mut body = Vec::new();
        for field in [
            interface,
            (units >> 32) as u32,
            units as u32,
            frame.len() as u32,
            frame.len() as u32,
        ] {
            body.extend_from_slice(&self.u32(field));
        }
        body.extend_from_slice(frame);
        pad(&mut body);
        if let Some(comment) = comment {
            body.extend_from_slice(&self.u16(1));
            body.extend_from_slice(&self.u16(comment.len() as u16));
            body.extend_from_slice(comment.as_bytes());
            pad(&mut body);
            body.extend_from_slice(&[0; 4]);
        }
        self.block(6, &body)
    }

    /// Adds a packet in a Simple Packet Block, which has no time.
    pub fn add_simple(&mut self, frame: &[u8]) -> &mut Self {
        let mut body = self.u32(frame.len() as u32).to_vec();
        body.extend_from_slice(frame);
        pad(&mut body);
        self.block(3, &body)
    }

    /// Adds a block of any type, whose body is a multiple of four bytes.
    pub fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let len = self.u32(body.len() as u32 + 12);
        let kind = self.u32(kind);
        self.bytes.extend_from_slice(&kind);
        self.bytes.extend_from_slice(&len);
        self.bytes.extend_from_slice(body);
        self.bytes.extend_from_slice(&len);
        self
    }

    /// The file so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    const fn u32(&self, value: u32) -> [u8; 4] {
        if self.big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    const fn u16(&self, value: u16) -> [u8; 2] {
        if self.big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }
}

/// Zeros up to a multiple of four bytes.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
