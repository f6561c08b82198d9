//! `phantom pt`: this program as a managed pluggable transport, client and server, that tor or any other parent starts.
//!
//! The transports are those of [`phantom_core::transport`] and [`phantom_web`]; what a parent says and hears is `phantom_pt`'s affair. A server's keys
//! of obfs4 are in `obfs4_state.json` of the state folder, as obfs4proxy keeps them, so that a bridge can change from one to the other and
//! its line stays good.

mod obfs4;
mod web;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use phantom_core::link::Carrier;
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Entropy, Listener, Net, Spawn, Stream};
use phantom_pt::args::Args;
use phantom_pt::child::{self, Answers};
use phantom_pt::env::{OrPort, Role, ServerTransport};
use phantom_pt::message::{Message, Severity, SocksVersion};
use phantom_pt::name::TransportName;
use phantom_pt::orport::{self, Cookie, Introduction, Nonce};
use phantom_pt::proxy::{Proxy, ProxyScheme};
use phantom_pt::socks::{self, Credentials, Names, Reply, Request, Target};
use tokio::io::copy_bidirectional;
use tokio::sync::Semaphore;

use super::{Failure, failed, usage};

/// How long a parent may take to say where to go, and a proxy or an ORPort to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Connections at once, each with two sockets. A stranger holds one for a minute and a half at most.
const CONNECTIONS_MAX: usize = 1_000;

/// Serves until the parent says to end.
pub(crate) async fn serve() -> Result<(), Failure> {
    if std::env::var_os("TOR_PT_MANAGED_TRANSPORT_VER").is_none() {
        return Err(usage(
            "`phantom pt` is started by a parent, not by hand: in torrc, `ClientTransportPlugin obfs4 exec /path/to/phantom pt`, \
             or on a bridge `ServerTransportPlugin obfs4 exec /path/to/phantom pt`",
        ));
    }
    let answers = Answers::stdout();
    let environment = child::begin(std::env::vars_os(), &[ProxyScheme::Socks5], &answers)
        .map_err(|error| failed(error.to_string()))?;
    environment
        .make_state_folder()
        .map_err(|error| failed(format!("making {}: {error}", environment.state.display())))?;
    let rt = TokioRuntime::start(Config::new("pt", &environment.state))
        .map_err(|error| failed(error.to_string()))?;
    let said = match environment.role {
        // A parent may ask for transports that we are not: it is told nothing of them (pt-spec §3.2.2).
        Role::Client { transports, proxy } => {
            let mut said = Vec::new();
            for name in transports.into_iter().filter(is_ours) {
                said.push(client(&rt, name, proxy.clone()).await);
            }
            said.push(Message::CmethodsDone);
            said
        }
        Role::Server { transports, orport } => {
            let mut said = Vec::new();
            for one in transports.into_iter().filter(|one| is_ours(&one.name)) {
                said.push(server(&rt, one, orport.clone()).await);
            }
            said.push(Message::SmethodsDone);
            said
        }
    };
    let said = said.iter().try_for_each(|message| answers.say(message));
    said.map_err(|error| failed(format!("answering the parent: {error}")))?;
    let told = child::told_to_end(environment.exit_on_stdin_close).await;
    // The parent may be gone.
    let _ = answers.log(Severity::Info, format!("ending: {told:?}"));
    Ok(())
}

/// Listens for the parent; what to say of that.
async fn client(rt: &TokioRuntime, transport: TransportName, proxy: Option<Proxy>) -> Message {
    match rt.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await {
        Ok(listener) => {
            let address = listener.local_addr();
            let dialler = Arc::new((transport.clone(), proxy));
            accept_all(rt, listener, move |rt, stream| {
                to_bridge(rt, stream, dialler.clone())
            });
            let socks = SocksVersion::Socks5;
            Message::Cmethod {
                transport,
                socks,
                address,
            }
        }
        Err(error) => Message::CmethodError {
            transport,
            reason: error.to_string(),
        },
    }
}

/// Listens for clients; what to say of that.
async fn server(rt: &TokioRuntime, transport: ServerTransport, orport: OrPort) -> Message {
    let name = transport.name.clone();
    match listen(rt, transport, orport).await {
        Ok((address, args)) => Message::Smethod {
            transport: name,
            address,
            args,
        },
        Err(error) => Message::SmethodError {
            transport: name,
            reason: error.to_string(),
        },
    }
}

async fn listen(
    rt: &TokioRuntime,
    transport: ServerTransport,
    orport: OrPort,
) -> io::Result<(SocketAddr, Args)> {
    let (name, options) = (transport.name, transport.options);
    let cookie = match &orport {
        OrPort::Plain(_) => None,
        OrPort::Extended { cookie_file, .. } => Some(Cookie::read(cookie_file).map_err(io::Error::other)?),
    };
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let listener = rt.listen(transport.bind.unwrap_or(anywhere)).await?;
    let mut address = listener.local_addr();
    let behind = Arc::new(Behind {
        orport: orport.address(),
        cookie,
        name: name.clone(),
    });
    let args = match name.as_str() {
        "webtunnel" => {
            let (server, args) = web::webtunnel(rt, &options)?;
            address = web::synthetic_address(args.value("url").unwrap_or_default());
            let server = Arc::new(server);
            accept_all(rt, listener, move |rt, stream| {
                let (server, behind) = (server.clone(), behind.clone());
                async move {
                    let (client, stream) = web::accept(&rt, stream, &server).await?;
                    to_orport(&rt, Some(client), stream, &behind).await
                }
            });
            args
        }
        "meek" | "meek_lite" => {
            let (server, mut sessions, args) = web::meek(rt, &options)?;
            accept_all(rt, listener, move |rt, stream| {
                let server = server.clone();
                async move {
                    server
                        .serve(&rt, stream)
                        .await
                        .map(|never| match never {})
                        .map_err(io::Error::from)
                }
            });
            let here = rt.clone();
            rt.spawn("sessions", async move {
                while let Some(session) = sessions.next().await {
                    let (rt, behind) = (here.clone(), behind.clone());
                    here.spawn("session", async move {
                        // A front has made the connection: whose client it is nobody knows.
                        if let Err(error) = to_orport(&rt, None, Box::new(session), &behind).await {
                            tracing::debug!(%error, "a session ended");
                        }
                    });
                }
            });
            args
        }
        _ => {
            let (server, args) = obfs4::Server::new(rt, &name, &options).await?;
            let server = Arc::new(server);
            accept_all(rt, listener, move |rt, stream| {
                let (server, behind) = (server.clone(), behind.clone());
                async move {
                    let client = stream.peer_addr();
                    let stream = server.accept(&rt, stream).await?;
                    to_orport(&rt, Some(client), stream, &behind).await
                }
            });
            args
        }
    };
    Ok((address, args))
}

/// Whether a parent can have this transport of us.
fn is_ours(name: &TransportName) -> bool {
    obfs4::NAMES
        .iter()
        .chain(&web::NAMES)
        .any(|ours| *ours == name.as_str())
}

type Connection = <TokioRuntime as Net>::Stream;
/// A connection within a transport.
type Carried = Box<dyn Carrier>;

fn accept_all<F, S>(rt: &TokioRuntime, mut listener: <TokioRuntime as Net>::Listener, serve: F)
where
    F: Fn(TokioRuntime, Connection) -> S + Send + 'static,
    S: Future<Output = io::Result<()>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let here = rt.clone();
    rt.spawn("listener", async move {
        while let Ok(place) = places.clone().acquire_owned().await {
            let Ok(stream) = listener.accept().await else {
                here.sleep(Duration::from_millis(100)).await; // out of descriptors: some will be free
                continue;
            };
            let served = serve(here.clone(), stream);
            here.spawn("connection", async move {
                // Whoever asked has been told; addresses are in the error, which is logged for who wants them.
                if let Err(error) = served.await {
                    tracing::debug!(%error, "a connection ended");
                }
                drop(place);
            });
        }
    });
}

async fn to_bridge(
    rt: TokioRuntime,
    stream: Connection,
    dialler: Arc<(TransportName, Option<Proxy>)>,
) -> io::Result<()> {
    let asked = socks::accept(stream, Names::Refuse, LIMIT)
        .await
        .map_err(io::Error::other)?;
    let (transport, proxy) = &*dialler;
    match dial(&rt, transport, asked.request(), proxy.as_ref()).await {
        Ok((local, bridge)) => {
            let parent = asked.grant(local, LIMIT).await?;
            match web::says_no_end(transport) {
                true => until_either_ends(parent, bridge).await,
                false => {
                    let (mut parent, mut bridge) = (parent, bridge);
                    copy_bidirectional(&mut parent, &mut bridge).await?;
                    Ok(())
                }
            }
        }
        Err(error) => {
            tracing::info!(%error, "a bridge could not be reached");
            asked.refuse(Reply::from(&error), LIMIT).await
        }
    }
}

/// Moves bytes both ways until one way ends: meek cannot say that one has, and would be polled for ever.
async fn until_either_ends(parent: impl Carrier, bridge: Carried) -> io::Result<()> {
    let (mut from_parent, mut to_parent) = tokio::io::split(parent);
    let (mut from_bridge, mut to_bridge) = tokio::io::split(bridge);
    tokio::select! {
        biased;
        up = tokio::io::copy(&mut from_parent, &mut to_bridge) => up?,
        down = tokio::io::copy(&mut from_bridge, &mut to_parent) => down?,
    };
    Ok(())
}

/// The bridge that a request is for, and our end's address, if there is one connection that has one.
async fn dial(
    rt: &TokioRuntime,
    transport: &TransportName,
    request: &Request,
    proxy: Option<&Proxy>,
) -> io::Result<(SocketAddr, Carried)> {
    let args = &request.args;
    match transport.as_str() {
        "webtunnel" => web::dial_webtunnel(rt, args, proxy).await,
        "meek" | "meek_lite" => {
            let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
            Ok((unknown, web::dial_meek(rt, args, proxy).await?))
        }
        _ => {
            let Target::Address(_) = request.target else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            obfs4::check(transport, args)?;
            let stream = connect(rt, &request.target, proxy).await?;
            let local = stream.local_addr();
            Ok((local, obfs4::dial(rt, transport, args, stream).await?))
        }
    }
}

/// Connects to a target by the parent's proxy, which also finds its address, or without.
async fn connect(rt: &TokioRuntime, target: &Target, proxy: Option<&Proxy>) -> io::Result<Connection> {
    match (proxy, target) {
        (Some(proxy), target) => {
            let stream = rt.connect(proxy.address).await?;
            let login = proxy.login.as_ref().map(Credentials::of_login);
            let connected = socks::connect(stream, target, login, LIMIT).await;
            connected.map_err(io::Error::other)
        }
        (None, Target::Address(address)) => rt.connect(*address).await,
        (None, Target::Name(name, port)) => {
            let mut last = io::ErrorKind::NotFound.into();
            for ip in rt.resolve(name.as_str()).await? {
                match rt.connect(SocketAddr::new(ip, *port)).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// What a server hands its clients to.
struct Behind {
    orport: SocketAddr,
    cookie: Option<Cookie>,
    name: TransportName,
}

async fn to_orport(
    rt: &TokioRuntime,
    client: Option<SocketAddr>,
    mut stream: Carried,
    behind: &Behind,
) -> io::Result<()> {
    let mut orport = rt.connect(behind.orport).await?;
    if let Some(cookie) = &behind.cookie {
        let introduction = Introduction {
            client,
            transport: Some(behind.name.clone()),
        };
        let nonce = Nonce::from_rng(&mut rt.rng("nonce"));
        let introduced = orport::connect(orport, cookie, nonce, &introduction, LIMIT).await;
        orport = introduced.map_err(io::Error::other)?;
    }
    copy_bidirectional(&mut stream, &mut orport).await?;
    Ok(())
}
