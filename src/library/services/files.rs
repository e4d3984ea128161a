//! The files of a service as a person wrote them, checked before a Mac is given them.
//!
//! **Invariant:** a path that passes leads to one place beneath the root of the archive on every file
//! system, and no two paths to the same place.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::schema::check::child;
use crate::schema::services::{RESERVED, Service, service};

pub(super) const MOST_FILES: usize = 200;
/// Of all files together; the archive has to fit where small contents are kept.
pub(super) const MOST_BYTES: usize = 512 * 1024;
const LONGEST_PATH: usize = 255;
const DEEPEST: usize = 16;
const LONGEST_TYPE: usize = 255;
/// Policies without which nobody gets into a Mac.
const PAM_NEEDS: &str = "etc/pam.d/authorization";

/// By their paths.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Whether something may be configured by this type; one of Apple's that is not known needs force.
/// Answers what its writer should know.
///
/// # Errors
/// `Invalid` with a pointer.
pub(super) fn check_type(service_type: &str, force: bool) -> Result<Option<String>> {
    let refused = |words: String| Err(Error::invalid_at("/service", words));
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_type = service_type.contains('.') && service_type.chars().all(fits);
    if !is_type || service_type.len() > LONGEST_TYPE || service_type.split('.').any(str::is_empty) {
        return refused("A service is named in reverse DNS style, as com.apple.sshd.".into());
    }
    if service(service_type).is_some() || !service_type.starts_with(RESERVED) {
        return Ok(None);
    }
    if force {
        return Ok(Some(format!("Apple's documentation has no service {service_type}; it was accepted.")));
    }
    refused(format!(
        "Apple's documentation has no service {service_type}; GET /api/v1/services lists those it has. \
         If Apple has added it since, send it with ?force=1."
    ))
}

/// Reads `{"path": "text" or {"base64": "…"}}`; answers the files and what their writer should know.
///
/// # Errors
/// `Invalid` with the pointer of the file.
pub(super) fn read(service_type: &str, sent: &Map<String, Json>) -> Result<(Files, Vec<String>)> {
    if sent.is_empty() {
        return Err(Error::invalid_at("/files", "There must be a file at least."));
    }
    if sent.len() > MOST_FILES {
        return Err(Error::invalid_at("/files", format!("There can be {MOST_FILES} files at most.")));
    }
    let known = service(service_type);
    let (mut files, mut warnings, mut total) = (Files::new(), Vec::new(), 0);
    for (path, content) in sent {
        let at = child("/files", path);
        check_path(path).map_err(|(words, instead)| {
            let refused = Error::invalid_at(at.as_str(), words);
            if instead.is_empty() { refused } else { refused.suggesting(instead) }
        })?;
        let bytes = content_of(content, &at)?;
        total += bytes.len();
        if total > MOST_BYTES {
            let words = format!("All files together can have {MOST_BYTES} bytes.");
            return Err(Error::invalid_at(at, words));
        }
        warnings.extend(check_content(service_type, path, &bytes, &at)?);
        if let Some(known) = known.filter(|known| !known.takes(path)) {
            warnings.push(format!("{} is not known to read {path}: {}.", known.name, known.reads.join(", ")));
        }
        files.insert(path.clone(), bytes);
    }
    apart(&files)?;
    warnings.extend(known.and_then(|known| incomplete(known, &files)));
    Ok((files, warnings))
}

/// As [`read`] takes them.
pub(super) fn shown(files: &Files) -> Json {
    let content = |bytes: &Vec<u8>| match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Json::from(text),
        _ => json!({"base64": STANDARD.encode(bytes)}),
    };
    files.iter().map(|(path, bytes)| (path.clone(), content(bytes))).collect::<Map<_, _>>().into()
}

/// What is wrong with a path, and what it may have been meant to be.
fn check_path(path: &str) -> Result<(), (String, String)> {
    let wrong = |words: &str| Err((words.to_owned(), String::new()));
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'\\' | b':');
    if path.is_empty() || path.len() > LONGEST_PATH {
        return wrong("A path has 1 to 255 characters.");
    }
    if !path.bytes().all(plain) {
        return wrong("A path has printable ASCII characters only, no backslash and no colon.");
    }
    let relative = path.trim_start_matches('/');
    let relative =
        relative.strip_prefix("private/etc/").map_or(relative.to_owned(), |rest| format!("etc/{rest}"));
    if relative != path {
        let words = "A path begins at the root of the file system, without a slash before it: \
                     macOS's /private/etc is etc here.";
        let is_path = !relative.split('/').any(|part| matches!(part, "" | "." | ".."));
        return Err((words.to_owned(), if is_path { relative } else { String::new() }));
    }
    if path.split('/').count() > DEEPEST {
        return wrong("A path leads through 15 folders at most.");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return wrong("A path leads from folder to folder, without . or .. and with one slash between them.");
    }
    if path.split('/').any(|part| part.trim() != part) {
        return wrong("A name in a path begins and ends with something else than a space.");
    }
    Ok(())
}

fn content_of(content: &Json, at: &str) -> Result<Vec<u8>> {
    match content {
        Json::String(text) if text.contains('\0') => {
            let words = "A text has no NUL character; send what is no text as {\"base64\": \"…\"}.";
            Err(Error::invalid_at(at, words))
        }
        Json::String(text) => Ok(text.as_bytes().to_vec()),
        Json::Object(members) if members.len() == 1 && members.contains_key("base64") => {
            let bytes = members["base64"].as_str().and_then(|text| STANDARD.decode(text).ok());
            bytes.ok_or_else(|| Error::invalid_at(child(at, "base64"), "This is not base64."))
        }
        _ => Err(Error::invalid_at(at, "A file is a text, or {\"base64\": \"…\"} for what is none.")),
    }
}

/// What is certain to be wrong in a file of this service, and what may be.
fn check_content(service_type: &str, path: &str, bytes: &[u8], at: &str) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let is_text = std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0);
    if bytes.windows(2).any(|two| two == b"\r\n") && is_text {
        warnings
            .push(format!("{path} has lines that end as Windows ends them (CR LF); macOS expects LF alone."));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        warnings.push(format!("{path} begins with a byte order mark, which services take for a word."));
    }
    match service_type {
        "com.apple.sudo" => {
            if !bytes.is_empty() && bytes.last() != Some(&b'\n') {
                let words = "The last line has no end: sudo would refuse the file, and nobody could use sudo. \
                             End it with a line feed (\\n).";
                return Err(Error::invalid_at(at, words));
            }
            let name = path.strip_prefix("etc/sudoers.d/").unwrap_or_default();
            if name.contains('.') || name.ends_with('~') {
                warnings.push(format!(
                    "sudo passes over {path}: names in sudoers.d have no dot and no ~ at their end."
                ));
            }
        }
        "com.apple.cryptoTokenKit" | "com.apple.authorization" if path.ends_with(".plist") => {
            crate::plist::parse(bytes).map_err(|error| Error::invalid_at(at, format!("{error}.")))?;
        }
        _ => {}
    }
    Ok(warnings)
}

/// The file systems of most Macs take `A` for `a`; and a file cannot be a folder as well.
fn apart(files: &Files) -> Result<()> {
    let (mut seen, mut folders) = (BTreeMap::new(), BTreeSet::new());
    for path in files.keys() {
        let folded = path.to_ascii_lowercase();
        folders.extend(folded.match_indices('/').map(|(at, _)| folded[..at].to_owned()));
        if let Some(other) = seen.insert(folded, path) {
            let words = format!("This is the same file as {other} to a Mac; keep one of them.");
            return Err(Error::invalid_at(child("/files", path), words));
        }
    }
    match seen.into_iter().find(|(folded, _)| folders.contains(folded)) {
        Some((_, path)) => {
            let words = "This is a file here and a folder in the path of another file; rename one of them.";
            Err(Error::invalid_at(child("/files", path), words))
        }
        None => Ok(()),
    }
}

/// A service that has files of ours does not look at those of the Mac any more.
fn incomplete(known: &Service, files: &Files) -> Option<String> {
    let missing = match known.main {
        Some(main) => main,
        None if known.service_type == "com.apple.pam" => PAM_NEEDS,
        None => return None,
    };
    (!files.contains_key(missing)).then(|| {
        format!(
            "There is no {missing} among these files. Apple says that {} uses only the files it is given and \
             not those of the Mac; add it, and try it on one Mac first.",
            known.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(service_type: &str, files: &Json) -> (String, String) {
        match read(service_type, files.as_object().unwrap()) {
            Err(Error::Invalid { pointer, suggestion, .. }) => {
                (pointer.unwrap_or_default(), suggestion.unwrap_or_default())
            }
            other => panic!("{files}: {other:?}"),
        }
    }

    fn warned(service_type: &str, files: &Json) -> Vec<String> {
        read(service_type, files.as_object().unwrap()).unwrap().1
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused_where_they_stand() {
        let (long, deep) = ("a".repeat(256), "a/".repeat(16) + "a");
        for path in [
            "",
            "/",
            "//",
            ".",
            "..",
            "etc/../../x",
            "../x",
            "etc//x",
            "etc/",
            "etc/./x",
            "etc\\x",
            "C:x",
            "etc/\u{0}",
            "etc/\n",
            "etc/ü",
            "etc/ x",
            "etc/x ",
            "etc/x/..",
            "/etc/../x",
            &long,
            &deep,
        ] {
            let (pointer, suggestion) = refused("com.apple.sshd", &json!({ path: "x" }));
            assert_eq!(pointer, child("/files", path));
            assert_eq!(suggestion, "", "{path}");
        }
        for (path, instead) in [
            ("/etc/ssh/sshd_config", "etc/ssh/sshd_config"),
            ("private/etc/ssh/sshd_config", "etc/ssh/sshd_config"),
            ("//private/etc/x", "etc/x"),
        ] {
            assert_eq!(refused("com.apple.sshd", &json!({ path: "x" })).1, instead);
        }
        refused("com.apple.cups", &json!({"etc/cups/a": "", "etc/cups/A": ""}));
        refused("com.apple.cups", &json!({"etc/cups/a": "", "etc/cups/A/b": ""}));
        let many: Map<String, Json> =
            (0..=MOST_FILES).map(|n| (format!("etc/cups/{n}"), "".into())).collect();
        refused("com.apple.cups", &Json::Object(many));
        refused("com.apple.cups", &json!({"etc/cups/a": "x".repeat(MOST_BYTES + 1)}));
        refused("com.apple.cups", &json!({}));
    }

    #[test]
    fn what_a_service_would_choke_on_is_refused_and_what_is_odd_is_said() {
        assert_eq!(
            refused("com.apple.sudo", &json!({"etc/sudoers": "%admin ALL = (ALL) ALL"})).0,
            "/files/etc~1sudoers"
        );
        refused("com.apple.sudo", &json!({"etc/sudoers": "a\u{0}\n"}));
        for odd in
            [json!(null), json!(7), json!({"base64": "?"}), json!({"base64": "", "x": 1}), json!(["x"])]
        {
            refused("com.apple.cups", &json!({ "etc/cups/cupsd.conf": odd }));
        }
        refused("com.apple.cryptoTokenKit", &json!({"etc/SmartcardLogin.plist": "<dict>"}));
        assert!(warned("com.apple.sudo", &json!({"etc/sudoers": "%admin ALL = (ALL) ALL\n"})).is_empty());
        let said = warned("com.apple.sshd", &json!({"etc/ssh/sshd_config.d/100-school.conf": "A b\r\n"}));
        assert!(said.iter().any(|words| words.contains("CR LF")), "{said:?}");
        assert!(said.iter().any(|words| words.contains("no etc/ssh/sshd_config ")), "{said:?}");
        let said = warned("com.apple.sshd", &json!({"etc/ssh/sshd_config": "", "etc/passwd": ""}));
        assert!(said.len() == 1 && said[0].contains("not known to read etc/passwd"), "{said:?}");
        let said = warned("com.apple.sudo", &json!({"etc/sudoers": "\n", "etc/sudoers.d/a.b": "\n"}));
        assert!(said.len() == 1 && said[0].contains("passes over"), "{said:?}");
        assert_eq!(warned("com.apple.pam", &json!({"etc/pam.d/sudo": "x\n"})).len(), 1);
        assert!(warned("org.example.thing", &json!({"anything/at all": {"base64": "AAE="}})).is_empty());
    }

    #[test]
    fn services_are_named_as_apple_names_them() {
        for wrong in ["", "sshd", "com..x", ".com.x", "com.x/y", "com.apple.nothing", &"a.".repeat(200)] {
            assert!(check_type(wrong, false).is_err(), "{wrong}");
        }
        assert!(check_type("com.apple.nothing", true).unwrap().is_some());
        assert!(check_type("com.apple.sshd", false).unwrap().is_none());
        assert!(check_type("com.openssh.sshd", false).unwrap().is_none());
    }

    #[test]
    fn files_are_shown_as_they_were_sent() {
        let sent =
            json!({"etc/cups/a": "text\n", "etc/cups/b": {"base64": "AAH/"}, "etc/cups/cupsd.conf": ""});
        assert_eq!(shown(&read("com.apple.cups", sent.as_object().unwrap()).unwrap().0), sent);
    }
}
