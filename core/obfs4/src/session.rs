//! One connection, either side: the machine that a driver moves bytes and time for.
//!
//! ```text
//! loop {
//!     drain poll_output() until WaitUntil, Idle or Close;
//!     wait for bytes, for something to send, or for the time that was said;
//!     receive(), send() or tick()
//! }
//! ```
//! Times are what passed since any fixed origin of the driver's monotonic clock; the hour is wall time.
//!
//! A server tells nothing to who does not know its key. When a handshake fails it keeps the connection open and throws away
//! what comes, until 30 s plus the bridge's own delay have passed since the connection began, whatever was wrong and whenever:
//! [`Output::DiscardUntil`]. What fails after the handshake ends the connection at once, as with obfs4proxy.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_core::CryptoRng;
use thiserror::Error;

use crate::bridge::BridgeArgs;
use crate::drbg::Seed;
use crate::frame::{Decoder, Encoder, FrameError};
use crate::handshake::{ClientHandshake, EpochHour, HandshakeError, ServerHandshake};
use crate::identity::Identity;
use crate::ntor::LinkKeys;
use crate::packet::{self, Packet, PacketError};
use crate::replay::ReplayFilter;
use crate::shape::{Chunk, Shape};

/// How long a client waits for the answer.
pub const CLIENT_LIMIT: Duration = Duration::from_secs(60);
/// How long a server waits for a client's message.
pub const SERVER_LIMIT: Duration = Duration::from_secs(30);
/// Bytes that one call to [`Session::send`] takes at most: what Go's `io.Copy` reads at once, so that bursts look alike.
pub const BURST_MAX: usize = 32 * 1024;

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The handshake failed; only a client reports it.
    #[error("obfs4 handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// A frame did not open, or there can be no more.
    #[error("obfs4: {0}")]
    Frame(#[from] FrameError),
    /// An authenticated frame holds no packet.
    #[error("obfs4: {0}")]
    Packet(#[from] PacketError),
    /// The stream ended before the handshake was done: the peer's decision, or someone's on the way.
    #[error("obfs4: the other end closed the connection before the handshake was done")]
    ClosedEarly,
    /// The stream ended within a frame: something on the way cut it.
    #[error("obfs4: the connection was cut within a frame")]
    Cut,
    /// The session is over; an earlier call said why.
    #[error("obfs4: the session is over")]
    Over,
}

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since a fixed origin of the driver's, monotonic.
    pub since_start: Duration,
    /// By the wall clock.
    pub hour: EpochHour,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes, no sooner than `pause` after the write before them. Ask again only after that.
    Write {
        /// Least time since the write before; zero without pacing.
        pause: Duration,
        /// What to write, in one call if the socket takes it.
        bytes: Vec<u8>,
    },
    /// The handshake is done: [`Session::send`] takes bytes from now on.
    Opened,
    /// Read and throw away what comes until then, then close; write nothing. Servers only.
    DiscardUntil {
        /// When to close.
        until: Duration,
        /// What was wrong, for the log.
        why: HandshakeError,
    },
    /// Nothing more now: call [`Session::tick`] at that time if nothing happens before.
    WaitUntil(Duration),
    /// Nothing more now, and no time to wait for.
    Idle,
    /// Close the connection.
    Close,
}

/// A bridge that accepts connections: who it is and what it has seen. Clones share the replay filter.
#[derive(Clone)]
pub struct Bridge(Arc<Shared>);

struct Shared {
    identity: Identity,
    close_delay: Duration,
    replays: Mutex<ReplayFilter>,
}

impl Bridge {
    /// A bridge that has seen nothing yet. `rng` gives the key of its replay filter.
    pub fn new(identity: Identity, rng: &mut impl CryptoRng) -> Self {
        Self(Arc::new(Shared {
            close_delay: Duration::from_secs(identity.close_delay().into()),
            replays: Mutex::new(ReplayFilter::from_rng(rng)),
            identity,
        }))
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// A session for a connection that came in at `now`.
    pub fn accept<R: CryptoRng>(&self, now: Now, mut rng: R) -> Session<R> {
        let identity = &self.0.identity;
        let handshake = ServerHandshake::new(identity, &mut rng);
        Session {
            shape: Shape::new(identity.iat_mode, identity.seed.clone()),
            state: State::Listening {
                handshake: Box::new(handshake),
                bridge: self.clone(),
                since: now.since_start,
            },
            writes: VecDeque::new(),
            news: None,
            rng,
        }
    }
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge")
            .field("identity", &self.0.identity)
            .finish_non_exhaustive()
    }
}

/// One obfs4 connection.
pub struct Session<R> {
    state: State,
    shape: Shape,
    writes: VecDeque<Chunk>,
    /// What the driver has not been told yet.
    news: Option<Output>,
    rng: R,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is where a session spends its life"
)]
enum State {
    /// A client that has said hello.
    Greeting {
        handshake: Box<ClientHandshake>,
        deadline: Duration,
    },
    /// A server that waits for a client's message.
    Listening {
        handshake: Box<ServerHandshake>,
        bridge: Bridge,
        since: Duration,
    },
    Open {
        encoder: Encoder,
        decoder: Decoder,
        /// A server's distributions are its own, whatever a client sends.
        takes_seeds: bool,
    },
    /// A server whose client failed.
    Discarding {
        until: Duration,
    },
    Over,
}

impl<R: CryptoRng> Session<R> {
    /// A connection to a bridge that was just dialled. Draw `rng` from a stream of its own.
    pub fn client(bridge: &BridgeArgs, now: Now, mut rng: R) -> Self {
        let (handshake, hello) = ClientHandshake::new(bridge.identity, bridge.node, now.hour, &mut rng);
        // Until the bridge's seed comes the outline is one of our own.
        let seed = Seed::from_rng(&mut rng);
        Self {
            state: State::Greeting {
                handshake: Box::new(handshake),
                deadline: now.since_start + CLIENT_LIMIT,
            },
            shape: Shape::new(bridge.iat_mode, seed),
            writes: VecDeque::from([Chunk {
                pause: Duration::ZERO,
                bytes: hello,
            }]),
            news: None,
            rng,
        }
    }

    /// Whether the handshake is done and the session not over.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Takes bytes that came from the network, however they were cut, and appends to `plain` what they carried.
    ///
    /// # Errors
    /// The session is over; what came before the mistake is in `plain`. Close the connection. A server whose handshake failed
    /// reports [`Output::DiscardUntil`] instead.
    pub fn receive(&mut self, now: Now, wire: &[u8], plain: &mut Vec<u8>) -> Result<(), SessionError> {
        self.tick(now)?;
        let mut rest = wire;
        match &mut self.state {
            State::Greeting { handshake, .. } => {
                let greeted = handshake.receive(wire);
                let Some(greeted) = greeted.map_err(|e| self.end(e.into()))? else {
                    return Ok(());
                };
                rest = &wire[greeted.taken..];
                self.open(&greeted.keys, Side::Client);
            }
            State::Listening { .. } => return self.listen(now, wire),
            State::Open { .. } => {}
            State::Discarding { .. } => return Ok(()),
            State::Over => return Err(SessionError::Over),
        }
        self.decode(rest, plain).map_err(|e| self.end(e))
    }

    /// Takes bytes to send: how many, at most [`BURST_MAX`]. None before the handshake is done, and none while writes of the
    /// last call are not fetched; call again after draining [`Session::poll_output`].
    ///
    /// # Errors
    /// The session is over.
    pub fn send(&mut self, plain: &[u8]) -> Result<usize, SessionError> {
        match &mut self.state {
            State::Open { encoder, .. } => {
                if !self.writes.is_empty() || plain.is_empty() {
                    return Ok(0);
                }
                let burst = &plain[..plain.len().min(BURST_MAX)];
                match self.shape.burst(burst, encoder, &mut self.rng, &mut self.writes) {
                    Ok(()) => Ok(burst.len()),
                    Err(error) => Err(self.end(error.into())),
                }
            }
            State::Greeting { .. } | State::Listening { .. } => Ok(0),
            State::Discarding { .. } | State::Over => Err(SessionError::Over),
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// A client's handshake has taken too long: the session is over.
    pub fn tick(&mut self, now: Now) -> Result<(), SessionError> {
        let now = now.since_start;
        match &self.state {
            State::Greeting { deadline, .. } if now >= *deadline => {
                Err(self.end(HandshakeError::TimedOut.into()))
            }
            State::Listening { since, bridge, .. } if now >= *since + SERVER_LIMIT => {
                let until = *since + SERVER_LIMIT + bridge.0.close_delay;
                self.discard(until, HandshakeError::TimedOut);
                // A driver that comes late may be past the end of both.
                if now >= until {
                    self.state = State::Over;
                }
                Ok(())
            }
            State::Discarding { until } if now >= *until => {
                self.state = State::Over;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The network's stream ended. Nothing in obfs4 tells an end that the peer meant from one that was made at a frame's end
    /// on the way: what is carried must have an end of its own.
    ///
    /// # Errors
    /// The peer cannot have meant it.
    pub fn peer_closed(&mut self) -> Result<(), SessionError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Greeting { .. } | State::Listening { .. } => Err(SessionError::ClosedEarly),
            State::Open { decoder, .. } if decoder.is_inside_frame() => Err(SessionError::Cut),
            State::Open { .. } | State::Discarding { .. } | State::Over => Ok(()),
        }
    }

    /// What is to be done next. Ends with [`Output::WaitUntil`], [`Output::Idle`] or [`Output::Close`], which stay the answer
    /// until another call changes something.
    pub fn poll_output(&mut self) -> Output {
        if let Some(Chunk { pause, bytes }) = self.writes.pop_front() {
            return Output::Write { pause, bytes };
        }
        if let Some(news) = self.news.take() {
            return news;
        }
        match &self.state {
            State::Greeting { deadline, .. } => Output::WaitUntil(*deadline),
            State::Listening { since, .. } => Output::WaitUntil(*since + SERVER_LIMIT),
            State::Discarding { until } => Output::WaitUntil(*until),
            State::Open { .. } => Output::Idle,
            State::Over => Output::Close,
        }
    }

    /// Bytes of the other end's that are kept.
    #[cfg(fuzzing)]
    pub fn held(&self) -> usize {
        match &self.state {
            State::Greeting { handshake, .. } => handshake.held(),
            State::Listening { handshake, .. } => handshake.held(),
            State::Open { decoder, .. } => decoder.held(),
            State::Discarding { .. } | State::Over => 0,
        }
    }

    fn listen(&mut self, now: Now, wire: &[u8]) -> Result<(), SessionError> {
        let State::Listening {
            handshake,
            bridge,
            since,
        } = &mut self.state
        else {
            return Ok(());
        };
        let bridge = bridge.clone();
        let Shared {
            identity,
            close_delay,
            replays,
        } = &*bridge.0;
        // A poisoned lock is a panic elsewhere; the filter itself is whole between calls.
        let mut replays = replays.lock().unwrap_or_else(PoisonError::into_inner);
        let time = (now.since_start, now.hour);
        match handshake.receive(wire, time, identity, &mut replays, &mut self.rng) {
            Ok(None) => Ok(()),
            Ok(Some(accepted)) => {
                drop(replays);
                self.answer(accepted.hello, &accepted.keys, &identity.seed)
                    .map_err(|e| self.end(e))
            }
            Err(why) => {
                let until = *since + SERVER_LIMIT + *close_delay;
                self.discard(until, why);
                Ok(())
            }
        }
    }

    /// The server's hello with the frame that carries its seed behind it.
    fn answer(&mut self, mut hello: Vec<u8>, keys: &LinkKeys, seed: &Seed) -> Result<(), SessionError> {
        self.open(keys, Side::Server);
        if let State::Open { encoder, .. } = &mut self.state {
            encoder.seal(&[&packet::seed_header(), seed.as_bytes()], 0, &mut hello)?;
        }
        self.writes.push_back(Chunk {
            pause: Duration::ZERO,
            bytes: hello,
        });
        Ok(())
    }

    fn open(&mut self, keys: &LinkKeys, side: Side) {
        let (sends, receives) = match side {
            Side::Client => (&keys.to_server, &keys.to_client),
            Side::Server => (&keys.to_client, &keys.to_server),
        };
        self.state = State::Open {
            encoder: Encoder::new(sends),
            decoder: Decoder::new(receives),
            takes_seeds: matches!(side, Side::Client),
        };
        self.news = Some(Output::Opened);
    }

    fn decode(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> Result<(), SessionError> {
        let State::Open {
            decoder, takes_seeds, ..
        } = &mut self.state
        else {
            return Ok(());
        };
        while let Some(contents) = decoder.next(&mut wire, &mut self.rng)? {
            match packet::decode(contents)? {
                Packet::Payload(payload) => plain.extend_from_slice(payload),
                Packet::Seed(seed) if *takes_seeds => self.shape.reseed(seed),
                Packet::Seed(_) | Packet::Ignored => {}
            }
        }
        Ok(())
    }

    fn discard(&mut self, until: Duration, why: HandshakeError) {
        self.state = State::Discarding { until };
        self.news = Some(Output::DiscardUntil { until, why });
    }

    fn end(&mut self, error: SessionError) -> SessionError {
        self.state = State::Over;
        self.writes.clear();
        error
    }
}

impl<R> std::fmt::Debug for Session<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.state {
            State::Greeting { .. } => "Session(greeting)",
            State::Listening { .. } => "Session(listening)",
            State::Open { .. } => "Session(open)",
            State::Discarding { .. } => "Session(discarding)",
            State::Over => "Session(over)",
        })
    }
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

#[cfg(test)]
mod tests;
