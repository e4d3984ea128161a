//! One conversation with the CA: account, order, proof, certificate (RFC 8555 section 7).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AuthorizationStatus, Error as AcmeError, ExternalAccountKey, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::http::Transport;
use super::kept::{self, Issued};
use super::{Inner, challenge, window};
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::id;
use crate::pki::certificate::Certificate;
use crate::pki::key::PrivateKey;

/// How long a CA may take to look at the proof, and to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(180));
/// A leaf, its issuers, and some that nobody needs.
const LONGEST_CHAIN: usize = 10;
/// How far a CA's clock may be ahead of ours.
const AHEAD: Seconds = 3600;

/// Gets a certificate for the host, in place of `current`.
///
/// # Errors
/// [`Error::Invalid`] in words: what the CA, or the way to it, had against it.
pub(super) async fn obtain(inner: &Inner, current: Option<&Issued>) -> Result<Issued> {
    let account = account(inner).await?;
    let identifiers = [Identifier::Dns(inner.host.clone())];
    let mut order = match place(&account, &identifiers, current).await {
        // The CA lost the account, as test servers do: a new one is made.
        Err(AcmeError::Api(problem)) if is(&problem, "accountDoesNotExist") => {
            let directory = inner.settings.directory.clone();
            inner.store.write("acme.forget", move |tx| kept::forget_account(tx, &directory)).await?;
            let account = self::account(inner).await?;
            place(&account, &identifiers, current).await
        }
        placed => placed,
    }
    .map_err(|error| refused(&error))?;

    let mut answers = Vec::new();
    let proven = prove(inner, &mut order, &mut answers).await;
    for answer in answers {
        answer.end(inner).await;
    }
    proven?;
    finish(inner, &mut order).await
}

/// The account at the configured directory; made, and kept, if there is none.
pub(super) async fn account(inner: &Inner) -> Result<Account> {
    let settings = &inner.settings;
    let directory = settings.directory.clone();
    let builder = || Ok::<_, Error>(Account::builder_with_http(Transport::new(inner.roots.clone())?));
    let (known, told) = inner
        .store
        .peek(|conn| Ok((kept::account(conn, &inner.seal, &directory)?, kept::contact(conn, &directory)?)))?;
    let contact = settings.contact.as_ref().map(|mail| format!("mailto:{mail}"));
    let contacts: Vec<&str> = contact.as_deref().into_iter().collect();
    if let Some(known) = known {
        let account = builder()?.from_credentials(known).await.map_err(|error| refused(&error))?;
        if told != settings.contact {
            account.update_contacts(&contacts).await.map_err(|error| refused(&error))?;
            let (contact, of) = (settings.contact.clone(), directory.clone());
            inner
                .store
                .write("acme.contact", move |tx| kept::keep_contact(tx, &of, contact.as_deref()))
                .await?;
        }
        return Ok(account);
    }
    let external = settings.external_account.as_ref().map(|(name, key)| {
        URL_SAFE_NO_PAD.decode(key.reveal()).map(|key| ExternalAccountKey::new(name.clone(), &key)).map_err(
            |_| Error::invalid("[tls.acme] account_key is not base64url; copy it as the CA shows it"),
        )
    });
    let wanted = NewAccount {
        contact: &contacts,
        // Whoever writes mode = "acme" agrees to them, which docs/tls.md says.
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, credentials) = builder()?
        .create(&wanted, directory.clone(), external.transpose()?.as_ref())
        .await
        .map_err(|error| refused(&error))?;
    let (seal, contact) = (inner.seal.clone(), settings.contact.clone());
    inner
        .store
        .write("acme.account", move |tx| {
            kept::keep_account(tx, &seal, &directory, contact.as_deref(), &credentials)
        })
        .await?;
    Ok(account)
}

async fn place(
    account: &Account,
    identifiers: &[Identifier],
    current: Option<&Issued>,
) -> Result<Order, AcmeError> {
    let replaced = current.and_then(|current| window::identifier(current.chain.first()?));
    if let Some(replaced) = replaced {
        // A courtesy that lifts rate limits; a CA that does not know the word, or the certificate, is asked without.
        if let Ok(order) = account.new_order(&NewOrder::new(identifiers).replaces(replaced)).await {
            return Ok(order);
        }
    }
    account.new_order(&NewOrder::new(identifiers)).await
}

/// Puts the answers in place, has the CA look, and waits for what it saw.
async fn prove<'a>(
    inner: &'a Inner,
    order: &mut Order,
    answers: &mut Vec<challenge::Answer<'a>>,
) -> Result<()> {
    let kind = challenge::kind(&inner.settings);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| refused(&error))?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => {
                return Err(Error::invalid(format!("the CA calls the proof of {} {other:?}", inner.host)));
            }
        }
        let mut challenge = authorization.challenge(kind.clone()).ok_or_else(|| {
            Error::invalid(format!(
                "the CA offers no {kind:?} for {}; choose another [tls.acme] challenge",
                inner.host
            ))
        })?;
        let (token, key) = (challenge.token.clone(), challenge.key_authorization());
        answers.push(challenge::answer(inner, &token, &key).await?);
        challenge.set_ready().await.map_err(|error| refused(&error))?;
    }
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => Ok(()),
        Ok(_) => Err(Error::invalid(match complaint(order).await {
            Some(words) => format!("the CA did not see the proof of {}: {words}", inner.host),
            None => format!("the CA did not see the proof of {}", inner.host),
        })),
        Err(error) => Err(refused(&error)),
    }
}

/// What the CA had against a proof.
async fn complaint(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        let Ok(state) = authorization.refresh().await else { continue };
        let seen = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = seen {
            return Some(id::printable(problem.detail.as_deref().unwrap_or("it gives no reason")));
        }
    }
    None
}

/// Has the certificate signed and looks whether it is what was asked for.
async fn finish(inner: &Inner, order: &mut Order) -> Result<Issued> {
    let failed = |source| Error::caused("the request for the certificate cannot be made", source);
    // P-256: what every Apple system takes, and what the profiles can be signed with.
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut parameters = CertificateParams::new([inner.host.clone()]).map_err(failed)?;
    parameters.distinguished_name = DistinguishedName::new();
    let request = parameters.serialize_request(&key).map_err(failed)?;
    order.finalize_csr(request.der()).await.map_err(|error| refused(&error))?;
    let pem = order.poll_certificate(&PATIENCE).await.map_err(|error| refused(&error))?;
    judged(inner, &pem, key.serialize_der())
}

fn judged(inner: &Inner, pem: &str, key_pkcs8: Vec<u8>) -> Result<Issued> {
    let wrong = |what: &str| Error::invalid(format!("the CA sent a certificate that cannot be used: {what}"));
    let chain = Certificate::all_from_pem(pem).map_err(|error| wrong(&error.to_string()))?;
    if chain.len() > LONGEST_CHAIN {
        return Err(wrong("its chain is too long"));
    }
    let leaf = chain.first().ok_or_else(|| wrong("it is empty"))?;
    let key = PrivateKey::from_pkcs8(&key_pkcs8)
        .and_then(|key| key.public_key_info())
        .map_err(|source| Error::caused("the key of the certificate cannot be used", source))?;
    if leaf.spki() != key {
        return Err(wrong("it is of another key"));
    }
    if !leaf.dns_names().iter().any(|name| name.eq_ignore_ascii_case(&inner.host)) {
        return Err(wrong("it does not name the host"));
    }
    let now = inner.store.clock().now();
    if leaf.not_before() > now + AHEAD || leaf.not_after() <= now {
        return Err(wrong("by this machine's clock it is not valid now; compare the time"));
    }
    Ok(Issued {
        host: inner.host.clone(),
        directory: inner.settings.directory.clone(),
        not_before: leaf.not_before(),
        not_after: leaf.not_after(),
        obtained_at: now,
        renew_at: 0,
        asked_at: 0,
        id: 0,
        chain,
        key_pkcs8,
    })
}

fn is(problem: &instant_acme::Problem, kind: &str) -> bool {
    problem.r#type.as_deref().is_some_and(|seen| seen.rsplit(':').next() == Some(kind))
}

/// The library's error, in a sentence's end.
pub(super) fn refused(error: &AcmeError) -> Error {
    let words = match error {
        AcmeError::Api(problem) => {
            let detail = problem.detail.as_deref().unwrap_or("it gives no reason");
            let advice = if is(problem, "rateLimited") { "; it is asked again later" } else { "" };
            format!("the CA refuses: {detail}{advice}")
        }
        AcmeError::Timeout(_) => "the CA did not come to an end within three minutes".to_owned(),
        AcmeError::Json(_) => {
            "the address in [tls.acme] directory answers something that is no ACME; correct it".to_owned()
        }
        other => format!("the CA cannot be used: {other}"),
    };
    Error::invalid(id::printable(&words))
}
