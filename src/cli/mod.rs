//! The command line: one file per command.
//!
//! Commands that read or change a server are clients of its JSON API: over `<data_dir>/russet.sock`
//! when a server answers there, else over the same routes in this process, after taking the data
//! folder's lock. So a command does the same thing, and is audited the same way, either way.
//!
//! **Invariant:** errors go to stderr in a sentence or two; stdout carries only what was asked for, by
//! `say` alone.

mod admin;
mod apply;
mod backup;
mod bytes;
mod calendar;
mod check;
mod client;
mod compliance;
mod demo;
mod device;
mod difference;
mod doctor;
mod expiry;
mod export;
mod files;
mod invite;
mod log;
mod mail;
mod push_certificate;
mod push_request;
mod restore;
mod serve;
mod simulate;
mod tls;
mod token;
mod updates;
mod webhook;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::clock::parse_duration;
use crate::config::{self, Config, Mistakes, Reading};
use crate::error::Error;

/// Manages Apple devices: one program, one configuration file, one database file.
#[derive(Parser)]
#[command(name = "russet", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server.
    Serve(serve::Serve),
    /// Shows the whole thing working: a throw-away server and simulated devices that enroll with it.
    Demo(demo::Demo),
    /// Enrolls simulated devices with a running server, lets them connect, and reports.
    Simulate(simulate::Simulate),
    /// Reads the configuration and prints what it understood, or every mistake.
    Check(check::Check),
    /// The push certificate's life.
    #[command(subcommand)]
    PushCertificate(push_certificate::PushCertificate),
    /// The TLS certificate.
    #[command(subcommand)]
    Tls(tls::Tls),
    /// API tokens.
    #[command(subcommand)]
    Token(token::Token),
    /// Administrators.
    #[command(subcommand)]
    Admin(admin::Admin),
    /// Makes an enrollment link.
    Invite(invite::Invite),
    /// Devices: list, show, send a command.
    #[command(subcommand)]
    Device(device::Device),
    /// Looks what is wrong with server, network and devices, and says what to do; exit code 1 if anything fails.
    Doctor(doctor::Doctor),
    /// Shows what devices did, or who did what.
    Log(log::Log),
    /// Says which devices are as they should be, and what is wrong with the others.
    Compliance(compliance::Compliance),
    /// Lists how far devices are with their software updates.
    Updates(updates::Updates),
    /// Where events are told to others.
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    /// Makes groups, declarations and update policies what the files of a folder say.
    Apply(apply::Apply),
    /// Writes groups, declarations and update policies as files of a folder.
    Export(export::Export),
    /// Lists everything that ends: certificates, authorities, the identities of devices.
    Expiry(expiry::Expiry),
    /// Mail that warns in time.
    #[command(subcommand)]
    Mail(mail::Mail),
    /// Makes an address for a calendar of what ends.
    Calendar(calendar::Calendar),
    /// Makes a backup: one encrypted file, opened again before it counts.
    Backup(backup::Backup),
    /// Puts a backup back, while no server runs; what was there is moved aside.
    Restore(restore::Restore),
}

/// Where the configuration is; on every command that has one.
#[derive(Args, Clone, Default)]
struct Common {
    /// The configuration file; else RUSSET_CONFIG, ./russet.toml, /etc/russet/russet.toml.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The data folder, in place of the configuration's data_dir.
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
}

impl Common {
    /// The file that is read, if there is one.
    fn file(&self) -> Option<PathBuf> {
        config::find(self.config.as_deref())
    }

    /// What stands there, mistakes and all; a file that is not there is no mistake in it.
    fn read(&self) -> Result<Reading, Failure> {
        config::read(self.file().as_deref(), config::environment())
            .map_err(|missing| Failure::Wrong(missing.to_string()))
    }

    fn load(&self) -> Result<Config, Failure> {
        Ok(self.read()?.done()?.with_data_dir(self.data_dir.as_deref()))
    }
}

/// Why a command did not do what was asked.
enum Failure {
    /// Exit code 2: the command line or the configuration is wrong.
    Usage(String),
    /// Exit code 1: the answer is no, or something is wrong.
    Wrong(String),
    /// Exit code 1, and everything was said already.
    Said,
}

impl Failure {
    /// What is wrong, for a line in between.
    fn words(&self) -> &str {
        match self {
            Self::Usage(words) | Self::Wrong(words) => words,
            Self::Said => "it was said already",
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Wrong(error.chain())
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::Usage(mistakes.to_string())
    }
}

type Done = Result<(), Failure>;

/// Writes a line to stdout. Whoever read it may be gone (`russet device list | head -1`), which is no
/// reason to stop, and none to complain.
fn say(words: impl Display) {
    let _ = writeln!(std::io::stdout(), "{words}");
}

/// Writes a line to stderr, likewise.
fn complain(words: impl Display) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// A length of time on the command line, as the API reads it.
fn length_of_time(text: &str) -> Result<String, String> {
    parse_duration(text)
        .map(|_| text.to_owned())
        .ok_or_else(|| "write a length of time such as 30m, 12h, 7d or 2w, of 100 years at most".into())
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Check(check) => check.run(),
        Command::Serve(serve) => serve.run(),
        command => runtime().and_then(|runtime| runtime.block_on(asynchronous(command))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(words)) => {
            complain(words);
            ExitCode::from(2)
        }
        Err(Failure::Wrong(words)) => {
            complain(words);
            ExitCode::from(1)
        }
        Err(Failure::Said) => ExitCode::from(1),
    }
}

async fn asynchronous(command: Command) -> Done {
    match command {
        Command::Demo(demo) => Box::pin(demo.run()).await,
        Command::Simulate(simulate) => Box::pin(simulate.run()).await,
        Command::PushCertificate(command) => Box::pin(command.run()).await,
        Command::Tls(command) => command.run().await,
        Command::Token(command) => Box::pin(command.run()).await,
        Command::Admin(command) => command.run().await,
        Command::Invite(command) => command.run().await,
        Command::Device(command) => Box::pin(command.run()).await,
        Command::Doctor(doctor) => Box::pin(doctor.run()).await,
        Command::Log(log) => log.run().await,
        Command::Compliance(compliance) => compliance.run().await,
        Command::Updates(updates) => updates.run().await,
        Command::Webhook(webhook) => webhook.run().await,
        Command::Apply(apply) => apply.run().await,
        Command::Export(export) => export.run().await,
        Command::Expiry(expiry) => expiry.run().await,
        Command::Mail(command) => command.run().await,
        Command::Calendar(calendar) => calendar.run().await,
        Command::Backup(backup) => backup.run().await,
        Command::Restore(restore) => restore.run(),
        Command::Check(check) => check.run(),
        Command::Serve(serve) => serve.run(),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Wrong(format!("the program cannot start its threads: {error}")))
}
