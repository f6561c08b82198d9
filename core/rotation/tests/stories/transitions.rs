//! The table of transitions: every state with every event, as the code has it, held against `transitions.txt`.
//!
//! `BLESS=1 cargo test -p phantom-rotation --test stories transitions` writes the file anew: read the difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use phantom_core::units::{Instant, WallTime};
use phantom_rotation::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng as _;

use crate::lab::{CLIENT, candidate};

const STATES: [StateName; 8] = [
    StateName::Stopped,
    StateName::Seeking,
    StateName::Limping,
    StateName::Steady,
    StateName::Doubting,
    StateName::Comparing,
    StateName::Trying,
    StateName::Weighing,
];

/// Bytes per second before anything happened.
const USUAL: u64 = 1_000_000;

struct Bench {
    machine: Rotation<ChaCha12Rng>,
    now: u64,
    dialled: Vec<(PathId, Candidate)>,
    delivered: BTreeMap<PathId, u64>,
    sharing: Option<PathId>,
    /// What could be dialled.
    ways: Vec<Candidate>,
    /// What the ladder reached, until the machine gives it a name.
    arriving: Option<Candidate>,
    log: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        let machine = Rotation::new(
            Config::default(),
            Memory::default(),
            ChaCha12Rng::seed_from_u64(1),
        );
        Self {
            machine,
            now: 0,
            dialled: Vec::new(),
            delivered: BTreeMap::new(),
            sharing: None,
            ways: vec![candidate("obfs4", 1, 443), candidate("meek", 2, 443)],
            arriving: None,
            log: Vec::new(),
        }
    }

    fn tell(&mut self, input: Input) {
        let now = Instant::from_nanos(self.now * 1_000_000);
        if let Err(error) = self.machine.handle(now, input) {
            self.log.push(format!("Err({error})"));
        }
        loop {
            let line = match self.machine.poll_output() {
                Output::WaitUntil(_) | Output::Idle => return,
                Output::Seek => "Seek".to_owned(),
                Output::Rest => "Rest".to_owned(),
                Output::Survey => {
                    let ways = self.ways.clone();
                    let _ = self.machine.handle(now, Input::Candidates(ways));
                    continue;
                }
                Output::Dial { path, candidate } => {
                    let line = format!("Dial {}", candidate.kind);
                    self.dialled.push((path, candidate));
                    line
                }
                Output::Share { to, .. } => {
                    self.sharing = Some(to);
                    format!("Share with {}", self.kind(to))
                }
                Output::Adopt { path, why } => {
                    self.name(path);
                    if self.sharing == Some(path) {
                        self.sharing = None;
                    }
                    format!("Adopt {} ({why:?})", self.kind(path))
                }
                Output::Close { path, silently } => {
                    self.name(path);
                    if self.sharing == Some(path) {
                        self.sharing = None;
                    }
                    let line = format!(
                        "Close {}{}",
                        self.kind(path),
                        if silently { " silently" } else { "" }
                    );
                    self.forget(path);
                    line
                }
                Output::Found { path, verdict } => format!("Found {} {verdict:?}", self.kind(path)),
            };
            self.log.push(line);
        }
    }

    fn kind(&self, path: PathId) -> String {
        let known = self.dialled.iter().find(|(id, _)| *id == path);
        known.map_or("?".to_owned(), |(_, candidate)| candidate.kind.to_string())
    }

    /// It stays in `dialled` for its name; the delivered count marks the open ones.
    fn forget(&mut self, path: PathId) {
        self.delivered.remove(&path);
    }

    fn name(&mut self, path: PathId) {
        if let Some(candidate) = self.arriving.take() {
            self.dialled.push((path, candidate));
            self.delivered.insert(path, 0);
        }
    }

    fn enter(&mut self, candidate: Candidate) {
        self.arriving = Some(candidate.clone());
        self.tell(Input::Entered(candidate));
    }

    fn start(&mut self) {
        self.tell(Input::Start {
            network: NetworkId([1; 16]),
            client: CLIENT,
            wall: WallTime::from_unix_secs(1_000_000),
        });
    }

    fn dialling(&self) -> Option<PathId> {
        self.dialled.last().map(|(id, _)| *id)
    }

    fn connect(&mut self, path: PathId) {
        self.delivered.insert(path, 0);
        self.tell(Input::Connected(path));
    }

    /// Time passes; the path in use and the second one move so many bytes per second, with data always queued.
    fn pass(&mut self, ms: u64, first: u64, second: u64) {
        for _ in 0..ms / 250 {
            self.now += 250;
            let rates = [(self.machine.in_use(), first), (self.sharing, second)];
            for (path, rate) in rates {
                if let Some(path) = path
                    && let Some(delivered) = self.delivered.get_mut(&path)
                {
                    *delivered += rate / 4;
                    let delivered = *delivered;
                    self.tell(Input::Progress {
                        path,
                        direction: Direction::Up,
                        queued: 1_000_000,
                        delivered,
                        rtt: Duration::from_millis(50),
                    });
                }
            }
            self.tell(Input::Tick);
        }
    }

    /// Only time passes.
    fn idle(&mut self, ms: u64) {
        for _ in 0..ms / 250 {
            self.now += 250;
            self.tell(Input::Tick);
        }
    }

    fn throttle(&mut self) {
        self.pass(6_000, USUAL / 10, 0);
    }

    /// Brings a new machine into a state.
    fn in_state(state: StateName) -> Self {
        let mut bench = Self::new();
        if state != StateName::Stopped {
            bench.start();
        }
        match state {
            StateName::Stopped | StateName::Seeking => {}
            _ => {
                bench.enter(candidate("obfs4", 1, 443));
                bench.pass(130_000, USUAL, 0);
            }
        }
        match state {
            StateName::Limping => {
                let all = std::mem::take(&mut bench.ways);
                bench.pass(10_000, 0, 0);
                bench.ways = all;
            }
            StateName::Doubting => bench.throttle(),
            StateName::Comparing | StateName::Trying | StateName::Weighing => {
                bench.throttle();
                let second = bench.dialling().expect("a second path");
                bench.connect(second);
            }
            _ => {}
        }
        if matches!(state, StateName::Trying | StateName::Weighing) {
            bench.pass(10_000, USUAL / 10, USUAL / 2);
            bench.pass(601_000, USUAL / 2, 0);
        }
        if state == StateName::Weighing {
            let second = bench.dialling().expect("a trial");
            bench.connect(second);
        }
        assert_eq!(bench.machine.state(), state, "{:?}", bench.log);
        bench.log.clear();
        bench
    }
}

type Event = (&'static str, fn(&mut Bench));

const EVENTS: [Event; 21] = [
    ("Start, same network", Bench::start_only),
    ("Start, another network", |bench| {
        bench.tell(Input::Start {
            network: NetworkId([2; 16]),
            client: CLIENT,
            wall: WallTime::from_unix_secs(1_000_000),
        });
    }),
    ("Entered", |bench| bench.enter(candidate("webtunnel", 3, 443))),
    ("Missed, Unanswered", |bench| {
        bench.tell(Input::Missed(candidate("webtunnel", 3, 443), Failure::Unanswered));
    }),
    ("Candidates unasked, one", |bench| {
        bench.tell(Input::Candidates(vec![candidate("webtunnel", 3, 443)]));
    }),
    ("last dial: Connected", |bench| {
        if let Some(path) = bench.dialling() {
            bench.connect(path);
        }
    }),
    ("last dial: Failed, Silence", |bench| {
        if let Some(path) = bench.dialling() {
            bench.tell(Input::Failed(path, Failure::Silence));
        }
    }),
    ("last dial: Failed, Local", |bench| {
        if let Some(path) = bench.dialling() {
            bench.tell(Input::Failed(path, Failure::Local));
        }
    }),
    ("in use: Closed, Reset", |bench| {
        if let Some(path) = bench.machine.in_use() {
            bench.tell(Input::Closed(path, Failure::Reset));
        }
    }),
    ("in use: Closed, Ended", |bench| {
        if let Some(path) = bench.machine.in_use() {
            bench.tell(Input::Closed(path, Failure::Ended));
        }
    }),
    ("in use: Closed, Useless", |bench| {
        if let Some(path) = bench.machine.in_use() {
            bench.tell(Input::Closed(path, Failure::Useless));
        }
    }),
    ("second: Closed, Reset", |bench| {
        if let Some(path) = bench.sharing.take() {
            bench.tell(Input::Closed(path, Failure::Reset));
        }
    }),
    ("250 ms pass, nothing queued", |bench| bench.idle(250)),
    ("11 s pass, nothing queued", |bench| bench.idle(11_000)),
    ("15 min pass, nothing queued", |bench| bench.idle(900_000)),
    ("8 s: in use as usual, second half of it", |bench| {
        bench.pass(8_000, USUAL, USUAL / 2)
    }),
    ("8 s: in use a tenth, second a tenth", |bench| {
        bench.pass(8_000, USUAL / 10, USUAL / 10)
    }),
    ("14 s: in use a tenth, second half", |bench| {
        bench.pass(14_000, USUAL / 10, USUAL / 2)
    }),
    ("14 s: in use half, second as usual", |bench| {
        bench.pass(14_000, USUAL / 2, USUAL)
    }),
    ("10 s: in use silent, second half", |bench| {
        bench.pass(10_000, 0, USUAL / 2)
    }),
    ("Stop", |bench| bench.tell(Input::Stop)),
];

impl Bench {
    fn start_only(&mut self) {
        self.tell(Input::Start {
            network: NetworkId([1; 16]),
            client: CLIENT,
            wall: WallTime::from_unix_secs(1_000_000),
        });
    }
}

#[test]
fn every_transition_is_the_one_that_is_written_down() {
    let mut table = String::from(
        "# Every state with every event: the state after it, and what the machine asked for. Written by tests/stories/transitions.rs.\n\
         # The event is told to a machine with two ways in, obfs4 (one server) and meek (another), that is in the state.\n",
    );
    for state in STATES {
        let _ = writeln!(table, "\n{state}");
        for (name, event) in EVENTS {
            let mut bench = Bench::in_state(state);
            event(&mut bench);
            let mut outputs: Vec<String> = bench.log.iter().take(8).cloned().collect();
            if bench.log.len() > 8 {
                outputs.push(format!("and {} more", bench.log.len() - 8));
            }
            let outputs = if outputs.is_empty() {
                "-".to_owned()
            } else {
                outputs.join(", ")
            };
            let _ = writeln!(table, "    {name} -> {}: {outputs}", bench.machine.state());
        }
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("transitions.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &table).expect("the table can be written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    for (wanted, got) in written.lines().zip(table.lines()) {
        assert_eq!(
            wanted, got,
            "read the difference, then write the table anew: BLESS=1"
        );
    }
    assert_eq!(written.lines().count(), table.lines().count());
}
