//! The ladder, whose inputs (entries, outcomes, times) are what the network makes of them.

use std::time::Duration;

use phantom_core::ladder::{AttemptId, Config, Entry, Kind, Ladder, ORDER, Outcome, Output};
use phantom_core::units::Instant;

use crate::world;

const OUTCOMES: [Outcome; 8] = [
    Outcome::Connected,
    Outcome::TimedOut,
    Outcome::Refused,
    Outcome::Reset,
    Outcome::WrongKey,
    Outcome::NoSuchName,
    Outcome::NothingKnown,
    Outcome::Failed,
];

/// Something to dial.
#[derive(Clone, PartialEq)]
struct Place(u8);

impl Entry for Place {
    fn transport(&self) -> Kind {
        Kind::ALL[usize::from(self.0) % Kind::ALL.len()]
    }
}

/// Steps of two bytes: what happens, and with what.
pub fn ladder(data: &[u8]) -> bool {
    let config = Config::default();
    let mut ladder = Ladder::new(config.clone(), &ORDER, world::rng(1));
    let mut now = Instant::ZERO;
    let mut running: Vec<AttemptId> = Vec::new();
    let mut dialled = false;
    for step in data.chunks_exact(2) {
        let with = usize::from(step[1]);
        match step[0] % 5 {
            0 => ladder.start(now),
            1 => ladder.found(now, ORDER[with % 5], (0..=step[1] / 5).map(Place).collect()),
            2 if !running.is_empty() => {
                let attempt = running.remove(with / 8 % running.len());
                ladder.ended(now, attempt, OUTCOMES[with % 8]);
            }
            3 => now = now + Duration::from_millis(with as u64 * 50),
            _ => now = now + Duration::from_secs(with as u64 * with as u64),
        }
        // It comes to rest: one cancel per attempt, one start, one wait.
        for turn in 0.. {
            assert!(turn < 64, "the ladder does not come to rest");
            match ladder.poll_output(now) {
                Output::Ask(_) => {}
                Output::Dial { attempt, .. } => {
                    running.push(attempt);
                    dialled = true;
                }
                Output::Cancel(attempt) => running.retain(|other| *other != attempt),
                Output::WaitUntil(at) => {
                    assert!(at > now, "it waits for the past");
                    break;
                }
                Output::Done => break,
            }
            assert!(running.len() <= config.parallel_max);
        }
        let _ = ladder.report().to_string();
    }
    dialled
}
