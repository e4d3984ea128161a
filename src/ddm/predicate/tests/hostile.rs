//! Texts and facts that are made to be too much.
//!
//! **Invariant:** every one of them is answered, and soon.

use serde_json::{Value, json};

use super::super::{Dialect, MAX_DEPTH, MAX_LENGTH, MAX_NODES, Truth, parse};
use super::{ipad, read};

#[test]
fn hostile_texts_are_refused_or_read_but_never_followed_without_bound() {
    let deep = |depth: usize| format!("{}1 == 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&deep(MAX_DEPTH), Dialect::Device).is_ok());
    assert!(parse(&deep(MAX_DEPTH + 1), Dialect::Device).unwrap_err().words.contains("nested"));
    for open in [
        "(",
        "{",
        "NOT ",
        "!",
        "SUBQUERY(",
        "1 IN {",
        "((1)=",
        "ANY ",
        "[",
        "@status(",
        "'",
        "$",
        "@",
        ".",
        "\u{202e}",
        "é",
        "1 ",
        "-",
        "\\",
    ] {
        let text = open.repeat(MAX_LENGTH / open.len());
        assert!(parse(&text, Dialect::Device).is_err(), "{open}");
        assert!(parse(&text, Dialect::Rule).is_err(), "{open}");
    }
    let nots = format!("{}TRUEPREDICATE", "NOT ".repeat(MAX_DEPTH + 1));
    assert!(parse(&nots, Dialect::Device).unwrap_err().words.contains("nested"));
    let long = format!("1 == {}1", " ".repeat(MAX_LENGTH));
    assert!(parse(&long, Dialect::Device).unwrap_err().words.contains("8 KiB"));
    let wide = format!("1=1{}", "||1=1".repeat(MAX_NODES / 2));
    assert!(wide.len() < MAX_LENGTH);
    assert!(parse(&wide, Dialect::Device).unwrap_err().words.contains("parts"));
    let grows = format!("'{}' == ''", "\u{1}".repeat(MAX_LENGTH / 2));
    assert!(parse(&grows, Dialect::Device).unwrap_err().words.contains("written out"));
    let slips = "a.b == 1 || ".repeat(600) + "1 == 1";
    assert!(parse(&slips, Dialect::Device).unwrap_err().suggestion.is_none());
    for number in [
        "9".repeat(400),
        "1e400".into(),
        "0x".into(),
        "0xg".into(),
        "1_000".into(),
        "1.".into(),
        "0b2".into(),
        format!("0x{}", "f".repeat(17)),
    ] {
        assert!(parse(&format!("{number} == 1"), Dialect::Device).is_err(), "{number}");
    }
    for number in [
        "99999999999999999999999",
        "18446744073709551615",
        "-9223372036854775808",
        "1e-400",
        "-0.0",
        "0xffffffffffffffff",
    ] {
        read(&format!("{number} != 1"), Dialect::Device);
    }
}

#[test]
fn evaluation_ends_soon_whatever_is_asked() {
    let mut facts = ipad();
    let apps: Vec<Value> =
        (0..2000).map(|id| json!({"identifier": id.to_string(), "text": "a".repeat(200)})).collect();
    facts.0.insert("@status(big.list)".into(), apps.into());
    facts.0.insert("@status(big.text)".into(), "a".repeat(4 << 20).into());
    let mut nested = "TRUEPREDICATE".to_owned();
    for depth in 0..20 {
        nested = format!("SUBQUERY(@status(big.list), $v{depth}, {nested}).@count > 0");
    }
    for text in [
        nested.as_str(),
        "ANY @status(big.list).@key(text) MATCHES '(a|aa)*(a|aa)*(a|aa)*b'",
        "@status(big.text) LIKE '*aaaaaaaaaaaaaaaaaaaaaaaaaaaaab*c'",
        "SUBQUERY(@status(big.list), $a, ANY @status(big.list) == $a).@count == 0",
        "SUBQUERY(@status(big.list), $a, @status(big.text) CONTAINS[cd] 'b').@count == 0",
    ] {
        let started = std::time::Instant::now();
        assert_eq!(read(text, Dialect::Device).evaluate(&facts), Truth::Unknown, "{text}");
        assert!(started.elapsed().as_secs() < 10, "{text}: {:?}", started.elapsed());
    }
    // What an evaluation with this many elements usually is stays far within.
    let usual = "SUBQUERY(@status(big.list), $a, $a.@key(identifier) == '1999' AND $a.@key(text) LIKE 'a*').@count == 1";
    assert_eq!(read(usual, Dialect::Device).evaluate(&facts), Truth::True);
}
