//! The transport's side: shows that it may, says whose connection it brings.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use super::server::Introduction;
use super::{Cookie, DENY, DONE, HASH_LEN, Nonce, OKAY, SAFE_COOKIE, TRANSPORT, USERADDR, command, head};
use crate::exchange::{Exchange, ExchangeError, Outbox, Output, READ_MAX, carry_out};

/// So many answers that are neither yes nor no are ignored.
const IGNORED_MAX: u32 = 16;

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClientError {
    /// It does not offer the one way to authenticate.
    #[error("the Extended ORPort does not offer SAFE_COOKIE authentication")]
    Method,
    /// Something else listens there, or with another cookie.
    #[error(
        "what listens at the Extended ORPort does not know the cookie: is the cookie's file that of another run?"
    )]
    WrongServer,
    /// It does not believe us.
    #[error("the Extended ORPort refused our authentication")]
    Refused,
    /// It would rather not have connections of this client.
    #[error("the Extended ORPort denied the connection")]
    Denied,
    /// Neither yes nor no.
    #[error("the Extended ORPort gave {IGNORED_MAX} answers that are neither OKAY nor DENY")]
    Babble,
}

enum State {
    /// Methods up to a zero, one by one; whether ours was among them.
    Methods(bool),
    Proof,
    Status,
    Head,
    Body {
        code: u16,
        left: usize,
    },
}

/// The handshake, up to the permission to send the client's bytes.
pub struct Client {
    cookie: Cookie,
    nonce: Nonce,
    /// What to tell once it is believed.
    told: Vec<u8>,
    ignored: u32,
    state: State,
    out: Outbox<(), ClientError>,
}

impl Client {
    /// Nothing has arrived.
    pub fn new(cookie: Cookie, nonce: Nonce, introduction: &Introduction) -> Self {
        let mut told = Vec::new();
        if let Some(client) = introduction.client {
            told.extend(command(USERADDR, plain(client).as_bytes()));
        }
        if let Some(transport) = &introduction.transport {
            told.extend(command(TRANSPORT, transport.as_str().as_bytes()));
        }
        told.extend(command(DONE, &[]));
        Self {
            cookie,
            nonce,
            told,
            ignored: 0,
            state: State::Methods(false),
            out: Outbox::new(),
        }
    }

    fn answered(&mut self, code: u16) -> Result<State, ClientError> {
        match code {
            OKAY => self.out.end(Ok(())),
            DENY => return Err(ClientError::Denied),
            _ if self.ignored == IGNORED_MAX => return Err(ClientError::Babble),
            _ => self.ignored += 1,
        }
        Ok(State::Head)
    }

    fn step(&mut self, bytes: &[u8]) -> Result<State, ClientError> {
        match (&self.state, bytes) {
            (State::Methods(true), [0]) => {
                self.out.send([SAFE_COOKIE]);
                self.out.send(*self.nonce.as_bytes());
                Ok(State::Proof)
            }
            (State::Methods(false), [0]) => {
                self.out.send([0]);
                Err(ClientError::Method)
            }
            (State::Methods(found), [method, ..]) => Ok(State::Methods(*found || *method == SAFE_COOKIE)),
            (State::Proof, bytes) => {
                let (hash, nonce) = bytes.split_last_chunk::<32>().ok_or(ClientError::WrongServer)?;
                let theirs = Nonce::from_bytes(*nonce);
                if !self.cookie.is_server_hash(hash, &self.nonce, &theirs) {
                    return Err(ClientError::WrongServer);
                }
                self.out.send(self.cookie.client_hash(&self.nonce, &theirs));
                Ok(State::Status)
            }
            (State::Status, [1]) => {
                self.out.send(std::mem::take(&mut self.told));
                Ok(State::Head)
            }
            (State::Status, _) => Err(ClientError::Refused),
            (State::Head, bytes) => match bytes.try_into().map(head) {
                Ok((code, 0)) => self.answered(code),
                Ok((code, left)) => Ok(State::Body { code, left }),
                Err(_) => Err(ClientError::Babble),
            },
            (State::Body { code, left }, bytes) => {
                let (code, left) = (*code, left.saturating_sub(bytes.len()));
                if left == 0 {
                    self.answered(code)
                } else {
                    Ok(State::Body { code, left })
                }
            }
            (State::Methods(_), []) => Err(ClientError::Method),
        }
    }
}

/// Nothing of what was said, which is secret.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Exchange for Client {
    type Done = ();
    type Error = ClientError;

    fn handle(&mut self, bytes: &[u8]) {
        match self.step(bytes) {
            Ok(next) => self.state = next,
            Err(error) => self.out.end(Err(error)),
        }
    }

    fn poll_output(&mut self) -> Output<(), ClientError> {
        let wanted = match self.state {
            State::Methods(_) | State::Status => 1,
            State::Proof => HASH_LEN + 32,
            State::Head => 4,
            State::Body { left, .. } => left.min(READ_MAX),
        };
        self.out.poll(wanted)
    }
}

/// Without the flow and scope of an IPv6 address, which the specification does not have.
fn plain(address: std::net::SocketAddr) -> String {
    std::net::SocketAddr::new(address.ip(), address.port()).to_string()
}

/// Introduces a connection to the Extended ORPort at the other end of `stream`, within `limit`; the client's bytes follow.
/// Not cancel safe.
///
/// # Errors
/// The connection broke, the limit passed, or the other side does not take it.
pub async fn connect<S>(
    mut stream: S,
    cookie: &Cookie,
    nonce: Nonce,
    introduction: &Introduction,
    limit: Duration,
) -> Result<S, ExchangeError<ClientError>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = Client::new(cookie.clone(), nonce, introduction);
    carry_out(&mut stream, client, limit).await?;
    Ok(stream)
}
