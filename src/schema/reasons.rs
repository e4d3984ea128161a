//! The codes by which devices say why, in plain words, with what to do.
//!
//! Called where a report of a device is shown. Apple gives the codes and, in a report, a description of
//! its own, which is shown beside these words. Apple: `declarationbase.yaml`, `management.declarations`.
//!
//! **Invariant:** every code of the tables has words of its own; a code that Apple adds has some too.

/// What a code means and what to do about it.
pub fn reason_words(code: &str) -> &'static str {
    declarations(code).or_else(|| apps(code)).unwrap_or(if code.starts_with("Info.") {
        "The device mentions something that this server has no words for; its own description says what. \
         Nothing has failed."
    } else {
        "The device gives a reason that this server has no words for; see its own description."
    })
}

/// Of any declaration.
fn declarations(code: &str) -> Option<&'static str> {
    Some(match code {
        "Error.ActivationFailed" => {
            "The activation could not be processed, so none of its configurations applies through it. \
             Look at its predicate and at the configurations that it names."
        }
        "Error.AssetCannotBeDeserialized" => {
            "The asset's data arrived but is not what its type requires. \
             Check the form of the document and its content type, and upload it again."
        }
        "Error.AssetCannotBeDownloaded" => {
            "The device could not download the asset's data. Check that the address is right, that the \
             device can reach it, and that it trusts its certificate."
        }
        "Error.AssetCannotBeVerified" => {
            "The asset's data does not match the size, hash or content type that was declared. \
             Upload it again, so that these are computed anew."
        }
        "Error.ConfigurationCannotBeApplied" => {
            "The device understood the configuration and could not put it into effect. \
             The details say what stood in the way; it is tried again when the declaration changes."
        }
        "Error.ConfigurationCannotBeDeserialized" => {
            "The device could not read the configuration. \
             Check the types of its values, and whether this version of the system knows all its keys."
        }
        "Error.ConfigurationFailed" => {
            "The configuration failed, and the activation that names it reports so. \
             Look at the reasons of the configuration itself."
        }
        "Error.ConfigurationIsInvalid" => {
            "The device refuses a value in the configuration. The details say which; correct it."
        }
        "Error.ConfigurationNotSupported" => {
            "This device does not support this configuration: another system, too old a version, another \
             kind of enrollment or the wrong channel. Take it from the groups of this device, or update it."
        }
        "Error.InvalidPayload" => {
            "The payload lacks a key that must be there or has a value of a wrong type. \
             Correct the declaration."
        }
        "Error.MissingAssets" => {
            "The configuration names assets that the device was not given. \
             The details list them; make sure that they exist and go to the same devices."
        }
        "Error.MissingConfigurations" => {
            "The activation names configurations that the device was not given. \
             The details list them; those that this device cannot have were left out."
        }
        "Error.MissingState" => {
            "The device has lost what it knew of this declaration. \
             Send it once more; if that does not help, restart the device."
        }
        "Error.PredicateFailed" => {
            "The activation's predicate failed while the device evaluated it. \
             Check that it compares values of the same type."
        }
        "Error.UnableToEvaluatePredicate" => {
            "The device could not evaluate the activation's predicate. \
             Check that the status items and properties it reads exist on this device."
        }
        "Error.UnableToParsePredicate" => {
            "The device could not read the activation's predicate. Correct how it is written."
        }
        "Error.UnableToParsePredicateWithCustomOperator" => {
            "The activation's predicate uses an operator that devices do not allow. Write it without."
        }
        "Error.Unknown" => {
            "The device failed for a reason that it cannot name. \
             The domain and code in the details are all there is; a restart or an update may help."
        }
        "Error.UnknownDeclarationType" => {
            "This device does not know this type of declaration. \
             Its system is too old, or the type is misspelt."
        }
        "Error.UnknownPayloadKeys" => {
            "The payload has keys that this device does not know. The details list them: they are misspelt, \
             or newer than the device's system."
        }
        "Info.NotReferencedByActivation" => {
            "No active activation names this configuration, so it does not apply. \
             That is as it should be while a predicate does not hold."
        }
        "Info.NotReferencedByConfiguration" => {
            "No active configuration names this asset, so it is not used. Nothing is wrong."
        }
        "Info.Predicate" => {
            "The predicate does not hold on this device at present, so the activation is not active. \
             Nothing is wrong."
        }
        "Info.UnsupportedSettings" => {
            "The device applied the configuration but for settings that it does not support. \
             The details list them."
        }
        _ => return None,
    })
}

/// Of managed apps and packages.
fn apps(code: &str) -> Option<&'static str> {
    Some(match code {
        "Error.AppStoreDisabled" => {
            "The App Store is turned off on this device. \
             Allow it, or install the app with a license for devices."
        }
        "Error.DownloadFailed" => {
            "The download failed. \
             Check the device's network and the address of the manifest; it is tried again."
        }
        "Error.DuplicateConfiguredApp" => {
            "Another declaration for this device is about the same app. Leave only one of them."
        }
        "Error.InstallFailed" => {
            "It was downloaded and could not be installed. \
             Check that there is space, and that it is made for this device and its system."
        }
        "Error.InvalidAppID" => {
            "There is no app of this identifier. Check the App Store ID or bundle identifier, and the region."
        }
        "Error.InvalidCodeSignature" => {
            "The app's signature is not valid for this device. \
             Sign it again with a profile that has not expired and that allows this device."
        }
        "Error.IsSystemApp" => {
            "The app is a part of the system and cannot be managed. Remove the declaration."
        }
        "Error.LicenseNotFound" => {
            "There is no license for this app. \
             Assign one to the device or to its user, or let the user buy it."
        }
        "Error.NotAnApp" => {
            "What the identifier or the manifest leads to is not an app. \
             Check it; books and packages go another way."
        }
        "Error.NotSupported" => {
            "The app cannot run on this device. Its system or model is not among those it needs."
        }
        "Error.UnmanagedAppAlreadyInstalled" => {
            "The app is there already, installed by the user, and may not be taken over. \
             Ask the user to agree or to delete it."
        }
        "Error.UserRejected" => {
            "The user declined. Ask them to agree; the device asks again when the declaration changes."
        }
        "Info.UpdateAvailable" => "A newer version of the app can be installed. Nothing is wrong.",
        "Error.UpdateFailed" => {
            "The app could not be updated; the version from before stays. \
             Check the device's space and network; it is tried again."
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::status::{status_item, status_items};
    use serde_json::Value as Json;
    use std::collections::BTreeMap;

    #[test]
    fn every_code_of_the_tables_has_words_of_its_own() {
        let table: Json = serde_json::from_str(include_str!("data/declarations.json")).unwrap();
        let common = table["meta"]["common"]["reasons"].as_array().unwrap();
        let common = common.iter().map(|code| code.as_str().unwrap());
        let items = status_items().flat_map(|name| &status_item(name).unwrap().reasons);
        let mut codes: BTreeMap<&str, &str> = BTreeMap::new();
        for code in common.chain(items.map(String::as_str)) {
            let words = reason_words(code);
            let other = codes.iter().find(|(other, said)| **other != code && **said == words);
            assert_eq!(other, None, "{code}");
            assert!(words.ends_with('.') && !words.contains("  "), "{code}: {words}");
            codes.insert(code, words);
        }
        assert_eq!(codes.len(), 38);
        for new in ["Error.Unheardof", "Info.Unheardof", ""] {
            assert!(!codes.values().any(|words| *words == reason_words(new)), "{new}");
        }
        assert_ne!(reason_words("Info.Unheardof"), reason_words("Error.Unheardof"));
    }
}
