//! What a device refuses before it looks at a command: platform, channel, access right, supervision.
//!
//! The rules are those of Apple's schema (`supportedOS`, access rights of `com.apple.mdm`);
//! [`super::answers`] asks first of all.
//!
//! **Invariant:** a refusal is an Error with an ErrorChain and changes nothing on the device.

use super::answers::Answer;
use super::device::{Channel, Device};
use super::kind::Kind;

impl Device {
    /// What the device will not do at all: wrong platform, wrong channel, no right, not supervised.
    pub(super) fn refuses(&self, kind: &str, channel: Channel) -> Option<Answer> {
        let Ok(management) = self.managed() else {
            return Some(Answer::error(12005, "The device is not managed."));
        };
        let is_mac = self.kind == Kind::Mac;
        let exists = match kind {
            "Restrictions" | "ClearRestrictionsPassword" => !is_mac,
            "ClearPasscode" => self.kind.has_unlock_token(),
            "UserList" => is_mac,
            "ActivationLockBypassCode" | "ClearActivationLockBypassCode" => {
                !matches!(self.kind, Kind::AppleTv | Kind::Watch)
            }
            "DeviceLock" => self.kind != Kind::AppleTv,
            "EnableLostMode" | "DisableLostMode" | "DeviceLocation" | "PlayLostModeSound" => {
                matches!(self.kind, Kind::IPhone | Kind::IPad)
            }
            "RestartDevice" => !matches!(self.kind, Kind::Watch | Kind::Vision),
            "ShutDownDevice" => matches!(self.kind, Kind::IPhone | Kind::IPad | Kind::Mac),
            _ => true,
        };
        let on_channel = channel == Channel::Device
            || matches!(
                kind,
                "CertificateList"
                    | "DeclarativeManagement"
                    | "DeviceInformation"
                    | "InstallProfile"
                    | "InstalledApplicationList"
                    | "ManagedApplicationList"
                    | "ProfileList"
                    | "RemoveProfile"
                    | "SecurityInfo"
                    | "Settings"
            );
        if !exists || !on_channel {
            return Some(unknown(kind));
        }
        let right = match kind {
            "ProfileList" | "CertificateList" => 1,
            "InstallProfile" | "RemoveProfile" => 2,
            "DeviceLock" | "ClearPasscode" | "RestartDevice" | "ShutDownDevice" => 4,
            "EraseDevice" => 8,
            "ProvisioningProfileList" => 64,
            "InstalledApplicationList" => 256,
            "Restrictions" => 512,
            "SecurityInfo" => 1024,
            "Settings" => 2048,
            "ManagedApplicationList" => 4096,
            _ => 0,
        };
        if management.access_rights & right != right {
            return Some(Answer::error(12007, "The management profile does not allow this command."));
        }
        let supervised_only = match kind {
            "RestartDevice" | "ShutDownDevice" => !is_mac,
            "ActivationLockBypassCode"
            | "ClearActivationLockBypassCode"
            | "ClearRestrictionsPassword"
            | "EnableLostMode"
            | "DisableLostMode"
            | "DeviceLocation"
            | "PlayLostModeSound" => true,
            _ => false,
        };
        (supervised_only && !self.supervised).then(|| Answer::error(12026, "The device is not supervised."))
    }
}

/// The answer to a request type that this device, or every device, does not know.
pub(super) fn unknown(kind: &str) -> Answer {
    Answer::error(12021, &format!("“{}” is not a valid request type.", crate::id::printable(kind)))
}
