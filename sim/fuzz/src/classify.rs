//! Classifiers: what a client says, in whatever segments it says it.

use std::net::SocketAddr;

use phantom_censor::classify::{Classifier, FirstBytes, Labels, Transport};
use phantom_censor::flow::{Flow, FlowConfig, FlowTable};
use phantom_censor::packet::{Header, Packet, TcpFlags};

/// The first byte tells the transport, the second how many bytes of the rest say where it is cut, the rest is said.
///
/// Over TCP it makes no difference to what a flow is, and to its name, how it was cut; over UDP each piece is a datagram.
pub fn classify(data: &[u8]) -> bool {
    let [transport, cuts, rest @ ..] = data else {
        return false;
    };
    let transport = match transport % 2 {
        0 => Transport::Tcp,
        _ => Transport::Udp,
    };
    let (cuts, said) = rest.split_at(usize::from(cuts % 16).min(rest.len()));
    let cut = flow(transport, said, cuts);
    let labels = cut.labels();
    for classifier in Classifier::ALL {
        let says = labels.says(classifier);
        assert!(
            says.bytes().all(|byte| (0x20..=0x7E).contains(&byte)),
            "{classifier} is not safe to print"
        );
    }
    assert_eq!(labels, cut.labels());
    if transport == Transport::Tcp {
        let whole = flow(transport, said, &[]).labels();
        let what = |labels: &Labels| {
            (
                labels.protocol,
                labels.whole,
                labels.name.clone(),
                labels.ja4.clone(),
                labels.alpn.clone(),
            )
        };
        assert_eq!(what(&whole), what(&labels));
    }
    // By itself, without a flow.
    let _ = Labels::of(&FirstBytes::packet(transport, said));
    labels.protocol.is_some() || labels.first_packet_len > 0
}

/// A flow whose client says this, in pieces of these lengths and what is left.
fn flow(transport: Transport, mut said: &[u8], cuts: &[u8]) -> Flow {
    let mut table = FlowTable::new(FlowConfig::default());
    let mut seq = 1_000_u32;
    let mut send = |payload: &[u8], syn: bool| {
        let header = match transport {
            Transport::Tcp => Header::Tcp {
                flags: TcpFlags {
                    syn,
                    ack: !syn,
                    ..TcpFlags::default()
                },
                seq,
                ack: 0,
                window: 1_000,
            },
            Transport::Udp => Header::Udp,
        };
        let packet = Packet {
            source: SocketAddr::from(([10, 0, 0, 1], 40_000)),
            destination: SocketAddr::from(([192, 0, 2, 1], 443)),
            ttl: 64,
            header,
            payload,
            payload_len: payload.len() as u32,
        };
        seq = seq.wrapping_add(payload.len() as u32 + u32::from(syn));
        table.add(0, &packet, |_| ())
    };
    let slot = match transport {
        Transport::Tcp => send(&[], true),
        Transport::Udp => 0,
    };
    for cut in cuts {
        let (piece, rest) = said.split_at(usize::from(*cut).min(said.len()));
        said = rest;
        send(piece, false);
    }
    send(said, false);
    table.flow(slot).expect("it was added").clone()
}
