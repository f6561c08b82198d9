//! A whole transport program whose transport, `plain`, disguises nothing: a client says the bridge's secret and then copies
//! bytes. It shows how a real one is put together; the tests have tor start it.
//!
//! `Bridge plain 192.0.2.1:443 FINGERPRINT secret=…` on one side, `ServerTransportOptions plain secret=…` on the other.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program on tokio, without the runtime of the network"
)]

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use phantom_pt::args::Args;
use phantom_pt::child::{self, Answers, BeginError};
use phantom_pt::env::{OrPort, Role, ServerTransport};
use phantom_pt::message::{Message, Severity, SocksVersion};
use phantom_pt::name::TransportName;
use phantom_pt::orport::{self, Cookie, Introduction, Nonce};
use phantom_pt::proxy::{Proxy, ProxyScheme};
use phantom_pt::socks::{self, Credentials, Names, Reply, Request, Target};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const NAME: &str = "plain";
const LIMIT: Duration = Duration::from_secs(20);
/// So many connections at once.
const CONNECTIONS_MAX: usize = 100;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(BeginError::from).and_then(|runtime| {
        let ended = runtime.block_on(serve());
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plain: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), BeginError> {
    let answers = Answers::stdout();
    let environment = child::begin(std::env::vars_os(), &[ProxyScheme::Socks5], &answers)?;
    match environment.role {
        Role::Client { transports, proxy } => {
            // Others are ignored: pt-spec §3.2.2.
            if let Some(name) = transports.into_iter().find(|name| name.as_str() == NAME) {
                answers.say(&client(name, proxy).await)?;
            }
            answers.say(&Message::CmethodsDone)?;
        }
        Role::Server { transports, orport } => {
            if let Some(transport) = transports.into_iter().find(|one| one.name.as_str() == NAME) {
                answers.say(&server(transport, orport).await)?;
            }
            answers.say(&Message::SmethodsDone)?;
        }
    }
    let told = child::told_to_end(environment.exit_on_stdin_close).await;
    // The parent may be gone.
    let _ = answers.log(Severity::Info, format!("ending: {told:?}"));
    Ok(())
}

/// Listens for the parent; what to say of that.
async fn client(transport: TransportName, proxy: Option<Proxy>) -> Message {
    let listening = async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok::<_, io::Error>((listener.local_addr()?, listener))
    };
    match listening.await {
        Ok((address, listener)) => {
            let proxy = Arc::new(proxy);
            tokio::spawn(accept_all(listener, move |stream, _| {
                to_bridge(stream, proxy.clone())
            }));
            let socks = SocksVersion::Socks5;
            Message::Cmethod {
                transport,
                socks,
                address,
            }
        }
        Err(error) => {
            let reason = error.to_string();
            Message::CmethodError { transport, reason }
        }
    }
}

/// Listens for clients; what to say of that.
async fn server(transport: ServerTransport, orport: OrPort) -> Message {
    let listening = async {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(transport.bind.unwrap_or(anywhere)).await?;
        let cookie = match &orport {
            OrPort::Plain(_) => None,
            OrPort::Extended { cookie_file, .. } => {
                Some(Cookie::read(cookie_file).map_err(io::Error::other)?)
            }
        };
        Ok::<_, io::Error>((listener.local_addr()?, listener, cookie))
    };
    let name = transport.name;
    match listening.await {
        Ok((address, listener, cookie)) => {
            let secret = transport.options.value("secret").unwrap_or_default().to_owned();
            // What its clients must know.
            let args = Args::new().with("secret", &*secret).unwrap_or_default();
            let (orport, transport) = (orport.address(), name.clone());
            let serve = Arc::new((secret, orport, cookie, name));
            tokio::spawn(accept_all(listener, move |stream, client| {
                to_orport(stream, client, serve.clone())
            }));
            Message::Smethod {
                transport,
                address,
                args,
            }
        }
        Err(error) => Message::SmethodError {
            transport: name,
            reason: error.to_string(),
        },
    }
}

async fn accept_all<F, S>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream, SocketAddr) -> S,
    S: Future<Output = io::Result<()>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors: some will be free
            continue;
        };
        let served = serve(stream, from);
        tokio::spawn(async move {
            let _ = served.await; // whoever asked has been told
            drop(place);
        });
    }
}

async fn to_bridge(stream: TcpStream, proxy: Arc<Option<Proxy>>) -> io::Result<()> {
    let asked = socks::accept(stream, Names::Refuse, LIMIT)
        .await
        .map_err(io::Error::other)?;
    match dial(asked.request(), proxy.as_ref().as_ref()).await {
        Ok(mut bridge) => {
            let mut parent = asked.grant(bridge.local_addr()?, LIMIT).await?;
            copy_bidirectional(&mut parent, &mut bridge).await?;
            Ok(())
        }
        Err(error) => asked.refuse(Reply::from(&error), LIMIT).await,
    }
}

async fn dial(request: &Request, proxy: Option<&Proxy>) -> io::Result<TcpStream> {
    let Target::Address(address) = request.target else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let mut bridge = match proxy {
        None => TcpStream::connect(address).await?,
        Some(proxy) => {
            let stream = TcpStream::connect(proxy.address).await?;
            let login = proxy.login.as_ref().map(Credentials::of_login);
            let connected = socks::connect(stream, &request.target, login, LIMIT).await;
            connected.map_err(io::Error::other)?
        }
    };
    let secret = request.args.value("secret").unwrap_or_default();
    bridge
        .write_u16(u16::try_from(secret.len()).map_err(io::Error::other)?)
        .await?;
    bridge.write_all(secret.as_bytes()).await?;
    Ok(bridge)
}

async fn to_orport(
    mut stream: TcpStream,
    client: SocketAddr,
    serve: Arc<(String, SocketAddr, Option<Cookie>, TransportName)>,
) -> io::Result<()> {
    let (secret, orport, cookie, name) = &*serve;
    let said = tokio::time::timeout(LIMIT, async {
        let mut said = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut said).await?;
        Ok::<_, io::Error>(said)
    });
    if said.await?? != secret.as_bytes() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut behind = TcpStream::connect(orport).await?;
    if let Some(cookie) = cookie {
        let introduction = Introduction {
            client: Some(client),
            transport: Some(name.clone()),
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let mut rng = ChaCha12Rng::from_seed(seed);
        let nonce = Nonce::from_rng(&mut rng);
        let introduced = orport::connect(behind, cookie, nonce, &introduction, LIMIT).await;
        behind = introduced.map_err(io::Error::other)?;
    }
    copy_bidirectional(&mut stream, &mut behind).await?;
    Ok(())
}
