//! Through a program to a server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
#[expect(
    clippy::disallowed_types,
    reason = "the program is a process of this machine, on tokio"
)]
use tokio::net::TcpStream;

use super::keeper::Managed;
use super::startup::Methods;
use crate::args::Args;
use crate::exchange::{ExchangeError, within};
use crate::name::TransportName;
use crate::socks::{self, ClientError, Credentials, Target, TooLong};

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// The program does not have the transport ready.
    #[error("{transport} is not ready: {reason}")]
    NotReady {
        /// Which.
        transport: TransportName,
        /// In the program's words, if it had some.
        reason: String,
    },
    /// More arguments than SOCKS carries.
    #[error(transparent)]
    Args(#[from] TooLong),
    /// The program does not listen where it said.
    #[error("the program does not take connections at {address}: {error}; does it still run?")]
    Program {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The program could not connect, or refused, or took too long.
    #[error("through the program: {0}")]
    Through(#[from] ExchangeError<ClientError>),
}

impl Managed {
    /// As [`Methods::dial`], through the program as it is now: after a restart its transports listen elsewhere.
    ///
    /// # Errors
    /// The program is not ready, or as there.
    #[expect(
        clippy::disallowed_types,
        reason = "the program is a process of this machine, on tokio"
    )]
    pub async fn dial(
        &self,
        transport: &TransportName,
        target: &Target,
        args: &Args,
        limit: Duration,
    ) -> Result<TcpStream, DialError> {
        match self.methods() {
            Some(methods) => methods.dial(transport, target, args, limit).await,
            None => Err(DialError::NotReady {
                transport: transport.clone(),
                reason: "its program is starting, or has ended".to_owned(),
            }),
        }
    }
}

impl Methods {
    /// Has the program connect to `target` with the arguments of its bridge line; all within `limit`. Not cancel safe: what
    /// is dropped half way is lost.
    ///
    /// # Errors
    /// There is no connection, and whose fault that is.
    #[expect(
        clippy::disallowed_types,
        reason = "the program is a process of this machine, on tokio"
    )]
    pub async fn dial(
        &self,
        transport: &TransportName,
        target: &Target,
        args: &Args,
        limit: Duration,
    ) -> Result<TcpStream, DialError> {
        let Some(method) = self.ready.get(transport) else {
            let reason = self.failed.get(transport);
            return Err(DialError::NotReady {
                transport: transport.clone(),
                reason: reason.map_or_else(
                    || "it was not asked for".to_owned(),
                    |reason| format!("{reason:?}"),
                ),
            });
        };
        let credentials = (!args.is_empty())
            .then(|| Credentials::of_args(args))
            .transpose()?;
        let address = method.address;
        let dial = async {
            let connected = TcpStream::connect(address).await;
            let stream = connected.map_err(|error| DialError::Program { address, error })?;
            // Whatever hurries is the transport's to shape.
            let _ = stream.set_nodelay(true);
            Ok::<_, DialError>(socks::connect(stream, target, credentials, limit).await?)
        };
        within::<_, ClientError>(limit, dial).await?
    }
}
