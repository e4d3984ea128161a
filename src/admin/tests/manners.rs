//! What holds for every route: proof, scopes, the shape of refusals, pages.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::auth::Scope;
use super::super::{BODY_LIMIT, COMMAND_LIMIT, table};
use super::House;

const METHODS: [&str; 5] = ["GET", "PUT", "POST", "PATCH", "DELETE"];

fn paths() -> BTreeSet<String> {
    table().iter().map(|(path, _, _)| path.replace(['{', '}'], "x")).collect()
}

#[tokio::test]
async fn no_route_answers_without_a_token() {
    let house = House::new().await;
    for path in paths() {
        let mut closed = 0;
        for method in METHODS {
            let reply = house.ask(method, &path).nobody().send().await;
            assert!(matches!(reply.status.as_u16(), 401 | 405), "{method} {path}: {}", reply.text);
            if reply.status == 401 {
                reply.refused(401, "unauthenticated");
                assert!(reply.headers.get_all("www-authenticate").iter().count() == 2, "{method} {path}");
                closed += 1;
            }
        }
        assert!(closed > 0, "{path}");
    }
}

#[tokio::test]
async fn headers_that_only_claim_something_are_no_token() {
    let house = House::new().await;
    for (name, value) in [
        ("authorization", "Bearer "),
        ("authorization", "Bearer russet_"),
        ("authorization", "Basic eDo="),
        ("authorization", "Basic \u{7f}"),
        ("authorization", "Negotiate abc"),
        ("cookie", "__Host-russet="),
        ("cookie", "russet=1; __Host-russet=AAAA"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-user", "admin"),
        ("mdm-signature", "AAAA"),
    ] {
        let Ok(_) = axum::http::HeaderValue::from_str(value) else { continue };
        let reply = house.ask("GET", "/api/v1/enrollments").nobody().header(name, value).send().await;
        reply.refused(401, "unauthenticated");
    }
    let token = house.token("one", "admin").await;
    let twice = house.ask("GET", "/api/v1/tokens").nobody().token(&token).token(&token).send().await;
    twice.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_token_reaches_its_scope_and_nothing_above_it() {
    let house = House::new().await;
    let read = house.token("reader", "read").await;
    let command = house.token("helper", "command").await;
    for (path, scope, _) in table() {
        let path = path.replace(['{', '}'], "x");
        for method in METHODS {
            let socket = house.ask(method, &path).send().await;
            if socket.status == 405 {
                continue;
            }
            // Where a path needs two scopes, GET is the lower one.
            if method == "GET" && scope > Scope::Read && !path.contains("/nanomdm/push/") {
                continue;
            }
            if method != "GET" && scope == Scope::Read {
                continue;
            }
            for (token, has) in [(&read, Scope::Read), (&command, Scope::Command)] {
                let reply = house.ask(method, &path).nobody().token(token).send().await;
                let refused = reply.json["error"]["message"].as_str().is_some_and(|words| {
                    reply.status == 403 && words.starts_with("this needs a token of scope")
                });
                assert_eq!(refused, has < scope, "{method} {path} with {has:?}: {}", reply.text);
            }
        }
    }
}

#[tokio::test]
async fn every_refusal_has_the_same_shape() {
    let house = House::new().await;
    house.ask("GET", "/api/v1/nothing").send().await.refused(404, "not_found");
    house.ask("GET", "/api/v1/enrollments/none").send().await.refused(404, "not_found");
    let wrong_method = house.ask("DELETE", "/api/v1/tokens").send().await;
    wrong_method.refused(405, "method_not_allowed");
    assert!(wrong_method.headers["allow"].to_str().unwrap().contains("POST"));
    house.ask("POST", "/api/v1/tokens").send().await.refused(415, "unsupported_media_type");
    house.ask("GET", "/api/v1/enrollments/%ff").send().await.refused(400, "invalid");
    house.ask("GET", "/api/v1/commands/none").send().await.refused(404, "not_found");
    let page = house.ask("GET", "/nothing").nobody().send().await;
    assert_eq!((page.status.as_u16(), page.text.as_str()), (404, "there is nothing at this address\n"));
}

#[tokio::test]
async fn a_mistake_in_a_body_is_pointed_at() {
    let house = House::new().await;
    for (body, pointer) in [
        ("{", ""),
        ("[]", ""),
        ("{}", "/name"),
        (r#"{"name": 1}"#, "/name"),
        (r#"{"name": ""}"#, "/name"),
        (r#"{"name": "a\nb"}"#, "/name"),
        (r#"{"name": "a", "scope": "root"}"#, "/scope"),
        (r#"{"name": "a", "expires_in": "soon"}"#, "/expires_in"),
        (r#"{"name": "a", "expires_in": 7}"#, "/expires_in"),
        (r#"{"name": "a", "expire/s": 7}"#, "/expire~1s"),
    ] {
        let reply =
            house.ask("POST", "/api/v1/tokens").body("application/json", body.as_bytes()).send().await;
        reply.refused(400, "invalid");
        assert_eq!(reply.pointer(), pointer, "{body}");
    }
    let deep = "[".repeat(100_000);
    let reply = house.ask("POST", "/api/v1/tokens").body("application/json", deep.as_bytes()).send().await;
    reply.refused(400, "invalid");
}

#[tokio::test]
async fn bodies_are_limited() {
    let house = House::new().await;
    let body = vec![b' '; BODY_LIMIT + 1];
    let reply = house.ask("POST", "/api/v1/tokens").body("application/json", &body).send().await;
    reply.refused(413, "too_large");
    house.enrolled("A").await;
    let path = "/api/v1/enrollments/A/commands";
    let reply = house.ask("POST", path).body("application/json", &body).send().await;
    reply.refused(400, "invalid");
    let body = vec![b' '; COMMAND_LIMIT + 1];
    let reply = house.ask("POST", path).body("application/json", &body).send().await;
    reply.refused(413, "too_large");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let house = House::new().await;
    for name in ["a", "b", "c"] {
        house.token(name, "read").await;
    }
    let mut path = "/api/v1/tokens?limit=2".to_owned();
    let mut names = Vec::new();
    loop {
        let page = house.ask("GET", &path).send().await.ok();
        names.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/tokens?limit=2&cursor={next}");
    }
    assert_eq!(json!(names), json!(["a", "b", "c"]));
    for wrong in
        ["limit=0", "limit=501", "limit=-1", "limit=x", "limit=", "cursor=%25", "cursor=!", "cursor="]
    {
        for list in ["invitations", "commands"] {
            let reply = house.ask("GET", &format!("/api/v1/{list}?{wrong}")).send().await;
            reply.refused(400, "invalid");
        }
    }
}

#[tokio::test]
async fn the_health_check_asks_the_database_and_nobody_for_a_token() {
    let house = House::new().await;
    let reply = house.ask("GET", "/healthz").nobody().send().await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, "ok"));
}
