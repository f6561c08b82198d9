//! Scripts of a scenario's censor: files in `censors/` beside the scenarios, or those that come with `phantom-script`.

use phantom_censor::file::Unloaded;
use phantom_placed::{At, Problem};
use phantom_script::load::Scripts;
use phantom_script::shipped::SHIPPED;

use super::file::Scenario;
use super::load::Library;

/// Reads the script of every rule that names one.
///
/// # Errors
/// One is not there or not good; a mistake within it is told with its place there.
pub(super) fn load(library: &dyn Library, scenario: &mut Scenario) -> Result<(), Problem> {
    let mut scripts = Scripts::new(|name, max| match library.beside(name, max) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => shipped(name).ok_or(error),
        read => read,
    });
    let rules = scenario.censor.iter_mut().flat_map(|censor| &mut censor.rule);
    for rule in rules {
        let at = rule.script.as_ref().map_or(At::NONE, |script| script.at);
        rule.value.load(&mut scripts).map_err(|error| match error {
            Unloaded::Here(problem) => problem,
            Unloaded::There(error) => Problem::new(at, error.to_string()),
        })?;
    }
    Ok(())
}

/// A file of the censors with scripts that come with the program.
fn shipped(name: &str) -> Option<Vec<u8>> {
    let files = SHIPPED.iter().flat_map(|shipped| shipped.files);
    files
        .filter(|(known, _)| *known == name)
        .map(|(_, bytes)| bytes.to_vec())
        .next()
}
