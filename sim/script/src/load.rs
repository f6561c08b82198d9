//! Scripts and models by the names that a censor's file has: files beside it.
//!
//! Whoever reads the files is given as a function, since this crate touches none.

use std::io;
use std::path::{Component, Path};

use phantom_censor::engine::program::Judge;
use phantom_censor::file::{LoadError, Programs};

use crate::bounds::{MODEL_BYTES_MAX, SCRIPT_BYTES_MAX};
use crate::code::Script;
use crate::model;

/// Reads scripts with a function from a name, and a number of bytes beyond which it may stop, to what the file has.
///
/// ```
/// use phantom_censor::file::CensorFile;
/// use phantom_script::load::Scripts;
///
/// let censor = r#"
/// name = "no-long-packets"
/// summary = "Loses packets of more than 1,000 bytes"
///
/// [[rule]]
/// name = "long"
/// source = "an example"
/// script = "long.rhai"
/// action = "drop"
/// "#;
/// let script = "if packet.len > 1000 { drop() }";
/// let mut scripts = Scripts::new(|name, _| match name {
///     "long.rhai" => Ok(script.as_bytes().to_vec()),
///     _ => Err(std::io::ErrorKind::NotFound.into()),
/// });
/// let censor = CensorFile::parse_scripted("my.toml", censor, &mut scripts)?;
/// assert!(!censor.uses_model());
/// # Ok::<(), phantom_censor::file::FileError>(())
/// ```
pub struct Scripts<R> {
    read: R,
}

impl<R: FnMut(&str, usize) -> io::Result<Vec<u8>>> Scripts<R> {
    /// Reads with this function. Names that it gets are relative and stay in their folder.
    pub const fn new(read: R) -> Self {
        Self { read }
    }

    fn bytes(&mut self, what: &str, name: &str, max: usize) -> Result<Vec<u8>, String> {
        if !is_beside(name) {
            return Err(format!(
                "a {what} stands beside the censor's file or below it; wanted a name such as \"sneaky.rhai\", got \"{}\"",
                name.escape_default()
            ));
        }
        // One byte more than is read tells that there are too many.
        let bytes = (self.read)(name, max + 1)
            .map_err(|error| format!("the {what} \"{}\" cannot be read: {error}", name.escape_default()))?;
        if bytes.len() > max {
            return Err(format!(
                "the {what} \"{name}\" has more than the {max} bytes that are read"
            ));
        }
        Ok(bytes)
    }
}

impl<R: FnMut(&str, usize) -> io::Result<Vec<u8>>> Programs for Scripts<R> {
    fn load(&mut self, name: &str, model: Option<&str>) -> Result<Judge, LoadError> {
        let text = self
            .bytes("script", name, SCRIPT_BYTES_MAX)
            .and_then(|bytes| {
                String::from_utf8(bytes)
                    .map_err(|error| format!("the script \"{name}\" is no text in UTF-8: {error}"))
            })
            .map_err(LoadError::Script)?;
        let model = match model {
            None => None,
            Some(model) => {
                let bytes = self
                    .bytes("model", model, MODEL_BYTES_MAX)
                    .map_err(LoadError::Model)?;
                let asker = model::read(&bytes)
                    .map_err(|what| LoadError::Model(format!("the model \"{model}\": {what}")))?;
                Some((bytes, asker))
            }
        };
        let script = Script::read(name, text, model)?;
        Ok(Judge(std::sync::Arc::new(script)))
    }
}

/// Whether a name is a path that cannot leave its folder: a censor's file may be a stranger's.
fn is_beside(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !name.contains(['\\', ':', '\0'])
}
