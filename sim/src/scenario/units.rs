//! Quantities as scenario files write them: text with a unit ("30 s", "140 kbit/s", "16 kB"), shares as numbers.
//!
//! A unit is never guessed: a bare number where a time is wanted is an error that says how to write one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use phantom_core::units::{BitRate, ByteCount};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

const TIMES: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
const RATES: &[(&str, u64)] = &[
    ("bit/s", 1),
    ("kbit/s", 1_000),
    ("Mbit/s", 1_000_000),
    ("Gbit/s", 1_000_000_000),
];
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Parses `text` as a number and one of `units`; whole units of the smallest come back. Decimal, exact, no floats.
fn quantity(text: &str, units: &[(&str, u64)], what: &str, example: &str) -> Result<u64, String> {
    let wanted = || format!("wanted {what} such as \"{example}\"");
    let text = text.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_')))
        .unwrap_or(text.len());
    let (number, unit) = (text[..split].replace('_', ""), text[split..].trim());
    if number.is_empty() {
        return Err(format!("{}, got \"{}\"", wanted(), super::source::shorten(text)));
    }
    let names = || units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let got = if unit.is_empty() {
            "no unit".to_owned()
        } else {
            format!("the unit '{}'", super::source::shorten(unit))
        };
        return Err(format!("{}, got {got}; units: {}", wanted(), names()));
    };
    let (whole, part) = number.split_once('.').unwrap_or((&number, ""));
    let bad = || {
        format!(
            "{}, got the number '{}'",
            wanted(),
            super::source::shorten(&number)
        )
    };
    if part.contains('.') || part.len() > 9 || whole.is_empty() || (part.is_empty() && number.contains('.')) {
        return Err(bad());
    }
    let too_big = || {
        format!(
            "{}, got more than fits: {}",
            wanted(),
            super::source::shorten(text)
        )
    };
    let whole: u64 = whole.parse().map_err(|_| too_big())?;
    let mut value = u128::from(whole) * u128::from(*factor);
    if !part.is_empty() {
        let scale = 10_u128.pow(part.len() as u32);
        let numerator: u128 = part.parse().map_err(|_| bad())?;
        value += numerator * u128::from(*factor) / scale;
    }
    u64::try_from(value).map_err(|_| too_big())
}

/// The largest unit that leaves a whole number.
fn print(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (name, factor) = units
        .iter()
        .filter(|(_, factor)| value.is_multiple_of(*factor))
        .max_by_key(|(_, factor)| *factor)
        .copied()
        .unwrap_or(units[0]);
    if value == 0 {
        let zero = if units == TIMES { "s" } else { units[0].0 };
        return write!(f, "0 {zero}");
    }
    write!(f, "{} {name}", value / factor)
}

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub Duration);

impl Time {
    /// `secs` seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
    /// `minutes` minutes.
    pub const fn minutes(minutes: u64) -> Self {
        Self(Duration::from_secs(minutes * 60))
    }
}

impl FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, TIMES, "a time", "30 s").map(|nanos| Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX), TIMES, f)
    }
}

/// A rate in bits per second, not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(pub BitRate);

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bits = quantity(text, RATES, "a rate", "140 kbit/s")?;
        BitRate::new(bits)
            .map(Self)
            .ok_or_else(|| "a rate is not zero; to cut a path, drop".to_owned())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0.bits_per_second(), RATES, f)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub ByteCount);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, SIZES, "a size", "16 kB").map(|bytes| Self(ByteCount(bytes)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0.0, SIZES, f)
    }
}

/// How long something takes, each time anew: `"30 s"`, `"20 s..90 s"` (uniform) or `"exp(30 s)"` (its mean; a Poisson process).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Always the same.
    Fixed(Time),
    /// Uniform between the two.
    Uniform(Time, Time),
    /// Exponential with this mean.
    Exponential(Time),
}

impl Spread {
    /// What its draws come to on average.
    pub fn mean(self) -> Duration {
        match self {
            Self::Fixed(time) | Self::Exponential(time) => time.0,
            Self::Uniform(low, high) => (low.0 + high.0) / 2,
        }
    }

    /// A draw, from 64 uniformly random bits. Pure integer and `libm` arithmetic: the same on every platform.
    pub fn draw(self, random: u64) -> Duration {
        match self {
            Self::Fixed(time) => time.0,
            Self::Uniform(low, high) => {
                let width = high.0.saturating_sub(low.0).as_nanos();
                let part = (width.saturating_add(1)).saturating_mul(u128::from(random)) >> 64;
                low.0 + Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
            }
            Self::Exponential(mean) => {
                // In (0, 1]: the logarithm is finite; at most 36.7 times the mean.
                let unit = ((random >> 11) + 1) as f64 / 9_007_199_254_740_992.0;
                let nanos = -libm::log(unit) * mean.0.as_nanos() as f64;
                Duration::from_nanos(nanos as u64)
            }
        }
    }
}

impl FromStr for Spread {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(mean) = text.strip_prefix("exp(").and_then(|rest| rest.strip_suffix(')')) {
            return mean.parse().map(Self::Exponential);
        }
        if let Some((low, high)) = text.split_once("..") {
            let (low, high): (Time, Time) = (low.parse()?, high.parse()?);
            return if low <= high {
                Ok(Self::Uniform(low, high))
            } else {
                Err(format!(
                    "the range ends before it begins: {low} is more than {high}"
                ))
            };
        }
        text.parse().map(Self::Fixed).map_err(|error: String| {
            format!("{error}; a range is \"20 s..90 s\", a Poisson process \"exp(30 s)\"")
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(time) => write!(f, "{time}"),
            Self::Uniform(low, high) => write!(f, "{low}..{high}"),
            Self::Exponential(mean) => write!(f, "exp({mean})"),
        }
    }
}

/// A range of sizes: `"200 B..2 kB"`, or one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange(pub Size, pub Size);

impl FromStr for SizeRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        let (low, high): (Size, Size) = (low.parse()?, high.parse()?);
        if low <= high {
            Ok(Self(low, high))
        } else {
            Err(format!(
                "the range ends before it begins: {low} is more than {high}"
            ))
        }
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 {
            write!(f, "{}", self.0)
        } else {
            write!(f, "{}..{}", self.0, self.1)
        }
    }
}

/// Seeds from first to last, both included: `"1..=200"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl FromStr for Seeds {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "wanted seeds such as \"1..=200\", got \"{}\"",
                super::source::shorten(text)
            )
        };
        let (first, last) = text.split_once("..=").ok_or_else(wanted)?;
        let first = first.trim().parse().map_err(|_| wanted())?;
        let last = last.trim().parse().map_err(|_| wanted())?;
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(wanted())
        }
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

/// A part of a whole, in \[0, 1\].
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct Share(f64);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(1.0);

    /// `share`, or what is wrong with it.
    pub fn new(share: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(format!(
                "wanted a share between 0 and 1 such as 0.04, got {share}"
            ))
        }
    }

    /// The share.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// This share of `whole`, rounded to the nearest.
    pub fn of(self, whole: u64) -> u64 {
        libm::round(self.0 * whole as f64) as u64
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        Self::new(share).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Share {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Share".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1, "description": "a share between 0 and 1" })
    }
}

macro_rules! text_form {
    ($type:ty, $name:literal, $wanted:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($wanted)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $wanted })
            }
        }
    };
}

text_form!(
    Time,
    "Time",
    "a time in quotes such as \"30 s\" (ns, us, ms, s, min, h, d)"
);
text_form!(
    Rate,
    "Rate",
    "a rate in quotes such as \"140 kbit/s\" (bit/s, kbit/s, Mbit/s, Gbit/s)"
);
text_form!(
    Size,
    "Size",
    "a size in quotes such as \"16 kB\" (B, kB, MB, GB, KiB, MiB, GiB)"
);
text_form!(
    Spread,
    "Spread",
    "a time in quotes: \"30 s\", \"20 s..90 s\" or \"exp(30 s)\""
);
text_form!(
    SizeRange,
    "SizeRange",
    "a size in quotes, or a range such as \"200 B..2 kB\""
);
text_form!(Seeds, "Seeds", "seeds in quotes such as \"1..=200\"");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_exact() {
        assert_eq!("30 s".parse(), Ok(Time(Duration::from_secs(30))));
        assert_eq!("1.5 min".parse(), Ok(Time(Duration::from_secs(90))));
        assert_eq!("364ms".parse(), Ok(Time(Duration::from_millis(364))));
        assert_eq!(
            "140 kbit/s".parse(),
            Ok(Rate(BitRate::new(140_000).expect("not zero")))
        );
        assert_eq!("16 kB".parse(), Ok(Size(ByteCount(16_000))));
        assert_eq!("64 KiB".parse(), Ok(Size(ByteCount(65_536))));
    }

    #[test]
    fn errors_say_what_was_wanted() {
        let time = |text: &str| text.parse::<Time>().expect_err(text);
        assert_eq!(
            time("30"),
            "wanted a time such as \"30 s\", got no unit; units: ns, us, ms, s, min, h, d"
        );
        assert_eq!(
            time("30 sec"),
            "wanted a time such as \"30 s\", got the unit 'sec'; units: ns, us, ms, s, min, h, d"
        );
        assert_eq!(time("soon"), "wanted a time such as \"30 s\", got \"soon\"");
        assert_eq!(time("-5 s"), "wanted a time such as \"30 s\", got \"-5 s\"");
        assert_eq!(
            time("1.2.3 s"),
            "wanted a time such as \"30 s\", got the number '1.2.3'"
        );
        assert!(time("99999999999 d").contains("more than fits"));
        assert!("0 bit/s".parse::<Rate>().is_err());
        assert!("5 s..2 s".parse::<Spread>().is_err());
        assert!(Share::new(1.5).is_err() && Share::new(f64::NAN).is_err());
    }

    #[test]
    fn draws_stay_in_their_range_and_have_their_mean() {
        let spread: Spread = "20 s..90 s".parse().expect("a range");
        assert_eq!(spread.draw(0), Duration::from_secs(20));
        assert_eq!(spread.draw(u64::MAX), Duration::from_secs(90));
        let spread: Spread = "exp(30 s)".parse().expect("a mean");
        // Low-discrepancy points of the unit interval: the mean of their exponentials is the mean.
        let n = 10_000_u64;
        let sum: f64 = (0..n)
            .map(|i| spread.draw((u64::MAX / n) * i + u64::MAX / n / 2).as_secs_f64())
            .sum();
        assert!((sum / n as f64 - 30.0).abs() < 0.1, "{}", sum / n as f64);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,40}") {
            let _ = (text.parse::<Time>(), text.parse::<Rate>(), text.parse::<Size>());
            let _ = (text.parse::<Spread>(), text.parse::<SizeRange>(), text.parse::<Seeds>());
        }

        #[test]
        fn what_is_printed_parses_back(nanos in any::<u64>(), scale in 0_u32..12) {
            let time = Time(Duration::from_nanos(nanos / 10_u64.pow(scale) * 10_u64.pow(scale)));
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
