//! What a script sees: `packet` and `flow`, with their fields.
//!
//! Both are read only and hold for one packet. What takes time to make, such as texts and entropy, is made when it is asked
//! for. Everything is a whole number, a text, true or false: no fraction, so that it is the same on every machine.

use std::net::SocketAddr;
use std::sync::Arc;

use phantom_censor::classify::fet::{Measured, Variant};
use phantom_censor::classify::{Labels, entropy, printable};
use phantom_censor::engine::Direction;
use phantom_censor::engine::program::Seen;
use phantom_censor::flow::Side;
use phantom_censor::packet::{Header, TcpFlags};
use rhai::{Array, Blob, Dynamic, Engine, ImmutableString};

use crate::bounds::{PAYLOAD_BYTES_MAX, TEXT_BYTES_MAX};

/// A packet and its flow, out of the engine's hands.
#[derive(Debug)]
pub(crate) struct Facts {
    at_ns: u64,
    out: bool,
    up: bool,
    source: SocketAddr,
    destination: SocketAddr,
    ttl: u8,
    tcp: Option<(TcpFlags, u32, u32, u16)>,
    payload: Vec<u8>,
    len: u32,
    wire_len: u32,
    opened_out: bool,
    client: SocketAddr,
    server: SocketAddr,
    syn: bool,
    first_ns: u64,
    /// Packets and bytes, from the client and from the server.
    counts: [(u64, u64); 2],
    fet: Option<Measured>,
    labels: Option<Arc<Labels>>,
    flows: u32,
}

impl Facts {
    pub(crate) fn of(seen: &Seen<'_>) -> Self {
        let mut facts = Self::without_payload(seen, Vec::new());
        facts.copy_payload(seen);
        facts
    }

    /// The same of another packet, in the same memory.
    pub(crate) fn fill(&mut self, seen: &Seen<'_>) {
        let room = std::mem::take(&mut self.payload);
        *self = Self::without_payload(seen, room);
        self.copy_payload(seen);
    }

    fn copy_payload(&mut self, seen: &Seen<'_>) {
        let payload = seen.packet.payload;
        self.payload.clear();
        self.payload
            .extend_from_slice(&payload[..payload.len().min(PAYLOAD_BYTES_MAX)]);
    }

    fn without_payload(seen: &Seen<'_>, payload: Vec<u8>) -> Self {
        let (packet, flow) = (seen.packet, seen.flow);
        let counts = |side: &Side| (side.packets, side.bytes);
        Self {
            at_ns: seen.at_ns,
            out: seen.direction == Direction::Outbound,
            up: seen.from_client,
            source: packet.source,
            destination: packet.destination,
            ttl: packet.ttl,
            tcp: match packet.header {
                Header::Tcp {
                    flags,
                    seq,
                    ack,
                    window,
                } => Some((flags, seq, ack, window)),
                Header::Udp => None,
            },
            payload,
            len: packet.payload_len,
            wire_len: packet.wire_bytes(),
            opened_out: seen.outbound,
            client: flow.client(),
            server: flow.server(),
            syn: flow.syn,
            first_ns: flow.first_ns,
            counts: [counts(&flow.up), counts(&flow.down)],
            fet: flow.measured(),
            labels: seen.labels.cloned(),
            flows: seen.flows_of_pair,
        }
    }

    fn flags(&self) -> TcpFlags {
        self.tcp.map(|(flags, ..)| flags).unwrap_or_default()
    }

    fn label<T>(&self, of: impl FnOnce(&Labels) -> Option<T>) -> Option<T> {
        self.labels.as_deref().and_then(of)
    }

    fn age_us(&self) -> i64 {
        whole(self.at_ns.saturating_sub(self.first_ns) / 1000)
    }

    /// A byte of the payload.
    fn byte(&self, at: i64) -> Option<u8> {
        self.payload.get(usize::try_from(at).ok()?).copied()
    }

    /// A part of the payload, as much of it as is there.
    fn part(&self, from: i64, len: i64) -> &[u8] {
        let from = usize::try_from(from).map_or(self.payload.len(), |from| from.min(self.payload.len()));
        let len = usize::try_from(len).unwrap_or(0);
        &self.payload[from..from.saturating_add(len).min(self.payload.len())]
    }

    /// Bytes by their high half, in thousandths of all.
    fn halves(&self) -> Array {
        let mut counts = [0_i64; 16];
        for byte in &self.payload {
            counts[usize::from(byte >> 4)] += 1;
        }
        let all = self.payload.len().max(1) as i64;
        counts
            .into_iter()
            .map(|count| Dynamic::from_int(count * 1000 / all))
            .collect()
    }

    fn printable(&self) -> i64 {
        let shown = self.payload.iter().filter(|byte| matches!(byte, 0x20..=0x7e));
        (shown.count() * 1000 / self.payload.len().max(1)) as i64
    }
}

/// Numbers beyond what the language has are its largest.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn text(text: impl AsRef<str>) -> ImmutableString {
    text.as_ref().into()
}

macro_rules! fields {
    ($(#[$doc:meta])* $type:ident, $names:ident, $( $(#[$what:meta])* $name:literal => |$facts:ident| $value:expr; )*) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $type(pub(crate) Arc<Facts>);

        /// The names of its fields.
        pub const $names: &[&str] = &[$($name),*];

        impl $type {
            fn register(engine: &mut Engine) {
                $( engine.register_get($name, |view: &mut Self| { let $facts = &*view.0; $value }); )*
            }
        }
    };
}

fields! {
    /// `packet`: the one that crosses.
    PacketView, PACKET_FIELDS,
    "up" => |f| f.up;
    "out" => |f| f.out;
    "tcp" => |f| f.tcp.is_some();
    "udp" => |f| f.tcp.is_none();
    "len" => |f| i64::from(f.len);
    "wire_len" => |f| i64::from(f.wire_len);
    "source" => |f| text(f.source.ip().to_string());
    "destination" => |f| text(f.destination.ip().to_string());
    "source_port" => |f| i64::from(f.source.port());
    "destination_port" => |f| i64::from(f.destination.port());
    "ttl" => |f| i64::from(f.ttl);
    "syn" => |f| f.flags().syn;
    "ack" => |f| f.flags().ack;
    "fin" => |f| f.flags().fin;
    "rst" => |f| f.flags().rst;
    "psh" => |f| f.flags().psh;
    "seq" => |f| f.tcp.map_or(0, |(_, seq, ..)| i64::from(seq));
    "ack_seq" => |f| f.tcp.map_or(0, |(_, _, ack, _)| i64::from(ack));
    "window" => |f| f.tcp.map_or(0, |(.., window)| i64::from(window));
    "age_us" => |f| f.age_us();
    "entropy" => |f| i64::from(entropy::millibits(&f.payload));
    "ones" => |f| i64::from(entropy::popcount_millibits(&f.payload));
    "printable" => |f| f.printable();
    "halves" => |f| f.halves();
}

fields! {
    /// `flow`: what is known of the packet's flow, the packet included.
    FlowView, FLOW_FIELDS,
    "client" => |f| text(f.client.ip().to_string());
    "server" => |f| text(f.server.ip().to_string());
    "client_port" => |f| i64::from(f.client.port());
    "server_port" => |f| i64::from(f.server.port());
    "out" => |f| f.opened_out;
    "syn" => |f| f.syn;
    "packets_up" => |f| whole(f.counts[0].0);
    "packets_down" => |f| whole(f.counts[1].0);
    "bytes_up" => |f| whole(f.counts[0].1);
    "bytes_down" => |f| whole(f.counts[1].1);
    "flows" => |f| i64::from(f.flows);
    "protocol" => |f| text(f.label(|labels| labels.protocol).map_or("", |protocol| protocol.name()));
    "name" => |f| text(f.labels.as_ref().and_then(|labels| labels.name.as_deref()).unwrap_or_default());
    "whole" => |f| f.label(|labels| Some(labels.whole)).unwrap_or(false);
    "split" => |f| f.label(|labels| Some(labels.split)).unwrap_or(false);
    "alpn" => |f| text(f.label(|labels| Some(labels.alpn.join(" "))).unwrap_or_default());
    "ja4" => |f| text(f.labels.as_ref().and_then(|labels| labels.ja4.as_deref()).unwrap_or_default());
    "first_len" => |f| f.label(|labels| Some(whole(labels.first_packet_len))).unwrap_or(0);
    "first_entropy" => |f| f.label(|labels| Some(i64::from(labels.entropy_millibits))).unwrap_or(0);
    "first_ones" => |f| f.label(|labels| Some(i64::from(labels.popcount_millibits))).unwrap_or(0);
    "flagged" => |f| f.fet.is_some_and(|fet| fet.verdict(Variant::Paper).is_flagged());
}

/// The functions of `packet`.
pub const PACKET_FUNCTIONS: &[&str] = &["byte", "u16", "starts_with", "text", "bytes"];

/// Teaches the language what it sees.
pub(crate) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<PacketView>("packet");
    engine.register_type_with_name::<FlowView>("flow");
    PacketView::register(engine);
    FlowView::register(engine);
    let absent = -1;
    engine
        .register_fn("byte", move |view: &mut PacketView, at: i64| {
            view.0.byte(at).map_or(absent, i64::from)
        })
        .register_fn("u16", move |view: &mut PacketView, at: i64| {
            match (view.0.byte(at), view.0.byte(at.saturating_add(1))) {
                (Some(high), Some(low)) => i64::from(u16::from_be_bytes([high, low])),
                _ => absent,
            }
        })
        .register_fn("starts_with", |view: &mut PacketView, start: ImmutableString| {
            view.0.payload.starts_with(start.as_bytes())
        })
        .register_fn("starts_with", |view: &mut PacketView, start: Blob| {
            view.0.payload.starts_with(&start)
        })
        .register_fn("text", |view: &mut PacketView, from: i64, len: i64| {
            // Each byte may become four characters.
            text(printable(view.0.part(from, len.min(TEXT_BYTES_MAX as i64 / 4))))
        })
        .register_fn("bytes", |view: &mut PacketView, from: i64, len: i64| -> Blob {
            view.0.part(from, len).to_vec()
        });
}
