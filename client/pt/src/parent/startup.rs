//! What a program says until its transports are ready: a machine that is given lines. Spec: pt-spec §3.3.
//!
//! ```text
//! Version ── VERSION 1 ──> Proxy (if there is one) ── PROXY DONE ──> Methods ── …METHODS DONE ──> ready
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;

use thiserror::Error;

use crate::args::Args;
use crate::env::{Role, VERSION};
use crate::lines::{LINE_MAX, Line};
use crate::message::{Message, MessageError, SocksVersion};
use crate::name::TransportName;

/// A program that says more before it is ready does not speak to us.
const LINES_MAX: u64 = 1000;

/// A transport that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// A client's: where to ask for a connection. A server's: where it listens.
    pub address: SocketAddr,
    /// A server's: what its clients must know.
    pub args: Args,
}

/// The transports of one life of a program: after a restart they listen elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Methods {
    /// Those that are ready.
    pub ready: BTreeMap<TransportName, Method>,
    /// Those that were asked for and are not, and why, in the program's words.
    pub failed: BTreeMap<TransportName, String>,
}

/// What a line comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing, or nothing yet.
    Nothing,
    /// A LOG or a STATUS.
    Aside(Message),
    /// All is said: at least one transport is ready.
    Ready(Methods),
}

/// Why a program is of no use. The line is counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartupError {
    /// Its words.
    #[error(
        "it does not speak version {VERSION} of the specification: {0:?}; a newer or older release of it may"
    )]
    Version(String),
    /// Its words.
    #[error("it cannot use what it was told: {0:?}")]
    Environment(String),
    /// Its words.
    #[error("it cannot use the upstream proxy: {0}")]
    Proxy(String),
    /// The proxy would be passed by.
    #[error(
        "line {0}: it says nothing of the upstream proxy, so it would go around it: use another program or no proxy"
    )]
    ProxyIgnored(u64),
    /// A known line that cannot be read.
    #[error("line {line} is malformed: {error}; is this a transport of version {VERSION}?")]
    Malformed {
        /// Which.
        line: u64,
        /// What is wrong.
        error: MessageError,
    },
    /// A line without end, or nearly.
    #[error("line {0} is longer than {LINE_MAX} bytes: is this a transport at all?")]
    TooLong(u64),
    /// It talks and talks.
    #[error("more than {LINES_MAX} lines before {0}: is this a transport at all?")]
    TooMany(&'static str),
    /// A known line out of its turn, or of the other side.
    #[error("line {line} is out of turn: wanted {wanted}")]
    OutOfTurn {
        /// Which.
        line: u64,
        /// What should have come.
        wanted: &'static str,
    },
    /// Arguments would leave the machine.
    #[error("line {line}: {transport} does not listen on loopback, and the arguments of bridges go there")]
    NotLoopback {
        /// Which.
        line: u64,
        /// Of which transport.
        transport: TransportName,
    },
    /// Not one of those asked for.
    #[error("none of the transports asked for is ready ({0}): does this program have them?")]
    NoMethods(String),
}

impl StartupError {
    /// Whether starting it again, just so, can but fail again.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Version(_)
                | Self::Environment(_)
                | Self::Proxy(_)
                | Self::ProxyIgnored(_)
                | Self::NotLoopback { .. }
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Version,
    Proxy,
    Methods,
}

/// Listens to a program until its transports are ready.
#[derive(Debug)]
pub struct Startup {
    is_client: bool,
    has_proxy: bool,
    /// Whether what it says of the proxy may repeat a password.
    has_login: bool,
    asked: Vec<TransportName>,
    state: State,
    lines: u64,
    methods: Methods,
}

impl Startup {
    /// Nothing has been said. `role` is what the program was told.
    pub fn new(role: &Role) -> Self {
        let proxy = match role {
            Role::Client { proxy, .. } => proxy.as_ref(),
            Role::Server { .. } => None,
        };
        Self {
            is_client: matches!(role, Role::Client { .. }),
            has_proxy: proxy.is_some(),
            has_login: proxy.is_some_and(|proxy| proxy.login.is_some()),
            asked: role.transports().into_iter().cloned().collect(),
            state: State::Version,
            lines: 0,
            methods: Methods::default(),
        }
    }

    /// The line that is waited for.
    pub const fn wanted(&self) -> &'static str {
        match self.state {
            State::Version => "VERSION",
            State::Proxy => "PROXY DONE",
            State::Methods if self.is_client => "CMETHODS DONE",
            State::Methods => "SMETHODS DONE",
        }
    }

    /// How many lines it said.
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// It said this. Not to be called again after [`Heard::Ready`] or an error.
    ///
    /// # Errors
    /// The program is of no use.
    pub fn handle(&mut self, line: &Line) -> Result<Heard, StartupError> {
        self.lines += 1;
        if self.lines > LINES_MAX {
            return Err(StartupError::TooMany(self.wanted()));
        }
        let text = line.text.as_ref().ok_or(StartupError::TooLong(line.number))?;
        let message = Message::parse(text).map_err(|error| StartupError::Malformed {
            line: line.number,
            error,
        })?;
        match message {
            None => Ok(Heard::Nothing),
            Some(aside @ (Message::Log { .. } | Message::Status { .. })) => Ok(Heard::Aside(aside)),
            Some(message) => self.message(line.number, message),
        }
    }

    fn message(&mut self, line: u64, message: Message) -> Result<Heard, StartupError> {
        match (self.state, message) {
            (_, Message::VersionError(words)) => return Err(StartupError::Version(words)),
            (_, Message::EnvError(words)) => return Err(StartupError::Environment(words)),
            (_, Message::ProxyError(_)) if self.has_login => {
                let hidden = "its words are not shown, since they may repeat the password".to_owned();
                return Err(StartupError::Proxy(hidden));
            }
            (_, Message::ProxyError(words)) => return Err(StartupError::Proxy(format!("{words:?}"))),
            (State::Version, Message::Version(version)) if version == VERSION => {
                self.state = if self.has_proxy {
                    State::Proxy
                } else {
                    State::Methods
                };
            }
            (State::Version, Message::Version(version)) => return Err(StartupError::Version(version)),
            (State::Proxy, Message::ProxyDone) => self.state = State::Methods,
            (State::Proxy, _) => return Err(StartupError::ProxyIgnored(line)),
            (
                State::Methods,
                Message::Cmethod {
                    transport,
                    socks,
                    address,
                },
            ) if self.is_client => {
                if !address.ip().is_loopback() {
                    return Err(StartupError::NotLoopback { line, transport });
                }
                match socks {
                    SocksVersion::Socks5 => self.ready(transport, address, Args::new()),
                    SocksVersion::Socks4 => self.failed(transport, "it speaks only SOCKS 4".to_owned()),
                }
            }
            (State::Methods, Message::CmethodError { transport, reason }) if self.is_client => {
                self.failed(transport, reason);
            }
            (
                State::Methods,
                Message::Smethod {
                    transport,
                    address,
                    args,
                },
            ) if !self.is_client => self.ready(transport, address, args),
            (State::Methods, Message::SmethodError { transport, reason }) if !self.is_client => {
                self.failed(transport, reason);
            }
            (State::Methods, Message::CmethodsDone) if self.is_client => return self.done(),
            (State::Methods, Message::SmethodsDone) if !self.is_client => return self.done(),
            _ => {
                let wanted = self.wanted();
                return Err(StartupError::OutOfTurn { line, wanted });
            }
        }
        Ok(Heard::Nothing)
    }

    /// What was not asked for is ignored, which also bounds what is kept.
    fn ready(&mut self, transport: TransportName, address: SocketAddr, args: Args) {
        if self.asked.contains(&transport) {
            self.methods.failed.remove(&transport);
            self.methods.ready.insert(transport, Method { address, args });
        }
    }

    fn failed(&mut self, transport: TransportName, reason: String) {
        if self.asked.contains(&transport) {
            self.methods.ready.remove(&transport);
            self.methods.failed.insert(transport, reason);
        }
    }

    fn done(&mut self) -> Result<Heard, StartupError> {
        let mut methods = std::mem::take(&mut self.methods);
        for name in &self.asked {
            if !methods.ready.contains_key(name) && !methods.failed.contains_key(name) {
                let reason = "the program does not know it".to_owned();
                methods.failed.insert(name.clone(), reason);
            }
        }
        if methods.ready.is_empty() {
            let all = methods.failed.iter();
            let all: Vec<_> = all.map(|(name, reason)| format!("{name}: {reason:?}")).collect();
            return Err(StartupError::NoMethods(all.join(", ")));
        }
        Ok(Heard::Ready(methods))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::env::{OrPort, ServerTransport};
    use crate::lines::Lines;

    fn client(proxy: Option<&str>) -> Role {
        Role::Client {
            transports: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            proxy: proxy.map(|uri| uri.parse().unwrap()),
        }
    }

    fn server() -> Role {
        Role::Server {
            transports: vec![ServerTransport::new("a".parse().unwrap())],
            orport: OrPort::Plain(([127, 0, 0, 1], 1).into()),
        }
    }

    /// The end of what `said` comes to, if it does.
    fn listen(role: &Role, said: &str) -> Option<Result<Methods, StartupError>> {
        let mut startup = Startup::new(role);
        for line in Lines::default().handle(said.as_bytes()) {
            match startup.handle(&line) {
                Ok(Heard::Ready(methods)) => return Some(Ok(methods)),
                Err(error) => return Some(Err(error)),
                Ok(_) => {}
            }
        }
        None
    }

    fn refusal(role: &Role, said: &str) -> String {
        listen(role, said).unwrap().unwrap_err().to_string()
    }

    #[test]
    fn transports_that_are_ready_are_used_and_the_others_have_a_reason() {
        let said = "hello\nVERSION 1\nLOG SEVERITY=info MESSAGE=hi\nCMETHOD-ERROR b no rocks available\n\
            CMETHOD c socks5 127.0.0.1:3\nCMETHOD a socks5 127.0.0.1:1\nCMETHODS DONE\n";
        let methods = listen(&client(None), said).unwrap().unwrap();
        assert_eq!(methods.ready.len(), 1);
        assert_eq!(methods.ready[&"a".parse().unwrap()].address.port(), 1);
        assert_eq!(methods.failed[&"b".parse().unwrap()], "no rocks available");
        let said = "VERSION 1\nSMETHOD a 192.0.2.1:7 ARGS:k=v\nSMETHODS DONE\n";
        let methods = listen(&server(), said).unwrap().unwrap();
        assert_eq!(methods.ready[&"a".parse().unwrap()].args.value("k"), Some("v"));
    }

    #[test]
    fn a_proxy_that_the_program_does_not_speak_of_is_not_trusted_to_it() {
        let proxied = client(Some("socks5://127.0.0.1:9"));
        let ready = "CMETHOD a socks5 127.0.0.1:1\nCMETHODS DONE\n";
        assert!(
            listen(&proxied, &format!("VERSION 1\nPROXY DONE\n{ready}"))
                .unwrap()
                .is_ok()
        );
        let error = refusal(&proxied, &format!("VERSION 1\n{ready}"));
        assert!(
            error.starts_with("line 2: it says nothing of the upstream proxy"),
            "{error}"
        );
        let secret = client(Some("socks5://u:hush@127.0.0.1:9"));
        assert!(
            !refusal(
                &secret,
                "VERSION 1\nPROXY-ERROR bad socks5://u:hush@127.0.0.1:9\n"
            )
            .contains("hush")
        );
    }

    #[test]
    fn an_error_says_which_line_and_what_was_wanted() {
        let said = |text: &str| refusal(&client(None), text);
        assert!(said("VERSION 2\n").starts_with("it does not speak version 1"));
        assert!(said("VERSION-ERROR no-version\n").contains("no-version"));
        assert!(said("VERSION 1\nENV-ERROR no state\n").contains("no state"));
        assert_eq!(said("CMETHODS DONE\n"), "line 1 is out of turn: wanted VERSION");
        assert_eq!(
            said("VERSION 1\nSMETHODS DONE\n"),
            "line 2 is out of turn: wanted CMETHODS DONE"
        );
        assert!(
            said("\n\nVERSION 1\nCMETHOD a socks5 hush\n").starts_with("line 4 is malformed: CMETHOD has no")
        );
        assert!(
            said("VERSION 1\nCMETHOD a socks5 192.0.2.1:1\n").starts_with("line 2: a does not listen on")
        );
        assert!(said(&format!("{}\n", "x".repeat(9000))).starts_with("line 1 is longer than 8192 bytes"));
        assert!(said(&"x\n".repeat(1001)).starts_with("more than 1000 lines before VERSION"));
        let nothing = said("VERSION 1\nCMETHOD a socks4 127.0.0.1:1\nCMETHODS DONE\n");
        assert!(
            nothing.contains("a: \"it speaks only SOCKS 4\", b: \"the program does not know it\""),
            "{nothing}"
        );
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_makes_it_panic_or_trust_another_machine(
            lines in prop::collection::vec(
                prop::sample::select(vec![
                    "VERSION 1", "PROXY DONE", "CMETHOD a socks5 127.0.0.1:1", "CMETHOD b socks5 192.0.2.1:1",
                    "CMETHOD-ERROR a", "CMETHODS DONE", "SMETHOD a 127.0.0.1:1", "SMETHODS DONE", "LOG x", "STATUS", "x",
                ]),
                0..8,
            ),
            bytes in any::<Vec<u8>>(),
        ) {
            let said = lines.join("\n") + "\n" + &String::from_utf8_lossy(&bytes) + "\n";
            if let Some(Ok(methods)) = listen(&client(None), &said) {
                prop_assert!(methods.ready.values().all(|method| method.address.ip().is_loopback()));
            }
            let _ = listen(&server(), &said);
        }
    }
}
