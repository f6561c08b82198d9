//! The censor's own hosts, at a part of the addresses that it forges. They take streams and speak the link handshake under
//! a key of their own, so a client that believes a forged address ends up connected there and is counted. Were there
//! nobody, no client could be fooled, whatever it left unchecked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use phantom_core::crypto::keys::LinkSecret;
use phantom_core::link::{self, Accepted, ServerAuth};
use phantom_core::runtime::{Listener, Runtime};
use phantom_core::units::Instant;

use super::cast::Failures;
use crate::host::PeerId;
use crate::scenario::plan::{Plan, Trap, stream};
use crate::stage::{Act, Stage, program};

/// How often one of the censor's hosts was dialled.
pub(super) struct Lured {
    /// The rule that sends clients there.
    pub(super) rule: u32,
    told: u64,
    total: Arc<AtomicU64>,
}

impl Lured {
    /// How often since the last call.
    pub(super) fn fresh(&mut self) -> u64 {
        let total = self.total.load(Ordering::Relaxed);
        total - std::mem::replace(&mut self.told, total)
    }
}

/// Its key: not that of anybody for whom it might be taken.
pub(super) fn key(plan: &Plan, trap: &Trap) -> LinkSecret {
    LinkSecret::from_rng(&mut stream(plan.seed, &format!("{} keys", trap.name)))
}

/// Starts the censor's hosts with the world; they stand on the stage after those of the plan.
pub(super) fn set<S: Stage>(plan: &Plan, port: u16, stage: &mut S, failures: &Failures) -> Vec<Lured> {
    let first = plan.hosts.len();
    let mut all = Vec::new();
    for (n, trap) in plan.traps.iter().enumerate() {
        let peer = PeerId((first + n) as u32);
        let total = Arc::new(AtomicU64::new(0));
        all.push(Lured {
            rule: trap.rule as u32,
            told: 0,
            total: total.clone(),
        });
        let ends: Vec<_> = trap
            .addresses
            .iter()
            .map(|ip| SocketAddr::new(*ip, port))
            .collect();
        let (name, key, failures) = (trap.name.clone(), key(plan, trap), failures.clone());
        stage.set_program(
            peer,
            program(move |rt: S::Runtime| {
                let (ends, auth, total) = (ends.clone(), ServerAuth::listed(key.clone()), total.clone());
                let (name, failures) = (name.clone(), failures.clone());
                async move {
                    if !listen(&rt, ends, &auth, &total).await {
                        let mut failures = failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        failures.push(format!("{name}: it can listen at none of its addresses"));
                    }
                    std::future::pending::<()>().await;
                }
            }),
        );
        stage.at(Instant::ZERO, Act::Start(peer));
    }
    all
}

/// Accepts at all of `ends` where the back end lets it; `false` if that is nowhere.
async fn listen<R: Runtime>(
    rt: &R,
    ends: Vec<SocketAddr>,
    auth: &ServerAuth,
    total: &Arc<AtomicU64>,
) -> bool {
    let mut listens = false;
    for end in ends {
        // Some give a host its first address only.
        if let Ok(listener) = rt.listen(end).await {
            listens = true;
            rt.spawn("trap", accept(rt.clone(), listener, auth.clone(), total.clone()));
        }
    }
    listens
}

async fn accept<R: Runtime>(rt: R, mut listener: R::Listener, auth: ServerAuth, total: Arc<AtomicU64>) {
    loop {
        let Ok(stream) = listener.accept().await else {
            rt.sleep(Duration::from_millis(100)).await;
            continue;
        };
        total.fetch_add(1, Ordering::Relaxed);
        let (own, auth) = (rt.clone(), auth.clone());
        rt.spawn("trapped", async move {
            let accepted = link::accept(&own, stream, &auth, &link::Config::default()).await;
            // Whoever means another key gets no answer. A link that stands is kept.
            if let Ok(Accepted::New(link, _)) = accepted {
                while link.recv().await.is_some() {}
            }
        });
    }
}

#[cfg(test)]
#[path = "trap_tests.rs"]
mod tests;
