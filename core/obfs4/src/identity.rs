//! Who a bridge is: its name, its key pair, the seed of its distributions, and how it paces its writes. Kept in the file that
//! obfs4proxy keeps, `obfs4_state.json`, so that either program can take over a bridge from the other.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::bridge::{BridgeArgs, IatMode};
use crate::drbg::{GoRand, Seed};
use crate::hex;
use crate::ntor::{NodeId, PublicKey, SecretKey};

/// Seconds that the close of a failed connection is put off by, at most one less.
const CLOSE_DELAY_MAX: u32 = 60;

/// Why a state file cannot be used: the host's fault, or who wrote it.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// No JSON object with the five fields.
    #[error("the state file is no obfs4_state.json: {0}")]
    Syntax(String),
    /// A field is not so many hexadecimal digits.
    #[error("the state file's field `{field}`: wanted {wanted} hexadecimal digits, got {got} characters")]
    BadHex {
        /// The field.
        field: &'static str,
        /// Its length.
        wanted: usize,
        /// What was found (any of them may be no digit). The text itself may be secret.
        got: usize,
    },
    /// `iat-mode` is none of the three.
    #[error("the state file's field `iat-mode`: wanted 0, 1 or 2, got {got}")]
    BadIatMode {
        /// What was found.
        got: i64,
    },
    /// `public-key` is that of another key.
    #[error("the state file's field `public-key` does not belong to its `private-key`")]
    ForeignPublicKey,
}

/// A bridge's identity.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub node: NodeId,
    /// What its distributions, and how long it waits before it closes on a stranger, come from.
    pub seed: Seed,
    /// How its writes are paced.
    pub iat_mode: IatMode,
    secret: SecretKey,
    public: PublicKey,
}

impl Identity {
    /// Draws a new one, which does not pace its writes.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut node = [0; 20];
        rng.fill_bytes(&mut node);
        Self::new(
            NodeId(node),
            SecretKey::from_rng(rng),
            Seed::from_rng(rng),
            IatMode::None,
        )
    }

    /// One that was stored in another way.
    pub fn new(node: NodeId, secret: SecretKey, seed: Seed, iat_mode: IatMode) -> Self {
        let public = secret.public();
        Self {
            node,
            seed,
            iat_mode,
            secret,
            public,
        }
    }

    /// The secret key.
    pub const fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// The public key.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// What a client needs to know to reach it, besides its address.
    pub const fn args(&self) -> BridgeArgs {
        BridgeArgs {
            node: self.node,
            identity: self.public,
            iat_mode: self.iat_mode,
        }
    }

    /// Seconds from 0 to 59 that a connection which failed stays open beyond 30: different for every bridge and the same for
    /// every probe of one.
    pub(crate) fn close_delay(&self) -> u32 {
        GoRand::new(&self.seed).below(CLOSE_DELAY_MAX)
    }

    /// Reads the contents of an `obfs4_state.json`.
    ///
    /// # Errors
    /// [`StateError`] says which field is wrong.
    pub fn from_state_json(text: &str) -> Result<Self, StateError> {
        // serde_json quotes unexpected values, which may be keys: only the place is passed on.
        let state: State = serde_json::from_str(text).map_err(|e| {
            StateError::Syntax(format!(
                "{:?} error at line {} column {}",
                e.classify(),
                e.line(),
                e.column()
            ))
        })?;
        let secret = Zeroizing::new(field("private-key", &state.private_key)?);
        let seed = Zeroizing::new(field("drbg-seed", &state.drbg_seed)?);
        let iat_mode = u8::try_from(state.iat_mode)
            .ok()
            .and_then(IatMode::from_number)
            .ok_or(StateError::BadIatMode { got: state.iat_mode })?;
        let identity = Self::new(
            NodeId(field("node-id", &state.node_id)?),
            SecretKey::from_bytes(*secret),
            Seed::from_bytes(*seed),
            iat_mode,
        );
        if identity.public.0 != field("public-key", &state.public_key)? {
            return Err(StateError::ForeignPublicKey);
        }
        Ok(identity)
    }

    /// The contents of the `obfs4_state.json` of this identity, wiped when dropped.
    pub fn to_state_json(&self) -> Zeroizing<String> {
        let state = State {
            node_id: hex::encode(&self.node.0),
            private_key: hex::encode(self.secret.as_bytes()),
            public_key: hex::encode(&self.public.0),
            drbg_seed: hex::encode(self.seed.as_bytes()),
            iat_mode: i64::from(self.iat_mode.number()),
        };
        Zeroizing::new(serde_json::to_string(&state).expect("strings and a number are JSON"))
    }
}

fn field<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], StateError> {
    hex::decode(text).ok_or(StateError::BadHex {
        field,
        wanted: 2 * N,
        got: text.chars().count(),
    })
}

/// The file's fields, as obfs4proxy spells them.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "kebab-case")]
struct State {
    node_id: String,
    private_key: String,
    public_key: String,
    drbg_seed: String,
    iat_mode: i64,
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn identity() -> Identity {
        Identity::from_rng(&mut ChaCha20Rng::seed_from_u64(1))
    }

    #[test]
    fn state_files_read_back() {
        let mut identity = identity();
        identity.iat_mode = IatMode::Paranoid;
        let text = identity.to_state_json();
        let read = Identity::from_state_json(&text).expect("ours");
        assert_eq!(*read.to_state_json(), *text);
        assert_eq!(read.args(), identity.args());
    }

    #[test]
    fn errors_name_the_field_and_never_quote_a_secret() {
        let text = identity().to_state_json();
        let secret = hex::encode(identity().secret().as_bytes());
        for (from, to, wanted) in [
            (
                secret.as_str(),
                "00ff",
                "`private-key`: wanted 64 hexadecimal digits, got 4",
            ),
            (
                "\"iat-mode\":0",
                "\"iat-mode\":3",
                "`iat-mode`: wanted 0, 1 or 2, got 3",
            ),
            ("\"iat-mode\":0", "\"iat-mode\":\"x\"", "line 1 column"),
            ("{", "", "no obfs4_state.json"),
            (secret.as_str(), &"11".repeat(32), "does not belong"),
        ] {
            let error = Identity::from_state_json(&text.replace(from, to))
                .expect_err(wanted)
                .to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(!error.contains(&secret));
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let identity = identity();
        let shown = format!("{identity:?}");
        assert!(
            !shown.contains(&hex::encode(identity.secret().as_bytes())),
            "{shown}"
        );
        assert!(!shown.contains(&hex::encode(identity.seed.as_bytes())), "{shown}");
    }

    #[test]
    fn the_delay_before_closing_is_the_bridges_own() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let delays: std::collections::BTreeSet<u32> = (0..200)
            .map(|_| Identity::from_rng(&mut rng).close_delay())
            .collect();
        assert!(delays.len() > 40 && delays.iter().all(|d| *d < 60), "{delays:?}");
        assert_eq!(identity().close_delay(), identity().close_delay());
    }
}
