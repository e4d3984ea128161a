//! What the readers accept and refuse, and the laws between reading and writing.

use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::{
    Date, Dictionary, MAX_DEPTH, MAX_NODES, PlistError, Uid, Value, array, boolean, data, date, integer,
    json, needed, parse, parse_dict, real, string, to_xml,
};

const DOCTYPE: &str = r#"<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">"#;

fn xml(content: &str) -> Result<Value, PlistError> {
    parse(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{DOCTYPE}\n<plist version=\"1.0\">{content}</plist>\n").as_bytes())
}

fn refused(content: &str) -> String {
    xml(content).expect_err(content).to_string()
}

#[test]
fn every_element_of_a_property_list_is_read() {
    let value = xml(
        "<dict><key>s</key><string>a &amp; b &lt;&#x41;&#66;&gt;<![CDATA[<c>]]></string><!-- no --><key>d</key>\
         <data>\n\tAAEC\n\t/w==\n</data><key>t</key><true/><key>f</key><false></false><key>i</key><integer>-7</integer>\
         <key>u</key><integer>18446744073709551615</integer><key>r</key><real>1.5</real>\
         <key>w</key><date>2026-11-22T10:30:00Z</date><key>a</key><array><dict/><array/><string/></array></dict>",
    )
    .unwrap();
    let dict = value.as_dictionary().unwrap();
    assert_eq!(string(dict, "s").unwrap(), Some("a & b <AB><c>"));
    assert_eq!(data(dict, "d").unwrap(), Some(&[0, 1, 2, 255][..]));
    assert_eq!((boolean(dict, "t").unwrap(), boolean(dict, "f").unwrap()), (Some(true), Some(false)));
    assert_eq!(integer(dict, "i").unwrap(), Some(-7));
    assert_eq!(dict.get("u").and_then(Value::as_unsigned_integer), Some(u64::MAX));
    assert_eq!(real(dict, "r").unwrap(), Some(1.5));
    assert_eq!(date(dict, "w").unwrap().unwrap().to_xml_format(), "2026-11-22T10:30:00Z");
    assert_eq!(array(dict, "a").unwrap().unwrap().len(), 3);
}

#[test]
fn order_of_keys_is_kept() {
    let value = xml("<dict><key>z</key><true/><key>a</key><true/><key>m</key><true/></dict>").unwrap();
    let keys: Vec<_> = value.as_dictionary().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["z", "a", "m"]);
}

#[test]
fn a_byte_order_mark_is_tolerated_and_utf_16_is_refused_in_words() {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{DOCTYPE}<plist><true/></plist>");
    let marked = [b"\xEF\xBB\xBF", text.as_bytes()].concat();
    assert_eq!(parse(&marked).unwrap(), Value::Boolean(true));
    for order in [u16::to_be_bytes as fn(u16) -> [u8; 2], u16::to_le_bytes] {
        let wide: Vec<u8> = text.encode_utf16().flat_map(order).collect();
        assert_eq!(parse(&wide), Err(PlistError::Encoding));
    }
    for name in ["UTF-16", "ISO-8859-1", "windows-1252"] {
        let text = format!("<?xml version=\"1.0\" encoding=\"{name}\"?><plist><true/></plist>");
        assert_eq!(parse(text.as_bytes()), Err(PlistError::Encoding), "{name}");
    }
    assert_eq!(parse(b"<plist><string>\xFF\xFE</string></plist>"), Err(PlistError::Encoding));
}

#[test]
fn entities_and_document_types_of_the_senders_own_are_refused() {
    for doctype in [
        "<!DOCTYPE plist [<!ENTITY a \"b\">]>",
        "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\" [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>",
        "<!DOCTYPE plist SYSTEM \"http://attacker.example/x.dtd\">",
        "<!DOCTYPE plist PUBLIC \"x\" \"http://attacker.example/www.apple.com/DTDs/PropertyList\">",
        "<!DOCTYPE lolz>",
    ] {
        let text = format!("<?xml version=\"1.0\"?>{doctype}<plist><string>x</string></plist>");
        assert_eq!(parse(text.as_bytes()), Err(PlistError::Doctype), "{doctype}");
    }
    assert!(refused("<string>&unheardof;</string>").contains("entity that is not defined"));
    assert!(refused("&lt;").contains("element was expected"));
}

#[test]
fn what_is_no_xml_property_list_is_refused() {
    for content in [
        "",
        "text",
        "<true/><true/>",
        "<dict><key>a</key></dict>",
        "<dict><true/></dict>",
        "<key>a</key>",
        "<array><key>a</key></array>",
        "<dict><key>a</key><key>b</key></dict>",
        "<string>a<b/></string>",
        "<integer></integer>",
        "<integer>1.5</integer>",
        "<integer>18446744073709551616</integer>",
        "<integer/>",
        "<real>x</real>",
        "<data>!</data>",
        "<data>AAE</data>",
        "<true>x</true>",
        "<set/>",
        "<string",
        "<dict><key>a</key><string>b</dict></string>",
        "<?pi x?><true/>",
        "<string a=\"b\">x</string>",
        "<string>&#0;</string>",
        "<string>a\0b</string>",
        "<plist><true/></plist>",
    ] {
        assert!(xml(content).is_err(), "{content:?} was accepted");
    }
    for whole in [
        "",
        "   ",
        "{\"a\": 1}",
        "{ a = b; }",
        "<html/>",
        "<plist/>",
        "<plist><true/>",
        "<true/>",
        "bplist00",
    ] {
        assert!(parse(whole.as_bytes()).is_err(), "{whole:?} was accepted");
    }
    assert!(parse(b"<plist><true/></plist>junk").is_err());
    assert!(parse(b"<plist><true/></plist><plist><true/></plist>").is_err());
    assert!(parse(b"<plist><true/></plist> <!-- fine --> \n").is_ok());
    assert_eq!(
        xml("<dict><key>a</key><true/><key>a</key><false/></dict>"),
        Err(PlistError::DuplicateKey("a".into()))
    );
}

#[test]
fn dates_that_cannot_be_represented_are_refused() {
    for text in [
        "9999-12-31T23:59:59-01:00",
        "10000-01-01T00:00:00Z",
        "+10000-01-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-22",
        "0000-01-01T00:00:00+01:00",
        "",
    ] {
        assert!(xml(&format!("<date>{text}</date>")).is_err(), "{text}");
    }
    let last = xml("<date>9999-12-31T23:59:59Z</date>").unwrap();
    assert_eq!(json::to_json(&last), "9999-12-31T23:59:59Z");
}

#[test]
fn nesting_and_number_of_values_are_limited() {
    let nested = |depth: usize| format!("{}{}", "<array>".repeat(depth), "</array>".repeat(depth));
    assert!(xml(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(xml(&nested(MAX_DEPTH + 1)), Err(PlistError::TooDeep));
    assert_eq!(xml(&nested(100_000)), Err(PlistError::TooDeep));
    assert!(xml(&format!("<array>{}</array>", "<true/>".repeat(MAX_NODES - 1))).is_ok());
    assert_eq!(xml(&format!("<array>{}</array>", "<true/>".repeat(MAX_NODES))), Err(PlistError::TooMuch));
}

/// A binary list from its objects, with one byte for each reference and offset.
fn binary(objects: &[&[u8]], root: u8) -> Vec<u8> {
    let mut bytes = b"bplist00".to_vec();
    let mut offsets = Vec::new();
    for object in objects {
        offsets.push(u8::try_from(bytes.len()).unwrap());
        bytes.extend_from_slice(object);
    }
    let table = bytes.len() as u64;
    bytes.extend_from_slice(&offsets);
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 1]);
    bytes.extend_from_slice(&(objects.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&u64::from(root).to_be_bytes());
    bytes.extend_from_slice(&table.to_be_bytes());
    bytes
}

#[test]
fn a_binary_list_that_unfolds_without_end_is_refused() {
    // Each array names the next one ten times: 10^8 values in about 150 bytes.
    let arrays: Vec<Vec<u8>> = (1..9).map(|next| [&[0xaa][..], &[next; 10]].concat()).collect();
    let mut objects: Vec<&[u8]> = arrays.iter().map(Vec::as_slice).collect();
    objects.push(&[0x09]);
    assert_eq!(parse(&binary(&objects, 0)), Err(PlistError::TooMuch));
    assert_eq!(parse(&binary(&[&[0xa1, 0]], 0)), Err(PlistError::TooDeep));
    assert_eq!(parse(&binary(&[&[0xa1, 1], &[0xd1, 2, 0], &[0x51, b'k']], 0)), Err(PlistError::TooDeep));
    // 200 bytes named 200 times.
    let long = [&[0x5f, 0x10, 100][..], &[b'x'; 100]].concat();
    let many = [&[0xaf, 0x10, 100][..], &[1; 100]].concat();
    assert_eq!(parse(&binary(&[&many, &long], 0)), Err(PlistError::TooMuch));
}

#[test]
fn binary_lengths_and_offsets_are_compared_with_the_input() {
    let huge = |kind: u8| [&[kind | 0x0f, 0x13][..], &[0xff; 8]].concat();
    for kind in [0x40, 0x50, 0x60, 0xa0, 0xd0] {
        assert!(parse(&binary(&[&huge(kind)], 0)).is_err(), "{kind:x}");
    }
    let good = binary(&[&[0x09]], 0);
    assert_eq!(parse(&good).unwrap(), Value::Boolean(true));
    for at in 0..good.len() {
        for byte in [0, 1, 8, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            // The outcome is free; that there is one is not.
            let _ = parse(&bad);
        }
    }
    assert!(parse(&binary(&[&[0xa1, 7]], 0)).is_err());
    assert!(parse(&binary(&[&[0x09]], 3)).is_err());
    assert!(parse(&binary(&[&[0xd1, 1, 1], &[0x09]], 0)).is_err(), "a key that is no string");
    let twice = binary(&[&[0xd2, 1, 1, 2, 2], &[0x51, b'k'], &[0x09]], 0);
    assert_eq!(parse(&twice), Err(PlistError::DuplicateKey("k".into())));
}

#[test]
fn binary_integers_of_sixteen_bytes_are_read_where_they_fit() {
    let wide = |value: i128| binary(&[&[&[0x14][..], &value.to_be_bytes()].concat()], 0);
    assert_eq!(parse(&wide(i128::from(u64::MAX))).unwrap(), Value::Integer(u64::MAX.into()));
    assert_eq!(parse(&wide(-5)).unwrap(), Value::Integer((-5).into()));
    assert!(parse(&wide(i128::from(u64::MAX) + 1)).is_err());
    assert!(parse(&binary(&[&[0x15; 33]], 0)).is_err());
}

#[test]
fn binary_dates_outside_four_digit_years_are_refused() {
    let when = |seconds: f64| parse(&binary(&[&[&[0x33][..], &seconds.to_be_bytes()].concat()], 0));
    assert!(when(0.0).is_ok());
    for seconds in
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 252_423_993_600.0, -63_113_904_001.0]
    {
        assert!(when(seconds).is_err(), "{seconds}");
    }
}

#[test]
fn accessors_name_the_key_and_both_types() {
    let dict = parse_dict(
        b"<plist><dict><key>Token</key><string>x</string><key>N</key><real>1</real></dict></plist>",
    )
    .unwrap();
    assert_eq!(data(&dict, "Token").unwrap_err().to_string(), "Token must be data, not a string");
    assert_eq!(integer(&dict, "N").unwrap_err().to_string(), "N must be an integer below 2^63, not a real");
    assert_eq!(string(&dict, "Topic"), Ok(None));
    assert_eq!(needed("Topic", string(&dict, "Topic").unwrap()).unwrap_err().to_string(), "Topic is missing");
    assert!(parse_dict(b"<plist><array/></plist>").unwrap_err().to_string().contains("a dictionary"));
}

#[test]
fn json_shows_every_type_and_refuses_what_xml_cannot_carry() {
    let mut dict = Dictionary::new();
    dict.insert("Data".into(), Value::Data(vec![1, 2, 3]));
    dict.insert("Date".into(), Value::Date(Date::from(UNIX_EPOCH + Duration::from_secs(1_800_000_000))));
    dict.insert("Uid".into(), Value::Uid(Uid::new(7)));
    dict.insert("Nan".into(), Value::Real(f64::NAN));
    assert_eq!(
        json::to_json(&Value::Dictionary(dict)),
        serde_json::json!({"Data": "AQID", "Date": "2027-01-15T08:00:00Z", "Uid": 7, "Nan": "NaN"})
    );
    for bad in [
        serde_json::json!(null),
        serde_json::json!({"a": null}),
        serde_json::json!("a\u{1}b"),
        serde_json::json!({"\u{0}": 1}),
    ] {
        assert!(json::from_json(&bad).is_err(), "{bad}");
    }
}

/// Values as devices and people write them; dates of whole seconds, since XML has no others.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300..1e300).prop_map(Value::Real),
        "[^\0]{0,12}".prop_map(Value::String),
        "[ -~\r\n\t]{0,12}".prop_map(Value::String),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Data),
        (0..253_402_300_799_u64).prop_map(|s| Value::Date(Date::from(UNIX_EPOCH + Duration::from_secs(s)))),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::vec(("[^\0]{0,8}", inner), 0..6)
                .prop_map(|entries| Value::Dictionary(entries.into_iter().collect())),
        ]
    })
}

fn binary_of(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.to_writer_binary(&mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn what_is_written_as_xml_is_read_back(value in values()) {
        prop_assert_eq!(parse(&to_xml(&value)), Ok(value));
    }

    #[test]
    fn what_the_crate_writes_as_binary_is_read_back(value in values()) {
        // Short lists of many equal strings may unfold further than the reader allows.
        let read = parse(&binary_of(&value));
        prop_assert!(read == Ok(value) || read == Err(PlistError::TooMuch));
    }

    #[test]
    fn natural_json_survives_the_way_there_and_back(value in values()) {
        if let Ok(list) = json::from_json(&json::to_json(&value)) {
            prop_assert_eq!(json::to_json(&list), json::to_json(&value));
        }
    }

    #[test]
    fn mutated_bytes_never_panic(value in values(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        for good in [to_xml(&value), binary_of(&value)] {
            let mut bad = good.clone();
            bad[at.index(good.len())] = byte;
            let _ = parse(&bad).map(|value| (to_xml(&value), json::to_json(&value)));
            let _ = parse(&good[..cut.index(good.len())]);
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        let _ = parse(&[b"bplist00", &bytes[..]].concat());
        let mut text = String::new();
        let _ = write!(text, "<plist>{}</plist>", String::from_utf8_lossy(&bytes));
        let _ = parse(text.as_bytes());
    }
}
