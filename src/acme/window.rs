//! When a certificate is to be replaced: in the window that the CA suggests (ARI, RFC 9773), else when a
//! third of its life is left.
//!
//! **Invariant:** a CA that suggests nonsense is not followed past the time when a tenth of the life is left.

use std::time::Duration;

use aws_lc_rs::rand;
use instant_acme::{CertificateIdentifier, Error as AcmeError};
use rustls::pki_types::Der;

use super::kept::{self, Issued};
use super::{Inner, order, third_left};
use crate::clock::{DAY, HOUR, Seconds};
use crate::error::Result;
use crate::pki::certificate::Certificate;

/// How often the CA is asked for its window at the most and at the least.
const ASK_EVERY: std::ops::RangeInclusive<Seconds> = HOUR..=DAY;

/// Whether `current` is to be replaced now; asks the CA for its window when that is due.
pub(super) async fn is_due(inner: &Inner, current: &Issued, now: Seconds) -> Result<bool> {
    let planned = if now < current.asked_at { current.renew_at } else { plan(inner, current, now).await? };
    // A CA whose new certificates are due at once is not asked in a circle.
    let life = current.not_after - current.not_before;
    let rested = now >= current.obtained_at + DAY.min(life / 10);
    Ok(rested && now >= planned)
}

async fn plan(inner: &Inner, current: &Issued, now: Seconds) -> Result<Seconds> {
    let by_itself = third_left(current.not_before, current.not_after);
    let (renew_at, again) = match suggested(inner, current).await {
        Ok(Some((window, again))) => {
            let latest = current.not_after - (current.not_after - current.not_before) / 10;
            // A time that was drawn in this window before is kept.
            let drawn = if window.contains(&current.renew_at) { current.renew_at } else { draw(&window) };
            (drawn.min(latest), again)
        }
        Ok(None) => (by_itself, DAY),
        Err(error) => {
            tracing::warn!(error = error.chain(), "the CA was asked when to renew, and did not say");
            (current.renew_at.min(by_itself), 6 * HOUR)
        }
    };
    let id = current.id;
    inner.store.write("acme.plan", move |tx| kept::plan(tx, id, renew_at, now + again)).await?;
    Ok(renew_at)
}

type Window = std::ops::Range<Seconds>;

/// The CA's window, and after how many seconds to ask again; none from a CA that has no such thing.
async fn suggested(inner: &Inner, current: &Issued) -> Result<Option<(Window, Seconds)>> {
    let Some(identifier) = identifier(current.leaf()?) else { return Ok(None) };
    let account = order::account(inner).await?;
    match account.renewal_info(&identifier).await {
        Ok((info, again)) => {
            let (start, end) = (info.suggested_window.start, info.suggested_window.end);
            let again = seconds(again).clamp(*ASK_EVERY.start(), *ASK_EVERY.end());
            Ok(Some((start.unix_timestamp()..end.unix_timestamp(), again)))
        }
        Err(AcmeError::Unsupported(_)) => Ok(None),
        Err(error) => Err(order::refused(&error)),
    }
}

/// How RFC 9773 section 4.1 names a certificate: by its issuer's key and its serial number.
pub(super) fn identifier(leaf: &Certificate) -> Option<CertificateIdentifier<'static>> {
    let key = leaf.authority_key_identifier()?;
    Some(CertificateIdentifier::new(Der::from_slice(key), Der::from_slice(leaf.serial())).into_owned())
}

/// A moment of the window, so that not all who were issued together come together.
fn draw(window: &Window) -> Seconds {
    let mut bytes = [0; 8];
    let length = window.end - window.start;
    if length <= 0 || rand::fill(&mut bytes).is_err() {
        return window.start;
    }
    window.start + i64::from_be_bytes(bytes).rem_euclid(length)
}

fn seconds(length: Duration) -> Seconds {
    i64::try_from(length.as_secs()).unwrap_or(Seconds::MAX)
}
