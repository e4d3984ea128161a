//! Service configurations and background tasks within an apply: `"services": [{"identifier", "service",
//! "files"}]` and `"background_tasks": [{"identifier", "task_type", "description", "executable",
//! "launchd"}]`, each as its own route takes it.
//!
//! **Invariant:** the declarations and assets that these are made of are not exported a second time, and
//! not pruned as what nobody sent.

use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeSet;

use super::apply::{Change, Done, at};
use super::auth::Caller;
use super::body::Object;
use super::{background_task, service};
use crate::content::Contents;
use crate::ddm::Edit;
use crate::error::{Error, Result};
use crate::library::services::{self, Put, background_task as tasks};
use crate::storage::Tx;

pub(super) const SERVICES: &str = "services";
pub(super) const TASKS: &str = "background_tasks";
/// What is known of them beside what was written.
const BESIDE: [&str; 3] = ["archive", "updated_at", "updated_by"];

/// What was sent; nothing for a list that was not.
pub(super) struct Services {
    services: Option<Vec<service::Sent>>,
    tasks: Option<Vec<background_task::Sent>>,
}

impl Services {
    pub(super) fn read(contents: &Contents, body: &mut Object, force: bool) -> Result<Self> {
        let services = body.list(SERVICES)?;
        let services = services.map(|list| {
            let read = |one| service::sent(contents, one, None, force);
            each(list, SERVICES, read, |sent: &service::Sent| &sent.identifier)
        });
        let tasks = body.list(TASKS)?;
        let tasks = tasks.map(|list| {
            let read = |one| background_task::sent(contents, one, None);
            each(list, TASKS, read, |sent: &background_task::Sent| &sent.identifier)
        });
        Ok(Self { services: services.transpose()?, tasks: tasks.transpose()? })
    }

    pub(super) fn is_absent(&self) -> bool {
        self.services.is_none() && self.tasks.is_none()
    }

    /// Keeps them; assets that they name are there already, what names them comes after.
    pub(super) fn put(
        &self,
        tx: &Tx<'_>,
        contents: &Contents,
        edit: Edit<'_>,
        done: &mut Done,
    ) -> Result<()> {
        for (index, sent) in self.services.iter().flatten().enumerate() {
            let place = format!("/{SERVICES}/{index}");
            let look = || services::get(tx, contents, &sent.identifier);
            let before = look()?;
            let put = service::put_in(tx, contents, sent, edit).map_err(|error| at(&place, error))?;
            note("service configuration", &sent.identifier, &place, &put, (before, look()?), done);
        }
        for (index, sent) in self.tasks.iter().flatten().enumerate() {
            let place = format!("/{TASKS}/{index}");
            let look = || tasks::get(tx, contents, &sent.identifier);
            let before = look()?;
            let put = background_task::put_in(tx, contents, sent, edit).map_err(|error| at(&place, error))?;
            note("background task", &sent.identifier, &place, &put, (before, look()?), done);
        }
        Ok(())
    }

    /// Removes what was not sent; what named it is gone already.
    pub(super) fn prune(
        &self,
        tx: &Tx<'_>,
        contents: &Contents,
        edit: Edit<'_>,
        done: &mut Done,
    ) -> Result<()> {
        if let Some(sent) = &self.services {
            let sent: BTreeSet<&str> = sent.iter().map(|sent| sent.identifier.as_str()).collect();
            for (identifier, _) in services::list(tx, contents, None, u32::MAX)? {
                if !sent.contains(identifier.as_str()) {
                    let before = plain(services::get(tx, contents, &identifier)?);
                    service::delete_in(tx, contents, &identifier, edit)?;
                    done.changes.push(change("service configuration", &identifier, before, Value::Null));
                }
            }
        }
        if let Some(sent) = &self.tasks {
            let sent: BTreeSet<&str> = sent.iter().map(|sent| sent.identifier.as_str()).collect();
            for (identifier, known) in tasks::list(tx, contents, None, u32::MAX)? {
                if !sent.contains(identifier.as_str()) {
                    background_task::delete_in(tx, contents, &identifier, edit)?;
                    done.changes.push(change(
                        "background task",
                        &identifier,
                        plain(Some(known)),
                        Value::Null,
                    ));
                }
            }
        }
        Ok(())
    }
}

/// All of them, as [`Services::read`] takes them; their contents for administrators alone.
///
/// # Errors
/// The database's and the disk's.
pub(super) fn export(conn: &Connection, contents: &Contents, caller: &Caller) -> Result<(Value, Value)> {
    let mut configurations = Vec::new();
    for (identifier, _) in services::list(conn, contents, None, u32::MAX)? {
        let shown = service::without_contents(caller, service::existing(conn, contents, &identifier)?);
        configurations.push(plain(Some(shown)));
    }
    let tasks = tasks::list(conn, contents, None, u32::MAX)?.into_iter();
    let tasks = tasks.map(|(_, shown)| plain(Some(background_task::without_contents(caller, shown))));
    Ok((configurations.into(), tasks.collect()))
}

fn each<T>(
    list: Vec<Value>,
    member: &str,
    read: impl Fn(Object) -> Result<T>,
    name: impl Fn(&T) -> &String,
) -> Result<Vec<T>> {
    let mut seen = BTreeSet::new();
    let read = list.into_iter().enumerate().map(|(index, body)| {
        let place = format!("/{member}/{index}");
        let Value::Object(members) = body else {
            return Err(Error::invalid_at(place, "this must be a JSON object"));
        };
        let sent = read(members.into()).map_err(|error| at(&place, error))?;
        if !seen.insert(name(&sent).clone()) {
            return Err(Error::invalid_at(format!("{place}/identifier"), "two have this identifier"));
        }
        Ok(sent)
    });
    read.collect()
}

fn note(
    kind: &'static str,
    name: &str,
    place: &str,
    put: &Put,
    (before, after): (Option<Value>, Option<Value>),
    done: &mut Done,
) {
    done.warnings.extend(put.warnings.iter().map(|words| json!({"pointer": place, "words": words})));
    if put.changed {
        done.changes.push(change(kind, name, plain(before), plain(after)));
    } else {
        done.unchanged += 1;
    }
}

fn change(kind: &'static str, name: &str, before: Value, after: Value) -> Change {
    Change { kind, name: name.to_owned(), before, after }
}

/// As it is kept in a file.
fn plain(shown: Option<Value>) -> Value {
    let mut shown = shown.unwrap_or_default();
    if let Value::Object(members) = &mut shown {
        for name in BESIDE {
            members.shift_remove(name);
        }
    }
    shown
}
