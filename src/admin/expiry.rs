//! `GET /api/v1/expiry`: everything that ends, what ends first first.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::Admin;
use super::query::{Parameters, page};
use super::reply::Refusal;
use crate::expiry::Kind;

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let kind = parameters.word("kind", &Kind::ALL.map(Kind::word))?.map(str::to_owned);
    let (limit, after) = (parameters.limit()?, parameters.cursor::<String>()?);
    let (expiry, now) = (admin.expiry.clone(), admin.now());
    let all = super::blocking(move || expiry.all()).await?;
    let items = all
        .iter()
        .filter(|ends| kind.as_deref().is_none_or(|kind| ends.kind.word() == kind))
        .map(|ends| (ends.key(), ends))
        .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after))
        .take(usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1))
        .map(|(key, ends)| (key, ends.to_json(now)))
        .collect();
    Ok(Json(page(items, limit)))
}
