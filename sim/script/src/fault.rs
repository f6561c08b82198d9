//! What goes wrong while a script runs, in words.

use rhai::{Dynamic, EvalAltResult, Position};

use crate::bounds::{LINE_CHARS_MAX, STEPS_MAX};
use crate::machine::NAMES;

/// An error of one of our functions.
pub(crate) fn failure(message: String) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorRuntime(
        Dynamic::from(message),
        Position::NONE,
    ))
}

/// An error in a sentence, with the file and the place of the innermost call that failed.
pub(crate) fn told(file: &str, error: &EvalAltResult) -> String {
    let mut inner = error;
    let mut place = error.position();
    while let EvalAltResult::ErrorInFunctionCall(_, _, deeper, at) = inner {
        if place.is_none() {
            place = *at;
        }
        inner = deeper;
        if !inner.position().is_none() {
            place = inner.position();
        }
    }
    let what = match inner {
        EvalAltResult::ErrorTooManyOperations(_) => format!("more than {STEPS_MAX} steps at one packet"),
        EvalAltResult::ErrorVariableNotFound(name, _) if NAMES.contains(&name.as_str()) => {
            format!("there is no variable '{name}' here: a function sees only what it is given")
        }
        EvalAltResult::ErrorStackOverflow(_) => "calls within calls, too deep".to_owned(),
        EvalAltResult::ErrorFunctionNotFound(call, _) => {
            // Rhai has three types for what is one to people.
            let call = call.replace("&str | ImmutableString | String", "text");
            format!("there is no {call}: the name is right, but not for values of these types")
        }
        EvalAltResult::ErrorRuntime(value, _) if value.is_string() => value.to_string(),
        other => {
            let text = other.to_string();
            match text.rfind(" (line ") {
                Some(at) => text[..at].to_owned(),
                None => text,
            }
        }
    };
    let what = short(&what);
    match (place.line(), place.position()) {
        (Some(line), Some(column)) => format!("{file}:{line}:{column}: {what}"),
        (Some(line), None) => format!("{file}:{line}: {what}"),
        _ => format!("{file}: {what}"),
    }
}

/// What a value is, in the words of the language.
pub(crate) fn kind(value: &Dynamic) -> &str {
    let name = value.type_name();
    match name.rsplit("::").next().unwrap_or(name) {
        "PacketView" => "packet",
        "FlowView" => "flow",
        "Said" => "verdict",
        "i64" => "number",
        "string" => "text",
        plain => plain,
    }
}

/// A line that is safe to print and not too long: what it says may have been chosen by whoever sent the packet.
pub(crate) fn short(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(LINE_CHARS_MAX)
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect();
    if line.len() < text.len() && text.chars().count() > LINE_CHARS_MAX {
        line.push_str("...");
    }
    line
}
