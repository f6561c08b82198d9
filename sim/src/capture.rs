//! A capture of what crosses the border of a world, as Wireshark reads it.
//!
//! Real IP, TCP and UDP headers with check sums, nanoseconds of simulated time, and what the censor did as a comment on the
//! packet. A packet stands where the censor saw it: when it was sent, outside of any NAT. Selective acknowledgements and time
//! stamps are not written, nor is what does not cross the border.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etherparse::PacketBuilder;
use phantom_censor::capture::PcapNgWriter;
use phantom_core::units::WallTime;

use crate::swarm::border::{Kind, Packet, Protocol, Tap, Verdict};

/// Hops that a packet has left.
const TTL: u8 = 64;
/// Windows are written in units of so many bytes (a shift of 7), as if the handshake had said so.
const WINDOW_UNIT: u32 = 128;

/// What is captured, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// The file.
    pub path: PathBuf,
    /// It does not become larger, in bytes.
    pub bytes_max: u64,
    /// Only packets from or to hosts of these names; empty: all.
    pub hosts: Vec<String>,
}

/// A capture that a world and whoever ordered it share.
#[derive(Clone, Debug)]
pub struct SharedCapture(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    config: CaptureConfig,
    /// Gone when it is finished, full or broken.
    writer: Option<PcapNgWriter<BufWriter<File>>>,
    /// The date at which the world begins, in nanoseconds since 1970.
    begins_ns: u64,
    addresses: BTreeSet<IpAddr>,
    summary: Summary,
    broken: Option<io::Error>,
}

/// What became of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets written.
    pub packets: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Packets that were left out because the file was full.
    pub left_out: u64,
}

impl PartialEq for SharedCapture {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedCapture {}

impl SharedCapture {
    /// Begins the file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(config: CaptureConfig) -> io::Result<Self> {
        let file = BufWriter::new(File::create(&config.path)?);
        let writer = PcapNgWriter::new(file, &["border"])?;
        Ok(Self(Arc::new(Mutex::new(State {
            summary: Summary {
                bytes: writer.bytes(),
                ..Summary::default()
            },
            config,
            writer: Some(writer),
            begins_ns: 0,
            addresses: BTreeSet::new(),
            broken: None,
        }))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only packets from or to hosts of these names; empty: all.
    pub fn hosts(&self) -> Vec<String> {
        self.lock().config.hosts.clone()
    }

    /// The world begins at this date, and the hosts that are asked for have these addresses.
    pub fn begin(&self, date: WallTime, addresses: impl IntoIterator<Item = IpAddr>) {
        let mut state = self.lock();
        state.begins_ns = date.as_unix_secs().saturating_mul(1_000_000_000);
        state.addresses = addresses.into_iter().collect();
    }

    /// Ends the file; what is captured afterwards is lost.
    ///
    /// # Errors
    /// The first that writing met.
    pub fn finish(&self) -> io::Result<Summary> {
        let mut state = self.lock();
        if let Some(writer) = state.writer.take() {
            writer.finish()?;
        }
        match state.broken.take() {
            Some(error) => Err(error),
            None => Ok(state.summary),
        }
    }

    /// Where it goes.
    pub fn path(&self) -> PathBuf {
        self.lock().config.path.clone()
    }
}

impl Tap for SharedCapture {
    fn on_packet(&mut self, packet: &Packet, verdict: &Verdict) {
        self.lock().add(packet, verdict);
    }
}

impl State {
    fn add(&mut self, packet: &Packet, verdict: &Verdict) {
        let Some(writer) = &mut self.writer else { return };
        let wanted = |end: &SocketAddr| self.addresses.contains(&end.ip());
        if !self.config.hosts.is_empty() && !wanted(&packet.src) && !wanted(&packet.dst) {
            return;
        }
        let Some(frame) = frame(packet) else { return };
        // A block adds its headers and a comment.
        if writer.bytes() + frame.len() as u64 + 128 > self.config.bytes_max {
            self.summary.left_out += 1;
            return;
        }
        let at_ns = self.begins_ns + packet.at.as_nanos();
        let comment = comment(verdict);
        match writer.packet(0, at_ns, &frame, comment.as_deref()) {
            Ok(()) => {
                self.summary.packets += 1;
                self.summary.bytes = writer.bytes();
            }
            Err(error) => {
                self.broken = Some(error);
                self.writer = None;
            }
        }
    }
}

fn comment(verdict: &Verdict) -> Option<String> {
    let said = match verdict {
        Verdict::Pass => return None,
        Verdict::Drop => "dropped".to_owned(),
        Verdict::Reset { client, server } => {
            let ends = match (client, server) {
                (true, true) => "both ends",
                (true, false) => "the client",
                _ => "the server",
            };
            format!("dropped, reset to {ends}")
        }
        Verdict::ForgeDns { addresses, .. } => format!("answered with {} forged addresses", addresses.len()),
        Verdict::Delay(by) => format!("delayed by {} ms", by.as_millis()),
    };
    Some(format!("censor: {said}"))
}

/// The packet with its headers; `None` if its addresses do not go together or it is too long.
fn frame(packet: &Packet) -> Option<Vec<u8>> {
    let ip = match (packet.src.ip(), packet.dst.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.octets(), destination.octets(), TTL)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.octets(), destination.octets(), TTL)
        }
        _ => return None,
    };
    let (source, destination) = (packet.src.port(), packet.dst.port());
    let mut frame = Vec::with_capacity(packet.payload.len() + 60);
    let written = match packet.protocol {
        Protocol::Udp | Protocol::Dns => ip.udp(source, destination).write(&mut frame, &packet.payload),
        Protocol::Tcp => {
            let tcp = packet.tcp;
            let window = (tcp.window / WINDOW_UNIT).min(u16::MAX.into()) as u16;
            let mut segment = ip.tcp(source, destination, tcp.seq, window);
            segment = match packet.kind {
                Kind::Syn => segment.syn(),
                Kind::SynAck => segment.syn().ack(tcp.ack),
                Kind::Reset => segment.rst().ack(tcp.ack),
                _ => segment.ack(tcp.ack),
            };
            if tcp.fin {
                segment = segment.fin();
            }
            if tcp.push {
                segment = segment.psh();
            }
            segment.write(&mut frame, &packet.payload)
        }
    };
    written.ok().map(|()| frame)
}

impl CaptureConfig {
    /// Everything that crosses, up to 100 MB.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            bytes_max: 100_000_000,
            hosts: Vec::new(),
        }
    }
}
