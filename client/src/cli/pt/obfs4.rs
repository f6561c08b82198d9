//! obfs4 of `phantom pt`: a bridge's keys and line, and its arguments.

use std::io;

use phantom_core::runtime::tokio::TokioRuntime;
use phantom_core::runtime::{Entropy, Store};
use phantom_core::transport::obfs4::{self, Prefix};
use phantom_core::transport::obfs4_identity;
use phantom_obfs4::{Bridge, BridgeArgs, IatMode, Identity};
use phantom_pt::args::Args;
use phantom_pt::name::TransportName;

use super::{Carried, Connection};

/// obfs4 as others speak it, and ours, which begins with a prefix that a bridge's line tells.
pub(super) const NAMES: [&str; 2] = ["obfs4", PREFIXED];
const PREFIXED: &str = "obfs4_prefixed";
/// The argument of that one, and what it is if a bridge's operator does not say it.
const PREFIX: &str = "prefix";
const PREFIX_DEFAULT: Prefix = Prefix::Tls;
/// The file of a server's line for people; its keys are beside it.
const LINE_FILE: &str = "obfs4_bridgeline.txt";

/// Speaks obfs4 on `stream`, with the bridge that these arguments describe.
pub(super) async fn dial(
    rt: &TokioRuntime,
    transport: &TransportName,
    args: &Args,
    stream: Connection,
) -> io::Result<Carried> {
    let prefix = prefix(transport, args)?;
    let bridge = bridge_args(args)?;
    let stream = obfs4::dial(rt, stream, &bridge, prefix).await;
    Ok(Box::new(stream.map_err(io::Error::other)?))
}

/// What is wrong with a line's arguments, before anybody connects.
pub(super) fn check(transport: &TransportName, args: &Args) -> io::Result<()> {
    prefix(transport, args)?;
    bridge_args(args).map(|_| ())
}

fn bridge_args(args: &Args) -> io::Result<BridgeArgs> {
    BridgeArgs::from_pt_args(&own_args(args)?.to_socks())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// A server's end.
pub(super) struct Server {
    bridge: Bridge,
    prefix: Prefix,
}

impl Server {
    /// With the keys of the state folder; and the arguments of its line.
    pub(super) async fn new(
        rt: &TokioRuntime,
        transport: &TransportName,
        options: &Args,
    ) -> io::Result<(Self, Args)> {
        let identity = identity(rt, options.value("iat-mode")).await?;
        let line = identity.args();
        let prefix = prefix(transport, options)?;
        let mut args = Args::new();
        args.push("cert", line.cert()).map_err(io::Error::other)?;
        args.push("iat-mode", line.iat_mode.number().to_string())
            .map_err(io::Error::other)?;
        if prefix != Prefix::None {
            args.push(PREFIX, prefix.name()).map_err(io::Error::other)?;
        }
        let bridge = Bridge::new(identity, &mut rt.rng("bridge"));
        Ok((Self { bridge, prefix }, args))
    }

    pub(super) async fn accept(&self, rt: &TokioRuntime, stream: Connection) -> io::Result<Carried> {
        let stream = obfs4::accept(rt, stream, &self.bridge, self.prefix).await;
        Ok(Box::new(stream.map_err(io::Error::other)?))
    }
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

/// Those of obfs4 itself.
fn own_args(args: &Args) -> io::Result<Args> {
    let mut own = Args::new();
    for (name, value) in args.iter().filter(|(name, _)| *name != PREFIX) {
        own.push(name, value).map_err(io::Error::other)?;
    }
    Ok(own)
}
