//! A server of the tests' own in Apple's place.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Answers every request with these bytes, over TLS with a certificate of an authority of its own.
async fn server(answer: &'static str, padding: usize) -> (String, tempfile::TempDir, PathBuf) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &authority).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trust = folder.path().join("root.pem");
    std::fs::write(&trust, authority.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/v2/pmv", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = [0; 2048];
                let got = stream.read(&mut request).await.unwrap_or(0);
                assert!(request[..got].starts_with(b"GET /v2/pmv HTTP/1.1\r\n"));
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.write_all(&vec![b' '; padding]).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (url, folder, trust)
}

#[tokio::test]
async fn a_document_is_fetched_from_whom_it_is_trusted() {
    let (url, _folder, trust) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 0).await;
    assert_eq!(fetch(&url, Some(&trust)).await.unwrap(), b"{}");
    let refused = fetch(&url, None).await.unwrap_err().to_string();
    assert!(refused.contains("catalogue_trust"), "{refused}");
    let refused = fetch(&url, Some(Path::new("/nowhere.pem"))).await.unwrap_err().to_string();
    assert!(refused.contains("/nowhere.pem"), "{refused}");
}

#[tokio::test]
async fn other_answers_are_refused_in_words() {
    for (answer, padding, words) in [
        ("HTTP/1.1 302 Found\r\nlocation: https://elsewhere.example/\r\ncontent-length: 0\r\n\r\n", 0, "302"),
        ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", 0, "503"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5000000\r\n\r\n", 5_000_000, "more than"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}", 0, "cannot be read"),
        ("SSH-2.0-OpenSSH\r\n\r\n", 0, "cannot be read"),
    ] {
        let (url, _folder, trust) = server(answer, padding).await;
        let refused = fetch(&url, Some(&trust)).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }));
        assert!(refused.to_string().contains(words), "{answer}: {refused}");
    }
}

#[test]
fn the_root_that_is_built_in_is_apples() {
    let der = CertificateDer::from_pem_slice(APPLE_ROOT).unwrap();
    // Apple publishes the fingerprint at https://www.apple.com/certificateauthority/.
    assert_eq!(
        id::hex(&id::sha256(&der)),
        "b0b1730ecbc7ff4505142c49f1295e6eda6bcaed7e2c68c5be91b5a11001f024"
    );
    assert!(!roots(None).unwrap().is_empty());
}

#[test]
fn pauses_grow_with_failures() {
    let url = Location::Url("https://gdmf.apple.com/v2/pmv".into());
    assert_eq!(pause(&url, 0), URL_AGAIN);
    let pauses: Vec<Duration> = (1..8).map(|failures| pause(&url, failures)).collect();
    assert!(pauses.is_sorted() && pauses[0] == Duration::from_secs(60) && pauses[6] < URL_AGAIN);
    assert_eq!(pause(&Location::Path("/a".into()), 9), FILE_AGAIN);
}
