//! As much of IPv4 and TCP as tells flows apart and sees a segment sent again (RFC 791 §3.1, RFC 9293 §3.1).

/// A TCP segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender's port.
    pub source: u16,
    /// The receiver's port.
    pub destination: u16,
    /// The number of its first byte.
    pub sequence: u32,
    /// Bytes of data.
    pub data: u32,
}

impl Header {
    /// Reads a packet as a TUN device gives it; `None`: it is no whole TCP segment over IPv4.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        const TCP: u8 = 6;
        let first = *packet.first()?;
        let ip_bytes = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || ip_bytes < 20 || *packet.get(9)? != TCP {
            return None;
        }
        let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        let later_fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff != 0;
        let tcp = packet.get(ip_bytes..total)?;
        if later_fragment || tcp.len() < 20 {
            return None;
        }
        let data = tcp.len().checked_sub(usize::from(tcp[12] >> 4) * 4)?;
        Some(Self {
            source: u16::from_be_bytes([tcp[0], tcp[1]]),
            destination: u16::from_be_bytes([tcp[2], tcp[3]]),
            sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
            data: data as u32,
        })
    }
}

/// Counts the segments of one flow whose data has been sent before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Again {
    /// One after the last byte sent so far.
    end: Option<u32>,
    /// How many.
    pub count: u64,
}

impl Again {
    /// A segment passes.
    pub fn see(&mut self, header: &Header) {
        if header.data == 0 {
            return;
        }
        let end = header.sequence.wrapping_add(header.data);
        match self.end {
            // Sequence numbers wrap: what is ahead is less than half of them away.
            Some(seen) if end.wrapping_sub(seen) as i32 <= 0 => self.count += 1,
            _ => self.end = Some(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment from port 40,000 to port 80, its TCP header with twelve bytes of options.
    fn segment(sequence: u32, data: usize) -> Vec<u8> {
        let total = (52 + data) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(40_000_u16.to_be_bytes());
        packet.extend(80_u16.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 0, 0x80, 0x10, 0, 0, 0, 0, 0, 0]);
        packet.resize(usize::from(total), 0);
        packet
    }

    #[test]
    fn ports_number_and_size_are_read() {
        let header = Header::parse(&segment(7, 1_448)).unwrap();
        assert_eq!(
            header,
            Header {
                source: 40_000,
                destination: 80,
                sequence: 7,
                data: 1_448
            }
        );
    }

    #[test]
    fn what_is_no_whole_segment_is_none() {
        let whole = segment(7, 100);
        for short in 0..whole.len() {
            assert_eq!(Header::parse(&whole[..short]), None, "{short} bytes");
        }
        for (at, value) in [(0, 0x65), (0, 0x42), (9, 17), (7, 1), (32, 0xf0)] {
            let mut other = segment(7, 4);
            other[at] = value;
            assert_eq!(Header::parse(&other), None, "{value} at {at}");
        }
    }

    #[test]
    fn what_is_sent_again_is_counted_even_where_numbers_wrap() {
        let mut again = Again::default();
        let mut send = |sequence: u32, data| {
            again.see(&Header::parse(&segment(sequence, data)).unwrap());
            again.count
        };
        assert_eq!(send(u32::MAX - 99, 100), 0);
        assert_eq!(send(0, 100), 0);
        assert_eq!(send(u32::MAX - 99, 100), 1);
        assert_eq!(send(200, 0), 1);
        assert_eq!(send(100, 100), 1);
        assert_eq!(send(100, 100), 2);
    }
}
