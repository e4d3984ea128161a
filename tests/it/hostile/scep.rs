//! The CA's endpoint: message types, challenges, the ways of asking (THREATS D5 20, 21, 24).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plist::Value;
use russet::clock::DAY;
use russet::enroll::{invitation, session};
use russet::pki::certificate::Certificate;
use russet::pki::cms::{self, Cipher, Signer};
use russet::pki::key::{Hash, PrivateKey};
use russet::simulator::{Device, Identity, Kind, Profile};

use super::forge::{self, Csr, PkiMessage};
use super::odd::Numbers;
use super::raw::{Answer, Request};
use super::{authenticate, say, token_update, xml};
use crate::support::{Appliance, key};

/// The enrollment CA, as GetCACert gives it out.
async fn ca(appliance: &Appliance) -> Certificate {
    let answer = Request::get("/scep?operation=GetCACert").send(appliance).await;
    Certificate::from_der(&answer.body).unwrap()
}

/// The challenge in a fresh profile of a link.
pub(super) async fn challenge(appliance: &Appliance, link: &str) -> String {
    let path = link.strip_prefix(&appliance.config.server.public_url.to_string()).unwrap();
    let answer = Request::get(format!("{path}/profile")).send(appliance).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let profile = Profile::read(&answer.body).unwrap();
    let scep = profile.payloads_of("com.apple.security.scep").next().unwrap();
    let content = scep.get("PayloadContent").and_then(Value::as_dictionary).unwrap();
    content.get("Challenge").and_then(Value::as_string).unwrap().to_owned()
}

pub(super) async fn post(appliance: &Appliance, message: Vec<u8>) -> Answer {
    Request::post("/scep?operation=PKIOperation", message).send(appliance).await
}

/// One client of the endpoint with one key.
pub(super) struct Client {
    pub(super) ca: Certificate,
    pub(super) key: PrivateKey,
    pub(super) own: Certificate,
}

impl Client {
    pub(super) async fn new(appliance: &Appliance, number: usize) -> Self {
        let key = forge::private(&key(number));
        let own = forge::throw_away(&key);
        Self { ca: ca(appliance).await, key, own }
    }

    pub(super) fn message(&self, message_type: &str, csr: &[u8]) -> Vec<u8> {
        let signer = Signer::new(&self.key, &self.own);
        PkiMessage { message_type, csr, cipher: Cipher::Aes128, signer }.to(&self.ca)
    }

    fn request(&self, challenge: Option<&str>) -> Vec<u8> {
        self.message("19", &Csr::of(&self.key, challenge).signed_by(&self.key))
    }

    /// What the answer issues.
    pub(super) fn issued(&self, answer: &Answer) -> Option<Certificate> {
        assert_eq!(answer.status, 200, "{}", answer.text());
        forge::issued(&answer.body, &self.key, &self.own)
    }

    pub(super) async fn ask(&self, appliance: &Appliance, challenge: Option<&str>) -> Option<Certificate> {
        self.issued(&post(appliance, self.request(challenge)).await)
    }
}

/// Asks with the key of this number and a challenge.
pub(super) async fn ask_with(appliance: &Appliance, number: usize, challenge: &str) -> Answer {
    post(appliance, Client::new(appliance, number).await.request(Some(challenge))).await
}

/// Says Authenticate and TokenUpdate with a certificate; answers both statuses.
pub(super) async fn use_it(
    appliance: &Appliance,
    certificate: &Certificate,
    number: usize,
    udid: &str,
) -> (u16, u16) {
    let identity = Identity::new(key(number), certificate.der().to_vec());
    let one = Request::put("/mdm/checkin", xml(authenticate(udid))).presenting(&identity);
    let other = Request::put("/mdm/checkin", xml(token_update(udid))).presenting(&identity);
    (one.send(appliance).await.status, other.send(appliance).await.status)
}

/// 20: of all message types two are answered, and 17 only for an identity in use.
#[tokio::test]
async fn other_message_types_are_refused_whatever_challenge_they_carry() {
    let appliance = Appliance::start().await;
    let client = Client::new(&appliance, 0).await;
    let challenge = challenge(&appliance, &appliance.invite(1).await).await;
    let csr = Csr::of(&client.key, Some(&challenge)).signed_by(&client.key);
    for kind in ["17", "18", "20", "21", "22", "3", "0", "-1", "019", "19 ", "9999999999999999999", "PKCSReq"]
    {
        let answer = post(&appliance, client.message(kind, &csr)).await;
        assert_eq!(client.issued(&answer), None, "{kind}");
    }
    assert!(client.ask(&appliance, Some(&challenge)).await.is_some(), "the challenge is none the worse");
}

/// 21: without one, with a wrong one, with one of nothing, with ten thousand guesses.
#[tokio::test]
async fn a_wrong_challenge_gets_nothing_however_often() {
    let appliance = Appliance::start().await;
    let client = Client::new(&appliance, 0).await;
    let real = challenge(&appliance, &appliance.invite(1).await).await;
    let almost = format!("{}A", &real[..real.len() - 1]);
    let upper = real.to_uppercase();
    for wrong in
        [None, Some(""), Some(" "), Some("'; --"), Some("%"), Some(&*almost), Some(&*upper), Some(&real[1..])]
    {
        if wrong == Some(&*real) {
            continue;
        }
        assert_eq!(client.ask(&appliance, wrong).await, None, "{wrong:?}");
    }
    for guess in 0..100 {
        assert_eq!(client.ask(&appliance, Some(&format!("guess-{guess}"))).await, None);
    }
    // Ten thousand at what the endpoint asks, without the four RSA operations that each of them costs it.
    let store = &appliance.app().store;
    for guess in 0..10_000 {
        let guess = format!("{}{guess}", &real[..real.len() - 4]);
        assert!(store.peek(|conn| session::by_challenge(conn, &guess)).unwrap().is_none() || guess == real);
    }
    assert!(client.ask(&appliance, Some(&real)).await.is_some());
}

/// 21: expired, revoked, used up.
#[tokio::test]
async fn a_challenge_of_a_link_that_ended_gets_nothing() {
    let mut appliance = Appliance::start().await;
    let client = Client::new(&appliance, 0).await;

    let link = appliance.invite(1).await;
    let revoked = challenge(&appliance, &link).await;
    let before = client.ask(&appliance, Some(&revoked)).await.unwrap();
    let code = link.rsplit('/').next().unwrap().to_owned();
    appliance.app().store.write("test.revoke", move |tx| invitation::revoke(tx, &code)).await.unwrap();
    let other = Client::new(&appliance, 1).await;
    assert_eq!(other.ask(&appliance, Some(&revoked)).await, None);
    assert_eq!(use_it(&appliance, &before, 0, "UDID-R").await, (400, 400), "nor is what it got of use");

    let link = appliance.invite(1).await;
    let used = challenge(&appliance, &link).await;
    appliance.device(Kind::IPhone).enroll(&link).await.unwrap();
    assert_eq!(client.ask(&appliance, Some(&used)).await, None);

    let expired = challenge(&appliance, &appliance.invite(1).await).await;
    appliance.clock.advance(8 * DAY);
    assert_eq!(client.ask(&appliance, Some(&expired)).await, None);
}

/// 21: two keys, one challenge, at the same time: one certificate is of use.
#[tokio::test(flavor = "multi_thread")]
async fn two_requests_racing_with_one_challenge_leave_one_usable_certificate() {
    let appliance = Appliance::start().await;
    let (one, two) = (Client::new(&appliance, 0).await, Client::new(&appliance, 1).await);
    for round in 0..3 {
        let secret = challenge(&appliance, &appliance.invite(1).await).await;
        let (first, second) =
            tokio::join!(one.ask(&appliance, Some(&secret)), two.ask(&appliance, Some(&secret)));
        let (first, second) = (first.unwrap(), second.unwrap());
        let (one_udid, two_udid) = (format!("RACE-{round}-1"), format!("RACE-{round}-2"));
        let used =
            [use_it(&appliance, &first, 0, &one_udid).await, use_it(&appliance, &second, 1, &two_udid).await];
        assert!(used.contains(&(200, 200)) && used.contains(&(400, 400)), "{used:?}");
        // After the first Authenticate no other key gets anything, and the same key gets the same.
        assert_eq!(Client::new(&appliance, 2).await.ask(&appliance, Some(&secret)).await, None);
        let (winner, certificate) = if used[0] == (200, 200) { (&one, first) } else { (&two, second) };
        let repeated = winner.ask(&appliance, Some(&secret)).await.unwrap();
        assert_eq!(repeated.fingerprint(), certificate.fingerprint());
    }
}

/// 21: one link, two profiles: both challenges work until the first device is counted.
#[tokio::test]
async fn a_link_for_one_device_counts_one_however_many_profiles_it_gave() {
    let appliance = Appliance::start().await;
    let link = appliance.invite(1).await;
    let (first, second) = (challenge(&appliance, &link).await, challenge(&appliance, &link).await);
    let one = Client::new(&appliance, 0).await.ask(&appliance, Some(&first)).await.unwrap();
    let two = Client::new(&appliance, 1).await.ask(&appliance, Some(&second)).await.unwrap();
    assert_eq!(use_it(&appliance, &one, 0, "ONE").await, (200, 200));
    assert_eq!(use_it(&appliance, &two, 1, "TWO").await, (400, 400));
}

/// 24: the ways of asking.
#[tokio::test]
async fn get_and_post_in_every_spelling_are_answered_or_refused_clearly() {
    let appliance = Appliance::start().await;
    let client = Client::new(&appliance, 0).await;
    let secret = challenge(&appliance, &appliance.invite(1).await).await;
    let message = client.request(Some(&secret));
    let plain = STANDARD.encode(&message);
    let escaped = plain.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let twice = STANDARD.encode(&plain);
    for query in [&plain, &escaped, &plain.replace('+', "%20"), &plain.replace(['='], "")] {
        let answer =
            Request::get(format!("/scep?operation=PKIOperation&message={query}")).send(&appliance).await;
        assert!(client.issued(&answer).is_some(), "{query:.40}");
    }
    for path in [
        "/scep".to_owned(),
        "/scep?operation=".into(),
        "/scep?operation=getcacert".into(),
        "/scep?operation=GetCRL".into(),
        "/scep?operation=GetNextCACert".into(),
        "/scep?operation=PKIOperation".into(),
        "/scep?operation=PKIOperation&message=".into(),
        "/scep?operation=PKIOperation&message=!".into(),
        format!("/scep?operation=PKIOperation&message={twice}"),
        "/scep?operation=%00".into(),
        "/scep?operation=PKIOperation&message=%".into(),
    ] {
        let answer = Request::get(&path).send(&appliance).await;
        assert_eq!(answer.status, 400, "{path:.60}: {}", answer.text());
        assert!(answer.text().len() > 20);
    }
    let plain = Request::post("/scep?operation=PKIOperation", plain).send(&appliance).await;
    assert_eq!(plain.status, 400, "base64 in a POST");
    let wrong = Request::post("/scep?operation=GetCACert", message).send(&appliance).await;
    assert_eq!(wrong.status, 400);
    for method in ["PUT", "DELETE", "PATCH"] {
        assert_eq!(Request::new(method, "/scep").send(&appliance).await.status, 405);
    }
    let large =
        Request::post("/scep?operation=PKIOperation", vec![0x30; 64 * 1024 + 1]).send(&appliance).await;
    assert_eq!(large.status, 413);
    let caps = Request::get("/scep?operation=GetCACaps").send(&appliance).await.text();
    assert!(caps.contains("AES") && !caps.lines().any(|line| line == "DES"));
}

/// 24: old ciphers are understood, the answer is never in single DES; damage is refused.
#[tokio::test]
async fn damaged_and_redirected_envelopes_are_refused() {
    let appliance = Appliance::start().await;
    let client = Client::new(&appliance, 0).await;
    let secret = challenge(&appliance, &appliance.invite(1).await).await;
    let csr = Csr::of(&client.key, Some(&secret)).signed_by(&client.key);
    let signer = Signer::new(&client.key, &client.own);
    let to_me = PkiMessage { message_type: "19", csr: &csr, cipher: Cipher::Aes128, signer }.to(&client.own);
    assert_eq!(client.issued(&post(&appliance, to_me).await), None, "encrypted for somebody else");
    for junk in [&b""[..], b"x", &[0x30; 1000], &csr[..csr.len() - 1]] {
        assert_eq!(client.issued(&post(&appliance, client.message("19", junk)).await), None);
    }
    let good = client.request(Some(&secret));
    for at in (0..good.len()).step_by(97) {
        let mut changed = good.clone();
        changed[at] ^= 1;
        let answer = post(&appliance, changed).await;
        assert!([200, 400].contains(&answer.status), "{at}: {}", answer.status);
    }
    let three = PkiMessage { message_type: "19", csr: &csr, cipher: Cipher::Des3, signer }.to(&client.ca);
    assert!(client.issued(&post(&appliance, three).await).is_some());
}

/// 24: the oldest clients: single DES inside, SHA-1 outside. They are served, in what is better.
#[tokio::test]
async fn single_des_and_sha1_are_understood_and_answered_in_aes_and_sha2() {
    let appliance = Appliance::start().await;
    let client = Client::new(&appliance, 0).await;
    let signer = Signer::new(&client.key, &client.own);
    let with_sha1 = Numbers::of(client.key.pkcs8(), Hash::Sha1);
    for cipher in [Cipher::Des, Cipher::Des3] {
        let secret = challenge(&appliance, &appliance.invite(1).await).await;
        let csr = Csr::of(&client.key, Some(&secret)).signed_by(&with_sha1);
        let message = PkiMessage { message_type: "19", csr: &csr, cipher, signer }.to_with_sha1(&client.ca);
        let answer = post(&appliance, message).await;
        let (certificate, inside) = forge::issued_in(&answer.body, &client.key, &client.own).unwrap();
        assert_eq!(inside, if cipher == Cipher::Des { Cipher::Aes128 } else { cipher });
        certificate.verify_signed_by(&client.ca.public_key().unwrap()).unwrap();
        let reply = russet::pki::ber::to_der(&answer.body).unwrap();
        assert_eq!(cms::Signed::parse(&reply).unwrap().hash(), Hash::Sha256);
    }
    let csr = Csr::of(&client.key, Some("wrong")).signed_by(&with_sha1);
    let message = PkiMessage { message_type: "19", csr: &csr, cipher: Cipher::Des, signer };
    let answer = post(&appliance, message.to_with_sha1(&client.ca)).await;
    assert_eq!((client.issued(&answer), forge::fail_info(&answer.body).as_str()), (None, "2"));
}

/// The device of a session never changes, whatever its certificate says next.
#[tokio::test]
async fn one_session_enrolls_one_device() {
    let mut appliance = Appliance::start().await;
    let mut phone: Device = appliance.enroll(Kind::IPhone).await;
    for udid in ["SECOND", "THIRD"] {
        assert_eq!(say(&appliance, &mut phone, authenticate(udid)).await, 400);
        assert_eq!(say(&appliance, &mut phone, token_update(udid)).await, 400);
    }
}

/// A client that knows the CA of before goes on, with a certificate that its issuer outlives.
#[tokio::test]
async fn after_a_new_ca_took_over_those_who_know_the_old_one_are_still_answered() {
    let appliance = Appliance::bare(|config| {
        config.enrollment.ca_days = 300;
        config.enrollment.identity_days = 90;
        config.enrollment.renew_before_days = 30;
    })
    .await;
    appliance.import_push_certificate(crate::support::TOPIC).await;
    let capabilities = Request::get("/scep?operation=GetCACaps").send(&appliance).await;
    assert!(!capabilities.text().contains("GetNextCACert"));
    assert_eq!(Request::get("/scep?operation=GetNextCACert").send(&appliance).await.status, 400);
    let old = Client::new(&appliance, 0).await;

    appliance.clock.advance(185 * DAY);
    appliance.app().renew_certificates().await.unwrap();
    let new = Client::new(&appliance, 1).await;
    assert_ne!(old.ca.der(), new.ca.der());
    assert!(
        Request::get("/scep?operation=GetCACaps").send(&appliance).await.text().contains("GetNextCACert")
    );
    let next = Request::get("/scep?operation=GetNextCACert").send(&appliance).await;
    assert_eq!(next.header("content-type"), Some("application/x-x509-next-ca-cert"));
    let (signed, content) = cms::verify_attached(&next.body).unwrap();
    assert_eq!(signed.signer.der(), old.ca.der(), "who knows the old one can believe it");
    assert_eq!(cms::certificates(&content).unwrap(), [new.ca.der()]);

    let outlives = |issuer: &Certificate, issued: &Certificate| {
        issued.verify_signed_by(&issuer.public_key().unwrap()).is_ok()
            && issued.not_after() <= issuer.not_after()
    };
    let (link, days) = (appliance.invite(9).await, 90);
    let by_old = old.ask(&appliance, Some(&challenge(&appliance, &link).await)).await.unwrap();
    let by_new = new.ask(&appliance, Some(&challenge(&appliance, &link).await)).await.unwrap();
    assert!(outlives(&old.ca, &by_old) && outlives(&new.ca, &by_new));
    assert_eq!(by_old.not_after(), appliance.clock.now() + days * DAY, "nothing was cut off");

    // Later the old one could not give a whole identity any more, and the new one issues for all.
    appliance.clock.advance(40 * DAY);
    appliance.app().renew_certificates().await.unwrap();
    let link = appliance.invite(9).await;
    let later = old.ask(&appliance, Some(&challenge(&appliance, &link).await)).await.unwrap();
    assert!(outlives(&new.ca, &later) && !outlives(&old.ca, &later));

    // When it has ended it is as foreign as any.
    appliance.clock.advance(80 * DAY);
    appliance.app().renew_certificates().await.unwrap();
    let link = appliance.invite(9).await;
    assert!(old.ask(&appliance, Some(&challenge(&appliance, &link).await)).await.is_none());
}
