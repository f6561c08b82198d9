//! Scripts and models that a censor's file names, and who reads them.
//!
//! This crate reads no files and runs no scripts: whoever can gives [`CensorFile::parse_scripted`](super::CensorFile::parse_scripted)
//! a [`Programs`].

use phantom_placed::words::shortened;
use phantom_placed::{At, Problem};

use super::{FileError, Percent, RuleText};
use crate::engine::program::Judge;

/// Reads the programs that a file names.
pub trait Programs {
    /// The script of this name and the model that it may ask. Names are as the file has them; what they mean is told here.
    ///
    /// # Errors
    /// There is none, it is too large, or it is not good.
    fn load(&mut self, script: &str, model: Option<&str>) -> Result<Judge, LoadError>;
}

/// Why there is no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The script is named wrongly, is not there or is too large: told at its name.
    #[error("{0}")]
    Script(String),
    /// The same of the model, or it is not good.
    #[error("{0}")]
    Model(String),
    /// Something in the script is wrong: told at its place there.
    #[error(transparent)]
    Inside(#[from] FileError),
}

/// Reads none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPrograms;

impl Programs for NoPrograms {
    fn load(&mut self, _: &str, _: Option<&str>) -> Result<Judge, LoadError> {
        Err(LoadError::Script(
            "scripts are not read here; phantom-sim and phantom-script do".to_owned(),
        ))
    }
}

/// Where it is told that a rule's program is not good.
#[derive(Debug)]
pub enum Unloaded {
    /// At its place in the censor's file.
    Here(Problem),
    /// In the script.
    There(FileError),
}

impl RuleText {
    /// Reads its program, if it has one.
    ///
    /// # Errors
    /// The program is not there or not good, or does not go with the rest of the rule.
    pub fn load(&mut self, programs: &mut dyn Programs) -> Result<(), Unloaded> {
        let name = shortened(&self.name);
        let here = |at: At, what: &str| {
            let message = format!("rule '{name}': {what}");
            Err(Unloaded::Here(Problem::new(at, message)))
        };
        let (script, model) = match (&self.script, &self.model) {
            (None, None) => return Ok(()),
            (None, Some(model)) => {
                return here(model.at, "only a script asks a model: script = \"…\" is missing");
            }
            (Some(script), model) => (script, model),
        };
        if self.judge.is_some() {
            return Ok(());
        }
        if self.by_mistake != Percent::NONE {
            return here(
                script.at,
                "by-mistake is the share of flows that do not meet the rule, and a script never says that of one: \
                 make the mistakes in the script",
            );
        }
        match programs.load(script, model.as_ref().map(|model| model.as_str())) {
            Ok(judge) => self.judge = Some(judge),
            Err(LoadError::Inside(error)) => return Err(Unloaded::There(error)),
            Err(LoadError::Script(what)) => return here(script.at, &what),
            Err(LoadError::Model(what)) => {
                return here(model.as_ref().map_or(script.at, |model| model.at), &what);
            }
        }
        Ok(())
    }
}
