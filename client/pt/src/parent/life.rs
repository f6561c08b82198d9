//! One life of a program: started, listened to, ended.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use super::event::{Event, Outlet};
use super::launch::{Launch, Limits};
use super::process::Process;
use super::startup::{Heard, Methods, Startup, StartupError};
use crate::lines::{Line, Lines};
use crate::message::Message;

/// After the program ended, or closed its output: until what it said last has been read, and its end is known.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// So much of its standard error is kept for the message about its end.
const WORDS_MAX: usize = 300;

/// A program's failure.
#[derive(Debug, Error)]
#[error("{}: {what}", .program.display())]
pub struct Failure {
    /// Which.
    pub program: PathBuf,
    /// What happened.
    pub what: What,
}

/// What happened to a program.
#[derive(Debug, Error)]
pub enum What {
    /// It cannot be started.
    #[error("cannot be started: {0}; is it installed, may it be executed, can its state folder be made?")]
    Start(io::Error),
    /// It says that, or what, it cannot do; or nonsense.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// It hangs.
    #[error(
        "no {wanted} within {limit:?} ({lines} lines were said): does it hang, or is it no such program?"
    )]
    Late {
        /// The line that was waited for.
        wanted: &'static str,
        /// How long.
        limit: Duration,
        /// How many it said.
        lines: u64,
    },
    /// It goes on and says nothing any more.
    #[error("it closed its output before {wanted} ({lines} lines were said): is it no such program?")]
    Closed {
        /// The line that was waited for.
        wanted: &'static str,
        /// How many it said.
        lines: u64,
    },
    /// It died before it was ready.
    #[error("it ended ({status}) before {wanted}; {words}")]
    EndedEarly {
        /// As the system says it.
        status: ExitStatus,
        /// The line that was waited for.
        wanted: &'static str,
        /// The last of its standard error.
        words: String,
    },
    /// It died in service.
    #[error("it ended ({status}); {words}")]
    Ended {
        /// As the system says it.
        status: ExitStatus,
        /// The last of its standard error.
        words: String,
    },
    /// The system failed.
    #[error("waiting for it: {0}")]
    Wait(io::Error),
}

impl What {
    /// Whether starting it again, just so, can but fail again.
    pub fn is_final(&self) -> bool {
        match self {
            // Anything else may pass: out of processes, or the program's file is just being replaced.
            Self::Start(error) => matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory
            ),
            Self::Startup(error) => error.is_final(),
            _ => false,
        }
    }
}

/// How a life went.
pub(super) enum Life {
    /// It was asked to end, and is no more.
    Asked,
    /// It failed.
    Failed(What),
}

enum Turn {
    End,
    Time,
    Output(io::Result<usize>),
    Errors(io::Result<usize>),
    Ended(io::Result<ExitStatus>),
}

/// Starts the program and listens to it until it ends, or until `end` does, and then ends it. `on_ready` gets its transports.
pub(super) async fn live(
    launch: &Launch,
    limits: &Limits,
    outlet: &mut Outlet,
    on_ready: impl Fn(&Arc<Methods>),
    end: impl Future<Output = ()>,
) -> Life {
    let process = match launch.command().and_then(Process::start) {
        Ok(process) => process,
        Err(error) => return Life::Failed(What::Start(error)),
    };
    outlet.tell(Event::Started {
        process: process.id(),
    });
    let mut listener = Listener {
        startup: Some(Startup::new(&launch.environment.role)),
        lines: Lines::default(),
        words: Vec::new(),
        outlet,
        on_ready,
    };
    let mut process = process;
    let life = listen(&mut process, limits, &mut listener, end).await;
    match (life, process.end(limits.close, limits.terminate).await) {
        (Some(what), _) => Life::Failed(what),
        (None, Ok(())) => Life::Asked,
        (None, Err(error)) => Life::Failed(What::Wait(error)),
    }
}

/// Until it is asked to end (nothing), or the program ends or is of no use.
async fn listen<F: Fn(&Arc<Methods>)>(
    process: &mut Process,
    limits: &Limits,
    listener: &mut Listener<'_, F>,
    end: impl Future<Output = ()>,
) -> Option<What> {
    let mut end = std::pin::pin!(end);
    let (mut output, mut errors) = (process.output.take(), process.errors.take());
    let (mut output_buffer, mut errors_buffer) = ([0; 2048], [0; 512]);
    let mut time = Some(now() + limits.start);
    let mut status = None;
    let what = loop {
        let turn = tokio::select! {
            biased;
            () = &mut end => Turn::End,
            () = until(time), if time.is_some() => Turn::Time,
            read = read(&mut output, &mut output_buffer), if output.is_some() => Turn::Output(read),
            read = read(&mut errors, &mut errors_buffer), if errors.is_some() => Turn::Errors(read),
            ended = process.ended(), if status.is_none() => Turn::Ended(ended),
        };
        match turn {
            Turn::End => break None,
            Turn::Time => break Some(listener.out_of_time(status, output.is_none(), limits)),
            Turn::Output(Ok(length @ 1..)) => {
                let was_starting = listener.startup.is_some();
                for line in listener.lines.handle(&output_buffer[..length]) {
                    if let Err(error) = listener.heard(&line) {
                        process.output = output;
                        process.errors = errors;
                        return Some(error.into());
                    }
                }
                if was_starting && listener.startup.is_none() && status.is_none() {
                    time = None;
                }
            }
            // Without its output only its end is of interest, and that should be near.
            Turn::Output(_) => {
                output = None;
                if let Some(line) = listener.lines.finish()
                    && let Err(error) = listener.heard(&line)
                {
                    break Some(error.into());
                }
                if status.is_some() {
                    break Some(listener.out_of_time(status, true, limits));
                }
                if listener.startup.is_some() {
                    time = Some(now() + LAST_WORDS);
                }
            }
            Turn::Errors(Ok(length @ 1..)) => listener.muttered(&errors_buffer[..length]),
            Turn::Errors(_) => errors = None,
            Turn::Ended(Ok(ended)) => {
                status = Some(ended);
                if output.is_none() && errors.is_none() {
                    break Some(listener.out_of_time(status, true, limits));
                }
                time = Some(now() + LAST_WORDS);
            }
            Turn::Ended(Err(error)) => break Some(What::Wait(error)),
        }
    };
    process.output = output;
    process.errors = errors;
    what
}

struct Listener<'a, F> {
    /// Until it is ready.
    startup: Option<Startup>,
    lines: Lines,
    words: Vec<u8>,
    outlet: &'a mut Outlet,
    on_ready: F,
}

impl<F: Fn(&Arc<Methods>)> Listener<'_, F> {
    fn heard(&mut self, line: &Line) -> Result<(), StartupError> {
        let Some(startup) = &mut self.startup else {
            self.heard_later(line);
            return Ok(());
        };
        match startup.handle(line)? {
            Heard::Nothing => {}
            Heard::Aside(message) => self.aside(message),
            Heard::Ready(methods) => {
                self.startup = None;
                let methods = Arc::new(methods);
                (self.on_ready)(&methods);
                self.outlet.tell(Event::Ready(methods));
            }
        }
        Ok(())
    }

    /// What it says in service cannot make it useless.
    fn heard_later(&mut self, line: &Line) {
        let parsed = match &line.text {
            Some(text) => Message::parse(text).map_err(|error| error.to_string()),
            None => Err("it is too long".to_owned()),
        };
        match parsed {
            Ok(Some(message)) => self.aside(message),
            Ok(None) => {}
            Err(reason) => {
                let line = line.number;
                self.outlet.tell(Event::Skipped { line, reason });
            }
        }
    }

    fn aside(&mut self, message: Message) {
        match message {
            Message::Log { severity, text } => self.outlet.tell(Event::Log { severity, text }),
            Message::Status { transport, fields } => self.outlet.tell(Event::Status { transport, fields }),
            _ => {}
        }
    }

    /// Keeps the last of it.
    fn muttered(&mut self, bytes: &[u8]) {
        self.words.extend_from_slice(bytes);
        let excess = self.words.len().saturating_sub(WORDS_MAX);
        self.words.drain(..excess);
    }

    /// The last line of standard error.
    fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.words);
        match text.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => format!("its last words: {:?}", line.trim()),
            None => "it left no word".to_owned(),
        }
    }

    fn out_of_time(&self, status: Option<ExitStatus>, closed: bool, limits: &Limits) -> What {
        let startup = self
            .startup
            .as_ref()
            .map(|startup| (startup.wanted(), startup.lines()));
        let words = self.last_words();
        match (status, startup) {
            (Some(status), Some((wanted, _))) => What::EndedEarly {
                status,
                wanted,
                words,
            },
            (Some(status), None) => What::Ended { status, words },
            (None, Some((wanted, lines))) if closed => What::Closed { wanted, lines },
            (None, startup) => {
                let (wanted, lines) = startup.unwrap_or(("its end", 0));
                let limit = limits.start;
                What::Late { wanted, limit, lines }
            }
        }
    }
}

async fn read(source: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> io::Result<usize> {
    match source {
        Some(source) => source.read(buffer).await,
        None => Ok(0),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "listens to a process of the real world, on tokio"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "listens to a process of the real world, on tokio"
)]
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
