//! The name that was probably meant.
//!
//! Called where a name is refused, so that the sentence can propose another.
//!
//! **Invariant:** nothing is proposed that differs in more than a third of its letters.

/// ` Did you mean "…"?` with a leading space, or nothing.
pub fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map(|known| format!(" Did you mean {known:?}?")).unwrap_or_default()
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any of Apple's names: not a slip, and not worth the work.
    if name.len() > 100 {
        return None;
    }
    let lower = name.to_lowercase();
    let (distance, best) = known.map(|known| (distance(&lower, &known.to_lowercase()), known)).min()?;
    (distance <= best.len().max(3) / 3).then_some(best)
}

/// Levenshtein's, over characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_corrected_and_something_else_is_not() {
        let known = ["DeviceInformation", "DeviceLock", "ProfileList"];
        assert_eq!(nearest("deviceinformation", known.into_iter()), Some("DeviceInformation"));
        assert_eq!(nearest("DeviceInfromation", known.into_iter()), Some("DeviceInformation"));
        assert_eq!(nearest("ProfilesList", known.into_iter()), Some("ProfileList"));
        assert_eq!(nearest("Reboot", known.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), known.into_iter()), None);
        assert_eq!(suggestion("", std::iter::empty()), "");
    }
}
