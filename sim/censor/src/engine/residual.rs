//! Residual blocks: what follows for other flows after one was sentenced.
//!
//! Measured censors go on blocking for 90 s to 12 h by two, three or four of the addresses and ports of what they caught, and
//! some start the time anew with every packet (Bock et al., WOOT'21).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use phantom_path::dice::Dice;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::rule::{ALWAYS, Way};
use crate::classify::Transport;
use crate::flow::Flow;

/// What follows for other flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residual {
    /// Which flows.
    pub tuple: Tuple,
    /// For how long, in nanoseconds.
    pub for_ns: u64,
    /// On which share of them it falls, in parts of 2^32: each flow is hit as a whole or not at all. After a keyword in HTTP it was
    /// 50 to 75 % in China (Rambert et al., WWW 2021).
    pub share: u64,
    /// Every packet that it hits starts the time anew.
    pub renewed: bool,
    /// Which packets.
    pub way: Way,
    /// A reset for both ends instead of silence.
    pub resets: bool,
}

/// What two flows must have in common. A port is one of a transport, which then counts too: a name in QUIC is followed by a
/// block on UDP alone (Zohaib et al., USENIX Security 2025).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tuple {
    /// Addresses of client and server.
    #[serde(rename = "2-tuple")]
    Two,
    /// Addresses of both, and the server's port.
    #[serde(rename = "3-tuple")]
    Three,
    /// Addresses and ports of both.
    #[serde(rename = "4-tuple")]
    Four,
    /// The server's address alone: it is cut off from everybody.
    #[serde(rename = "server")]
    Server,
    /// The server's address and port.
    #[serde(rename = "server-port")]
    ServerPort,
}

/// A rule's place, addresses of client and server, and the transport and the ports that count; 0 for ports that do not, and
/// for a client that does not.
type Key = (usize, IpAddr, IpAddr, Option<Transport>, u16, u16);

/// Blocks that hold, by what they are about, with their ends.
pub(super) struct Residuals {
    seed: u64,
    until_ns: BTreeMap<Key, u64>,
    max: usize,
    refused: u64,
}

impl Residual {
    fn key(&self, place: usize, flow: &Flow) -> Key {
        self.key_of(place, flow.transport, flow.client(), flow.server())
    }

    fn key_of(&self, place: usize, transport: Transport, client: SocketAddr, server: SocketAddr) -> Key {
        let anybody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let (transport, client, client_port, server_port) = match self.tuple {
            Tuple::Two => (None, client.ip(), 0, 0),
            Tuple::Three => (Some(transport), client.ip(), 0, server.port()),
            Tuple::Four => (Some(transport), client.ip(), client.port(), server.port()),
            Tuple::Server => (None, anybody, 0, 0),
            Tuple::ServerPort => (Some(transport), anybody, 0, server.port()),
        };
        (place, client, server.ip(), transport, client_port, server_port)
    }

    /// Whether it falls on this flow, in a censor of this seed. Nothing need be kept for it: the same flow gets the same answer.
    fn falls_on(&self, seed: u64, place: usize, flow: &Flow) -> bool {
        /// Apart from the chance that the flow's own sentence hangs on.
        const FOLLOWS: u64 = 0x5265_7369_6475_616C;
        self.share >= ALWAYS
            || Dice::new(seed ^ FOLLOWS ^ flow.number.rotate_left(32) ^ place as u64).chance(self.share)
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.resets {
            true => Verdict::Reset {
                client: true,
                server: true,
            },
            false => Verdict::Drop,
        }
    }
}

impl Residuals {
    pub(super) fn new(seed: u64, max: usize) -> Self {
        Self {
            seed,
            until_ns: BTreeMap::new(),
            max,
            refused: 0,
        }
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// A flow was sentenced.
    pub(super) fn block(&mut self, place: usize, residual: &Residual, flow: &Flow, at_ns: u64) {
        self.insert(residual.key(place, flow), residual, at_ns);
    }

    /// A server was found that is to be blocked, over TCP where that counts.
    pub(super) fn block_server(&mut self, place: usize, residual: &Residual, server: SocketAddr, at_ns: u64) {
        // Of no client: a tuple that a client counts in never holds.
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let key = residual.key_of(place, Transport::Tcp, nobody, server);
        self.insert(key, residual, at_ns);
    }

    fn insert(&mut self, key: Key, residual: &Residual, at_ns: u64) {
        if self.until_ns.len() >= self.max {
            self.until_ns.retain(|_, until| *until > at_ns);
        }
        if self.until_ns.len() >= self.max {
            self.refused += 1;
            return;
        }
        let until = at_ns.saturating_add(residual.for_ns);
        self.until_ns.insert(key, until);
    }

    /// Whether a flow is hit.
    pub(super) fn holds(&mut self, place: usize, residual: &Residual, flow: &Flow, at_ns: u64) -> bool {
        if self.until_ns.is_empty() || !residual.falls_on(self.seed, place, flow) {
            return false;
        }
        let key = residual.key(place, flow);
        match self.until_ns.get_mut(&key) {
            Some(until) if *until > at_ns => {
                if residual.renewed {
                    *until = at_ns.saturating_add(residual.for_ns);
                }
                true
            }
            Some(_) => {
                self.until_ns.remove(&key);
                false
            }
            None => false,
        }
    }

    /// The blocks of a rule end.
    pub(super) fn lift(&mut self, place: usize) {
        self.until_ns.retain(|key, _| key.0 != place);
    }

    /// A packet of a sentenced flow itself came.
    pub(super) fn renew(&mut self, place: usize, residual: &Residual, flow: &Flow, at_ns: u64) {
        if residual.renewed
            && let Some(until) = self.until_ns.get_mut(&residual.key(place, flow))
            && *until > at_ns
        {
            *until = at_ns.saturating_add(residual.for_ns);
        }
    }
}
