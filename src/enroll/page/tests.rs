//! Conversations with the enrollment pages, as a browser and Apple Configurator have them.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use tower::ServiceExt;

use super::*;
use crate::apns::Pair;
use crate::apns::certificate::{Import, import};
use crate::clock::{DAY, EARLIEST_SANE};
use crate::enroll::invitation::Wanted;
use crate::enroll::{Settings, Signer};
use crate::pki::authority::{Authority, Lifetimes};
use crate::pki::certificate::Certificate;
use crate::pki::key::PrivateKey;
use crate::pki::seal::Seal;
use crate::pki::tls_authority::TlsAuthority;
use crate::pki::tls_names::Names;
use crate::request::Peer;
use crate::storage;

mod profile;

const LIFETIMES: Lifetimes = Lifetimes { ca_days: 7300, identity_days: 825 };

const IPHONE: &str =
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1";
const MAC: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Safari/605.1.15";

/// A server that has everything but a push certificate.
struct Bench {
    enroll: Enroll,
    router: Router,
    seal: Seal,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn is_page(&self) -> bool {
        self.header("content-type") == "text/html; charset=utf-8"
            && self.text().starts_with("<!doctype html>")
    }
}

impl Bench {
    async fn new(self_signed: bool, change: impl FnOnce(&mut Settings)) -> Self {
        let (folder, store) = storage::tests::temporary();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        let mut settings = Settings {
            public_url: "https://mdm.example.org".into(),
            public_url_is_localhost: false,
            organization: "Example School".into(),
            identifier: "org.example.school".into(),
            email: None,
            phone: None,
            access_rights: 8191,
            identity_days: 825,
        };
        change(&mut settings);
        let names = Names::new("mdm.example.org", None, &[]);
        let tls = TlsAuthority::open(&store, &seal, "Example School", &names, LIFETIMES, |_| Ok(i64::MAX))
            .await
            .unwrap()
            .unwrap();
        let root = tls.root.certificate;
        let signer = Signer {
            key: PrivateKey::from_pkcs8(&tls.signer.key_pkcs8).unwrap(),
            certificate: Certificate::from_der(&tls.signer.certificate).unwrap(),
            chain: vec![Certificate::from_der(&root).unwrap()],
            anchor: self_signed.then_some(root),
            next: None,
        };
        let authority = Authority::open(&store, &seal, "Example School", LIFETIMES).await.unwrap();
        let enroll = Enroll::new(
            &store,
            settings,
            Arc::new(arc_swap::ArcSwap::from_pointee(signer)),
            Arc::new(arc_swap::ArcSwap::from_pointee(authority)),
        );
        let router = routes().merge(trust_routes()).with_state(enroll.clone());
        Self { enroll, router, seal, _folder: folder }
    }

    /// With a push certificate.
    async fn ready(self_signed: bool) -> Self {
        let bench = Self::new(self_signed, |_| {}).await;
        bench.import().await;
        bench
    }

    async fn import(&self) {
        let pair = Pair::from_parts(
            &[
                include_bytes!("../../../tests/fixtures/push/rsa.pem").as_slice(),
                include_bytes!("../../../tests/fixtures/push/rsa-pkcs1.key"),
            ],
            None,
            EARLIEST_SANE + 365 * DAY,
        )
        .unwrap();
        let seal = self.seal.clone();
        let says =
            Import { apple_account: None, signed_by: "import", imported_by: "test", replace_topic: None };
        self.enroll.store.write("import", move |tx| import(tx, &seal, &pair, &says, &[])).await.unwrap();
    }

    async fn invite(&self, wanted: Wanted) -> String {
        let made = self.enroll.store.write("invite", move |tx| invitation::create(tx, &wanted, "test")).await;
        made.unwrap().code
    }

    async fn ask(&self, request: axum::http::request::Builder, body: Vec<u8>) -> Answer {
        let response = self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path), Vec::new()).await
    }

    async fn open_as(&self, code: &str, browser: &str, language: &str) -> Answer {
        let request = Request::get(format!("/enroll/{code}"))
            .header("user-agent", browser)
            .header("accept-language", language)
            .header("accept", "text/html");
        self.ask(request, Vec::new()).await
    }
}

#[tokio::test]
async fn a_link_opens_a_page_with_install_and_qr_code_under_a_strict_policy() {
    let bench = Bench::ready(false).await;
    let code = bench.invite(Wanted::default()).await;
    let page = bench.open_as(&code, IPHONE, "en").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.is_page());
    assert!(page.text().contains("Management by Example School"));
    assert!(page.text().contains(&format!("href=\"/enroll/{code}/profile\">Install</a>")));
    assert!(page.text().contains("<svg"));
    assert!(page.text().contains("Erase the device"));
    assert!(page.text().contains("Your browsing history"));
    assert!(page.text().contains("Remove Management"));
    for forbidden in ["<script", "style=", "http://"] {
        assert!(!page.text().contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.header("content-security-policy"), POLICY);
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cache-control"), "no-store");

    let style = bench.get("/enroll/style.css").await;
    assert_eq!((style.status, style.header("content-type")), (StatusCode::OK, "text/css; charset=utf-8"));
    let head = bench.ask(Request::head(format!("/enroll/{code}")), Vec::new()).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn a_german_browser_is_answered_in_german() {
    let bench = Bench::ready(false).await;
    let code = bench.invite(Wanted::default()).await;
    let page = bench.open_as(&code, IPHONE, "de-DE,de;q=0.9,en;q=0.8").await;
    assert!(page.text().contains("<html lang=\"de\">"));
    assert!(page.text().contains("Verwaltung durch Example School"));
    assert!(page.text().contains(">Installieren</a>"));
}

#[tokio::test]
async fn only_the_rights_of_the_configuration_are_named() {
    let bench = Bench::new(false, |settings| settings.access_rights = 16 | 8).await;
    bench.import().await;
    let code = bench.invite(Wanted::default()).await;
    let page = bench.open_as(&code, IPHONE, "en").await;
    assert!(page.text().contains("serial number, system version"));
    assert!(page.text().contains("Erase the device"));
    assert!(!page.text().contains("Lock the device"));
    assert!(!page.text().contains("Which apps are installed"));
}

#[tokio::test]
async fn with_a_private_root_an_iphone_is_led_through_two_steps_before_install() {
    let bench = Bench::ready(true).await;
    let code = bench.invite(Wanted::default()).await;
    let page = bench.open_as(&code, IPHONE, "en").await;
    let text = page.text();
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}"));
    assert!(place("href=\"/trust.mobileconfig\"") < place("Certificate Trust Settings"));
    assert!(place("Certificate Trust Settings") < place(">Install</a>"));
    assert!(text.contains("TLS Root for mdm.example.org"));
    assert!(text.contains("iOS and iPadOS 27 may refuse a private root"));
    assert!(text.contains("<code>mode = \"files\"</code>"));

    // Safari on iPad calls itself a Mac, so that page has the steps too.
    let page = bench.open_as(&code, MAC, "en").await;
    assert!(page.text().contains("System Settings › General › Device Management"));
    assert!(page.text().contains("Certificate Trust Settings"));

    let public = Bench::ready(false).await;
    let code = public.invite(Wanted::default()).await;
    assert!(!public.open_as(&code, IPHONE, "en").await.text().contains("Certificate Trust Settings"));
}

#[tokio::test]
async fn a_server_called_localhost_says_who_can_use_the_link_and_which_line_to_set() {
    let bench = Bench::new(true, |settings| {
        settings.public_url = "https://localhost:8443".into();
        settings.public_url_is_localhost = true;
    })
    .await;
    bench.import().await;
    let code = bench.invite(Wanted::default()).await;
    let page = bench.get(&format!("/enroll/{code}")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("Only this machine can use this link"));
    assert!(
        page.text()
            .contains("<code>public_url</code> under <code>[server]</code> in <code>russet.toml</code>")
    );
}

#[tokio::test]
async fn names_from_the_configuration_cannot_become_markup() {
    let hostile = "<script>alert(1)</script>\"'&{install}";
    let bench = Bench::new(true, |settings| {
        settings.organization = hostile.into();
        settings.email = Some("\"><script>@example.org".into());
        settings.phone = Some("+41 44 000 <b>".into());
    })
    .await;
    bench.import().await;
    let wanted = Wanted { serial_number: Some("<img src=x>".into()), ..Wanted::default() };
    let code = bench.invite(wanted).await;
    for browser in [IPHONE, MAC, "curl"] {
        for language in ["en", "de"] {
            let page = bench.open_as(&code, browser, language).await;
            assert!(!page.text().contains("<script"), "{browser}");
            assert!(!page.text().contains("<img"));
            assert!(page.text().contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;{install}"));
        }
    }
    let profile = bench.get(&format!("/enroll/{code}/profile")).await;
    assert_eq!(
        profile.header("content-disposition"),
        "attachment; filename=\"script-alert-1-script-install.mobileconfig\""
    );
}

#[tokio::test]
async fn a_link_that_never_was_is_404_however_it_looks() {
    let bench = Bench::ready(false).await;
    let random = crate::id::secret::<16>();
    let mut pages = Vec::new();
    for code in [random.as_str(), "x", "%27%20OR%201=1", "%ff%fe", "..%2f..", &"a".repeat(4000)] {
        let page = bench.open_as(code, IPHONE, "en").await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{code}");
        pages.push(page.text().to_owned());
        let profile = bench.get(&format!("/enroll/{code}/profile")).await;
        assert_eq!(profile.status, StatusCode::NOT_FOUND);
        assert!(profile.text().starts_with("There is no such link."));
        let posted = bench.ask(Request::post(format!("/enroll/{code}/profile")), b"x".to_vec()).await;
        assert_eq!(posted.status, StatusCode::NOT_FOUND);
    }
    pages.dedup();
    assert_eq!(pages.len(), 1, "all are told the same");
}

#[tokio::test]
async fn a_spent_link_is_gone_in_words() {
    let bench = Bench::ready(false).await;
    let revoked = bench.invite(Wanted::default()).await;
    let expired = bench.invite(Wanted { expires_in: Some(DAY), ..Wanted::default() }).await;
    let code = revoked.clone();
    bench.enroll.store.write("revoke", move |tx| invitation::revoke(tx, &code)).await.unwrap();
    bench.enroll.store.clock().advance(DAY);
    for (code, english, german) in [
        (revoked, "This link was withdrawn.", "zurückgezogen"),
        (expired, "This link has expired.", "abgelaufen"),
    ] {
        let page = bench.open_as(&code, IPHONE, "en").await;
        assert_eq!(page.status, StatusCode::GONE);
        assert!(page.is_page() && page.text().contains(english));
        assert!(bench.open_as(&code, IPHONE, "de").await.text().contains(german));
        let profile = bench.get(&format!("/enroll/{code}/profile")).await;
        assert_eq!(profile.status, StatusCode::GONE);
        assert_eq!(profile.header("content-type"), "text/plain; charset=utf-8");
        assert!(profile.text().starts_with(english));
    }
}

#[tokio::test]
async fn without_a_push_certificate_the_page_and_the_profile_say_what_is_missing() {
    let bench = Bench::new(false, |_| {}).await;
    let code = bench.invite(Wanted::default()).await;
    let page = bench.open_as(&code, IPHONE, "en").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.text().contains("Not ready yet"));
    assert!(page.text().contains("russet push-certificate import"));
    let profile = bench.get(&format!("/enroll/{code}/profile")).await;
    assert_eq!(profile.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(profile.text().contains("There is no push certificate yet"));
    // Before the import no link can be made, so a page that is opened then has a code that never was.
    for path in ["/enroll/never", "/enroll/never/profile"] {
        let page = bench.get(path).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(page.text().contains("russet push-certificate import"));
    }
    bench.import().await;
    assert_eq!(bench.get("/enroll/never").await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.get(&format!("/enroll/{code}/profile")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn with_a_wrong_clock_nothing_is_called_expired_and_nothing_is_issued() {
    let bench = Bench::ready(false).await;
    let code = bench.invite(Wanted::default()).await;
    bench.enroll.store.clock().advance(-EARLIEST_SANE);
    for path in [format!("/enroll/{code}"), format!("/enroll/{code}/profile")] {
        let page = bench.get(&path).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(page.text().contains("clock of this server is wrong"));
    }
}

#[tokio::test]
async fn guessing_is_limited_and_a_class_behind_one_address_is_not() {
    let bench = Bench::ready(false).await;
    let code = bench.invite(Wanted { uses: Some(500), ..Wanted::default() }).await;
    let school = Peer::Network { address: "192.0.2.1:1000".parse().unwrap(), client_certificate: None };
    let open = async |code: &str| {
        bench.ask(Request::get(format!("/enroll/{code}")).extension(school.clone()), Vec::new()).await
    };
    for _ in 0..100 {
        assert_eq!(open(&code).await.status, StatusCode::OK);
    }
    let mut last = open("wrong").await;
    assert_eq!(last.status, StatusCode::NOT_FOUND);
    for _ in 0..100 {
        last = open("wrong").await;
    }
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(last.header("retry-after"), "60");
    assert_eq!(open(&code).await.status, StatusCode::OK, "one who guesses does not lock out the others");
}
