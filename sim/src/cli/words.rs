//! The words of the command line: a scenario's name or file, and `key=value`.

use std::path::{Path, PathBuf};

use super::Stop;
use crate::scenario::file::Scenario;
use crate::scenario::load::{Directory, Loaded, by_name, by_path};

/// The largest seed: a run's scenario.toml holds it, and TOML has whole numbers of 64 bits with a sign.
pub const SEED_MAX: u64 = i64::MAX as u64;

/// A number of things, in a sentence: "1 rule", "2 rules".
pub(super) fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// What the words say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Scenarios by name or file.
    pub scenarios: Vec<String>,
    /// `seed=N`.
    pub seed: Option<u64>,
    /// `threads=N`.
    pub threads: Option<usize>,
    /// The scenario's own parameters.
    pub params: Vec<(String, String)>,
}

impl Words {
    /// Sorts out `words`.
    ///
    /// # Errors
    /// A word that is neither a name nor `key=value`, a key given twice, a number that is none.
    pub fn read(words: &[String]) -> Result<Self, Stop> {
        let mut read = Self::default();
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                if word.is_empty() {
                    return Err(Stop::Usage(
                        "an empty word; wanted a scenario or key=value".to_owned(),
                    ));
                }
                read.scenarios.push(word.clone());
                continue;
            };
            let number = |what: &str, least: u64, most: u64| {
                let wanted = format!("{what} is a whole number from {least} to {most}, not '{value}'");
                let number = value
                    .parse()
                    .ok()
                    .filter(|number| (least..=most).contains(number));
                number.ok_or(Stop::Usage(wanted))
            };
            let twice = match key {
                "" => return Err(Stop::Usage(format!("'{word}' has no name before '='"))),
                "scenario" => {
                    read.scenarios.push(value.to_owned());
                    false
                }
                "seed" => {
                    let seed = number("seed", 0, SEED_MAX)?;
                    read.seed.replace(seed).is_some()
                }
                "threads" => {
                    let threads = number("threads", 1, 1_024)?;
                    read.threads.replace(threads as usize).is_some()
                }
                _ => {
                    let twice = read.params.iter().any(|(other, _)| other == key);
                    read.params.push((key.to_owned(), value.to_owned()));
                    twice
                }
            };
            if twice {
                return Err(Stop::Usage(format!("{key} is given twice")));
            }
        }
        Ok(read)
    }

    /// The one scenario of `run`.
    ///
    /// # Errors
    /// None or several.
    pub fn one(&self, library: &Directory) -> Result<&str, Stop> {
        use crate::scenario::load::Library as _;
        match self.scenarios.as_slice() {
            [one] => Ok(one),
            [] => Err(Stop::Usage(format!(
                "which scenario? as in: blocked-bootstrap seed=7; there are: {}",
                library.names().join(", ")
            ))),
            [first, second, ..] => Err(Stop::Usage(format!(
                "two scenarios: '{first}' and '{second}'; write parameters as key=value"
            ))),
        }
    }

    /// Loads `scenario`, a name or a file.
    ///
    /// # Errors
    /// Whatever is wrong with it or with the parameters.
    pub fn load(&self, library: &Directory, scenario: &str) -> Result<Loaded, Stop> {
        let path = Path::new(scenario);
        if !is_file(scenario) {
            return Ok(by_name(library, scenario, &self.params)?);
        }
        let beside = path
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .map_or(PathBuf::from("."), PathBuf::from);
        Ok(by_path(&Directory(beside), path, &self.params)?)
    }

    /// With the values that `scenario` has for the gate laid under those that were typed.
    pub fn sized(&self, scenario: &Scenario) -> Self {
        let mut sized = self.clone();
        for (name, value) in scenario.ci.iter().flat_map(|ci| &ci.set) {
            if !self.params.iter().any(|(typed, _)| typed == name) {
                sized.params.push((name.clone(), value.value.to_string()));
            }
        }
        sized
    }

    /// The command that plays the same run again, on this machine or another.
    pub fn replay(&self, scenario: &str, seed: u64, runtime: &str, shuffle: Option<u64>) -> String {
        let recipe = if runtime == super::EMULATION {
            "emulate"
        } else {
            "sim"
        };
        let mut command = if is_file(scenario) {
            format!("just {recipe} {} seed={seed}", from_root(Path::new(scenario)))
        } else {
            format!("just {recipe} scenario={scenario} seed={seed}")
        };
        for (key, value) in &self.params {
            command.push_str(&format!(" {key}={}", quoted(value)));
        }
        if runtime != "swarm" && runtime != super::EMULATION {
            command.push_str(&format!(" --runtime {runtime}"));
        }
        if let Some(shuffle) = shuffle {
            command.push_str(&format!(" --shuffle {shuffle}"));
        }
        command
    }
}

/// Whether a word for a scenario is a file, and not a name.
fn is_file(scenario: &str) -> bool {
    scenario.ends_with(".toml") || scenario.contains(std::path::MAIN_SEPARATOR)
}

/// `path` for a command that is pasted: `just` works in the directory of its justfile, wherever it is called.
pub fn from_root(path: &Path) -> String {
    let whole = if Path::new("justfile").is_file() {
        path.to_path_buf()
    } else {
        std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
    };
    quoted(&whole.display().to_string())
}

/// `word` as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_/".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Words, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Words::read(&words).map_err(|stop| stop.to_string())
    }

    #[test]
    fn words_are_sorted_out_in_any_order() {
        let words = read(&["seed=7", "scenario=first-look", "peers=50", "threads=2"]).expect("good");
        assert_eq!(
            (words.seed, words.threads, words.scenarios),
            (Some(7), Some(2), vec!["first-look".to_owned()])
        );
        assert_eq!(words.params, [("peers".to_owned(), "50".to_owned())]);
    }

    #[test]
    fn bad_words_say_what_is_wrong() {
        for (words, message) in [
            (
                &["seed=abc"][..],
                "seed is a whole number from 0 to 9223372036854775807, not 'abc'",
            ),
            (
                &["seed=9223372036854775808"],
                "seed is a whole number from 0 to 9223372036854775807, not '9223372036854775808'",
            ),
            (
                &["threads=0"],
                "threads is a whole number from 1 to 1024, not '0'",
            ),
            (&["=5"], "'=5' has no name before '='"),
            (&["peers=1", "peers=2"], "peers is given twice"),
            (&["seed=1", "seed=2"], "seed is given twice"),
            (&[""], "an empty word; wanted a scenario or key=value"),
        ] {
            assert_eq!(read(words), Err(message.to_owned()));
        }
    }

    #[test]
    fn a_replay_command_can_be_pasted() {
        let words = read(&["x", "cut=90 s", "peers=50"]).expect("good");
        assert_eq!(
            words.replay("x", 7, "swarm", Some(3)),
            "just sim scenario=x seed=7 cut='90 s' peers=50 --shuffle 3"
        );
        // A test has no justfile where it works.
        let here = std::env::current_dir().expect("somewhere");
        assert_eq!(
            words.replay("a/x.toml", 7, "paused", None),
            format!(
                "just sim {}/a/x.toml seed=7 cut='90 s' peers=50 --runtime paused",
                here.display()
            )
        );
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
