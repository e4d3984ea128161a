//! Secrets that go to whoever says of itself that it is to have them.
//!
//! A group's rule reads what devices say of themselves: their serial numbers, names, models, what they
//! report. That is good for telling kinds of devices apart, and it is no authorization: whoever may enroll
//! may say anything. The API warns where such a group gets credentials.
//!
//! **Invariant:** nothing here refuses anything: who is a member is the administrator's to decide.

use rusqlite::Connection;
use std::collections::BTreeSet;

use super::declaration::{self, User};
use super::group::{self, Group};
use super::{app_set, served};
use crate::error::Result;
use crate::schema::secrets;

/// The keys of a rule that are this server's own knowledge. The rest is what a device says.
const KNOWN_HERE: [&str; 10] = [
    "state",
    "topic",
    "groups",
    "tags",
    "enrolled_at",
    "unenroll_at",
    "last_seen_at",
    "last_push_at",
    "can_be_pushed",
    "claims",
];
/// The prefix of asset types whose data are credentials; certificates alone are no secret.
const CREDENTIALS: &str = "com.apple.asset.credential.";
const CERTIFICATE: &str = "com.apple.asset.credential.certificate";

/// Whether a profile of this name has secrets in it, which the library knows.
pub type IsSecretProfile<'a> = &'a dyn Fn(&str) -> Result<bool>;

/// What the writer of a group should know of what it gets.
///
/// # Errors
/// The database's.
pub fn of_group(conn: &Connection, name: &str, is_secret: IsSecretProfile<'_>) -> Result<Vec<String>> {
    let Some(group) = group::get(conn, name)? else { return Ok(Vec::new()) };
    let Some(said) = said_by_devices(&group) else { return Ok(Vec::new()) };
    let mut identifiers = group.declarations.clone();
    for set in app_set::with_group(conn, name)? {
        identifiers.extend(app_set::get(conn, &set)?.into_iter().flat_map(|set| set.declarations));
    }
    let secrets = secrets_of(conn, identifiers, is_secret)?;
    Ok(secrets.into_iter().map(|secret| words(name, &said, &secret)).collect())
}

/// What the writer of a declaration, or of its bytes, should know of who gets it.
///
/// # Errors
/// The database's.
pub fn of_declaration(
    conn: &Connection,
    identifier: &str,
    is_secret: IsSecretProfile<'_>,
) -> Result<Vec<String>> {
    let secrets = secrets_of(conn, vec![identifier.to_owned()], is_secret)?;
    if secrets.is_empty() {
        return Ok(Vec::new());
    }
    let (mut groups, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut waiting = vec![identifier.to_owned()];
    while let Some(identifier) = waiting.pop() {
        for user in declaration::users(conn, &identifier)? {
            match user {
                User::Declaration(name) if seen.insert(name.clone()) => waiting.push(name),
                User::Declaration(_) => {}
                User::Group(name) => drop(groups.insert(name)),
                User::AppSet(name) => {
                    groups.extend(app_set::get(conn, &name)?.into_iter().flat_map(|set| set.groups));
                }
            }
        }
    }
    let mut warnings = Vec::new();
    for name in groups {
        let said = group::get(conn, &name)?.as_ref().and_then(said_by_devices);
        warnings.extend(said.iter().flat_map(|said| secrets.iter().map(|secret| words(&name, said, secret))));
    }
    Ok(warnings)
}

/// What a group's rule reads that devices say of themselves; nothing if it reads no such thing.
fn said_by_devices(group: &Group) -> Option<String> {
    let rule = group::check_rule(group.rule.as_ref()?).ok()?;
    let keys = rule.keys().into_iter().filter(|key| !KNOWN_HERE.contains(&key.as_str()));
    let said: Vec<String> =
        keys.chain(rule.status_items().into_iter().map(|item| format!("@status({item})"))).collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// The secrets among declarations and all that they name.
fn secrets_of(
    conn: &Connection,
    mut waiting: Vec<String>,
    is_secret: IsSecretProfile<'_>,
) -> Result<BTreeSet<String>> {
    let (mut secrets, mut seen) = (BTreeSet::new(), BTreeSet::new());
    while let Some(identifier) = waiting.pop() {
        if !seen.insert(identifier.clone()) {
            continue;
        }
        let Some(declared) = declaration::get(conn, &identifier)? else { continue };
        let kind = declared.declaration_type.as_str();
        let mut payload = declared.payload.into();
        let mut secret = (kind.starts_with(CREDENTIALS) && kind != CERTIFICATE)
            || !secrets::redact("", &mut payload).is_empty();
        for profile in served::profiles_of(conn, &identifier)? {
            secret |= is_secret(&profile)?;
        }
        if secret {
            secrets.insert(identifier.clone());
        }
        waiting.extend(declaration::names(conn, &identifier)?);
    }
    Ok(secrets)
}

fn words(group: &str, said: &str, secret: &str) -> String {
    format!(
        "{secret} holds a secret, and the rule of the group {group} reads what devices say of themselves \
         ({said}): whoever may enroll can say so and gets it. Make members by hand, or by tags, where a \
         secret is at stake."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddm::subject::KEYS;

    #[test]
    fn what_is_known_here_are_keys_of_rules() {
        for key in KNOWN_HERE {
            assert!(KEYS.contains(&key), "{key} is not a key that a rule can read");
        }
    }
}
