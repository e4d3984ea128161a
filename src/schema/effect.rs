//! What a command does to people: who may send it, and whether it waits its turn.
//!
//! Called by the API before it queues, and by the queue. Apple's tables say neither, so the lists are
//! ours.
//!
//! **Invariant:** a command that is on no list needs an administrator and waits its turn.

/// Commands that only ask, make the device ask us, or start it anew. None shows a secret, deletes or
/// configures anything, or says where somebody is.
const HARMLESS: [&str; 23] = [
    "ActiveNSExtensions",
    "AvailableOSUpdates",
    "CertificateList",
    "ContentCachingInformation",
    "DeclarativeManagement",
    "DeviceInformation",
    "InstalledApplicationList",
    "LOMSetupRequest",
    "ManagedApplicationAttributes",
    "ManagedApplicationConfiguration",
    "ManagedApplicationList",
    "ManagedMediaList",
    "NSExtensionMappings",
    "OSUpdateStatus",
    "ProfileList",
    "ProvisioningProfileList",
    // A device that was restarted or shut down is what it was before, for whoever held it.
    "RestartDevice",
    "Restrictions",
    "ScheduleOSUpdateScan",
    "SecurityInfo",
    "ShutDownDevice",
    "UserList",
    "ValidateApplications",
];

/// Commands for a device that is lost, stolen, or whose user stands before a locked screen.
const URGENT: [&str; 7] = [
    "ClearPasscode",
    "DeviceLocation",
    "DeviceLock",
    "DisableLostMode",
    "EnableLostMode",
    "EraseDevice",
    "PlayLostModeSound",
];

/// Whether a token needs the scope `admin` for it; otherwise `command` suffices.
pub fn needs_admin(request_type: &str) -> bool {
    !HARMLESS.contains(&request_type)
}

/// Whether it goes before what is already waiting.
pub fn urgent(request_type: &str) -> bool {
    URGENT.contains(&request_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::commands::command;

    #[test]
    fn every_listed_command_is_one_of_apples() {
        for name in HARMLESS.iter().chain(&URGENT) {
            assert!(command(name).is_some(), "{name}");
        }
    }

    #[test]
    fn asking_needs_no_administrator_and_taking_does() {
        for name in [
            "DeviceInformation",
            "SecurityInfo",
            "ProfileList",
            "DeclarativeManagement",
            "RestartDevice",
            "ShutDownDevice",
        ] {
            assert!(!needs_admin(name), "{name}");
        }
        for name in [
            "EraseDevice",
            "DeviceLock",
            "ClearPasscode",
            "RemoveProfile",
            "InstallProfile",
            "InstallApplication",
            "Settings",
            "ScheduleOSUpdate",
            "LogOutUser",
            "ActivationLockBypassCode",
            "VerifyRecoveryLock",
            "DeviceLocation",
            "ManagedApplicationFeedback",
            "Unheardof",
        ] {
            assert!(needs_admin(name), "{name}");
        }
        assert!(urgent("EraseDevice") && !urgent("DeviceInformation"));
    }
}
