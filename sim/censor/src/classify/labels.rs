//! What all classifiers say of one flow.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fet::Measured;
use super::hello::{Carrier, ClientHello};
use super::length::Window;
use super::{Classifier, Look, dns, dtls, entropy, http, printable, quic, ssh, tls};

/// What a flow runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The first bytes that the client sent.
#[derive(Clone, Copy, Debug)]
pub struct FirstBytes<'a> {
    /// What the flow runs over.
    pub transport: Transport,
    /// The client's stream from its beginning (TCP), or its first datagrams one after the other (UDP); possibly cut.
    pub stream: &'a [u8],
    /// How much of `stream` is the first data packet.
    pub first_packet_len: usize,
    /// What the rule on fully encrypted traffic needs of the first data packet, measured on all of it. TCP alone has it.
    pub fet: Option<Measured>,
}

impl Transport {
    /// As results write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl<'a> FirstBytes<'a> {
    /// Of a flow of which only the first data packet is known.
    pub fn packet(transport: Transport, packet: &'a [u8]) -> Self {
        Self {
            transport,
            stream: packet,
            first_packet_len: packet.len(),
            fet: (transport == Transport::Tcp)
                .then(|| Measured::of(packet))
                .flatten(),
        }
    }

    fn first_packet(&self) -> &'a [u8] {
        &self.stream[..self.first_packet_len.min(self.stream.len())]
    }
}

/// The protocol that the client's first bytes are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TLS over TCP.
    Tls,
    /// QUIC, version 1 or 2.
    Quic,
    /// DTLS.
    Dtls,
    /// HTTP/1, or the preface of HTTP/2 in the clear.
    Http,
    /// SSH.
    Ssh,
    /// DNS over UDP or TCP.
    Dns,
}

impl Protocol {
    /// As results write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Dtls => "dtls",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::Dns => "dns",
        }
    }

    /// Whether this transport may carry it.
    pub const fn runs_over(self, transport: Transport) -> bool {
        match self {
            Self::Tls | Self::Http | Self::Ssh => matches!(transport, Transport::Tcp),
            Self::Quic | Self::Dtls => matches!(transport, Transport::Udp),
            Self::Dns => true,
        }
    }
}

/// What all classifiers say of one flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// What it is; `None` if no classifier knows it.
    pub protocol: Option<Protocol>,
    /// The name that the client asks for: SNI, Host or the DNS question; for SSH the software. Safe to print.
    pub name: Option<String>,
    /// The message that would tell the name is there as a whole.
    pub whole: bool,
    /// The name is there only when segments or datagrams are joined: a censor that looks at single packets does not see it.
    pub split: bool,
    /// ALPN, safe to print.
    pub alpn: Vec<String>,
    /// JA4 of a ClientHello.
    pub ja4: Option<String>,
    /// JA3 of a DTLS ClientHello before it is hashed.
    pub ja3_string: Option<String>,
    /// What the rule on fully encrypted traffic needs. TCP alone has it.
    pub fet: Option<Measured>,
    /// Entropy of the first data packet (of as much of it as was kept), in thousandths of a bit per byte.
    pub entropy_millibits: u32,
    /// Bits set in the same bytes, in thousandths of a bit per byte.
    pub popcount_millibits: u32,
    /// Bytes of the first data packet.
    pub first_packet_len: u64,
}

impl Labels {
    /// Runs every classifier. A flow without data from the client gets no label.
    pub fn of(first: &FirstBytes<'_>) -> Self {
        let packet = first.first_packet();
        let mut labels = Self {
            fet: first.fet,
            entropy_millibits: entropy::millibits(packet),
            popcount_millibits: entropy::popcount_millibits(packet),
            first_packet_len: first.fet.map_or(first.first_packet_len as u64, |fet| fet.len),
            ..Self::default()
        };
        match first.transport {
            Transport::Tcp => labels.tcp(first.stream, packet),
            Transport::Udp => labels.udp(first.stream, packet),
        }
        labels
    }

    fn tcp(&mut self, stream: &[u8], packet: &[u8]) {
        if tls::starts_hello(stream) {
            self.protocol = Some(Protocol::Tls);
            if let Look::Found(hello) = tls::client_hello(stream) {
                self.hello(&hello, Carrier::Tcp);
                self.split = !matches!(tls::client_hello_in_segment(packet), Look::Found(_));
            }
        } else if http::method(stream).is_some() {
            self.protocol = Some(Protocol::Http);
            if let Look::Found(request) = http::request(stream) {
                self.whole = true;
                self.split = !matches!(http::request(packet), Look::Found(_));
                self.name = request.host;
            }
        } else if ssh::starts(stream) {
            self.protocol = Some(Protocol::Ssh);
            if let Look::Found(banner) = ssh::banner(stream) {
                self.whole = true;
                self.split = !matches!(ssh::banner(packet), Look::Found(_));
                self.name = Some(banner.software);
            }
        } else if let Look::Found(question) = dns::query_over_tcp(stream) {
            self.protocol = Some(Protocol::Dns);
            self.whole = true;
            self.split = !matches!(dns::query_over_tcp(packet), Look::Found(_));
            self.name = Some(question.name);
        }
    }

    fn udp(&mut self, stream: &[u8], datagram: &[u8]) {
        if let Look::Found(question) = dns::query(datagram) {
            self.protocol = Some(Protocol::Dns);
            self.whole = true;
            self.name = Some(question.name);
        } else if dtls::starts_hello(datagram) {
            self.protocol = Some(Protocol::Dtls);
            if let Look::Found(hello) = dtls::client_hello(datagram) {
                self.hello(&hello, Carrier::Dtls);
                self.ja3_string = Some(hello.ja3_string());
            }
        } else if let Look::Found(initial) = quic::initial(datagram) {
            self.protocol = Some(Protocol::Quic);
            let mut inside = initial.inside;
            if inside == quic::Inside::Part
                && let Look::Found(joined) = quic::initial(stream)
            {
                self.split = true;
                inside = joined.inside;
            }
            match inside {
                quic::Inside::Hello(hello) => self.hello(&hello, Carrier::Quic),
                _ => self.split = false,
            }
        }
    }

    fn hello(&mut self, hello: &ClientHello, carrier: Carrier) {
        self.whole = true;
        self.ja4 = Some(hello.ja4(carrier));
        self.alpn = hello.alpn.iter().map(|name| printable(name)).collect();
        self.name.clone_from(&hello.server_name);
    }

    /// What one classifier says, in a word for people: `-` where it has nothing to say.
    pub fn says(&self, classifier: Classifier) -> Cow<'_, str> {
        let named = |protocol| match (self.protocol == Some(protocol), self.whole, &self.name) {
            (false, _, _) => "-".into(),
            (true, false, _) => "yes, incomplete".into(),
            (true, true, None) => "yes, no name".into(),
            (true, true, Some(name)) => name.into(),
        };
        // The same without joining packets.
        let in_one = |protocol| match self.protocol == Some(protocol) && self.split {
            true => "yes, incomplete".into(),
            false => named(protocol),
        };
        match classifier {
            Classifier::Fet(variant) => match self.fet {
                Some(fet) => fet.verdict(variant).name().into(),
                None => "-".into(),
            },
            Classifier::Tls => named(Protocol::Tls),
            Classifier::TlsSegment => in_one(Protocol::Tls),
            Classifier::Quic => named(Protocol::Quic),
            Classifier::QuicDatagram => in_one(Protocol::Quic),
            Classifier::Dtls => named(Protocol::Dtls),
            Classifier::Http => named(Protocol::Http),
            Classifier::Ssh => named(Protocol::Ssh),
            Classifier::Dns => named(Protocol::Dns),
            Classifier::Entropy | Classifier::Length if self.first_packet_len == 0 => "-".into(),
            Classifier::Entropy => millis(self.entropy_millibits).into(),
            Classifier::Length if Window::PROBED.holds(self.first_packet_len) => {
                format!("{}, in the probed window", self.first_packet_len).into()
            }
            Classifier::Length => self.first_packet_len.to_string().into(),
        }
    }
}

/// Thousandths as a decimal number.
fn millis(value: u32) -> String {
    format!("{}.{:03}", value / 1000, value % 1000)
}
