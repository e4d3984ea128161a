//! What is told of a text that is no predicate.
//!
//! **Invariant:** the place is where the slip begins, and the suggestion mends the whole text.

use super::super::{Dialect, parse};

/// Refused at this byte, with this in the words, and with this suggestion.
const SLIPS: &[(&str, usize, &str, Option<&str>)] = &[
    ("(device.model.family == 'iPad')", 1, "bare key path", Some("(@status(device.model.family) == 'iPad')")),
    (
        "device.operating-system.version >= '17' OR a.b == c.d",
        0,
        "column 1",
        Some("@status(device.operating-system.version) >= '17' OR @status(a.b) == 'c.d'"),
    ),
    (
        "'iPad' == device.model.family",
        10,
        "@status(device.model.family)",
        Some("'iPad' == @status(device.model.family)"),
    ),
    ("shard <= 75", 0, "@property(shard)", Some("@property(shard) <= 75")),
    ("'x' IN roles", 7, "@property(roles)", Some("'x' IN @property(roles)")),
    (
        "@status(device.model.family) == Apple TV",
        32,
        "quotes",
        Some("@status(device.model.family) == 'Apple TV'"),
    ),
    ("@status(a.b) IN {iPad, iPhone}", 17, "quotes", Some("@status(a.b) IN {'iPad', 'iPhone'}")),
    ("@status(a.b) >= 17.4.1", 16, "version", Some("@status(a.b) >= '17.4.1'")),
    (
        "SUBQUERY(mdm.app, $a, state == 'x').@count == 1",
        9,
        "@status(mdm.app)",
        Some("SUBQUERY(@status(mdm.app), $a, $a.@key(state) == 'x').@count == 1"),
    ),
    (
        "SUBQUERY(@status(a.b), $a, $a.id == 'x' && @key(n) == 1).@count == 1",
        30,
        "@key",
        Some("SUBQUERY(@status(a.b), $a, $a.@key(id) == 'x' && $a.@key(n) == 1).@count == 1"),
    ),
    (
        "SUBQUERY(@status(a.b), $a, TRUEPREDICATE) == 1",
        0,
        ".@count",
        Some("SUBQUERY(@status(a.b), $a, TRUEPREDICATE).@count == 1"),
    ),
    ("@status(a.b) == ‘iPad’", 16, "straight quotes", Some("@status(a.b) == 'iPad'")),
    ("@status(a.b) == “it's”", 16, "straight quotes", Some("@status(a.b) == 'it\\'s'")),
    ("@status(a.b) == 1 & @status(a.b) | 1", 18, "&&", None),
    ("@status(a.b) == 1 & @status(c.d) !== 1", 18, "&&", Some("@status(a.b) == 1 && @status(c.d) != 1")),
    ("@status(a.b) === 1", 13, "write ==", Some("@status(a.b) == 1")),
    ("@status(a.b) ≥ '1'", 13, ">=", Some("@status(a.b) >= '1'")),
    ("@status('a.b') == 1", 8, "without quotes", Some("@status(a.b) == 1")),
    ("@Status(a.b) == 1", 0, "@status(…)", Some("@status(a.b) == 1")),
    ("status(a.b) equals 1", 0, "not a function", Some("@status(a.b) == 1")),
    ("@status(a.b)", 0, "== TRUE", Some("@status(a.b) == TRUE")),
    ("NOT @status(a.b) AND 1 == 1", 4, "== TRUE", Some("NOT @status(a.b) == TRUE AND 1 == 1")),
    ("@status(a.b) MATCHES '\\d+'", 22, "\"\\d\" in a string", Some("@status(a.b) MATCHES '\\\\d+'")),
    ("@status(a.b)\u{a0}== 1", 12, "U+00A0", Some("@status(a.b) == 1")),
    ("@status(a.b) == 'iPad", 16, "no ' at its end", None),
    ("@status(a.b) == 'iPad’", 16, "curly quote", None),
    ("(@status(a.b) == 1", 18, "column 1", None),
    ("@status(a.b) == 1)", 17, "closes nothing", None),
    ("{1, 2", 5, "\"}\"", None),
    ("@status(a.b) == 1 2", 18, "AND, OR or the end", None),
    ("@status(a.b) == 1 == 1", 18, "AND, OR or the end", None),
    ("@status(a.b) NOT IN {1}", 13, "NOT stands before", None),
    ("@status(a.b) + 1 == 2", 13, "arithmetic", None),
    ("@status(a.b) -1 == 2", 13, "arithmetic", None),
    ("@status(a.b) == 2 * 3", 18, "AND, OR or the end", None),
    ("@status(a.b)[0] == 1", 12, "index", None),
    ("@status(a.b) BETWEEN {1}", 21, "two values", None),
    ("@status(a.b) CONTAINS[x] 'y'", 21, "[cd]", None),
    ("@status() == 1", 8, "needs a name", None),
    ("@status(a..b) == 1", 8, "needs a name", None),
    ("@status(a b) == 1", 10, "\")\"", None),
    ("@status == 1", 8, "parentheses", None),
    ("@key(x) == 1", 0, "SUBQUERY", None),
    ("@status(a.b).@sum == 1", 13, "@count is", None),
    ("@status(a.b).@count.@count == 1", 20, "@count", None),
    ("$a == 1", 0, "$a", None),
    ("SUBQUERY(@status(a.b), a, 1 == 1).@count == 1", 23, "variable", None),
    ("CAST(1, 'NSNumber') == 1", 0, "CAST", None),
    ("SELF == 1", 0, "SELF", None),
    ("now() == 1", 0, "not a function", None),
    ("@status(a.b) == %@", 16, "format arguments", None),
    ("@status(a.b) == 1e999", 16, "too large", None),
    ("ANY TRUEPREDICATE", 0, "before a comparison", None),
    ("@status(a.b) == (1 == 1)", 0, "not a condition", None),
    ("", 0, "ends where a value", None),
    ("AND", 0, "a value was expected", None),
    ("'\\u0000' == 1", 1, "stands for nothing", Some("'\\\\u0000' == 1")),
    ("@status(a.b) == \0", 16, "NUL", None),
];

#[test]
fn slips_are_told_with_their_place_and_what_to_write_instead() {
    for (text, position, words, suggestion) in SLIPS {
        let error = parse(text, Dialect::Device).unwrap_err();
        assert!(error.words.contains(words), "{text}: {error}");
        assert!(error.words.ends_with(['.', ']']), "{error}");
        assert_eq!(
            (error.position, error.suggestion.as_deref()),
            (*position, *suggestion),
            "{text}: {error}"
        );
    }
}

#[test]
fn columns_count_characters_and_positions_bytes() {
    let error = parse("@status(ä.ö) == 'ü' §", Dialect::Device).unwrap_err();
    assert_eq!(error.position, 23);
    assert_eq!(error.words, "At column 21: \"§\" means nothing here.");
}
