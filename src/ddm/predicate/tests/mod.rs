//! Predicates as people write them, and what they come to.
//!
//! **Invariant:** every predicate in these tables that parses survives being written and read again.

mod hostile;
mod laws;
mod slips;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Dialect, Facts, Predicate, Truth, parse};

/// A device with what it reported, its properties, and what the server knows of it.
struct Known(BTreeMap<String, Value>);

impl Facts for Known {
    fn status(&self, item: &str) -> Option<Value> {
        self.0.get(&format!("@status({item})")).cloned()
    }
    fn property(&self, name: &str) -> Option<Value> {
        self.0.get(&format!("@property({name})")).cloned()
    }
    fn key(&self, name: &str) -> Option<Value> {
        self.0.get(name).cloned()
    }
}

fn ipad() -> Known {
    let facts = json!({
        "@status(device.model.family)": "iPad",
        "@status(device.model.marketing-name)": "iPad Pro (11-inch)",
        "@status(device.identifier.serial-number)": "ZYXW4321",
        "@status(device.operating-system.version)": "17.4.1",
        "@status(device.operating-system.supplemental.extra-version)": null,
        "@status(passcode.is-compliant)": true,
        "@status(passcode.is-present)": false,
        "@status(softwareupdate.failure-reason)": {"count": 3, "reason": "not enough power"},
        "@status(mdm.app)": [
            {"identifier": "com.example.mail", "state": "managed", "name": "Mail"},
            {"identifier": "com.example.maps", "state": "managed-but-uninstalled"},
        ],
        "@status(management.declarations.configurations)": [{"identifier": "com.example.x", "active": true}],
        "@status(test.real-value)": 1.5,
        "@status(test.array-value)": [],
        "@status(enhanced-logging.timestamp)": "2026-11-22T10:30:00Z",
        "@property(shard)": 42,
        "@property(roles)": ["teacher", "Größe"],
        "model": "iPad14,3",
        "os_version": "17.0",
        "serial_number": "0123",
        "supervised": true,
        "tags": ["kiosk", "library"],
        "name": "Zoë's iPad",
        "topic": null,
        "last_seen_at": "2026-11-22T10:30:00Z",
    });
    Known(facts.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn read(text: &str, dialect: Dialect) -> Predicate {
    let predicate = parse(text, dialect).unwrap_or_else(|error| panic!("{text}: {error}"));
    let written = predicate.to_string();
    assert_eq!(parse(&written, dialect).as_ref(), Ok(&predicate), "{written}");
    predicate
}

fn all(dialect: Dialect, truth: Truth, texts: &[&str]) {
    for text in texts {
        assert_eq!(read(text, dialect).evaluate(&ipad()), truth, "{text}");
    }
}

#[test]
fn what_is_true_on_a_device() {
    all(
        Dialect::Device,
        Truth::True,
        &[
            "@status(device.model.family) == 'iPad'",
            "@status(device.model.family) = \"iPad\"",
            "(@property(shard) <= 75)",
            "@property(shard) =< 42 and @property(shard) => 42",
            "@status(device.identifier.serial-number) == 'ZYXW4321'",
            "SUBQUERY(@status(mdm.app), $a, ($a.@key(identifier) == 'com.example.mail') AND ($a.@key(state) == 'managed')).@count == 1",
            "SUBQUERY(@status(mdm.app), $app, $app.@key(state) BEGINSWITH 'managed').@count == 2",
            "SUBQUERY(@status(management.declarations.configurations), $declaration, ($declaration.@key(identifier) == \"com.example.x\" AND $declaration.@key(active) == true)).@count == 1",
            "(@property(shard) >= 18) AND (\"teacher\" IN @property(roles))",
            "@status(mdm.app).@count > 1",
            "@status(test.array-value).@count == 0",
            "ANY @status(mdm.app).@key(identifier) == 'com.example.maps'",
            "NONE @status(mdm.app).@key(identifier) IN {'com.example.chat', 'com.example.game'}",
            "ALL @status(mdm.app).@key(identifier) BEGINSWITH 'com.example.'",
            "SOME (@status(mdm.app).@key(name) == NULL)",
            "ANY {'a','b'} == 'a'",
            "all {} == 1",
            "@status(device.operating-system.version) >= '17.4'",
            "@status(device.operating-system.version) < '17.10'",
            "@status(device.operating-system.version) BETWEEN {'17', '17.99'}",
            "@status(passcode.is-compliant) == TRUE AND @status(passcode.is-compliant) == 1",
            "@status(passcode.is-present) == NO",
            "@status(device.model.family) IN {'iPhone', 'iPad'}",
            "NOT (@property(shard) IN {1,2})",
            "!(@property(shard) IN {1,2}) && TRUEPREDICATE",
            "'teacher' IN @property(roles)",
            "@property(roles) CONTAINS 'teacher'",
            "@property(roles) CONTAINS[cd] 'GROSSE' OR ANY @property(roles) LIKE[cd] 'GRO*E'",
            "'Pad' IN @status(device.model.family)",
            "@status(device.model.marketing-name) MATCHES '.*\\\\(\\\\d\\\\d-inch\\\\)'",
            "@status(device.model.marketing-name) LIKE 'iPad*(??-inch)'",
            "@status(device.model.family) ==[c] 'IPAD'",
            "@status(device.model.family) contains[c] 'PAD' and @status(device.model.family) endswith 'ad'",
            "@status(softwareupdate.failure-reason).@key(count) >= 3",
            "@status(device.operating-system.supplemental.extra-version) == nil",
            "@status(test.real-value) == 15e-1 AND @status(test.real-value) > 0x1 AND @status(test.real-value) > -1",
            "CAST(817036200, \"NSDate\") > CAST(-1.5, 'NSDate')",
            // Without order between different kinds, only != is true.
            "@status(device.model.family) != 1",
            "NOT (@status(device.model.family) == 1 OR @status(device.model.family) < 1)",
            // AND binds closer than OR, NOT closer than both.
            "TRUEPREDICATE OR TRUEPREDICATE AND FALSEPREDICATE",
            "NOT FALSEPREDICATE AND NOT FALSEPREDICATE",
            "SUBQUERY(@status(mdm.app), $a, SUBQUERY(@status(mdm.app), $b, $b.@key(name) == $a.@key(name)).@count == 1).@count == 2",
        ],
    );
}

#[test]
fn what_is_false_on_a_device() {
    all(
        Dialect::Device,
        Truth::False,
        &[
            "@status(device.model.family) == 'AppleTV'",
            "@status(device.operating-system.version) == '17.4.1.0'",
            "@status(device.operating-system.version) >= 17",
            "@status(passcode.is-compliant) == 'true'",
            "@status(device.model.family) CONTAINS 'pad'",
            "@status(device.model.family) BETWEEN {1, 2}",
            "@status(mdm.app) == 1",
            "@status(mdm.app).@key(nothing).@count == 0",
            "@status(device.model.family).@count == 1",
            "ANY {} == 1",
            "ANY @status(device.operating-system.supplemental.extra-version) == 1",
            "NULL < 1 OR NULL <= NULL",
            "SUBQUERY(@status(device.model.family), $a, TRUEPREDICATE).@count > 0",
            "@status(enhanced-logging.timestamp) < CAST(900000000, 'NSDate')",
            "'a' IN 'b' OR 'a' IN 1 OR 1 IN 'a'",
        ],
    );
}

#[test]
fn what_is_not_known_stays_unknown() {
    all(
        Dialect::Device,
        Truth::Unknown,
        &[
            "@status(a.b) == 1",
            "NOT @status(a.b) == 1",
            "@status(a.b) == 1 OR FALSEPREDICATE",
            "@status(a.b) == @status(a.b)",
            "@status(a.b).@count == 0",
            "ANY @status(a.b) == 1",
            "SUBQUERY(@status(mdm.app), $a, @property(x) == 1).@count >= 0",
            "1 IN {2, @property(x)}",
            "@property(x) BETWEEN {1, 2}",
            "@status(device.model.family) MATCHES '(?=iPad)'",
            "@status(softwareupdate.failure-reason) == @status(softwareupdate.failure-reason)",
        ],
    );
    all(
        Dialect::Device,
        Truth::False,
        &["@status(a.b) == 1 AND FALSEPREDICATE", "NOT (1 IN {1, @property(x)})", "@property(x) IN {}"],
    );
}

#[test]
fn rules_read_what_the_server_knows() {
    all(
        Dialect::Rule,
        Truth::True,
        &[
            "model BEGINSWITH 'iPad' AND supervised == TRUE",
            "os_version == '17' AND os_version == '17.0.0' AND os_version >= '17' AND os_version < '17.0.1'",
            "os_version IN {'16', '17'}",
            "serial_number != '123'",
            "'kiosk' IN tags AND tags CONTAINS 'library' AND tags.@count == 2",
            "ANY tags LIKE 'lib*'",
            "name CONTAINS[cd] 'ZOE'",
            "name == 'Zoë\\'s iPad' OR name == \"Zoë\\u0027s iPad\"",
            "topic == NULL",
            "@key(model) == model",
            "@status(device.model.family) == 'iPad' AND @property(shard) < 50",
            "@status(softwareupdate.failure-reason).count == 3",
            "SUBQUERY(@status(mdm.app), $a, $a.state == 'managed').@count == 1",
            "last_seen_at == CAST(817036200, 'NSDate') AND last_seen_at < CAST(900000000, 'NSDate')",
        ],
    );
    all(Dialect::Rule, Truth::False, &["serial_number == '123'", "last_seen_at == CAST(1, 'NSDate')"]);
    all(Dialect::Rule, Truth::Unknown, &["nothing == 1", "model == iPad"]);
}

#[test]
fn what_it_reads_is_told() {
    let predicate = read(
        "ANY tags == @property(team) OR SUBQUERY(@status(mdm.app), $a, $a.@key(id) IN {a.b, @status(x-y.z)}).@count == 0",
        Dialect::Rule,
    );
    assert_eq!(predicate.status_items().into_iter().collect::<Vec<_>>(), ["mdm.app", "x-y.z"]);
    assert_eq!(predicate.properties().into_iter().collect::<Vec<_>>(), ["team"]);
    assert_eq!(predicate.keys().into_iter().collect::<Vec<_>>(), ["a.b", "tags"]);
}

#[test]
fn there_is_one_canonical_text() {
    for (text, canonical) in [
        ("((@status(a.b)) = \"x\")", "@status(a.b) == 'x'"),
        ("@status( a.b ) <> 0x1F&&(1<2&&3=>4)", "@status(a.b) != 31 AND 1 < 2 AND 3 >= 4"),
        ("!(1=1||2=2)&&(3=3||4=4)", "NOT (1 == 1 OR 2 == 2) AND (3 == 3 OR 4 == 4)"),
        ("(1=1 AND 2=2) OR 3=3", "1 == 1 AND 2 == 2 OR 3 == 3"),
        ("some {yes,nil,-1.50} like [dc] \"it's\\n\\\\\"", "ANY {TRUE, NULL, -1.5} LIKE[cd] 'it\\'s\\n\\\\'"),
        ("cast(1, 'NSDate') = 1e3", "CAST(1, \"NSDate\") == 1000.0"),
        ("'\\x41\\u00e9' == '\\U0001F600\u{7}'", "'Aé' == '😀\\u0007'"),
    ] {
        assert_eq!(read(text, Dialect::Device).to_string(), canonical, "{text}");
    }
    assert_eq!(read("$x-y.z == 1".trim_start_matches('$'), Dialect::Rule).to_string(), "x-y.z == 1");
    assert_eq!(
        read("@key(and) == @key(a.b).c.d", Dialect::Rule).to_string(),
        "@key(and) == a.b.@key(c).@key(d)"
    );
}

#[test]
fn kleene() {
    use Truth::{False, True, Unknown};
    for (a, b, and, or) in [
        (True, True, True, True),
        (True, False, False, True),
        (True, Unknown, Unknown, True),
        (False, False, False, False),
        (False, Unknown, False, Unknown),
        (Unknown, Unknown, Unknown, Unknown),
    ] {
        assert_eq!((a.and(b), b.and(a), a.or(b), b.or(a)), (and, and, or, or));
    }
    assert_eq!((!True, !False, !Unknown), (False, True, Unknown));
}
