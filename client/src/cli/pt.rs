//! `phantom pt`: this program as a managed pluggable transport, client and server, that tor or any other parent starts.
//!
//! The transports are those of [`phantom_core::transport`]; what a parent says and hears is `phantom_pt`'s affair. A server's keys
//! are in `obfs4_state.json` of the state folder, as obfs4proxy keeps them, so that a bridge can change from one to the other and
//! its line stays good.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Entropy, Listener, Net, Spawn, Store, Stream};
use phantom_core::transport::obfs4::{self, Prefix};
use phantom_core::transport::obfs4_identity;
use phantom_obfs4::{Bridge, BridgeArgs, IatMode, Identity};
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

/// The transports that this program is: obfs4 as others speak it, and ours, which begins with a prefix that a bridge's line tells.
const NAMES: [&str; 2] = ["obfs4", PREFIXED];
const PREFIXED: &str = "obfs4_prefixed";
/// The argument of that one, and what it is if a bridge's operator does not say it.
const PREFIX: &str = "prefix";
const PREFIX_DEFAULT: Prefix = Prefix::Tls;
/// The file of a server's line for people; its keys are beside it.
const LINE_FILE: &str = "obfs4_bridgeline.txt";
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
            for name in transports
                .into_iter()
                .filter(|name| NAMES.contains(&name.as_str()))
            {
                said.push(client(&rt, name, proxy.clone()).await);
            }
            said.push(Message::CmethodsDone);
            said
        }
        Role::Server { transports, orport } => {
            let mut said = Vec::new();
            for one in transports
                .into_iter()
                .filter(|one| NAMES.contains(&one.name.as_str()))
            {
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
    let identity = identity(rt, transport.options.value("iat-mode")).await?;
    let cookie = match &orport {
        OrPort::Plain(_) => None,
        OrPort::Extended { cookie_file, .. } => Some(Cookie::read(cookie_file).map_err(io::Error::other)?),
    };
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let listener = rt.listen(transport.bind.unwrap_or(anywhere)).await?;
    let address = listener.local_addr();
    let line = identity.args();
    let prefix = prefix(&transport.name, &transport.options)?;
    let mut args = Args::new();
    args.push("cert", line.cert()).map_err(io::Error::other)?;
    args.push("iat-mode", line.iat_mode.number().to_string())
        .map_err(io::Error::other)?;
    if prefix != Prefix::None {
        args.push(PREFIX, prefix.name()).map_err(io::Error::other)?;
    }
    let behind = Arc::new(Behind {
        bridge: Bridge::new(identity, &mut rt.rng("bridge")),
        orport: orport.address(),
        cookie,
        name: transport.name,
        prefix,
    });
    accept_all(rt, listener, move |rt, stream| {
        to_orport(rt, stream, behind.clone())
    });
    Ok((address, args))
}

/// Of the state folder, or a new one that is kept there; `iat_mode` is what the parent wants.
async fn identity(rt: &TokioRuntime, iat_mode: Option<&str>) -> io::Result<Identity> {
    let wanted = iat_mode.map(|mode| {
        let known = mode.parse().ok().and_then(IatMode::from_number);
        known.ok_or_else(|| {
            io::Error::other(format!(
                "iat-mode {mode:?} in ServerTransportOptions: wanted 0, 1 or 2"
            ))
        })
    });
    let identity = obfs4_identity(rt, wanted.transpose()?).await?;
    let line = format!(
        "# This bridge, with its address and fingerprint to be filled in:\nBridge obfs4 <IP ADDRESS>:<PORT> <FINGERPRINT> cert={} iat-mode={}\n",
        identity.args().cert(),
        identity.iat_mode.number()
    );
    if rt
        .read(LINE_FILE)
        .await?
        .is_none_or(|kept| kept != line.as_bytes())
    {
        rt.write(LINE_FILE, line.as_bytes()).await?;
    }
    Ok(identity)
}

type Connection = <TokioRuntime as Net>::Stream;

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

/// The prefix that a transport's arguments say.
fn prefix(transport: &TransportName, args: &Args) -> io::Result<Prefix> {
    match (transport.as_str(), args.value(PREFIX)) {
        (PREFIXED, None) => Ok(PREFIX_DEFAULT),
        (PREFIXED, Some(name)) => Prefix::from_name(name)
            .filter(|prefix| *prefix != Prefix::None)
            .ok_or_else(|| {
                let why = format!("{PREFIX} {name:?} of {PREFIXED}: wanted \"http\" or \"tls\"");
                io::Error::new(io::ErrorKind::InvalidInput, why)
            }),
        _ => Ok(Prefix::None),
    }
}

async fn to_bridge(
    rt: TokioRuntime,
    stream: Connection,
    dialler: Arc<(TransportName, Option<Proxy>)>,
) -> io::Result<()> {
    let asked = socks::accept(stream, Names::Refuse, LIMIT)
        .await
        .map_err(io::Error::other)?;
    match dial(&rt, &dialler.0, asked.request(), dialler.1.as_ref()).await {
        Ok((local, mut bridge)) => {
            let mut parent = asked.grant(local, LIMIT).await?;
            copy_bidirectional(&mut parent, &mut bridge).await?;
            Ok(())
        }
        Err(error) => {
            tracing::info!(%error, "a bridge could not be reached");
            asked.refuse(Reply::from(&error), LIMIT).await
        }
    }
}

async fn dial(
    rt: &TokioRuntime,
    transport: &TransportName,
    request: &Request,
    proxy: Option<&Proxy>,
) -> io::Result<(SocketAddr, obfs4::Obfs4Stream<TokioRuntime, Connection>)> {
    let Target::Address(address) = request.target else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let prefix = prefix(transport, &request.args)?;
    let bridge = BridgeArgs::from_pt_args(&obfs4_args(&request.args)?.to_socks())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let stream = match proxy {
        None => rt.connect(address).await?,
        Some(proxy) => {
            let stream = rt.connect(proxy.address).await?;
            let login = proxy.login.as_ref().map(Credentials::of_login);
            let connected = socks::connect(stream, &request.target, login, LIMIT).await;
            connected.map_err(io::Error::other)?
        }
    };
    let local = stream.local_addr();
    let bridge = obfs4::dial(rt, stream, &bridge, prefix)
        .await
        .map_err(io::Error::other)?;
    Ok((local, bridge))
}

/// Those of obfs4 itself.
fn obfs4_args(args: &Args) -> io::Result<Args> {
    let mut own = Args::new();
    for (name, value) in args.iter().filter(|(name, _)| *name != PREFIX) {
        own.push(name, value).map_err(io::Error::other)?;
    }
    Ok(own)
}

/// What a server hands its clients to.
struct Behind {
    bridge: Bridge,
    orport: SocketAddr,
    cookie: Option<Cookie>,
    name: TransportName,
    prefix: Prefix,
}

async fn to_orport(rt: TokioRuntime, stream: Connection, behind: Arc<Behind>) -> io::Result<()> {
    let client = stream.peer_addr();
    let mut stream = obfs4::accept(&rt, stream, &behind.bridge, behind.prefix)
        .await
        .map_err(io::Error::other)?;
    let mut orport = rt.connect(behind.orport).await?;
    if let Some(cookie) = &behind.cookie {
        let introduction = Introduction {
            client: Some(client),
            transport: Some(behind.name.clone()),
        };
        let nonce = Nonce::from_rng(&mut rt.rng("nonce"));
        let introduced = orport::connect(orport, cookie, nonce, &introduction, LIMIT).await;
        orport = introduced.map_err(io::Error::other)?;
    }
    copy_bidirectional(&mut stream, &mut orport).await?;
    Ok(())
}
