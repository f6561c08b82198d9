//! `phantom-node dht`: a plain node of the DHT. The more of them there are that no censor runs, the better.

use std::net::{IpAddr, SocketAddr};

use phantom_core::dht::{self, Endpoint};
use phantom_core::runtime::tokio::Config;

use super::run::{EventsArgs, supervise};
use super::{Failure, Scratch, on_tokio, peer};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it listens (UDP)
    #[arg(long, value_name = "IP:PORT")]
    bind: SocketAddr,
    /// The address that others see, if it is another
    #[arg(long, value_name = "IP")]
    public_ip: Option<IpAddr>,
    /// A node to join at, by name or address; may be given several times. Without one, others must join at this one
    #[arg(long, value_name = "HOST:PORT")]
    join: Vec<Endpoint>,
    /// Most items kept for others, 1.2 KB each
    #[arg(long, default_value_t = 256, value_name = "N")]
    items: usize,
    #[command(flatten)]
    events: EventsArgs,
}

pub(crate) fn dht(args: &Args) -> Result<(), Failure> {
    let config = dht::NodeConfig {
        public_ip: args.public_ip,
        items_max: args.items,
        ..dht::NodeConfig::new(args.bind, args.join.clone())
    };
    let scratch = Scratch::new()?;
    on_tokio(async {
        let (own, keeping) = args.events.kept(Config {
            address: Some(config.bind.ip()).filter(|ip| !ip.is_unspecified()),
            ..Config::new("dht", &scratch.0)
        })?;
        let rt = peer(own)?;
        if let Some(keeping) = keeping {
            keeping.begin(&rt);
        }
        let bound = |at| tracing::info!(%at, "DHT node listens");
        supervise(&rt, dht::serve(rt.clone(), config, bound)).await
    })
}
