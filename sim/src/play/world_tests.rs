//! Worlds that are broken on purpose, so that what is promised of boxes and disks is seen to fail.

use std::net::IpAddr;
use std::sync::Arc;

use phantom_core::units::{Instant, WallTime};

use super::*;
use crate::check::judge::{InvariantResult, Judge, Verdict};
use crate::check::observe::Observation;
use crate::host::Disk;
use crate::scenario::load::{Library, from_text};
use crate::scenario::metric::Sense;
use crate::stage::{Delays, HostSpec};
use crate::swarm::SwarmStage;

/// Storage nodes, and clients that write what lives ten seconds and what lives an hour.
const WORLD: &str = r#"
format = 1
name = "t"
summary = "s"
run = { duration = "3 min", document-interval = "5 s" }
topology.region = [{ name = "here", area = "europe" }]
population.authority = { region = "here", count = { extra = 3 }, node = "authority" }
population.service = { region = "here", count = { extra = 8 }, node = "service", published = {} }
population.client = { region = "here", count = { fixed = 4 }, node = { client = { dht = "off", friends = "off", poll = "2 s" } } }
params.peers = { default = 4 }
graph.contacts = { among = ["client"], model = { small-world = { degree = 2 } }, carries = "messages" }
[[workload]]
name = "short"
by = "client"
start = "connected"
until = "1 min"
do = { write = { to = "contacts", every = "5 s", size = "200 B", ttl = "10 s" } }
[[workload]]
name = "long"
by = "client"
start = "connected"
do = { write = { to = "contacts", every = "10 s", size = "200 B", ttl = "1 h" } }
[[invariant]]
name = "boxes"
always = "box.lost == 0"
[[invariant]]
name = "residue"
always = "disk.residue == 0"
"#;

/// What is done to the disks of the storage nodes, second by second.
type Sabotage = fn(at: u64, disks: &mut [Disk]);

struct Broken {
    stage: SwarmStage,
    services: Vec<PeerId>,
    sabotage: Sabotage,
}

impl Ground for Broken {
    type Stage = SwarmStage;

    fn stage(&mut self) -> &mut SwarmStage {
        &mut self.stage
    }

    fn learn(&mut self, _: &Plan, _: &str, _: IpAddr, _: Instant) {}

    fn acted(&mut self, _: &str) -> [u64; 3] {
        [0; 3]
    }

    fn tell(&mut self, _: &mut Observer<'_>, now: Instant) {
        let take = |peer: &PeerId| self.stage.with_disk(*peer, std::mem::take);
        let mut disks: Vec<Disk> = self.services.iter().filter_map(take).collect();
        (self.sabotage)(now.since_start().as_secs(), &mut disks);
        for (peer, changed) in self.services.iter().zip(disks) {
            self.stage.with_disk(*peer, |disk| *disk = changed);
        }
    }

    fn steps(&mut self) -> u64 {
        0
    }

    fn digest(&mut self) -> (u64, String, Vec<crate::host::Checkpoint>) {
        (0, String::new(), Vec::new())
    }
}

struct Nothing;

impl Library for Nothing {
    fn read(&self, _: &str) -> std::io::Result<Option<(String, String)>> {
        Ok(None)
    }
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

struct ToJudge(Judge);

impl Sink for ToJudge {
    fn observe(&mut self, observation: &Observation) {
        self.0.observe(observation);
    }
}

fn play_broken(sabotage: Sabotage) -> Vec<InvariantResult> {
    let loaded = from_text(&Nothing, "t.toml", WORLD.to_owned(), Some("t"), &[])
        .unwrap_or_else(|error| panic!("{error}"));
    let plan = Arc::new(Plan::draw(&loaded, 1));
    let begins = Instant::ZERO + times::warm_up(&plan);
    let date = times::world_begins(&plan);
    let epoch: WallTime = date + begins.since_start();
    let mut judge = ToJudge(Judge::new(&plan, epoch, Sense::ALL));
    let output = super::play(&plan, LINK_PORT, &mut judge, || {
        let mut stage = SwarmStage::new(plan.seed, Delays::uniform(Duration::from_millis(20)));
        let mut services = Vec::new();
        for host in &plan.hosts {
            let mut spec = HostSpec::new(host.name.clone(), IpAddr::V4(host.address));
            spec.wall = crate::host::Wall::new(date);
            let peer = stage.add_host(spec);
            services.extend((host.role == Role::Service).then_some(peer));
        }
        let ground = Broken {
            stage,
            services,
            sabotage,
        };
        Ok(Opening { ground, begins, date })
    })
    .expect("the run comes to its end");
    judge.0.finish(output.end).invariants
}

fn verdict(results: &[InvariantResult], name: &str) -> (Verdict, u64) {
    let result = results.iter().find(|result| result.name == name).expect("judged");
    (result.verdict, result.samples)
}

fn boxes_of(disk: &Disk) -> Vec<(String, Vec<u8>)> {
    let files = disk.files().filter(|(name, _)| name.starts_with("box-"));
    files
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .collect()
}

#[test]
fn in_a_world_that_is_left_alone_boxes_are_found_and_purges_leave_nothing() {
    let results = play_broken(|_, _| {});
    let (boxes, found) = verdict(&results, "boxes");
    let (residue, looked_for) = verdict(&results, "residue");
    assert_eq!((boxes, residue), (Verdict::Pass, Verdict::Pass), "{results:#?}");
    assert!(found > 20 && looked_for > 20, "{found} boxes, {looked_for} gone");
}

/// Every box is still on the disk of a live node, but not of one that a reader would ask: hand-over or placement is broken.
#[test]
fn boxes_on_nodes_that_no_reader_asks_are_lost() {
    let results = play_broken(|at, disks| {
        if at == 180 {
            let all: Vec<_> = disks.iter().map(boxes_of).collect();
            for (n, disk) in disks.iter_mut().enumerate() {
                for (name, _) in &all[n] {
                    disk.remove(name).expect("a file");
                }
                for (name, bytes) in &all[(n + 1) % all.len()] {
                    disk.write(name, bytes).expect("a good name");
                }
            }
        }
    });
    assert_eq!(verdict(&results, "boxes").0, Verdict::Fail, "{results:#?}");
}

/// A node keeps a copy of a segment under a name that its own reader does not know, without the key.
#[test]
fn a_payload_that_outlives_its_purge_in_another_file_is_residue() {
    let results = play_broken(|at, disks| {
        if at == 30 {
            let data = boxes_of(&disks[0])
                .into_iter()
                .find(|(name, _)| name.ends_with(".seg"));
            let mut bytes = b"journal".to_vec();
            bytes.extend(data.expect("boxes by now").1);
            disks[0].write("journal", &bytes).expect("a good name");
        }
    });
    assert_eq!(verdict(&results, "boxes").0, Verdict::Pass, "{results:#?}");
    assert_eq!(verdict(&results, "residue").0, Verdict::Fail, "{results:#?}");
}
