//! Times as people write them: a whole number and a unit.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads "250 ms", "30 s", "5 min", "1 h" or "14 d".
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wanted =
        || format!("{text:?} is no time: write a whole number and ms, s, min, h or d, as in \"30 s\"");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wanted)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let (_, millis) = UNITS
        .iter()
        .find(|(name, _)| *name == unit.trim())
        .ok_or_else(wanted)?;
    number
        .checked_mul(*millis)
        .map(Duration::from_millis)
        .ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse("250 ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse(" 14 d "), Ok(Duration::from_secs(14 * 86_400)));
        for wrong in [
            "",
            "5",
            "s",
            "1.5 h",
            "-1 s",
            "1 week",
            "99999999999999999999 s",
            "18446744073709551615 d",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
