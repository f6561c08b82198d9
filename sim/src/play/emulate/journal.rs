//! What the processes report, read from the files of their events.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::PathBuf;

use phantom_core::runtime::tokio::journal::Line;
use phantom_core::units::{Instant, WallTime};

use crate::host::PeerId;
use crate::run::RunError;
use crate::stage::Record;

/// The file of one host.
pub(super) struct Journal {
    peer: PeerId,
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Journal {
    pub(super) fn new(peer: PeerId, path: PathBuf) -> Self {
        Self {
            peer,
            path,
            file: None,
            rest: Vec::new(),
        }
    }

    /// What was written since the last call, on the clock of the world that begins at `zero`.
    pub(super) fn read(&mut self, zero: WallTime, records: &mut Vec<Record>) -> Result<(), RunError> {
        let failed = |what: &dyn std::fmt::Display| {
            RunError::Failed(format!("the events in {}: {what}", self.path.display()))
        };
        let file = match &mut self.file {
            Some(file) => file,
            none => match File::open(&self.path) {
                Ok(file) => none.insert(file),
                // It has not started yet.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed(&error)),
            },
        };
        file.read_to_end(&mut self.rest).map_err(|error| failed(&error))?;
        let whole = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for text in self.rest[..whole]
            .split(|byte| *byte == b'\n')
            .filter(|text| !text.is_empty())
        {
            let line: Line = serde_json::from_slice(text).map_err(|error| failed(&error))?;
            if line.lost_before > 0 {
                // Judged by what is left, a promise might seem kept or broken that is not.
                return Err(failed(&format!(
                    "{} were lost: the machine is too slow for this scenario",
                    line.lost_before
                )));
            }
            let since = WallTime::from_unix_nanos(line.at_unix_ns).saturating_since(zero);
            records.push(Record {
                at: Instant::ZERO + since,
                peer: self.peer,
                event: line.event,
            });
        }
        self.rest.drain(..whole);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use phantom_core::event::Event;

    use super::*;

    #[test]
    fn lines_are_taken_whole_and_lost_events_end_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let mut journal = Journal::new(PeerId(3), path.clone());
        let zero = WallTime::from_unix_secs(10);
        let mut read = || {
            let mut records = Vec::new();
            journal.read(zero, &mut records).map(|()| records)
        };
        assert!(read().unwrap().is_empty(), "not there yet");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"{\"at_unix_ns\":12000000000,\"event\":\"Started\"}\n{\"at_unix_ns\":130")
            .unwrap();
        let [first] = &read().unwrap()[..] else {
            panic!("one")
        };
        assert_eq!(
            (first.at, &first.event),
            (Instant::from_nanos(2_000_000_000), &Event::Started)
        );
        file.write_all(b"00000000,\"event\":\"RoundTrip\"}\n").unwrap();
        assert_eq!(read().unwrap()[0].at, Instant::from_nanos(3_000_000_000));
        file.write_all(b"{\"at_unix_ns\":1,\"lost_before\":2,\"event\":\"RoundTrip\"}\n")
            .unwrap();
        assert!(read().unwrap_err().to_string().contains("2 were lost"));
    }
}
