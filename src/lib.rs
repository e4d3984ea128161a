//! Russet: an Apple device management server in one binary, one SQLite file and one TOML file.
//!
//! The modules are layers. Each may use any line beneath it, never its own line, never above;
//! `tests/it/architecture.rs` executes this list:
//!
//! ```text
//!   cli                                 serve, demo, simulate, check, invite, push-certificate …
//!   server                              wiring, listeners, background tasks
//!   admin          simulator            people: JSON API, the page, tokens │ simulated devices
//!   doctor                              findings: what is wrong, and what to do about it
//!   expiry  backup  webhook  acme       certificates that end │ backups │ events told to others │ TLS by RFC 8555
//!   mdm                                 devices: who is calling, check-in, connect, queue, wake
//!   enroll         library              invitations, sessions, the enrollment profile │ profiles, assets, packages
//!   ddm    apns    content              declarations (what a device is told) │ pushes │ bytes it fetches
//!   pki                                 authorities, identities, CMS, SCEP, sealing
//!   schema    storage   https   mail    Apple's names and constraints │ one file, one writer │ asking others │ SMTP
//!   config  error  id  clock  plist  request  finding  metric   leaf files
//! ```
//!
//! Start reading at [`mdm`], then [`storage`]; `ARCHITECTURE.md` walks through three requests.

pub mod acme;
pub mod admin;
pub mod apns;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod content;
pub mod ddm;
pub mod doctor;
pub mod enroll;
pub mod error;
pub mod expiry;
pub mod finding;
pub mod https;
pub mod id;
pub mod library;
pub mod mail;
pub mod mdm;
pub mod metric;
pub mod pki;
pub mod plist;
pub mod request;
pub mod schema;
pub mod server;
pub mod simulator;
pub mod storage;
pub mod webhook;
