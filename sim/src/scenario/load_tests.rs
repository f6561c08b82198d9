//! Tests of loading: the shipped scenarios, `extends`, parameters, and the exact place and words of mistakes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Memory(BTreeMap<String, String>);

impl Library for Memory {
    fn read(&self, name: &str) -> std::io::Result<Option<(String, String)>> {
        Ok(self
            .0
            .get(name)
            .map(|text| (format!("{name}.toml"), text.clone())))
    }
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn shipped() -> Directory {
    Directory::find(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("scenarios/")
}

fn typed(words: &[&str]) -> Vec<(String, String)> {
    words
        .iter()
        .filter_map(|word| word.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// A small good scenario, line by line, so that tests can change one.
const GOOD: &str = r#"format = 1
name = "t"
summary = "a test"
[run]
duration = "10 min"
[params]
peers = { default = 100, min = 10, max = 1000 }
dht = { default = "on", choices = ["on", "off"] }
[topology]
[[topology.region]]
name = "inside"
area = "asia-pacific"
[[topology.region]]
name = "outside"
area = "europe"
[population.service]
region = "outside"
count = { share = { of-peers = 0.1, at-least = 6 } }
node = "service"
published = {}
[population.client]
region = "inside"
count = "rest"
node = { client = { dht = "$dht" } }
[graph.contacts]
among = ["client"]
model = { small-world = { degree = 4 } }
carries = "messages"
[censor]
at = ["inside", "outside"]
[[censor.rule]]
name = "published-entries"
from = "10 s"
match = { to = ["@published"] }
action = "drop"
[[fault]]
name = "crash"
on = "service"
from = "1 min"
do = { crash = { down = "30 s" } }
[[workload]]
name = "write"
by = "client"
do = { write = { to = "contacts", every = "exp(1 min)", size = "1 kB", ttl = "1 h" } }
[[invariant]]
name = "it drops"
sometimes = "censor.dropped > 0"
[[claim]]
name = "fast"
value = "quantile(client.time_to_connect, 0.5)"
interval = { at-most = "5 s" }
[[invariant]]
name = "it crashes"
sometimes = "fault.crashes > 0"
[population.authority]
region = "outside"
count = { extra = 3 }
node = "authority"
"#;

fn read(text: &str) -> Result<Loaded, FileError> {
    from_text(&Memory::default(), "t.toml", text.to_owned(), Some("t"), &[])
}

#[test]
fn every_shipped_scenario_is_accepted() {
    let library = shipped();
    let names = library.names();
    assert_eq!(
        names,
        [
            "active-probe",
            "blocked-bootstrap",
            "fet-obfs4",
            "first-look",
            "named-censor",
            "node-churn",
            "poisoned-dns",
            "policed-connect",
            "throttled-obfs4",
            "udp-off"
        ]
    );
    for name in names {
        let loaded = by_name(&library, &name, &[]).unwrap_or_else(|error| panic!("{error}"));
        assert!(
            loaded
                .checked
                .invariants
                .iter()
                .any(|i| i.kind == crate::scenario::check::Kind::Sometimes),
            "{name}"
        );
    }
}

#[test]
fn populations_are_shares_of_peers_with_their_minimums() {
    let counts = |words: &[&str]| {
        let loaded =
            by_name(&shipped(), "blocked-bootstrap", &typed(words)).unwrap_or_else(|error| panic!("{error}"));
        ["service", "bridge", "client", "insider"].map(|name| loaded.checked.counts[name])
    };
    assert_eq!(counts(&[]), [40, 160, 780, 20]);
    assert_eq!(counts(&["peers=24"]), [6, 6, 11, 1]);
    assert_eq!(counts(&["peers=10000"]), [100, 1_600, 8_100, 200]);
}

#[test]
fn what_is_extended_is_merged_and_errors_point_into_the_right_file() {
    let base = GOOD.replace("name = \"t\"", "name = \"base\"");
    let library = |base: String| Memory(BTreeMap::from([("base".to_owned(), base)]));
    let child = "format = 1\nname = \"t\"\nsummary = \"child\"\nextends = \"base\"\nparams.peers = { default = 50 }\n\
                 [[censor.rule]]\nname = \"published-entries\"\nfrom = \"20 s\"\n[[censor.rule]]\nname = \"cut\"\naction = \"reset\"\n";
    let load = |base, child: &str| from_text(&library(base), "t.toml", child.to_owned(), Some("t"), &[]);
    let loaded = load(base.clone(), child).unwrap_or_else(|error| panic!("{error}"));
    let rules = &loaded.scenario.censor.as_ref().expect("censor").rule;
    assert_eq!(
        rules
            .iter()
            .map(|rule| (
                rule.name.as_str(),
                rule.from.map_or("-".to_owned(), |from| from.to_string())
            ))
            .collect::<Vec<_>>(),
        [("published-entries", "20 s".to_owned()), ("cut", "-".to_owned())]
    );
    assert_eq!(
        (loaded.checked.counts["client"], loaded.scenario.summary.as_str()),
        (44, "child")
    );

    let error = load(base.replace("\"10 min\"", "\"10 mim\""), child)
        .expect_err("bad unit in the base")
        .to_string();
    assert!(
        error.starts_with("base.toml:5:12: wanted a time such as \"30 s\", got the unit 'mim'"),
        "{error}"
    );
    let error = load(base.clone(), &child.replace("\"20 s\"", "\"20\""))
        .expect_err("bad unit in the child")
        .to_string();
    assert!(
        error.starts_with("t.toml:8:8: wanted a time such as \"180 s\", got no unit"),
        "{error}"
    );
    let error = load(base, &child.replace("\"base\"", "\"bsae\""))
        .expect_err("unknown base")
        .to_string();
    assert!(
        error.starts_with("t.toml:4:11: unknown scenario 'bsae'; did you mean 'base'?"),
        "{error}"
    );
}

#[test]
fn a_circle_of_extends_ends() {
    let text = |name: &str, base: &str| format!("format = 1\nname = \"{name}\"\nextends = \"{base}\"\n");
    let library = Memory(BTreeMap::from([
        ("a".to_owned(), text("a", "b")),
        ("b".to_owned(), text("b", "a")),
    ]));
    let error = by_name(&library, "a", &[]).expect_err("a circle").to_string();
    assert!(
        error.starts_with("b.toml:3:11: 'a' extends itself, by way of this"),
        "{error}"
    );
    let chain = (0..20)
        .map(|i| (format!("s{i}"), text(&format!("s{i}"), &format!("s{}", i + 1))))
        .collect();
    let error = by_name(&Memory(chain), "s0", &[])
        .expect_err("too deep")
        .to_string();
    assert!(error.contains("extended more than 8 times"), "{error}");
}

/// Each row: what is replaced in the good file by what, and the message with its place.
#[test]
fn mistakes_are_shown_at_their_exact_place_with_the_choices() {
    read(GOOD).unwrap_or_else(|error| panic!("{error}"));
    let mut wrong = String::new();
    for (old, new, wanted) in [
        (
            "format = 1",
            "format = 2",
            "t.toml:1:10: this program reads format 1, not 2",
        ),
        (
            "name = \"t\"",
            "name = \"u\"",
            "t.toml:2:8: the name is that of the file: \"t\"",
        ),
        (
            "summary = \"a test\"",
            "sumary = \"a test\"",
            "t.toml:3:1: unknown key 'sumary'; did you mean 'summary'?",
        ),
        (
            "summary = \"a test\"\n",
            "",
            "t.toml:1:1: 'summary' is missing here",
        ),
        (
            "\"10 min\"",
            "600",
            "t.toml:5:12: wanted a time in quotes such as \"30 s\" (ns, us, ms, s, min, h, d), got the number 600",
        ),
        (
            "\"10 min\"",
            "\"10 mins\"",
            "t.toml:5:12: wanted a time such as \"30 s\", got the unit 'mins'; units: ns, us, ms, s, min, h, d",
        ),
        (
            "\"10 min\"",
            "\"0 s\"",
            "t.toml:5:12: a run lasts longer than nothing",
        ),
        (
            "default = 100",
            "default = 5",
            "t.toml:7:1: the default does not fit: peers is at least 10, not 5",
        ),
        (
            "area = \"europe\"",
            "area = \"europ\"",
            "t.toml:15:8: unknown choice 'europ'; did you mean 'europe'?",
        ),
        (
            "region = \"outside\"",
            "region = \"outsid\"",
            "t.toml:17:10: unknown region 'outsid'; did you mean 'outside'?",
        ),
        (
            "of-peers = 0.1",
            "of-peers = 1.5",
            "t.toml:18:32: wanted a share between 0 and 1 such as 0.04, got 1.5",
        ),
        (
            "of-peers = 0.1, at-least = 6",
            "of-peers = 0.001",
            "t.toml:18:9: 'service' has zero peers; wanted at least one (leave the population out, or set at-least)",
        ),
        (
            "of-peers = 0.1",
            "of_peers = 0.1",
            "t.toml:18:21: unknown key 'of_peers'; did you mean 'of-peers'?",
        ),
        (
            "at-least = 6",
            "at-least = 100",
            "t.toml:23:9: 'client' has zero peers: the other populations take 100 of 100; wanted at least one left",
        ),
        (
            "at-least = 6",
            "at-least = 6, at-most = 5",
            "t.toml:18:9: at-most = 5 is less than at-least = 6",
        ),
        (
            "node = \"service\"",
            "node = \"service\"\ntransports = [\"obfs4\"]",
            "t.toml:20:14: only bridges have transports: node = \"bridge\"; whoever dials speaks what the bridge does",
        ),
        (
            "node = \"service\"",
            "node = \"bridge\"\ntransports = [\"obfs4\", \"obfs4\"]",
            "t.toml:20:14: wanted at least one of plain, obfs4, obfs4-http, obfs4-tls, each at most once",
        ),
        (
            "node = \"service\"",
            "node = \"bridge\"\ntransports = [\"obfs5\"]",
            "t.toml:20:15: unknown choice 'obfs5'; did you mean 'obfs4'?",
        ),
        (
            "node = \"service\"",
            "node = \"servcie\"",
            "t.toml:19:8: unknown choice 'servcie'; did you mean 'service'?",
        ),
        (
            "\"$dht\"",
            "\"$dth\"",
            "t.toml:24:27: unknown parameter 'dth'; did you mean 'dht'?",
        ),
        (
            "among = [\"client\"]",
            "among = [\"cleint\"]",
            "t.toml:26:10: unknown population 'cleint'; did you mean 'client'?",
        ),
        (
            "degree = 4",
            "degree = 3",
            "t.toml:27:36: wanted a degree from 1 to 1000, even, got 3",
        ),
        (
            "at = [\"inside\", \"outside\"]",
            "at = [\"inside\", \"inside\"]",
            "t.toml:30:17: a censor sits between two different regions",
        ),
        (
            "from = \"10 s\"",
            "from = \"11 min\"",
            "t.toml:33:8: 11 min is not before the end of the run, 10 min: the rule never holds",
        ),
        (
            "from = \"10 s\"",
            "from = \"10 s\"\nuntil = \"5 s\"",
            "t.toml:34:9: rule 'published-entries': it ends at 5 s before it begins at 10 s",
        ),
        (
            "\"@published\"",
            "\"@publshed\"",
            "t.toml:34:17: unknown list '@publshed'; did you mean '@published'?",
        ),
        (
            "published = {}\n",
            "",
            "t.toml:30:1: rule 'published-entries': no address is listed: the rule can never match",
        ),
        (
            "action = \"drop\"",
            "action = { drop = { los = 1 } }",
            "t.toml:35:21: 'drop' takes no keys, got 'los'",
        ),
        (
            "action = \"drop\"",
            "action = { drop = {}, reset = {} }",
            "t.toml:35:10: wanted exactly one of the choices, got 2 keys: drop, reset",
        ),
        (
            "action = \"drop\"",
            "action = \"trottle\"",
            "t.toml:35:10: unknown choice 'trottle'",
        ),
        (
            "on = \"service\"",
            "on = \"servis\"",
            "t.toml:38:6: unknown population 'servis'; did you mean 'service'?",
        ),
        (
            "[topology]\n",
            "[topology]\naccess = { down = \"1 Mbit/s\", up = \"1 Mbit/s\", queue = \"1 kB\" }\n",
            "t.toml:10:56: a queue of 1 kB has no room for a packet; at least 1600 B",
        ),
        (
            "[topology]\n",
            "[topology]\naccess = { down = \"1 Mbit/s\", up = \"1 Mbit/s\", bursts = { lost = 1.0, length = 4 } }\n",
            "t.toml:10:66: bursts take more than nothing and less than all, not 100 %",
        ),
        (
            "[topology]\n",
            "[topology]\naccess = { down = \"1 Mbit/s\", up = \"1 Mbit/s\", bursts = { lost = 0.02, length = 0 } }\n",
            "t.toml:10:81: a burst has 1 to 10000 packets in the mean, not 0",
        ),
        (
            "to = \"contacts\"",
            "to = \"contact\"",
            "t.toml:44:23: unknown graph that carries messages 'contact'; did you mean 'contacts'?",
        ),
        (
            "size = \"1 kB\"",
            "size = \"9 MB\"",
            "t.toml:44:64: a message has 1 B to 8 MiB (above 64 KiB it goes as an attachment), not 9 MB",
        ),
        (
            "ttl = \"1 h\"",
            "ttl = \"15 d\"",
            "t.toml:44:78: a message lives 1 s to 14 d, not 15 d",
        ),
        (
            "every = \"exp(1 min)\"",
            "every = \"0 s\"",
            "t.toml:44:43: wanted at least 1 ms on average, got 0 s",
        ),
        (
            "every = \"exp(1 min)\"",
            "every = \"exp(999 us)\"",
            "t.toml:44:43: wanted at least 1 ms on average, got exp(999 us)",
        ),
        (
            "every = \"exp(1 min)\"",
            "every = \"0 s..1 ms\"",
            "t.toml:44:43: wanted at least 1 ms on average, got 0 s..1 ms",
        ),
        (
            "dht = \"$dht\"",
            "poll = \"0 s\"",
            "t.toml:24:28: wanted at least 1 ms on average, got 0 s",
        ),
        (
            "by = \"client\"",
            "by = \"service\"",
            "t.toml:43:6: clients in the graph 'contacts' write along it, and 'service' is none of them",
        ),
        (
            "[population.authority]\nregion = \"outside\"\ncount = { extra = 3 }",
            "[population.authority]\nregion = \"outside\"\ncount = { extra = 17 }",
            "t.toml:57:9: 17 authorities are too many; wanted at most 16",
        ),
        (
            "node = \"authority\"",
            "node = \"bridge\"",
            "t.toml:2:8: nobody signs the directory: a scenario needs a [population.NAME] with node = \"authority\"",
        ),
        (
            "censor.dropped > 0",
            "censor.droped > 0",
            "t.toml:47:14: unknown metric 'censor.droped'; did you mean 'censor.dropped'?",
        ),
        (
            "censor.dropped > 0",
            "censor.dropped > 0 and",
            "t.toml:47:36: wanted a number, a metric or a function, got the end",
        ),
        (
            "sometimes = ",
            "always = \"censor.dropped > 0\"\nsometimes = ",
            "t.toml:48:13: a second kind in one invariant; wanted exactly one",
        ),
        (
            "sometimes = ",
            "eventually = ",
            "t.toml:47:14: 'eventually' needs 'within': how long it may take",
        ),
        (
            "sometimes = ",
            "always = ",
            "t.toml:2:8: nothing shows that the censor really acts",
        ),
        // What happens anyway shows nothing.
        (
            "censor.dropped > 0",
            "message.accepted > 0",
            "t.toml:2:8: nothing shows that the censor really acts",
        ),
        (
            "fault.crashes > 0",
            "censor.dropped > 0",
            "t.toml:2:8: nothing shows that the faults really happen",
        ),
        (
            "sometimes = \"censor.dropped > 0\"",
            "sometimes = \"censor.dropped > 0\"\nwithin = \"5 s\"",
            "t.toml:48:10: 'within' goes with 'eventually'; for the other kinds write 'until'",
        ),
        (
            "at-most = \"5 s\"",
            "at-most = 5",
            "t.toml:51:24: wanted a time, got \"5\"",
        ),
        (
            "\"quantile(client.time_to_connect, 0.5)\"",
            "\"5 s\"",
            "t.toml:50:9: a claim without samples: a fixed number is the same in every run",
        ),
        (
            "interval = { at-most = \"5 s\" }",
            "proportion = { at-least = 0.9 }",
            "t.toml:49:8: a claim is 'over' with 'proportion', or 'value' with 'interval'",
        ),
        (
            "[[claim]]",
            "[sweep]\nseeds = \"1..=9\"\ngrid.peer = [1]\n[[claim]]",
            "t.toml:50:13: the grid goes over parameters, and 'peer' is none; did you mean 'peers'?",
        ),
        (
            "[[claim]]",
            "[ci]\nseeds = 0\n[[claim]]",
            "t.toml:49:9: the gate goes through 1 to 1000000 seeds, not 0",
        ),
        (
            "[[claim]]",
            "[ci]\nset = { peer = 30 }\n[[claim]]",
            "t.toml:49:16: the gate sets parameters, and 'peer' is none; did you mean 'peers'?",
        ),
        (
            "[[claim]]",
            "[ci]\nset = { peers = \"few\" }\n[[claim]]",
            "t.toml:49:17: peers wants a whole number, not 'few'",
        ),
        (
            "[[claim]]",
            "[ci]\nset = { peers = 0 }\n[[claim]]",
            "t.toml:49:17: peers is at least",
        ),
        (
            "[[claim]]",
            "[ci]\nseed = 4\n[[claim]]",
            "t.toml:49:1: unknown key 'seed'; did you mean 'seeds'?",
        ),
        (
            "format = 1",
            "format = ",
            "t.toml:1:10: not TOML: string values must be quoted",
        ),
        (
            "format = 1",
            "format = 2026-11-23",
            "t.toml:1:10: dates are not used here; times are text such as \"30 s\"",
        ),
    ] {
        assert!(GOOD.contains(old), "the row's text is in the good file: {old}");
        let error = read(&GOOD.replacen(old, new, 1))
            .map(|_| ())
            .expect_err(new)
            .to_string();
        let first = error.lines().next().unwrap_or_default();
        if !first.starts_with(wanted) {
            wrong.push_str(&format!("\n got: {first}\nwant: {wanted}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn an_error_shows_the_line_and_the_choices() {
    let error = read(&GOOD.replacen("\"europe\"", "\"europ\"", 1))
        .expect_err("bad")
        .to_string();
    assert_eq!(
        error,
        "t.toml:15:8: unknown choice 'europ'; did you mean 'europe'?\n   15 | area = \"europ\"\n      |        ^\n        \
         choices: north-america, europe, south-america, asia-pacific, japan, australia"
    );
}

#[test]
fn all_mistakes_of_the_second_kind_are_reported_together() {
    let text = GOOD
        .replacen("region = \"outside\"", "region = \"x\"", 1)
        .replacen("on = \"service\"", "on = \"y\"", 1);
    assert_eq!(read(&text).expect_err("two").problems.len(), 2);
}

#[test]
fn the_hash_is_of_what_is_resolved_and_not_of_how_it_is_written() {
    let hash = |text: &str, words: &[&str]| {
        from_text(
            &Memory::default(),
            "t.toml",
            text.to_owned(),
            Some("t"),
            &typed(words),
        )
        .expect("good")
        .hash
    };
    let plain = hash(GOOD, &[]);
    assert_eq!(
        plain,
        hash(
            &format!("# a comment\n{}", GOOD.replace("\"10 min\"", "\"600 s\"")),
            &["peers=100"]
        )
    );
    assert_eq!(plain, hash(&GOOD.replace("[run]", "[run]\nseed = 7"), &[]));
    assert_eq!(plain, hash(&GOOD.replace("[run]", "[ci]\nseeds = 7\n[run]"), &[]));
    assert_ne!(plain, hash(GOOD, &["peers=101"]));
    assert_ne!(plain, hash(GOOD, &["dht=off"]));
}

#[test]
fn a_resolved_scenario_loads_again_as_itself() {
    for name in shipped().names() {
        let loaded = by_name(&shipped(), &name, &[]).unwrap_or_else(|error| panic!("{error}"));
        let text = toml::to_string(&loaded.scenario).expect("serialises");
        let again = from_text(&Memory::default(), "scenario.toml", text, None, &[])
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.hash, loaded.hash, "{name}");
    }
}

#[test]
fn a_scenario_built_in_rust_is_checked_as_a_file_is() {
    use crate::scenario::file::{Invariant, Node};
    use crate::scenario::units::Time;
    let scenario = Scenario::new("mine", Time::minutes(5))
        .with("authority", "outside", 3, Node::Authority)
        .with("service", "outside", 6, Node::Service);
    let always = |text: &str| Invariant {
        name: "x".into(),
        always: Some(text.into()),
        ..Invariant::default()
    };
    let mut good = scenario.clone();
    good.invariant.push(always("queue.overflow == 0"));
    let loaded = built(good).unwrap_or_else(|error| panic!("{error}"));
    let text = toml::to_string(&loaded.scenario).expect("serialises");
    assert_eq!(
        from_text(&Memory::default(), "mine.toml", text, Some("mine"), &[])
            .expect("good")
            .hash,
        loaded.hash
    );
    let mut bad = scenario;
    bad.invariant.push(always("queue.overfull == 0"));
    let error = built(bad.with("client", "insied", 1, Node::Service))
        .expect_err("two mistakes")
        .to_string();
    assert!(
        error.contains("unknown region 'insied'; did you mean 'inside'?"),
        "{error}"
    );
    assert!(error.contains("unknown metric 'queue.overfull'"), "{error}");
}

#[test]
fn what_a_plan_would_hold_is_bounded_before_it_is_drawn() {
    let refused = |old: &str, new: &str| read(&GOOD.replacen(old, new, 1)).expect_err(new).to_string();
    let crash = "until = \"9 min\"\nevery = \"1 us\"\ndo = { crash";
    assert!(refused("do = { crash", crash).contains("this makes more than 1000000 faults in a run"));
    let many = GOOD
        .replace("max = 1000", "max = 1_000_000")
        .replace("default = 100,", "default = 100_000,");
    let error = read(&many.replace("degree = 4", "degree = 800"))
        .expect_err("too many edges")
        .to_string();
    assert!(
        error.contains("800 edges for each of 90000 peers; at most 20000000 edges"),
        "{error}"
    );
}

/// A cohort has four bridges. With fewer there is none to deal; with none at all, nobody is dealt any.
#[test]
fn bridges_fill_a_cohort_or_there_are_none() {
    let with = |bridges: &str| {
        read(&format!(
            "{GOOD}[population.a]\nregion = \"outside\"\nnode = \"bridge\"\ncount = {bridges}\n"
        ))
    };
    for few in [
        "{ fixed = 2 }",
        "{ extra = 3 }",
        "{ share = { of-peers = 0.01 } }",
    ] {
        let error = with(few).expect_err(few).to_string();
        assert!(
            error.starts_with("t.toml:62:9: ")
                && error.contains("too few: a cohort has 4; wanted at least 4"),
            "{error}"
        );
    }
    with("{ fixed = 4 }").unwrap_or_else(|error| panic!("{error}"));
    // It is all bridges that count.
    let error = read(&format!(
        "{GOOD}{}",
        ["a", "b"]
            .map(|name| format!(
                "[population.{name}]\nregion = \"outside\"\nnode = \"bridge\"\ncount = {{ extra = 2 }}\n"
            ))
            .concat()
    ));
    error.unwrap_or_else(|error| panic!("{error}"));
}

/// A contact is called by its host, a host by its population and a number: there is room for the longest of them.
#[test]
fn a_population_has_a_name_that_its_hosts_can_bear() {
    let with = |length| {
        let name = "a".repeat(length);
        read(&format!(
            "{GOOD}[population.{name}]\nregion = \"outside\"\nnode = \"dht\"\ncount = {{ extra = 1 }}\n"
        ))
    };
    with(48).unwrap_or_else(|error| panic!("{error}"));
    let error = with(49).expect_err("too long").to_string();
    assert!(
        error.contains("is too long for a population: at most 48 characters"),
        "{error}"
    );
}

/// What is written down and does nothing is a mistake, and told as one.
#[test]
fn a_workload_says_nothing_that_is_ignored() {
    let insider =
        "[population.insider]\nregion = \"inside\"\ncount = { extra = 1 }\nnode = { insider = {} }\n";
    let ask = |name: &str, by: &str, more: &str| {
        format!(
            "[[workload]]\nname = \"{name}\"\nby = \"{by}\"\n{more}\ndo = {{ ask-for-bridges = {{ every = \"1 min\" }} }}\n"
        )
    };
    let arrival = "start = \"on-arrival\"";
    for (more, wanted) in [
        (
            ask("a", "client", arrival),
            "t.toml:65:6: insiders ask for bridges, and 'client' is none of them",
        ),
        (
            ask("a", "insider", ""),
            "t.toml:64:8: insiders ask from their arrival on: write start = \"on-arrival\"",
        ),
        (
            ask("a", "insider", "start = \"connected\""),
            "t.toml:66:9: insiders ask from their arrival on",
        ),
        (
            ask("a", "insider", "start = { at = \"1 min\" }"),
            "t.toml:66:9: insiders ask from their arrival on",
        ),
        (
            ask("a", "insider", "start = \"on-arrival\"\nuntil = \"2 min\""),
            "t.toml:67:9: insiders ask to the end of the run: leave 'until' out",
        ),
        (
            ask("a", "insider", arrival) + ask("b", "insider", arrival).as_str(),
            "t.toml:69:8: 'insider' asks for bridges already, by 'a'",
        ),
    ] {
        let error = read(&format!("{GOOD}{insider}{more}"))
            .expect_err(wanted)
            .to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
    let error = read(&format!("{GOOD}{insider}{}", ask("a", "client", arrival)))
        .expect_err("clients do not ask")
        .to_string();
    assert!(error.contains("choices: insider"), "{error}");
    read(&format!("{GOOD}{insider}{}", ask("a", "insider", arrival)))
        .unwrap_or_else(|error| panic!("{error}"));
}

/// A directory that cannot be read is told from one without scenarios.
#[test]
fn scenarios_are_listed_or_the_reason_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let library = Directory(dir.path().join("scenarios"));
    assert_eq!(
        library.list().map_err(|error| error.kind()),
        Err(std::io::ErrorKind::NotFound)
    );
    std::fs::create_dir(&library.0).expect("made");
    for file in ["b.toml", "a.toml", "notes.txt", "Not-A-Name.toml"] {
        std::fs::write(library.0.join(file), "").expect("written");
    }
    assert_eq!(library.list().expect("listed"), ["a", "b"]);
}

#[test]
fn a_rule_that_no_censor_can_play_is_shown_at_its_name() {
    let read = |matching: &str, action: &str| {
        let rule = format!("[[censor.rule]]\nname = \"odd\"\nmatch = {{ {matching} }}\naction = {action}\n");
        let text = GOOD.replacen("[[censor.rule]]", &format!("{rule}[[censor.rule]]"), 1);
        let line = 1 + text
            .lines()
            .position(|line| line == "name = \"odd\"")
            .expect("the rule");
        (read(&text), format!("t.toml:{}:1: rule 'odd'", line - 1))
    };
    for (matching, action, wanted) in [
        ("transport = 'udp'", "'reset'", "datagrams know no reset"),
        (
            "transport = 'tcp'",
            "{ forge-dns = 3 }",
            "forge-dns answers DNS questions",
        ),
        (
            "transport = 'udp', protocols = ['tls', 'ssh']",
            "'drop'",
            "no flow meets 'protocols' as well as the other conditions",
        ),
        ("ports = []", "'drop'", "no port is listed"),
        ("to = []", "'drop'", "no address is listed"),
        (
            "",
            "{ police = { rate = '0 bit/s', burst = '3 kB' } }",
            "a rate of zero",
        ),
        (
            "",
            "{ police = { rate = '1 Mbit/s', burst = '1 kB' } }",
            "a burst of 1000 bytes",
        ),
        (
            "",
            "{ reset = { client = false, server = false } }",
            "a reset of no end",
        ),
    ] {
        let (result, place) = read(matching, action);
        let error = result.expect_err(matching).to_string();
        assert!(
            error.contains(&place) && error.contains(wanted),
            "{place} {error}"
        );
    }
    for (matching, action, wanted) in [
        (
            "to = ['@nobody']",
            "'drop'",
            "t.toml:{}:17: unknown list '@nobody'",
        ),
        (
            "to = ['192.0.2.1/24']",
            "'drop'",
            "t.toml:{}:17: \"192.0.2.1/24\" has bits beyond its length",
        ),
        (
            "names = ['@hosters']",
            "'drop'",
            "t.toml:{}:20: unknown list '@hosters'",
        ),
        (
            "protocols = ['tsl']",
            "'drop'",
            "t.toml:{}:24: unknown choice 'tsl'; did you mean 'tls'?",
        ),
        (
            "flagged = 'papr'",
            "'drop'",
            "t.toml:{}:21: unknown choice 'papr'; did you mean 'paper'?",
        ),
        (
            "",
            "{ forge-dns = 0 }",
            "t.toml:{+}:24: wanted 1 to 10000 forged addresses, got 0",
        ),
        (
            "",
            "{ forge-dns = { answers = 20_000 } }",
            "t.toml:{+}:36: wanted 1 to 10000 forged addresses, got 20000",
        ),
    ] {
        let (result, _) = read(matching, action);
        let error = result.expect_err(matching).to_string();
        let line = 2 + GOOD
            .lines()
            .position(|line| line == "[[censor.rule]]")
            .expect("the rules");
        let wanted = wanted
            .replace("{}", &(line + 1).to_string())
            .replace("{+}", &(line + 2).to_string());
        assert!(error.contains(&wanted), "wanted {wanted}, got {error}");
    }
    // What each of these is to other back ends.
    for (matching, action, plain) in [
        ("to = ['@published'], ports = [443]", "'drop'", true),
        (
            "to = ['@published'], ports = [443], transport = 'tcp'",
            "'reset'",
            true,
        ),
        ("not = { ports = [53, 80] }", "'drop'", true),
        ("", "{ forge-dns = 3 }", true),
        ("to = ['@service', '192.0.2.0/24']", "'drop'", false),
        ("flagged = 'paper'", "'drop'", false),
        ("", "{ delay = '1 s' }", false),
    ] {
        let loaded = read(matching, action)
            .0
            .unwrap_or_else(|error| panic!("{matching}: {error}"));
        let plan = crate::scenario::plan::Plan::draw(&loaded, 1);
        let odd = plan.rule("odd").expect("the rule");
        assert_eq!(
            crate::censor::plain::plain(&odd.rule).is_ok(),
            plain,
            "{matching}"
        );
    }
}

#[test]
fn a_rule_that_never_holds_or_that_another_hides_is_refused() {
    let with = |rule: &str| read(&GOOD.replacen("[[censor.rule]]", &format!("{rule}[[censor.rule]]"), 1));
    let late = with("[[censor.rule]]\nname = \"late\"\nfrom = \"9 h\"\naction = \"drop\"\n");
    let error = late.expect_err("after the end").to_string();
    assert!(
        error.contains(":8: 9 h is not before the end of the run"),
        "{error}"
    );
    let first = with("[[censor.rule]]\nname = \"all\"\naction = \"drop\"\n");
    let error = first.expect_err("hidden").to_string();
    assert!(
        error.contains("rule 'published-entries': it can never act: rule 'all' before it stops every packet"),
        "{error}"
    );
    let twice = "[[censor.rule]]\nname = \"two\"\nfrom = \"1 s\"\nphases = [{ from = \"1 s\", until = \"2 s\" }]\naction = \"drop\"\n";
    let error = with(twice).expect_err("said twice").to_string();
    assert!(error.contains("'phases' says when it holds"), "{error}");
}

/// A rule about the first networks of a region, as where a hoster's ranges are cut.
#[test]
fn a_list_of_systems_has_the_hosts_in_them_and_no_others() {
    let with = |systems: &str| {
        let text = GOOD
            .replacen("area = \"europe\"", "area = \"europe\"\nases = 4", 1)
            .replacen(
                "[[censor.rule]]",
                &format!("list.near = {{ systems = {systems} }}\n[[censor.rule]]"),
                1,
            )
            .replacen("[\"@published\"]", "[\"@near\"]", 1);
        read(&text)
    };
    let loaded = with("{ of = \"outside\", first = 2 }").unwrap_or_else(|error| panic!("{error}"));
    let plan = crate::scenario::plan::Plan::draw(&loaded, 1);
    let [phantom_censor::engine::rule::Condition::Server(listed)] = plan.rules[0].rule.all.as_slice() else {
        panic!("a list of addresses")
    };
    let (mut in_it, mut not) = (0, 0);
    for host in &plan.hosts {
        // The inside is the first region, with one system; the first two outside are the next.
        let near = [1, 2].contains(&host.system);
        *(if near { &mut in_it } else { &mut not }) += 1;
        assert_eq!(listed.has((host.address, 443).into()), near, "{}", host.name);
    }
    assert!(in_it > 0 && not > 0, "{in_it} {not}");
    for (systems, wanted) in [
        (
            "{ of = \"outside\", first = 5 }",
            "wanted 1 to 4, the region's systems, got 5",
        ),
        (
            "{ of = \"outsid\", first = 1 }",
            "unknown region 'outsid'; did you mean 'outside'?",
        ),
    ] {
        let error = with(systems).expect_err(systems).to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

/// A censor by name, in a scenario with rules of its own.
#[test]
fn a_preset_brings_its_rules_behind_those_of_the_scenario_and_in_its_time() {
    let with = |preset: &str| {
        let text = GOOD.replacen("[[censor.rule]]", &format!("{preset}[[censor.rule]]"), 1);
        read(&text)
    };
    let loaded = with("[[censor.preset]]\nname = \"gfw-2023\"\nfrom = \"20 s\"\n")
        .unwrap_or_else(|error| panic!("{error}"));
    let plan = crate::scenario::plan::Plan::draw(&loaded, 1);
    let named: Vec<_> = plan
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.from()))
        .collect();
    let second = std::time::Duration::from_secs;
    assert_eq!(
        named,
        [
            ("published-entries", second(10)),
            ("dns", second(20)),
            ("http", second(20)),
            ("sni", second(20)),
            ("fully-encrypted", second(20)),
        ]
    );
    assert!(
        loaded
            .scenario
            .censor
            .as_ref()
            .is_some_and(|censor| censor.preset.is_empty())
    );
    let none = with("[[censor.preset]]\nname = \"none\"\n").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(crate::scenario::plan::Plan::draw(&none, 1).rules.len(), 1);
    assert_ne!(none.hash, loaded.hash);
    let error = with("[[censor.preset]]\nname = \"gfw-2032\"\n")
        .expect_err("unknown")
        .to_string();
    assert!(
        error.contains("unknown censor 'gfw-2032'; did you mean 'gfw-2023'?") && error.contains("shutdown, "),
        "{error}"
    );
    let idle =
        with("[[censor.preset]]\nname = \"iran-whitelist-2020\"\n").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        crate::scenario::plan::Plan::draw(&idle, 1).flow_idle,
        Some(second(60))
    );
    let few = read(&GOOD.replacen("[censor]", "[censor]\nflows-max = 9", 1))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(crate::scenario::plan::Plan::draw(&few, 1).flows_max, Some(9));
}

#[test]
fn networks_have_room_for_their_hosts() {
    let ases = |n: u32| format!("area = \"asia-pacific\"\nases = {n}");
    let error = read(&GOOD.replacen("area = \"asia-pacific\"", &ases(1_001), 1)).expect_err("too many");
    assert!(
        error.to_string().contains("wanted 1 to 1000 networks, got 1001"),
        "{error}"
    );
    let many = GOOD
        .replace("max = 1000", "max = 1_000_000")
        .replace("default = 100,", "default = 900_000,");
    let error = read(&many).expect_err("too many hosts").to_string();
    assert!(
        error.contains("810000 hosts in 1 networks; each has room for 400000"),
        "{error}"
    );
}

#[test]
fn the_schema_names_the_parts_of_the_format() {
    let schema = serde_json::to_string(&schemars::schema_for!(Scenario)).expect("json");
    for part in [
        "population",
        "learned-by-insiders",
        "forge-dns",
        "small-world",
        "eventually",
        "step-limit",
        "document-interval",
    ] {
        assert!(schema.contains(part), "{part}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn a_damaged_scenario_never_panics(at in 0..GOOD.len(), len in 0_usize..20, with in "[ -~\n]{0,6}") {
        let mut text = GOOD.to_owned();
        text.replace_range(at..(at + len).min(GOOD.len()), &with);
        if let Ok(loaded) = read(&text) {
            crate::scenario::plan::Plan::draw(&loaded, 1);
        }
    }
}
