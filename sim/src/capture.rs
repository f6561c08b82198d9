//! A capture of a world, as Wireshark reads it: an interface for each place where somebody watches.
//!
//! Real IP, TCP and UDP headers with check sums (see `frame`), nanoseconds of simulated time, and what the censor did as a comment on
//! the packet. Packets stand in the order of time. The border sees a packet when it is sent; everybody sees it as it is outside of
//! any NAT, and with the hops that it began with.

mod frame;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;
use phantom_censor::capture::{Notes, PcapNgWriter};
use phantom_core::units::{Instant, WallTime};

use self::frame::frame;
use crate::host::PeerId;
use crate::swarm::border::{Place, Seen, Tap, Verdict};

/// What a block of the file has besides the packet, a comment and padding included.
const BLOCK_MAX: u64 = 128;

/// Where a capture watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Vantage {
    /// The border, before the censor, with its verdicts as comments
    Border,
    /// The border behind the censor: what it lets through, and what it forges
    Behind,
    /// Each --pcap-host: what leaves it and what arrives there, also what never crosses the border
    Hosts,
}

/// What is captured, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// The file.
    pub path: PathBuf,
    /// It does not become larger, in bytes.
    pub bytes_max: u64,
    /// Only packets from or to hosts of these names, each of which is watched if [`Vantage::Hosts`] is; empty: all.
    pub hosts: Vec<String>,
    /// Where it watches.
    pub vantages: Vec<Vantage>,
}

/// A capture that a world and whoever ordered it share.
#[derive(Clone, Debug)]
pub struct SharedCapture(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    config: CaptureConfig,
    /// What was there before stays in it until the world begins: a run that is refused empties no older capture.
    file: Option<File>,
    /// From then on; gone when it is finished, full or broken.
    writer: Option<PcapNgWriter<BufWriter<File>>>,
    /// The date at which the world begins, in nanoseconds since 1970.
    begins_ns: u64,
    /// Those of the names in `config`, and the interface of the first, if they have any.
    hosts: Vec<PeerId>,
    hosts_from: Option<u32>,
    /// What was told and is not yet written, by time and order: some packets are told before they are there.
    waiting: BTreeMap<(Instant, u64), Waiting>,
    waiting_bytes: u64,
    told: u64,
    /// Nothing more fits.
    full: bool,
    summary: Summary,
    broken: Option<io::Error>,
}

/// A packet to be written.
#[derive(Debug)]
struct Waiting {
    interface: u32,
    frame: Vec<u8>,
    comment: Option<String>,
    inbound: Option<bool>,
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
    /// Opens the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(mut config: CaptureConfig) -> io::Result<Self> {
        let mut known = BTreeSet::new();
        config.hosts.retain(|name| known.insert(name.clone()));
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&config.path)?;
        let hosts_from = config.vantages.contains(&Vantage::Hosts);
        let hosts_from = hosts_from.then(|| (config.interfaces().len() - config.hosts.len()) as u32);
        Ok(Self(Arc::new(Mutex::new(State {
            summary: Summary::default(),
            config,
            file: Some(file),
            writer: None,
            begins_ns: 0,
            hosts: Vec::new(),
            hosts_from,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            told: 0,
            full: false,
            broken: None,
        }))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of the hosts that are asked for.
    pub fn hosts(&self) -> Vec<String> {
        self.lock().config.hosts.clone()
    }

    /// The world begins at this date, and these are the hosts that are asked for, in their order. What was in the file is lost.
    pub fn begin(&self, date: WallTime, hosts: &[PeerId]) {
        let mut state = self.lock();
        state.begins_ns = date.as_unix_secs().saturating_mul(1_000_000_000);
        state.hosts = hosts.to_vec();
        if let Err(error) = state.begin() {
            state.broken = Some(error);
        }
    }

    /// Ends the file; what is captured afterwards is lost.
    ///
    /// # Errors
    /// The first that writing met.
    pub fn finish(&self) -> io::Result<Summary> {
        let mut state = self.lock();
        state.write_before(None);
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
    fn watches(&self, host: PeerId) -> bool {
        self.lock().interface_of(host).is_some()
    }

    fn on_packet(&mut self, at: Instant, place: &Place<'_>, seen: &Seen) {
        self.lock().add(at, place, seen);
    }
}

impl State {
    fn begin(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        // A pipe has no length.
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        let writer = PcapNgWriter::new(BufWriter::new(file), &self.config.interfaces())?;
        self.summary.bytes = writer.bytes();
        self.writer = Some(writer);
        Ok(())
    }

    fn interface(&self, vantage: Vantage) -> Option<u32> {
        let border = self.config.vantages.contains(&Vantage::Border);
        match vantage {
            Vantage::Border => border.then_some(0),
            Vantage::Behind => self.config.vantages.contains(&vantage).then_some(border.into()),
            Vantage::Hosts => None,
        }
    }

    /// Those of hosts come last.
    fn interface_of(&self, host: PeerId) -> Option<u32> {
        let place = self.hosts.iter().position(|wanted| *wanted == host)?;
        Some(self.hosts_from? + place as u32)
    }

    fn add(&mut self, at: Instant, place: &Place<'_>, seen: &Seen) {
        if self.writer.is_none() {
            return;
        }
        let wanted = |end: &PeerId| self.hosts.contains(end);
        if !self.hosts.is_empty() && !seen.ends.iter().any(wanted) {
            return;
        }
        let (interface, inbound, comment) = match place {
            Place::Border(verdict) => (self.interface(Vantage::Border), None, comment(verdict)),
            Place::Behind { forged } => {
                let comment = forged.then(|| "censor: forged".to_owned());
                (self.interface(Vantage::Behind), None, comment)
            }
            Place::Leaving(host) => (self.interface_of(*host), Some(false), None),
            Place::Arriving(host) => (self.interface_of(*host), Some(true), None),
        };
        // These two are told when they happen: nothing that is told later is before them.
        if matches!(place, Place::Border(_) | Place::Leaving(_)) {
            self.write_before(Some(at));
        }
        let Some(interface) = interface else { return };
        let Some(frame) = frame(seen) else { return };
        let bytes = frame.len() as u64 + BLOCK_MAX;
        let taken = self.writer.as_ref().map_or(0, PcapNgWriter::bytes) + self.waiting_bytes;
        self.full |= taken + bytes > self.config.bytes_max;
        if self.full {
            self.summary.left_out += 1;
            return;
        }
        self.waiting_bytes += bytes;
        self.told += 1;
        let waiting = Waiting {
            interface,
            frame,
            comment,
            inbound,
        };
        self.waiting.insert((at, self.told), waiting);
    }

    /// Writes what was before `now`; all of it if that is not said.
    fn write_before(&mut self, now: Option<Instant>) {
        while let Some(writer) = &mut self.writer
            && let Some(first) = self.waiting.first_entry()
            && now.is_none_or(|now| first.key().0 < now)
        {
            let ((at, _), packet) = first.remove_entry();
            self.waiting_bytes -= packet.frame.len() as u64 + BLOCK_MAX;
            let at_ns = self.begins_ns + at.as_nanos();
            let notes = Notes {
                comment: packet.comment.as_deref(),
                inbound: packet.inbound,
            };
            match writer.packet(packet.interface, at_ns, &packet.frame, notes) {
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

impl CaptureConfig {
    /// Everything that crosses, up to 100 MB, and what hosts that are asked for see.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            bytes_max: 100_000_000,
            hosts: Vec::new(),
            vantages: vec![Vantage::Border, Vantage::Hosts],
        }
    }

    /// The names of the interfaces, in the order of their numbers.
    fn interfaces(&self) -> Vec<&str> {
        let border = [(Vantage::Border, "border"), (Vantage::Behind, "behind-censor")];
        let border = border
            .iter()
            .filter(|(vantage, _)| self.vantages.contains(vantage));
        let hosts = self.hosts.iter().map(String::as_str);
        let hosts = hosts.filter(|_| self.vantages.contains(&Vantage::Hosts));
        border.map(|(_, name)| *name).chain(hosts).collect()
    }
}
