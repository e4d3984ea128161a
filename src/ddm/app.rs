//! What whoever writes an `app.managed` or a `package` should know, beyond what the tables say.
//!
//! **Invariant:** an app is not declared as a package, nor a package as an app, where we know which it is.

use rusqlite::Connection;
use serde_json::{Map, Value as Json};

use super::served::{self, Kind};
use crate::error::{Error, Result};

const APP: &str = "com.apple.configuration.app.managed";
const PACKAGE: &str = "com.apple.configuration.package";
/// Of what this server serves: a package for macOS. Everything else is an app.
const MEDIA_TYPE: &str = "application/vnd.apple.installer+xml";

/// Looks at a payload of this type; answers what its writer should know.
///
/// # Errors
/// `Invalid` with a pointer for an address that no device fetches from, or that leads to what this
/// declaration cannot install.
pub(super) fn check(
    conn: &Connection,
    declaration_type: &str,
    payload: &mut Map<String, Json>,
) -> Result<Vec<String>> {
    if ![APP, PACKAGE].contains(&declaration_type) {
        return Ok(Vec::new());
    }
    let refused = |words: String| Err(Error::invalid_at("/Payload/ManifestURL", words));
    let Some(url) = payload.get("ManifestURL").and_then(Json::as_str).map(str::to_owned) else {
        return Ok(if declaration_type == APP { store_app(payload) } else { Vec::new() });
    };
    if !url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
        return refused(
            "Devices fetch manifests over https:// alone; upload the file here and write /mdm/manifests/{identifier}."
                .to_owned(),
        );
    }
    let mut ours = Vec::new();
    served::packages(conn, payload, &mut |name| {
        ours.push(name.to_owned());
        Ok(None)
    })?;
    for name in ours {
        let is_package =
            served::find(conn, Kind::Package, &name)?.is_some_and(|content| content.media_type == MEDIA_TYPE);
        if is_package && declaration_type == APP {
            return refused(format!("{name} is an installer package (.pkg); declare it as {PACKAGE}."));
        }
        if !is_package && declaration_type == PACKAGE {
            return refused(format!("{name} is an app (.ipa); declare it as {APP}."));
        }
    }
    Ok(Vec::new())
}

/// An app that comes from the App Store, which gives nothing to a device without a license.
fn store_app(payload: &Map<String, Json>) -> Vec<String> {
    let license = payload.get("InstallBehavior").and_then(|behavior| behavior.get("License"));
    let words = match license.and_then(|license| license.get("Assignment")).and_then(Json::as_str) {
        Some(_) => {
            "It takes a license of the organization, which this server does not assign: assign one to the device or \
             user in Apple School Manager or Apple Business Manager, or it reports Error.LicenseNotFound."
        }
        None => {
            "Without a license of the organization (InstallBehavior.License) an app of the App Store needs the user's \
             Apple Account: they are asked to sign in, and get it as their own."
        }
    };
    vec![words.to_owned()]
}
