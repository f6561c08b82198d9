//! Iran: what is let through by its protocol.

use std::net::SocketAddr;

use phantom_censor::craft::{dns_query, http_request};
use phantom_censor::engine::{Engine, Verdict};

use crate::play::*;

/// Bock et al., FOCI 2020: 60 s after the last retransmission.
#[test]
fn iran_whitelist_2020_knows_three_protocols_on_three_ports() {
    let dns_over_tcp = {
        let question = dns_query(7, FINE, 1);
        let mut message = (question.len() as u16).to_be_bytes().to_vec();
        message.extend_from_slice(&question);
        message
    };
    let known = [hello(BLOCKED), http_request("GET", "/", BLOCKED), dns_over_tcp];
    for port in [53, 80, 443] {
        let mut iran = engine("iran-whitelist-2020");
        for (n, payload) in known.iter().enumerate() {
            let from = 40_000 + n as u16;
            assert_eq!(
                first(&mut iran, 0, from, server(1, port), payload),
                Verdict::Pass,
                "{port}"
            );
        }
        for (n, payload) in [looks_encrypted(0), b"SSH-2.0-x\r\n".to_vec()].iter().enumerate() {
            let from = 41_000 + n as u16;
            let fate = fate(&mut iran, from, server(1, port), &[payload, payload]);
            assert_eq!(fate, [Verdict::Pass, Verdict::Drop], "{port}");
        }
        // Another connection to the same server is free: addresses and ports of both ends are what is blocked.
        assert_eq!(
            first(&mut iran, 0, 42_000, server(1, port), &known[0]),
            Verdict::Pass
        );
    }
    let mut iran = engine("iran-whitelist-2020");
    let unknown = looks_encrypted(0);
    let elsewhere = fate(&mut iran, 40_000, server(1, 9_001), &[&unknown, &unknown]);
    assert_eq!(elsewhere, [Verdict::Pass, Verdict::Pass]);
    let mut talk = Talk::udp(client(40_000), server(1, 443));
    for _ in 0..2 {
        assert_eq!(talk.say(&mut iran, 0, &unknown), Verdict::Pass);
    }
    // TLS is judged by its first bytes: what follows them does not matter. The source says five; the classifier here wants the
    // sixth too, the type of the message.
    let mut seems = vec![0x16, 3, 1, 1, 0, 0x93];
    seems.extend_from_slice(&unknown);
    let other = fate(&mut iran, 40_001, server(1, 443), &[&seems, &unknown]);
    assert_eq!(other[1], Verdict::Drop);
    seems[5] = 1;
    let hello = fate(&mut iran, 40_002, server(1, 443), &[&seems, &unknown]);
    assert_eq!(hello[1], Verdict::Pass);
}

/// What becomes of the packets that a client says one after the other, each a second later.
fn fate(engine: &mut Engine, from: u16, to: SocketAddr, said: &[&[u8]]) -> Vec<Verdict> {
    let mut talk = Talk::tcp(client(from), to);
    assert_eq!(talk.open(engine, 0), Verdict::Pass);
    let each = (0..).zip(said);
    each.map(|(second, payload)| talk.say(engine, second * SECOND, payload))
        .collect()
}

/// Bock et al., FOCI 2020, and its summary: two data packets are looked at, without putting them together; if neither is of a protocol, the
/// client's packets after the first are dropped. One that is, in front of anything else, lets it all through; a first segment too short
/// for its protocol does not.
#[test]
fn iran_whitelist_2020_looks_at_two_packets_and_drops_what_comes_after_the_first() {
    const UNKNOWN: &[u8] = &[0x93; 300];
    let (hello, request) = (hello(FINE), http_request("GET", "/", FINE));
    let (start, rest) = request.split_at(2);
    let cases: [(&[&[u8]], usize); 6] = [
        (&[UNKNOWN, UNKNOWN, &hello], 1),
        (&[&hello, UNKNOWN, UNKNOWN], 3),
        (&[UNKNOWN, &hello, UNKNOWN], 3),
        (&[start, &rest[1..], &request], 1),
        (&[&hello, &[0x14, 3, 3, 0, 1, 1], UNKNOWN], 3),
        (&[UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN], 1),
    ];
    let passed = |iran: &mut Engine| -> Vec<usize> {
        let each = (40_000..).zip(cases).map(|(from, (said, _))| {
            let fate = fate(iran, from, server(u32::from(from), 443), said);
            fate.iter()
                .take_while(|verdict| **verdict == Verdict::Pass)
                .count()
        });
        each.collect()
    };
    let published = cases.map(|(_, passed)| passed);
    assert_eq!(passed(&mut engine("iran-whitelist-2020")), published);
    for other in ["packets = 1", "packets = 3"] {
        let mut other = perturbed("iran-whitelist-2020", "packets = 2", other);
        assert_ne!(passed(&mut other), published);
    }
}

#[test]
fn iran_whitelist_2020_forgets_after_60_seconds_of_silence() {
    let again = |silence: u64, resend_at: &[u64]| {
        let mut iran = engine("iran-whitelist-2020");
        let mut talk = Talk::tcp(client(40_000), server(1, 443));
        talk.open(&mut iran, 0);
        assert_eq!(talk.say(&mut iran, 0, &looks_encrypted(0)), Verdict::Pass);
        assert_eq!(talk.say(&mut iran, 0, &looks_encrypted(0)), Verdict::Drop);
        for at in resend_at {
            assert_eq!(
                talk.say(&mut iran, at * SECOND, &looks_encrypted(0)),
                Verdict::Drop
            );
            assert_eq!(talk.hear(&mut iran, at * SECOND, b"x"), Verdict::Pass);
        }
        // A new connection on the same addresses and ports.
        let last = resend_at.last().copied().unwrap_or(0);
        let mut next = Talk::tcp(client(40_000), server(1, 443));
        next.seq = [500_000, 600_000];
        let at = (last + silence) * SECOND;
        next.send(&mut iran, at, true, true, &[]).verdict
    };
    assert_eq!(again(59, &[]), Verdict::Drop);
    assert_eq!(again(60, &[]), Verdict::Pass);
    assert_eq!(again(59, &[30, 59, 100]), Verdict::Drop);
    assert_eq!(again(60, &[30, 59, 100]), Verdict::Pass);
}

#[test]
fn iran_blackout_2025_leaves_dns_and_known_protocols_outside_hosters() {
    let mut iran = engine("iran-blackout-2025");
    for port in [443, 123, 3_478, 51_820] {
        assert_eq!(
            datagram(&mut iran, 0, 40_000, server(1, port), &initial(FINE)),
            Verdict::Drop
        );
    }
    // A question at another port is UDP like any other.
    let elsewhere = datagram(&mut iran, 0, 40_005, server(1, 5_353), &dns_query(7, BLOCKED, 1));
    assert_eq!(elsewhere, Verdict::Drop);
    let mut question = Talk::udp(client(40_001), server(1, 53));
    assert_eq!(question.say(&mut iran, 0, &dns_query(7, FINE, 1)), Verdict::Pass);
    assert_eq!(question.hear(&mut iran, 0, &dns_query(7, FINE, 1)), Verdict::Pass);
    assert_eq!(
        first(&mut iran, 0, 40_002, server(1, 443), &hello(FINE)),
        Verdict::Pass
    );
    let unknown = looks_encrypted(0);
    let elsewhere = fate(&mut iran, 40_003, server(1, 9_001), &[&unknown, &unknown]);
    assert_eq!(elsewhere, [Verdict::Pass, Verdict::Drop]);
    let hoster = SocketAddr::from(([198, 51, 100, 7], 443));
    assert_eq!(first(&mut iran, 0, 40_004, hoster, &hello(FINE)), Verdict::Drop);
    let counts = |engine: &Engine| {
        engine
            .counts()
            .iter()
            .map(|counts| counts.dropped)
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(&iran), [0, 5, 1, 1]);
    let mut off = perturbed(
        "iran-blackout-2025",
        "not = { ports = [53] }",
        "not = { ports = [53, 443] }",
    );
    assert_eq!(
        datagram(&mut off, 0, 40_000, server(1, 443), &initial(FINE)),
        Verdict::Pass
    );
}
