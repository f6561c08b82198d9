//! Quantities as scenario files write them: text with a unit ("30 s", "140 kbit/s", "16 kB"), shares as numbers.
//!
//! A bare number where a time is wanted is an error that says how to write one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use phantom_core::units::{BitRate, ByteCount};
use phantom_placed::quantity::{self, RATES, SIZES, TIMES};
use phantom_placed::text_form;
use phantom_placed::words::shortened;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

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
        quantity::parse(text, TIMES, "a time", "30 s").map(|nanos| Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quantity::print(u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX), TIMES, f)
    }
}

/// A rate in bits per second, not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(pub BitRate);

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bits = quantity::parse(text, RATES, "a rate", "140 kbit/s")?;
        BitRate::new(bits)
            .map(Self)
            .ok_or_else(|| "a rate is not zero; to cut a path, drop".to_owned())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quantity::print(self.0.bits_per_second(), RATES, f)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub ByteCount);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        quantity::parse(text, SIZES, "a size", "16 kB").map(|bytes| Self(ByteCount(bytes)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quantity::print(self.0.0, SIZES, f)
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
        let wanted = || format!("wanted seeds such as \"1..=200\", got \"{}\"", shortened(text));
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

text_form!(
    Time,
    "a time in quotes such as \"30 s\" (ns, us, ms, s, min, h, d)"
);
text_form!(
    Rate,
    "a rate in quotes such as \"140 kbit/s\" (bit/s, kbit/s, Mbit/s, Gbit/s)"
);
text_form!(
    Size,
    "a size in quotes such as \"16 kB\" (B, kB, MB, GB, KiB, MiB, GiB)"
);
text_form!(
    Spread,
    "a time in quotes: \"30 s\", \"20 s..90 s\" or \"exp(30 s)\""
);
text_form!(SizeRange, "a size in quotes, or a range such as \"200 B..2 kB\"");
text_form!(Seeds, "seeds in quotes such as \"1..=200\"");

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
