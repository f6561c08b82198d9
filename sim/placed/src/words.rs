//! Words in what is said of a mistake: somebody's text made harmless, and the choice that was probably meant.

/// At most 60 characters, so that a message stays a line; control characters escaped, so that it stays harmless.
pub fn shortened(text: &str) -> String {
    let mut head: String = text.chars().take(60).collect();
    if head.len() < text.len() {
        head.push_str("...");
    }
    head.chars()
        .flat_map(|char| {
            let escaped: Vec<char> = match char.is_control() {
                true => char.escape_default().collect(),
                false => vec![char],
            };
            escaped
        })
        .collect()
}

/// The choice nearest to `word`, if any is near enough to have been meant.
pub fn nearest<'a>(word: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let len = word.chars().count();
    if len > 64 {
        return None;
    }
    let bound = (len / 3).max(1);
    choices
        .into_iter()
        .map(|choice| (distance(word, choice), choice))
        .filter(|(far, choice)| *far <= bound || (len >= 3 && choice.starts_with(word)))
        .min_by_key(|(far, _)| *far)
        .map(|(_, choice)| choice)
}

/// Edits (insert, delete, replace, swap of neighbours) between two words, row by row.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let replaced = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_choice_is_offered_and_a_far_one_is_not() {
        assert_eq!(nearest("trottle", ["throttle", "drop"]), Some("throttle"));
        assert_eq!(
            nearest("blokced-bootstrap", ["blocked-bootstrap"]),
            Some("blocked-bootstrap")
        );
        assert_eq!(nearest("xyzzy", ["throttle", "drop"]), None);
    }

    #[test]
    fn a_long_or_hostile_text_is_a_short_and_harmless_one() {
        assert_eq!(shortened("drop"), "drop");
        assert_eq!(shortened(&"x".repeat(61)), format!("{}...", "x".repeat(60)));
        assert_eq!(shortened("a\u{1b}[2J"), "a\\u{1b}[2J");
    }
}
