//! A transport with its parameters in files of ours: a number, then what belongs to it.
//!
//! Descriptors have a form of their own, in which places share parameters: [`crate::directory::ways`].

use phantom_obfs4::{BridgeArgs, IatMode, NodeId, PublicKey};

use super::Transport;
use super::obfs4::Prefix;
use crate::wire::{DecodeError, Reader, Writer};

const PLAIN: u8 = 0;
const OBFS4: u8 = 1;

impl Transport {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain => out.put_u8(PLAIN),
            Self::Obfs4 { bridge, prefix } => {
                out.put_u8(OBFS4);
                write_args(bridge, out);
                write_prefix(*prefix, out);
            }
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`DecodeError`], for one of a later version as well.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8()? {
            PLAIN => Ok(Self::Plain),
            OBFS4 => Ok(Self::Obfs4 {
                bridge: read_args(r)?,
                prefix: read_prefix(r)?,
            }),
            got => Err(bad("transport", got)),
        }
    }
}

/// 53 bytes.
pub(crate) fn write_args(args: &BridgeArgs, out: &mut Vec<u8>) {
    out.put(&args.node.0);
    out.put(&args.identity.0);
    out.put_u8(args.iat_mode.number());
}

pub(crate) fn read_args(r: &mut Reader<'_>) -> Result<BridgeArgs, DecodeError> {
    let (node, identity, mode) = (NodeId(r.array()?), PublicKey(r.array()?), r.u8()?);
    let iat_mode = IatMode::from_number(mode).ok_or_else(|| bad("iat mode", mode))?;
    Ok(BridgeArgs {
        node,
        identity,
        iat_mode,
    })
}

pub(crate) fn write_prefix(prefix: Prefix, out: &mut Vec<u8>) {
    out.put_u8(match prefix {
        Prefix::None => 0,
        Prefix::Http => 1,
        Prefix::Tls => 2,
    });
}

pub(crate) fn read_prefix(r: &mut Reader<'_>) -> Result<Prefix, DecodeError> {
    match r.u8()? {
        0 => Ok(Prefix::None),
        1 => Ok(Prefix::Http),
        2 => Ok(Prefix::Tls),
        got => Err(bad("prefix", got)),
    }
}

fn bad(field: &'static str, got: u8) -> DecodeError {
    DecodeError::BadValue {
        field,
        got: u64::from(got),
    }
}
