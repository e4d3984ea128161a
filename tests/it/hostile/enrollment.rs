//! Stolen, spent and guessed links, and what stands on pages (THREATS D5 30, 31, 35).

use std::sync::Arc;

use russet::clock::DAY;
use russet::enroll::invitation::{self, Wanted};
use russet::simulator::Kind;
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::raw::{Answer, Request};
use super::scep;
use crate::support::Appliance;

fn path(appliance: &Appliance, link: &str) -> String {
    link.strip_prefix(&appliance.config.server.public_url.to_string()).unwrap().to_owned()
}

async fn open(appliance: &Appliance, link: &str) -> [Answer; 2] {
    let path = path(appliance, link);
    [
        Request::get(&path).header("accept", "text/html").send(appliance).await,
        Request::get(format!("{path}/profile")).send(appliance).await,
    ]
}

/// 30: used up, expired, withdrawn: gone, in words, and nothing is issued.
#[tokio::test]
async fn a_spent_link_gives_no_profile() {
    let mut appliance = Appliance::start().await;
    let used = appliance.invite(1).await;
    appliance.device(Kind::IPhone).enroll(&used).await.unwrap();
    let revoked = appliance.invite(5).await;
    let code = revoked.rsplit('/').next().unwrap().to_owned();
    appliance.app().store.write("test", move |tx| invitation::revoke(tx, &code)).await.unwrap();
    let expired = appliance.invite_as(Wanted { expires_in: Some(60), ..Wanted::default() }).await;
    appliance.clock.advance(61);
    for link in [used, revoked, expired] {
        for answer in open(&appliance, &link).await {
            assert_eq!(answer.status, 410, "{}", answer.text());
            assert!(answer.text().contains("administrator"));
        }
        assert!(appliance.device(Kind::IPad).enroll(&link).await.is_err());
    }
}

/// 30: a QR code for one device, photographed by a class.
#[tokio::test]
async fn a_link_for_three_that_ten_scanned_enrolls_three() {
    let mut appliance = Appliance::start().await;
    let link = appliance.invite(3).await;
    let mut enrolled = 0;
    for _ in 0..10 {
        enrolled += usize::from(appliance.device(Kind::IPhone).enroll(&link).await.is_ok());
    }
    assert_eq!(enrolled, 3);
}

/// 30: the same by all at once, each of forty with its own profile, key and certificate.
#[tokio::test(flavor = "multi_thread")]
async fn forty_at_once_on_a_link_for_five_are_five() {
    let appliance = Arc::new(Appliance::start().await);
    let link = appliance.invite(5).await;
    let secrets: Vec<_> = {
        let mut all = Vec::new();
        for _ in 0..40 {
            all.push(scep::challenge(&appliance, &link).await);
        }
        all
    };
    let mut enrolling = JoinSet::new();
    for (number, secret) in secrets.into_iter().enumerate() {
        let appliance = appliance.clone();
        enrolling.spawn(async move {
            let client = scep::Client::new(&appliance, number).await;
            let Some(certificate) = client.ask(&appliance, Some(&secret)).await else { return false };
            let udid = format!("PHONE-{number}");
            scep::use_it(&appliance, &certificate, number, &udid).await == (200, 200)
        });
    }
    let enrolled = enrolling.join_all().await;
    assert_eq!(enrolled.iter().filter(|enrolled| **enrolled).count(), 5);
    let known: i64 = appliance.value("SELECT COUNT(*) FROM enrollments WHERE state = ?1", "enrolled");
    assert_eq!(known, 5);
    let used: i64 =
        appliance.value("SELECT used FROM invitations WHERE code = ?1", link.rsplit('/').next().unwrap());
    assert_eq!(used, 5);
}

/// 30: a link that is withdrawn while phones stand around with its profile and its certificates.
#[tokio::test]
async fn a_link_that_is_withdrawn_ends_everything_that_came_of_it_and_has_not_enrolled() {
    let appliance = Appliance::start().await;
    let link = appliance.invite(10).await;
    let early = scep::Client::new(&appliance, 0).await;
    let secret = scep::challenge(&appliance, &link).await;
    let enrolled = early.ask(&appliance, Some(&secret)).await.unwrap();
    assert_eq!(scep::use_it(&appliance, &enrolled, 0, "EARLY").await, (200, 200));
    let client = scep::Client::new(&appliance, 1).await;
    let (waiting, holding) =
        (scep::challenge(&appliance, &link).await, scep::challenge(&appliance, &link).await);
    let held = client.ask(&appliance, Some(&holding)).await.unwrap();
    let code = link.rsplit('/').next().unwrap();
    assert_eq!(
        appliance.api("DELETE", &format!("/api/v1/invitations/{code}"), None).await.0.as_u16() / 100,
        2
    );
    assert_eq!(open(&appliance, &link).await.map(|answer| answer.status), [410, 410]);
    assert_eq!(client.ask(&appliance, Some(&waiting)).await, None);
    assert_eq!(scep::use_it(&appliance, &held, 1, "LATE").await, (400, 400));
    assert_eq!(scep::use_it(&appliance, &enrolled, 0, "EARLY").await, (200, 200), "who is in stays in");
}

/// 30: the profile of one device, copied to another after the first was enrolled.
#[tokio::test]
async fn a_copied_profile_enrolls_one_device() {
    let mut appliance = Appliance::start().await;
    let link = appliance.invite(5).await;
    let profile = open(&appliance, &link).await[1].body.clone();
    appliance.device(Kind::IPhone).install_enrollment(&profile).await.unwrap();
    let copied = appliance.device(Kind::IPad).install_enrollment(&profile).await;
    assert!(copied.is_err(), "its challenge belongs to the first");
}

/// 30: guesses are 404 and then 429, and a real link of the same network still opens.
#[tokio::test]
async fn ten_thousand_guesses_find_nothing_and_lock_nobody_out() {
    let appliance = Appliance::start().await;
    let link = appliance.invite(1).await;
    let mut stream = super::raw::open(&appliance, None).await;
    let mut answers = Vec::new();
    for guess in 0..10_000 {
        answers.push(
            super::network::ask_on(
                &mut stream,
                &format!("GET /enroll/guess-{guess} HTTP/1.1\r\nhost: a\r\n\r\n"),
            )
            .await,
        );
    }
    assert_eq!(answers[0], 404);
    assert!(answers[31..].iter().all(|status| *status == 429));
    assert_eq!(open(&appliance, &link).await[0].status, 200, "a real link is no guess");
    for odd in ["..%2f..%2fetc", "%00", "%ff", "'%20OR%201=1", &"x".repeat(8000), "<script>"] {
        let answer = Request::get(format!("/enroll/{odd}")).send(&appliance).await;
        assert!([404, 429, 400].contains(&answer.status), "{odd:.20}: {}", answer.status);
        assert!(!answer.text().contains("<script>"));
    }
}

/// 30: the code is in no referrer, no cache and no frame.
#[tokio::test]
async fn a_link_leaks_through_neither_referrer_nor_cache_nor_frame() {
    let appliance = Appliance::start().await;
    let link = appliance.invite(1).await;
    for answer in open(&appliance, &link).await {
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"));
    }
}

/// 31: who posts a MachineInfo holds the link; what it says is believed for nothing else.
#[tokio::test]
async fn a_machine_info_that_is_unsigned_or_for_another_serial_number_gets_no_profile() {
    let mut appliance = Appliance::start().await;
    let wanted = Wanted { serial_number: Some("C02OTHER".into()), ..Wanted::default() };
    let link = appliance.invite_as(wanted).await;
    let path = format!("{}/profile", path(&appliance, &link));
    for body in [&b""[..], b"<plist/>", &[0x30, 0x80], &[0x30; 5000]] {
        let answer = Request::post(&path, body).send(&appliance).await;
        assert_eq!(answer.status, 400);
    }
    let large = Request::post(&path, vec![0x30; 65 * 1024]).send(&appliance).await;
    assert_eq!(large.status, 413);
    assert!(appliance.device(Kind::IPhone).enroll_supervised(&link).await.is_err());
}

/// 35: the organization's name, on the page and in the file's name.
#[tokio::test]
async fn names_never_become_markup_on_the_page() {
    let hostile = "<script>alert(1)</script>\"'&\r\nSet-Cookie: a=b";
    let appliance = Appliance::bare(|config| config.organization.name = hostile.into()).await;
    appliance.import_push_certificate(crate::support::TOPIC).await;
    let link = appliance.invite(1).await;
    let [page, profile] = open(&appliance, &link).await;
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("<script>"), "{}", page.text());
    assert!(page.text().contains("&lt;script&gt;"));
    assert_eq!(profile.status, 200);
    assert!(profile.header("set-cookie").is_none() && page.header("set-cookie").is_none());
}

/// 35: what a browser or a device sends is thrown back nowhere as markup.
#[tokio::test]
async fn no_answer_echoes_markup() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let udid = phone.udid.clone();
    let message = super::message("<script>alert(1)</script>", &udid, []);
    let reply = super::send(&appliance, &mut phone, "/mdm/checkin", super::xml(message)).await;
    let kind = reply.headers.get("content-type").unwrap().to_str().unwrap();
    assert!(kind.starts_with("text/plain"), "{kind}: a browser shows it as text");
    for path in ["/<script>", "/enroll/<script>", "/api/v1/<script>", "/mdm/<script>"] {
        let answer = Request::get(path).header("accept", "text/html").send(&appliance).await;
        assert!(!answer.text().contains("<script>"), "{path}");
    }
}

/// 35: names reach people as JSON that no browser takes for anything else, and pages that run nothing.
#[tokio::test]
async fn hostile_names_leave_the_api_as_json_and_no_page_runs_what_it_is_handed() {
    let mut appliance = Appliance::start().await;
    let mut phone = appliance.enroll(Kind::IPhone).await;
    let mut authenticate = super::authenticate(&phone.udid);
    let hostile = "</script><script>alert(1)</script>";
    for key in ["DeviceName", "Model", "ModelName", "SerialNumber", "OSVersion", "ProductName"] {
        authenticate.insert(key.into(), hostile.into());
    }
    assert_eq!(super::say(&appliance, &mut phone, authenticate).await, 200);
    let mut request = hyper::Request::get("/api/v1/enrollments").body(axum::body::Body::empty()).unwrap();
    request.extensions_mut().insert(russet::request::Peer::Socket);
    let response = appliance.app().socket_router().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let (_, listed) = appliance.api("GET", "/api/v1/enrollments", None).await;
    assert_eq!(listed["items"][0]["name"], hostile, "as it was said");

    let stranger = Request::get("/api/v1/enrollments").send(&appliance).await;
    assert_eq!((stranger.status, stranger.header("content-type")), (401, Some("application/json")));
    for path in ["/", "/sign-in/x"] {
        let page = Request::get(path).header("accept", "text/html").send(&appliance).await;
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(!page.text().contains("<script>"), "{path}");
    }
}

/// A link that was made a year ago for a wrong clock does not live for ever.
#[tokio::test]
async fn a_link_ends_by_itself() {
    let appliance = Appliance::start().await;
    let link = appliance.invite(1).await;
    appliance.clock.advance(7 * DAY);
    assert_eq!(open(&appliance, &link).await[0].status, 410);
}

/// 30: a link is worth a bounded number of rows, whatever its holder begins and never finishes.
#[tokio::test]
async fn a_link_whose_holder_never_finishes_fills_nothing() {
    let mut appliance = Appliance::start().await;
    let phone = appliance.enroll(Kind::IPhone).await;
    let link = appliance.invite(1).await;
    for round in 0..30 {
        let secret = scep::challenge(&appliance, &link).await;
        let certificate =
            scep::Client::new(&appliance, 5).await.ask(&appliance, Some(&secret)).await.unwrap();
        let identity = russet::simulator::Identity::new(crate::support::key(5), certificate.der().to_vec());
        if round % 2 == 0 {
            let message = super::xml(super::authenticate(&format!("FLOOD-{round}")));
            let answer = Request::put("/mdm/checkin", message).presenting(&identity).send(&appliance).await;
            assert_eq!(answer.status, 200);
        }
    }
    for (table, most) in [("sessions", 43), ("identities", 43), ("enrollments", 22), ("messages", 23)] {
        let rows: i64 = appliance.value(&format!("SELECT COUNT(*) FROM {table} WHERE ?1 = ''"), "");
        assert!((1..=most).contains(&rows), "{rows} {table}");
    }
    // After a month no device of it is left, and when its certificates end nothing is; who enrolled stays.
    let store = &appliance.app().store;
    appliance.clock.advance(31 * DAY);
    while store.write("thin", |tx| russet::mdm::unfinished::thin(tx, 10)).await.unwrap() > 0 {}
    appliance.clock.advance(900 * DAY);
    while store.write("thin", |tx| russet::enroll::session::thin(tx, 10)).await.unwrap() > 0 {}
    for (table, left) in [("enrollments", 1), ("messages", 2), ("sessions", 1), ("identities", 1)] {
        let rows: i64 = appliance.value(&format!("SELECT COUNT(*) FROM {table} WHERE ?1 = ''"), "");
        assert_eq!(rows, left, "{table}");
    }
    assert_eq!(appliance.value::<i64>("SELECT COUNT(*) FROM enrollments WHERE id = ?1", &phone.udid), 1);
}

/// A link without a group and the UDID of a device that has left lead into none of its groups.
#[tokio::test]
async fn a_known_udid_inherits_neither_group_nor_tags_of_an_earlier_life() {
    let mut appliance = Appliance::start().await;
    let wanted = Wanted { group: Some("Staff".into()), ..Wanted::default() };
    let mut phone = appliance.device(Kind::IPhone);
    phone.enroll(&appliance.invite_as(wanted).await).await.unwrap();
    let path = format!("/api/v1/enrollments/{}", phone.udid);
    appliance.api("PATCH", &path, Some(serde_json::json!({"tags": ["vip"]}))).await;
    let reenroll = Wanted { reenroll: true, ..Wanted::default() };
    for (wanted, groups, tags) in [(reenroll, "[\"Staff\"]", "[\"vip\"]"), (Wanted::default(), "[]", "[]")] {
        phone.remove_management().await.unwrap();
        phone.enroll(&appliance.invite_as(wanted).await).await.unwrap();
        let (_, shown) = appliance.api("GET", &path, None).await;
        assert_eq!((shown["groups"].to_string(), shown["tags"].to_string()), (groups.into(), tags.into()));
    }
}
