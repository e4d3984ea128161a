//! Laws that hold for every predicate and every text.
//!
//! **Invariant:** what is made here is what the reader can make: no list of one, no AND in an AND.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Number, Value, json};

use super::super::tree::{
    Base, Comparison, Expr, Fact, Node, Operator, Options, Path, Quantifier, Source, Step, Subquery,
};
use super::super::{Dialect, Facts, Predicate, Truth, parse};

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<i64>().prop_map(Number::from),
        any::<u64>().prop_map(Number::from),
        (-9_i64..9).prop_map(Number::from),
        any::<f64>().prop_filter_map("finite", Number::from_f64),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]",
        "[a-zà-öø-ž_][a-z0-9_-]{0,6}(\\.[a-z0-9-]{1,5}){0,2}",
        "[0-9a-z:/._-]{1,8}",
        "(?i)and|like|null"
    ]
}

fn path(
    element: impl Strategy<Value = Expr>,
    node: impl Strategy<Value = Node>,
) -> impl Strategy<Value = Expr> {
    let fact = (prop_oneof![Just(Source::Status), Just(Source::Property), Just(Source::Key)], name())
        .prop_map(|(source, name)| {
            // A status item has no empty part.
            let name = if source == Source::Status { format!("s.{}", name.replace('.', "-")) } else { name };
            Base::Fact(Fact { source, name })
        });
    let subquery = (element, node).prop_map(|(collection, condition)| {
        Base::Subquery(Box::new(Subquery { collection, variable: "v".into(), condition }))
    });
    // Inside a SUBQUERY of the same variable it may be named; outside, `whole` replaces it.
    let base = prop_oneof![4 => fact, 1 => subquery, 1 => Just(Base::Variable("v".into()))];
    let keys = proptest::collection::vec(name().prop_map(Step::Key), 0..3);
    (base, keys, any::<bool>()).prop_map(|(base, mut steps, counted)| {
        if counted || matches!(base, Base::Subquery(_)) {
            steps.push(Step::Count);
        }
        Expr::Path(Path { base, steps })
    })
}

fn expr(node: BoxedStrategy<Node>) -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        Just(Expr::Literal(Value::Null)),
        any::<bool>().prop_map(|boolean| Expr::Literal(boolean.into())),
        number().prop_map(|number| Expr::Literal(Value::Number(number))),
        "[^\\x00]{0,8}".prop_map(|text| Expr::Literal(text.into())),
        number().prop_map(Expr::Date),
        path(Just(Expr::List(Vec::new())), Just(Node::Constant(true))),
    ];
    leaf.prop_recursive(2, 8, 3, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Expr::List),
            path(inner, node.clone()),
        ]
    })
}

fn comparison(node: BoxedStrategy<Node>) -> impl Strategy<Value = Node> {
    let quantifier = proptest::option::of(prop_oneof![
        Just(Quantifier::Any),
        Just(Quantifier::All),
        Just(Quantifier::None)
    ]);
    let options = any::<[bool; 4]>().prop_map(|[case, diacritics, normalized, locale]| Options {
        case,
        diacritics,
        normalized,
        locale,
    });
    let expr = expr(node).boxed();
    (quantifier, expr.clone(), proptest::sample::select(&Operator::ALL), options, expr).prop_map(
        |(quantifier, left, operator, options, right)| {
            let between =
                matches!((&right, operator), (Expr::List(list), Operator::Between) if list.len() != 2);
            let operator = if between { Operator::In } else { operator };
            Node::Compare(Box::new(Comparison { quantifier, left, operator, options, right }))
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = any::<bool>().prop_map(Node::Constant).boxed();
    let leaf = prop_oneof![1 => leaf.clone(), 4 => comparison(leaf)];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|node| Node::Not(Box::new(node))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Node::all),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Node::any),
            comparison(inner.boxed()),
        ]
    })
}

fn predicate() -> impl Strategy<Value = Predicate> {
    // Around everything is a SUBQUERY, so that the variable means something wherever it stands.
    node().prop_map(|condition| {
        let collection = Expr::List(vec![Expr::Literal(json!(1)), Expr::Literal(Value::Null)]);
        let subquery = Subquery { collection, variable: "v".into(), condition };
        let left = Expr::Path(Path { base: Base::Subquery(Box::new(subquery)), steps: vec![Step::Count] });
        let comparison = Comparison {
            quantifier: None,
            left,
            operator: Operator::Equal,
            options: Options::default(),
            right: Expr::Literal(json!(2)),
        };
        Predicate { dialect: Dialect::Rule, root: Node::Compare(Box::new(comparison)) }
    })
}

/// Facts of small values, so that comparisons are often true; some are not known.
struct Known(BTreeMap<String, Value>);

impl Facts for Known {
    fn status(&self, item: &str) -> Option<Value> {
        self.key(item)
    }
    fn property(&self, name: &str) -> Option<Value> {
        self.key(name)
    }
    fn key(&self, name: &str) -> Option<Value> {
        self.0.get(name).cloned()
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..3).prop_map(Value::from),
        "[ab1.]{0,3}".prop_map(Value::from),
        proptest::collection::vec((-1..2).prop_map(Value::from), 0..3).prop_map(Value::from),
        (0..2).prop_map(|number| json!({"a": number})),
    ]
}

/// Conditions over the keys a, b and c alone.
fn small() -> impl Strategy<Value = String> {
    let operand = prop_oneof![
        "[abc]",
        "[0-2]",
        "'[ab1.]{0,2}'",
        Just("{1, 'a', b}".to_owned()),
        Just("a.@count".to_owned())
    ];
    let operators =
        ["==", "!=", "<", "<=", ">", ">=", "IN", "CONTAINS", "LIKE", "MATCHES", "BEGINSWITH", "ENDSWITH"];
    let leaf = ("(ANY |ALL |NONE )?", operand.clone(), proptest::sample::select(operators.to_vec()), operand)
        .prop_map(|(quantifier, left, operator, right)| format!("{quantifier}{left} {operator} {right}"));
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| format!("NOT ({inner})")),
            (inner.clone(), "AND|OR", inner.clone()).prop_map(|(a, word, b)| format!("({a}) {word} ({b})")),
            inner.prop_map(|inner| format!("SUBQUERY({{a, b, 1}}, $v, {inner} OR $v == c).@count == 2")),
        ]
    })
}

fn facts() -> impl Strategy<Value = BTreeMap<String, Value>> {
    proptest::array::uniform3(value())
        .prop_map(|values| ["a", "b", "c"].map(str::to_owned).into_iter().zip(values).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_reads_as_the_same(predicate in predicate()) {
        let text = predicate.to_string();
        let read = parse(&text, Dialect::Rule).map_err(|error| TestCaseError::fail(format!("{text}\n{error}")))?;
        prop_assert_eq!(&read, &predicate, "{}", text);
        prop_assert_eq!(read.to_string(), text);
    }

    #[test]
    fn any_text_is_refused_or_reads_as_what_it_is_written_as(
        text in "([ ()',{}$@.!&|=<>\\[\\]\"-]|@status\\(a\\.b\\)|@key\\(x\\)|\\$v|SUBQUERY\\(|AND|NOT|ANY|IN|==|'x'|1|a\\.b|x|‘|\\PC){0,24}",
        device in any::<bool>(),
    ) {
        let dialect = if device { Dialect::Device } else { Dialect::Rule };
        match parse(&text, dialect) {
            Ok(predicate) => prop_assert_eq!(parse(&predicate.to_string(), dialect), Ok(predicate)),
            Err(error) => {
                prop_assert!(text.is_char_boundary(error.position), "{error}");
                if let Some(suggestion) = error.suggestion {
                    prop_assert!(parse(&suggestion, dialect).is_ok(), "{suggestion}");
                }
            }
        }
    }

    #[test]
    fn knowing_more_only_decides_what_was_unknown(text in small(), all in facts(), hidden in "[abc]{0,3}") {
        let predicate = parse(&text, Dialect::Rule).map_err(|error| TestCaseError::fail(format!("{text}\n{error}")))?;
        let some = all.iter().filter(|(name, _)| !hidden.contains(*name)).map(|(name, value)| (name.clone(), value.clone()));
        let before = predicate.evaluate(&Known(some.collect()));
        let after = predicate.evaluate(&Known(all));
        prop_assert!(before == Truth::Unknown || before == after, "{text}: {before:?}, then {after:?}");
    }
}
