//! Where a node listens, what is spoken at each place, and what a bridge tells its clients of that. Spec: SPEC §6.2, §12.

use std::net::SocketAddr;

use phantom_core::directory::ways::{Way, Ways};
use phantom_core::event::{Event, Refusal, Sensitive};
use phantom_core::link::{self, Accepted, LinkError, ServerAuth};
use phantom_core::runtime::Runtime;
use phantom_core::transport::obfs4::{Bridge as Obfs4, IatMode, Obfs4Error, Prefix};
use phantom_core::transport::{Kind, Server, TransportError, obfs4_identity};

use crate::config::{Listening, NodeConfig};
use crate::door::Guest;
use crate::service::{NodeError, host};

/// The places of a node.
pub(crate) struct Entrances {
    /// Where it listens, and for what.
    pub(crate) listen: Vec<(SocketAddr, Server)>,
    /// What the clients of a bridge are told; `None` for a listed node.
    pub(crate) ways: Option<Ways>,
}

impl Entrances {
    /// Reads the keys of transports, or draws and stores them, so that what clients know stays good over restarts.
    pub(crate) async fn open<R: Runtime>(rt: &R, config: &NodeConfig) -> Result<Self, NodeError> {
        let plain = |at: &SocketAddr| (*at, Server::Plain);
        let mut listen: Vec<_> = config.listen.iter().map(plain).collect();
        let Some(bridge) = &config.bridge else {
            return Ok(Self { listen, ways: None });
        };
        if bridge.transports.is_empty() {
            let ways = Some(Ways::plain(config.addresses.clone()));
            return Ok(Self { listen, ways });
        }
        let obfs4 = open_obfs4(rt, bridge.iat_mode).await?;
        let mut told = Vec::new();
        let plain = Listening {
            kind: Kind::Plain,
            listen: Vec::new(),
            addresses: config.addresses.clone(),
        };
        for place in std::iter::once(&plain).chain(&bridge.transports) {
            let server = match Prefix::of_kind(place.kind) {
                None => Server::Plain,
                Some(prefix) => Server::Obfs4 {
                    bridge: obfs4.clone(),
                    prefix,
                },
            };
            let transport = server.transport();
            transport.mark_sensitive(rt);
            told.extend(place.addresses.iter().map(|at| Way {
                transport: transport.clone(),
                at: *at,
            }));
            listen.extend(place.listen.iter().map(|at| (*at, server.clone())));
        }
        let ways = Some(Ways::new(told)?);
        Ok(Self { listen, ways })
    }
}

/// One for all places: a hello that was said at one is a replay at the others.
async fn open_obfs4<R: Runtime>(rt: &R, iat_mode: IatMode) -> Result<Obfs4, NodeError> {
    let identity = obfs4_identity(rt, Some(iat_mode)).await;
    let identity = identity.map_err(host("the keys of obfs4"))?;
    rt.sensitive(Sensitive::BridgeKey, identity.secret().as_bytes());
    Ok(Obfs4::new(identity, &mut rt.rng("obfs4")))
}

/// Answers on a stream: the transport's handshake, then the link's, as one guest at the door.
pub(crate) async fn answer<R: Runtime>(
    rt: &R,
    stream: R::Stream,
    (server, auth): (&Server, &ServerAuth),
    config: &link::Config,
    guest: &Guest,
) -> Result<Accepted, LinkError> {
    let answered = async {
        let stream = match server.accept(rt, stream, || guest.is_silent()).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a transport did not come up");
                if let TransportError::Obfs4(Obfs4Error::Stranger(_)) = error {
                    rt.emit(Event::Refused {
                        what: "obfs4 hello",
                        why: Refusal::BadAuthentication,
                    });
                }
                return Err(LinkError::NotForUs);
            }
        };
        link::accept_telling(rt, stream, auth, config, || guest.is_silent()).await
    };
    tokio::select! {
        biased;
        accepted = answered => accepted,
        () = guest.told_to_leave() => Err(LinkError::Gone { doing: "making room for others" }),
    }
}
