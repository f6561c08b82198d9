//! Whatever a driver tells, in whatever order: no panic, no broken bound.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use phantom_core::units::{Instant, WallTime};
use phantom_rotation::*;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng as _;

use crate::lab::candidate;

const FAILURES: [Failure; 8] = [
    Failure::Unanswered,
    Failure::Useless,
    Failure::Silence,
    Failure::Reset,
    Failure::Refused,
    Failure::Garbled,
    Failure::Ended,
    Failure::Local,
];

fn candidates(arg: u64) -> Vec<Candidate> {
    let kinds = ["obfs4", "meek", "webtunnel"];
    (0..arg % 20)
        .map(|n| {
            let n = (n.wrapping_mul(arg | 1) >> 1) as usize;
            candidate(kinds[n % 3], (n / 3 % 4) as u8, 440 + (n % 5) as u16)
        })
        .collect()
}

/// What a driver knows of a path.
struct Seen {
    candidate: Candidate,
    open: bool,
    delivered: u64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inputs_in_any_order_break_no_bound(
        seed: u64,
        steps in proptest::collection::vec((0..17u8, any::<u64>(), 0..20_000u64), 1..400),
    ) {
        let mut machine = Rotation::new(Config::default(), Memory::default(), ChaCha12Rng::seed_from_u64(seed));
        let mut now = Instant::ZERO;
        let mut client: IpAddr = [10, 0, 0, 1].into();
        let mut paths: BTreeMap<PathId, Seen> = BTreeMap::new();
        let mut gone: BTreeSet<PathId> = BTreeSet::new();
        // What the ladder reached, until the machine gives it a name.
        let mut arriving: Option<Candidate> = None;
        // Whether the machine waits for candidates.
        let mut asked = false;
        // First packets that may have been flagged, and resets: no dial for 180 s.
        let mut cuts: BTreeMap<(IpAddr, std::net::SocketAddr), Instant> = BTreeMap::new();
        for (what, arg, wait) in steps {
            // Mostly short steps, sometimes long.
            now += Duration::from_millis(if wait % 7 == 0 { wait * 10 } else { wait / 20 });
            let ids: Vec<PathId> = paths.keys().copied().collect();
            let picked = (!ids.is_empty()).then(|| ids[arg as usize % ids.len()]);
            let stale = gone.iter().next().copied();
            let how = FAILURES[(arg >> 8) as usize % 8];
            let input = match (what, picked) {
                (0, _) => Input::Stop,
                (1 | 2, _) => {
                    let net = (arg % 3) as u8;
                    Input::Start {
                        network: NetworkId([net; 16]),
                        client: [10, 0, 0, net].into(),
                        wall: WallTime::from_unix_nanos(arg >> (arg % 64)),
                    }
                }
                (3, _) => Input::Candidates(candidates(arg)),
                (14, _) => {
                    let all = candidates(19);
                    let one = all[arg as usize % all.len()].clone();
                    // A ladder asks before it dials.
                    match machine.free_at(now, &one, 0) {
                        Some(free) if free <= now => Input::Entered(one),
                        _ => Input::Tick,
                    }
                }
                (15, _) => Input::Missed(candidates(19)[arg as usize % 19].clone(), how),
                (16, _) if asked => Input::Candidates(candidates(19)),
                (4 | 5, Some(id)) => Input::Connected(id),
                (6, Some(id)) => Input::Failed(id, how),
                (7, Some(id)) => Input::Closed(id, how),
                (8, _) => match stale {
                    Some(id) => Input::Connected(id),
                    None => Input::Tick,
                },
                (9..=12, Some(id)) => {
                    let moved = if arg % 3 == 0 { 0 } else { (arg >> 8) % 300_000 };
                    Input::Progress {
                        path: id,
                        direction: if arg & 64 == 0 { Direction::Up } else { Direction::Down },
                        queued: if arg % 5 == 0 { 0 } else { arg >> 40 },
                        delivered: paths[&id].delivered + moved,
                        rtt: Duration::from_nanos(arg >> (arg % 60)),
                    }
                }
                _ => Input::Tick,
            };
            // What a start closes was dialled from the address before.
            let before = client;
            let told = machine.handle(now, input.clone());
            if told.is_ok() {
                match &input {
                    Input::Start { client: new, .. } if machine.state() != StateName::Stopped => client = *new,
                    Input::Connected(id) => {
                        if let Some(seen) = paths.get_mut(id) {
                            seen.open = true;
                        }
                    }
                    Input::Failed(id, how) | Input::Closed(id, how) => {
                        if let Some(seen) = paths.remove(id) {
                            let flagged = match how {
                                Failure::Reset | Failure::Garbled => true,
                                Failure::Silence => !seen.open,
                                _ => false,
                            };
                            if flagged {
                                cuts.insert((client, seen.candidate.address), now);
                            }
                            gone.insert(*id);
                        }
                    }
                    Input::Missed(candidate, Failure::Reset | Failure::Garbled | Failure::Silence)
                        if machine.state() != StateName::Stopped =>
                    {
                        cuts.insert((client, candidate.address), now);
                    }
                    Input::Entered(candidate) => arriving = Some(candidate.clone()),
                    Input::Candidates(_) => asked = false,
                    Input::Progress { path, delivered, .. } => {
                        if let Some(seen) = paths.get_mut(path) {
                            seen.delivered = seen.delivered.max(*delivered);
                        }
                    }
                    _ => {}
                }
            } else {
                prop_assert!(matches!(
                    told,
                    Err(Error::UnknownPath(_) | Error::NotDialling(_) | Error::NotConnected(_) | Error::DeliveredWentBack { .. })
                ), "{told:?}");
            }
            let mut drained = 0;
            loop {
                drained += 1;
                prop_assert!(drained <= OUTPUTS_MAX);
                match machine.poll_output() {
                    Output::WaitUntil(at) => {
                        // A refused input changes nothing, the time neither.
                        prop_assert!(at > now || told.is_err(), "it would spin");
                        break;
                    }
                    Output::Idle => break,
                    Output::Seek | Output::Rest => {}
                    Output::Survey => asked = true,
                    Output::Dial { path, candidate } => {
                        if let Some(cut) = cuts.get(&(client, candidate.address)) {
                            prop_assert!(now >= *cut + Duration::from_secs(180), "dialled inside a window");
                        }
                        let new = paths.insert(path, Seen { candidate: candidate.clone(), open: false, delivered: 0 });
                        prop_assert!(new.is_none() && !gone.contains(&path));
                        let same = paths.values().filter(|seen| {
                            seen.candidate.server == candidate.server
                                || seen.candidate.address.ip() == candidate.address.ip()
                        });
                        prop_assert!(same.count() <= 6);
                    }
                    Output::Share { from, to } => {
                        prop_assert!(paths[&from].open && paths[&to].open && from != to);
                    }
                    Output::Adopt { path, .. } => {
                        if let Some(candidate) = arriving.take_if(|_| !paths.contains_key(&path)) {
                            paths.insert(path, Seen { candidate, open: true, delivered: 0 });
                        }
                        prop_assert!(paths[&path].open);
                    }
                    Output::Close { path, silently } => {
                        let seen = paths.remove(&path);
                        let unwanted = seen.is_none().then(|| arriving.take()).flatten();
                        prop_assert!(seen.is_some() || unwanted.is_some(), "closed twice");
                        if let Some(seen) = seen.filter(|seen| silently && !seen.open) {
                            cuts.insert((before, seen.candidate.address), now);
                        }
                        gone.insert(path);
                    }
                    Output::Found { path, .. } => prop_assert!(paths.contains_key(&path) || gone.contains(&path)),
                }
            }
            if let Some(path) = machine.in_use() {
                prop_assert!(paths[&path].open);
            }
            let _ = machine.report().to_string();
        }
        let text = serde_json::to_string(machine.memory()).expect("it can be written");
        prop_assert!(text.len() <= FILE_BYTES_MAX);
        prop_assert_eq!(&serde_json::from_str::<Memory>(&text).expect("it reads back"), machine.memory());
    }

    #[test]
    fn a_damaged_file_is_refused_or_harmless(at in 0..4_000usize, byte: u8, seed: u64) {
        let mut lab = crate::lab::Lab::new(
            seed % 8,
            crate::lab::Link::new(crate::lab::Pace::Steady(4_000.0), None),
            vec![crate::lab::route("obfs4", 1, 80.0, 1e6)],
            crate::lab::Load::Bulk,
        );
        lab.run_until(4);
        let mut text = serde_json::to_vec(lab.machine.memory()).expect("it can be written");
        let at = at % text.len();
        text[at] = byte;
        if let Ok(memory) = serde_json::from_slice::<Memory>(&text) {
            let routes = vec![crate::lab::route("obfs4", 1, 80.0, 1e6)];
            let access = crate::lab::Link::new(crate::lab::Pace::Steady(4_000.0), None);
            let mut lab = crate::lab::Lab::remembering(1, access, routes, crate::lab::Load::Bulk, memory);
            lab.run_until(2);
            prop_assert!(lab.in_use.is_some());
        }
    }
}
