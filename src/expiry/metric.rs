//! What ends, as numbers for whoever draws curves.
//!
//! `/metrics` prints them; the identities of devices are counted, not listed, since a series for each
//! device would be more than a Pi and its monitor want.

use super::{Expiry, Kind, alert};
use crate::clock::{DAY, Seconds};
use crate::error::Result;

/// One number, with its name and labels as Prometheus has them; the values of labels are not escaped yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

/// What ends within so many days is counted.
const WITHIN: [i64; 3] = [7, 30, 60];

#[expect(clippy::cast_precision_loss, reason = "days and counts are far below what a float holds exactly")]
fn number(value: i64) -> f64 {
    value as f64
}

/// All of them.
///
/// # Errors
/// The database's.
pub fn metrics(expiry: &Expiry) -> Result<Vec<Sample>> {
    let now = expiry.0.store.clock().now();
    let all = expiry.all()?;
    let days = |not_after: Seconds| number((not_after - now).div_euclid(DAY));
    let mut samples: Vec<Sample> = all
        .iter()
        .filter(|ends| ends.kind != Kind::DeviceIdentity && !ends.succeeded)
        .map(|ends| Sample {
            name: "russet_certificate_days_left",
            labels: vec![("kind", ends.kind.word().to_owned()), ("subject", ends.subject.clone())],
            value: days(ends.not_after),
        })
        .collect();
    let identities: Vec<_> = all.iter().filter(|ends| ends.kind == Kind::DeviceIdentity).collect();
    let count = |wanted: &dyn Fn(Seconds) -> bool| {
        let found = identities.iter().filter(|ends| wanted(ends.not_after - now)).count();
        number(i64::try_from(found).unwrap_or(i64::MAX))
    };
    for within in WITHIN {
        samples.push(Sample {
            name: "russet_identities_ending",
            labels: vec![("days", within.to_string())],
            value: count(&|left| left > 0 && left <= within * DAY),
        });
    }
    samples.push(Sample {
        name: "russet_identities_ended",
        labels: Vec::new(),
        value: count(&|left| left <= 0),
    });
    let late = identities.iter().filter(|ends| ends.late).count();
    samples.push(Sample {
        name: "russet_identities_renewal_late",
        labels: Vec::new(),
        value: number(i64::try_from(late).unwrap_or(i64::MAX)),
    });
    for (kind, days, count) in expiry.0.store.peek(alert::counts)? {
        samples.push(Sample {
            name: "russet_alerts_given",
            labels: vec![("kind", kind), ("days", days.to_string())],
            value: number(count),
        });
    }
    Ok(samples)
}
