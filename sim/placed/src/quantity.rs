//! Quantities as files write them: decimal text with a unit ("180 s", "140 kbit/s", "16 KB"). For censors and scenarios alike.
//!
//! A unit is never guessed, and nothing here is a float: decimal text becomes a whole number of the smallest unit, or is
//! refused.

use std::fmt;

use super::words::shortened;

/// Names of units, and how many of the smallest each is.
pub type Units = [(&'static str, u64)];

/// Of time, in nanoseconds.
pub const TIMES: &Units = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
/// Of rates, in bits per second.
pub const RATES: &Units = &[
    ("bit/s", 1),
    ("kbit/s", 1_000),
    ("Mbit/s", 1_000_000),
    ("Gbit/s", 1_000_000_000),
];
/// Of sizes, in bytes. KB is what papers write for kB.
pub const SIZES: &Units = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Parses a decimal number and one of `units`, and gives whole units of the smallest. `_` may stand between digits.
///
/// # Errors
/// What was wanted, `what` such as `example`, and what is there instead.
pub fn parse(text: &str, units: &Units, what: &str, example: &str) -> Result<u64, String> {
    let wanted = |got: String| format!("wanted {what} such as \"{example}\", got {got}");
    let text = text.trim();
    let split = text
        .find(|char: char| !(char.is_ascii_digit() || matches!(char, '.' | '_')))
        .unwrap_or(text.len());
    let (number, unit) = (text[..split].replace('_', ""), text[split..].trim());
    if number.is_empty() {
        return Err(wanted(format!("\"{}\"", shortened(text))));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let got = match unit {
            "" => "no unit".to_owned(),
            unit => format!("the unit '{}'", shortened(unit)),
        };
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        return Err(wanted(format!("{got}; units: {}", names.join(", "))));
    };
    let bad = || wanted(format!("the number '{}'", shortened(&number)));
    let too_much = || wanted(format!("more than fits: {}", shortened(text)));
    let (whole, part) = number.split_once('.').unwrap_or((&number, "0"));
    if whole.is_empty() || part.is_empty() || part.contains('.') || part.len() > 18 {
        return Err(bad());
    }
    // Digits alone: what does not parse is too large.
    let whole: u64 = whole.parse().map_err(|_| too_much())?;
    let numerator: u64 = part.parse().map_err(|_| bad())?;
    let scale = 10_u128.pow(part.len() as u32);
    let parts = u128::from(numerator) * u128::from(*factor);
    if !parts.is_multiple_of(scale) {
        return Err(wanted(format!(
            "'{}', which is finer than is kept",
            shortened(text)
        )));
    }
    let value = u128::from(whole) * u128::from(*factor) + parts / scale;
    u64::try_from(value).map_err(|_| too_much())
}

/// Prints `value` of the smallest unit in the largest that leaves a whole number; the first of its size.
///
/// # Errors
/// Those of `f`.
pub fn print(value: u64, units: &Units, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut best = units[0];
    for unit in units {
        if value > 0 && value.is_multiple_of(unit.1) && unit.1 > best.1 {
            best = *unit;
        }
    }
    // Nobody says "0 ns".
    let name = if value == 0 && units == TIMES { "s" } else { best.0 };
    write!(f, "{} {name}", value / best.1)
}

/// A type is read from text in quotes by its `FromStr`, whose errors are sentences, and written by its `Display`; the schema says
/// what is wanted.
#[macro_export]
macro_rules! text_form {
    ($type:ident, $wanted:literal) => {
        impl ::schemars::JsonSchema for $type {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({ "type": "string", "description": $wanted })
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl ::serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str($wanted)
                    }

                    fn visit_str<E: ::serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Printed(u64, &'static Units);

    impl fmt::Display for Printed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            print(self.0, self.1, f)
        }
    }

    #[test]
    fn a_unit_is_never_guessed_and_nothing_is_rounded() {
        let time = |text| parse(text, TIMES, "a time", "30 s");
        assert_eq!(time("1.5 s"), Ok(1_500_000_000));
        assert_eq!(time("1_000 ms"), Ok(1_000_000_000));
        for (text, wanted) in [
            (
                "30",
                "wanted a time such as \"30 s\", got no unit; units: ns, us, ms, s, min, h, d",
            ),
            (
                "30 S",
                "wanted a time such as \"30 s\", got the unit 'S'; units: ns, us, ms, s, min, h, d",
            ),
            (
                "0.1 ns",
                "wanted a time such as \"30 s\", got '0.1 ns', which is finer than is kept",
            ),
            ("soon", "wanted a time such as \"30 s\", got \"soon\""),
            (
                "99999999999 d",
                "wanted a time such as \"30 s\", got more than fits: 99999999999 d",
            ),
        ] {
            assert_eq!(time(text), Err(wanted.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(value in any::<u64>(), scale in 0_u32..12) {
            let value = value / 10_u64.pow(scale) * 10_u64.pow(scale);
            for units in [TIMES, RATES, SIZES] {
                let text = Printed(value, units).to_string();
                prop_assert_eq!(parse(&text, units, "", ""), Ok(value));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = parse(&text, TIMES, "a time", "30 s");
        }
    }
}
