//! A script as it was read, of which each engine starts its own program.

use std::fmt;
use std::sync::{Arc, Mutex};

use phantom_censor::engine::program::{self, Program};
use phantom_censor::file::FileError;
use rhai::AST;

use crate::check;
use crate::machine::{Lines, machine};
use crate::model::Asker;
use crate::program::Running;

/// A script and the model that it asks.
pub(crate) struct Script {
    file: String,
    text: String,
    ast: AST,
    model: Option<(Vec<u8>, Arc<dyn Asker>)>,
}

impl Script {
    /// Reads a script, which messages call `file`.
    ///
    /// # Errors
    /// The first thing that is wrong, at its place.
    pub(crate) fn read(
        file: &str,
        text: String,
        model: Option<(Vec<u8>, Arc<dyn Asker>)>,
    ) -> Result<Self, FileError> {
        let lines: Lines = Arc::new(Mutex::new(Vec::new()));
        let engine = machine(&lines, model.as_ref().map(|(_, model)| model));
        let ast = check::read(&engine, file, &text)?;
        Ok(Self {
            file: file.to_owned(),
            text,
            ast,
            model,
        })
    }
}

impl program::Code for Script {
    fn start(&self, _: u64) -> Box<dyn Program> {
        let model = self.model.as_ref().map(|(_, model)| model);
        Box::new(Running::new(&self.file, self.ast.clone(), model))
    }

    fn uses_model(&self) -> bool {
        self.model.is_some()
    }

    fn parts(&self) -> [&[u8]; 2] {
        let model = self.model.as_ref().map_or(&[][..], |(bytes, _)| bytes);
        [self.text.as_bytes(), model]
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("file", &self.file)
            .field("uses_model", &self.model.is_some())
            .finish_non_exhaustive()
    }
}
