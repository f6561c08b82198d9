//! Bytes of a program cut into lines, with a bound.

/// The longest line that is taken. The longest of a real program, an SMETHOD with its arguments, has a few hundred bytes.
pub const LINE_MAX: usize = 8 * 1024;

/// A line with its number, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub number: u64,
    /// Without its end; `None` if it was longer than [`LINE_MAX`]. What is not UTF-8 is replaced.
    pub text: Option<String>,
}

/// Cuts. Holds at most one line.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    too_long: bool,
    number: u64,
}

impl Lines {
    /// The lines that end in these bytes, as many as they have line ends.
    pub fn handle(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.too_long |= self.begun.len() + text.len() > LINE_MAX;
            if self.too_long {
                self.begun.clear();
            } else {
                self.begun.extend_from_slice(text);
            }
            if ends {
                lines.push(self.end());
            }
        }
        lines
    }

    /// What the program left without an end, if it said anything.
    pub fn finish(&mut self) -> Option<Line> {
        (self.too_long || !self.begun.is_empty()).then(|| self.end())
    }

    fn end(&mut self) -> Line {
        self.number += 1;
        let bytes = std::mem::take(&mut self.begun);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        let text = String::from_utf8_lossy(bytes).into_owned();
        let text = (!std::mem::take(&mut self.too_long)).then_some(text);
        let number = self.number;
        Line { number, text }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_their_bytes_arrive(
            text in "[a\n\r]{0,60}",
            cuts in prop::collection::vec(0_usize..60, 0..8),
        ) {
            let whole = Lines::default().handle(text.as_bytes());
            let mut cutter = Lines::default();
            let mut lines = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                lines.extend(cutter.handle(now));
                rest = later;
            }
            lines.extend(cutter.handle(rest));
            prop_assert_eq!(lines, whole);
        }

        #[test]
        fn a_line_never_takes_more_than_its_bound(pieces in prop::collection::vec((any::<u8>(), 1_usize..5000), 0..12)) {
            let mut lines = Lines::default();
            for (byte, count) in pieces {
                for line in lines.handle(&vec![byte; count]) {
                    // A byte that is not UTF-8 becomes three.
                    prop_assert!(line.text.is_none_or(|text| text.len() <= 3 * LINE_MAX));
                }
                prop_assert!(lines.begun.len() <= LINE_MAX);
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_one_line_and_the_next_is_read() {
        let mut lines = Lines::default();
        let longest = "x".repeat(LINE_MAX);
        assert_eq!(lines.handle(longest.as_bytes()), []);
        let got = lines.handle(b"y and more\nshort\r\nrest");
        let (one, two) = (
            Line {
                number: 1,
                text: None,
            },
            Line {
                number: 2,
                text: Some("short".into()),
            },
        );
        assert_eq!(got, [one, two]);
        let number = 3;
        let text = Some("rest".to_owned());
        assert_eq!(lines.finish(), Some(Line { number, text }));
        assert_eq!(lines.finish(), None);
    }
}
