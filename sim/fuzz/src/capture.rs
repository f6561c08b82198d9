//! Captures: whatever the file says, in whatever pieces it comes.

use std::io::{self, Read};

use phantom_censor::capture::{Capture, PACKET_BYTES_MAX};
use phantom_censor::flow::{FlowConfig, FlowTable};
use phantom_censor::packet::{Frame, LinkType, parse};

/// A packet as it was read.
#[derive(Debug, PartialEq, Eq)]
struct Copied {
    number: u64,
    at_ns: u64,
    link: u32,
    wire_len: u32,
    frame: Vec<u8>,
    /// Bytes of the file up to here.
    offset: u64,
}

/// A file, read whole and in pieces, and its packets gathered into flows.
pub fn capture(data: &[u8]) -> bool {
    let (whole, said) = read(data);
    let step = usize::from(data.first().copied().unwrap_or(0) % 7) + 1;
    let (pieces, also_said) = read(Pieces { rest: data, step });
    assert_eq!((&whole, &said), (&pieces, &also_said));
    let flows_max = 16;
    let mut table = FlowTable::new(FlowConfig {
        flows_max,
        ..FlowConfig::default()
    });
    for (place, copied) in whole.iter().enumerate() {
        assert_eq!(copied.number, place as u64 + 1);
        let Ok(link) = LinkType::from_number(copied.link) else {
            continue;
        };
        if let Ok(Frame::Packet(packet)) = parse(link, &copied.frame) {
            assert!(packet.payload.len() <= packet.payload_len as usize);
            table.add(copied.at_ns, &packet, |flow| drop(flow.labels()));
            assert!(table.len() <= flows_max);
        }
    }
    table.finish(|flow| drop(flow.labels()));
    !whole.is_empty()
}

/// All packets, and what was wrong in the end.
fn read(file: impl Read) -> (Vec<Copied>, Option<String>) {
    let mut read = Vec::new();
    let mut capture = match Capture::new(file) {
        Ok(capture) => capture,
        Err(error) => return (read, Some(error.to_string())),
    };
    loop {
        match capture.read() {
            Ok(Some(record)) => {
                assert!(record.data.len() <= PACKET_BYTES_MAX as usize);
                read.push(Copied {
                    number: record.number,
                    at_ns: record.at_ns,
                    link: record.link,
                    wire_len: record.wire_len,
                    frame: record.data.to_vec(),
                    offset: 0,
                });
                if let Some(last) = read.last_mut() {
                    last.offset = capture.offset();
                }
            }
            Ok(None) => return (read, None),
            Err(error) => {
                assert!(matches!(capture.read(), Ok(None)), "an error is the end");
                return (read, Some(error.to_string()));
            }
        }
    }
}

/// A file that comes a few bytes at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    step: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.step.min(into.len()).min(self.rest.len());
        let (now, rest) = self.rest.split_at(len);
        into[..len].copy_from_slice(now);
        self.rest = rest;
        Ok(len)
    }
}
