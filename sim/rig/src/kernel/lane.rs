//! Two hosts, the link between them, and transfers.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, OnceLock};
use std::time::Duration;

use phantom_path::fidelity::Cell;
use socket2::{Domain, SockAddr, Socket, Type};

use super::clock::Clock;
use super::forward::Forwarder;
use super::host::Host;
use super::realtime::{TRANSFERRING, hurry};
use crate::{FlowPlan, FlowSample, Plan, RigError, Sample, Samples};

const SENDERS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const RECEIVERS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// A transfer in which nothing arrives for so long is given up: longer than the kernel's retransmission timer at its most
/// patient after six losses of one segment.
const PATIENCE: Duration = Duration::from_secs(100);
/// Tries of a transfer until one has no late packet.
const TRIES: u32 = 3;
/// Bytes written or read at once.
const AT_ONCE: usize = 1 << 16;

/// Two network namespaces joined by links. They and all in them end with this, or with the process.
///
/// One transfer, or one set of them, at a time; many lanes at a time.
pub struct Lane {
    // Dropped first: the thread holds the devices.
    forwarder: Forwarder,
    senders: Host,
    receivers: Host,
}

/// A flow's sockets, not connected yet.
struct Ends {
    plan: FlowPlan,
    sender: Socket,
    listener: Socket,
    to: SockAddr,
    port: u16,
}

/// What came of a flow.
struct Took {
    ns: u64,
    bursts: Vec<f64>,
}

/// What one flow's threads need of the others.
struct Round {
    clock: Clock,
    start: Barrier,
    /// Bytes that have arrived, by flow.
    arrived: Vec<AtomicU64>,
    /// The same when the first flow ended.
    at_first_end: OnceLock<Vec<u64>>,
}

impl Lane {
    /// Two namespaces, their devices and the thread between them.
    ///
    /// # Errors
    /// The process may not make them, or the machine cannot.
    pub fn new() -> Result<Self, RigError> {
        let (senders, near) = Host::new(SENDERS)?;
        let (receivers, far) = Host::new(RECEIVERS)?;
        Ok(Self {
            forwarder: Forwarder::start([near, far], Clock::start())?,
            senders,
            receivers,
        })
    }

    /// Whether packets are forwarded by SCHED_FIFO. Without it other programs make them late.
    pub fn realtime(&self) -> bool {
        self.forwarder.realtime()
    }

    /// One transfer on a fresh connection with CUBIC, its losses drawn by `seed`. If packets came late it is tried up to
    /// twice again; [`Sample::late`] tells whether that helped.
    ///
    /// # Errors
    /// The kernel refuses something, or nothing arrived for 100 s.
    pub fn transfer(&self, cell: &Cell, seed: u64) -> Result<Sample, RigError> {
        let samples = self.share(&Plan::cell(cell), seed)?;
        let flow = samples.flows.first().ok_or(RigError::Ended)?;
        Ok(Sample {
            seconds: flow.seconds,
            retransmits: flow.retransmits,
            late: samples.late,
            tries: samples.tries,
        })
    }

    /// Several transfers at once; otherwise as [`Lane::transfer`].
    ///
    /// # Errors
    /// The same.
    pub fn share(&self, plan: &Plan, seed: u64) -> Result<Samples, RigError> {
        let mut tries = 1;
        loop {
            let mut samples = self.once(plan, seed)?;
            if !samples.late.spoils() || tries == TRIES || !plan.tried_again() {
                samples.tries = tries;
                return Ok(samples);
            }
            tries += 1;
        }
    }

    fn once(&self, plan: &Plan, seed: u64) -> Result<Samples, RigError> {
        let flows = plan.flows.iter();
        let ends: Vec<Ends> = flows.map(|flow| self.ends(*flow)).collect::<Result<_, _>>()?;
        let ports: Vec<u16> = ends.iter().map(|ends| ends.port).collect();
        let round = Round {
            clock: self.forwarder.clock(),
            start: Barrier::new(ends.len()),
            arrived: ends.iter().map(|_| AtomicU64::new(0)).collect(),
            at_first_end: OnceLock::new(),
        };
        self.forwarder.open(plan, &ports, seed);
        // All sockets close while the link is still there or when it no longer matters: they send nothing but a reset, and no
        // timer outlives them.
        let took = transfer_all(ends, &round);
        let passed = self.forwarder.close();
        // What the resets left in the devices is read and thrown away meanwhile.
        pause(Duration::from_millis(5));
        let (took, passed) = (took?, passed?);
        let first = round.at_first_end.into_inner().unwrap_or_default();
        let all = first.iter().sum::<u64>().max(1) as f64;
        let flow = |((took, arrived), port): ((Took, u64), u16)| FlowSample {
            seconds: took.ns as f64 / 1e9,
            share: arrived as f64 / all,
            retransmits: passed.again.get(&port).copied().unwrap_or_default(),
            bursts: took.bursts,
        };
        Ok(Samples {
            flows: took.into_iter().zip(first).zip(ports).map(flow).collect(),
            late: passed.late,
            tries: 1,
        })
    }

    fn ends(&self, plan: FlowPlan) -> Result<Ends, RigError> {
        let (listener, to) = self
            .receivers
            .within(listen)?
            .map_err(RigError::system("listening in a namespace"))?;
        let sender = self
            .senders
            .within(|| Socket::new(Domain::IPV4, Type::STREAM, None))?
            .map_err(RigError::system("making a socket in a namespace"))?;
        // Before the call of connect(): a connection that begins with BBR keeps its pacing.
        sender
            .set_tcp_congestion(b"cubic")
            .map_err(RigError::system("setting TCP_CONGESTION to cubic"))?;
        let port = claim(&sender).map_err(RigError::system("binding a sender"))?;
        Ok(Ends {
            plan,
            sender,
            listener,
            to,
            port,
        })
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("realtime", &self.realtime())
            .finish_non_exhaustive()
    }
}

fn listen() -> io::Result<(Socket, SockAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(RECEIVERS, 0).into())?;
    socket.listen(1)?;
    // Of the call of accept() too.
    socket.set_read_timeout(Some(PATIENCE))?;
    let to = socket.local_addr()?;
    Ok((socket, to))
}

/// The port of a sender that is patient and leaves nothing behind.
fn claim(sender: &Socket) -> io::Result<u16> {
    // Of the call of connect() too.
    sender.set_write_timeout(Some(PATIENCE))?;
    reset_when_closed(sender)?;
    sender.bind(&SocketAddrV4::new(SENDERS, 0).into())?;
    let address = sender.local_addr()?;
    address
        .as_socket_ipv4()
        .map(|address| address.port())
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// What each flow took, in order.
fn transfer_all(ends: Vec<Ends>, round: &Round) -> Result<Vec<Took>, RigError> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = ends
            .into_iter()
            .enumerate()
            .map(|(number, ends)| {
                let Ends {
                    plan,
                    sender,
                    listener,
                    to,
                    ..
                } = ends;
                let receiving = scope.spawn(move || receive(&listener, number, plan, round));
                let sending = scope.spawn(move || send(sender, &to, plan, round));
                (plan, receiving, sending)
            })
            .collect();
        // All are waited for, and the sockets stay until then: no end of a transfer disturbs another.
        let ended: Vec<_> = threads
            .into_iter()
            .map(|(plan, receiving, sending)| (plan, receiving.join(), sending.join()))
            .collect();
        let mut took = Vec::new();
        let mut open = Vec::new();
        for (plan, receiving, sending) in ended {
            let receiving = receiving.map_err(|_| RigError::Ended)?;
            let sending = sending.map_err(|_| RigError::Ended)?;
            // A sender that failed is the reason why its receiver did, not the other way round.
            let sent = sending.map_err(RigError::system("sending"))?;
            let received = receiving.map_err(RigError::system("receiving"))?;
            took.push(Took {
                ns: received.ended_ns - sent.began_ns,
                bursts: plan
                    .paced
                    .map(|pace| pace.took(sent.written_ns, &received.bursts_ns))
                    .unwrap_or_default(),
            });
            open.push((sent.socket, received.socket));
        }
        drop(open);
        Ok(took)
    })
}

/// A sender that has written all.
struct Sent {
    /// When connect() was called, and when the first byte was due.
    began_ns: u64,
    written_ns: u64,
    /// Its data may still be under way.
    socket: Socket,
}

/// A receiver that has read all.
struct Received {
    /// When the last byte was read, and that of each burst.
    ended_ns: u64,
    bursts_ns: Vec<u64>,
    socket: Socket,
}

fn send(mut socket: Socket, to: &SockAddr, plan: FlowPlan, round: &Round) -> io::Result<Sent> {
    hurry(TRANSFERRING);
    let bytes = vec![7; AT_ONCE];
    round.start.wait();
    pause(plan.start);
    let began_ns = round.clock.now_ns();
    socket.set_tcp_nodelay(plan.paced.is_some())?;
    socket.connect(to)?;
    let written_ns = round.clock.now_ns();
    let mut write = |bytes_now: u64| -> io::Result<()> {
        let mut left = bytes_now;
        while left > 0 {
            let now = left.min(AT_ONCE as u64) as usize;
            left -= socket.write(&bytes[..now])? as u64;
        }
        Ok(())
    };
    match plan.paced {
        None => write(plan.bytes)?,
        Some(pace) => {
            for (number, bytes) in pace.bursts(plan.bytes).enumerate() {
                let due_ns = pace.due_ns(written_ns, number);
                pause(Duration::from_nanos(due_ns.saturating_sub(round.clock.now_ns())));
                write(bytes)?;
            }
        }
    }
    Ok(Sent {
        began_ns,
        written_ns,
        socket,
    })
}

fn receive(listener: &Socket, number: usize, plan: FlowPlan, round: &Round) -> io::Result<Received> {
    hurry(TRANSFERRING);
    let (mut socket, _) = listener.accept()?;
    socket.set_read_timeout(Some(PATIENCE))?;
    reset_when_closed(&socket)?;
    let mut buffer = vec![0; AT_ONCE];
    let mut arrived = 0;
    let mut bursts_ns = Vec::new();
    while arrived < plan.bytes {
        match socket.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => arrived += read as u64,
        }
        round.arrived[number].store(arrived, Ordering::Relaxed);
        if let Some(pace) = plan.paced {
            bursts_ns.resize(pace.ended(arrived, plan.bytes), round.clock.now_ns());
        }
    }
    let ended_ns = round.clock.now_ns();
    round.at_first_end.get_or_init(|| {
        let arrived = round.arrived.iter();
        arrived.map(|arrived| arrived.load(Ordering::Relaxed)).collect()
    });
    Ok(Received {
        ended_ns,
        bursts_ns,
        socket,
    })
}

/// The kernel forgets the connection at once: nothing of it is on the lane when the next begins.
fn reset_when_closed(socket: &Socket) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a measuring rig is real time by purpose: it waits for kernels"
)]
fn pause(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}
