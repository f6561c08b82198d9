//! `classify`: what the classifiers of `phantom-censor` say of every flow of a capture.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::path::PathBuf;

use clap::Args;
use comfy_table::{ContentArrangement, Table};
use indexmap::IndexMap;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use phantom_censor::capture::{Capture, CaptureError};
use phantom_censor::classify::{Classifier, Labels, Transport};
use phantom_censor::engine::addresses::Addresses;
use phantom_censor::engine::{Direction, Engine, Verdict};
use phantom_censor::file::units::Address;
use phantom_censor::flow::{Flow, FlowConfig, FlowTable};
use phantom_censor::packet::{Frame, FrameError, LinkType, Packet, parse};
use serde::Serialize;

use super::words::counted;
use super::{HOLDS, Stop, censors};
use crate::run::RunError;

/// Rows that a table for people has at most.
const TABLE_ROWS_MAX: usize = 1000;
/// Files below this are read too quickly for a bar, in bytes.
const BAR_FILE_BYTES_MIN: u64 = 8 << 20;

/// What `classify` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tcpdump -i any -w my.pcap 'tcp or udp'      capture; Ctrl-C ends it
  phantom-sim classify my.pcap                which flows are flagged, which names are seen
  phantom-sim classify my.pcap --rule tls --rule tls:segment
                                              names with and without joining segments
  zcat big.pcap.gz | phantom-sim classify - --csv > flows.csv
  phantom-sim classify my.pcap --censor gfw-2023  what a censor with all its rules would have done, packet by packet

A flow is flagged if its first data packet from the client looks fully encrypted (Wu et al., USENIX Security 2023): such
connections were blocked in China from 2021 to 2023. With --censor each flow is told with the first thing that the censor
does to it, by which rule and at which packet of the file, and how many packets it loses. Nobody sends again: what the two
ends would have done after a packet was lost is not in a capture. What the rules are and what they do not see: docs/CENSOR.md")]
pub struct ClassifyArgs {
    /// A pcap or pcapng file, or - for stdin
    pub file: PathBuf,
    /// One JSON object a flow, one a line, as flows end, and nothing else on stdout
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// CSV with a header, a line a flow, as flows end, and nothing else on stdout
    #[arg(long)]
    pub csv: bool,
    /// A rule whose verdict is told, again for more: fet:paper, fet:detect-py, fet:opengfw, tls, tls:segment, quic, quic:datagram, dtls, http, ssh, dns, entropy, length
    #[arg(long = "rule", value_name = "RULE", default_value = "fet:paper")]
    pub rules: Vec<Classifier>,
    /// A flow without packets for so long is over
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub idle: u64,
    /// Flows that are kept at once; one more, and the flow that was idle longest is told early and marked `forgotten`
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub flows: u32,
    /// Put a whole censor on the path: a name of `phantom-sim censors`, or a file ending in .toml
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub censor: Option<String>,
    /// Addresses behind the censor: packets from them go out, all others come in. Again or with commas for more
    #[arg(long, value_name = "CIDR", value_delimiter = ',', requires = "censor", value_parser = inside,
        default_value = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7")]
    pub inside: Vec<Address>,
    /// What the censor's chances follow from
    #[arg(long, value_name = "N", requires = "censor", default_value_t = 0)]
    pub seed: u64,
}

fn inside(text: &str) -> Result<Address, String> {
    match text.parse()? {
        Address::Endpoint(_) => Err("wanted an address or a prefix without a port".to_owned()),
        Address::List(_) => Err("wanted an address or a prefix: a capture knows no lists".to_owned()),
        address => Ok(address),
    }
}

/// A censor on the path, and what it did to flows that are going on.
struct Watch {
    engine: Engine,
    inside: Addresses,
    acts: BTreeMap<u64, Acts>,
    flows: u64,
    dropped: u64,
    /// Packets that came from inside.
    outbound: u64,
}

/// What a censor did to a flow.
#[derive(Clone, Copy, Debug, Default)]
struct Acts {
    /// The first verdict other than to let pass, the rule's place, and the packet's number in the file.
    first: Option<(&'static str, usize, u64)>,
    dropped: u64,
}

/// The same in JSON; CSV has the same columns with `censor_` before.
#[derive(Debug, Serialize)]
struct CensorRow<'a> {
    verdict: &'static str,
    rule: Option<&'a str>,
    packet: Option<u64>,
    dropped: u64,
}

impl Watch {
    fn new(args: &ClassifyArgs, word: &str) -> Result<Self, Stop> {
        let censor = censors::load(word)?;
        let mut config = censor.config(args.seed);
        config.flows.flows_max = args.flows as usize;
        let mut inside = Addresses::new();
        for address in &args.inside {
            match address {
                Address::Host(host) => inside.add(*host),
                Address::Endpoint(endpoint) => inside.add_endpoint(*endpoint),
                Address::Prefix(first, bits) => inside.add_prefix(*first, *bits),
                // Refused when it was read: a capture knows no lists.
                Address::List(_) => {}
            }
        }
        Ok(Self {
            engine: Engine::new(config, censor.rules()),
            inside,
            acts: BTreeMap::new(),
            flows: 0,
            dropped: 0,
            outbound: 0,
        })
    }

    /// A packet of a flow crosses.
    fn look(&mut self, flow: u64, number: u64, at_ns: u64, packet: &Packet<'_>) {
        let direction = match self.inside.has(packet.source) {
            true => Direction::Outbound,
            false => Direction::Inbound,
        };
        self.outbound += u64::from(direction == Direction::Outbound);
        let decision = self.engine.decide(at_ns, direction, packet);
        let Some(rule) = decision.rule else {
            return;
        };
        let flows = &mut self.flows;
        let acts = self.acts.entry(flow).or_insert_with(|| {
            *flows += 1;
            Acts::default()
        });
        acts.first
            .get_or_insert((verdict_name(&decision.verdict), rule, number));
        if matches!(decision.verdict, Verdict::Drop | Verdict::Reset { .. }) {
            acts.dropped += 1;
            self.dropped += 1;
        }
    }

    /// What is to be told besides: where scripts failed, what they printed, whether a model was asked, and that nobody was inside.
    fn remarks(&self) -> String {
        let mut text = String::new();
        for (place, rule) in self.engine.rules().iter().enumerate() {
            let Some(program) = self.engine.program(place) else {
                continue;
            };
            let faults = program.faults();
            if let Some(first) = &faults.first {
                text.push_str(&format!(
                    "\nrule {}: its script failed at {} packets, which passed; the first time: {first}",
                    rule.name, faults.packets
                ));
            }
            for line in program.said() {
                text.push_str(&format!("\nrule {} prints: {line}", rule.name));
            }
        }
        if self.outbound == 0 {
            text.push_str(
                "\nno packet came from inside, so that the censor saw nobody's client: which addresses are behind it? \
                 --inside CIDR (in a capture of `run --pcap`, those of the clients, for example 175.0.0.0/8)",
            );
        }
        if self.engine.uses_model() {
            text.push_str("\nit asks a model: another machine may come to other verdicts");
        }
        text
    }

    /// What was done to a flow that is over.
    fn take(&mut self, flow: u64) -> CensorRow<'_> {
        let acts = self.acts.remove(&flow).unwrap_or_default();
        let (verdict, rule, packet) = match acts.first {
            Some((verdict, rule, packet)) => (verdict, self.engine.rules().get(rule), Some(packet)),
            None => ("pass", None, None),
        };
        CensorRow {
            verdict,
            rule: rule.map(|rule| rule.name.as_str()),
            packet,
            dropped: acts.dropped,
        }
    }
}

impl CensorRow<'_> {
    fn cells(&self) -> [String; 4] {
        [
            self.verdict.to_owned(),
            self.rule.unwrap_or_default().to_owned(),
            self.packet.map_or(String::new(), |packet| packet.to_string()),
            self.dropped.to_string(),
        ]
    }

    fn text(&self) -> String {
        match (self.rule, self.packet) {
            (Some(rule), Some(packet)) => format!(
                "{} by {rule} at packet {packet}, {} lost",
                self.verdict, self.dropped
            ),
            _ => self.verdict.to_owned(),
        }
    }
}

const CENSOR_COLUMNS: [&str; 4] = ["censor_verdict", "censor_rule", "censor_packet", "censor_dropped"];

const fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Drop => "drop",
        Verdict::Reset { .. } => "reset",
        Verdict::Delay(_) => "delay",
        Verdict::Forge { .. } => "forge-dns",
    }
}

/// A flow in JSON; CSV has the same columns.
#[derive(Debug, Serialize)]
struct Row<'a> {
    flow: u64,
    transport: &'static str,
    client: String,
    server: String,
    first_ns: u64,
    last_ns: u64,
    /// The client's SYN was seen; null for UDP.
    syn: Option<bool>,
    packets_up: u64,
    packets_down: u64,
    bytes_up: u64,
    bytes_down: u64,
    protocol: Option<&'static str>,
    name: Option<&'a str>,
    whole: bool,
    split: bool,
    alpn: &'a [String],
    ja4: Option<&'a str>,
    ja3_string: Option<&'a str>,
    first_packet_bytes: u64,
    entropy_millibits: u32,
    popcount_millibits: u32,
    gap: bool,
    end: &'static str,
    verdicts: IndexMap<&'static str, String>,
    /// Only where a censor was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    censor: Option<CensorRow<'a>>,
}

impl<'a> Row<'a> {
    fn new(flow: &Flow, labels: &'a Labels, rules: &[Classifier], censor: Option<CensorRow<'a>>) -> Self {
        Self {
            flow: flow.number,
            transport: transport(flow),
            client: flow.client().to_string(),
            server: flow.server().to_string(),
            first_ns: flow.first_ns,
            last_ns: flow.last_ns,
            syn: (flow.transport == Transport::Tcp).then_some(flow.syn),
            packets_up: flow.up.packets,
            packets_down: flow.down.packets,
            bytes_up: flow.up.bytes,
            bytes_down: flow.down.bytes,
            protocol: labels.protocol.map(|protocol| protocol.name()),
            name: labels.name.as_deref(),
            whole: labels.whole,
            split: labels.split,
            alpn: &labels.alpn,
            ja4: labels.ja4.as_deref(),
            ja3_string: labels.ja3_string.as_deref(),
            first_packet_bytes: labels.first_packet_len,
            entropy_millibits: labels.entropy_millibits,
            popcount_millibits: labels.popcount_millibits,
            gap: flow.up.gap,
            end: flow.end.map_or("", |end| end.name()),
            verdicts: rules
                .iter()
                .map(|rule| (rule.name(), labels.says(*rule).into_owned()))
                .collect(),
            censor,
        }
    }

    /// The cells of CSV, in the order of [`CSV_COLUMNS`], then the verdicts, then the censor's if there is one.
    fn cells(&self) -> Vec<String> {
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let mut cells = vec![
            self.flow.to_string(),
            self.transport.to_owned(),
            self.client.clone(),
            self.server.clone(),
            self.first_ns.to_string(),
            self.last_ns.to_string(),
            self.syn.map_or(String::new(), |syn| syn.to_string()),
            self.packets_up.to_string(),
            self.packets_down.to_string(),
            self.bytes_up.to_string(),
            self.bytes_down.to_string(),
            text(self.protocol),
            text(self.name),
            self.whole.to_string(),
            self.split.to_string(),
            self.alpn.join(" "),
            text(self.ja4),
            text(self.ja3_string),
            self.first_packet_bytes.to_string(),
            self.entropy_millibits.to_string(),
            self.popcount_millibits.to_string(),
            self.gap.to_string(),
            self.end.to_owned(),
        ];
        cells.extend(self.verdicts.values().cloned());
        cells.extend(self.censor.iter().flat_map(CensorRow::cells));
        cells
    }
}

const CSV_COLUMNS: [&str; 23] = [
    "flow",
    "transport",
    "client",
    "server",
    "first_ns",
    "last_ns",
    "syn",
    "packets_up",
    "packets_down",
    "bytes_up",
    "bytes_down",
    "protocol",
    "name",
    "whole",
    "split",
    "alpn",
    "ja4",
    "ja3_string",
    "first_packet_bytes",
    "entropy_millibits",
    "popcount_millibits",
    "gap",
    "end",
];

/// Where flows go as they end.
enum Output<'a> {
    Json(BufWriter<&'a mut dyn Write>),
    Csv(Box<csv::Writer<&'a mut dyn Write>>),
    Table {
        out: &'a mut dyn Write,
        rows: Vec<(u64, Vec<String>)>,
        all: u64,
        midway: bool,
    },
}

impl<'a> Output<'a> {
    fn new(args: &ClassifyArgs, out: &'a mut dyn Write) -> Result<Self, Stop> {
        if args.json {
            return Ok(Self::Json(BufWriter::new(out)));
        }
        if args.csv {
            let mut writer = csv::Writer::from_writer(out);
            let censor = args.censor.iter().flat_map(|_| CENSOR_COLUMNS);
            writer
                .write_record(CSV_COLUMNS.into_iter().chain(names(&args.rules)).chain(censor))
                .map_err(of_csv)?;
            return Ok(Self::Csv(Box::new(writer)));
        }
        Ok(Self::Table {
            out,
            rows: Vec::new(),
            all: 0,
            midway: false,
        })
    }

    fn add(&mut self, flow: &Flow, rules: &[Classifier], watch: Option<&mut Watch>) -> Result<(), Stop> {
        let labels = flow.labels();
        let censor = watch.map(|watch| watch.take(flow.number));
        match self {
            Self::Json(writer) => {
                let line =
                    serde_json::to_string(&Row::new(flow, &labels, rules, censor)).map_err(|error| {
                        Stop::Run(RunError::Failed(format!(
                            "a flow does not pass through JSON: {error}"
                        )))
                    })?;
                writeln!(writer, "{line}").map_err(Stop::disk(WRITING))
            }
            Self::Csv(writer) => writer
                .write_record(Row::new(flow, &labels, rules, censor).cells())
                .map_err(of_csv),
            Self::Table {
                rows, all, midway, ..
            } => {
                *all += 1;
                if rows.len() < TABLE_ROWS_MAX {
                    let guessed = flow.transport == Transport::Tcp && !flow.syn;
                    *midway |= guessed;
                    let mut row = table_row(flow, &labels, rules, guessed);
                    row.extend(censor.map(|censor| censor.text()));
                    rows.push((flow.number, row));
                }
                Ok(())
            }
        }
    }

    fn finish(self, rules: &[Classifier], censored: bool) -> Result<(), Stop> {
        match self {
            Self::Json(mut writer) => writer.flush().map_err(Stop::disk(WRITING)),
            Self::Csv(mut writer) => writer.flush().map_err(Stop::disk(WRITING)),
            Self::Table {
                out,
                mut rows,
                all,
                midway,
            } => {
                rows.sort_unstable();
                let mut table = Table::new();
                table.set_content_arrangement(ContentArrangement::Dynamic);
                if table.width().is_none() {
                    table.set_width(160);
                }
                let header = ["client", "server", "over", "packets", "bytes", "label", "name"];
                table.set_header(
                    header
                        .into_iter()
                        .chain(names(rules))
                        .chain((!rules.contains(&Classifier::Entropy)).then_some("entropy"))
                        .chain(censored.then_some("censor")),
                );
                let more = all - rows.len() as u64;
                for (_, row) in rows {
                    table.add_row(row);
                }
                let mut text = format!("{table}\npackets and bytes: from the client / from the server\n");
                if midway {
                    text.push_str(
                        "*: no SYN was seen, so what is judged may not be the connection's first packet\n",
                    );
                }
                if more > 0 {
                    text.push_str(&format!("and {more} flows more: --csv and --json tell all\n"));
                }
                out.write_all(text.as_bytes()).map_err(Stop::disk(WRITING))
            }
        }
    }
}

const WRITING: &str = "writing the flows";

/// What was in the capture and is in no flow.
#[derive(Debug, Default)]
struct Left {
    fragments: u64,
    other_protocols: u64,
    not_ip: u64,
    malformed: u64,
    /// Packets of link types that are not read, by type, with the number of the first.
    links: IndexMap<u32, (u64, u64)>,
}

impl Left {
    /// Nothing if there is nothing.
    fn text(&self) -> String {
        let counts = [
            (self.fragments, "fragments"),
            (self.other_protocols, "neither TCP nor UDP"),
            (self.not_ip, "not IP"),
            (self.malformed, "malformed"),
        ];
        let mut parts: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{what} ({count})"))
            .collect();
        parts.extend(
            self.links
                .iter()
                .map(|(link, (count, _))| format!("of link type {link}, which is not read here ({count})")),
        );
        if parts.is_empty() {
            String::new()
        } else {
            format!("; packets in no flow: {}", parts.join(", "))
        }
    }
}

/// `phantom-sim classify`.
///
/// # Errors
/// The file cannot be read, is no capture, or is broken: then what stands before was told.
pub fn classify(args: &ClassifyArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Stop> {
    let shown = args.file.display();
    let (input, len): (Box<dyn Read>, Option<u64>) = if args.file.as_os_str() == "-" {
        (Box::new(std::io::stdin().lock()), None)
    } else {
        let file = File::open(&args.file)
            .map_err(|error| Stop::Usage(format!("{shown}: cannot be opened: {error}")))?;
        let len = file.metadata().map_or(0, |data| data.len());
        (Box::new(file), Some(len))
    };
    let broken = |error: CaptureError| match error {
        CaptureError::Io { place, error } if error.kind() != ErrorKind::IsADirectory => Stop::Disk {
            what: format!("{shown}: reading {place}"),
            error,
        },
        error => Stop::Usage(format!("{shown}: {error}")),
    };
    let mut watch = match &args.censor {
        Some(word) => Some(Watch::new(args, word)?),
        None => None,
    };
    let mut capture = Capture::new(input).map_err(broken)?;
    let mut table = FlowTable::new(FlowConfig {
        flows_max: args.flows as usize,
        idle_ns: args.idle * 1_000_000_000,
        ..FlowConfig::default()
    });
    let mut rules = args.rules.clone();
    // Each once, in the order given.
    let mut seen = std::collections::BTreeSet::new();
    rules.retain(|rule| seen.insert(*rule));
    let mut output = Output::new(args, out)?;
    let mut left = Left::default();
    let mut written = Ok(());
    let bar = progress(len);
    let ended = loop {
        let record = match capture.read() {
            Ok(Some(record)) => record,
            Ok(None) => break Ok(()),
            Err(error) => break Err(broken(error)),
        };
        let frame = LinkType::from_number(record.link).and_then(|link| parse(link, record.data));
        match frame {
            Ok(Frame::Packet(packet)) => {
                let slot = table.add(record.at_ns, &packet, |flow| {
                    if written.is_ok() {
                        written = output.add(&flow, &rules, watch.as_mut());
                    }
                });
                if let (Some(watch), Some(flow)) = (&mut watch, table.flow(slot)) {
                    watch.look(flow.number, record.number, record.at_ns, &packet);
                }
            }
            Ok(Frame::Fragment { .. }) => left.fragments += 1,
            Ok(Frame::OtherProtocol(_)) => left.other_protocols += 1,
            Ok(Frame::NotIp) => left.not_ip += 1,
            Err(FrameError::Malformed) => left.malformed += 1,
            Err(FrameError::UnknownLink(link)) => left.links.entry(link).or_insert((0, record.number)).0 += 1,
        }
        if written.is_err() {
            break Ok(());
        }
        if capture.packets().is_multiple_of(8192) && !bar.is_hidden() {
            bar.set_position(capture.offset());
            bar.set_message(format!("{} packets, {} flows", capture.packets(), table.flows()));
        }
    };
    bar.finish_and_clear();
    written?;
    let (flows, forgotten) = (table.flows(), table.forgotten());
    // Where nothing could be read, the reason is the answer.
    if flows == 0
        && ended.is_ok()
        && let Some((link, (_, number))) = left.links.first()
    {
        return Err(Stop::Usage(format!(
            "{shown}: packet {number}: {}; capture on another device, as with `tcpdump -i any`",
            FrameError::UnknownLink(*link)
        )));
    }
    let mut written = Ok(());
    table.finish(|flow| {
        if written.is_ok() {
            written = output.add(&flow, &rules, watch.as_mut());
        }
    });
    written?;
    output.finish(&rules, watch.is_some())?;
    let mut summary = format!(
        "{}, {}{}",
        counted(capture.packets(), "packet"),
        counted(flows, "flow"),
        left.text()
    );
    if forgotten > 0 {
        summary.push_str(&format!(
            "; {forgotten} flows were forgotten to make room before they were closed, and what follows of them is told as other flows: raise --flows above {}",
            args.flows
        ));
    }
    if let (Some(watch), Some(word)) = (&watch, &args.censor) {
        summary.push_str(&format!(
            "\ncensor {word}: acted on {}, {} lost",
            counted(watch.flows, "flow"),
            counted(watch.dropped, "packet")
        ));
        summary.push_str(&watch.remarks());
    }
    writeln!(err, "{summary}").map_err(Stop::disk("writing to stderr"))?;
    ended.map(|()| HOLDS)
}

fn table_row(flow: &Flow, labels: &Labels, rules: &[Classifier], guessed: bool) -> Vec<String> {
    let mark = if guessed && labels.first_packet_len > 0 {
        "*"
    } else {
        ""
    };
    let label = match (labels.protocol, labels.whole) {
        (None, _) => "-".to_owned(),
        (Some(protocol), true) => protocol.name().to_owned(),
        (Some(protocol), false) => format!("{}, incomplete", protocol.name()),
    };
    let mut row = vec![
        flow.client().to_string(),
        flow.server().to_string(),
        transport(flow).to_owned(),
        format!("{} / {}", flow.up.packets, flow.down.packets),
        format!("{} / {}", flow.up.bytes, flow.down.bytes),
        label,
        labels.name.clone().unwrap_or_else(|| "-".to_owned()),
    ];
    row.extend(rules.iter().map(|rule| {
        let starred = matches!(rule, Classifier::Fet(_));
        format!("{}{}", labels.says(*rule), if starred { mark } else { "" })
    }));
    if !rules.contains(&Classifier::Entropy) {
        row.push(labels.says(Classifier::Entropy).into_owned());
    }
    row
}

const fn transport(flow: &Flow) -> &'static str {
    match flow.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn names(rules: &[Classifier]) -> impl Iterator<Item = &'static str> {
    rules.iter().map(|rule| rule.name())
}

fn of_csv(error: csv::Error) -> Stop {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Stop::disk(WRITING)(error),
        kind => Stop::Run(RunError::Failed(format!(
            "a flow does not pass through CSV: {kind:?}"
        ))),
    }
}

fn progress(len: Option<u64>) -> ProgressBar {
    use std::io::IsTerminal as _;
    let large = len.is_none_or(|len| len >= BAR_FILE_BYTES_MIN);
    let target = if large && std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(8)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(len, target);
    let template = if len.is_some() {
        "{bar:24} {bytes} of {total_bytes}  {msg}  ETA {eta}"
    } else {
        "{bytes}  {msg}"
    };
    // The template is fixed and good; the plain bar would do otherwise.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
