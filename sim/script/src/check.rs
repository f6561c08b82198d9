//! What can be told of a script before it sees a packet: syntax, and words that mean nothing.
//!
//! Rhai looks functions and fields up when it comes to them. A slip of the pen in a branch that is rarely taken would then be
//! found after hours, so every call by name, and every field of `packet` and `flow`, is looked up here.

use std::collections::BTreeSet;

use phantom_censor::file::FileError;
use phantom_placed::words::nearest;
use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, ParseError, ParseErrorType, Position, Stmt};

use crate::machine::{NAMES, compile, optimised};
use crate::view::{FLOW_FIELDS, PACKET_FIELDS, PACKET_FUNCTIONS};

/// Functions that are words of Rhai itself.
const WORDS: [&str; 5] = ["print", "type_of", "Fn", "call", "is_def_var"];
/// Choices that are told in full; of more, only the nearest.
const SHOWN_MAX: usize = 40;

/// Reads a script, which messages call `file`.
///
/// # Errors
/// The first thing that is wrong, at its place.
pub(crate) fn read(engine: &Engine, file: &str, text: &str) -> Result<AST, FileError> {
    let ast = compile(engine, text).map_err(|error| syntax(file, text, &error))?;
    let known = names(engine, &ast);
    let mut wrong = None;
    ast.walk(&mut |path| {
        wrong = match path.last() {
            Some(ASTNode::Expr(expr)) => look(expr, &known),
            Some(ASTNode::Stmt(Stmt::FnCall(call, at))) => called(call, *at, &known),
            _ => None,
        };
        wrong.is_none()
    });
    match wrong {
        None => Ok(optimised(engine, ast)),
        Some(Wrong { at, message, help }) => {
            Err(FileError::at(file, text, byte(text, at), message, Some(help)))
        }
    }
}

struct Wrong {
    at: Position,
    message: String,
    help: String,
}

/// What may be called: functions of ours, of Rhai's packages and of the script.
fn names(engine: &Engine, ast: &AST) -> BTreeSet<String> {
    let mut known: BTreeSet<String> = engine
        .collect_fn_metadata(None, |info| Some(info.metadata.name.to_string()), true)
        .into_iter()
        .filter(|name| name.starts_with(|char: char| char.is_ascii_alphabetic()))
        .collect();
    known.extend(ast.iter_functions().map(|function| function.name.to_owned()));
    known.extend(WORDS.map(str::to_owned));
    known
}

fn look(expr: &Expr, known: &BTreeSet<String>) -> Option<Wrong> {
    match expr {
        Expr::FnCall(call, at) | Expr::MethodCall(call, at) => called(call, *at, known),
        Expr::Dot(dot, ..) => {
            let Expr::Variable(variable, ..) = &dot.lhs else {
                return None;
            };
            let (fields, functions) = match variable.1.as_str() {
                "packet" => (PACKET_FIELDS, PACKET_FUNCTIONS),
                "flow" => (FLOW_FIELDS, &[][..]),
                _ => return None,
            };
            let first = match &dot.rhs {
                Expr::Dot(more, ..) | Expr::Index(more, ..) => &more.lhs,
                first => first,
            };
            match first {
                Expr::Property(property, at) if !fields.contains(&property.2.as_str()) => {
                    let what = format!("field of {}", variable.1);
                    Some(unknown(&what, &property.2, *at, fields.iter().copied()))
                }
                Expr::MethodCall(call, at) if !functions.contains(&call.name.as_str()) => {
                    let what = format!("function of {}", variable.1);
                    Some(unknown(&what, &call.name, *at, functions.iter().copied()))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn called(call: &FnCallExpr, at: Position, known: &BTreeSet<String>) -> Option<Wrong> {
    let strange = call.op_token.is_none() && is_word(&call.name) && !known.contains(call.name.as_str());
    strange.then(|| unknown("function", &call.name, at, known.iter().map(String::as_str)))
}

fn is_word(name: &str) -> bool {
    name.starts_with(|char: char| char.is_alphabetic() || char == '_')
}

fn unknown<'a>(what: &str, name: &str, at: Position, choices: impl Iterator<Item = &'a str>) -> Wrong {
    let choices: Vec<&str> = choices.collect();
    let mut message = format!("unknown {what} '{name}'");
    if matches!(name, "score" | "scores") {
        message.push_str(": the rule names no model = \"FILE.onnx\"");
    } else if let Some(near) = nearest(name, choices.iter().copied()) {
        message.push_str(&format!("; did you mean '{near}'?"));
    }
    let help = match choices.len() {
        0 => "it has none".to_owned(),
        1..=SHOWN_MAX => format!("choices: {}", choices.join(", ")),
        _ => format!(
            "verdicts: pass, sentence, drop, reset, reset_client, reset_server, delay_ms; of packet: {}; all others: \
             docs/CENSOR-SCRIPTS.md",
            PACKET_FUNCTIONS.join(", ")
        ),
    };
    Wrong { at, message, help }
}

fn syntax(file: &str, text: &str, error: &ParseError) -> FileError {
    let (message, help) = match error.err_type() {
        ParseErrorType::VariableUndefined(name) => {
            let mut message = format!("there is no variable '{name}'");
            if let Some(near) = nearest(name, NAMES) {
                if near == name {
                    message.push_str(" here: a function sees only what it is given");
                } else {
                    message.push_str(&format!("; did you mean '{near}'?"));
                }
            }
            let help = format!("choices: {}, and those declared with let", NAMES.join(", "));
            (message, Some(help))
        }
        other if other.to_string().ends_with(" is disabled") => {
            let word = other.to_string();
            let word = word.split('\'').nth(1).unwrap_or_default();
            (
                format!("'{word}' is a word of Rhai that scripts do not have"),
                None,
            )
        }
        ParseErrorType::Reserved(word) => (
            format!("'{word}' is a word of Rhai that scripts do not have"),
            None,
        ),
        other => (other.to_string(), None),
    };
    FileError::at(file, text, byte(text, error.position()), message, help)
}

/// Where a place is in a text, in bytes.
fn byte(text: &str, at: Position) -> usize {
    let (Some(line), column) = (at.line(), at.position().unwrap_or(1)) else {
        return text.len();
    };
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let within: usize = text[start..]
        .chars()
        .take(column.saturating_sub(1))
        .map(char::len_utf8)
        .sum();
    start + within
}
