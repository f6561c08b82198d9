//! The ping workload: every peer listens; every simulated second it opens a fresh stream to one other peer, sends 1 KiB,
//! reads 1 KiB back, and closes.
//!
//! It is the one of the measurements that chose this engine's shape, so that its figures stay comparable. Nothing in it
//! draws from the runtime's entropy: who calls whom is a function of seed, peer and second.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use phantom_core::runtime::{Listener, Runtime};
use phantom_core::units::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::host::record::mix;
use crate::swarm::{HostSpec, Network, StreamModel, World, WorldConfig};

/// Bytes of a request, and of a reply.
pub const MESSAGE_BYTES: usize = 1_024;
const PORT: u16 = 7_000;

/// What a run did. Order does not count in it, so that back ends whose timing agrees have the same sum.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests and replies that arrived.
    pub messages: AtomicU64,
    /// Attempts that failed.
    pub errors: AtomicU64,
    /// Sum of hashes of (time, peers, round trip) of everything that arrived.
    pub sum: AtomicU64,
    /// Bytes of the futures that were started.
    pub futures: AtomicU64,
}

impl Tally {
    /// Counts the size of a future that is about to be started.
    pub fn size<F>(&self, future: F) -> F {
        self.futures.fetch_add(size_of::<F>() as u64, Ordering::Relaxed);
        future
    }

    /// What it came to.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            messages: self.messages.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed),
            future_bytes: self.futures.load(Ordering::Relaxed),
        }
    }

    fn add(&self, now: Instant, a: u64, b: u64, c: u64) {
        let hash = mix(mix(mix(now.as_nanos(), a), b), c);
        self.sum.fetch_add(hash, Ordering::Relaxed);
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Messages that arrived.
    pub messages: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// See [`Tally::sum`]: equal where the timing is, to the nanosecond.
    pub sum: u64,
    /// Bytes of the futures of all peers' first tasks and accepting tasks.
    pub future_bytes: u64,
}

/// The address of a peer: in 11.0.0.0/8, which is assigned to nobody who is in a simulation.
pub fn address(peer: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0B00_0001 + peer))
}

/// Runs one peer of `peers` for `seconds`.
pub async fn peer<R: Runtime>(rt: R, me: u32, peers: u32, seed: u64, seconds: u64, tally: Arc<Tally>) {
    if let Err(_refused) = listen(&rt, me, &tally).await {
        tally.errors.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let phase = Duration::from_millis(mix(seed, u64::from(me)) % 700 + 1);
    for round in 0..seconds {
        rt.sleep_until(Instant::ZERO + Duration::from_secs(round) + phase)
            .await;
        let draw = mix(mix(seed ^ 0xABCD, u64::from(me)), round);
        let mut to = (draw % u64::from(peers - 1)) as u32;
        if to >= me {
            to += 1;
        }
        let start = rt.now();
        let outcome = call(&rt, to, (draw >> 32) as u8).await;
        let now = rt.now();
        match outcome {
            Ok(()) => tally.messages.fetch_add(1, Ordering::Relaxed),
            Err(_) => tally.errors.fetch_add(1, Ordering::Relaxed),
        };
        let round_trip = now.saturating_since(start).as_nanos() as u64;
        tally.add(now, me.into(), to.into(), round_trip);
    }
}

/// A peer that only listens and sleeps.
pub async fn idle<R: Runtime>(rt: R, me: u32, seconds: u64, tally: Arc<Tally>) {
    if let Err(_refused) = listen(&rt, me, &tally).await {
        tally.errors.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let phase = Duration::from_millis(mix(7, u64::from(me)) % 10_000 + 1);
    for round in 0..seconds / 10 {
        rt.sleep_until(Instant::ZERO + Duration::from_secs(10 * round) + phase)
            .await;
    }
}

async fn listen<R: Runtime>(rt: &R, me: u32, tally: &Arc<Tally>) -> io::Result<()> {
    let mut listener = rt.listen(SocketAddr::new(address(me), PORT)).await?;
    let (server, counted) = (rt.clone(), Arc::clone(tally));
    let accept = async move {
        while let Ok(stream) = listener.accept().await {
            let (clock, tally) = (server.clone(), Arc::clone(&counted));
            server.spawn("serve", serve(clock, me, stream, tally));
        }
    };
    rt.spawn("accept", tally.size(accept));
    Ok(())
}

async fn serve<R: Runtime>(rt: R, me: u32, mut stream: R::Stream, tally: Arc<Tally>) {
    if let Err(_broken) = answer(&rt, me, &mut stream, &tally).await {
        tally.errors.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // As a real server does: the client closes.
    let _closed = stream.read_u8().await;
}

async fn answer<R: Runtime>(rt: &R, me: u32, stream: &mut R::Stream, tally: &Tally) -> io::Result<()> {
    // On the heap, and only while it is needed: a buffer inside a future is held by every parked peer.
    let mut message = vec![0; MESSAGE_BYTES];
    stream.read_exact(&mut message).await?;
    tally.messages.fetch_add(1, Ordering::Relaxed);
    tally.add(rt.now(), 1 << 40, me.into(), message[0].into());
    let reply = message[0].wrapping_add(1);
    message.fill(reply);
    stream.write_all(&message).await
}

async fn call<R: Runtime>(rt: &R, to: u32, fill: u8) -> io::Result<()> {
    let mut stream = rt.connect(SocketAddr::new(address(to), PORT)).await?;
    let mut message = vec![fill; MESSAGE_BYTES];
    stream.write_all(&message).await?;
    stream.read_exact(&mut message).await?;
    if message[0] != fill.wrapping_add(1) || message[MESSAGE_BYTES - 1] != message[0] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(())
}

/// What a run on swarm came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnSwarm {
    /// What it came to anywhere.
    pub outcome: Outcome,
    /// The trace digest.
    pub digest: String,
    /// Events that became due, and polls of tasks.
    pub steps: (u64, u64),
}

/// Runs the workload on swarm for `seconds`, plus one in which the last round ends.
///
/// # Panics
/// If the run fails: it has no step limit, so it does not.
pub fn on_swarm(network: Network, peers: u32, seed: u64, seconds: u64, idle_only: bool) -> OnSwarm {
    // What the others have between hosts is a delay, and no congestion.
    let streams = match network {
        Network::Fixed(_) => StreamModel::Plain,
        Network::Modelled(_) => StreamModel::Tcp,
    };
    let mut world = World::new(WorldConfig {
        network,
        streams,
        ..WorldConfig::new(seed)
    });
    let tally = Arc::new(Tally::default());
    for me in 0..peers {
        let id = world.add_host(HostSpec {
            addresses: vec![address(me)],
            ..HostSpec::new("")
        });
        let tally = Arc::clone(&tally);
        if idle_only {
            world.start(id, move |rt| {
                tally.size(idle(rt, me, seconds, Arc::clone(&tally)))
            });
        } else {
            world.start(id, move |rt| {
                tally.size(peer(rt, me, peers, seed, seconds, Arc::clone(&tally)))
            });
        }
    }
    let until = Instant::ZERO + Duration::from_secs(seconds + 1);
    if let Err(error) = world.run_until(until, &mut ()) {
        panic!("{error}");
    }
    let counters = world.counters();
    OnSwarm {
        outcome: tally.outcome(),
        digest: world.trace_digest(),
        steps: (counters.happenings, counters.polls),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ping_is_answered_after_two_round_trips_on_a_fixed_network() {
        let run = || on_swarm(Network::Fixed(Duration::from_millis(50)), 20, 1, 5, false);
        let on_swarm = run();
        assert_eq!((on_swarm.outcome.messages, on_swarm.outcome.errors), (200, 0));
        assert_eq!(on_swarm, run());
    }

    #[test]
    fn every_ping_is_answered_on_the_full_model() {
        let outcome = on_swarm(Network::default(), 20, 1, 5, false).outcome;
        assert_eq!((outcome.messages, outcome.errors), (200, 0));
    }
}
