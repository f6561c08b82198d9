//! How a client runs. Parsed once, by whoever starts it; every field is a valid value of its type.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use phantom_core::ladder::{self, Step};
use phantom_core::message::{poll, sender};
use phantom_core::rendezvous::Bundle;
use phantom_core::trusted_time::TimeLimits;
use phantom_core::{dht, link};
use phantom_rotation::NetworkId;
use zeroize::Zeroizing;

/// What opens the client's state.
#[derive(Clone)]
pub enum Secret {
    /// 32 random bytes from a key store or a file of the user's.
    Key(Zeroizing<[u8; 32]>),
    /// Something a person remembers. Stretching it takes most of a second.
    Passphrase(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Secret::Key(secret)",
            Self::Passphrase(_) => "Secret::Passphrase(secret)",
        })
    }
}

/// All that a client is told at its start.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Whom to trust and where to begin.
    pub installation: Bundle,
    /// What opens (or, at the first start, seals) the state.
    pub secret: Secret,
    /// The steps of the ladder that are on. Default all; none makes a client that stays offline.
    pub steps: Vec<Step>,
    /// How the ladder behaves.
    pub ladder: ladder::Config,
    /// The entry link. Default [`link::Config::client`].
    pub link: link::Config,
    /// When another way in is used. Default [`phantom_rotation::Config::default`], which SPEC §11 explains.
    pub rotation: Arc<phantom_rotation::Config>,
    /// The network that the client is on, as its user's device names it (a digest of gateway, operator or SSID): what is learned of
    /// ways in on one says little of another. Default all zeros: one network.
    pub network: NetworkId,
    /// The address that packets leave from, if it is known: a censor's residual block names it. Default unspecified.
    pub address: IpAddr,
    /// How often to poll, and for how many boxes. Default every 60 s for 12.
    pub poll: poll::Config,
    /// How messages are written and repeated.
    pub sender: sender::Config,
    /// How far the wall clock is believed.
    pub time: TimeLimits,
    /// How DHT lookups behave.
    pub dht: dht::lookup::Config,
    /// A request without an answer for this long has failed. Default 15 s: three hops and back, twice.
    pub request_limit: Duration,
    /// How long the handle that the entry knows this client by is used for new requests. Default 10 min.
    pub handle_life: Duration,
}

impl ClientConfig {
    /// The defaults, for one installation.
    pub fn new(installation: Bundle, secret: Secret) -> Self {
        Self {
            installation,
            secret,
            steps: ladder::ORDER.to_vec(),
            ladder: ladder::Config::default(),
            link: link::Config::client(),
            rotation: phantom_rotation::Config::shared(),
            network: NetworkId([0; 16]),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            poll: poll::Config::default(),
            sender: sender::Config::default(),
            time: TimeLimits::default(),
            dht: dht::lookup::Config::default(),
            request_limit: Duration::from_secs(15),
            handle_life: Duration::from_secs(600),
        }
    }
}
