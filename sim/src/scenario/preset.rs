//! Censors by name: their rules and lists become the scenario's own, behind its rules, before anything is typed or checked.

use phantom_censor::catalogue;
use phantom_censor::file::CensorFile;
use phantom_placed::tree::{self, Node, Table, Value};
use phantom_placed::{At, Problem, Sources, from_node};
use phantom_script::shipped::{SHIPPED, Shipped};

use super::censor::Preset;
use super::load::Library;

/// What a parameter says for no censor.
const NONE: &str = "none";

/// Puts the rules of `censor.preset` behind those of `censor.rule`; afterwards there are no presets.
///
/// # Errors
/// A name that no censor has, a file that is none, rules that hold at times of their own where the preset names others.
pub(super) fn resolve(
    library: &dyn Library,
    merged: &mut Node,
    sources: &mut Sources,
) -> Result<(), Problem> {
    let Some(censor) = table(merged, "censor") else {
        return Ok(());
    };
    let Some((_, presets)) = censor.shift_remove("preset") else {
        return Ok(());
    };
    let presets: Vec<Preset> = from_node(&presets)?;
    for preset in presets
        .iter()
        .filter(|preset| preset.enabled && preset.name.value != NONE)
    {
        let (path, text) = find(library, preset)?;
        let file = sources.add(path, text);
        let node = tree::parse(file, sources.text(file))?;
        // Only to see that it is one.
        let _: CensorFile = from_node(&node)?;
        add(censor, preset, node)?;
    }
    Ok(())
}

fn find(library: &dyn Library, preset: &Preset) -> Result<(String, String), Problem> {
    let name = preset.name.as_str();
    match library.censor(name) {
        Ok(Some(found)) => return Ok(found),
        Ok(None) => {}
        Err(error) => {
            return Err(Problem::new(
                preset.name.at,
                format!("cannot read censor '{name}': {error}"),
            ));
        }
    }
    let scripted = Shipped::of(name).map(Shipped::text);
    if let Some(text) = catalogue::text(name).or(scripted) {
        return Ok((format!("censors/{name}.toml"), text.to_owned()));
    }
    let scripted = SHIPPED.iter().map(|shipped| shipped.name);
    let mut names = library.censors();
    names.extend(
        catalogue::names()
            .chain(scripted)
            .chain([NONE])
            .map(str::to_owned),
    );
    let choices = names.iter().map(String::as_str);
    Err(Problem::unknown(preset.name.at, "censor", name, choices))
}

/// Lays the file of a preset into the censor of a scenario.
fn add(censor: &mut Table, preset: &Preset, file: Node) -> Result<(), Problem> {
    let Value::Table(mut file) = file.value else {
        return Ok(());
    };
    for key in ["flow-idle", "flows-max"] {
        if let Some(said) = file.shift_remove(key) {
            censor.entry(key.to_owned()).or_insert(said);
        }
    }
    if let Some((at, lists)) = file.shift_remove("list")
        && let Value::Table(lists) = lists.value
    {
        let own = entry(censor, "list", at, Value::Table(Table::new()));
        if let Value::Table(own) = &mut own.value {
            for (name, list) in lists {
                if own.contains_key(&name) {
                    let twice = format!(
                        "censor '{}' has a list '{name}', and so has this scenario",
                        preset.name.value
                    );
                    return Err(Problem::new(preset.name.at, twice));
                }
                own.insert(name, list);
            }
        }
    }
    let Some((at, rules)) = file.shift_remove("rule") else {
        return Ok(());
    };
    let Value::List(mut rules) = rules.value else {
        return Ok(());
    };
    for rule in &mut rules {
        time(rule, preset)?;
    }
    let own = entry(censor, "rule", at, Value::List(Vec::new()));
    if let Value::List(own) = &mut own.value {
        own.extend(rules);
    }
    Ok(())
}

/// Has a rule hold when the preset does.
fn time(rule: &mut Node, preset: &Preset) -> Result<(), Problem> {
    let Value::Table(rule) = &mut rule.value else {
        return Ok(());
    };
    let bounds = [("from", &preset.from), ("until", &preset.until)];
    let given = bounds.iter().find_map(|(_, bound)| bound.as_ref());
    if let Some(bound) = given
        && ["from", "until", "phases"]
            .iter()
            .any(|own| rule.contains_key(*own))
    {
        let own = format!("censor '{}' has rules with times of their own", preset.name.value);
        return Err(Problem::new(bound.at, own).help("leave out 'from' and 'until' of the preset"));
    }
    for (key, bound) in bounds {
        if let Some(bound) = bound {
            let text = Value::Text(bound.value.to_string());
            rule.insert(
                key.to_owned(),
                (
                    bound.at,
                    Node {
                        at: bound.at,
                        value: text,
                    },
                ),
            );
        }
    }
    Ok(())
}

fn entry<'t>(table: &'t mut Table, key: &str, at: At, empty: Value) -> &'t mut Node {
    let new = || (at, Node { at, value: empty });
    &mut table.entry(key.to_owned()).or_insert_with(new).1
}

fn table<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Table> {
    match &mut node.value {
        Value::Table(table) => match &mut table.get_mut(key)?.1.value {
            Value::Table(table) => Some(table),
            _ => None,
        },
        _ => None,
    }
}
