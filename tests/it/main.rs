//! Conversations with the whole program: real TLS, real SQLite, simulated devices, a clock that the
//! test sets. One binary, so that there is one link.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(unreachable_pub, reason = "this crate has no outside")]

mod support;

mod api;
mod architecture;
mod backup;
mod claims;
mod cli;
mod commands;
mod compliance;
mod crash;
mod ddm;
mod doctor;
mod enrollment;
mod events;
mod expiry;
mod fleet;
mod folders;
mod hostile;
mod hosts;
mod library;
mod names;
mod packages;
mod push;
mod push_certificate;
mod renewal;
mod tls;
mod updates;
mod webhook;
mod year;
