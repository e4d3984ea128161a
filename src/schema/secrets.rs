//! Which keys of commands, answers and check-ins are shown to nobody.
//!
//! Called by the API, which shows them as `null` with their names under `hidden`, and by the queue,
//! which seals what holds one. Apple's tables do not mark them; INTERFACE names PINs, passwords,
//! tokens and keys.
//!
//! **Invariant:** a key is judged by its name at any depth, also in commands that no table knows, and
//! [`redact`] and [`has_secrets`] judge alike.

use serde_json::Value as Json;

use crate::plist::Value;

/// Keys that are secret whatever stands there, dictionaries included.
const NAMES: [&str; 16] = [
    "ActivationLockBypassCode",
    "DigestResponse",
    "EncryptedNewRecoveryKey",
    "EscrowKey",
    "FDE_PersonalRecoveryKeyCMS",
    "FDE_PersonalRecoveryKeyCMS64",
    "FileVaultUnlock",
    "MDMProfileData",
    "PIN",
    "PrivateKeyExport",
    "PushMagic",
    "RedemptionCode",
    "TokenData",
    "UnlockToken",
    "UnusedRedemptionCode",
    "WiFiProfileData",
];

/// Ends of names that are secret when a string or data stands there: `SetFirmwarePassword` is also a
/// dictionary that says whether it was changed, `HasSecureToken` a boolean.
const ENDS: [&str; 11] = [
    "apikey",
    "passcode",
    "passphrase",
    "password",
    "passwordhash",
    "privatekey",
    "psk",
    "recoverykey",
    "secret",
    "secretkey",
    "token",
];

/// What an app is configured with and what it says back are the app's own words: licence keys and
/// addresses with passwords in them, under names that nobody can know.
const APPS: [(&str, &str); 4] = [
    ("InstallApplication", "Configuration"),
    ("ManagedApplicationConfiguration", "Configuration"),
    ("ManagedApplicationFeedback", "Feedback"),
    ("Settings", "Configuration"),
];

/// Replaces every secret by null; answers the names of what was hidden, each once, in order.
pub fn redact(request_type: &str, json: &mut Json) -> Vec<String> {
    let mut hidden = Vec::new();
    hide(request_type, json, &mut hidden);
    hidden
}

/// Whether a request or an answer holds a secret, and so is sealed where it is kept.
pub fn has_secrets(request_type: &str, value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(|value| has_secrets(request_type, value)),
        Value::Dictionary(entries) => entries.iter().any(|(name, value)| {
            let text = matches!(value, Value::String(_) | Value::Data(_));
            is_secret(request_type, name, text) || has_secrets(request_type, value)
        }),
        _ => false,
    }
}

fn hide(request_type: &str, json: &mut Json, hidden: &mut Vec<String>) {
    match json {
        Json::Array(values) => values.iter_mut().for_each(|value| hide(request_type, value, hidden)),
        Json::Object(entries) => {
            for (name, value) in entries {
                if is_secret(request_type, name, value.is_string()) {
                    *value = Json::Null;
                    if !hidden.contains(name) {
                        hidden.push(name.clone());
                    }
                } else {
                    hide(request_type, value, hidden);
                }
            }
        }
        _ => {}
    }
}

fn is_secret(request_type: &str, name: &str, text: bool) -> bool {
    if NAMES.iter().any(|secret| secret.eq_ignore_ascii_case(name)) {
        return true;
    }
    // Profiles hold Wi-Fi passwords, and the enrollment profile a challenge.
    if request_type == "InstallProfile" && name == "Payload" {
        return true;
    }
    if APPS.contains(&(request_type, name)) {
        return true;
    }
    text && ENDS.iter().any(|end| ends_with(name, end))
}

fn ends_with(name: &str, end: &str) -> bool {
    name.len()
        .checked_sub(end.len())
        .and_then(|at| name.get(at..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plist::json;
    use serde_json::json;

    #[test]
    fn secrets_are_hidden_at_any_depth_and_named_once() {
        let mut request = json!({"CommandUUID": "1", "Command": {"RequestType": "EraseDevice", "PIN": "123456",
            "ReturnToService": {"Enabled": true, "WiFiProfileData": "AQID", "BootstrapToken": "AQID"}}});
        assert!(has_secrets("EraseDevice", &json::from_json(&request).unwrap()));
        let hidden = redact("EraseDevice", &mut request);
        assert_eq!(hidden, ["PIN", "WiFiProfileData", "BootstrapToken"]);
        assert_eq!(request["Command"]["PIN"], Json::Null);
        assert_eq!(request["Command"]["ReturnToService"]["Enabled"], true);
        assert!(!request.to_string().contains("AQID"));
    }

    #[test]
    fn every_secret_of_apples_commands_is_known() {
        for (request_type, body) in [
            ("ClearPasscode", json!({"UnlockToken": "AQID"})),
            ("SetRecoveryLock", json!({"NewPassword": "x"})),
            ("SetRecoveryLock", json!({"CurrentPassword": "x"})),
            ("SetAutoAdminPassword", json!({"passwordHash": "x"})),
            ("AccountConfiguration", json!({"AutoSetupAdminAccounts": [{"passwordHash": "x"}]})),
            ("RotateFileVaultKey", json!({"FileVaultUnlock": {"Password": "x"}})),
            ("RotateFileVaultKey", json!({"RotateResult": {"EncryptedNewRecoveryKey": "x"}})),
            ("SecurityInfo", json!({"SecurityInfo": {"FDE_PersonalRecoveryKeyCMS": "x"}})),
            ("ActivationLockBypassCode", json!({"ActivationLockBypassCode": "x"})),
            ("InstallProfile", json!({"Payload": "x"})),
            ("TriggerEnhancedLogCollection", json!({"AppleCareToken": "x"})),
            ("NewerThanTheTable", json!({"Deep": [{"ClientSecret": "x"}]})),
            ("NewerThanTheTable", json!({"WiFiPSK": "x"})),
            ("NewerThanTheTable", json!({"apiKey": "x"})),
            ("NewerThanTheTable", json!({"Passphrase": "x"})),
            ("NewerThanTheTable", json!({"AWSSecretKey": "x"})),
            (
                "Settings",
                json!({"Settings": [{"Item": "ApplicationConfiguration", "Configuration": {"a": 1}}]}),
            ),
            ("InstallApplication", json!({"Configuration": {"licence": "x"}})),
            (
                "ManagedApplicationConfiguration",
                json!({"ApplicationConfigurations": [{"Configuration": {"a": "x"}}]}),
            ),
            ("ManagedApplicationFeedback", json!({"ManagedApplicationFeedback": [{"Feedback": {"a": "x"}}]})),
        ] {
            assert!(has_secrets(request_type, &json::from_json(&body).unwrap()), "{body}");
            assert_eq!(redact(request_type, &mut body.clone()).len(), 1, "{body}");
        }
    }

    #[test]
    fn what_only_sounds_secret_is_shown() {
        for body in [
            json!({"SetFirmwarePassword": {"PasswordChanged": true}}),
            json!({"SecurityInfo": {"PasscodePresent": true, "FDE_HasPersonalRecoveryKey": true}}),
            json!({"Users": [{"UserName": "a", "HasSecureToken": true}]}),
            json!({"Queries": ["PushToken", "UDID"]}),
            json!({"PayloadIdentifier": "a", "KeyType": "personal"}),
        ] {
            assert_eq!(redact("Any", &mut body.clone()), Vec::<String>::new(), "{body}");
            assert!(!has_secrets("Any", &json::from_json(&body).unwrap()), "{body}");
        }
    }
}
