//! The `Settings` command: one result for each item, by position (Apple: "Settings command").
//!
//! **Invariant:** a bad item fails alone; the command itself is Acknowledged.

use plist::{Dictionary, Value};

use super::answers::{Answer, error_chain};
use super::device::Device;
use super::kind::Kind;
use super::profile::string;

impl Device {
    pub(super) fn change_settings(&mut self, items: &[Value]) -> Answer {
        let results = items.iter().map(|item| {
            let changed = item.as_dictionary().map_or(Err("The item is no dictionary."), |i| self.change(i));
            let mut result = Dictionary::new();
            match changed {
                Ok(()) => {
                    result.insert("Status".into(), "Acknowledged".into());
                }
                Err(words) => {
                    result.insert("Status".into(), "Error".into());
                    result.extend(error_chain(12020, words));
                }
            }
            Value::Dictionary(result)
        });
        let results = results.collect();
        Answer::with([("Settings", Value::Array(results))])
    }

    fn change(&mut self, item: &Dictionary) -> Result<(), &'static str> {
        let is_mac = self.kind == Kind::Mac;
        let text = |key: &str| string(item, key).map(str::to_owned).ok_or("A key of the item is missing.");
        let needs_supervision = |supervised: bool| {
            if supervised { Ok(()) } else { Err("The device is not supervised.") }
        };
        match string(item, "Item") {
            Some("DeviceName") => {
                needs_supervision(self.supervised || is_mac)?;
                self.name = text("DeviceName")?;
            }
            Some("HostName") if is_mac => self.host_name = Some(text("HostName")?),
            Some("TimeZone") if !is_mac => {
                needs_supervision(self.supervised)?;
                self.time_zone = text("TimeZone")?;
            }
            Some("OrganizationInfo") => {
                self.organization = item.get("OrganizationInfo").and_then(Value::as_dictionary).cloned();
            }
            Some("Wallpaper" | "AccessibilitySettings" | "Bluetooth") => needs_supervision(self.supervised)?,
            Some("DataRoaming" | "VoiceRoaming" | "PersonalHotspot") if self.kind.has_cellular() => {}
            Some("MDMOptions" | "ApplicationConfiguration" | "ApplicationAttributes") => {}
            _ => return Err("The item is not known on this device."),
        }
        Ok(())
    }
}
