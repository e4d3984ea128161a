//! Inventory: DeviceInformation, SecurityInfo and the lists (Apple: "Get device information" and
//! beside it). Keys that a kind of device does not have are missing, as on real ones.
//!
//! **Invariant:** answers depend on the device alone, so two identical queries get identical answers
//! unless something changed in between.

use plist::{Dictionary, Value};

use super::answers::Answer;
use super::device::Device;
use super::kind::Kind;
use crate::id;

/// Applications that come with the system or were installed by somebody: identifier, name, version, bytes.
const APPLICATIONS: [(&str, &str, &str, u64); 4] = [
    ("com.apple.Pages", "Pages", "14.4", 562_348_032),
    ("com.apple.Keynote", "Keynote", "14.4", 731_906_048),
    ("com.example.timetable", "Timetable", "3.2.1", 48_234_496),
    ("com.example.library", "Library", "1.0.4", 20_971_520),
];

impl Device {
    /// DeviceInformation: the queries that make sense for this kind, in the order asked.
    pub(super) fn device_information(&self, queries: &[Value]) -> Answer {
        let mut responses = Dictionary::new();
        for query in queries.iter().filter_map(Value::as_string) {
            if let Some(value) = self.query(query) {
                responses.insert(query.to_owned(), value);
            }
        }
        Answer::with([("QueryResponses", Value::Dictionary(responses))])
    }

    fn query(&self, query: &str) -> Option<Value> {
        let model = self.kind.model();
        let is_mac = self.kind == Kind::Mac;
        let when = |condition: bool, value: Value| condition.then_some(value);
        match query {
            "UDID" => Some(self.udid.as_str().into()),
            "ProvisioningUDID" => when(is_mac, self.udid.as_str().into()),
            "SerialNumber" => Some(self.serial_number.as_str().into()),
            "DeviceName" => Some(self.name.as_str().into()),
            "OSVersion" => Some(self.os_version.as_str().into()),
            "BuildVersion" | "SupplementalBuildVersion" => Some(self.build_version.as_str().into()),
            "ModelName" => Some(model.model_name.into()),
            "Model" => Some(if is_mac { model.product_name } else { model.model }.into()),
            "ModelNumber" => Some(model.model.into()),
            "ProductName" => Some(model.product_name.into()),
            "IsAppleSilicon" | "SupportsiOSAppInstalls" => when(is_mac, true.into()),
            "SystemIntegrityProtectionEnabled" => when(is_mac, true.into()),
            "PINRequiredForEraseDevice" | "PINRequiredForDeviceLock" => when(is_mac, false.into()),
            "SupportsLOMDevice" => when(is_mac, false.into()),
            "HostName" => when(is_mac, self.host_name.as_deref().unwrap_or("localhost").into()),
            "LocalHostName" => when(is_mac, format!("{}.local", self.serial_number).into()),
            "ActiveManagedUsers" => {
                let users = self.user.iter().map(|user| Value::from(user.id.as_str())).collect();
                when(is_mac, Value::Array(users))
            }
            "AutoSetupAdminAccounts" => when(is_mac, Value::Array(Vec::new())),
            "DeviceCapacity" => Some(model.capacity.into()),
            "AvailableDeviceCapacity" => Some((model.capacity * 0.75).into()),
            "BatteryLevel" => when(self.kind.has_battery(), 0.87.into()),
            "HasBattery" => when(is_mac, true.into()),
            "IsSupervised" => Some(self.supervised.into()),
            "IsMultiUser" => when(self.kind == Kind::IPad, false.into()),
            "AwaitingConfiguration" => Some(self.awaiting_configuration.into()),
            "IsActivationLockEnabled" => when(self.kind != Kind::AppleTv, false.into()),
            "IsActivationLockSupported" => when(is_mac, true.into()),
            "IsDeviceLocatorServiceEnabled" => when(self.is_handheld(), false.into()),
            "IsMDMLostModeEnabled" => when(self.is_handheld(), self.lost.into()),
            "IsDoNotDisturbInEffect" | "IsCloudBackupEnabled" => when(self.is_handheld(), false.into()),
            "iTunesStoreAccountIsActive" => Some(false.into()),
            "DiagnosticSubmissionEnabled" | "AppAnalyticsEnabled" => when(!is_mac, false.into()),
            "TimeZone" => Some(self.time_zone.as_str().into()),
            "PushToken" => Some(Value::Data(self.push.token.to_vec())),
            "EASDeviceIdentifier" => when(self.is_handheld(), self.address("eas", 16).into()),
            "DeviceID" => when(self.kind == Kind::AppleTv, self.hardware_address("device").into()),
            "OrganizationInfo" => self.organization.clone().map(Value::Dictionary),
            "MDMOptions" => Some(Value::Dictionary(Dictionary::new())),
            "WiFiMAC" => Some(self.hardware_address("wifi").into()),
            "BluetoothMAC" => Some(self.hardware_address("bluetooth").into()),
            "EthernetMAC" => when(self.kind == Kind::AppleTv, self.hardware_address("ethernet").into()),
            "SoftwareUpdateDeviceID" => Some(model.product_name.into()),
            "AccessibilitySettings" => when(self.is_handheld(), Value::Dictionary(Dictionary::new())),
            _ if self.kind.has_cellular() => self.cellular(query),
            _ => None,
        }
    }

    fn is_handheld(&self) -> bool {
        matches!(self.kind, Kind::IPhone | Kind::IPad)
    }

    fn cellular(&self, query: &str) -> Option<Value> {
        match query {
            "IMEI" => Some(self.imei().into()),
            "CellularTechnology" => Some(1.into()),
            "ModemFirmwareVersion" => Some("1.60.02".into()),
            "DataRoamingEnabled"
            | "VoiceRoamingEnabled"
            | "PersonalHotspotEnabled"
            | "IsRoaming"
            | "IsNetworkTethered" => Some(false.into()),
            "ServiceSubscriptions" => {
                let subscription = Dictionary::from_iter([
                    ("Slot", Value::from("CTSubscriptionSlotOne")),
                    ("Label", "Primary".into()),
                    ("IMEI", self.imei().into()),
                    ("IsDataPreferred", true.into()),
                    ("IsVoicePreferred", true.into()),
                    ("IsRoaming", false.into()),
                ]);
                Some(Value::Array(vec![Value::Dictionary(subscription)]))
            }
            _ => None,
        }
    }

    /// SecurityInfo, as the family has it.
    pub(super) fn security_info(&self) -> Answer {
        let management = Dictionary::from_iter([
            ("EnrolledViaDEP", Value::from(false)),
            ("IsUserEnrollment", false.into()),
            ("UserApprovedEnrollment", true.into()),
            ("IsActivationLockManageable", self.supervised.into()),
        ]);
        let mut info = Dictionary::from_iter([("ManagementStatus", Value::Dictionary(management))]);
        if self.kind == Kind::Mac {
            let secure_boot =
                Dictionary::from_iter([("SecureBootLevel", "full"), ("ExternalBootLevel", "allowed")]);
            let firewall = Dictionary::from_iter([
                ("FirewallEnabled", Value::from(true)),
                ("BlockAllIncoming", false.into()),
                ("StealthMode", false.into()),
                ("Applications", Value::Array(Vec::new())),
            ]);
            info.extend(Dictionary::from_iter([
                ("FDE_Enabled", Value::from(self.filevault)),
                ("FDE_HasPersonalRecoveryKey", self.filevault.into()),
                ("FDE_HasInstitutionalRecoveryKey", false.into()),
                ("SystemIntegrityProtectionEnabled", true.into()),
                ("AuthenticatedRootVolumeEnabled", true.into()),
                ("RemoteDesktopEnabled", false.into()),
                ("IsRecoveryLockEnabled", false.into()),
                ("BootstrapTokenAllowedForAuthentication", "allowed".into()),
                ("BootstrapTokenRequiredForSoftwareUpdate", true.into()),
                ("BootstrapTokenRequiredForKernelExtensionApproval", true.into()),
                ("SecureBoot", Value::Dictionary(secure_boot)),
                ("FirewallSettings", Value::Dictionary(firewall)),
            ]));
        } else {
            info.extend(Dictionary::from_iter([
                ("HardwareEncryptionCaps", Value::from(3)),
                ("PasscodePresent", self.passcode.into()),
                ("PasscodeCompliant", true.into()),
                ("PasscodeCompliantWithProfiles", true.into()),
                ("PasscodeLockGracePeriod", 0.into()),
                ("PasscodeLockGracePeriodEnforced", 0.into()),
                ("AutoLockTime", 120.into()),
            ]));
        }
        Answer::with([("SecurityInfo", Value::Dictionary(info))])
    }

    /// InstalledApplicationList, filtered by `Identifiers` and `ManagedAppsOnly`.
    pub(super) fn installed_applications(&self, keys: &Dictionary) -> Answer {
        let wanted: Option<Vec<&str>> = keys
            .get("Identifiers")
            .and_then(Value::as_array)
            .map(|identifiers| identifiers.iter().filter_map(Value::as_string).collect());
        let managed_only = keys.get("ManagedAppsOnly").and_then(Value::as_boolean).unwrap_or(false);
        let list = APPLICATIONS
            .iter()
            .filter(|(identifier, ..)| wanted.as_ref().is_none_or(|wanted| wanted.contains(identifier)))
            .filter(|_| !managed_only)
            .map(|(identifier, name, version, size)| {
                Value::Dictionary(Dictionary::from_iter([
                    ("Identifier", Value::from(*identifier)),
                    ("Name", (*name).into()),
                    ("Version", (*version).into()),
                    ("ShortVersion", (*version).into()),
                    ("BundleSize", (*size).into()),
                    ("Installing", false.into()),
                    ("AppStoreVendable", true.into()),
                ]))
            })
            .collect();
        Answer::with([("InstalledApplicationList", Value::Array(list))])
    }

    /// CertificateList: the identity and the installed roots.
    pub(super) fn certificate_list(&self) -> Answer {
        let certificate = |name: &str, der: &[u8], is_identity: bool| {
            Value::Dictionary(Dictionary::from_iter([
                ("CommonName", Value::from(name)),
                ("Data", Value::Data(der.to_vec())),
                ("IsIdentity", is_identity.into()),
            ]))
        };
        let mut list: Vec<Value> = Vec::new();
        list.extend(self.identity.iter().map(|own| certificate("MDM Identity", &own.certificate, true)));
        let roots = self.management.iter().flat_map(|management| &management.roots);
        list.extend(roots.map(|root| certificate("Root", root, false)));
        Answer::with([("CertificateList", Value::Array(list))])
    }

    /// UserList of a Mac.
    pub(super) fn user_list(&self) -> Answer {
        let users = self.user.iter().map(|user| {
            Value::Dictionary(Dictionary::from_iter([
                ("UserName", Value::from(user.short_name.as_str())),
                ("FullName", user.long_name.as_str().into()),
                ("UID", 501.into()),
                ("UserGUID", user.id.as_str().into()),
                ("IsLoggedIn", true.into()),
                ("MobileAccount", false.into()),
                ("HasSecureToken", true.into()),
            ]))
        });
        Answer::with([("Users", Value::Array(users.collect()))])
    }

    /// Digits that are always the same for this device and `purpose`.
    fn address(&self, purpose: &str, bytes: usize) -> String {
        let hash = id::sha256(format!("{purpose}{}", self.udid).as_bytes());
        id::hex(&hash[..bytes.min(hash.len())])
    }

    fn hardware_address(&self, purpose: &str) -> String {
        let digits = self.address(purpose, 5);
        let octets: Vec<&str> = (0..5).map(|n| &digits[2 * n..2 * n + 2]).collect();
        format!("f0:{}", octets.join(":"))
    }

    /// Fourteen digits and their Luhn check digit, spaced as devices write them.
    fn imei(&self) -> String {
        let hash = id::sha256(self.serial_number.as_bytes());
        let digits: Vec<u32> =
            [3, 5].into_iter().chain(hash.iter().take(12).map(|byte| u32::from(byte % 10))).collect();
        let sum: u32 = digits
            .iter()
            .enumerate()
            .map(|(at, digit)| if at % 2 == 0 { *digit } else { digit * 2 / 10 + digit * 2 % 10 })
            .sum();
        let text: String = digits.iter().chain([&((10 - sum % 10) % 10)]).map(u32::to_string).collect();
        format!("{} {} {} {}", &text[..2], &text[2..8], &text[8..14], &text[14..])
    }
}
