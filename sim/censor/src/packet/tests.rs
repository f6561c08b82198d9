//! Claims about frames.

use proptest::prelude::*;

use super::*;
use crate::craft;

fn v4() -> (SocketAddr, SocketAddr) {
    (
        "192.0.2.1:40000".parse().expect("an address"),
        "198.51.100.2:443".parse().expect("an address"),
    )
}

fn v6() -> (SocketAddr, SocketAddr) {
    (
        "[2001:db8::1]:40000".parse().expect("an address"),
        "[2001:db8::2]:443".parse().expect("an address"),
    )
}

const PUSH: TcpFlags = TcpFlags {
    fin: false,
    syn: false,
    rst: false,
    psh: true,
    ack: true,
};

fn segment((source, destination): (SocketAddr, SocketAddr)) -> Vec<u8> {
    craft::tcp(source, destination, PUSH, 1000, 2000, b"payload")
}

fn packet(link: LinkType, frame: &[u8]) -> Packet<'_> {
    match parse(link, frame) {
        Ok(Frame::Packet(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// All ways to carry an IP packet.
fn frames(ip: &[u8]) -> Vec<(LinkType, Vec<u8>)> {
    vec![
        (LinkType::Ethernet, craft::ethernet(&[], ip)),
        (LinkType::Ethernet, craft::ethernet(&[7], ip)),
        (LinkType::Ethernet, craft::ethernet(&[7, 8], ip)),
        (LinkType::RawIp, ip.to_vec()),
        (LinkType::LinuxSll, craft::cooked(ip)),
        (LinkType::LinuxSll2, craft::cooked_v2(ip)),
        (LinkType::Null, craft::loopback(ip)),
    ]
}

#[test]
fn the_same_segment_is_read_from_every_link_type() {
    for ends in [v4(), v6()] {
        let ip = segment(ends);
        let wanted = Packet {
            source: ends.0,
            destination: ends.1,
            ttl: 64,
            header: Header::Tcp {
                flags: PUSH,
                seq: 1000,
                ack: 2000,
                window: 0xffff,
            },
            payload: b"payload",
            payload_len: 7,
        };
        for (link, frame) in frames(&ip) {
            assert_eq!(packet(link, &frame), wanted, "{link:?}");
        }
        // The other byte order, and the other system's loopback.
        let mut swapped = craft::loopback(&ip);
        swapped[..4].reverse();
        assert_eq!(packet(LinkType::Null, &swapped), wanted);
        assert_eq!(packet(LinkType::Loop, &swapped), wanted);
    }
}

#[test]
fn padding_of_a_short_ethernet_frame_is_no_payload() {
    let (source, destination) = v4();
    let mut frame = craft::ethernet(&[], &craft::tcp(source, destination, PUSH, 1, 1, b""));
    frame.resize(60, 0);
    let packet = packet(LinkType::Ethernet, &frame);
    assert_eq!((packet.payload, packet.payload_len), (&[][..], 0));
}

#[test]
fn a_cut_frame_keeps_the_length_that_was_on_the_wire() {
    for ends in [v4(), v6()] {
        for ip in [segment(ends), craft::udp(ends.0, ends.1, b"payload")] {
            let cut = packet(LinkType::RawIp, &ip[..ip.len() - 3]);
            assert_eq!((cut.payload, cut.payload_len), (&b"payl"[..], 7));
        }
    }
}

/// A host that lets its network card cut segments captures them before, without a length.
#[test]
fn a_length_of_zero_before_offloading_is_that_of_the_frame() {
    let mut ip = segment(v4());
    ip[2..4].fill(0);
    let packet = packet(LinkType::RawIp, &ip);
    assert_eq!((packet.payload, packet.payload_len), (&b"payload"[..], 7));
}

/// Hop-by-hop options, then destination options, then TCP.
#[test]
fn extension_headers_of_ipv6_are_walked() {
    let plain = segment(v6());
    let mut ip = plain[..40].to_vec();
    ip[6] = 0;
    let extensions = [60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0];
    let len = (plain.len() - 40 + extensions.len()) as u16;
    ip[4..6].copy_from_slice(&len.to_be_bytes());
    ip.extend_from_slice(&extensions);
    ip.extend_from_slice(&plain[40..]);
    let whole = packet(LinkType::RawIp, &ip);
    assert_eq!((whole.payload, whole.payload_len), (&b"payload"[..], 7));
    assert_eq!(whole.source.port(), 40000);
    let cut = packet(LinkType::RawIp, &ip[..ip.len() - 2]);
    assert_eq!((cut.payload, cut.payload_len), (&b"paylo"[..], 7));
}

#[test]
fn fragments_are_named_and_their_bytes_are_no_ports() {
    let (source, destination) = v4();
    // More to come at offset 0; the last at offset 8.
    for field in [0x2000_u16, 1] {
        let mut ip = segment(v4());
        ip[6..8].copy_from_slice(&field.to_be_bytes());
        let wanted = Frame::Fragment {
            source: source.ip(),
            destination: destination.ip(),
            protocol: 6,
        };
        assert_eq!(parse(LinkType::RawIp, &ip), Ok(wanted), "{field:#x}");
    }
    let plain = craft::udp(v6().0, v6().1, b"payload");
    for field in [1_u16, 8] {
        let mut ip = plain[..40].to_vec();
        ip[6] = 44;
        ip[4..6].copy_from_slice(&((plain.len() - 40 + 8) as u16).to_be_bytes());
        ip.extend_from_slice(&[17, 0]);
        ip.extend_from_slice(&field.to_be_bytes());
        ip.extend_from_slice(&[0, 0, 0, 9]);
        ip.extend_from_slice(&plain[40..]);
        let frame = parse(LinkType::RawIp, &ip);
        assert!(
            matches!(frame, Ok(Frame::Fragment { protocol: 17, .. })),
            "{frame:?}"
        );
    }
}

#[test]
fn what_is_neither_tcp_nor_udp_is_told_apart_from_what_is_broken() {
    let mut icmp = segment(v4());
    icmp[9] = 1;
    assert_eq!(parse(LinkType::RawIp, &icmp), Ok(Frame::OtherProtocol(1)));
    let mut arp = craft::ethernet(&[], &[0; 28]);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    arp[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    assert_eq!(parse(LinkType::Ethernet, &arp), Ok(Frame::NotIp));
    let lldp = [&[0; 12][..], &[0x88, 0xcc, 1, 2, 3]].concat();
    assert_eq!(parse(LinkType::Ethernet, &lldp), Ok(Frame::NotIp));
    // Netlink, whose protocol field is no EtherType even where it looks like one; and a frame type of Linux.
    let ip = segment(v4());
    let mut netlink = craft::cooked(&ip);
    netlink[2..4].copy_from_slice(&824_u16.to_be_bytes());
    assert_eq!(parse(LinkType::LinuxSll, &netlink), Ok(Frame::NotIp));
    let mut loopback = craft::cooked(&ip);
    loopback[14..16].copy_from_slice(&[0, 4]);
    assert_eq!(parse(LinkType::LinuxSll, &loopback), Ok(Frame::NotIp));
    let ip = segment(v4());
    for cut in [0, 10, 19, 25, 39] {
        assert_eq!(
            parse(LinkType::RawIp, &ip[..cut]),
            Err(FrameError::Malformed),
            "{cut} bytes"
        );
    }
    let error = LinkType::from_number(105)
        .expect_err("802.11 is not read")
        .to_string();
    assert!(error.contains("105") && error.contains("276"), "{error}");
}

const LINKS: [LinkType; 6] = [
    LinkType::Null,
    LinkType::Ethernet,
    LinkType::RawIp,
    LinkType::Loop,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
];

fn check(link: LinkType, frame: &[u8]) {
    if let Ok(Frame::Packet(packet)) = parse(link, frame) {
        assert!(packet.payload.len() <= packet.payload_len as usize);
        assert!(packet.payload.len() <= frame.len());
    }
}

proptest! {
    #[test]
    fn no_frame_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for link in LINKS {
            check(link, &bytes);
        }
    }

    #[test]
    fn no_frame_panics_on_a_valid_one_that_was_changed_and_cut(
        six in any::<bool>(),
        datagram in any::<bool>(),
        which in 0..7_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let ends = if six { v6() } else { v4() };
        let ip = if datagram { craft::udp(ends.0, ends.1, b"payload") } else { segment(ends) };
        let (link, mut frame) = frames(&ip).swap_remove(which);
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        frame.truncate(cut.index(frame.len() + 1));
        for other in LINKS {
            check(other, &frame);
        }
        check(link, &frame);
    }
}
