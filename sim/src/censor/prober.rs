//! The prober of a censor at a border: hosts of its own that connect to the servers of suspects.
//!
//! [`phantom_censor::prober::Prober`] says what is sent when and what answers tell; here it has hands. [`direct`] runs it,
//! [`lend`] connects for it from a host of another address; both are programs against a [`Runtime`], so they run in a
//! world as on a real host. What the engine at the border suspects and what it is to block goes through an [`Office`], which
//! [`Censor`](super::Censor) looks into at each packet: the loop needs no help of whoever drives the world, and a block
//! holds from the next packet on.
//!
//! The border must not wake a program, so [`direct`] looks every quarter of a second whether there are suspects: less than
//! the least delay that was ever seen. All that waits is bounded; who does not fit is left out.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use phantom_censor::engine::rule::Rule;
use phantom_censor::prober::config::Origins;
use phantom_censor::prober::machine::Counts;
use phantom_censor::prober::{Answer, Input, Limits, Output, Probe, Prober, Reaction, Sign, Suspect};
use phantom_core::runtime::{Runtime, timeout};
use phantom_core::units::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Suspects that wait for the prober, and servers that wait for their block.
const WAITING_MAX: usize = 4_096;
/// Servers that are remembered as blocked, for whoever asks.
const FOUND_MAX: usize = 4_096;
/// How often it is looked for suspects.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A server that the prober found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// When.
    pub at: Instant,
    /// The rule that suspected it, by its place.
    pub rule: usize,
    /// The server.
    pub server: SocketAddr,
    /// By what.
    pub sign: Sign,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Where it went.
    pub server: SocketAddr,
    /// What it met.
    pub answer: Answer,
}

#[derive(Default)]
struct Desk {
    suspects: VecDeque<Suspect>,
    blocks: VecDeque<(usize, SocketAddr)>,
    found: Vec<Found>,
    ended: VecDeque<Ended>,
    counts: Counts,
    left_out: u64,
}

/// Where a border and its prober leave things for each other. Clones are the same.
#[derive(Clone, Default)]
pub struct Office(Arc<Mutex<Desk>>);

impl Office {
    /// The border suspects these.
    pub(super) fn suspect(&self, suspects: Vec<Suspect>) {
        let mut desk = self.desk();
        for suspect in suspects {
            if desk.suspects.len() < WAITING_MAX {
                desk.suspects.push_back(suspect);
            } else {
                desk.left_out += 1;
            }
        }
    }

    /// The next server that the border is to block, for a rule.
    pub(super) fn next_block(&self) -> Option<(usize, SocketAddr)> {
        self.desk().blocks.pop_front()
    }

    /// The servers that were blocked so far; the first 4,096.
    pub fn found(&self) -> Vec<Found> {
        self.found_after(0)
    }

    /// The same without the first so many.
    pub fn found_after(&self, known: usize) -> Vec<Found> {
        self.desk().found.get(known..).unwrap_or_default().to_vec()
    }

    /// Probes that ended since the last call; beyond 4,096 further ones are left out.
    pub fn take_ended(&self) -> Vec<Ended> {
        self.desk().ended.drain(..).collect()
    }

    /// What the prober did.
    pub fn counts(&self) -> Counts {
        self.desk().counts
    }

    /// Suspects and blocks for which there was no room.
    pub fn left_out(&self) -> u64 {
        self.desk().left_out
    }

    fn ended(&self, ended: Ended) {
        let mut desk = self.desk();
        if desk.ended.len() < WAITING_MAX {
            desk.ended.push_back(ended);
        } else {
            desk.left_out += 1;
        }
    }

    fn block(&self, found: Found) {
        let mut desk = self.desk();
        if desk.blocks.len() < WAITING_MAX {
            desk.blocks.push_back((found.rule, found.server));
        } else {
            desk.left_out += 1;
        }
        if desk.found.len() < FOUND_MAX {
            desk.found.push(found);
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All who work for a prober: one who [`direct`]s, and the hosts that [`lend`] it their addresses.
pub struct Crew {
    /// For the border.
    pub office: Office,
    /// For the host that directs.
    pub head: Head,
    /// For the hosts that probe.
    pub hands: Vec<Hand>,
}

/// What the host that directs has. A clone goes on where another one stopped.
#[derive(Clone)]
pub struct Head {
    office: Office,
    prober: Arc<Mutex<Prober>>,
    /// By the place of a rule: which hands it has.
    staff: Arc<Vec<Vec<usize>>>,
    errands: Arc<Vec<mpsc::Sender<Probe>>>,
    answers: Arc<tokio::sync::Mutex<mpsc::Receiver<(u64, Answer)>>>,
}

/// What a host has that probes. A clone goes on where another one stopped.
#[derive(Clone)]
pub struct Hand {
    /// The address that a rule names for it; `None`: any inside.
    pub address: Option<IpAddr>,
    errands: Arc<tokio::sync::Mutex<mpsc::Receiver<Probe>>>,
    answers: mpsc::Sender<(u64, Answer)>,
    office: Office,
}

impl Crew {
    /// For the rules of an engine, of which some probe; `None`: none does. All chances follow from `seed`. Rules that ask
    /// for a number of addresses share them; an address that a rule names is a host of its own.
    pub fn of(rules: &[Rule], seed: u64, limits: Limits) -> Option<Self> {
        let probing: Vec<_> = (rules.iter().enumerate())
            .filter_map(|(place, rule)| Some((place, rule.probe()?.clone())))
            .collect();
        let numbers = probing.iter().map(|(_, config)| match &config.from {
            Origins::Number(number) => usize::from(*number),
            Origins::These(_) => 0,
        });
        let mut addresses: Vec<Option<IpAddr>> = vec![None; numbers.max()?];
        let mut staff = vec![Vec::new(); rules.len()];
        for (place, config) in &probing {
            staff[*place] = match &config.from {
                Origins::Number(number) => (0..usize::from(*number)).collect(),
                Origins::These(these) => {
                    let hand = |address: &IpAddr| {
                        let known = addresses.iter().position(|known| *known == Some(*address));
                        known.unwrap_or_else(|| {
                            addresses.push(Some(*address));
                            addresses.len() - 1
                        })
                    };
                    these.iter().map(hand).collect()
                }
            };
        }
        let (office, in_flight) = (Office::default(), limits.in_flight_max.max(1));
        // No more are under way at once, so there is always room.
        let (answers, answered) = mpsc::channel(in_flight);
        let (mut errands, mut hands) = (Vec::new(), Vec::new());
        for address in addresses {
            let (errand, asked) = mpsc::channel(in_flight);
            errands.push(errand);
            hands.push(Hand {
                address,
                errands: Arc::new(tokio::sync::Mutex::new(asked)),
                answers: answers.clone(),
                office: office.clone(),
            });
        }
        let head = Head {
            office: office.clone(),
            prober: Arc::new(Mutex::new(Prober::new(seed, limits, probing))),
            staff: Arc::new(staff),
            errands: Arc::new(errands),
            answers: Arc::new(tokio::sync::Mutex::new(answered)),
        };
        Some(Self { office, head, hands })
    }
}

impl Head {
    fn prober(&self) -> MutexGuard<'_, Prober> {
        self.prober.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the prober, and does what it wants done; until when there is nothing more.
    fn tell(&self, now: Instant, inputs: impl IntoIterator<Item = Input>) -> Option<Instant> {
        let mut prober = self.prober();
        for input in inputs {
            // What it does not take up it counts.
            if let Err(error) = prober.handle(now.as_nanos(), input) {
                tracing::debug!(%error, "the prober goes on");
            }
        }
        let until = loop {
            match prober.poll_output() {
                Output::Send(probe) => {
                    let staff = self.staff.get(probe.rule).map_or(&[][..], Vec::as_slice);
                    let hand = staff.get(probe.from).and_then(|hand| self.errands.get(*hand));
                    // A hand that has no room has no host: the prober gives the probe up.
                    if let Some(hand) = hand {
                        let _ = hand.try_send(probe);
                    }
                }
                Output::Block { rule, server, sign } => self.office.block(Found {
                    at: now,
                    rule,
                    server,
                    sign,
                }),
                Output::WaitUntil(at_ns) => break Some(Instant::from_nanos(at_ns)),
                Output::Done => break None,
            }
        };
        self.office.desk().counts = prober.counts();
        until
    }
}

/// Runs a prober. Never returns.
pub async fn direct<R: Runtime>(rt: R, head: Head) {
    let mut answers = head.answers.lock().await;
    let mut due = None;
    loop {
        let suspects: Vec<Input> = head
            .office
            .desk()
            .suspects
            .drain(..)
            .map(Input::Suspect)
            .collect();
        let now = rt.now();
        if !suspects.is_empty() || due.is_some_and(|due| due <= now) {
            due = head.tell(now, suspects.into_iter().chain([Input::Tick]));
        }
        let look = now + LOOK_EVERY;
        let wake = due.map_or(look, |due| due.min(look));
        tokio::select! {
            biased;
            answer = answers.recv() => match answer {
                Some((number, answer)) => due = head.tell(rt.now(), [Input::Answered(number, answer)]),
                // All hands are gone for good.
                None => rt.sleep_until(wake).await,
            },
            () = rt.sleep_until(wake) => {}
        }
    }
}

/// Connects for a prober from this host. Never returns while there is one.
pub async fn lend<R: Runtime>(rt: R, hand: Hand) {
    let mut errands = hand.errands.lock().await;
    while let Some(errand) = errands.recv().await {
        let (own, answers, office) = (rt.clone(), hand.answers.clone(), hand.office.clone());
        rt.spawn("probe", async move {
            let patience = Duration::from_nanos(errand.patience_ns);
            let answer = probe(&own, errand.server, &errand.payload, patience).await;
            let server = errand.server;
            office.ended(Ended { server, answer });
            // Nobody waits for it when the prober is gone.
            let _ = answers.send((errand.number, answer)).await;
        });
    }
}

/// Connects, says `payload` and tells what came first: bytes, an end, or `patience` ran out. Then it closes, as the real
/// prober does (Alice et al., IMC 2020, §5.3).
pub async fn probe<R: Runtime>(rt: &R, server: SocketAddr, payload: &[u8], patience: Duration) -> Answer {
    let dialled = rt.now();
    let connected = timeout(rt, patience, rt.connect(server)).await;
    let opened = rt.now();
    let answer = |from: Instant, reaction| Answer {
        after_ns: rt.now().as_nanos().saturating_sub(from.as_nanos()),
        reaction,
    };
    let Ok(Ok(mut stream)) = connected else {
        return answer(dialled, Reaction::Unreachable);
    };
    let mut first = [0; 64];
    let heard = timeout(rt, patience, async {
        stream.write_all(payload).await?;
        stream.flush().await?;
        stream.read(&mut first).await
    });
    let reaction = match heard.await {
        Ok(Ok(0)) => Reaction::Fin,
        Ok(Ok(n)) => Reaction::data(&first[..n]),
        Ok(Err(_)) => Reaction::Reset,
        Err(_late) => Reaction::Silence,
    };
    answer(opened, reaction)
}
