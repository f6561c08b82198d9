//! Arguments of transports: keys and values, and the three ways in which the specification escapes them.
//!
//! What a bridge line says (`cert=…`, `password=…`) is a secret of whoever has the bridge, so neither `Debug` nor any error
//! shows a value.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::name::{NameError, TransportName};

/// Keys and values in the order given; a key may repeat. No key is empty, and there are no control characters, which
/// neither an environment nor a line could carry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Args(Vec<(String, String)>);

/// Why something is no list of arguments. Says where, never what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ArgsError {
    /// As in `=value`.
    #[error("argument {0} has no key before its equals sign")]
    EmptyKey(usize),
    /// As in `key;…`.
    #[error("argument {0} has no equals sign: wanted key=value")]
    NoValue(usize),
    /// As in `key=value\`.
    #[error("argument {0} ends with a backslash that escapes nothing")]
    DanglingEscape(usize),
    /// A line break, a NUL or the like.
    #[error("argument {0} has a control character")]
    Control(usize),
    /// On a line, blanks end an argument.
    #[error("argument {0} has a blank, which an SMETHOD line cannot carry")]
    Blank(usize),
    /// As in `key=value` where `transport:key=value` is wanted.
    #[error("option {0} names no transport: wanted transport:key=value")]
    NoTransport(usize),
    /// What stands before the colon is no name.
    #[error("option {0}: {1}")]
    Name(usize, NameError),
}

impl Args {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one at the end.
    ///
    /// # Errors
    /// The key is empty, or there is a control character.
    pub fn push(&mut self, key: impl Into<String>, value: impl Into<String>) -> Result<(), ArgsError> {
        let (key, value, number) = (key.into(), value.into(), self.0.len() + 1);
        if key.is_empty() {
            return Err(ArgsError::EmptyKey(number));
        }
        if key.chars().chain(value.chars()).any(char::is_control) {
            return Err(ArgsError::Control(number));
        }
        self.0.push((key, value));
        Ok(())
    }

    /// The same with one more.
    ///
    /// # Errors
    /// As for [`Args::push`].
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self, ArgsError> {
        self.push(key, value)?;
        Ok(self)
    }

    /// The first value of a key.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For SOCKS: `key=value;key=value`. Spec: pt-spec §3.5.
    pub fn to_socks(&self) -> String {
        self.join(';', "=;")
    }

    /// The inverse of [`Args::to_socks`]. As every implementation does, takes an equals sign in a value as it is: tor
    /// itself does not escape those.
    ///
    /// # Errors
    /// What is wrong with which argument.
    pub fn from_socks(text: &str) -> Result<Self, ArgsError> {
        Self::split(text, ';')
    }

    /// For the `ARGS:` of an SMETHOD line: `key=value,key=value`. Spec: pt-spec §3.3.3.
    ///
    /// # Errors
    /// There is a blank in one.
    pub fn to_smethod(&self) -> Result<String, ArgsError> {
        let blank = |(key, value): &(String, String)| [key, value].iter().any(|text| text.contains(' '));
        match self.0.iter().position(blank) {
            Some(index) => Err(ArgsError::Blank(index + 1)),
            None => Ok(self.join(',', "=,")),
        }
    }

    /// The inverse of [`Args::to_smethod`].
    ///
    /// # Errors
    /// What is wrong with which argument.
    pub fn from_smethod(text: &str) -> Result<Self, ArgsError> {
        Self::split(text, ',')
    }

    fn join(&self, separator: char, special: &str) -> String {
        let mut text = String::new();
        for (key, value) in self.iter() {
            if !text.is_empty() {
                text.push(separator);
            }
            escape(key, special, &mut text);
            text.push('=');
            escape(value, special, &mut text);
        }
        text
    }

    fn split(text: &str, separator: char) -> Result<Self, ArgsError> {
        let mut args = Self::new();
        let mut rest = text;
        while !(rest.is_empty() && args.is_empty()) {
            let more = args.take(rest, separator)?;
            let Some(after) = more else { break };
            rest = after;
        }
        Ok(args)
    }

    /// Adds the first of `text`; what follows its separator, if it has one.
    fn take<'a>(&mut self, text: &'a str, separator: char) -> Result<Option<&'a str>, ArgsError> {
        let number = self.0.len() + 1;
        let dangling = ArgsError::DanglingEscape(number);
        let (key, rest) = unescape_until(text, &['=', separator]).ok_or(dangling)?;
        let rest = rest.strip_prefix('=').ok_or(ArgsError::NoValue(number))?;
        let (value, rest) = unescape_until(rest, &[separator]).ok_or(dangling)?;
        self.push(key, value)?;
        Ok(rest.strip_prefix(separator))
    }
}

/// Shows keys and values to nobody.
impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Args({}, not shown)", self.0.len())
    }
}

/// Options of several transports, as one text: `transport:key=value;transport:key=value`. Spec: pt-spec §3.2.3.
pub fn options_to_text<'a>(options: impl IntoIterator<Item = (&'a TransportName, &'a Args)>) -> String {
    let mut text = String::new();
    for (name, args) in options {
        for (key, value) in args.iter() {
            if !text.is_empty() {
                text.push(';');
            }
            text.push_str(name.as_str());
            text.push(':');
            escape(key, ":;=", &mut text);
            text.push('=');
            escape(value, ":;=", &mut text);
        }
    }
    text
}

/// The inverse of [`options_to_text`].
///
/// # Errors
/// What is wrong with which option, counted from 1.
pub fn options_from_text(text: &str) -> Result<BTreeMap<TransportName, Args>, ArgsError> {
    let mut options = BTreeMap::<TransportName, Args>::new();
    let mut rest = (!text.is_empty()).then_some(text);
    let mut number = 0;
    while let Some(option) = rest {
        number += 1;
        let (name, after) =
            unescape_until(option, &[':', '=', ';']).ok_or(ArgsError::DanglingEscape(number))?;
        let after = after.strip_prefix(':').ok_or(ArgsError::NoTransport(number))?;
        let name = name.parse().map_err(|error| ArgsError::Name(number, error))?;
        let args = options.entry(name).or_default();
        rest = args.take(after, ';').map_err(|error| error.at(number))?;
    }
    Ok(options)
}

impl ArgsError {
    /// The same of another place: options of a transport are counted among all.
    const fn at(self, number: usize) -> Self {
        match self {
            Self::EmptyKey(_) => Self::EmptyKey(number),
            Self::NoValue(_) => Self::NoValue(number),
            Self::DanglingEscape(_) => Self::DanglingEscape(number),
            Self::Control(_) => Self::Control(number),
            Self::Blank(_) => Self::Blank(number),
            Self::NoTransport(_) => Self::NoTransport(number),
            Self::Name(_, error) => Self::Name(number, error),
        }
    }
}

/// Puts a backslash before each backslash and whatever is `special`.
fn escape(text: &str, special: &str, out: &mut String) {
    for character in text.chars() {
        if character == '\\' || special.contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
}

/// What stands before the first of `ends` that is not escaped, unescaped, and the rest from that end on; `None` if the text
/// ends with a backslash that escapes nothing.
fn unescape_until<'a>(text: &'a str, ends: &[char]) -> Option<(String, &'a str)> {
    let mut taken = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if ends.contains(&character) {
            return Some((taken, &text[at..]));
        }
        taken.push(match character {
            '\\' => characters.next()?.1,
            plain => plain,
        });
    }
    Some((taken, ""))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With every character that any of the escapes treats specially, often.
    fn word(least: usize) -> impl Strategy<Value = String> {
        let special = prop::sample::select(vec!['\\', '=', ';', ',', ':', '-', '"']);
        let character = prop_oneof![special, prop::char::range('!', '~'), Just('é')];
        prop::collection::vec(character, least..12).prop_map(|all| all.into_iter().collect())
    }

    pub(crate) fn args() -> impl Strategy<Value = Args> {
        prop::collection::vec((word(1), word(0)), 0..6).prop_map(Args)
    }

    pub(crate) fn name() -> impl Strategy<Value = TransportName> {
        "[a-zA-Z_][a-zA-Z0-9_]{0,9}".prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn arguments_survive_each_of_their_texts(args in args()) {
            prop_assert_eq!(&Args::from_socks(&args.to_socks()).unwrap(), &args);
            prop_assert_eq!(&Args::from_smethod(&args.to_smethod().unwrap()).unwrap(), &args);
        }

        #[test]
        fn options_of_several_transports_survive_their_text(
            mut options in prop::collection::btree_map(name(), args(), 0..4),
        ) {
            options.retain(|_, args| !args.is_empty());
            prop_assert_eq!(options_from_text(&options_to_text(&options)).unwrap(), options);
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>(), special in "[a:;,=\\\\]{0,20}") {
            for text in [text, special] {
                let _ = Args::from_socks(&text);
                let _ = Args::from_smethod(&text);
                let _ = options_from_text(&text);
            }
        }
    }

    #[test]
    fn a_bridge_line_of_tor_is_read_as_it_was_meant() {
        // tor escapes semicolons and backslashes only.
        let args = Args::from_socks(r"cert=ab==;iat-mode=0;note=a\;b\\c").unwrap();
        let all: Vec<_> = args.iter().collect();
        assert_eq!(all, [("cert", "ab=="), ("iat-mode", "0"), ("note", r"a;b\c")]);
    }

    #[test]
    fn the_options_of_the_specification_are_read() {
        let options =
            options_from_text("scramblesuit:key=banana;automata:rule=110;automata:depth=3").unwrap();
        let automata = &options[&"automata".parse().unwrap()];
        assert_eq!(automata.value("depth"), Some("3"));
        assert_eq!((options.len(), automata.len()), (2, 2));
    }

    #[test]
    fn an_error_says_which_argument_is_wrong() {
        assert_eq!(Args::from_socks("a=1;b"), Err(ArgsError::NoValue(2)));
        assert_eq!(Args::from_socks("a=1;"), Err(ArgsError::NoValue(2)));
        assert_eq!(Args::from_socks("=1"), Err(ArgsError::EmptyKey(1)));
        assert_eq!(Args::from_socks("a=\\"), Err(ArgsError::DanglingEscape(1)));
        assert_eq!(Args::from_socks("a=1;b=\n"), Err(ArgsError::Control(2)));
        assert_eq!(options_from_text("a:k=1;k=2"), Err(ArgsError::NoTransport(2)));
        assert_eq!(options_from_text("a:k=1;b:k"), Err(ArgsError::NoValue(2)));
        let blank = Args::new().with("a", "b c").unwrap();
        assert_eq!(blank.to_smethod(), Err(ArgsError::Blank(1)));
    }

    #[test]
    fn no_secret_is_shown() {
        let args = Args::new().with("cert", "hush").unwrap();
        assert_eq!(format!("{args:?}"), "Args(1, not shown)");
    }
}
