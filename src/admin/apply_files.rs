//! Profiles and assets within an apply: `"profiles": [{"identifier", "sha256" or "content"}]` and
//! `"assets": [{"identifier", "type", "content_type", "sha256" or "content"}]`.
//!
//! `content` is base64, for what is small; `sha256` names bytes that are here already, or were sent ahead
//! (`PUT /api/v1/uploads/{sha256}`); in a dry run they may be still to come, if `size` is said too. A secret
//! is never exported, so an asset may say `"secret"` in their place: the server's stays as it is.
//!
//! **Invariant:** bytes are read and checked before the transaction, and what lies in memory for it is
//! bounded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read;

use super::apply::{Change, Done, at};
use super::body::Object;
use super::{Admin, asset, profile};
use crate::content::{self, Contents, Received};
use crate::ddm::Edit;
use crate::error::{Error, Result};
use crate::library::asset::{self as assets, Asset, Prepared, Upload};
use crate::library::mobileconfig::{LARGEST, Mobileconfig};
use crate::library::profile::{self as profiles, Profile};
use crate::storage::Tx;

/// How much of it may lie in memory until it is kept; what is large is on the disk.
const MOST_HELD: usize = 64 * 1024 * 1024;

/// What was sent; nothing for a list that was not.
pub(super) struct Files {
    profiles: Option<Vec<Wanted<(Mobileconfig, Received)>>>,
    assets: Option<Vec<Wanted<Prepared>>>,
}

struct Wanted<T> {
    name: String,
    bytes: Bytes<T>,
}

enum Bytes<T> {
    /// What is there is to stay.
    Stay,
    Here(T),
    /// For a dry run: those of this description would be sent ahead.
    ToCome(Described),
}

struct Described {
    sha256: String,
    size: u64,
    asset_type: Option<String>,
    media_type: String,
}

impl Files {
    /// Reads both lists and the bytes that they name; those that are the server's already are not read. For
    /// a dry run they need not be here.
    pub(super) async fn read(admin: &Admin, body: &mut Object, force: bool, dry_run: bool) -> Result<Self> {
        let (profiles, assets) = (body.list("profiles")?, body.list("assets")?);
        let admin = admin.clone();
        let read = super::blocking(move || {
            let mut reading = Reading { admin: &admin, force, dry_run, held: 0 };
            Ok(Self {
                profiles: profiles
                    .map(|list| each(list, "profiles", |body| reading.profile(body)))
                    .transpose()?,
                assets: assets.map(|list| each(list, "assets", |body| reading.asset(body))).transpose()?,
            })
        });
        read.await
    }

    pub(super) fn is_absent(&self) -> bool {
        self.profiles.is_none() && self.assets.is_none()
    }

    /// Keeps them; declarations that point to them come after.
    pub(super) fn put(
        &self,
        tx: &Tx<'_>,
        contents: &Contents,
        edit: Edit<'_>,
        done: &mut Done,
    ) -> Result<()> {
        for (index, wanted) in self.profiles.iter().flatten().enumerate() {
            let place = format!("/profiles/{index}");
            put_profile(tx, contents, wanted, &place, edit, done).map_err(|error| at(&place, error))?;
        }
        for (index, wanted) in self.assets.iter().flatten().enumerate() {
            let place = format!("/assets/{index}");
            put_asset(tx, contents, wanted, &place, edit, done).map_err(|error| at(&place, error))?;
        }
        Ok(())
    }

    /// Removes what was not sent, but for the assets that are `made` of something else; the declarations
    /// that pointed to it are gone already.
    pub(super) fn prune(
        &self,
        tx: &Tx<'_>,
        made: &BTreeSet<String>,
        edit: Edit<'_>,
        done: &mut Done,
    ) -> Result<()> {
        if let Some(sent) = self.profiles.as_deref().map(names) {
            for known in profiles::list(tx, None, u32::MAX)? {
                if !sent.contains(known.name.as_str()) {
                    profile::delete_in(tx, &known.name, edit)?;
                    done.changes.push(change("profile", &known.name, plain_profile(&known), Value::Null));
                }
            }
        }
        if let Some(sent) = self.assets.as_deref().map(names) {
            for known in assets::list(tx, None, u32::MAX)? {
                if !sent.contains(known.identifier.as_str()) && !made.contains(&known.identifier) {
                    asset::delete_in(tx, &known.identifier, edit)?;
                    done.changes.push(change("asset", &known.identifier, asset::plain(&known), Value::Null));
                }
            }
        }
        Ok(())
    }
}

fn names<T>(list: &[Wanted<T>]) -> BTreeSet<&str> {
    list.iter().map(|wanted| wanted.name.as_str()).collect()
}

fn change(kind: &'static str, name: &str, before: Value, after: Value) -> Change {
    Change { kind, name: name.to_owned(), before, after }
}

/// What an apply shows of a profile.
fn plain_profile(profile: &Profile) -> Value {
    json!({
        "identifier": profile.name,
        "payload_identifier": profile.summary["payload_identifier"],
        "uuid": profile.summary["uuid"],
        "size": profile.kept.size,
        "sha256": profile.kept.id,
    })
}

fn each<T>(
    list: Vec<Value>,
    member: &str,
    mut read: impl FnMut(&mut Object) -> Result<Wanted<T>>,
) -> Result<Vec<Wanted<T>>> {
    let mut seen = BTreeSet::new();
    let wanted = list.into_iter().enumerate().map(|(index, body)| {
        let place = format!("/{member}/{index}");
        let Value::Object(members) = body else {
            return Err(Error::invalid_at(place, "this must be a JSON object"));
        };
        let mut body = Object::from(members);
        let wanted = read(&mut body).and_then(|wanted| body.finish().map(|()| wanted));
        let wanted = wanted.map_err(|error| at(&place, error))?;
        if !seen.insert(wanted.name.clone()) {
            return Err(Error::invalid_at(format!("{place}/identifier"), "two have this identifier"));
        }
        Ok(wanted)
    });
    wanted.collect()
}

struct Reading<'a> {
    admin: &'a Admin,
    force: bool,
    dry_run: bool,
    held: usize,
}

impl Reading<'_> {
    fn profile(&mut self, body: &mut Object) -> Result<Wanted<(Mobileconfig, Received)>> {
        let name = body.needed_text("identifier")?;
        let known = self.admin.mdm.store.peek(|conn| profiles::get(conn, &name))?;
        let (sha256, content) = (body.text("sha256")?, body.text("content")?);
        let size = body.number("size")?;
        if content.is_none() && sha256.is_some() && sha256 == known.map(|known| known.kept.id) {
            return Ok(Wanted { name, bytes: Bytes::Stay });
        }
        // Said before bytes are asked for: a dry run has to refuse what will be refused.
        let too_large = || Error::invalid("a profile has at most 10 MiB");
        if let Some(to_come) = self.to_come(sha256.as_deref(), content.as_deref(), size)? {
            if to_come.size > LARGEST {
                return Err(too_large());
            }
            return Ok(Wanted { name, bytes: Bytes::ToCome(to_come) });
        }
        let received = self.received(sha256, content)?;
        if received.size > LARGEST {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        received
            .reader()?
            .read_to_end(&mut bytes)
            .map_err(|source| Error::caused("a profile that was sent cannot be read", source))?;
        Ok(Wanted { name, bytes: Bytes::Here((Mobileconfig::read(&bytes)?, received)) })
    }

    fn asset(&mut self, body: &mut Object) -> Result<Wanted<Prepared>> {
        let name = body.needed_text("identifier")?;
        let known = self.admin.mdm.store.peek(|conn| assets::get(conn, &name))?;
        let (asset_type, media_type) = (body.text("type")?, body.text("content_type")?);
        let (sha256, content) = (body.text("sha256")?, body.text("content")?);
        let size = body.number("size")?;
        let said = body.any("secret").is_some_and(|secret| secret != Value::Bool(false));
        if said && content.is_none() {
            return match known {
                Some(known) if known.kept.secret => Ok(Wanted { name, bytes: Bytes::Stay }),
                _ => Err(Error::invalid(format!(
                    "the secret of {name} is not exported and this server does not have it; send it first: \
                     PUT /api/v1/assets/{name}"
                ))),
            };
        }
        let same = |known: &Asset| {
            content.is_none()
                && sha256.is_some()
                && known.kept.sha256() == sha256.as_deref()
                && asset_type.as_ref().is_none_or(|asset_type| *asset_type == known.asset_type)
                && media_type.as_ref().is_none_or(|said| said.eq_ignore_ascii_case(&known.media_type))
        };
        if known.as_ref().is_some_and(same) {
            return Ok(Wanted { name, bytes: Bytes::Stay });
        }
        if let Some(to_come) = self.to_come(sha256.as_deref(), content.as_deref(), size)? {
            let media_type = media_type.unwrap_or_default();
            return Ok(Wanted {
                name,
                bytes: Bytes::ToCome(Described { asset_type, media_type, ..to_come }),
            });
        }
        let received = self.received(sha256, content)?;
        let upload = Upload {
            asset_type: asset_type.as_deref(),
            known_type: known.as_ref().map(|known| known.asset_type.as_str()),
            known_media: known.as_ref().map(|known| known.media_type.as_str()),
            media_type: &media_type.unwrap_or_default(),
            password: None,
            force: self.force,
        };
        let prepared = assets::prepare(&self.admin.mdm.contents, &upload, received)?;
        Ok(Wanted { name, bytes: Bytes::Here(prepared) })
    }

    /// Bytes that a dry run only names, if they are not here.
    fn to_come(
        &self,
        sha256: Option<&str>,
        content: Option<&str>,
        size: Option<u64>,
    ) -> Result<Option<Described>> {
        let (Some(sha256), None, Some(size), true) = (sha256, content, size, self.dry_run) else {
            return Ok(None);
        };
        if self.admin.mdm.store.peek(|conn| content::known(conn, sha256))?.is_some() {
            return Ok(None);
        }
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::invalid_at("/sha256", "sha256 must have 64 hexadecimal digits"));
        }
        if size > content::LARGEST {
            return Err(Error::invalid_at(
                "/size",
                format!("A file has at most {} bytes.", content::LARGEST),
            ));
        }
        let (sha256, media_type) = (sha256.to_owned(), String::new());
        Ok(Some(Described { sha256, size, asset_type: None, media_type }))
    }

    fn received(&mut self, sha256: Option<String>, content: Option<String>) -> Result<Received> {
        let contents = &self.admin.mdm.contents;
        let received = match (sha256, content) {
            (_, Some(content)) => {
                let bytes = STANDARD
                    .decode(content)
                    .map_err(|_| Error::invalid_at("/content", "content must be base64"))?;
                contents.receive_bytes(&bytes)?
            }
            (Some(sha256), None) => {
                let found = self.admin.mdm.store.peek(|conn| contents.received(conn, &sha256))?;
                found.ok_or_else(|| {
                    let words = "these bytes are not here; send them first: PUT /api/v1/uploads/{sha256}";
                    Error::invalid_at("/sha256", words)
                })?
            }
            (None, None) => return Err(Error::invalid("its bytes are missing; say sha256 or content")),
        };
        self.held += received.bytes().map_or(0, <[u8]>::len);
        if self.held > MOST_HELD {
            return Err(Error::invalid(
                "more than 64 MiB of small files change at once; apply them in parts",
            ));
        }
        Ok(received)
    }
}

fn put_profile(
    tx: &Tx<'_>,
    contents: &Contents,
    wanted: &Wanted<(Mobileconfig, Received)>,
    place: &str,
    edit: Edit<'_>,
    done: &mut Done,
) -> Result<()> {
    let before = profiles::get(tx, &wanted.name)?;
    let (read, received) = match &wanted.bytes {
        Bytes::Here((read, received)) => (read, received),
        Bytes::Stay => return stays(before.is_some(), done),
        Bytes::ToCome(to_come) => {
            profiles::pretend(tx, &wanted.name, &to_come.sha256, to_come.size, edit)?;
            let before = before.as_ref().map_or(Value::Null, plain_profile);
            let (name, size, sha256) = (&wanted.name, to_come.size, &to_come.sha256);
            let after = json!({"identifier": name, "size": size, "sha256": sha256});
            done.changes.push(change("profile", &wanted.name, before, after));
            done.warnings.push(not_looked_into(place));
            return Ok(());
        }
    };
    if !profile::put_in(tx, contents, &wanted.name, (read, received), edit)?.changed {
        done.unchanged += 1;
        return Ok(());
    }
    let after = plain_profile(&profile::existing(tx, &wanted.name)?);
    let before = before.as_ref().map_or(Value::Null, plain_profile);
    done.changes.push(change("profile", &wanted.name, before, after));
    Ok(())
}

fn put_asset(
    tx: &Tx<'_>,
    contents: &Contents,
    wanted: &Wanted<Prepared>,
    place: &str,
    edit: Edit<'_>,
    done: &mut Done,
) -> Result<()> {
    let before = assets::get(tx, &wanted.name)?;
    let prepared = match &wanted.bytes {
        Bytes::Here(prepared) => prepared,
        Bytes::Stay => return stays(before.is_some(), done),
        Bytes::ToCome(to_come) => {
            let upload = Upload {
                asset_type: to_come.asset_type.as_deref(),
                known_type: before.as_ref().map(|known| known.asset_type.as_str()),
                known_media: before.as_ref().map(|known| known.media_type.as_str()),
                media_type: &to_come.media_type,
                password: None,
                force: false,
            };
            let bytes = (to_come.sha256.as_str(), to_come.size);
            let (asset_type, media_type) = assets::pretend(tx, &wanted.name, &upload, bytes, edit)?;
            let before = before.as_ref().map_or(Value::Null, asset::plain);
            let secret = assets::is_secret(&asset_type);
            let after = json!({
                "identifier": wanted.name,
                "type": asset_type,
                "content_type": media_type,
                "size": to_come.size,
                "sha256": (!secret).then_some(&to_come.sha256),
                "secret": secret,
            });
            done.changes.push(change("asset", &wanted.name, before, after));
            done.warnings.push(not_looked_into(place));
            return Ok(());
        }
    };
    let put = asset::put_in(tx, contents, &wanted.name, prepared, edit)?;
    done.warnings.extend(put.warnings.iter().map(|words| json!({"pointer": place, "words": words})));
    if !put.changed {
        done.unchanged += 1;
        return Ok(());
    }
    let after = asset::plain(&asset::existing(tx, &wanted.name)?);
    let before = before.as_ref().map_or(Value::Null, asset::plain);
    done.changes.push(change("asset", &wanted.name, before, after));
    Ok(())
}

fn not_looked_into(place: &str) -> Value {
    let words = "A dry run sends no files: whether these bytes will be accepted is known when they are sent.";
    json!({"pointer": place, "words": words})
}

/// What is there was looked at before the transaction.
fn stays(is_there: bool, done: &mut Done) -> Result<()> {
    if !is_there {
        return Err(Error::conflict("somebody deleted this meanwhile; apply again"));
    }
    done.unchanged += 1;
    Ok(())
}
