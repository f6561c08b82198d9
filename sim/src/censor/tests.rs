//! Claims about rules at a border.

use bytes::Bytes;
use phantom_censor::classify::Transport;
use phantom_censor::engine::addresses::Addresses;
use phantom_censor::engine::rule::Condition;

use super::*;
use crate::swarm::border::Direction;

const SECOND: u64 = 1_000_000_000;

fn packet(at_s: u64, outside: &str, kind: Kind, flow: u64) -> Packet {
    Packet {
        at: Instant::from_nanos(at_s * SECOND),
        src: std::net::SocketAddr::from(([10, 0, 0, 1], 40_000 + flow as u16)),
        dst: outside.parse().expect("an endpoint"),
        protocol: Protocol::Tcp,
        direction: Direction::Outbound,
        kind,
        payload: Bytes::new(),
        name: None,
        flow,
        tcp: Default::default(),
    }
}

fn ask(censor: &mut Censor, packet: &Packet) -> Verdict {
    censor.on_packet(packet.at, packet)
}

fn drops(name: &str, list: &[&str]) -> Rule {
    let list: Addresses = list
        .iter()
        .map(|text| text.parse::<IpAddr>().expect("an address"))
        .collect();
    Rule {
        all: vec![Condition::Server(list)],
        ..Rule::new(name)
    }
}

#[test]
fn a_rule_holds_in_its_time_and_counts_what_it_does() {
    let mut censor = Censor::default();
    censor.add(Rule {
        phases: vec![(10 * SECOND, 20 * SECOND)],
        ..drops("published", &["192.0.2.1"])
    });
    for (second, wanted) in [
        (9, Verdict::Pass),
        (10, Verdict::Drop),
        (19, Verdict::Drop),
        (20, Verdict::Pass),
    ] {
        let syn = packet(second, "192.0.2.1:443", Kind::Syn, 1);
        assert_eq!(ask(&mut censor, &syn), wanted, "{second}");
    }
    let elsewhere = packet(12, "192.0.2.2:443", Kind::Syn, 2);
    assert_eq!(ask(&mut censor, &elsewhere), Verdict::Pass);
    assert_eq!(censor.acted("published").dropped, 2);
    assert_eq!(censor.counts().connects_dropped, 2);
}

#[test]
fn a_list_learns_with_a_delay_and_hits_a_stream_that_is_under_way() {
    let mut burnt = Addresses::new();
    burnt.follow("burnt");
    let mut censor = Censor::default();
    censor.add(Rule {
        all: vec![Condition::Server(burnt)],
        ..Rule::new("insiders")
    });
    let address = [192, 0, 2, 7].into();
    censor.learn("burnt", address, Instant::from_nanos(300 * SECOND));
    censor.learn("others", [192, 0, 2, 8].into(), Instant::ZERO);
    for (second, wanted) in [(250, Verdict::Pass), (299, Verdict::Pass), (300, Verdict::Drop)] {
        let data = packet(second, "192.0.2.7:443", Kind::Data, 1);
        assert_eq!(ask(&mut censor, &data), wanted, "{second}");
    }
    let other = packet(301, "192.0.2.8:443", Kind::Data, 2);
    assert_eq!(
        ask(&mut censor, &other),
        Verdict::Pass,
        "no rule follows that list"
    );
}

#[test]
fn a_rule_that_ends_lets_its_flows_go_and_one_that_replaces_it_judges_them_anew() {
    let mut censor = Censor::default();
    let syn = |second| packet(second, "192.0.2.1:443", Kind::Syn, 1);
    censor.add(drops("a", &["192.0.2.1"]));
    assert_eq!(ask(&mut censor, &syn(1)), Verdict::Drop);
    censor.remove("a");
    assert_eq!(ask(&mut censor, &syn(2)), Verdict::Pass);
    censor.add(Rule {
        all: vec![Condition::Transport(Transport::Udp)],
        ..Rule::new("a")
    });
    assert_eq!(ask(&mut censor, &syn(3)), Verdict::Pass, "the flow is TCP");
    censor.add(drops("a", &["192.0.2.1"]));
    assert_eq!(ask(&mut censor, &syn(4)), Verdict::Drop);
    assert_eq!(censor.acted("a").dropped, 2, "counts outlive what they count");
}
