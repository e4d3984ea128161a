//! Signing in with a link, and the plain page.

use serde_json::json;

use super::{House, Reply};
use crate::clock::HOUR;
use crate::mdm::enrollment::{self, Facts};

pub(super) async fn link(house: &House) -> String {
    let made = house.ask("POST", "/api/v1/sign-in-links").send().await.ok();
    made["url"].as_str().unwrap().strip_prefix("https://localhost:8443").unwrap().to_owned()
}

pub(super) async fn signed_in(house: &House) -> String {
    let reply = house.ask("POST", &link(house).await).nobody().send().await;
    assert_eq!(reply.status, 303);
    let cookie = reply.headers["set-cookie"].to_str().unwrap().to_owned();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=43200");
    pair.to_owned()
}

fn is_hardened(reply: &Reply) {
    let policy = reply.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
    assert_eq!(reply.headers["x-content-type-options"], "nosniff");
    assert_eq!(reply.headers["referrer-policy"], "no-referrer");
    assert_eq!(reply.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn a_link_signs_in_one_browser_once() {
    let house = House::new().await;
    let path = link(&house).await;
    for _ in 0..3 {
        let offered = house.ask("GET", &path).nobody().send().await;
        assert!(
            offered.status == 200 && offered.text.contains("<form method=\"post\">"),
            "previews use nothing up"
        );
        is_hardened(&offered);
    }
    assert_eq!(house.ask("POST", &path).nobody().send().await.status, 303);
    for method in ["GET", "POST"] {
        let spent = house.ask(method, &path).nobody().send().await;
        assert!(spent.status == 404 && spent.text.contains("russet admin link"));
        assert!(!spent.headers.contains_key("set-cookie"));
        is_hardened(&spent);
    }
    let late = link(&house).await;
    house.clock.advance(HOUR);
    assert_eq!(house.ask("POST", &late).nobody().send().await.status, 404);
}

#[tokio::test]
async fn links_that_do_not_exist_are_limited() {
    let house = House::new().await;
    for number in 0..30 {
        assert_eq!(house.ask("GET", &format!("/sign-in/{number}")).nobody().send().await.status, 404);
    }
    assert_eq!(house.ask("POST", "/sign-in/x").nobody().send().await.status, 429);
    assert_eq!(house.ask("GET", "/sign-in/x").nobody().send().await.status, 429);
    assert_eq!(house.ask("POST", &link(&house).await).nobody().send().await.status, 303);
}

#[tokio::test]
async fn a_session_reads_for_twelve_hours_and_changes_nothing() {
    let house = House::new().await;
    let stranger = house.ask("GET", "/").nobody().send().await;
    assert!(stranger.status == 200 && stranger.text.contains("russet admin link"));
    is_hardened(&stranger);

    let cookie = signed_in(&house).await;
    let with = |method, path| house.ask(method, path).nobody().header("cookie", &cookie);
    let page = with("GET", "/").send().await;
    assert!(page.text.contains("/ui/page.js"));
    is_hardened(&page);
    with("GET", "/api/v1/enrollments").send().await.ok();
    let body = json!({"name": "stolen", "scope": "admin"});
    with("POST", "/api/v1/tokens").json(&body).send().await.refused(403, "forbidden");

    house.clock.advance(12 * HOUR);
    with("GET", "/api/v1/enrollments").send().await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn signing_out_ends_the_session() {
    let house = House::new().await;
    let cookie = signed_in(&house).await;
    let out = house.ask("POST", "/sign-out").nobody().header("cookie", &cookie).send().await;
    assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    let after = house.ask("GET", "/api/v1/enrollments").nobody().header("cookie", &cookie).send().await;
    after.refused(401, "unauthenticated");
}

/// While the disk takes nothing, whatever would be written is refused: strangers never get that far.
#[tokio::test]
async fn strangers_never_reach_the_writer() {
    let house = House::new().await;
    let (good, cookie) = (link(&house).await, signed_in(&house).await);
    house
        .app
        .store
        .write("test.read_only", |tx| Ok(tx.execute_batch("PRAGMA query_only = ON")?))
        .await
        .unwrap();
    let out = |cookie: &str| house.ask("POST", "/sign-out").nobody().header("cookie", cookie);
    assert_eq!(house.ask("POST", "/sign-in/x").nobody().send().await.status, 404);
    assert_eq!(out("__Host-russet=x").send().await.status, 303);
    assert_eq!(house.ask("POST", &good).nobody().send().await.status, 500);
    assert_eq!(out(&cookie).send().await.status, 500);
}

#[tokio::test]
async fn a_browser_is_not_made_to_ask_for_a_password() {
    let house = House::new().await;
    let ask = house.ask("GET", "/api/v1/enrollments").nobody().header("sec-fetch-mode", "cors");
    let offered: Vec<_> = ask
        .send()
        .await
        .headers
        .get_all("www-authenticate")
        .iter()
        .map(|value| value.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(offered, ["Bearer realm=\"Russet\""]);
}

#[test]
fn nothing_that_a_device_says_can_become_markup() {
    let script = include_str!("../ui/page.js");
    for dangerous in
        ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "DOMParser", "setAttribute"]
    {
        assert!(!script.contains(dangerous), "{dangerous}");
    }
    let pages = [
        include_str!("../ui/devices.html"),
        include_str!("../ui/sign-in.html"),
        include_str!("../ui/signed-out.html"),
        include_str!("../ui/link-spent.html"),
    ];
    for page in pages {
        for inline in [" on", "style=", "<style", "javascript:", "http:", "https:"] {
            let found = page.match_indices(inline).find(|(at, _)| {
                // `on` is an attribute only inside a tag.
                let tag = page[..*at].rfind('<') > page[..*at].rfind('>');
                inline != " on" || tag
            });
            assert_eq!(found, None, "{page}");
        }
        assert!(page.matches("<script").count() == page.matches("<script type=\"module\" src=").count());
    }
}

#[tokio::test]
async fn a_hostile_device_name_reaches_the_page_as_json_only() {
    let house = House::new().await;
    house.enrolled("A").await;
    let hostile = Facts { name: Some("</script><img src=x onerror=alert(1)>"), ..Facts::default() };
    house.app.store.write("test.name", move |tx| enrollment::learn(tx, "A", &hostile, None)).await.unwrap();
    let list = house.ask("GET", "/api/v1/enrollments").send().await;
    assert!(list.text.contains("onerror"));
    assert_eq!(list.headers["content-type"], "application/json");
    assert_eq!(list.headers["x-content-type-options"], "nosniff");
    let cookie = signed_in(&house).await;
    let page = house.ask("GET", "/").nobody().header("cookie", &cookie).send().await;
    assert!(!page.text.contains("onerror"));
}

#[tokio::test]
async fn a_sign_in_link_leads_to_where_people_are_served() {
    let link = async |admin_listen: &[&str], host: Option<&str>| {
        let house = House::configured(|config| {
            config.server.public_url = crate::config::Origin::parse("https://mdm.example.org").unwrap();
            config.server.admin_listen = admin_listen.iter().map(|at| at.parse().unwrap()).collect();
            config.admin.host = host.map(str::to_owned);
        })
        .await;
        let made = house.ask("POST", "/api/v1/sign-in-links").send().await.ok();
        made["url"].as_str().unwrap().split("/sign-in/").next().unwrap().to_owned()
    };
    assert_eq!(link(&[], None).await, "https://mdm.example.org");
    assert_eq!(link(&["10.0.0.5:8443", "[::1]:1"], None).await, "https://10.0.0.5:8443");
    assert_eq!(link(&["[fd00::5]:8443"], None).await, "https://[fd00::5]:8443");
    assert_eq!(link(&["[::]:8443"], None).await, "https://mdm.example.org:8443");
    assert_eq!(link(&["10.0.0.5:8443"], Some("people.example.org")).await, "https://people.example.org:8443");
}
