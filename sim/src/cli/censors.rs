//! `censors`: the catalogue of `phantom-censor`, and censors by name or file.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::Path;

use clap::Args;
use phantom_censor::catalogue::{self, CatalogueError};
use phantom_censor::file::{CensorFile, FileError, TEXT_BYTES_MAX};
use phantom_script::load::Scripts;
use phantom_script::shipped::{SHIPPED, Shipped};

use super::{HOLDS, Stop};

/// What `censors` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  phantom-sim censors                            all, what each does and where each rule comes from
  phantom-sim censors gfw-2023 > mine.toml       the file of one, to change
  phantom-sim classify my.pcap --censor mine.toml
                                                 what it would have done to a capture

The format of the files is described in docs/CENSOR.md, that of their scripts in docs/CENSOR-SCRIPTS.md")]
pub struct CensorsArgs {
    /// Print the file of this one, with its comments
    #[arg(value_name = "NAME", conflicts_with = "json")]
    pub name: Option<String>,
    /// One JSON array on stdout and nothing else
    #[arg(long)]
    pub json: bool,
}

/// `phantom-sim censors`.
///
/// # Errors
/// There is none of that name, or stdout does not take it.
pub fn censors(args: &CensorsArgs, out: &mut dyn Write) -> Result<u8, Stop> {
    let text = match &args.name {
        Some(name) => match catalogue::text(name).or_else(|| Some(Shipped::of(name)?.text())) {
            Some(text) => text.to_owned(),
            None => return Err(Stop::Usage(CatalogueError::Unknown(name.clone()).to_string())),
        },
        None => {
            let all = catalogue::catalogue().map_err(|error| Stop::Usage(error.to_string()))?;
            if args.json { json(&all) } else { list(&all) }
        }
    };
    out.write_all(text.as_bytes())
        .map_err(Stop::disk("writing the censors"))?;
    Ok(HOLDS)
}

fn json(all: &[CensorFile]) -> String {
    let rows: Vec<_> = all
        .iter()
        .map(|censor| {
            let rules: Vec<_> = censor
                .texts()
                .map(|rule| serde_json::json!({ "name": rule.name.value, "source": rule.source.value }))
                .collect();
            serde_json::json!({ "name": censor.name(), "summary": censor.summary(), "rules": rules })
        })
        .collect();
    format!("{}\n", serde_json::Value::from(rows))
}

fn list(all: &[CensorFile]) -> String {
    let mut text = String::new();
    for censor in all {
        text.push_str(&format!("{:<20} {}\n", censor.name(), censor.summary()));
        for rule in censor.texts() {
            text.push_str(&format!("{:<20} {}: {}\n", "", *rule.name, *rule.source));
        }
    }
    text.push_str("\nwith a script, see docs/CENSOR-SCRIPTS.md:\n");
    for shipped in SHIPPED {
        match shipped.censor() {
            Ok(censor) => {
                text.push_str(&format!("{:<20} {}\n", censor.name(), censor.summary()));
                for rule in censor.texts() {
                    text.push_str(&format!("{:<20} {}: {}\n", "", *rule.name, *rule.source));
                }
            }
            Err(_) => text.push_str(&format!(
                "{:<20} asks a model, which this build does not: cargo build --release -p phantom-sim --features model\n",
                shipped.name
            )),
        }
    }
    text.push_str("\nsee what one would have done:  phantom-sim classify my.pcap --censor gfw-2023\n");
    text
}

/// A censor of the catalogue, one that comes with a script, or of a file: a word with a slash or the ending `.toml`.
pub(super) fn load(word: &str) -> Result<CensorFile, Stop> {
    let bad = |error: FileError| Stop::Usage(error.to_string());
    if !word.contains('/') && !word.ends_with(".toml") {
        if let Some(shipped) = Shipped::of(word) {
            return shipped.censor().map_err(bad);
        }
        let scripts: Vec<&str> = SHIPPED.iter().map(|shipped| shipped.name).collect();
        return catalogue::censor(word).map_err(|error| {
            Stop::Usage(format!(
                "{error}, {}; or the path of a file, ending in .toml",
                scripts.join(", ")
            ))
        });
    }
    let bytes = read(Path::new(word), TEXT_BYTES_MAX + 1)
        .map_err(|error| Stop::Usage(format!("{word}: cannot be read: {error}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| Stop::Usage(format!("{word}: cannot be read: it is no text in UTF-8: {error}")))?;
    let beside = Path::new(word).parent().unwrap_or(Path::new(""));
    let mut scripts = Scripts::new(|name, max| read(&beside.join(name), max));
    CensorFile::parse_scripted(word, &text, &mut scripts).map_err(bad)
}

/// The first bytes of a file.
fn read(path: &Path, max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
