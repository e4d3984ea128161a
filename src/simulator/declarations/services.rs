//! Services of a Mac: managed configuration files and background tasks (Apple:
//! "ServicesConfigurationFiles", "ServicesBackgroundTasks", `services.background-task`).
//!
//! The data of both are zip archives, which are opened here with code of this side's own. The archive of a
//! service mirrors the root of the file system; that of a background task is expanded beneath its
//! TaskType, and its launchd property lists are loaded.
//!
//! **Invariant:** an archive that leads out of its place, or is not what its asset must say of it, changes
//! nothing.

use std::collections::BTreeMap;

use plist::{Dictionary, Value};
use serde_json::{Value as Json, json};

use super::assets::Asset;
use super::{Declaration, Engine, Reason};
use crate::simulator::device::{Channel, Device};

const CANNOT: &str = "Error.ConfigurationCannotBeApplied";
const PLACE: &str = "/var/db/ManagedConfigurationFiles/BackgroundTaskServices";
const MOST_ENTRIES: usize = 10_000;
/// Types of Apple's own services, and what each manages.
const MANAGED: [(&str, &[&str]); 9] = [
    ("com.apple.sshd", &["etc/ssh/"]),
    ("com.apple.sudo", &["etc/sudoers"]),
    ("com.apple.pam", &["etc/pam.d/"]),
    ("com.apple.cups", &["etc/cups/"]),
    ("com.apple.apache.httpd", &["etc/apache2/"]),
    ("com.apple.bash", &["etc/profile"]),
    ("com.apple.zsh", &["etc/zprofile", "etc/zlogin", "etc/zlogout", "etc/zshenv", "etc/zshrc"]),
    ("com.apple.cryptoTokenKit", &["etc/SmartcardLogin.plist"]),
    ("com.apple.authorization", &["Library/Security/"]),
];

/// An entry of an archive: its name, and its bytes unless they are compressed.
type Entries = BTreeMap<String, Option<Vec<u8>>>;

impl Device {
    /// The files that a service has on this Mac, by their paths; nothing while it has its own.
    pub fn service_files(&self, service_type: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let engine = &self.declarations;
        let mut found = engine.in_effect("services.configuration-files");
        let (_, declaration) = found.find(|(_, one)| one.payload["ServiceType"] == service_type)?;
        let data =
            engine.required_data(&declaration.payload["DataAssetReference"], &["application/zip"]).ok()?;
        let entries = open(data).ok()?.into_iter();
        Some(entries.filter_map(|(name, bytes)| Some((name, bytes?))).collect())
    }

    /// What the background tasks of declarations are, as `services.background-task` reports them.
    pub(super) fn background_tasks(&self, channel: Channel) -> Json {
        let engine = self.engine_of(channel);
        let mut list = Vec::new();
        for (identifier, declaration) in engine.in_effect("services.background-tasks") {
            for item in declaration.payload["LaunchdConfigurations"].as_array().into_iter().flatten() {
                list.extend(engine.task(identifier, item).ok());
            }
        }
        list.into()
    }
}

impl Engine {
    /// Whether a configuration of a service can be applied; nothing for other configurations.
    pub(super) fn judge_service(
        &self,
        identifier: &str,
        declaration: &Declaration,
    ) -> Option<Result<(), Reason>> {
        let payload = &declaration.payload;
        let done = match declaration.declaration_type.strip_prefix("com.apple.configuration.")? {
            "services.configuration-files" => self.judge_files(payload),
            "services.background-tasks" => self.judge_tasks(identifier, payload),
            _ => return None,
        };
        Some(done.map_err(|words| Reason::error(CANNOT, words)))
    }

    fn judge_files(&self, payload: &Json) -> Result<(), String> {
        let data = self.required_data(&payload["DataAssetReference"], &["application/zip"])?;
        let entries = open(data)?;
        let service = payload["ServiceType"].as_str().unwrap_or_default();
        let managed = MANAGED.iter().find(|(known, _)| *known == service);
        if managed.is_none() && service.starts_with("com.apple.") {
            return Err(format!("{service} is no service that can be configured."));
        }
        let is_its =
            |name: &str| managed.is_none_or(|(_, places)| places.iter().any(|place| name.starts_with(place)));
        let has_file = entries.keys().any(|name| !name.ends_with('/') && is_its(name));
        has_file.then_some(()).ok_or_else(|| format!("The archive has no file where {service} has its own."))
    }

    fn judge_tasks(&self, identifier: &str, payload: &Json) -> Result<(), String> {
        let executable = &payload["ExecutableAssetReference"];
        let launchd = payload["LaunchdConfigurations"].as_array();
        if executable.is_null() && launchd.is_none_or(Vec::is_empty) {
            return Err("There is neither an executable nor a launchd configuration.".to_owned());
        }
        if !executable.is_null() {
            open(self.required_data(executable, &["application/zip"])?)?;
        }
        launchd.into_iter().flatten().try_for_each(|item| self.task(identifier, item).map(drop))
    }

    /// The data of an asset whose declaration says type and hash, as services require it.
    fn required_data(&self, reference: &Json, types: &[&str]) -> Result<&[u8], String> {
        let name = reference.as_str().unwrap_or_default();
        let said = self.declarations.get(name).map(|asset| &asset.payload["Reference"]);
        let said = said.ok_or_else(|| format!("The asset {name} is missing."))?;
        let is_typed = said["ContentType"].as_str().is_some_and(|kind| types.contains(&kind));
        if !is_typed || !said["Hash-SHA-256"].is_string() {
            return Err(format!(
                "The asset {name} does not say ContentType ({}) and Hash-SHA-256.",
                types.join(", ")
            ));
        }
        match self.assets.get(name) {
            Some(Asset { data: Ok(data), .. }) => Ok(data),
            _ => Err(format!("The data of the asset {name} is not here.")),
        }
    }

    /// A launchd configuration as it is reported.
    fn task(&self, identifier: &str, item: &Json) -> Result<Json, String> {
        let asset = &item["FileAssetReference"];
        let types = ["application/plist", "application/x-plist", "application/xml", "text/xml"];
        let data = self.required_data(asset, &types)?;
        let name = asset.as_str().unwrap_or_default();
        let dict = Value::from_reader(std::io::Cursor::new(data)).ok().and_then(Value::into_dictionary);
        let dict = dict.ok_or_else(|| format!("{name} is no property list."))?;
        let text = |key: &str| dict.get(key).and_then(Value::as_string);
        let label = text("Label").ok_or_else(|| format!("{name} has no Label."))?;
        let arguments = arguments(&dict);
        let program = text("Program").or(arguments.first().copied());
        let program = program.ok_or_else(|| format!("{name} names no program."))?;
        let (kind, folder) = match item["Context"].as_str() {
            Some("daemon") => ("daemon", "LaunchDaemons"),
            Some("agent") => ("agent", "LaunchAgents"),
            _ => return Err("Context is neither daemon nor agent.".to_owned()),
        };
        let token = self.declarations.get(name).map(|asset| asset.server_token.as_str());
        let id =
            crate::id::hex(&crate::id::sha256(format!("{identifier}\0{kind}\0{label}").as_bytes())[..16]);
        Ok(json!({
            "identifier": id.to_uppercase(),
            "uid": 0,
            "path": format!("{PLACE}/{folder}/{label}.plist"),
            "state": "enabled",
            "type": kind,
            "launchd": {
                "label": label,
                "program": program,
                "program-arguments": arguments,
                "checksum": crate::id::hex(&crate::id::sha256(data)),
                "device-management": {
                    "configuration-identifier": identifier,
                    "asset-identifier": name,
                    "asset-server-token": token,
                },
            },
        }))
    }
}

fn arguments(dict: &Dictionary) -> Vec<&str> {
    let list = dict.get("ProgramArguments").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_string).collect()
}

/// Opens an archive by its table of contents, as `ditto` does.
fn open(archive: &[u8]) -> Result<Entries, String> {
    let broken = || "The archive is not a zip archive, or broken.".to_owned();
    let entries = table(archive).ok_or_else(broken)?;
    if entries.len() > MOST_ENTRIES {
        return Err("The archive has too many files.".to_owned());
    }
    let outside = |name: &String| name.starts_with('/') || name.split('/').any(|part| part == "..");
    match entries.keys().find(|name| outside(name)) {
        Some(name) => Err(format!("{name} leads out of the folder of the service.")),
        None => Ok(entries),
    }
}

fn table(archive: &[u8]) -> Option<Entries> {
    let number = |at: usize, length: usize| {
        let bytes = archive.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0_usize, |value, byte| (value << 8) | usize::from(*byte)))
    };
    let end = archive.windows(4).rposition(|four| four == b"PK\x05\x06")?;
    archive.get(end..end + 22)?;
    let (count, mut at) = (number(end + 10, 2)?, number(end + 16, 4).filter(|at| *at < archive.len())?);
    let (mut entries, mut total) = (Entries::new(), 0);
    for _ in 0..count {
        if archive.get(at..at.checked_add(4)?)? != b"PK\x01\x02" {
            return None;
        }
        let (method, size, real_size) = (number(at + 10, 2)?, number(at + 20, 4)?, number(at + 24, 4)?);
        let [name, extra, comment] = [number(at + 28, 2)?, number(at + 30, 2)?, number(at + 32, 2)?];
        let local = number(at + 42, 4).filter(|local| *local < archive.len())?;
        let text = std::str::from_utf8(archive.get(at + 46..at + 46 + name)?).ok()?.to_owned();
        let begin = local + 30 + number(local + 26, 2)? + number(local + 28, 2)?;
        let bytes = archive.get(begin..begin.checked_add(size)?)?;
        // Entries that share their bytes would come to more than the archive has.
        total += size;
        if total > archive.len() {
            return None;
        }
        let is_stored = method == 0 && size == real_size;
        if is_stored && usize::try_from(checksum(bytes)).ok()? != number(at + 16, 4)? {
            return None;
        }
        // The same name twice would be two files in one place.
        if entries.insert(text, is_stored.then(|| bytes.to_vec())).is_some() {
            return None;
        }
        at += 46 + name + extra + comment;
    }
    Some(entries)
}

/// The CRC-32 of zip archives.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python's zipfile makes of `etc/ssh/sshd_config` (stored), for both sides to agree with.
    const ARCHIVE: &str = "504b03041400000000000000215cae0eaf591300000013000000130000006574632f7373682f737368645f63\
         6f6e6669675065726d6974526f6f744c6f67696e206e6f0a504b010214031400000000000000215cae0eaf59\
         1300000013000000130000000000000000000000a481000000006574632f7373682f737368645f636f6e6669\
         67504b0506000000000100010041000000440000000000";

    #[test]
    fn an_archive_of_others_is_read_and_one_that_leads_out_is_not() {
        let archive = crate::id::from_hex(ARCHIVE).unwrap();
        let entries = open(&archive).unwrap();
        assert_eq!(entries["etc/ssh/sshd_config"].as_deref(), Some(&b"PermitRootLogin no\n"[..]));
        let renamed = |to: &[u8; 3]| {
            let mut archive = archive.clone();
            while let Some(at) = archive.windows(4).position(|four| four == b"etc/") {
                archive[at..at + 3].copy_from_slice(to);
            }
            open(&archive)
        };
        assert!(renamed(b"../").unwrap_err().contains("leads out"));
        assert!(renamed(b"/et").unwrap_err().contains("leads out"));
        for end in 0..archive.len() {
            assert!(open(&archive[..end]).is_err());
        }
        let mut changed = archive.clone();
        let at = changed.windows(6).position(|six| six == b"Permit").unwrap();
        changed[at] = b'p';
        assert!(open(&changed).is_err());
    }
}
