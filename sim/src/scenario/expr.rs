//! The small closed language of invariants and claims: metrics, `share`, `count`, `quantile`, `max`, `min`, `mean`,
//! comparison, `and`, `or`, `not`. Parsed and type-checked when the scenario is loaded.
//!
//! ```text
//! condition = both { "or" both }          both = one { "and" one }
//! one       = "not" one | "(" condition ")" | number ( "<" | "<=" | "==" | "!=" | ">=" | ">" ) number
//! number    = literal [unit] | metric | function "(" metric [ "," literal ] ")"
//! metric    = name "." name [ "(" argument { "," argument } ")" ]
//! argument  = literal unit | 'text' | "outside" 'text'
//! ```

use std::time::Duration;

use phantom_placed::words::{nearest, shortened};
use phantom_placed::{Placed, Problem};

use super::metric::{Call, Entry, Gives, METRICS, SECRETS, STEPS, Sense, TRANSPORTS, Takes, Unit};
use super::units::Time;

/// Longest expression that is read.
const MAX_TEXT: usize = 1_000;
/// Deepest nesting of parentheses and `not`.
const MAX_DEPTH: usize = 32;

/// True or false.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All of them.
    And(Vec<Condition>),
    /// At least one of them.
    Or(Vec<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// Two numbers of the same unit.
    Compare(Number, Comparison, Number),
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `>=`
    AtLeast,
    /// `>`
    More,
}

impl Comparison {
    /// Whether it holds between two numbers.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Equal => left == right,
            Self::Unequal => left != right,
            Self::AtLeast => left >= right,
            Self::More => left > right,
        }
    }
}

/// A number with a unit.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// Written out; seconds or bytes where it has such a unit.
    Literal(f64, Unit),
    /// A metric that is one number.
    Metric(Call),
    /// The share of peers for which a metric says yes.
    Share(Call),
    /// How many peers it says yes for, or how many samples there are.
    Count(Call),
    /// A quantile of samples.
    Quantile(Call, f64),
    /// The largest sample.
    Max(Call),
    /// The smallest sample.
    Min(Call),
    /// The mean of samples.
    Mean(Call),
}

impl Number {
    /// The metric in it.
    pub fn call(&self) -> Option<&Call> {
        match self {
            Self::Literal(..) => None,
            Self::Metric(call)
            | Self::Share(call)
            | Self::Count(call)
            | Self::Quantile(call, _)
            | Self::Max(call)
            | Self::Min(call)
            | Self::Mean(call) => Some(call),
        }
    }

    /// Its unit.
    pub fn unit(&self) -> Unit {
        match self {
            Self::Literal(_, unit) => *unit,
            Self::Share(_) | Self::Count(_) => Unit::One,
            Self::Metric(call)
            | Self::Quantile(call, _)
            | Self::Max(call)
            | Self::Min(call)
            | Self::Mean(call) => call.metric.entry().unit,
        }
    }
}

impl Condition {
    /// Every metric in it.
    pub fn calls(&self) -> Vec<&Call> {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().flat_map(Self::calls).collect(),
            Self::Not(one) => one.calls(),
            Self::Compare(left, _, right) => left.call().into_iter().chain(right.call()).collect(),
        }
    }

    /// Whether it is known only when the run has ended.
    pub fn at_end(&self) -> bool {
        self.calls().iter().any(|call| call.metric.entry().at_end)
    }

    /// What must be observable for it.
    pub fn senses(&self) -> Vec<Sense> {
        self.calls()
            .iter()
            .map(|call| call.metric.entry().sense)
            .collect()
    }
}

/// What names an expression may refer to.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The censor's rules.
    pub rules: &'a [&'a str],
}

/// Reads a condition.
///
/// # Errors
/// The place and what was wanted there.
pub fn condition(text: &Placed<String>, names: Names<'_>) -> Result<Condition, Problem> {
    let mut parser = Parser::new(text, names)?;
    let condition = parser.condition(0)?;
    parser.end()?;
    Ok(condition)
}

/// Reads a number.
///
/// # Errors
/// The place and what was wanted there.
pub fn number(text: &Placed<String>, names: Names<'_>) -> Result<Number, Problem> {
    let mut parser = Parser::new(text, names)?;
    let number = parser.number()?;
    parser.end()?;
    Ok(number)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Number(&'a str),
    Text(&'a str),
    Sign(&'a str),
}

struct Parser<'a> {
    text: &'a Placed<String>,
    names: Names<'a>,
    tokens: Vec<(usize, Token<'a>)>,
    next: usize,
}

const FUNCTIONS: &[&str] = &["share", "count", "quantile", "max", "min", "mean"];
const SIGNS: &[&str] = &["<=", ">=", "==", "!=", "<", ">", "(", ")", ","];

impl<'a> Parser<'a> {
    fn new(text: &'a Placed<String>, names: Names<'a>) -> Result<Self, Problem> {
        let mut parser = Self {
            text,
            names,
            tokens: Vec::new(),
            next: 0,
        };
        if text.len() > MAX_TEXT {
            return Err(parser.wrong(
                0,
                format!("the expression has {} bytes; at most {MAX_TEXT}", text.len()),
            ));
        }
        let source: &'a str = &text.value;
        let mut at = 0;
        while let Some(first) = source[at..].chars().next() {
            let rest = &source[at..];
            let run = |keep: fn(char) -> bool| rest.find(|c| !keep(c)).unwrap_or(rest.len());
            let (length, token) = if first.is_whitespace() {
                (first.len_utf8(), None)
            } else if first.is_ascii_digit() {
                let length = run(|c| c.is_ascii_digit() || matches!(c, '.' | '_'));
                (length, Some(Token::Number(&rest[..length])))
            } else if first.is_ascii_alphabetic() {
                let length = run(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/'));
                (length, Some(Token::Word(&rest[..length])))
            } else if first == '\'' {
                let Some(end) = rest[1..].find('\'') else {
                    return Err(parser.wrong(at, "this text has no closing '"));
                };
                (end + 2, Some(Token::Text(&rest[1..=end])))
            } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                (sign.len(), Some(Token::Sign(&rest[..sign.len()])))
            } else {
                return Err(parser
                    .wrong(at, format!("'{first}' has no meaning here"))
                    .help("an expression is such as share(client.connected) >= 0.9"));
            };
            if let Some(token) = token {
                parser.tokens.push((at, token));
            }
            at += length;
        }
        Ok(parser)
    }

    /// A problem `offset` bytes into the expression; its text begins one byte after the quote.
    fn wrong(&self, offset: usize, message: impl Into<String>) -> Problem {
        Problem::new(self.text.at.plus(offset + 1), message)
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|(_, token)| *token)
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.next).map_or(self.text.len(), |(at, _)| *at)
    }

    fn take(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.next += usize::from(token.is_some());
        token
    }

    fn take_if(&mut self, wanted: Token<'_>) -> bool {
        let found = self.peek() == Some(wanted);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Problem> {
        if self.take_if(Token::Sign(sign)) {
            return Ok(());
        }
        Err(self.wanted(&format!("'{sign}'")))
    }

    fn wanted(&self, what: &str) -> Problem {
        let got = match self.peek() {
            None => "the end".to_owned(),
            Some(Token::Word(text) | Token::Number(text) | Token::Sign(text)) => {
                format!("'{}'", shortened(text))
            }
            Some(Token::Text(text)) => format!("the text '{}'", shortened(text)),
        };
        self.wrong(self.offset(), format!("wanted {what}, got {got}"))
    }

    fn end(&self) -> Result<(), Problem> {
        if self.peek().is_none() {
            Ok(())
        } else {
            Err(self.wanted("the end, 'and' or 'or'"))
        }
    }

    fn condition(&mut self, depth: usize) -> Result<Condition, Problem> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(self.offset(), format!("nested deeper than {MAX_DEPTH}")));
        }
        let mut any = vec![self.both(depth)?];
        while self.take_if(Token::Word("or")) {
            any.push(self.both(depth)?);
        }
        Ok(if any.len() == 1 {
            any.remove(0)
        } else {
            Condition::Or(any)
        })
    }

    fn both(&mut self, depth: usize) -> Result<Condition, Problem> {
        let mut all = vec![self.one(depth)?];
        while self.take_if(Token::Word("and")) {
            all.push(self.one(depth)?);
        }
        Ok(if all.len() == 1 {
            all.remove(0)
        } else {
            Condition::And(all)
        })
    }

    fn one(&mut self, depth: usize) -> Result<Condition, Problem> {
        if self.take_if(Token::Word("not")) {
            if depth >= MAX_DEPTH {
                return Err(self.wrong(self.offset(), format!("nested deeper than {MAX_DEPTH}")));
            }
            return Ok(Condition::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take_if(Token::Sign("(")) {
            let inner = self.condition(depth + 1)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let left = self.number()?;
        let comparison = match self.peek() {
            Some(Token::Sign("<")) => Comparison::Less,
            Some(Token::Sign("<=")) => Comparison::AtMost,
            Some(Token::Sign("==")) => Comparison::Equal,
            Some(Token::Sign("!=")) => Comparison::Unequal,
            Some(Token::Sign(">=")) => Comparison::AtLeast,
            Some(Token::Sign(">")) => Comparison::More,
            _ => return Err(self.wanted("a comparison (<, <=, ==, !=, >=, >)")),
        };
        self.next += 1;
        let offset = self.offset();
        let right = self.number()?;
        if left.unit() != right.unit() {
            return Err(self.wrong(
                offset,
                format!("wanted {} to compare with, got {}", left.unit(), right.unit()),
            ));
        }
        if left.call().is_none() && right.call().is_none() {
            return Err(self.wrong(offset, "two fixed numbers are compared; one side needs a metric"));
        }
        Ok(Condition::Compare(left, comparison, right))
    }

    fn number(&mut self) -> Result<Number, Problem> {
        let offset = self.offset();
        match self.peek() {
            Some(Token::Number(_)) => self.literal(),
            Some(Token::Word(word)) if word.contains('.') => {
                let (entry, call) = self.metric()?;
                if entry.gives != Gives::Number {
                    let how = if entry.gives == Gives::Flags {
                        "share(...) or count(...)"
                    } else {
                        "quantile(..., q), max(...), min(...), mean(...) or count(...)"
                    };
                    return Err(self
                        .wrong(offset, format!("{} is not one number", entry.name))
                        .help(format!("write {how}")));
                }
                Ok(Number::Metric(call))
            }
            Some(Token::Word(word)) => {
                if !FUNCTIONS.contains(&word) {
                    let choices = FUNCTIONS
                        .iter()
                        .copied()
                        .chain(METRICS.iter().map(|entry| entry.name));
                    let at = self.wrong(offset, "").at;
                    return Err(Problem::unknown(
                        at,
                        "function or metric",
                        word,
                        choices.collect::<Vec<_>>(),
                    ));
                }
                self.next += 1;
                self.expect("(")?;
                let inside = self.offset();
                if !matches!(self.peek(), Some(Token::Word(name)) if name.contains('.')) {
                    return Err(self.wanted("a metric such as client.connected"));
                }
                let (entry, call) = self.metric()?;
                let number = match (word, entry.gives) {
                    ("share", Gives::Flags) => Number::Share(call),
                    ("count", Gives::Flags | Gives::Samples) => Number::Count(call),
                    ("max", Gives::Samples) => Number::Max(call),
                    ("min", Gives::Samples) => Number::Min(call),
                    ("mean", Gives::Samples) => Number::Mean(call),
                    ("quantile", Gives::Samples) => {
                        self.expect(",")?;
                        let at = self.offset();
                        match self.literal()? {
                            Number::Literal(q, Unit::One) if (0.0..=1.0).contains(&q) => {
                                Number::Quantile(call, q)
                            }
                            _ => return Err(self.wrong(at, "wanted a quantile between 0 and 1 such as 0.99")),
                        }
                    }
                    (_, gives) => {
                        let is = match gives {
                            Gives::Flags => "yes or no per peer: share(...), count(...)",
                            Gives::Samples => "a set of numbers: quantile(..., q), max, min, mean, count",
                            Gives::Number => "one number: compare it directly",
                        };
                        return Err(self
                            .wrong(inside, format!("{word}(...) cannot take {}", entry.name))
                            .help(format!("it is {is}")));
                    }
                };
                self.expect(")")?;
                Ok(number)
            }
            _ => Err(self.wanted("a number, a metric or a function")),
        }
    }

    fn literal(&mut self) -> Result<Number, Problem> {
        let offset = self.offset();
        let Some(Token::Number(digits)) = self.take() else {
            self.next = self.next.saturating_sub(1);
            return Err(self.wanted("a number"));
        };
        let value: f64 = digits
            .replace('_', "")
            .parse()
            .map_err(|_| self.wrong(offset, format!("'{}' is not a number", shortened(digits))))?;
        let unit = match self.peek() {
            Some(Token::Word(unit)) if !matches!(unit, "and" | "or") => unit,
            _ => return Ok(Number::Literal(value, Unit::One)),
        };
        let at = self.offset();
        self.next += 1;
        let text = format!("{digits} {unit}");
        if let Ok(time) = text.parse::<Time>() {
            return Ok(Number::Literal(time.0.as_secs_f64(), Unit::Seconds));
        }
        if let Ok(size) = text.parse::<super::units::Size>() {
            return Ok(Number::Literal(size.0.0 as f64, Unit::Bytes));
        }
        Err(self
            .wrong(at, format!("unknown unit '{}'", shortened(unit)))
            .help("units: ns, us, ms, s, min, h, d, B, kB, MB, GB, KiB, MiB, GiB"))
    }

    fn metric(&mut self) -> Result<(&'static Entry, Call), Problem> {
        let offset = self.offset();
        let Some(Token::Word(name)) = self.take() else {
            return Err(self.wanted("a metric"));
        };
        let Some(entry) = METRICS.iter().find(|entry| entry.name == name) else {
            let at = self.wrong(offset, "").at;
            let family: Vec<&str> = METRICS.iter().map(|entry| entry.name).collect();
            let head = name.split('.').next().unwrap_or(name);
            let same: Vec<&str> = family
                .iter()
                .copied()
                .filter(|other| other.split('.').next() == Some(head))
                .collect();
            let mut problem = Problem::unknown(
                at,
                "metric",
                name,
                if same.is_empty() { family.clone() } else { same },
            );
            if let (false, Some(near)) = (problem.message.contains("did you mean"), nearest(name, family)) {
                problem.message.push_str(&format!("; did you mean '{near}'?"));
            }
            return Err(problem);
        };
        let mut call = Call {
            metric: entry.metric,
            time: Duration::ZERO,
            about: None,
            outside: None,
        };
        let mut timed = false;
        if !entry.takes.is_empty() && self.take_if(Token::Sign("(")) {
            loop {
                self.argument(entry, &mut call, &mut timed)?;
                if !self.take_if(Token::Sign(",")) {
                    break;
                }
            }
            self.expect(")")?;
        }
        if entry.takes.contains(&Takes::Time) && !timed {
            return Err(self.wrong(offset, format!("{name} needs a time: {name}(5 min)")));
        }
        if entry.takes.contains(&Takes::Transport) && call.about.is_none() {
            return Err(self.wrong(offset, format!("{name} needs a transport: {name}('obfs4')")));
        }
        if entry.takes.contains(&Takes::Step) && call.about.is_none() {
            return Err(self.wrong(
                offset,
                format!("{name} needs a step of the ladder: {name}('dht')"),
            ));
        }
        Ok((entry, call))
    }

    fn argument(&mut self, entry: &Entry, call: &mut Call, timed: &mut bool) -> Result<(), Problem> {
        let offset = self.offset();
        let takes = |what| entry.takes.contains(&what);
        match self.peek() {
            Some(Token::Number(_)) if takes(Takes::Time) && !*timed => {
                let Number::Literal(seconds, Unit::Seconds) = self.literal()? else {
                    return Err(self.wrong(offset, format!("{} wants a time such as 5 min", entry.name)));
                };
                call.time = Duration::try_from_secs_f64(seconds)
                    .map_err(|_| self.wrong(offset, "this time is too long"))?;
                *timed = true;
                Ok(())
            }
            Some(Token::Word("outside")) if takes(Takes::Outside) && call.outside.is_none() => {
                self.next += 1;
                call.outside = Some(self.name_among("censor rule", self.names.rules)?);
                Ok(())
            }
            Some(Token::Text(_)) if call.about.is_none() && takes(Takes::Rule) => {
                call.about = Some(self.name_among("censor rule", self.names.rules)?);
                Ok(())
            }
            Some(Token::Text(_)) if call.about.is_none() && takes(Takes::Step) => {
                call.about = Some(self.name_among("step of the ladder", STEPS)?);
                Ok(())
            }
            Some(Token::Text(_)) if call.about.is_none() && takes(Takes::Transport) => {
                call.about = Some(self.name_among("transport", &TRANSPORTS)?);
                Ok(())
            }
            Some(Token::Text(_)) if call.about.is_none() && takes(Takes::Secret) => {
                call.about = Some(self.name_among("kind of secret", SECRETS)?);
                Ok(())
            }
            _ => {
                let takes: Vec<&str> = entry
                    .takes
                    .iter()
                    .map(|takes| match takes {
                        Takes::Time => "a time (5 min)",
                        Takes::Rule => "the name of a censor rule ('shutdown')",
                        Takes::Step => "a step of the ladder ('dht')",
                        Takes::Transport => "a transport ('obfs4')",
                        Takes::Secret => "a kind of secret ('bridge-key')",
                        Takes::Outside => "outside 'rule'",
                    })
                    .collect();
                Err(self
                    .wanted(&format!("an argument of {}", entry.name))
                    .help(format!("it takes {}", takes.join(", "))))
            }
        }
    }

    fn name_among(&mut self, what: &str, choices: &[&str]) -> Result<String, Problem> {
        let offset = self.offset();
        let Some(Token::Text(name)) = self.peek() else {
            return Err(self.wanted(&format!("the name of a {what} in '...'")));
        };
        self.next += 1;
        if choices.contains(&name) {
            return Ok(name.to_owned());
        }
        Err(Problem::unknown(
            self.wrong(offset, "").at,
            what,
            name,
            choices.iter().copied(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: Names<'_> = Names { rules: &["shutdown"] };

    fn read(text: &str) -> Result<Condition, String> {
        condition(&text.into(), NAMES).map_err(|problem| problem.message)
    }

    #[test]
    fn the_forms_of_the_documentation_are_read() {
        for text in [
            "share(client.connected) >= 0.9",
            "count(client.stranded(5 min)) == 0",
            "share(client.connected_within(5 min, outside 'shutdown')) >= 0.9",
            "quantile(client.time_to_connect(outside 'shutdown'), 0.99) <= 60 s",
            "censor.dropped('shutdown') > 0 and not (censor.forged == 0 or client.entered('dht') < 1)",
            "max(insider.bridges) <= 4",
            "wire.leaks('bridge-key') == 0",
            "share(client.flagged('obfs4')) >= 0.99 and client.entered_over('obfs4-tls') > 0",
            "probe.answered == 0 and max(probe.closing_spread) <= 10 ms",
        ] {
            assert!(read(text).is_ok(), "{text}: {:?}", read(text));
        }
        assert!(read("message.lost(15 min) == 0").expect("good").at_end());
        assert_eq!(read("wire.leaks > 0").expect("good").senses(), [Sense::Wire]);
    }

    #[test]
    fn mistakes_are_named_with_what_was_wanted() {
        for (text, message) in [
            ("", "wanted a number, a metric or a function, got the end"),
            (
                "share(client.conected) >= 0.9",
                "unknown metric 'client.conected'; did you mean 'client.connected'?",
            ),
            (
                "shar(client.connected) >= 0.9",
                "unknown function or metric 'shar'; did you mean 'share'?",
            ),
            ("client.connected", "client.connected is not one number"),
            (
                "share(insider.bridges) > 1",
                "share(...) cannot take insider.bridges",
            ),
            (
                "share(client.connected)",
                "wanted a comparison (<, <=, ==, !=, >=, >), got the end",
            ),
            (
                "share(client.connected) > 5 min",
                "wanted a plain number to compare with, got a time",
            ),
            (
                "count(client.stranded) == 0",
                "client.stranded needs a time: client.stranded(5 min)",
            ),
            (
                "count(client.stranded(5)) == 0",
                "client.stranded wants a time such as 5 min",
            ),
            ("count(client.stranded(5 mim)) == 0", "unknown unit 'mim'"),
            (
                "censor.dropped('shutdwn') > 0",
                "unknown censor rule 'shutdwn'; did you mean 'shutdown'?",
            ),
            (
                "client.entered > 0",
                "client.entered needs a step of the ladder: client.entered('dht')",
            ),
            (
                "quantile(client.time_to_connect, 2) < 5 s",
                "wanted a quantile between 0 and 1 such as 0.99",
            ),
            ("1 < 2", "two fixed numbers are compared; one side needs a metric"),
            ("censor.dropped > 0 xor 1", "unknown unit 'xor'"),
            ("censor.dropped('x", "this text has no closing '"),
            ("censor.dropped = 0", "'=' has no meaning here"),
        ] {
            assert_eq!(read(text).expect_err(text), message, "{text}");
        }
        assert!(read(&"(".repeat(900)).is_err());
        assert!(read(&"not ".repeat(200)).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,80}") {
            let _ = read(&text);
        }

        #[test]
        fn arbitrary_words_of_the_language_never_panic(
            words in prop::collection::vec(prop::sample::select(vec![
                "share", "(", ")", "client.connected", "client.stranded", "5", "min", ",", "'shutdown'", "outside",
                "and", "or", "not", ">=", "==", "0.9", "quantile", "client.time_to_connect", "'",
            ]), 0..20)
        ) {
            let _ = read(&words.join(" "));
        }
    }
}
