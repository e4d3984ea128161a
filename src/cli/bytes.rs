//! Profiles and assets as files: `DIR/profiles/<identifier>.mobileconfig`; for each asset
//! `DIR/assets/<identifier>.json` with its `type` and `content_type`, and its bytes beside it as
//! `<identifier>.data`.
//!
//! What is small travels within the apply, what is larger ahead of it and only if the server does not
//! have it. A secret never leaves the server: its file says so, and leaves the server's in place.
//!
//! **Invariant:** no more of a large file is in memory than one piece.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Value as Json, json};

use super::Failure;
use super::client::Client;
use super::files::{self, ENDING, wrong};
use crate::config::Config;
use crate::id;

const PROFILE: &str = ".mobileconfig";
const DATA: &str = ".data";
/// The folders, each with how the names of its files end.
pub(super) const FOLDERS: [(&str, &[&str]); 2] = [("profiles", &[PROFILE]), ("assets", &[ENDING, DATA])];
/// What is not larger travels within the apply.
const SMALL: u64 = 16 * 1024;

/// A folder's name, what is sent of it, and the files that it came from.
type Folder = (&'static str, Vec<Json>, Vec<PathBuf>);

/// Reads both folders, as far as they are there, and sends ahead what is large, but for a dry run.
pub(super) async fn read(config: &Config, folder: &Path, dry_run: bool) -> Result<Vec<Folder>, Failure> {
    let mut found = Vec::new();
    let profiles = folder.join("profiles");
    if let Some(paths) = files::files(&profiles, PROFILE)? {
        let mut objects = Vec::new();
        for path in &paths {
            let mut object = json!({"identifier": files::stem(path, PROFILE)});
            name_bytes(config, path, &mut object, dry_run).await?;
            objects.push(object);
        }
        found.push(("profiles", objects, paths));
    }
    let assets = folder.join("assets");
    if let Some(paths) = files::files(&assets, ENDING)? {
        for data in files::files(&assets, DATA)?.unwrap_or_default() {
            let beside = files::path(&assets, files::stem(&data, DATA), ENDING)?;
            if !paths.contains(&beside) {
                let words = format!("there is no {} beside it, which says what it is", beside.display());
                return Err(wrong(&data, &words));
            }
        }
        let mut objects = Vec::new();
        for path in &paths {
            let mut object = files::read(path, "identifier")?;
            let data = files::path(&assets, files::stem(path, ENDING), DATA)?;
            if data.is_file() {
                name_bytes(config, &data, &mut object, dry_run).await?;
            } else if object["secret"].is_null() {
                return Err(wrong(path, &format!("its bytes, {}, are missing", data.display())));
            }
            objects.push(object);
        }
        found.push(("assets", objects, paths));
    }
    Ok(found)
}

/// Says of an object which bytes it has, and sees to it that the server can have them; for a dry run
/// nothing is kept there.
async fn name_bytes(config: &Config, path: &Path, object: &mut Json, dry_run: bool) -> Result<(), Failure> {
    let (sha256, size) = hash(path)?;
    if size <= SMALL {
        let bytes = fs::read(path).map_err(|error| wrong(path, &error))?;
        object["content"] = STANDARD.encode(bytes).into();
        return Ok(());
    }
    if dry_run {
        (object["sha256"], object["size"]) = (sha256.into(), size.into());
        return Ok(());
    }
    let address = format!("/api/v1/uploads/{sha256}");
    if Client::connect(config).await?.json(Method::GET, &address, None).await.is_err() {
        Client::connect(config).await?.upload(&address, path).await?;
    }
    object["sha256"] = sha256.into();
    Ok(())
}

fn hash(path: &Path) -> Result<(String, u64), Failure> {
    let failed = |error| wrong(path, &error);
    let mut file = fs::File::open(path).map_err(failed)?;
    let (mut context, mut size, mut piece) = (Context::new(&SHA256), 0, vec![0; 64 * 1024]);
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            return Ok((id::hex(context.finish().as_ref()), size));
        }
        context.update(&piece[..count]);
        size += count as u64;
    }
}

/// Writes the files of the profiles or assets that the server has; answers which.
pub(super) async fn write(
    config: &Config,
    kind: &str,
    folder: &Path,
    objects: &[Json],
) -> Result<Vec<PathBuf>, Failure> {
    fs::create_dir_all(folder).map_err(|error| wrong(folder, &error))?;
    let mut written = Vec::new();
    for object in objects {
        let name = object["identifier"].as_str().unwrap_or_default();
        let is_profile = kind == "profiles";
        if !is_profile {
            let path = files::path(folder, name, ENDING)?;
            files::write(&path, &sidecar(object))?;
            written.push(path);
        }
        let Some(sha256) = object["sha256"].as_str() else { continue };
        let path = files::path(folder, name, if is_profile { PROFILE } else { DATA })?;
        if !path.is_file() || hash(&path)?.0 != sha256 {
            fetch(config, &format!("/api/v1/{kind}/{name}/content"), &path).await?;
        }
        written.push(path);
    }
    Ok(written)
}

fn sidecar(asset: &Json) -> Json {
    let mut sidecar = json!({"type": asset["type"], "content_type": asset["content_type"]});
    if asset["secret"] == true {
        sidecar["secret"] = "not exported; the server keeps it".into();
    }
    sidecar
}

/// Beside first, so that what breaks off leaves nothing.
async fn fetch(config: &Config, address: &str, path: &Path) -> Result<(), Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = fs::File::create(&beside).map_err(|error| wrong(&beside, &error))?;
    let fetched = Client::connect(config).await?.download(Method::GET, address, &mut file).await;
    let fetched = fetched.and_then(|()| file.flush().map_err(|error| wrong(&beside, &error)));
    if fetched.is_err() {
        // What is left of it is of no use; the error is the one to be told.
        let _ = fs::remove_file(&beside);
    }
    fetched?;
    fs::rename(&beside, path).map_err(|error| wrong(path, &error))
}
