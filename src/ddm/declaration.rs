//! Declarations: what people declare should be true of devices.
//!
//! The API and `apply` write them, after [`crate::schema::declarations::check`]; [`super::manifest`]
//! reads them. What a declaration names has to be there and of the right type, and stays as long as it
//! is named.
//!
//! **Invariant:** the ServerToken is a hash of all that a device gets to see of the declaration.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value as Json, json};

use super::predicate::{Dialect, parse};
use super::{Edit, PREFIX, app, app_set, generation, group, reads, served, snapshot};
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::id;
use crate::schema::declarations::{Checked, Kind, Reference, Wants};
use crate::storage::Tx;

/// A declaration as it is kept.
#[derive(Clone, Debug)]
pub struct Declaration {
    pub kind: Kind,
    pub declaration_type: String,
    pub identifier: String,
    pub payload: Map<String, Json>,
    /// Members beside the payload.
    pub beside: Map<String, Json>,
    /// What the data that it points to is called, if this server serves it ([`super::served`]).
    pub content: Option<String>,
    pub touched: i64,
    pub server_token: String,
    /// It was accepted by force.
    pub forced: bool,
    pub created_at: Seconds,
    pub updated_at: Seconds,
    pub updated_by: String,
}

/// What became of a declaration that was sent.
#[derive(Debug)]
pub struct Put {
    /// False when it was there already, just so.
    pub changed: bool,
    pub server_token: String,
    /// What the sender should know, in sentences.
    pub warnings: Vec<String>,
}

/// Who uses a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    Declaration(String),
    Group(String),
    AppSet(String),
}

impl Declaration {
    /// As a device gets it.
    pub fn body(&self) -> Json {
        let mut body = json!({
            "Type": self.declaration_type,
            "Identifier": self.identifier,
            "ServerToken": self.server_token,
            "Payload": self.payload,
        });
        if let Json::Object(body) = &mut body {
            body.extend(self.beside.clone());
        }
        body
    }

    fn token(&self) -> String {
        token(
            self.kind,
            &self.declaration_type,
            &self.identifier,
            &[
                &Json::Object(self.payload.clone()).to_string(),
                &Json::Object(self.beside.clone()).to_string(),
                &self.touched.to_string(),
                self.content.as_deref().unwrap_or_default(),
            ],
        )
    }
}

/// A hash of all this: 64 hexadecimal digits, the most that Apple allows.
pub(super) fn token(kind: Kind, declaration_type: &str, identifier: &str, content: &[&str]) -> String {
    let mut text = format!("{}\0{declaration_type}\0{identifier}", kind.name());
    for part in content {
        text.push('\0');
        text.push_str(part);
    }
    id::hex(&id::sha256(text.as_bytes()))
}

const COLUMNS: &str = "identifier, type, kind, payload, beside, content, touched, server_token, forced, \
                       created_at, updated_at, updated_by";

fn read(row: &Row<'_>) -> rusqlite::Result<Declaration> {
    let object = |column: usize| -> rusqlite::Result<Map<String, Json>> {
        serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
        })
    };
    let kind = Kind::named(row.get_ref(2)?.as_str()?).ok_or(rusqlite::Error::InvalidQuery)?;
    Ok(Declaration {
        identifier: row.get(0)?,
        declaration_type: row.get(1)?,
        kind,
        payload: object(3)?,
        beside: object(4)?,
        content: row.get(5)?,
        touched: row.get(6)?,
        server_token: row.get(7)?,
        forced: row.get(8)?,
        created_at: row.get(9)?,
        updated_at: row.get(10)?,
        updated_by: row.get(11)?,
    })
}

/// The declaration of this identifier.
pub fn get(conn: &Connection, identifier: &str) -> Result<Option<Declaration>> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM declarations WHERE identifier = ?1"))?
        .query_row([identifier], read)
        .optional()?)
}

/// Declarations in the order of their identifiers, those after `after`.
pub fn list(conn: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<Declaration>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM declarations WHERE identifier > ?1 ORDER BY identifier LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![after.unwrap_or_default(), limit], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// All of them, each with the identifiers that it names.
pub(super) fn all(conn: &Connection) -> Result<Vec<(Declaration, Vec<String>)>> {
    let with_names = |declaration: Declaration| {
        let names = names(conn, &declaration.identifier)?;
        Ok((declaration, names))
    };
    list(conn, None, u32::MAX)?.into_iter().map(with_names).collect()
}

/// What is said of a declaration that is not there, as the end of a sentence.
pub fn missing(identifier: &str) -> String {
    let name = id::printable(identifier);
    format!(
        "declaration {name}; write it first: PUT /api/v1/declarations/{name}, or `russet apply` with \
         declarations/{name}.json"
    )
}

/// The identifiers that a declaration names.
pub(super) fn names(conn: &Connection, identifier: &str) -> Result<Vec<String>> {
    let mut named = conn
        .prepare_cached("SELECT target FROM declaration_references WHERE identifier = ?1 ORDER BY target")?;
    Ok(named.query_map([identifier], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Keeps a declaration; one of the same identifier is replaced.
///
/// # Errors
/// `Invalid` with a pointer when it names what is not there or is of another type, when its predicate
/// does not parse, or when the identifier is the server's own; `Conflict` when the one that it replaces
/// is used as something that it is not.
pub fn put(tx: &Tx<'_>, checked: &Checked, force: bool, edit: Edit<'_>) -> Result<Put> {
    if checked.identifier.starts_with(PREFIX) {
        let words =
            format!("Identifiers beginning with {PREFIX} are the server's own; choose another beginning.");
        return Err(Error::invalid_at("/Identifier", words));
    }
    let mut warnings = checked.warnings.clone();
    if let Some(predicate) = &checked.predicate {
        warnings.extend(device_predicate(predicate, "/Payload/Predicate", force)?);
    }
    for reference in &checked.references {
        // The one of this identifier is replaced, whatever it was.
        if reference.identifier == checked.identifier {
            return Err(Error::invalid_at(reference.pointer.as_str(), "A declaration cannot name itself."));
        }
        warnings.extend(resolve(tx, reference)?);
    }
    let mut payload = checked.payload.clone();
    let linked = served::resolve(tx, &mut payload, force)?;
    warnings.extend(linked.warnings.iter().cloned());
    warnings.extend(app::check(tx, &checked.declaration_type, &mut payload)?);
    let known = get(tx, &checked.identifier)?;
    if let Some(known) = &known {
        stays_usable(tx, known, checked)?;
    }
    let mut declaration = Declaration {
        kind: checked.kind,
        declaration_type: checked.declaration_type.clone(),
        identifier: checked.identifier.clone(),
        payload,
        beside: checked.beside.clone(),
        content: linked.content.clone(),
        touched: known.as_ref().map_or(0, |known| known.touched),
        server_token: String::new(),
        forced: force,
        created_at: known.as_ref().map_or(tx.now(), |known| known.created_at),
        updated_at: tx.now(),
        updated_by: edit.actor.to_owned(),
    };
    declaration.server_token = declaration.token();
    let changed = known.is_none_or(|known| known.server_token != declaration.server_token);
    if changed {
        keep(tx, &declaration, edit)?;
        served::keep_links(tx, &declaration.identifier, &linked)?;
        tx.prepare_cached("DELETE FROM declaration_references WHERE identifier = ?1")?
            .execute([&declaration.identifier])?;
        for reference in &checked.references {
            tx.prepare_cached("INSERT OR IGNORE INTO declaration_references VALUES (?1, ?2)")?
                .execute([&declaration.identifier, &reference.identifier])?;
        }
    }
    Ok(Put { changed, server_token: declaration.server_token, warnings })
}

fn keep(tx: &Tx<'_>, declaration: &Declaration, edit: Edit<'_>) -> Result<()> {
    tx.prepare_cached(&format!(
        "INSERT INTO declarations ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT DO UPDATE SET
             type = excluded.type, kind = excluded.kind, payload = excluded.payload, beside = excluded.beside,
             content = excluded.content, touched = excluded.touched, server_token = excluded.server_token,
             forced = excluded.forced, updated_at = excluded.updated_at, updated_by = excluded.updated_by"
    ))?
    .execute(params![
        declaration.identifier,
        declaration.declaration_type,
        declaration.kind.name(),
        Json::Object(declaration.payload.clone()).to_string(),
        Json::Object(declaration.beside.clone()).to_string(),
        declaration.content,
        declaration.touched,
        declaration.server_token,
        declaration.forced,
        declaration.created_at,
        declaration.updated_at,
        declaration.updated_by,
    ])?;
    snapshot::keep_version(tx, &declaration.server_token, &declaration.body().to_string())?;
    generation::advance(tx, edit.notify)
}

/// Reads a predicate that devices evaluate; answers what its writer should know.
pub(super) fn device_predicate(text: &str, pointer: &str, force: bool) -> Result<Vec<String>> {
    match parse(text, Dialect::Device) {
        Ok(predicate) => Ok(reads::on_devices(&predicate)),
        Err(error) if force => {
            Ok(vec![format!("The predicate was accepted although this server cannot read it. {error}")])
        }
        Err(error) => {
            let refused = Error::invalid_at(pointer, error.words);
            Err(match error.suggestion {
                Some(suggestion) => refused.suggesting(suggestion),
                None => refused,
            })
        }
    }
}

/// Holds a reference against what it names; answers what its writer should know.
fn resolve(conn: &Connection, reference: &Reference) -> Result<Option<String>> {
    let refused = |words: String| Err(Error::invalid_at(reference.pointer.as_str(), words));
    let name = &reference.identifier;
    let Some(target) = get(conn, name)? else {
        return refused(format!("There is no declaration {name}; write that one first."));
    };
    match &reference.wants {
        Wants::Configuration if target.kind != Kind::Configuration => {
            return refused(format!("{name} is not a configuration but {}.", target.declaration_type));
        }
        Wants::Asset(types) if !types.contains(&target.declaration_type) => {
            return refused(format!(
                "{name} is {}; here it must be {}.",
                target.declaration_type,
                types.join(" or ")
            ));
        }
        Wants::Configuration | Wants::Asset(_) => {}
    }
    let content_type = target.payload.get("Reference").and_then(|data| data.get("ContentType"));
    let Some(content_type) = content_type.and_then(Json::as_str) else { return Ok(None) };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let fits =
        reference.media.is_empty() || reference.media.iter().any(|media| essence.eq_ignore_ascii_case(media));
    Ok((!fits).then(|| {
        format!("Devices expect the data of {name} to be {}, not {essence}.", reference.media.join(" or "))
    }))
}

/// Whoever names a declaration named one of this type.
fn stays_usable(conn: &Connection, known: &Declaration, new: &Checked) -> Result<()> {
    let same = known.kind == new.kind
        && (known.kind != Kind::Asset || known.declaration_type == new.declaration_type);
    let users = if same { Vec::new() } else { users(conn, &known.identifier)? };
    if users.iter().any(|user| matches!(user, User::Declaration(_))) {
        let words = format!(
            "{} is {} and other declarations name it as such; use another Identifier for {}",
            known.identifier, known.declaration_type, new.declaration_type
        );
        return Err(used(words, &users));
    }
    Ok(())
}

/// Removes a declaration that nobody uses.
///
/// # Errors
/// `NotFound`; `Conflict` with `users` when it is used.
pub fn delete(tx: &Tx<'_>, identifier: &str, edit: Edit<'_>) -> Result<()> {
    if get(tx, identifier)?.is_none() {
        return Err(Error::NotFound(missing(identifier)));
    }
    let users = users(tx, identifier)?;
    if !users.is_empty() {
        let words = format!("{identifier} is in use; take it from what uses it first");
        return Err(used(words, &users));
    }
    tx.prepare_cached("DELETE FROM declarations WHERE identifier = ?1")?.execute([identifier])?;
    tx.prepare_cached("DELETE FROM declaration_references WHERE identifier = ?1")?.execute([identifier])?;
    served::forget_links(tx, identifier)?;
    generation::advance(tx, edit.notify)
}

/// Refuses to change what is used.
pub(super) fn used(words: String, users: &[User]) -> Error {
    let users: Vec<Json> = users
        .iter()
        .map(|user| match user {
            User::Declaration(identifier) => json!({"declaration": identifier}),
            User::Group(name) => json!({"group": name}),
            User::AppSet(name) => json!({"app_set": name}),
        })
        .collect();
    Error::Conflict { words, details: Map::from_iter([("users".to_owned(), Json::Array(users))]) }
}

/// Has every device apply it anew; answers the new ServerToken.
///
/// # Errors
/// `NotFound`.
pub fn touch(tx: &Tx<'_>, identifier: &str, edit: Edit<'_>) -> Result<String> {
    change(tx, identifier, edit, |declaration| {
        declaration.touched += 1;
        Ok(())
    })
}

/// Changes a declaration without its writer; answers its ServerToken.
pub(super) fn change(
    tx: &Tx<'_>,
    identifier: &str,
    edit: Edit<'_>,
    how: impl FnOnce(&mut Declaration) -> Result<()>,
) -> Result<String> {
    let mut declaration = get(tx, identifier)?.ok_or_else(|| Error::NotFound(missing(identifier)))?;
    how(&mut declaration)?;
    let token = declaration.token();
    if token != declaration.server_token {
        declaration.server_token.clone_from(&token);
        declaration.updated_at = tx.now();
        edit.actor.clone_into(&mut declaration.updated_by);
        keep(tx, &declaration, edit)?;
    }
    Ok(token)
}

/// The declarations that name this one, and the groups and app sets that it is in.
pub fn users(conn: &Connection, identifier: &str) -> Result<Vec<User>> {
    let mut statement = conn.prepare_cached(
        "SELECT identifier FROM declaration_references WHERE target = ?1 ORDER BY identifier",
    )?;
    let names = statement.query_map([identifier], |row| row.get(0).map(User::Declaration))?;
    let mut users = names.collect::<Result<Vec<_>, _>>()?;
    users.extend(group::with_declaration(conn, identifier)?.into_iter().map(User::Group));
    users.extend(app_set::with_declaration(conn, identifier)?.into_iter().map(User::AppSet));
    Ok(users)
}
