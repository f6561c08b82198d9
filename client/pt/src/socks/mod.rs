//! SOCKS 5 as the parent and the client of a transport speak it: CONNECT, with the arguments of a connection in the place of
//! a name and a password. Spec: RFC 1928; RFC 1929; pt-spec §3.5.

mod client;
mod server;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::args::{Args, ArgsError};
use crate::proxy::Login;

pub use client::{ClientError, ClientMachine, connect};
pub use server::{Accepted, Names, Request, ServerError, ServerMachine, accept};

const VERSION: u8 = 5;
const AUTH_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const NO_AUTH: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
/// What each of the two fields can carry.
const FIELD_MAX: usize = 255;

/// Where a connection is to go. `Display` writes it; `Debug` does not, for it may be a bridge.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name for the other side to look up, 1 to 255 bytes of printable ASCII.
    Name(HostName, u16),
}

/// The name of a host: 1 to 255 bytes of printable ASCII without blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

/// What was given is no name of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no name of a host: wanted 1 to {FIELD_MAX} bytes of printable ASCII")]
pub struct HostNameError;

/// What a SOCKS server answers to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Reply {
    /// Anything not in this list.
    #[error("general failure")]
    General,
    /// Not by these rules.
    #[error("not allowed")]
    NotAllowed,
    /// No way to the network.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// No way to the host, or it did not answer.
    #[error("host unreachable")]
    HostUnreachable,
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// It went in circles.
    #[error("time to live expired")]
    TtlExpired,
    /// Only CONNECT is.
    #[error("command not supported")]
    Command,
    /// Such a target cannot be dialled.
    #[error("kind of address not supported")]
    AddressKind,
    /// A number that the RFC does not have.
    #[error("unknown reply {0}")]
    Unknown(u8),
}

/// What goes into the fields for a name and a password. Never shown.
#[derive(Clone)]
pub struct Credentials {
    user: Zeroizing<Vec<u8>>,
    password: Zeroizing<Vec<u8>>,
}

/// The arguments do not fit the two fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the arguments of the connection take {0} bytes, and SOCKS 5 carries {max}", max = 2 * FIELD_MAX)]
pub struct TooLong(pub usize);

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if printable && (1..=FIELD_MAX).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HostNameError)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{}:{port}", name.as_str()),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Target(not shown)")
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl Reply {
    const fn code(self) -> u8 {
        match self {
            Self::General => 1,
            Self::NotAllowed => 2,
            Self::NetworkUnreachable => 3,
            Self::HostUnreachable => 4,
            Self::Refused => 5,
            Self::TtlExpired => 6,
            Self::Command => 7,
            Self::AddressKind => 8,
            Self::Unknown(code) => code,
        }
    }

    const fn of_code(code: u8) -> Self {
        match code {
            1 => Self::General,
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::Refused,
            6 => Self::TtlExpired,
            7 => Self::Command,
            8 => Self::AddressKind,
            other => Self::Unknown(other),
        }
    }
}

/// What to answer when dialling failed.
impl From<&io::Error> for Reply {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => Self::HostUnreachable,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => Self::NetworkUnreachable,
            io::ErrorKind::PermissionDenied => Self::NotAllowed,
            _ => Self::General,
        }
    }
}

impl Credentials {
    /// The arguments of a connection, of which there must be some: the first 255 bytes as the name, the rest as the
    /// password, one NUL if there is none.
    ///
    /// # Errors
    /// They are longer than both fields.
    pub fn of_args(args: &Args) -> Result<Self, TooLong> {
        let text = Zeroizing::new(args.to_socks());
        if text.len() > 2 * FIELD_MAX {
            return Err(TooLong(text.len()));
        }
        let (user, password) = text.as_bytes().split_at(text.len().min(FIELD_MAX));
        let password = if password.is_empty() { &[0][..] } else { password };
        Ok(Self::new(user, password))
    }

    /// As whom to use a proxy.
    pub fn of_login(login: &Login) -> Self {
        Self::new(login.user().as_bytes(), login.password().as_bytes())
    }

    fn new(user: &[u8], password: &[u8]) -> Self {
        Self {
            user: Zeroizing::new(user.to_vec()),
            password: Zeroizing::new(password.to_vec()),
        }
    }

    /// The inverse of [`Credentials::of_args`].
    fn to_args(&self) -> Result<Args, ArgsError> {
        let password = match &self.password[..] {
            [0] => &[][..],
            other => other,
        };
        let bytes = Zeroizing::new([&self.user[..], password].concat());
        // No argument has what stands for bytes that are not UTF-8, and none is a control character.
        let text = std::str::from_utf8(&bytes).map_err(|_| ArgsError::Control(1))?;
        Args::from_socks(text)
    }
}

/// Shows nothing.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(not shown)")
    }
}

/// Kind, address and port, as requests and replies have them.
fn write_target(target: &Target, out: &mut Vec<u8>) {
    let port = match target {
        Target::Address(address) => {
            match address.ip() {
                IpAddr::V4(ip) => {
                    out.push(IPV4);
                    out.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.push(IPV6);
                    out.extend(ip.octets());
                }
            }
            address.port()
        }
        Target::Name(name, port) => {
            out.push(NAME);
            out.push(name.0.len() as u8); // 255 at most
            out.extend(name.0.bytes());
            *port
        }
    };
    out.extend(port.to_be_bytes());
}

/// An address and its port, of as many bytes as its kind has.
fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::args::tests::args;
    use crate::exchange::ExchangeError;

    const LIMIT: Duration = Duration::from_secs(5);

    proptest! {
        #[test]
        fn arguments_survive_the_two_fields(args in args()) {
            prop_assume!(!args.is_empty());
            let credentials = Credentials::of_args(&args).unwrap();
            prop_assert!(!credentials.password.is_empty());
            prop_assert_eq!(credentials.to_args().unwrap(), args);
        }

        #[test]
        fn no_credentials_make_the_parser_panic(user in any::<Vec<u8>>(), password in any::<Vec<u8>>()) {
            let _ = Credentials::new(&user, &password).to_args();
        }
    }

    #[test]
    fn arguments_are_split_at_255_bytes() {
        let sized = |length: usize| Args::new().with("k", "v".repeat(length - 2)).unwrap();
        for (length, user, password) in [(10, 10, 1), (255, 255, 1), (256, 255, 1), (510, 255, 255)] {
            let credentials = Credentials::of_args(&sized(length)).unwrap();
            assert_eq!(
                (credentials.user.len(), credentials.password.len()),
                (user, password),
                "{length}"
            );
            assert_eq!(credentials.password[0] == 0, length <= 255, "{length}");
            assert_eq!(credentials.to_args().unwrap(), sized(length));
        }
        assert_eq!(Credentials::of_args(&sized(511)).unwrap_err(), TooLong(511));
    }

    /// Both sides of this crate, over a pipe.
    async fn meet(
        target: Target,
        credentials: Option<Credentials>,
        names: Names,
        answer: Result<(), Reply>,
    ) -> (
        Result<Request, ExchangeError<ServerError>>,
        Result<(), ExchangeError<ClientError>>,
    ) {
        let (ours, theirs) = tokio::io::duplex(64);
        let server = async {
            let accepted = accept(theirs, names, LIMIT).await?;
            let request = accepted.request().clone();
            match answer {
                Ok(()) => {
                    let mut stream = accepted.grant(([127, 0, 0, 1], 9).into(), LIMIT).await.unwrap();
                    stream.write_all(b"later").await.unwrap();
                }
                Err(reply) => accepted.refuse(reply, LIMIT).await.unwrap(),
            }
            Ok::<_, ExchangeError<ServerError>>(request)
        };
        let client = async {
            let mut stream = connect(ours, &target, credentials, LIMIT).await?;
            let mut later = String::new();
            stream.read_to_string(&mut later).await.unwrap();
            assert_eq!(later, "later");
            Ok::<_, ExchangeError<ClientError>>(())
        };
        let (server, client) = (Box::pin(server), Box::pin(client));
        both(server, client).await
    }

    async fn both<A: Future + Unpin, B: Future + Unpin>(mut a: A, mut b: B) -> (A::Output, B::Output) {
        let (mut one, mut two) = (None, None);
        while one.is_none() || two.is_none() {
            tokio::select! {
                biased;
                done = &mut a, if one.is_none() => one = Some(done),
                done = &mut b, if two.is_none() => two = Some(done),
            }
        }
        one.zip(two).unwrap()
    }

    fn name(text: &str) -> Target {
        Target::Name(text.parse().unwrap(), 443)
    }

    #[tokio::test]
    async fn every_kind_of_target_arrives_with_its_arguments_or_without() {
        let args = Args::new()
            .with("cert", "a;b=c\\")
            .unwrap()
            .with("long", "x".repeat(300))
            .unwrap();
        let v4 = SocketAddr::from(([192, 0, 2, 3], 80));
        let v6 = SocketAddr::from(([0xfd, 0, 0, 0, 0, 0, 0, 7], 65535));
        for target in [v4.into(), v6.into(), name("example.com"), name(&"n".repeat(255))] {
            for args in [Args::new(), args.clone()] {
                let credentials = (!args.is_empty()).then(|| Credentials::of_args(&args).unwrap());
                let (server, client) = meet(target.clone(), credentials, Names::Allow, Ok(())).await;
                let target = target.clone();
                assert_eq!(server.unwrap(), Request { target, args });
                client.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_refusal_arrives_as_what_it_is() {
        for code in 1..=20 {
            let reply = Reply::of_code(code);
            assert_eq!(reply.code(), code);
            let (_, client) = meet(name("a"), None, Names::Allow, Err(reply)).await;
            let error = client.unwrap_err();
            assert!(matches!(error, ExchangeError::Refused(ClientError::Reply(got)) if got == reply));
        }
        let (server, client) = meet(name("a"), None, Names::Refuse, Ok(())).await;
        assert!(matches!(
            server.unwrap_err(),
            ExchangeError::Refused(ServerError::Name)
        ));
        let refused = client.unwrap_err();
        assert!(matches!(
            refused,
            ExchangeError::Refused(ClientError::Reply(Reply::AddressKind))
        ));
    }

    #[test]
    fn no_secret_is_shown() {
        let login = Login::new("user", "hush").unwrap();
        assert_eq!(
            format!("{:?}", Credentials::of_login(&login)),
            "Credentials(not shown)"
        );
        let args = Args::new().with("cert", "hush").unwrap();
        let target = name("bridge.example");
        let client = ClientMachine::new(&target, Some(Credentials::of_args(&args).unwrap()));
        assert_eq!(format!("{client:?}"), "ClientMachine { .. }");
        let request = format!("{:?}", Request { target, args });
        assert!(
            !request.contains("bridge") && !request.contains("hush"),
            "{request}"
        );
    }
}
