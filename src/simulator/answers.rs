//! How a device answers commands (Apple: "Commands and queries"; keys as in Apple's schema).
//!
//! [`super::connection`] hands every command to [`Device::carry_out`]. Inventory is in
//! [`super::information`], profiles in [`super::install`], `Settings` in [`super::settings`].
//!
//! **Invariant:** every command is answered, unknown ones with an ErrorChain; nothing that the
//! server sends stops the device.

use plist::{Dictionary, Value};

use super::connection::Command;
use super::device::{Channel, Device};
use super::kind::Kind;
use super::profile::Profile;
use super::rights::unknown;

/// What a device says about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Acknowledged,
    /// Not done; the ErrorChain says why.
    Error,
    /// The command is not as Apple defines it.
    CommandFormatError,
    /// Not now; the device comes again by itself.
    NotNow,
}

impl Status {
    /// Apple's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "Acknowledged",
            Self::Error => "Error",
            Self::CommandFormatError => "CommandFormatError",
            Self::NotNow => "NotNow",
        }
    }
}

/// A status with the keys that go with it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: Status,
    /// The other keys of the report.
    pub keys: Dictionary,
    /// Whether the device erases itself once it has answered.
    pub(super) ends_management: bool,
}

impl Answer {
    /// Acknowledged, with keys.
    pub fn with<const N: usize>(keys: [(&str, Value); N]) -> Self {
        Self { status: Status::Acknowledged, keys: Dictionary::from_iter(keys), ends_management: false }
    }

    /// Acknowledged, with nothing more to say.
    pub fn done() -> Self {
        Self::with([])
    }

    /// NotNow.
    pub fn not_now() -> Self {
        Self { status: Status::NotNow, ..Self::done() }
    }

    /// Error, with one link of an ErrorChain.
    pub fn error(code: i64, words: &str) -> Self {
        Self { status: Status::Error, keys: error_chain(code, words), ends_management: false }
    }

    fn format_error(words: &str) -> Self {
        Self { status: Status::CommandFormatError, ..Self::error(12022, words) }
    }
}

pub(super) fn error_chain(code: i64, words: &str) -> Dictionary {
    let link = Dictionary::from_iter([
        ("ErrorCode", Value::from(code)),
        ("ErrorDomain", Value::from("MCMDMErrorDomain")),
        ("LocalizedDescription", Value::from(words)),
        ("USEnglishDescription", Value::from(words)),
    ]);
    Dictionary::from_iter([("ErrorChain", Value::Array(vec![Value::Dictionary(link)]))])
}

impl Device {
    /// Carries out a command and says how it went.
    pub(super) async fn carry_out(&mut self, command: &Command, channel: Channel) -> Answer {
        let kind = command.request_type.as_str();
        if let Some(refusal) = self.refuses(kind, channel) {
            return refusal;
        }
        if self.locked && !works_while_locked(kind) {
            return Answer::not_now();
        }
        let keys = &command.keys;
        match kind {
            "DeviceInformation" => match keys.get("Queries").and_then(Value::as_array) {
                Some(queries) => self.device_information(queries),
                None => Answer::format_error("Queries is missing"),
            },
            "SecurityInfo" => self.security_info(),
            "InstalledApplicationList" => self.installed_applications(keys),
            "ManagedApplicationList" => {
                Answer::with([("ManagedApplicationList", Value::Dictionary(Dictionary::new()))])
            }
            "CertificateList" => self.certificate_list(),
            "ProvisioningProfileList" => {
                Answer::with([("ProvisioningProfileList", Value::Array(Vec::new()))])
            }
            "UserList" => self.user_list(),
            "Restrictions" => Answer::with([("GlobalRestrictions", Value::Dictionary(Dictionary::new()))]),
            "ProfileList" => self.profile_list(keys),
            "InstallProfile" => match keys.get("Payload").and_then(Value::as_data) {
                Some(payload)
                    if Profile::read(payload).is_ok_and(|profile| self.is_declared(&profile.identifier)) =>
                {
                    Answer::error(4001, "The profile is managed by a declaration.")
                }
                Some(payload) => self.install_profile(payload).await,
                None => Answer::format_error("Payload is missing"),
            },
            "RemoveProfile" => match super::profile::string(keys, "Identifier") {
                Some(identifier) => self.remove_profile(identifier),
                None => Answer::format_error("Identifier is missing"),
            },
            "Settings" => match keys.get("Settings").and_then(Value::as_array) {
                Some(items) => self.change_settings(items),
                None => Answer::format_error("Settings is missing"),
            },
            "DeclarativeManagement" => self.declarative_management(keys, channel),
            "DeviceConfigured" => {
                self.awaiting_configuration = false;
                Answer::done()
            }
            "DeviceLock" => self.lock(keys),
            "ClearPasscode" => match keys.get("UnlockToken").and_then(Value::as_data) {
                None => Answer::format_error("UnlockToken is missing"),
                Some(token) if Some(token) == self.unlock_token.as_deref() => {
                    self.passcode = false;
                    self.locked = false;
                    Answer::done()
                }
                Some(_) => Answer::error(12004, "The unlock token is not valid."),
            },
            "EraseDevice" if self.kind == Kind::Mac && !is_pin(keys) => {
                Answer::format_error("PIN must have six characters")
            }
            "EraseDevice" => Answer { ends_management: true, ..Answer::done() },
            "ActivationLockBypassCode" => {
                Answer::with([("ActivationLockBypassCode", Value::from(self.bypass_code()))])
            }
            "EnableLostMode" => {
                self.lost = true;
                Answer::done()
            }
            "DisableLostMode" => {
                self.lost = false;
                Answer::done()
            }
            "DeviceLocation" | "PlayLostModeSound" if !self.lost => {
                Answer::error(12069, "The device is not in Lost Mode.")
            }
            "DeviceLocation" => Answer::with([
                ("Latitude", Value::from(52.52)),
                ("Longitude", Value::from(13.405)),
                ("HorizontalAccuracy", Value::from(12.0)),
                ("VerticalAccuracy", Value::from(8.0)),
                ("Altitude", Value::from(38.0)),
                ("Speed", Value::from(-1.0)),
                ("Course", Value::from(-1.0)),
                ("Timestamp", Value::from(crate::clock::rfc3339(self.clock.now()))),
            ]),
            "PlayLostModeSound"
            | "RestartDevice"
            | "ShutDownDevice"
            | "ClearRestrictionsPassword"
            | "ClearActivationLockBypassCode" => Answer::done(),
            _ => unknown(kind),
        }
    }

    fn lock(&mut self, keys: &Dictionary) -> Answer {
        if self.kind == Kind::Mac && !is_pin(keys) {
            return Answer::format_error("PIN must have six characters");
        }
        let has_passcode = self.passcode || self.kind == Kind::Mac;
        self.locked = has_passcode;
        if self.kind == Kind::Mac {
            return Answer::done();
        }
        let result = if has_passcode { "Success" } else { "NoPasscodeSet" };
        Answer::with([("MessageResult", Value::from(result))])
    }

    /// Five groups of five and one of six, always the same for one device.
    fn bypass_code(&self) -> String {
        let digits = crate::id::hex(&crate::id::sha256(self.serial_number.as_bytes())).to_uppercase();
        let groups: Vec<&str> =
            [(0, 5), (5, 10), (10, 14), (14, 18), (18, 22), (22, 26)].map(|(a, b)| &digits[a..b]).to_vec();
        groups.join("-")
    }
}

/// macOS demands exactly six characters.
fn is_pin(keys: &Dictionary) -> bool {
    super::profile::string(keys, "PIN").is_some_and(|pin| pin.len() == 6)
}

fn works_while_locked(kind: &str) -> bool {
    matches!(
        kind,
        "DeviceLock"
            | "EraseDevice"
            | "ClearPasscode"
            | "EnableLostMode"
            | "DisableLostMode"
            | "DeviceLocation"
            | "PlayLostModeSound"
            | "RestartDevice"
            | "ShutDownDevice"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::simulator::profile::{Management, tests::enrollment};
    use crate::simulator::trust::Trust;

    fn enrolled(kind: Kind) -> Device {
        let mut device = Device::new(kind, 0, &Trust::nobody(), Clock::set_to(1_800_000_000));
        let profile = Profile::read(&enrollment(|_| ())).unwrap();
        device.management = Some(Management::read(&profile).unwrap());
        device.profiles.push(profile);
        device
    }

    async fn ask<const N: usize>(device: &mut Device, kind: &str, keys: [(&str, Value); N]) -> Answer {
        let command =
            Command { uuid: "1".into(), request_type: kind.into(), keys: Dictionary::from_iter(keys) };
        device.carry_out(&command, Channel::Device).await
    }

    #[tokio::test]
    async fn a_locked_device_answers_not_now_but_can_be_unlocked() {
        let mut phone = enrolled(Kind::IPhone);
        let locked = ask(&mut phone, "DeviceLock", []).await;
        assert_eq!(locked.keys.get("MessageResult").and_then(Value::as_string), Some("Success"));
        assert_eq!(ask(&mut phone, "ProfileList", []).await.status, Status::NotNow);
        let wrong = ask(&mut phone, "ClearPasscode", [("UnlockToken", Value::Data(vec![1]))]).await;
        assert_eq!(wrong.status, Status::Error);
        let token = Value::Data(phone.unlock_token.clone().unwrap());
        assert_eq!(
            ask(&mut phone, "ClearPasscode", [("UnlockToken", token)]).await.status,
            Status::Acknowledged
        );
        assert_eq!(ask(&mut phone, "ProfileList", []).await.status, Status::Acknowledged);
    }

    #[tokio::test]
    async fn unknown_and_impossible_commands_are_answered_with_an_error_chain() {
        let mut television = enrolled(Kind::AppleTv);
        for kind in ["MakeCoffee", "ClearPasscode", "UserList", "RestartDevice"] {
            let answer = ask(&mut television, kind, []).await;
            assert_eq!(answer.status, Status::Error, "{kind}");
            assert!(answer.keys.contains_key("ErrorChain"));
        }
        assert_eq!(ask(&mut television, "InstallProfile", []).await.status, Status::CommandFormatError);
    }

    #[tokio::test]
    async fn a_location_is_told_only_in_lost_mode() {
        let mut phone = enrolled(Kind::IPhone);
        phone.supervised = true;
        assert_eq!(ask(&mut phone, "DeviceLocation", []).await.status, Status::Error);
        ask(&mut phone, "EnableLostMode", []).await;
        assert!(ask(&mut phone, "DeviceLocation", []).await.keys.contains_key("Latitude"));
    }

    #[tokio::test]
    async fn queries_that_make_no_sense_for_the_kind_are_missing() {
        let queries = ["UDID", "IMEI", "HostName", "BatteryLevel", "NoSuchQuery"].map(Value::from).to_vec();
        let keys = |kind| {
            let device = enrolled(kind);
            let answer = device.device_information(&queries).keys;
            let found = answer.get("QueryResponses").and_then(Value::as_dictionary).unwrap();
            found.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(keys(Kind::IPhone), ["UDID", "IMEI", "BatteryLevel"]);
        assert_eq!(keys(Kind::AppleTv), ["UDID"]);
        assert_eq!(keys(Kind::Mac), ["UDID", "HostName", "BatteryLevel"]);
    }

    #[tokio::test]
    async fn profiles_are_installed_replaced_listed_and_removed() {
        let mut mac = enrolled(Kind::Mac);
        let profile = br#"<plist version="1.0"><dict><key>PayloadType</key><string>Configuration</string>
            <key>PayloadVersion</key><integer>1</integer><key>PayloadIdentifier</key><string>org.example.wifi</string>
            <key>PayloadUUID</key><string>A</string><key>PayloadContent</key><array/></dict></plist>"#;
        for _ in 0..2 {
            let answer = ask(&mut mac, "InstallProfile", [("Payload", Value::Data(profile.to_vec()))]).await;
            assert_eq!(answer.status, Status::Acknowledged);
        }
        let list = ask(&mut mac, "ProfileList", []).await;
        assert_eq!(list.keys.get("ProfileList").and_then(Value::as_array).unwrap().len(), 2);
        let remove = [("Identifier", Value::from("org.example.wifi"))];
        assert_eq!(ask(&mut mac, "RemoveProfile", remove.clone()).await.status, Status::Acknowledged);
        assert_eq!(ask(&mut mac, "RemoveProfile", remove).await.status, Status::Error);
        let broken = [("Payload", Value::Data(b"<plist>".to_vec()))];
        assert_eq!(ask(&mut mac, "InstallProfile", broken).await.status, Status::Error);
    }

    #[tokio::test]
    async fn settings_are_answered_item_by_item() {
        let mut mac = enrolled(Kind::Mac);
        let item = |name: &str, key: &str, value: &str| {
            Value::Dictionary(Dictionary::from_iter([("Item", name), (key, value)]))
        };
        let items = vec![
            item("DeviceName", "DeviceName", "Laboratory 1"),
            item("NoSuchItem", "x", "y"),
            item("HostName", "HostName", "laboratory-1"),
        ];
        let answer = ask(&mut mac, "Settings", [("Settings", Value::Array(items))]).await;
        let results = answer.keys.get("Settings").and_then(Value::as_array).unwrap();
        let statuses: Vec<_> = results
            .iter()
            .map(|r| r.as_dictionary().and_then(|r| r.get("Status")).and_then(Value::as_string).unwrap())
            .collect();
        assert_eq!(statuses, ["Acknowledged", "Error", "Acknowledged"]);
        assert_eq!((mac.name.as_str(), mac.host_name.as_deref()), ("Laboratory 1", Some("laboratory-1")));
    }
}
