//! Many hosts and the one thread that carries packets between them.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tun_rs::SyncDevice;

use super::clock::Clock;
use super::host::Host;
use super::realtime::start_forwarding;
use crate::switch::{Course, Out, Then, Waiting};
use crate::{Lateness, RigError};

/// How long the thread sleeps at most: how soon it sees that it shall end.
const IDLE_NS: u64 = 20_000_000;
/// Packets read from one host before those that are due are delivered.
const AT_ONCE: usize = 64;
/// No packet is longer than what the devices carry.
const PACKET_BYTES: usize = 2_048;
const LATE_1MS: u64 = 1_000_000;

/// Network namespaces with a device each, and the thread between them. They and all in them end with this, or with the process.
pub struct Switch<C: Course> {
    traffic: Arc<Mutex<Traffic<C>>>,
    clock: Clock,
    realtime: bool,
    thread: Option<JoinHandle<()>>,
    hosts: Vec<Host>,
}

struct Traffic<C> {
    course: C,
    waiting: Waiting,
    late: Lateness,
    /// The system's refusal to take or give a packet.
    broken: Option<io::Error>,
    end: bool,
}

impl<C: Course> Switch<C> {
    /// A namespace for each address. Everything that its programs send goes to `course`, which counts them in this order.
    ///
    /// # Errors
    /// The process may not make them, or the machine cannot.
    pub fn new(addresses: &[Ipv4Addr], course: C) -> Result<Self, RigError> {
        let (mut hosts, mut devices) = (Vec::new(), Vec::new());
        for address in addresses {
            let (host, device) = Host::alone(*address)?;
            hosts.push(host);
            devices.push(device);
        }
        let traffic = Arc::new(Mutex::new(Traffic {
            course,
            waiting: Waiting::default(),
            late: Lateness::default(),
            broken: None,
            end: false,
        }));
        let (own, clock) = (Arc::clone(&traffic), Clock::start());
        let (thread, realtime) = start_forwarding("switch", move || carry(&devices, &own, clock))?;
        Ok(Self {
            traffic,
            clock,
            realtime,
            thread: Some(thread),
            hosts,
        })
    }

    /// Whether packets are carried by SCHED_FIFO. Without it other programs make them late.
    pub fn realtime(&self) -> bool {
        self.realtime
    }

    /// Nanoseconds since the switch was made.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// The file that stands for the namespace of a host; see [`crate::become_within`].
    ///
    /// # Errors
    /// There is no such host.
    pub fn namespace(&self, host: usize) -> Result<PathBuf, RigError> {
        self.hosts.get(host).ok_or(RigError::Ended)?.namespace()
    }

    /// Looks at what decides the way of packets, or changes it.
    pub fn course<T>(&self, with: impl FnOnce(&mut C) -> T) -> T {
        with(&mut lock(&self.traffic).course)
    }

    /// How late packets were so far.
    ///
    /// # Errors
    /// The system refused to take or give a packet.
    pub fn lateness(&self) -> Result<Lateness, RigError> {
        let mut traffic = lock(&self.traffic);
        match traffic.broken.take() {
            Some(error) => Err(RigError::system("moving a packet through a TUN device")(error)),
            None => Ok(traffic.late),
        }
    }
}

impl<C: Course> Drop for Switch<C> {
    fn drop(&mut self) {
        lock(&self.traffic).end = true;
        if let Some(thread) = self.thread.take() {
            // A panic has been told on stderr.
            let _ = thread.join();
        }
    }
}

/// A panic leaves counters behind, which are good to the last packet.
fn lock<C>(traffic: &Mutex<Traffic<C>>) -> MutexGuard<'_, Traffic<C>> {
    traffic.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Course> Traffic<C> {
    /// Takes what a host has sent.
    fn read(&mut self, host: usize, device: &SyncDevice, clock: Clock) -> io::Result<()> {
        let mut packet = [0; PACKET_BYTES];
        for _ in 0..AT_ONCE {
            let length = match device.recv(&mut packet) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let mut out = Out {
                waiting: &mut self.waiting,
            };
            self.course
                .sent(clock.now_ns(), host, packet[..length].to_vec(), &mut out);
        }
        Ok(())
    }

    /// Does what is due.
    fn deliver(&mut self, devices: &[SyncDevice], clock: Clock) -> io::Result<()> {
        loop {
            let now_ns = clock.now_ns();
            let Some(packet) = self.waiting.pop_due(now_ns) else {
                return Ok(());
            };
            match packet.then {
                Then::Ask(stage) => {
                    let mut out = Out {
                        waiting: &mut self.waiting,
                    };
                    self.course.due(packet.due_ns, stage, packet.bytes, &mut out);
                }
                Then::Deliver(host) => {
                    let late_ns = now_ns - packet.due_ns;
                    self.late.max = self.late.max.max(Duration::from_nanos(late_ns));
                    self.late.over_1ms += u64::from(late_ns > LATE_1MS);
                    self.late.packets += 1;
                    if let Some(device) = devices.get(host) {
                        device.send(&packet.bytes)?;
                    }
                }
            }
        }
    }

    /// All that can be done now.
    fn turn(&mut self, devices: &[SyncDevice], clock: Clock) -> io::Result<()> {
        for (host, device) in devices.iter().enumerate() {
            self.read(host, device, clock)?;
            self.deliver(devices, clock)?;
        }
        Ok(())
    }
}

/// The thread.
fn carry<C: Course>(devices: &[SyncDevice], traffic: &Mutex<Traffic<C>>, clock: Clock) {
    loop {
        let until_ns = {
            let mut traffic = lock(traffic);
            if traffic.end {
                return;
            }
            if let Err(error) = traffic.turn(devices, clock) {
                traffic.broken.get_or_insert(error);
            }
            traffic.waiting.next_ns().min(clock.now_ns() + IDLE_NS)
        };
        let wait_ns = until_ns.saturating_sub(clock.now_ns());
        if wait_ns == 0 {
            continue;
        }
        let mut sources: Vec<PollFd<'_>> = devices
            .iter()
            .map(|device| PollFd::new(device.as_fd(), PollFlags::POLLIN))
            .collect();
        // Interrupted or not: the next turn looks at everything.
        let _ = ppoll(
            &mut sources,
            Some(TimeSpec::from_duration(Duration::from_nanos(wait_ns))),
            None,
        );
    }
}
