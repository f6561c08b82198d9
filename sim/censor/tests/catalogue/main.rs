//! Each censor of the catalogue does what is published of it, played packet by packet.
//!
//! A share is looked at over thousands of flows and must be within the central 99.9 % of its binomial; and a censor with
//! another parameter must fail the same look.

mod arbitrary;
mod china;
mod iran;
mod play;
mod prober;
mod russia;

use phantom_censor::catalogue::{self, CatalogueError};
use phantom_censor::classify::Transport;
use phantom_censor::craft::{dns_query, http_request};
use phantom_censor::engine::Verdict;
use play::*;

#[test]
fn every_censor_has_a_name_a_summary_and_a_source_for_each_rule() {
    let all = catalogue::catalogue().unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> = catalogue::names().collect();
    assert!(names.is_sorted() && names.len() == 10);
    for (censor, name) in all.iter().zip(names) {
        assert_eq!(censor.name(), name);
        assert!(
            (30..=130).contains(&censor.summary().len()),
            "{name}: {}",
            censor.summary().len()
        );
        assert!(censor.texts().all(|rule| rule.source.len() > 15));
        let enabled = censor.texts().filter(|rule| rule.enabled);
        assert_eq!(censor.rules().len(), enabled.count());
    }
    let error = catalogue::censor("gwf-2023").expect_err("a slip of the pen");
    assert!(matches!(error, CatalogueError::Unknown(_)));
    assert_eq!(
        error.to_string(),
        "unknown censor 'gwf-2023'; did you mean 'gfw-2023'?; choices: conn-count-2025, gfw-2023, gfw-probe-2020, gfw-quic-2024, \
         iran-blackout-2025, iran-whitelist-2020, shutdown, tspu-freeze-2025, tspu-throttle-2021, turkmenistan"
    );
}

#[test]
fn questions_for_listed_names_get_forged_answers_and_others_none() {
    for (name, of, forged) in [
        ("gfw-2023", Transport::Udp, "203.0.113.11"),
        ("turkmenistan", Transport::Udp, "127.0.0.1"),
        ("iran-blackout-2025", Transport::Udp, "10.10.34.36"),
    ] {
        let mut engine = engine(name);
        let mut ask = |from: u16, name: &str| {
            let mut talk = Talk {
                transport: of,
                ..Talk::udp(client(from), server(1, 53))
            };
            let question = dns_query(7, name, 1);
            let verdict = talk.say(&mut engine, 0, &question);
            // The true answer comes too, later.
            assert_eq!(talk.hear(&mut engine, 1, &question), Verdict::Pass);
            verdict
        };
        let Verdict::Forge { addresses, .. } = ask(40_000, BLOCKED) else {
            panic!("{name} forges no answer");
        };
        assert_eq!(addresses[0].to_string(), forged, "{name}");
        assert_eq!(ask(40_001, FINE), Verdict::Pass, "{name}");
    }
}

/// Nourin et al., WWW 2023: patterns block much more than what was meant.
#[test]
fn turkmenistan_blocks_dns_http_and_https_and_names_that_only_look_alike() {
    let mut turkmenistan = engine("turkmenistan");
    for (n, name) in [
        BLOCKED,
        "twitter.com",
        "notblocked.example",
        "dawn.com",
        "crown.com",
    ]
    .into_iter()
    .enumerate()
    {
        let from = 40_000 + n as u16;
        assert_eq!(
            first(&mut turkmenistan, 0, from, server(1, 443), &hello(name)),
            BOTH,
            "{name}"
        );
        let request = http_request("GET", "/", name);
        assert_eq!(
            first(&mut turkmenistan, 0, from, server(1, 80), &request),
            BOTH,
            "{name}"
        );
        let question = datagram(&mut turkmenistan, 0, from, server(1, 53), &dns_query(7, name, 1));
        assert!(matches!(question, Verdict::Forge { .. }), "{name}");
    }
    for (port, payload) in [
        (443, hello(FINE)),
        (80, http_request("GET", "/", FINE)),
        (443, looks_encrypted(0)),
    ] {
        assert_eq!(
            first(&mut turkmenistan, 0, 41_000 + port, server(2, port), &payload),
            Verdict::Pass
        );
    }
}

#[test]
fn shutdown_drops_everything() {
    let mut shutdown = engine("shutdown");
    for n in 0..50 {
        assert_eq!(
            Talk::tcp(client(40_000), server(n, 443)).open(&mut shutdown, 0),
            Verdict::Drop
        );
        assert_eq!(
            datagram(&mut shutdown, 0, 40_000, server(n, 53), &dns_query(7, FINE, 1)),
            Verdict::Drop
        );
        let inward = Talk::udp(client(40_001), server(n, 53)).hear(&mut shutdown, 0, b"x");
        assert_eq!(inward, Verdict::Drop);
    }
    assert_eq!(shutdown.counts()[0].dropped, 150);
}
