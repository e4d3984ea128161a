//! When a certificate is renewed, against a CA of our own that suggests windows; tests/acme does the rest.

use std::sync::atomic::{AtomicI64, Ordering};

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::{get, head, post};
use axum::{Json, Router};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;

use super::kept::{self, Issued};
use super::*;
use crate::clock::{Clock, DAY, HOUR, rfc3339};
use crate::config::Config;
use crate::pki::certificate::Certificate;
use crate::storage::tests::temporary;

const HOST: &str = "mdm.example.org";

/// A CA that makes accounts and suggests a window, and counts how often it is asked for it.
struct Authority {
    url: String,
    window: Arc<[AtomicI64; 2]>,
    asked: Arc<AtomicI64>,
}

impl Authority {
    async fn start(has_windows: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let window: Arc<[AtomicI64; 2]> = Arc::default();
        let asked = Arc::<AtomicI64>::default();
        let (base, suggested, count) = (url.clone(), window.clone(), asked.clone());
        let directory = move || {
            let mut directory = json!({
                "newNonce": format!("{base}/nonce"),
                "newAccount": format!("{base}/account"),
                "newOrder": format!("{base}/order"),
            });
            if has_windows {
                directory["renewalInfo"] = format!("{base}/renewal").into();
            }
            async move { Json(directory) }
        };
        let nonce = || async { [("replay-nonce", "bm9uY2U")] };
        let account = || async {
            let mut headers = HeaderMap::new();
            headers.insert("replay-nonce", HeaderValue::from_static("bm9uY2U"));
            headers.insert("location", HeaderValue::from_static("http://ca.example/account/1"));
            (StatusCode::CREATED, headers, Json(json!({"status": "valid"})))
        };
        let renewal = move |Path(id): Path<String>| {
            assert_eq!(id.split('.').count(), 2, "{id}");
            count.fetch_add(1, Ordering::SeqCst);
            let time = |at: usize| rfc3339(suggested[at].load(Ordering::SeqCst));
            let body: Value = json!({"suggestedWindow": {"start": time(0), "end": time(1)}});
            async move { ([("retry-after", "21600")], Json(body)) }
        };
        let router = Router::new()
            .route("/dir", get(directory))
            .route("/nonce", head(nonce))
            .route("/account", post(account))
            .route("/renewal/{id}", get(renewal));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, window, asked }
    }

    fn suggest(&self, start: Seconds, end: Seconds) {
        self.window[0].store(start, Ordering::SeqCst);
        self.window[1].store(end, Ordering::SeqCst);
    }

    fn asked(&self) -> i64 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A certificate for the host that is valid for 90 days from now on, with what names its issuer's key.
fn issued(clock: &Clock) -> Issued {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(authority, KeyPair::generate().unwrap());
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new([HOST.to_owned()]).unwrap();
    leaf.use_authority_key_identifier_extension = true;
    leaf.not_before = OffsetDateTime::from_unix_timestamp(clock.now()).unwrap();
    leaf.not_after = OffsetDateTime::from_unix_timestamp(clock.now() + 90 * DAY).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    Issued {
        host: HOST.to_owned(),
        directory: String::new(),
        chain: vec![Certificate::from_der(leaf.der()).unwrap()],
        key_pkcs8: key.serialize_der(),
        not_before: clock.now(),
        not_after: clock.now() + 90 * DAY,
        obtained_at: 0,
        renew_at: 0,
        asked_at: 0,
        id: 0,
    }
}

struct World {
    _folder: tempfile::TempDir,
    acme: Acme,
    clock: Clock,
}

impl World {
    async fn start(ca: &Authority) -> Self {
        let (folder, store) = temporary();
        let clock = store.clock().clone();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        let settings = config::Acme { directory: format!("{}/dir", ca.url), ..Config::default().tls.acme };
        let acme = Acme::open(&store, &seal, HOST, &settings).unwrap();
        let new = issued(&clock);
        store.write("test.issued", move |tx| kept::keep(tx, &seal, new)).await.unwrap();
        Self { _folder: folder, acme, clock }
    }

    async fn is_due(&self) -> bool {
        let current = self.acme.current().unwrap().unwrap();
        window::is_due(&self.acme.0, &current, self.clock.now()).await.unwrap()
    }

    fn renew_at(&self) -> Seconds {
        self.acme.current().unwrap().unwrap().renew_at
    }
}

#[tokio::test]
async fn a_suggested_window_is_followed_and_asked_for_again_as_the_ca_wishes() {
    let ca = Authority::start(true).await;
    let world = World::start(&ca).await;
    let begin = world.clock.now();
    ca.suggest(begin + 20 * DAY, begin + 21 * DAY);
    assert!(!world.is_due().await);
    let drawn = world.renew_at();
    assert!((begin + 20 * DAY..begin + 21 * DAY).contains(&drawn));
    world.clock.advance(5 * HOUR);
    assert!(!world.is_due().await);
    assert_eq!(ca.asked(), 1, "it said: in six hours");
    world.clock.advance(HOUR);
    assert!(!world.is_due().await);
    assert_eq!((ca.asked(), world.renew_at()), (2, drawn), "the same window keeps the time that was drawn");

    // The CA has to revoke: the window is over before it was told.
    ca.suggest(begin - DAY, begin);
    world.clock.advance(2 * DAY);
    assert!(world.is_due().await);
}

#[tokio::test]
async fn a_window_after_the_end_is_not_followed() {
    let ca = Authority::start(true).await;
    let world = World::start(&ca).await;
    let begin = world.clock.now();
    ca.suggest(begin + 400 * DAY, begin + 401 * DAY);
    world.clock.advance(80 * DAY);
    assert!(!world.is_due().await);
    world.clock.advance(2 * DAY);
    assert!(world.is_due().await, "a tenth of its life is left");
}

#[tokio::test]
async fn without_windows_it_is_renewed_when_a_third_of_its_life_is_left() {
    let ca = Authority::start(false).await;
    let world = World::start(&ca).await;
    assert_eq!(world.renew_at(), world.clock.now() + 60 * DAY);
    world.clock.advance(60 * DAY - 1);
    assert!(!world.is_due().await);
    world.clock.advance(1);
    assert!(world.is_due().await);
    assert_eq!(ca.asked(), 0);
}

#[tokio::test]
async fn a_ca_that_is_not_there_does_not_keep_from_renewing() {
    let ca = Authority::start(false).await;
    let mut world = World::start(&ca).await;
    let inner = Arc::get_mut(&mut world.acme.0).unwrap();
    inner.settings.directory = "http://127.0.0.1:1/dir".to_owned();
    world.clock.advance(59 * DAY);
    assert!(!world.is_due().await);
    world.clock.advance(2 * DAY);
    assert!(world.is_due().await);
    world.acme.round().await.unwrap();
    let attempts = world.acme.attempts().unwrap();
    assert!(attempts[0].failed && attempts[0].words.contains("127.0.0.1:1"), "{attempts:?}");
    let found = findings(&world.acme).unwrap();
    assert_eq!(found[0].code, "acme-renewal-fails");
    assert!(world.acme.current().unwrap().is_some(), "the working one stays");
}

#[tokio::test]
async fn a_validation_is_answered_only_while_it_lasts_and_only_by_its_own_protocol() {
    let challenges = Challenges::default();
    assert!(challenges.certificate(HOST).is_none());
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new([HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
    let certified = rustls::sign::CertifiedKey::from_der(
        vec![made.der().clone()],
        rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        &rustls::crypto::aws_lc_rs::default_provider(),
    );
    let answer = challenge::Answer::put(&challenges, HOST, Arc::new(certified.unwrap()));
    assert!(challenges.certificate("MDM.example.org").is_some());
    drop(answer);
    assert!(challenges.certificate(HOST).is_none());
}
