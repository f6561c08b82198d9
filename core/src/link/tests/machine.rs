//! The machine's transitions, all of them, and its deadlines.

use std::time::Duration;

use crate::link::config::Config;
use crate::link::error::LinkError;
use crate::link::frame::{Header, Plain};
use crate::link::session::{Input, Phase, Role, Session};
use crate::units::Instant;

fn at(secs: u64) -> Instant {
    Instant::from_nanos(secs * 1_000_000_000)
}

fn session(role: Role) -> Session {
    Session::new(role, &Config::default(), at(0), 256 * 1024).unwrap()
}

/// A frame whose only content is the record of a control message, or nothing.
fn frame(control: Option<u8>) -> Plain {
    let mut plain = Plain::new();
    let len = control.map_or(0, |kind| {
        plain.data_mut()[..4].copy_from_slice(&[0, 0, 1, kind]);
        64
    });
    plain.set_header(Header::default(), len);
    plain
}

const FROM: [&str; 4] = ["up", "closing", "parked", "closed"];

fn make(role: Role, from: &str) -> Session {
    let mut session = session(role);
    match from {
        "closing" => _ = session.close(),
        "parked" => drop(session.handle(at(0), Input::Lost(LinkError::BadFrame))),
        "closed" => {
            session.handle(at(0), Input::Lost(LinkError::BadFrame)).unwrap();
            session.close();
        }
        _ => {}
    }
    assert_eq!(name(&session), from);
    session
}

fn name(session: &Session) -> &'static str {
    match session.phase() {
        Phase::Up => "up",
        Phase::Closing(_) => "closing",
        Phase::Parked(_) => "parked",
        Phase::Closed => "closed",
    }
}

type Act = fn(&mut Session);

#[test]
fn every_phase_and_input_lead_where_the_table_says() {
    let acts: [(&str, Act); 8] = [
        ("frame", |s| drop(s.handle(at(1), Input::Frame(&frame(None))))),
        ("goodbye", |s| {
            drop(s.handle(at(1), Input::Frame(&frame(Some(2)))))
        }),
        ("broken rule", |s| {
            drop(s.handle(at(1), Input::Frame(&frame(Some(9)))))
        }),
        ("lost", |s| {
            drop(s.handle(at(1), Input::Lost(LinkError::BadFrame)))
        }),
        ("close", |s| _ = s.close()),
        ("flushed", |s| {
            s.count_from(at(1));
            while s.poll_frame(at(1)).is_some() {}
            s.flushed();
        }),
        ("attach", |s| drop(s.attach(at(1), 0, 256 * 1024))),
        ("11 min", |s| {
            s.count_from(at(1));
            while s.poll_frame(at(1)).is_some() {}
            if s.handle(at(660), Input::Timeout).is_err() {
                drop(s.handle(at(660), Input::Lost(LinkError::BadFrame)));
            }
        }),
    ];
    let mut table = String::new();
    for from in FROM {
        for (act_name, act) in acts {
            let [dialler, acceptor] = [Role::Dialler, Role::Acceptor].map(|role| {
                let mut session = make(role, from);
                act(&mut session);
                name(&session)
            });
            let to = if dialler == acceptor {
                dialler.into()
            } else {
                format!("{dialler} (acceptor {acceptor})")
            };
            table.push_str(&format!("{from} + {act_name} -> {to}\n"));
        }
    }
    let wanted = "\
up + frame -> up
up + goodbye -> closed
up + broken rule -> closed
up + lost -> parked
up + close -> closing
up + flushed -> up
up + attach -> up
up + 11 min -> parked (acceptor up)
closing + frame -> closing
closing + goodbye -> closed
closing + broken rule -> closed
closing + lost -> closed
closing + close -> closing
closing + flushed -> closed
closing + attach -> closing
closing + 11 min -> closed
parked + frame -> parked
parked + goodbye -> parked
parked + broken rule -> parked
parked + lost -> parked
parked + close -> closed
parked + flushed -> parked
parked + attach -> up
parked + 11 min -> closed
closed + frame -> closed
closed + goodbye -> closed
closed + broken rule -> closed
closed + lost -> closed
closed + close -> closed
closed + flushed -> closed
closed + attach -> closed
closed + 11 min -> closed
";
    assert_eq!(table, wanted, "got:\n{table}");
}

#[test]
fn a_dialler_pings_first_and_counts_the_link_dead_without_a_pong() {
    let mut session = session(Role::Dialler);
    assert!(session.poll_frame(at(0)).is_some(), "the confirming frame");
    assert!(session.poll_frame(at(0)).is_none());
    assert_eq!(session.deadline(), Some(at(15)));
    assert!(session.handle(at(14), Input::Timeout).is_ok());
    let dead = session.handle(at(15), Input::Timeout);
    assert_eq!(
        dead,
        Err(LinkError::TimedOut {
            doing: "waiting for a pong",
            limit: Duration::from_secs(15)
        })
    );
}

#[test]
fn whatever_is_heard_puts_the_death_of_a_link_off() {
    let mut session = session(Role::Dialler);
    session.poll_frame(at(0)).unwrap();
    session.handle(at(10), Input::Frame(&frame(None))).unwrap();
    assert_eq!(
        session.deadline(),
        Some(at(25)),
        "a slow link that still brings frames is alive"
    );
}

#[test]
fn an_idle_acceptor_waits_for_nothing_but_its_keep_alive() {
    let mut session = session(Role::Acceptor);
    assert!(session.poll_frame(at(0)).is_none());
    assert_eq!(session.deadline(), Some(at(60)));
    session.handle(at(60), Input::Timeout).unwrap();
    assert!(session.poll_frame(at(60)).is_some(), "a ping");
}

#[test]
fn progress_counts_messages_and_neither_pings_nor_padding() {
    let mut session = session(Role::Dialler);
    while session.poll_frame(at(0)).is_some() {}
    let before = session.progress();
    assert_eq!((before.queued, before.acknowledged, before.received), (0, 0, 0));
    let message = bytes::Bytes::from(vec![7; 500]);
    session.send(crate::link::Channel::PACKET, message).unwrap();
    assert_eq!(session.progress().queued, 503, "with its header");
    while session.poll_frame(at(10)).is_some() {}
    let ack = |consumed| {
        let mut plain = Plain::new();
        plain.set_header(
            Header {
                consumed,
                ..Header::default()
            },
            0,
        );
        plain
    };
    session.handle(at(12), Input::Frame(&ack(200))).unwrap();
    let after = session.progress();
    assert_eq!((after.queued, after.acknowledged), (303, 200));
    // A ping's answer counts nowhere, and says how far it is.
    let mut pong = Plain::new();
    let header = Header {
        consumed: 503,
        pong: 1,
        ..Header::default()
    };
    pong.set_header(header, 0);
    session.handle(at(13), Input::Frame(&pong)).unwrap();
    let after = session.progress();
    assert_eq!((after.queued, after.acknowledged, after.received), (0, 503, 0));
    assert_eq!(after.round_trip, Duration::from_secs(13));
}
