//! What a device is told of a package before it fetches it (Apple: "ManifestURL").
//!
//! **Invariant:** the hashes are those of the bytes at the address.

use super::{CHUNK, Package};
use crate::id;
use crate::plist::{self, Dictionary, Value};

/// As devices get it.
pub const MEDIA_TYPE: &str = "application/x-plist";

/// The manifest of a package that is fetched at this address.
pub fn manifest(package: &Package, url: &str) -> Vec<u8> {
    let hashes = package.hashes.chunks(32).map(|hash| Value::String(id::hex(hash))).collect();
    let summary = &package.summary;
    let asset = dictionary([
        ("kind", "software-package".into()),
        ("url", url.into()),
        ("sha256-size", Value::Integer((CHUNK as u64).into())),
        ("sha256s", Value::Array(hashes)),
    ]);
    let metadata = dictionary([
        ("bundle-identifier", summary.bundle_id.as_str().into()),
        ("bundle-version", summary.version.as_str().into()),
        ("kind", "software".into()),
        ("title", summary.title.as_str().into()),
    ]);
    let item = dictionary([("assets", Value::Array(vec![asset])), ("metadata", metadata)]);
    plist::to_xml(&dictionary([("items", Value::Array(vec![item]))]))
}

fn dictionary<const N: usize>(members: [(&str, Value); N]) -> Value {
    let mut dictionary = Dictionary::new();
    for (key, value) in members {
        dictionary.insert(key.to_owned(), value);
    }
    Value::Dictionary(dictionary)
}
