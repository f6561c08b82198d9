//! A TOML file as a tree in which every key and value knows its place.
//!
//! Between the text and typed structs stands this tree: files that extend one another are put together on it, after which
//! the values of one table come from several files, and an error has to name the right one.

use indexmap::IndexMap;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use super::source::At;

/// The longest text that is read, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the value stands.
    pub at: At,
    /// The value.
    pub value: Value,
}

/// What TOML can hold, dates left out: the formats have none.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number, finite.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// An array.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// Key to (place of the key, value), in the order of the file.
pub type Table = IndexMap<String, (At, Node)>;

impl Value {
    /// What it is, for messages.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Parses `text` as file number `file`. Depth is bounded by the parser (80 levels).
///
/// # Errors
/// The first of these, at its place: the text is longer than [`TEXT_BYTES_MAX`], no TOML, or has a number beyond 64 bits, one
/// that is not finite, or a date.
pub fn parse(file: u32, text: &str) -> Result<Node, Problem> {
    let at = At::new(file, 0);
    if text.len() > TEXT_BYTES_MAX {
        let long = format!(
            "the file has {} bytes; at most {TEXT_BYTES_MAX} are read",
            text.len()
        );
        return Err(Problem::new(at, long));
    }
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(at, |span| At::new(file, span.start));
        Problem::new(at, format!("not TOML: {}", error.message().replace('\n', ", ")))
    })?;
    let value = Value::Table(table_of(file, table.get_ref())?);
    Ok(Node { at, value })
}

fn table_of(file: u32, table: &DeTable<'_>) -> Result<Table, Problem> {
    // The parser sorts by key; messages, and whatever has an order, follow the file.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut out = Table::new();
    for (key, value) in entries {
        let node = node_of(file, value.span().start, value.get_ref())?;
        out.insert(key.get_ref().to_string(), (At::new(file, key.span().start), node));
    }
    Ok(out)
}

fn node_of(file: u32, offset: usize, value: &DeValue<'_>) -> Result<Node, Problem> {
    let at = At::new(file, offset);
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Int)
            .map_err(|_| Problem::new(at, "the number does not fit in 64 bits"))?,
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => return Err(Problem::new(at, "wanted a finite number")),
        },
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => {
            return Err(Problem::new(
                at,
                "dates are not used here; times are text such as \"30 s\"",
            ));
        }
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| node_of(file, item.span().start, item.get_ref()))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => Value::Table(table_of(file, table)?),
    };
    Ok(Node { at, value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(text: &str) -> Problem {
        parse(0, text).expect_err("a mistake")
    }

    #[test]
    fn keys_and_values_have_their_places_in_the_order_of_the_file() {
        let node = parse(3, "b = 1\n[a]\nx = [true, 'y']\n").expect("TOML");
        let Value::Table(table) = node.value else {
            panic!("a table");
        };
        let places: Vec<_> = table
            .iter()
            .map(|(key, (at, node))| (key.as_str(), *at, node.value.describe()))
            .collect();
        assert_eq!(
            places,
            [
                ("b", At::new(3, 0), "a whole number"),
                ("a", At::new(3, 7), "a table"),
            ]
        );
        let Value::Table(inner) = &table["a"].1.value else {
            panic!("a table");
        };
        let Value::List(items) = &inner["x"].1.value else {
            panic!("an array");
        };
        assert_eq!(items[1].at, At::new(3, 21));
        assert_eq!(items[1].value, Value::Text("y".to_owned()));
    }

    #[test]
    fn what_no_format_has_is_refused_at_its_place() {
        for (text, at, wanted) in [
            (
                "a = 99999999999999999999",
                4,
                "the number does not fit in 64 bits",
            ),
            ("a = inf", 4, "wanted a finite number"),
            ("a = 1\nb = nan", 10, "wanted a finite number"),
            ("a = 2026-11-23", 4, "dates are not used here"),
            ("a = ", 4, "not TOML: "),
            ("a = 1\na = 2", 6, "not TOML: "),
        ] {
            let problem = problem(text);
            assert!(problem.message.starts_with(wanted), "{problem}");
            assert_eq!(problem.at, At::new(0, at), "{text}");
        }
    }

    #[test]
    fn length_and_nesting_are_bounded() {
        let comment = "#".repeat(TEXT_BYTES_MAX);
        assert!(parse(0, &comment).is_ok());
        assert_eq!(
            problem(&(comment + "#")).message,
            "the file has 1048577 bytes; at most 1048576 are read"
        );
        for (open, close) in [("[", "]"), ("{ a = ", "}")] {
            problem(&format!("a = {}1{}", open.repeat(500), close.repeat(500)));
        }
        problem(&format!("{}a = 1", "a.".repeat(500)));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,300}") {
            let _ = parse(0, &text);
        }
    }
}
