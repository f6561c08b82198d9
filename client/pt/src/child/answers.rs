//! The one way to the parent.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::message::{Message, Severity};

/// Writes whole lines, and each at once: the parent waits for them. Clones write to the same place.
///
/// Writing blocks while the parent does not read and the pipe is full. A parent must read; what would be said often should
/// not be said here.
#[derive(Clone)]
pub struct Answers(Arc<Mutex<dyn Write + Send>>);

impl Answers {
    /// To standard output, where nothing else may be written.
    pub fn stdout() -> Self {
        Self::to(io::stdout())
    }

    /// To wherever.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(out)))
    }

    /// Says it.
    ///
    /// # Errors
    /// The parent is gone; or the arguments of an SMETHOD have a blank, and nothing was written.
    pub fn say(&self, message: &Message) -> io::Result<()> {
        if let Message::Smethod { args, .. } = message {
            args.to_smethod()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        }
        let line = format!("{message}\n");
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(line.as_bytes())?;
        out.flush()
    }

    /// Says something for people to read. Never to hold an address or an argument of a client or bridge.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn log(&self, severity: Severity, text: impl Into<String>) -> io::Result<()> {
        let text = text.into();
        self.say(&Message::Log { severity, text })
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::args::Args;

    /// Keeps what was flushed.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Flushed {
        waiting: Vec<u8>,
        flushed: Arc<Mutex<Vec<u8>>>,
    }

    impl Flushed {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.flushed.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Flushed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.waiting.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.flushed.lock().unwrap().append(&mut self.waiting);
            Ok(())
        }
    }

    #[test]
    fn every_line_is_flushed_and_one_that_cannot_be_is_not_begun() {
        let out = Flushed::default();
        let answers = Answers::to(out.clone());
        answers.say(&Message::CmethodsDone).unwrap();
        answers.log(Severity::Notice, "two\nlines").unwrap();
        let said = "CMETHODS DONE\nLOG SEVERITY=notice MESSAGE=\"two\\012lines\"\n";
        assert_eq!(out.text(), said);
        let smethod = Message::Smethod {
            transport: "a".parse().unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
            args: Args::new().with("k", "a blank").unwrap(),
        };
        assert_eq!(
            answers.say(&smethod).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(out.text(), said);
    }
}
