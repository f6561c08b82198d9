//! The Great Firewall's filters: names, random bytes, QUIC.

use std::net::SocketAddr;

use phantom_censor::classify::quic::Version;
use phantom_censor::craft::{Hello, http_request, quic_initial};
use phantom_censor::engine::{Engine, Verdict};

use crate::play::*;

/// Wu et al., 2023: 26.3 % of connections whose first packet looks fully encrypted, towards the server.
#[test]
fn gfw_2023_drops_a_quarter_of_random_looking_connections_and_none_other() {
    let mut gfw = engine("gfw-2023");
    let hits = dropped(&mut gfw, looks_encrypted);
    assert_binomial(hits, 4_000, 0.263);
    // A tenth of the chance more or less would be noticed.
    for other in ["28.93 %", "23.67 %"] {
        let hits = dropped(
            &mut perturbed("gfw-2023", "\"26.3 %\"", &format!("\"{other}\"")),
            looks_encrypted,
        );
        assert!(!is_binomial(hits, 4_000, 0.263), "{hits} at {other}");
    }
    let mut gfw = engine("gfw-2023");
    assert_eq!(dropped(&mut gfw, |_| hello(FINE)), 0);
    let mut gfw = engine("gfw-2023");
    assert_eq!(dropped(&mut gfw, |_| http_request("GET", "/", FINE)), 0);
    let mut gfw = engine("gfw-2023");
    assert_eq!(dropped(&mut gfw, |_| b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()), 0);
    // UDP is not looked at, and the server's packets pass.
    let mut sure = perturbed("gfw-2023", "\"26.3 %\"", "\"100 %\"");
    assert_eq!(
        datagram(&mut sure, 0, 50_000, server(1, 443), &looks_encrypted(0)),
        Verdict::Pass
    );
    let mut talk = Talk::tcp(client(50_001), server(1, 443));
    assert_eq!(talk.open(&mut sure, 0), Verdict::Pass);
    assert_eq!(talk.say(&mut sure, 0, &looks_encrypted(0)), Verdict::Drop);
    assert_eq!(talk.hear(&mut sure, 0, &looks_encrypted(0)), Verdict::Pass);
}

/// How many of 4,000 clients get their `k`-th connection through, if each opens one after another to a server of its own, one every so
/// many seconds, and each looks fully encrypted.
fn unharmed(gfw: &mut Engine, every_s: u64, connections: u16) -> Vec<u64> {
    (1..=connections)
        .map(|k| {
            let at = u64::from(k) * every_s * SECOND;
            let to = |n| server(n, 443);
            let passed = (0..4_000)
                .filter(|n| first(gfw, at, 40_000 + k, to(*n), &looks_encrypted(0)) == Verdict::Pass);
            passed.count() as u64
        })
        .collect()
}

/// What the block of 180 s makes of a chance of 26.3 %: whoever is hit is lost until it ends, and then has that chance again.
fn is_as_published(passed: &[u64], every_s: u64) -> bool {
    const CHANCE: f64 = 0.263;
    let lost = 180_u64.div_ceil(every_s) as usize - 1;
    let mut free: Vec<f64> = Vec::new();
    passed.iter().enumerate().all(|(k, passed)| {
        let before = |back: usize| k.checked_sub(back).map_or(0.0, |at| free[at]);
        let now = match k {
            0 => 1.0,
            _ => before(1) * (1.0 - CHANCE) + before(1 + lost) * CHANCE,
        };
        free.push(now);
        is_binomial(*passed, 4_000, now * (1.0 - CHANCE))
    })
}

/// Wu et al., 2023, §6: 26.3 % a connection, then 180 s for client, server and port. So 4.7 % get ten connections through in a minute and
/// a half; of those who try every 30 s two thirds are lost in the long run; and who waits the block out has the same chance each time.
#[test]
fn gfw_2023_leaves_of_repeated_connections_what_its_chance_and_its_block_leave() {
    for (every_s, connections) in [(10, 10), (30, 12), (200, 5)] {
        let passed = unharmed(&mut engine("gfw-2023"), every_s, connections);
        assert!(is_as_published(&passed, every_s), "every {every_s} s: {passed:?}");
    }
    for (every_s, connections, from, to) in [
        (10, 10, "for = \"180 s\"", "for = \"20 s\""),
        (30, 12, "for = \"180 s\"", "for = \"150 s\""),
        (200, 5, "for = \"180 s\"", "for = \"210 s\""),
        (30, 12, "\"26.3 %\"", "\"28.93 %\""),
        (
            10,
            10,
            "tuple = \"3-tuple\"\nfor = \"180 s\"",
            "tuple = \"4-tuple\"\nfor = \"180 s\"",
        ),
    ] {
        let passed = unharmed(&mut perturbed("gfw-2023", from, to), every_s, connections);
        assert!(
            !is_as_published(&passed, every_s),
            "{to}, every {every_s} s: {passed:?}"
        );
    }
}

/// Wu et al., 2023: 0.6 % of normal connections are taken for fully encrypted, and a connection that is is dropped with a chance of
/// 26.3 %. Only a world that has none that look so by themselves is to have them made up.
#[test]
fn gfw_2023_drops_the_published_share_of_innocent_connections_where_it_is_asked_to() {
    const CONNECTIONS: u32 = 20_000;
    let innocent = hello(FINE);
    let hit = |mut gfw: Engine| -> u64 {
        let dropped = (0..CONNECTIONS)
            .filter(|n| first(&mut gfw, 0, 40_000, server(*n, 443), &innocent) == Verdict::Drop);
        dropped.count() as u64
    };
    let published = |hits| is_binomial(hits, u64::from(CONNECTIONS), 0.006 * 0.263);
    let on = ("enabled = false", "enabled = true");
    let hits = hit(varied("gfw-2023", &[on]));
    assert!(published(hits), "{hits}");
    for other in ["0.6 %", "0.04 %"] {
        let hits = hit(varied(
            "gfw-2023",
            &[on, ("\"0.1578 %\"", &format!("\"{other}\""))],
        ));
        assert!(!published(hits), "{hits} at {other}");
    }
    assert_eq!(hit(engine("gfw-2023")), 0);
    // The transport and who opened it are those of the rule that errs, and so is what follows.
    let mut sure = varied("gfw-2023", &[on, ("\"0.1578 %\"", "\"100 %\"")]);
    assert_eq!(
        datagram(&mut sure, 0, 50_000, server(1, 443), &initial(FINE)),
        Verdict::Pass
    );
    assert_eq!(
        first(&mut sure, 0, 50_000, server(1, 443), &innocent),
        Verdict::Drop
    );
    let again = first(&mut sure, 179 * SECOND, 50_001, server(1, 443), &[]);
    assert_eq!(again, Verdict::Drop);
}

/// By the rule itself random bytes are exempt with a chance of some thousandths: those with a printable start, most of all.
#[test]
fn gfw_2023_lets_through_the_random_bytes_that_the_paper_exempts() {
    let mut sure = perturbed("gfw-2023", "\"26.3 %\"", "\"100 %\"");
    let passed = 4_000 - dropped(&mut sure, |n| random(n, 300));
    // (95/256)^6 = 0.26 % start printable; the other exemptions are rarer by far.
    assert_binomial(passed, 4_000, (95.0_f64 / 256.0).powi(6));
}

/// 180 s for client, server and port; another port, server or client is free.
#[test]
fn gfw_2023_goes_on_blocking_the_three_tuple_for_180_seconds() {
    let text = ("\"26.3 %\"", "\"100 %\"");
    let until = |mut gfw: Engine| {
        assert_eq!(
            first(&mut gfw, 0, 40_000, server(1, 443), &looks_encrypted(0)),
            Verdict::Drop
        );
        let other_port = first(&mut gfw, SECOND, 40_001, server(1, 80), &hello(FINE));
        let other_server = first(&mut gfw, SECOND, 40_002, server(2, 443), &hello(FINE));
        assert_eq!((other_port, other_server), (Verdict::Pass, Verdict::Pass));
        let mut other_client = Talk::tcp(SocketAddr::from(([10, 0, 0, 2], 40_000)), server(1, 443));
        assert_eq!(other_client.open(&mut gfw, SECOND), Verdict::Pass);
        ends(400, |second| {
            let from = 41_000 + second as u16;
            first(&mut gfw, second * SECOND, from, server(1, 443), &hello(FINE)) == Verdict::Pass
        })
    };
    assert_eq!(until(perturbed("gfw-2023", text.0, text.1)), Some(180));
    let longer = varied("gfw-2023", &[text, ("for = \"180 s\"", "for = \"181 s\"")]);
    assert_eq!(until(longer), Some(181));
}

#[test]
fn gfw_2023_resets_by_host_and_sni_and_remembers_for_90_seconds() {
    let request = http_request("GET", "/", BLOCKED);
    let mut gfw = engine("gfw-2023");
    let hits = (0..4_000).filter(|n| first(&mut gfw, 0, 40_000, server(*n, 80), &request) == BOTH);
    assert_binomial(hits.count() as u64, 4_000, 0.75);
    for (port, payload) in [(80, &request), (443, &hello(BLOCKED)), (9_001, &hello(BLOCKED))] {
        let mut gfw = varied(
            "gfw-2023",
            &[("\"75 %\"", "\"100 %\""), ("\"62.5 %\"", "\"100 %\"")],
        );
        assert_eq!(first(&mut gfw, 0, 40_000, server(1, port), payload), BOTH);
        let until = ends(200, |second| {
            let from = 41_000 + second as u16;
            let verdict = first(&mut gfw, second * SECOND, from, server(1, port), &hello(FINE));
            assert!(verdict == Verdict::Pass || verdict == BOTH);
            verdict == Verdict::Pass
        });
        assert_eq!(until, Some(90), "port {port}");
    }
    // A hello over two segments has no name for a censor that joins none.
    let mut gfw = engine("gfw-2023");
    let mut talk = Talk::tcp(client(50_000), server(3, 443));
    talk.open(&mut gfw, 0);
    let bytes = hello(BLOCKED);
    assert_eq!(talk.say(&mut gfw, 0, &bytes[..40]), Verdict::Pass);
    assert_eq!(talk.say(&mut gfw, 0, &bytes[40..]), Verdict::Pass);
    let joins = "name = \"sni\"\ninspects = \"reassembled\"";
    let mut gfw = perturbed("gfw-2023", "name = \"sni\"", joins);
    let mut talk = Talk::tcp(client(50_000), server(3, 443));
    talk.open(&mut gfw, 0);
    assert_eq!(talk.say(&mut gfw, 0, &bytes[..40]), Verdict::Pass);
    assert_eq!(talk.say(&mut gfw, 0, &bytes[40..]), BOTH);
}

/// Rambert et al., WWW 2021: after a request that was reset 50 to 75 % of connections of that client to that server and port are reset for
/// 90 s, whatever they say.
#[test]
fn gfw_2023_resets_half_to_three_quarters_of_what_follows_a_request() {
    let after = |trigger: Vec<u8>, share: &str| -> u64 {
        let share = format!("share = \"{share}\"\naction");
        let pieces = [
            ("\"75 %\"", "\"100 %\""),
            ("share = \"62.5 %\"\naction", share.as_str()),
        ];
        let mut gfw = varied("gfw-2023", &pieces);
        assert_eq!(first(&mut gfw, 0, 39_000, server(1, 80), &trigger), BOTH);
        let hit = (0..4_000).filter(|n| {
            let mut talk = Talk::tcp(client(40_000 + *n as u16), server(1, 80));
            let at = SECOND + n * SECOND / 50;
            let verdict = talk.open(&mut gfw, at);
            // What was decided of a connection holds for all of it.
            assert_eq!(talk.say(&mut gfw, at, &http_request("GET", "/", FINE)), verdict);
            assert_eq!(
                first(&mut gfw, at, 40_000 + *n as u16, server(1, 81), &[]),
                Verdict::Pass
            );
            verdict == BOTH
        });
        hit.count() as u64
    };
    let published = |hits: u64| (2_000..=3_000).contains(&hits);
    for trigger in [http_request("GET", "/", BLOCKED), hello(BLOCKED)] {
        let hits = after(trigger.clone(), "62.5 %");
        assert_binomial(hits, 4_000, 0.625);
        assert!(published(hits));
        for other in ["45 %", "80 %", "100 %"] {
            let hits = after(trigger.clone(), other);
            assert!(!published(hits), "{hits} at {other}");
        }
    }
}

/// Zohaib et al., 2025, §3-5.
#[test]
fn gfw_quic_2024_looks_into_datagrams_from_higher_ports_and_blocks_for_180_seconds() {
    let mut gfw = engine("gfw-quic-2024");
    assert_eq!(
        datagram(&mut gfw, 0, 40_000, server(1, 443), &initial(FINE)),
        Verdict::Pass
    );
    for (from, wanted) in [(442, Verdict::Pass), (443, Verdict::Pass), (444, Verdict::Drop)] {
        let verdict = datagram(&mut gfw, 0, from, server(u32::from(from), 443), &initial(BLOCKED));
        assert_eq!(verdict, wanted, "from port {from}");
    }
    // Everything over UDP to that port, towards the server; what it was caught for is no matter.
    let caught = server(444, 443);
    let mut talk = Talk::udp(client(50_000), caught);
    assert_eq!(talk.say(&mut gfw, SECOND, b"anything"), Verdict::Drop);
    assert_eq!(talk.hear(&mut gfw, SECOND, b"anything"), Verdict::Pass);
    assert_eq!(
        datagram(&mut gfw, SECOND, 50_001, server(444, 8_443), b"x"),
        Verdict::Pass
    );
    assert_eq!(
        first(&mut gfw, SECOND, 50_002, server(444, 443), &hello(BLOCKED)),
        Verdict::Pass
    );
    let until = ends(400, |second| {
        let from = 51_000 + second as u16;
        datagram(&mut gfw, second * SECOND, from, caught, b"anything") == Verdict::Pass
    });
    assert_eq!(until, Some(180));
    // A hello over two datagrams passes.
    let message = Hello::to(BLOCKED).message();
    let mut talk = Talk::udp(client(52_000), server(2, 443));
    for part in [(0, &message[..60]), (60, &message[60..])] {
        let sent = quic_initial(Version::V1, &[7; 8], &[part]);
        assert_eq!(talk.say(&mut gfw, 0, &sent), Verdict::Pass);
    }
    let mut blind = perturbed(
        "gfw-quic-2024",
        "source-port-above = true",
        "source-port-above = false",
    );
    assert_eq!(
        datagram(&mut blind, 0, 444, server(1, 443), &initial(BLOCKED)),
        Verdict::Pass
    );
}
