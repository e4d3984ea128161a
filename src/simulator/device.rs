//! A simulated device: what it is, what is installed on it, how it is doing.
//!
//! What it does is told beside: [`super::enrollment`] (profile, SCEP, the first check-ins),
//! [`super::check_in`], [`super::connection`] (commands), [`super::answers`], [`super::install`] and
//! [`super::declarations`]. Tests and fleets hold a [`Device`] and call it as events would.
//!
//! **Invariant:** a device knows only what Apple's documents say it may know; it never looks at the
//! server's code or data.

use std::sync::Arc;

use plist::{Dictionary, Value};
use tokio::sync::mpsc;

use super::apple::Apple;
use super::ber::Lengths;
use super::certificate::Digest;
use super::cms::Form;
use super::declarations::{Engine, Update};
use super::identity::{Identity, Key};
use super::kind::Kind;
use super::profile::{Management, Profile};
use super::report::Meter;
use super::trust::Trust;
use super::wire::Wire;
use crate::clock::Clock;
use crate::id;

/// A device as Apple's would behave.
#[derive(Debug)]
pub struct Device {
    /// What kind it is.
    pub kind: Kind,
    /// UDID, in the platform's form.
    pub udid: String,
    /// Serial number.
    pub serial_number: String,
    /// DeviceName; `Settings` changes it.
    pub name: String,
    /// OSVersion; settable, so that an update can be played.
    pub os_version: String,
    /// BuildVersion; an update changes it with the version.
    pub build_version: String,
    /// Whether commands for supervised devices are obeyed.
    pub supervised: bool,
    /// Whether it waits in Setup Assistant for DeviceConfigured.
    pub awaiting_configuration: bool,
    /// Locked: almost every command is answered NotNow.
    pub locked: bool,
    /// Whether somebody set a passcode; ClearPasscode takes it away.
    pub passcode: bool,
    /// Whether FileVault is on; Macs only.
    pub filevault: bool,
    /// The software update that a declaration has set going.
    pub update: Option<Update>,
    /// Why no update can be installed on it, if so.
    pub update_fault: Option<String>,
    /// Whether EnableLostMode was obeyed.
    pub lost: bool,
    /// How it signs its messages.
    pub form: Form,
    /// How it writes its SCEP request.
    pub scep_lengths: Lengths,
    /// Whether it presents its identity in TLS; without, `Mdm-Signature` alone must do.
    pub presents_certificate: bool,
    /// A key to use instead of generating one, since generating is slow.
    pub key: Option<Arc<Key>>,
    /// Device channel tokens.
    pub push: Push,
    /// UnlockToken of the iOS family.
    pub unlock_token: Option<Vec<u8>>,
    /// A Mac's bootstrap token.
    pub bootstrap_token: Vec<u8>,
    /// A Mac's user, or nobody.
    pub user: Option<User>,
    /// What the enrollment profile said; `None` when not enrolled.
    pub management: Option<Management>,
    /// The certificate that it speaks with.
    pub identity: Option<Identity>,
    /// Installed profiles, the enrollment profile among them.
    pub profiles: Vec<Profile>,
    /// The declarative management engine of the device channel.
    pub declarations: Engine,
    /// Keys of `OrganizationInfo` that `Settings` stored.
    pub(super) organization: Option<Dictionary>,
    pub(super) host_name: Option<String>,
    pub(super) time_zone: String,
    pub(super) clock: Clock,
    pub(super) wire: Wire,
    pub(super) meter: Meter,
    pub(super) trust: Trust,
    pub(super) ear: Option<Ear>,
}

/// How a device hears pushes: where it registers its tokens, and where it is told of pushes.
#[derive(Clone, Debug)]
pub(super) struct Ear {
    pub(super) apple: Apple,
    pub(super) woken: mpsc::UnboundedSender<Channel>,
}

/// What a channel is woken by.
#[derive(Clone, Debug)]
pub struct Push {
    /// The APNs token, 32 bytes.
    pub token: [u8; 32],
    /// The secret in the notification.
    pub magic: String,
}

impl Push {
    fn random() -> Self {
        Self { token: id::random(), magic: id::uuid() }
    }
}

/// A person who is logged in to a Mac.
#[derive(Debug)]
pub struct User {
    /// GeneratedUID.
    pub id: String,
    /// Account name.
    pub short_name: String,
    /// Full name.
    pub long_name: String,
    /// User channel tokens.
    pub push: Push,
    /// The declarative management engine of the user channel.
    pub declarations: Engine,
}

/// Which of a device's channels speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The device.
    Device,
    /// The user of a Mac.
    User,
}

impl Device {
    /// Lets a name lead to an address, as the name servers of the device's own network may.
    pub fn resolve(&mut self, name: &str, address: std::net::IpAddr) {
        self.wire.resolve(name, address);
    }

    /// A new device that trusts `trust`, out of its box; `number` only varies its name.
    pub fn new(kind: Kind, number: usize, trust: &Trust, clock: Clock) -> Self {
        let name = kind.name(number);
        let user = (kind == Kind::Mac).then(|| {
            let long_name = name.split('’').next().unwrap_or("User").to_owned();
            User {
                id: id::uuid(),
                short_name: long_name.to_lowercase(),
                long_name,
                push: Push::random(),
                declarations: Engine::default(),
            }
        });
        // macOS signs the body itself; the others sign attributes, among them the time.
        let form = Form { digest: Digest::Sha256, signed_attributes: kind != Kind::Mac };
        Self {
            kind,
            udid: kind.udid(),
            serial_number: Kind::serial_number(),
            name,
            os_version: kind.model().os_version.to_owned(),
            build_version: kind.model().build_version.to_owned(),
            supervised: kind == Kind::Mac,
            awaiting_configuration: false,
            locked: false,
            passcode: kind.has_unlock_token(),
            filevault: kind == Kind::Mac,
            update: None,
            update_fault: None,
            lost: false,
            form,
            scep_lengths: if kind == Kind::Mac { Lengths::Definite } else { Lengths::Indefinite },
            presents_certificate: true,
            key: None,
            push: Push::random(),
            unlock_token: kind.has_unlock_token().then(|| id::random::<64>().repeat(16)),
            bootstrap_token: id::random::<32>().to_vec(),
            user,
            management: None,
            identity: None,
            profiles: Vec::new(),
            declarations: Engine::default(),
            organization: None,
            host_name: None,
            time_zone: "Europe/Berlin".to_owned(),
            wire: Wire::new(trust.clone(), clock.clone()),
            meter: Meter::new(),
            trust: trust.clone(),
            ear: None,
            clock,
        }
    }

    /// As [`Device::new`], counting what it does in `meter`.
    pub fn measured(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// From now on every token is registered with `apple` before the server is told of it; what is
    /// received is the channel that a push was for.
    pub fn hear(&mut self, apple: &Apple) -> mpsc::UnboundedReceiver<Channel> {
        let (woken, pushes) = mpsc::unbounded_channel();
        self.ear = Some(Ear { apple: apple.clone(), woken });
        pushes
    }

    /// Whether a management profile is installed.
    pub fn is_enrolled(&self) -> bool {
        self.management.is_some()
    }

    /// Name and UDID, for reports.
    pub fn label(&self) -> String {
        format!("{} ({})", self.name, self.udid)
    }

    /// The channels that speak: the device, and the user of a Mac if the server takes user connections.
    pub fn channels(&self) -> Vec<Channel> {
        let per_user = self.management.as_ref().is_some_and(|m| m.has("com.apple.mdm.per-user-connections"));
        if per_user && self.user.is_some() {
            vec![Channel::Device, Channel::User]
        } else {
            vec![Channel::Device]
        }
    }

    /// The keys that name the channel in every message.
    pub(super) fn identify(&self, channel: Channel) -> Dictionary {
        let mut keys = Dictionary::new();
        keys.insert("UDID".into(), Value::from(self.udid.as_str()));
        if let (Channel::User, Some(user)) = (channel, &self.user) {
            keys.insert("UserID".into(), Value::from(user.id.as_str()));
            keys.insert("UserShortName".into(), Value::from(user.short_name.as_str()));
            keys.insert("UserLongName".into(), Value::from(user.long_name.as_str()));
        }
        keys
    }

    /// Removes management with everything that it brought: profiles, identity, declarations.
    pub(super) fn forget_management(&mut self) {
        self.management = None;
        self.identity = None;
        self.profiles.clear();
        self.declarations = Engine::default();
        self.update = None;
        if let Some(user) = &mut self.user {
            user.declarations = Engine::default();
        }
        self.wire.present(None);
    }

    /// Erases it: a device out of its box with the same hardware.
    pub(super) fn erase(&mut self) {
        let mut fresh = Self::new(self.kind, 0, &self.trust, self.clock.clone()).measured(&self.meter);
        fresh.udid.clone_from(&self.udid);
        fresh.serial_number.clone_from(&self.serial_number);
        fresh.supervised = self.supervised;
        fresh.update_fault.clone_from(&self.update_fault);
        // Erasing takes the data, not the system.
        fresh.os_version.clone_from(&self.os_version);
        fresh.build_version.clone_from(&self.build_version);
        fresh.key.clone_from(&self.key);
        fresh.ear = self.ear.take();
        *self = fresh;
    }
}
