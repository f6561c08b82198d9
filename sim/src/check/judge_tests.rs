//! Tests of the judge on synthetic observations.

use phantom_core::event::{Event, Outcome, Sensitive, Step, Tag};
use phantom_core::transport::Kind;

use super::*;
use crate::check::claims::ClaimResult;
use crate::check::observe::Acted;
use crate::scenario::load::{Library, Loaded, from_text};

struct Nothing;

impl Library for Nothing {
    fn read(&self, _: &str) -> std::io::Result<Option<(String, String)>> {
        Ok(None)
    }
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

const WORLD: &str = r#"
format = 1
name = "t"
summary = "s"
run.duration = "10 min"
topology.region = [{ name = "in", area = "asia-pacific" }, { name = "out", area = "europe" }]
population.client = { region = "in", count = { extra = 2 }, node = { client = {} } }
population.insider = { region = "in", count = { extra = 1 }, node = { insider = {} } }
population.node = { region = "out", count = { extra = 3 }, node = "service" }
population.authority = { region = "out", count = { extra = 1 }, node = "authority" }
[censor]
at = ["in", "out"]
[[censor.rule]]
name = "cut"
from = "2 min"
until = "4 min"
action = "drop"
[[censor.rule]]
name = "forge"
action = { forge-dns = { answers = 4, true-answer = false } }
match = { protocols = ["dns"], names = ["*.example.org"] }
[[invariant]]
name = "the censor drops"
sometimes = "censor.dropped('cut') > 0"
"#;

fn load(checks: &str) -> Loaded {
    from_text(&Nothing, "t.toml", format!("{WORLD}{checks}"), Some("t"), &[])
        .unwrap_or_else(|e| panic!("{e}"))
}

struct Play {
    plan: Plan,
    judge: Judge,
}

const EPOCH: WallTime = WallTime::from_unix_secs(1_000_000);

impl Play {
    fn new(check: &str) -> Self {
        let plan = Plan::draw(&load(check), 1);
        Self {
            judge: Judge::new(&plan, EPOCH, Sense::ALL),
            plan,
        }
    }

    fn host(&self, name: &str) -> u32 {
        self.plan
            .hosts
            .iter()
            .position(|host| host.name == name)
            .expect("a host") as u32
    }

    fn see(&mut self, secs: u64, host: Option<&str>, seen: Seen) -> &mut Self {
        let host = host.map(|name| self.host(name));
        self.judge.observe(&Observation {
            at: Instant::from_nanos(secs * 1_000_000_000),
            host,
            seen,
        });
        self
    }

    fn event(&mut self, secs: u64, host: &str, event: Event) -> &mut Self {
        self.see(secs, Some(host), Seen::Event(event))
    }

    fn ticks(&mut self, secs: std::ops::Range<u64>) -> &mut Self {
        for at in secs {
            self.see(at, None, Seen::Tick { steps: at });
        }
        self
    }

    fn end(self) -> Judgement {
        self.judge.finish(Instant::from_nanos(600_000_000_000))
    }
}

fn result<'a>(judgement: &'a Judgement, name: &str) -> &'a InvariantResult {
    judgement
        .invariants
        .iter()
        .find(|result| result.name == name)
        .expect("an invariant")
}

#[test]
fn a_client_is_connected_for_thirty_seconds_after_a_round_trip() {
    let mut play = Play::new(
        "[[invariant]]\nname='x'\nalways=\"share(client.connected) >= 0.5\"\nafter='10 s'\nuntil='5 min'\n",
    );
    play.event(0, "client-0", Event::Arrived)
        .event(9, "client-0", Event::RoundTrip)
        .ticks(10..120);
    let judgement = play.end();
    let x = result(&judgement, "x");
    assert_eq!(
        (x.verdict, x.first_violation_seconds, x.observed.as_str()),
        (Verdict::Fail, Some(40.0), "0")
    );
    assert_eq!(
        judgement.violations[0].details.len(),
        1,
        "{:?}",
        judgement.violations
    );
}

#[test]
fn a_stranded_client_is_named_with_what_it_tried() {
    let mut play = Play::new("[[invariant]]\nname='x'\nalways=\"count(client.stranded(1 min)) == 0\"\n");
    play.event(0, "client-0", Event::Arrived)
        .event(
            1,
            "client-0",
            Event::Attempt {
                step: Step::Dht,
                target: None,
                outcome: Outcome::NothingKnown,
                transport: Kind::Plain,
            },
        )
        .see(10, Some("client-0"), Seen::OpenPath(true))
        .ticks(1..600);
    let judgement = play.end();
    let x = result(&judgement, "x");
    assert_eq!(
        (x.verdict, x.first_violation_seconds),
        (Verdict::Fail, Some(71.0))
    );
    let violation = judgement
        .violations
        .iter()
        .find(|violation| violation.invariant == "x")
        .expect("violated");
    assert_eq!(
        violation.details,
        ["client-0: never connected; a path was open; DHT: nothing known x1"]
    );
}

#[test]
fn nobody_is_stranded_while_no_path_is_open_and_the_time_starts_anew_with_it() {
    let mut play = Play::new("[[invariant]]\nname='x'\nalways=\"count(client.stranded(3 min)) == 0\"\n");
    play.event(0, "client-0", Event::Arrived)
        .event(0, "client-0", Event::RoundTrip);
    play.see(0, Some("client-0"), Seen::OpenPath(true))
        .ticks(1..120)
        .see(120, Some("client-0"), Seen::OpenPath(false));
    play.ticks(120..400)
        .see(400, Some("client-0"), Seen::OpenPath(true))
        .ticks(400..570);
    play.event(570, "client-0", Event::RoundTrip).ticks(570..600);
    assert_eq!(result(&play.end(), "x").verdict, Verdict::Pass);
}

#[test]
fn arrivals_whose_limit_touches_the_cut_are_left_out() {
    let check =
        "[[invariant]]\nname='x'\nalways=\"share(client.connected_within(1 min, outside 'cut')) >= 1\"\n";
    let mut play = Play::new(check);
    play.event(0, "client-0", Event::Arrived)
        .event(5, "client-0", Event::RoundTrip);
    play.event(100, "client-1", Event::Arrived).ticks(1..600);
    let judgement = play.end();
    assert_eq!(
        (result(&judgement, "x").verdict, result(&judgement, "x").samples),
        (Verdict::Pass, 1)
    );
    let mut play = Play::new(check);
    play.event(0, "client-0", Event::Arrived)
        .event(5, "client-0", Event::RoundTrip);
    play.event(30, "client-1", Event::Arrived).ticks(1..600);
    assert_eq!(result(&play.end(), "x").verdict, Verdict::Fail);
}

#[test]
fn no_samples_is_a_violation_and_not_observable_is_not() {
    let check = "[[invariant]]\nname='x'\nnever=\"wire.leaks > 0\"\n[[invariant]]\nname='y'\nalways=\"message.duplicated == 0\"\n";
    let mut play = Play::new(check);
    play.ticks(1..600);
    let judgement = play.end();
    for name in ["x", "y"] {
        let result = result(&judgement, name);
        assert_eq!(
            (result.verdict, result.observed.as_str(), result.samples),
            (Verdict::Fail, "no samples", 0)
        );
    }
    let plan = Plan::draw(&load(check), 1);
    let judgement = Judge::new(&plan, EPOCH, &[Sense::Events]).finish(Instant::from_nanos(600_000_000_000));
    assert_eq!(result(&judgement, "x").verdict, Verdict::Na);
    assert_eq!(result(&judgement, "the censor drops").verdict, Verdict::Na);
    assert_eq!(result(&judgement, "y").verdict, Verdict::Fail);
}

#[test]
fn a_run_of_which_nothing_can_be_observed_does_not_hold_and_says_so() {
    let plan = Plan::draw(&load(""), 1);
    let end = Instant::from_nanos(600_000_000_000);
    let judgement = Judge::new(&plan, EPOCH, &[Sense::Events]).finish(end);
    assert_eq!(result(&judgement, "the censor drops").verdict, Verdict::Na);
    assert!(!judgement.holds());
    assert_eq!(judgement.violations[0].invariant, "nothing was judged");
    // One that is judged is enough, as is a claim.
    let check = "[[invariant]]\nname='x'\nalways=\"client.fooled == 0\"\n";
    let mut play = Play::new(check);
    play.judge = Judge::new(&play.plan, EPOCH, &[Sense::Events]);
    play.event(
        5,
        "client-0",
        Event::Connected {
            step: Step::Dht,
            entry: ([10, 0, 0, 1], 1).into(),
            resumed: false,
            transport: Kind::Plain,
        },
    )
    .ticks(5..600);
    let judgement = play.end();
    assert!(judgement.holds(), "{:?}", judgement.invariants);
    assert_eq!(judgement.violations, []);
}

#[test]
fn a_leak_is_red_and_a_clean_search_is_green() {
    let check = "[[invariant]]\nname='x'\nnever=\"wire.leaks > 0\"\n[[invariant]]\nname='keys'\nnever=\"wire.leaks('bridge-key') > 0\"\n";
    let mut play = Play::new(check);
    let kinds = [
        (Sensitive::UserKey, 5),
        (Sensitive::InvitationSecret, 4),
        (Sensitive::BridgeKey, 3),
    ];
    play.see(5, None, searched(&kinds)).ticks(5..9);
    play.see(
        9,
        None,
        Seen::Leak {
            kind: Sensitive::UserKey,
        },
    )
    .ticks(9..600);
    let judgement = play.end();
    let x = result(&judgement, "x");
    assert_eq!((x.first_violation_seconds, x.samples), (Some(9.0), 12));
    let keys = result(&judgement, "keys");
    assert_eq!((keys.verdict, keys.samples), (Verdict::Pass, 3));
}

/// Ten thousand bytes, searched for so many secrets.
fn searched(secrets: &[(Sensitive, u64)]) -> Seen {
    Seen::Searched {
        bytes: 10_000,
        secrets: secrets.iter().copied().collect(),
    }
}

#[test]
fn a_search_for_nothing_of_a_kind_is_no_proof_that_none_of_it_leaks() {
    let check = "[[invariant]]\nname='any'\nnever=\"wire.leaks > 0\"\n[[invariant]]\nname='bridges'\nnever=\"wire.leaks('bridge-key') > 0\"\n[[invariant]]\nname='users'\nnever=\"wire.leaks('user-key') > 0\"\n";
    let verdicts = |secrets: &[(Sensitive, u64)]| {
        let mut play = Play::new(check);
        play.see(5, None, searched(secrets)).ticks(5..600);
        let judgement = play.end();
        ["any", "bridges", "users"].map(|name| result(&judgement, name).verdict)
    };
    use Verdict::{Fail, Pass};
    let users = [(Sensitive::UserKey, 9)];
    assert_eq!(
        verdicts(&users),
        [Fail, Fail, Pass],
        "clients hold invitations too"
    );
    let both = [(Sensitive::UserKey, 9), (Sensitive::InvitationSecret, 9)];
    assert_eq!(verdicts(&both), [Pass, Fail, Pass], "this world has no bridge");
}

#[test]
fn messages_are_judged_on_the_worlds_clock() {
    let check = "[[invariant]]\nname='lost'\nalways=\"message.lost(5 min) == 0\"\n[[invariant]]\nname='twice'\nalways=\"message.duplicated == 0\"\n[[invariant]]\nname='late'\nalways=\"message.late == 0\"\n";
    let accepted = |n, ttl| Event::MessageAccepted {
        message: Tag(n),
        expires: EPOCH + Duration::from_secs(ttl),
    };
    let run = |deliveries: &[(u64, u64)]| {
        let mut play = Play::new(check);
        let to = play.host("client-1");
        for client in ["client-0", "client-1"] {
            play.event(0, client, Event::Arrived)
                .see(0, Some(client), Seen::OpenPath(true));
        }
        // 1: long-lived; 2: short-lived; 3: accepted too late to be judged.
        play.event(10, "client-0", accepted(1, 3_600)).see(
            10,
            Some("client-0"),
            Seen::Addressed { message: Tag(1), to },
        );
        play.event(10, "client-0", accepted(2, 60))
            .event(400, "client-0", accepted(3, 3_600));
        for (at, message) in deliveries {
            let expires = EPOCH + Duration::from_secs(if *message == 2 { 60 } else { 3_600 });
            let message = Tag(*message);
            play.see(*at, Some("client-1"), Seen::Shown { message, expires })
                .event(*at, "client-1", Event::MessageDelivered { message, expires });
        }
        play.ticks(599..600);
        let judgement = play.end();
        ["lost", "twice", "late"].map(|name| result(&judgement, name).verdict)
    };
    use Verdict::{Fail, Pass};
    assert_eq!(run(&[(20, 1)]), [Pass, Pass, Pass]);
    assert_eq!(run(&[(20, 1), (30, 1)]), [Pass, Fail, Pass]);
    assert_eq!(
        run(&[(20, 1), (65, 2)]),
        [Pass, Pass, Pass],
        "within the clock bound of 5 s"
    );
    assert_eq!(run(&[(20, 1), (66, 2)]), [Pass, Pass, Fail]);
    assert_eq!(run(&[(30, 3)]), [Fail, Pass, Pass]);
}

/// What the program itself calls delivered is not asked: its own check is what is judged.
#[test]
fn what_a_user_sees_twice_is_twice_unless_the_program_died_before_it_knew() {
    let expires = EPOCH + Duration::from_secs(3_600);
    let message = Tag(1);
    let shown = Seen::Shown { message, expires };
    let run = |between: &[Seen]| {
        let mut play = Play::new("[[invariant]]\nname='twice'\nalways=\"message.duplicated == 0\"\n");
        for client in ["client-0", "client-1"] {
            play.event(0, client, Event::Arrived);
        }
        play.see(20, Some("client-1"), shown.clone());
        for (at, seen) in (21..).zip(between) {
            play.see(at, Some("client-1"), seen.clone());
        }
        play.see(30, Some("client-1"), shown.clone()).ticks(599..600);
        result(&play.end(), "twice").verdict
    };
    let delivered = Seen::Event(Event::MessageDelivered { message, expires });
    use Verdict::{Fail, Pass};
    assert_eq!(run(&[]), Fail);
    assert_eq!(run(&[Seen::Crashed, Seen::Restarted]), Pass);
    assert_eq!(run(&[delivered, Seen::Crashed, Seen::Restarted]), Fail);
}

#[test]
fn a_message_waits_and_is_not_lost_while_its_reader_has_no_path() {
    let mut play = Play::new("[[invariant]]\nname='lost'\nalways=\"message.lost(5 min) == 0\"\n");
    let to = play.host("client-1");
    for client in ["client-0", "client-1"] {
        play.event(0, client, Event::Arrived)
            .see(0, Some(client), Seen::OpenPath(true));
    }
    let expires = EPOCH + Duration::from_secs(3_600);
    for n in [1, 2] {
        play.event(
            10,
            "client-0",
            Event::MessageAccepted {
                message: Tag(n),
                expires,
            },
        );
    }
    play.see(10, Some("client-0"), Seen::Addressed { message: Tag(1), to });
    play.event(
        20,
        "client-1",
        Event::MessageDelivered {
            message: Tag(2),
            expires,
        },
    );
    play.see(300, Some("client-1"), Seen::OpenPath(false))
        .ticks(599..600);
    let judgement = play.end();
    assert_eq!(
        (
            result(&judgement, "lost").verdict,
            result(&judgement, "lost").samples
        ),
        (Verdict::Pass, 1)
    );
}

/// A path by friends flaps with their round trips. Whoever has one for 50 s of every minute is a user all the same.
#[test]
fn a_path_that_flaps_exempts_neither_its_client_nor_its_messages() {
    let check = "[[invariant]]\nname='lost'\nalways=\"message.lost(4 min) == 0\"\n[[invariant]]\nname='exempt'\nalways=\"count(message.exempt(4 min)) == 0\"\n[[invariant]]\nname='stranded'\nalways=\"count(client.stranded(4 min)) == 0\"\n";
    let run = |closed_for: u64| {
        let mut play = Play::new(check);
        let to = play.host("client-1");
        for client in ["client-0", "client-1"] {
            play.event(0, client, Event::Arrived)
                .see(0, Some(client), Seen::OpenPath(true));
        }
        let expires = EPOCH + Duration::from_secs(3_600);
        for message in [1, 2].map(Tag) {
            play.event(10, "client-0", Event::MessageAccepted { message, expires });
            play.see(10, Some("client-0"), Seen::Addressed { message, to });
        }
        let message = Tag(2);
        play.event(20, "client-1", Event::MessageDelivered { message, expires });
        for at in 1..600 {
            let open = match (at % 120, at % 120 == closed_for) {
                (0, _) => Some(false),
                (_, true) => Some(true),
                _ => None,
            };
            if let Some(open) = open {
                play.see(at, Some("client-1"), Seen::OpenPath(open));
            }
            play.event(at, "client-0", Event::RoundTrip);
            play.see(at, None, Seen::Tick { steps: at });
        }
        let judgement = play.end();
        ["lost", "exempt", "stranded"].map(|name| {
            let result = result(&judgement, name);
            (result.verdict, result.observed.clone())
        })
    };
    use Verdict::{Fail, Pass};
    let (none, one) = (|| "0".to_owned(), || "1".to_owned());
    assert_eq!(run(59), [(Fail, one()), (Pass, none()), (Fail, one())]);
    assert_eq!(run(60), [(Pass, none()), (Fail, one()), (Pass, none())]);
}

#[test]
fn an_insider_that_learns_five_bridges_costs_too_much() {
    let check = "[[invariant]]\nname='x'\nalways=\"max(insider.bridges) <= 4\"\n";
    let learned = |n: u8, port: u16| Event::BridgeLearned {
        step: Step::Dht,
        bridge: ([10, 9, 9, n], port).into(),
    };
    let mut play = Play::new(check);
    for n in [1, 2, 3, 4, 4] {
        play.event(u64::from(n), "insider-0", learned(n, 443));
    }
    play.event(5, "insider-0", learned(4, 444))
        .event(6, "client-0", learned(5, 443))
        .ticks(6..8);
    play.event(8, "insider-0", learned(5, 443)).ticks(8..600);
    let judgement = play.end();
    let x = result(&judgement, "x");
    assert_eq!((x.first_violation_seconds, x.observed.as_str()), (Some(8.0), "5"));
}

#[test]
fn a_queue_over_its_bound_a_residue_and_a_fooled_client_are_red() {
    let check = "[[invariant]]\nname='queue'\nalways=\"max(queue.fill) <= 1\"\n[[invariant]]\nname='disk'\nalways=\"disk.residue == 0\"\n[[invariant]]\nname='fooled'\nalways=\"client.fooled == 0\"\n";
    let mut play = Play::new(check);
    let Some(forged) = play
        .plan
        .rules
        .iter()
        .find_map(|rule| rule.forged().first().copied())
    else {
        panic!("a forging rule")
    };
    play.event(
        3,
        "node-0",
        Event::QueueHigh {
            queue: "link",
            depth: 9,
            bound: 10,
        },
    );
    play.see(3, Some("node-0"), Seen::DiskSearched { boxes: 5, found: 0 });
    play.event(
        3,
        "client-0",
        Event::Connected {
            step: Step::Dht,
            entry: ([10, 0, 0, 1], 1).into(),
            resumed: false,
            transport: Kind::Plain,
        },
    );
    play.ticks(3..5).event(
        5,
        "node-0",
        Event::QueueHigh {
            queue: "link",
            depth: 11,
            bound: 10,
        },
    );
    play.see(5, Some("node-0"), Seen::DiskSearched { boxes: 5, found: 1 });
    play.event(
        5,
        "client-0",
        Event::Connected {
            step: Step::Static,
            entry: (forged, 1).into(),
            resumed: false,
            transport: Kind::Plain,
        },
    );
    play.ticks(5..600);
    let judgement = play.end();
    for name in ["queue", "disk", "fooled"] {
        assert_eq!(
            result(&judgement, name).first_violation_seconds,
            Some(5.0),
            "{name}"
        );
    }
}

/// The marks that programs really make: a queue that is full is not over its bound, one more box in it is.
#[test]
fn a_mark_of_a_queue_over_its_bound_is_red() {
    #[derive(Default)]
    struct Heard(std::sync::Mutex<Vec<Event>>);
    impl phantom_core::runtime::Events for Heard {
        fn emit(&self, event: Event) {
            self.0.lock().expect("not poisoned").push(event);
        }
    }
    let check = "[[invariant]]\nname='x'\nalways=\"max(queue.fill) <= 1 and queue.overflow == 0\"\n";
    let run = |depth: usize| {
        let (heard, water) = (
            Heard::default(),
            phantom_core::high_water::HighWater::new("boxes", 8),
        );
        for depth in 1..=depth {
            water.note(&heard, depth);
        }
        let mut play = Play::new(check);
        for event in heard.0.into_inner().expect("not poisoned") {
            play.event(3, "node-0", event);
        }
        play.ticks(3..600);
        let judgement = play.end();
        (result(&judgement, "x").verdict, result(&judgement, "x").samples)
    };
    assert_eq!(run(8).0, Verdict::Pass);
    assert_eq!(run(9).0, Verdict::Fail);
    assert_eq!(run(0), (Verdict::Fail, 0), "no queue at all is no proof");
}

#[test]
fn an_acknowledged_box_is_lost_only_if_a_disk_that_held_it_is_still_there() {
    let check = "[[invariant]]\nname='x'\nalways=\"box.lost == 0\"\n";
    let run = |disks: &[&str], readable: bool| {
        let mut play = Play::new(check);
        let (address, expires) = (Tag(7), EPOCH + Duration::from_secs(3_600));
        for node in ["node-0", "node-1"] {
            play.event(1, node, Event::BoxStored { address, expires });
        }
        play.event(2, "node-0", Event::BoxAcknowledged { address, replicas: 2 });
        for disk in disks {
            play.see(3, Some(disk), Seen::DiskLost);
        }
        play.see(599, None, Seen::BoxProbed { address, readable });
        let judgement = play.end();
        (result(&judgement, "x").verdict, result(&judgement, "x").samples)
    };
    assert_eq!(run(&["node-0"], true), (Verdict::Pass, 1));
    assert_eq!(run(&["node-0"], false), (Verdict::Fail, 1));
    assert_eq!(
        run(&["node-0", "node-1"], false),
        (Verdict::Fail, 0),
        "nothing left to judge: no samples"
    );
}

#[test]
fn eventually_has_its_window_and_sometimes_the_whole_run() {
    let check = "[[invariant]]\nname='x'\neventually=\"share(client.connected) >= 0.9\"\nafter='4 min'\nwithin='1 min'\n";
    let run = |at: u64| {
        let mut play = Play::new(check);
        play.event(0, "client-0", Event::Arrived)
            .ticks(1..at)
            .event(at, "client-0", Event::RoundTrip)
            .ticks(at..600);
        play.see(
            300,
            None,
            Seen::Censor {
                rule: 0,
                act: Acted::Dropped,
                count: 3,
            },
        )
        .ticks(599..600);
        let judgement = play.end();
        (
            result(&judgement, "x").first_violation_seconds,
            result(&judgement, "the censor drops").verdict,
        )
    };
    assert_eq!(run(290), (None, Verdict::Pass));
    assert_eq!(run(301), (Some(300.0), Verdict::Pass));
    assert_eq!(
        run(100),
        (Some(300.0), Verdict::Pass),
        "connected before and lost again"
    );
}

#[test]
fn claims_take_one_sample_a_run() {
    let check = "[[claim]]\nname='fast'\nvalue=\"quantile(client.time_to_connect, 0.5)\"\ninterval={at-most='5 s'}\n[[claim]]\nname='most'\nover=\"share(client.connected) >= 0.5\"\nproportion={at-least=0.95}\n";
    let loaded = load(check);
    let run = |secs: u64| {
        let mut play = Play::new(check);
        for client in ["client-0", "client-1"] {
            play.event(0, client, Event::Arrived)
                .event(secs, client, Event::RoundTrip);
        }
        play.event(590, "client-0", Event::RoundTrip).ticks(599..600);
        play.end().claims
    };
    let all = |samples: &[Sample]| ClaimResult::of(&loaded.checked.claims[0], samples).verdict;
    assert_eq!(run(2), [Sample::Value(2.0), Sample::Held(true)]);
    assert_eq!(all(&[run(2)[0]; 20]), "proven");
    assert_eq!(all(&[run(9)[0]; 20]), "refuted");
    assert_eq!(all(&[run(2)[0]; 3]), "undecided");
    assert_eq!(all(&[]), "refuted");
    assert_eq!(all(&[Sample::None]), "refuted");
    assert_eq!(
        ClaimResult::of(&loaded.checked.claims[1], &[Sample::Held(true); 59]).verdict,
        "proven"
    );
}
