//! The Great Firewall's active prober.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use phantom_censor::engine::{Engine, Verdict};
use phantom_censor::prober::judge::Speech;
use phantom_censor::prober::{Answer, Input, Kind, Limits, Output, Prober, Reaction, Suspect};

use crate::play::*;

/// Alice et al., 2020, §4.2: of replays of 168 to 263 bytes 72 % were of a length of remainder 9 modulo 16, of 264 to 383 bytes
/// 37 % of remainder 9 and 32 % of remainder 2, of 384 to 687 bytes 96 % of remainder 2; none were shorter than 160 bytes, and
/// of 1,000 connections with lengths up to 2,000 two were replayed.
#[test]
fn gfw_probe_2020_takes_first_packets_of_the_published_lengths_for_suspect() {
    let mut gfw = engine("gfw-probe-2020");
    const CONNECTIONS: u32 = 60_000;
    let mut suspects: Vec<Vec<u8>> = Vec::new();
    for n in 0..CONNECTIONS {
        let len = 1 + n as usize % 2_000;
        let said = random(u64::from(n), len);
        assert_eq!(first(&mut gfw, 0, 40_000, server(n, 443), &said), Verdict::Pass);
        let taken = gfw.take_suspects();
        assert!(
            taken
                .iter()
                .all(|suspect| suspect.first == said && suspect.server == server(n, 443))
        );
        suspects.extend(taken.into_iter().map(|suspect| suspect.first));
    }
    assert_binomial(suspects.len() as u64, u64::from(CONNECTIONS), 0.0022);
    let lens = |range: std::ops::RangeInclusive<usize>| {
        suspects
            .iter()
            .map(Vec::len)
            .filter(move |len| range.contains(len))
    };
    assert_eq!(lens(1..=167).count() + lens(688..=2_000).count(), 0);
    for (range, remainder, share) in [
        (168..=263, 9, 0.72),
        (264..=383, 9, 0.37),
        (264..=383, 2, 0.32),
        (384..=687, 2, 0.96),
    ] {
        let of = lens(range.clone()).count() as u64;
        let hits = lens(range.clone()).filter(|len| len % 16 == remainder).count() as u64;
        assert_binomial(hits, of, share);
        // Were every length as likely, it would be noticed.
        assert!(!is_binomial(hits, of, 1.0 / 16.0), "{hits} of {of} in {range:?}");
    }
    // A packet of low entropy is replayed a quarter as often.
    let mut gfw = engine("gfw-probe-2020");
    for n in 0..CONNECTIONS / 4 {
        let said: Vec<u8> = random(u64::from(n), 168 + n as usize % 520)
            .iter()
            .map(|byte| byte & 7)
            .collect();
        first(&mut gfw, 0, 40_000, server(n, 443), &said);
    }
    assert_binomial(
        gfw.take_suspects().len() as u64,
        u64::from(CONNECTIONS / 4),
        0.0022 * 2_000.0 / 520.0 / 4.0,
    );
}

/// A server that is suspected once, what it is sent when, and when it is blocked: of a prober by the file.
fn probed(
    prober: &mut Prober,
    at_ns: u64,
    to: SocketAddr,
    reacts: impl Fn(Kind) -> Reaction,
) -> (Vec<(u64, Kind)>, Option<u64>) {
    let (rule, first) = (0, random(7, 201));
    let suspect = Suspect {
        rule,
        at_ns,
        server: to,
        first,
    };
    prober
        .handle(at_ns, Input::Suspect(suspect))
        .expect("it is taken up");
    let (mut sent, mut blocked) = (Vec::new(), None);
    let mut now = at_ns;
    loop {
        match prober.poll_output() {
            Output::Send(probe) => {
                sent.push((now, probe.kind));
                let (after_ns, reaction) = (SECOND / 10, reacts(probe.kind));
                let answer = Answer { after_ns, reaction };
                prober
                    .handle(now, Input::Answered(probe.number, answer))
                    .expect("it is under way");
            }
            Output::Block { .. } => blocked = Some(now),
            Output::WaitUntil(at) => {
                now = at;
                prober.handle(now, Input::Tick).expect("time passes");
            }
            Output::Done => return (sent, blocked),
        }
    }
}

fn prober_of(engine: &Engine) -> Prober {
    let rules = engine.rules().iter().enumerate();
    let probing = rules.filter_map(|(place, rule)| Some((place, rule.probe()?.clone())));
    let limits = Limits {
        servers_max: 10_000,
        ..Limits::default()
    };
    Prober::new(1, limits, probing)
}

/// Alice et al., 2020, §3.5: more than 20 % of first replays within a second, 50 % within a minute, 75 % within 15 minutes; the
/// shortest delay was 0.28 s.
#[test]
fn gfw_probe_2020_replays_after_the_published_times() {
    let delays = |engine: &Engine| -> Vec<u64> {
        let mut prober = prober_of(engine);
        let each = (0..4_000_u32).map(|n| {
            let at = u64::from(n) * 100_000 * SECOND;
            let (sent, blocked) = probed(&mut prober, at, server(n, 443), |_| Reaction::Silence);
            assert_eq!(blocked, None);
            let replay = sent.iter().find(|(_, kind)| *kind == Kind::R1).expect("a replay");
            replay.0 - at
        });
        each.collect()
    };
    let within = |delays: &[u64], ns: u64| delays.iter().filter(|delay| **delay <= ns).count() as u64;
    let published = delays(&engine("gfw-probe-2020"));
    let least = published.iter().min().expect("many");
    assert!((280_000_000..300_000_000).contains(least), "{least} ns");
    for (ns, share) in [(SECOND, 0.20), (60 * SECOND, 0.50), (900 * SECOND, 0.75)] {
        assert_binomial(within(&published, ns), 4_000, share);
    }
    let other = "{ probe = { delay = [{ share = \"22 %\", within = \"1 s\" }, { share = \"100 %\", within = \"10 h\" }] } }";
    let other = delays(&perturbed("gfw-probe-2020", "{ probe = {} }", other));
    assert!(!is_binomial(within(&other, 60 * SECOND), 4_000, 0.50));
}

/// Alice et al., 2020, §4.2: R3 to R5 only for servers that answered R1 or R2. Who answers replays and not random bytes is
/// blocked; who is silent, or answers anybody, is not.
#[test]
fn gfw_probe_2020_has_two_stages_and_blocks_who_answers_replays() {
    let gfw = engine("gfw-probe-2020");
    let kinds = |sent: &[(u64, Kind)]| sent.iter().map(|(_, kind)| *kind).collect::<BTreeSet<_>>();
    let data = Reaction::Data(Speech::Other);
    let replays = |kind: Kind| if kind.is_replay() { data } else { Reaction::Silence };
    let mut prober = prober_of(&gfw);
    let (sent, blocked) = probed(&mut prober, 0, server(1, 443), |_| Reaction::Silence);
    assert_eq!(
        (kinds(&sent), blocked),
        ([Kind::R1, Kind::R2, Kind::Nr1, Kind::Nr2].into(), None)
    );
    let (_, blocked) = probed(&mut prober, 0, server(2, 443), |_| data);
    assert_eq!(blocked, None, "it answers anybody");
    let (sent, blocked) = probed(&mut prober, 0, server(3, 443), replays);
    let last = sent.iter().map(|(at, _)| *at).max();
    assert!(blocked.is_some() && blocked >= last, "found, and asked no more");
    // Where nobody is blocked the second stage is seen whole.
    let spared = perturbed(
        "gfw-probe-2020",
        "{ probe = {} }",
        "{ probe = { blocks = \"0.0000001 %\" } }",
    );
    let (sent, _) = probed(&mut prober_of(&spared), 0, server(3, 443), replays);
    assert_eq!(kinds(&sent), Kind::PUBLISHED.into());
}

/// Dunna et al., 2018: the whole address for 12 hours, and whoever tries begins them anew; what comes from the server is dropped
/// (Alice et al., 2020, §6).
#[test]
fn gfw_probe_2020_blocks_the_address_for_12_hours_after_the_last_try() {
    const HOUR: u64 = 3_600 * SECOND;
    let from = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let opens = |engine: &mut Engine, at: u64, client: &str, to: SocketAddr| {
        let mut talk = Talk::tcp(from(client), to);
        assert_eq!(
            talk.send(engine, at, true, true, &[]).verdict,
            Verdict::Pass,
            "what goes there passes"
        );
        talk.send(engine, at, false, true, &[]).verdict == Verdict::Pass
    };
    let mut gfw = engine("gfw-probe-2020");
    gfw.spare([from("10.9.9.9:1").ip()]);
    assert!(opens(&mut gfw, 0, "10.0.0.1:40000", server(1, 443)));
    gfw.block(0, server(1, 443), 0);
    // From everybody, at every port, but for the censor's own.
    assert!(!opens(&mut gfw, HOUR, "10.0.0.1:40001", server(1, 443)));
    assert!(!opens(&mut gfw, 2 * HOUR, "10.0.0.2:40001", server(1, 80)));
    assert!(opens(&mut gfw, 2 * HOUR, "10.0.0.1:40001", server(2, 443)));
    assert!(opens(&mut gfw, 3 * HOUR, "10.9.9.9:40001", server(1, 443)));
    // The last try was at 2 h.
    assert!(!opens(&mut gfw, 14 * HOUR - 1, "10.0.0.1:40002", server(1, 443)));
    assert!(opens(&mut gfw, 26 * HOUR, "10.0.0.1:40003", server(1, 443)));
    let short = "{ probe = { block = { tuple = \"server-port\", for = \"1 h\", way = \"from-server\" } } }";
    let mut short = perturbed("gfw-probe-2020", "{ probe = {} }", short);
    short.block(0, server(1, 443), 0);
    assert!(!opens(&mut short, HOUR - 1, "10.0.0.1:40001", server(1, 443)));
    assert!(opens(&mut short, HOUR - 1, "10.0.0.1:40001", server(1, 80)));
    assert!(
        opens(&mut short, HOUR, "10.0.0.1:40002", server(1, 443)),
        "nothing renews it"
    );
}
