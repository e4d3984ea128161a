//! Installer packages for macOS (`.pkg`): a xar archive with a `Distribution`, or with a `PackageInfo`.
//!
//! `productbuild` makes the first kind, `pkgbuild` the second. MDM installs signed distribution packages
//! and nothing else (Apple: "InstallEnterpriseApplication"), so the others are taken with a warning: they
//! may be on their way to somebody who signs them.
//!
//! **Invariant:** no script of a package is looked at, let alone run.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesStart, Event};

use super::source::Source;
use super::summary::{Inside, Kind, Summary, is_name, text};
use super::xar::Table;
use crate::error::{Error, Result};

const LARGEST_DOCUMENT: u64 = 4 * 1024 * 1024;
const DEEPEST: usize = 64;
const MOST_EVENTS: usize = 100_000;
/// More packages inside of one are not listed.
const MOST_INSIDE: usize = 100;

/// Reads what a package says of itself.
///
/// # Errors
/// `Invalid`, in words.
pub(super) fn read(source: &mut Source<'_>) -> Result<Summary> {
    let table = Table::read(source)?;
    let mut warnings = Vec::new();
    let (said, what) = if let Some(bytes) = table.content(source, "Distribution", LARGEST_DOCUMENT)? {
        (Said::read(&bytes, "Distribution")?, "Distribution")
    } else if let Some(bytes) = table.content(source, "PackageInfo", LARGEST_DOCUMENT)? {
        warnings.push(
            "It is a component package; device management installs signed distribution packages only: \
             make one with productbuild."
                .to_owned(),
        );
        (Said::read(&bytes, "PackageInfo")?, "PackageInfo")
    } else {
        let words = "There is neither a Distribution nor a PackageInfo in it; it is no installer package.";
        return Err(Error::invalid(words));
    };
    if !table.signed {
        warnings.push(
            "It is not signed; device management installs signed distribution packages only: sign it with \
             productsign and a Developer ID Installer certificate."
                .to_owned(),
        );
    }
    let mut first = said.product.iter().chain(&said.inside);
    let Some(Inside { identifier, .. }) = first.next() else {
        return Err(Error::invalid(format!("Its {what} names no package.")));
    };
    let of_others = said.inside.iter().find_map(|inside| inside.version.clone());
    let version = said.product.as_ref().and_then(|product| product.version.clone()).or(of_others);
    let bundle_id = identifier.clone();
    Ok(Summary {
        kind: Kind::Pkg,
        title: said.title.unwrap_or_else(|| bundle_id.clone()),
        version: version.unwrap_or_else(|| "1.0".to_owned()),
        short_version: None,
        minimum_os: said.minimum_os,
        platforms: vec!["macOS".to_owned()],
        families: Vec::new(),
        packages: said.inside,
        signed: table.signed,
        signed_by: table.signed_by,
        profile: None,
        warnings,
        bundle_id,
    })
}

/// What stands in either document.
#[derive(Debug, Default)]
struct Said {
    title: Option<String>,
    product: Option<Inside>,
    inside: Vec<Inside>,
    minimum_os: Option<String>,
}

impl Said {
    fn read(bytes: &[u8], what: &str) -> Result<Self> {
        let damaged = || Error::invalid(format!("Its {what} cannot be read; the package is damaged."));
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let document = std::str::from_utf8(bytes).map_err(|_| damaged())?;
        let mut reader = Reader::from_str(document);
        reader.config_mut().expand_empty_elements = true;
        let (mut said, mut depth, mut title) = (Self::default(), 0_usize, None);
        for _ in 0..MOST_EVENTS {
            match reader.read_event().map_err(|_| damaged())? {
                Event::Start(tag) => {
                    depth += 1;
                    if depth > DEEPEST {
                        return Err(damaged());
                    }
                    said.element(&tag, depth).map_err(|()| damaged())?;
                    title = (depth == 2 && tag.name().as_ref() == "title").then(String::new);
                }
                Event::End(_) => {
                    depth = depth.checked_sub(1).ok_or_else(damaged)?;
                    if let Some(title) = title.take().filter(|title: &String| !title.trim().is_empty()) {
                        said.title = Some(text(&title));
                    }
                }
                Event::Text(more) => title.iter_mut().for_each(|title| title.push_str(more.as_ref())),
                Event::CData(more) => title.iter_mut().for_each(|title| title.push_str(more.as_ref())),
                Event::GeneralRef(entity) => {
                    let known = resolve_xml_entity(entity.as_ref());
                    if !entity.is_char_ref() && known.is_none() {
                        return Err(damaged());
                    }
                    title.iter_mut().for_each(|title| title.push_str(known.unwrap_or("\u{fffd}")));
                }
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
                Event::Eof if depth == 0 => return Ok(said),
                _ => return Err(damaged()),
            }
        }
        Err(damaged())
    }

    fn element(&mut self, tag: &BytesStart<'_>, depth: usize) -> Result<(), ()> {
        let attribute = |name: &str| -> Result<Option<String>, ()> {
            let found = tag.try_get_attribute(name).map_err(|_| ())?;
            Ok(found.map(|found| text(&found.value)).filter(|value| !value.is_empty()))
        };
        let named = |key: &str| -> Result<Option<Inside>, ()> {
            let version = attribute("version")?.filter(|version| is_name(version));
            Ok(attribute(key)?.map(|identifier| Inside { identifier, version }))
        };
        match (tag.name().as_ref(), depth) {
            ("product", 2) => self.product = named("id")?.or(self.product.take()),
            ("pkg-ref", 2) => self.add(named("id")?),
            ("pkg-info", 1) => self.add(named("identifier")?),
            ("os-version", _) if self.minimum_os.is_none() => self.minimum_os = attribute("min")?,
            _ => {}
        }
        Ok(())
    }

    /// A package is mentioned several times, with its version once.
    fn add(&mut self, inside: Option<Inside>) {
        let Some(inside) = inside else { return };
        if let Some(known) = self.inside.iter_mut().find(|known| known.identifier == inside.identifier) {
            known.version = known.version.take().or(inside.version);
        } else if self.inside.len() < MOST_INSIDE {
            self.inside.push(inside);
        }
    }
}
