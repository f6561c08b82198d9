//! Which way in is used: drives the machine of `phantom_rotation`, and keeps what it remembers. Spec: SPEC §11.
//!
//! The ladder finds a way in; the machine judges it by the bytes that wait on its link, asks for a second one when in doubt, and says
//! which is used. The client's task carries out what it says ([`Rotor::order`]). Nothing here costs an idle client anything: readings
//! are taken while bytes wait.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use phantom_core::event::{Outcome, Step};
use phantom_core::link::{LinkError, Progress};
use phantom_core::runtime::Frugal;
use phantom_core::units::{Instant, WallTime};
use phantom_core::wire::{DecodeError, Reader, Writer};
use phantom_rotation::{
    Config, Direction, FILE_BYTES_MAX, Failure, Input, Memory, NetworkId, Output, PathId, Report, Rotation,
};

use crate::candidate::Candidate;

/// How often the bytes that wait on a link are read.
const READ_EVERY: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Rotor {
    machine: Box<Rotation<Frugal>>,
    /// When the machine wants to be told the time.
    wake: Option<Instant>,
    /// What it could dial as a second path, while it asks.
    offered: Vec<(Step, Candidate)>,
}

/// What was read of a link last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    at: Instant,
    /// Whether bytes waited, up and down.
    busy: [bool; 2],
    /// What had moved before the machine knew of the link.
    base: [u64; 2],
}

impl Reading {
    /// From `progress` on.
    pub(crate) const fn from(progress: &Progress) -> Self {
        Self {
            at: Instant::ZERO,
            busy: [false; 2],
            base: [progress.acknowledged, progress.received],
        }
    }
}

impl Rotor {
    pub(crate) fn new(
        config: Arc<Config>,
        memory: Memory,
        (network, client): (NetworkId, IpAddr),
        (now, wall): (Instant, WallTime),
        rng: Frugal,
    ) -> Self {
        let mut rotor = Self {
            machine: Box::new(Rotation::new(config, memory, rng)),
            wake: None,
            offered: Vec::new(),
        };
        rotor.tell(
            now,
            Input::Start {
                network,
                client,
                wall,
            },
        );
        rotor
    }

    /// Tells the machine; [`Rotor::order`] says what follows.
    pub(crate) fn tell(&mut self, now: Instant, input: Input) {
        if let Err(error) = self.machine.handle(now, input) {
            // What it says of a path that ended meanwhile; nothing has changed.
            tracing::debug!(%error, "rotation was told what it could not use");
        }
    }

    /// The next thing to do, until there is none.
    pub(crate) fn order(&mut self) -> Option<Output> {
        self.wake = match self.machine.poll_output() {
            Output::WaitUntil(at) => Some(at),
            Output::Idle => None,
            order => return Some(order),
        };
        None
    }

    /// When to call [`Rotor::tick`] at the latest.
    pub(crate) const fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Tells the time if it is wanted.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.wake.is_some_and(|wake| wake <= now) {
            self.tell(now, Input::Tick);
        }
    }

    /// Reads how far a link's bytes got, if that is due. `asked`: bytes that are known to be on their way down, of an answer of the
    /// entry's own or of several pieces of an attachment. Other answers from further on are not waited for here: one that a relay lost
    /// looks like a link that froze, and what they were asked with is acknowledged by the entry.
    pub(crate) fn read(
        &mut self,
        now: Instant,
        path: PathId,
        last: &mut Reading,
        progress: &Progress,
        asked: u64,
    ) {
        let busy = [progress.queued > 0, asked > 0];
        let due = busy != last.busy || (busy != [false; 2] && now >= last.at + READ_EVERY);
        if !due && self.wake.is_none_or(|wake| wake > now || busy == [false; 2]) {
            return;
        }
        let told = [
            (
                Direction::Up,
                progress.queued,
                progress.acknowledged - last.base[0],
            ),
            (Direction::Down, asked, progress.received - last.base[1]),
        ];
        (last.at, last.busy) = (now, busy);
        for (direction, queued, delivered) in told {
            let rtt = progress.round_trip;
            self.tell(
                now,
                Input::Progress {
                    path,
                    direction,
                    queued,
                    delivered,
                    rtt,
                },
            );
        }
    }

    /// When the ladder may dial it; `None`: not before a connection to the same server ends. `open` are other dials to it.
    pub(crate) fn free_at(&self, now: Instant, candidate: &Candidate, open: usize) -> Option<Instant> {
        self.machine.free_at(now, &candidate.way(), open)
    }

    /// Greater first.
    pub(crate) fn rank(&self, candidate: &Candidate) -> u64 {
        self.machine.order(&candidate.way())
    }

    /// What could be dialled as a second path; who goes first is the machine's to say.
    pub(crate) fn offer(&mut self, now: Instant, mut ways: Vec<(Step, Candidate)>) {
        ways.truncate(phantom_rotation::CANDIDATES_MAX);
        let named = ways.iter().map(|(_, candidate)| candidate.way()).collect();
        self.offered = ways;
        self.tell(now, Input::Candidates(named));
    }

    /// Which of these the machine means. Forgets the others: each doubt asks anew.
    pub(crate) fn offered(&mut self, way: &phantom_rotation::Candidate) -> Option<(Step, Candidate)> {
        let offered = std::mem::take(&mut self.offered);
        offered.into_iter().find(|(_, candidate)| candidate.way() == *way)
    }

    pub(crate) fn report(&self) -> Report {
        self.machine.report()
    }

    /// Whether what it remembers should be stored.
    pub(crate) const fn has_news(&self) -> bool {
        self.machine.has_news()
    }

    /// What it remembers, for the client's state: JSON behind its length.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        // Numbers and short names only: nothing in it can fail to be written.
        let memory = serde_json::to_vec(self.machine.memory()).unwrap_or_default();
        out.put_u32(memory.len() as u32);
        out.put(&memory);
    }

    /// What an earlier run remembered. What is not understood is forgotten: at worst the order of dials is a bad one.
    pub(crate) fn read_memory(r: &mut Reader<'_>) -> Result<Memory, DecodeError> {
        if r.remaining() == 0 {
            return Ok(Memory::default()); // stored before there was any
        }
        let len = r.u32()? as usize;
        let bytes = r.take(len)?;
        let known = (len <= FILE_BYTES_MAX).then(|| serde_json::from_slice(bytes).ok());
        Ok(known.flatten().unwrap_or_default())
    }
}

/// How a dial ended, in the machine's words. `answered`: the server's host took the connection.
pub(crate) const fn failure_of_dial(outcome: Outcome, answered: bool) -> Failure {
    match outcome {
        Outcome::TimedOut if answered => Failure::Silence,
        Outcome::TimedOut => Failure::Unanswered,
        Outcome::Refused => Failure::Refused,
        Outcome::Reset => Failure::Reset,
        Outcome::WrongKey => Failure::Garbled,
        Outcome::Connected | Outcome::NoSuchName | Outcome::NothingKnown | Outcome::Failed => Failure::Local,
    }
}

/// Why a link is gone, in the machine's words.
pub(crate) fn failure_of_link(error: Option<&LinkError>) -> Failure {
    use std::io::ErrorKind;
    match error {
        Some(LinkError::Stream { kind, .. }) => match kind {
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Failure::Reset,
            ErrorKind::TimedOut => Failure::Silence,
            ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Failure::Ended,
            _ => Failure::Local,
        },
        Some(LinkError::TimedOut { .. }) => Failure::Silence,
        Some(
            LinkError::WrongKey
            | LinkError::BadFrame
            | LinkError::Malformed(_)
            | LinkError::Violation { .. }
            | LinkError::Version { .. },
        ) => Failure::Garbled,
        _ => Failure::Ended,
    }
}
