//! Apps and installer packages that simulated devices install, made here: archives with nothing in them
//! that runs, and everything that says what they are.
//!
//! Tests and the demo upload them. PKWARE's APPNOTE (zip) and the xar format as Apple's tools write it.
//!
//! **Invariant:** the same arguments make the same bytes.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};

/// A file in an archive.
pub type Member<'a> = (&'a str, Vec<u8>);

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    // Writing into memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A zip archive; property lists in it are deflated, everything else lies in it plainly.
pub fn zip(members: &[Member<'_>]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let method: u16 = if name.ends_with(".plist") { 8 } else { 0 };
        let packed = if method == 8 { deflated(bytes) } else { bytes.clone() };
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let at = narrow(archive.len());
        // What both headers have: version, flags, method, time, date, CRC, sizes, lengths of the names.
        let mut common = Vec::new();
        for field in [20_u16, 0x800, method, 0, 0x5a21] {
            common.extend(field.to_le_bytes());
        }
        for field in [crc.sum(), narrow(packed.len()), narrow(bytes.len())] {
            common.extend(field.to_le_bytes());
        }
        common.extend(u16::try_from(name.len()).unwrap_or(0).to_le_bytes());
        common.extend(0_u16.to_le_bytes());
        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(name.as_bytes());
        archive.extend(&packed);
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = u16::try_from(members.len()).unwrap_or(u16::MAX).to_le_bytes();
    let at = narrow(archive.len());
    let length = narrow(directory.len());
    archive.extend(directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend(count);
    archive.extend(count);
    archive.extend(length.to_le_bytes());
    archive.extend(at.to_le_bytes());
    archive.extend([0, 0]);
    archive
}

/// A xar archive. The table of contents has `more` before its end, as the signature of a signed one.
pub fn xar(members: &[Member<'_>], more: &str) -> Vec<u8> {
    let (mut files, mut heap) = (String::new(), Vec::new());
    for (number, (name, bytes)) in members.iter().enumerate() {
        let packed = zlib(bytes);
        files.push_str(&format!(
            "<file id=\"{number}\"><data><length>{}</length><offset>{}</offset><size>{}</size>\
             <encoding style=\"application/x-gzip\"/></data><type>file</type><name>{name}</name></file>",
            packed.len(),
            heap.len(),
            bytes.len(),
        ));
        heap.extend(packed);
    }
    let toc = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xar><toc>{more}{files}</toc></xar>\n");
    xar_of(&toc, &heap)
}

/// A xar archive with this table of contents.
pub fn xar_of(toc: &str, heap: &[u8]) -> Vec<u8> {
    let packed = zlib(toc.as_bytes());
    let mut archive = b"xar!\0\x1c\0\x01".to_vec();
    archive.extend((packed.len() as u64).to_be_bytes());
    archive.extend((toc.len() as u64).to_be_bytes());
    archive.extend(0_u32.to_be_bytes());
    archive.extend(packed);
    archive.extend(heap);
    archive
}

/// The Info.plist of an app.
pub fn info_plist(bundle_id: &str, version: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>\
         <key>CFBundleIdentifier</key><string>{bundle_id}</string>\
         <key>CFBundleVersion</key><string>{version}</string>\
         <key>CFBundleShortVersionString</key><string>{version}</string>\
         <key>CFBundleDisplayName</key><string>Class Register</string>\
         <key>CFBundleSupportedPlatforms</key><array><string>iPhoneOS</string></array>\
         <key>MinimumOSVersion</key><string>17.0</string>\
         <key>UIDeviceFamily</key><array><integer>1</integer><integer>2</integer></array>\
         </dict></plist>"
    )
    .into_bytes()
}

/// An in-house app (`.ipa`) that carries `ballast` bytes.
pub fn app(bundle_id: &str, version: &str, ballast: usize) -> Vec<u8> {
    zip(&[
        ("Payload/Register.app/Info.plist", info_plist(bundle_id, version)),
        ("Payload/Register.app/Register", vec![0x5a; ballast]),
    ])
}

/// A signed distribution package (`.pkg`) that carries `ballast` bytes; `certificate` is the signer's.
pub fn installer(identifier: &str, version: &str, certificate: &[u8], ballast: usize) -> Vec<u8> {
    let distribution = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<installer-gui-script minSpecVersion=\"2\">\
         <title>Class Register</title><product id=\"{identifier}\" version=\"{version}\"/>\
         <pkg-ref id=\"{identifier}.app\"/><pkg-ref id=\"{identifier}.app\" version=\"{version}\">#register.pkg</pkg-ref>\
         <volume-check><allowed-os-versions><os-version min=\"13.0\"/></allowed-os-versions></volume-check>\
         </installer-gui-script>"
    );
    let signature = format!(
        "<signature style=\"RSA\"><offset>20</offset><size>256</size><KeyInfo><X509Data><X509Certificate>{}\
         </X509Certificate></X509Data></KeyInfo></signature>",
        STANDARD.encode(certificate)
    );
    let mut package = xar(&[("Distribution", distribution.into_bytes())], &signature);
    package.extend(vec![0x5a; ballast]);
    package
}
