//! The thread between two hosts: reads what they send, and delivers it when the link says.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use phantom_path::link::{Fate, Link};
use phantom_path::police::Policer;
use tun_rs::SyncDevice;

use super::clock::Clock;
use super::realtime::start_forwarding;
use crate::packet::{Again, Header};
use crate::{Lateness, Plan, RigError};

/// How long the thread sleeps at most while transfers run. Whoever wakes a thread late wakes it late for this too, so that
/// stalls longer than it are seen even where no packet was due.
const WATCH_NS: u64 = 4_000_000;
/// The same while nothing runs: how soon it sees that it shall end.
const IDLE_NS: u64 = 20_000_000;
/// Packets read from one side before those that are due are delivered.
const AT_ONCE: usize = 256;
/// Buffers kept for the next packets.
const SPARE: usize = 4_096;
/// No packet is longer than what the devices carry.
const PACKET_BYTES: usize = 2_048;
const LATE_1MS: u64 = 1_000_000;

/// Both directions and the thread that serves them.
pub(super) struct Forwarder {
    traffic: Arc<Mutex<Traffic>>,
    clock: Clock,
    thread: Option<JoinHandle<()>>,
    realtime: bool,
}

/// What is under way.
#[derive(Default)]
struct Traffic {
    /// `None`: no transfer runs, and what is sent is thrown away.
    ways: Option<[Way; 2]>,
    late_max_ns: u64,
    late_1ms: u64,
    delivered: u64,
    /// The system's refusal to take or give a packet.
    broken: Option<io::Error>,
    end: bool,
    spare: Vec<Vec<u8>>,
}

/// One direction.
struct Way {
    link: Link,
    /// By the sender's port.
    policers: BTreeMap<u16, Policer>,
    again: BTreeMap<u16, Again>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    entered: u64,
}

/// In the order in which they are due, and among those of one time in that in which they entered.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due_ns: u64,
    order: u64,
    packet: Vec<u8>,
}

/// What came of a plan's transfers on the way.
pub(super) struct Passed {
    pub(super) late: Lateness,
    /// Data segments sent again, by the sender's port.
    pub(super) again: BTreeMap<u16, u64>,
}

impl Forwarder {
    /// Starts between the devices of two hosts.
    pub(super) fn start(devices: [SyncDevice; 2], clock: Clock) -> Result<Self, RigError> {
        let traffic = Arc::new(Mutex::new(Traffic::default()));
        let own = Arc::clone(&traffic);
        let (thread, realtime) = start_forwarding("forward", move || forward(&devices, &own, clock))?;
        Ok(Self {
            traffic,
            clock,
            thread: Some(thread),
            realtime,
        })
    }

    /// Whether the thread has the priority that it wants.
    pub(super) fn realtime(&self) -> bool {
        self.realtime
    }

    /// From now on packets pass as the plan says. `ports` are those of its senders, in its order; the draws are those of
    /// [`phantom_path::lab::Lab`] with this seed.
    pub(super) fn open(&self, plan: &Plan, ports: &[u16], seed: u64) {
        let policers = plan.flows.iter().zip(ports).filter_map(|(flow, port)| {
            let (rate, burst) = flow.policed?;
            Some((*port, Policer::new(rate, burst)))
        });
        let forth = Way::new(Link::new(plan.forth, seed.wrapping_mul(2)), policers.collect());
        let back = Way::new(
            Link::new(plan.back, seed.wrapping_mul(2).wrapping_add(1)),
            BTreeMap::new(),
        );
        let mut traffic = lock(&self.traffic);
        *traffic = Traffic {
            ways: Some([forth, back]),
            spare: std::mem::take(&mut traffic.spare),
            ..Traffic::default()
        };
    }

    /// Throws away what is under way and all that comes.
    pub(super) fn close(&self) -> Result<Passed, RigError> {
        let mut traffic = lock(&self.traffic);
        let ways = traffic.ways.take();
        if let Some(error) = traffic.broken.take() {
            return Err(RigError::system("moving a packet through a TUN device")(error));
        }
        let again = ways.into_iter().flat_map(|[forth, _]| forth.again);
        Ok(Passed {
            late: Lateness {
                max: Duration::from_nanos(traffic.late_max_ns),
                over_1ms: traffic.late_1ms,
                packets: traffic.delivered,
            },
            again: again.map(|(port, again)| (port, again.count)).collect(),
        })
    }

    /// The clock of the lane.
    pub(super) fn clock(&self) -> Clock {
        self.clock
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        lock(&self.traffic).end = true;
        if let Some(thread) = self.thread.take() {
            // A panic has been told on stderr.
            let _ = thread.join();
        }
    }
}

/// A panic leaves counters behind, which are good to the last packet.
fn lock(traffic: &Mutex<Traffic>) -> MutexGuard<'_, Traffic> {
    traffic.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Way {
    fn new(link: Link, policers: BTreeMap<u16, Policer>) -> Self {
        Self {
            link,
            policers,
            again: BTreeMap::new(),
            waiting: BinaryHeap::new(),
            entered: 0,
        }
    }

    fn enter(&mut self, now_ns: u64, packet: &[u8], spare: &mut Vec<Vec<u8>>) {
        let bytes = packet.len() as u32;
        if let Some(header) = Header::parse(packet) {
            self.again.entry(header.source).or_default().see(&header);
            if let Some(policer) = self.policers.get_mut(&header.source)
                && !policer.passes(now_ns, bytes)
            {
                return;
            }
        }
        match self.link.enter(now_ns, bytes) {
            Fate::Arrives(at) => self.wait(at, packet, spare),
            Fate::Twice(first, second) => {
                self.wait(first, packet, spare);
                self.wait(second, packet, spare);
            }
            Fate::Lost | Fate::Overflow => {}
        }
    }

    fn wait(&mut self, due_ns: u64, packet: &[u8], spare: &mut Vec<Vec<u8>>) {
        let mut buffer = spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.entered += 1;
        self.waiting.push(Reverse(Waiting {
            due_ns,
            order: self.entered,
            packet: buffer,
        }));
    }

    fn next_ns(&self) -> u64 {
        self.waiting.peek().map_or(u64::MAX, |Reverse(next)| next.due_ns)
    }
}

impl Traffic {
    /// Takes what a side has sent.
    fn read(&mut self, from: usize, device: &SyncDevice, clock: Clock) -> io::Result<()> {
        let mut packet = [0; PACKET_BYTES];
        for _ in 0..AT_ONCE {
            let length = match device.recv(&mut packet) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if let Some(ways) = &mut self.ways {
                ways[from].enter(clock.now_ns(), &packet[..length], &mut self.spare);
            }
        }
        Ok(())
    }

    /// Hands over what is due in one direction.
    fn deliver(&mut self, from: usize, device: &SyncDevice, clock: Clock) -> io::Result<()> {
        let Some(ways) = &mut self.ways else { return Ok(()) };
        let waiting = &mut ways[from].waiting;
        loop {
            let now_ns = clock.now_ns();
            if waiting.peek().is_none_or(|Reverse(next)| next.due_ns > now_ns) {
                return Ok(());
            }
            let Some(Reverse(next)) = waiting.pop() else {
                return Ok(());
            };
            let late_ns = now_ns - next.due_ns;
            self.late_max_ns = self.late_max_ns.max(late_ns);
            self.late_1ms += u64::from(late_ns > LATE_1MS);
            self.delivered += 1;
            device.send(&next.packet)?;
            if self.spare.len() < SPARE {
                self.spare.push(next.packet);
            }
        }
    }

    /// All that can be done now.
    fn turn(&mut self, devices: &[SyncDevice; 2], clock: Clock) -> io::Result<()> {
        for (from, device) in devices.iter().enumerate() {
            self.read(from, device, clock)?;
        }
        for from in 0..devices.len() {
            self.deliver(from, &devices[1 - from], clock)?;
        }
        Ok(())
    }

    /// Until when there is nothing to do.
    fn until_ns(&self, now_ns: u64) -> u64 {
        self.ways.as_ref().map_or(now_ns + IDLE_NS, |[forth, back]| {
            forth.next_ns().min(back.next_ns()).min(now_ns + WATCH_NS)
        })
    }
}

/// The thread.
fn forward(devices: &[SyncDevice; 2], traffic: &Mutex<Traffic>, clock: Clock) {
    loop {
        let until_ns = {
            let mut traffic = lock(traffic);
            if traffic.end {
                return;
            }
            if let Err(error) = traffic.turn(devices, clock) {
                traffic.broken.get_or_insert(error);
            }
            traffic.until_ns(clock.now_ns())
        };
        let wait_ns = until_ns.saturating_sub(clock.now_ns());
        if wait_ns == 0 {
            continue;
        }
        let mut sources = devices
            .each_ref()
            .map(|device| PollFd::new(device.as_fd(), PollFlags::POLLIN));
        // Interrupted or not: the next turn looks at everything.
        let _ = ppoll(
            &mut sources,
            Some(TimeSpec::from_duration(Duration::from_nanos(wait_ns))),
            None,
        );
        let late_ns = clock.now_ns().saturating_sub(until_ns);
        let mut traffic = lock(traffic);
        if traffic.ways.is_some() {
            traffic.late_max_ns = traffic.late_max_ns.max(late_ns);
        }
    }
}
