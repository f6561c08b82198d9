//! The side that is asked to connect.
//!
//! ```text
//! Greeting ─ Methods ─┬───────────────────────────────┬─ Head ─┬─ Address ─┬─ Done
//!                     └─ AuthHead ─ User ─ Password ──┘        └─ Length ─ Name
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{
    AUTH_VERSION, CONNECT, Credentials, HostName, IPV4, IPV6, NAME, NO_AUTH, NO_METHOD, PASSWORD, Reply,
    Target, VERSION, read_address, write_target,
};
use crate::args::{Args, ArgsError};
use crate::exchange::{Exchange, ExchangeError, Outbox, Output, carry_out, within};

/// How long, and for how many bytes, one that was refused is heard out.
const FAREWELL: Duration = Duration::from_secs(2);
const FAREWELL_MAX: u64 = 4096;

/// Whether a name may stand for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Whoever asks must have looked it up.
    Refuse,
    /// The transport looks it up.
    Allow,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where to connect to.
    pub target: Target,
    /// The arguments of the connection.
    pub args: Args,
}

/// Why a request was not taken. All of them are the other side's fault, and it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ServerError {
    /// Another version, or another protocol.
    #[error("not SOCKS 5: wanted version {VERSION}, got {0}")]
    Version(u8),
    /// It offers neither of the two.
    #[error("no common method of authentication: wanted none or user and password")]
    Method,
    /// The part of RFC 1929 has another version.
    #[error("not RFC 1929: wanted version {AUTH_VERSION}, got {0}")]
    AuthVersion(u8),
    /// RFC 1929 wants at least a byte of each.
    #[error("an empty user or password")]
    EmptyField,
    /// The arguments cannot be read.
    #[error("the arguments of the connection: {0}")]
    Args(#[from] ArgsError),
    /// BIND or UDP ASSOCIATE, or something new.
    #[error("command {0} is not supported: wanted CONNECT")]
    Command(u8),
    /// Of no known kind.
    #[error("kind of address {0} is not supported")]
    AddressKind(u8),
    /// A name, and none is allowed.
    #[error("a name for an address: names are not looked up here")]
    Name,
    /// A name that is none.
    #[error("a name that is empty or has other bytes than printable ASCII")]
    BadName,
}

enum State {
    Greeting,
    Methods(usize),
    AuthHead,
    User(usize),
    Password(Zeroizing<Vec<u8>>, usize),
    Head,
    Address(usize),
    Length,
    Name(usize),
}

/// The handshake up to the request; nothing has been answered to that yet.
pub struct ServerMachine {
    names: Names,
    state: State,
    args: Args,
    out: Outbox<Request, ServerError>,
}

impl ServerMachine {
    /// Nothing has arrived.
    pub const fn new(names: Names) -> Self {
        Self {
            names,
            state: State::Greeting,
            args: Args::new(),
            out: Outbox::new(),
        }
    }

    fn step(&mut self, state: State, bytes: &[u8]) -> Result<State, ServerError> {
        Ok(match (state, bytes) {
            (State::Greeting, [VERSION, 0]) => return Err(self.no_method()),
            (State::Greeting, [VERSION, count]) => State::Methods(usize::from(*count)),
            (State::Greeting, [version, ..]) => return Err(ServerError::Version(*version)),
            // The one that brings arguments, if there is a choice.
            (State::Methods(_), methods) if methods.contains(&PASSWORD) => {
                self.out.send([VERSION, PASSWORD]);
                State::AuthHead
            }
            (State::Methods(_), methods) if methods.contains(&NO_AUTH) => {
                self.out.send([VERSION, NO_AUTH]);
                State::Head
            }
            (State::Methods(_), _) => return Err(self.no_method()),
            (State::AuthHead, [AUTH_VERSION, 0]) => return Err(self.no_auth(ServerError::EmptyField)),
            (State::AuthHead, [AUTH_VERSION, length]) => State::User(usize::from(*length)),
            (State::AuthHead, [version, ..]) => return Err(self.no_auth(ServerError::AuthVersion(*version))),
            (State::User(_), [.., 0]) => return Err(self.no_auth(ServerError::EmptyField)),
            (State::User(_), [user @ .., length]) => {
                State::Password(Zeroizing::new(user.to_vec()), usize::from(*length))
            }
            (State::Password(user, _), password) => {
                let args = Credentials::new(&user, password).to_args();
                self.args = args.map_err(|error| self.no_auth(error.into()))?;
                self.out.send([AUTH_VERSION, 0]);
                State::Head
            }
            (State::Head, [VERSION, CONNECT, _, IPV4]) => State::Address(4 + 2),
            (State::Head, [VERSION, CONNECT, _, IPV6]) => State::Address(16 + 2),
            (State::Head, [VERSION, CONNECT, _, NAME]) => State::Length,
            (State::Head, [VERSION, CONNECT, _, kind]) => {
                return Err(self.refuse(Reply::AddressKind, ServerError::AddressKind(*kind)));
            }
            (State::Head, [VERSION, command, ..]) => {
                return Err(self.refuse(Reply::Command, ServerError::Command(*command)));
            }
            (State::Head, [version, ..]) => {
                return Err(self.refuse(Reply::General, ServerError::Version(*version)));
            }
            (State::Address(size), bytes) => {
                let kind = ServerError::AddressKind(0);
                let address = read_address(bytes).ok_or_else(|| self.refuse(Reply::General, kind))?;
                self.ask(address.into());
                State::Address(size)
            }
            (State::Length, [0]) => return Err(self.refuse(Reply::General, ServerError::BadName)),
            (State::Length, [length, ..]) => State::Name(usize::from(*length) + 2),
            // Refused only here, with all of it read, or the other side may be reset before it has the answer.
            (State::Name(_), _) if self.names == Names::Refuse => {
                return Err(self.refuse(Reply::AddressKind, ServerError::Name));
            }
            (State::Name(size), [name @ .., high, low]) => {
                let name = std::str::from_utf8(name)
                    .ok()
                    .and_then(|name| name.parse::<HostName>().ok());
                let name = name.ok_or_else(|| self.refuse(Reply::General, ServerError::BadName))?;
                self.ask(Target::Name(name, u16::from_be_bytes([*high, *low])));
                State::Name(size)
            }
            // The driver gives what was wanted, never less.
            (state, _) => state,
        })
    }

    fn ask(&mut self, target: Target) {
        let args = std::mem::take(&mut self.args);
        self.out.end(Ok(Request { target, args }));
    }

    fn no_method(&mut self) -> ServerError {
        self.out.send([VERSION, NO_METHOD]);
        ServerError::Method
    }

    fn no_auth(&mut self, error: ServerError) -> ServerError {
        self.out.send([AUTH_VERSION, 1]);
        error
    }

    fn refuse(&mut self, reply: Reply, error: ServerError) -> ServerError {
        self.out.send(answer(reply.code(), None));
        error
    }
}

/// Nothing of what was said, which is secret.
impl fmt::Debug for ServerMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerMachine").finish_non_exhaustive()
    }
}

impl Exchange for ServerMachine {
    type Done = Request;
    type Error = ServerError;

    fn handle(&mut self, bytes: &[u8]) {
        let state = std::mem::replace(&mut self.state, State::Greeting);
        match self.step(state, bytes) {
            Ok(next) => self.state = next,
            Err(error) => self.out.end(Err(error)),
        }
    }

    fn poll_output(&mut self) -> Output<Request, ServerError> {
        let wanted = match &self.state {
            State::Greeting | State::AuthHead => 2,
            State::Methods(count) => *count,
            State::User(length) => length + 1,
            State::Password(_, length) => *length,
            State::Head => 4,
            State::Address(size) | State::Name(size) => *size,
            State::Length => 1,
        };
        self.out.poll(wanted)
    }
}

/// The answer to a request; an unknown address is all zeros.
fn answer(code: u8, bound: Option<SocketAddr>) -> Vec<u8> {
    let mut bytes = vec![VERSION, code, 0];
    let bound = bound.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    write_target(&bound.into(), &mut bytes);
    bytes
}

/// A connection that asked for something and waits for the answer.
#[derive(Debug)]
pub struct Accepted<S> {
    stream: S,
    request: Request,
}

/// Hears a connection out up to its request, within `limit`.
///
/// # Errors
/// It broke, was too slow, or said what cannot be granted; it was told as far as it can be.
pub async fn accept<S>(
    mut stream: S,
    names: Names,
    limit: Duration,
) -> Result<Accepted<S>, ExchangeError<ServerError>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match carry_out(&mut stream, ServerMachine::new(names), limit).await {
        Ok(request) => Ok(Accepted { stream, request }),
        Err(error) => {
            if let ExchangeError::Refused(_) = error {
                // Too slow, or gone: it has had its answer.
                let _ = within::<_, ()>(limit.min(FAREWELL), farewell(&mut stream)).await;
            }
            Err(error)
        }
    }
}

/// Closes, and reads on for a little: to close with bytes unread resets a TCP connection, and the answer might be lost with it.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = stream.take(FAREWELL_MAX);
    tokio::io::copy(&mut unread, &mut tokio::io::sink()).await?;
    Ok(())
}

impl<S: AsyncWrite + Unpin> Accepted<S> {
    /// What it wants.
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// Says that it is connected, from `bound`; its bytes are the target's from now on.
    ///
    /// # Errors
    /// The connection broke or does not take the answer.
    pub async fn grant(mut self, bound: SocketAddr, limit: Duration) -> io::Result<S> {
        self.answer(0, Some(bound), limit).await?;
        Ok(self.stream)
    }

    /// Says why it will not be, and closes it.
    ///
    /// # Errors
    /// The connection broke or does not take the answer.
    pub async fn refuse(mut self, reply: Reply, limit: Duration) -> io::Result<()> {
        self.answer(reply.code(), None, limit).await?;
        self.stream.shutdown().await
    }

    async fn answer(&mut self, code: u8, bound: Option<SocketAddr>, limit: Duration) -> io::Result<()> {
        let bytes = answer(code, bound);
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        let written = within::<_, ()>(limit, write).await;
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exchange::tests::play;

    fn heard(theirs: &[u8]) -> (Vec<u8>, Option<Result<Request, ServerError>>) {
        play(&mut ServerMachine::new(Names::Allow), theirs)
    }

    fn failure(theirs: &[u8]) -> (Vec<u8>, ServerError) {
        let (sent, end) = heard(theirs);
        (sent, end.unwrap().unwrap_err())
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_server_panic(bytes in any::<Vec<u8>>(), name in any::<bool>()) {
            let _ = heard(&bytes);
            // Past the greeting, and past the head.
            let _ = heard(&[&[5, 1, 2][..], &bytes].concat());
            let _ = heard(&[&[5, 1, 0, 5, 1, 0, if name { 3 } else { 4 }][..], &bytes].concat());
        }
    }

    #[test]
    fn user_and_password_are_preferred_since_they_bring_arguments() {
        let (sent, end) =
            heard(b"\x05\x03\x00\x01\x02\x01\x03k=v\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50");
        assert_eq!(sent, [5, 2, 1, 0]);
        let request = end.unwrap().unwrap();
        assert_eq!(request.args.value("k"), Some("v"));
        assert_eq!(request.target, Target::Address(([127, 0, 0, 1], 80).into()));
    }

    #[test]
    fn each_mistake_has_the_answer_that_the_rfc_has_for_it() {
        let reply = |code: u8| [&[5, 0, 5, code, 0][..], &[1, 0, 0, 0, 0, 0, 0]].concat();
        let request = |head: &[u8]| failure(&[&[5, 1, 0][..], head].concat());
        assert_eq!(failure(b"\x04\x01"), (vec![], ServerError::Version(4)));
        assert_eq!(failure(b"GET /"), (vec![], ServerError::Version(b'G')));
        assert_eq!(failure(&[5, 0]), (vec![5, 0xff], ServerError::Method));
        assert_eq!(failure(&[5, 2, 1, 3]), (vec![5, 0xff], ServerError::Method));
        assert_eq!(
            failure(&[5, 1, 2, 5, 1]),
            (vec![5, 2, 1, 1], ServerError::AuthVersion(5))
        );
        assert_eq!(
            failure(&[5, 1, 2, 1, 0]),
            (vec![5, 2, 1, 1], ServerError::EmptyField)
        );
        assert_eq!(
            failure(b"\x05\x01\x02\x01\x01k\x00"),
            (vec![5, 2, 1, 1], ServerError::EmptyField)
        );
        let no_value = ServerError::Args(ArgsError::NoValue(1));
        assert_eq!(
            failure(b"\x05\x01\x02\x01\x01k\x01\x00"),
            (vec![5, 2, 1, 1], no_value)
        );
        assert_eq!(request(&[5, 2, 0, 1]), (reply(7), ServerError::Command(2)));
        assert_eq!(request(&[5, 1, 0, 9]), (reply(8), ServerError::AddressKind(9)));
        assert_eq!(request(&[4, 1, 0, 1]), (reply(1), ServerError::Version(4)));
        assert_eq!(request(&[5, 1, 0, 3, 0]), (reply(1), ServerError::BadName));
        assert_eq!(
            request(&[5, 1, 0, 3, 1, b'\n', 0, 1]),
            (reply(1), ServerError::BadName)
        );
    }

    #[test]
    fn a_failure_to_dial_has_the_reply_that_says_so() {
        let reply = |kind: io::ErrorKind| Reply::from(&io::Error::from(kind));
        assert_eq!(reply(io::ErrorKind::ConnectionRefused), Reply::Refused);
        assert_eq!(reply(io::ErrorKind::TimedOut), Reply::HostUnreachable);
        assert_eq!(
            reply(io::ErrorKind::NetworkUnreachable),
            Reply::NetworkUnreachable
        );
        assert_eq!(reply(io::ErrorKind::Other), Reply::General);
    }

    #[tokio::test]
    #[expect(
        clippy::disallowed_types,
        reason = "only TCP of the real world resets connections"
    )]
    async fn the_answer_arrives_though_bytes_are_left_unread() {
        use tokio::net::{TcpListener, TcpStream};

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let bind = [&[5, 1, 0][..], &[5, 2, 0, 1, 127, 0, 0, 1, 0, 80], &[0; 1000]].concat();
        client.write_all(&bind).await.unwrap();
        client.shutdown().await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let refused = accept(stream, Names::Refuse, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert!(matches!(refused, ExchangeError::Refused(ServerError::Command(2))));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
}
