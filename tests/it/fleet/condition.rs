//! Conditions as the test makes them up: their text for the server and the devices, and what they come
//! to, by a few lines of its own.
//!
//! The grammar is a small part of Apple's: comparisons of one fact with a literal, `AND`, `OR`, `NOT`. What
//! servers and devices would read differently (the order of versions in a device's predicate) is not in it.

use std::cmp::Ordering;

use serde_json::{Value as Json, json};

use super::random::Random;

#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Is(Fact, Operator, Json),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A bare key of a rule.
    Key(&'static str),
    Status(&'static str),
    Property(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operator {
    Equal,
    NotEqual,
    AtLeast,
    Below,
    BeginsWith,
    EndsWith,
    /// The literal is one of a list.
    Has,
    /// The fact is one of the literals.
    In,
}

impl Condition {
    /// As it is written in a group or an activation.
    pub fn text(&self) -> String {
        match self {
            Self::Is(fact, operator, literal) => {
                let (fact, literal) = (fact.text(), quoted(literal));
                match operator {
                    Operator::Has => format!("{literal} IN {fact}"),
                    operator => format!("{fact} {} {literal}", operator.word()),
                }
            }
            Self::Not(inner) => format!("NOT ({})", inner.text()),
            Self::And(one, other) => format!("({}) AND ({})", one.text(), other.text()),
            Self::Or(one, other) => format!("({}) OR ({})", one.text(), other.text()),
        }
    }

    /// By Kleene: nothing where what is not known decides. As the server looks at rules and previews.
    pub fn comes_to(&self, known: &dyn Fn(&Fact) -> Option<Json>) -> Option<bool> {
        match self {
            Self::Is(fact, operator, literal) => Some(operator.holds(&known(fact)?, literal)),
            Self::Not(inner) => inner.comes_to(known).map(|holds| !holds),
            Self::And(one, other) => match (one.comes_to(known), other.comes_to(known)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (one, other) => Some(one? && other?),
            },
            Self::Or(one, other) => match (one.comes_to(known), other.comes_to(known)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (one, other) => Some(one? || other?),
            },
        }
    }

    /// From left to right and no further than needed; nothing where what a device does not have is asked
    /// for. As devices do.
    pub fn on_device(&self, has: &dyn Fn(&Fact) -> Option<Json>) -> Option<bool> {
        match self {
            Self::Is(fact, operator, literal) => Some(operator.holds(&has(fact)?, literal)),
            Self::Not(inner) => inner.on_device(has).map(|holds| !holds),
            Self::And(one, other) => {
                if one.on_device(has)? {
                    other.on_device(has)
                } else {
                    Some(false)
                }
            }
            Self::Or(one, other) => {
                if one.on_device(has)? {
                    Some(true)
                } else {
                    other.on_device(has)
                }
            }
        }
    }
}

impl Fact {
    fn text(&self) -> String {
        match self {
            Self::Key(name) => (*name).to_owned(),
            Self::Status(name) => format!("@status({name})"),
            Self::Property(name) => format!("@property({name})"),
        }
    }
}

impl Operator {
    fn word(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::BeginsWith => "BEGINSWITH",
            Self::EndsWith => "ENDSWITH",
            Self::Has | Self::In => "IN",
        }
    }

    fn holds(self, fact: &Json, literal: &Json) -> bool {
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        match self {
            Self::Equal => fact == literal,
            Self::NotEqual => fact != literal,
            Self::AtLeast => order(fact, literal).is_some_and(Ordering::is_ge),
            Self::Below => order(fact, literal).is_some_and(Ordering::is_lt),
            Self::BeginsWith => fact.is_string() && text(fact).starts_with(&text(literal)),
            Self::EndsWith => fact.is_string() && text(fact).ends_with(&text(literal)),
            Self::Has => fact.as_array().is_some_and(|list| list.contains(literal)),
            Self::In => literal.as_array().is_some_and(|list| list.contains(fact)),
        }
    }
}

fn order(one: &Json, other: &Json) -> Option<Ordering> {
    match (one, other) {
        (Json::String(one), Json::String(other)) => Some(version(one).cmp(&version(other))),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

/// A version as its numbers, without zeros at the end.
pub fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
    while parts.last() == Some(&0) {
        parts.pop();
    }
    parts
}

fn quoted(literal: &Json) -> String {
    match literal {
        Json::String(text) => format!("'{text}'"),
        Json::Bool(true) => "TRUE".to_owned(),
        Json::Bool(false) => "FALSE".to_owned(),
        Json::Array(list) => format!("{{{}}}", list.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

const PRODUCTS: [&str; 6] = ["iPhone", "iPad", "Mac", "AppleTV", "Watch", "RealityDevice"];
const VERSIONS: [&str; 7] = ["14.0", "16.4", "17.5", "18.2", "26.0", "26.1", "27.0"];
pub const TAGS: [&str; 6] = ["lab", "library", "kiosk", "loan", "staff", "test"];

fn one_of(random: &mut Random, words: &[&str]) -> Json {
    json!(random.pick(words))
}

/// A condition over what the server knows, that holds for some devices.
pub fn rule(random: &mut Random, groups: &[String]) -> Condition {
    let serial = |random: &mut Random| {
        let end = *random.pick(&["0", "1", "2", "C", "F", "K", "M", "Q", "T", "Y"]);
        Condition::Is(Fact::Key("serial_number"), Operator::EndsWith, json!(end))
    };
    // Where everybody were meant, a test of this size would take an hour.
    let narrow = match random.below(4) {
        0 => Condition::Is(Fact::Key("tags"), Operator::Has, one_of(random, &TAGS)),
        _ => serial(random),
    };
    let wide = match random.below(9) {
        0 => Condition::Is(Fact::Key("product_name"), Operator::BeginsWith, one_of(random, &PRODUCTS)),
        1 => Condition::Is(Fact::Key("os_version"), Operator::AtLeast, one_of(random, &VERSIONS)),
        2 => Condition::Is(Fact::Key("os_version"), Operator::Below, one_of(random, &VERSIONS)),
        3 => {
            Condition::Is(Fact::Status("device.model.family"), Operator::NotEqual, one_of(random, &PRODUCTS))
        }
        4 => Condition::Is(Fact::Status("passcode.is-present"), Operator::Equal, json!(random.once_in(2))),
        5 => {
            let on = json!(random.once_in(2));
            Condition::Is(Fact::Status("diskmanagement.filevault.enabled"), Operator::Equal, on)
        }
        6 => Condition::Is(Fact::Key("channel"), Operator::Equal, one_of(random, &["device", "user"])),
        7 if !groups.is_empty() => {
            Condition::Is(Fact::Key("groups"), Operator::Has, json!(random.pick(groups)))
        }
        _ => {
            let systems = json!(["iOS", "macOS", "tvOS"]);
            Condition::Is(Fact::Key("platform"), Operator::In, systems)
        }
    };
    match random.below(6) {
        0 => narrow,
        1 => Condition::And(Box::new(narrow), Box::new(Condition::Not(Box::new(wide)))),
        2 => {
            let either = Condition::Or(Box::new(wide), Box::new(serial(random)));
            Condition::And(Box::new(narrow), Box::new(either))
        }
        _ => Condition::And(Box::new(narrow), Box::new(wide)),
    }
}

/// A condition that devices evaluate.
pub fn predicate(random: &mut Random) -> Condition {
    let one = |random: &mut Random| match random.below(7) {
        0 => Condition::Is(Fact::Status("device.model.family"), Operator::Equal, one_of(random, &PRODUCTS)),
        1 => Condition::Is(Fact::Status("passcode.is-present"), Operator::Equal, json!(random.once_in(2))),
        2 => {
            let on = json!(random.once_in(2));
            Condition::Is(Fact::Status("diskmanagement.filevault.enabled"), Operator::Equal, on)
        }
        3 => Condition::Is(Fact::Property("shard"), Operator::Below, json!(random.below(101))),
        4 => Condition::Is(Fact::Property("tags"), Operator::Has, one_of(random, &TAGS)),
        5 => Condition::Is(Fact::Property("ring"), Operator::AtLeast, json!(random.below(4))),
        _ => Condition::Is(
            Fact::Status("device.operating-system.version"),
            Operator::BeginsWith,
            one_of(random, &["26.", "18.", "17."]),
        ),
    };
    let first = one(random);
    match random.below(5) {
        0 => Condition::And(Box::new(first), Box::new(one(random))),
        1 => Condition::Or(Box::new(first), Box::new(one(random))),
        2 => Condition::Not(Box::new(first)),
        _ => first,
    }
}
