//! Sets of names: whole, with all below them, and pieces of names.

use std::collections::BTreeSet;

/// A set. Names are compared without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    whole: BTreeSet<String>,
    below: BTreeSet<String>,
    pieces: Vec<String>,
}

impl Names {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a list says: `example.org` is that name, `*.example.org` it and all below it, `*t.co*` every name with that
    /// piece: Russia's first throttle of 2021 hit microsoft.com by such a one (Xue et al., IMC'21).
    pub fn add(&mut self, pattern: &str) {
        let pattern = pattern.to_ascii_lowercase();
        if let Some(piece) = pattern.strip_prefix('*').and_then(|rest| rest.strip_suffix('*')) {
            self.pieces.push(piece.to_owned());
        } else if let Some(name) = pattern.strip_prefix("*.") {
            self.below.insert(name.to_owned());
        } else {
            self.whole.insert(pattern);
        }
    }

    /// Whether it has this one.
    pub fn has(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if self.whole.contains(&name) || self.pieces.iter().any(|piece| name.contains(piece)) {
            return true;
        }
        let mut rest = name.as_str();
        loop {
            if self.below.contains(rest) {
                return true;
            }
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return false,
            }
        }
    }

    /// The names that stand for themselves and all below them, if there are no others.
    pub fn only_below(&self) -> Option<&BTreeSet<String>> {
        (self.whole.is_empty() && self.pieces.is_empty()).then_some(&self.below)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.below.is_empty() && self.pieces.is_empty()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Names {
    fn from_iter<I: IntoIterator<Item = S>>(patterns: I) -> Self {
        let mut names = Self::default();
        for pattern in patterns {
            names.add(pattern.as_ref());
        }
        names
    }
}
