//! The certificates as a client sees them, and when they change.

use super::*;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::EARLIEST_SANE;
use crate::storage::tests::temporary;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;

const NOW: Seconds = EARLIEST_SANE + 100 * DAY;

const LIFETIMES: Lifetimes = Lifetimes { ca_days: 7300, identity_days: 825 };

fn nobody(_: &Connection) -> Result<Seconds> {
    Ok(Seconds::MAX)
}

fn names(host: &str) -> Names {
    Names::new(host, Some("pi"), &["10.0.0.5:443".parse().unwrap()])
}

fn make(stored: Stored, names: &Names, now: Seconds) -> Renewed {
    stored.renew("Example School", names, LIFETIMES, 0, now).unwrap()
}

fn fresh() -> Renewed {
    make(Stored { roots: Vec::new(), leaf: None, signer: None }, &names("mdm.example.org"), NOW)
}

fn stored(all: &TlsAuthority) -> Stored {
    Stored { roots: vec![all.root.clone()], leaf: Some(all.leaf.clone()), signer: Some(all.signer.clone()) }
}

#[derive(Debug)]
struct At(Seconds);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.try_into().ok()?)))
    }
}

/// What a client that trusts `root` says of a server with `leaf` at `name`.
fn connect(root: &Certified, leaf: &Certified, name: &str) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(root.certificate.clone())).unwrap();
    let client = rustls::ClientConfig::builder_with_details(provider.clone(), Arc::new(At(NOW)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf.key_pkcs8.clone()));
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(leaf.certificate.clone())], key)
        .unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn the_leaf_is_trusted_by_every_name_of_the_server() {
    let all = fresh().all;
    for name in ["mdm.example.org", "pi", "pi.local", "10.0.0.5"] {
        connect(&all.root, &all.leaf, name).unwrap();
    }
    assert!(connect(&all.root, &all.leaf, "other.example.org").is_err());
}

#[test]
fn a_leaf_for_another_host_under_the_root_is_refused() {
    let all = fresh().all;
    let root = template::parse(&all.root.certificate).unwrap();
    for (other, server) in [("bank.example", "bank.example"), ("sub.pi", "sub.pi"), ("10.0.0.6", "10.0.0.6")]
    {
        let sans: Vec<_> = Names::new(other, None, &[]).general_names().collect();
        let leaf = make_leaf("Example School", &sans, &all.root, &root, NOW).unwrap();
        let refused = connect(&all.root, &leaf, server).unwrap_err();
        assert!(format!("{refused:?}").contains("NameConstraintViolation"), "{other}: {refused:?}");
    }
}

#[test]
fn a_server_known_by_an_address_names_no_other() {
    let names = Names::new("192.0.2.7", None, &[]);
    let all = make(Stored { roots: Vec::new(), leaf: None, signer: None }, &names, NOW).all;
    connect(&all.root, &all.leaf, "192.0.2.7").unwrap();
    let root = template::parse(&all.root.certificate).unwrap();
    let sans: Vec<_> = Names::new("mdm.example.org", None, &[]).general_names().collect();
    let leaf = make_leaf("Example School", &sans, &all.root, &root, NOW).unwrap();
    assert!(connect(&all.root, &leaf, "mdm.example.org").is_err());
}

#[test]
fn what_is_fresh_is_kept_and_what_ages_is_made_anew() {
    let all = fresh().all;
    assert!(!make(stored(&all), &names("mdm.example.org"), NOW + 300 * DAY).anything_new());
    let later = make(stored(&all), &names("mdm.example.org"), NOW + 370 * DAY);
    assert!(later.made.is_none() && later.new_leaf && later.new_signer);
    let decade = make(stored(&all), &names("mdm.example.org"), NOW + 3640 * DAY);
    assert!(decade.made.is_some() && decade.new_leaf && decade.new_signer);
    let back = make(stored(&decade.all), &names("mdm.example.org"), NOW);
    assert!(back.made.is_some() && back.new_leaf, "certificates of the future do not serve the present");
}

#[test]
fn a_changed_machine_changes_the_leaf_and_a_changed_url_the_root() {
    let all = fresh().all;
    let elsewhere = Names::new("mdm.example.org", Some("other"), &["10.0.0.9:443".parse().unwrap()]);
    let moved = make(stored(&all), &elsewhere, NOW);
    assert!(moved.made.is_none() && moved.new_leaf && !moved.new_signer);
    connect(&moved.all.root, &moved.all.leaf, "mdm.example.org").unwrap();
    assert!(connect(&moved.all.root, &moved.all.leaf, "other.local").is_err());
    assert!(make(stored(&all), &names("new.example.org"), NOW).made.is_some());
    // While no device trusts the root, it is one that may name everything.
    let free = make(stored(&all), &elsewhere.all_needed(), NOW);
    assert!(free.made.is_some() && free.new_leaf && free.new_signer);
    connect(&free.all.root, &free.all.leaf, "10.0.0.9").unwrap();
    assert!(!make(stored(&all), &names("mdm.example.org").all_needed(), NOW).anything_new());
}

#[test]
fn leaves_are_short_lived_and_for_one_purpose() {
    let all = fresh().all;
    for own in [&all.leaf, &all.signer] {
        let certificate = template::parse(&own.certificate).unwrap();
        let (not_before, not_after) = template::validity(&certificate);
        assert_eq!(not_before, NOW - DAY);
        assert!(not_after - not_before <= 397 * DAY);
    }
    let root = template::parse(&all.root.certificate).unwrap();
    assert_eq!(root.subject().to_string(), "CN=Example School TLS Root for mdm.example.org");
}

#[tokio::test]
async fn the_same_certificates_are_there_after_a_restart() {
    let (folder, store) = temporary();
    let seal = Seal::open(folder.path(), None, true).unwrap();
    let names = names("mdm.example.org");
    let made = TlsAuthority::open(&store, &seal, "Example School", &names, LIFETIMES, nobody)
        .await
        .unwrap()
        .unwrap();
    let again = TlsAuthority::open(&store, &seal, "Example School", &names, LIFETIMES, nobody)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(made.leaf.certificate, again.leaf.certificate);
    assert_eq!(made.signer.key_pkcs8, again.signer.key_pkcs8);
    let renamed = TlsAuthority::open(&store, &seal, "Example College", &names, LIFETIMES, nobody)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(made.root.certificate, renamed.root.certificate);
    assert_ne!(made.signer.certificate, renamed.signer.certificate);
}

#[tokio::test]
async fn a_clock_in_1970_makes_nothing_and_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let clock = crate::clock::Clock::set_to(60);
    let store = Store::open(folder.path(), clock.clone()).unwrap();
    let seal = Seal::open(folder.path(), None, true).unwrap();
    let names = names("mdm.example.org");
    assert!(
        TlsAuthority::open(&store, &seal, "Example School", &names, LIFETIMES, nobody)
            .await
            .unwrap()
            .is_none()
    );
    let unknown = template::parse(&temporary_certificate(&names).certificate).unwrap();
    assert_eq!(template::validity(&unknown).0, 0);
    clock.advance(NOW);
    let made = TlsAuthority::open(&store, &seal, "Example School", &names, LIFETIMES, nobody)
        .await
        .unwrap()
        .unwrap();
    clock.advance(-NOW);
    let kept = TlsAuthority::open(&store, &seal, "Example School", &names, LIFETIMES, nobody)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(made.leaf.certificate, kept.leaf.certificate);
}

fn temporary_certificate(names: &Names) -> Certified {
    super::temporary(names).unwrap()
}

#[test]
fn the_leaf_stays_under_the_old_root_until_all_devices_have_the_next() {
    let lifetimes = Lifetimes { ca_days: 300, identity_days: 90 };
    let names = names("mdm.example.org");
    let renew = |stored: Stored, since: Seconds, now: Seconds| {
        stored.renew("Example School", &names, lifetimes, since, now).unwrap()
    };
    let first = renew(Stored { roots: Vec::new(), leaf: None, signer: None }, 0, NOW).all;
    assert!(!renew(stored(&first), NOW, NOW + 170 * DAY).anything_new());
    // Half of its life, or the days of an identity and a month before its end, whichever is later.
    let began = NOW + 185 * DAY;
    let overlap = renew(stored(&first), NOW, began);
    let next = overlap.all.next.clone().unwrap();
    let made = overlap.made.clone().unwrap();
    assert_eq!((&next.certificate, next.made_at), (&made.certificate, began));
    assert_eq!(overlap.all.root.certificate, first.root.certificate);
    assert_eq!(overlap.all.leaf.certificate, first.leaf.certificate);
    let both = || Stored { roots: vec![made.clone(), first.root.clone()], ..stored(&overlap.all) };
    // A device still has a profile of before: nothing changes, and none is made twice.
    assert!(!renew(both(), began - 1, began + 20 * DAY).anything_new());
    // All have it.
    let moved = renew(both(), began + 1, began + 20 * DAY);
    assert!(moved.made.is_none() && moved.new_leaf && moved.all.next.is_none());
    assert_eq!(moved.all.root.certificate, made.certificate);
    let parsed = |own: &Certified| template::parse(&own.certificate).unwrap();
    assert!(issued_by(&parsed(&moved.all.leaf), &parsed(&made)));
    // Not all have it, but the old root ends.
    let late = renew(both(), began - 1, NOW + 275 * DAY);
    assert_eq!(late.all.root.certificate, made.certificate);
}
