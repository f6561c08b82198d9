//! The people at the real clients: they write to their contacts through the lines of the daemon. As [`super::super::user`] does in
//! a simulation, but for invitations.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phantom_core::event::Tag;
use phantom_core::units::{Instant, WallTime};
use phantom_drive::client::{Client, Line};
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use serde_json::json;
use tokio::time::Instant as Real;

use crate::check::observe::{Observation, Seen};
use crate::scenario::file::{Deed, Start};
use crate::scenario::plan::{HostId, Plan, stream};
use crate::scenario::units::Spread;

/// What people tell the judges, and what went wrong with them.
#[derive(Default)]
pub(super) struct Told {
    pub(super) notes: Vec<Observation>,
    pub(super) failures: Vec<String>,
}

/// The same, from everywhere.
pub(super) type SharedTold = Arc<Mutex<Told>>;

/// The clocks of a person: those of the machine and of the scenario.
#[derive(Clone, Copy)]
pub(super) struct Clocks {
    /// When the scenario begins.
    pub(super) begins: Real,
    /// The same on the clock of the world.
    pub(super) world: Instant,
}

impl Clocks {
    /// The world's time.
    fn world(self, at: Real) -> Instant {
        self.world + at.saturating_duration_since(self.begins)
    }
}

/// One workload of a person.
struct Work {
    to: Vec<HostId>,
    start: Start,
    until: Real,
    every: Spread,
    /// Bytes, both ends included.
    size: (u64, u64),
    ttl: Duration,
    rng: ChaCha12Rng,
    /// When to write next; `None`: it has not begun, or waits for an answer.
    next: Option<Real>,
    /// The request that waits, and for whom the message is.
    asked: Option<(u64, HostId)>,
}

impl Work {
    fn pause(&mut self, from: Real) {
        let at = from + self.every.draw(self.rng.next_u64());
        self.next = (at < self.until).then_some(at);
    }
}

fn work(plan: &Plan, host: HostId, clocks: Clocks) -> Vec<Work> {
    let mine = plan
        .workloads
        .iter()
        .filter(|workload| workload.hosts.contains(&host));
    let works = mine.filter_map(|workload| {
        let Deed::Write { to, every, size, ttl } = &workload.what else {
            return None;
        };
        let edges = plan
            .edges
            .iter()
            .filter(|edge| edge.graph == to.value && edge.from != edge.to);
        let mut others: Vec<HostId> = edges
            .filter_map(|edge| match (edge.from == host, edge.to == host) {
                (true, _) => Some(edge.to),
                (_, true) => Some(edge.from),
                _ => None,
            })
            .collect();
        others.sort_unstable();
        others.dedup();
        let label = format!("{} {}", plan.hosts[host as usize].name, workload.name);
        Some(Work {
            to: others,
            start: workload.start,
            until: clocks.begins + workload.until,
            every: every.value,
            size: (size.value.0.0.0, size.value.1.0.0),
            ttl: ttl.value.0,
            rng: stream(plan.seed, &label),
            next: None,
            asked: None,
        })
    });
    works.filter(|work| !work.to.is_empty()).collect()
}

/// Lives until the client ends.
pub(super) async fn live(
    plan: Arc<Plan>,
    host: HostId,
    mut client: Client,
    clocks: Clocks,
    told: SharedTold,
) {
    let mut works = work(&plan, host, clocks);
    for work in &mut works {
        match work.start {
            Start::OnArrival => work.pause(Real::now()),
            Start::At(time) => work.pause(clocks.begins + time.0),
            Start::Connected => {}
        }
    }
    let tell = |seen: Result<(Real, Seen), String>| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Ok((at, seen)) => told.notes.push(Observation {
                at: clocks.world(at),
                host: Some(host),
                seen,
            }),
            Err(failure) => told
                .failures
                .push(format!("{}: {failure}", client_name(&plan, host))),
        }
    };
    loop {
        let next = works.iter().filter_map(|work| work.next).min();
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let line = tokio::select! {
            biased;
            line = client.next_line() => match line {
                Some(line) => line,
                None => return,
            },
            () = due => {
                let now = Real::now();
                for work in works.iter_mut().filter(|work| work.next.is_some_and(|at| at <= now)) {
                    work.next = None;
                    match write(&plan, work, &mut client).await {
                        Ok(asked) => work.asked = Some(asked),
                        // It has ended; whoever watches the processes says so.
                        Err(_) => return,
                    }
                }
                continue;
            }
        };
        if !line.value["notice"]["connected"].is_null() {
            for work in works.iter_mut().filter(|work| work.start == Start::Connected) {
                // Once: a client that lost its way in and found another goes on as it was.
                if work.next.is_none() && work.asked.is_none() && line.at < work.until {
                    work.pause(line.at);
                }
            }
            continue;
        }
        if let Some(seen) = shown(&line) {
            tell(Ok((line.at, seen)));
            continue;
        }
        if let Some(seen) = answered(&mut works, &line) {
            tell(seen.map(|seen| (line.at, seen)));
        }
    }
}

fn client_name(plan: &Plan, host: HostId) -> &str {
    &plan.hosts[host as usize].name
}

/// Hands over one message.
async fn write(
    plan: &Plan,
    work: &mut Work,
    client: &mut Client,
) -> Result<(u64, HostId), phantom_drive::Failure> {
    let to = work.to[(work.rng.next_u64() % work.to.len() as u64) as usize];
    let (low, high) = work.size;
    let size = low + work.rng.next_u64() % (high.saturating_sub(low) + 1);
    // Letters: lines of JSON carry text.
    let text: String = (0..size)
        .map(|_| char::from(b'a' + (work.rng.next_u64() % 26) as u8))
        .collect();
    let id = client
        .ask(json!({ "send": {
            "contact": client_name(plan, to),
            "text": text,
            "ttl": format!("{} ms", work.ttl.as_millis()),
        } }))
        .await?;
    Ok((id, to))
}

/// A message for the user.
fn shown(line: &Line) -> Option<Seen> {
    let notice = &line.value["notice"]["message"];
    let tag = u64::from_str_radix(notice["message"].as_str()?, 16).ok()?;
    Some(Seen::Shown {
        message: Tag(tag),
        expires: WallTime::from_unix_secs(notice["expires_unix_secs"].as_u64()?),
    })
}

/// What the answer to one of the requests means.
fn answered(works: &mut [Work], line: &Line) -> Option<Result<Seen, String>> {
    let id = line.value["id"].as_u64()?;
    let work = works
        .iter_mut()
        .find(|work| work.asked.is_some_and(|(asked, _)| asked == id))?;
    let (_, to) = work.asked.take()?;
    work.pause(line.at);
    let message = line.value["ok"]["message"].as_str();
    Some(
        match message.and_then(|text| u64::from_str_radix(text, 16).ok()) {
            Some(tag) => Ok(Seen::Addressed {
                message: Tag(tag),
                to,
            }),
            None => Err(format!("a message was not taken: {}", line.value)),
        },
    )
}
