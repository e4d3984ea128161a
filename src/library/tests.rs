//! What the library keeps, and what becomes of the declarations that point to it, on a store of its own.

use serde_json::{Value as Json, json};

use super::asset::{self, Prepared, Upload};
use crate::content::{Contents, find};
use crate::ddm::served::{self, Kind};
use crate::ddm::{self, Edit, declaration};
use crate::error::{Error, Result};
use crate::pki::seal::Seal;
use crate::schema::declarations::check;
use crate::storage::tests::temporary;
use crate::storage::{Store, Tx};

const EDIT: Edit<'_> = Edit { actor: "test", notify: true };
const BASE: &str = "https://mdm.example.org";

pub(super) struct Shelf {
    pub(super) folder: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) contents: Contents,
}

impl Shelf {
    pub(super) async fn new() -> Self {
        let (folder, store) = temporary();
        let seal = Seal::open(folder.path(), None, true).unwrap();
        let contents = Contents::open(folder.path(), &seal).unwrap();
        store.write("test", |tx| ddm::set_public_url(tx, BASE)).await.unwrap();
        Self { folder, store, contents }
    }

    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    ) -> T {
        self.store.write("test", work).await.unwrap()
    }

    fn prepare(&self, asset_type: Option<&str>, media_type: &str, bytes: &[u8]) -> Result<Prepared> {
        let upload = Upload {
            asset_type,
            known_type: None,
            known_media: None,
            media_type,
            password: None,
            force: false,
        };
        asset::prepare(&self.contents, &upload, self.contents.receive_bytes(bytes)?)
    }

    async fn asset(&self, identifier: &'static str, prepared: Prepared) -> asset::Put {
        let contents = self.contents.clone();
        self.with(move |tx| asset::put(tx, &contents, identifier, &prepared, EDIT)).await
    }
}

pub(super) fn write(tx: &Tx<'_>, body: &Json) -> Result<declaration::Put> {
    declaration::put(tx, &check(body, false)?, false, EDIT)
}

pub(super) fn refused<T>(answer: Result<T>) -> (String, String) {
    match answer {
        Err(Error::Invalid { words, pointer, .. }) => (pointer.unwrap_or_default(), words),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was accepted"),
    }
}

fn token(tx: &Tx<'_>, identifier: &str) -> Result<String> {
    Ok(declaration::get(tx, identifier)?.unwrap().server_token)
}

#[tokio::test]
async fn an_asset_makes_its_declaration_and_a_change_of_its_bytes_changes_the_token() {
    let shelf = Shelf::new().await;
    let put = shelf.asset("org.example.zip", shelf.prepare(None, "application/zip", b"one").unwrap()).await;
    assert!(put.created && put.changed);
    let first = shelf
        .with(|tx| {
            let declared = declaration::get(tx, "org.example.zip")?.unwrap();
            assert_eq!(declared.declaration_type, "com.apple.asset.data");
            let reference = &declared.payload["Reference"];
            assert_eq!(reference["DataURL"], format!("{BASE}/mdm/assets/org.example.zip"));
            assert_eq!(
                (&reference["Size"], &reference["ContentType"]),
                (&json!(3), &json!("application/zip"))
            );
            assert_eq!(reference["Hash-SHA-256"], crate::id::hex(&crate::id::sha256(b"one")));
            assert_eq!(declared.payload["Authentication"], json!({"Type": "MDM"}));
            Ok(declared.server_token)
        })
        .await;
    let same = shelf.asset("org.example.zip", shelf.prepare(None, "application/zip", b"one").unwrap()).await;
    assert!(!same.created && !same.changed);
    let other =
        shelf.asset("org.example.zip", shelf.prepare(None, "application/zip", b"two!").unwrap()).await;
    assert!(!other.created && other.changed);
    shelf
        .with(move |tx| {
            assert_ne!(token(tx, "org.example.zip")?, first);
            // What the declaration says of its bytes stays true.
            let mut declared = declaration::get(tx, "org.example.zip")?.unwrap().body();
            declared["Payload"]["Reference"]["Size"] = 3.into();
            assert_eq!(refused(write(tx, &declared)).0, "/Payload/Reference/Size");
            declared["Payload"]["Reference"]["Size"] = 4.into();
            declared["Payload"]["Authentication"]["Type"] = "None".into();
            assert_eq!(refused(write(tx, &declared)).0, "/Payload/Authentication/Type");
            // One that leads elsewhere lets go of the bytes.
            declared["Payload"] = json!({"Reference": {"DataURL": "https://example.org/x"}});
            write(tx, &declared)?;
            asset::follow(tx, "org.example.zip")?;
            assert!(asset::get(tx, "org.example.zip")?.is_none());
            assert!(find(tx, "asset org.example.zip")?.is_none());
            assert!(served::find(tx, Kind::Asset, "org.example.zip")?.is_none());
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn a_link_must_lead_somewhere_and_keeps_what_it_leads_to() {
    let shelf = Shelf::new().await;
    shelf.asset("x", shelf.prepare(None, "text/plain", b"bytes").unwrap()).await;
    shelf
        .with(|tx| {
            let asset = |name: &str, url: &str| {
                let reference = json!({"DataURL": url});
                json!({"Type": "com.apple.asset.data", "Identifier": name, "Payload": {"Reference": reference}})
            };
            let (pointer, words) = refused(write(tx, &asset("y", &format!("{BASE}/mdm/assets/none"))));
            assert_eq!(pointer, "/Payload/Reference/DataURL");
            assert!(words.contains("no asset none"), "{words}");
            let completed = write(tx, &asset("y", "/mdm/assets/x"))?;
            assert_eq!(completed.warnings.len(), 1, "{:?}", completed.warnings);
            let declared = declaration::get(tx, "y")?.unwrap();
            assert_eq!(declared.payload["Reference"]["DataURL"], format!("{BASE}/mdm/assets/x"));
            let Err(Error::Conflict { details, .. }) = asset::delete(tx, "x", EDIT) else { panic!() };
            assert_eq!(details["users"], json!([{"declaration": "y"}]));
            Ok(())
        })
        .await;
    let before = shelf.with(|tx| token(tx, "y")).await;
    shelf.asset("x", shelf.prepare(None, "text/plain", b"other").unwrap()).await;
    shelf
        .with(move |tx| {
            assert_ne!(token(tx, "y")?, before);
            // The server is called something else now; links lead to it all the same.
            ddm::set_public_url(tx, "https://other.example.org:8443")?;
            let declared = declaration::get(tx, "y")?.unwrap();
            let url = "https://other.example.org:8443/mdm/assets/x";
            assert_eq!(declared.payload["Reference"]["DataURL"], url);
            declaration::delete(tx, "y", EDIT)?;
            asset::delete(tx, "x", EDIT)?;
            assert!(declaration::get(tx, "x")?.is_none());
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn profiles_come_from_this_server_alone() {
    let shelf = Shelf::new().await;
    shelf
        .with(|tx| {
            let legacy = |url: &str| {
                let payload = json!({"ProfileURL": url});
                json!({"Type": "com.apple.configuration.legacy", "Identifier": "l", "Payload": payload})
            };
            for url in [
                "https://example.org/x.mobileconfig",
                "http://mdm.example.org/mdm/profiles/x",
                "https://mdm.example.org/x.mobileconfig",
                "https://mdm.example.org/mdm/assets/x",
                "https://mdm.example.org/mdm/profiles/x",
                "https://mdm.example.org@evil.example/mdm/profiles/x",
                "/mdm/profiles/x",
                "file:///etc/passwd",
                "x",
            ] {
                let (pointer, words) = refused(write(tx, &legacy(url)));
                assert_eq!(pointer, "/Payload/ProfileURL", "{url}");
                assert!(words.ends_with('.'), "{words}");
            }
            let forced = |url: &str| declaration::put(tx, &check(&legacy(url), true)?, true, EDIT);
            assert_eq!(forced("https://example.org/x.mobileconfig")?.warnings.len(), 1);
            assert_eq!(refused(forced("http://example.org/x.mobileconfig")).0, "/Payload/ProfileURL");
            assert_eq!(refused(forced("https://mdm.example.org/mdm/profiles/x")).0, "/Payload/ProfileURL");
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn credentials_are_what_apple_expects_and_are_kept_as_secrets() {
    let shelf = Shelf::new().await;
    let pem = include_bytes!("../../tests/fixtures/cms/rsa.crt");
    let prepared = shelf.prepare(None, "application/octet-stream", pem).unwrap();
    assert_eq!(prepared.asset_type, "com.apple.asset.credential.certificate");
    assert_eq!(prepared.media_type, "application/pem");
    let text = std::str::from_utf8(pem).unwrap();
    let der = crate::pki::certificate::Certificate::from_pem(text).unwrap().der().to_vec();
    assert_eq!(shelf.prepare(None, "application/pkix-cert", &der).unwrap().media_type, "application/pkcs1");
    let two = [&pem[..], pem].concat();
    assert!(refused(shelf.prepare(None, "application/x-pem-file", &two)).1.contains("2 certificates"));
    let key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(refused(shelf.prepare(None, "application/x-pem-file", key)).1.contains("private key"));
    assert_eq!(shelf.prepare(None, "text/plain", pem).unwrap().asset_type, "com.apple.asset.data");
    assert!(refused(shelf.prepare(None, "text/plain\r\nx: y", b"x")).1.contains("Content-Type"));

    let kind = Some("com.apple.asset.credential.userpassword");
    let (pointer, _) = refused(shelf.prepare(kind, "application/json", br#"{"Password": "x"}"#));
    assert_eq!(pointer, "/UserName");
    let secret = br#"{"UserName": "wifi", "Password": "correct horse"}"#;
    shelf.asset("p", shelf.prepare(kind, "application/json", secret).unwrap()).await;
    let contents = shelf.contents.clone();
    shelf
        .with(move |tx| {
            let asset = asset::get(tx, "p")?.unwrap();
            assert!(asset.kept.secret && asset.kept.sha256().is_none());
            assert_eq!(contents.load(tx, &asset.kept)?, secret);
            let declared = declaration::get(tx, "p")?.unwrap();
            assert!(declared.payload["Reference"].get("Hash-SHA-256").is_none());
            assert!(declared.payload.get("Authentication").is_none());
            Ok(())
        })
        .await;
    // What people add to the declaration stays when the bytes change.
    let kind = Some("com.apple.asset.credential.scep");
    let document =
        |challenge: &str| json!({"URL": "https://scep.example.org", "Challenge": challenge}).to_string();
    shelf.asset("s", shelf.prepare(kind, "application/json", document("one").as_bytes()).unwrap()).await;
    let first = shelf
        .with(|tx| {
            let mut declared = declaration::get(tx, "s")?.unwrap().body();
            declared["Payload"]["Accessible"] = "AfterFirstUnlock".into();
            write(tx, &declared)?;
            asset::follow(tx, "s")?;
            token(tx, "s")
        })
        .await;
    shelf.asset("s", shelf.prepare(kind, "application/json", document("two").as_bytes()).unwrap()).await;
    shelf
        .with(move |tx| {
            let declared = declaration::get(tx, "s")?.unwrap();
            assert_eq!(declared.payload["Accessible"], "AfterFirstUnlock");
            assert_ne!(declared.server_token, first, "a secret of the same length is another");
            // It cannot be said to be of another type than its bytes are.
            let mut other = declared.body();
            other["Type"] = "com.apple.asset.credential.acme".into();
            write(tx, &other)?;
            assert_eq!(refused(asset::follow(tx, "s")).0, "/Type");
            Ok(())
        })
        .await;
    for entry in std::fs::read_dir(shelf.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(13).any(|window| window == b"correct horse"));
    }
}
