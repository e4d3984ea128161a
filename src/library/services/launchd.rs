//! launchd property lists as people send them: XML, or the same as JSON.
//!
//! Only what launchd cannot do without is demanded (`launchd.plist(5)`): a Label and something to run.
//!
//! **Invariant:** what is kept is a property list with a Label, whatever was sent.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::plist::{self, Dictionary, Value};
use crate::schema::check::child;

/// The largest that is taken.
const LARGEST: usize = 64 * 1024;

/// A property list for launchd.
#[derive(Debug)]
pub(super) struct Launchd {
    /// As it was sent; one that was sent as JSON, as XML.
    pub(super) xml: Vec<u8>,
    pub(super) label: String,
    /// The file that it runs.
    pub(super) program: String,
    pub(super) is_disabled: bool,
}

/// Reads one that stands at this pointer.
///
/// # Errors
/// `Invalid` with a pointer.
pub(super) fn read(sent: &Json, at: &str) -> Result<Launchd> {
    let wrong = |error: plist::PlistError| Error::invalid_at(at, format!("{error}."));
    let xml = match sent {
        Json::String(text) => text.as_bytes().to_vec(),
        Json::Object(_) => plist::to_xml(&plist::json::from_json(sent).map_err(wrong)?),
        _ => return Err(Error::invalid_at(at, "A plist is XML as a text, or the same as a JSON object.")),
    };
    if xml.len() > LARGEST {
        return Err(Error::invalid_at(at, format!("A launchd property list has {LARGEST} bytes at most.")));
    }
    let dict = plist::parse_dict(&xml).map_err(wrong)?;
    let text = |key: &str| {
        let found = plist::string(&dict, key)
            .map_err(|error| Error::invalid_at(child(at, key), format!("{error}.")))?;
        Ok::<_, Error>(found.filter(|text| !text.is_empty()).map(str::to_owned))
    };
    let label = text("Label")?.filter(|label| !label.contains(['/', '\0'])).ok_or_else(|| {
        Error::invalid_at(child(at, "Label"), "Label is missing: a name as org.example.task.")
    })?;
    let arguments = arguments(&dict, at)?;
    let program = text("Program")?.or_else(|| arguments.first().cloned()).ok_or_else(|| {
        let words =
            "There is nothing to run; name a file in Program, or in ProgramArguments with its arguments.";
        Error::invalid_at(child(at, "ProgramArguments"), words)
    })?;
    let is_disabled = dict.get("Disabled").and_then(Value::as_boolean).unwrap_or(false);
    Ok(Launchd { xml, label, program, is_disabled })
}

fn arguments(dict: &Dictionary, at: &str) -> Result<Vec<String>> {
    let at = child(at, "ProgramArguments");
    let list = plist::array(dict, "ProgramArguments")
        .map_err(|error| Error::invalid_at(at.as_str(), format!("{error}.")))?;
    let texts = list.unwrap_or_default().iter().map(|one| one.as_string().map(str::to_owned));
    texts.collect::<Option<Vec<_>>>().ok_or_else(|| Error::invalid_at(at, "ProgramArguments are strings."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_label_and_something_to_run_are_needed() {
        let read = |sent: Json| read(&sent, "/p");
        let one = read(
            json!({"Label": "org.example.a", "ProgramArguments": ["/bin/sh", "-c", "true"], "RunAtLoad": true}),
        );
        let one = one.unwrap();
        assert_eq!((one.label.as_str(), one.program.as_str()), ("org.example.a", "/bin/sh"));
        let xml = String::from_utf8(one.xml).unwrap();
        let same = read(Json::from(xml.clone())).unwrap();
        assert_eq!(String::from_utf8(same.xml).unwrap(), xml, "text is kept as it was sent");
        for (wrong, pointer) in [
            (json!({"Program": "/bin/ls"}), "/p/Label"),
            (json!({"Label": "", "Program": "/bin/ls"}), "/p/Label"),
            (json!({"Label": "a/b", "Program": "/bin/ls"}), "/p/Label"),
            (json!({"Label": 7, "Program": "/bin/ls"}), "/p/Label"),
            (json!({"Label": "a"}), "/p/ProgramArguments"),
            (json!({"Label": "a", "ProgramArguments": []}), "/p/ProgramArguments"),
            (json!({"Label": "a", "ProgramArguments": [1]}), "/p/ProgramArguments"),
            (json!({"Label": "a", "ProgramArguments": "x"}), "/p/ProgramArguments"),
            (json!({"Label": null}), "/p"),
            (json!("<plist>"), "/p"),
            (json!("[]"), "/p"),
            (json!("x".repeat(LARGEST + 1)), "/p"),
            (json!(7), "/p"),
        ] {
            let Err(Error::Invalid { pointer: found, .. }) = read(wrong.clone()) else { panic!("{wrong}") };
            assert_eq!(found.as_deref(), Some(pointer), "{wrong}");
        }
    }
}
