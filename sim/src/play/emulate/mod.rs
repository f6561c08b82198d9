//! Playing a plan with the real programs: `phantom-node` and `phantom` as processes in network namespaces, joined by a switch whose
//! links and censor are those of the simulation, in real time.
//!
//! Kernel TCP meets our censor, and our code meets kernel TCP. The people, the oracle, the observations and the judges are those of
//! every back end; the programs tell by `--events` what they report in a simulation. What differs is said in docs/EMULATION.md.
#![allow(
    clippy::disallowed_methods,
    reason = "real processes in real time; nothing of it is ever simulated"
)]

mod border;
mod journal;
mod names;
mod people;
mod set_up;
mod wire;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phantom_core::units::{Instant, WallTime};
use phantom_drive::client::Client;
use phantom_drive::processes::Processes;
use phantom_rig::{Lateness, RigError, Switch};
use rand_core::Rng;
use tokio::time::{Instant as Real, sleep_until};

use self::journal::Journal;
use self::people::{Clocks, SharedTold};
use self::wire::{Carried, End, RESOLVER, Wire};
use super::access::access;
use super::border::Blocks;
use super::observe::Observer;
use super::on_swarm::topology;
use super::oracle::Oracle;
use super::world::LINK_PORT;
use super::{loopback, times};
use crate::check::observe::{Acted, Seen, Sink};
use crate::host::record::Detail;
use crate::host::{Digest, PeerId};
use crate::run::{Player, RunError, RunOutput};
use crate::scenario::metric::Sense;
use crate::scenario::plan::{Happening, HostId, Plan, Role, stream};
use crate::scratch::Scratch;
use crate::swarm::topology::AsId;

/// Setting up takes so long at most, for each host and for each pair of contacts, on a busy machine.
const SET_UP_EACH: Duration = Duration::from_millis(600);
/// And for what is done once.
const SET_UP: Duration = Duration::from_secs(3);
/// What a process reports is in its file by then.
const WRITTEN: Duration = Duration::from_millis(150);
const SECOND: Duration = Duration::from_secs(1);

/// How the programs are run.
#[derive(Clone, Debug)]
pub struct EmulatePlayer {
    /// Where `phantom-node` and `phantom` are.
    pub programs: PathBuf,
    /// This program, which becomes those within a namespace: `EXE within …`.
    pub exe: PathBuf,
    /// Where the processes' files and logs are kept, if they are.
    pub keep: Option<PathBuf>,
    begins: Arc<Mutex<Option<WallTime>>>,
    tale: Arc<Mutex<Option<Tale>>>,
}

/// How it went, for whoever wonders how far to believe it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tale {
    /// How late packets were.
    pub late: Lateness,
    /// Whether the switch went before all other programs of the machine.
    pub realtime: bool,
    /// Packets that hosts sent, that were lost on links, that went to nobody, and questions for names.
    pub packets: [u64; 4],
}

impl EmulatePlayer {
    /// The programs in this directory.
    pub fn new(programs: PathBuf, exe: PathBuf) -> Self {
        Self {
            programs,
            exe,
            keep: None,
            begins: Arc::default(),
            tale: Arc::default(),
        }
    }

    /// How the last run went.
    pub fn tale(&self) -> Option<Tale> {
        *self.tale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The beginning of an interval by which everything is set up, and the warm-up after it.
    fn next_beginning(plan: &Plan) -> WallTime {
        let interval = plan.document_interval.as_secs().max(1);
        let parts = u32::try_from(plan.hosts.len() + plan.edges.len()).unwrap_or(u32::MAX);
        let earliest = loopback::date() + SET_UP + SET_UP_EACH * parts;
        let aligned = earliest.as_unix_secs().div_ceil(interval) * interval;
        WallTime::from_unix_secs(aligned) + times::warm_up(plan)
    }
}

impl Player for EmulatePlayer {
    fn senses(&self) -> &[Sense] {
        &[Sense::Events, Sense::Censor, Sense::Paths, Sense::Faults]
    }

    fn repeats(&self) -> bool {
        false
    }

    fn epoch(&self, plan: &Plan) -> WallTime {
        let begins = Self::next_beginning(plan);
        *self.begins.lock().unwrap_or_else(PoisonError::into_inner) = Some(begins);
        begins
    }

    fn play(&self, plan: &Arc<Plan>, sink: &mut dyn Sink) -> Result<RunOutput, RunError> {
        let begins = self.begins.lock().unwrap_or_else(PoisonError::into_inner).take();
        let begins = begins.unwrap_or_else(|| Self::next_beginning(plan));
        let mut plan = Plan::clone(plan);
        // The switch carries IPv4.
        plan.hosts.iter_mut().for_each(|host| host.address6 = None);
        let plan = Arc::new(plan);
        set_up::check(&plan)?;
        for program in ["phantom-node", "phantom"] {
            if !self.programs.join(program).is_file() {
                return Err(RunError::Unable(format!(
                    "there is no {program} in {}: build it there, or say --programs DIR",
                    self.programs.display()
                )));
            }
        }
        let world = World {
            zero: begins - times::warm_up(&plan),
            begins: Instant::ZERO + times::warm_up(&plan),
            plan,
        };
        let scratch = Scratch::make(own_dir()).map_err(failed("making a directory"))?;
        let switch = world
            .switch()
            .map_err(|error| RunError::Failed(error.to_string()))?;
        let processes = world.processes(self, &switch, scratch.path())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed("starting an event loop"))?;
        let played = runtime.block_on(world.play(&switch, processes, sink));
        if let Some(keep) = &self.keep {
            copy(scratch.path(), keep).map_err(failed(&format!("keeping files in {}", keep.display())))?;
        }
        let late = switch
            .lateness()
            .map_err(|error| RunError::Failed(error.to_string()))?;
        let carried: Carried = switch.course(|wire| wire.carried);
        *self.tale.lock().unwrap_or_else(PoisonError::into_inner) = Some(Tale {
            late,
            realtime: switch.realtime(),
            packets: [carried.sent, carried.lost, carried.unroutable, carried.asked],
        });
        played
    }
}

fn failed<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> RunError {
    let what = what.to_owned();
    move |error| RunError::Failed(format!("{what}: {error}"))
}

/// A directory of this run alone. What a killed run left is removed: its process is no more.
fn own_dir() -> PathBuf {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    const PREFIX: &str = "phantom-emulate-";
    let temp = std::env::temp_dir();
    for entry in std::fs::read_dir(&temp).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let of = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if of.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Somebody else's is not ours to remove, and no error.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    temp.join(format!("{PREFIX}{}-{run}", std::process::id()))
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (path, target) = (entry?.path(), to);
        let target = target.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// The world that is emulated.
struct World {
    plan: Arc<Plan>,
    /// The date at which its clock begins.
    zero: WallTime,
    /// When the scenario begins, on that clock.
    begins: Instant,
}

/// What happens to a host's process at a time of the world's.
#[derive(Clone, Copy)]
enum Turn {
    Start,
    Crash { lose_disk: bool },
}

impl World {
    /// All namespaces, and what joins them.
    fn switch(&self) -> Result<Switch<Wire>, RigError> {
        let plan = &*self.plan;
        let ends = plan.hosts.iter().map(|host| End {
            address: host.address,
            system: AsId(u16::try_from(host.system).unwrap_or(u16::MAX)),
            inside: host.inside,
            access: access(&host.access),
        });
        let names = plan.hosts.iter().filter_map(|host| {
            let name = host.dns_name.as_ref()?;
            Some((name.to_ascii_lowercase(), vec![host.address]))
        });
        let wire = Wire::new(
            ends.collect(),
            topology(plan).delays(),
            names.collect(),
            super::border::engine(plan, self.begins),
            stream(plan.seed, "wire").next_u64(),
        );
        let addresses: Vec<_> = plan.hosts.iter().map(|host| host.address).collect();
        Switch::new(&addresses, wire)
    }

    /// Whatever is started is started within the namespace of the host of its name.
    fn processes(
        &self,
        player: &EmulatePlayer,
        switch: &Switch<Wire>,
        dir: &Path,
    ) -> Result<Processes, RunError> {
        // As the simulated stub asks.
        let resolv = format!("nameserver {RESOLVER}\noptions timeout:5 attempts:2\n");
        std::fs::write(dir.join("resolv.conf"), resolv).map_err(failed("writing resolv.conf"))?;
        let mut within: BTreeMap<String, Vec<OsString>> = BTreeMap::new();
        for (n, host) in self.plan.hosts.iter().enumerate() {
            let namespace = switch.namespace(n).map_err(failed("finding a namespace"))?;
            let words = [
                player.exe.as_os_str(),
                "within".as_ref(),
                namespace.as_os_str(),
                dir.as_os_str(),
            ];
            within.insert(host.name.clone(), words.map(OsString::from).to_vec());
        }
        let prefix = move |name: &str| within.get(name).cloned().unwrap_or_default();
        let processes = Processes::new(player.programs.clone(), dir.to_owned());
        Ok(processes.behind(Box::new(prefix)))
    }

    async fn play(
        &self,
        switch: &Switch<Wire>,
        mut processes: Processes,
        sink: &mut dyn Sink,
    ) -> Result<RunOutput, RunError> {
        let played = tokio::select! {
            biased;
            () = hung_up() => Err(RunError::Failed("the terminal hung up".to_owned())),
            played = self.course(switch, &mut processes, sink) => played,
        };
        // Whatever happened, no process is left. One that has to be killed in the end has shown nothing about the scenario.
        if let Err(failure) = processes.end().await {
            tracing::warn!(%failure, "ending the processes");
        }
        played
    }

    async fn course(
        &self,
        switch: &Switch<Wire>,
        processes: &mut Processes,
        sink: &mut dyn Sink,
    ) -> Result<RunOutput, RunError> {
        let plan = &self.plan;
        let bridges_of = set_up::set_up(plan, processes)
            .await
            .map_err(failed("setting up"))?;
        let (date, now) = (loopback::date(), Real::now());
        if date > self.zero {
            let late = date.saturating_since(self.zero);
            return Err(RunError::Failed(format!(
                "setting up took {:.1} s too long: the machine is too slow or too busy",
                late.as_secs_f64()
            )));
        }
        let zero = now + self.zero.saturating_since(date);
        let zero_ns = switch.now_ns() + (zero - now).as_nanos() as u64;
        switch.course(|wire| wire.begin(zero_ns));
        let clocks = Clocks {
            begins: zero + self.begins.since_start(),
            world: self.begins,
        };

        let mut observer = Observer::new(
            plan,
            self.begins,
            sink,
            Oracle::new(plan, bridges_of),
            Blocks::new(plan, LINK_PORT),
        );
        let mut turns = self.turns(&mut observer);
        let dir = processes.dir().to_owned();
        let mut run = Run {
            world: self,
            switch,
            told: SharedTold::default(),
            journals: (0..)
                .zip(&plan.hosts)
                .map(|(n, host)| Journal::new(PeerId(n), set_up::events(&dir, host)))
                .collect(),
            early: Vec::new(),
            acted: vec![[0; 3]; plan.rules.len()],
            digest: Digest::new(Detail::World),
        };
        let end = self.begins + plan.duration;
        let mut second = self.begins;
        loop {
            let next_turn = turns.first_key_value().map(|((at, _), _)| *at);
            let next = next_turn.unwrap_or(end).min(second);
            if next_turn.is_some_and(|at| at <= second) {
                sleep_until(zero + next.since_start()).await;
                if let Some(((_, host), turn)) = turns.pop_first() {
                    run.turn(host, turn, processes, clocks)
                        .await
                        .map_err(failed("running the programs"))?;
                }
                continue;
            }
            sleep_until(zero + second.since_start() + WRITTEN).await;
            processes.all_run().map_err(failed("a program ended"))?;
            run.look(second, &mut observer)?;
            if second >= end {
                break;
            }
            second = (second + SECOND).min(end);
        }
        let Run { mut digest, .. } = run;
        digest.advance(end);
        Ok(RunOutput {
            end: Instant::ZERO + plan.duration,
            events: digest.events(),
            segments: 0,
            trace_digest: digest.trace(),
            checkpoints: digest.checkpoints().to_vec(),
        })
    }

    /// When which process starts, is killed, starts again; and what is known of it beforehand.
    fn turns(&self, observer: &mut Observer<'_>) -> BTreeMap<(Instant, HostId), Turn> {
        let plan = &self.plan;
        let starts = times::starts(plan, self.begins);
        let mut turns: BTreeMap<_, _> = starts
            .into_iter()
            .zip(0..)
            .map(|(at, host)| ((at, host), Turn::Start))
            .collect();
        for fault in &plan.faults {
            let Happening::Crash { lose_disk, restart } = fault.what else {
                continue;
            };
            let (said, host) = (Instant::ZERO + fault.at, fault.host);
            turns.insert((self.begins + fault.at, host), Turn::Crash { lose_disk });
            observer.say(said, Some(host), Seen::Crashed);
            if lose_disk {
                observer.say(said, Some(host), Seen::DiskLost);
            }
            if let Some(restart) = restart {
                turns.insert((self.begins + restart, host), Turn::Start);
                observer.say(Instant::ZERO + restart, Some(host), Seen::Restarted);
            }
        }
        turns
    }
}

/// A world that runs.
struct Run<'a> {
    world: &'a World,
    switch: &'a Switch<Wire>,
    told: SharedTold,
    journals: Vec<Journal>,
    /// What was reported after the second that is looked at.
    early: Vec<crate::stage::Record>,
    /// What each rule of the plan had done by the last look.
    acted: Vec<[u64; 3]>,
    digest: Digest,
}

impl Run<'_> {
    async fn turn(
        &mut self,
        id: HostId,
        turn: Turn,
        processes: &mut Processes,
        clocks: Clocks,
    ) -> Result<(), phantom_drive::Failure> {
        let plan = &self.world.plan;
        let host = &plan.hosts[id as usize];
        match (turn, host.role) {
            (Turn::Crash { lose_disk }, _) => {
                processes.kill(&host.name).await?;
                if lose_disk {
                    set_up::lose_disk(processes.dir(), host)?;
                }
            }
            (Turn::Start, Role::Client(node)) => {
                let client = Client::start(processes, &host.name, &set_up::client(host, node))?;
                tokio::spawn(people::live(plan.clone(), id, client, clocks, self.told.clone()));
            }
            (Turn::Start, _) => {
                processes.start(&host.name, "phantom-node", &set_up::server(plan, host))?;
            }
        }
        Ok(())
    }

    /// Takes what was seen by the end of a second, and tells it.
    fn look(&mut self, second: Instant, observer: &mut Observer<'_>) -> Result<(), RunError> {
        let mut records = std::mem::take(&mut self.early);
        for journal in &mut self.journals {
            journal.read(self.world.zero, &mut records)?;
        }
        records.sort_by_key(|record| record.at);
        self.early = records.split_off(records.partition_point(|record| record.at <= second));
        for record in &records {
            self.digest.event(record.at, record.peer, &record.event);
        }
        observer.records(records);
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(failure) = told.failures.first() {
            return Err(RunError::Failed(failure.clone()));
        }
        for note in told.notes {
            observer.say(observer.scenario(note.at), note.host, note.seen);
        }
        observer.stored.clear();
        let now = observer.scenario(second);
        for (n, rule) in self.world.plan.rules.iter().enumerate() {
            let total = self.switch.course(|wire| border::acted(&wire.engine, &rule.name));
            let before = std::mem::replace(&mut self.acted[n], total);
            let acts = [Acted::Dropped, Acted::Reset, Acted::Forged];
            for (act, (total, before)) in acts.into_iter().zip(total.into_iter().zip(before)) {
                if total > before {
                    let (rule, count) = (n as u32, total - before);
                    observer.say(now, None, Seen::Censor { rule, act, count });
                }
            }
        }
        self.switch
            .lateness()
            .map_err(|error| RunError::Failed(error.to_string()))?;
        observer.tell(now, self.digest.events());
        Ok(())
    }
}

/// Ctrl-C and SIGTERM end the whole program elsewhere; a terminal that is gone ends the run.
async fn hung_up() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => {
            hangup.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}
