use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use phantom_path::dice::Dice;
use proptest::prelude::*;

use super::config::Origins;
use super::delay::Delay;
use super::judge::{Judge, Seen, Speech};
use super::kind::{NR1_MIDDLES, NR2_LEN};
use super::*;
use crate::engine::residual::{Residual, Tuple};
use crate::engine::rule::ALWAYS;

const SECOND: u64 = 1_000_000_000;

fn server(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 443))
}

fn suspect(n: u8, at_ns: u64) -> Suspect {
    Suspect {
        rule: 0,
        at_ns,
        server: server(n),
        first: (0..200).collect(),
    }
}

fn quick() -> Config {
    Config {
        delay: Delay::between(SECOND, 10 * SECOND),
        ..Config::default()
    }
}

fn prober(config: Config) -> Prober {
    config.check().expect("a prober that makes sense");
    Prober::new(1, Limits::default(), [(0, config)])
}

const fn answer(reaction: Reaction) -> Answer {
    Answer {
        after_ns: 100_000_000,
        reaction,
    }
}

const DATA: Reaction = Reaction::Data(Speech::Other);

/// When, and what.
type Sent = (u64, Probe);
/// When, whom, and why.
type Blocked = (u64, SocketAddr, Sign);

/// Drives a prober until nothing is due, answering 100 ms after each probe; what was sent when, and who was blocked when.
fn drive(
    prober: &mut Prober,
    from_ns: u64,
    server: impl Fn(Kind, usize) -> Reaction,
) -> (Vec<Sent>, Vec<Blocked>) {
    let (mut sent, mut blocked, mut now) = (Vec::new(), Vec::new(), from_ns);
    loop {
        let mut answers = Vec::new();
        let until = loop {
            match prober.poll_output() {
                Output::Send(probe) => {
                    answers.push((probe.number, server(probe.kind, probe.payload.len())));
                    sent.push((now, probe));
                }
                Output::Block { server, sign, .. } => blocked.push((now, server, sign)),
                Output::WaitUntil(at_ns) => break Some(at_ns),
                Output::Done => break None,
            }
        };
        if !answers.is_empty() {
            now += 100_000_000;
            for (number, reaction) in answers {
                prober
                    .handle(now, Input::Answered(number, answer(reaction)))
                    .expect("a probe of its own");
            }
        } else if let Some(until) = until {
            assert!(until > now, "it waits for what has passed");
            now = until;
            prober.handle(now, Input::Tick).expect("time passes");
        } else {
            return (sent, blocked);
        }
    }
}

fn kinds(sent: &[Sent]) -> BTreeSet<Kind> {
    sent.iter().map(|(_, probe)| probe.kind).collect()
}

/// IMC 2020, §4.2: servers that say nothing never saw R3, R4 and R5; soon after one began to answer R1 and R2 they came.
#[test]
fn the_second_stage_follows_an_answer_to_a_replay_and_nothing_else() {
    let first: BTreeSet<Kind> = [Kind::R1, Kind::R2, Kind::Nr1, Kind::Nr2].into();
    // Found servers are spared, so that both stages are seen whole.
    let spare = Config { blocks: 1, ..quick() };
    for (case, reaction, wanted) in [
        ("silent", Reaction::Silence, &first),
        ("closes", Reaction::Fin, &first),
        ("down", Reaction::Unreachable, &first),
        ("answers", DATA, &Kind::PUBLISHED.into()),
    ] {
        let mut prober = prober(spare.clone());
        prober
            .handle(0, Input::Suspect(suspect(1, 0)))
            .expect("it is taken up");
        let (sent, _) = drive(&mut prober, 0, |kind, _| {
            if kind.is_replay() {
                reaction
            } else {
                Reaction::Silence
            }
        });
        assert_eq!(&kinds(&sent), wanted, "{case}");
        // NR2 came three times as often as NR1 (§3.2).
        let count = |kind| sent.iter().filter(|(_, probe)| probe.kind == kind).count();
        assert_eq!((count(Kind::Nr1), count(Kind::Nr2)), (1, 3), "{case}");
        let staged = sent.iter().filter(|(_, probe)| probe.kind.waits_for_an_answer());
        let answered = sent
            .iter()
            .find(|(_, probe)| probe.kind.is_replay())
            .expect("a replay")
            .0;
        assert!(staged.clone().all(|(at, _)| *at > answered + SECOND), "{case}");
    }
}

#[test]
fn who_answers_replays_but_not_random_bytes_is_blocked_once_and_asked_no_more() {
    let mut prober = prober(quick());
    prober
        .handle(0, Input::Suspect(suspect(1, 0)))
        .expect("it is taken up");
    let (sent, blocked) = drive(&mut prober, 0, |kind, _| {
        if kind == Kind::R1 { DATA } else { Reaction::Silence }
    });
    assert_eq!(blocked.len(), 1);
    let (at, whom, sign) = blocked[0];
    assert_eq!((whom, sign), (server(1), Sign::ReplayAnswered));
    assert!(sent.iter().all(|(sent, _)| *sent <= at), "nobody asks on");
    assert_eq!(prober.held(), (1, 0, 0));
    // As long as the block holds it is no news; then all begins anew.
    let again = |prober: &mut Prober, at| prober.handle(at, Input::Suspect(suspect(1, at)));
    let hours = |n: u64| at + n * 3_600 * SECOND;
    assert_eq!(
        again(&mut prober, hours(11)),
        Err(ProbeError::NotTaken(server(1), "it is blocked"))
    );
    assert_eq!(again(&mut prober, hours(12)), Ok(()));
    let (sent, blocked) = drive(&mut prober, hours(12), |_, _| Reaction::Silence);
    assert!(blocked.is_empty() && !sent.is_empty());
}

#[test]
fn who_answers_anybody_is_left_alone_and_so_is_who_answers_nobody() {
    let web = |kind: Kind, _| match kind {
        Kind::Http => Reaction::Data(Speech::Http),
        _ => Reaction::Data(Speech::Other),
    };
    for (who, server_of) in [
        ("a web server", &web as &dyn Fn(Kind, usize) -> Reaction),
        ("a silent server", &|_, _| Reaction::Silence),
        ("a server that is gone", &|_, _| Reaction::Unreachable),
        ("a server that closes on everything", &|_, _| Reaction::Reset),
    ] {
        let mut prober = prober(Config {
            kinds: [
                Kind::R1,
                Kind::R2,
                Kind::R3,
                Kind::Nr1,
                Kind::Nr2,
                Kind::Http,
                Kind::Tls,
            ]
            .into(),
            ..quick()
        });
        for round in 0..20 {
            let at = round * 100 * SECOND;
            prober
                .handle(at, Input::Suspect(suspect(1, at)))
                .expect("it is taken up");
            let (_, blocked) = drive(&mut prober, at, server_of);
            assert!(blocked.is_empty(), "{who}: {blocked:?}");
        }
        let ordinary = prober.verdict(0, server(1)) == Some(Verdict::Ordinary);
        assert_eq!(ordinary, who == "a web server", "{who}");
    }
    // But silence may be a sign: NDSS 2020.
    let mut strict = prober(Config {
        judge: Judge {
            signs: [Sign::Silence].into(),
            ..Judge::default()
        },
        ..quick()
    });
    for round in 0..2 {
        let at = round * 100 * SECOND;
        let _ = strict.handle(at, Input::Suspect(suspect(1, at)));
        let (sent, blocked) = drive(&mut strict, at, |_, _| Reaction::Silence);
        // Six probes a round, and ten silences make a sign.
        assert_eq!(
            (sent.len(), blocked.len()),
            if round == 0 { (6, 0) } else { (4, 1) }
        );
    }
}

/// IMC 2020, Figure 10: with a salt of 32 bytes the old servers waited for 50 bytes and closed at once from 51 on.
#[test]
fn a_threshold_in_length_gives_old_servers_away_and_one_at_chance_does_not() {
    let old = |_, len: usize| {
        if len <= 50 {
            Reaction::Silence
        } else {
            Reaction::Reset
        }
    };
    let mut finds = prober(quick());
    let mut rounds = 0;
    let found = loop {
        let at = rounds * 100 * SECOND;
        finds
            .handle(at, Input::Suspect(suspect(1, at)))
            .expect("it is taken up");
        rounds += 1;
        let (_, blocked) = drive(&mut finds, at, old);
        if let Some((_, _, sign)) = blocked.first() {
            break *sign;
        }
    };
    assert_eq!(found, Sign::CloseThreshold);
    assert!((3..=12).contains(&rounds), "{rounds} rounds for four lengths");
    let seen = |len, reaction| Seen {
        kind: Kind::Nr1,
        len,
        answer: answer(reaction),
    };
    let (silence, reset) = (Reaction::Silence, Reaction::Reset);
    let judge = |reactions: &[(usize, Reaction)]| {
        let seen: Vec<Seen> = reactions
            .iter()
            .map(|(len, reaction)| seen(*len, *reaction))
            .collect();
        Judge::default().verdict(&seen, true)
    };
    let proxy = Verdict::Proxy(Sign::CloseThreshold);
    assert_eq!(
        judge(&[(8, silence), (9, reset), (12, reset), (221, reset)]),
        proxy
    );
    assert_eq!(
        judge(&[(8, silence), (9, reset), (12, silence), (221, reset)]),
        Verdict::Unsure
    );
    assert_eq!(
        judge(&[(8, silence), (9, reset), (9, silence), (221, reset), (50, reset)]),
        Verdict::Unsure
    );
    assert_eq!(
        judge(&[(8, reset), (9, silence), (12, silence), (221, silence)]),
        Verdict::Unsure
    );
    assert_eq!(
        judge(&[(8, silence), (9, reset), (221, reset)]),
        Verdict::Unsure,
        "too few lengths"
    );
}

#[test]
fn a_prober_that_could_do_nothing_is_refused() {
    let wrong = |config: Config| config.check().expect_err("a mistake");
    let published = Config::default;
    assert_eq!(published().check(), Ok(()));
    let kinds = |kinds: &[Kind]| Config {
        kinds: kinds.iter().copied().collect(),
        ..published()
    };
    assert_eq!(wrong(kinds(&[])), ConfigError::NoKind);
    assert_eq!(wrong(kinds(&[Kind::R3, Kind::Nr1])), ConfigError::NeverStaged);
    assert!(matches!(
        wrong(kinds(&[Kind::R1])),
        ConfigError::NeverShows("close-threshold", _)
    ));
    assert!(matches!(
        wrong(kinds(&[Kind::Nr1])),
        ConfigError::NeverShows("replay-answered", _)
    ));
    let delay = |within: &[(u64, u64)]| Config {
        delay: Delay {
            min_ns: 10,
            within: within.to_vec(),
        },
        ..published()
    };
    assert_eq!(wrong(delay(&[])), ConfigError::DelayEnd);
    assert_eq!(wrong(delay(&[(ALWAYS / 2, 20)])), ConfigError::DelayEnd);
    assert_eq!(wrong(delay(&[(ALWAYS, 9)])), ConfigError::DelayOrder);
    assert_eq!(
        wrong(delay(&[(ALWAYS / 2, 20), (ALWAYS / 2, 30)])),
        ConfigError::DelayOrder
    );
    let from = |from| Config { from, ..published() };
    assert_eq!(wrong(from(Origins::These(Vec::new()))), ConfigError::From(0));
    assert_eq!(wrong(from(Origins::Number(2_000))), ConfigError::From(2_000));
    let block = Residual {
        tuple: Tuple::Three,
        ..published().block
    };
    assert_eq!(wrong(Config { block, ..published() }), ConfigError::Tuple);
}

/// However many of its clients are seen.
#[test]
fn a_server_is_asked_no_oftener_than_is_said() {
    let mut prober = prober(Config {
        probes_max: 25,
        ..quick()
    });
    let mut sent = 0;
    for round in 0..20 {
        let at = round * 100 * SECOND;
        let taken = prober.handle(at, Input::Suspect(suspect(1, at)));
        assert_eq!(taken.is_ok(), round < 5, "six probes a round");
        sent += drive(&mut prober, at, |_, _| Reaction::Silence).0.len();
    }
    assert_eq!((sent, prober.counts().passed_over), (25, 15));
}

/// A prober whose hosts are gone goes on when they are back.
#[test]
fn probes_of_which_nothing_is_heard_are_given_up() {
    let limits = Limits {
        in_flight_max: 2,
        ..Limits::default()
    };
    let mut prober = Prober::new(1, limits, [(0, quick())]);
    prober
        .handle(0, Input::Suspect(suspect(1, 0)))
        .expect("it is taken up");
    prober.handle(20 * SECOND, Input::Tick).expect("time passes");
    let sends = |prober: &mut Prober| {
        (0..9)
            .filter(|_| matches!(prober.poll_output(), Output::Send(_)))
            .count()
    };
    assert_eq!(sends(&mut prober), 2);
    assert_eq!(prober.poll_output(), Output::WaitUntil(620 * SECOND));
    prober.handle(620 * SECOND, Input::Tick).expect("time passes");
    assert_eq!((sends(&mut prober), prober.counts().lost), (2, 2));
}

/// Every bound of the machine, as small as it can be hit.
fn tight() -> Limits {
    Limits {
        servers_max: 4,
        replays_max: 2,
        replay_bytes_max: 300,
        per_second: 3,
        in_flight_max: 5,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Lengths are as published and a replay differs where it is said to, whatever the suspect said.
    #[test]
    fn probes_of_arbitrary_first_bytes_are_as_published(
        first in proptest::collection::vec(any::<u8>(), 0..1_500),
        seed in any::<u64>(),
    ) {
        let mut dice = Dice::new(seed);
        for kind in Kind::PUBLISHED.into_iter().chain([Kind::Http, Kind::Tls]) {
            let payload = kind.payload(&first, "192.0.2.1:443", &mut dice);
            let Some(changes) = kind.changes() else {
                let len = payload.expect("needs nothing").len();
                prop_assert!(match kind {
                    Kind::Nr1 => NR1_MIDDLES.iter().any(|middle| middle.abs_diff(len) <= 1),
                    Kind::Nr2 => len == NR2_LEN,
                    _ => len > 20,
                }, "{kind:?} of {len}");
                continue;
            };
            let longest = changes.iter().max().map_or(0, |at| at + 1);
            let Some(payload) = payload else {
                prop_assert!(first.is_empty() || first.len() < longest);
                continue;
            };
            let changed: Vec<usize> = (0..first.len()).filter(|at| first[*at] != payload[*at]).collect();
            prop_assert_eq!((payload.len(), &changed[..]), (first.len(), changes));
        }
    }

    /// Whatever is told in whatever order, nothing grows beyond its bound, no second has too many probes, nothing panics.
    #[test]
    fn the_machine_stays_within_its_bounds(
        inputs in proptest::collection::vec((0_u64..3_000_000_000, 0_u8..8, 0_u8..6, 0_usize..400), 1..200),
        seed in any::<u64>(),
    ) {
        let config = Config {
            delay: Delay::between(0, 5 * SECOND),
            probes_max: 9,
            ..Config::default()
        };
        let limits = tight();
        let mut prober = Prober::new(seed, limits, [(0, config.clone())]);
        let (mut now, mut sent, mut per_second) = (0, Vec::new(), BTreeMap::new());
        for (after, n, what, len) in inputs {
            now += after;
            let input = match what {
                0 | 1 => Input::Suspect(Suspect { rule: usize::from(n == 7), first: vec![n; len], ..suspect(n, now) }),
                2 => Input::Tick,
                _ => {
                    let reaction = [DATA, Reaction::Fin, Reaction::Silence][usize::from(what) - 3];
                    let number = if sent.is_empty() { len as u64 } else { sent[len % sent.len()] };
                    Input::Answered(number, answer(reaction))
                }
            };
            let _ = prober.handle(now, input);
            loop {
                match prober.poll_output() {
                    Output::Send(probe) => {
                        prop_assert!(probe.payload.len() <= 300 || probe.kind == Kind::Tls);
                        prop_assert!(probe.from < config.from.count());
                        *per_second.entry(now / SECOND).or_insert(0) += 1;
                        sent.push(probe.number);
                    }
                    Output::Block { .. } => {}
                    Output::WaitUntil(at) => {
                        prop_assert!(at > now);
                        break;
                    }
                    Output::Done => break,
                }
            }
            let (servers, due, flying) = prober.held();
            prop_assert!(servers <= limits.servers_max && flying <= limits.in_flight_max);
            prop_assert!(due <= servers * config.probes_max as usize);
        }
        prop_assert!(per_second.values().all(|sent| *sent <= limits.per_second));
    }
}
