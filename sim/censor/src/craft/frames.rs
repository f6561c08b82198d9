//! IP packets and the headers of links before them. Check sums of TCP and UDP are zero: nothing here looks at them.

use std::net::{IpAddr, SocketAddr};

use crate::packet::TcpFlags;

/// An IP packet with a TCP segment.
///
/// # Panics
/// The addresses are of two versions.
pub fn tcp(
    source: SocketAddr,
    destination: SocketAddr,
    flags: TcpFlags,
    seq: u32,
    ack: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut segment = source.port().to_be_bytes().to_vec();
    segment.extend_from_slice(&destination.port().to_be_bytes());
    segment.extend_from_slice(&seq.to_be_bytes());
    segment.extend_from_slice(&ack.to_be_bytes());
    let bits = u8::from(flags.fin)
        | u8::from(flags.syn) << 1
        | u8::from(flags.rst) << 2
        | u8::from(flags.psh) << 3
        | u8::from(flags.ack) << 4;
    segment.extend_from_slice(&[5 << 4, bits, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(payload);
    ip(source, destination, 6, &segment)
}

/// An IP packet with a UDP datagram.
///
/// # Panics
/// The addresses are of two versions.
pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = source.port().to_be_bytes().to_vec();
    datagram.extend_from_slice(&destination.port().to_be_bytes());
    datagram.extend_from_slice(&length(8 + payload.len()));
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    ip(source, destination, 17, &datagram)
}

fn ip(source: SocketAddr, destination: SocketAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = [0; 20];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&length(20 + payload.len()));
            header[8] = 64;
            header[9] = protocol;
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            let sum: u32 = header
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| u32::from(u16::from_be_bytes(*pair)))
                .sum();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header.to_vec()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = [0; 40];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&length(payload.len()));
            header[6] = protocol;
            header[7] = 64;
            header[8..24].copy_from_slice(&source.octets());
            header[24..40].copy_from_slice(&destination.octets());
            header.to_vec()
        }
        _ => panic!("{source} and {destination} are of two versions"),
    };
    packet.extend_from_slice(payload);
    packet
}

/// An Ethernet frame with VLAN tags.
pub fn ethernet(vlans: &[u16], ip: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (at, vlan) in vlans.iter().enumerate() {
        // The outer of two tags is that of the provider.
        let kind: u16 = if at + 1 < vlans.len() { 0x88a8 } else { 0x8100 };
        frame.extend_from_slice(&kind.to_be_bytes());
        frame.extend_from_slice(&vlan.to_be_bytes());
    }
    frame.extend_from_slice(&ether_type(ip));
    frame.extend_from_slice(ip);
    frame
}

/// A frame of Linux's "any" device, version 1.
pub fn cooked(ip: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    frame.extend_from_slice(&ether_type(ip));
    frame.extend_from_slice(ip);
    frame
}

/// The same, version 2.
pub fn cooked_v2(ip: &[u8]) -> Vec<u8> {
    let mut frame = ether_type(ip).to_vec();
    frame.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
    frame.extend_from_slice(ip);
    frame
}

/// A frame of a BSD's loopback that a little-endian host captured.
pub fn loopback(ip: &[u8]) -> Vec<u8> {
    let family = if ether_type(ip) == [0x08, 0x00] { 2 } else { 30 };
    let mut frame = vec![family, 0, 0, 0];
    frame.extend_from_slice(ip);
    frame
}

fn ether_type(ip: &[u8]) -> [u8; 2] {
    if ip.first().is_some_and(|byte| byte >> 4 == 6) {
        [0x86, 0xdd]
    } else {
        [0x08, 0x00]
    }
}

fn length(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("it fits in 16 bits").to_be_bytes()
}
