//! Transports: what the bytes of a connection look like to whoever stands on the way.
//!
//! A transport takes a byte stream of the runtime and gives a byte stream, over which a link runs as it does over the plain one
//! ([`crate::link::Carrier`]). It keeps no user's secret: who reads a transport's bytes finds a link's. [`Transport`] is what a
//! client has to know to dial, as a bridge's descriptor tells it; [`Server`] is the other end. Both are data: what there is to
//! choose from is in [`Kind`]. Spec: SPEC §12.

mod keys;
mod kind;
pub mod obfs4;
mod stream;
pub(crate) mod wire;

use std::io;
use std::net::SocketAddr;

use phantom_obfs4::{Bridge, BridgeArgs, HandshakeError, SessionError};
use thiserror::Error;

pub use keys::{STATE_FILE, obfs4_identity};
pub use kind::Kind;
use obfs4::{Obfs4Error, Prefix};
pub use stream::Conveyed;

use crate::event::{Outcome, Sensitive};
use crate::link::Carrier;
use crate::runtime::{Events, Runtime};

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The runtime made no connection.
    #[error("connecting: {0}")]
    Connect(io::Error),
    /// obfs4 did not come up.
    #[error(transparent)]
    Obfs4(#[from] Obfs4Error),
}

impl TransportError {
    /// What whoever dialled has seen.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Connect(error) | Self::Obfs4(Obfs4Error::Stream { source: error, .. }) => {
                Outcome::of_io(error.kind())
            }
            Self::Obfs4(Obfs4Error::Session(error)) => match error {
                SessionError::ClosedEarly | SessionError::Cut => Outcome::Reset,
                SessionError::Handshake(HandshakeError::TimedOut) => Outcome::TimedOut,
                // Somebody answered, and not with what only the bridge can say.
                SessionError::Handshake(_) => Outcome::WrongKey,
                _ => Outcome::Failed,
            },
            Self::Obfs4(Obfs4Error::Stranger(_)) => Outcome::Failed,
        }
    }
}

/// How to speak to a server that is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A link's own bytes.
    Plain,
    /// obfs4, perhaps behind a prefix.
    Obfs4 {
        /// Its keys, and how writes are paced.
        bridge: BridgeArgs,
        /// What the client says first.
        prefix: Prefix,
    },
}

impl Transport {
    /// Which it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Plain => Kind::Plain,
            Self::Obfs4 { prefix, .. } => prefix.kind(),
        }
    }

    /// Tells the simulator what nobody may see of it.
    pub fn mark_sensitive(&self, rt: &impl Events) {
        if let Self::Obfs4 { bridge, .. } = self {
            rt.sensitive(Sensitive::BridgeKey, &bridge.node.0);
            rt.sensitive(Sensitive::BridgeKey, &bridge.identity.0);
        }
    }

    /// Connects to `at` and speaks this transport there: a round trip for the connection, and one for obfs4. Set a limit of your
    /// own.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn connect<R: Runtime>(
        &self,
        rt: &R,
        at: SocketAddr,
    ) -> Result<Conveyed<R, R::Stream>, TransportError> {
        let stream = rt.connect(at).await.map_err(TransportError::Connect)?;
        self.dial(rt, stream).await
    }

    /// Speaks this transport over a stream to its server.
    ///
    /// # Errors
    /// [`TransportError::Obfs4`].
    pub async fn dial<R: Runtime, S: Carrier>(
        &self,
        rt: &R,
        stream: S,
    ) -> Result<Conveyed<R, S>, TransportError> {
        match self {
            Self::Plain => Ok(Conveyed::Plain(stream)),
            Self::Obfs4 { bridge, prefix } => {
                // Boxed: who dials plainly has no use for the room.
                let stream = Box::pin(obfs4::dial(rt, stream, bridge, *prefix)).await?;
                Ok(Conveyed::Obfs4(Box::new(stream)))
            }
        }
    }
}

/// Answers who speaks a transport. Clones share what it has seen.
#[derive(Clone, Debug)]
pub enum Server {
    /// A link's own bytes.
    Plain,
    /// obfs4, perhaps behind a prefix.
    Obfs4 {
        /// Who it is, and which hellos it has seen.
        bridge: Bridge,
        /// What the client is to say first.
        prefix: Prefix,
    },
}

impl Server {
    /// What a client has to know of it.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Plain => Transport::Plain,
            Self::Obfs4 { bridge, prefix } => Transport::Obfs4 {
                bridge: bridge.identity().args(),
                prefix: *prefix,
            },
        }
    }

    /// Answers on a stream that somebody opened. A stranger gets no byte; `silent` is called when it is known to be one, and
    /// the stream read on until the transport's own time.
    ///
    /// # Errors
    /// [`TransportError::Obfs4`], for a stranger after that silence.
    pub async fn accept<R: Runtime, S: Carrier>(
        &self,
        rt: &R,
        stream: S,
        silent: impl FnOnce() + Send,
    ) -> Result<Conveyed<R, S>, TransportError> {
        match self {
            Self::Plain => Ok(Conveyed::Plain(stream)),
            Self::Obfs4 { bridge, prefix } => {
                let accepted = obfs4::accept_telling(rt, stream, bridge, *prefix, silent);
                Ok(Conveyed::Obfs4(Box::new(Box::pin(accepted).await?)))
            }
        }
    }
}
