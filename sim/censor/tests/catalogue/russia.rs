//! Russia: throttled, frozen and counted connections.

use std::net::SocketAddr;

use phantom_censor::classify::Transport;
use phantom_censor::engine::{Engine, Verdict};
use phantom_censor::packet::TcpFlags;

use crate::play::*;

/// Bits a second of payload that pass each way when ten times as much is sent for a minute.
fn goodput(engine: &mut Engine, from: u16, name: &str) -> [u64; 2] {
    let mut talk = Talk::tcp(client(from), server(1, 443));
    assert_eq!(talk.open(engine, 0), Verdict::Pass);
    assert_eq!(talk.say(engine, 0, &hello(name)), Verdict::Pass);
    let full = [0; 1_448];
    let mut passed = [0_u64; 2];
    for n in 0..6_000_u64 {
        let at_ns = n * SECOND / 100;
        passed[0] += u64::from(talk.say(engine, at_ns, &full) == Verdict::Pass);
        passed[1] += u64::from(talk.hear(engine, at_ns, &full) == Verdict::Pass);
    }
    passed.map(|packets| packets * 1_448 * 8 / 60)
}

/// Xue et al., IMC 2021: 130 to 150 kbit/s, both ways, by substring.
#[test]
fn tspu_throttle_2021_polices_whatever_contains_t_co_both_ways() {
    let mut tspu = engine("tspu-throttle-2021");
    // The published mistake: names that only contain the four letters.
    for (n, name) in ["t.co", "abs.twimg.com", "microsoft.com", "reddit.com"]
        .into_iter()
        .enumerate()
    {
        for rate in goodput(&mut tspu, 40_000 + n as u16, name) {
            assert!((130_000..=150_000).contains(&rate), "{name}: {rate} bit/s");
        }
    }
    for rate in goodput(&mut tspu, 41_000, FINE) {
        assert!(rate > 1_150_000, "{rate} bit/s");
    }
    for other in ["128 kbit/s", "156 kbit/s"] {
        let mut tspu = perturbed(
            "tspu-throttle-2021",
            "140 kbit/s\", burst",
            &format!("{other}\", burst"),
        );
        let [up, _] = goodput(&mut tspu, 40_000, "t.co");
        assert!(!(130_000..=150_000).contains(&up), "{up} bit/s at {other}");
    }
}

/// net4people/bbs#490: silence from the 26th packet on.
#[test]
fn tspu_freeze_2025_falls_silent_after_25_packets_unless_it_is_exempt() {
    let silent_from = |engine: &mut Engine, transport: Transport, to: SocketAddr, payload: &[u8]| {
        let mut talk = Talk {
            transport,
            ..Talk::tcp(client(40_000), to)
        };
        let mut packets = 1;
        if transport == Transport::Tcp {
            assert_eq!(talk.open(engine, 0), Verdict::Pass);
            packets += 2;
        }
        assert_eq!(talk.say(engine, 0, payload), Verdict::Pass);
        let from = (packets + 1..500).find(|_| talk.hear(engine, 0, &[0; 1_448]) == Verdict::Drop);
        if from.is_some() {
            // No way is left, and no reset comes.
            assert_eq!(talk.say(engine, SECOND, b"?"), Verdict::Drop);
            assert_eq!(talk.hear(engine, SECOND, b"!"), Verdict::Drop);
        }
        from
    };
    let mut tspu = engine("tspu-freeze-2025");
    let mut of = |transport, n, payload: &[u8]| silent_from(&mut tspu, transport, server(n, 443), payload);
    assert_eq!(of(Transport::Tcp, 1, &hello(FINE)), Some(26));
    assert_eq!(of(Transport::Tcp, 2, &looks_encrypted(0)), Some(26));
    assert_eq!(of(Transport::Udp, 3, &initial(FINE)), Some(26));
    assert_eq!(of(Transport::Tcp, 4, &hello("www.allowed.example")), None);
    assert_eq!(of(Transport::Tcp, 5, b"SSH-2.0-OpenSSH_9.2p1\r\n"), None);
    let listed = SocketAddr::from(([203, 0, 113, 5], 443));
    assert_eq!(silent_from(&mut tspu, Transport::Tcp, listed, &hello(FINE)), None);
    let mut later = perturbed("tspu-freeze-2025", "over = 25", "over = 26");
    assert_eq!(
        silent_from(&mut later, Transport::Tcp, server(1, 443), &hello(FINE)),
        Some(27)
    );
}

/// net4people/bbs#490: a connection freezes once 15 to 20 KB came from its server, which is 25 packets of both directions on average.
/// A Linux client acknowledges each segment at first and each second one later.
#[test]
fn tspu_freeze_2025_lets_15_to_20_kilobytes_of_a_download_through() {
    let downloaded = |engine: &mut Engine, segments_an_ack: u64| -> u64 {
        let full = [0; 1_448];
        let mut talk = Talk::tcp(client(40_000), server(1, 443));
        assert_eq!(talk.open(engine, 0), Verdict::Pass);
        assert_eq!(talk.say(engine, 0, &[]), Verdict::Pass);
        assert_eq!(talk.say(engine, 0, &hello(FINE)), Verdict::Pass);
        let came = (1..200).take_while(|n| {
            let came = talk.hear(engine, 0, &full) == Verdict::Pass;
            if n % segments_an_ack == 0 {
                talk.say(engine, 0, &[]);
            }
            came
        });
        came.count() as u64 * full.len() as u64
    };
    let published = |engine: &mut dyn FnMut() -> Engine| {
        [1, 2].map(|each| (15_000..=20 * 1_024).contains(&downloaded(&mut engine(), each)))
    };
    assert_eq!(published(&mut || engine("tspu-freeze-2025")), [true, true]);
    for (from, to) in [
        ("way = \"both\"", "way = \"from-server\""),
        ("over = 25", "over = 34"),
        ("over = 25", "over = 18"),
    ] {
        assert_eq!(
            published(&mut || perturbed("tspu-freeze-2025", from, to)),
            [false, false],
            "{to}"
        );
    }
}

/// net4people/bbs#546: twelve pass, the thirteenth ends all of them for a minute.
#[test]
fn conn_count_2025_bears_twelve_connections_and_kills_thirteen() {
    let start = |engine: &mut Engine, n: u16, payload: &[u8]| {
        let mut all: Vec<Talk> = (0..n)
            .map(|k| Talk::tcp(client(40_000 + k), server(1, 443)))
            .collect();
        let verdicts: Vec<Verdict> = all
            .iter_mut()
            .map(|talk| {
                assert_eq!(talk.open(engine, 0), Verdict::Pass);
                talk.say(engine, 0, payload)
            })
            .collect();
        (all, verdicts)
    };
    let mut counting = engine("conn-count-2025");
    let (mut all, verdicts) = start(&mut counting, 12, &hello(FINE));
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Pass));
    assert!(
        all.iter_mut()
            .all(|talk| talk.hear(&mut counting, SECOND, b"x") == Verdict::Pass)
    );

    let mut counting = engine("conn-count-2025");
    let (mut all, verdicts) = start(&mut counting, 13, &hello(FINE));
    assert_eq!(
        verdicts.iter().position(|verdict| *verdict == Verdict::Drop),
        Some(12)
    );
    for talk in &mut all {
        assert_eq!(talk.hear(&mut counting, SECOND, b"x"), Verdict::Drop);
        assert_eq!(talk.say(&mut counting, 50 * SECOND, b"x"), Verdict::Drop);
    }
    assert_eq!(
        first(&mut counting, SECOND, 50_000, server(2, 443), &hello(FINE)),
        Verdict::Pass
    );
    // The client gives them up; a minute after the last of them was caught it may come again.
    let rst = TcpFlags {
        rst: true,
        ..TcpFlags::default()
    };
    for talk in &mut all {
        talk.segment(&mut counting, 51 * SECOND, true, rst, &[]);
    }
    for (second, wanted) in [(60, Verdict::Drop), (61, Verdict::Pass)] {
        let verdict = first(
            &mut counting,
            second * SECOND,
            50_000 + second as u16,
            server(1, 443),
            &hello(FINE),
        );
        assert_eq!(verdict, wanted, "after {second} s");
    }
    // Those of one client are counted: as many of another bring nothing down.
    let mut counting = engine("conn-count-2025");
    let (_, verdicts) = start(&mut counting, 12, &hello(FINE));
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Pass));
    for n in 0..12 {
        let mut other = Talk::tcp(SocketAddr::from(([10, 0, 0, 2], 40_000 + n)), server(1, 443));
        assert_eq!(other.open(&mut counting, 0), Verdict::Pass);
        assert_eq!(other.say(&mut counting, 0, &hello(FINE)), Verdict::Pass);
    }
    // What is not TLS brings nothing down.
    let mut counting = engine("conn-count-2025");
    let (_, verdicts) = start(&mut counting, 13, b"SSH-2.0-x\r\n");
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Pass));
    let mut counting = perturbed("conn-count-2025", "over = 12", "over = 11");
    let (_, verdicts) = start(&mut counting, 12, &hello(FINE));
    assert_eq!(verdicts[11], Verdict::Drop);
}
