//! The driver of a DHT node over a runtime's UDP: moves datagrams and time for [`Server`]. SPEC §7.3.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::endpoint::Endpoint;
use super::server::{OUTBOX_MAX, Output, Server, ServerConfig};
use crate::event::Event;
use crate::high_water::HighWater;
use crate::runtime::{Runtime, Udp};

/// Pause after an error of the socket, so that a broken one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// How to run a DHT node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where to bind; port 0 picks a free one.
    pub bind: SocketAddr,
    /// The address that others see; without one, the address of `bind`.
    pub public_ip: Option<IpAddr>,
    /// Nodes to join at.
    pub bootstrap: Vec<Endpoint>,
    /// Most items stored for others. Default 256.
    pub items_max: usize,
}

impl NodeConfig {
    /// A node at `bind` that joins at `bootstrap`.
    pub const fn new(bind: SocketAddr, bootstrap: Vec<Endpoint>) -> Self {
        Self {
            bind,
            public_ip: None,
            bootstrap,
            items_max: 256,
        }
    }
}

/// Runs a DHT node until it is dropped. `bound` is called with the address once the socket is bound.
///
/// # Errors
/// Only when the socket cannot be bound. Afterwards whatever peers send is answered, or counted and dropped.
pub async fn serve<R: Runtime>(
    rt: R,
    config: NodeConfig,
    bound: impl FnOnce(SocketAddr) + Send,
) -> io::Result<()> {
    let udp = rt.bind_udp(config.bind).await?;
    bound(udp.local_addr());
    let mut bootstrap = Vec::new();
    for endpoint in &config.bootstrap {
        bootstrap.extend(endpoint.resolve(&rt).await);
    }
    let public_ip = config.public_ip.unwrap_or_else(|| udp.local_addr().ip());
    let config = ServerConfig {
        items_max: config.items_max,
        ..ServerConfig::new(public_ip, bootstrap)
    };
    // Boxed, so that an idle node's future stays small.
    let mut server = Box::new(Server::new(rt.now(), config, rt.rng("dht node")).sharing(rt.clone()));
    let outbox = HighWater::new("dht datagrams", OUTBOX_MAX);
    loop {
        let until = loop {
            match server.poll_output(rt.now()) {
                Output::Send { to, datagram } => {
                    outbox.note(&rt, server.waiting() + 1);
                    // A datagram that cannot be sent is a datagram lost.
                    drop(udp.send_to(&datagram, to).await);
                }
                Output::WaitUntil(at) => break at,
            }
        };
        tokio::select! {
            biased;
            received = udp.recv_from() => match received {
                Ok((datagram, from)) => {
                    if let Err(why) = server.handle(rt.now(), from, &datagram) {
                        rt.emit(Event::Refused { what: "dht datagram", why });
                    }
                }
                Err(_) => rt.sleep(ERROR_PAUSE).await,
            },
            () = rt.sleep_until(until) => {}
        }
    }
}
