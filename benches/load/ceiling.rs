//! What this machine could do at best: the same sockets, TLS and HTTP with next to nothing behind.
//!
//! Runs in a process of its own (this program again, with `--ceiling`), on four ports. The first
//! answers every request of devices and of the API with an empty 200; the second first writes the
//! request's body as one row and answers when that row is on the disk. The others do the same and verify one
//! RSA-2048 signature before, where the request carries one: no server can do without, but the
//! arithmetic is all that it does; nothing is parsed and nobody is looked for.
//!
//! **Invariant:** network, TLS and group commit are Russet's own, so that the distance to the ceiling
//! is what Russet does with a request and nothing else.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use russet::clock::Clock;
use russet::config::Config;
use russet::pki::key::{Hash, PrivateKey, PublicKey, RsaSize};
use russet::pki::tls_authority::TlsAuthority;
use russet::pki::tls_names::Names;
use russet::server::App;
use russet::server::client_certificates::ClientCertificates;
use russet::server::listener::Listener;
use russet::server::network::Network;
use russet::server::tls::{self, Pair, ServerCertificate};
use russet::storage::{Lock, Store};

use crate::{Failed, Result, drive};

/// The name of the file with the ceiling's TLS root, DER.
pub(crate) const ANCHOR: &str = "anchor.der";

/// Serves until stdin ends.
pub(crate) async fn serve(folder: &Path) -> Result<()> {
    let config = Config { data_dir: folder.join("data"), ..Config::default() };
    let app = App::open(&config, Lock::take(&config.data_dir)?, Clock::system()).await?;
    drive::prepare(&app.store).await?;

    let here = "127.0.0.1:0".parse()?;
    let names = Names::new(config.public_host(), None, &[here]);
    let lifetimes = app.lifetimes();
    let (seal, organization) = (&app.mdm.seal, &config.organization.name);
    let own = TlsAuthority::open(&app.store, seal, organization, &names, lifetimes, |_| Ok(i64::MAX)).await?;
    let own = own.ok_or_else(|| Failed("the clock of this machine is wrong; set it first".into()))?;
    std::fs::write(folder.join(ANCHOR), &own.root.certificate)?;
    let pair = Pair::from_der(&own.leaf.certificate, &[own.root.certificate], &own.leaf.key_pkcs8);
    // Asks for a client certificate as the server does: the handshake is the same.
    let asked = ClientCertificates::default();
    asked.name_authority(app.enroll.authority()?.subject_der());
    let tls = tls::config(&ServerCertificate::new(pair)?, Some(&asked))?;

    let network = Network::default();
    let (store, proof) = (Some(app.store.clone()), Some(Arc::new(Proof::new()?)));
    let mut ports = Vec::new();
    for (store, proof) in [(None, None), (store.clone(), None), (None, proof.clone()), (store, proof)] {
        let listener = Listener::bind(&[here], "the ceiling")?;
        ports.push(listener.addresses()[0].port().to_string());
        network.serve_tls(listener, tls.clone(), router(store, proof));
    }
    println!("{}", ports.join(" "));
    // The load generator holds the other end, and lets go of it however it ends.
    tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await??;
    Ok(())
}

/// A signature to be verified, as often as a request has one.
struct Proof {
    spki: Vec<u8>,
    signature: Vec<u8>,
}

/// What the signature is over; hashing a body of a few hundred bytes more would be nothing.
const SIGNED: &[u8] = b"body";

impl Proof {
    fn new() -> Result<Self> {
        let key = PrivateKey::generate_rsa(RsaSize::Rsa2048)?;
        let signature = key.sign(Hash::Sha256, SIGNED)?;
        Ok(Self { spki: key.public_key_info()?, signature })
    }

    /// With a key that is read anew: each request has another device's.
    fn holds(&self) -> bool {
        PublicKey::from_spki(&self.spki)
            .is_ok_and(|key| key.verify(Hash::Sha256, SIGNED, &self.signature).is_ok())
    }
}

fn router(store: Option<Store>, proof: Option<Arc<Proof>>) -> Router {
    let answer = any(move |headers: HeaderMap, body: Bytes| {
        let (store, proof) = (store.clone(), proof.clone());
        async move {
            let proven = match proof {
                Some(proof) if headers.contains_key("mdm-signature") => proof.holds(),
                _ => true,
            };
            let written = match store {
                Some(store) => drive::insert(&store, body.to_vec()).await.is_ok(),
                None => true,
            };
            if proven && written { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
        }
    });
    Router::new()
        .route("/mdm/connect", answer.clone())
        .route("/mdm/checkin", answer.clone())
        .route("/api/v1/enrollments/{id}/commands", answer)
}
