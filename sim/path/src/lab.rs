//! A laboratory: transfers over two links, without hosts or programs. What the machines are measured in, alone and
//! beside a real kernel.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::link::{Fate, Link, LinkConfig};
use crate::police::Policer;
use crate::tcp::{Ack, Receiver, ReceiverConfig, SYN_BYTES, Segment, Sender, SenderConfig, SenderCounters};

/// The path that flows share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Path {
    /// From the senders to the receivers.
    pub forth: LinkConfig,
    /// Back.
    pub back: LinkConfig,
}

/// One transfer.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Bytes.
    pub bytes: u64,
    /// When it is dialled.
    pub start_ns: u64,
    /// A policer of its own on the way forth: bits per second and bytes of burst.
    pub policed: Option<(u64, u64)>,
    /// The program writes so many bytes at a time, and so often; `None`: all at once.
    pub paced: Option<(u64, u64)>,
    /// The reader takes so many bytes at a time, and so often; `None`: all at once.
    pub read: Option<(u64, u64)>,
    /// How its sender behaves.
    pub sender: SenderConfig,
    /// How its receiver behaves.
    pub receiver: ReceiverConfig,
}

impl Flow {
    /// All at once, by the defaults.
    pub fn new(bytes: u64) -> Self {
        Self {
            bytes,
            start_ns: 0,
            policed: None,
            paced: None,
            read: None,
            sender: SenderConfig::default(),
            receiver: ReceiverConfig::default(),
        }
    }
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// From the dial to the last byte's arrival; `None`: it did not end in time.
    pub took_ns: Option<u64>,
    /// Bytes that arrived.
    pub arrived: u64,
    /// The window of its sender at the end, in segments.
    pub window_segments: u32,
    /// What its sender did.
    pub counters: SenderCounters,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When.
    pub at_ns: u64,
    /// Bytes that its program has written.
    pub written: u64,
    /// Bytes that have arrived.
    pub arrived: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Dial(u8),
    Syn,
    SynAck,
    Established,
    Segment(Segment),
    Ack(Ack),
    SenderTimer,
    ReceiverTimer,
    Write,
    Read,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Event {
    at_ns: u64,
    order: u64,
    flow: usize,
    what: What,
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.order).cmp(&(other.at_ns, other.order))
    }
}

struct Running {
    flow: Flow,
    policer: Option<Policer>,
    dialled_ns: u64,
    answered_ns: u64,
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    /// For which time a timer event is in the heap.
    sender_timer_ns: u64,
    receiver_timer_ns: u64,
    outcome: Outcome,
}

/// All transfers of a run.
pub struct Lab {
    forth: Link,
    back: Link,
    flows: Vec<Running>,
    heap: BinaryHeap<Reverse<Event>>,
    order: u64,
    now_ns: u64,
    /// Segments with data that were sent.
    pub segments: u64,
    out: Vec<Segment>,
}

impl Lab {
    /// A path with these flows, all random draws by `seed`.
    pub fn new(path: Path, flows: &[Flow], seed: u64) -> Self {
        let mut lab = Self {
            forth: Link::new(path.forth, seed.wrapping_mul(2)),
            back: Link::new(path.back, seed.wrapping_mul(2) + 1),
            flows: Vec::new(),
            heap: BinaryHeap::new(),
            order: 0,
            now_ns: 0,
            segments: 0,
            out: Vec::new(),
        };
        for (number, flow) in flows.iter().enumerate() {
            lab.flows.push(Running {
                flow: *flow,
                policer: flow.policed.map(|(rate, burst)| Policer::new(rate, burst)),
                dialled_ns: 0,
                answered_ns: 0,
                sender: None,
                receiver: None,
                sender_timer_ns: u64::MAX,
                receiver_timer_ns: u64::MAX,
                outcome: Outcome::default(),
            });
            lab.at(flow.start_ns, number, What::Dial(0));
        }
        lab
    }

    /// Runs until all transfers have ended or `until_ns`.
    pub fn run(self, until_ns: u64) -> (Vec<Outcome>, u64) {
        self.watch(until_ns, |_, _| {})
    }

    /// The same; after each event `seen` is told of which flow it was, and how that stands.
    pub fn watch(mut self, until_ns: u64, mut seen: impl FnMut(usize, Standing)) -> (Vec<Outcome>, u64) {
        while let Some(Reverse(event)) = self.heap.pop() {
            if event.at_ns > until_ns {
                break;
            }
            self.now_ns = event.at_ns;
            self.handle(event);
            let flow = &self.flows[event.flow];
            seen(
                event.flow,
                Standing {
                    at_ns: event.at_ns,
                    written: flow.sender.as_ref().map_or(0, Sender::written),
                    arrived: flow.outcome.arrived,
                },
            );
            if self.flows.iter().all(|flow| flow.outcome.took_ns.is_some()) {
                break;
            }
        }
        let outcomes = self.flows.iter().map(|flow| Outcome {
            counters: flow.sender.as_ref().map(Sender::counters).unwrap_or_default(),
            window_segments: flow.sender.as_ref().map_or(0, Sender::window_segments),
            ..flow.outcome
        });
        (outcomes.collect(), self.segments)
    }

    fn at(&mut self, at_ns: u64, flow: usize, what: What) {
        self.order += 1;
        self.heap.push(Reverse(Event {
            at_ns,
            order: self.order,
            flow,
            what,
        }));
    }

    fn go_forth(&mut self, flow: usize, bytes: u32, what: What) {
        if let Some(policer) = &mut self.flows[flow].policer
            && !policer.passes(self.now_ns, bytes)
        {
            return;
        }
        let fate = self.forth.enter(self.now_ns, bytes);
        self.arrive(flow, fate, what);
    }

    fn go_back(&mut self, flow: usize, bytes: u32, what: What) {
        let fate = self.back.enter(self.now_ns, bytes);
        self.arrive(flow, fate, what);
    }

    fn arrive(&mut self, flow: usize, fate: Fate, what: What) {
        match fate {
            Fate::Arrives(at) => self.at(at, flow, what),
            Fate::Twice(first, second) => {
                self.at(first, flow, what);
                self.at(second, flow, what);
            }
            Fate::Lost | Fate::Overflow => {}
        }
    }

    fn handle(&mut self, event: Event) {
        let (now, number) = (self.now_ns, event.flow);
        match event.what {
            What::Dial(tries) => {
                if self.flows[number].sender.is_some() || tries > 6 {
                    return;
                }
                let flow = &mut self.flows[number];
                flow.dialled_ns = now;
                self.go_forth(number, SYN_BYTES, What::Syn);
                let wait = crate::tcp::wait_ns(now, 1_000_000 << tries);
                self.at(wait, number, What::Dial(tries + 1));
            }
            What::Syn => {
                self.flows[number].answered_ns = now;
                self.go_back(number, SYN_BYTES, What::SynAck);
            }
            What::SynAck => self.established(number),
            What::Established => self.receive_from(number),
            What::Segment(segment) => {
                self.receive_from(number);
                self.segment_arrives(number, &segment);
            }
            What::Ack(ack) => self.sender(number, |sender, out| {
                sender.ack(now, &ack, &mut |segment| out.push(segment));
            }),
            What::SenderTimer => {
                if self.flows[number].sender_timer_ns == now {
                    self.flows[number].sender_timer_ns = u64::MAX;
                    self.sender(number, |sender, out| {
                        sender.timer(now, &mut |segment| out.push(segment));
                    });
                }
            }
            What::ReceiverTimer => {
                if self.flows[number].receiver_timer_ns == now {
                    self.flows[number].receiver_timer_ns = u64::MAX;
                    self.receiver(number, |receiver| receiver.timer(now));
                }
            }
            What::Write => self.write(number),
            What::Read => self.read(number),
        }
    }

    fn established(&mut self, number: usize) {
        let now = self.now_ns;
        let flow = &mut self.flows[number];
        if flow.sender.is_some() {
            return;
        }
        let rtt_us = ((now - flow.dialled_ns) / 1_000) as u32;
        let receiver = Receiver::new(flow.flow.receiver, now, 0);
        let window = receiver.window_end();
        flow.sender = Some(Sender::new(flow.flow.sender, now, rtt_us, window));
        self.go_forth(number, crate::tcp::HEADER_BYTES, What::Established);
        self.write(number);
    }

    fn write(&mut self, number: usize) {
        let now = self.now_ns;
        let flow = &self.flows[number];
        let written = flow.sender.as_ref().map_or(0, Sender::written);
        let left = flow.flow.bytes - written;
        let bytes = match flow.flow.paced {
            Some((bytes, every_ns)) if bytes < left => {
                self.at(now + every_ns, number, What::Write);
                bytes
            }
            _ => left,
        };
        self.sender(number, |sender, out| {
            sender.write(now, bytes, &mut |segment| out.push(segment));
        });
    }

    fn receive_from(&mut self, number: usize) {
        let now = self.now_ns;
        let flow = &mut self.flows[number];
        let rtt_us = ((now - flow.answered_ns) / 1_000) as u32;
        let config = flow.flow.receiver;
        if flow.receiver.is_none() {
            flow.receiver = Some(Receiver::new(config, now, rtt_us));
            if flow.flow.read.is_some() {
                self.read(number);
            }
        }
    }

    fn segment_arrives(&mut self, number: usize, segment: &Segment) {
        let now = self.now_ns;
        self.receiver(number, |receiver| receiver.segment(now, segment));
        let flow = &mut self.flows[number];
        let Some(receiver) = &flow.receiver else { return };
        flow.outcome.arrived = receiver.next();
        if flow.outcome.arrived == flow.flow.bytes && flow.outcome.took_ns.is_none() {
            flow.outcome.took_ns = Some(now - flow.flow.start_ns);
        }
        if flow.flow.read.is_none() {
            self.read(number);
        }
    }

    fn read(&mut self, number: usize) {
        let now = self.now_ns;
        let bytes = match self.flows[number].flow.read {
            Some((bytes, every_ns)) => {
                self.at(now + every_ns, number, What::Read);
                bytes
            }
            None => u64::MAX,
        };
        self.receiver(number, |receiver| receiver.read(now, bytes));
    }

    /// Lets a sender act, and puts what it sends on the way.
    fn sender(&mut self, number: usize, act: impl FnOnce(&mut Sender, &mut Vec<Segment>)) {
        let mut out = std::mem::take(&mut self.out);
        let flow = &mut self.flows[number];
        let Some(sender) = &mut flow.sender else { return };
        act(sender, &mut out);
        let timer = sender.timer_ns();
        if let Some(at) = timer
            && at < flow.sender_timer_ns
        {
            flow.sender_timer_ns = at;
            self.at(at, number, What::SenderTimer);
        }
        for segment in out.drain(..) {
            self.segments += 1;
            self.go_forth(number, segment.wire_bytes(), What::Segment(segment));
        }
        self.out = out;
    }

    /// Lets a receiver act, and puts what it answers on the way.
    fn receiver(&mut self, number: usize, act: impl FnOnce(&mut Receiver) -> Option<Ack>) {
        let flow = &mut self.flows[number];
        let Some(receiver) = &mut flow.receiver else {
            return;
        };
        let ack = act(receiver);
        let timer = receiver.timer_ns();
        if let Some(at) = timer
            && at < flow.receiver_timer_ns
        {
            flow.receiver_timer_ns = at;
            self.at(at, number, What::ReceiverTimer);
        }
        if let Some(ack) = ack {
            self.go_back(number, ack.wire_bytes(), What::Ack(ack));
        }
    }
}
