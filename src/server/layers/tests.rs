//! How refusals of a body reach who sent it, whatever the handler makes of them.

use super::*;
use axum::Extension;
use axum::routing::put;
use http_body_util::{BodyExt, Full};

use crate::server::budget::Budget;

async fn ask(path: &str, length: usize) -> (u16, Option<String>, String) {
    let late = async |Extension(allowance): Extension<Arc<Allowance>>, _: Bytes| allowance.set_late();
    let read = async |body: Bytes| body.len().to_string();
    let router = Router::new()
        .route("/mdm/late", put(late))
        .route("/api/late", put(late))
        .route("/mdm/read", put(read))
        .route("/api/read", put(read))
        .route("/mdm/blind", put(async |_: Result<Bytes, axum::extract::rejection::BytesRejection>| "fine"));
    let request = Request::put(path).body(Full::new(Bytes::from(vec![0; length]))).unwrap();
    // Room for nothing but what each connection has.
    let answer = answer(router, request, Peer::Socket, &Purse::new(&Budget::new(0))).await;
    let status = answer.status().as_u16();
    let again = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    (status, again, String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn a_large_body_for_which_there_is_no_memory_is_503_in_words() {
    for path in ["/mdm/read", "/mdm/blind"] {
        let (status, again, text) = ask(path, 100_000).await;
        assert_eq!((status, again.as_deref()), (503, Some("10")), "{text}");
        assert!(text.starts_with("too many large bodies"), "{text}");
    }
    let (status, again, text) = ask("/api/read", 100_000).await;
    assert_eq!((status, again.as_deref()), (503, Some("10")));
    let error: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(error["error"]["code"] == "busy" && error["error"]["request_id"].is_string(), "{text}");
    assert_eq!(ask("/mdm/read", 60_000).await.2, "60000");
}

#[tokio::test]
async fn a_slow_body_is_400_to_devices_and_408_to_scripts() {
    assert_eq!(ask("/mdm/late", 1).await.0, 400);
    assert_eq!(ask("/api/late", 1).await.0, 408);
}
