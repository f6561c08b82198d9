//! Bringing a link up over a stream: dialling, being dialled, resuming. Spec: SPEC §2.2, §2.3, §2.7.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::event::{Event, Refusal};
use crate::runtime::{Runtime, timeout};
use crate::units::Instant;

use super::auth::{ClientAuth, PeerKind, ServerAuth};
use super::config::Config;
use super::control::Ticket;
use super::driver::{Driver, Parts, forget_tickets};
use super::frame::{Codec, FRAME_LEN};
use super::handle::{Link, Shared};
use super::handshake::{self, Asks, Unit};
use super::hello::{ClientHello, ServerHello, VERSIONS};
use super::session::{Changes, Input, Role, Session};
use super::{Channel, LinkError};

/// What a link runs over.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Carrier for T {}

/// Dials: makes a fresh link over `stream` to the server that `auth` names. One round trip.
///
/// # Errors
/// The stream fails, nothing comes in time, somebody else answers, or no wire version is in common.
pub async fn connect<R: Runtime, S: Carrier>(
    rt: &R,
    mut stream: S,
    auth: &ClientAuth,
    config: &Config,
) -> Result<Link, LinkError> {
    let mut rng = rt.rng("link dial");
    let mut arriving = Arriving::new();
    let (codec, hello) = full_handshake(rt, &mut stream, auth, config, &mut rng, &mut arriving).await?;
    fresh(rt, stream, auth, config, codec, hello)
}

/// How a resumption ended.
#[derive(Debug)]
pub enum Resumption {
    /// The link goes on: no message is lost, none comes twice. Its old handles work as before.
    Continued(Link),
    /// The server does not know the link any more. The old one is closed, this is a new one.
    Fresh {
        /// The new link.
        link: Link,
        /// Messages accepted on the old link that were not acknowledged: each arrived or did not.
        unknown: Vec<(Channel, Bytes)>,
    },
}

impl Resumption {
    /// The link, whichever it is.
    pub fn into_link(self) -> Link {
        match self {
            Self::Continued(link) | Self::Fresh { link, .. } => link,
        }
    }
}

/// Dials again: carries `link` on over a new stream to the same server, whether or not its old connection still stands.
/// If the server does not take the ticket, makes a fresh link over the same stream, as [`connect`] does.
///
/// On an error `link` is as before, down, with one ticket less: try again while [`Link::can_resume`].
///
/// # Errors
/// As [`connect`].
pub async fn resume<R: Runtime, S: Carrier>(
    rt: &R,
    mut stream: S,
    auth: &ClientAuth,
    link: &Link,
    config: &Config,
) -> Result<Resumption, LinkError> {
    let mut rng = rt.rng("link resume");
    let shared = link.shared();
    let connection = shared.take_over();
    let replaced = LinkError::Gone {
        doing: "being replaced by a new connection",
    };
    let changes = shared.with_session(|session| session.handle(rt.now(), Input::Lost(replaced)))?;
    shared.announce(changes);

    let same = shared.server() == Some(auth.server());
    let ticket = if same {
        shared.with_session(Session::take_ticket)
    } else {
        None
    };
    let mut arriving = Arriving::new();
    if let Some(ticket) = ticket {
        let quick = Box::pin(again(&mut stream, &ticket, shared, &mut rng, &mut arriving));
        match within_limit(rt, config.resume_limit, "resuming", quick).await {
            Ok((codec, hello)) => {
                shared.attach(rt.now(), hello.received, hello.window)?;
                Driver::spawn(rt, stream, parts(shared, connection, codec, config));
                return Ok(Resumption::Continued(link.again()));
            }
            Err(LinkError::TimedOut { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let (codec, hello) = full_handshake(rt, &mut stream, auth, config, &mut rng, &mut arriving).await?;
    let new = fresh(rt, stream, auth, config, codec, hello)?;
    let unknown = shared.with_session(Session::abandon);
    shared.announce(Changes::ALL);
    Ok(Resumption::Fresh { link: new, unknown })
}

/// How being dialled ended well.
#[derive(Debug)]
pub enum Accepted {
    /// A fresh link.
    New(Link, PeerKind),
    /// A link that exists goes on over this stream; whoever holds its handles notices nothing.
    Resumed,
}

/// Is dialled: answers on `stream` to whom `auth` accepts. Whoever shows nothing that is accepted gets no byte in answer:
/// the stream is read on for a random time and volume, then closed.
///
/// # Errors
/// [`LinkError::NotForUs`] after such a silence; or the stream fails, or nothing comes in time, or no wire version is in
/// common, or the dialler's claims about a resumed link cannot be true.
pub async fn accept<R: Runtime, S: Carrier>(
    rt: &R,
    stream: S,
    auth: &ServerAuth,
    config: &Config,
) -> Result<Accepted, LinkError> {
    accept_telling(rt, stream, auth, config, || {}).await
}

/// As [`accept`], and calls `silent` when nothing more can come of the stream and the silence begins.
///
/// # Errors
/// As [`accept`].
pub async fn accept_telling<R: Runtime, S: Carrier>(
    rt: &R,
    mut stream: S,
    auth: &ServerAuth,
    config: &Config,
    silent: impl FnOnce() + Send,
) -> Result<Accepted, LinkError> {
    let mut rng = rt.rng("link accept");
    let mut arriving = Arriving::new();
    // When a hello that did not come would be waited for no longer.
    let waited = rt.now() + config.handshake_limit;
    let hello = Box::pin(hello(rt, &mut stream, auth, &mut rng, &mut arriving));
    let hello = within(rt, config, "waiting for a hello", hello).await;
    let accepted = match hello {
        Ok(accepted) => accepted,
        Err(error @ (LinkError::NotForUs | LinkError::TimedOut { .. } | LinkError::NotKept { .. })) => {
            rt.emit(Event::Refused {
                what: "link hello",
                why: Refusal::BadAuthentication,
            });
            silent();
            drop(arriving);
            silence(rt, &mut stream, waited, config.handshake_limit, &mut rng).await;
            return Err(match error {
                LinkError::NotKept { .. } => error,
                _ => LinkError::NotForUs,
            });
        }
        Err(error) => return Err(error),
    };
    let theirs = accepted.hello;
    let mut answer = theirs.choose(VERSIONS, config.window(), 0);
    if answer.version == 0 {
        let (unit, _) = accepted.answer(answer)?;
        within(rt, config, "refusing a version", write(&mut stream, &unit)).await?;
        return Err(LinkError::Version {
            ours: VERSIONS,
            theirs: theirs.versions,
        });
    }
    match accepted.asks {
        Asks::Resume(ref shared) => {
            let shared = shared.clone();
            // From here on the old connection brings nothing more: what it had not brought is sent again.
            let connection = shared.take_over();
            answer.received = shared.with_session(|session| session.received());
            answer.window = shared.with_session(|session| session.window());
            let (unit, codec) = accepted.answer(answer)?;
            if let Err(error) = shared.attach(rt.now(), theirs.received, theirs.window) {
                forget_tickets(auth, &shared);
                return Err(error);
            }
            issue(auth, &shared, 1, &mut rng);
            let mut parts = parts(&shared, connection, codec, config);
            parts.server = Some(auth.clone());
            parts.first = unit.to_vec();
            Driver::spawn(rt, stream, parts);
            Ok(Accepted::Resumed)
        }
        Asks::Fresh(kind) => {
            let mut session = Session::new(Role::Acceptor, config, rt.now(), theirs.window)?;
            let (unit, mut codec) = accepted.answer(answer)?;
            // The first frame shows that the hello was no replay: nothing is told or given to anybody before.
            let confirmed = Box::pin(async {
                write(&mut stream, &unit).await?;
                let frame = arriving.unit(&mut stream).await?;
                let plain = codec.open(&frame)?;
                session.handle(rt.now(), Input::Frame(&plain))
            });
            within(rt, config, "confirming the handshake", confirmed).await?;
            let shared = Shared::new(session, None);
            // Nodes resume nothing among themselves (SPEC §2.7).
            let tickets = match kind {
                PeerKind::Node(_) => 0,
                PeerKind::Anonymous => config.tickets(),
            };
            issue(auth, &shared, tickets, &mut rng);
            let connection = shared.take_over();
            let mut parts = parts(&shared, connection, codec, config);
            parts.server = Some(auth.clone());
            Driver::spawn(rt, stream, parts);
            Ok(Accepted::New(Link::new(shared), kind))
        }
    }
}

/// A handshake message on its way in; kept when waiting for it is given up.
struct Arriving {
    unit: Unit,
    at: usize,
}

impl Arriving {
    fn new() -> Self {
        Self {
            unit: handshake::unit(),
            at: 0,
        }
    }

    /// The next message. Cancel safe.
    async fn unit<S: Carrier>(&mut self, stream: &mut S) -> Result<Unit, LinkError> {
        while self.at < FRAME_LEN {
            let read = stream.read(&mut self.unit[self.at..]).await;
            match read.map_err(|error| LinkError::Stream {
                doing: "the handshake",
                kind: error.kind(),
            })? {
                0 => {
                    return Err(LinkError::Gone {
                        doing: "the handshake",
                    });
                }
                n => self.at += n,
            }
        }
        self.at = 0;
        Ok(std::mem::replace(&mut self.unit, handshake::unit()))
    }
}

async fn write<S: Carrier>(stream: &mut S, unit: &Unit) -> Result<(), LinkError> {
    let written = async {
        stream.write_all(&unit[..]).await?;
        stream.flush().await
    };
    written.await.map_err(|error| LinkError::Stream {
        doing: "the handshake",
        kind: error.kind(),
    })
}

/// Give it boxed work: each layer of `async fn` that takes a future by value holds it twice, and whoever is in a handshake, strangers
/// among them, had 11 KB for three layers.
async fn within<R: Runtime, T>(
    rt: &R,
    config: &Config,
    doing: &'static str,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    within_limit(rt, config.handshake_limit, doing, work).await
}

async fn within_limit<R: Runtime, T>(
    rt: &R,
    limit: Duration,
    doing: &'static str,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(rt, limit, work)
        .await
        .unwrap_or(Err(LinkError::TimedOut { doing, limit }))
}

async fn full_handshake<R: Runtime, S: Carrier>(
    rt: &R,
    stream: &mut S,
    auth: &ClientAuth,
    config: &Config,
    rng: &mut ChaCha12Rng,
    arriving: &mut Arriving,
) -> Result<(Codec, ServerHello), LinkError> {
    let done = Box::pin(async {
        let hello = ClientHello {
            versions: VERSIONS,
            window: config.window(),
            received: 0,
        };
        let (unit, state) = handshake::dial(auth, hello, rt.wall(), rng)?;
        write(stream, &unit).await?;
        let answer = arriving.unit(stream).await?;
        handshake::finish(state, &answer, VERSIONS)
    });
    within(rt, config, "the handshake", done).await
}

async fn again<S: Carrier>(
    stream: &mut S,
    ticket: &Ticket,
    shared: &Shared,
    rng: &mut ChaCha12Rng,
    arriving: &mut Arriving,
) -> Result<(Codec, ServerHello), LinkError> {
    let hello = shared.with_session(|session| ClientHello {
        versions: VERSIONS,
        window: session.window(),
        received: session.received(),
    });
    let (unit, state) = handshake::dial_again(ticket, hello, rng)?;
    write(stream, &unit).await?;
    let answer = arriving.unit(stream).await?;
    handshake::finish(state, &answer, VERSIONS)
}

fn fresh<R: Runtime, S: Carrier>(
    rt: &R,
    stream: S,
    auth: &ClientAuth,
    config: &Config,
    codec: Codec,
    hello: ServerHello,
) -> Result<Link, LinkError> {
    let session = Session::new(Role::Dialler, config, rt.now(), hello.window)?;
    let shared = Shared::new(session, Some(*auth.server()));
    let connection = shared.take_over();
    Driver::spawn(rt, stream, parts(&shared, connection, codec, config));
    Ok(Link::new(shared))
}

fn parts(shared: &Arc<Shared>, connection: u64, codec: Codec, config: &Config) -> Parts {
    Parts {
        shared: shared.clone(),
        connection,
        codec,
        server: None,
        first: Vec::new(),
        report_round_trips: config.report_round_trips,
        send_buffer: config.send_buffer(),
    }
}

/// Hands out `count` tickets, as far as there is room for them.
fn issue(auth: &ServerAuth, shared: &Arc<Shared>, count: usize, rng: &mut ChaCha12Rng) {
    for _ in 0..count {
        let ticket = Ticket::from_rng(rng);
        if auth.with_tickets(|tickets| tickets.insert(ticket.id, shared)) {
            shared.with_session(|session| session.issue(ticket));
        }
    }
}

/// Reads until a message is accepted. A dialler whose ticket is unknown sends a full handshake behind it: so two are read.
async fn hello<R: Runtime, S: Carrier>(
    rt: &R,
    stream: &mut S,
    auth: &ServerAuth,
    rng: &mut ChaCha12Rng,
    arriving: &mut Arriving,
) -> Result<handshake::Accepted, LinkError> {
    for _ in 0..2 {
        let unit = arriving.unit(stream).await?;
        if let Some(accepted) = handshake::judge(auth, &unit, rt.wall(), rng) {
            if let Some(fresh) = accepted.fresh {
                // Boxed: bridges alone keep them, and every stream that is not heard yet would have the room.
                let kept = Box::pin(auth.answered().keep(rt, fresh)).await;
                kept.map_err(|error| LinkError::NotKept { kind: error.kind() })?;
            }
            return Ok(accepted);
        }
    }
    Err(LinkError::NotForUs)
}

/// Reads on without a word, for a time and a volume that differ from connection to connection: closing at a fixed point
/// would tell a prober what runs here (Frolov, Wampler, Wustrow, "Detecting Probe-resistant Proxies", NDSS 2020). The time
/// runs from `waited` on, when the last hello would have been waited for, whether or not what came was enough to be judged
/// before: else the length from which a server closes sooner would tell it.
async fn silence<R: Runtime, S: Carrier>(
    rt: &R,
    stream: &mut S,
    waited: Instant,
    least: Duration,
    rng: &mut ChaCha12Rng,
) {
    let spread = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX / 4).max(1);
    let further = Duration::from_nanos(rng.next_u64() % spread.saturating_mul(2));
    let sleep = rt.sleep_until(waited + least + further);
    let mut volume = 4 * FRAME_LEN + usize::from(rng.next_u32() as u16);
    let drain = async {
        let mut sink = [0; 512];
        while volume > 0 {
            match stream.read(&mut sink).await {
                Ok(0) | Err(_) => return,
                Ok(n) => volume = volume.saturating_sub(n),
            }
        }
    };
    tokio::select! {
        biased;
        () = drain => {}
        () = sleep => {}
    }
}
