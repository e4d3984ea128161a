//! Letters without case or accents: what `[c]` and `[d]` compare.
//!
//! Case by Unicode's simple rules. Accents by a table of the Latin letters that are a base letter with
//! marks, to U+024F and, for Vietnamese, U+1E00 to U+1EFF; combining marks are left out. Letters that
//! are not composed, as ø, ł and ß, stay what they are, as they do in Foundation.
//!
//! **Invariant:** folding a folded text changes nothing.

use std::borrow::Cow;

use super::tree::Options;

/// The base letters from U+00C0 on; a dot where there is none.
const LATIN: &[u8] = b"\
AAAAAA.CEEEEIIII.NOOOOO..UUUUY..aaaaaa.ceeeeiiii.nooooo..uuuuy.yAaAaAaCcCcCcCcDd..EeEeEeEeEeG\
gGgGgGgHh..IiIiIiIiI...JjKk.LlLlLl....NnNnNn...OoOoOo..RrRrRrSsSsSsSsTtTt..UuUuUuUuUuUuWwYyYZ\
zZzZz.................................Oo.............Uu............................AaIiOoUuUu\
UuUuUu.AaAa....GgKkOoOo..j...Gg..NnAa....AaAaEeEeIiIiOoOoRrRrUuUuSsTt..Hh......AaEeOoOoOoOoYy";

/// The base letters from U+1E00 on.
const LATIN_ADDITIONAL: &[u8] = b"\
AaBbBbBbCcDdDdDdDdDdEeEeEeEeEeFfGgHhHhHhHhHhIiIiKkKkKkLlLlLlLlMmMmMmNnNnNnNnOoOoOoOoPpPpRrRrR\
rRrSsSsSsSsSsTtTtTtTtUuUuUuUuUuVvVvWwWwWwWwWwXxXxYyZzZzZzhtwy......AaAaAaAaAaAaAaAaAaAaAaAaEe\
EeEeEeEeEeEeEeIiIiOoOoOoOoOoOoOoOoOoOoOoOoUuUuUuUuUuUuUuYyYyYyYy......";

/// The text as it is compared under these options.
pub(super) fn fold(text: &str, options: Options) -> Cow<'_, str> {
    if !options.case && !options.diacritics {
        return Cow::Borrowed(text);
    }
    // Case first: the lower case letter of a sign may be one with marks, as that of the Ångström is.
    let cased: String =
        if options.case { text.chars().flat_map(char::to_lowercase).collect() } else { text.to_owned() };
    if !options.diacritics {
        return Cow::Owned(cased);
    }
    Cow::Owned(cased.chars().filter(|c| !is_mark(*c)).map(without_marks).collect())
}

fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

fn without_marks(c: char) -> char {
    let base = |table: &[u8], first: u32| {
        let index = usize::try_from(u32::from(c).checked_sub(first)?).ok()?;
        table.get(index).filter(|base| **base != b'.').map(|base| char::from(*base))
    };
    base(LATIN, 0xc0).or_else(|| base(LATIN_ADDITIONAL, 0x1e00)).unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Options = Options { case: true, diacritics: false, normalized: false, locale: false };
    const DIACRITICS: Options = Options { case: false, diacritics: true, ..CASE };
    const BOTH: Options = Options { diacritics: true, ..CASE };

    #[test]
    fn accents_and_case_are_folded_each_for_itself() {
        for (text, case, diacritics, both) in [
            ("Zoë Ångström", "zoë ångström", "Zoe Angstrom", "zoe angstrom"),
            ("Nguyễn ẞ Łódź", "nguyễn ß łódź", "Nguyen ẞ Łodz", "nguyen ß łodz"),
            ("cafe\u{301}", "cafe\u{301}", "cafe", "cafe"),
            ("ȲÿĀſ", "ȳÿāſ", "YyAſ", "yyaſ"),
            ("MÜLLER 東京", "müller 東京", "MULLER 東京", "muller 東京"),
        ] {
            assert_eq!(fold(text, CASE), case);
            assert_eq!(fold(text, DIACRITICS), diacritics);
            assert_eq!(fold(text, BOTH), both);
        }
        assert!(matches!(fold("Zoë", Options::default()), Cow::Borrowed("Zoë")));
    }

    #[test]
    fn the_tables_are_as_long_as_their_blocks() {
        assert_eq!(LATIN.len(), 0x234 - 0xc0);
        assert_eq!(LATIN_ADDITIONAL.len(), 0x100);
        assert_eq!(without_marks('ȳ'), 'y');
        assert_eq!(without_marks('ỹ'), 'y');
    }

    #[test]
    fn folding_twice_is_folding_once() {
        for c in (0..0x3000).filter_map(char::from_u32) {
            for options in [CASE, DIACRITICS, BOTH] {
                let once = fold(c.encode_utf8(&mut [0; 4]), options).into_owned();
                assert_eq!(fold(&once, options), once, "{c}");
            }
        }
    }
}
