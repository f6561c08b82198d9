//! `censors`: the catalogue of `phantom-censor`, and censors by name or file.

use std::fs::File;
use std::io::{Read as _, Write};

use clap::Args;
use phantom_censor::catalogue::{self, CatalogueError};
use phantom_censor::file::{CensorFile, TEXT_BYTES_MAX};

use super::{HOLDS, Stop};

/// What `censors` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  phantom-sim censors                            all, what each does and where each rule comes from
  phantom-sim censors gfw-2023 > mine.toml       the file of one, to change
  phantom-sim classify my.pcap --censor mine.toml
                                                 what it would have done to a capture

The format of the files is described in docs/CENSOR.md")]
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
        Some(name) => match catalogue::text(name) {
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
    text.push_str("\nsee what one would have done:  phantom-sim classify my.pcap --censor gfw-2023\n");
    text
}

/// A censor of the catalogue, or of a file: a word with a slash or the ending `.toml`.
pub(super) fn load(word: &str) -> Result<CensorFile, Stop> {
    if !word.contains('/') && !word.ends_with(".toml") {
        return catalogue::censor(word)
            .map_err(|error| Stop::Usage(format!("{error}; or the path of a file, ending in .toml")));
    }
    let unread = |error| Stop::Usage(format!("{word}: cannot be read: {error}"));
    let mut text = String::new();
    // One byte more than is read tells that there are too many.
    File::open(word)
        .and_then(|file| file.take(TEXT_BYTES_MAX as u64 + 1).read_to_string(&mut text))
        .map_err(unread)?;
    CensorFile::parse(word, &text).map_err(|error| Stop::Usage(error.to_string()))
}
