//! Pushes as a caller makes them, against a service on the loopback interface.

use super::certificate::{Import, import};
use super::loopback::{Answer, GoAway, Loopback, delivered, pair};
use super::*;
use crate::clock::EARLIEST_SANE;
use crate::storage;

/// What one test needs, and the folders that go with it.
struct Bench {
    store: Store,
    seal: Seal,
    _folders: (tempfile::TempDir, tempfile::TempDir),
}

impl Bench {
    fn new() -> Self {
        let (data, store) = storage::tests::temporary();
        let keys = tempfile::tempdir().unwrap();
        let seal = Seal::open(keys.path(), None, true).unwrap();
        Self { store, seal, _folders: (data, keys) }
    }

    async fn import(&self, pair: Pair) {
        let seal = self.seal.clone();
        let says =
            Import { apple_account: None, signed_by: "import", imported_by: "test", replace_topic: None };
        self.store.write("import", move |tx| import(tx, &seal, &pair, &says, &[])).await.unwrap();
    }

    fn apns(&self, server: &str, trust: Option<&Path>) -> Apns {
        Apns::open(&self.store, &self.seal, server, trust, &Clock::set_to(EARLIEST_SANE)).unwrap()
    }

    /// A service that answers from `script` and lets the topic A in.
    async fn with_loopback(
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> (Self, Loopback, Apns) {
        Self::with_first(None, script).await
    }

    async fn with_first(
        first: Option<GoAway>,
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> (Self, Loopback, Apns) {
        let bench = Self::new();
        let pair = pair("A", "one");
        let loopback = Loopback::start_with(&[&pair.chain], first, script).await;
        bench.import(pair).await;
        let apns = bench.apns(&loopback.server, Some(&loopback.trust));
        (bench, loopback, apns)
    }
}

fn push(number: u8) -> Push {
    Push {
        topic: "com.apple.mgmt.External.A".to_owned(),
        token: vec![0xAB, number],
        magic: "ma\"gic\\".to_owned(),
    }
}

async fn many(apns: &Apns, count: u8) -> Vec<PushResult> {
    let pushes: Vec<_> = (0..count)
        .map(|number| {
            let apns = apns.clone();
            tokio::spawn(async move { apns.push(&push(number)).await })
        })
        .collect();
    let mut results = Vec::new();
    for push in pushes {
        results.push(push.await.unwrap());
    }
    results
}

#[tokio::test]
async fn a_push_is_exactly_what_apple_asks_for() {
    let (_bench, loopback, apns) = Bench::with_loopback(|_| delivered()).await;
    let result = apns.push(&push(1)).await;
    assert_eq!(result.to_json()["apns_id"], "A-1", "{result:?}");
    let seen = loopback.seen.lock().unwrap();
    assert_eq!(seen[0].uri, format!("POST {}/3/device/ab01", loopback.server));
    assert_eq!(seen[0].body, r#"{"mdm":"ma\"gic\\"}"#);
    let mut headers = seen[0].headers.clone();
    headers.sort();
    let expiration = (EARLIEST_SANE + 7 * DAY).to_string();
    let expected = [
        ("apns-expiration", expiration.as_str()),
        ("apns-priority", "10"),
        ("apns-push-type", "mdm"),
        ("apns-topic", "com.apple.mgmt.External.A"),
        ("content-length", "19"),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn many_pushes_share_one_connection() {
    let (_bench, loopback, apns) = Bench::with_loopback(|_| delivered()).await;
    assert!(many(&apns, 200).await.iter().all(PushResult::is_delivered));
    assert_eq!((loopback.connections(), loopback.seen.lock().unwrap().len()), (1, 200));
}

#[tokio::test]
async fn a_dead_token_is_reported_since_when() {
    let body = r#"{"reason":"ExpiredToken","timestamp":1767225600999}"#;
    let (_bench, _loopback, apns) = Bench::with_loopback(move |_| Answer::Say(410, vec![], body)).await;
    let result = apns.push(&push(1)).await;
    assert_eq!(result.verdict, Verdict::TokenRejected { since: Some(EARLIEST_SANE) });
    assert_eq!(
        result.to_json().to_string().split(",\"words\"").next().unwrap(),
        r#"{"status":410,"apns_id":null,"reason":"ExpiredToken","timestamp":"2026-01-01T00:00:00Z""#
    );
}

#[tokio::test]
async fn pushes_that_a_goaway_left_over_are_sent_again() {
    let go_away = GoAway { requests: 250, answered: 60, data: r#"{"reason":"Shutdown"}"# };
    let (_bench, loopback, apns) = Bench::with_first(Some(go_away), |_| delivered()).await;
    let results = many(&apns, 250).await;
    let failed: Vec<_> = results.iter().filter(|result| !result.is_delivered()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!((loopback.connections(), loopback.seen.lock().unwrap().len()), (2, 190));
}

#[tokio::test]
async fn goaway_because_of_the_certificate_is_a_certificate_problem() {
    let go_away = GoAway { requests: 3, answered: 0, data: r#"{"reason":"BadCertificate"}"# };
    let (_bench, loopback, apns) = Bench::with_first(Some(go_away), |_| delivered()).await;
    for result in many(&apns, 3).await {
        assert_eq!(result.verdict, Verdict::CertificateProblem, "{result:?}");
    }
    assert_eq!(loopback.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_is_replaced_and_the_push_sent_again() {
    let script = |number| if number == 0 { Answer::Cut } else { delivered() };
    let (_bench, loopback, apns) = Bench::with_loopback(script).await;
    assert!(apns.push(&push(1)).await.is_delivered());
    assert_eq!((loopback.connections(), loopback.seen.lock().unwrap().len()), (2, 2));
}

#[tokio::test]
async fn a_busy_service_is_left_to_the_caller() {
    let script = |number| match number {
        0 => Answer::Say(503, vec![("retry-after", "7")], r#"{"reason":"ServiceUnavailable"}"#),
        _ => delivered(),
    };
    let (_bench, loopback, apns) = Bench::with_loopback(script).await;
    let busy = apns.push(&push(1)).await;
    assert_eq!(busy.verdict, Verdict::TryAgain { after: Some(7) });
    assert!(apns.push(&push(1)).await.is_delivered());
    assert_eq!(loopback.connections(), 1);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_tried_again_later() {
    let bench = Bench::new();
    bench.import(pair("A", "one")).await;
    // Bound and never listening: who connects is refused, and nobody else gets the port.
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = format!("https://127.0.0.1:{}", reserved.local_addr().unwrap().port());
    for result in many(&bench.apns(&server, None), 20).await {
        assert_eq!(result.verdict, Verdict::TryAgain { after: None });
        assert!(
            result.words.contains("cannot be reached") && result.words.contains("firewall"),
            "{result:?}"
        );
        assert_eq!(result.to_json()["status"], serde_json::Value::Null);
    }
}

#[tokio::test]
async fn a_certificate_that_apple_refuses_is_a_certificate_problem() {
    let bench = Bench::new();
    let welcome = pair("A", "welcome");
    let loopback = Loopback::start(&[&welcome.chain], |_| delivered()).await;
    bench.import(pair("A", "stranger")).await;
    let apns = bench.apns(&loopback.server, Some(&loopback.trust));
    for result in many(&apns, 20).await {
        assert_eq!(result.verdict, Verdict::CertificateProblem, "{result:?}");
    }
    assert_eq!(loopback.seen.lock().unwrap().len(), 0);

    bench.import(welcome).await;
    apns.reload().await;
    assert!(apns.push(&push(1)).await.is_delivered());
}

#[tokio::test]
async fn a_renewed_certificate_is_used_from_the_next_push() {
    let bench = Bench::new();
    let (old, new) = (pair("A", "old"), pair("A", "new"));
    let loopback = Loopback::start(&[&old.chain, &new.chain], |_| delivered()).await;
    bench.import(old).await;
    let apns = bench.apns(&loopback.server, Some(&loopback.trust));
    assert!(apns.push(&push(1)).await.is_delivered());
    bench.import(new).await;
    apns.reload().await;
    assert!(apns.push(&push(1)).await.is_delivered());
    let seen = loopback.seen.lock().unwrap();
    assert_ne!(seen[0].client, seen[1].client);
}

#[tokio::test]
async fn a_topic_without_certificate_says_what_is_missing() {
    let bench = Bench::new();
    let result = bench.apns("https://localhost", None).push(&push(1)).await;
    assert_eq!(result.verdict, Verdict::CertificateProblem);
    assert!(result.words.contains("russet push-certificate import"), "{result:?}");
}

#[tokio::test]
async fn an_unknown_root_is_named_as_such() {
    let (bench, loopback, _apns) = Bench::with_loopback(|_| delivered()).await;
    let result = bench.apns(&loopback.server, None).push(&push(1)).await;
    assert_eq!(result.verdict, Verdict::TryAgain { after: None });
    assert!(result.words.contains("[apns] trust"), "{result:?}");
}

#[tokio::test]
async fn a_wrong_server_or_trust_is_refused_at_the_start() {
    let bench = Bench::new();
    let open = |server: &str, trust| {
        Apns::open(&bench.store, &bench.seal, server, trust, &Clock::system())
            .err()
            .map(|error| error.to_string())
    };
    for good in
        ["https://api.push.apple.com:443", "https://127.0.0.1:2197/", "https://[::1]:9", "https://localhost"]
    {
        assert_eq!(open(good, None), None, "{good}");
    }
    for wrong in
        ["", "api.push.apple.com", "http://api.push.apple.com", "https://a/b", "https://a?b", "https://"]
    {
        assert!(open(wrong, None).is_some_and(|words| words.contains("write it like")), "{wrong}");
    }
    let missing = open("https://localhost", Some(Path::new("missing.pem"))).unwrap();
    assert!(missing.contains("[apns] trust: missing.pem cannot be read"), "{missing}");
}

#[test]
fn a_push_keeps_its_secrets_out_of_logs() {
    assert_eq!(format!("{:?}", push(1)), r#"Push { topic: "com.apple.mgmt.External.A", .. }"#);
}
