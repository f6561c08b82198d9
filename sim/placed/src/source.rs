//! Where something stands: a place in one of several files, and the same as people read it.

/// Characters of a line that are shown: enough for any line that a person wrote.
const SHOWN: usize = 160;

/// A place in one of the files of a [`Sources`]; four bytes of file, four of offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    pub(crate) file: u32,
    pub(crate) offset: u32,
}

impl Default for At {
    fn default() -> Self {
        Self::NONE
    }
}

impl At {
    /// Nowhere in a file: built in Rust, or given on the command line.
    pub const NONE: Self = Self {
        file: u32::MAX,
        offset: 0,
    };

    /// Byte `offset` of file number `file`.
    pub fn new(file: u32, offset: usize) -> Self {
        Self {
            file,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
        }
    }

    /// `self`, or `other` if `self` is nowhere.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::NONE { other } else { self }
    }

    /// The place `bytes` further on in the same file.
    #[must_use]
    pub fn plus(self, bytes: usize) -> Self {
        if self == Self::NONE {
            self
        } else {
            Self::new(self.file, (self.offset as usize).saturating_add(bytes))
        }
    }
}

/// Texts and what messages call them: a file, and whatever else was read because of it.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(String, String)>,
}

impl Sources {
    /// Adds a file and returns its number. `path` is what messages call it.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> u32 {
        self.files.push((path.into(), text.into()));
        self.files.len() as u32 - 1
    }

    /// The text of file number `file`.
    pub fn text(&self, file: u32) -> &str {
        self.files.get(file as usize).map_or("", |(_, text)| text)
    }

    /// The place as people read it; `None` if it is nowhere in these files.
    pub fn place(&self, at: At) -> Option<Place> {
        let (path, text) = self.files.get(at.file as usize)?;
        let mut offset = (at.offset as usize).min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[offset..]
            .find('\n')
            .map_or(text.len(), |newline| offset + newline);
        let column = text[start..offset].chars().count() + 1;
        // A window around the column: one very long line floods no terminal, and many mistakes in it no memory.
        let from = column.saturating_sub(SHOWN / 2 + 1);
        let line = text[start..end].trim_end();
        Some(Place {
            path: path.clone(),
            line: before.matches('\n').count() + 1,
            column,
            text: line.chars().skip(from).take(SHOWN).collect(),
            from,
        })
    }
}

/// A place as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line; of a long one 160 characters, 80 of them before the column.
    pub text: String,
    /// How many characters of the line come before `text`.
    pub from: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, offset: usize) -> Place {
        let mut sources = Sources::default();
        let file = sources.add("a.toml", text);
        sources.place(At::new(file, offset)).expect("a place")
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        let place = place("x = 1\nü = 2\n", "x = 1\nü = ".len());
        assert_eq!((place.line, place.column, place.text.as_str()), (2, 5, "ü = 2"));
    }

    #[test]
    fn a_place_beyond_the_end_or_within_a_character_is_the_nearest_before_it() {
        assert_eq!((place("x", 99).line, place("x", 99).column), (1, 2));
        assert_eq!(place("ü", 1).column, 1);
    }

    #[test]
    fn of_a_long_line_a_window_is_kept() {
        let place = place(&"ab".repeat(1_000), 1_001);
        assert_eq!((place.column, place.from), (1_002, 921));
        assert_eq!(place.text.chars().count(), SHOWN);
        // The 81st character of the window is the one that is meant.
        assert_eq!(place.text.chars().nth(80), Some('b'));
    }

    #[test]
    fn nowhere_stays_nowhere_and_gives_way() {
        let somewhere = At::new(0, 7);
        assert_eq!(At::NONE.plus(3), At::NONE);
        assert_eq!(At::NONE.or(somewhere), somewhere);
        assert_eq!(somewhere.or(At::new(1, 0)), somewhere);
        assert_eq!(Sources::default().place(At::NONE), None);
    }
}
