//! Reading a scenario: the file, what it extends, its parameters, and the checks; then the resolved, typed result.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use phantom_placed::tree::{self, Node, Table, Value};
use phantom_placed::{At, FileError, Problem, Sources, from_node};

use super::check::{self, Checked};
use super::file::{Param, Scenario};
use super::params::{ParamValue, allowed, resolve};
use super::{merge, preset, scripts};

/// Longest chain of `extends`.
const MAX_CHAIN: usize = 8;

/// Where scenarios are found by name.
pub trait Library {
    /// What messages call the file of `name`, and its text; `None` if there is none.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    fn read(&self, name: &str) -> std::io::Result<Option<(String, String)>>;
    /// All names, sorted; none where they cannot be told.
    fn names(&self) -> Vec<String>;
    /// What messages call the file of the censor `name`, and its text; `None` if there is none beside the scenarios.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    fn censor(&self, name: &str) -> std::io::Result<Option<(String, String)>> {
        let _ = name;
        Ok(None)
    }
    /// The names of all censors beside the scenarios, sorted.
    fn censors(&self) -> Vec<String> {
        Vec::new()
    }
    /// The first `max` bytes of a script or model of a censor, by a name that stays in its folder.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    fn beside(&self, name: &str, max: usize) -> std::io::Result<Vec<u8>> {
        let _ = (name, max);
        Err(std::io::ErrorKind::NotFound.into())
    }
}

/// The scenarios of a directory: `<name>.toml`.
#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// The nearest `scenarios/` at or above `from`.
    pub fn find(from: &Path) -> Option<Self> {
        from.ancestors()
            .map(|dir| dir.join("scenarios"))
            .find(|dir| dir.is_dir())
            .map(Self)
    }

    /// All names, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> std::io::Result<Vec<String>> {
        files(&self.0)
    }

    /// Where censors are: `censors/` in it.
    fn censors_dir(&self) -> Self {
        Self(self.0.join("censors"))
    }
}

/// The names of the `<name>.toml` in a directory, sorted.
fn files(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".toml"));
        names.extend(name.filter(|name| is_name(name)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Reads a scenario file; one that is too large or not UTF-8 is an error.
///
/// # Errors
/// What the file system says, `InvalidData` for what is no text of a bounded size.
pub fn read_file(path: &Path) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > tree::TEXT_BYTES_MAX as u64 {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            format!("{length} bytes; at most {} are read", tree::TEXT_BYTES_MAX),
        ));
    }
    std::fs::read_to_string(path)
}

impl Library for Directory {
    fn read(&self, name: &str) -> std::io::Result<Option<(String, String)>> {
        if !is_name(name) {
            return Ok(None);
        }
        let path = self.0.join(format!("{name}.toml"));
        match read_file(&path) {
            Ok(text) => Ok(Some((path.display().to_string(), text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn names(&self) -> Vec<String> {
        self.list().unwrap_or_default()
    }

    fn censor(&self, name: &str) -> std::io::Result<Option<(String, String)>> {
        self.censors_dir().read(name)
    }

    fn censors(&self) -> Vec<String> {
        self.censors_dir().names()
    }

    fn beside(&self, name: &str, max: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.0.join("censors").join(name))?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, max as u64), &mut bytes)?;
        Ok(bytes)
    }
}

/// Whether `name` can be the name of a scenario, population, rule and so on.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// A scenario that was read, merged, given its parameters and checked.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Resolved: nothing extended any more, every parameter's default is its value in this run.
    pub scenario: Scenario,
    /// The parameters' values.
    pub params: IndexMap<String, ParamValue>,
    /// Its expressions, typed.
    pub checked: Checked,
    /// BLAKE3 of the resolved scenario without its seed, in hex.
    pub hash: String,
    /// The text of every file it came from.
    pub sources: Sources,
}

/// Loads the scenario called `name`. `typed` are the `key=value` words that are the scenario's own.
///
/// # Errors
/// Whatever is wrong, placed.
pub fn by_name(library: &dyn Library, name: &str, typed: &[(String, String)]) -> Result<Loaded, FileError> {
    match library.read(name) {
        Ok(Some((path, text))) => from_text(library, &path, text, Some(name), typed),
        Ok(None) => {
            let names = library.names();
            Err(FileError::bare(Problem::unknown(
                At::NONE,
                "scenario",
                name,
                names.iter().map(String::as_str),
            )))
        }
        Err(error) => Err(FileError::bare(Problem::new(
            At::NONE,
            format!("cannot read scenario '{name}': {error}"),
        ))),
    }
}

/// Loads the scenario in the file at `path`.
///
/// # Errors
/// Whatever is wrong, placed.
pub fn by_path(library: &dyn Library, path: &Path, typed: &[(String, String)]) -> Result<Loaded, FileError> {
    let shown = path.display().to_string();
    let text = read_file(path)
        .map_err(|error| FileError::bare(Problem::new(At::NONE, format!("cannot read {shown}: {error}"))))?;
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    from_text(library, &shown, text, stem, typed)
}

/// Loads `text`. `stem`: the file's name without `.toml`, which `name` in it must equal.
///
/// # Errors
/// Whatever is wrong, placed.
pub fn from_text(
    library: &dyn Library,
    path: &str,
    text: String,
    stem: Option<&str>,
    typed: &[(String, String)],
) -> Result<Loaded, FileError> {
    let mut sources = Sources::default();
    let result = read_all(library, path, text, stem, typed, &mut sources);
    result
        .map_err(|problems| FileError::new(&sources, problems))
        .map(|(scenario, params, checked)| Loaded {
            hash: hash(&scenario),
            scenario,
            params,
            checked,
            sources,
        })
}

/// Checks a scenario that was built in Rust.
///
/// # Errors
/// Whatever is wrong; nothing has a place.
pub fn built(scenario: Scenario) -> Result<Loaded, FileError> {
    let sources = Sources::default();
    let checked = check::check(&scenario, None).map_err(|problems| FileError::new(&sources, problems))?;
    let params = scenario
        .params
        .iter()
        .map(|(name, param)| (name.clone(), param.default.clone()))
        .collect();
    Ok(Loaded {
        hash: hash(&scenario),
        params,
        checked,
        sources,
        scenario,
    })
}

type Parts = (Scenario, IndexMap<String, ParamValue>, Checked);

fn read_all(
    library: &dyn Library,
    path: &str,
    text: String,
    stem: Option<&str>,
    typed: &[(String, String)],
    sources: &mut Sources,
) -> Result<Parts, Vec<Problem>> {
    let mut merged = chain(library, path, text, stem, sources).map_err(|problem| vec![problem])?;
    let declared = declared_params(&merged).map_err(|problem| vec![problem])?;
    let params = resolve(&declared, typed).map_err(|problem| vec![problem])?;
    let values: IndexMap<String, Value> = params
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    merge::substitute(&mut merged, &values).map_err(|problem| vec![problem])?;
    preset::resolve(library, &mut merged, sources).map_err(|problem| vec![problem])?;
    let mut scenario: Scenario = from_node(&merged).map_err(|problem| vec![problem])?;
    scenario.extends = None;
    for (name, value) in &params {
        if let Some(param) = scenario.params.get_mut(name) {
            param.default = value.clone();
        }
    }
    scripts::load(library, &mut scenario).map_err(|problem| vec![problem])?;
    let checked = check::check(&scenario, stem)?;
    Ok((scenario, params, checked))
}

/// The file and everything it extends, merged.
fn chain(
    library: &dyn Library,
    path: &str,
    text: String,
    stem: Option<&str>,
    sources: &mut Sources,
) -> Result<Node, Problem> {
    let file = sources.add(path, text);
    let mut node = tree::parse(file, sources.text(file))?;
    if let Some((at, _)) = get(&node, "name").is_none().then_some((node.at, ())) {
        return Err(
            Problem::new(at, "'name' is missing here").help("a scenario's name is its file's, without .toml")
        );
    }
    let mut seen: BTreeSet<String> = stem.map(str::to_owned).into_iter().collect();
    let mut parents = Vec::new();
    let mut next = extends(&node)?;
    while let Some((at, base)) = next {
        if !seen.insert(base.clone()) {
            return Err(Problem::new(
                at,
                format!("'{base}' extends itself, by way of this"),
            ));
        }
        if parents.len() == MAX_CHAIN {
            return Err(Problem::new(at, format!("extended more than {MAX_CHAIN} times")));
        }
        let (path, text) = match library.read(&base) {
            Ok(Some(found)) => found,
            Ok(None) => {
                let names = library.names();
                return Err(Problem::unknown(
                    at,
                    "scenario",
                    &base,
                    names.iter().map(String::as_str),
                ));
            }
            Err(error) => return Err(Problem::new(at, format!("cannot read '{base}': {error}"))),
        };
        let file = sources.add(path, text);
        let parent = tree::parse(file, sources.text(file))?;
        next = extends(&parent)?;
        parents.push(parent);
    }
    for parent in parents {
        node = merge::merge(parent, node);
    }
    Ok(node)
}

fn get<'a>(node: &'a Node, key: &str) -> Option<&'a (At, Node)> {
    match &node.value {
        Value::Table(table) => table.get(key),
        _ => None,
    }
}

fn extends(node: &Node) -> Result<Option<(At, String)>, Problem> {
    match get(node, "extends") {
        None => Ok(None),
        Some((
            _,
            Node {
                at,
                value: Value::Text(base),
            },
        )) => Ok(Some((*at, base.clone()))),
        Some((_, node)) => Err(Problem::new(
            node.at,
            format!(
                "wanted the name of a scenario in quotes, got {}",
                node.value.describe()
            ),
        )),
    }
}

/// Reads `[params]` alone: their values are needed before the rest can be read.
fn declared_params(merged: &Node) -> Result<IndexMap<String, Param>, Problem> {
    let Some((_, node)) = get(merged, "params") else {
        return Ok(IndexMap::new());
    };
    let params: IndexMap<String, Param> = from_node(node)?;
    let empty = Table::new();
    let places = match &node.value {
        Value::Table(table) => table,
        _ => &empty,
    };
    for (name, param) in &params {
        let at = places.get(name).map_or(node.at, |(at, _)| *at);
        if !is_name(name) {
            return Err(Problem::new(
                at,
                format!("'{name}' is no name of a parameter: a-z, 0-9 and -"),
            ));
        }
        if ["scenario", "seed", "threads"].contains(&name.as_str()) {
            return Err(Problem::new(
                at,
                format!("'{name}' has a meaning of its own on the command line"),
            ));
        }
        allowed(name, param, &param.default)
            .map_err(|message| Problem::new(at, format!("the default does not fit: {message}")))?;
    }
    Ok(params)
}

/// BLAKE3 of the resolved scenario, without its seed, which is part of a run's key by itself, and without the gate's
/// size, which no run depends on.
fn hash(scenario: &Scenario) -> String {
    let mut plain = scenario.clone();
    plain.run.seed = 0;
    plain.ci = None;
    // Serialisation of these structs to JSON cannot fail: their maps have text keys. Field order makes it canonical.
    let mut hash = blake3::Hasher::new();
    hash.update(&serde_json::to_vec(&plain).unwrap_or_default());
    let rules = scenario.censor.iter().flat_map(|censor| &censor.rule);
    for part in rules.filter_map(|rule| rule.program_parts()).flatten() {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().to_hex().to_string()
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
