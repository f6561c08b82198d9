//! The keys of an obfs4 server, kept in a file of the runtime's so that its line stays good over restarts.

use std::io;

use phantom_obfs4::{IatMode, Identity};

use crate::runtime::Runtime;

/// The file that obfs4proxy keeps as well: either program can take over a bridge from the other.
pub const STATE_FILE: &str = "obfs4_state.json";

/// Who this server is: as its state file says, or drawn and stored before this returns. `iat_mode`, if given, is stored with it.
///
/// # Errors
/// The host's files fail, or the state file is none.
pub async fn obfs4_identity<R: Runtime>(rt: &R, iat_mode: Option<IatMode>) -> io::Result<Identity> {
    let kept = rt.read(STATE_FILE).await?;
    let mut identity = match &kept {
        Some(json) => {
            let json = std::str::from_utf8(json).map_err(io::Error::other)?;
            Identity::from_state_json(json)
                .map_err(|error| io::Error::other(format!("{STATE_FILE}: {error}")))?
        }
        None => Identity::from_rng(&mut rt.rng("obfs4 identity")),
    };
    if let Some(mode) = iat_mode {
        identity.iat_mode = mode;
    }
    let json = identity.to_state_json();
    if kept.is_none_or(|kept| kept != json.as_bytes()) {
        rt.write(STATE_FILE, json.as_bytes()).await?;
    }
    Ok(identity)
}
