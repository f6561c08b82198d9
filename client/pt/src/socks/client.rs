//! The side that asks.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    AUTH_VERSION, CONNECT, Credentials, IPV4, IPV6, NAME, NO_AUTH, NO_METHOD, PASSWORD, Reply, Target,
    VERSION, write_target,
};
use crate::exchange::{Exchange, ExchangeError, Outbox, Output, carry_out};

/// Why the other side did not connect us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClientError {
    /// Something else listens there.
    #[error("not SOCKS 5: wanted version {wanted}, got {got}")]
    Version {
        /// The version of SOCKS, or of RFC 1929.
        wanted: u8,
        /// What stood there.
        got: u8,
    },
    /// It does not take arguments, or not without.
    #[error("the method of authentication that was offered, {offered}, was not taken: got {got}")]
    Method {
        /// 0 is none, 2 user and password.
        offered: u8,
        /// 255 is "none of these".
        got: u8,
    },
    /// The arguments, or user and password, are not to its liking.
    #[error("the arguments of the connection, or its user and password, were refused")]
    Auth,
    /// It could not or would not connect.
    #[error("no connection: {0}")]
    Reply(#[from] Reply),
    /// It connected, and says so in a way that cannot be read.
    #[error("a reply with an address of unknown kind {0}")]
    AddressKind(u8),
}

enum State {
    Method,
    Auth,
    Head,
    /// The address it is connected from, and its port: of no interest.
    Rest(usize),
    Length,
}

/// The handshake, from the greeting to the reply.
pub struct ClientMachine {
    credentials: Option<Credentials>,
    /// What to send once the method is settled.
    request: Vec<u8>,
    state: State,
    out: Outbox<(), ClientError>,
}

impl ClientMachine {
    /// Offers just the method that it needs: with arguments, none without would do.
    pub fn new(target: &Target, credentials: Option<Credentials>) -> Self {
        let mut request = vec![VERSION, CONNECT, 0];
        write_target(target, &mut request);
        let mut machine = Self {
            credentials,
            request,
            state: State::Method,
            out: Outbox::new(),
        };
        machine.out.send([VERSION, 1, machine.method()]);
        machine
    }

    const fn method(&self) -> u8 {
        match self.credentials {
            Some(_) => PASSWORD,
            None => NO_AUTH,
        }
    }

    fn ask(&mut self) -> State {
        self.out.send(std::mem::take(&mut self.request));
        State::Head
    }

    fn step(&mut self, bytes: &[u8]) -> Result<State, ClientError> {
        let (offered, wanted) = (self.method(), VERSION);
        Ok(match (&self.state, bytes) {
            (State::Method, [VERSION, got]) if *got != offered || *got == NO_METHOD => {
                return Err(ClientError::Method { offered, got: *got });
            }
            (State::Method, [VERSION, _]) => match self.credentials.take() {
                None => self.ask(),
                Some(Credentials { user, password }) => {
                    // Both are of 255 bytes at most.
                    let mut auth = vec![AUTH_VERSION, user.len() as u8];
                    auth.extend_from_slice(&user);
                    auth.push(password.len() as u8);
                    auth.extend_from_slice(&password);
                    self.out.send(auth);
                    State::Auth
                }
            },
            (State::Method | State::Head, [got, ..]) if *got != VERSION => {
                return Err(ClientError::Version { wanted, got: *got });
            }
            // Some answer with the version of SOCKS: only what follows it counts.
            (State::Auth, [_, 0]) => self.ask(),
            (State::Auth, _) => return Err(ClientError::Auth),
            (State::Head, [_, 0, _, IPV4]) => State::Rest(4 + 2),
            (State::Head, [_, 0, _, IPV6]) => State::Rest(16 + 2),
            (State::Head, [_, 0, _, NAME]) => State::Length,
            (State::Head, [_, 0, _, kind]) => return Err(ClientError::AddressKind(*kind)),
            (State::Head, [_, code, ..]) => return Err(Reply::of_code(*code).into()),
            (State::Length, [length]) => State::Rest(usize::from(*length) + 2),
            (State::Rest(size), _) => {
                self.out.end(Ok(()));
                State::Rest(*size)
            }
            // The driver gives what was wanted, never less.
            (State::Method | State::Head | State::Length, _) => {
                return Err(ClientError::Version { wanted, got: 0 });
            }
        })
    }
}

/// Nothing of what was said, which is secret.
impl fmt::Debug for ClientMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientMachine").finish_non_exhaustive()
    }
}

impl Exchange for ClientMachine {
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
            State::Method | State::Auth => 2,
            State::Head => 4,
            State::Rest(size) => size,
            State::Length => 1,
        };
        self.out.poll(wanted)
    }
}

/// Has the SOCKS server at the other end of `stream` connect it to `target`; within `limit`, in which it must also have
/// dialled. Not cancel safe.
///
/// # Errors
/// The connection broke, the limit passed, or the server refused.
pub async fn connect<S>(
    mut stream: S,
    target: &Target,
    credentials: Option<Credentials>,
    limit: Duration,
) -> Result<S, ExchangeError<ClientError>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let machine = ClientMachine::new(target, credentials);
    carry_out(&mut stream, machine, limit).await?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::args::Args;
    use crate::exchange::tests::play;

    fn machine(args: bool) -> ClientMachine {
        let args = args.then(|| Credentials::of_args(&Args::new().with("k", "v").unwrap()).unwrap());
        ClientMachine::new(&SocketAddr::from(([127, 0, 0, 1], 80)).into(), args)
    }

    fn failure(args: bool, theirs: &[u8]) -> ClientError {
        play(&mut machine(args), theirs).1.unwrap().unwrap_err()
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_client_panic(bytes in any::<Vec<u8>>()) {
            let _ = play(&mut machine(true), &bytes);
            let _ = play(&mut machine(true), &[&[5, 2, 1, 0][..], &bytes].concat());
            let _ = play(&mut machine(false), &[&[5, 0, 5, 0, 0][..], &bytes].concat());
        }
    }

    #[test]
    fn arguments_go_out_as_the_specification_says() {
        let (sent, end) = play(&mut machine(true), &[5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            sent,
            b"\x05\x01\x02\x01\x03k=v\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"
        );
        assert_eq!(end, Some(Ok(())));
    }

    #[test]
    fn each_failure_says_what_the_other_side_did() {
        let (offered, wanted) = (2, 5);
        assert_eq!(failure(true, &[5, 0]), ClientError::Method { offered, got: 0 });
        assert_eq!(
            failure(true, &[5, 0xff]),
            ClientError::Method { offered, got: 0xff }
        );
        assert_eq!(failure(true, b"HT"), ClientError::Version { wanted, got: b'H' });
        assert_eq!(failure(true, &[5, 2, 1, 1]), ClientError::Auth);
        assert_eq!(failure(false, &[5, 0, 5, 0, 0, 9]), ClientError::AddressKind(9));
        assert_eq!(
            failure(false, &[5, 0, 5, 4, 0, 1]),
            ClientError::Reply(Reply::HostUnreachable)
        );
    }
}
