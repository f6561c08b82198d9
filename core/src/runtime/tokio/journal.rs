//! A peer's events as JSON lines in a file: for programs that watch a peer from outside.
//!
//! A line is `{"at_unix_ns":1793620200000000000,"event":{"Connected":{…}}}`, with `"lost_before":3` where the writer was too slow
//! for so many events before it. What an event holds is said at [`Event`]: no secret, and what must stay hidden as a one-way hash. Together
//! with the times it is still a record of what the peer did, so the file is its owner's alone and is written only when asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Record, TokioRuntime};
use crate::event::Event;
use crate::runtime::Clock as _;
use crate::units::{Instant, WallTime};

/// Events that wait to be written; more are lost, and the file says how many.
pub const WAITING_MAX: usize = 65_536;
/// Events written at once.
const AT_ONCE: usize = 1_024;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When, by the system's clock, in nanoseconds since 1970-01-01 UTC.
    pub at_unix_ns: u64,
    /// How many events are missing before this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_before: u64,
    /// What.
    pub event: Event,
}

/// The file, open.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// Opens or makes the file (0600) to write at its end.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self(file))
    }

    /// Writes one event, for whoever looks at each itself.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&mut self, rt: &TokioRuntime, record: Record) -> io::Result<()> {
        let mut text = Vec::with_capacity(256);
        put(&mut text, (rt.now(), rt.wall()), record)?;
        self.0.write_all(&text)
    }

    /// Writes all that comes, until nobody sends any more. An error of the file system is told once and ends it.
    pub async fn keep(mut self, rt: TokioRuntime, mut events: mpsc::Receiver<Record>) {
        let mut records = Vec::with_capacity(AT_ONCE);
        let mut text = Vec::new();
        while events.recv_many(&mut records, AT_ONCE).await > 0 {
            text.clear();
            let now = (rt.now(), rt.wall());
            let written = records
                .drain(..)
                .try_for_each(|record| put(&mut text, now, record))
                .and_then(|()| self.0.write_all(&text));
            if let Err(error) = written {
                tracing::error!(%error, "events are no longer written to their file");
                return;
            }
        }
    }
}

/// The peer's clock never steps, and the file's times are those of the system: the difference is taken anew for all that is written at
/// once. `now` on both clocks.
fn put(text: &mut Vec<u8>, (now, wall): (Instant, WallTime), record: Record) -> io::Result<()> {
    let at = wall - now.saturating_since(record.at);
    let line = Line {
        at_unix_ns: at.as_unix_nanos(),
        lost_before: record.dropped_before,
        event: record.event,
    };
    serde_json::to_writer(&mut *text, &line)?;
    text.push(b'\n');
    Ok(())
}

const fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Config;
    use super::*;
    use crate::event::{Refusal, Step};
    use crate::runtime::{Events as _, timeout};
    use crate::transport::Kind;

    #[tokio::test]
    async fn what_a_peer_reports_is_read_again_from_its_file_and_so_is_what_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let (tell, events) = mpsc::channel(2);
        let rt = TokioRuntime::start(Config {
            events: Some(tell),
            ..Config::new("test", dir.path().join("store"))
        })
        .unwrap();
        let connected = Event::Connected {
            step: Step::Dht,
            entry: "192.0.2.7:443".parse().unwrap(),
            resumed: false,
            transport: Kind::Plain,
        };
        let refused = Event::Refused {
            what: "link frame",
            why: Refusal::Malformed,
        };
        // Both clocks are not read at one instant, and a busy machine may rest between.
        const BETWEEN_NS: u64 = 100_000_000;
        let before = rt.wall().as_unix_nanos() - BETWEEN_NS;
        // The third is one too many for the channel.
        for event in [&connected, &refused, &connected] {
            rt.emit(event.clone());
        }
        let keeping = Journal::open(&path).unwrap().keep(rt.clone(), events);
        let later = async {
            rt.sleep(Duration::from_millis(20)).await;
            rt.emit(Event::Stopped);
            std::future::pending::<()>().await;
        };
        let both = async {
            tokio::select! { biased; () = later => {}, () = keeping => {} }
        };
        assert!(timeout(&rt, Duration::from_millis(200), both).await.is_err());
        let after = rt.wall().as_unix_nanos() + BETWEEN_NS;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Line> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let told: Vec<_> = lines.iter().map(|line| (line.lost_before, &line.event)).collect();
        assert_eq!(
            told,
            [(0, &connected), (0, &refused), (1, &Event::Stopped)],
            "{text}"
        );
        assert!(
            lines
                .iter()
                .all(|line| (before..after).contains(&line.at_unix_ns)),
            "{text}"
        );
        assert!(lines[0].at_unix_ns <= lines[1].at_unix_ns, "{text}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
