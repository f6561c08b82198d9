//! All that is wrong with a file, as it is printed: path, line and column, the line with a caret, the choices.

use std::fmt;

use super::problem::Problem;
use super::source::{At, Place, Sources};

/// Problems that are kept. To show one takes a look through its file, and nobody reads the hundred-and-first.
pub const PROBLEMS_MAX: usize = 100;

/// Everything that is wrong, placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The first [`PROBLEMS_MAX`] problems in the order they were found, never none; without a place what stands in no file.
    pub problems: Vec<(Option<Place>, Problem)>,
}

impl FileError {
    /// Places `problems` in `sources`.
    pub fn new(sources: &Sources, problems: impl IntoIterator<Item = Problem>) -> Self {
        Self {
            problems: problems
                .into_iter()
                .take(PROBLEMS_MAX)
                .map(|problem| (sources.place(problem.at), problem))
                .collect(),
        }
    }

    /// One problem that has no place in a file.
    pub fn bare(problem: Problem) -> Self {
        Self {
            problems: vec![(None, problem)],
        }
    }

    /// One thing that is wrong at a byte of a file of another kind, such as a script; `help` has the choices.
    pub fn at(path: &str, text: &str, byte: usize, message: String, help: Option<String>) -> Self {
        let mut sources = Sources::default();
        let file = sources.add(path, text);
        let problem = Problem {
            help,
            ..Problem::new(At::new(file, byte), message)
        };
        Self::new(&sources, [problem])
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (place, problem)) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            if let Some(place) = place {
                let Place {
                    path, line, column, ..
                } = place;
                writeln!(f, "{path}:{line}:{column}: {}", problem.message)?;
                writeln!(f, "{line:>5} | {}", place.text)?;
                write!(f, "{:>5} | {:>2$}", "", "^", column - place.from)?;
            } else {
                write!(f, "{}", problem.message)?;
            }
            if let Some(help) = &problem.help {
                write!(f, "\n        {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for FileError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_under_its_line_with_the_choices() {
        let error = FileError::at("a.toml", "x = 1\ny = 2\n", 10, "not 2".to_owned(), None);
        assert_eq!(
            error.to_string(),
            "a.toml:2:5: not 2\n    2 | y = 2\n      |     ^"
        );
        let bare = FileError::bare(Problem::new(At::NONE, "no file").help("write one"));
        assert_eq!(bare.to_string(), "no file\n        write one");
    }

    #[test]
    fn of_a_very_long_line_the_part_with_the_mistake_is_shown() {
        let text = format!("{}!{}", "a".repeat(5_000), "b".repeat(5_000));
        let told = FileError::at("a", &text, 5_000, "no".to_owned(), None).to_string();
        let [_, line, caret] = told.lines().collect::<Vec<_>>()[..] else {
            panic!("{told}");
        };
        assert_eq!(line.find('!'), caret.find('^'));
        assert!(line.len() < 200, "{}", line.len());
    }

    #[test]
    fn a_file_full_of_mistakes_makes_a_message_that_ends() {
        let mut sources = Sources::default();
        let file = sources.add("a", "x".repeat(1 << 20));
        let problems = (0..10_000).map(|at| Problem::new(At::new(file, at), "no"));
        let error = FileError::new(&sources, problems);
        assert_eq!(error.problems.len(), PROBLEMS_MAX);
        assert!(error.to_string().len() < 64_000);
    }
}
