//! Residual blocks: what follows for other flows after one was sentenced.
//!
//! Measured censors go on blocking for 90 s to 12 h by two, three or four of the addresses and ports of what they caught, and
//! some start the time anew with every packet (Bock et al., WOOT'21).

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::rule::Way;
use crate::classify::Transport;
use crate::flow::Flow;

/// What follows for other flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residual {
    /// Which flows.
    pub tuple: Tuple,
    /// For how long, in nanoseconds.
    pub for_ns: u64,
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
}

/// A rule's place, addresses of client and server, and the transport and the ports that count; 0 for ports that do not.
type Key = (usize, IpAddr, IpAddr, Option<Transport>, u16, u16);

/// Blocks that hold, by what they are about, with their ends.
pub(super) struct Residuals {
    until_ns: BTreeMap<Key, u64>,
    max: usize,
    refused: u64,
}

impl Residual {
    fn key(&self, place: usize, flow: &Flow) -> Key {
        let (transport, client, server) = match self.tuple {
            Tuple::Two => (None, 0, 0),
            Tuple::Three => (Some(flow.transport), 0, flow.server.port()),
            Tuple::Four => (Some(flow.transport), flow.client.port(), flow.server.port()),
        };
        (
            place,
            flow.client.ip(),
            flow.server.ip(),
            transport,
            client,
            server,
        )
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
    pub(super) fn new(max: usize) -> Self {
        Self {
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
        if self.until_ns.len() >= self.max {
            self.until_ns.retain(|_, until| *until > at_ns);
        }
        if self.until_ns.len() >= self.max {
            self.refused += 1;
            return;
        }
        let until = at_ns.saturating_add(residual.for_ns);
        self.until_ns.insert(residual.key(place, flow), until);
    }

    /// Whether a flow is hit.
    pub(super) fn holds(&mut self, place: usize, residual: &Residual, flow: &Flow, at_ns: u64) -> bool {
        if self.until_ns.is_empty() {
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
