//! Tokens, and who guesses them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::House;
use crate::clock::{DAY, MINUTE};

#[tokio::test]
async fn a_token_is_shown_once_and_works_as_bearer_and_as_a_password() {
    let house = House::new().await;
    let token = house.token("script", "read").await;
    assert!(token.starts_with("russet_") && token.len() == 7 + 43, "{token}");
    let basic = format!("Basic {}", STANDARD.encode(format!("nanomdm:{token}")));
    for authorization in [format!("Bearer {token}"), format!("bearer  {token}"), basic] {
        let ask = house.ask("GET", "/api/v1/tokens/script").nobody().header("authorization", &authorization);
        let shown = ask.send().await;
        assert!(!shown.text.contains(&token));
        assert_eq!(shown.ok()["scope"], "read");
    }
    assert_eq!(house.audit(), ["socket token.create script {\"scope\":\"read\",\"expires_at\":null}"]);
}

#[tokio::test]
async fn a_name_is_for_one_token_until_that_has_ended() {
    let house = House::new().await;
    house.token("script", "read").await;
    let body = json!({"name": "script", "scope": "admin", "expires_in": "1d"});
    let again = || house.ask("POST", "/api/v1/tokens").json(&body).send();
    again().await.refused(409, "conflict");
    assert_eq!(house.ask("DELETE", "/api/v1/tokens/script").send().await.status, 204);
    again().await.ok();
    again().await.refused(409, "conflict");
    house.clock.advance(DAY);
    again().await.ok();
    house.ask("DELETE", "/api/v1/tokens/none").send().await.refused(404, "not_found");
}

#[tokio::test]
async fn a_revoked_and_an_expired_token_are_refused() {
    let house = House::new().await;
    let revoked = house.token("revoked", "admin").await;
    house.ask("DELETE", "/api/v1/tokens/revoked").nobody().token(&revoked).send().await.ok();
    let words = house.ask("GET", "/api/v1/tokens").nobody().token(&revoked).send().await;
    assert!(words.refused(401, "unauthenticated").contains("revoked"));

    let body = json!({"name": "short", "expires_in": "1h"});
    let made = house.ask("POST", "/api/v1/tokens").json(&body).send().await.ok();
    let token = made["token"].as_str().unwrap();
    house.ask("GET", "/api/v1/tokens").nobody().token(token).send().await.ok();
    house.clock.advance(60 * MINUTE);
    let words = house.ask("GET", "/api/v1/tokens").nobody().token(token).send().await;
    assert!(words.refused(401, "unauthenticated").contains("expired"));
}

#[tokio::test]
async fn the_last_use_is_written_once_a_minute() {
    let house = House::new().await;
    let token = house.token("script", "read").await;
    let last_used = async || {
        let shown = house.ask("GET", "/api/v1/tokens/script").send().await.ok();
        shown["last_used_at"].clone()
    };
    assert_eq!(last_used().await, Value::Null);
    house.ask("GET", "/api/v1/tokens").nobody().token(&token).send().await.ok();
    let first = last_used().await;
    house.clock.advance(MINUTE - 1);
    house.ask("GET", "/api/v1/tokens").nobody().token(&token).send().await.ok();
    assert_eq!(last_used().await, first);
    house.clock.advance(1);
    house.ask("GET", "/api/v1/tokens").nobody().token(&token).send().await.ok();
    assert_ne!(last_used().await, first);
}

#[tokio::test]
async fn guessing_is_limited_whatever_a_request_says_of_where_it_comes_from() {
    let house = House::new().await;
    let good = house.token("good", "read").await;
    let guess = async |address: &str, number: u32| {
        let forged = format!("198.51.100.{}", number % 250);
        let ask = house.ask("GET", "/api/v1/tokens").from(address).token(&format!("russet_{number}"));
        ask.header("x-forwarded-for", &forged).header("forwarded", &forged).send().await
    };
    for number in 0..30 {
        guess("192.0.2.7", number).await.refused(401, "unauthenticated");
    }
    guess("192.0.2.7", 30).await.refused(429, "too_many_requests");
    guess("192.0.2.8", 31).await.refused(401, "unauthenticated");
    // Who shares the address and has a token is not locked out.
    house.ask("GET", "/api/v1/tokens").from("192.0.2.7").token(&good).send().await.ok();
    house.clock.advance(MINUTE);
    guess("192.0.2.7", 32).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_a_count_of_its_own() {
    let house = House::configured(|config| config.proxy.trusted = vec!["10.0.0.2/32".parse().unwrap()]).await;
    let guess = async |from: &str, forwarded: &str| {
        let ask = house.ask("GET", "/api/v1/tokens").from(from).token("russet_wrong");
        ask.header("x-forwarded-for", forwarded).send().await.status.as_u16()
    };
    for number in 0..30 {
        // What the client wrote stands before what the proxy added.
        assert_eq!(guess("10.0.0.2", &format!("198.51.100.{number}, 192.0.2.7")).await, 401);
    }
    assert_eq!(guess("10.0.0.2", "192.0.2.7").await, 429);
    assert_eq!(guess("10.0.0.2", "192.0.2.8").await, 401);
    // Nobody else's word is taken: this is one stranger, and not the client of above.
    assert_eq!(guess("10.0.0.3", "192.0.2.7").await, 401);
    for number in 0..30 {
        guess("10.0.0.3", &format!("198.51.100.{number}")).await;
    }
    assert_eq!(guess("10.0.0.3", "192.0.2.99").await, 429);
}
