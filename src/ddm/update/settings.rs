//! What a policy says beside what it enforces: the keys of Apple's `softwareupdate.settings`.
//!
//! A policy writes them as the rest of the API is written, `combined_period_in_days` for
//! CombinedPeriodInDays; which there are and what they may be is read from Apple's table.
//!
//! **Invariant:** a device gets only keys that its system and enrollment know.

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::id::printable;
use crate::schema::check::{Checker, child};
use crate::schema::declarations::{Target, declaration, key_left_out};
use crate::schema::table::Key;

/// The type of the declaration.
pub(super) const TYPE: &str = "com.apple.configuration.softwareupdate.settings";

fn keys() -> &'static [Key] {
    declaration(TYPE).map_or(&[], |known| &known.keys)
}

/// The members of a policy that are settings.
pub(super) fn members() -> impl Iterator<Item = String> {
    keys().iter().map(|key| member(&key.name))
}

/// `InstallOSUpdates` as `install_os_updates`.
fn member(apple: &str) -> String {
    let letters: Vec<char> = apple.chars().collect();
    let mut name = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let after_small = at > 0 && !letters[at - 1].is_uppercase();
        let before_small = at > 0 && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_small || before_small) {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// The payload that these members mean, checked against Apple's table.
///
/// # Errors
/// `Invalid` with a pointer to the member.
pub(super) fn payload(members: &Map<String, Json>) -> Result<Map<String, Json>> {
    let payload = dictionary(keys(), members, "")?;
    Checker::new(false).dict(keys(), &payload, "").map_err(in_our_words)?;
    together(&payload)?;
    Ok(payload)
}

fn dictionary(keys: &[Key], members: &Map<String, Json>, at: &str) -> Result<Map<String, Json>> {
    let mut payload = Map::new();
    for (name, value) in members {
        let here = child(at, name);
        let Some(key) = keys.iter().find(|key| member(&key.name) == *name) else {
            let known: Vec<String> = keys.iter().map(|key| member(&key.name)).collect();
            let words = format!("{:?} is not known here; write {}.", printable(name), known.join(", "));
            return Err(Error::invalid_at(here, words));
        };
        payload.insert(key.name.clone(), translated(key, value, &here)?);
    }
    Ok(payload)
}

fn translated(key: &Key, value: &Json, at: &str) -> Result<Json> {
    match value {
        Json::Object(members) => Ok(Json::Object(dictionary(&key.keys, members, at)?)),
        Json::Array(elements) => {
            let Some(item) = key.items.first() else { return Ok(value.clone()) };
            let elements = elements.iter().enumerate();
            let elements =
                elements.map(|(index, element)| translated(item, element, &format!("{at}/{index}")));
            Ok(Json::Array(elements.collect::<Result<_>>()?))
        }
        other => Ok(other.clone()),
    }
}

/// An error about the payload as one about the members that it was made from.
fn in_our_words(error: Error) -> Error {
    let Error::Invalid { words, pointer: Some(pointer), suggestion } = error else { return error };
    let last = pointer.rsplit('/').next().unwrap_or_default();
    let words = words.replacen(last, &member(last), usize::from(!last.is_empty()));
    let pointer = pointer.split('/').map(member).collect::<Vec<_>>().join("/");
    Error::Invalid { words, pointer: Some(pointer), suggestion }
}

/// What Apple's documentation says of keys that depend on each other.
fn together(payload: &Map<String, Json>) -> Result<()> {
    let Some(beta) = payload.get("Beta") else { return Ok(()) };
    let enrollment = beta["ProgramEnrollment"].as_str().unwrap_or("Allowed");
    let has = |key: &str| beta.get(key).is_some();
    let wrong = |place: &str, words: &str| Err(Error::invalid_at(format!("/beta/{place}"), words));
    if has("RequireProgram") && enrollment != "AlwaysOn" {
        return wrong(
            "require_program",
            "A program is required only with \"program_enrollment\": \"AlwaysOn\".",
        );
    }
    if has("RequireProgram") && has("OfferPrograms") {
        return wrong("offer_programs", "Programs are offered or one is required; leave one of them out.");
    }
    if has("OfferPrograms") && enrollment == "AlwaysOff" {
        return wrong(
            "offer_programs",
            "With \"program_enrollment\": \"AlwaysOff\" no program can be offered.",
        );
    }
    Ok(())
}

/// What of a payload a device knows; everything, if it is not known what it is.
pub(super) fn fitting(payload: &Map<String, Json>, target: Option<&Target>) -> Map<String, Json> {
    target.map_or_else(|| payload.clone(), |target| known_keys(keys(), payload, target, "", &mut Vec::new()))
}

/// What of a payload a device does not know, each as the policy names it and why.
pub(super) fn omitted(payload: &Map<String, Json>, target: Option<&Target>) -> Vec<String> {
    let mut omitted = Vec::new();
    if let Some(target) = target {
        known_keys(keys(), payload, target, "", &mut omitted);
    }
    omitted
}

fn known_keys(
    keys: &[Key],
    payload: &Map<String, Json>,
    target: &Target,
    around: &str,
    omitted: &mut Vec<String>,
) -> Map<String, Json> {
    let mut known = Map::new();
    for key in keys {
        let Some(value) = payload.get(&key.name) else { continue };
        let place = format!("{around}{}", member(&key.name));
        if let Some(why) = key_left_out(key, target) {
            omitted.push(format!("{place} {why}"));
            continue;
        }
        match value {
            Json::Object(inner) => {
                let inner = known_keys(&key.keys, inner, target, &format!("{place}."), omitted);
                if !inner.is_empty() {
                    known.insert(key.name.clone(), inner.into());
                }
            }
            value => {
                known.insert(key.name.clone(), value.clone());
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::platform::Platform;
    use crate::schema::table::{Enrollment, Scope};

    fn read(members: Json) -> Result<Json> {
        let Json::Object(members) = members else { panic!() };
        payload(&members).map(Json::Object)
    }

    #[test]
    fn members_are_apples_keys() {
        let names: Vec<String> = members().collect();
        assert_eq!(
            names,
            [
                "notifications",
                "deferrals",
                "recommended_cadence",
                "automatic_actions",
                "rapid_security_response",
                "allow_standard_user_os_updates",
                "beta",
            ]
        );
        let all = json!({
            "notifications": false,
            "deferrals": {"combined_period_in_days": 30, "minor_period_in_days": 7},
            "automatic_actions": {"install_os_updates": "AlwaysOn"},
            "beta": {"program_enrollment": "AlwaysOn",
                "offer_programs": [{"description": "Public", "token": "t"}]},
        });
        assert_eq!(
            read(all).unwrap(),
            json!({
                "Notifications": false,
                "Deferrals": {"CombinedPeriodInDays": 30, "MinorPeriodInDays": 7},
                "AutomaticActions": {"InstallOSUpdates": "AlwaysOn"},
                "Beta": {"ProgramEnrollment": "AlwaysOn",
                    "OfferPrograms": [{"Description": "Public", "Token": "t"}]},
            })
        );
    }

    #[test]
    fn mistakes_have_their_place_and_our_names() {
        for (members, place, words) in [
            (json!({"notifications": "yes"}), "/notifications", "true or false"),
            (
                json!({"deferrals": {"combined_period_in_days": 91}}),
                "/deferrals/combined_period_in_days",
                "1 to 90",
            ),
            (
                json!({"deferrals": {"combined_period_in_days": 0}}),
                "/deferrals/combined_period_in_days",
                "1 to 90",
            ),
            (json!({"deferrals": {"days": 3}}), "/deferrals/days", "combined_period_in_days"),
            (json!({"deferrals": 7}), "/deferrals", "an object"),
            (json!({"recommended_cadence": "newest"}), "/recommended_cadence", "Newest"),
            (
                json!({"beta": {"require_program": {"description": "x", "token": "t"}}}),
                "/beta/require_program",
                "AlwaysOn",
            ),
            (
                json!({"beta": {"program_enrollment": "AlwaysOff", "offer_programs": []}}),
                "/beta/offer_programs",
                "AlwaysOff",
            ),
            (
                json!({"beta": {"offer_programs": [{"description": "x"}]}}),
                "/beta/offer_programs/0/token",
                "token is missing",
            ),
        ] {
            let Err(Error::Invalid { words: said, pointer, .. }) = read(members.clone()) else {
                panic!("{members}")
            };
            assert_eq!(pointer.as_deref(), Some(place), "{members}");
            assert!(said.contains(words), "{members}: {said}");
        }
    }

    #[test]
    fn each_system_gets_what_it_knows() {
        let payload = payload(
            json!({
                "deferrals": {"combined_period_in_days": 30, "minor_period_in_days": 7},
                "recommended_cadence": "Oldest",
                "allow_standard_user_os_updates": false,
            })
            .as_object()
            .unwrap(),
        )
        .unwrap();
        let target = |platform, enrollment| Target {
            platform,
            version: Some("26.1".into()),
            enrollment,
            channel: Scope::System,
            shared_ipad: false,
            supported: None,
        };
        let get = |platform, enrollment| Json::Object(fitting(&payload, Some(&target(platform, enrollment))));
        assert_eq!(
            get(Platform::Ios, Enrollment::Supervised),
            json!({"Deferrals": {"CombinedPeriodInDays": 30}, "RecommendedCadence": "Oldest"})
        );
        assert_eq!(get(Platform::Ios, Enrollment::Device), json!({"RecommendedCadence": "Oldest"}));
        assert_eq!(
            get(Platform::MacOs, Enrollment::Supervised),
            json!({"Deferrals": {"MinorPeriodInDays": 7}, "AllowStandardUserOSUpdates": false})
        );
        assert_eq!(get(Platform::TvOs, Enrollment::Device), json!({}));
        assert_eq!(fitting(&payload, None), payload);
        let omitted = |platform, enrollment| omitted(&payload, Some(&target(platform, enrollment)));
        assert_eq!(
            omitted(Platform::Ios, Enrollment::Device),
            [
                "deferrals is for supervised devices only",
                "allow_standard_user_os_updates cannot be used on iOS",
            ]
        );
        assert!(super::omitted(&payload, None).is_empty());
    }
}
