//! The side of the program behind the transport: hears whose connection comes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Cookie, DENY, DONE, HASH_LEN, Nonce, OKAY, SAFE_COOKIE, TRANSPORT, USERADDR, command, head};
use crate::exchange::{Exchange, ExchangeError, Outbox, Output, READ_MAX, carry_out, within};
use crate::name::TransportName;

/// An address or a name is shorter.
const BODY_MAX: usize = 256;
/// So many commands, and no end: too many.
const COMMANDS_MAX: u32 = 32;

/// Whose connection it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Introduction {
    /// The client's address, if the transport knows one.
    pub client: Option<SocketAddr>,
    /// How it came.
    pub transport: Option<TransportName>,
}

/// Without the client's address.
impl fmt::Debug for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = &self.transport;
        f.debug_struct("Introduction")
            .field("transport", transport)
            .finish_non_exhaustive()
    }
}

/// Why a connection is not taken. All of them are the other side's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ServerError {
    /// 0: it does not like what is offered.
    #[error("method {0} of authentication was asked for: wanted {SAFE_COOKIE}")]
    Method(u8),
    /// It does not know the cookie.
    #[error("the transport does not know the cookie")]
    WrongClient,
    /// The address is none.
    #[error("USERADDR is no address and port")]
    Address,
    /// The transport's name is none.
    #[error("TRANSPORT is no name of a transport")]
    Transport,
    /// A known command with too long a body.
    #[error("a command of {0} bytes: wanted {BODY_MAX} at most")]
    Body(usize),
    /// It never says DONE.
    #[error("more than {COMMANDS_MAX} commands before DONE")]
    TooMany,
}

enum State {
    Method,
    Nonce,
    Proof(Nonce),
    Head,
    /// A known command.
    Body {
        code: u16,
        length: usize,
    },
    /// An unknown command, or that of the end.
    Skip {
        code: u16,
        left: usize,
    },
}

/// The handshake, up to the word that the client's bytes are next.
pub struct Server {
    cookie: Cookie,
    nonce: Nonce,
    told: Introduction,
    commands: u32,
    state: State,
    out: Outbox<Introduction, ServerError>,
}

impl Server {
    /// Nothing has arrived; the offer goes out first.
    pub fn new(cookie: Cookie, nonce: Nonce) -> Self {
        let mut out = Outbox::new();
        out.send([SAFE_COOKIE, 0]);
        Self {
            cookie,
            nonce,
            told: Introduction::default(),
            commands: 0,
            state: State::Method,
            out,
        }
    }

    fn commanded(&mut self, code: u16, length: usize) -> Result<State, ServerError> {
        self.commands += 1;
        if self.commands > COMMANDS_MAX {
            return Err(ServerError::TooMany);
        }
        match code {
            USERADDR | TRANSPORT if length > BODY_MAX => Err(ServerError::Body(length)),
            USERADDR | TRANSPORT if length > 0 => Ok(State::Body { code, length }),
            USERADDR => Err(ServerError::Address),
            TRANSPORT => Err(ServerError::Transport),
            _ if length > 0 => Ok(State::Skip { code, left: length }),
            other => Ok(self.skipped(other)),
        }
    }

    fn skipped(&mut self, code: u16) -> State {
        if code == DONE {
            self.out.end(Ok(std::mem::take(&mut self.told)));
        }
        State::Head
    }

    fn step(&mut self, bytes: &[u8]) -> Result<State, ServerError> {
        match (&self.state, bytes) {
            (State::Method, [SAFE_COOKIE]) => Ok(State::Nonce),
            (State::Method, bytes) => Err(ServerError::Method(bytes.first().copied().unwrap_or(0))),
            (State::Nonce, bytes) => {
                let theirs = bytes.try_into().map_err(|_| ServerError::WrongClient)?;
                let theirs = Nonce::from_bytes(theirs);
                self.out.send(self.cookie.server_hash(&theirs, &self.nonce));
                self.out.send(*self.nonce.as_bytes());
                Ok(State::Proof(theirs))
            }
            (State::Proof(theirs), hash) => {
                let right = self.cookie.is_client_hash(hash, theirs, &self.nonce);
                self.out.send([u8::from(right)]);
                if right {
                    Ok(State::Head)
                } else {
                    Err(ServerError::WrongClient)
                }
            }
            (State::Head, bytes) => {
                let (code, length) = head(bytes.try_into().map_err(|_| ServerError::TooMany)?);
                self.commanded(code, length)
            }
            (State::Body { code: USERADDR, .. }, body) => {
                let address = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
                self.told.client = Some(address.ok_or(ServerError::Address)?);
                Ok(State::Head)
            }
            (State::Body { .. }, body) => {
                let name = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
                self.told.transport = Some(name.ok_or(ServerError::Transport)?);
                Ok(State::Head)
            }
            (State::Skip { code, left }, bytes) => {
                let (code, left) = (*code, left.saturating_sub(bytes.len()));
                Ok(if left == 0 {
                    self.skipped(code)
                } else {
                    State::Skip { code, left }
                })
            }
        }
    }
}

/// Nothing of what was said, which is secret.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Exchange for Server {
    type Done = Introduction;
    type Error = ServerError;

    fn handle(&mut self, bytes: &[u8]) {
        match self.step(bytes) {
            Ok(next) => self.state = next,
            Err(error) => self.out.end(Err(error)),
        }
    }

    fn poll_output(&mut self) -> Output<Introduction, ServerError> {
        let wanted = match self.state {
            State::Method => 1,
            State::Nonce => 32,
            State::Proof(_) => HASH_LEN,
            State::Head => 4,
            State::Body { length, .. } => length,
            State::Skip { left, .. } => left.min(READ_MAX),
        };
        self.out.poll(wanted)
    }
}

/// A connection that has been introduced and waits for the answer.
#[derive(Debug)]
pub struct Accepted<S> {
    stream: S,
    introduction: Introduction,
}

/// Hears a transport out, within `limit`. Not cancel safe.
///
/// # Errors
/// The connection broke, the limit passed, or the transport does not know the cookie or what to say.
pub async fn accept<S>(
    mut stream: S,
    cookie: &Cookie,
    nonce: Nonce,
    limit: Duration,
) -> Result<Accepted<S>, ExchangeError<ServerError>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let server = Server::new(cookie.clone(), nonce);
    let introduction = carry_out(&mut stream, server, limit).await?;
    Ok(Accepted { stream, introduction })
}

impl<S: AsyncWrite + Unpin> Accepted<S> {
    /// Whose it is.
    pub const fn introduction(&self) -> &Introduction {
        &self.introduction
    }

    /// Has the client's bytes sent.
    ///
    /// # Errors
    /// The connection broke or does not take the answer.
    pub async fn allow(mut self, limit: Duration) -> io::Result<S> {
        self.answer(OKAY, limit).await?;
        Ok(self.stream)
    }

    /// Asks for no more of this client for a while, and closes.
    ///
    /// # Errors
    /// The connection broke or does not take the answer.
    pub async fn deny(mut self, limit: Duration) -> io::Result<()> {
        self.answer(DENY, limit).await?;
        self.stream.shutdown().await
    }

    async fn answer(&mut self, code: u16, limit: Duration) -> io::Result<()> {
        let bytes = command(code, &[]);
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        let written = within::<_, ()>(limit, write).await;
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
