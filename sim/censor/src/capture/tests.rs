//! Claims about captures.

use proptest::prelude::*;

use super::*;
use crate::craft::{PcapFile, PcapNgFile};

/// Hands out a few bytes at a time, as a pipe may.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let len = self.1.min(to.len());
        self.0.read(&mut to[..len])
    }
}

type Owned = (u64, u64, u32, u32, Vec<u8>);

fn read_from(inner: impl Read) -> (Vec<Owned>, Option<CaptureError>) {
    let mut records = Vec::new();
    let mut capture = match Capture::new(inner) {
        Ok(capture) => capture,
        Err(error) => return (records, Some(error)),
    };
    loop {
        match capture.read() {
            Ok(Some(record)) => records.push((
                record.number,
                record.at_ns,
                record.link,
                record.wire_len,
                record.data.to_vec(),
            )),
            Ok(None) => return (records, None),
            Err(error) => {
                assert!(matches!(capture.read(), Ok(None)), "after an error comes nothing");
                return (records, Some(error));
            }
        }
    }
}

/// The records of a file, whole and in dribbles.
fn read(bytes: &[u8]) -> (Vec<Owned>, Option<CaptureError>) {
    let whole = read_from(bytes);
    let dribble = read_from(Dribble(bytes, 3));
    assert_eq!(whole.0, dribble.0);
    assert_eq!(
        whole.1.as_ref().map(ToString::to_string),
        dribble.1.as_ref().map(ToString::to_string)
    );
    whole
}

const NOON: u64 = 1_700_000_000_123_456_789;

#[test]
fn pcap_is_read_in_both_byte_orders_and_both_units_of_time() {
    for big_endian in [false, true] {
        for (nanoseconds, wanted) in [(true, NOON), (false, NOON / 1000 * 1000)] {
            let mut file = PcapFile::new(276, big_endian, nanoseconds);
            file.add(NOON, b"one").add_cut(NOON + 5_000_000, b"two", 2);
            let (records, error) = read(file.bytes());
            assert!(error.is_none(), "{error:?}");
            assert_eq!(
                records,
                [
                    (1, wanted, 276, 3, b"one".to_vec()),
                    (2, wanted + 5_000_000, 276, 3, b"tw".to_vec())
                ]
            );
        }
    }
}

#[test]
fn pcapng_is_read_with_several_interfaces_units_and_sections() {
    for big_endian in [false, true] {
        let mut file = PcapNgFile::new(big_endian);
        file.interface(1, None)
            .interface(101, Some(9))
            .interface(113, Some(0x80 | 20))
            .interface(276, Some(12))
            .add(1, NOON, b"nanoseconds", Some("a comment"))
            .block(0xbad, &[1, 2, 3, 4])
            .add(0, NOON / 1000, b"microseconds", None)
            .add(2, 3 << 19, b"1.5 s", None)
            .add(3, 1_234_567, b"picoseconds", None)
            .section()
            .interface(228, Some(3))
            .add_simple(b"simple")
            .add(0, 42, b"milliseconds", None);
        let (records, error) = read(file.bytes());
        assert!(error.is_none(), "{error:?}");
        let got: Vec<(u64, u64, u32, &[u8])> = records
            .iter()
            .map(|(number, at, link, _, data)| (*number, *at, *link, &data[..]))
            .collect();
        let wanted: [(u64, u64, u32, &[u8]); 6] = [
            (1, NOON, 101, b"nanoseconds"),
            (2, NOON / 1000 * 1000, 1, b"microseconds"),
            (3, 1_500_000_000, 113, b"1.5 s"),
            (4, 1234, 276, b"picoseconds"),
            // It has no time of its own.
            (5, 1234, 228, b"simple"),
            (6, 42_000_000, 228, b"milliseconds"),
        ];
        assert_eq!(got, wanted);
    }
}

#[test]
fn an_offset_in_seconds_is_read_in_the_files_byte_order() {
    for big_endian in [false, true] {
        let mut file = PcapNgFile::new(big_endian);
        let (kind, len, offset) = if big_endian {
            ([0, 14], [0, 8], (-5_i64).to_be_bytes())
        } else {
            ([14, 0], [8, 0], (-5_i64).to_le_bytes())
        };
        let link = if big_endian { [0, 1] } else { [1, 0] };
        let body = [&link[..], &[0; 6], &kind, &len, &offset, &[0; 4]].concat();
        file.block(1, &body).add(0, 7_000_001, b"x", None);
        assert_eq!(read(file.bytes()).0[0].1, 2_000_001_000);
    }
}

fn error_of(bytes: &[u8]) -> String {
    read(bytes).1.expect("it is broken").to_string()
}

#[test]
fn a_truncated_file_names_the_packet_and_the_place_and_keeps_what_stands_before() {
    let mut file = PcapFile::new(1, false, false);
    file.add(0, &[1; 60]).add(0, &[2; 60]).add(0, &[3; 60]);
    let bytes = file.bytes();
    for cut in 1..76 {
        let (records, error) = read(&bytes[..bytes.len() - cut]);
        assert_eq!(records.len(), 2, "{cut}");
        let error = error.expect("it is cut").to_string();
        assert!(
            error.starts_with("packet 3 at byte 176: the file ends inside"),
            "{error}"
        );
    }
    assert!(
        read(&bytes[..bytes.len() - 76]).1.is_none(),
        "two packets, and no more"
    );

    let mut file = PcapNgFile::new(false);
    file.interface(1, None).add(0, 0, &[1; 60], None);
    let whole = file.bytes().len();
    file.add(0, 0, &[2; 60], None);
    for cut in 1..92 {
        let bytes = &file.bytes()[..whole + cut];
        let (records, error) = read(bytes);
        assert_eq!(records.len(), 1, "{cut}");
        let error = error.expect("it is cut").to_string();
        let wanted = format!("packet 2 at byte {whole}: the file ends inside");
        assert!(error.starts_with(&wanted), "{error}");
    }
}

#[test]
fn a_length_that_lies_is_refused_before_anything_is_kept_for_it() {
    let mut file = PcapFile::new(1, false, false);
    file.add(0, b"fine").add(0, b"x");
    let mut bytes = file.bytes().to_vec();
    let at = bytes.len() - 1 - 8;
    bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = error_of(&bytes);
    assert!(
        error.starts_with("packet 2 at byte 44: a packet of 4294967295 bytes"),
        "{error}"
    );

    for (kind, what) in [
        (6, "a block of"),
        (3, "a block of"),
        (1, "a block of"),
        (77, "inside of a block"),
    ] {
        let mut file = PcapNgFile::new(false);
        file.interface(1, None);
        let at = file.bytes().len();
        file.block(kind, &[0; 32]);
        let mut bytes = file.bytes().to_vec();
        bytes[at + 4..at + 8].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
        let error = error_of(&bytes);
        assert!(
            error.contains(what) && error.contains("packet 1 at byte"),
            "{error}"
        );
        // A block that is skipped may be long; where it ends before its time is told.
        let cut = "4294967280 bytes are wanted and 44 are there";
        assert!(kind != 77 || error.contains(cut), "{error}");
    }
}

#[test]
fn a_packet_of_the_greatest_length_is_read_and_one_byte_more_is_refused() {
    let frame = vec![7; PACKET_BYTES_MAX as usize + 1];
    let mut file = PcapFile::new(1, false, false);
    file.add(0, &frame[1..]).add(0, &frame);
    let (records, error) = read(file.bytes());
    assert_eq!(records.len(), 1);
    assert!(error.expect("too long").to_string().starts_with("packet 2 "));
    let mut file = PcapNgFile::new(true);
    file.interface(1, None)
        .add(0, 0, &frame[1..], None)
        .add(0, 0, &frame, None);
    let (records, error) = read(file.bytes());
    assert_eq!(records.len(), 1);
    assert!(error.expect("too long").to_string().starts_with("packet 2 "));
}

#[test]
fn contradictions_of_pcapng_are_named() {
    let mut file = PcapNgFile::new(false);
    file.add(0, 0, b"x", None);
    assert!(error_of(file.bytes()).contains("an interface that is not described"));

    let mut file = PcapNgFile::new(false);
    file.interface(1, None).add(0, 0, b"abcdefgh", None);
    let bytes = file.bytes();
    let last = bytes.len() - 4;
    let mut differ = bytes.to_vec();
    differ[last] ^= 4;
    assert!(error_of(&differ).contains("lengths before and after a block differ"));
    // The packet claims more than its block has.
    let mut beyond = bytes.to_vec();
    beyond[last - 8 - 8] = 200;
    assert!(
        error_of(&beyond).contains("lengths inside of a packet's block"),
        "{}",
        error_of(&beyond)
    );
    let mut version = bytes.to_vec();
    version[12] = 2;
    assert!(error_of(&version).contains("version"));
}

#[test]
fn what_is_no_capture_is_told_with_what_to_do() {
    assert!(matches!(read(b"").1, Some(CaptureError::Empty)));
    assert!(error_of(&[0x1f, 0x8b, 8, 0]).contains("zcat"));
    assert!(error_of(b"hello, world").contains("68 65 6c 6c"));
    assert!(error_of(b"ab").contains("61 62"));
}

proptest! {
    #[test]
    fn no_capture_panics_on_arbitrary_bytes(
        start in 0..4_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut ng = PcapNgFile::new(false);
        ng.interface(1, None);
        let starts = [&[][..], PcapFile::new(1, true, true).bytes(), PcapFile::new(1, false, true).bytes(), ng.bytes()].map(<[u8]>::to_vec);
        let mut file = starts[start].clone();
        file.extend_from_slice(&bytes);
        let _ = read(&file);
    }

    #[test]
    fn no_capture_panics_on_a_valid_one_that_was_changed_and_cut(
        ng in any::<bool>(),
        big_endian in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = if ng {
            let mut file = PcapNgFile::new(big_endian);
            file.interface(1, Some(9)).add(0, NOON, b"packet one", Some("comment")).add_simple(b"two").section().interface(101, None).add(0, 1, b"three", None);
            file.bytes().to_vec()
        } else {
            let mut file = PcapFile::new(1, big_endian, true);
            file.add(NOON, b"packet one").add(NOON, b"two");
            file.bytes().to_vec()
        };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        for (_, _, _, wire_len, data) in read(&bytes).0 {
            prop_assert!(data.len() <= wire_len as usize && data.len() <= PACKET_BYTES_MAX as usize);
        }
    }
}
