//! `GET /api/v1/updates` and `GET /api/v1/enrollments/{id}/updates`: how far devices are with their
//! software updates.
//!
//! **Invariant:** only device channels are listed: a user has no updates of their own.

use axum::Json;
use axum::extract::{Path, State};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::query::{Parameters, page};
use super::reply::Refusal;
use super::{Admin, fleet};
use crate::clock::rfc3339;
use crate::ddm::plans;
use crate::ddm::status::change::changes;
use crate::ddm::update::kept;
use crate::ddm::update::standing::{Standing, State as Word};
use crate::error::{Error, Result};
use crate::mdm::subject;

/// How many devices are looked at in one go, and how many changes of one are shown.
const AT_ONCE: u32 = 200;
const MOST_CHANGES: u32 = 500;

/// Those in a state, `limit` and one more, after a device.
fn standings(
    conn: &Connection,
    mut after: String,
    limit: u32,
    state: Option<&str>,
) -> Result<Vec<(String, Value)>> {
    let (plan, catalogue) = (plans::present(conn)?, kept::catalogue(conn)?);
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    loop {
        let batch = fleet::subjects(conn, &after, AT_ONCE)?;
        let Some(last) = batch.last() else { return Ok(found) };
        after.clone_from(&last.id);
        for subject in batch.into_iter().filter(|subject| subject.id == subject.device_id) {
            let Standing { state: word, shown } = plan.update_standing(conn, &catalogue, &subject)?;
            if state.is_some_and(|state| state != word.word()) {
                continue;
            }
            found.push((subject.id, shown));
            if found.len() > most {
                return Ok(found);
            }
        }
    }
}

pub(super) async fn list(State(admin): State<Admin>, parameters: Parameters) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (parameters.limit()?, parameters.cursor::<String>()?.unwrap_or_default());
    let state = parameters.word("state", &Word::ALL.map(Word::word))?.map(str::to_owned);
    let found = admin.mdm.store.read(move |conn| standings(conn, after, limit, state.as_deref()));
    Ok(Json(page(found.await?, limit)))
}

pub(super) async fn show(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let found = admin.mdm.store.read(move |conn| {
        let missing = || Error::NotFound("such enrollment".into());
        let channel = subject::of(conn, &id)?.ok_or_else(missing)?;
        let device = subject::of(conn, &channel.device_id)?.ok_or_else(missing)?;
        let catalogue = kept::catalogue(conn)?;
        let mut shown = plans::present(conn)?.update_standing(conn, &catalogue, &device)?.shown;
        let about =
            |path: &str| path.starts_with("softwareupdate.") || path.starts_with("device.operating-system.");
        let history = changes(conn, &device.id, MOST_CHANGES)?.into_iter().filter(|one| about(&one.path));
        let history = history.map(|one| json!({"path": one.path, "value": one.value, "at": rfc3339(one.at)}));
        shown["history"] = history.collect();
        Ok(shown)
    });
    Ok(Json(found.await?))
}
